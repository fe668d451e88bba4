"""At which moments of an uncertain present a decision is made."""

from datetime import date
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ruqsat.core.boundaries import moments, next_turn, stands_still
from ruqsat.core.facts import Consent, EmergencyGrant, Facts, PatientFacts, Position, Provision
from ruqsat.core.instant import HOUR, Now, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from ruqsat.core.vocabulary import BreakGlass, Switches

START = parse_instant("2026-11-24T00:00:00+05:00")
DAY = 24 * HOUR


def asked(now: Now, patient: PatientFacts, switches: Switches | None = None) -> list[int]:
    """Return the moments, counted from the start."""
    facts = Facts(None, patient, Position("test", 0))
    return [moment - START for moment in moments(facts, now, switches or Switches())]


def test_the_ends_and_each_boundary_and_the_moment_before_it() -> None:
    """Inside alone: what lies on an end or outside adds nothing."""
    ends = (START, START + 1, START + 50, START + 97, START + 100, START + 200)
    roots = (Provision("permit", start=ends[0], end=ends[2]), Provision("deny", start=ends[1], end=ends[3]))
    consents = tuple(Consent(str(n), "t", "active", ends[4], root, revoked_at=ends[5]) for n, root in enumerate(roots))
    patient = PatientFacts("p1", egov=True, consents=consents)

    assert asked(Now(START, START + 100), patient) == [0, 1, 49, 50, 96, 97, 100]
    assert asked(Now(START, START), patient) == [0]


def test_a_session_ends_at_the_operators_limit_too() -> None:
    """A session whose own end lies later still ends at the operator's limit."""
    session = EmergencyGrant("b1", "s1", START - 4 * HOUR, START + DAY, "unconscious", 40)

    assert asked(Now(START - 5, START + 5), PatientFacts("p1", grants=(session,))) == [-5, -1, 0, 5]


@pytest.mark.parametrize("year", [2008, 2010])
def test_a_birthday_is_a_boundary(year: int) -> None:
    """Majority, and the age of a consent of one's own, begin at local midnight."""
    assert asked(Now(START - 5, START + 5), PatientFacts("p1", birth_date=date(year, 11, 24))) == [-5, -1, 0, 5]
    assert asked(Now(START - 5, START + 5), PatientFacts("p1", birth_date=date(year + 1, 11, 24))) == [-5, 5]


def test_the_end_of_a_parents_grace_is_a_boundary() -> None:
    """Twenty days after majority, where counsel grants twenty."""
    patient, now = PatientFacts("p1", birth_date=date(2008, 11, 4)), Now(START - 5, START + 5)

    assert asked(now, patient, Switches(rep_consent_grace_days=20)) == [-5, -1, 0, 5]
    assert asked(now, patient) == [-5, 5]


def numbers(value: Any) -> set[int]:
    """Return every whole number in plain data."""
    if isinstance(value, dict | list | tuple):
        return set().union(*map(numbers, value.values() if isinstance(value, dict) else value))
    return {value} if isinstance(value, int) and not isinstance(value, bool) else set()


def test_every_number_of_the_facts_is_a_boundary(policy_set: PolicySet) -> None:
    """Whatever the field: none is forgotten, in facts of every kind."""
    patients = [facts.patient for _, facts, _ in islice(situations(policy_set, 7), 300) if facts.patient is not None]
    met = {
        field
        for each in patients
        for field in each.__struct_fields__
        if numbers(msgspec.to_builtins(getattr(each, field)))
    }
    assert met >= {"deceased_at", "consents", "delegations", "representations", "grants", "episodes", "requests"}

    for each in patients:
        for number in numbers(msgspec.to_builtins(each)):
            assert next_turn(each, number - 1, policy_set.vocabulary.switches) == number


SOME = st.integers(0, 40)


@example([5], [(5, 1), (4, 3)])
@given(st.lists(SOME, max_size=6), st.lists(st.tuples(SOME, st.integers(0, 6)), max_size=12))
def test_what_was_asked_before_changes_nothing(ends: list[int], asked_at: list[tuple[int, int]]) -> None:
    """The moments are the ends, the boundaries inside and the moments before them, whatever was asked before."""
    consents = tuple(Consent(str(n), "t", "active", 0, Provision("permit", end=START + t)) for n, t in enumerate(ends))
    patient, switches = PatientFacts("p1", consents=consents), Switches()

    for lo, for_long in asked_at:
        hi = lo + for_long
        inside = {t for t in ends if lo < t < hi}
        assert asked(Now(START + lo, START + hi), patient, switches) == sorted(
            {lo, hi} | inside | {t - 1 for t in inside}
        )


def test_other_switches_and_other_facts_have_their_own_boundaries() -> None:
    """What was found under one position of the switches, or for the facts before a change, is not used for another."""
    patient, now, usual = PatientFacts("p1", birth_date=date(2008, 11, 4)), Now(START - 5, START + 5), Switches()

    assert asked(now, patient, usual) == [-5, 5]
    assert asked(now, patient, Switches(rep_consent_grace_days=20)) == [-5, -1, 0, 5]
    assert asked(now, msgspec.structs.replace(patient, deceased_at=START + 1), usual) == [-5, 0, 1, 5]


def test_boundaries_that_are_kept_answer_for_every_moment_and_position_of_switches() -> None:
    """A later question first, an earlier one next, other switches between: what was kept misleads nobody."""
    session = EmergencyGrant("b1", "s1", START - 4 * HOUR, START + DAY, "unconscious", 40)
    kept, usual, longer = PatientFacts("p1", grants=(session,)), Switches(), Switches(btg=BreakGlass(max_hours=6))
    nows = [Now(START + n - 5, START + n + 5) for n in (DAY, 2 * HOUR, 0, DAY, -4 * HOUR, 0, 2 * HOUR)]

    for switches in (usual, longer, usual):
        for now in nows:
            assert asked(now, kept, switches) == asked(now, PatientFacts("p1", grants=(session,)), switches)
    assert len(asked(nows[2], kept, usual)) == 4 and len(asked(nows[1], kept, longer)) == 4


def test_what_stands_still_has_no_turn_no_midnight_and_nobody_beside_in_it() -> None:
    """A boundary at the last moment is one; so is local midnight, of which no fact tells."""
    noon, nobody = START + 12 * HOUR, PatientFacts("p1")
    turning = PatientFacts("p1", grants=(EmergencyGrant("b1", "s1", noon, noon + HOUR, "unconscious", 40),))

    def still(patient: PatientFacts, lo: int, hi: int, *others: PatientFacts) -> bool:
        facts = Facts(None, patient, Position("e", 1), others=others)
        return stands_still(facts, Now(lo, hi), Switches())

    assert still(turning, noon - 2, noon - 1) and still(turning, noon, noon + 5)
    assert not still(turning, noon - 2, noon)
    assert still(nobody, START - 2, START - 1) and not still(nobody, START - 2, START)
    assert not still(nobody, noon, noon + 5, PatientFacts("p2"))
