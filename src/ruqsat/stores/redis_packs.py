"""
Policy packs in Redis, by their address, for sidecars that have just been told of one.

Sealed under their name as copies of facts are, and as little trusted: whoever reads
one holds its bytes against the address, and examines it as if it came from anywhere.
A pack does not change, so its position says nothing.
"""

from contextlib import suppress
from typing import Any

from redis.asyncio.connection import ConnectionPool

from ruqsat.core.facts import Position
from ruqsat.stores.copy_seal import CopySeal
from ruqsat.stores.redis_lane import BusyLaneError, RedisFailure, RedisLane

SECONDS = 1.0
LONGEST_VALUE = 16 * 1024 * 1024

_KEPT_MILLISECONDS = 24 * 3600 * 1000
_TIMELESS = Position("0", 0)


class RedisPacks:
    """
    Shared copies of packs; every failure is counted and none is told.

    Counters: ``found``, ``absent``, ``refused`` (not sealed by us for that place, or
    too long), ``failed`` (no answer in time), ``put``, ``put_lost``.
    """

    counters = ("found", "absent", "refused", "failed", "put", "put_lost")

    def __init__(self, server: ConnectionPool, namespace: str, seal: CopySeal, *, seconds: float = SECONDS) -> None:
        """Connect nothing yet; *seconds* bound each command."""
        self.found = self.absent = self.refused = self.failed = self.put = self.put_lost = 0
        self._seal = seal
        self._prefix = f"ruqsat:{namespace}:pack:"
        self._lane = RedisLane(server, seconds)

    async def look(self, address: str) -> bytes | None:
        """Return what was sealed under *address*, None where there is nothing to go by; never raises."""
        name = self.name_of(address)
        try:
            value = await self._lane.ask("GETRANGE", name, 0, LONGEST_VALUE)
        except (RedisFailure, BusyLaneError):
            self.failed += 1
            return None
        if not value:
            self.absent += 1
            return None
        opened = None
        if isinstance(value, bytes) and len(value) <= LONGEST_VALUE:
            opened = self._seal.open(name.encode(), value)
        if opened is None:
            self.refused += 1
            return None
        self.found += 1
        return opened[1]

    async def keep(self, address: str, body: bytes) -> None:
        """Let the others have a pack, in place of whatever stands there; never raises."""
        name = self.name_of(address)
        value = self._seal.seal(name.encode(), _TIMELESS, body)
        try:
            if len(value) > LONGEST_VALUE:
                raise RedisFailure("too long for a copy")
            await self._lane.ask("SET", name, value, "PX", _KEPT_MILLISECONDS)
        except (RedisFailure, BusyLaneError):
            self.put_lost += 1
        else:
            self.put += 1

    def name_of(self, address: str) -> str:
        """Return the key of a pack."""
        return self._prefix + self._seal.name("pack", address)

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of the packs."""
        return {name: getattr(self, name) for name in self.counters}

    async def aclose(self) -> None:
        """Close the connection."""
        with suppress(Exception):
            await self._lane.aclose()
