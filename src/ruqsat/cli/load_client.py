"""
A client that loads a server: open loop, where requests come at their times, whether or not earlier ones are answered;
and closed loop, where each caller waits for its answer.

A closed loop waits with its callers and never sees what a queue does to those who would have come meanwhile
(coordinated omission).  Here a latency counts from the moment at which the request was due.
"""

import asyncio
import gc
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from typing import Any

KindOf = Callable[[bytes, bytes], str]
"""Names an answer, given its head and its body."""

Asked = tuple[bytes, KindOf]
"""A request as bytes of HTTP/1.1, and what names its answer."""

MOST_CONNECTIONS = 1024
LATE = 0.05
"""Seconds; a client that is itself later than this measures itself."""


class Run:
    """What a run met: when each request was due, when it was answered, and how; why a connection was refused."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, float, str]] = []
        self.due = self.unanswered = self.unopened = 0
        self.began = self.lag = 0.0
        self.refusal = ""

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


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep the collector of garbage from what is in memory: to look through a world of questions takes 0.1 s."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _same(request: bytes | Iterator[Asked], kind_of: KindOf | None) -> Iterator[Asked]:
    if not isinstance(request, bytes):
        return request
    assert kind_of is not None
    return repeat((request, kind_of))


class _Caller(asyncio.Protocol):
    """One connection, with one request on it at a time."""

    def __init__(self, pool: "_Pool") -> None:
        self._pool = pool
        self._due: float | None = None
        self._received = b""
        self._kind_of: KindOf | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in, and ask what waits for one."""
        self._transport: Any = transport
        self._pool.opened(self)
        self._pool.freed(self)

    def end(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def ask(self, asked: Asked, due: float) -> None:
        """Send a request that was due at that moment."""
        request, self._kind_of = asked
        self._due, self._received = due, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on, until the answer is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self._due is None or self._kind_of is None:
            return
        lower = head.lower()
        length = lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
        if length.isdigit() and len(body) < int(length):
            return
        due, self._due = self._due, None
        self._pool.answered(due, self._kind_of(head, body))
        if b"\r\nconnection: close" in lower or not length.isdigit():  # where it ends, nobody knows
            self._transport.close()
        else:
            self._pool.freed(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Count the connection out, and what is under way on it as unanswered."""
        if self._due is not None:
            self._pool.run.unanswered += 1
        self._pool.closed(self)


class _Pool:
    def __init__(self, address: str, requests: Iterator[Asked], run: Run, tls: ssl.SSLContext | None = None) -> None:
        self._address, self._requests, self.run, self._tls = address, requests, run, tls
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
        task = asyncio.get_running_loop().create_task(self._open())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._address.startswith("unix:"):
                await loop.create_unix_connection(lambda: _Caller(self), self._address.removeprefix("unix:"))
            else:
                host, _, port = self._address.rpartition(":")
                await loop.create_connection(lambda: _Caller(self), host.strip("[]"), int(port), ssl=self._tls)
        except OSError as error:
            self._opened -= 1
            self.run.unopened += 1
            self.run.refusal = error.strerror or str(error)

    def freed(self, caller: _Caller) -> None:
        """Give a caller what waits."""
        if self._waiting:
            caller.ask(next(self._requests), self._waiting.pop(0))
        else:
            self._free.append(caller)

    def opened(self, caller: _Caller) -> None:
        """Take note of a connection that is open."""
        self._callers.add(caller)

    async def aclose(self) -> None:
        """Close every connection, and wait until all are closed."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in list(self._callers):
            caller.end()
        while self._callers:  # noqa: ASYNC110 - a measurement is no place for more machinery
            await asyncio.sleep(0)

    def closed(self, caller: _Caller) -> None:
        """Take note of a connection that is closed."""
        self._opened -= 1
        self._callers.discard(caller)
        if caller in self._free:
            self._free.remove(caller)

    def answered(self, due: float, kind: str) -> None:
        """Record an answer of this kind to a request that was due at *due*."""
        self.run.answers.append((due, time.perf_counter(), kind))

    @property
    def is_settled(self) -> bool:
        """Tell whether nothing is under way any more."""
        return len(self.run.answers) + self.run.unanswered >= self.run.due


async def at_rate(
    address: str,
    request: bytes | Iterator[Asked],
    rate: float,
    seconds: float,
    kind_of: KindOf | None = None,
    patience: float = 10.0,
    *,
    tls: ssl.SSLContext | None = None,
) -> Run:
    """
    Ask at a fixed rate for some seconds, and wait until everything is answered.

    Args:
        address: ``host:port`` or ``unix:/path``.
        request: One request, which ``kind_of`` goes with; or an endless row of them, each with its own.
        patience: How long to wait for the last answers; what is not there by then is unanswered.
        tls: For HTTPS.
    """
    run = Run()
    pool = _Pool(address, _same(request, kind_of), run, tls)
    with _undisturbed():
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


async def in_turns(
    address: str,
    request: bytes | Iterator[Asked],
    callers: int,
    seconds: float,
    kind_of: KindOf | None = None,
    patience: float = 10.0,
    *,
    tls: ssl.SSLContext | None = None,
) -> Run:
    """
    Ask with so many callers, each at once after its answer: what can be had without ever asking for too much.

    The arguments are those of ``at_rate``.
    """
    run, ends = Run(), time.perf_counter() + seconds

    class Again(_Pool):
        """Asks again where there is time."""

        def freed(self, caller: _Caller) -> None:
            """Ask, until the end."""
            now = time.perf_counter()
            if now < ends:
                run.due += 1
                caller.ask(next(self._requests), now)

        def closed(self, caller: _Caller) -> None:
            """Put another in its place: a server may close a connection after so many answers."""
            super().closed(caller)
            if time.perf_counter() < ends:
                self.open()

    pool = Again(address, _same(request, kind_of), run, tls)
    run.began = time.perf_counter()
    with _undisturbed():
        for _ in range(callers):
            pool.open()
        while (now := time.perf_counter()) < ends or (not pool.is_settled and now < ends + patience):
            if run.unopened >= callers:
                break
            await asyncio.sleep(0.01)
        ends = 0.0  # nobody takes a place that comes free now
        await pool.aclose()
    return run
