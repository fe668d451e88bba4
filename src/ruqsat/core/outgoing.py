"""A notice on its way: what a deliverer takes in hand, and how that may end."""

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

from ruqsat.core.instant import Instant, render_instant

PENDING, DELIVERED, SKIPPED, DEAD = "pending", "delivered", "skipped", "dead"
IN_HAND = 64
"""How many notices one deliverer sends at most before it takes others."""

STATES = (PENDING, DELIVERED, SKIPPED, DEAD)

EGOV, WEBHOOK, LOG = "egov", "webhook", "log"
CHANNELS = (EGOV, WEBHOOK, LOG)

NOT_REGISTERED = "not_registered"
EGOV_NOT_CONFIGURED = "egov_not_configured"
NO_CHANNEL = "no_channel"
NOT_SENT = "not_sent"
ERASED = "erased"
"""Why there is nothing to be told any more: whom it was about was erased (order §24)."""

RETRIABLE = frozenset({NOT_REGISTERED, EGOV_NOT_CONFIGURED, NO_CHANNEL})
"""Why a notice was skipped that may be tried again; what the law or the facts left out stays so."""


class Claimed(Struct, frozen=True):
    """
    A notice that one deliverer has in hand.

    Attributes:
        attempts: How often it was taken in hand, this time included.
        claim: Whose hand; nobody else takes it until the lease of the claim is over.
        body: Its facts, as they were closed.
        channel: What the patient's own row says; None for the usual one.
        egov: Whether the addressee has a cabinet of e-government; None if that is not known.
    """

    key: str
    kind: str
    audience: str
    patient: str | None
    recipient: str | None
    org: str | None
    entry: str
    attempts: int
    created_at: Instant
    claim: str
    body: bytes
    channel: str | None = None
    egov: bool | None = None


class Outcome(Struct, frozen=True):
    """
    How an attempt ended.

    ``retry`` is no state of a notice: it stays pending, or is dead after too many.
    """

    result: Literal["delivered", "skipped", "retry", "dead"]
    reason: str | None = None


class Attempt(Struct, frozen=True):
    """What became of a notice that was in hand, by which channel, and when a retry is due."""

    notice: Claimed
    outcome: Outcome
    channel: str | None
    next_at: Instant


class Listed(Struct, frozen=True):
    """What the privacy office sees of a notice: everything but its facts."""

    key: str
    state: str
    kind: str
    audience: str
    patient: str | None
    recipient: str | None
    org: str | None
    entry: str
    channel: str | None
    reason: str | None
    legal_ground: str | None
    due: Instant
    deferred_until: Instant | None
    attempts: int
    next_at: Instant
    created_at: Instant
    settled_at: Instant | None


_MOMENTS = ("due", "deferred_until", "next_at", "created_at", "settled_at")


def describe(notice: Listed) -> dict[str, Any]:
    """Return a notice as it is shown, with its moments in words."""
    said = asdict(notice)
    return said | {name: render_instant(at) for name in _MOMENTS if (at := said[name]) is not None}


class Standing(Struct, frozen=True):
    """How many notices wait, how many were given up, and since when the oldest that is due waits."""

    pending: int = 0
    dead: int = 0
    oldest_due: Instant | None = None
