"""
Policy sets that were in force once, found by the beginning of their digest, wherever they are kept.

Folders of packs, files of packs (the last good one, releases) and the database.  What is
found is the pack of that digest or nothing: each is read and its digest worked out anew.
"""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from ruqsat.core.pack import digest_of
from ruqsat.core.policy_release import Step, open_pack
from ruqsat.errors import PolicyError, SettingsError
from ruqsat.stores.pack_file import read_pack_file
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import is_postgres
from ruqsat.stores.sqlite_file import parse_url

Texts = dict[str, bytes]


def packs_in(place: Path) -> list[Texts]:
    """
    Return the packs of a place: a folder with ``model.conf``, a pack file, or a folder that holds pack files.

    Raises:
        PolicyError: there is none, or one cannot be read.
    """
    if place.is_file():
        return [read_pack_file(place)[1]]
    if (place / "model.conf").is_file():
        return [load_texts(place)]
    files = sorted(place.rglob("*.pack")) if place.is_dir() else []
    if not files:
        raise PolicyError(f"`{place}` holds no policy pack: expected `model.conf` and `policies/`, or `*.pack`")
    return [read_pack_file(file)[1] for file in files]


class PolicyShelf:
    """What was found in some places, by digest."""

    def __init__(self, places: Sequence[Path]) -> None:
        """
        Read every pack there.

        Raises:
            PolicyError: a place holds none, or one cannot be read.
        """
        self._packs = {digest_of(texts): texts for place in places for texts in packs_in(place)}

    def find(self, beginning: str) -> Texts | None:
        """Return the pack whose digest begins so; None for none, and for more than one."""
        found = [texts for digest, texts in self._packs.items() if beginning and digest.startswith(beginning)]
        return found[0] if len(found) == 1 else None


async def find_released(url: str, beginning: str) -> Texts | None:
    """
    Return the pack of a database whose digest begins so; None for none, and for more than one.

    Raises:
        PolicyError: what is kept there is not what was released.
        SettingsError: *url* names no database that is there; none is made for want of one.
        StoreUnavailableError: the database does not answer.
    """
    if not is_postgres(url) and not parse_url(url).is_file():
        raise SettingsError("there is no such database file, expected the one that packs were released to")
    store = await SqlStore.open(url, read_timeout_seconds=30)
    try:
        kept = PolicyStore(store)
        return await _find(await kept.steps(), kept.fetch_pack, beginning)
    finally:
        await store.aclose()


async def _find(
    steps: Sequence[Step], fetch: Callable[[str], Awaitable[bytes | None]], beginning: str
) -> Texts | None:  # fmt: skip
    digests = {step.digest: step.address for step in steps if beginning and step.digest.startswith(beginning)}
    if len(digests) != 1:
        return None
    ((digest, address),) = digests.items()
    body = await fetch(address)
    return None if body is None else open_pack(address, digest, body)
