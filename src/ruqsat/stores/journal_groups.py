"""
The chain as it grows in memory: every entry gets its place, and lines gather into groups.

Nothing here waits, reads a clock or touches a disk; it runs on the event loop, once
for every decision, and is kept short for that.
"""

import asyncio
import os
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from ruqsat import __version__
from ruqsat.core.chain import SegmentHeader
from ruqsat.core.kept_facts import Known, facts_line
from ruqsat.core.line import build_line
from ruqsat.core.personal import SALT_DIGITS, salted

MOST_FACTS = 65_536
"""How many digests of facts are remembered for one segment; what comes after them is kept again (about 8 MiB)."""

_SALTS_AT_ONCE = 256
_TELLS_OF_CUT = ("start", "damage")


class Place(NamedTuple):
    """Where the chain stands, how many bytes the segment has left, and why a next one would be begun."""

    segment: int
    number: int
    hash: bytes
    room: int
    because: str


class Urgent(NamedTuple):
    """An entry that may go into the reserve, and who waits for it."""

    entry: bytes
    personal: tuple[bytes, ...]
    waiter: asyncio.Future[None]


class Group:
    """
    Lines of one segment that are written together, who waits for them, and where the chain then stands.

    ``urgent`` are those of the entries that may go into the reserve; the group ``is_reserve`` that goes there.
    """

    __slots__ = ("headers", "is_reserve", "lines", "place_after", "segment", "urgent", "waiters")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.is_reserve = False
        self.urgent: list[Urgent] = []
        self.headers = 0
        self.lines: list[bytes] = []
        self.waiters: list[asyncio.Future[None]] = []
        self.place_after: Place

    @property
    def entries(self) -> int:
        """How many of the lines somebody appended."""
        return len(self.lines) - self.headers


class Salts:
    """Salts from the system's random source, drawn many at once; no generator, which one failure would end for good."""

    __slots__ = ("_drawn",)

    def __init__(self) -> None:
        self._drawn: list[bytes] = []

    def draw(self) -> bytes:
        """Return a salt that nobody has seen."""
        if not self._drawn:
            digits = os.urandom(_SALTS_AT_ONCE * SALT_DIGITS // 2).hex().encode()
            self._drawn = [digits[at : at + SALT_DIGITS] for at in range(0, len(digits), SALT_DIGITS)]
        return self._drawn.pop()


class Groups:
    """
    The end of the chain, and the groups that are not handed over yet.

    Attributes:
        waiting_bytes: The length of all lines taken and not yet reported as kept.
    """

    def __init__(self, place: Place, *, writer: str, segment_bytes: int, cut_bytes: int) -> None:
        self._writer = writer
        self._segment_bytes = segment_bytes
        self._cut_bytes = cut_bytes
        self._draw_salt = Salts().draw
        self._segment: int
        self._number: int
        self._hash: bytes
        self._room: int
        self._because: str
        self._sealed: deque[Group]
        self._gathering: Group
        self._kept_facts: set[str] = set()
        self.waiting_bytes: int
        self.return_to(place)

    def take(self, entry: bytes, personal: tuple[bytes, ...] = (), facts: Iterable[Known | None] = ()) -> Group:
        """
        Link *entry* after everything taken before it, and return the group it joined.

        Args:
            facts: What it was decided by; what of it does not stand in this segment yet is linked first.

        Raises:
            ValueError: *entry* or a personal part is not a JSON object on one line; the chain stands where it stood.
        """
        if self._room <= 0:
            self.begin_segment()
        for known in facts:
            if known is not None and known.digest not in self._kept_facts:
                self._keep(known)
        return self._link(entry, personal)

    def _keep(self, known: Known) -> None:
        if len(self._kept_facts) >= MOST_FACTS:
            self._kept_facts.clear()
        self._link(*facts_line(known))
        self._kept_facts.add(known.digest)

    def _link(self, entry: bytes, personal: tuple[bytes, ...]) -> Group:
        parts = [salted(self._draw_salt(), part) for part in personal] if personal else ()
        line, self._hash = build_line(self._hash, self._number, entry, parts)
        self._number += 1
        self._room -= len(line)
        self.waiting_bytes += len(line)
        self._gathering.lines.append(line)
        return self._gathering

    def fall_back(self, segment: int, room: int, urgent: list[Urgent]) -> Group:
        """
        Link *urgent* into *segment*, which is the reserve, as a group of its own; what follows goes elsewhere.

        What does not fit into *room* bytes is left out; of a group that nothing fits into nobody is a waiter.
        """
        if segment != self._segment:
            self._segment, because = segment - 1, self._because
            self._because = "reserve" if because not in _TELLS_OF_CUT else because
            self.begin_segment()
        group = self._gathering
        for each in urgent:
            before = self._hash, self._number, self.waiting_bytes
            self._link(each.entry, each.personal)
            if self.waiting_bytes <= room:
                group.waiters.append(each.waiter)
            else:
                group.lines.pop()
                self._hash, self._number, self.waiting_bytes = before
        group.is_reserve = True
        self._room, self._because = 0, "rotation"
        self._seal()
        return group

    def begin_segment(self) -> None:
        """Begin the next segment with its header; what was gathered for the old one goes first."""
        if self._gathering.lines:
            self._seal()
        self._segment, self._number, self._room = self._segment + 1, 0, self._segment_bytes
        self._gathering = Group(self._segment)
        self._gathering.headers = 1
        cut_bytes = self._cut_bytes if self._because in _TELLS_OF_CUT else 0
        header = SegmentHeader(self._segment, self._writer, self._because, cut_bytes, product=__version__)
        self._kept_facts.clear()
        self._because = "rotation"
        self._link(msgspec.json.encode(header), ())

    def hand_over(self) -> Group | None:
        """Return the next group to write, to which nothing will be added; None if nothing waits."""
        if not self._sealed and self._gathering.lines:
            self._seal()
        return self._sealed.popleft() if self._sealed else None

    @property
    def gathered(self) -> int:
        """How many lines the group has that others can still join."""
        return len(self._gathering.lines)

    @property
    def has_sealed(self) -> bool:
        """Whether a group waits that nothing can join any more."""
        return bool(self._sealed)

    def waiting(self) -> list[Group]:
        """Return every group that was not handed over, in order."""
        return [*self._sealed, self._gathering]

    def return_to(self, place: Place) -> None:
        """Go on from *place* and forget whatever was linked after it."""
        self._segment, self._number, self._hash, self._room, self._because = place
        self._sealed = deque()
        self._gathering = Group(place.segment)
        self._kept_facts.clear()  # of what was forgotten, nobody knows any more what it held
        self.waiting_bytes = 0

    def _seal(self) -> None:
        self._gathering.place_after = Place(self._segment, self._number, self._hash, self._room, self._because)
        self._sealed.append(self._gathering)
        self._gathering = Group(self._segment)
