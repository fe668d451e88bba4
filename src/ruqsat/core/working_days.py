"""
Terms in working days (order §18, §19, §24, §31; Law 94-V art. 8(7), 25(2)(8)).

A term begins the day after its event (Civil Code art. 173).  The calendar is the
national one of five working days, moved holidays and substituted days included, with
the operator's reviewed overrides: the Government substitutes days that no library knows
in advance.  A day that nobody is sure of counts as working: the term is then shorter,
which is safe.
"""

import hashlib
import tomllib
from datetime import date, timedelta
from functools import lru_cache

import holidays
import holidays.version
import msgspec
from msgspec import Struct

from ruqsat.core.instant import HOUR, Instant

TERMS = {
    "information": 3,  # order §18; a reasoned refusal has no term of its own (§19)
    "rectification": 1,  # Law 94-V art. 25(2)(8), stricter than the three of order §31
    "rectification_outer": 3,
    "block": 1,
    "destroy": 1,
    "unblock": 1,
    "stop_processing": 15,  # after a withdrawal; access ends at once
    "objection": 3,
    "transfer_notice": 10,
    "breach_notice": 1,
    "publication_removal": 1,
}
"""Working days by process; where the order is laxer than the law, the law's."""


class WorkingDays(Struct, frozen=True):
    """
    The national calendar with the operator's overrides.

    Attributes:
        overrides: Which reviewed overrides these are, for whoever asks later by which calendar a day was counted.
    """

    extra_off: frozenset[date] = frozenset()
    extra_work: frozenset[date] = frozenset()
    overrides: str = "none"

    @property
    def version(self) -> str:
        """
        Return what a term was counted by: the library's version and the overrides.

        Examples:
            >>> WorkingDays().version.startswith("KZ holidays ")
            True
        """
        return f"KZ holidays {holidays.version.__version__}, overrides {self.overrides}"

    def is_working(self, day: date) -> bool:
        """Tell whether *day* is a working day; an override as working wins over one as off."""
        if day in self.extra_work:
            return True
        return day not in self.extra_off and _national(day.year).is_working_day(day)

    def due(self, received: date, days: int) -> date:
        """
        Return the last day of a term of *days* working days (1 or more) that begins after *received*.

        Examples:
            >>> WorkingDays().due(date(2026, 3, 20), TERMS["information"])
            datetime.date(2026, 3, 30)
        """
        day = received
        while days > 0:
            day += timedelta(days=1)
            days -= self.is_working(day)
        return day


class _Overrides(Struct, frozen=True, forbid_unknown_fields=True):
    extra_off: frozenset[date] = frozenset()
    extra_work: frozenset[date] = frozenset()


def read_overrides(text: bytes) -> WorkingDays:
    """
    Read the operator's reviewed days, as TOML: two lists of dates, ``extra_off`` and ``extra_work``.

    Raises:
        ValueError: it is no such file, or a day stands in both lists.

    Examples:
        >>> read_overrides(b"extra_work = [2026-11-21]").due(date(2026, 11, 20), 1)
        datetime.date(2026, 11, 21)
    """
    days = msgspec.convert(tomllib.loads(text.decode()), _Overrides)
    if days.extra_off & days.extra_work:
        raise ValueError("a day stands in both lists")
    return WorkingDays(days.extra_off, days.extra_work, hashlib.sha256(text).hexdigest()[:16])


def home_day(moment: Instant, utc_offset_hours: int) -> date:
    """
    Return the day at home on which a moment lies.

    Examples:
        >>> home_day(19 * HOUR - 1, 5), home_day(19 * HOUR, 5)
        (datetime.date(1970, 1, 1), datetime.date(1970, 1, 2))
    """
    return date(1970, 1, 1) + timedelta(days=(moment + utc_offset_hours * HOUR) // (24 * HOUR))


@lru_cache(maxsize=64)
def _national(year: int) -> holidays.HolidayBase:
    return holidays.country_holidays("KZ", years=(year - 1, year, year + 1))
