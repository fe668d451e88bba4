"""
Blocking, lifting and destroying a record (order §24, Law 94-V art. 25(2)(8)), as values.

One row a record keeps who did what, when, on which ground; of it decisions see two words, blocked and destroyed.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ruqsat.core.care import CareRefusedError, with_record_status
from ruqsat.core.consent_record import Step
from ruqsat.core.facts import PatientFacts, RecordStatus
from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.registered import Body, RecordRow

BLOCK = "block"
MOVES: Mapping[str, Mapping[str, str]] = {
    "block": {"": "blocked", "lifted": "blocked", "blocked": "blocked"},
    "lift": {"blocked": "lifted", "lifted": "lifted"},
    "destroy": {"blocked": "destroyed", "lifted": "destroyed", "destroyed": "destroyed"},
}
"""Which event leads from which status to which; what was destroyed stays so."""


def block_id(patient: str, record: str) -> str:
    """
    Return the id of a record's block, the same whenever it is asked.

    Examples:
        >>> block_id("p1", "r/2") == block_id("p1", "r/2") != block_id("p1/r", "2")
        True
    """
    named = msgspec.json.encode([patient, record])
    return "b-" + hashlib.sha256(named).hexdigest()[:40]


def moved(
    row: RecordRow | None, facts: PatientFacts, record: str, event: str, said: Mapping[str, Any], by: str, now: Instant
) -> RecordRow:  # fmt: skip
    """
    Return the next version of a record's row; *said* is what the caller says of the event.

    Raises:
        CareRefusedError: there is nothing that it could happen to.
    """
    before = "" if row is None else row.status
    if before not in MOVES[event]:
        code = "destroyed" if before == "destroyed" else "unknown-report"
        raise CareRefusedError(code, "this cannot happen to the record any more, or not yet")
    entry = {name: value for name, value in said.items() if value is not None}
    entry |= {"event": event, "at": render_instant(now), "by": by}
    kept = [] if row is None else row.body.said["grounds"]
    steps = (*(() if row is None else row.body.steps), Step(event, now, by))
    body = Body({"record": record, "grounds": [*kept, entry]}, (), steps)
    status = MOVES[event][before]
    if row is None:
        return RecordRow(
            BLOCK, block_id(facts.id, record), facts.id, 1, status, None, now, now, body, sealed=b"", sealed_at=1
        )
    return msgspec.structs.replace(row, version=row.version + 1, status=status, updated_at=now, body=body)


def seen(facts: PatientFacts, record: str, data_class: str, status: str) -> PatientFacts:
    """
    Return the facts with what decisions see of the record now; a destruction that was only imported stays.

    A block names no type: it holds for every record by this id.
    """
    known = facts.records_by_id.get(record, ())
    if all(each.type is not None for each in known):
        known = (*known, RecordStatus(record, data_class))
    for each in known:
        destroyed = each.destroyed or status == "destroyed"
        now = msgspec.structs.replace(each, blocked=status == "blocked", destroyed=destroyed)
        facts = with_record_status(facts, now)
    spent = RecordStatus(record, data_class)
    if len(known) > 1:
        facts = msgspec.structs.replace(facts, records=tuple(each for each in facts.records if each != spent))
    return facts
