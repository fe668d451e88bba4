"""
Several processes that decide, side by side, and one that keeps them: ``RUQSAT_WORKERS``.

The keeper binds the listeners once and decides nothing; the workers accept from the same sockets, so that a
connection that one worker did not live to accept is another's.  Each has a journal, facts and a lease of its own,
as sidecars of one database have; nothing is shared but the truth.  A worker that ends is started again, later each
time that it does not last.  The workers end with the keeper, however it ends: they hold a pipe of it.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import uvloop
from msgspec import Struct

from ruqsat.core.checkpoint import worker_name
from ruqsat.errors import SettingsError
from ruqsat.settings import Settings
from ruqsat.stores.sql_database import is_postgres
from ruqsat.web.listeners import Listen, bound, parse_listen

SHARED = ("json", "auth")
"""The listeners that every worker answers at; over gRPC each binds for itself, the system spreads the calls."""

FIRST_PAUSE, LONGEST_PAUSE, LASTING = 0.2, 30.0, 60.0
"""Seconds: before a worker is started again at first and at most, and after which it counts as one that lasted."""

UNUSABLE = 2
"""How a process ends that its settings do not let begin."""

_log = logging.getLogger("ruqsat.workers")


class Share(Struct, frozen=True):
    """
    What a worker gets from its keeper: which one it is, and open descriptors.

    Attributes:
        number: From 0.
        sockets: Listening sockets by the name of the listener.
        pipe: Ends when the keeper does.
    """

    number: int
    sockets: Mapping[str, int]
    pipe: int

    def __str__(self) -> str:
        """Return it as a word of a command line; ``read_share`` reads it."""
        return ",".join([str(self.number), str(self.pipe), *(f"{name}={fd}" for name, fd in self.sockets.items())])


def read_share(word: str) -> Share:
    """
    Read what ``str`` of a share wrote.

    Raises:
        ValueError: it is none.
    """
    number, pipe, *sockets = word.split(",")
    named = (each.split("=") for each in sockets)
    return Share(int(number), {name: int(descriptor) for name, descriptor in named}, int(pipe))


def end_with_keeper(share: Share, stop: asyncio.Event) -> None:
    """Set *stop* when the keeper is gone, on the running loop: nobody would start a lone worker again."""
    loop = asyncio.get_running_loop()

    def gone() -> None:
        loop.remove_reader(share.pipe)  # nothing is ever written, so what can be read is the end
        stop.set()

    loop.add_reader(share.pipe, gone)


def of_worker(settings: Settings, number: int) -> dict[str, str]:
    """Return what differs from worker to worker: the journal's folder and name, and where the control API listens."""
    own = {
        "--journal-dir": str(Path(settings.journal_dir) / f"worker-{number}"),
        "--control-listen": _apart(settings.control_listen, number),
    }
    if settings.journal_name is not None:
        own["--journal-name"] = worker_name(settings.journal_name, number)
    return own


def _apart(address: str, number: int) -> str:
    listen = parse_listen(address)
    if listen is None or not number:
        return address
    if listen.path:
        return f"unix:{listen.path}.{number}"
    return str(Listen(listen.host, listen.port + number if listen.port else 0))


def supervise(settings: Settings, command: Sequence[str]) -> int:
    """
    Keep as many workers as the settings say until SIGTERM or SIGINT; return the exit code.

    Args:
        command: What starts a worker; its share and its own settings are added.

    Raises:
        SettingsError: an address cannot be bound, or the database serves one process only.
    """
    if not is_postgres(settings.database_url.get_secret_value()):
        raise SettingsError(
            "RUQSAT_WORKERS: several processes need PostgreSQL, SQLite serves one (RUQSAT_DATABASE_URL)"
        )
    grpc = parse_listen(settings.grpc_listen)
    if grpc is not None and grpc.path:
        raise SettingsError("RUQSAT_GRPC_LISTEN: several workers share a port, not a Unix socket")
    with ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, writing)
        stack.callback(os.close, reading)
        sockets: dict[str, socket.socket] = {}
        for name in SHARED:
            listen = parse_listen(getattr(settings, f"{name}_listen"))
            if listen is not None:
                sockets[name] = stack.enter_context(bound(name, listen))

        def share(number: int) -> Share:
            return Share(number, {name: each.fileno() for name, each in sockets.items()}, reading)

        def words(number: int) -> list[str]:
            own = of_worker(settings, number)
            return [*command, "--worker", str(share(number)), *(each for pair in own.items() for each in pair)]

        keeper = _Keeper(words, (reading, *(each.fileno() for each in sockets.values())), tuple(sockets.values()))
        # The loop of asyncio watches each child by a thread; where none can be had, it would lose sight of the child.
        return uvloop.run(keeper.keep(settings.workers, settings.drain_seconds))


class _Keeper:
    """Starts workers, starts them again, and passes signals on."""

    def __init__(
        self, words: Callable[[int], Sequence[str]], passed: Sequence[int], sockets: Sequence[socket.socket]
    ) -> None:
        self._words, self._passed, self._sockets = words, passed, sockets
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._stop = asyncio.Event()
        self._code = 0

    async def keep(self, workers: int, drain_seconds: float) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._tell, signal.SIGHUP)
        kept = asyncio.gather(*(self._keep_one(number) for number in range(workers)))
        await self._stop.wait()
        # A drain is bounded by the worker; this is for one that does not even do that.
        done, _ = await asyncio.wait([kept], timeout=drain_seconds + 10)
        if not done:
            self._tell(signal.SIGKILL)
        await kept
        return self._code

    async def _keep_one(self, number: int) -> None:
        loop, pause, is_first = asyncio.get_running_loop(), FIRST_PAUSE, True
        while not self._stop.is_set():
            began = loop.time()
            try:
                code = await self._run(number)
                how = f"code={code}"
            except OSError as error:
                code, how = None, f"not_started={error.strerror}"
            if self._stop.is_set():
                return
            if code == UNUSABLE and is_first:
                self._code = code  # it has said why; the others would say the same
                self._end(signal.SIGTERM)
                return
            is_first = is_first and code is None
            pause = FIRST_PAUSE if loop.time() - began > LASTING else min(pause * 2, LONGEST_PAUSE)
            _log.error("worker_ended number=%d %s again_in_seconds=%.1f", number, how, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _run(self, number: int) -> int:
        """
        Start a worker, and return the exit code that it ends with.

        Raises:
            OSError: the system has no process for it, or no memory.
        """
        worker = await asyncio.create_subprocess_exec(*self._words(number), pass_fds=self._passed)
        self._running[number] = worker
        if self._stop.is_set():
            with suppress(ProcessLookupError):
                worker.send_signal(signal.SIGTERM)  # asked for while it was being started
        code = await worker.wait()
        del self._running[number]
        return code

    def _end(self, number: signal.Signals) -> None:
        """Pass *number* on; the listeners are the workers' alone from now on, and end with them."""
        for each in self._sockets:
            each.close()
        self._stop.set()
        self._tell(number)

    def _tell(self, number: signal.Signals) -> None:
        for worker in list(self._running.values()):
            with suppress(ProcessLookupError):
                worker.send_signal(number)
