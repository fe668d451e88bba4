"""
One connection to Redis (or Valkey) for one purpose, one command at a time, none of them for longer than a bound.

A connection whose command was cancelled, late or answered strangely is closed
and never used again: what may still arrive on it belongs to somebody else
(CVE-2023-28858).  Nothing is retried; the library's client-side cache is not used.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from ruqsat.errors import RuqsatError, SettingsError

CONNECT_SECONDS = 1.0

_HINT = "expected `redis://…`, `rediss://…`, `unix://…` or `redis+sentinel://host:port,host:port/service`"
_MAY_BE_ASKED = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_OF_SENTINELS = {"sentinel_username", "sentinel_password"}


class RedisFailure(RuqsatError):  # noqa: N818 - it is no error of ours, and never reaches an answer
    """Redis did not do what it was asked; nothing follows from that but time."""

    code = "redis-failure"


class BusyLaneError(RuqsatError):
    """The lane was in use for as long as the caller may wait; it says nothing about Redis."""

    code = "redis-busy"


def open_server(url: str) -> ConnectionPool:
    """
    Return what makes connections to *url*; nothing is connected yet.

    Raises:
        SettingsError: the URL cannot be read; it is not repeated, since it may hold a password.
    """
    # With a socket timeout the library sends under `asyncio.wait_for`, which before Python 3.12 swallows a
    # cancellation that meets the end of the sending: ours would be lost, and the bound with it.
    ours: dict[str, Any] = {
        "protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": None,
        "socket_connect_timeout": CONNECT_SECONDS, "driver_info": None,
    }  # fmt: skip
    try:
        parts = urlsplit(url)
        asked = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        behind_sentinels = parts.scheme in ("redis+sentinel", "rediss+sentinel")
        if set(asked) - _MAY_BE_ASKED - (_OF_SENTINELS if behind_sentinels else set()):
            raise ValueError("a parameter that is not taken")
        if behind_sentinels:
            return _behind_sentinels(url, asked, ours)
        if parts.scheme != "unix" and (not parts.hostname or not (parts.path.strip("/") or "0").isdecimal()):
            raise ValueError("no host, or no number of a database")
        return ConnectionPool(**{**parse_url(url), **ours})
    except ValueError:
        raise SettingsError(f"the URL cannot be read, {_HINT}") from None


async def close_server(server: ConnectionPool) -> None:
    """Close what *server* itself has open: connections to sentinels."""
    if isinstance(server, SentinelConnectionPool):
        with suppress(Exception):
            await server.sentinel_manager.aclose()


def _behind_sentinels(url: str, asked: dict[str, str], ours: dict[str, Any]) -> SentinelConnectionPool:
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, number = parts.path.strip("/").partition("/")
    if not service or not hosts:
        raise ValueError("no service")
    options = ours | {name: value for name, value in asked.items() if name.startswith("ssl_")}
    options |= {"db": int(number or asked.get("db", "0"))}
    options |= {"username": unquote(user)} if user else {}
    options |= {"password": unquote(password)} if password else {}
    sentinel_options = {"socket_timeout": CONNECT_SECONDS / 2, "socket_connect_timeout": CONNECT_SECONDS / 2} | {
        name.removeprefix("sentinel_"): value for name, value in asked.items() if name.startswith("sentinel_")
    }
    addresses = [_address(host) for host in hosts.split(",")]
    sentinels = Sentinel(addresses, 0, ours | sentinel_options)  # type: ignore[no-untyped-call]
    if parts.scheme.startswith("rediss"):
        options["ssl"] = True
    return SentinelConnectionPool(service, sentinels, **options)  # type: ignore[no-untyped-call]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "26379")
    if not host:
        raise ValueError("no host")
    return host.strip("[]"), int(port)


class RedisLane:
    """
    Asks commands in turn; *seconds* bound each, waiting for the turn included.

    ``is_open``: there is a connection, and its last command was answered.
    """

    def __init__(self, server: ConnectionPool, seconds: float) -> None:
        """Connect nothing yet."""
        self._server = server
        self._seconds = seconds
        self._turn = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._connecting: asyncio.Task[AbstractConnection] | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether there is a connection, and its last command was answered."""
        return self._connection is not None

    async def ask(self, *command: Any) -> Any:
        """
        Ask one command and return its reply.

        Raises:
            RedisFailure: no reply in time, no connection, or an error as reply.
            BusyLaneError: others were asking all the time.
        """
        (reply,) = await self.ask_all((command,))
        if isinstance(reply, ResponseError):
            raise RedisFailure(f"an error as reply: {type(reply).__name__}")
        return reply

    async def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """
        Ask several commands at once; return their replies, which may be errors, in order.

        Raises:
            RedisFailure: not all replies in time, or no connection.
            BusyLaneError: others were asking all the time.
        """
        had_turn = False
        try:
            async with asyncio.timeout(self._seconds), self._turn:
                had_turn = True
                return await self._exchange(commands)
        except TimeoutError as error:
            if not had_turn:
                raise BusyLaneError("the lane is in use") from error
            raise RedisFailure(f"no reply within {self._seconds:g} s") from error
        except Exception as error:
            # The library's errors and the system's are not all: it reads some answers with a plain ValueError.
            raise RedisFailure(f"no reply: {type(error).__name__}") from error

    async def _exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        connection = await self._connected()
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [await _reply(connection) for _ in commands]
        except BaseException:
            # Whatever it was, a reply may still be on its way to this connection: nobody may read it.
            self._connection = None
            await _discard(connection)
            raise

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            if self._connecting is None or (self._connecting.done() and self._connecting.exception() is not None):
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
                self._connecting.add_done_callback(_read_failure)
            # Whoever asks may have less time than a connection takes; it goes on for the next one.
            await asyncio.wait((self._connecting,))
            connecting, self._connecting = self._connecting, None
            self._connection = connecting.result()
        return self._connection

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._server.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await _discard(connection)
            raise
        return connection

    async def aclose(self) -> None:
        """Close the connection; a command under way fails."""
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(BaseException):
                self._connection = await self._connecting
            self._connecting = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await _discard(connection)


def _read_failure(task: "asyncio.Task[AbstractConnection]") -> None:
    if not task.cancelled():
        task.exception()


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error  # a whole reply: the next one is the next command's


async def _discard(connection: AbstractConnection) -> None:
    with suppress(Exception):
        await connection.disconnect(nowait=True)
