"""Clocks that stand still until a test moves them."""

from ruqsat.core.instant import SECOND, Instant, Now, at


class FixedClock:
    """A clock of both kinds; moved by hand, in microseconds."""

    def __init__(self, moment: Instant = 1_800_000_000 * SECOND, boot: Instant = 1_000 * SECOND) -> None:
        """Stand at *moment*, *boot* after the machine was started."""
        self.moment = moment
        self.boot = boot

    def now(self) -> Now:
        """Return the moment it stands at."""
        return at(self.moment)

    def boottime(self) -> Instant:
        """Return the time since boot it stands at."""
        return self.boot

    def advance(self, duration: Instant) -> None:
        """Let *duration* pass on both."""
        self.moment += duration
        self.boot += duration
