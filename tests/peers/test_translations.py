"""The peers of the bench are asked the same: their translations of our rules and facts answer as we do."""

import os
import random
import time
from functools import lru_cache
from importlib.util import find_spec

import pytest
from bench.peers.cerbos.translate import policies, request_of
from bench.peers.common.compare import DisagreementError, compare
from bench.peers.common.ours import reference
from bench.peers.common.plan import Plan
from bench.peers.common.rules import Rules, reaching, read_rules
from bench.peers.common.world import World
from bench.peers.pycasbin.translate import Enforcer

SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(1 << 31))))
PLAN = Plan(SEED, int(time.time()), patients=60, questions=300)


@lru_cache(maxsize=1)
def ours() -> tuple[bool, ...]:
    """What we answer; the seed is printed where a test fails."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    return tuple(reference(PLAN.world()).answers(PLAN.asked()))


def given(plan: Plan) -> tuple[World, Rules]:
    """What the peers are given."""
    rules = read_rules()
    return reaching(plan.peers_world(), rules), rules


def test_the_questions_are_worth_asking() -> None:
    """Some are allowed and some are denied, for staff, a patient and somebody let in."""
    world, questions = PLAN.world(), PLAN.asked()
    answers = {
        (world.people[question.who].org != "", allowed) for question, allowed in zip(questions, ours(), strict=True)
    }

    assert answers == {(True, True), (True, False), (False, True), (False, False)}, SEED
    assert 0.2 < sum(ours()) / len(ours()) < 0.6, SEED


def test_stock_pycasbin_answers_as_we_do() -> None:
    """Each of 300 random questions."""
    compare("pycasbin", PLAN.world(), PLAN.asked(), ours(), Enforcer(*given(PLAN)).answers(PLAN.asked()))


def test_cedar_answers_as_we_do() -> None:
    """Each of 300 random questions."""
    if find_spec("cedarpy") is None:
        pytest.skip("Cedar was NOT compared: cedarpy is not installed (the extra `peers`)")
    from bench.peers.cedar.translate import Policies  # noqa: PLC0415

    compare("cedar", PLAN.world(), PLAN.asked(), ours(), Policies(*given(PLAN)).answers(PLAN.asked()))


def test_a_peer_that_forgets_refusals_is_not_compared() -> None:
    """The comparison cannot pass over a difference: it stops, and tells the question and what bears on it."""
    plan = PLAN._replace(seed=1, planted=True)  # a seed by which some answers hang on a refusal alone
    world, questions = plan.world(), plan.asked()
    own, theirs = reference(world).answers(questions), Enforcer(*given(plan)).answers(questions)

    with pytest.raises(
        DisagreementError, match=r"pycasbin says allow where we say deny:\n  Question\(.*\n.*\n.*refuses=True"
    ):
        compare("pycasbin", world, questions, own, theirs)


def test_an_answer_that_is_missing_is_no_agreement() -> None:
    """Whoever answers fewer questions did not answer them all."""
    with pytest.raises(ValueError, match="shorter"):
        compare("pycasbin", PLAN.world(), PLAN.asked(), ours(), ours()[:-1])


def test_cerbos_is_sent_what_its_conditions_read() -> None:
    """Attributes that a condition names and no request carries would be errors, which Cerbos may pass over."""
    world, rules = given(PLAN)
    text = "".join(policies(rules).values())
    sent = request_of(PLAN.asked()[0], world).decode()

    for name in ("labels", "cared_for_at", "episodes", "permits", "refusals", "links", "patient"):
        assert f"R.attr.{name}" in text
        assert f'"{name}":' in sent
