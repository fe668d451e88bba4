"""
Dates of records: a whole day, a part of one (``2026``, ``2026-05``) or nothing that can be read.

FHIR lets a date be known to the year or the month only.  Such a date is every day
that it may mean: a denial meets it if one of them lies in its period, a permit only
if all do.
"""

import re
from calendar import monthrange
from datetime import date, timedelta
from functools import lru_cache

from ruqsat.core.instant import HOUR, SECOND, parse_instant

_EPOCH = date(1970, 1, 1)
_DAY = 24 * HOUR
_ONE_TIME = (date(2024, 3, 1) - _EPOCH).days * _DAY
_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2}))?")


@lru_cache(maxsize=8192)
def days_of(text: str | None, home_utc_offset_hours: int) -> tuple[date, date] | None:
    """
    Return the first and the last day that *text* may mean, or None if it says nothing that can be read.

    An instant is the day on which it was at home; before 1 March 2024, when most of Kazakhstan was an hour ahead of
    what is the time of all of it today, and the west was not, it is either day that it may have been.

    Examples:
        >>> days_of("2026-02", 5)
        (datetime.date(2026, 2, 1), datetime.date(2026, 2, 28))
        >>> days_of("2026-05-05T20:00:00Z", 5)
        (datetime.date(2026, 5, 6), datetime.date(2026, 5, 6))
        >>> days_of("2021-05-05T18:30:00Z", 5)
        (datetime.date(2021, 5, 5), datetime.date(2021, 5, 6))
        >>> days_of("in spring", 5) is None
        True
    """
    if text is None:
        return None
    try:
        if (partial := _PARTIAL.fullmatch(text)) is not None:
            year, month = int(partial[1]), partial[2]
            if month is None:
                return date(year, 1, 1), date(year, 12, 31)
            return date(year, int(month), 1), date(year, int(month), monthrange(year, int(month))[1])
        if "T" in text:
            local = parse_instant(text) + home_utc_offset_hours * HOUR
            later = local + HOUR if local < _ONE_TIME else local
            return _EPOCH + timedelta(days=local // _DAY), _EPOCH + timedelta(days=later // _DAY)
        day = date.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return day, day


def years_after(start: int, years: int) -> int:
    """
    Return the instant so many calendar years after *start*; 29 February becomes 1 March.

    Examples:
        >>> from ruqsat.core.instant import render_instant
        >>> render_instant(years_after(parse_instant("1888-02-29T10:00:00Z"), 1))
        '1889-03-01T10:00:00.000000Z'
    """
    days, rest = divmod(start, 24 * HOUR)
    day = _EPOCH + timedelta(days=days)
    try:
        later = day.replace(year=day.year + years)
    except ValueError:
        later = date(day.year + years, 3, 1)
    return (later - _EPOCH).days * 24 * 3600 * SECOND + rest
