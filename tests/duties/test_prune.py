"""Segments are deleted once they are old and in the database, and never before."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, update

from ruqsat.errors import JournalError
from ruqsat.stores import journal_erasure, journal_prune, sql_retention
from ruqsat.stores.journal_erasure import erase_patients
from ruqsat.stores.journal_folder import list_segments, segment_path, writer_of
from ruqsat.stores.journal_prune import Pruned, prune_journal, refuse_pruned
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_schema import journal_entry
from tests.duties import test_erasure as erasure
from tests.duties.ground import MOMENT, opened, run
from tests.duties.test_shipping import decision, ship_all, shipper, write
from tests.mutants import plant
from tests.process.starter import run_cli

LATER = MOMENT + 1


def numbers(folder: Path) -> list[int]:
    """Return the segments that are there."""
    return [each.number for each in list_segments(folder)]


def test_only_what_is_shipped_and_old_is_deleted(url: str, tmp_path: Path) -> None:
    """Not shipped: nothing; shipped and young: nothing; both: all but the last; and the journal goes on from there."""
    folder = tmp_path / "j"

    async def go() -> None:
        await write(folder, *map(decision, range(20)))
        last = numbers(folder)[-1]
        async with opened(url) as (_, duties):
            assert await prune_journal(folder, duties, LATER) == Pruned(0, 1, "not all of it is in the database")
            await ship_all(shipper(folder, duties))
            assert (await prune_journal(folder, duties, MOMENT)).segments == 0
            assert await prune_journal(folder, duties, LATER) == Pruned(last - 1, last, "it is the last")
            assert numbers(folder) == [last]
            await write(folder, decision(20))
            await ship_all(shipper(folder, duties))
            assert numbers(folder) == [last, last + 1]

    asyncio.run(go())


def test_one_line_that_the_database_lacks_keeps_its_segment_and_all_after_it(url: str, tmp_path: Path) -> None:
    """What was deleted there, or could not be read here, is not deleted here."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(30)))
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))

            def lose(connection: Connection) -> None:
                connection.execute(
                    delete(journal_entry).where(journal_entry.c.segment == 3, journal_entry.c.number == 1)
                )

            await store.run_writing(lose)
            assert (await prune_journal(tmp_path, duties, LATER))[:2] == (2, 3)
            path = list_segments(tmp_path)[0].path
            path.write_bytes(path.read_bytes() + b"\x00\n")
            assert (await prune_journal(tmp_path, duties, LATER)).segments == 0

    asyncio.run(go())


def changed(line: bytes) -> Any:
    """Return what writes *line* into the first entry's row of the third segment."""
    where = (journal_entry.c.segment == 3) & (journal_entry.c.number == 1)
    return lambda connection: connection.execute(update(journal_entry).where(where).values(line=line))


def test_a_row_that_was_altered_keeps_the_true_line(url: str, tmp_path: Path) -> None:
    """As many rows are there, and one is another: refused, with its place; the same bytes again: deleted."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(30)))
        true = segment_path(tmp_path, 3).read_bytes().splitlines(keepends=True)[1]
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))
            last = numbers(tmp_path)[-1]
            await store.run_writing(changed(true.replace(b"dr_aida", b"dr_erln")))
            for _ in range(2):
                with pytest.raises(JournalError, match=r"00003\.jsonl`, line 2: the database has .* altered"):
                    await prune_journal(tmp_path, duties, LATER)
                assert numbers(tmp_path) == [*range(3, last + 1)]
            await store.run_writing(changed(true))
            assert await prune_journal(tmp_path, duties, LATER) == Pruned(last - 3, last, "it is the last")

    asyncio.run(go())


def test_the_segment_that_the_journal_ends_in_is_not_deleted_whatever_lies_behind_it(url: str, tmp_path: Path) -> None:
    """Files that were made and never begun are no end: what the next entries follow stays."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(20)))
        last = numbers(tmp_path)[-1]
        segment_path(tmp_path, last + 1).touch()
        segment_path(tmp_path, last + 2).touch()
        async with opened(url) as (_, duties):
            await ship_all(shipper(tmp_path, duties))
            assert await prune_journal(tmp_path, duties, LATER) == Pruned(last - 1, last, "it is the last")
            assert numbers(tmp_path) == [last, last + 1, last + 2]

    asyncio.run(go())


def test_a_planted_pruning_that_counts_alone_is_noticed(url: str, tmp_path: Path) -> None:
    """It would delete the only line that is as it was written."""

    async def go() -> None:
        await write(tmp_path / "j", *map(decision, range(30)))
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path / "j", duties))
            await store.run_writing(changed(b"another\n"))
            with pytest.raises(JournalError, match="altered"):
                await prune_journal(tmp_path / "j", duties, LATER)
            planted = plant(journal_prune, "        await _refuse_unlike(segment, shipments)\n", "")
            assert (await planted.prune_journal(tmp_path / "j", duties, LATER)).first > 3

    asyncio.run(go())


def test_every_line_is_compared_however_many_there_are(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for some at a time; the first that differs is told by its place, and so is one that is not there."""
    monkeypatch.setattr(sql_retention, "AT_ONCE", 2)

    async def go() -> None:
        await write(tmp_path, *map(decision, range(8)), segment_bytes=10**6)
        lines = segment_path(tmp_path, 1).read_bytes().splitlines(keepends=True)
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))
            writer = writer_of(segment_path(tmp_path, 1))
            assert await duties.first_unlike(writer, 1, lines) is None
            for at, line in enumerate(lines):
                altered = [*lines[:at], line[:-2] + b" }\n", *lines[at + 1 :]]
                assert await duties.first_unlike(writer, 1, altered) == (at, line)
            gone = delete(journal_entry).where(journal_entry.c.number == 4)
            await store.run_writing(lambda connection: connection.execute(gone))
            assert await duties.first_unlike(writer, 1, lines) == (4, b"")

    asyncio.run(go())


def test_what_is_erased_in_one_place_alone_is_not_pruned(url: str, tmp_path: Path) -> None:
    """An erasure that broke off, or reached the files only: refused with what to do; done again, it is pruned."""
    for files_only in (False, True):
        folder = tmp_path / f"j{files_only}"
        asyncio.run(erasure.write(folder, 0, 6))
        run(url, lambda _, duties, folder=folder: ship_all(shipper(folder, duties)))
        if files_only:
            asyncio.run(erase_patients(folder, ["p-dana"], "act 12", erasure.WHEN))
        else:
            broken = plant(journal_erasure, "disk.overwrite(path,", "raise OSError(5, 'Input/output error')  # ")
            with pytest.raises(Exception, match="Input/output"):
                erasure.erase(url, folder, None, broken)

        async def pruned(_: Any, duties: SqlDuties, folder: Path = folder) -> Pruned:
            return await prune_journal(folder, duties, LATER)

        with pytest.raises(JournalError, match=r"line 2: erased in .* run `ruqsat journal erase` again"):
            run(url, pruned)
        assert numbers(folder)[0] == 1
        erasure.erase(url, folder, None)
        assert run(url, pruned).segments > 0


@pytest.mark.parametrize("days", ["1", "36500"])
def test_the_command_prunes_by_the_setting(days: str, tmp_path: Path) -> None:
    """Older than so many days, by the settings or the word; the last segment stays."""
    url, folder = f"sqlite:///{tmp_path}/truth.db", tmp_path / "journal"
    asyncio.run(write(folder, *(decision(n, at="2020-01-01T00:00:00Z") for n in range(20))))
    run(url, lambda store, duties: ship_all(shipper(folder, duties)))

    done = run_cli(tmp_path, "journal", "prune", "--older-than", days, database_url=url)
    assert done.returncode == 0, done.stderr
    assert (len(numbers(folder)) == 1) is (days == "1")
    nowhere = run_cli(tmp_path, "journal", "prune", str(tmp_path / "none"), database_url=url)
    assert nowhere.returncode == 2 and "cannot be pruned" in nowhere.stderr and "Traceback" not in nowhere.stderr


def test_evidence_is_not_put_together_of_what_is_left(tmp_path: Path) -> None:
    """Of days before the first segment that is there: refused, with a word; of days since: made."""
    url, folder = f"sqlite:///{tmp_path}/truth.db", tmp_path / "journal"
    asyncio.run(write(folder, *(decision(n, at="2020-01-01T00:00:00Z") for n in range(20))))
    refuse_pruned(folder, 0)
    run(url, lambda store, duties: ship_all(shipper(folder, duties)))
    assert run(url, lambda store, duties: prune_journal(folder, duties, 2 * MOMENT)).segments > 0

    def export(since: str) -> Any:
        return run_cli(
            tmp_path, "evidence", "export", "--patient", "p1", "--from", since, "--to", "2999-01-01",
            "-o", str(tmp_path / f"{since}.zip"), database_url=url, journal_dir=str(folder),
        )  # fmt: skip

    refused = export("2020-01-01")
    assert refused.returncode == 2 and "earlier ones were deleted" in refused.stderr
    assert not (tmp_path / "2020-01-01.zip").exists()
    assert export("2998-01-01").returncode == 0
