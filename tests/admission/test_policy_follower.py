"""A sidecar follows the pointer: staged is made ready, activated is in force at once, behind is told or falls silent."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ruqsat.service.freshness as freshness_module
import ruqsat.stores.sql_policies as sql_policies_module
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.instant import SECOND
from ruqsat.core.pack import digest_of
from ruqsat.core.policy_release import POLICY, Report
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World
from ruqsat.errors import PolicyError
from ruqsat.policy_following import PolicyFromDatabase
from ruqsat.service.clock import SystemClock
from ruqsat.service.freshness import LEASE
from ruqsat.service.information_point import PROBE_PERIOD
from ruqsat.service.policy_follower import BETWEEN_SECONDS
from ruqsat.stores import sql_facts
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.redis import send_hint
from ruqsat.stores.sql import SqlStore
from tests.admission.released import Sidecar, narrower, opened, release, spoilt, steps_of, until
from tests.ground import Server
from tests.mutants import plant
from tests.service.test_decision_point import ORIGIN
from tests.stores.redis_ground import new_namespace, started, url_of

Texts = dict[str, bytes]


def tell(url: str, folder: Path, texts: Texts, story: Callable[[Sidecar], Awaitable[None]]) -> None:
    """Tell a story about one sidecar on a database in which *texts* are in force."""

    async def run() -> None:
        async with opened(url, folder, texts=texts) as sidecar:
            await story(sidecar)

    asyncio.run(run())


def test_what_is_staged_is_made_ready_and_what_is_activated_is_in_force(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """Staging changes no decision, examines and reports; activating examines nothing and is in force with one look."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        assert (sidecar.digest, sidecar.examiner.asked[-1]) == (digest_of(pack_texts), digest_of(other))
        await until(sidecar.follower.has_reported)
        (said,) = await sidecar.policies.reports()
        assert said.report == Report(digest_of(pack_texts), 2, digest_of(other), "ready")

        asked = len(sidecar.examiner.asked)
        await sidecar.policies.add(steps_of(3, other, "activate"))
        await sidecar.information.probe_once()
        await sidecar.follower.look()
        assert (sidecar.digest, len(sidecar.examiner.asked)) == (digest_of(other), asked)
        await until(sidecar.follower.has_reported)
        (said,) = await sidecar.policies.reports()
        assert said.report == Report(digest_of(other), 4, digest_of(other), "ready")

        await sidecar.policies.add(steps_of(4, pack_texts, "activate"))
        await sidecar.probe()
        assert (sidecar.digest, len(sidecar.examiner.asked)) == (digest_of(pack_texts), asked)
        assert sidecar.follower.standing.generation == 5

    tell(url, tmp_path, pack_texts, story)


def test_the_journal_tells_who_released_what_is_in_force_and_why(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """As the process begins and whenever a release comes in force: number, author, who agreed, the ticket."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage", author="berik", reason="RFC-7")
        await sidecar.probe()
        await sidecar.policies.add(steps_of(3, other, "activate", author="berik", reason="RFC-7", approval="carla"))
        await sidecar.probe()
        names = ("policy", "generation", "subject", "approval", "why")
        entries = [entry for entry in sidecar.paper.entries if entry["kind"] == "policy"]
        assert [tuple(entry.get(name) for name in names) for entry in entries] == [
            (digest_of(pack_texts), 2, "aida", None, "because"), (digest_of(other), 4, "berik", "carla", "RFC-7"),
        ]  # fmt: skip

    tell(url, tmp_path, pack_texts, story)


def test_the_set_in_force_is_kept_as_the_last_good_one_and_a_staged_one_is_not(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """What would serve without a store is what has served."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        kept = await sidecar.administration._last_good.read()
        assert kept is not None and kept.texts == pack_texts

        await sidecar.policies.add(steps_of(3, other, "activate"))
        await sidecar.probe()
        await until(lambda: sidecar.follower._kept == sidecar.follower._address)
        kept = await sidecar.administration._last_good.read()
        assert kept is not None and kept.texts == other

    tell(url, tmp_path, pack_texts, story)


def test_a_set_that_is_refused_leaves_the_one_before_and_alarms(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """Staged: reported with its reason.  Activated all the same: the set before decides on, and everybody can see it."""

    async def story(sidecar: Sidecar) -> None:
        bad = spoilt(pack_texts)
        await release(sidecar.policies, bad, "stage")
        await sidecar.probe()
        assert (sidecar.follower.report().result, sidecar.administration.refused) == ("refused", ())

        await sidecar.policies.add(steps_of(3, bad, "activate"))
        await sidecar.probe()
        assert sidecar.digest == digest_of(pack_texts)
        assert sidecar.follower.is_behind and "misspelt" in sidecar.administration.refused[0]
        sidecar.clock.advance(2 * LEASE)
        await sidecar.probe()
        assert sidecar.may_answer() and not sidecar.follower.denies

    tell(url, tmp_path, pack_texts, story)


def test_a_set_that_must_apply_and_cannot_ends_the_lease(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """Nothing is allowed from the lease's end on, however often the database answers; a later set that passes ends it."""

    async def story(sidecar: Sidecar) -> None:
        await release(sidecar.policies, spoilt(pack_texts), "stage", "activate", must_apply=True)
        await sidecar.probe()
        assert sidecar.follower.denies and sidecar.may_answer()
        for _ in range(5):
            sidecar.clock.advance(SECOND)
            await sidecar.probe()
        assert not sidecar.may_answer()
        assert sidecar.follower.report().denies and sidecar.digest == digest_of(pack_texts)

        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage", "activate")
        await sidecar.probe()
        assert sidecar.may_answer() and sidecar.digest == digest_of(other)
        assert (sidecar.follower.denies, sidecar.administration.refused) == (False, ())
        assert sidecar.administration.in_force.must_apply, (
            "it stands in for the one that had to: no older permit is sent"
        )

    tell(url, tmp_path, pack_texts, story)


def test_what_a_look_finds_missing_outlasts_no_lease(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """No probe has told of it yet, and the store goes away: last known facts are not decided by the set before."""

    async def story(sidecar: Sidecar) -> None:
        await release(sidecar.policies, spoilt(pack_texts), "stage", "activate", must_apply=True)
        assert sidecar.freshness.may_outlast_lease()
        await sidecar.follower.look()
        assert sidecar.follower.denies
        assert not sidecar.freshness.may_outlast_lease()

        await release(sidecar.policies, pack_texts, "activate")
        await sidecar.probe()
        await sidecar.follower.look()
        assert sidecar.freshness.may_outlast_lease()

    tell(url, tmp_path, pack_texts, story)


def test_a_set_that_must_apply_is_not_passed_over_by_a_later_one_that_cannot_be_used(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """The access that it takes away stays away: the sidecar that has neither allows nothing."""

    async def story(sidecar: Sidecar) -> None:
        await release(sidecar.policies, spoilt(pack_texts), "stage", "activate", must_apply=True)
        await release(sidecar.policies, spoilt(narrower(pack_texts)), "stage", "activate")
        sidecar.clock.advance(LEASE)
        await sidecar.probe()
        assert not sidecar.may_answer() and sidecar.follower.denies

        await sidecar.policies.add(steps_of(6, pack_texts, "activate"))
        await sidecar.probe()
        assert sidecar.may_answer() and not sidecar.follower.denies

    tell(url, tmp_path, pack_texts, story)


def test_a_pointer_that_cannot_be_read_ends_the_lease(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """The feed says that something was activated, and nobody can say what: nothing is allowed after the lease."""

    async def story(sidecar: Sidecar) -> None:
        await release(sidecar.policies, narrower(pack_texts), "stage", "activate")
        sidecar.releases.away = True
        await sidecar.information.probe_once()
        assert sidecar.may_answer()
        sidecar.clock.advance(LEASE)
        await sidecar.information.probe_once()
        assert not sidecar.may_answer()

        sidecar.releases.away = False
        await sidecar.probe()
        assert sidecar.may_answer() and sidecar.digest == digest_of(narrower(pack_texts))

    tell(url, tmp_path, pack_texts, story)


def answers_behind_the_pointer(url: str, folder: Path, texts: Texts, module: ModuleType) -> bool:
    """Whether a sidecar under *module*'s rule may answer a lease after a change of the pointer that it cannot read."""
    found: list[bool] = []

    async def story() -> None:
        store = await SqlStore.open(url)
        sidecar = Sidecar(store, folder)
        sidecar.freshness = module.Freshness(store.token_key, lease_for=LEASE, follows_policy=True)
        sidecar.information = type(sidecar.information)(store, sidecar.freshness, sidecar.clock)
        await release(sidecar.policies, texts, "stage", "activate")
        await sidecar.open()
        await release(sidecar.policies, narrower(texts), "stage", "activate")
        sidecar.releases.away = True
        sidecar.clock.advance(LEASE)
        await sidecar.information.probe_once()
        found.append(sidecar.may_answer())
        await sidecar.aclose()
        await store.aclose()

    asyncio.run(story())
    return found[0]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("        if self.reflects_policy():\n            self.lease = max(self.lease, sent_at)", "        if True:\n            self.lease = max(self.lease, sent_at)"),
     ("and recent.get(POLICY, 0) <= held.seq", "and True")],
)  # fmt: skip
def test_planted_a_lease_that_does_not_ask_for_the_policy_is_noticed(
    tmp_path: Path, pack_texts: Texts, right: str, wrong: str
) -> None:
    """With either guard taken out, a sidecar goes on by a policy that was replaced; the product does not."""
    for module, goes_on in ((freshness_module, False), (plant(freshness_module, right, wrong), True)):
        url = f"sqlite:///{tmp_path}/{goes_on}.db"
        assert answers_behind_the_pointer(url, tmp_path / str(goes_on), pack_texts, module) is goes_on


def follows_a_change(url: str, folder: Path, texts: Texts, module: ModuleType) -> bool:
    """Whether a change of the pointer that was written by *module* is in force after one probe."""
    found: list[bool] = []

    async def story(sidecar: Sidecar) -> None:
        other = narrower(texts)
        await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        await sidecar.store.run_writing(lambda connection: module.add_steps(connection, steps_of(3, other, "activate")))
        await sidecar.probe()
        found.append(sidecar.digest == digest_of(other))

    tell(url, folder, texts, story)
    return found[0]


def test_planted_a_pointer_that_changes_without_an_entry_of_the_feed_is_noticed(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """Every change of the pointer is in force after the next probe; one that the feed does not tell is not."""
    silent = plant(
        sql_policies_module, "advance_feed(connection, [(Kind.POLICY, POLICY)])", "advance_feed(connection, [])"
    )

    assert follows_a_change(url, tmp_path / "product", pack_texts, sql_policies_module)
    assert not follows_a_change(f"sqlite:///{tmp_path}/mutant.db", tmp_path / "mutant", pack_texts, silent)


async def begin_another_epoch(sidecar: Sidecar) -> None:
    """Do what `db restored` does, beside the changes of this process, which would be refused in another epoch."""
    renew = partial(sql_facts.renew_epoch, epoch="a0the7")
    await sidecar.store.background().run(renew, 5, commit=True)


def test_a_sidecar_that_forgets_everything_reads_the_pointer_again(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """Another epoch in which the entry of the feed means nothing: the change of the pointer is not lost."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        await sidecar.policies.add(steps_of(3, other, "activate"))
        await begin_another_epoch(sidecar)
        await sidecar.probe()
        assert sidecar.digest == digest_of(other) and sidecar.may_answer()

    tell(url, tmp_path, pack_texts, story)


def test_a_generation_that_goes_back_is_not_followed(url: str, tmp_path: Path, pack_texts: Texts) -> None:
    """A database taken back without a new epoch: its older pointer is no policy here, and the lease ends; with one it is."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        await release(sidecar.policies, other, "stage", "activate")
        await sidecar.probe()

        def take_back(connection: Any) -> None:
            connection.exec_driver_sql("DELETE FROM policy_step WHERE generation > 2").close()

        await sidecar.store.run_writing(take_back)
        sidecar.clock.advance(LEASE)
        sidecar.follower.wake()
        await sidecar.look()
        assert sidecar.digest == digest_of(other) and "went back" in sidecar.administration.refused[0]
        assert not sidecar.may_answer()

        await begin_another_epoch(sidecar)
        await sidecar.probe()
        assert sidecar.digest == digest_of(pack_texts) and sidecar.may_answer()

    tell(url, tmp_path, pack_texts, story)


def test_a_pack_that_is_lost_does_not_bring_an_earlier_release_back(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """The row of the active pack is gone: the pointer still names it, and the set before decides with an alarm."""

    async def story(sidecar: Sidecar) -> None:
        await release(sidecar.policies, narrower(pack_texts), "stage", "activate", must_apply=True)
        lose = f"DELETE FROM policy_pack WHERE digest = '{digest_of(narrower(pack_texts))}'"
        await sidecar.store.run_writing(lambda connection: connection.exec_driver_sql(lose).close())
        sidecar.clock.advance(LEASE)
        await sidecar.probe()
        assert sidecar.follower.standing.generation == 4 and sidecar.follower.denies and not sidecar.may_answer()
        assert "holds no pack" in sidecar.administration.refused[0]
        assert [step.digest for step in await sidecar.policies.steps()][2:] == ["", ""]

    tell(url, tmp_path, pack_texts, story)


def test_steps_are_refused_that_do_not_follow_or_that_an_author_approves(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """Generations are dense; an author's own approval, of the pack or of the step, is none; nothing is written."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        for past in (1, 3):
            with pytest.raises(PolicyError, match="came between"):
                await sidecar.policies.add(steps_of(past, other, "stage"), other)
        await release(sidecar.policies, other, "stage")
        for author, approval in (("berik", "aida"), ("berik", "berik")):
            with pytest.raises(PolicyError, match="own policy"):
                await sidecar.policies.add(steps_of(3, other, "activate", author=author, approval=approval))
        await sidecar.policies.add(steps_of(3, other, "activate", author="berik", approval="carla"))
        assert [step.generation for step in await sidecar.policies.steps()] == [1, 2, 3, 4]

    tell(url, tmp_path, pack_texts, story)


def test_two_who_release_at_once_do_not_both_succeed(truth: str, tmp_path: Path, pack_texts: Texts) -> None:
    """Of ten releases made on the same past, through connections of their own, one is made."""

    async def run() -> None:
        stores = [await SqlStore.open(truth) for _ in range(5)]
        added = await asyncio.gather(
            *(PolicyStore(store).add(steps_of(0, pack_texts, "stage", author=str(n)), pack_texts) for n, store in enumerate(stores)),
            return_exceptions=True,
        )  # fmt: skip
        refused = [each for each in added if isinstance(each, PolicyError)]
        assert len(refused) == len(stores) - 1, added
        assert len(await PolicyStore(stores[0]).steps()) == 1
        for store in stores:
            await store.aclose()

    asyncio.run(run())


def test_a_hint_brings_an_activation_without_a_probe(tmp_path: Path, valkey: Server, pack_texts: Texts) -> None:
    """The command line tells Redis, the sidecar reads the pointer; the lease waits for a probe all the same."""

    async def story(sidecar: Sidecar) -> None:
        other, namespace, key = narrower(pack_texts), new_namespace(), sidecar.store.token_key
        await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        released = PolicyFromDatabase(sidecar.store, None, sidecar.freshness, SystemClock())
        released.follower = sidecar.follower
        heard: list[Any] = []
        hear = partial(released.hear, lambda position, keys: heard.append((position, keys)))
        following = asyncio.create_task(sidecar.follower.forever())
        async with started(valkey, namespace, hear, token_key=key) as side:
            await until(lambda: side.hints.is_heard)
            position = await sidecar.policies.add(steps_of(3, other, "activate"))
            lease = sidecar.freshness.lease
            assert await send_hint(url_of(valkey), namespace, key, position, (POLICY,))
            await until(lambda: sidecar.digest == digest_of(other))
            assert (sidecar.freshness.lease, heard) == (lease, [(position, (POLICY,))])
        following.cancel()

    tell(f"sqlite:///{tmp_path}/truth.db", tmp_path, pack_texts, story)


def test_a_hint_that_comes_again_and_again_makes_nobody_look_without_a_pause(
    url: str, tmp_path: Path, pack_texts: Texts
) -> None:
    """Whoever may write to Redis can repeat a genuine hint: the pointer is read now and then, and still followed."""

    async def story(sidecar: Sidecar) -> None:
        other = narrower(pack_texts)
        position = await release(sidecar.policies, other, "stage")
        await sidecar.probe()
        released = PolicyFromDatabase(sidecar.store, None, sidecar.freshness, SystemClock())
        released.follower = sidecar.follower
        following = asyncio.create_task(sidecar.follower.forever())

        async def repeat() -> None:
            while True:
                released.hear(lambda _position, _keys: None, position, (POLICY,))
                await asyncio.sleep(0)

        repeating = asyncio.create_task(repeat())
        loop = asyncio.get_running_loop()
        began, looks = loop.time(), sidecar.releases.looks
        await asyncio.sleep(0.5)
        assert sidecar.releases.looks - looks <= 2 + (loop.time() - began) / BETWEEN_SECONDS

        await sidecar.policies.add(steps_of(3, other, "activate"))
        await until(lambda: sidecar.digest == digest_of(other))
        for task in (repeating, following):
            task.cancel()

    tell(url, tmp_path, pack_texts, story)


SWAPS = 60 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 24


@pytest.mark.slow
def test_answers_while_two_sets_alternate_through_the_store_are_those_of_the_set_that_they_name(
    url: str, tmp_path: Path, policy_set: PolicySet, world: World, pack_texts: Texts
) -> None:
    """Four loops ask without a pause while releases alternate: each answer is wholly one set's, and both are seen."""
    packs = [narrower(pack_texts), pack_texts]
    asked = [
        situation(policy_set, world, PolicyCase("", f"dr_aida {action} o1 TREAT", "")) for action in ("read", "search")
    ]
    seen: Counter[str] = Counter()
    wrong: list[Any] = []

    async def story(sidecar: Sidecar) -> None:
        _, facts, now = asked[0]
        assert facts.subject is not None and facts.patient is not None
        await sidecar.information.record((facts.subject,), (facts.patient,))
        sidecar.clock.moment = now.lo
        await release(sidecar.policies, packs[0], "stage")
        await sidecar.probe()
        sets = {each.pack.policy_set.digest[:16]: each.pack.policy_set for each in sidecar.follower._ready.values()}
        assert len(sets) == 2
        stop = False

        async def ask(number: int) -> None:
            while not stop:
                request, _, _ = asked[number % 2]
                answer = await sidecar.point.decide(request, ORIGIN)
                known = sidecar.information.facts_now(request.subject.id, "p-dana")
                if known is not None:
                    expected = evaluate(sets[answer.policy], request, known, now, ORIGIN.capabilities)
                    if (answer.decision.allowed, answer.decision.rule) != (expected.allowed, expected.rule):
                        wrong.append((answer, expected))
                    seen[answer.policy] += 1
                await asyncio.sleep(0)

        loops = [asyncio.create_task(ask(number)) for number in range(4)]
        following = asyncio.create_task(sidecar.follower.forever())
        probing = asyncio.create_task(sidecar.information.probe_forever(PROBE_PERIOD // 50))
        for turn in range(SWAPS):
            texts = packs[turn % 2]
            await sidecar.policies.add(steps_of(3 + turn, texts, "activate", must_apply=turn % 3 == 0))
            await until(lambda texts=texts: sidecar.digest == digest_of(texts))  # type: ignore[misc]
        stop = True
        await asyncio.gather(*loops)
        for task in (following, probing):
            task.cancel()

    tell(url, tmp_path, pack_texts, story)

    assert wrong == []
    assert len(seen) == 2 and min(seen.values()) > SWAPS
