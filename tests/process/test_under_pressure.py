"""Too much at once, and for long: sheds are denials, everybody is answered, memory stays, and all is as before afterwards."""

import asyncio
import os
import random
from pathlib import Path

import pytest
import uvloop
from bench.memory import judge, measure
from bench.open_loop import at_rate, in_turns
from bench.overload import kind_of, request_of

from tests.process.checker import entries_in, not_as_told
from tests.process.load import Heard
from tests.process.starter import Sidecar, serving

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
SECONDS = 20 if LONGER == 1 else 600
CALLERS, LOOKS = 12, 100
MOST_A_SECOND = 4_000
"""So many requests a client here can send; what is asked for too much is meant to be the sidecar's limit, not its own."""


async def three_times_too_much(sidecar: Sidecar) -> int:
    """Ask for three times what can be had, from an open loop; return how many permits were told."""
    address, request = sidecar.addresses["auth"], request_of(sidecar)
    most = await in_turns(address, request, 1, 1.0, kind_of)
    rate = min(3.0 * most.kinds["permit"], MOST_A_SECOND)

    over = await at_rate(address, request, rate, 2.0, kind_of, patience=60)
    print(f"{most.kinds['permit']} a second can be had; of {over.due} {over.kinds}")
    after = await in_turns(address, request, 1, 1.0, kind_of)

    assert set(over.kinds) == {"permit", "shed"}
    assert over.unanswered == after.unanswered == 0
    assert set(most.kinds) == set(after.kinds) == {"permit"}
    return most.kinds["permit"] + over.kinds["permit"] + after.kinds["permit"]


@pytest.mark.slow
def test_three_times_too_much_is_shed_and_everybody_answered(tmp_path: Path) -> None:
    """403 `overloaded` without a subject, or a permit that is in the journal; afterwards nobody is turned away."""
    with serving(tmp_path, max_in_flight="1") as sidecar:
        told = uvloop.run(three_times_too_much(sidecar))
        shed = sidecar.call("control", "GET", "/metrics").text
        assert sidecar.stop() == 0

    assert len([entry for entry in entries_in(tmp_path / "journal") if entry.get("allowed")]) == told
    assert "ruqsat_requests_shed_total 0.0" not in shed and "ruqsat_requests_under_way 0.0" in shed
    assert "ruqsat_requests_waiting 0.0" in shed


async def stopped_amid_a_line(sidecar: Sidecar) -> Heard:
    """Ask with more callers than there are places, signal the process while somebody waits; return what they met."""
    heard = Heard()
    async with asyncio.TaskGroup() as callers:
        for number in range(CALLERS):
            callers.create_task(heard.ask_until_closed(sidecar.addresses["json"], SEED + number))
        for _ in range(LOOKS):
            seen = await asyncio.to_thread(sidecar.call, "control", "GET", "/metrics")
            if "ruqsat_requests_waiting 0.0" not in seen.text:
                break
        sidecar.send_signal()
    assert "ruqsat_requests_waiting " in seen.text and "ruqsat_requests_waiting 0.0" not in seen.text
    return heard


def test_whoever_waits_is_answered_when_the_process_stops(tmp_path: Path) -> None:
    """One place, a line, and callers for whom there is room in neither: decided or 503, told to close, and journaled."""
    with serving(tmp_path, max_in_flight="1", max_waiting="4") as sidecar:
        heard = asyncio.run(stopped_amid_a_line(sidecar))
        assert sidecar.wait() == 0

    print(f"{len(heard.allowed)} allowed, {len(heard.denied)} denied, {len(heard.others)} others")
    assert (heard.unanswered, heard.told_to_close) == (0, CALLERS)
    assert {reply.status for reply in heard.others} == {503}
    assert heard.allowed and not_as_told(tmp_path / "journal", heard) == []


@pytest.mark.slow
@pytest.mark.timeout(120 + 2 * SECONDS)
def test_memory_stays_under_an_adversarial_mix(tmp_path: Path) -> None:
    """Whatever outsiders can make grow is full soon, and grows no further; nothing is allowed, and all is well after."""
    print(f"RUQSAT_TEST_SEED={SEED}")

    mix, seen, is_well = measure(tmp_path, SECONDS, SEED)

    early, late, most = judge(seen)
    print(f"{mix.sent.total()} attacks; {early:.1f} MB, then {late:.1f} MB, at most {most:.1f} MB")
    assert mix.allowed == []
    assert is_well
    assert late <= most, seen
    assert min(mix.sent.values()) > 0 and len(mix.sent) == 9


def test_memory_that_grows_is_found() -> None:
    """A slow leak of a tenth is beyond what is owed, noise is not."""
    leak = [100 + second * 0.2 for second in range(100)]
    noise = [100 + (second * 7 % 5) * 0.3 for second in range(100)]

    assert judge(leak)[1] > judge(leak)[2]
    assert judge(noise)[1] <= judge(noise)[2]
