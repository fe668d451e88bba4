"""
Three sidecars while everything around them goes wrong: what was withdrawn stops opening within Δ, the rest goes on.

`RUQSAT_TEST_LONGER` multiplies the length of the run, `RUQSAT_TEST_SEED` repeats
the draws of one (not its timing).  A violation is never tried again: it is printed.
"""

import asyncio
import os
import random
from typing import NamedTuple

import psycopg
import pytest

from tests.chaos.checker import at_once, boottime, check_forever
from tests.chaos.faults import Faults
from tests.chaos.fleet import fleet
from tests.chaos.verdict import Check, Pause, Span, Write, count_alive, count_violations, earliest_sent, outages
from tests.chaos.world import patient
from tests.chaos.writer import Writer

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
SECONDS = 60 if LONGER == 1 else 30 * LONGER
"""60 s for every change, ten minutes where `make soak` asks for twenty times as long."""

DELTA = 2.0
SETTINGS = {"lease_seconds": f"{DELTA:g}", "probe_seconds": "0.5"}
TOUCHED, UNTOUCHED = [patient(n) for n in range(8)], [patient(n) for n in range(8, 12)]
CALLERS = 3
LEAST_ALIVE = 0.99


class Recorded(NamedTuple):
    """What a run was like."""

    writes: list[Write]
    checks: list[Check]
    pauses: list[Pause]
    spans: list[Span]
    faults: dict[str, int]

    def lay_in_a_pause(self, check: Check) -> bool:
        """Tell whether the answer was sent after a pause that its request had to wait through."""
        return earliest_sent(check, [each for each in self.pauses if each.sidecar == check.sidecar]) > check.sent


async def run(seed: int, seconds: float) -> Recorded:
    """Let everything go on and go wrong for *seconds*."""
    chance, writes, checks = random.Random(seed), list[Write](), list[Check]()
    people = [each.id for each in TOUCHED + UNTOUCHED]
    async with fleet(["a", "b", "c"], TOUCHED, UNTOUCHED, **SETTINGS) as running:
        with psycopg.connect(running.url) as connection:
            key = connection.execute("SELECT value FROM meta WHERE name = 'token_key'").fetchone()
        assert key is not None
        faults = Faults(running, bytes(key[0]), random.Random(chance.random()), DELTA)
        writer = Writer(running, random.Random(chance.random()), writes.append)
        writer.is_up = faults.is_up
        work = [writer.live(each, DELTA) for each in TOUCHED]
        work += [faults.forever_at_sql(), faults.forever_at_redis()]
        work += [
            check_forever(node.name, node.sidecar.addresses["json"], people, chance.randrange(2**32), checks.append)
            for node in running.nodes
            for _ in range(CALLERS)
        ]
        await at_once(work, seconds)
        faults.finish()
        assert all(node.sidecar.process.poll() is None for node in running.nodes)
        return Recorded(writes, checks, faults.pauses, faults.spans, faults.done)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 240)
def test_what_was_withdrawn_opens_nothing_after_delta_whatever_goes_wrong() -> None:
    """No allow is sent Δ after its withdrawal; and while SQL and sidecars are well, nothing else is denied."""
    print(f"RUQSAT_TEST_SEED={SEED} for {SECONDS} s")
    began = boottime()
    recorded = asyncio.run(run(SEED, SECONDS))
    counted = count_violations(recorded.writes, recorded.checks, recorded.pauses, DELTA)
    alive = count_alive(recorded.checks, recorded.spans, frozenset(each.id for each in UNTOUCHED))
    print(f"{len(recorded.writes)} writes, {len(recorded.checks)} checks in {boottime() - began:.0f} s")
    print(f"{counted.tested} checks on what was withdrawn for Δ; {len(recorded.pauses)} pauses; {recorded.faults}")
    print(f"{sum(map(recorded.lay_in_a_pause, recorded.checks))} requests lay in the socket of one that stood still")
    print(f"alive: {alive.allowed} of {alive.asked}: {dict(alive.reasons)}")
    print(f"worst: {outages(recorded.checks, recorded.spans, frozenset(each.id for each in UNTOUCHED))[:8]}")

    assert counted.violations == ()
    assert counted.tested > 100
    opened = sum(check.allowed for check in recorded.checks if check.patient in {each.id for each in TOUCHED})
    assert opened > 100, "a run in which nothing opens proves nothing"
    assert len(recorded.faults) >= (15 if LONGER > 1 else 8)
    assert alive.asked > 200
    assert alive.allowed >= LEAST_ALIVE * alive.asked
