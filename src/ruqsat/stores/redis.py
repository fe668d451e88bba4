"""
Redis (or Valkey) as one process uses it: hints out, hints in, and the shared copy, each on connections of its own.

It is a convenience. No answer waits for it longer than 20 ms, none depends on
it, and neither does readiness.
"""

import asyncio
from contextlib import suppress
from typing import Any, Self

from ruqsat.core.facts import Position
from ruqsat.stores.copy_seal import CopySeal
from ruqsat.stores.redis_copy import TIMEOUT_SECONDS, RedisCopy
from ruqsat.stores.redis_hints import OnHint, RedisHints
from ruqsat.stores.redis_lane import close_server, open_server
from ruqsat.stores.redis_packs import RedisPacks


class RedisSharing:
    """The hints and the copy of one namespace, and the tasks that serve them."""

    def __init__(
        self, url: str, namespace: str, token_key: bytes, *, encrypt: bool = True,
        copy_seconds: float = TIMEOUT_SECONDS,
    ) -> None:  # fmt: skip
        """
        Read the settings; nothing is connected yet. *copy_seconds* bound a command to the copy.

        Raises:
            SettingsError: *url* cannot be read.
        """
        self._server = open_server(url)
        seal = CopySeal(token_key, encrypt=encrypt)
        self.hints = RedisHints(self._server, namespace, seal)
        self.copy = RedisCopy(self._server, namespace, seal, seconds=copy_seconds)
        self.packs = RedisPacks(self._server, namespace, seal)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, on_hint: OnHint) -> Self:
        """Begin to send, to hear (each hint goes to *on_hint*) and to copy."""
        loop = asyncio.get_running_loop()
        work = (self.hints.read_forever(on_hint), self.hints.work(), self.copy.work())
        self._tasks = [loop.create_task(each) for each in work]
        return self

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of Redis."""
        return {"hints": self.hints.status(), "copies": self.copy.status(), "packs": self.packs.status()}

    async def aclose(self) -> None:
        """Send what is still to be sent if that is quick, and close everything."""
        await self.hints.flush()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.hints.aclose()
        await self.copy.aclose()
        await self.packs.aclose()
        await close_server(self._server)


async def send_hint(
    url: str, namespace: str, token_key: bytes, position: Position, keys: tuple[str, ...], *, encrypt: bool = True
) -> bool:
    """
    Send one hint from a process that lives no longer; tell whether Redis took it, within a second.

    Raises:
        SettingsError: *url* cannot be read.
    """
    server = open_server(url)
    hints = RedisHints(server, namespace, CopySeal(token_key, encrypt=encrypt), send_seconds=1.0)
    working = asyncio.get_running_loop().create_task(hints.work())
    hints.send(position, keys)
    await hints.flush()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    await hints.aclose()
    await close_server(server)
    return hints.sent == 1
