"""Policy sets exchanged while decisions run: each answer is wholly that of the one set that it names."""

import asyncio
from collections import Counter
from itertools import cycle, islice
from typing import Any

import pytest

from ruqsat.core.admission import Changes
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.instant import at
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import NOON, Situation
from ruqsat.core.world import World
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from tests.clocks import FixedClock
from tests.service.test_decision_point import ORIGIN, Known, Paper

SWAPS = 1000


class Late(Paper):
    """A journal that is durable some turns of the loop later, so that a set is exchanged under an open decision."""

    def append(self, entry: bytes, *rest: Any, **more: Any) -> asyncio.Future[None]:
        """Take an entry; it is durable three turns later."""
        future = super().append(entry, *rest, **more)
        late: asyncio.Future[None] = future.get_loop().create_future()

        async def settle() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            late.set_result(None)

        self.task = asyncio.ensure_future(settle())
        return late


@pytest.mark.parametrize("planted", [False, True], ids=["product", "planted: the digest is read afterwards"])
def test_answers_while_two_sets_alternate_are_those_of_the_set_that_they_name(
    planted: bool, policy_set: PolicySet, world: World, pack_texts: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 exchanges under running decisions; the same question to the named set alone gives the same answer."""
    narrower = pack_texts["policies/consent.csv"].replace(b"care_staff, read search,", b"care_staff, search,")
    other, _ = load_pack(pack_texts | {"policies/consent.csv": narrower})
    assert other is not None
    sets = {each.digest[:16]: each for each in (policy_set, other)}
    now = at(NOON)

    def decided(each: PolicySet, situation: Situation) -> tuple[bool, str | None]:
        decision = evaluate(each, situation[0], situation[1], now, ORIGIN.capabilities)
        return decision.allowed, decision.rule

    asked = [
        situation(policy_set, world, PolicyCase("", f"dr_aida {action} o1 TREAT", "")) for action in ("read", "search")
    ]
    assert [decided(policy_set, each) == decided(other, each) for each in asked] == [False, True]
    seen: Counter[str] = Counter()
    wrong = 0

    async def ask(point: DecisionPoint, known: Known, number: int) -> None:
        nonlocal wrong
        for place in range(number, number + 60):
            request, facts, _ = asked[place % len(asked)]
            known.facts = facts
            answer = await point.decide(request, ORIGIN)
            digest = point.policy_set.digest[:16] if planted else answer.policy
            expected = decided(sets[digest], asked[place % len(asked)])
            wrong += (answer.decision.allowed, answer.decision.rule) != expected
            seen[answer.policy] += 1

    async def story() -> None:
        known = Known(asked[0][1])
        point = DecisionPoint(policy_set, known, Freshness(bytes(32)), Late(), FixedClock(NOON), Metrics())
        workers = [asyncio.create_task(ask(point, known, number)) for number in range(20)]
        for each in islice(cycle((other, policy_set)), SWAPS):
            point.put_in_force(each, Changes())
            await asyncio.sleep(0)
        await asyncio.gather(*workers)

    asyncio.run(story())

    assert min(seen.values()) > 100
    assert len(seen) == 2
    assert (wrong > 0) is planted
