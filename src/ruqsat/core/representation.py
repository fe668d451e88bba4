"""Legal representatives: whose power holds today, for which ward (order §3, §11; Code 78, 273(4)(4))."""

from datetime import MAXYEAR, date
from functools import lru_cache
from operator import attrgetter

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.facts import PatientFacts, Representation
from ruqsat.core.instant import HOUR, Instant, Now, parse_instant
from ruqsat.core.vocabulary import Switches, Vocabulary

_ID = attrgetter("id")


class RepresentationAnswer(Struct, frozen=True):
    """Whether a verified, current power covers the case; else the nearest miss."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = "rep.none"


def representation_answer(case: Case, vocabulary: Vocabulary) -> RepresentationAnswer:
    """Tell whether the subject represents the patient now; of several misses, that of the last id is told."""
    patient = case.facts.patient
    best = RepresentationAnswer(False)
    if patient is None:
        return best
    for power in sorted(patient.representations, key=_ID):
        if power.subject != case.sub.id:
            continue
        miss = _miss(power, patient, case, vocabulary)
        if not miss:
            return RepresentationAnswer(True, (power.id,), "")
        best = RepresentationAnswer(False, (power.id,), f"rep.{miss}")
    return best


def _miss(power: Representation, patient: PatientFacts, case: Case, vocabulary: Vocabulary) -> str:
    now = case.now
    if patient.deceased_at is not None and patient.deceased_at <= now.hi:
        return "subject_deceased"
    if power.revoked_at is not None and power.revoked_at <= now.hi:
        return "revoked"
    if power.end is not None and power.end <= now.hi:
        return "expired"
    if power.start is not None and now.lo < power.start:
        return "not_yet_valid"
    if not power.verified:
        return "unverified"
    return _age_miss(power, patient, case, vocabulary)


def _age_miss(power: Representation, patient: PatientFacts, case: Case, vocabulary: Vocabulary) -> str:
    """
    Tell what age and capacity do to the power.

    A parent's ends at majority; a power of attorney needs its date, and ends with the capacity of who gave it (Civil
    Code 168, 170).
    """
    born, switches = patient.birth_date, vocabulary.switches
    if power.kind == "poa":
        if power.start is None:
            return "undated"
        if patient.incapacitated:
            return "expired"
        minor = born is not None and not _is_of_age(born, case.now, switches)
    elif power.kind == "guardian" and patient.incapacitated:
        return ""
    elif born is None:
        return "age_unknown"
    elif _is_of_age(born, case.now, switches):
        return "majority"
    else:
        minor = True
    return "adolescent_shield" if minor and born is not None and _is_shielded(born, case, vocabulary) else ""


def _is_of_age(born: date, now: Now, switches: Switches) -> bool:
    return birthday(born, switches.rep_access_ends_at, switches.home_utc_offset_hours) <= now.hi


def _is_shielded(born: date, case: Case, vocabulary: Vocabulary) -> bool:
    """
    Tell whether an adolescent's record is kept from the parents.

    A visit that the adolescent consented to alone always is (Code 78(2)); records
    with certain labels, or a word that nobody knows, are where the operator's counsel
    decided so.
    """
    switches = vocabulary.switches
    offset, shield = switches.home_utc_offset_hours, switches.adolescent_shield
    if case.res.self_consented and birthday(born, switches.minor_self_from_age, offset) <= case.now.hi:
        return True
    labels = case.res.labels
    named = labels is None or any(label in shield.labels or label not in vocabulary.labels for label in labels)
    return shield.enabled and named and birthday(born, shield.from_age, offset) <= case.now.hi


@lru_cache(maxsize=65_536)
def birthday(born: date, age: int, home_utc_offset_hours: int) -> Instant:
    """
    Return the local midnight that begins the *age*-th birthday; 29 February becomes 1 March.

    One that no calendar here can write is put into its last year: it does not come.

    Examples:
        >>> from ruqsat.core.instant import render_instant
        >>> render_instant(birthday(date(1808, 2, 29), 18, 5))
        '1826-02-28T19:00:00.000000Z'
        >>> render_instant(birthday(date(1808, 2, 29), 17, 5))
        '1825-02-28T19:00:00.000000Z'
        >>> render_instant(birthday(date(9990, 1, 1), 18, 5))
        '9998-12-31T19:00:00.000000Z'
    """
    year = min(born.year + age, MAXYEAR)
    try:
        day = born.replace(year=year)
    except ValueError:
        day = date(year, 3, 1)
    return parse_instant(f"{day.isoformat()}T00:00:00+00:00") - home_utc_offset_hours * HOUR


@lru_cache(maxsize=65_536)
def birthdays(born: date, one: int, other: int, home_utc_offset_hours: int) -> tuple[Instant, Instant]:
    """Return two birthdays at once, as :func:`birthday` does each."""
    return birthday(born, one, home_utc_offset_hours), birthday(born, other, home_utc_offset_hours)
