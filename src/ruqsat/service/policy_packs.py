"""
Where a released pack's bytes come from: Redis by their address, and the database where Redis has nothing to go by.

Neither is trusted.  What is read is held against the address and the digest of the
release, and then examined like a pack that came from anywhere else.
"""

import asyncio
import logging
from typing import Protocol

from ruqsat.core.facts import Position
from ruqsat.core.policy_release import Released, Standing, open_pack
from ruqsat.errors import PolicyError, SettingsError, StoreUnavailableError

_log = logging.getLogger(__name__)


class PackStore(Protocol):
    """The releases in the database."""

    async def fetch_standing(self, mine: str) -> tuple[Standing, Position]:
        """Return what is in force, and the position it was read at; raises StoreUnavailableError."""
        ...

    async def fetch_pack(self, address: str) -> bytes | None:
        """Return the bytes kept under *address*, None for none; raises StoreUnavailableError."""
        ...


class PackCopies(Protocol):
    """Copies of packs that sidecars share."""

    async def look(self, address: str) -> bytes | None:
        """Return what is copied of *address*, None where there is nothing to go by; never raises."""
        ...

    async def keep(self, address: str, body: bytes) -> None:
        """Let the others have a pack, in place of whatever stands there; never raises."""
        ...


class PackLoader:
    """
    Reads released packs.

    Counter: ``poisoned``, copies that were sealed by one of ours and are not the pack of their address.
    """

    def __init__(self, store: PackStore, copies: PackCopies | None = None) -> None:
        self.poisoned = 0
        self._store, self._copies = store, copies

    async def load(self, address: str, digest: str) -> tuple[dict[str, bytes], str]:
        """
        Return the files of a release, verified, and where they came from: ``redis`` or ``database``.

        Raises:
            PolicyError: the database holds no such pack, or another one.
            StoreUnavailableError: no answer in time.
        """
        texts = await self._from_copies(address, digest)
        if texts is not None:
            return texts, "redis"
        body = await self._store.fetch_pack(address)
        if body is None:
            raise PolicyError(f"the database holds no pack `{address[:16]}`")
        texts = await asyncio.to_thread(open_pack, address, digest, body)
        if self._copies is not None:
            await self._copies.keep(address, body)
        return texts, "database"

    async def _from_copies(self, address: str, digest: str) -> dict[str, bytes] | None:
        body = None if self._copies is None else await self._copies.look(address)
        if body is None:
            return None
        try:
            return await asyncio.to_thread(open_pack, address, digest, body)
        except PolicyError as error:
            self.poisoned += 1
            _log.error("policy_copy_refused address=%s %s", address[:16], error)
            return None


class ReleasedSource:
    """What is in force by the database, as a process begins."""

    def __init__(self, store: PackStore, loader: PackLoader) -> None:
        self.name = "database"
        self.release: Released | None = None
        self._store, self._loader = store, loader

    async def state(self) -> object:
        """
        Return what changes whenever another release is activated.

        Raises:
            SettingsError: nothing was ever in force; no pack from elsewhere may stand in for that.
            PolicyError: the database did not answer.
        """
        return (await self._standing()).generation

    async def read(self) -> dict[str, bytes]:
        """Return the files of the release in force, verified; raises as ``state`` does."""
        standing = await self._standing()
        try:
            texts, self.name = await self._loader.load(standing.active, standing.digest)
            self.release = standing.release
        except StoreUnavailableError as error:
            raise PolicyError(f"the release in force cannot be read: {error}") from error
        return texts

    async def _standing(self) -> Standing:
        try:
            standing, _ = await self._store.fetch_standing("")
        except StoreUnavailableError as error:
            raise PolicyError(f"what is in force cannot be read: {error}") from error
        if not standing.active:
            raise SettingsError("the database holds no policy in force: `ruqsat policy publish --activate` makes one")
        return standing
