"""A calendar month in UTC: what the journal is kept by in a database that can."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Self

from ruqsat.core.instant import SECOND, Instant

FIRST_YEAR = 2000
"""No journal is older; a line that does not say when, or that says an earlier moment, is of no month."""


class Month(NamedTuple):
    """
    A month of the calendar, compared as time goes.

    Examples:
        >>> Month(2026, 12).next, Month(2026, 11) < Month(2026, 12), str(Month(2026, 3))
        (Month(year=2027, number=1), True, '2026_03')
        >>> Month(1970, 1).begins, Month(1970, 2).begins == Month(1970, 1).ends
        (0, True)
    """

    year: int
    number: int

    @classmethod
    def of(cls, instant: Instant) -> Self:
        """
        Return the month of *instant*, which is of a year that a calendar has.

        Examples:
            >>> Month.of(Month(2027, 1).begins - 1)
            Month(year=2026, number=12)
        """
        moment = datetime.fromtimestamp(instant // SECOND, UTC)
        return cls(moment.year, moment.month)

    @property
    def next(self) -> "Month":
        """The month after it."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def begins(self) -> Instant:
        """Its first instant."""
        return int(datetime(self.year, self.number, 1, tzinfo=UTC).timestamp()) * SECOND

    @property
    def ends(self) -> Instant:
        """The first instant after it."""
        return self.next.begins

    def __str__(self) -> str:
        """Return it as it stands in a name."""
        return f"{self.year:04}_{self.number:02}"


def months_to_keep(instants: Iterable[Instant], now: Instant) -> list[Month]:
    """
    Return the months that these lines need, with the present one and the next, oldest first.

    A moment before ``FIRST_YEAR`` or after the next month needs none: whoever writes a journal whose clock is
    wrong makes no more of them.

    Examples:
        >>> now = Month(2026, 11).begins
        >>> months_to_keep((0, Month(2026, 9).begins, Month(2026, 12).ends, Month(1999, 12).begins), now)
        [Month(year=2026, number=9), Month(year=2026, number=11), Month(year=2026, number=12)]
    """
    present = Month.of(now)
    begun = {Month.of(each) for each in instants}
    told = {each for each in begun if each.year >= FIRST_YEAR and each <= present.next}
    return sorted(told | {present, present.next})
