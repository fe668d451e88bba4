"""
What the registries beside the consents keep, as values: delegations, powers, requests, break-glass sessions.

One row serves the four kinds.  A kind is a table of states, a check of what was handed in
(``registered_items``) and what decisions see of it.  What names a person travels sealed,
as bytes that only the registry can open.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.consent_items import Failing
from ruqsat.core.consent_record import Step
from ruqsat.core.facts import Delegation, EmergencyGrant, PatientFacts, Representation, StatutoryRequest
from ruqsat.core.instant import Instant

Moves = Mapping[str, Mapping[str, str]]

VERDICTS = ("justified", "unclear", "misuse")
"""What a review may find; after ``unclear`` somebody is heard, and it is reviewed again."""


class Kind(Struct, frozen=True):
    """
    A kind of record.

    Attributes:
        name: As records, documents and answers call it.
        moves: Which event leads from which status to which; nothing else happens.
        facts: Where decisions find it in a patient's facts.
        type: What they find there.
        seen: Statuses in which they see it; in any other it is not there.
        marks: Which field of what they see an event writes its moment to; of an end, the earlier counts.
    """

    name: str
    moves: Moves
    facts: str
    type: type[Any]
    seen: frozenset[str]
    marks: Mapping[str, str]

    def events(self, status: str) -> tuple[str, ...]:
        """
        Return what may happen to a record of this status, in the words of callers.

        Examples:
            >>> DELEGATION.events("draft"), DELEGATION.events("rejected")
            (('revoke', 'verify'), ())
        """
        events = {event for event, moves in self.moves.items() if status in moves}
        return tuple(sorted({told_event(event) for event in events}))


def told_event(event: str) -> str:
    """Return the word by which callers know an event: a verification or a review may be several."""
    return _TOLD.get(event, event)


_TOLD = {"reject": "verify", **dict.fromkeys(VERDICTS, "review")}

DELEGATION = Kind(
    "delegation",
    {
        "verify": {"draft": "active"},
        "reject": {"draft": "rejected"},
        "revoke": {"draft": "rejected", "invalid": "rejected", "active": "revoked", "revoked": "revoked"},
        "renounce": {"active": "renounced", "renounced": "renounced"},
    },
    "delegations", Delegation, frozenset({"active", "revoked", "renounced"}),
    {"revoke": "revoked_at", "renounce": "revoked_at"},
)  # fmt: skip
"""A third person let in by a consent that names the delegation (order §12); a draft until the person is known."""

REPRESENTATION = Kind(
    "representation",
    {
        "verify": {"recorded": "verified"},
        "reject": {"recorded": "rejected"},
        "end": {"recorded": "rejected", "invalid": "rejected", "verified": "ended", "ended": "ended"},
    },
    "representations", Representation, frozenset({"recorded", "verified", "ended"}),
    {"end": "revoked_at"},
)  # fmt: skip
"""A representative's power (order §3, §11); one that nobody verified yet opens nothing, and is there."""

REQUEST = Kind(
    "request",
    {
        "verify": {"received": "verified"},
        "reject": {"received": "rejected"},
        "close": {"received": "closed", "invalid": "closed", "verified": "closed", "closed": "closed"},
    },
    "requests", StatutoryRequest, frozenset({"received", "verified", "closed"}),
    {"close": "revoked_at"},
)  # fmt: skip
"""A request of an authority (order §13, Code 273(4))."""

_REVIEWED = {"open", "closed", "revoked", "unclear"}
GRANT = Kind(
    "grant",
    {
        "close": {"open": "closed", "closed": "closed"},
        "revoke": {"open": "revoked", "revoked": "revoked"},
        **{verdict: dict.fromkeys(_REVIEWED, verdict) for verdict in VERDICTS},
    },
    "grants", EmergencyGrant, frozenset({"open", "closed", "revoked", *VERDICTS}),
    {"close": "end", "revoke": "revoked_at"},
)  # fmt: skip
"""A break-glass session; that its term has run out is computed from the clock, never stored."""

KINDS = {kind.name: kind for kind in (DELEGATION, REPRESENTATION, REQUEST, GRANT)}


class Body(Struct, frozen=True, omit_defaults=True):
    """
    What a record says without naming anybody.

    Attributes:
        said: What decisions may see of it, as plain data; of an invalid one what there is.
    """

    said: dict[str, Any]
    items: tuple[Failing, ...] = ()
    steps: tuple[Step, ...] = ()


class RecordRow(Struct, frozen=True):
    """
    One record as it is kept.

    Attributes:
        org: Organisation whose desk or office keeps it, where one does.
        sealed: What was handed in, and what was verified or found since, encrypted.
        sealed_at: The version that ``sealed`` was written at.
    """

    kind: str
    id: str
    patient: str
    version: int
    status: str
    org: str | None
    created_at: Instant
    updated_at: Instant
    body: Body
    sealed: bytes
    sealed_at: int


def moved(kind: Kind, row: RecordRow, event: str, by: str, now: Instant, said: Mapping[str, Any]) -> RecordRow:
    """Return the next version of a record, in the status that *event* leads to, with *said* of it changed."""
    known = {**row.body.said, **said}
    mark = kind.marks.get(event)
    if mark is not None and row.status in kind.seen:
        known[mark] = min(known["end"], now) if mark == "end" else now
    step = Step(told_event(event), now, by)
    body = Body(known, row.body.items, (*row.body.steps, step))
    return msgspec.structs.replace(
        row, version=row.version + 1, status=kind.moves[event][row.status], updated_at=now, body=body
    )


def with_record(kind: Kind, facts: PatientFacts, row: RecordRow) -> PatientFacts:
    """Return a patient's facts with this record as it is now."""
    seen = (msgspec.convert(row.body.said, kind.type),) if row.status in kind.seen else ()
    return _with(kind, facts, row.id, seen)


def ended(kind: Kind, facts: PatientFacts, id_: str, now: Instant) -> PatientFacts:
    """Return the facts with one document ended that is on record for decisions alone; an end that is past stays."""
    found = [each for each in getattr(facts, kind.facts) if each.id == id_]
    return _with(
        kind, facts, id_,
        (
            msgspec.structs.replace(each, revoked_at=now if each.revoked_at is None else min(each.revoked_at, now))
            for each in found
        ),
    )  # fmt: skip


def _with(kind: Kind, facts: PatientFacts, id_: str, seen: Iterable[Any]) -> PatientFacts:
    others = tuple(each for each in getattr(facts, kind.facts) if each.id != id_)
    return msgspec.structs.replace(facts, **{kind.facts: others + tuple(seen)})
