"""What goes wrong in a run, drawn at random: one stream of faults for Redis, one for SQL and the sidecars."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ruqsat.core.facts import Position
from ruqsat.stores.copy_seal import CopySeal
from tests.chaos.checker import boottime
from tests.chaos.fleet import NAMESPACE, Fleet, Node
from tests.chaos.proxy import flip_a_bit
from tests.chaos.verdict import Pause, Span
from tests.process.test_on_postgres import children

STREAM = f"ruqsat:{NAMESPACE}:feed"
FACTS = f"ruqsat:{NAMESPACE}:facts:*"
READ_ALL_SECONDS = 0.05
"""How long our loop has to read what a sidecar had sent before it stood still."""

LONGEST_RECOVERY = 60
"""Seconds within which a sidecar must be ready again at all; nothing is promised of how soon."""

_CALM = 0.5, 1.5


def all_stand(pid: int) -> bool:
    """Tell whether every thread of a process has stopped."""
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(state in ("T", "t") for state in states)


async def pause(node: Node, seconds: float) -> Pause:
    """Let a sidecar stand still for some time, and return when it did for certain."""
    os.kill(node.sidecar.pid, signal.SIGSTOP)
    while not all_stand(node.sidecar.pid):  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)
    stopped = boottime()
    await asyncio.sleep(READ_ALL_SECONDS)
    polled = boottime()
    try:
        await asyncio.sleep(seconds)
    finally:
        continued = boottime()
        os.kill(node.sidecar.pid, signal.SIGCONT)
    return Pause(node.name, stopped, polled, continued)


class Hostile:
    """Somebody who may do everything in Redis, knows the key that values are sealed with, and lies."""

    def __init__(self, client: Any, token_key: bytes, chance: Random) -> None:
        self._client, self._chance = client, chance
        self._seal = CopySeal(token_key)
        self._held: dict[bytes, bytes] = {}

    async def remember(self) -> int:
        """Keep a copy of all that is shared now and was not before; return how many there are."""
        async for name in self._client.scan_iter(FACTS):
            if value := await self._client.get(name):
                self._held.setdefault(name, value)
        return len(self._held)

    async def restore(self) -> None:
        """Put back what was remembered, as a replica that was behind would, or exchange values with one another."""
        names = list(self._held)
        for name, value in self._held.items():
            await self._client.set(
                name, value if self._chance.random() < 0.9 else self._held[self._chance.choice(names)]
            )

    async def drop(self, share: float = 0.7) -> None:
        """Take entries out of the stream before others have read them."""
        for id_, _ in await self._client.xrevrange(STREAM, count=20):
            if self._chance.random() < share:
                await self._client.xdel(STREAM, id_)

    async def repeat(self) -> None:
        """Send old entries once more, in any order."""
        old = await self._client.xrange(STREAM, count=200)
        for _, fields in self._chance.sample(old, min(len(old), 30)):
            await self._client.xadd(STREAM, fields)

    async def invent(self, epoch: str, seq: int, keys: bytes) -> None:
        """Send an entry that is sealed as ours are."""
        value = self._seal.seal(STREAM.encode(), Position(epoch, seq), keys)
        await self._client.xadd(STREAM, {"h": value})

    async def lie(self, epoch: str, applied: int) -> None:
        """Tell of changes to come, of other histories, and nonsense."""
        chance = self._chance
        for _ in range(20):
            ahead = applied + chance.choice((-50, -1, 0, 1, 2, 5, 1000, 10**12))
            keys = chance.choice((b'["patient:p-000"]', b'["ALL"]', b'["patient:p-001","patient:p-002"]'))
            await self.invent(chance.choice((epoch, epoch, "5eed")), max(0, ahead), keys)
            rubbish = bytes(chance.randrange(256) for _ in range(chance.randrange(60)))
            await self._client.xadd(STREAM, {chance.choice((b"h", b"x", rubbish)): rubbish})
        if chance.random() < 0.3:
            await self._client.set(STREAM + ":x", b"x")


_LEASE_AGE = re.compile(r"^ruqsat_lease_age_seconds (\S+)$", re.MULTILINE)


class Faults:
    """Does what goes wrong, and keeps when each sidecar stood still and when all was well with it and SQL."""

    def __init__(self, fleet: Fleet, token_key: bytes, chance: Random, delta: float) -> None:
        self._fleet, self._chance, self._delta = fleet, chance, delta
        self.pauses: list[Pause] = []
        self.spans: list[Span] = []
        self.done: dict[str, int] = {}
        self._well_since = {node.name: boottime() for node in fleet.nodes}
        self._stood: dict[str, float] = {}
        self._client: Any = Redis(port=fleet.valkey.server.port, socket_timeout=1, socket_connect_timeout=1)
        self._hostile = Hostile(self._client, token_key, chance)

    def is_up(self, node: Node) -> bool:
        """Tell whether nothing keeps this sidecar from answering."""
        return node.name in self._well_since

    def finish(self) -> None:
        """End what is well now."""
        for name, since in self._well_since.items():
            self.spans.append(Span(name, since, boottime()))
        self._well_since.clear()

    @asynccontextmanager
    async def _unwell(self, *nodes: Node) -> AsyncIterator[None]:
        """Count nothing as well with these, from now until they say that they are ready, and have heard SQL since."""
        for node in nodes:
            if (since := self._well_since.pop(node.name, None)) is not None:
                self.spans.append(Span(node.name, since, boottime()))
        yield
        over = boottime()
        async with asyncio.timeout(LONGEST_RECOVERY):
            for node in nodes:
                while not await self._is_ready(node, over):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.05)
                self._well_since[node.name] = boottime()

    async def _is_ready(self, node: Node, since: float) -> bool:
        """Tell whether it is ready by a lease got after *since*: one from before may end at the next moment."""
        asked = boottime()
        with suppress(httpx.HTTPError):
            if (await node.control.get("/health/ready")).status_code == 200:
                age = _LEASE_AGE.search((await node.control.get("/metrics")).text)
                return age is not None and float(age[1]) < asked - since
        return False

    def _long(self) -> float:
        return self._chance.uniform(0.3, 2.0) * self._delta

    def _some(self) -> list[Node]:
        return self._chance.sample(self._fleet.nodes, self._chance.randint(1, len(self._fleet.nodes) - 1))

    # ---- SQL and sidecars -----------------------------------------------------------------------

    async def stop_sidecars(self) -> None:
        """Some of the sidecars stand still."""
        nodes = self._some()
        async with self._unwell(*nodes):
            self.pauses += await asyncio.gather(*(pause(node, self._long()) for node in nodes))

    async def stop_sql(self) -> None:
        """PostgreSQL stands still, its connections open."""
        async with self._unwell(*self._fleet.nodes):
            server = self._fleet.postgres
            pids = (server.pid, *children(server.pid))
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(self._long())
            finally:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    async def part_from_sql(self) -> None:
        """Nothing goes between some sidecars and PostgreSQL; later what was held arrives, or it is lost."""
        nodes = self._some()
        async with self._unwell(*nodes):
            for node in nodes:
                node.sql.hold()
            try:
                await asyncio.sleep(self._long())
            finally:
                for node in nodes:
                    if self._chance.random() < 0.5:
                        node.sql.cut()
                    node.sql.heal()

    async def cut_sql(self) -> None:
        """Connections to PostgreSQL end, again and again."""
        async with self._unwell(*self._fleet.nodes):
            for _ in range(self._chance.randint(1, 4)):
                for node in self._some():
                    node.sql.cut()
                await asyncio.sleep(self._chance.uniform(0, 0.4))

    async def refuse_sql(self) -> None:
        """Some sidecars cannot connect to PostgreSQL."""
        nodes = self._some()
        async with self._unwell(*nodes):
            for node in nodes:
                node.sql.is_refusing = True
                node.sql.cut()
            try:
                await asyncio.sleep(self._long())
            finally:
                for node in nodes:
                    node.sql.heal()

    # ---- Redis ------------------------------------------------------------------------------------

    async def stop_redis(self) -> None:
        """Valkey stands still."""
        pid = self._fleet.valkey.server.process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._long())
        finally:
            os.kill(pid, signal.SIGCONT)

    async def restart_redis(self) -> None:
        """Valkey is killed, and comes back with nothing in it."""
        await asyncio.to_thread(self._fleet.valkey.restart)

    async def flush(self) -> None:
        """Everything in Valkey is gone."""
        await self._client.flushall()

    async def restore_redis(self) -> None:
        """Old copies come back, and again."""
        await self._hostile.remember()
        for _ in range(self._chance.randint(5, 30)):
            await asyncio.sleep(0.1)
            await self._hostile.restore()

    async def drop_entries(self) -> None:
        """Hints vanish."""
        for _ in range(60):
            await self._hostile.drop()
            await asyncio.sleep(0.02)

    async def repeat_entries(self) -> None:
        """Hints come again, in another order."""
        for _ in range(10):
            await self._hostile.repeat()
            await asyncio.sleep(0.05)

    async def lie(self) -> None:
        """Hints that nobody meant."""
        said = (await self._fleet.nodes[0].control.get("/status")).json()
        await self._hostile.lie(said["epoch"], said["applied"])

    async def hold_redis(self) -> None:
        """Nothing goes between some sidecars and Valkey, or slowly; later it arrives, or it is lost."""
        nodes, slow = self._some(), self._chance.random() < 0.3
        for node in nodes:
            node.redis.delay_seconds = 0.015 if slow else 0.0
            if not slow:
                node.redis.hold()
        await asyncio.sleep(self._long())
        for node in nodes:
            if self._chance.random() < 0.5:
                node.redis.cut()
            node.redis.heal()

    async def cut_redis(self) -> None:
        """Connections to Valkey end, or cannot be made."""
        for node in self._some():
            node.redis.is_refusing = self._chance.random() < 0.5
            node.redis.cut()
        await asyncio.sleep(self._chance.uniform(0, 1))
        for node in self._fleet.nodes:
            node.redis.heal()

    async def spoil_redis(self) -> None:
        """Bits of what Valkey says are turned over."""
        for node in self._some():
            node.redis.spoil = flip_a_bit(self._chance, 0.5)
        await asyncio.sleep(self._long())
        for node in self._fleet.nodes:
            node.redis.heal()

    # ---- in turn --------------------------------------------------------------------------------

    async def _forever(self, kinds: list[Callable[[], Awaitable[None]]]) -> None:
        while True:
            # Each kind once before any comes again: a short run has met them all.
            for fault in self._chance.sample(kinds, len(kinds)):
                await asyncio.sleep(self._chance.uniform(*_CALM))
                with suppress(RedisError, httpx.HTTPError):  # of our own client, while another fault holds
                    await fault()
                name = fault.__name__  # type: ignore[attr-defined]
                self.done[name] = self.done.get(name, 0) + 1

    async def forever_at_sql(self) -> None:
        """Do one thing to SQL or to sidecars after the other, until cancelled."""
        await self._forever(
            [self.stop_sidecars, self.stop_sql, self.part_from_sql, self.cut_sql, self.refuse_sql, self.stop_sidecars]
        )

    async def forever_at_redis(self) -> None:
        """Do one thing to Redis after the other, until cancelled."""
        try:
            await self._forever(
                [
                    self.stop_redis, self.restart_redis, self.flush, self.restore_redis, self.drop_entries,
                    self.repeat_entries, self.lie, self.hold_redis, self.cut_redis, self.spoil_redis,
                ]
            )  # fmt: skip
        finally:
            await self._client.aclose()
