"""Who is told of a decision: the patient or who stands for a child, at once, later or not at all, and on which ground."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import msgspec
import pytest

from ruqsat.core import notice as notices
from ruqsat.core.care import held_among, is_held
from ruqsat.core.facts import PatientFacts, RecordStatus, Representation, StatutoryRequest
from ruqsat.core.instant import HOUR, parse_instant
from ruqsat.core.journaled import Journaled, read_line
from ruqsat.core.notice import Notice, is_shielded, notice_key, notices_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import ResourceProperties
from ruqsat.core.vocabulary import AdolescentShield, Switches

Variant = Callable[[Mapping[str, Any]], PolicySet]
"""The pack's rules under other switches."""

AT = "2026-11-24T10:00:00.000000Z"
MOMENT = parse_instant(AT)
SWITCHES = Switches()
MOTHER = Representation("r1", "mother", "parent", verified=True)
FATHER = Representation("r2", "father", "parent", verified=True)


def entry(**said: Any) -> Journaled:
    """Return the entry of an allowed reading by dr_aida, with what is *said* of it."""
    usual = {
        "n": 1, "hash": "00", "kind": "decision", "id": "a-1", "at": AT, "allowed": True, "action": "read",
        "subject": "dr_aida", "org": "h1", "patient": "p1", "basis": "consent", "law": ("R3",),
        "duties": ("notify_subject",), "data_class": "labs",
    }  # fmt: skip
    return msgspec.convert(usual | said, Journaled)


def told(said: Journaled, *patients: PatientFacts, switches: Switches = SWITCHES) -> list[Notice]:
    """Return the notices of an entry."""
    return list(notices_of(said, {each.id: each for each in patients}, switches))


def audiences(found: list[Notice]) -> list[tuple[str, str | None, str | None]]:
    """Return to whom they go, and why one does not."""
    return [(each.audience, each.recipient, each.skipped) for each in found]


def born(year: int, **more: Any) -> PatientFacts:
    """Return a patient born on the day of the entry in *year*, with a mother and a father."""
    return PatientFacts("p1", date(year, 11, 24), representations=(MOTHER, FATHER), **more)


def test_a_use_is_told_to_the_patient_with_who_what_when_and_on_which_ground() -> None:
    """The text has what it needs, and nothing of the record: neither its class nor its id (order §20)."""
    (found,) = told(entry(resource="o1"), PatientFacts("p1", date(1980, 1, 1)))

    assert (found.kind, found.audience, found.patient, found.org, found.due) == ("use", "patient", "p1", "h1", MOMENT)
    assert found.facts == {"at": AT, "action": "read", "by": "dr_aida", "basis": "consent", "law": "R3"}
    assert "labs" not in str(found) and "o1" not in str(found)


@pytest.mark.parametrize(
    ("action", "kind"),
    [("read", "use"), ("search", "use"), ("update", "change"), ("create", "supplement"), ("disclose", "transfer"),
     ("export", "transfer"), ("block", "block"), ("delete", "destroy"), ("consent_manage", "change")],
)  # fmt: skip
def test_use_change_and_supplement_are_told_apart(action: str, kind: str) -> None:
    """The order names them one by one; what the Law adds has kinds of its own."""
    assert [each.kind for each in told(entry(action=action))] == [kind]


@pytest.mark.parametrize("said", [{"allowed": False}, {"kind": "not_sent"}, {"kind": "refusal"}, {"duties": ()}])
def test_nothing_is_told_of_what_was_not_done(said: dict[str, Any]) -> None:
    """A denial, an answer that was never sent, and a duty that is not there tell nobody of a use."""
    assert told(entry(**said)) == []


def test_a_patient_without_a_cabinet_is_a_notice_too() -> None:
    """The answer leaves the duty out, the journal keeps it: whoever delivers records why nobody was told."""
    assert audiences(told(entry(duties=(), untold=("notify_subject",)))) == [("patient", None, None)]


def test_waiting_needs_a_ground_that_lets_it_wait() -> None:
    """On a request of an investigator until the day on record; without such a ground at once, whatever the duty says."""
    until = MOMENT + 90 * 24 * HOUR
    request = StatutoryRequest("q1", "investigation", ("labs",), until, deferred_until=until)
    patient = PatientFacts("p1", date(1980, 1, 1), requests=(request,))
    waits = entry(duties=("notify_subject_deferred",), basis="kz273_4_3", applied=("q1",))

    (found,) = told(waits, patient)
    assert (found.deferred_until, found.due, found.ground) == (until, until, "H273.4.3")
    (found,) = told(msgspec.structs.replace(waits, applied=()), patient)
    assert found.deferred_until == MOMENT + notices.DEFERRED_HOURS * HOUR

    (found,) = told(msgspec.structs.replace(waits, basis="consent"), patient)
    assert (found.deferred_until, found.due, found.ground) == (None, MOMENT, None)


def test_what_is_on_record_in_the_request_waits_whether_or_not_the_caller_says_so() -> None:
    """A court's clerk who forgets the ground tells nobody early; a request without one, or another one's, is told at once."""
    until = MOMENT + 90 * 24 * HOUR
    waiting, plain = (
        StatutoryRequest(name, "investigation", ("labs",), until, deferred_until=deferred)
        for name, deferred in (("q1", until), ("q2", None))
    )
    patient = PatientFacts("p1", date(1980, 1, 1), requests=(waiting, plain))

    for applied, due in (("q1", until), ("q2", MOMENT), ("q3", MOMENT)):
        said = entry(basis="kz273_4_3", applied=(applied,))
        (found,) = told(said, patient)
        assert found.due == notices.told_from(said, patient) == due
        assert found.ground == ("H273.4.3" if due > MOMENT else None)
    ended = msgspec.structs.replace(waiting, deferred_until=MOMENT)
    over = msgspec.structs.replace(patient, requests=(ended,))
    assert told(entry(basis="kz273_4_3", applied=("q1",)), over)[0].deferred_until is None


def test_only_counter_intelligence_is_left_out_and_that_is_recorded() -> None:
    """Code 273(4)(9) without a duty to tell: a notice that says it was suppressed, on which ground; no other basis."""
    (found,) = told(entry(basis="kz273_4_9", duties=("human_approval",)))[1:]
    assert (found.skipped, found.ground, found.audience, found.patient) == ("suppressed", "H273.4.9", "patient", "p1")

    for basis in ("kz273_4_3", "kz273_4_8", "consent", "emergency_default"):
        assert told(entry(basis=basis, duties=())) == []
        assert [each.skipped for each in told(entry(basis=basis))] == [None]


def test_an_adult_is_told_alone_and_a_child_through_the_parents() -> None:
    """From sixteen both, from eighteen the patient alone; on the very birthday the new age counts."""
    both = [("representatives", "father", None), ("representatives", "mother", None)]
    own = [("patient", None, None)]

    assert audiences(told(entry(), born(2008))) == own
    assert audiences(told(entry(), born(2010))) == own + both
    assert audiences(told(entry(), PatientFacts("p1", date(2010, 11, 25), representations=(MOTHER, FATHER)))) == both
    assert audiences(told(entry(), PatientFacts("p1", date(2020, 1, 1)))) == own
    assert audiences(told(entry(), PatientFacts("p1", None, representations=(MOTHER,)))) == own
    assert audiences(told(entry())) == own


def test_parents_learn_nothing_of_what_the_adolescent_consented_to_alone() -> None:
    """Not a word to them, not even that something is kept back; a younger child's parents are told (Code 78(2))."""
    shielded = entry(shielded=True)

    assert audiences(told(shielded, born(2009))) == [("patient", None, None)]
    assert audiences(told(shielded, born(2012))) == [
        ("representatives", "father", None),
        ("representatives", "mother", None),
    ]
    guarded = Switches(adolescent_shield=AdolescentShield(enabled=True, from_age=14))
    assert audiences(told(shielded, born(2012), switches=guarded)) == [("patient", None, None)]


@pytest.mark.parametrize(
    "power",
    [
        Representation("r", "x", "parent", verified=False),
        Representation("r", "x", "poa", verified=True, start=0),
        Representation("r", "x", "parent", verified=True, revoked_at=MOMENT),
        Representation("r", "x", "parent", verified=True, end=MOMENT),
        Representation("r", "x", "parent", verified=True, start=MOMENT + 1),
    ],
)
def test_whose_power_does_not_hold_is_told_nothing(power: Representation) -> None:
    """Unverified, not begun, ended, revoked, or a power of attorney: then the child itself is told."""
    patient = PatientFacts("p1", date(2020, 1, 1), representations=(power,))

    assert audiences(told(entry(), patient)) == [("patient", None, None)]


def test_an_incapacitated_adult_is_told_through_the_guardian() -> None:
    """And, with no guardian on record, in person."""
    guardian = Representation("g", "guardian_1", "guardian", verified=True)
    ward = PatientFacts("p1", date(1980, 1, 1), incapacitated=True, representations=(guardian,))

    assert audiences(told(entry(), ward)) == [("representatives", "guardian_1", None)]
    alone = msgspec.structs.replace(ward, representations=())
    assert audiences(told(entry(), alone)) == [("patient", None, None)]


def test_a_parent_of_an_incapacitated_adult_is_told_nothing_without_being_the_guardian() -> None:
    """A parent's power ends at majority, in notices as in decisions; a guardian of a minor ward hears what is kept, too."""
    guardian = Representation("g", "guardian_1", "guardian", verified=True)
    ward = PatientFacts("p1", date(1980, 1, 1), incapacitated=True, representations=(MOTHER,))
    assert audiences(told(entry(), ward)) == [("patient", None, None)]
    both = msgspec.structs.replace(ward, representations=(MOTHER, guardian))
    assert audiences(told(entry(), both)) == [("representatives", "guardian_1", None)]

    minor = msgspec.structs.replace(both, birth_date=date(2009, 1, 1))
    assert audiences(told(entry(shielded=True), minor)) == [("representatives", "guardian_1", None)]


def test_a_notice_that_waits_goes_to_whom_it_concerns_when_it_is_due() -> None:
    """Of age, heard, or another's ward by then: the parents of the day of the access have no part in it."""
    until = MOMENT + 90 * 24 * HOUR
    request = StatutoryRequest("q1", "investigation", ("labs",), until, deferred_until=until)
    waits = entry(duties=("notify_subject_deferred",), basis="kz273_4_3", applied=("q1",))

    heard = PatientFacts("p1", date(2010, 12, 1), representations=(MOTHER,), requests=(request,))
    assert audiences(told(waits, heard)) == [("patient", None, None), ("representatives", "mother", None)]
    of_age = msgspec.structs.replace(heard, birth_date=date(2008, 12, 1))
    assert audiences(told(waits, of_age)) == [("patient", None, None)]
    ending = Representation("r1", "mother", "parent", verified=True, end=until)
    child = PatientFacts("p1", date(2020, 1, 1), representations=(ending, FATHER), requests=(request,))
    assert audiences(told(waits, child)) == [("representatives", "father", None)]


def test_nobody_is_told_of_the_own_act_and_the_other_parent_is() -> None:
    """A mother who read her child's record is recorded as not told; the father is told."""
    found = told(entry(subject="mother", basis="legal_rep"), born(2020))

    assert audiences(found) == [("representatives", "father", None), ("representatives", "mother", "own_act")]


def test_the_dead_and_the_unnamed_are_recorded_as_not_told() -> None:
    """Never silent: a reason stands where nobody can be told."""
    assert audiences(told(entry(), PatientFacts("p1", date(1950, 1, 1), deceased_at=MOMENT))) == [
        ("patient", None, "deceased")
    ]
    assert audiences(told(entry(patient=None))) == [("patient", None, "nobody_named")]


def test_each_patient_of_a_request_in_parts_is_told() -> None:
    """Whoever is named beside is told as well, each once."""
    found = told(entry(patients_beside=("p2", "p1", "p3")))

    assert [each.patient for each in found] == ["p1", "p2", "p3"]
    assert len({each.key for each in found}) == 3


def test_the_privacy_office_is_told_of_broken_glass_with_the_hour_of_the_review() -> None:
    """An alert and a review with its term; whom it concerns, and nothing clinical."""
    found = told(entry(basis="emergency_override", duties=("alert_privacy_officer", "review:72", "human_approval")))

    assert [(each.kind, each.audience, each.patient) for each in found] == [
        ("alert", "privacy_officer", "p1"), ("review", "privacy_officer", "p1"), ("approval", "privacy_officer", "p1"),
    ]  # fmt: skip
    assert found[1].facts["before"] == "2026-11-27T10:00:00.000000Z"
    assert not any("labs" in str(each) for each in found)


def test_a_sampled_review_takes_part_of_the_accesses_the_same_part_each_time() -> None:
    """About one in ten, settled by the id alone; neither none nor all."""
    drawn = [n for n in range(1000) if told(entry(id=f"a-{n}", duties=("review_sampled",)))]

    assert 50 < len(drawn) < 200
    assert drawn == [n for n in range(1000) if told(entry(id=f"a-{n}", duties=("review_sampled",)))]


def test_a_notice_has_the_same_key_whenever_it_is_made_and_another_has_another() -> None:
    """The key names decision, kind, audience and addressee; it shows none of them."""
    first, again = told(entry(), born(2010)), told(entry(), born(2010))
    keys = {each.key for each in (*first, *told(entry(id="a-2")), *told(entry(action="update")))}

    assert [each.key for each in first] == [each.key for each in again]
    assert len(keys) == 5 and not any("p1" in key or "mother" in key for key in keys)
    assert notice_key("a", "bc") != notice_key("ab", "c")


@pytest.mark.parametrize(
    ("properties", "enabled", "shielded"),
    [
        (ResourceProperties(self_consented=True, labels=()), False, True),
        (ResourceProperties(labels=("PSY",)), False, False),
        (ResourceProperties(labels=("PSY",)), True, True),
        (ResourceProperties(labels=None), True, True),
        (ResourceProperties(labels=()), True, False),
        (ResourceProperties(labels=("XYZ",)), True, True),
        (ResourceProperties(labels=("INFDIS",)), True, False),
        (ResourceProperties(labels=(), parts=({"id": "o2", "labels": ("SEX",)},)), True, True),
        (ResourceProperties(labels=(), parts=({"id": "o2", "self_consented": True},)), False, True),
        (None, True, False),
    ],
)
def test_what_is_kept_from_the_parents_is_known_when_it_is_used(
    variant: Variant, properties: ResourceProperties | None, enabled: bool, shielded: bool
) -> None:
    """A visit consented to alone, a label of the shield or one that nobody knows; in any part."""
    assert (
        is_shielded(properties, "o1", (), variant({"adolescent_shield": {"enabled": enabled}}).vocabulary) is shielded
    )


def test_a_label_that_only_the_store_knows_is_kept_too(variant: Variant) -> None:
    """The caller says none; the record on file has one."""
    known = PatientFacts("p1", records=(RecordStatus("o1", "labs", ("STD",)),))
    words = variant({"adolescent_shield": {"enabled": True}}).vocabulary

    assert is_shielded(ResourceProperties(labels=()), "o1", [known], words)
    assert not is_shielded(ResourceProperties(labels=()), "o2", [known], words)
    bundle = ResourceProperties(labels=(), parts=({"id": "o2"}, {"id": "o1", "labels": []}))
    assert is_shielded(bundle, "all", [PatientFacts("p2"), known], words)
    assert not is_shielded(bundle, "all", [PatientFacts("p2")], words)


def test_a_kind_of_a_label_of_the_shield_is_kept_too(variant: Variant) -> None:
    """Who keeps SUD from the parents, keeps its kind ETHUD; what is of no such kind is not kept."""
    words = variant({"adolescent_shield": {"enabled": True}}).vocabulary

    assert is_shielded(ResourceProperties(labels=("ETHUD",)), "o1", (), words)
    assert not is_shielded(ResourceProperties(labels=("HIV",)), "o1", (), words)


@pytest.mark.parametrize("labels", [5, True, "PSY", [["PSY"]], {"PSY": 1}, None])
def test_labels_of_a_part_in_no_form_are_labels_that_nobody_knows(variant: Variant, labels: Any) -> None:
    """A part may be anything, and its entry is written all the same: kept from the parents, withheld from nobody."""
    words = variant({"adolescent_shield": {"enabled": True}}).vocabulary
    odd = ResourceProperties(labels=(), parts=({"id": ["o2"], "labels": labels},))

    assert is_shielded(odd, "all", (), words) and not is_held(odd, "all", ())


def test_what_is_withheld_in_a_part_is_withheld() -> None:
    """By the label that the part states, or that its record has on file."""
    known = PatientFacts("p1", records=(RecordStatus("o1", "labs", ("TBOO",)),))
    parts = ResourceProperties(labels=(), parts=({"id": "o2", "labels": []}, {"id": "o1", "labels": []}))

    assert is_held(parts, "all", [known]) and not is_held(parts, "all", ())
    assert is_held(ResourceProperties(labels=(), parts=({"id": "o2", "labels": ["TBOO"]},)), "all", ())


def test_what_is_withheld_is_named_by_its_own_id() -> None:
    """So that one sees when it ends; of what has no id, or is another patient's, one never does."""
    known = PatientFacts("p1", records=(RecordStatus("o1", "labs", ("TBOO",)), RecordStatus("all", "labs", ())))
    beside = PatientFacts("p2", records=(RecordStatus("o9", "labs", ("TBOO",)),))
    parts: tuple[dict[str, Any], ...] = (
        {"id": "o1"}, {"id": "o2"}, {"id": "o3", "labels": ["TBOO"], "patient": "p1"}, {"labels": ["TBOO"]},
        {"id": 5, "labels": ["TBOO"]}, {"id": "o9", "patient": "p2"}, {"id": ["o1"], "labels": 7},
    )  # fmt: skip
    bundle = ResourceProperties("p1", labels=(), parts=parts)

    assert held_among(bundle, "all", [known, beside]) == ("o1", "o3", "")
    assert held_among(bundle, "o1", [known])[0] == "o1"
    assert held_among(ResourceProperties("p1", labels=("TBOO",), parts=({"id": "o2"},)), "all", []) == ("all",)
    assert held_among(ResourceProperties("p1", parts=({"id": "o9", "patient": "p2"},)), "all", [beside]) == ("",)
    assert held_among(ResourceProperties("p1", parts=({"id": "o2"},)), "all", [known, beside]) == ()


def test_a_line_with_its_personal_parts_beside_reads_as_one() -> None:
    """Whichever way names stand in the line; an erased part names nobody, and a torn line is none."""
    line = (
        b'{"hash":"aa","prev":"bb","n":4,"kind":"decision","allowed":true,"sealed":["cc"],"personal":['
        b'{"salt":"0","subject":"s"},{"salt":"0","patient":"p1"},{"salt":"0","patients_beside":["p2"]}]}\n'
    )
    read = read_line(line)
    assert read is not None and (read.subject, read.patients, read.number) == ("s", ("p1", "p2"), 4)

    gone = read_line(b'{"hash":"aa","prev":"bb","n":4,"kind":"decision","personal":[{"erased":"----"}]}\n')
    assert gone is not None and gone.patients == ()
    assert read_line(line[:-1]) is None and read_line(line[:40] + b"\n") is None and read_line(b"[]\n") is None


@pytest.mark.parametrize(
    "mistake",
    [
        {"SUPPRESSIBLE": frozenset({"kz273_4_9", "consent"})},
        {"DEFERRABLE": frozenset({"kz273_4_3", "consent"})},
        {"_representatives": lambda facts, *_, is_kept: [each.subject for each in facts.representations]},
        {"_audiences": lambda facts, *_, shielded: (True, [each.subject for each in facts.representations])},
    ],
)
def test_a_mistake_in_who_is_told_is_seen(mistake: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Suppressing or deferring without a ground, telling a parent whose power ended or who must not know."""
    for name, value in mistake.items():
        monkeypatch.setattr(notices, name, value)
    with pytest.raises(AssertionError):
        test_only_counter_intelligence_is_left_out_and_that_is_recorded()
        test_waiting_needs_a_ground_that_lets_it_wait()
        test_parents_learn_nothing_of_what_the_adolescent_consented_to_alone()
        test_whose_power_does_not_hold_is_told_nothing(Representation("r", "x", "parent", verified=False))
