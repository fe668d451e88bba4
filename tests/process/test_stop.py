"""SIGTERM and SIGINT: whoever was let in is answered, nothing is lost, and the next start works at once."""

import asyncio
import json
import os
import random
import signal
import time
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest

from ruqsat.stores.journal_verification import verify_folder
from tests.process.checker import entries_in, not_as_told
from tests.process.load import ALLOWED, Connection, GoneError, Heard, Reply, connected, http
from tests.process.starter import LISTENERS, Sidecar, serving

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
STOPS = 6 if LONGER == 1 else 50
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
CALLERS = 10
PROMPTLY = 3.0
"""Seconds; a stop may wait 15 for requests in flight, and must not wait for anything else."""

OWED = 0.1
"""Whoever has sent by then, by the caller's own clock, is answered; later, the connection may be gone."""

READY = http("GET", "/health/ready")


class Stop:
    """What callers met while a process stopped."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.code = -1
        self.began = self.seconds = 0.0
        self.readiness: list[Reply] = []
        self.others: list[Reply] = []
        self.late = self.prepared = 0


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
        stop.prepared += 1
        await signalled.wait()
        await asyncio.sleep(0.7)
        stop.others.append(await connection.ask(ALLOWED[cut:]))


async def ask_after(address: str, stop: Stop, seconds: float, signalled: asyncio.Event) -> None:
    """Ask once, *seconds* after the signal, on a connection that stood idle, and once on a new one."""
    async with connected(address) as idle:
        await idle.ask(ALLOWED)
        stop.prepared += 1
        await signalled.wait()
        await asyncio.sleep(seconds)
        await ask_or_late(idle, stop)
        with suppress(ConnectionError):
            async with connected(address) as new:
                await ask_or_late(new, stop)


async def ask_or_late(connection: Connection, stop: Stop) -> None:
    """Ask; a busy machine may bring the question after everything is over, and only then may it have no answer."""
    with suppress(ConnectionError):
        await connection.send(ALLOWED)
    after = asyncio.get_running_loop().time() - stop.began
    try:
        stop.others.append(await connection.ask(b""))
    except GoneError:
        assert after > OWED, f"sent {after:.3f} s after the signal, and no answer"
        stop.late += 1


async def stay_idle(address: str, stop: Stop, signalled: asyncio.Event) -> None:
    """Hold a connection without a word; the server ends it properly."""
    async with connected(address) as connection:
        await connection.ask(ALLOWED)
        stop.prepared += 1
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
        while stop.prepared < 3 + len(LISTENERS):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        stop.began = asyncio.get_running_loop().time()
        sidecar.send_signal(number)
        signalled.set()
        stop.code = await asyncio.to_thread(sidecar.wait)
        stop.seconds = asyncio.get_running_loop().time() - stop.began
    return stop


def check_stop(stop: Stop, logged: str, journal: Path, before: Heard) -> None:
    """Whoever was let in was answered and told to close; the exit is 0; each answer is in the journal."""
    assert stop.code == 0
    assert stop.seconds < PROMPTLY
    assert stop.heard.unanswered == 0
    assert stop.heard.told_to_close == CALLERS
    assert stop.heard.others == []
    assert {(reply.status, reply.closes) for reply in stop.others} == {(200, True)}
    assert len(stop.others) + stop.late >= 3
    assert [reply.status for reply in stop.readiness[:1]] == [200]
    assert stop.readiness[-1].status == 503
    assert stop.readiness[-1].json() == {"status": "not ready", "reasons": ["draining"]}
    assert [line for line in logged.splitlines() if json.loads(line)["level"] != "WARNING"] == []
    before.allowed += stop.heard.allowed
    before.denied += stop.heard.denied
    assert not_as_told(journal, before) == []


@pytest.mark.slow
@pytest.mark.timeout(60 + STOPS * 20)
def test_stopping_sidecar_answers_everyone_it_let_in(tmp_path: Path) -> None:
    """Restarted under load again and again at the same addresses: requests in flight, half sent, or just coming."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    chance, told, late, addresses = random.Random(SEED), Heard(), 0, dict[str, str]()
    for number in range(STOPS):
        with serving(tmp_path, **{f"{name}_listen": address for name, address in addresses.items()}) as sidecar:
            assert addresses in ({}, sidecar.addresses)
            addresses = sidecar.addresses
            signalled = signal.SIGINT if number % 5 == 4 else signal.SIGTERM
            stop = asyncio.run(stop_under_load(sidecar, signalled, chance.randrange(2**32)))
            check_stop(stop, sidecar.stderr, tmp_path / "journal", told)
        late += stop.late
    assert verify_folder(tmp_path / "journal").findings == ()
    before = len(entries_in(tmp_path / "journal"))
    print(f"{STOPS} stops, {len(told.allowed) + len(told.denied)} answers, {late} came too late to be let in")

    with serving(tmp_path, **{f"{name}_listen": address for name, address in addresses.items()}) as again:
        assert again.evaluate().json()["decision"] is True
        assert again.stop() == 0
    assert [entry["kind"] for entry in entries_in(tmp_path / "journal")[before:]] == [
        "segment", "policy", "facts", "facts", "decision",
    ]  # fmt: skip


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
