"""
What an information system reports of a patient's care, as changes of the facts: functions of values.

A report is known by the system's own id within its organisation, so that two organisations never meet in one
id, a repeat changes nothing, and what was closed stays closed, however late an older report arrives.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import Any, TypeVar

import msgspec

from ruqsat.core.facts import Episode, PatientFacts, RecordStatus, Relationship
from ruqsat.core.instant import Instant
from ruqsat.core.request import ResourceProperties
from ruqsat.errors import RequestError

Tie = TypeVar("Tie", Episode, Relationship)

STATUS_FACTS = ("birth_date", "deceased_at", "incapacitated", "unable", "egov")
"""What a registration desk says of a patient; documents are the registries' own."""

HOLD = "TBOO"
"""The label of a therapeutic hold (Code 134(4))."""

MOST_KEPT = 2_000
"""How many episodes, ties or records one patient may have: every decision about the patient reads them all."""


class CareRefusedError(RequestError):
    """A report that cannot be written down; ``code`` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def with_status(facts: PatientFacts, said: Mapping[str, Any]) -> PatientFacts:
    """Return the facts with these status facts, and every document as it was."""
    born = said["birth_date"]
    return msgspec.structs.replace(
        facts, **{name: said[name] for name in STATUS_FACTS if name != "birth_date"},
        birth_date=date.fromisoformat(born) if isinstance(born, str) else born,
    )  # fmt: skip


def with_episode(facts: PatientFacts, new: Episode, now: Instant) -> PatientFacts:
    """
    Return the facts with an episode as it was reported last; one that is over stays as it is.

    An end that is known is never moved later.

    Raises:
        CareRefusedError: it ends before it begins, or the patient has too many.
    """
    return msgspec.structs.replace(facts, episodes=_reported(facts.episodes, new, now))


def with_relationship(facts: PatientFacts, new: Relationship, now: Instant) -> PatientFacts:
    """Return the facts with a tie of care as it was reported last; promises and errors as of ``with_episode``."""
    return msgspec.structs.replace(facts, relationships=_reported(facts.relationships, new, now))


def without_episode(facts: PatientFacts, org: str, id_: str, at: Instant) -> PatientFacts:
    """
    Return the facts with an episode over at *at*, or earlier if it was over already.

    Raises:
        CareRefusedError: this organisation reported no such episode.
    """
    return msgspec.structs.replace(facts, episodes=_closed(facts.episodes, org, id_, at))


def without_relationship(facts: PatientFacts, org: str, id_: str, at: Instant) -> PatientFacts:
    """Return the facts with a tie of care over; promises and errors as of ``without_episode``."""
    return msgspec.structs.replace(facts, relationships=_closed(facts.relationships, org, id_, at))


def with_record(facts: PatientFacts, new: RecordStatus) -> PatientFacts:
    """
    Return the facts with the class, labels and confidentiality of a record; a block stays what it is.

    One that nobody has described yet, such as one known by a block alone, becomes that of the
    organisation which describes it.

    Raises:
        CareRefusedError: the record is not on record as this organisation's, was destroyed, or there are too many.
    """
    alike = facts.records_by_id.get(new.id, ())
    if any(each.destroyed and each.type is None for each in alike):
        raise _destroyed()
    known = next((each for each in alike if each.type == new.type), None)
    if known is None:
        return msgspec.structs.replace(facts, records=_bounded((*facts.records, new)))
    if known.org != new.org and not _is_undescribed(known):
        raise CareRefusedError("not_permitted", "this is not yours to do, or there is nothing by this id")
    if known.destroyed:
        raise _destroyed()
    return with_record_status(facts, msgspec.structs.replace(new, blocked=known.blocked))


def with_record_status(facts: PatientFacts, new: RecordStatus) -> PatientFacts:
    """Return the facts with all that is known of one record replaced, however many there are: a block never waits."""
    others = tuple(each for each in facts.records if (each.type, each.id) != (new.type, new.id))
    return msgspec.structs.replace(facts, records=(*others, new))


def _destroyed() -> CareRefusedError:
    return CareRefusedError("destroyed", "the record was destroyed: there is nothing to describe any more")


def _is_undescribed(known: RecordStatus) -> bool:
    return known.org is None and known.labels is None and known.conf is None


def shown_to_patient(records: Iterable[RecordStatus]) -> tuple[RecordStatus, ...]:
    """Leave out what a clinician withholds from the patient for a time: that it exists would tell it (Code 134(4))."""
    return tuple(record for record in records if HOLD not in (record.labels or ()))


def is_held(properties: ResourceProperties | None, record: str, patients: Collection[PatientFacts]) -> bool:
    """Tell whether a clinician withholds from the patient what is asked for: the record itself, or a part of it."""
    if properties is None:
        return False
    stated, on_file = labels_of(properties, record, patients)
    for labels in stated:
        if labels and HOLD in labels:
            return True
    return HOLD in on_file


def held_among(properties: ResourceProperties, record: str, patients: Collection[PatientFacts]) -> tuple[str, ...]:
    """
    Return the ids of what is withheld among what is asked for: the record, or parts of it (see ``is_held``).

    They serve to see later whether it is withheld still.  A part that has no id, or is another
    patient's, is told as ``""``: of that nobody can see it.
    """
    own, (stated, _) = properties.patient, labels_of(properties, record, ())
    asked = [{"id": record}, *(properties.parts or ())]
    on_file = {each.id for patient in patients for each in patient.records if HOLD in (each.labels or ())}
    held = [
        part
        for part, labels in zip(asked, stated, strict=True)
        if HOLD in (labels or ()) or (isinstance(part.get("id"), str) and part["id"] in on_file)
    ]
    names = [part.get("id") if part.get("patient", own) == own else "" for part in held]
    return tuple(dict.fromkeys(name if isinstance(name, str) else "" for name in names))


def labels_of(
    properties: ResourceProperties, record: str, patients: Collection[PatientFacts]
) -> tuple[list[tuple[str, ...] | None], set[str]]:
    """
    Return the labels that are stated, of the record and then of each part, and all that are on file of any of them.

    None stands for a statement that is missing or cannot be read: that part may bear any label.
    A part that states none has none, if the whole is stated to have none.

    Args:
        patients: Those whom it is about, as far as anything is known of them.
    """
    stated, ids = [properties.labels], [record]
    for part in properties.parts or ():
        stated.append(_words(part.get("labels", () if properties.labels == () else None)))
        if isinstance(id_ := part.get("id"), str):
            ids.append(id_)
    on_file: set[str] = set()
    for patient in patients:
        for id_ in ids if patient.records else ():
            for each in patient.records_by_id.get(id_, ()):
                on_file.update(each.labels or ())
    return stated, on_file


def _words(value: object) -> tuple[str, ...] | None:
    is_list = isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)
    return tuple(value) if is_list and isinstance(value, list | tuple) else None


def _reported(known: tuple[Tie, ...], new: Tie, now: Instant) -> tuple[Tie, ...]:
    before = next((each for each in known if each.id == new.id and each.org == new.org), None)
    if before is None:
        _refuse_reversed(new)
        more: tuple[Tie, ...] = known + (new,)  # noqa: RUF005 - two types that a constraint tells apart
        return _bounded(more)
    if before.end is not None and before.end <= now:
        return known
    changed = msgspec.structs.replace(new, end=_earlier(before.end, new.end))
    _refuse_reversed(changed)
    return tuple(changed if each is before else each for each in known)


def _closed(known: tuple[Tie, ...], org: str, id_: str, at: Instant) -> tuple[Tie, ...]:
    if not any(each.id == id_ and each.org == org for each in known):
        raise CareRefusedError("unknown-report", "there is nothing of this organisation by this id to close")
    return tuple(
        msgspec.structs.replace(each, end=_earlier(each.end, at)) if each.id == id_ and each.org == org else each
        for each in known
    )


def _earlier(one: Instant | None, other: Instant | None) -> Instant | None:
    return other if one is None else one if other is None else min(one, other)


def _refuse_reversed(tie: Episode | Relationship) -> None:
    if tie.start is not None and tie.end is not None and tie.end < tie.start:
        raise CareRefusedError("reversed", "it ends before it begins")


Kept = TypeVar("Kept")


def _bounded(things: tuple[Kept, ...]) -> tuple[Kept, ...]:
    if len(things) > MOST_KEPT:
        raise CareRefusedError("too-many", f"expected at most {MOST_KEPT} of one kind for one patient")
    return things
