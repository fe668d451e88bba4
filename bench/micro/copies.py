"""
What facts cost that another sidecar has read before: from memory, from the shared copy in Valkey, from PostgreSQL.

Two information points in one process, each with connections of its own, on one PostgreSQL and one Valkey of ours.  One
reads everybody, which puts copies into Valkey; the other then asks for each patient once from there, and once more
from memory; a third, without Valkey, reads the store.  The clinician is in memory already, as one at work is; *both*
are patients with a clinician of their own, of whom the copy alone knows.  A round trip is a PING on a connection like
theirs, in turns; the loop is the sidecar's (uvloop).

Owed: from the shared copy at most two round trips more than from memory.

Run: ``PYTHONPATH=. python bench/micro/copies.py``
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from bench.revocation import point
from tests.ground import running_postgres, running_valkey

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.service.information_point import InformationPoint
from ruqsat.stores.redis_lane import RedisLane, open_server
from ruqsat.stores.sql_database import upgrade_database

PATIENTS, OWED, SECONDS = 400, 2.0, 5.0


async def timed(work: Awaitable[Any]) -> float:
    """Return the microseconds that *work* took."""
    began = time.perf_counter()
    await work
    return (time.perf_counter() - began) * 1e6


async def in_memory(asked: InformationPoint, patient: str) -> None:
    """Take the facts from memory, where they must be."""
    assert asked.facts_now("s", patient) is not None


async def measure(url: str, redis: str) -> dict[str, list[float]]:
    """Return microseconds of every reading, by where it came from."""
    names = [f"p{number}" for number in range(PATIENTS)]
    pairs = [(f"s{number}", f"q{number}") for number in range(PATIENTS)]
    kinds = ("memory", "shared copy", "shared copy, both", "store", "round trip")
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with AsyncExitStack() as stack:
        first, second = [await point(stack, url, redis) for _ in range(2)]
        alone = await point(stack, url, None)
        subjects, patients = zip(*pairs, strict=True)
        await first.record(
            tuple(SubjectFacts(name) for name in ("s", *subjects)),
            tuple(PatientFacts(name, egov=True) for name in (*names, *patients)),
        )
        for asked in (second, alone):
            await asked.probe_once()
            await asked.fetch("s", None)
        for pair in (*(("s", name) for name in names), *pairs):
            await first.fetch(*pair)
        await asyncio.sleep(1.0)  # copies are put behind the readers' backs
        server = open_server(redis)
        lane = RedisLane(server, SECONDS)
        stack.push_async_callback(lane.aclose)
        turns: list[tuple[str, Callable[[int], Awaitable[Any]]]] = [
            ("round trip", lambda _: lane.ask("PING")),
            ("shared copy", lambda number: second.fetch("s", names[number])),
            ("shared copy, both", lambda number: second.fetch(*pairs[number])),
            ("store", lambda number: alone.fetch("s", names[number])),
        ]
        for number in range(PATIENTS):
            for kind, work in turns:
                took[kind].append(await timed(work(number)))
            took["memory"].append(await timed(in_memory(second, names[number])))
            turns.append(turns.pop(0))  # who comes after whom changes what is warm
        assert second.fills <= PATIENTS // 50, f"{second.fills} readings came from the store, not from the copy"
    return took


def copies(_: int = 0, __: float = 0.0) -> list[dict[str, Any]]:
    """Start both servers, measure, and return a record a kind."""
    with TemporaryDirectory(prefix="ruqsat-bench-") as name:
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "pg"), durable=True) as server, running_valkey(Path(name, "vk")) as valkey:
            url = server.new_database()
            asyncio.run(upgrade_database(url))
            took = uvloop.run(measure(url, f"redis://127.0.0.1:{valkey.port}"))
    return [
        {"name": "ruqsat", "scenario": "copies", "kind": kind, "p50_us": statistics.median(times),
         "p99_us": sorted(times)[int(len(times) * 0.99)], "readings": len(times), "wrong": 0}
        for kind, times in took.items()
    ]  # fmt: skip


def round_trips(records: list[dict[str, Any]], kind: str = "shared copy") -> float:
    """Return how many round trips *kind* costs more than memory, by the medians."""
    middle = {each["kind"]: each["p50_us"] for each in records}
    return float((middle[kind] - middle["memory"]) / middle["round trip"])


def main() -> int:
    """Print, and judge."""
    records = copies()
    for each in records:
        print(f"{each['kind']:<17} p50 {each['p50_us']:7.1f} µs, p99 {each['p99_us']:7.1f} µs")
    more = round_trips(records)
    verdict = "kept" if more <= OWED else "MISSED"
    both = round_trips(records, "shared copy, both")
    print(f"shared copy over memory: {more:.2f} round trips, owed {OWED:g}: {verdict}; both from there: {both:.2f}")
    return 0 if more <= OWED else 1


if __name__ == "__main__":
    sys.exit(main())
