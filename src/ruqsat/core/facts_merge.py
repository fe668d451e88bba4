"""
What becomes of facts on record when a file states facts of the same person anew.

A file replaces what it states, and never gives back what was taken: a document
that the registry holds stands as it is there, a withdrawal stays a withdrawal,
a refusal a refusal, a death a death, and a document that the file does not name
is kept, since a missing refusal, or a missing end of a thread, would open what
it closed.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.care import HOLD
from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Episode,
    PatientFacts,
    RecordStatus,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
)

Document = Consent | Delegation | EmergencyGrant | RecordStatus | Representation | StatutoryRequest
Tie = TypeVar("Tie", Episode, Relationship)

Registered = Mapping[str, Collection[str]]
"""By field of the facts the ids of which a registry holds the full record, in force or not."""


class Merged(Struct, frozen=True):
    """The facts to keep, and how many of a file's statements were set aside for what stands."""

    facts: PatientFacts
    set_aside: int = 0


class MergedSubject(Struct, frozen=True):
    """The entry to keep, and how many of a file's statements were set aside for what stands."""

    facts: SubjectFacts
    set_aside: int = 0


def merge_subject(before: SubjectFacts, given: SubjectFacts) -> MergedSubject:
    """Return the entry as given; who was deactivated, and what was used up or barred of break-glass, stays so."""
    merged = msgspec.structs.replace(
        given,
        active=given.active and before.active,
        btg_suspended=given.btg_suspended or before.btg_suspended,
        btg_today=max(given.btg_today, before.btg_today),
        btg_opened=before.btg_opened,
        sessions=given.sessions + tuple(each for each in before.sessions if each not in given.sessions),
    )
    return MergedSubject(merged, int(given.active != merged.active))


def merge_patient(before: PatientFacts, given: PatientFacts, registered: Registered) -> Merged:
    """
    Return what is on record after a file stated *given*; pure, and the same when repeated.

    Args:
        before: What is on record.
        given: What the file states.
        registered: Documents of which a registry holds the full record.
    """
    died = before.deceased_at is not None and _sooner(before.deceased_at, given.deceased_at)
    changed: dict[str, Any] = {"deceased_at": before.deceased_at} if died else {}
    set_aside = int(died)
    for name in _DOCUMENTS:
        known = registered.get(name, ())
        items, aside = _merge(getattr(before, name), getattr(given, name), known)
        if name == "representations":
            # A power that the file does not name any more has ended; it could only open.  A registered one ends there.
            named = {each.id for each in given.representations} | {*known}
            items = tuple(item for item in items if item.id in named)
        changed[name], set_aside = items, set_aside + aside
    changed["episodes"], late_episodes = _merge_ties(before.episodes, given.episodes)
    changed["relationships"], late_ties = _merge_ties(before.relationships, given.relationships)
    return Merged(msgspec.structs.replace(given, **changed), set_aside + late_episodes + late_ties)


_DOCUMENTS = ("consents", "delegations", "grants", "records", "representations", "requests")


def _merge(
    before: tuple[Document, ...], given: tuple[Document, ...], registered: Collection[str]
) -> tuple[tuple[Document, ...], int]:
    standing = {_key(item): item for item in before}
    result: list[Document] = []
    set_aside = 0
    for item in given:
        stands = standing.pop(_key(item), None)
        kept, aside = (stands, stands != item) if item.id in registered else _kept(stands, item)
        if kept is not None:  # what is registered and not in force is not put in force
            result.append(kept)
        set_aside += aside
    return (*result, *standing.values()), set_aside


def _key(item: Document) -> tuple[str | None, str]:
    """Return what a document is known by: a record by its type and id, every other by its id."""
    return item.type if isinstance(item, RecordStatus) else None, item.id


def _kept(stands: Document | None, given: Document) -> tuple[Document, bool]:
    """Return what to keep of a document that no registry holds, and whether the file's statement is set aside."""
    if isinstance(stands, RecordStatus) and isinstance(given, RecordStatus):
        return _kept_record(stands, given)
    if stands is not None and stands != given and _was_taken(stands, given):
        return stands, True
    return given, False


def _kept_record(stands: RecordStatus, given: RecordStatus) -> tuple[RecordStatus, bool]:
    """
    Merge a record field by field; tell whether anything that the file states is set aside.

    A block, a destruction, a hold and the organisation stay, and so does a level that the file leaves out.
    """
    held, labels = HOLD in (stands.labels or ()), given.labels
    if held and labels is None:
        labels = stands.labels
    lifted = held and HOLD not in (labels or ())
    kept = msgspec.structs.replace(
        given,
        labels=(*(labels or ()), HOLD) if lifted else labels,
        conf=given.conf or stands.conf,
        blocked=given.blocked or stands.blocked,
        destroyed=given.destroyed or stands.destroyed,
        org=stands.org or given.org,
    )
    released = (kept.blocked, kept.destroyed) != (given.blocked, given.destroyed)
    return kept, released or lifted or given.org not in (None, kept.org)


def _merge_ties(before: tuple[Tie, ...], given: tuple[Tie, ...]) -> tuple[tuple[Tie, ...], int]:
    """
    Return the ties of care as the file states them, no end later than it was; and how many ends were later.

    A tie without an id is nobody's report, and is compared with none on record.
    """
    ends: dict[tuple[str | None, str | None], int | None] = {
        (each.org, each.id): each.end for each in before if each.id is not None
    }
    late = [_sooner(ends.get((each.org, each.id)), each.end) for each in given]
    kept = tuple(
        msgspec.structs.replace(each, end=ends[each.org, each.id]) if is_late else each
        for each, is_late in zip(given, late, strict=True)
    )
    return kept, sum(late)


_LASTING = frozenset({"revoked", "superseded", "rejected", "entered-in-error", "quarantined"})


def _was_taken(stands: Document, given: Document) -> bool:
    """Tell whether *given* would give back what *stands* took."""
    if isinstance(stands, Consent) and isinstance(given, Consent):
        revived = stands.status in _LASTING and given.status != stands.status
        opened = stands.root.effect == "deny" and given.root.effect != "deny"
        return revived or opened or _sooner(stands.revoked_at, given.revoked_at)
    return _sooner(getattr(stands, "revoked_at", None), getattr(given, "revoked_at", None))


def _sooner(stands: int | None, given: int | None) -> bool:
    return stands is not None and (given is None or given > stands)
