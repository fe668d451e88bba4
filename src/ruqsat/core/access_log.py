"""
The journal as a patient sees it, or who stands for one: an entry → a row, or none (order §28).

A row says who by role and organisation, when, what, for what, on which ground, and how it
was decided.  It never holds an identification number of staff (reading A-35), the record
that was opened, or another patient.  What a clinician withholds for a time is a row that
says only this (Code 134(4), reading A-34); what the law keeps secret is no row
(reading A-16), nor is what an adolescent keeps from a representative (Code 78(2)).
"""

import re
from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from ruqsat.core.care import HOLD
from ruqsat.core.facts import PatientFacts, RecordStatus
from ruqsat.core.instant import HOUR, Instant
from ruqsat.core.journaled import DECISION, Journaled
from ruqsat.core.notice import DEFERRED_HOURS, told_from
from ruqsat.core.representation import birthday
from ruqsat.core.vocabulary import Switches

Viewer = Literal["self", "legal_rep"]
"""On which legal basis somebody looks."""

UNSHOWN_CLASSES = frozenset({"request"})
"""The register of authorities' requests is no record of the patient's, and no patient reads it."""

SECRET_PURPOSES = frozenset({"HLEGAL", "THREAT"})
"""What an authority is behind, or may be: an attempt that was denied may give an investigation away."""

SPECIAL = "special_state_body"
EMERGENCIES = frozenset({"emergency_default", "emergency_override"})
WITHHELD_LAW = ("R28", "H134.4")

_NUMBER = re.compile(r"\d{12}")


class Access(Struct, frozen=True, omit_defaults=True):
    """
    One row.

    Attributes:
        withheld: Nothing but id, moment and law is told, for the time being.
        erased: What named people in the entry was erased (order §24).
        person: The opaque id of who asked; None where it holds a number that may identify.
        organisation: Whose people or machines asked.
        emergency: In an emergency, by default or by a break-glass session.
        degraded: Decided by the last known facts, while the store was away.
    """

    id: str
    at: Instant
    withheld: bool = False
    erased: bool = False
    person: str | None = None
    roles: tuple[str, ...] = ()
    organisation: str | None = None
    data_class: str | None = None
    action: str | None = None
    purposes: tuple[str, ...] = ()
    allowed: bool = False
    reason: str | None = None
    basis: str | None = None
    law: tuple[str, ...] = ()
    emergency: bool = False
    degraded: bool = False


def access_shown(
    entry: Journaled, viewer: Viewer, patient: PatientFacts | None, switches: Switches, now: Instant
) -> Access | None:
    """
    Return the row that *viewer* sees of an entry; None for no row at all.

    Args:
        patient: What is known of whose journal it is; None is nobody on record, and then less is shown.
        now: The present moment: what is deferred or withheld may be over.
    """
    if entry.kind != DECISION or entry.allowed is None or _is_secret(entry, patient, now):
        return None
    if viewer == "legal_rep" and entry.shielded and _keeps_secrets(patient, switches, now):
        return None
    if viewer == "self" and _is_held(entry, patient):
        return Access(entry.id, entry.moment, withheld=True, law=WITHHELD_LAW)
    return Access(
        entry.id, entry.moment, False, entry.erased, shown_id(entry.subject), entry.roles or (), shown_id(entry.org),
        entry.data_class, entry.action, entry.purposes, entry.allowed, entry.reason, entry.basis, entry.law,
        entry.basis in EMERGENCIES, entry.degraded,
    )  # fmt: skip


def shown_id(text: str | None) -> str | None:
    """
    Return an id as a patient may read it: none that holds twelve digits, as an identification number does.

    Examples:
        >>> shown_id("dr-aliya"), shown_id("880808100203"), shown_id("h1/880808100203")
        ('dr-aliya', None, None)
    """
    return None if text is None or _NUMBER.search(text) else text


def _is_secret(entry: Journaled, patient: PatientFacts | None, now: Instant) -> bool:
    if entry.data_class in UNSHOWN_CLASSES:
        return True
    if entry.allowed:
        since = told_from(entry, patient)
        return since is None or now < since
    return not SECRET_PURPOSES.isdisjoint(entry.purposes) and not _may_be_told(entry, patient, now)


def _may_be_told(entry: Journaled, patient: PatientFacts | None, now: Instant) -> bool:
    """
    Tell whether the patient may see that a request of an authority was denied.

    The request must be on record and not secret, and its deferral over (``DEFERRED_HOURS`` where it states none).
    """
    named = [each for each in (patient.requests if patient is not None else ()) if each.id in entry.applied]
    wait = entry.moment + DEFERRED_HOURS * HOUR
    return bool(named) and all(each.authority != SPECIAL and (each.deferred_until or wait) <= now for each in named)


def _is_held(entry: Journaled, patient: PatientFacts | None) -> bool:
    """
    Tell whether what was asked for is withheld from the patient now (Code 134(4)).

    The labels that are on file today decide; of a record without any, the mark that the entry
    got when it was written.  Of an entry about parts, each withheld part is looked up.
    """
    known = _on_file(patient, entry.resource)
    labels = [each.labels for each in known if each.type in (None, entry.resource_type) and each.labels is not None]
    if any(HOLD in each for each in labels):
        return True
    if entry.held and entry.held_parts:
        return any(_is_still_held(patient, part) for part in entry.held_parts)
    return entry.held and not labels


def _is_still_held(patient: PatientFacts | None, record: str) -> bool:
    labels = [each.labels for each in _on_file(patient, record) if each.labels is not None]
    return not labels or any(HOLD in each for each in labels)


def _on_file(patient: PatientFacts | None, record: str | None) -> Sequence[RecordStatus]:
    return patient.records_by_id.get(record or "", ()) if patient is not None else ()


def _keeps_secrets(patient: PatientFacts | None, switches: Switches, now: Instant) -> bool:
    """Tell whether the patient is of an age to keep something from a representative; of unknown age: yes."""
    if patient is None or patient.birth_date is None:
        return True
    shield, offset = switches.adolescent_shield, switches.home_utc_offset_hours
    if birthday(patient.birth_date, switches.rep_access_ends_at, offset) <= now:
        return False
    since = min(switches.minor_self_from_age, shield.from_age) if shield.enabled else switches.minor_self_from_age
    return birthday(patient.birth_date, since, offset) <= now
