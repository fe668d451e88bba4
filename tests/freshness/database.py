"""
The truth in the model: values of keys, a feed numbered in the order of commits, a standby, failovers that lose.

A value is a number that is never given twice, so that content and order can be
told from it; of one key, a later commit always has the greater number.
"""

from random import Random

from ruqsat.core.facts import Position
from ruqsat.service.freshness import ALL

NEVER = 1 << 60
KEPT = 6
"""So many entries the feed keeps; who is further behind finds a gap."""
LISTED = 4
"""So many entries one probe brings."""

EVERYTHING = (-1,)
NAMES = ("patient:p0", "subject:s0", "patient:p1", "subject:s1")

Transaction = tuple[tuple[int, ...], int, int]
"""Keys that it touches, who began it, its first number if that was given at its begin."""


class Database:
    """
    One primary and one standby.

    ``vector``: the value of each key now.  ``feed``: of each number the name
    touched and the vector after it.  ``gone``: of each value, when another took its place.
    ``lost``: values that a failover undid.

    Two mistakes can be planted: numbers given when a transaction begins
    (``bigserial``), and a failover that does not change the epoch.
    """

    def __init__(self, chance: Random, keys: int, *, bigserial: bool = False, keeps_epoch: bool = False) -> None:
        """Begin at number 0 of the first epoch."""
        self.vector = tuple(range(keys))
        self.gone = [NEVER] * keys
        self.lost: set[int] = set()
        self.head = 0
        self.feed: dict[int, tuple[str, tuple[int, ...]]] = {0: ("", self.vector)}
        self.commits = [0]
        self.standby = 0
        self.epochs = 1
        self.epoch = "1"
        self.epoch_began = 0
        self.open: list[Transaction] = []
        self._touchable = [(key,) for key in range(keys)] * 3 + [(0, 1), EVERYTHING]
        self._random = chance.random
        self._bigserial = bigserial
        self._keeps_epoch = keeps_epoch
        self._given = 0

    def begin(self, who: int) -> None:
        """Open a transaction of *who* that will change a key, two of them, or everything."""
        touched = self._touchable[int(self._random() * len(self._touchable))]
        first = 0
        if self._bigserial:
            first = self._given + 1
            self._given += len(touched)
        self.open.append((touched, who, first))

    def commit(self, now: int) -> tuple[int, Position, tuple[str, ...]]:
        """Commit one that is open; return who began it, its position, and the names of its entries."""
        touched, who, first = self.open.pop(int(self._random() * len(self.open)))
        first = first or self.head + 1
        for seq, key in enumerate(touched, first):
            self._change(seq, key, now)
        last = first + len(touched) - 1
        self.head = max(self.head, last)
        self.commits.append(self.head)
        return who, Position(self.epoch, last), tuple([ALL if key < 0 else NAMES[key] for key in touched])

    def _change(self, seq: int, key: int, now: int) -> None:
        vector = list(self.vector)
        for each in range(len(vector)) if key < 0 else (key,):
            self.gone[vector[each]] = now
            vector[each] = len(self.gone)
            self.gone.append(NEVER)
        self.vector = tuple(vector)
        self.feed[seq] = (ALL if key < 0 else NAMES[key], self.vector)

    def replicate(self) -> None:
        """Let the standby catch up: by one commit, or wholly."""
        behind = len(self.commits) - 1 - self.standby
        if behind:
            self.standby += 1 if self._random() < 0.5 else behind

    def changes(self, since: Position, on_standby: bool) -> tuple[Position, tuple[tuple[int, str], ...]]:
        """Answer a probe, as ``service.probe.Feed`` promises."""
        head = self.commits[self.standby] if on_standby else self.head
        feed = self.feed
        if since.epoch != self.epoch or since.seq >= head:
            return Position(self.epoch, head), ()
        begin = max(since.seq, head - KEPT) + 1
        listed = [(seq, feed[seq][0]) for seq in range(begin, head + 1) if seq in feed]
        return Position(self.epoch, head), tuple(listed[:LISTED])

    def read(self, on_standby: bool) -> tuple[Position, tuple[int, ...]]:
        """Read every value, and the position, in one snapshot; of a standby that is behind, an old one."""
        if on_standby:
            head = self.commits[self.standby]
            return Position(self.epoch, head), self.feed[head][1]
        return Position(self.epoch, self.head), self.vector

    def fail_over(self, back: int, now: int) -> None:
        """Promote the standby, or restore what was *back* commits before it; later commits are undone."""
        self.standby = max(0, self.standby - back)
        del self.commits[self.standby + 1 :]
        seq = self.commits[-1]
        restored = self.feed[seq][1]
        for number in range(seq + 1, self.head + 1):
            _, vector = self.feed.pop(number, ("", restored))
            self.lost.update([value for value, kept in zip(vector, restored, strict=True) if value > kept])
        for value, kept in zip(self.vector, restored, strict=True):
            if value != kept:
                self.gone[value] = now
                self.gone[kept] = NEVER
        self.vector, self.head = restored, seq
        self.open.clear()
        self.epoch_began = now
        if not self._keeps_epoch:
            self.epochs += 1
            self.epoch = format(self.epochs, "x")
