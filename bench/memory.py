"""
``make bench-memory``: an adversarial mix at every listener, and the memory of the sidecar meanwhile.

Everything that an outsider can make grow is pushed: subjects and patients that nobody knows, batches, tokens,
headers, targets, connections that say half of something, bodies of vectors.yaml, searches, gRPC messages. The first
two fifths of the time are for what is bounded to fill; then memory must stay: ends with 1 if the median of the last
fifth is more than 5 % and 2 MB above that of the third, if the sidecar is not well afterwards, or if something was
allowed that must not be.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import grpc
import uvloop
from tests.sidecar import Sidecar, running_sidecar
from tests.wire import vectors
from tests.wire.ways import (
    EVALUATION,
    RECORD,
    asked,
    check,
    checked,
    lets_through,
    posted,
    proxied,
    question,
    request,
    told,
)

MORE, AND = 1.05, 2.0
BODIES = [each for each in vectors.bodies(question()) if len(each) < 100_000]
TARGETS = vectors.targets(RECORD)


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


class Mix:
    """The attackers."""

    def __init__(self, sidecar: Sidecar, seed: int) -> None:
        self.sidecar, self.chance = sidecar, Random(seed)
        self.sent: Counter[str] = Counter()
        self.allowed: list[str] = []

    def address(self, listener: str) -> str:
        """Return where a listener is."""
        return f"127.0.0.1:{self.sidecar.ports[listener]}"

    def word(self) -> str:
        """Return a name that nobody had before."""
        return f"{self.chance.randrange(2**64):x}"

    async def _told(self, listener: str, sent: bytes) -> None:
        answer = await told(self.address(listener), sent)
        if answer.allows and listener != "control":
            self.allowed.append(f"{sent[:200]!r} {answer.raw[:200]!r}")

    def stranger(self) -> dict[str, object]:
        """Return a question about people that nobody knows."""
        return {
            "subject": {"type": "user", "id": self.word()}, "action": {"name": "read"},
            "resource": {"type": "Record", "id": self.word(), "properties": {"patient": self.word(), "class": "labs"}},
            "context": {"purpose": "TREAT", self.word(): self.word()},
        }  # fmt: skip

    async def strangers(self) -> None:
        """One question about strangers, with ids of its own in every header that is kept."""
        lines = (f"X-Request-ID: {self.word()}", f"traceparent: 00-{self.word()}", f"X-{self.word()}: {self.word()}")
        await self._told("json", posted(EVALUATION, json.dumps(self.stranger()).encode(), *lines))

    async def batch(self) -> None:
        """A large batch of them."""
        body = {"evaluations": [self.stranger() for _ in range(self.chance.choice((10, 100, 300)))]}
        await self._told("json", posted("/access/v1/evaluations", json.dumps(body).encode()))

    async def odd_body(self) -> None:
        """A body of the vectors, at any endpoint that takes one."""
        path = self.chance.choice((EVALUATION, "/access/v1/evaluations"))
        await self._told("json", posted(path, self.chance.choice(BODIES)))

    async def search(self) -> None:
        """A search for what a stranger may do."""
        await self._told("json", posted("/access/v1/search/action", json.dumps(self.stranger()).encode()))

    async def token(self) -> None:
        """A good token of somebody new, and headers of all kinds."""
        who = f"Authorization: Bearer {self.sidecar.token(self.word(), roles=['physician'], org=self.word())}"
        dialect = self.chance.choice(("nginx", "envoy", "caddy"))
        lines = [f"X-{self.word()}: {self.word()}" for _ in range(self.chance.randrange(40))]
        await self._told("auth", proxied(dialect, RECORD, who, *lines))

    async def forged(self) -> None:
        """A token that is none, at an odd target."""
        who = f"Authorization: Bearer {self.word()}.{self.word()}.{self.word()}"
        await self._told("auth", proxied(self.chance.choice(("nginx", "envoy")), self.chance.choice(TARGETS), who))

    async def control(self) -> None:
        """A path and a query that nobody asked for before."""
        path = self.chance.choice(("/v1/consents/", "/v1/patients/", "/", "/metrics?", "/health/ready?", "/v1/blocks/"))
        who = f"Authorization: Bearer {self.sidecar.token(self.word())}"
        await self._told("control", request("GET", path + self.word(), who, f"X-{self.word()}: {self.word()}"))

    async def half(self) -> None:
        """Half of something, and then nothing; the connection is left."""
        whole = posted(EVALUATION, asked())
        host, _, port = self.address(self.chance.choice(("json", "auth", "control", "grpc"))).rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(whole[: self.chance.randrange(len(whole))])
        await asyncio.sleep(self.chance.uniform(0, 2))
        writer.transport.abort()

    async def rpc(self) -> None:
        """Messages over gRPC, some of them spoilt."""
        message = checked(f"/patients/{self.word()}/labs/{self.word()}", [self.word().encode()]).SerializeToString()
        for answer in await check(self.address("grpc"), [message, message[: self.chance.randrange(len(message))]]):
            if lets_through(answer):
                self.allowed.append(str(answer))

    async def attack(self, until: float) -> None:
        """Do one after the other until the end."""
        kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "strangers": (30, self.strangers), "batch": (2, self.batch), "odd_body": (10, self.odd_body),
            "search": (3, self.search), "token": (15, self.token), "forged": (15, self.forged),
            "control": (8, self.control), "half": (10, self.half), "rpc": (3, self.rpc),
        }  # fmt: skip
        names = list(kinds)
        weights = [kinds[name][0] for name in names]
        while time.monotonic() < until:
            (name,) = self.chance.choices(names, weights)
            with suppress(ConnectionError, asyncio.IncompleteReadError, grpc.aio.AioRpcError, OSError):
                await kinds[name][1]()
            self.sent[name] += 1


async def run(mix: Mix, seconds: float, attackers: int) -> list[float]:
    """Let them attack, and look at the memory all the while."""
    until, seen = time.monotonic() + seconds, []
    async with asyncio.TaskGroup() as group:
        for _ in range(attackers):
            group.create_task(mix.attack(until))
        while time.monotonic() < until:
            seen.append(resident_mb(mix.sidecar.process.pid))
            await asyncio.sleep(max(0.2, seconds / 300))
    return seen


def judge(seen: list[float]) -> tuple[float, float, float]:
    """Return the medians of the third and of the last fifth, and what the last may be at most."""
    fifth = max(1, len(seen) // 5)
    early, late = statistics.median(seen[2 * fifth : 3 * fifth]), statistics.median(seen[-fifth:])
    return early, late, early * MORE + AND


def measure(folder: Path, seconds: float, seed: int, attackers: int = 24) -> tuple[Mix, list[float], bool]:
    """Attack a sidecar of our own; return what was sent, the memory, and whether it is well afterwards."""
    settings = {"cache_entries": "500", "json_search": "true", "grpc_listen": "127.0.0.1:0", "max_connections": "512"}
    with running_sidecar(folder, **settings) as sidecar:
        mix = Mix(sidecar, seed)
        seen = uvloop.run(run(mix, seconds, attackers))
        answer = asyncio.run(told(mix.address("json"), posted(EVALUATION, asked())))
        ready = asyncio.run(told(mix.address("control"), request("GET", "/health/ready")))
    return mix, seen, answer.allows and ready.status == 200


def main() -> int:
    """Attack, print, and judge."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--seconds", type=float, default=600)
    given.add_argument("--seed", type=int, default=Random().randrange(2**32))
    given.add_argument("--every", type=float, default=60, help="print a line for so many seconds")
    asked_for = given.parse_args()
    print(f"seed {asked_for.seed}, {asked_for.seconds:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ruqsat-memory-", dir=os.environ.get("BENCH_DIR")) as folder:
        mix, seen, is_well = measure(Path(folder), asked_for.seconds, asked_for.seed)
    step = max(1, int(len(seen) * asked_for.every / asked_for.seconds))
    print("MB:", *(f"{each:.1f}" for each in seen[::step]), f"{seen[-1]:.1f}")
    early, late, most = judge(seen)
    print(f"sent: {dict(mix.sent)}")
    print(f"third fifth {early:.1f} MB, last {late:.1f} MB (owed at most {most:.1f}); well afterwards: {is_well}; "
          f"wrongly allowed: {len(mix.allowed)} {mix.allowed[:2]}")  # fmt: skip
    return 0 if late <= most and is_well and not mix.allowed else 1


if __name__ == "__main__":
    sys.exit(main())
