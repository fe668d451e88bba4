"""The clocks of a process, as the port of the same name; nothing else in the service reads one."""

import logging
from time import CLOCK_BOOTTIME, clock_gettime_ns, time_ns

from ruqsat.core.instant import SECOND, Instant, Now
from ruqsat.errors import StoreUnavailableError

_log = logging.getLogger(__name__)

_DRIFT = 1000
"""The time since boot is believed to one part in so many."""


class SystemClock:
    """The host's wall clock for decisions, and its time since boot for leases."""

    def now(self) -> Now:
        """Return the present moment; both ends are equal, since here clock and database are one machine."""
        moment = time_ns() // 1000
        return Now(moment, moment)

    def stamp(self) -> Instant:
        """
        Return the moment to write into a record, such as that of a withdrawal.

        It is the earliest that it may be: no other process, whose own interval
        ends a little sooner, may take it for the future.
        """
        return self.now().lo

    def boottime(self) -> Instant:
        """Return microseconds since boot; they go on while the machine is suspended."""
        return clock_gettime_ns(CLOCK_BOOTTIME) // 1000


class ServerClock(SystemClock):
    """
    The database server's clock for decisions: one time for every process, whatever their hosts' clocks say.

    A probe reads it, and the time since boot carries it on, so that the present
    is known as an interval.  Neither end ever goes back.
    """

    def __init__(self) -> None:
        """Know no time: until a first reading there are no decisions."""
        self._server = self._sent = self._received = 0
        self._is_known, self._told = False, logging.NOTSET
        self._lo = self._hi = 0
        self._ahead: Instant = 0

    def observe(self, server: Instant, sent: Instant, received: Instant) -> None:
        """
        Take in that the server's clock said *server* at some moment between these two times since boot.

        A clock that was turned back is not followed.  It is told as an error; by less than a second, as where it is
        adjusted in steps, as a warning.
        """
        if self._is_known and server + (received - sent) < self._estimate(received)[0]:
            self._ahead = self._estimate(received)[0] - server
            level = logging.ERROR if self._ahead >= SECOND else logging.WARNING
            if level > self._told:
                self._told = level
                _log.log(level, "database_clock_went_back seconds=%.3f", self._ahead / SECOND)
            return
        self._server, self._sent, self._received = server, sent, received
        self._is_known, self._told, self._ahead = True, logging.NOTSET, 0

    def now(self) -> Now:
        """
        Return the earliest and the latest moment that it may be for the server.

        Raises:
            StoreUnavailableError: the server's clock was never read.
        """
        if not self._is_known:
            raise StoreUnavailableError("the clock of the database is not known yet")
        lo, hi = self._estimate(self.boottime())
        self._lo = max(self._lo, lo)
        self._hi = max(self._hi, hi)
        return tuple.__new__(Now, (self._lo, self._hi))  # half the time of `Now(…)`, and asked of every decision

    def stamp(self) -> Instant:
        """Return the earliest moment that it may be; if the clock was turned back, what it says now."""
        return self.now().lo - self._ahead

    def _estimate(self, boottime: Instant) -> tuple[Instant, Instant]:
        least, most = boottime - self._received, boottime - self._sent
        return self._server + least - least // _DRIFT, self._server + most + most // _DRIFT + 1
