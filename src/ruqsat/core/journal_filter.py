"""What is looked for in the journal, and where a page of it ends."""

from typing import NamedTuple

from msgspec import Struct

from ruqsat.core.instant import Instant
from ruqsat.core.journaled import Journaled


class Spot(NamedTuple):
    """Where an entry stands among those of all writers: by time, then by its place."""

    at: Instant
    writer: str
    segment: int
    number: int


class Found(NamedTuple):
    """An entry and where it stands."""

    spot: Spot
    entry: Journaled
    line: bytes


class JournalFilter(Struct, frozen=True, omit_defaults=True):
    """
    Which entries; what is not stated does not matter.

    Attributes:
        patient: Alone or beside others.
        subject: Who asked.
        grant: A document that the decision rests on: a session, a consent, a request.
        since, until: From when, and before when.
        sent: Decisions that were answered, and nothing else.
    """

    patient: str | None = None
    subject: str | None = None
    org: str | None = None
    action: str | None = None
    data_class: str | None = None
    allowed: bool | None = None
    reason: str | None = None
    rule: str | None = None
    grant: str | None = None
    since: Instant = 0
    until: Instant | None = None
    sent: bool = False
