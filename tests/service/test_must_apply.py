"""A set that must apply: nothing that an earlier one allows is sent any more, however far it has come."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

import ruqsat.service.decision_point as product
from ruqsat import wiring
from ruqsat.core.admission import Changes
from ruqsat.core.cases import situation
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_release import Released
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import NOON
from ruqsat.core.world import World
from ruqsat.service.administration_point import InForce
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from tests.clocks import FixedClock
from tests.mutants import plant
from tests.service.test_decision_point import ALLOWED, ORIGIN, Known, Paper


@pytest.fixture
def narrower(pack_texts: dict[str, bytes]) -> PolicySet:
    """The pack in which nobody reads by consent."""
    rules = pack_texts["policies/consent.csv"].replace(b"care_staff, read search,", b"care_staff, search,")
    found, _ = load_pack(pack_texts | {"policies/consent.csv": rules})
    assert found is not None
    return found


def answered(
    policy_set: PolicySet, world: World, other: PolicySet, *, must_apply: bool, routed: bool, module: Any = product
) -> tuple[Any, list[dict[str, Any]]]:
    """Exchange the set while the entry of an allowed read is being written; return the answer and the journal."""
    request, facts, _ = situation(policy_set, world, ALLOWED)

    async def story() -> tuple[Any, list[dict[str, Any]]]:
        paper = Paper(held=True)
        clock, tokens = FixedClock(NOON), Freshness(bytes(32))
        point = module.DecisionPoint(policy_set, Known(facts), tokens, paper, clock, Metrics())
        work = asyncio.create_task(point.decide(request, ORIGIN, policy_set if routed else None))
        await asyncio.sleep(0)
        assert paper.entries[0]["allowed"] is True
        point.put_in_force(other, Changes(), must_apply=must_apply)
        paper.held = False
        for future in paper.waiting:
            future.set_result(None)
        return await work, paper.entries

    return asyncio.run(story())


def test_an_answer_prepared_under_the_older_set_is_not_sent(
    policy_set: PolicySet, world: World, narrower: PolicySet
) -> None:
    """It is decided once more under the set that must apply; the journal says that the first was not sent."""
    answer, entries = answered(policy_set, world, narrower, must_apply=True, routed=False)

    assert (answer.decision.allowed, answer.policy) == (False, narrower.digest[:16])
    assert [entry["kind"] for entry in entries] == ["decision", "policy", "not_sent", "decision"]
    assert entries[0]["id"] == entries[2]["id"] != answer.id == entries[3]["id"]


def test_a_request_that_was_read_by_the_older_routes_ends_there(
    policy_set: PolicySet, world: World, narrower: PolicySet
) -> None:
    """One request is read and decided under one set: what its set may not allow any more, no other decides."""
    answer, _ = answered(policy_set, world, narrower, must_apply=True, routed=True)

    assert (answer.decision.allowed, answer.decision.reason) == (False, "deny.stale")


def test_a_set_that_need_not_apply_lets_what_was_prepared_go(
    policy_set: PolicySet, world: World, narrower: PolicySet
) -> None:
    """An exchange without that mark costs no answer in hand."""
    answer, entries = answered(policy_set, world, narrower, must_apply=False, routed=False)

    assert (answer.decision.allowed, answer.policy) == (True, policy_set.digest[:16])
    assert [entry["kind"] for entry in entries] == ["decision", "policy"]


def test_who_still_asks_by_an_earlier_set_is_denied_and_who_asks_by_a_later_one_is_not(
    policy_set: PolicySet, world: World, narrower: PolicySet
) -> None:
    """The rest of a batch, a request whose token took time: it began before, and comes after."""
    request, facts, _ = situation(policy_set, world, ALLOWED)

    async def story() -> list[Any]:
        point = product.DecisionPoint(
            narrower, Known(facts), Freshness(bytes(32)), Paper(), FixedClock(NOON), Metrics()
        )
        told = [await point.decide(request, ORIGIN, policy_set)]
        point.put_in_force(narrower, Changes(), must_apply=True)
        told.append(await point.decide(request, ORIGIN, policy_set))
        assert not (await point.weigh(request, ORIGIN, policy_set)).is_usable()
        point.put_in_force(policy_set, Changes())
        told.append(await point.decide(request, ORIGIN, policy_set))
        assert (await point.weigh(request, ORIGIN, policy_set)).is_usable()
        return told

    answers = asyncio.run(story())

    assert [answer.decision.allowed for answer in answers] == [True, False, True]
    assert answers[1].decision.reason == "deny.stale"


@pytest.mark.parametrize("must_apply", [False, True])
def test_the_process_hands_on_what_must_apply_to_whoever_decides_and_whoever_reads(
    policy_set: PolicySet, world: World, narrower: PolicySet, must_apply: bool
) -> None:
    """A permit of the older set is sent no more from that very step on; proxies' requests are read by the newer routes."""
    request, facts, _ = situation(policy_set, world, ALLOWED)
    read_by: list[Any] = []
    pack: Any = SimpleNamespace(policy_set=narrower)
    release = Released(7, "author", "why", "approver")

    async def story() -> None:
        paper = Paper()
        point = product.DecisionPoint(
            policy_set, Known(facts), Freshness(bytes(32)), paper, FixedClock(NOON), Metrics()
        )
        auth: Any = SimpleNamespace(put_in_force=read_by.append)
        permit = await point.decide(request, ORIGIN)
        assert point.may_send(request, permit)
        found = InForce(pack, {}, "database", 1, must_apply, release)
        wiring._put_in_force(point, auth, found, Changes())

        assert point.may_send(request, permit) is not must_apply
        assert (point.policy_set, read_by, paper.entries[-1]["generation"]) == (narrower, [pack], 7)

    asyncio.run(story())


@pytest.mark.parametrize("routed", [False, True])
def test_planted_a_test_before_sending_without_the_policy_is_noticed(
    policy_set: PolicySet, world: World, narrower: PolicySet, routed: bool
) -> None:
    """With the comparison taken out, the older set's permit is sent."""
    mutant = plant(product, "        if must_apply:\n", "        if must_apply is None:\n")
    answer, _ = answered(policy_set, world, narrower, must_apply=True, routed=routed, module=mutant)

    assert answer.decision.allowed
