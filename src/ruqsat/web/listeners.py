"""
Several listeners in one process and one event loop, and how they stop.

An address is ``host:port`` or ``unix:/path``.  Unix sockets are bound by us, 0660;
a stale one is replaced, one that somebody serves is left alone.
"""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import ssl
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct
from uvicorn import Config, Server

from ruqsat.errors import SettingsError
from ruqsat.web.protocol import Protocol as HttpProtocol
from ruqsat.web.protocol import State

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections, so that they close first and never meet a closed one."""

GRACE_SECONDS = 0.2
"""After a stop is asked for, connections may still come, and deliver a request that is on its way."""

LAST_SECONDS = 0.1
"""After that nobody is let in; who came last may still deliver a request."""

IN_A_TURN = 16
"""
So many connections are let in as the loop turns.  libuv lets in one for each descriptor, and a turn is long in a rush:
whoever then opens one more connection would wait behind all who have one already.
"""

_BACKLOG = 1024
_log = logging.getLogger(__name__)
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


class Companion(Protocol):
    """A listener that is no ASGI application: it binds and serves by itself."""

    name: str

    async def start(self) -> str:
        """Bind and serve; return the real address."""
        ...

    async def stop(self, drain_seconds: float) -> None:
        """Accept nothing new; answer what is in flight."""
        ...


class Tls(Struct, frozen=True):
    """
    Files of the listeners' certificate and key, and of the authorities whose client certificates are asked for.

    ``on_renewal``: what each listener does to have the certificate and key that the files then hold.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    on_renewal: list[Callable[[], object]] = []

    def load_into(self, context: ssl.SSLContext) -> None:
        """
        Have *context* show the certificate from here on.

        Raises:
            OSError, ValueError: the files are no chain with its own key, in PEM, or the key needs a password.
        """
        context.load_cert_chain(self.certificate, self.key, _no_password)

    def renew(self) -> None:
        """Have connections to come see the certificate that the files hold now; what cannot be used changes nothing."""
        try:
            self.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            for renew in self.on_renewal:
                renew()
        except (OSError, ValueError) as error:
            _log.error("certificate_not_renewed %s", type(error).__name__)
        else:
            _log.warning("certificate_read_again")


class Listener(Struct, frozen=True):
    """An application and where it listens; over TCP with TLS if that is given."""

    name: str
    listen: Listen
    app: Any
    tls: Tls | None = None
    max_connections: int = 2048


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
    if text.startswith("unix:/") and text.isprintable():
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
    companions: Sequence[Companion] = (),
    drain_seconds: float = 15.0,
    on_ready: Callable[[dict[str, str]], None] = lambda _: None,
    on_stop: Callable[[], None] = lambda: None,
    stop: asyncio.Event | None = None,
    inherited: Mapping[str, int] | None = None,
) -> None:
    """
    Serve until SIGTERM, SIGINT or *stop*; then answer what is in flight and return.

    Args:
        companions: Listeners of another kind, started and stopped with the others.
        drain_seconds: How long requests in flight may take; a second signal ends the wait.
        on_ready: Called with the real addresses by listener name, once all accept.
        on_stop: Called when the stop begins.
        inherited: Descriptors of sockets that listen already, by listener name: those are not bound here.

    Raises:
        SettingsError: an address cannot be bound.
    """
    stop, inherited = stop or asyncio.Event(), inherited or {}
    with contextlib.ExitStack() as stack:
        sockets = {
            listener.name: stack.enter_context(
                bound(listener.name, listener.listen)
                if listener.name not in inherited
                else socket.socket(fileno=inherited[listener.name])
            )
            for listener in listeners
        }
        servers = [_Server(_config(listener, drain_seconds), listener.max_connections) for listener in listeners]
        stack.enter_context(_signals(stop, servers))
        tasks = [
            asyncio.create_task(server.serve(_many(sockets[listener.name])))
            for server, listener in zip(servers, listeners, strict=True)
        ]
        # Servers say that they have started in an attribute, not in an event.
        while not all(server.started for server in servers) and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        addresses = {listener.name: _address(listener.listen, sockets[listener.name]) for listener in listeners}
        for companion in companions:
            addresses[companion.name] = await companion.start()
        if all(server.started for server in servers):
            on_ready(addresses)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        on_stop()
        for server in servers:
            server.begin_drain()
        try:
            await asyncio.gather(*tasks, *[companion.stop(drain_seconds) for companion in companions])
        finally:
            stopped.cancel()


class _Server(Server):
    """A uvicorn server that leaves signals to us and drains before it closes."""

    def __init__(self, config: Config, max_connections: int) -> None:
        super().__init__(config)
        self.server_state = self._state = State()
        self._state.max_connections = max_connections

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def begin_drain(self) -> None:
        """From here on every answer is its connection's last."""
        self.should_exit = self._state.draining = True
        for connection in list(self._state.connections):
            if isinstance(connection, HttpProtocol):
                connection.drain()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(GRACE_SECONDS)
        await _look_round()
        for server in self.servers:
            server.close()
        await asyncio.sleep(LAST_SECONDS)
        await _look_round()
        await super().shutdown(sockets)
        for connection in list(self._state.connections):
            if isinstance(connection, HttpProtocol):
                connection.cut_short()


def _many(listening: socket.socket) -> list[socket.socket]:
    return [listening, *[listening.dup() for _ in range(IN_A_TURN - 1)]]


async def _look_round() -> None:
    """
    Turn the loop until every connection that waits already, however many, was accepted and read.

    A timer on a busy machine may fire so late that nothing of this was done yet.
    """
    for _ in range(3 + _BACKLOG // IN_A_TURN):
        await asyncio.sleep(0)


def _config(listener: Listener, drain_seconds: float) -> Config:
    tls: dict[str, Any] = {}
    if listener.tls is not None and not listener.listen.path:
        files = listener.tls
        tls = {"ssl_certfile": str(files.certificate), "ssl_keyfile": str(files.key)}
        if files.client_ca is not None:
            tls |= {"ssl_ca_certs": str(files.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    config = Config(
        listener.app, **tls, http=HttpProtocol, ws="none", lifespan="off", loop="none", log_config=None,
        access_log=False, server_header=False, date_header=False, proxy_headers=False, backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS, timeout_graceful_shutdown=max(1, round(drain_seconds)),
    )  # fmt: skip
    config.load()
    if listener.tls is not None and config.ssl is not None:
        listener.tls.on_renewal.append(partial(listener.tls.load_into, config.ssl))
    return config


def _no_password() -> str:
    """Refuse a key that needs a password: asked for on the terminal, it would stop us there."""
    raise ValueError


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
def bound(name: str, listen: Listen) -> Iterator[socket.socket]:
    """
    Listen from here on, so that nobody else can; a Unix socket is removed at the end, if it is still ours.

    Raises:
        SettingsError: the address of the listener called *name* cannot be bound.
    """
    path = listen.path
    try:
        listening = _bind_unix(Path(path)) if path else _bind_tcp(listen)
    except OSError as error:
        raise SettingsError(f"the {name} listener cannot be bound to `{listen}`: {error.strerror or error}") from error
    inode = Path(path).stat().st_ino if path else 0
    try:
        yield listening
    finally:
        listening.close()
        with contextlib.suppress(OSError):
            if path and Path(path).stat().st_ino == inode:
                Path(path).unlink()


def _bind_tcp(listen: Listen) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in listen.host else socket.AF_INET, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack:
        stack.callback(bound.close)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listen.host, listen.port))
        bound.setblocking(False)
        bound.listen(_BACKLOG)
        stack.pop_all()
    return bound


def _bind_unix(path: Path) -> socket.socket:
    remove_stale(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.ExitStack() as stack:
        stack.callback(bound.close)
        bound.bind(str(path))
        path.chmod(0o660)
        bound.setblocking(False)
        bound.listen(_BACKLOG)
        stack.pop_all()
    return bound


def remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves; raise OSError for anything else that stands there."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError("something that is no socket stands there")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1)
    with contextlib.closing(probe):
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError("it is being served already")


def _address(listen: Listen, bound: socket.socket) -> str:
    if listen.path:
        return str(listen)
    host, port = bound.getsockname()[:2]
    return str(Listen(host, port))
