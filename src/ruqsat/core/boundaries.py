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

_KEPT = "boundaries"


def moments(facts: Facts, now: Now, switches: Switches) -> list[Instant]:
    """Return the ends of *now* and every boundary of the facts inside, in order."""
    ahead = () if facts.patient is None else _ahead(facts.patient, now.lo, switches)
    inside = {t for t in ahead if now.lo < t < now.hi}
    # What ends or begins at t has changed at t; the moment before it still holds the old state.
    return sorted({now.lo, now.hi, *inside, *(t - 1 for t in inside)})


def _ahead(patient: PatientFacts, since: Instant, switches: Switches) -> tuple[Instant, ...]:
    """
    Return the patient's boundaries after *since*, and perhaps some before.

    Time goes on, so they are worked out once and kept with the facts: walking through all of them took most of a
    decision's time, and few of them lie ahead.
    """
    kept = patient.__dict__.get(_KEPT)
    if kept is None or kept[0] is not switches or kept[1] > since:
        ahead = tuple({t for t in _instants(patient, switches) if t > since})
        kept = patient.__dict__[_KEPT] = (switches, since, ahead)
    found: tuple[Instant, ...] = kept[2]
    return found


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
