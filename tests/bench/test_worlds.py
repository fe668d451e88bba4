"""The worlds that are measured in are always the same, may be served, and know the right answers."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from bench.asking import Asking, in_batches
from bench.shared_world import SharedWorld, plainly
from bench.world import Written
from bench.worlds import ClinicWorld, withdrawn

from ruqsat.core.admission import build_pack
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.facts_lines import parse_line, render_line, words_of
from ruqsat.core.request import EvaluationRequest
from tests.conformance import reference

SEED = 20210623
CLINIC = ClinicWorld(SEED, hospitals=3, patients=500)
SHARED = SharedWorld(SEED, departments=4)


@pytest.mark.parametrize("world", [CLINIC, SHARED], ids=["clinic", "shared"])
def test_a_pack_of_a_world_has_33_rules_a_hospital_and_five_more_and_may_be_served(world: Written) -> None:
    """Without a finding that refuses it; a rule fewer or more would be another measurement."""
    pack, findings = build_pack(world.texts)
    assert pack is not None, findings
    generated = [rule for rule in pack.policy_set.rules if rule.id.startswith(("hospitals", "shared"))]
    assert len(generated) == 33 * (3 if world is CLINIC else 4) + 5


def test_the_same_seed_makes_the_same_world_and_another_seed_another(tmp_path: Path) -> None:
    """Questions, people and withdrawals, to the byte."""
    same, other = ClinicWorld(SEED, hospitals=3, patients=500), ClinicWorld(SEED + 1, hospitals=3, patients=500)
    written = []
    for number, world in enumerate((CLINIC, same, other)):
        path = tmp_path / str(number)
        world.write_facts(path)
        asked = b"\n".join(question.body for question in world.questions(200))
        written.append((path.read_bytes(), asked, list(world.withdrawals(1, 60))))
    assert written[0] == written[1]
    assert all(one != another for one, another in zip(written[0], written[2], strict=True))


def test_everybody_in_a_world_may_be_imported() -> None:
    """As the strict reading of files of facts reads them."""
    words, kinds = words_of(CLINIC.policy_set.vocabulary), Counter[type]()
    for each in CLINIC.people():
        assert parse_line(render_line(each), words) == each
        kinds[type(each)] += 1
    assert kinds[PatientFacts] == 500 and kinds[SubjectFacts] > 5 * 17


def test_the_reference_decider_answers_every_question_of_a_clinic_as_the_product_does() -> None:
    """Decision, reason and duties; both allowed and denied in every kind that has both, and the shares as stated."""
    met = Counter[tuple[str, bool]]()
    for question in CLINIC.questions(2_000):
        decision, request = CLINIC.right(question), msgspec.json.decode(question.body, type=EvaluationRequest)
        allowed, reason, _, duties = reference.decide(request, CLINIC.facts_of(question), CLINIC.moment)
        assert (decision.allowed, decision.reason, frozenset(decision.duties)) == (allowed, reason, duties), question
        met[question.kind, decision.allowed] += 1
    print(f"seed {SEED}: {dict(met)}")
    kinds = {kind for kind, _ in met}
    assert kinds == {"read", "write", "foreign", "office", "own", "emergency", "break_glass", "delegation"}
    assert all(met[kind, True] and met[kind, False] for kind in kinds - {"own"})
    of = Counter(kind for kind, allowed in met.elements())
    assert 60 <= of["emergency"] + of["break_glass"] <= 140 and 8 <= of["delegation"] <= 40


def test_batches_ask_what_single_calls_ask() -> None:
    """The same questions in their turn, each as often as any other, with the same right answers."""
    calls = Asking(CLINIC).calls("steady_reads", 6)

    batches = in_batches(calls, 4)

    asked = [msgspec.json.encode(each) for call in batches for each in msgspec.json.decode(call.body)["evaluations"]]
    assert asked == [call.body for call in calls] * 2
    assert [right for call in batches for right in call.right] == [call.right for call in calls] * 2


def test_a_fifth_of_the_patients_get_four_fifths_of_the_questions() -> None:
    """As Pareto's law has it; a uniform draw would flatter every cache."""
    asked = Counter(question.patient for question in CLINIC.questions(10_000))
    share = sum(count for _, count in asked.most_common(100)) / asked.total()
    assert 0.7 < share < 0.9


def test_a_withdrawn_consent_turns_answers_and_never_to_a_permit() -> None:
    """What the benches expect after a withdrawal is what the product decides on the changed facts."""
    turned = 0
    for each in list(CLINIC.withdrawals(1, 200)):
        for question in (q for q in CLINIC.questions(2_000) if q.patient == each.patient):
            request = msgspec.json.decode(question.body, type=EvaluationRequest)
            before = CLINIC.right(question).allowed
            after = CLINIC.decide(request, withdrawn(CLINIC.facts_of(question), each.consent, CLINIC.moment)).allowed
            assert before or not after
            turned += before and not after
        if turned > 20:
            break
    assert turned > 20


def test_a_shared_world_is_decided_by_ten_lines_of_python_as_by_the_product() -> None:
    """So that another engine can be told the same rules and asked the same questions."""
    met = Counter[bool]()
    for question in SHARED.questions(2_000):
        allowed = SHARED.right(question).allowed
        assert plainly(SHARED.table, SHARED.attributes(question)) is allowed, question
        met[allowed] += 1
    assert min(met.values()) > 200
