"""
How long a withdrawn consent still opens at another sidecar, and a granted one does not: with hints and without.

Two information points in one process, each with a store and connections of its own, on one PostgreSQL of ours that
syncs its commits.  One changes a patient; the other is asked all the time.  Counted is from the moment the
change is acknowledged to the first answer of the other that reflects it (nothing is counted if it came before).

Run: ``PYTHONPATH=.:src python bench/revocation.py --tries 300``
"""

import argparse
import asyncio
import random
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from tests.ground import running_postgres, running_valkey

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.clock import SystemClock
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.sharing import Sharing
from ruqsat.stores.redis import RedisSharing
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import upgrade_database

PATIENT = "patient-of-the-measurement"


async def point(stack: AsyncExitStack, url: str, redis: str | None) -> InformationPoint:
    """Build a point that probes every second, and hears hints if there is a Redis."""
    store = await SqlStore.open(url)
    stack.push_async_callback(store.aclose)
    rule, clock, sharing = Freshness(store.token_key), SystemClock(), None
    if redis is not None:
        side = RedisSharing(redis, "bench", store.token_key)
        sharing = Sharing(rule, clock, side.hints, side.copy)
        stack.push_async_callback(side.start(sharing.hear).aclose)
    built = InformationPoint(store, rule, clock, sharing=sharing)
    stack.push_async_callback(built.aclose)
    await built.probe_once()
    probing = asyncio.create_task(built.probe_forever())
    stack.callback(probing.cancel)
    return built


def opened(flag: bool, facts: PatientFacts) -> PatientFacts:
    """Open or close."""
    return msgspec.structs.replace(facts, egov=flag)


async def is_open(asked: InformationPoint) -> bool:
    """Whether a check at this moment would be answered by the open facts."""
    while True:
        try:
            facts = asked.facts_now("s", PATIENT) or await asked.fetch("s", PATIENT)
            break
        except StoreUnavailableError:  # a busy machine; the time goes on
            await asyncio.sleep(0.001)
    return facts.patient is not None and facts.patient.egov


async def measure(url: str, redis: str | None, tries: int) -> dict[str, list[float]]:
    """Return milliseconds from each acknowledged change to the first answer that reflects it, by kind of change."""
    async with AsyncExitStack() as stack:
        writer, asked = [await point(stack, url, redis) for _ in range(2)]
        await writer.record((SubjectFacts("s"),), (PatientFacts(PATIENT, egov=True),))
        await asyncio.sleep(1.5)
        took: dict[str, list[float]] = {"withdrawn, to deny": [], "granted, to allow": []}
        for number in range(tries):
            await asyncio.sleep(random.uniform(0, 1))  # spread over the period of the probe
            wanted = number % 2 == 0
            while await is_open(asked) is not wanted:  # noqa: ASYNC110 - asking is the measurement
                await asyncio.sleep(0.001)
            await writer.change_patient(PATIENT, lambda facts, flag=not wanted: opened(flag, facts))
            acknowledged = time.perf_counter()
            while await is_open(asked) is wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.0005)
            kind = "withdrawn, to deny" if wanted else "granted, to allow"
            took[kind].append((time.perf_counter() - acknowledged) * 1000)
        return {kind: sorted(times) for kind, times in took.items()}


def main() -> None:
    """Measure both and print quantiles."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--tries", type=int, default=300)
    tries = words.parse_args().tries
    with TemporaryDirectory(prefix="ruqsat-bench-") as name:
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "pg"), durable=True) as server, running_valkey(Path(name, "vk")) as valkey:
            url = server.new_database()
            asyncio.run(upgrade_database(url))
            for what, redis in (("with hints", f"redis://127.0.0.1:{valkey.port}"), ("without", None)):
                for kind, took in asyncio.run(measure(url, redis, tries)).items():
                    p50, p99 = took[len(took) // 2], took[int(len(took) * 0.99)]
                    figures = f"p50 {p50:.1f} ms  p99 {p99:.1f} ms  max {took[-1]:.1f} ms"
                    print(f"{what:>10}, {kind}: n={len(took)} {figures}", flush=True)


if __name__ == "__main__":
    main()
