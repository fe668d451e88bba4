"""
Moments at which a decision could change while the true time lies in an interval.

Between two neighbouring boundaries every fact stands still, so a decision that
holds at the ends and at each boundary inside holds at every moment of the interval.
"""

from collections.abc import Iterator
from datetime import date

from msgspec import Struct

from ruqsat.core.facts import Facts, PatientFacts
from ruqsat.core.instant import HOUR, Instant, Now
from ruqsat.core.representation import birthday
from ruqsat.core.vocabulary import Switches

_QUIET = "_quiet"
"""Where a patient's facts keep, for the switches that they were asked under, the gap between boundaries found last."""

_NEVER = 1 << 62


def moments(facts: Facts, now: Now, switches: Switches) -> list[Instant]:
    """Return the ends of *now* and every boundary of the facts inside, in order."""
    if now.lo < now.hi and _is_quiet(facts.patient, now, switches):
        return [now.lo, now.hi]
    inside = {t for t in _instants(facts.patient, switches) if now.lo < t < now.hi}
    # What ends or begins at t has changed at t; the moment before it still holds the old state.
    return sorted({now.lo, now.hi, *inside, *(t - 1 for t in inside)})


def _is_quiet(patient: PatientFacts | None, now: Now, switches: Switches) -> bool:
    """
    Tell whether no boundary of these facts lies inside *now*.

    The present moves within one gap between two boundaries for hours; so the gap is kept with
    the facts, which never change, and the walk over them is spared.
    """
    if patient is None:
        return True
    known = patient.__dict__.get(_QUIET)
    if known is None or known[0] is not switches or not known[1] <= now.lo < known[2]:
        instants = list(_instants(patient, switches))
        last = max((t for t in instants if t <= now.lo), default=-_NEVER)
        known = patient.__dict__[_QUIET] = switches, last, min((t for t in instants if t > now.lo), default=_NEVER)
    return bool(now.hi <= known[2])


def _instants(value: object, switches: Switches) -> Iterator[Instant]:
    """
    Yield every whole number of the facts, and what is worked out from them.

    Numbers that are no instants are far from any present moment and do no harm;
    a new field with an instant can therefore not be forgotten here.
    """
    if isinstance(value, int):
        yield value
        yield value + switches.btg.max_hours * HOUR
    elif isinstance(value, date):
        for age in {switches.rep_access_ends_at, switches.minor_self_from_age, switches.adolescent_shield.from_age}:
            yield birthday(value, age, switches.home_utc_offset_hours)
        majority = birthday(value, switches.rep_access_ends_at, switches.home_utc_offset_hours)
        yield majority + switches.rep_consent_grace_days * 24 * HOUR
    elif isinstance(value, tuple):
        for part in value:
            yield from _instants(part, switches)
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _instants(getattr(value, name), switches)
