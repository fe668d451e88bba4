"""The clock of the machine, as the port of the same name; nothing else in the service reads one."""

from time import CLOCK_BOOTTIME, clock_gettime_ns, time_ns

from ruqsat.core.instant import Instant, Now


class SystemClock:
    """The host's wall clock for decisions, and its time since boot for leases."""

    def now(self) -> Now:
        """Return the present moment; both ends are equal, since here clock and database are one machine."""
        moment = time_ns() // 1000
        return Now(moment, moment)

    def boottime(self) -> Instant:
        """Return microseconds since boot; they go on while the machine is suspended."""
        return clock_gettime_ns(CLOCK_BOOTTIME) // 1000
