"""
What becomes of facts on record when a file states facts of the same person anew.

A file replaces what it states, and never gives back what was taken: a document
that the registry holds stands as it is there, a withdrawal stays a withdrawal,
a refusal a refusal, a death a death, and a document that the file does not name
is kept, since a missing refusal, or a missing end of a thread, would open what
it closed.
"""

from collections.abc import Collection

import msgspec
from msgspec import Struct

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    PatientFacts,
    RecordStatus,
    Representation,
    StatutoryRequest,
    SubjectFacts,
)

Document = Consent | Delegation | EmergencyGrant | RecordStatus | Representation | StatutoryRequest


class Merged(Struct, frozen=True):
    """The facts to keep, and how many of a file's statements were set aside for what stands."""

    facts: PatientFacts
    set_aside: int = 0


def merge_subject(before: SubjectFacts, given: SubjectFacts) -> SubjectFacts:
    """Return the entry as given; what was used up or barred of break-glass stays so."""
    return msgspec.structs.replace(
        given,
        btg_suspended=given.btg_suspended or before.btg_suspended,
        btg_today=max(given.btg_today, before.btg_today),
        sessions=given.sessions + tuple(each for each in before.sessions if each not in given.sessions),
    )


def merge_patient(before: PatientFacts, given: PatientFacts, registered: Collection[str]) -> Merged:
    """
    Return what is on record after a file stated *given*; pure, and the same when repeated.

    Args:
        before: What is on record.
        given: What the file states.
        registered: Ids of documents of which a registry holds the full record.
    """
    died = before.deceased_at is not None and _sooner(before.deceased_at, given.deceased_at)
    facts = msgspec.structs.replace(given, deceased_at=before.deceased_at) if died else given
    set_aside = int(died)
    for name in _DOCUMENTS:
        items, aside = _merge(getattr(before, name), getattr(given, name), registered)
        if name == "representations":
            # A power that the file does not name any more has ended; it could only open.  A registered one ends there.
            named = {each.id for each in given.representations} | {*registered}
            items = tuple(item for item in items if item.id in named)
        facts, set_aside = msgspec.structs.replace(facts, **{name: items}), set_aside + aside
    return Merged(facts, set_aside)


_DOCUMENTS = ("consents", "delegations", "grants", "records", "representations", "requests")


def _merge(
    before: tuple[Document, ...], given: tuple[Document, ...], registered: Collection[str]
) -> tuple[tuple[Document, ...], int]:
    standing = {item.id: item for item in before}
    result, set_aside = [], 0
    for item in given:
        stands = standing.pop(item.id, None)
        if stands is not None and stands != item and (item.id in registered or _was_taken(stands, item)):
            result.append(stands)
            set_aside += 1
        else:
            result.append(item)
    return (*result, *standing.values()), set_aside


_LASTING = frozenset({"revoked", "superseded", "rejected", "entered-in-error", "quarantined"})


def _was_taken(stands: Document, given: Document) -> bool:
    """Tell whether *given* would give back what *stands* took."""
    if isinstance(stands, Consent) and isinstance(given, Consent):
        revived = stands.status in _LASTING and given.status != stands.status
        opened = stands.root.effect == "deny" and given.root.effect != "deny"
        return revived or opened or _sooner(stands.revoked_at, given.revoked_at)
    if isinstance(stands, RecordStatus) and isinstance(given, RecordStatus):
        return stands.blocked > given.blocked or stands.destroyed > given.destroyed
    return _sooner(getattr(stands, "revoked_at", None), getattr(given, "revoked_at", None))


def _sooner(stands: int | None, given: int | None) -> bool:
    return stands is not None and (given is None or given > stands)
