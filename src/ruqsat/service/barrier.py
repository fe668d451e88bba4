"""
The barrier: when is a change in force in every process that answers from this database?

After a lease no process can answer from before it: that alone is the proof, and
needs nobody's word.  The table of processes only shortens the wait, and is
believed only as far as it must be true: it holds every process that may answer
without the change, since each writes its row before it reads what renews its
lease.  A failover may lose rows of processes that still hold a lease, so for a
lease after one nobody believes it.

What a process serves in degraded mode is outside: that holds without the store.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Literal, NamedTuple, Protocol

from ruqsat.core.facts import Position
from ruqsat.core.instant import SECOND, Instant
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.metrics import Timings

_LOOKS: Instant = 50_000
"""How long between two looks at the table, at first; later a quarter of a second."""
_SELDOM: Instant = 250_000

_WAITED = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 30.0, 60.0)

Row = tuple[str, Position, Instant, int]
"""One other process: its id, how far it knew the truth, how long its leases are, and the beat of its row."""


class HistoryChangedError(StoreUnavailableError):
    """The change was made, and the database has begun another history since, which may lack it."""

    code = "history-changed"


class Processes(Protocol):
    """The table of the processes that answer from one database."""

    async def fetch_others(self) -> tuple[str, tuple[Row, ...]]:
        """Return the epoch of the database, and the others' rows; raises StoreUnavailableError."""
        ...

    async def drop_silent(self, silent: Collection[tuple[str, int]]) -> None:
        """Take away these rows (id and beat), those that were written again since excepted."""
        ...


class Visible(NamedTuple):
    """A change is in force everywhere: by whose word, and how many seconds after its commit."""

    by: Literal["acknowledged", "lease"]
    seconds: float


class Wait:
    """
    One change on its way to being in force everywhere.  Pure: times are since boot, and come from the caller.

    Args:
        position: Of the change, or later.
        committed_at: Read after the commit was known.
        lease: How long our own leases are.
        known_since: When we last began to know this history: everything was forgotten then.
    """

    def __init__(self, position: Position, committed_at: Instant, lease: Instant, known_since: Instant) -> None:
        """Begin with nothing looked at."""
        self._position, self._committed_at, self._known_since = position, committed_at, known_since
        self._lease = lease
        self._first: dict[str, int] | None = None
        self._first_at: Instant = 0
        self._rows: tuple[Row, ...] = ()

    def look(self, epoch: str, rows: tuple[Row, ...], began_at: Instant, now: Instant) -> bool:
        """
        Take in a reading of the table, begun at *began_at*; tell whether by it the change is in force everywhere.

        *began_at* is after the commit: a process that is not in an older reading may have come since.
        """
        self._lease = max(self._lease, *[lease for _, _, lease, _ in rows], 0)
        self._rows = rows
        if self._first is None:
            self._first, self._first_at = {id_: beat for id_, _, _, beat in rows}, now
        if epoch != self._position.epoch or not self.believes(began_at):
            return False
        return all(self._has_it(known) for _, known, _, _ in rows)

    def believes(self, began_at: Instant) -> bool:
        """Tell whether a reading begun at *began_at* holds everybody: a failover before may have lost rows."""
        return began_at - self._known_since > self._lease + self._margin

    def _has_it(self, known: Position) -> bool:
        return known.epoch == self._position.epoch and known.seq >= self._position.seq

    def is_over(self, now: Instant) -> bool:
        """Tell whether a lease has passed since the commit: whoever does not have the change cannot answer."""
        return now - self._committed_at > self._lease + self._margin

    def silent(self, now: Instant) -> list[tuple[str, int]]:
        """
        Return the rows of processes that have ended without a word: for a lease they have not been written.

        One that only slept writes its row again before it has a lease.
        """
        first = self._first
        if first is None or now - self._first_at <= self._lease + self._margin // 2:
            return []
        return [(id_, beat) for id_, known, _, beat in self._rows if first.get(id_) == beat and not self._has_it(known)]

    @property
    def _margin(self) -> Instant:
        """How much longer than a lease to wait: several times what the clocks of two machines drift apart in one."""
        return self._lease // 50


class Barrier:
    """
    Waits until changes are in force everywhere.

    Args:
        is_alone: No other process can answer from this database: every change is in force once it is known here.
        position: How far this process knows the truth, its own changes included.
        known_since: When this process last forgot everything.

    Counters: ``acknowledged``, ``by_lease``, ``history_changed``, and ``waiting`` at this moment;
    ``others`` is how many other processes the last reading showed.
    """

    def __init__(
        self, processes: Processes, *, is_alone: bool, lease: Instant, boottime: Callable[[], Instant],
        position: Callable[[], Position], known_since: Callable[[], Instant],
    ) -> None:  # fmt: skip
        """Wait for nothing yet."""
        self.acknowledged = self.by_lease = self.history_changed = self.waiting = self.others = 0
        self.waited = Timings(_WAITED)
        self._processes, self._is_alone, self._lease = processes, is_alone, lease
        self._boottime, self._position, self._known_since = boottime, position, known_since

    @property
    def believes(self) -> bool:
        """Tell whether the table can shorten a wait: not for a lease after a failover, or after our own start."""
        return self._is_alone or Wait(self._position(), 0, self._lease, self._known_since()).believes(self._boottime())

    async def pass_through(self) -> Visible:
        """
        Return once everything that this process knows, its own last change included, is in force everywhere.

        Call it after the change is known here.

        Raises:
            HistoryChangedError: the database has begun another history meanwhile.
        """
        position, began = self._position(), self._boottime()
        self.waiting += 1
        try:
            by: Literal["acknowledged", "lease"] = "acknowledged"
            if not self._is_alone:
                by = await self._wait(Wait(position, began, self._lease, self._known_since()))
        finally:
            self.waiting -= 1
        seconds = (self._boottime() - began) / SECOND
        known = self._position()
        if known.epoch != position.epoch or known.seq < position.seq:
            self.history_changed += 1
            raise HistoryChangedError("the database has begun another history since the change was made")
        self.acknowledged += by == "acknowledged"
        self.by_lease += by == "lease"
        self.waited.observe(seconds)
        return Visible(by, seconds)

    async def _wait(self, wait: Wait) -> Literal["acknowledged", "lease"]:
        began = self._boottime()
        while True:
            looked_at = self._boottime()
            with suppress(StoreUnavailableError):  # the lease goes on without the store
                epoch, rows = await self._processes.fetch_others()
                self.others = len(rows)
                if wait.look(epoch, rows, looked_at, self._boottime()):
                    return "acknowledged"
            now = self._boottime()
            if wait.is_over(now):
                await self._drop(wait.silent(now))
                return "lease"
            await asyncio.sleep((_LOOKS if now - began < SECOND else _SELDOM) / SECOND)

    async def _drop(self, silent: Collection[tuple[str, int]]) -> None:
        """Let the next one not wait for processes that are gone."""
        if silent:
            with suppress(StoreUnavailableError):
                await self._processes.drop_silent(silent)
