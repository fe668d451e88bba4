"""
Who stated that a patient died, is incapacitated or cannot express a will: when, where, by which document.

Each of these opens or closes what others may do: care without consent (Code 273(4)(1)), a guardian's power
(order §11), the patient's own account (§28).  One row a patient keeps every statement; decisions see what stands.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.consent_record import Step
from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.registered import Body, RecordRow

STATUS = "status"
NOTHING_STATED: Mapping[str, Any] = {"deceased_at": None, "incapacitated": False, "unable": False}
"""The facts that need a ground, as they are of a patient of whom nobody stated any."""


class Statement(Struct, frozen=True):
    """By which document the facts of these *names* are stated, for which organisation, by whom."""

    names: Collection[str]
    document_ref: str
    org: str | None
    by: str


def stated_anew(facts: PatientFacts | None, said: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return which facts that need a ground are stated differently from what is on record.

    Examples:
        >>> stated_anew(None, {"deceased_at": None, "incapacitated": True, "unable": False})
        ('incapacitated',)
        >>> stated_anew(PatientFacts("p1", unable=True), NOTHING_STATED)
        ('unable',)
    """
    known = facts or PatientFacts("")
    return tuple(name for name in NOTHING_STATED if getattr(known, name) != said[name])


def with_statement(
    row: RecordRow | None, patient: str, said: Mapping[str, Any], statement: Statement, now: Instant
) -> RecordRow:
    """Return the next version of a patient's row."""
    died = said["deceased_at"]
    values = {**said, "deceased_at": None if died is None else render_instant(died)}
    entries = [
        {
            "fact": name, "value": values[name], "document_ref": statement.document_ref, "org": statement.org,
            "by": statement.by, "at": render_instant(now),
        }
        for name in NOTHING_STATED if name in statement.names
    ]  # fmt: skip
    grounds = [*(row.body.said["grounds"] if row else ()), *entries]
    body = Body({"grounds": grounds}, (), (*(row.body.steps if row else ()), Step("state", now, statement.by)))
    if row is None:
        return RecordRow(STATUS, patient, patient, 1, "stated", statement.org, now, now, body, sealed=b"", sealed_at=1)
    return msgspec.structs.replace(row, version=row.version + 1, org=statement.org, updated_at=now, body=body)
