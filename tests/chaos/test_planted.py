"""The same harness and verdict, on sidecars with one guard missing each: every one of them is found out."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psycopg
import pytest
from redis.asyncio import Redis

from tests.chaos.checker import check_forever
from tests.chaos.faults import Hostile
from tests.chaos.fleet import PLANTED, Fleet, Node, fleet
from tests.chaos.test_chaos import DELTA, SEED, SETTINGS
from tests.chaos.verdict import Check, Write, count_violations
from tests.chaos.world import patient
from tests.chaos.writer import Writer
from tests.process.starter import MODULE

COPIES = "copies trusted without position"
BUGS = ("lease ignored", "lease renewed by hints", "cached entry never tested", COPIES)
PATIENTS = [patient(n) for n in range(8)]
PLAIN, OTHER, ALONE, *COPIED = PATIENTS
PATIENCE = 60


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds, for as long as it may take on a busy machine."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


async def keep_on(work: Callable[[], Awaitable[object]], seconds: float, rest: float) -> None:
    """Do something again and again for some time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        await work()
        await asyncio.sleep(rest)


class Story:
    """What happens to the fleet; each step is what one of the guards is for."""

    def __init__(self, running: Fleet, writer: Writer, hostile: Hostile, checks: list[Check]) -> None:
        self._writer, self._hostile, self._checks = writer, hostile, checks
        self._desk = running.node("desk")
        self._others = [node for node in running.nodes if node is not self._desk]
        self._nodes = running.nodes
        self._consents: dict[str, str] = {}

    async def begin(self) -> None:
        """Let everybody consent, before anybody asks."""
        for each in PATIENTS:
            self._consents[each.id] = await self._writer.grant(each, self._desk)

    async def tell(self) -> None:
        """Tell the rest."""
        wanted = {(node.name, each.id) for node in self._nodes for each in PATIENTS}
        await until(lambda: wanted <= {(check.sidecar, check.patient) for check in self._checks if check.allowed})
        async with asyncio.timeout(PATIENCE):
            while await self._hostile.remember() <= len(PATIENTS):  # noqa: ASYNC110 - and the physician
                await asyncio.sleep(0.05)
        await self._withdraw(PLAIN.id)
        await self._old_copies_come_back()
        await self._only_hints_arrive()

    async def _withdraw(self, who: str) -> None:
        await self._writer.withdraw(next(each for each in PATIENTS if each.id == who), self._consents[who], self._desk)

    async def _old_copies_come_back(self) -> None:
        """
        One after the other is withdrawn, while Redis holds nothing but what was true before.

        Nobody puts anything newer there meanwhile: only one sidecar reaches it, the one whose mistake it is for.
        """
        parted = [node for node in self._nodes if node.name != COPIES]
        for node in parted:
            node.redis.hold()
        for each in COPIED:
            await self._withdraw(each.id)
            await keep_on(self._hostile.restore, 0.3, 0.005)
        await keep_on(self._hostile.restore, DELTA + 0.5, 0.05)
        for node in parted:
            node.redis.release()

    async def _only_hints_arrive(self) -> None:
        """Nobody else reaches SQL; the hint of one withdrawal is lost, those of others come."""
        for node in self._others:
            node.sql.hold()
            node.redis.hold()
        await self._withdraw(ALONE.id)
        await asyncio.sleep(0.1)
        await self._hostile.drop(1.0)
        for node in self._others:
            node.redis.cut()
            node.redis.release()
        await keep_on(self._change_another, DELTA + 4, 0.05)

    async def _change_another(self) -> None:
        await self._withdraw(OTHER.id)
        self._consents[OTHER.id] = await self._writer.grant(OTHER, self._desk)


async def run() -> tuple[list[Write], list[Check]]:
    """Tell the story to a fleet of a sound sidecar, where the desk is, another one, and one for each mistake."""
    writes, checks, chance = list[Write](), list[Check](), random.Random(SEED)
    programs = {"desk": MODULE, "sound": MODULE} | {bug: (PLANTED, bug) for bug in BUGS}
    async with fleet(programs, PATIENTS, [], **SETTINGS) as running:
        with psycopg.connect(running.url) as connection:
            key = connection.execute("SELECT value FROM meta WHERE name = 'token_key'").fetchone()
        assert key is not None
        async with Redis(port=running.valkey.server.port) as client:
            writer = Writer(running, chance, writes.append)
            story = Story(running, writer, Hostile(client, bytes(key[0]), chance), checks)
            await story.begin()
            await asyncio.sleep(0.5)
            await client.flushall()  # one of the mistakes would take copies from before for the truth
            asking = [asyncio.ensure_future(asking_of(node, chance, checks)) for node in running.nodes]
            try:
                await story.tell()
            finally:
                for each in asking:
                    each.cancel()
                await asyncio.wait(asking)
    return writes, checks


def asking_of(node: Node, chance: random.Random, checks: list[Check]) -> Coroutine[Any, Any, None]:
    """Return the work of a caller of this node."""
    people = [each.id for each in PATIENTS]
    return check_forever(node.name, node.sidecar.addresses["json"], people, chance.randrange(2**32), checks.append)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_missing_guard_is_found_out_and_a_sound_sidecar_is_not_blamed() -> None:
    """Lease, hints, cached entries, copies: without any one guard an allow is sent too late, and the verdict says so."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    writes, checks = asyncio.run(run())
    counted = count_violations(writes, checks, [], DELTA)
    found = {
        name: [each for each in counted.violations if each.check.sidecar == name] for name in (*BUGS, "sound", "desk")
    }
    for name, violations in found.items():
        print(f"{name}: {len(violations)} of {sum(check.sidecar == name for check in checks)}; {violations[:1]}")

    assert not found["sound"] and not found["desk"]
    assert [bug for bug in BUGS if not found[bug]] == []
