"""Where a sidecar's policy comes from: memory, Redis, SQL, the last good pack; and never from bytes that were touched."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ruqsat.service.policy_packs as packs_module
from ruqsat.core.pack import digest_of
from ruqsat.core.policy_release import address_of, decode_texts, encode_texts
from ruqsat.errors import PolicyError, SettingsError, StoreUnavailableError
from ruqsat.service.policy_packs import PackLoader
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.redis_packs import LONGEST_VALUE, RedisPacks
from ruqsat.stores.sql import SqlStore
from tests.admission.released import Sidecar, narrower, opened, release, spoilt
from tests.ground import Server
from tests.mutants import plant
from tests.stores.redis_ground import new_namespace, plain, sharing

Texts = dict[str, bytes]
SEED = 20261125


def names_of(texts: Texts) -> tuple[str, str]:
    """A pack's address and digest."""
    return address_of(encode_texts(texts)), digest_of(texts)


class Shelf:
    """A database of packs that counts who asks."""

    def __init__(self, *packs: Texts) -> None:
        self.bodies = {address_of(encode_texts(each)): encode_texts(each) for each in packs}
        self.asked = 0

    async def fetch_standing(self, mine: str) -> Any:
        """Not asked here."""
        raise StoreUnavailableError("away")

    async def fetch_pack(self, address: str) -> bytes | None:
        """Return what is kept."""
        self.asked += 1
        return self.bodies.get(address)


def with_redis(server: Server, story: Callable[[RedisPacks, Any], Any]) -> None:
    """Tell a story about packs in an empty corner of Redis, with a plain client beside."""

    async def tell() -> None:
        side = sharing(server, new_namespace())
        async with plain(server) as client:
            try:
                await story(side.packs, client)
            finally:
                await side.aclose()

    asyncio.run(tell())


def test_an_empty_redis_is_filled_from_sql_and_serves_the_next(valkey: Server, pack_texts: Texts) -> None:
    """The first sidecar reads the database, the second does not; both have the same files."""

    async def story(packs: RedisPacks, _client: Any) -> None:
        shelf = Shelf(pack_texts)
        first = await PackLoader(shelf, packs).load(*names_of(pack_texts))
        second = await PackLoader(shelf, packs).load(*names_of(pack_texts))
        assert (first, second) == ((pack_texts, "database"), (pack_texts, "redis"))
        assert shelf.asked == 1

    with_redis(valkey, story)


Damage = Callable[[bytes, bytes, random.Random], Any]
DAMAGES: dict[str, Damage] = {
    "one bit": lambda value, _, dice: flipped(value, dice.randrange(len(value) * 8)),
    "its tail cut off": lambda value, _, dice: value[: dice.randrange(1, len(value))],
    "something behind it": lambda value, _, __: value + b"x",
    "another pack's sealed bytes": lambda _, other, __: other,
    "rubbish": lambda _, __, dice: dice.randbytes(5000),
    "too long": lambda value, _, __: value + bytes(LONGEST_VALUE),
    "a number": lambda _, __, ___: b"7",
}


def flipped(value: bytes, bit: int) -> bytes:
    """The value with one bit turned."""
    place = bit // 8
    return value[:place] + bytes([value[place] ^ (1 << bit % 8)]) + value[place + 1 :]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_copy_is_not_used_and_is_replaced(valkey: Server, pack_texts: Texts, kind: str) -> None:
    """Whatever somebody did to the value, the pack comes from SQL, and the next sidecar finds a good copy."""

    async def story(packs: RedisPacks, client: Any) -> None:
        shelf, other, dice = Shelf(pack_texts), narrower(pack_texts), random.Random(SEED)
        (address, digest), (elsewhere, _) = names_of(pack_texts), names_of(other)
        await packs.keep(elsewhere, encode_texts(other))
        for _ in range(20 if kind in ("one bit", "its tail cut off") else 1):
            await packs.keep(address, encode_texts(pack_texts))
            value = await client.get(packs.name_of(address))
            damaged = DAMAGES[kind](value, await client.get(packs.name_of(elsewhere)), dice)
            await client.set(packs.name_of(address), damaged)
            refused = packs.refused
            assert await PackLoader(shelf, packs).load(address, digest) == (pack_texts, "database")
            assert packs.refused == refused + 1
            assert await PackLoader(shelf, packs).load(address, digest) == (pack_texts, "redis")

    with_redis(valkey, story)


def test_a_value_of_another_type_is_not_used(valkey: Server, pack_texts: Texts) -> None:
    """A list where the pack should be: the pack comes from SQL."""

    async def story(packs: RedisPacks, client: Any) -> None:
        address, digest = names_of(pack_texts)
        await client.rpush(packs.name_of(address), b"x")
        assert await PackLoader(Shelf(pack_texts), packs).load(address, digest) == (pack_texts, "database")

    with_redis(valkey, story)


def sealed_wrongly_is_used(server: Server, texts: Texts, module: Any, *bodies: bytes) -> bool:
    """Whether bytes that one of ours has sealed under the wrong address become the policy."""
    seen: list[tuple[Texts, str]] = []

    async def story(packs: RedisPacks, _client: Any) -> None:
        address, digest = names_of(texts)
        for body in bodies:
            await packs.keep(address, body)
            seen.append(await module.PackLoader(Shelf(texts), packs).load(address, digest))

    with_redis(server, story)
    return any(found != (texts, "database") for found in seen)


def test_even_a_copy_that_we_have_sealed_counts_only_by_its_digest(valkey: Server, pack_texts: Texts) -> None:
    """Another pack, sealed with our own key under this address: refused.  Planted: the digest is not looked at."""
    other = encode_texts(narrower(pack_texts))
    assert not sealed_wrongly_is_used(valkey, pack_texts, packs_module, other, b"no pack", b"")

    right = "            return await asyncio.to_thread(open_pack, address, digest, body)\n"
    trusting = plant(packs_module, right, "            return decode_texts(body)\n")
    trusting.decode_texts = decode_texts  # type: ignore[attr-defined]
    assert sealed_wrongly_is_used(valkey, pack_texts, trusting, other)


def test_a_pack_that_was_damaged_in_sql_is_refused(pack_texts: Texts) -> None:
    """Other bytes under the address, or none: an error, never another policy."""
    address, digest = names_of(pack_texts)
    shelf = Shelf(pack_texts)
    for body in (encode_texts(narrower(pack_texts)), encode_texts(pack_texts)[:-1], b""):
        shelf.bodies[address] = body
        with pytest.raises(PolicyError, match="not those that were released"):
            asyncio.run(PackLoader(shelf).load(address, digest))
    with pytest.raises(PolicyError, match="holds no pack"):
        asyncio.run(PackLoader(Shelf()).load(address, digest))


def test_a_pack_that_is_lost_in_sql_is_taken_from_redis(valkey: Server, pack_texts: Texts) -> None:
    """With its row its digest is gone as well; the address says which bytes they are, and no others do."""

    async def story(packs: RedisPacks, _client: Any) -> None:
        address, _ = names_of(pack_texts)
        await packs.keep(address, encode_texts(pack_texts))
        assert await PackLoader(Shelf(), packs).load(address, "") == (pack_texts, "redis")
        await packs.keep(address, encode_texts(narrower(pack_texts)))
        with pytest.raises(PolicyError, match="holds no pack"):
            await PackLoader(Shelf(), packs).load(address, "")

    with_redis(valkey, story)


def test_a_redis_that_is_away_is_done_without(pack_texts: Texts) -> None:
    """Nobody listens there: the pack comes from SQL."""

    async def story() -> None:
        side = sharing(Server(None, 1), "nobody")  # type: ignore[arg-type]
        try:
            found = await PackLoader(Shelf(pack_texts), side.packs).load(*names_of(pack_texts))
        finally:
            await side.aclose()
        assert found == (pack_texts, "database")
        assert (side.packs.failed, side.packs.put_lost) == (1, 1)

    asyncio.run(story())


def test_a_pack_from_redis_is_examined_like_any_other(valkey: Server, pack_texts: Texts, tmp_path: Path) -> None:
    """A start whose pack comes from Redis examines it, and says where it came from."""

    async def story(packs: RedisPacks, _client: Any) -> None:
        url = f"sqlite:///{tmp_path}/truth.db"
        async with opened(url, tmp_path / "a", texts=pack_texts, copies=packs) as first:
            assert first.administration.status()["policy_origin"] == "database"
        store = await SqlStore.open(url)
        second = Sidecar(store, tmp_path / "b", packs)
        second.releases.packs_away = True
        await second.open()
        assert second.administration.status()["policy_origin"] == "redis"
        assert (second.examiner.asked, second.may_answer()) == ([digest_of(pack_texts)], True)
        await second.aclose()
        await store.aclose()

    with_redis(valkey, story)


class Begun:
    """A database with one release, and a folder in which a sidecar has kept it."""

    def __init__(self, folder: Path, texts: Texts) -> None:
        self.folder, self.texts = folder, texts
        self.url = f"sqlite:///{folder}/truth.db"

    async def __aenter__(self) -> SqlStore:
        async with opened(self.url, self.folder, texts=self.texts):
            pass
        self.store = await SqlStore.open(self.url)
        return self.store

    async def __aexit__(self, *_: object) -> None:
        await self.store.aclose()


def test_with_both_away_the_last_good_pack_is_held_and_nothing_is_allowed(pack_texts: Texts, tmp_path: Path) -> None:
    """Neither Redis nor SQL gives a pack: the last good one decides nothing until the pointer is read again."""

    async def story() -> None:
        async with Begun(tmp_path, pack_texts) as store:
            sidecar = Sidecar(store, tmp_path)
            sidecar.releases.away = True
            await sidecar.open()
            assert sidecar.administration.status()["policy_origin"] == "last-good"
            assert sidecar.administration.refused and not sidecar.may_answer()

            sidecar.releases.away = False
            await sidecar.probe()
            assert sidecar.may_answer() and sidecar.administration.refused == ()
            await sidecar.aclose()

    asyncio.run(story())


def test_with_the_packs_away_the_last_good_pack_serves(pack_texts: Texts, tmp_path: Path) -> None:
    """What is in force can be told, its bytes cannot be had, and they are on this disk: it serves."""

    async def story() -> None:
        async with Begun(tmp_path, pack_texts) as store:
            sidecar = Sidecar(store, tmp_path)
            sidecar.releases.packs_away = True
            await sidecar.open()
            assert sidecar.may_answer() and not sidecar.follower.is_behind
            await sidecar.aclose()

    asyncio.run(story())


def test_a_corrupt_last_good_pack_and_no_store_is_no_start(pack_texts: Texts, tmp_path: Path) -> None:
    """One flipped bit in the last good pack, and nothing to read: the process does not begin."""

    async def story() -> None:
        async with Begun(tmp_path, pack_texts) as store:
            path = tmp_path / "last-good.pack"
            path.write_bytes(flipped(path.read_bytes(), random.Random(SEED).randrange(path.stat().st_size * 8)))
            sidecar = Sidecar(store, tmp_path)
            sidecar.releases.away = True
            with pytest.raises(PolicyError, match="cannot be read"):
                await sidecar.open()

    asyncio.run(story())


def test_a_release_that_is_refused_at_the_start_leaves_the_last_good_one(pack_texts: Texts, tmp_path: Path) -> None:
    """A pack that does not pass is in force by the pointer: the last good one serves, and the alarm is on."""

    async def story() -> None:
        async with Begun(tmp_path, pack_texts) as store:
            await release(PolicyStore(store), spoilt(pack_texts), "stage", "activate")
            sidecar = await Sidecar(store, tmp_path).open()
            assert sidecar.digest == digest_of(pack_texts) and sidecar.may_answer()
            assert sidecar.follower.is_behind and "misspelt" in sidecar.administration.refused[0]
            await sidecar.aclose()

    asyncio.run(story())


def test_a_database_in_which_nothing_is_in_force_is_no_start(pack_texts: Texts, tmp_path: Path) -> None:
    """A pack that is only staged is nobody's policy, and the last good one of another database is not either."""

    async def story() -> None:
        async with Begun(tmp_path, pack_texts):
            pass
        store = await SqlStore.open(f"sqlite:///{tmp_path}/other.db")
        await release(PolicyStore(store), pack_texts, "stage")
        with pytest.raises(SettingsError, match="no policy in force"):
            await Sidecar(store, tmp_path).open()
        await store.aclose()

    asyncio.run(story())
