"""The life of a break-glass session as values: what refuses an opening, what flags it, when a review is late (order §4)."""

from typing import Any

import pytest
from msgspec.structs import replace

from ruqsat.core.break_glass import (
    SESSIONS_KNOWN,
    Found,
    Opening,
    Rates,
    anomaly_of,
    overdue,
    refusal,
    settled,
    ward_of,
    with_opening,
    with_right,
    works_for,
)
from ruqsat.core.case import SubjectView
from ruqsat.core.emergency import opened_today
from ruqsat.core.facts import Episode, PatientFacts, SubjectFacts
from ruqsat.core.instant import DAY, HOUR, local_midnight, parse_instant
from ruqsat.core.request import Action, EvaluationRequest, Resource, Subject, SubjectProperties
from ruqsat.core.session_notice import About, of_opening, to_office
from ruqsat.core.vocabulary import Switches

SWITCHES = Switches()
NOW = parse_instant("2026-11-24T10:00:00+05:00")
MIDNIGHT = parse_instant("2026-11-24T00:00:00+05:00")
ED = SubjectFacts("ed", roles=("emergency_clinician",), org="h1")
MATE = SubjectFacts("mate", roles=("nurse",), org="h1")
EPISODE = Episode("e", "h1", "emergency", NOW - HOUR)
BED = PatientFacts("p", episodes=(EPISODE,))
OPENING = Opening("s", "ed", "p", "h1", "h1", NOW, NOW + 72 * HOUR)


def why(now: int = NOW, second: str | None = None, switches: Switches = SWITCHES, **found: Any) -> str:
    """Return why a session is not opened."""
    confirmed = None if second is None else (second, "h1")
    return refusal(Found(**{"facts": BED, "subject": ED} | found), "h1", confirmed, now, switches)


def rates(**positions: int) -> Switches:
    """Return the switches with those of the registry in these positions."""
    return replace(SWITCHES, btg=replace(SWITCHES.btg, rates=replace(SWITCHES.btg.rates, **positions)))


def test_a_session_opens_when_nothing_forbids_it() -> None:
    """An episode of the own organisation, the right, and few enough sessions."""
    assert why() == ""


@pytest.mark.parametrize("episode", [
    replace(EPISODE, org="h2"), replace(EPISODE, form_of_care="planned"), replace(EPISODE, end=NOW),
    replace(EPISODE, start=NOW + 1), None,
])  # fmt: skip
def test_without_an_emergency_at_the_own_organisation_nothing_opens(episode: Episode | None) -> None:
    """Another's, a planned one, one that has just ended, one that begins in a microsecond, none."""
    facts = PatientFacts("p", episodes=() if episode is None else (episode,))
    assert why(facts=facts) == "no_episode"
    assert why(facts=facts, switches=replace(SWITCHES, btg=replace(SWITCHES.btg, require_episode=False))) == ""


def test_an_episode_opens_and_ends_to_the_microsecond() -> None:
    """From its beginning on; a microsecond before its end, not at it."""
    facts = PatientFacts("p", episodes=(replace(EPISODE, start=NOW, end=NOW + HOUR),))
    assert [why(moment, facts=facts) for moment in (NOW - 1, NOW, NOW + HOUR - 1, NOW + HOUR)] == [
        "no_episode", "", "", "no_episode",
    ]  # fmt: skip


@pytest.mark.parametrize("subject", [None, replace(ED, active=False), replace(ED, btg_suspended=True)])
def test_who_has_no_right_opens_nothing(subject: SubjectFacts | None) -> None:
    """Nobody on record, who left, whose right is suspended."""
    assert why(subject=subject) == "suspended"


def test_the_eleventh_session_of_a_day_is_refused_until_local_midnight() -> None:
    """Ten are on record; the eleventh opens at midnight, and not a microsecond before."""
    assert [why(rates=Rates(clinician=count)) for count in (9, 10, 11)] == ["", "rate_limited", "rate_limited"]
    busy = replace(ED, btg_opened=tuple(range(MIDNIGHT, MIDNIGHT + 10)))
    facts = PatientFacts("p", episodes=(replace(EPISODE, start=MIDNIGHT),))
    moments = (MIDNIGHT + DAY - 1, MIDNIGHT + DAY)
    assert [why(moment, subject=busy, facts=facts) for moment in moments] == ["rate_limited", ""]
    assert why(subject=replace(ED, btg_today=10)) == "rate_limited"


def test_what_a_clinician_opened_is_counted_by_local_days() -> None:
    """A session of the microsecond before midnight is yesterday's; one of midnight itself is today's."""
    assert opened_today((MIDNIGHT - 1,), 0, NOW, SWITCHES) == 0
    assert opened_today((MIDNIGHT - 1, MIDNIGHT), 0, NOW, SWITCHES) == 1
    assert opened_today((), 7, NOW, SWITCHES) == 7
    assert local_midnight(MIDNIGHT, 5) == MIDNIGHT and local_midnight(MIDNIGHT - 1, 5) == MIDNIGHT - DAY


HARD = {"limit_ward": "ward", "limit_patient": "patient"}
SOFT = {"flag_clinician": "clinician", "flag_ward": "ward", "flag_patient": "patient"}


@pytest.mark.parametrize(("switch", "rate"), HARD.items())
def test_above_a_hard_rate_nothing_opens(switch: str, rate: str) -> None:
    """At each of two positions of the switch, on both sides of it."""
    for bound in (getattr(SWITCHES.btg.rates, switch), 7):
        switches = rates(**{switch: bound})
        answers = [why(rates=Rates(**{rate: count}), switches=switches) for count in (bound - 1, bound)]
        assert answers == ["", "rate_limited"]


@pytest.mark.parametrize(("switch", "rate"), SOFT.items())
def test_above_a_soft_rate_a_session_is_flagged_and_opens(switch: str, rate: str) -> None:
    """At each of two positions of the switch, on both sides of it."""
    for bound in (getattr(SWITCHES.btg.rates, switch), 9):
        switches = rates(**{switch: bound})
        below, above = (Rates(**{rate: count}) for count in (bound - 1, bound))
        assert (anomaly_of(below, switches), anomaly_of(above, switches)) == ((), (rate,))
        assert why(rates=above, switches=switches) == ""


def test_a_third_session_for_one_patient_needs_a_second_person() -> None:
    """A colleague of the organisation with the right, and nobody else; the switch says from which one on."""
    third = {"rates": Rates(pair=2)}
    assert why(rates=Rates(pair=1)) == ""
    assert why(**third) == "second_person"
    assert why(**third, second="mate", beside=MATE) == ""
    assert why(**third, switches=rates(alone=3)) == ""
    assert why(rates=Rates(pair=1), switches=rates(alone=1)) == "second_person"
    for second, beside in (
        ("ed", ED), ("mate", None), (None, MATE), ("mate", replace(MATE, org="h2")), ("mate", replace(MATE, active=False)),
        ("mate", replace(MATE, btg_suspended=True)), ("other", MATE),
    ):  # fmt: skip
        assert why(**third, second=second, beside=beside) == "second_person", (second, beside)


def test_every_switch_of_the_registry_has_a_test_on_both_sides() -> None:
    """Those above, and the number of late reviews, which the tests of the registry hold."""
    tested = {*HARD, *SOFT, "alone", "overdue_suspends"}
    assert set(SWITCHES.btg.rates.__struct_fields__) == tested


def test_a_ward_is_a_group_of_the_directory_or_the_organisation() -> None:
    """The ward is the first group so named; without one it is the organisation."""
    assert ward_of(replace(ED, groups=("night", "ward:icu", "ward:ed")), "h1") == "ward:icu"
    assert (ward_of(ED, "h1"), ward_of(None, "h1")) == ("h1", "h1")


@pytest.mark.parametrize("known", ["h1", None])
@pytest.mark.parametrize("claimed", ["h1", "h2", None])
def test_somebody_works_for_whom_decisions_take_it(known: str | None, claimed: str | None) -> None:
    """What opens, queues and judges sessions knows no other organisation of a person than decisions do; of a stranger none."""
    person = replace(ED, org=known)
    said = SubjectProperties(roles=ED.roles, org=claimed)
    request = EvaluationRequest(Subject("user", "ed", said), Action("read"), Resource("Record", "o1"))
    assert works_for(person, claimed) == SubjectView.of(request, person).org
    assert works_for(None, claimed) is None


def test_an_opening_is_counted_and_what_is_past_is_forgotten() -> None:
    """Yesterday's are no longer counted; of the sessions known by id the oldest goes."""
    before = replace(ED, btg_opened=(MIDNIGHT - 1, MIDNIGHT), sessions=tuple(f"s{n}" for n in range(SESSIONS_KNOWN)))
    after = with_opening(before, "new", NOW, SWITCHES)
    assert after.btg_opened == (MIDNIGHT, NOW)
    assert len(after.sessions) == SESSIONS_KNOWN and after.sessions[-1] == "new" and "s0" not in after.sessions


def test_a_review_is_late_at_its_due_moment_and_found_so_once() -> None:
    """Not a microsecond before; not again; and not what is settled."""
    assert overdue(OPENING, OPENING.due - 1) is None
    late = overdue(OPENING, OPENING.due)
    assert late is not None and late.overdue_at == OPENING.due
    assert overdue(late, OPENING.due + HOUR) is None
    assert overdue(settled(OPENING, "justified", NOW), OPENING.due) is None
    assert settled(OPENING, "unclear", NOW) is None and settled(None, "misuse", NOW) is None


def test_a_right_changes_only_where_it_is_another() -> None:
    """A right that stands as it should is no change, so that nothing is told twice."""
    suspended = with_right(ED, suspended=True)
    assert suspended is not None and suspended.btg_suspended
    assert with_right(suspended, suspended=True) is None and with_right(ED, suspended=False) is None
    assert with_right(None, suspended=True) is None
    assert with_right(suspended, suspended=False) == ED


def test_notices_have_keys_of_their_own_and_hold_nothing_clinical() -> None:
    """The office and the patient, by different keys, the same each time; no reason among the facts."""
    about = About("s", "ed", "p", "h1")
    alert, notice = of_opening(about, "d-1", ("patient",), NOW)
    assert (alert.audience, alert.kind, notice.audience, notice.patient) == ("privacy_officer", "alert", "patient", "p")
    assert alert.facts["anomaly"] == "patient" and "anomaly" not in notice.facts
    assert of_opening(about, "d-1", ("patient",), NOW + 1)[0].key == alert.key != notice.key
    assert set(alert.facts) | set(notice.facts) <= {"at", "action", "by", "session", "event", "anomaly"}
    late = to_office(about, "review_overdue", NOW)
    assert late.key == to_office(about, "review_overdue", NOW + 1).key != to_office(about, "suspended", NOW).key
    assert to_office(about, "lifted", NOW).key != to_office(about, "lifted", NOW + 1).key
