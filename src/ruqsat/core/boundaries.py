"""
Moments at which a decision could change while the true time lies in an interval.

Between two neighbouring boundaries every fact stands still, so a decision that
holds at the ends and at each boundary inside holds at every moment of the interval.
"""

from bisect import bisect_right
from datetime import date
from functools import cache
from types import NoneType
from typing import Literal, get_args, get_origin

from msgspec import Struct
from msgspec.structs import fields

from ruqsat.core.facts import Facts, PatientFacts
from ruqsat.core.instant import DAY, HOUR, Instant, Now, local_midnight
from ruqsat.core.representation import birthday
from ruqsat.core.vocabulary import Switches

_WORDS = (str, bool, NoneType, ...)
"""Types, as annotations have them, that hold no moment; the last stands in those of tuples."""

_GAP = "_gap"
"""Where a patient's facts keep, for the switches that they were asked under, the gap between turns found last."""


def moments(facts: Facts, now: Now, switches: Switches) -> list[Instant]:
    """Return the ends of *now* and every boundary of the facts inside, in order."""
    if now.lo < now.hi <= next_turn(facts.patient, now.lo, switches):
        return [now.lo, now.hi]
    inside = {t for t in _instants(facts.patient, switches) if now.lo < t < now.hi}
    # What ends or begins at t has changed at t; the moment before it still holds the old state.
    return sorted({now.lo, now.hi, *inside, *(t - 1 for t in inside)})


def stands_still(facts: Facts, now: Now, switches: Switches) -> bool:
    """
    Tell whether nothing in the facts begins or ends within *now*: a decision at one of its moments holds at all.

    No boundary of the patient's facts and no local midnight lies behind its first moment.  Facts of
    other patients are not looked at: with any, the answer is no.
    """
    return not facts.others and now.hi < next_turn(facts.patient, now.lo, switches)


def next_turn(patient: PatientFacts | None, moment: Instant, switches: Switches) -> Instant:
    """
    Return the first boundary of these facts after *moment*, or the next local midnight if that comes first.

    The gap between two boundaries in which *moment* lies is kept with the facts, which never
    change: while the present stays within it, for hours as a rule, nothing is worked out anew.
    """
    if patient is None:
        return local_midnight(moment, switches.home_utc_offset_hours) + DAY
    known = patient.__dict__.get(_GAP)
    if known is None or known[0] is not switches or not known[1] <= moment < known[2]:
        midnight = local_midnight(moment, switches.home_utc_offset_hours)
        turns = sorted([midnight, midnight + DAY, *_instants(patient, switches)])
        number = bisect_right(turns, moment)
        known = patient.__dict__[_GAP] = switches, turns[number - 1], turns[number]
    until: Instant = known[2]
    return until


def _instants(patient: PatientFacts | None, switches: Switches) -> list[Instant]:
    """
    Return every instant at which something in these facts may begin or end to count.

    These are all whole numbers of the facts, the latest ends of sessions counted from them,
    and the terms of age counted from their days.  Taking every number means that no field can
    be forgotten here; one that is no instant lies far from the present and does no harm.
    """
    found: list[Instant] = []
    days: list[date] = []
    if patient is not None:
        _gather(patient, found, days)
    found += [each + switches.btg.max_hours * HOUR for each in found]
    ages = {switches.rep_access_ends_at, switches.minor_self_from_age, switches.adolescent_shield.from_age}
    for day in days:
        found += [birthday(day, age, switches.home_utc_offset_hours) for age in ages]
        majority = birthday(day, switches.rep_access_ends_at, switches.home_utc_offset_hours)
        found.append(majority + switches.rep_consent_grace_days * 24 * HOUR)
    return found


def _gather(facts: Struct, found: list[Instant], days: list[date]) -> None:
    """Add the numbers and the days of *facts*, nested ones included, to *found* and *days*."""
    for name in _fields_that_turn(type(facts)):
        value = getattr(facts, name)
        if value is None or value == ():
            continue
        for each in value if type(value) is tuple else (value,):
            if isinstance(each, int):
                found.append(each)
            elif isinstance(each, Struct):
                _gather(each, found, days)
            elif isinstance(each, date):
                days.append(each)


@cache
def _fields_that_turn(kind: type[Struct]) -> tuple[str, ...]:
    """Return the fields in which a number or a day may stand, nested or not; a type that is unknown here counts."""

    def turns(annotation: object) -> bool:
        if isinstance(annotation, type) and issubclass(annotation, Struct):
            return annotation is kind or bool(_fields_that_turn(annotation))
        if annotation in _WORDS or get_origin(annotation) is Literal:
            return False
        parts = get_args(annotation)
        return any(map(turns, parts)) if parts else True

    return tuple(field.name for field in fields(kind) if turns(field.type))
