"""Callers who hold their connections open and ask again and again, over sockets that hide nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, NamedTuple

from tests.process.starter import EVALUATION, question

ANSWER_SECONDS = 10


class Reply(NamedTuple):
    """One answer as it stood on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server says that it is the connection's last."""
        return self.headers.get("connection", "").lower() == "close"

    def json(self) -> Any:
        """Return its body, read."""
        return json.loads(self.body)


class GoneError(Exception):
    """The connection ended without an answer."""


class Connection:
    """One connection to a listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return its answer; raise GoneError if there is none."""
        try:
            await self.send(request)
            return await self.read()
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise GoneError from error

    async def send(self, part: bytes) -> None:
        """Send something."""
        self._writer.write(part)
        await self._writer.drain()

    async def read(self) -> Reply:
        """Read one answer."""
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(status.split()[1]), headers, body)

    def send_no_more(self) -> None:
        """Close the sending side, and go on listening."""
        self._writer.write_eof()

    async def read_to_end(self) -> bytes:
        """Return everything up to the end that the server makes."""
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._reader.read()

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[Connection]:
    """Connect to `host:port` or `unix:/path`."""
    if address.startswith("unix:"):
        connection = Connection(*await asyncio.open_unix_connection(address.removeprefix("unix:")))
    else:
        host, _, port = address.rpartition(":")
        connection = Connection(*await asyncio.open_connection(host, int(port)))
    try:
        yield connection
    finally:
        await connection.close()


def http(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "host: ruqsat", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def evaluation(body: Any) -> bytes:
    """Return the bytes of an evaluation request."""
    return http("POST", EVALUATION, json.dumps(body).encode(), content_type="application/json")


ALLOWED, DENIED = evaluation(question("dr_aida")), evaluation(question("dr_erlan"))


class Heard:
    """What callers were told: the ids of decisions, and what went wrong."""

    def __init__(self) -> None:
        self.allowed: list[str] = []
        self.denied: list[str] = []
        self.others: list[Reply] = []
        self.unanswered = 0
        self.told_to_close = 0

    def take(self, reply: Reply) -> None:
        """Take note of one answer."""
        if reply.status != 200:
            self.others.append(reply)
            return
        said = reply.json()
        (self.allowed if said["decision"] else self.denied).append(said["context"]["id"])

    async def ask_until_closed(self, address: str, seed: int) -> None:
        """Ask on one connection, allowed and denied at random, until the server ends it or is gone."""
        chance = Random(seed)
        async with connected(address) as connection:
            try:
                while True:
                    reply = await connection.ask(ALLOWED if chance.random() < 0.7 else DENIED)
                    self.take(reply)
                    if reply.closes:
                        self.told_to_close += 1
                        return
            except GoneError:
                self.unanswered += 1
