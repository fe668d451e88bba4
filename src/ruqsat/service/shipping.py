"""
Shipping the local journal into the database, each line once, with the notices of what it holds.

Only what lasts here is shipped, so that nothing is there that the journal may yet take
back.  While the database is away the lines wait on disk; decisions do not wait for any
of this.  After any failure the database is asked how far it has come: it is the one that
knows.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from time import monotonic, process_time, thread_time
from typing import Protocol

from ruqsat.core.addressee import Told
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.journaled import Journaled, Lines, Place, Shipped
from ruqsat.core.notice import Notice, notices_of
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.notice_bodies import NoticeBodies

POLL_SECONDS = 0.25
BUSY = 0.4
"""In a rush the process takes more than this of one processor's time."""
CALM_REST, REST, LATE_REST = 9, 39, 19
"""
So many times the work of a batch nothing is shipped after it.  In a rush whoever decides has thirty-nine parts of forty
of the time, or nineteen of twenty while lines are late; else nine of ten, for there is room.
"""
LATE: Instant = 60 * SECOND
"""A rush is shipped when it is over, unless it takes longer; then shipping may take twice as much of the time."""
AWAY_SECONDS = (1.0, 30.0)
"""How long to wait while the database is away: at first, and at most."""

_log = logging.getLogger(__name__)

MakeNotices = Callable[[Journaled, Mapping[str, Told]], tuple[Notice, ...]]


class Source(Protocol):
    """The journal on disk; calls wait for the disk and are made on another thread."""

    @property
    def unreadable(self) -> int:
        """How many lines could not be read, and are passed by."""
        ...

    def writers(self) -> set[str]:
        """Return who wrote it."""
        ...

    def resume(self, places: Mapping[str, Place]) -> None:
        """Go on after these places."""
        ...

    def read_on(self, until: Place) -> Lines | None:
        """Return the next lines that last."""
        ...

    def accept(self, lines: Lines) -> None:
        """Go on after these lines."""
        ...


class Shipments(Protocol):
    """Where lines go."""

    async def places(self, writers: Collection[str]) -> dict[str, Place]:
        """Return how far the journals of these writers have come."""
        ...

    async def ship(
        self, lines: Lines, make_notices: MakeNotices, close: Callable[[Notice], bytes], now: Instant
    ) -> Shipped:
        """Take in lines and notices together."""
        ...


class Shipper:
    """
    Ships one journal.

    Args:
        lasting: The segment that grows, and how many of its lines are on stable storage.
        switches: Those in force, by which it is settled who is told.
        now: The present moment.

    Attributes:
        lines: Shipped since the start.
        notices: Made with them.
        failures: How often the database was away, or the disk did not answer.
    """

    def __init__(
        self, source: Source, shipments: Shipments, bodies: NoticeBodies, lasting: Callable[[], tuple[int, int]],
        switches: Callable[[], Switches], now: Callable[[], Instant],
    ) -> None:  # fmt: skip
        self.lines = self.notices = self.failures = 0
        self._source, self._shipments, self._bodies = source, shipments, bodies
        self._lasting, self._switches, self._now = lasting, switches, now
        self._is_placed = False
        self._behind_since: float | None = None
        self._rest = 0.0
        self._looked = monotonic(), process_time()

    @property
    def unreadable(self) -> int:
        """How many lines could not be read, and are passed by."""
        return self._source.unreadable

    @property
    def behind_seconds(self) -> float:
        """How long there have been lines that are not shipped; 0 if there are none."""
        since = self._behind_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    async def forever(self) -> None:
        """Ship until cancelled; while the database is away, try again after a while, longer each time."""
        away = AWAY_SECONDS[0]
        while True:
            try:
                more = await self.ship_some()
                away = AWAY_SECONDS[0]
                await asyncio.sleep(self._rest if more else POLL_SECONDS)
            except (StoreUnavailableError, OSError) as problem:
                if away == AWAY_SECONDS[0]:
                    _log.warning("journal_not_shipped_now reason=%s", problem)
                await asyncio.sleep(away)
                away = min(away * 2, AWAY_SECONDS[1])
            except Exception:  # noqa: BLE001 - a mistake of ours must not end the shipping
                _log.exception("journal_not_shipped_now")
                await asyncio.sleep(AWAY_SECONDS[1])

    async def ship_some(self) -> bool:
        """
        Ship the next lines; tell whether there may be more.

        Raises:
            StoreUnavailableError: the database did not answer; asking again is safe.
            OSError: the journal could not be read.
        """
        try:
            return await self._ship_next()
        except BaseException:
            # Whoever is cancelled in the middle of a commit does not know its end either.
            self._is_placed = False
            self.failures += 1
            self._fall_behind()
            raise

    async def _ship_next(self) -> bool:
        if not self._is_placed:
            places = await self._shipments.places(await asyncio.to_thread(self._source.writers))
            await asyncio.to_thread(self._source.resume, places)
            self._is_placed = True
        lines, worked = await asyncio.to_thread(self._read_on)
        if lines is None:
            self._behind_since = None
            return False
        self._fall_behind()
        shipped = await self._shipments.ship(lines, self._make_notices, self._bodies.close, self._now())
        if shipped.lines != len(lines.lines):
            _log.warning("journal_place_differs segment=%d number=%d", *shipped.place)
            self._is_placed = False
            return False
        self._rest = self._rest_after(lines) * (worked + shipped.cpu_seconds)
        self._source.accept(lines)
        self.lines += shipped.lines
        self.notices += shipped.notices
        return True

    def _rest_after(self, lines: Lines) -> int:
        before, self._looked = self._looked, (monotonic(), process_time())
        passed, spent = [now - then for now, then in zip(self._looked, before, strict=True)]
        if spent < BUSY * passed:
            return CALM_REST
        return LATE_REST if self._now() - max(said.moment for _, said, _ in lines.lines) > LATE else REST

    def _read_on(self) -> tuple[Lines | None, float]:
        """Return the next lines, and the time of the processor in them: to wait for it, or the disk, is no work."""
        began = thread_time()
        return self._source.read_on(Place(*self._lasting())), thread_time() - began

    def _make_notices(self, entry: Journaled, patients: Mapping[str, Told]) -> tuple[Notice, ...]:
        return notices_of(entry, patients, self._switches())

    def _fall_behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = asyncio.get_running_loop().time()
