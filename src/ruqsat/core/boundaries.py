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
    Tell whether every moment of *now* is alike to whoever compares it with the facts' own instants and local days.

    No boundary lies after the first moment up to the last, no local midnight, and there is nobody beside.
    """
    return not facts.others and now.hi < next_turn(facts.patient, now.lo, switches)


def next_turn(patient: PatientFacts | None, moment: Instant, switches: Switches) -> Instant:
    """
    Return the first boundary of these facts after *moment*, or local midnight if that comes before.

    The present moves within one gap between two turns for hours; so the gap is kept with
    the facts, which never change, and the walk over them is spared.
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
    Return every whole number of the facts, and what is worked out from them and from their days.

    Numbers that are no instants are far from any present moment and do no harm;
    a new field with an instant can therefore not be forgotten here.
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
    """Add the numbers and the days of *facts* to what was found; what can hold neither is not looked at."""
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
    """Return the fields of a kind of facts that may hold a number, a day, or facts with one; what is unknown may."""

    def turns(annotation: object) -> bool:
        if isinstance(annotation, type) and issubclass(annotation, Struct):
            return annotation is kind or bool(_fields_that_turn(annotation))
        if annotation in _WORDS or get_origin(annotation) is Literal:
            return False
        parts = get_args(annotation)
        return any(map(turns, parts)) if parts else True

    return tuple(field.name for field in fields(kind) if turns(field.type))
