"""Old segments move into an archive, whole and verified, and later go for good by an entry; nothing else is ever removed."""

import asyncio
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, delete, func, select, update

from ruqsat.core.chain import RemovalEntry
from ruqsat.core.outgoing import DEAD, DELIVERED, SKIPPED
from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores import journal_archive, journal_expiry, sql_retention
from ruqsat.stores.journal_archive import Archived, archive_journal, remove_archived_rows
from ruqsat.stores.journal_checkpoints import sign_segment
from ruqsat.stores.journal_claims import Trust
from ruqsat.stores.journal_erasure import Elsewhere, erase_patients
from ruqsat.stores.journal_expiry import Expired, Order, expire_archive
from ruqsat.stores.journal_folder import checkpoint_path, list_segments, read_lines, segment_path, writer_of
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_schema import journal_beside, journal_entry, outbox
from tests.duties.ground import MOMENT, opened, run
from tests.duties.test_erasure import bytes_under, reading
from tests.duties.test_shipping import decision, lines_there, ship_all, shipper
from tests.mutants import plant
from tests.process.starter import run_cli

LATER = MOMENT + 1
KEY = SigningKey("clinic.example/a", Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32))
TRUST = Trust((KEY.verifier,))
ORDER = Order(LATER, "order 7", "2029-12-01T00:00:00+00:00")


async def write(folder: Path, *entries: Any, key: SigningKey | None = KEY) -> None:
    """Write entries into a signed journal of small segments."""
    journal = DurableJournal.open(folder, segment_bytes=2000, key=key)
    await asyncio.gather(*[journal.append(*(each if isinstance(each, tuple) else (each,))) for each in entries])
    await journal.aclose()


def numbers(folder: Path) -> list[int]:
    """Return the segments that are there."""
    return [each.number for each in list_segments(folder)]


def codes(folder: Path, archive: Path | None = None) -> list[str]:
    """Return what a verification finds."""
    return [each.code for each in verify_folder(folder, TRUST, archive=archive).findings]


async def moved(url: str, folder: Path, archive: Path) -> None:
    """Write and ship a journal, archive all but its last segment, and remove the rows."""
    await write(folder, *map(decision, range(20)))
    async with opened(url) as (_, duties):
        await ship_all(shipper(folder, duties))
        await archive_journal(folder, archive, duties, LATER)
        await remove_archived_rows(folder, archive, duties)


def test_only_what_is_old_shipped_and_signed_is_moved(url: str, tmp_path: Path) -> None:
    """None of these: it stays, with a reason; all: all but the last; both folders as one are intact, and nothing is lost."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *map(decision, range(20)), key=None)
        last, before = numbers(folder)[-1], list(read_lines(folder))
        async with opened(url) as (store, duties):
            told = await archive_journal(folder, archive, duties, LATER)
            assert told == Archived(0, 1, "not all of it is in the database")
            await ship_all(shipper(folder, duties))
            told = await archive_journal(folder, archive, duties, MOMENT)
            assert told == Archived(0, 1, "not all of it is old enough, or readable")
            told = await archive_journal(folder, archive, duties, LATER)
            assert told[:2] == (0, 1) and "no checkpoint vouches" in told.because
            await write(folder, decision(20))  # signs its own, and nothing that ended without a key
            assert codes(folder) == ["unsigned-segment"] * last
            for number in range(1, last + 1):
                sign_segment(folder, number, KEY)
            assert not codes(folder)
            told = await archive_journal(folder, archive, duties, LATER)
            assert told == Archived(last, last + 1, "it is the last")
            assert (numbers(archive), numbers(folder)) == ([*range(1, last + 1)], [last + 1])
            assert checkpoint_path(archive, 1).exists() and not checkpoint_path(folder, 1).exists()
            assert (codes(folder, archive), codes(archive), codes(folder)) == ([], [], ["missing-segment"])
            assert [*read_lines(archive)] == before
            await ship_all(shipper(folder, duties))
            assert await remove_archived_rows(folder, archive, duties) == (len(before), 0)
            assert await lines_there(store) == list(read_lines(folder))
            await write(folder, decision(21))
            await ship_all(shipper(folder, duties))
            assert await lines_there(store) == list(read_lines(folder))

    asyncio.run(go())


def test_the_segment_that_the_journal_ends_in_stays_whatever_lies_behind_it(url: str, tmp_path: Path) -> None:
    """Files that were made and never begun are no end; once the journal has gone on behind them they are moved with it."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *map(decision, range(20)))
        last = numbers(folder)[-1]
        segment_path(folder, last + 1).touch()
        async with opened(url) as (_, duties):
            await ship_all(shipper(folder, duties))
            told = await archive_journal(folder, archive, duties, LATER)
            assert told == Archived(last - 1, last, "it is the last")
            assert numbers(folder) == [last, last + 1]
            await write(folder, decision(20))
            await ship_all(shipper(folder, duties))
            told = await archive_journal(folder, archive, duties, LATER)
            assert told == Archived(2, last + 2, "it is the last")
            assert codes(folder, archive) == []

    asyncio.run(go())


def test_an_unsigned_journal_is_archived_on_demand_and_an_altered_one_never(url: str, tmp_path: Path) -> None:
    """The chain must hold; what does not follow the archive, or is another by the same number, stops it all."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *map(decision, range(20)), key=None)
        async with opened(url) as (_, duties):
            await ship_all(shipper(folder, duties))
            third = segment_path(folder, 3)
            good = third.read_bytes()
            third.write_bytes(good.replace(b'"org":"h1"', b'"org":"h2"', 1))
            told = await archive_journal(folder, archive, duties, LATER, signed=False)
            assert told == Archived(2, 3, "it is not as it was written: altered")
            third.write_bytes(good)

            second = segment_path(archive, 2).rename(tmp_path / "aside")
            with pytest.raises(JournalError, match="does not follow"):
                await archive_journal(folder, archive, duties, LATER, signed=False)
            second.rename(segment_path(archive, 2))
            segment_path(archive, 3).write_bytes(good + b"\n")
            with pytest.raises(JournalError, match="another journal, or altered"):
                await archive_journal(folder, archive, duties, LATER, signed=False)
            assert third.read_bytes() == good
            segment_path(archive, 3).write_bytes(good)  # as a stop between copying and deleting leaves it
            assert codes_unsigned(folder, archive) == []
            told = await archive_journal(folder, archive, duties, LATER, signed=False)
            assert told.segments > 0 and codes_unsigned(folder, archive) == []

    asyncio.run(go())


def codes_unsigned(folder: Path, archive: Path) -> list[str]:
    """Return what a verification without keys finds."""
    return [each.code for each in verify_folder(folder, archive=archive).findings]


def test_a_planted_copy_that_is_not_read_back_is_noticed(url: str, tmp_path: Path) -> None:
    """A disk that keeps half of what is written deletes nothing here; a move that trusts it would lose lines."""
    folder = tmp_path / "j"

    class HalfDisk(journal_archive.Disk):
        def replace(self, path: Path, data: bytes) -> None:
            super().replace(path, data[: len(data) // 2])

    async def go(module: ModuleType, archive: Path) -> None:
        async with opened(url) as (_, duties):
            await module.archive_journal(folder, archive, duties, LATER, disk=HalfDisk())

    asyncio.run(write(folder, *map(decision, range(20))))
    run(url, lambda _, duties: ship_all(shipper(folder, duties)))
    before = bytes_under(folder)
    with pytest.raises(JournalError, match="could not be written whole"):
        asyncio.run(go(journal_archive, tmp_path / "one"))
    assert bytes_under(folder) == before
    asyncio.run(go(plant(journal_archive, "if copy.read_bytes() != text:", "if False:"), tmp_path / "two"))
    assert codes(folder, tmp_path / "two")


def test_rows_that_differ_from_the_archive_stay(url: str, tmp_path: Path) -> None:
    """What was changed there is evidence; a removal that does not compare would destroy it."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *[reading(n, "p-bota", "p-dana") for n in range(12)])
        async with opened(url) as (store, duties):
            await ship_all(shipper(folder, duties))
            await archive_journal(folder, archive, duties, LATER)

            def change(connection: Connection) -> None:
                where = (journal_entry.c.segment == 1) & (journal_entry.c.number == 1)
                connection.execute(update(journal_entry).where(where).values(line=b"another\n"))

            await store.run_writing(change)
            assert (await remove_archived_rows(folder, archive, duties)).kept == 1
            assert await lines_there(store) == [b"another\n", *read_lines(folder)]
            beside = select(func.count()).select_from(journal_beside).where(journal_beside.c.segment == 1)
            assert await store.run_reading(lambda found: found.execute(beside).scalar_one(), 5) == 1
            blind = plant(sql_retention, "if line == archived[number]", "")
            writer = writer_of(segment_path(archive, 1))
            assert await store.run_writing(lambda found: blind.remove_lines(found, writer, 1, {1: b"x"})) == 1

    asyncio.run(go())


def settle(connection: Connection) -> None:
    """Let the notices have ended long ago, each fourth in each way, and some not at all."""
    for at, key in enumerate(connection.execute(select(outbox.c.key).order_by(outbox.c.key)).scalars().all()):
        state = (DELIVERED, SKIPPED, DEAD, None)[at % 4]
        if state is not None:
            ended = {"state": state, "settled_at": MOMENT, "body": b""}
            connection.execute(update(outbox).where(outbox.c.key == key).values(**ended))


def states(connection: Connection) -> dict[str, int]:
    """Count the notices by state."""
    question = select(outbox.c.state, func.count()).group_by(outbox.c.state)
    return dict([tuple(row) for row in connection.execute(question)])


def test_what_is_over_goes_by_an_entry_and_the_rest_verifies_from_there(url: str, tmp_path: Path) -> None:
    """Delivered notices with it, others never; without the entry, or by a false one, segments are missing."""
    folder, archive = tmp_path / "j", tmp_path / "archive"
    kept = tmp_path / "kept"

    async def expire(module: ModuleType, order: Order) -> Expired:
        async with opened(url) as (_, duties):
            told: Expired = await module.expire_archive(folder, archive, duties, order, key=KEY)
            return told

    asyncio.run(moved(url, folder, archive))
    run(url, lambda store, _: store.run_writing(settle))
    shutil.copytree(tmp_path / "j", kept / "j")
    shutil.copytree(archive, kept / "archive")
    last = numbers(archive)[-1]
    assert asyncio.run(expire(journal_expiry, ORDER._replace(before=MOMENT)))[:2] == (0, 0)
    assert run(url, lambda store, _: store.run_reading(states, 5))[DELIVERED] == 5

    told = asyncio.run(expire(journal_expiry, ORDER))
    assert told == Expired(last, 5, 0, "nothing is left in the archive")
    assert run(url, lambda store, _: store.run_reading(states, 5)) == {SKIPPED: 5, DEAD: 5, "pending": 5}
    assert numbers(archive) == [] and (codes(folder, archive), codes(folder)) == ([], [])
    entry = next(line for line in read_lines(folder) if b'"kind":"removal"' in line)
    assert b'"first":1,"last":%d' % last in entry and b'"act":"order 7"' in entry

    def restored() -> None:
        for name in ("j", "archive"):
            shutil.rmtree(tmp_path / name)
            shutil.copytree(kept / name, tmp_path / name)

    restored()
    silent = plant(journal_expiry, "await journal.append(", "str(")
    asyncio.run(expire(silent, ORDER))
    assert codes(folder, archive) == ["missing-segment"]
    restored()
    false = plant(journal_expiry, "return RemovalEntry(order.at, order.act, first, last, head,",
                  "return RemovalEntry(order.at, order.act, first, last, '0' * 64,")  # fmt: skip
    asyncio.run(expire(false, ORDER))
    assert codes(folder, archive) == ["missing-segment"]
    greedy = plant(sql_retention, "select(_OUT.key).where(_OUT.state == DELIVERED, ", "select(_OUT.key).where(")
    assert run(url, lambda store, _: store.run_writing(lambda found: greedy.remove_delivered(found, LATER))) > 0


def test_an_entry_excuses_the_beginning_alone(url: str, tmp_path: Path) -> None:
    """A part of the archive may be over; a stop in between is gone on from; what is missing amid the rest is missing."""
    folder, archive = tmp_path / "j", tmp_path / "archive"
    asyncio.run(moved(url, folder, archive))
    first = segment_path(archive, 2).read_bytes()
    head = msgspec_hash(segment_path(archive, 1).read_bytes())
    entry = RemovalEntry(ORDER.at, "order 7", 1, 1, head, "")

    async def tell() -> None:
        journal = DurableJournal.open(folder, key=KEY)
        await journal.append(journal_expiry.msgspec.json.encode(entry))
        await journal.aclose()

    asyncio.run(tell())
    assert codes(folder, archive) == [], "an entry whose segments are still there"
    segment_path(archive, 1).unlink()
    checkpoint_path(archive, 1).unlink()
    assert codes(folder, archive) == []
    segment_path(archive, 2).unlink()
    assert "missing-segment" in codes(folder, archive), "more is gone than the entry says"
    segment_path(archive, 2).write_bytes(first)
    segment_path(archive, 3).unlink()
    assert "missing-segment" in codes(folder, archive)


def msgspec_hash(text: bytes) -> str:
    """Return the hash of the last line of a segment."""
    return str(journal_expiry.msgspec.json.decode(text.splitlines()[-1])["hash"])


def test_rows_in_the_database_keep_the_archive(url: str, tmp_path: Path) -> None:
    """What is still in the database is not removed for good; once it is not, it may be."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *map(decision, range(20)))
        async with opened(url) as (store, duties):
            await ship_all(shipper(folder, duties))
            await archive_journal(folder, archive, duties, LATER)
            told = await expire_archive(folder, archive, duties, ORDER, key=KEY)
            assert told.segments == 0 and "in the database" in told.because
            await remove_archived_rows(folder, archive, duties)
            there = numbers(archive)
            with pytest.MonkeyPatch.context() as full, pytest.raises(JournalError):
                full.setattr(DurableJournal, "append", _refused)
                await expire_archive(folder, archive, duties, ORDER, key=KEY)
            assert numbers(archive) == there, "what no entry tells of is not removed"
            assert (await expire_archive(folder, archive, duties, ORDER, key=KEY)).segments > 0
            assert await has_other_rows(store)

    asyncio.run(go())


async def _refused(*_: Any, **__: Any) -> None:
    raise JournalError("full")


async def has_other_rows(store: SqlStore) -> bool:
    """Tell whether the last segment's lines are there."""
    return bool(await lines_there(store))


def test_an_erasure_in_the_archive_verifies_as_one_with_the_folder(url: str, tmp_path: Path) -> None:
    """The act stands in the folder, what it erased in the archive; by itself the archive cannot tell of the act."""
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *[reading(n, ("p-bota", "p-dana")[n % 2]) for n in range(12)])
        async with opened(url) as (_, duties):
            await ship_all(shipper(folder, duties))
            await archive_journal(folder, archive, duties, LATER)
            elsewhere = Elsewhere(archive, duties)
            done = await erase_patients(folder, ["p-dana"], "act 12", ORDER.at, key=KEY, elsewhere=elsewhere)
            assert done.parts == 6
            assert (await remove_archived_rows(folder, archive, duties)).kept == 0, "erased alike in both"

    asyncio.run(go())
    assert b"p-dana" not in bytes_under(folder, archive) and b"p-bota" in bytes_under(archive)
    assert codes(folder, archive) == []
    assert set(codes(archive)) == {"erased-without-act"}


def test_the_commands(tmp_path: Path) -> None:
    """Archive, verify both as one, refuse a term that is cut short, expire, verify what is left."""
    url, folder, archive = f"sqlite:///{tmp_path}/truth.db", tmp_path / "journal", str(tmp_path / "archive")
    asyncio.run(write(folder, *(decision(n, at="2020-01-01T00:00:00Z") for n in range(20)), key=None))
    run(url, lambda _, duties: ship_all(shipper(folder, duties)))
    settings = {"database_url": url, "journal_archive_dir": archive}

    def call(*words: str) -> Any:
        return run_cli(tmp_path, "journal", *words, **settings)

    lost = run_cli(tmp_path, "journal", "archive", database_url=url)
    assert lost.returncode == 2 and "no archive is set" in lost.stderr
    stays = call("archive")
    assert stays.returncode == 0 and "0 segments archived; segment 1 stays: no checkpoint" in stays.stdout
    done = call("archive", "--unsigned")
    last = numbers(folder)[0]
    assert f"{last - 1} segments archived; segment {last} stays: it is the last" in done.stdout, done.stderr
    whole = call("verify", str(folder), "--archive", archive)
    assert whole.returncode == 0 and f"{last} segments, 20 entries verified" in whole.stdout
    assert call("verify", str(folder)).returncode == 1
    short = call("expire", "--act", "order 7", "--older-than", "30")
    assert short.returncode == 2 and "RUQSAT_JOURNAL_RETENTION_DAYS" in short.stderr
    gone = call("expire", "--act", "order 7")
    assert gone.returncode == 0 and f"{last - 1} segments and 0 notices removed for good" in gone.stdout, gone.stderr
    assert call("verify", str(folder)).returncode == 0


def test_a_month_of_rows_is_removed_in_batches(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction holds more than a batch; whoever stops it in between has removed some, and goes on."""
    monkeypatch.setattr(sql_retention, "AT_ONCE", 7)
    folder, archive = tmp_path / "j", tmp_path / "archive"

    async def go() -> None:
        await write(folder, *map(decision, range(40)))
        async with opened(url) as (store, duties):
            await ship_all(shipper(folder, duties))
            await archive_journal(folder, archive, duties, LATER)

            def lose(connection: Connection) -> None:
                connection.execute(delete(journal_entry).where(journal_entry.c.number == 2))

            await store.run_writing(lose)
            await remove_archived_rows(folder, archive, duties)
            assert set(await lines_there(store)) <= set(read_lines(folder))

    asyncio.run(go())
