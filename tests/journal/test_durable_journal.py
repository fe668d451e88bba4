"""The durable journal on a disk that works: what is acknowledged, linked, locked and recovered."""

import asyncio
import errno
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from journal_helpers import decision, headers_in, ids_in, lines_in, on_loop
from simulated_disk import GatedDisk, SimulatedDisk, UnsyncedDisk

from ruqsat.core.chain import ALTERED, BROKEN_LINK, TORN_TAIL
from ruqsat.errors import JournalError, StoreLockedError
from ruqsat.service.ports import Journal
from ruqsat.stores import journal_base, journal_file
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_file import SegmentFile
from ruqsat.stores.journal_folder import list_segments
from ruqsat.stores.journal_groups import Groups
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.journal_verification import UNREADABLE_FILE, verify_folder
from ruqsat.stores.pack_file import write_pack_file


def test_journal_matches_the_port_by_shape(tmp_path: Path) -> None:
    """What the use cases need of a journal, both journals have."""
    make: list[Callable[[], Journal]] = [
        partial(DurableJournal.open, tmp_path / "a"),
        partial(LossyJournal.open, tmp_path / "b"),
    ]
    for each in make:
        on_loop(each().aclose)


def test_entries_are_kept_in_the_order_of_calls(tmp_path: Path) -> None:
    """The journal holds every entry once, in the order it was given them, and verifies."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path / "journal")
        await asyncio.gather(*(journal.append(decision(each)) for each in range(200)))
        assert (journal.entries, journal.healthy, journal.last_error) == (200, True, None)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path / "journal") == list(range(200))
    report = verify_folder(tmp_path / "journal")
    assert (report.entries, report.findings) == (200, ())


def test_no_entry_is_acknowledged_before_its_sync(tmp_path: Path) -> None:
    """An acknowledgement waits for the sync, not for the write."""
    disk = GatedDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        disk.gate.clear()
        waiter = journal.append(decision(1))
        await asyncio.sleep(0.05)
        assert ids_in(tmp_path) == [1]
        assert not waiter.done()
        disk.gate.set()
        await waiter
        await journal.aclose()

    on_loop(main)


async def append_in_turns(journal: DurableJournal, turns: int) -> list[int]:
    """Append an entry in every turn of the loop; return how many were kept when each was acknowledged."""
    kept, waiters = list[int](), list[asyncio.Future[None]]()
    for number in range(turns):
        waiter = journal.append(decision(number))
        waiter.add_done_callback(lambda _: kept.append(journal.entries))
        waiters.append(waiter)
        await asyncio.sleep(0)
    await asyncio.gather(*waiters)
    return kept


@pytest.mark.parametrize(
    ("few", "last", "groups"),
    [
        pytest.param(journal_base.FEW, 2, 1, id="few"),
        pytest.param(1, 2, 2, id="not few"),
        pytest.param(journal_base.FEW, 1, 2, id="alone"),
    ],
)
def test_a_small_group_waits_for_the_next_turn(
    few: int, last: int, groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """An entry of the next turn shares the sync; neither many nor who asks alone waits for it."""
    monkeypatch.setattr(journal_base, "FEW", few)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        await asyncio.gather(*[journal.append(decision(99 + number)) for number in range(last)])
        before = journal.groups
        await append_in_turns(journal, 2)
        assert journal.groups - before == groups
        await journal.aclose()

    on_loop(main)


def test_a_small_group_does_not_wait_as_long_as_entries_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """So many turns and no more: the first is acknowledged though others go on coming."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        await asyncio.gather(journal.append(decision(98)), journal.append(decision(99)))
        kept = await append_in_turns(journal, 20)
        assert kept[0] - 2 <= 1 + journal_base.TURNS
        await journal.aclose()

    on_loop(main)


def test_a_failure_while_it_waits_keeps_no_entry_from_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """The group is written at once, and the journal goes on."""
    asked = list[int]()

    def fail(_: Groups) -> int:
        asked.append(1)
        raise MemoryError

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        await asyncio.gather(journal.append(decision(98)), journal.append(decision(99)))
        monkeypatch.setattr(Groups, "gathered", property(fail))
        for number in range(3):
            async with asyncio.timeout(20):
                await asyncio.gather(journal.append(decision(number)), journal.append(decision(number)))
        assert asked
        assert journal.entries == 8
        await journal.aclose()

    on_loop(main)


class WatchedDisk(UnsyncedDisk):
    """
    A disk that remembers which thread has waited for it, and takes as long, or fails, as it is told.

    It moves a clock instead of waiting: what the test says of time holds on a busy machine, too.
    """

    SOON = 0.00001

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.threads: list[int] = []
        self.seconds = self.SOON
        self.number = 0
        self._now = 0.0
        monkeypatch.setattr(journal_file, "perf_counter", lambda: self._now)

    def datasync(self, descriptor: int) -> None:
        """Take the time."""
        self.threads.append(threading.get_ident())
        self._now += self.seconds
        if self.number:
            raise OSError(self.number, "told to")


async def synced_by(journal: DurableJournal, disk: WatchedDisk, together: int = 1) -> str:
    """Append entries and tell who has waited for the disk."""
    del disk.threads[:]
    await asyncio.gather(*[journal.append(decision(number)) for number in range(together)], return_exceptions=True)
    (thread,) = set(disk.threads)
    return "loop" if thread == threading.get_ident() else "thread"


def test_the_loop_waits_for_the_disk_for_who_asks_alone_and_for_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Not for two, nor for one after two; not for the first, of whose disk nothing is known; not in a slow moment."""
    disk = WatchedDisk(monkeypatch)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        assert [await synced_by(journal, disk, together) for together in (1, 1, 1, 2, 1, 1)] == [
            "thread", "loop", "loop", "thread", "thread", "loop",
        ]  # fmt: skip
        disk.seconds = 2 * journal_base.QUICK_SECONDS
        assert [await synced_by(journal, disk) for _ in range(2)] == ["loop", "thread"]
        disk.seconds = disk.SOON
        assert [await synced_by(journal, disk) for _ in range(2)] == ["thread", "loop"]
        await journal.aclose()

    on_loop(main)
    assert verify_folder(tmp_path).intact


@pytest.mark.parametrize("number", [0, errno.EIO, errno.ENOSPC], ids=["slow", "broken", "full"])
def test_the_loop_does_not_wait_for_a_disk_that_was_slow_or_failed_a_moment_ago(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for so long; what failed was refused, and the journal goes on."""
    disk = WatchedDisk(monkeypatch)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now)
        journal = DurableJournal.open(tmp_path, disk=disk)
        assert [await synced_by(journal, disk) for _ in range(2)] == ["thread", "loop"]
        disk.seconds, disk.number = 2 * journal_base.SLOW_SECONDS, number
        assert await synced_by(journal, disk) == "loop"
        assert (journal.entries, journal.healthy) == ((3, True) if not number else (2, False))
        disk.seconds, disk.number = disk.SOON, 0
        assert [await synced_by(journal, disk) for _ in range(3)] == ["thread"] * 3
        now += journal_base.CALM_SECONDS - 0.1
        assert await synced_by(journal, disk) == "thread"
        now += 0.2
        assert await synced_by(journal, disk) == "loop"
        assert (journal.entries, journal.healthy) == (8 if not number else 7, True)
        await journal.aclose()

    on_loop(main)
    assert verify_folder(tmp_path).intact


@pytest.mark.parametrize("what", [(DurableJournal, "_count_in"), (SegmentFile, "commit")], ids=["counted", "commit"])
def test_what_fails_after_the_loop_has_waited_is_refused_and_not_there(
    what: tuple[type, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was synced: nobody was told so, it is cut off, and the chain goes on without it."""
    commit = SegmentFile.commit

    def fail(first: Any, *rest: Any) -> None:
        if isinstance(first, SegmentFile):
            commit(first, *rest)
        raise RecursionError

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=WatchedDisk(monkeypatch))
        for _ in range(2):
            await journal.append(decision(1))
        with monkeypatch.context() as patch:
            patch.setattr(*what, fail)
            with pytest.raises(JournalError):
                await journal.append(decision(2))
        await asyncio.gather(journal.append(decision(3)), journal.append(decision(4)))
        await journal.append(decision(5))
        assert (journal.entries, journal.healthy) == (5, True)
        await journal.aclose()

    on_loop(main)
    assert verify_folder(tmp_path).intact
    assert ids_in(tmp_path) == [1, 1, 3, 4, 5]


def test_entries_that_come_during_a_sync_share_the_next_one(tmp_path: Path) -> None:
    """Group commit: one write and one sync for all that gathered while the disk was busy."""
    disk = GatedDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        disk.steps.clear()
        disk.gate.clear()
        first = journal.append(decision(0))
        await asyncio.sleep(0.02)
        others = [journal.append(decision(each)) for each in range(1, 6)]
        disk.gate.set()
        await first
        assert not any(other.done() for other in others)
        await asyncio.gather(*others)
        assert disk.steps == ["write 1", "datasync", "write 5", "datasync"]
        assert journal.groups == 2
        await journal.aclose()

    on_loop(main)


def test_folder_is_synced_before_the_first_line_of_a_segment(tmp_path: Path) -> None:
    """A segment's name is on stable storage before anything in it is acknowledged."""
    disk = SimulatedDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path / "journal", disk=disk, segment_bytes=1)
        await journal.append(decision(1))
        await journal.aclose()

    on_loop(main)

    first = "segment-00000001.jsonl"
    second = "segment-00000002.jsonl"
    assert disk.calls == [
        ("sync_dir", tmp_path.name),
        ("sync_dir", "journal"),
        *(("create", first), ("sync_dir", "journal"), ("write", first), ("datasync", first)),
        *(("create", second), ("sync_dir", "journal"), ("write", second), ("datasync", second)),
    ]


def test_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    """Nobody but the owner can read the folder or a segment."""
    on_loop(DurableJournal.open(tmp_path / "a" / "journal").aclose)

    folder = tmp_path / "a" / "journal"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_client_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    """A cancelled waiter's entry is written all the same, and so are its neighbours'."""
    disk = GatedDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        disk.gate.clear()
        waiters = [journal.append(decision(0))]
        await asyncio.sleep(0.02)
        waiters += [journal.append(decision(each)) for each in range(1, 5)]
        for gone in (waiters[0], waiters[2]):
            gone.cancel()
        disk.gate.set()
        await asyncio.gather(waiters[1], waiters[3], waiters[4])
        assert waiters[0].cancelled()
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == list(range(5))


def test_close_keeps_what_was_accepted_and_refuses_the_rest(tmp_path: Path) -> None:
    """Closing waits for everything appended before it, and cannot be appended after."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        waiters = [journal.append(decision(each)) for each in range(3)]
        await asyncio.gather(journal.aclose(), journal.aclose())
        assert all(waiter.result() is None for waiter in waiters)
        with pytest.raises(JournalError, match="closed"):
            await journal.append(decision(3))
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [0, 1, 2]


def test_closed_journal_leaves_nothing_open(tmp_path: Path) -> None:
    """Neither a descriptor nor a thread outlives the journal, whichever way its life ended."""

    async def main() -> None:
        before = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()  # noqa: ASYNC240
        for opened in (DurableJournal, LossyJournal):
            journal = opened.open(tmp_path, segment_bytes=1)
            await journal.append(decision(1))
            await journal.append(decision(2))
            with pytest.raises(StoreLockedError):
                opened.open(tmp_path)
            await journal.aclose()
        after = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()  # noqa: ASYNC240
        assert after == before

    on_loop(main)


def test_what_is_not_an_entry_is_refused_at_once(tmp_path: Path) -> None:
    """A caller's mistake cannot get into the chain, and does not disturb it."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, segment_bytes=1)
        with pytest.raises(ValueError, match="on one line"):
            journal.append(b'{"a":1}\n{"b":2}')
        await journal.append(decision(1))
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1]
    assert verify_folder(tmp_path).intact


def test_sync_times_are_observed_on_the_loop(tmp_path: Path) -> None:
    """The observer gets the seconds of each sync, in the thread of the loop."""
    seen: list[tuple[float, int]] = []

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        journal.sync_seconds_observer = lambda seconds: seen.append((seconds, threading.get_ident()))
        await journal.append(decision(1))
        await journal.aclose()

    on_loop(main)

    assert len(seen) == 1
    assert 0 < seen[0][0] < 10
    assert seen[0][1] == threading.get_ident()


# Segments


def test_segment_that_is_full_is_followed_by_a_linked_one(tmp_path: Path) -> None:
    """Rotation splits files, never the chain."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, segment_bytes=1000)
        for start in range(0, 60, 20):
            await asyncio.gather(*(journal.append(decision(each)) for each in range(start, start + 20)))
        await journal.aclose()

    on_loop(main)

    headers = headers_in(tmp_path)
    assert len(headers) > 10
    assert [header["segment"] for header in headers] == list(range(1, len(headers) + 1))
    assert {header["because"] for header in headers[1:]} == {"rotation"}
    assert ids_in(tmp_path) == list(range(60))
    assert verify_folder(tmp_path).intact


def test_every_opening_begins_a_new_segment(tmp_path: Path) -> None:
    """A reopened journal goes on behind the last line, in a file and under a writer of its own."""
    for number in range(3):

        async def main(number: int = number) -> None:
            journal = DurableJournal.open(tmp_path)
            await journal.append(decision(number))
            await journal.aclose()

        on_loop(main)

    headers = headers_in(tmp_path)
    assert [header["because"] for header in headers] == ["start"] * 3
    assert len({header["writer"] for header in headers}) == 3
    assert ids_in(tmp_path) == [0, 1, 2]
    assert verify_folder(tmp_path).intact


# One writer


def test_second_opener_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    """Two writers would break the chain, so the second is told and touches nothing."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        before = list_segments(tmp_path)
        with pytest.raises(StoreLockedError, match="held by another writer"):
            LossyJournal.open(tmp_path)
        assert list_segments(tmp_path) == before
        await journal.aclose()
        await DurableJournal.open(tmp_path).aclose()

    on_loop(main)


def test_other_process_is_refused_too(tmp_path: Path) -> None:
    """The lock holds between processes."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        process = multiprocessing.get_context("spawn").Process(target=open_expecting_refusal, args=(tmp_path,))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        await journal.aclose()

    on_loop(main)


def open_expecting_refusal(folder: Path) -> None:
    """Leave with 0 only if *folder* is held."""
    with pytest.raises(StoreLockedError):
        DurableJournal.open(folder)


# After a crash


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A folder with two entries in one segment, as if the process had been killed."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        await asyncio.gather(journal.append(decision(1)), journal.append(decision(2)))
        await journal.aclose()

    on_loop(main)
    return tmp_path


def reopen(folder: Path, number: int) -> DurableJournal:
    """Open *folder*, append decision *number*, close, and return the closed journal."""
    journals = []

    async def main() -> None:
        journals.append(DurableJournal.open(folder))
        await journals[0].append(decision(number))
        await journals[0].aclose()

    on_loop(main)
    return journals[0]


def test_torn_tail_is_cut_and_reported(crashed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unfinished line is cut, its length is told, and the chain is whole again."""
    path = crashed / "segment-00000001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert [finding.code for finding in verify_folder(crashed).findings] == [TORN_TAIL]

    journal = reopen(crashed, 3)

    last_line = whole.splitlines(keepends=True)[-1]
    assert journal.cut_bytes == len(last_line) - 10
    assert path.read_bytes() == whole.removesuffix(last_line)
    assert f"journal_tail_cut file={path.name} bytes={journal.cut_bytes}" in caplog.messages
    assert lines_in(crashed)[-2]["cut_bytes"] == journal.cut_bytes
    assert ids_in(crashed) == [1, 3]
    assert verify_folder(crashed).intact


def test_torn_header_is_cut_and_the_next_segment_follows_the_one_before(crashed: Path) -> None:
    """A segment that died with its header leaves an empty file, which the chain passes by."""
    reopen(crashed, 3)
    path = crashed / "segment-00000002.jsonl"
    path.write_bytes(path.read_bytes()[:50])

    journal = reopen(crashed, 4)

    assert journal.cut_bytes == 50
    assert path.read_bytes() == b""
    assert ids_in(crashed) == [1, 2, 4]
    assert verify_folder(crashed).intact


def test_empty_segments_at_the_end_are_passed_by(crashed: Path) -> None:
    """A segment that was created and never written does not break the chain, nor hide a break."""
    (crashed / "segment-00000002.jsonl").touch(0o600)
    (crashed / "segment-00000003.jsonl").touch(0o600)

    reopen(crashed, 3)

    assert (crashed / "segment-00000004.jsonl").exists()
    assert verify_folder(crashed).intact

    (crashed / "segment-00000001.jsonl").write_bytes(b"")
    assert [finding.code for finding in verify_folder(crashed).findings] == [BROKEN_LINK]


def test_damage_does_not_stop_the_journal_and_is_not_hidden(crashed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged segment stays untouched and reported for ever; what is appended after it verifies."""
    path = crashed / "segment-00000001.jsonl"
    damaged = path.read_bytes().replace(b'"id":1', b'"id":9') + b"half a line"
    path.write_bytes(damaged)

    journal = reopen(crashed, 3)
    reopen(crashed, 4)

    assert path.read_bytes() == damaged
    assert (journal.healthy, journal.cut_bytes) == (True, 0)
    assert f"journal_damage_met file={path.name}" in caplog.messages
    found = verify_folder(crashed)
    assert [(each.file, each.line, each.code) for each in found.findings] == [
        (path.name, 2, ALTERED),
        (path.name, 4, ALTERED),
    ]
    assert found.entries == 3
    later_headers = [json.loads(segment.path.read_bytes().splitlines()[0]) for segment in list_segments(crashed)[1:]]
    assert [header["because"] for header in later_headers] == ["damage", "start"]


def test_unreadable_segment_does_not_stop_the_journal(crashed: Path) -> None:
    """What cannot be read is damage as well: passed by, and reported."""
    (crashed / "segment-00000002.jsonl").mkdir()

    reopen(crashed, 3)

    assert [finding.code for finding in verify_folder(crashed).findings] == [UNREADABLE_FILE]
    assert verify_folder(crashed).entries == 3


def test_folder_that_cannot_be_made_is_refused_with_its_reason(tmp_path: Path) -> None:
    """A journal that cannot have its folder says which, and why."""
    (tmp_path / "file").touch()

    with pytest.raises(JournalError, match="file/journal` cannot be opened: Not a directory"):
        DurableJournal.open(tmp_path / "file" / "journal")


def test_real_disk_creates_only_what_is_not_there(tmp_path: Path) -> None:
    """A segment can never be written over one that exists."""
    (tmp_path / "segment").write_bytes(b"kept")

    with pytest.raises(FileExistsError):
        Disk().open(tmp_path / "segment", create=True)
    with pytest.raises(FileNotFoundError):
        Disk().open(tmp_path / "other")


def test_real_disk_syncs_what_it_says_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file before its name counts, and each name by its folder: no killed process tells, only a machine that is."""
    synced: list[tuple[str, bytes]] = []

    def noting(sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(descriptor: int) -> None:
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            synced.append((path.name, b"" if path.is_dir() else path.read_bytes()))
            sync(descriptor)

        return note

    monkeypatch.setattr(os, "fsync", noting(os.fsync))
    monkeypatch.setattr(os, "fdatasync", noting(os.fdatasync))
    disk, path, folder = Disk(), tmp_path / "segment", (tmp_path.name, b"")
    descriptor = disk.open(path, create=True)
    disk.write(descriptor, b"line")
    disk.datasync(descriptor)
    disk.sync_dir(tmp_path)
    os.close(descriptor)
    disk.overwrite(path, [(0, b"f"), (3, b"d")])
    disk.replace(path, b"another")
    disk.allocate(tmp_path / "reserve", 4096)

    assert synced == [("segment", b"line"), folder, ("segment", b"find"), ("segment.new", b"another"), ("reserve", b"")]
    assert path.read_bytes() == b"another"
    write_pack_file(tmp_path / "pack", {"a": b"b"})
    written = (tmp_path / "pack").read_bytes()
    assert synced[5:] == [(f".pack.{os.getpid()}", written), folder]
