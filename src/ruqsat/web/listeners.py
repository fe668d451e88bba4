"""
Several listeners in one process and one event loop, and how they stop.

An address is ``host:port`` or ``unix:/path``.  Unix sockets are bound by us, 0660;
a stale one is replaced, one that somebody serves is left alone.
"""

import asyncio
import contextlib
import ipaddress
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from uvicorn import Config, Server

from ruqsat.errors import SettingsError
from ruqsat.web.protocol import Protocol

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections, so that they close first and never meet a closed one."""

GRACE_SECONDS = 0.2
"""After a stop is asked for, idle connections may still deliver a request that is on its way."""

_BACKLOG = 1024
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Listen(Struct, frozen=True):
    """A parsed address; ``path`` is set for a Unix socket, the others for TCP."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listener(Struct, frozen=True):
    """An application and where it listens."""

    name: str
    listen: Listen
    app: Any


def parse_listen(text: str) -> Listen | None:
    """
    Read an address; None for ``off``.

    Raises:
        SettingsError: it is none.

    Examples:
        >>> parse_listen("127.0.0.1:8181")
        Listen(host='127.0.0.1', port=8181, path='')
        >>> parse_listen("off") is None
        True
    """
    if text == "off":
        return None
    if text.startswith("unix:/"):
        return Listen(path=text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise SettingsError(f"`{text}` is no address: expected `host:port`, `unix:/path` or `off`")
    return Listen(host, int(port))


def is_local(listen: Listen) -> bool:
    """Tell whether only this machine can reach the address."""
    if listen.path or listen.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(listen.host).is_loopback
    except ValueError:
        return False


async def serve(
    listeners: Sequence[Listener],
    *,
    drain_seconds: float = 15.0,
    on_ready: Callable[[dict[str, str]], None] = lambda _: None,
    on_stop: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
) -> None:
    """
    Serve until SIGTERM, SIGINT or *stop*; then answer what is in flight and return.

    Args:
        drain_seconds: How long requests in flight may take; a second signal ends the wait.
        on_ready: Called with the real addresses by listener name, once all accept.
        on_stop: Called when the stop begins.

    Raises:
        SettingsError: an address cannot be bound.
    """
    stop = stop or asyncio.Event()
    with contextlib.ExitStack() as stack:
        sockets = {listener.name: stack.enter_context(_bound(listener.listen)) for listener in listeners}
        servers = [_Server(_config(listener.app, drain_seconds)) for listener in listeners]
        stack.enter_context(_signals(stop, servers))
        tasks = [
            asyncio.create_task(server.serve([sockets[listener.name]]))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        # Servers say that they have started in an attribute, not in an event.
        while not all(server.started for server in servers) and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        on_ready({listener.name: _address(listener.listen, sockets[listener.name]) for listener in listeners})
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        on_stop()
        for server in servers:
            server.should_exit = True
        try:
            await asyncio.gather(*tasks)
        finally:
            stopped.cancel()


class _Server(Server):
    """A uvicorn server that leaves signals to us and drains before it closes."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Protocol):
                connection.drain()
        await asyncio.sleep(GRACE_SECONDS)
        await super().shutdown(sockets)


def _config(app: Any, drain_seconds: float) -> Config:
    return Config(
        app, http=Protocol, ws="none", lifespan="off", loop="none", log_config=None, access_log=False,
        server_header=False, date_header=False, proxy_headers=False, backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )  # fmt: skip


@contextlib.contextmanager
def _signals(stop: asyncio.Event, servers: Sequence[Server]) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def asked() -> None:
        if stop.is_set():
            for server in servers:
                server.force_exit = True
        stop.set()

    handled = []
    for number in _SIGNALS:
        # Outside the main thread (in tests) signals belong to somebody else.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, asked)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def _bound(listen: Listen) -> Iterator[socket.socket]:
    if listen.path:
        with _bound_unix(Path(listen.path)) as bound:
            yield bound
        return
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listen.host, listen.port))
        bound.setblocking(False)
        yield bound
    except OSError as error:
        raise SettingsError(f"`{listen}` cannot be bound: {error.strerror or error}") from error
    finally:
        bound.close()


@contextlib.contextmanager
def _bound_unix(path: Path) -> Iterator[socket.socket]:
    _remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
        inode = path.stat().st_ino
        path.chmod(0o660)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise SettingsError(f"`unix:{path}` cannot be bound: {error.strerror or error}") from error
    try:
        yield bound
    finally:
        bound.close()
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:
                path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"`unix:{path}` cannot be bound: something that is no socket stands there")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1)
    try:
        probe.connect(str(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"`unix:{path}` cannot be bound: {error.strerror or error}") from error
    else:
        raise SettingsError(f"`unix:{path}` cannot be bound: another process serves on it")
    finally:
        probe.close()


def _address(listen: Listen, bound: socket.socket) -> str:
    if listen.path:
        return str(listen)
    host, port = bound.getsockname()[:2]
    return str(Listen(host, port))
