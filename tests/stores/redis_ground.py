"""What tests of Redis stand on: a namespace each, a way to look at every byte in it, and a copy in memory."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis
from tests.ground import Server

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.stores.copy_seal import CopySeal
from ruqsat.stores.redis import RedisSharing

TOKEN_KEY = bytes(range(32))
PATIENCE = 30.0

_numbers = itertools.count(1)


def url_of(server: Server) -> str:
    """The URL of a Valkey server of ours."""
    return f"redis://127.0.0.1:{server.port}/0"


def new_namespace() -> str:
    """A namespace that no other test uses."""
    return f"t{os.getpid()}-{next(_numbers)}"


def sharing(
    server: Server, namespace: str, *, token_key: bytes = TOKEN_KEY, encrypt: bool = True, copy_seconds: float = 5
) -> RedisSharing:
    """The product's side of Redis, patient because tests share their machine; not started."""
    return RedisSharing(url_of(server), namespace, token_key, encrypt=encrypt, copy_seconds=copy_seconds)


@asynccontextmanager
async def started(
    server: Server, namespace: str, on_hint: Callable[[Position, Any], None] = lambda _position, _keys: None, **how: Any
) -> AsyncIterator[RedisSharing]:
    """The product's side of Redis at work; closed afterwards."""
    side = sharing(server, namespace, **how).start(on_hint)
    try:
        yield side
    finally:
        await side.aclose()


@asynccontextmanager
async def plain(server: Server) -> AsyncIterator[Any]:
    """An ordinary client, for a test that plays the server's master."""
    client: Any = Redis.from_url(url_of(server))
    try:
        yield client
    finally:
        await client.aclose()


async def until(holds: Callable[[], bool], what: str = "the condition") -> None:
    """Wait until something holds; fail after a long time."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about in {PATIENCE:g} s") from None


async def settled(side: RedisSharing, count: int) -> None:
    """Wait until *count* copies were put or lost."""
    await until(lambda: side.copy.put + side.copy.put_lost >= count, f"{count} copies put")


async def every_byte(client: Any, namespace: str) -> bytes:
    """Everything that Redis holds under a namespace: names and values."""
    found: list[bytes] = []
    async for name in client.scan_iter(f"ruqsat:{namespace}:*"):
        value = await client.dump(name)
        stream = await client.xrange(name) if await client.type(name) == b"stream" else await client.get(name)
        found += [name, value, repr(stream).encode()]
    return b"\n".join(found)


class MemoryCopies:
    """Shared copies in a dictionary that anyone may write to; the same promises as those in Redis."""

    def __init__(self, held: dict[tuple[str, str], Any] | None = None) -> None:
        self.held: dict[tuple[str, str], Any] = {} if held is None else held
        self.asked: list[tuple[str | None, str | None]] = []

    async def look(self, subject: str | None, patient: str | None) -> Any:
        """Return what is held."""
        self.asked.append((subject, patient))
        return self.held.get(("subject", subject or "")), self.held.get(("patient", patient or ""))

    def offer(self, subject: str | None, patient: str | None, facts: Facts) -> None:
        """Keep what is newer, or of another epoch."""
        pairs: tuple[tuple[tuple[str, str | None], SubjectFacts | PatientFacts | None], ...] = (
            (("subject", subject), facts.subject), (("patient", patient), facts.patient),
        )  # fmt: skip
        for (kind, whose), value in pairs:
            if whose is None:
                continue
            before = self.held.get((kind, whose))
            if before is None or before[1].epoch != facts.position.epoch or before[1].seq < facts.position.seq:
                self.held[kind, whose] = (value, facts.position)


Story = Callable[..., Awaitable[None]]


def seal(token_key: bytes = TOKEN_KEY, *, encrypt: bool = True) -> CopySeal:
    """The seal that the tests' sidecars share."""
    return CopySeal(token_key, encrypt=encrypt)
