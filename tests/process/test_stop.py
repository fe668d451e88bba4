"""SIGTERM and SIGINT: whoever was let in is answered, nothing is lost, and the next start works at once."""

import asyncio
import json
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ruqsat.stores.journal_verification import verify_folder
from tests.process.checker import entries_in, not_as_told
from tests.process.load import ALLOWED, Heard, Reply, connected, http
from tests.process.starter import LISTENERS, Sidecar, serving

STOPS = 15 if os.environ.get("RUQSAT_TEST_LONGER", "1") == "1" else 50
CALLERS = 10
PROMPTLY = 8.0
"""Seconds; a stop may wait 15 for requests in flight, and must not wait for anything else."""

SETTLED = 3 + len(LISTENERS)
"""Connections that have had an answer and wait for the signal."""

READY = http("GET", "/health/ready")


class Stop:
    """What callers met while a process stopped."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.code = -1
        self.seconds = 0.0
        self.readiness: list[Reply] = []
        self.others: list[Reply] = []
        self.settled = asyncio.Barrier(SETTLED + 1)


async def watch_readiness(address: str, stop: Stop) -> None:
    """Ask for readiness on one connection until the server closes it."""
    async with connected(address) as connection:
        while not stop.readiness or not stop.readiness[-1].closes:
            stop.readiness.append(await connection.ask(READY))
            await asyncio.sleep(0.01)


async def finish_later(address: str, stop: Stop, cut: int, signalled: asyncio.Event) -> None:
    """Send the first *cut* bytes of a request before the signal, and the rest when others are gone already."""
    async with connected(address) as connection:
        await connection.ask(ALLOWED)
        await connection.send(ALLOWED[:cut])
        await stop.settled.wait()
        await signalled.wait()
        await asyncio.sleep(0.7)
        stop.others.append(await connection.ask(ALLOWED[cut:]))


async def ask_after(address: str, stop: Stop, seconds: float, signalled: asyncio.Event) -> None:
    """Ask once, *seconds* after the signal, on a connection that stood idle, and once on a new one."""
    async with connected(address) as connection:
        await connection.ask(ALLOWED)
        await stop.settled.wait()
        await signalled.wait()
        await asyncio.sleep(seconds)
        stop.others.append(await connection.ask(ALLOWED))
    async with connected(address) as connection:
        stop.others.append(await connection.ask(ALLOWED))


async def stay_idle(address: str, stop: Stop, signalled: asyncio.Event) -> None:
    """Hold a connection without a word; the server ends it properly."""
    async with connected(address) as connection:
        await connection.ask(ALLOWED)
        await stop.settled.wait()
        await signalled.wait()
        assert await connection.read_to_end() == b""


async def stop_under_load(sidecar: Sidecar, number: signal.Signals, seed: int) -> Stop:
    """Let many callers ask, signal the process amid their requests, and return what each of them met."""
    chance, stop, signalled = random.Random(seed), Stop(), asyncio.Event()
    address = sidecar.addresses["json"]
    async with asyncio.TaskGroup() as callers:
        for _ in range(CALLERS):
            callers.create_task(stop.heard.ask_until_closed(address, chance.randrange(2**32)))
        callers.create_task(watch_readiness(sidecar.addresses["control"], stop))
        callers.create_task(finish_later(address, stop, 40, signalled))
        callers.create_task(finish_later(address, stop, len(ALLOWED) - 40, signalled))
        callers.create_task(ask_after(address, stop, chance.uniform(0.03, 0.15), signalled))
        for listener in LISTENERS:
            callers.create_task(stay_idle(sidecar.addresses[listener], stop, signalled))
        await stop.settled.wait()  # what is to stand idle before the signal has had its answer by then
        await asyncio.sleep(chance.uniform(0.15, 0.5))
        began = time.monotonic()
        sidecar.send_signal(number)
        signalled.set()
        stop.code = await asyncio.to_thread(sidecar.wait)
        stop.seconds = time.monotonic() - began
    return stop


@pytest.mark.slow
@pytest.mark.parametrize("number", [*[signal.SIGTERM] * STOPS, signal.SIGINT])
def test_stopping_sidecar_answers_everyone_it_let_in(tmp_path: Path, number: signal.Signals) -> None:
    """Requests in flight, half sent, or just coming are answered and told to close; the exit is 0; nothing is lost."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with serving(tmp_path) as sidecar:
        addresses = sidecar.addresses
        stop = asyncio.run(stop_under_load(sidecar, number, seed))
        logged = sidecar.stderr

    assert stop.code == 0
    assert stop.seconds < PROMPTLY
    assert stop.heard.unanswered == 0
    assert stop.heard.told_to_close == CALLERS
    assert stop.heard.others == []
    assert [(reply.status, reply.closes) for reply in stop.others] == [(200, True)] * 4
    assert [reply.status for reply in stop.readiness[:1]] == [200]
    assert stop.readiness[-1].status == 503
    assert stop.readiness[-1].json() == {"status": "not ready", "reasons": ["draining"]}
    assert [line for line in logged.splitlines() if json.loads(line)["level"] != "WARNING"] == []
    assert not_as_told(tmp_path / "journal", stop.heard) == []
    assert verify_folder(tmp_path / "journal").findings == ()
    before = len(entries_in(tmp_path / "journal"))

    with serving(tmp_path, **{f"{name}_listen": address for name, address in addresses.items()}) as again:
        assert again.addresses == addresses
        assert again.evaluate().json()["decision"] is True
        assert again.stop() == 0
    assert [entry["kind"] for entry in entries_in(tmp_path / "journal")[before:]] == ["segment", "policy", "decision"]


def test_idle_connections_do_not_hold_up_a_stop(tmp_path: Path) -> None:
    """Three listeners with idle connections are gone within seconds, though a stop may wait fifteen."""

    async def hold_and_stop(sidecar: Sidecar) -> float:
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(connected(sidecar.addresses[name])) for name in LISTENERS * 5
            ]
            for connection in connections[: len(LISTENERS)]:
                await connection.ask(READY)
            began = time.monotonic()
            assert await asyncio.to_thread(sidecar.stop) == 0
            took = time.monotonic() - began
            assert [await connection.read_to_end() for connection in connections] == [b""] * 15
        return took

    with serving(tmp_path, drain_seconds="15") as sidecar:
        assert asyncio.run(hold_and_stop(sidecar)) < PROMPTLY


def test_second_signal_ends_the_wait(tmp_path: Path) -> None:
    """Whoever asks twice is not kept waiting by a request that never comes to its end; the exit is still 0."""

    async def hold_and_stop_twice(sidecar: Sidecar) -> float:
        async with connected(sidecar.addresses["json"]) as connection:
            await connection.ask(ALLOWED)
            await connection.send(ALLOWED[:-10])
            began = time.monotonic()
            sidecar.send_signal()
            await asyncio.sleep(1)
            assert sidecar.process.poll() is None
            sidecar.send_signal()
            assert await asyncio.to_thread(sidecar.wait) == 0
        return time.monotonic() - began

    with serving(tmp_path, drain_seconds="15") as sidecar:
        assert asyncio.run(hold_and_stop_twice(sidecar)) < PROMPTLY
    assert verify_folder(tmp_path / "journal").findings == ()
