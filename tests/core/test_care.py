"""Reports of care as functions of values: what is over stays over, what is another's stays untouched."""

import itertools

import pytest
from msgspec.structs import replace

from ruqsat.core import care
from ruqsat.core.block import MOVES, block_id, moved, seen
from ruqsat.core.care import CareRefusedError
from ruqsat.core.directory import as_employer, people_of
from ruqsat.core.facts import Episode, Organisation, PatientFacts, RecordStatus, Relationship, SubjectFacts
from ruqsat.core.request import ResourceProperties

NOW = 1_000
NOBODY = PatientFacts("p1")
OPEN = Episode("e1", "h1", "emergency", 10)


def after(*reports: Episode, now: int = NOW) -> tuple[Episode, ...]:
    """Return the episodes after these reports."""
    facts = NOBODY
    for report in reports:
        facts = care.with_episode(facts, report, now)
    return facts.episodes


def test_in_whatever_order_reports_arrive_the_earliest_end_stands() -> None:
    """An end in the past is never undone, and one in the future only comes earlier."""
    reports = [OPEN, replace(OPEN, end=500), replace(OPEN, end=2_000), OPEN]
    for order in itertools.permutations(reports):
        (kept,) = after(*order)
        assert kept.end == 500, order


def test_what_is_over_changes_in_nothing() -> None:
    """A planned stay that is over becomes no emergency."""
    over = replace(OPEN, form_of_care="planned", end=500)
    assert after(over, OPEN) == (over,)
    assert after(replace(over, end=2_000), OPEN) == (replace(OPEN, end=2_000),)


def test_another_organisations_episode_of_the_same_id_is_another() -> None:
    """Neither reports nor closes reach it."""
    other = replace(OPEN, org="h2")
    facts = care.with_episode(care.with_episode(NOBODY, OPEN, NOW), other, NOW)
    facts = care.without_episode(facts, "h2", "e1", NOW)
    assert facts.episodes == (OPEN, replace(other, end=NOW))
    with pytest.raises(CareRefusedError, match="nothing of this organisation"):
        care.without_episode(facts, "h3", "e1", NOW)


def test_a_tie_that_nobody_reported_is_not_touched() -> None:
    """Ties without an id come from elsewhere and stay."""
    old = Relationship("attachment", None, "h1")
    facts = care.with_relationship(replace(NOBODY, relationships=(old,)), replace(old, id="t1"), NOW)
    assert facts.relationships == (old, replace(old, id="t1"))
    assert care.without_relationship(facts, "h1", "t1", 7).relationships == (old, replace(old, id="t1", end=7))


def test_there_is_a_most_that_a_patient_may_have() -> None:
    """There is a most of episodes, since every decision reads them all; one that ends before it begins is refused as well."""
    many = tuple(replace(OPEN, id=str(n)) for n in range(care.MOST_KEPT))
    with pytest.raises(CareRefusedError, match="at most"):
        care.with_episode(replace(NOBODY, episodes=many), OPEN, NOW)
    with pytest.raises(CareRefusedError, match="ends before"):
        care.with_episode(NOBODY, replace(OPEN, end=9), NOW)


def test_a_record_stays_its_organisations_and_blocked() -> None:
    """Of nobody's record, and of another's, nothing is changed; what was destroyed is not described anew."""
    mine = RecordStatus("r1", "labs", ("HIV",), org="h1", blocked=True)
    facts = replace(NOBODY, records=(mine,))
    assert care.with_record(facts, RecordStatus("r1", "labs", (), org="h1")).records == (
        replace(mine, labels=()),
    )  # fmt: skip
    for known, new in [(mine, "h2"), (replace(mine, org=None), "h1"), (replace(mine, destroyed=True), "h1")]:
        with pytest.raises(CareRefusedError):
            care.with_record(replace(NOBODY, records=(known,)), RecordStatus("r1", "labs", (), org=new))


def test_a_block_waits_for_no_room_and_its_record_is_described_later() -> None:
    """However many records are known; whose system describes it then keeps it, and the block stays."""
    many = tuple(RecordStatus(f"r{n}", "labs", (), org="h1") for n in range(care.MOST_KEPT))
    facts = replace(NOBODY, records=many)
    with pytest.raises(CareRefusedError, match="at most"):
        care.with_record(facts, RecordStatus("more", "labs", (), org="h1"))
    blocked = seen(facts, "more", "labs", "blocked")
    assert blocked.records_by_id["more"][0].blocked
    assert all(each.blocked for each in seen(facts, "r1", "labs", "blocked").records_by_id["r1"])

    described = care.with_record(blocked, RecordStatus("more", "documents", ("PSY",), org="h2"))
    assert described.records_by_id["more"] == (RecordStatus("more", "documents", ("PSY",), blocked=True, org="h2"),)
    with pytest.raises(CareRefusedError):
        care.with_record(described, RecordStatus("more", "documents", (), org="h1"))


def test_what_was_destroyed_is_neither_lifted_nor_blocked() -> None:
    """Each event from each status: those that the table names, and no other."""
    for event, status in itertools.product(MOVES, ("", "blocked", "lifted", "destroyed")):
        row = None
        if status:
            row = replace(moved(None, NOBODY, "r1", "block", {}, "dpo", 1), status=status)
        if status in MOVES[event]:
            after_ = moved(row, NOBODY, "r1", event, {"ground": "g"}, "dpo", 2)
            (facts,) = seen(NOBODY, "r1", "labs", after_.status).records_by_id["r1"]
            assert (facts.blocked, facts.destroyed) == (after_.status == "blocked", after_.status == "destroyed")
            assert after_.id == block_id("p1", "r1")
        else:
            with pytest.raises(CareRefusedError):
                moved(row, NOBODY, "r1", event, {}, "dpo", 2)
    assert "destroyed" not in {**MOVES["block"], **MOVES["lift"]}


def test_a_destruction_that_was_only_imported_is_not_undone_by_a_block() -> None:
    """Of it there is no row; blocked and lifted, the record is destroyed all the same."""
    facts = replace(NOBODY, records=(RecordStatus("r1", "labs", destroyed=True),))
    for status in ("blocked", "lifted"):
        assert seen(facts, "r1", "labs", status).records_by_id["r1"][0].destroyed


def test_records_of_two_types_with_one_id_are_two() -> None:
    """Each is described by itself, and keeps its labels; a block, which names no type, holds for all, and leaves nothing behind."""
    lab, illness = (
        RecordStatus("1", "labs", (), org="h1", type="Observation"),
        RecordStatus("1", "conditions", ("HIV",), org="h2", type="Condition"),
    )
    facts = care.with_record(care.with_record(NOBODY, lab), illness)
    assert set(facts.records) == {lab, illness}
    assert facts.class_of_record("1") is None
    assert care.with_record(NOBODY, lab).class_of_record("1") == lab.data_class

    blocked = seen(facts, "1", "labs", "blocked")
    assert [each.blocked for each in blocked.records_by_id["1"]] == [True] * 3
    assert {each.type for each in blocked.records_by_id["1"]} == {"Observation", "Condition", None}
    assert set(seen(blocked, "1", "labs", "lifted").records) == {lab, illness}
    destroyed = seen(facts, "1", "labs", "destroyed")
    with pytest.raises(CareRefusedError, match="destroyed"):
        care.with_record(destroyed, replace(lab, type="Specimen"))
    held = replace(NOBODY, records=(replace(illness, labels=("TBOO",)), lab))
    assert care.is_held(ResourceProperties("p1", "labs"), "1", [held])


def test_people_take_from_their_employer_what_it_is_while_it_is_active() -> None:
    """Nothing of one that is not active; others' people nothing."""
    hospital = SubjectFacts("h1", roles=(), organisation=Organisation("provider_medical"))
    mine, other = SubjectFacts("a", org="h1"), SubjectFacts("b", org="h2")
    (told,) = people_of(hospital, [hospital, mine, other])
    assert (told.id, told.organisation) == ("a", hospital.organisation)
    assert people_of(hospital, [told]) == []
    assert as_employer(replace(hospital, active=False)) is None and as_employer(mine) is None
    assert people_of(replace(hospital, active=False), [told]) == [mine]
