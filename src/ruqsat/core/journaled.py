"""
A line of the journal as others read it: what is shipped, indexed and told of.

This is the one place that knows how an entry stands in its line; who reads the
journal reads it through here.
"""

from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Struct

from ruqsat.core.facts import Position
from ruqsat.core.instant import Instant, parse_instant
from ruqsat.core.personal import lifted, spliced

SEGMENT = "segment"
DECISION = "decision"
NOT_SENT = "not_sent"
ERASED = b'{"erased":"'
"""How a part begins that was written over; within a text its marks would be escaped."""


class Journaled(Struct, frozen=True, gc=False):
    """
    What a line says, as far as anybody asks.

    Attributes:
        number: Its place in the segment; 0 is the segment's header.
        hash: What it records of itself.
        event: Of a break-glass session, what time or a review brought: ``review_overdue``, ``suspended``, ``lifted``.
        untold: Duties to tell the patient that the answer left out: no cabinet is known.
        shielded: What was used is kept from an adolescent's representatives, if the age is right (Code 78(2)).
        held: What was asked for a clinician withheld from the patient at that moment (Code 134(4)).
        held_parts: The ids of what was withheld, if it was asked for in parts; ``""`` of what nobody can look up.
        stated_roles, stated_org: What a caller said of itself, where the directory contradicts it.
        operation, version, status, records, content: Of a change: what was called, the record after it, the records
            if several, the SHA-256 of the body.  Of an outcome, ``records`` is how many.
        outcome: What came of the decision ``id``.
        generation, approval, why: Of a policy that came into force: the number of its release, who agreed, why.
        erased: A part that named somebody was written over (order §24); what it said is not there any more.
    """

    number: int = msgspec.field(name="n")
    hash: str
    kind: str
    id: str = ""
    at: str = ""
    event: str | None = None
    segment: int = 0
    writer: str = ""
    allowed: bool | None = None
    reason: str | None = None
    rule: str | None = None
    basis: str | None = None
    law: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    subject: str | None = None
    roles: tuple[str, ...] | None = None
    org: str | None = None
    action: str | None = None
    patient: str | None = None
    patients_beside: tuple[str, ...] = ()
    data_class: str | None = None
    degraded: bool = False
    untold: tuple[str, ...] = ()
    shielded: bool = False
    held: bool = False
    held_parts: tuple[str, ...] = ()
    erased: bool = False
    purpose: str | tuple[str, ...] | None = None
    resource_type: str | None = None
    resource: str | None = None
    policy: str | None = None
    listener: str | None = None
    point: str | None = None
    actors: tuple[str, ...] = ()
    traceparent: str | None = None
    operation: str | None = None
    version: int | None = None
    status: str | None = None
    records: tuple[str, ...] | int = ()
    content: str | None = None
    generation: int = 0
    approval: str | None = None
    why: str | None = None
    stated_roles: tuple[str, ...] | None = None
    stated_org: str | None = None
    outcome: str | None = None

    @property
    def purposes(self) -> tuple[str, ...]:
        """The purposes that were stated."""
        if self.purpose is None:
            return ()
        return (self.purpose,) if isinstance(self.purpose, str) else self.purpose

    @property
    def moment(self) -> Instant:
        """When it was written, by the clock of decisions; 0 for a line that does not say."""
        return _moment(self.at) if self.at else 0

    @property
    def patients(self) -> tuple[str, ...]:
        """Everybody whose data it was about."""
        own = () if self.patient is None else (self.patient,)
        return tuple(dict.fromkeys((*own, *self.patients_beside))) if self.patients_beside else own


_decode = msgspec.json.Decoder(Journaled).decode


class _Known(Struct, gc=False):
    as_of: Position | None = None


_decode_known = msgspec.json.Decoder(_Known).decode


class Place(NamedTuple):
    """Where in a writer's journal: a line of a segment, whose header is number 0."""

    segment: int
    number: int


BEGINNING = Place(0, 0)
"""Before everything: segments are counted from 1."""


class GonePart(NamedTuple):
    """A personal part that is being erased, as it was, and the line that it is of."""

    writer: str
    place: Place
    text: bytes


class Lines(Struct, frozen=True):
    """
    Lines of one writer that follow one another.

    Attributes:
        after: The line that they follow, so that none can be left out or come twice.
        lines: Each with its place and what it says.
    """

    writer: str
    after: Place
    lines: tuple[tuple[Place, Journaled, bytes], ...]

    @property
    def end(self) -> Place:
        """The place of the last line."""
        return self.lines[-1][0]


class Shipped(NamedTuple):
    """How far a writer's journal is shipped, how many lines were taken now, notices with them, and the work in it."""

    place: Place
    lines: int
    notices: int
    cpu_seconds: float = 0.0


def read_line(line: bytes) -> Journaled | None:
    """
    Return what *line* says; None for what is no line of a journal, a torn one included.

    Its hash is not computed: what a verifier needs is shipped with the line itself.

    Examples:
        >>> read_line(b'{"hash":"00","prev":"00","n":3,"kind":"decision","allowed":true,"patient":"p1"}\\n').patients
        ('p1',)
        >>> read_line(b'{"hash":"00","prev":"00","n":3,"kind":"deci')
        >>> read_line(b'{"hash":"00","n":3,"kind":"decision","personal":[{"erased":"--"}]}\\n').erased
        True
    """
    if not line.endswith(b"\n"):
        return None
    try:
        found = _read_whole(line) or msgspec.convert(lifted(line) | {"erased": ERASED in line}, Journaled)
        return found if found.moment >= 0 else None
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def position_in(line: bytes) -> Position | None:
    """
    Return up to where the facts were known when *line* was written; None for a line that does not say.

    Examples:
        >>> position_in(b'{"hash":"00","n":3,"kind":"decision","as_of":["e",7]}\\n')
        Position(epoch='e', seq=7)
        >>> position_in(b'{"hash":"00","n":3,"kind":"deci')
    """
    try:
        return _decode_known(line).as_of
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _read_whole(line: bytes) -> Journaled | None:
    """
    Return what a line says that can be read at once, at a third of the time; None for any other.

    Raises:
        UnicodeDecodeError: it is no text; what nobody asks for is passed over unread below.
    """
    line.decode()
    try:
        return None if (flat := spliced(line)) is None else _decode(flat)
    except msgspec.MsgspecError:
        return None  # of no shape that we write: looked at member by member


@lru_cache(maxsize=1024)
def _moment(at: str) -> Instant:
    """Read a moment; kept, for each line of a batch is asked for it several times."""
    return parse_instant(at)
