"""What is recalled is what would be decided anew, and nothing is recalled that somebody or something has changed."""

from collections.abc import Iterator
from itertools import pairwise
from sys import getrefcount
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.boundaries import next_turn
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, SubjectFacts
from ruqsat.core.instant import HOUR, Now, at, local_midnight
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest, RequestContext
from ruqsat.service import recall
from ruqsat.service.lately import LASTS
from ruqsat.service.recall import Recall
from tests.core.strategies import NOW, Maker

ALL = frozenset({"redact", "deidentify", "pseudonymize", "require_eds", "suppress_total"})
MIDNIGHT = local_midnight(NOW, 5)
MOMENTS = st.sampled_from(
    (NOW - HOUR - 1, NOW - HOUR, NOW - 2, NOW - 1, NOW, NOW + 1, NOW + 2, NOW + 9, NOW + LASTS - 1, NOW + LASTS, NOW + HOUR, MIDNIGHT - 1,
     MIDNIGHT)
)  # fmt: skip
"""The situations have documents that begin and end at most of these."""

Asked = tuple[EvaluationRequest, Facts]


@pytest.fixture
def anew(monkeypatch: pytest.MonkeyPatch) -> list[EvaluationRequest]:
    """What was decided anew."""
    seen: list[EvaluationRequest] = []

    def decide(policy_set: PolicySet, request: EvaluationRequest, *rest: Any) -> Any:
        seen.append(request)
        return evaluate(policy_set, request, *rest)

    monkeypatch.setattr(recall, "evaluate", decide)
    return seen


@pytest.fixture
def asked(policy_set: PolicySet) -> Asked:
    """A permit that stands still for longer than anything is recalled."""
    return next(_permits(policy_set))


def _permits(policy_set: PolicySet) -> Iterator[Asked]:
    for seed in range(5000):
        request, facts, _ = Maker(seed).situation()
        until = next_turn(facts.patient, NOW, policy_set.vocabulary.switches)
        is_plain = request.resource.properties is not None and request.resource.properties.parts is None
        stands = is_plain and facts.consents_known and not facts.others and until > NOW + 2 * LASTS
        if stands and facts.patient is not None and evaluate(policy_set, request, facts, at(NOW), ALL).allowed:
            yield request, facts


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(st.integers(0, 10**9), st.lists(st.tuples(MOMENTS, st.sampled_from((0, 0, 1, 2, HOUR))), min_size=2, max_size=8))
def test_at_every_moment_the_answer_is_the_one_that_would_be_made_anew(
    policy_set: PolicySet, seed: int, asked_at: list[tuple[int, int]]
) -> None:
    """Several people's questions in turn, by one memory, around every beginning and end, the clock going back, too."""
    decides, situations = Recall(), [Maker(seed + each).situation()[:2] for each in range(2)]

    for lo, lasts in asked_at:
        for request, facts in situations:
            now = Now(lo, lo + lasts)
            assert decides(policy_set, request, facts, now, ALL) == evaluate(policy_set, request, facts, now, ALL)


def test_much_of_that_is_recalled_and_much_turns(policy_set: PolicySet, anew: list[EvaluationRequest]) -> None:
    """The property above is worth asking: where nothing turns most is recalled, and around NOW many answers turn."""
    decides, turned = Recall(), 0
    for seed in range(1000):
        request, facts, _ = Maker(seed).situation()
        for moment in range(NOW + 2, NOW + 7):
            decides(policy_set, request, facts, at(moment), ALL)
    still = len(anew)
    for seed in range(1000):
        request, facts, _ = Maker(seed).situation()
        answers = [decides(policy_set, request, facts, at(moment), ALL) for moment in (NOW - 1, NOW, NOW + 1)]
        turned += any(one != other for one, other in pairwise(answers))

    assert still < 2000
    assert turned > 15


def test_a_question_asked_again_is_not_decided_again(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest]
) -> None:
    """An equal one, too: callers send their questions as bytes."""
    decides, (request, facts) = Recall(), asked
    again = msgspec.convert(msgspec.to_builtins(request), EvaluationRequest)

    first, second = (decides(policy_set, each, facts, at(NOW), ALL) for each in (request, again))

    assert first is second
    assert len(anew) == 1


@pytest.mark.parametrize(
    "other",
    [
        "subject",
        "patient",
        "capabilities",
        "policy",
        "purpose",
        "late",
        "early",
        "unknown",
        "recipient",
        "resource",
        "others",
    ],
)
def test_whatever_is_another_one_is_decided_anew(
    policy_set: PolicySet, pack_texts: dict[str, bytes], asked: Asked, anew: list[EvaluationRequest], other: str
) -> None:
    """Facts that were read again are others, though they say the same."""
    decides, (request, facts), now, can = Recall(), asked, NOW, ALL
    assert facts.patient is not None
    decides(policy_set, request, facts, at(now), can)
    match other:
        case "subject":
            facts = msgspec.structs.replace(facts, subject=msgspec.structs.replace(facts.subject))
        case "patient":
            facts = msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient))
        case "capabilities":
            can = frozenset()
        case "policy":
            policy_set = load_pack(pack_texts)[0] or pytest.fail("no pack")
        case "purpose":
            request = msgspec.structs.replace(request, context=RequestContext(purpose="HMARKT"))
        case "late":
            now += LASTS
        case "early":
            now -= 1
        case "unknown":
            facts = msgspec.structs.replace(facts, consents_known=False)
        case "recipient":
            facts = msgspec.structs.replace(facts, recipient=SubjectFacts("clinic"))
        case "resource":
            facts = msgspec.structs.replace(facts, resource=SubjectFacts("thing", resource_type="Device"))
        case "others":
            facts = msgspec.structs.replace(facts, others=(facts.patient,))

    found = decides(policy_set, request, facts, at(now), can)

    assert len(anew) == 2
    assert found == evaluate(policy_set, request, facts, at(now), can)


def test_a_permit_is_recalled_up_to_the_last_moment_of_its_time(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest]
) -> None:
    """And from the first: not before it was decided for, nor while the present may be later."""
    decides, (request, facts) = Recall(), asked
    for lo, hi in ((NOW, NOW), (NOW, NOW + LASTS - 1), (NOW, NOW + LASTS)):
        decides(policy_set, request, facts, Now(lo, hi), ALL)

    assert len(anew) == 2


def test_what_was_decided_over_a_turn_is_not_recalled_before_it(policy_set: PolicySet) -> None:
    """A permit that may be over is denied; as long as it is surely not, it is one."""
    decides = Recall()
    for request, facts in _permits(policy_set):
        until = next_turn(facts.patient, NOW, policy_set.vocabulary.switches)
        if evaluate(policy_set, request, facts, at(until), ALL).allowed:
            continue
        over, before = (decides(policy_set, request, facts, Now(until - 5, hi), ALL) for hi in (until + 5, until - 4))
        assert (over.allowed, before.allowed) == (False, True)
        return
    pytest.fail("no permit ends")


def test_a_pack_that_reads_the_clock_itself_is_always_asked(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest]
) -> None:
    """Its answers may turn at any moment."""
    decides, (request, facts) = Recall(), asked
    reads = msgspec.structs.replace(policy_set, reads_present=True)

    for _ in range(2):
        decides(reads, request, facts, at(NOW), ALL)

    assert len(anew) == 2


def test_parts_are_always_decided_anew(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest]
) -> None:  # fmt: skip
    """Of several records the whole is no single question."""
    decides, (request, facts) = Recall(), asked
    parted = msgspec.structs.replace(
        request.resource, properties=msgspec.structs.replace(request.resource.properties, parts=({"id": "a"},))
    )

    for _ in range(2):
        decides(policy_set, msgspec.structs.replace(request, resource=parted), facts, at(NOW), ALL)

    assert len(anew) == 2


@pytest.mark.parametrize(("longer", "kept"), [(0, True), (1, False)])
def test_a_long_question_is_always_decided_anew(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest], longer: int, kept: bool
) -> None:
    """What is kept has a bound in bytes, too."""
    decides, (request, facts) = Recall(), asked
    missing = SHORT_BYTES + longer - len(msgspec.json.encode(filled(request, "")))
    long = filled(request, "x" * missing)
    assert len(msgspec.json.encode(long)) == SHORT_BYTES + longer

    for _ in range(2):
        decides(policy_set, long, facts, at(NOW), ALL)

    assert len(anew) == (1 if kept else 2)


def filled(request: EvaluationRequest, author: str) -> EvaluationRequest:
    """Return a question of another length."""
    properties = msgspec.structs.replace(request.resource.properties, author="y" + author)
    return msgspec.structs.replace(request, resource=msgspec.structs.replace(request.resource, properties=properties))


def test_what_is_too_old_to_be_recalled_is_not_kept_for_long(policy_set: PolicySet, asked: Asked) -> None:
    """Facts of somebody are gone from here two turns after they were asked for, however few questions come."""
    decides, (request, facts) = Recall(), asked
    assert facts.patient is not None
    patient = msgspec.structs.replace(facts.patient)
    before = getrefcount(patient)
    decides(policy_set, request, msgspec.structs.replace(facts, patient=patient), at(NOW), ALL)
    assert getrefcount(patient) > before

    for turns in (1, 2):
        other = msgspec.structs.replace(request.resource, id=f"another-{turns}")
        decides(policy_set, msgspec.structs.replace(request, resource=other), facts, at(NOW + turns * LASTS), ALL)

    assert getrefcount(patient) == before


def test_of_more_than_it_may_keep_the_last_are_recalled(
    policy_set: PolicySet, asked: Asked, anew: list[EvaluationRequest]
) -> None:
    """However many questions there are, the memory does not grow beyond."""
    decides, (request, facts) = Recall(most=2), asked
    many = [
        msgspec.structs.replace(request, resource=msgspec.structs.replace(request.resource, id=f"r{number}"))
        for number in range(6)
    ]
    for each in many:
        decides(policy_set, each, facts, at(NOW), ALL)
    anew.clear()

    for each in reversed(many):
        decides(policy_set, each, facts, at(NOW), ALL)

    assert anew == [many[1], many[0]]
