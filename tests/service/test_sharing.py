"""What is shared makes answers faster, never less right: hints and copies at the information point."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any

import msgspec
import pytest

import ruqsat.service.freshness as freshness_module
import ruqsat.service.information_point as point_module
import ruqsat.service.sharing as sharing_module
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from tests.clocks import FixedClock
from tests.mutants import plant
from tests.service.test_information_point import LEASE, Memory, closed, is_open
from tests.stores.redis_ground import MemoryCopies

PERIOD = 1_000_000
PATIENT = "patient:p1"


def moved(version: int, facts: PatientFacts) -> PatientFacts:
    """The change of the random histories, which tells its number."""
    return msgspec.structs.replace(facts, deceased_at=version)


class Carrier:
    """Hints between points of one process; the test delivers them, or does not."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Position, tuple[str, ...]]] = []
        self.restarts = 0

    def send(self, position: Position, keys: tuple[str, ...]) -> None:
        """Keep it until it is delivered."""
        self.waiting.append((position, keys))

    def restart(self) -> None:
        """Count it."""
        self.restarts += 1


class Twins:
    """Two information points on one store, with what they share."""

    def __init__(
        self, points: ModuleType = point_module, rules: ModuleType = freshness_module,
        shares: ModuleType = sharing_module,
    ) -> None:  # fmt: skip
        self.store, self.clock, self.copies, self.carrier = Memory(), FixedClock(), MemoryCopies(), Carrier()
        self.rules = [rules.Freshness(bytes(32), lease_for=LEASE) for _ in range(2)]
        self.shares = [shares.Sharing(rule, self.clock, self.carrier, self.copies) for rule in self.rules]
        self.one, self.other = (
            points.InformationPoint(self.store, rule, self.clock, sharing=share)
            for rule, share in zip(self.rules, self.shares, strict=True)
        )

    def hear(self, position: Position, keys: tuple[str, ...], *, by: InformationPoint | None = None) -> None:
        """Let a point (the other one, if none is named) hear a hint."""
        self.share_of(by or self.other).hear(position, keys)

    def share_of(self, point: InformationPoint) -> Any:
        """What a point shares."""
        return self.shares[0 if point is self.one else 1]

    async def probe(self, *points: InformationPoint) -> None:
        """Let time pass and each point (both, if none is named) probe."""
        for point in points or (self.one, self.other):
            self.clock.advance(10)
            await point.probe_once()

    def deliver(self, *, to: InformationPoint | None = None) -> None:
        """Give everything that waits to a point, the other one if none is named."""
        for position, keys in self.carrier.waiting:
            self.hear(position, keys, by=to)
        self.carrier.waiting.clear()


def tell(story: Callable[[Twins], Awaitable[None]], **modules: ModuleType) -> None:
    """Tell a story about two points that have probed once."""

    async def run() -> None:
        twins = Twins(**modules)
        await twins.probe()
        try:
            await story(twins)
        finally:
            await twins.one.aclose()
            await twins.other.aclose()

    asyncio.run(run())


async def answer(point: InformationPoint) -> bool:
    """Whether a check at this moment would find the facts from before the change."""
    return is_open(point.facts_now("s1", "p1") or await point.fetch("s1", "p1"))


def test_with_a_hint_a_change_is_known_elsewhere_at_once() -> None:
    """What one point committed, the other answers by as soon as the hint is there, without a probe."""

    async def story(twins: Twins) -> None:
        assert await answer(twins.other)
        await twins.one.change_patient("p1", closed)
        assert await answer(twins.other)  # within a probe's period: as without Redis

        twins.deliver()
        assert twins.other.facts_now("s1", "p1") is None
        assert not await answer(twins.other)

    tell(story)


def test_without_a_hint_a_change_is_known_after_a_probe() -> None:
    """A lost hint costs no more than a period, and is counted at the probe after."""

    async def story(twins: Twins) -> None:
        assert await answer(twins.other)
        await twins.one.change_patient("p1", closed)
        twins.carrier.waiting.clear()

        await twins.probe(twins.other)
        assert not await answer(twins.other)
        assert (twins.shares[1].lost, twins.carrier.restarts) == (0, 0)
        await twins.probe(twins.other)
        assert (twins.shares[1].lost, twins.carrier.restarts) == (1, 1)

    tell(story)


def test_a_hint_that_a_probe_overtook_is_not_lost() -> None:
    """A hint may come a little after the probe that told the same; then nothing is counted and nothing done."""

    async def story(twins: Twins) -> None:
        await twins.one.change_patient("p1", closed)
        await twins.probe(twins.other)
        twins.deliver()
        await twins.probe(twins.other)

        assert (twins.shares[1].lost, twins.carrier.restarts) == (0, 0)
        assert twins.other.facts_now("s1", "p1") is None

    tell(story)


def test_doubled_and_disordered_hints_change_nothing() -> None:
    """Hints of three changes, each five times and in every order, leave the same answers."""

    async def story(twins: Twins) -> None:
        for _ in range(3):
            await twins.one.change_patient("p1", closed)
        hints = twins.carrier.waiting
        twins.carrier.waiting = (hints + hints[::-1]) * 5
        twins.deliver()

        assert not await answer(twins.other)
        await twins.probe(twins.other)
        assert not await answer(twins.other)
        assert twins.rules[1].hinted == {}

    tell(story)


def test_a_hint_moves_neither_the_position_nor_the_lease() -> None:
    """Hints alone keep no point alive: without a probe the lease ends, and the known position stands."""

    async def story(twins: Twins) -> None:
        before = twins.other.position
        twins.clock.advance(LEASE - 20)
        twins.hear(Position("e", 1), ("patient:somebody",))
        assert twins.other.position == before
        twins.clock.advance(100)

        assert not twins.other.has_lease()
        assert twins.other.facts_now("s1", "p1") is None

    tell(story)


def test_a_made_up_hint_bars_nobody() -> None:
    """A hint far from the future makes a patient unknown to memory, not unknown: the truth is asked, and answered."""

    async def story(twins: Twins) -> None:
        assert await answer(twins.other)
        for key in (PATIENT, "ALL"):
            twins.clock.advance(10)
            twins.hear(Position("e", 10**15), (key,))
            assert twins.other.facts_now("s1", "p1") is None
            twins.clock.advance(10)

            assert await answer(twins.other)
            assert twins.other.facts_now("s1", "p1") is not None

    tell(story)


async def hidden_by_a_wrong_hint(twins: Twins) -> bool:
    """Whether a hint about somebody else, under the number of a true change, hides that change."""
    assert await answer(twins.other)
    twins.hear(Position("e", 1), ("patient:somebody-else",))
    await twins.one.change_patient("p1", closed)
    twins.carrier.waiting.clear()
    await twins.probe(twins.other)
    return await answer(twins.other)


def test_a_wrong_hint_hides_no_change() -> None:
    """A copy of the database that shares a namespace sends genuine hints of another history: they hide nothing."""

    async def story(twins: Twins) -> None:
        assert not await hidden_by_a_wrong_hint(twins)

    tell(story)


def test_hints_taken_for_knowledge_would_be_noticed() -> None:
    """Plant: a hint that counts as a known change moves the position, and the probe never asks for the true one."""
    mutant = plant(sharing_module, "self._freshness.hint(seq, key, now)", "self._freshness.learn(seq, key)")

    async def story(twins: Twins) -> None:
        assert await hidden_by_a_wrong_hint(twins)

    tell(story, shares=mutant)


def test_a_hint_that_renews_the_lease_would_be_noticed() -> None:
    """Plant: with it, a point that has not heard from the store for a lease still answers."""
    mutant = plant(
        freshness_module, "        if seq <= self.applied:\n            return\n        hinted = self.hinted\n",
        "        self.lease = now_boottime\n        hinted = self.hinted\n",
    )  # fmt: skip

    async def story(twins: Twins) -> None:
        twins.clock.advance(LEASE - 20)
        twins.hear(Position("e", 1), ("patient:somebody",))
        twins.clock.advance(100)
        assert twins.other.has_lease()

    tell(story, rules=mutant)


def test_what_one_point_read_spares_another_a_reading() -> None:
    """The second point answers from the shared copy; its entry keeps the position it was read at."""

    async def story(twins: Twins) -> None:
        await twins.one.fetch("s1", "p1")
        await twins.one.fetch("nobody", None)
        facts = await twins.other.fetch("s1", "p1")

        assert is_open(facts) and facts.position == Position("e", 0)
        assert (await twins.other.fetch("nobody", None)).subject is None
        assert (twins.store.readings, twins.other.fills, twins.shares[1].spared) == (2, 0, 2)
        assert twins.other.facts_now("s1", "p1") == facts

    tell(story)


def test_entries_that_are_usable_only_apart_are_read_anew() -> None:
    """A doctor read before a patient's change and the patient copied after it: the store is asked for both."""

    async def story(twins: Twins) -> None:
        await twins.other.fetch("s1", None)
        await twins.one.change_patient("p1", closed)
        await twins.one.fetch(None, "p1")
        await twins.probe(twins.other)

        assert not is_open(await twins.other.fetch("s1", "p1"))
        assert twins.copies.asked[-1] == ("s1", "p1")
        assert twins.other.facts_now("s1", "p1") is not None

    tell(story)


def test_whom_memory_knows_well_enough_is_not_asked_for() -> None:
    """Of a doctor and a patient the copy is asked for the one whom memory lacks; for both where it knows neither."""

    async def story(twins: Twins) -> None:
        await twins.one.fetch("s1", "p1")
        await twins.one.fetch("s2", None)

        await twins.other.fetch("s1", "p1")
        assert twins.copies.asked[-1] == ("s1", "p1")
        await twins.other.fetch("s2", "p1")
        assert twins.copies.asked[-1] == ("s2", None)
        await twins.other.fetch("s1", "p2")
        assert twins.copies.asked[-1] == (None, "p2")

    tell(story)


def test_memory_and_copy_together_spare_a_reading() -> None:
    """A doctor whom only memory knows and a patient whom only the copy knows need no reading of the store."""

    async def story(twins: Twins) -> None:
        await twins.other.fetch("s1", None)
        await twins.one.fetch(None, "p1")
        twins.copies.held.pop(("subject", "s1"))
        await twins.other.fetch("s1", "p1")

        assert (twins.other.fills, twins.shares[1].spared) == (1, 1)

    tell(story)


async def replayed(twins: Twins, known_by: str) -> bool:
    """Whether a copy from before a change is answered by, once the change is known."""
    await twins.one.fetch("s1", "p1")
    old = dict(twins.copies.held)
    await twins.one.change_patient("p1", closed)
    if known_by == "hint":
        twins.deliver()
    else:
        await twins.probe(twins.other)
    twins.copies.held = old
    twins.copies.offer = lambda *_: None  # type: ignore[method-assign]
    return await answer(twins.other)


@pytest.mark.parametrize("known_by", ["hint", "probe"])
def test_a_replayed_copy_is_not_used(known_by: str) -> None:
    """A genuine copy from before a change is found, counted and not used; the store answers."""

    async def story(twins: Twins) -> None:
        assert not await replayed(twins, known_by)
        assert twins.shares[1].unusable > 0

    tell(story)


def test_copies_that_are_not_tested_would_be_noticed() -> None:
    """Plant: a point that trusts a genuine copy, and gives it to memory as new, answers from before a change."""
    right = "if as_of.seq <= known.seq and self._freshness.usable(as_of, (key,), self._boottime()):"
    trusting = plant(sharing_module, right, "if True:")
    kept = (
        "self._subjects.keep(subject, {})\n        if other is not None and patient is not None:\n"
        "            self._patients.keep(patient, {})"
    )
    stamped_now = kept.format("one[0], self.position", "other[0], self.position")
    restamping = plant(point_module, kept.format("*one", "*other"), stamped_now)

    async def story(twins: Twins) -> None:
        assert await replayed(twins, "probe")

    tell(story, points=restamping, shares=trusting)


def test_a_copy_of_another_epoch_or_from_the_future_is_not_used() -> None:
    """Copies of another epoch, of before the window and of beyond what is known are counted; the store answers."""

    async def story(twins: Twins) -> None:
        for position in (Position("another", 0), Position("e", 5)):
            twins.copies.held["patient", "p1"] = (PatientFacts("p1", egov=False), position)
            before = twins.shares[1].unusable
            twins.other.forget()
            assert await answer(twins.other)
            assert twins.shares[1].unusable == before + 1

    tell(story)


def test_a_copy_is_not_used_when_the_lease_has_ended() -> None:
    """Without the store, copies keep nobody alive."""

    async def story(twins: Twins) -> None:
        await twins.one.fetch("s1", "p1")
        twins.store.is_down = True
        twins.clock.advance(LEASE)
        with pytest.raises(StoreUnavailableError):
            await twins.other.fetch("s1", "p1")

    tell(story)


def test_a_database_that_went_back_ends_the_trust_in_copies() -> None:
    """Restored without a new epoch, numbers are given out again: copies of the lost future are left alone for good."""

    async def story(twins: Twins) -> None:
        for _ in range(5):
            await twins.one.change_patient("p1", closed)
        await twins.probe()
        await twins.one.fetch("s1", "p1")
        lost = dict(twins.copies.held)
        twins.store.seq, twins.store.feed = 2, twins.store.feed[:2]
        twins.store.patients["p1"] = PatientFacts("p1", egov=True)
        await twins.probe(twins.other)
        await twins.probe(twins.other)
        twins.copies.held = lost
        for _ in range(8):
            twins.store.seq += 1
            twins.store.feed.append((twins.store.seq, "patient:somebody-else"))
        await twins.probe(twins.other)

        assert await answer(twins.other)
        assert twins.shares[1].distrusts_copies

    tell(story)


def test_a_copy_from_beyond_the_end_of_the_truth_tells_that_it_went_back() -> None:
    """A point that started after the restore sees a copy ahead of the database, and two probes later trusts none."""

    async def story(twins: Twins) -> None:
        twins.copies.held["patient", "p1"] = (PatientFacts("p1", egov=False), Position("e", 7))
        assert await answer(twins.other)
        await twins.probe(twins.other)
        assert not twins.shares[1].distrusts_copies
        await twins.probe(twins.other)
        assert twins.shares[1].distrusts_copies

    tell(story)


def test_a_copy_ahead_of_a_late_probe_is_nothing_to_worry_about() -> None:
    """Another point may know a change before us; once our probe has brought it, copies are used as before."""

    async def story(twins: Twins) -> None:
        await twins.one.change_patient("p1", closed)
        twins.carrier.waiting.clear()
        await twins.one.fetch("s1", "p1")
        await twins.other.fetch("s1", "p1")
        await twins.probe(twins.other)
        await twins.probe(twins.other)

        assert not twins.shares[1].distrusts_copies

    tell(story)


def test_facts_that_were_changed_meanwhile_are_not_offered_as_newer() -> None:
    """What is offered carries the position it was read at, not the moment of the offer."""

    async def story(twins: Twins) -> None:
        await twins.one.change_patient("p1", closed)
        await twins.one.fetch("s1", "p1")

        held = twins.copies.held["patient", "p1"]
        assert held == (closed(PatientFacts("p1", egov=True)), Position("e", 1))

    tell(story)


def test_random_histories_with_hints_and_copies_are_never_stale() -> None:
    """Copies rolled back, hints lost, doubled and made up: no answer is from before what its point must know."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)

    async def story(twins: Twins) -> None:
        known = {id(twins.one): 0, id(twins.other): 0}  # the last change that each point must reflect
        version, snapshots = 0, [dict(twins.copies.held)]
        for _ in range(4000):
            point = dice.choice((twins.one, twins.other))
            step = dice.randrange(8)
            twins.clock.advance(1 + dice.randrange(20_000))
            if step == 0:
                version += 1
                await point.change_patient("p1", partial(moved, version))
                known[id(point)] = version
            elif step == 1:
                await point.probe_once()
                known[id(point)] = version
            elif step == 2 and twins.carrier.waiting:
                position, keys = dice.choice(twins.carrier.waiting)
                twins.hear(position, keys, by=point)
                known[id(point)] = max(known[id(point)], min(position.seq, version))
            elif step == 3:
                key = dice.choice((PATIENT, "patient:x", "ALL"))
                twins.hear(Position(dice.choice(("e", "f")), twins.store.seq + dice.randrange(-3, 5)), (key,), by=point)
            elif step == 4:
                snapshots.append(dict(twins.copies.held))
                twins.copies.held = dict(dice.choice(snapshots))
            elif step == 5:
                point.forget()
            else:
                facts = point.facts_now("s1", "p1") or await point.fetch("s1", "p1")
                assert facts.patient is not None
                assert (facts.patient.deceased_at or 0) >= known[id(point)], seed
        assert twins.shares[0].spared + twins.shares[1].spared > 20
        assert twins.shares[0].unusable + twins.shares[1].unusable > 20

    tell(story)


def test_hints_and_copies_are_weighed_in_the_rule_itself() -> None:
    """A hint of a key makes what was read before it unusable, until a probe that was sent after it."""
    rule = Freshness(bytes(32))
    rule.observe_probe(Position("e", 5), (), 100, rule.ask())
    facts = Facts(SubjectFacts("s"), None, Position("e", 5))
    assert rule.usable(facts.position, ("k",), 100)

    rule.hint(6, "k", 200)
    assert not rule.usable(facts.position, ("k",), 200) and rule.usable(facts.position, ("other",), 200)
    rule.observe_probe(Position("e", 5), (), 200, rule.ask())
    assert not rule.usable(facts.position, ("k",), 201)
    rule.observe_probe(Position("e", 5), (), 201, rule.ask())
    assert rule.usable(facts.position, ("k",), 202)
