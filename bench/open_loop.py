"""
An open-loop client: requests come at their times, whether or not earlier ones are answered.

A closed loop waits with its callers and never sees what a queue does to those who would have come meanwhile
(coordinated omission).  Here a latency counts from the moment at which the request was due.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

KindOf = Callable[[bytes, bytes], str]
MOST_CONNECTIONS = 1024
LATE = 0.05
"""Seconds; a client that is itself later than this measures itself."""


class Run:
    """What a run met: when each request was due, when it was answered, and how."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float, str]] = []
        self.due = self.unanswered = 0
        self.began = self.lag = 0.0

    def of(self, kind: str, since: float = 0.0) -> list[float]:
        """Return the latencies of answers of a kind, sorted, of requests that were due after *since* seconds."""
        return sorted(end - due for due, end, what in self.answers if what == kind and due - self.began >= since)

    @property
    def kinds(self) -> Counter[str]:
        """How many answers there were of each kind."""
        return Counter(what for _, _, what in self.answers)


def quantile(sorted_values: list[float], share: float) -> float:
    """Return a quantile; infinite where there is nothing."""
    return (
        sorted_values[min(len(sorted_values) - 1, int(share * len(sorted_values)))] if sorted_values else float("inf")
    )


class _Caller(asyncio.Protocol):
    """One connection, with one request on it at a time."""

    def __init__(self, pool: "_Pool") -> None:
        self._pool = pool
        self._due: float | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._pool.took(self)
        self._pool.is_free(self)

    def end(self) -> None:
        """Hang up."""
        self._transport.abort()

    def ask(self, request: bytes, due: float) -> None:
        """Send a request that was due at that moment."""
        self._due, self._received = due, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._due is None:
            return
        lower = head.lower()
        place = lower.find(b"content-length: ")
        if len(body) < int(lower[place + 16 :].partition(b"\r\n")[0]):
            return
        due, self._due = self._due, None
        self._pool.answered(due, head, body)
        if b"\r\nconnection: close" in lower:
            self._transport.close()
        else:
            self._pool.is_free(self)

    def connection_lost(self, _: Exception | None) -> None:
        if self._due is not None:
            self._pool.run.unanswered += 1
        self._pool.is_gone(self)


class _Pool:
    def __init__(self, address: str, request: bytes | Sequence[bytes], kind_of: KindOf, run: Run) -> None:
        self._host, _, port = address.rpartition(":")
        self._port, self._kind_of, self.run = int(port), kind_of, run
        self._requests = cycle((request,) if isinstance(request, bytes) else request)
        self._free: list[_Caller] = []
        self._waiting: list[float] = []
        self._opened = 0
        self._callers: set[_Caller] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def ask(self, due: float) -> None:
        """Ask on a free connection, or on the next that comes free; open one more, up to the most."""
        if self._free:
            self._free.pop().ask(next(self._requests), due)
            return
        self._waiting.append(due)
        if self._opened < MOST_CONNECTIONS:
            self.open()

    def open(self) -> None:
        """Open one more connection."""
        self._opened += 1
        opening = asyncio.get_running_loop().create_connection(lambda: _Caller(self), self._host, self._port)
        task = asyncio.get_running_loop().create_task(opening)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def is_free(self, caller: _Caller) -> None:
        if self._waiting:
            caller.ask(next(self._requests), self._waiting.pop(0))
        else:
            self._free.append(caller)

    def took(self, caller: _Caller) -> None:
        self._callers.add(caller)

    async def aclose(self) -> None:
        """Hang up everywhere."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in list(self._callers):
            caller.end()
        while self._callers:  # noqa: ASYNC110 - a measurement is no place for more machinery
            await asyncio.sleep(0)

    def is_gone(self, caller: _Caller) -> None:
        self._opened -= 1
        self._callers.discard(caller)
        if caller in self._free:
            self._free.remove(caller)

    def answered(self, due: float, head: bytes, body: bytes) -> None:
        self.run.answers.append((due, time.perf_counter(), self._kind_of(head, body)))

    @property
    def is_settled(self) -> bool:
        return len(self.run.answers) + self.run.unanswered >= self.run.due


async def at_rate(
    address: str,
    request: bytes | Sequence[bytes],
    rate: float,
    seconds: float,
    kind_of: KindOf,
    patience: float = 10.0,
) -> Run:
    """
    Ask at a fixed rate for some seconds, and wait until everything is answered.

    Args:
        request: The bytes to send; several are sent in turns.
        kind_of: Names an answer, given its head and its body.
        patience: How long to wait for the last answers; what is not there by then is unanswered.
    """
    run = Run()
    pool = _Pool(address, request, kind_of, run)
    for _ in range(32):
        pool.open()
    await asyncio.sleep(0.2)
    run.began = began = time.perf_counter()
    total = int(rate * seconds)
    while run.due < total:
        now = time.perf_counter()
        while run.due < total and began + run.due / rate <= now:
            due = began + run.due / rate
            run.due += 1
            run.lag = max(run.lag, now - due)
            pool.ask(due)
        await asyncio.sleep(0.0005)
    give_up = time.perf_counter() + patience
    while not pool.is_settled and time.perf_counter() < give_up:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await pool.aclose()
    run.unanswered = run.due - len(run.answers)
    return run


async def in_turns(address: str, request: bytes, callers: int, seconds: float, kind_of: KindOf) -> Run:
    """Ask with so many callers, each at once after its answer: what can be had without ever asking for too much."""
    run, ends = Run(), time.perf_counter() + seconds

    class Again(_Pool):
        def is_free(self, caller: _Caller) -> None:
            now = time.perf_counter()
            if now < ends:
                run.due += 1
                caller.ask(request, now)

    pool = Again(address, request, kind_of, run)
    run.began = time.perf_counter()
    for _ in range(callers):
        pool.open()
    while time.perf_counter() < ends or not pool.is_settled:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await pool.aclose()
    return run
