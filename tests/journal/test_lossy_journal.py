"""The lossy journal: quick, named for what it may do, and honest about having done it."""

import asyncio
import errno
from pathlib import Path

import pytest
from journal_helpers import decision, ids_in, on_loop
from simulated_disk import Refusal, SimulatedDisk

from ruqsat.errors import JournalError
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.journal_verification import verify_folder


def test_lossy_journal_acknowledges_at_once_and_never_syncs_on_the_way(tmp_path: Path) -> None:
    """Entries are in the file within a tenth of a second, unsynced; closing syncs them."""
    disk = SimulatedDisk()

    async def main() -> None:
        journal = LossyJournal.open(tmp_path, disk=disk)
        disk.calls.clear()
        for number in range(50):
            await journal.append(decision(number))
        assert ids_in(tmp_path) == []
        await asyncio.sleep(0.1)
        assert ids_in(tmp_path) == list(range(50))
        assert {what for what, _ in disk.calls} == {"write"}
        await journal.append(decision(50))
        await journal.aclose()
        assert disk.calls[-1][0] == "datasync"

    on_loop(main)

    assert ids_in(tmp_path) == list(range(51))
    assert verify_folder(tmp_path).intact


def test_lossy_journal_that_loses_says_so_in_its_health(tmp_path: Path) -> None:
    """Its callers are not told of a loss, its operator is, and the chain stays whole."""
    full = Refusal(write=errno.ENOSPC)

    async def main() -> None:
        journal = LossyJournal.open(tmp_path, disk=SimulatedDisk(full), segment_bytes=700)
        full.is_on = True
        for number in range(10):
            await journal.append(decision(number))
        await asyncio.sleep(0.12)
        assert (journal.healthy, journal.failed) == (False, 10)
        full.is_on = False
        for number in range(10, 20):
            await journal.append(decision(number))
        await journal.aclose()
        assert (journal.healthy, journal.entries) == (True, 10)
        with pytest.raises(JournalError, match="closed"):
            await journal.append(decision(20))

    on_loop(main)

    assert ids_in(tmp_path) == list(range(10, 20))
    assert verify_folder(tmp_path).intact


def test_lossy_journal_syncs_a_segment_before_it_begins_the_next(tmp_path: Path) -> None:
    """A power cut may take the end of the chain, but cannot take its middle."""
    disk = SimulatedDisk()

    async def main() -> None:
        journal = LossyJournal.open(tmp_path, disk=disk, segment_bytes=1)
        await journal.append(decision(1))
        await journal.aclose()

    on_loop(main)

    first, second = "segment-00000001.jsonl", "segment-00000002.jsonl"
    assert disk.calls.index(("datasync", first)) < disk.calls.index(("create", second))


def test_journals_share_a_folder_one_after_the_other(tmp_path: Path) -> None:
    """Durable and lossy segments are one chain."""
    for opened, number in ((DurableJournal, 1), (LossyJournal, 2), (DurableJournal, 3)):

        async def main(opened: type[DurableJournal | LossyJournal] = opened, number: int = number) -> None:
            journal = opened.open(tmp_path)
            await journal.append(decision(number))
            await journal.aclose()

        on_loop(main)

    assert ids_in(tmp_path) == [1, 2, 3]
    assert verify_folder(tmp_path).intact
