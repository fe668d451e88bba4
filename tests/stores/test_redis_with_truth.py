"""Two information points on one PostgreSQL and one Valkey: whatever happens to Valkey, a change costs one probe at most."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from tests.ground import PostgresServer, Server
from tests.stores.redis_ground import new_namespace, plain, sharing, until
from tests.stores.test_redis_copy import mortal

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.service.clock import SystemClock
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.sharing import Sharing
from ruqsat.stores.sql import SqlStore

__all__ = ["mortal"]

PERIOD = 10_000_000
"""Microseconds that a probe may take here: the machine is shared."""


class Side:
    """An information point with connections of its own, and what it shares."""

    async def open(self, stack: AsyncExitStack, url: str, server: Server, namespace: str) -> "Side":
        """Build it, and probe once."""
        store = await SqlStore.open(url, read_timeout_seconds=5)
        stack.push_async_callback(store.aclose)
        rule, clock = Freshness(store.token_key, lease_for=600_000_000), SystemClock()
        self.redis = sharing(server, namespace, token_key=store.token_key)
        self.shared = Sharing(rule, clock, self.redis.hints, self.redis.copy)
        stack.push_async_callback(self.redis.start(self.shared.hear).aclose)
        self.point = InformationPoint(store, rule, clock, sharing=self.shared)
        stack.push_async_callback(self.point.aclose)
        await self.probe()
        await until(lambda: self.redis.hints.is_heard)
        return self

    async def probe(self) -> None:
        """Ask the truth."""
        await self.point.probe_once(PERIOD)

    async def is_open(self) -> bool:
        """Whether a check at this moment is answered by facts from before the change."""
        facts = self.point.facts_now("s", "p") or await self.point.fetch("s", "p")
        assert facts.patient is not None
        return facts.patient.egov

    async def close(self) -> None:
        """Make the change."""
        await self.point.change_patient("p", lambda facts: msgspec.structs.replace(facts, egov=False))


def tell(url: str, server: Server, story: Callable[[Side, Side, Any], Awaitable[None]]) -> None:
    """Tell a story of two points that both remember an open patient."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            namespace = new_namespace()
            client = await stack.enter_async_context(plain(server))
            one, other = [await Side().open(stack, url, server, namespace) for _ in range(2)]
            await one.point.record((SubjectFacts("s"),), (PatientFacts("p", egov=True),))
            await until(lambda: other.redis.hints.read > 0)
            await other.probe()
            assert (await one.is_open(), await other.is_open()) == (True, True)
            await story(one, other, client)

    asyncio.run(run())


def test_a_change_is_denied_elsewhere_without_a_probe(postgres: PostgresServer, valkey: Server) -> None:
    """With hints, the other point's next answer after the hint is the new one; it has not probed."""

    async def story(one: Side, other: Side, _client: Any) -> None:
        before, read = other.point.position, other.redis.hints.read
        await one.close()
        await until(lambda: other.redis.hints.read > read)

        assert not await other.is_open()
        assert other.point.position == before

    tell(postgres.new_truth(), valkey, story)


def test_what_one_read_the_other_need_not_read(postgres: PostgresServer, valkey: Server) -> None:
    """A patient that one point has just read is taken from the copy by the other."""

    async def story(one: Side, other: Side, _client: Any) -> None:
        await one.close()
        await other.probe()
        assert not await one.is_open()
        await until(lambda: one.redis.copy.put >= 4)
        fills = other.point.fills

        assert not await other.is_open()
        assert (other.point.fills, other.shared.spared) == (fills, 1)

    tell(postgres.new_truth(), valkey, story)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", ["emptied", "stopped", "killed", "hints cut", "stream begun anew", "copies rolled back"]
)
def test_whatever_happens_to_redis_a_change_costs_one_probe(
    postgres: PostgresServer, mortal: Server, fault: str
) -> None:
    """After the fault the other point answers, and after its next probe it answers by the change."""

    async def story(one: Side, other: Side, client: Any) -> None:
        await until(lambda: one.redis.copy.put + other.redis.copy.put >= 2)
        names = [name async for name in client.scan_iter("ruqsat:*:facts:*")]
        old = {name: await client.get(name) for name in names}
        (stream,) = [name async for name in client.scan_iter("ruqsat:*:feed")]
        if fault == "emptied":
            await client.flushall()
        elif fault in ("stopped", "killed"):
            os.kill(mortal.process.pid, signal.SIGSTOP if fault == "stopped" else signal.SIGKILL)
        elif fault == "hints cut":
            one.redis.hints.send = lambda *_: None  # type: ignore[method-assign]
        elif fault == "stream begun anew":
            await client.delete(stream)
            await client.xadd(stream, {"h": b"x"}, id="1-1")
            await client.execute_command("XSETID", stream, "1-1")
        assert await other.is_open() in (True, False)
        await one.close()
        if fault == "copies rolled back":
            assert old
            for name, value in old.items():
                await client.set(name, value)
        await other.probe()

        assert not await other.is_open() and not await one.is_open()

    tell(postgres.new_truth(), mortal, story)
