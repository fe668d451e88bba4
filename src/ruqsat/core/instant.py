"""
Time as a value: instants are whole microseconds since 1970-01-01T00:00Z.

Nothing here reads a clock.  "Now" is an interval ``[lo, hi]``: the true time is
somewhere inside it.  A bound that ends a right is tested against ``hi``, one
that begins it against ``lo``, so that an uncertain clock never helps a request.
Bounds of rights are half-open: ``[since, until)``.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

Instant = int

SECOND: Instant = 1_000_000
MINUTE: Instant = 60 * SECOND
HOUR: Instant = 3600 * SECOND
DAY: Instant = 24 * HOUR


class Now(NamedTuple):
    """The present moment, known to lie in ``[lo, hi]`` (both inclusive)."""

    lo: Instant
    hi: Instant


def at(instant: Instant) -> Now:
    """Return the interval that is exactly *instant*."""
    return tuple.__new__(Now, (instant, instant))  # half the time of `Now(…)`, and asked of every decision


def parse_instant(text: str) -> Instant:
    """
    Read an RFC 3339 instant with an offset.

    Raises:
        ValueError: not a date-time, or one without an offset (whose hour would be a guess).

    Examples:
        >>> parse_instant("1970-01-01T05:00:00.000001+05:00")
        1
        >>> parse_instant("2026-11-24T10:00:00")
        Traceback (most recent call last):
        ...
        ValueError: an instant needs an offset, such as `+05:00` or `Z`
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("an instant needs an offset, such as `+05:00` or `Z`")
    gap = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (gap.days * 86_400 + gap.seconds) * SECOND + gap.microseconds


def render_instant(instant: Instant) -> str:
    """
    Write *instant* in UTC, to the microsecond.

    Examples:
        >>> render_instant(1)
        '1970-01-01T00:00:00.000001Z'
    """
    return "%s.%06dZ" % (_render_second(instant // SECOND), instant % SECOND)  # noqa: UP031 - for every entry; half the time of the others


def local_midnight(instant: Instant, offset_hours: int) -> Instant:
    """
    Return when the local day of *instant* began.

    Examples:
        >>> render_instant(local_midnight(parse_instant("2026-11-24T19:00:00Z"), 5))
        '2026-11-24T19:00:00.000000Z'
        >>> render_instant(local_midnight(parse_instant("2026-11-24T18:59:59.999999Z"), 5))
        '2026-11-23T19:00:00.000000Z'
    """
    offset = offset_hours * HOUR
    return (instant + offset) // DAY * DAY - offset


@lru_cache(maxsize=16)
def _render_second(seconds: int) -> str:
    """Write the whole seconds of an instant; kept, for all entries of one second share this text."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
