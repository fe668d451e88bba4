"""Where the policy in force comes from: a folder that is edited, or releases; both behind the port ``PolicySource``."""

import asyncio
from pathlib import Path

from ruqsat.core.admission import Kept
from ruqsat.core.policy_release import Released
from ruqsat.errors import PolicyError
from ruqsat.stores.pack_file import read_pack_file, write_pack_file
from ruqsat.stores.policy_folder import load_texts, state_of
from ruqsat.stores.policy_releases import Releases


class FolderSource:
    """The pack in a folder, as somebody edits it."""

    name = "folder"
    release: Released | None = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def state(self) -> object:
        """Return what changes whenever the pack does."""
        return await asyncio.to_thread(state_of, self._folder)

    async def read(self) -> dict[str, bytes]:
        """Return the pack's files, all of one state."""
        return await asyncio.to_thread(load_texts, self._folder)


class ReleaseSource:
    """The release in force."""

    name = "store"

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self.release: Released | None = None

    async def state(self) -> object:
        """Return what changes whenever another release is put in force."""
        return (await asyncio.to_thread(self._releases.current)).number

    async def read(self) -> dict[str, bytes]:
        """Return the release's files, verified."""
        current = await asyncio.to_thread(self._releases.current)
        texts = await asyncio.to_thread(self._releases.texts_of, current)
        self.release = Released(current.number, current.who, current.why)
        return texts


class LastGood:
    """The pack that was admitted last, kept for the day on which its source cannot be used."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "last-good.pack"

    async def keep(self, texts: dict[str, bytes]) -> None:
        """Keep *texts*; raises PolicyError if they cannot be written."""
        try:
            await asyncio.to_thread(write_pack_file, self._path, texts)
        except OSError as error:
            raise PolicyError(f"`{self._path}` cannot be written: {error.strerror}") from error

    async def read(self) -> Kept | None:
        """Return what was kept, verified; None if nothing was."""
        if not self._path.exists():
            return None
        head, texts = await asyncio.to_thread(read_pack_file, self._path)
        return Kept(texts, head.version)
