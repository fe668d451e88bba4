"""The durable journal when the power is cut or the disk refuses: nothing acknowledged is lost."""

import asyncio
import errno
import gc
import logging
import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from journal_helpers import decision, ids_in, on_loop, story_of
from simulated_disk import GatedDisk, Moment, Refusal, SimulatedDisk, UnsyncedDisk, lay_out, power_cuts
from tests.mutants import plant

from ruqsat.errors import JournalError
from ruqsat.stores import journal_base, journal_file
from ruqsat.stores.journal_folder import list_segments
from ruqsat.stores.journal_segment import WAITING_BYTES, DurableJournal
from ruqsat.stores.journal_verification import verify_folder

EVERY = 1 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 3
"""Power is cut at every so many bytes of what was not synced; at each one in a soak."""


async def live_through(disk: SimulatedDisk, folder: Path) -> list[int]:
    """Append three rounds of four decisions over several segments; return the ids that were refused."""
    journal = DurableJournal.open(folder, disk=disk, segment_bytes=900)
    refused: list[int] = []

    async def decide(number: int) -> None:
        try:
            await journal.append(decision(number))
            disk.acknowledged.append(number)
        except JournalError:
            refused.append(number)

    for start in (0, 4, 8):
        await asyncio.gather(*(decide(each) for each in range(start, start + 4)))
    await journal.aclose()
    return refused


async def check_power_cut(moment: Moment, folder: Path, *, every: int) -> int:
    """Reopen every folder a power cut at *moment* may leave; what was acknowledged must be there once."""
    count = 0
    for files in power_cuts(moment, every=every):
        lay_out(files, folder)
        count += 1
        await DurableJournal.open(folder, disk=UnsyncedDisk()).aclose()
        report = verify_folder(folder)
        assert report.findings == (), report.findings
        kept = ids_in(folder)
        assert len(set(kept)) == len(kept)
        assert set(moment.acknowledged) <= set(kept)
    return count


@pytest.mark.slow
def test_power_cut_at_any_call_and_any_byte_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A disk that drops what is unsynced and tears its last write holds all that was acknowledged."""
    disk = SimulatedDisk()

    async def main() -> None:
        assert await live_through(disk, tmp_path / "journal") == []
        count = sum([await check_power_cut(moment, tmp_path / "image", every=EVERY) for moment in disk.moments])
        assert count > 2000 // EVERY

    on_loop(main)

    assert sorted(disk.acknowledged) == list(range(12))
    assert len(list_segments(tmp_path / "journal")) > 2


@pytest.mark.slow
def test_power_cut_while_reopening_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """Settling a torn folder can itself be cut short at any call, and be done again."""
    first = SimulatedDisk()

    async def main() -> None:
        await live_through(first, tmp_path / "journal")
        torn = next(each for each in reversed(first.moments) if any(each.pending.values()))
        for number, files in enumerate(power_cuts(torn, every=40)):
            folder = lay_out(files, tmp_path / f"torn-{number}")
            second = SimulatedDisk()
            second.acknowledged.extend(torn.acknowledged)
            await DurableJournal.open(folder, disk=second).aclose()
            for moment in second.moments:
                whole = moment._replace(durable={**files, **moment.durable}, listed=moment.listed | files.keys())
                await check_power_cut(whole, tmp_path / "image", every=40)

    on_loop(main)


@pytest.mark.slow
def test_power_cut_after_a_kill_and_a_restart_leaves_the_chain_whole(tmp_path: Path) -> None:
    """A restart does not link to lines that only the memory of the system still held."""
    first = SimulatedDisk()

    async def main() -> None:
        await live_through(first, tmp_path / "journal")
        for number, left in enumerate(first.moments):
            second = SimulatedDisk()
            second.survive_kill(left, tmp_path / f"killed-{number}")
            journal = DurableJournal.open(tmp_path / f"killed-{number}", disk=second)
            await journal.append(decision(99))
            await journal.aclose()
            for moment in second.moments:
                await check_power_cut(moment, tmp_path / "image", every=200)

    on_loop(main)


FAULTS = [
    ("write", errno.ENOSPC),
    ("write", errno.EIO),
    ("datasync", errno.EIO),
    ("datasync", errno.ENOSPC),
    ("create", errno.ENOSPC),
    ("sync_dir", errno.EIO),
]


@pytest.mark.parametrize(("what", "number"), FAULTS)
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("first", range(8))
def test_disk_that_refuses_a_call_costs_only_what_was_refused(
    tmp_path: Path, what: str, number: int, times: int, first: int
) -> None:
    """Whichever call fails, the acknowledged is kept, the refused is not, and the chain verifies."""
    met: list[int] = []

    def refuse(index: int, called: str) -> int | None:
        if called == what:
            met.append(index)
        return number if called == what and first < len(met) <= first + times else None

    disk = SimulatedDisk(refuse)

    async def main() -> None:
        try:
            refused = await live_through(disk, tmp_path / "journal")
        except JournalError:
            assert what == "sync_dir"  # the folder itself could not be taken over; nothing was promised
            return
        assert sorted([*disk.acknowledged, *refused]) == list(range(12))
        assert sorted(ids_in(tmp_path / "journal")) == sorted(disk.acknowledged)
        assert verify_folder(tmp_path / "journal").intact
        for moment in disk.moments:
            await check_power_cut(moment, tmp_path / "image", every=100)

    on_loop(main)


@pytest.mark.parametrize(
    ("what", "number", "word"),
    [
        ("write", errno.ENOSPC, "full"),
        ("datasync", errno.EDQUOT, "full"),
        ("datasync", errno.EIO, "broken"),
        ("write", errno.EROFS, "read_only"),
        ("create", errno.EROFS, "read_only"),
        ("create", errno.EACCES, "forbidden"),
        ("create", errno.ENOENT, "missing"),
        ("create", errno.EMFILE, "no_descriptors"),
    ],
)
def test_status_says_why_nothing_is_kept_and_says_it_no_longer_than_that(
    tmp_path: Path, what: str, number: int, word: str
) -> None:
    """One word of a closed list, never a path; the newest reason counts, and none once an entry is kept."""
    first, then = Refusal(**{what: number}), Refusal(write=errno.ENOSPC, create=errno.ENOSPC)
    disk = SimulatedDisk(lambda index, called: first(index, called) or then(index, called))

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, segment_bytes=1)
        await journal.append(decision(1))
        assert (journal.status()["healthy"], journal.status()["trouble"]) == (True, None)
        for refusal, said in ((first, word), (then, "full")):
            refusal.is_on = True
            with pytest.raises(JournalError):
                await journal.append(decision(2))
            assert (journal.status()["healthy"], journal.status()["trouble"]) == (False, said)
            refusal.is_on = False
        await journal.append(decision(3))
        assert (journal.status()["healthy"], journal.status()["trouble"]) == (True, None)
        await journal.aclose()

    on_loop(main)


def test_full_disk_refuses_and_recovers_by_itself_in_the_same_segment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No space means no acknowledgement; with space freed the next entry is kept, and nothing restarts."""
    full = Refusal(write=errno.ENOSPC)
    disk = SimulatedDisk(full)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        await journal.append(decision(1))
        full.is_on = True
        for _ in range(3):
            waiters = [journal.append(decision(each)) for each in (2, 3)]
            refusals = await asyncio.gather(*waiters, return_exceptions=True)
            assert all(isinstance(refusal, JournalError) for refusal in refusals)
        assert (journal.healthy, journal.last_error) == (False, "No space left on device")
        assert ids_in(tmp_path) == [1]
        full.is_on = False
        await journal.append(decision(4))
        assert (journal.healthy, journal.entries, journal.failed) == (True, 2, 6)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1, 4]
    assert len(list_segments(tmp_path)) == 1
    assert verify_folder(tmp_path).intact
    assert [record.message.split()[0] for record in caplog.records] == ["journal_failed", "journal_recovered"]


def test_failed_sync_is_never_answered_for_again(tmp_path: Path) -> None:
    """Bytes whose sync failed are cut off and their file is left: the next entry opens a new segment."""
    broken = Refusal(datasync=errno.EIO)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=SimulatedDisk(broken))
        await journal.append(decision(1))
        broken.is_on = True
        for number in (2, 3):
            with pytest.raises(JournalError, match="Input/output error"):
                await journal.append(decision(number))
        broken.is_on = False
        await journal.append(decision(4))
        await journal.aclose()

    on_loop(main)

    assert story_of(tmp_path) == ["start", 1, "sync-failure", 4]
    assert verify_folder(tmp_path).intact


def test_disk_that_goes_on_failing_does_not_fill_the_folder(tmp_path: Path) -> None:
    """A sync that fails for every group leaves at most one file behind, however often it is tried."""
    disk = OnlyCutsDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        await journal.append(decision(1))
        disk.is_broken = True
        for number in range(20):
            with pytest.raises(JournalError):
                await journal.append(decision(number))
        await journal.aclose()

    on_loop(main)

    assert story_of(tmp_path) == ["start", 1]
    assert len(list_segments(tmp_path)) == 2
    assert verify_folder(tmp_path).intact


class OnlyCutsDisk(UnsyncedDisk):
    """A disk that, once broken, syncs what was cut but not what was written."""

    def __init__(self) -> None:
        self.is_broken = False
        self.has_written = False

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self.has_written = True
        return super().write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        self.has_written = False
        super().truncate(descriptor, size)

    def datasync(self, descriptor: int) -> None:
        if self.is_broken and self.has_written:
            raise OSError(errno.EIO, "broken")


def test_nothing_is_written_behind_what_could_not_be_cut_off(tmp_path: Path) -> None:
    """While the remains of a failed group cannot be cut, entries are refused; then the journal goes on."""
    broken = Refusal(write=errno.ENOSPC, truncate=errno.EIO)
    disk = SimulatedDisk(broken)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        await journal.append(decision(1))
        broken.is_on = True
        with pytest.raises(JournalError, match="No space left"):
            await journal.append(decision(2))
        del broken.numbers["write"]
        with pytest.raises(JournalError, match="Input/output"):
            await journal.append(decision(3))
        broken.is_on = False
        await journal.append(decision(4))
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1, 4]
    assert verify_folder(tmp_path).intact


def test_everything_that_waits_is_refused_with_the_group_that_failed(tmp_path: Path) -> None:
    """An entry linked after a lost one cannot be kept, so it is refused too."""
    gate = threading.Event()

    class FailingDisk(GatedDisk):
        def datasync(self, descriptor: int) -> None:
            super().datasync(descriptor)
            if gate.is_set():
                raise OSError(errno.EIO, "broken")

    disk = FailingDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, segment_bytes=600)
        disk.gate.clear()
        first = journal.append(decision(0))
        await asyncio.sleep(0.02)
        others = [journal.append(decision(each)) for each in range(1, 12)]
        gate.set()
        disk.gate.set()
        refusals = await asyncio.gather(first, *others, return_exceptions=True)
        assert all(isinstance(refusal, JournalError) for refusal in refusals)
        gate.clear()
        await journal.append(decision(12))
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [12]
    assert verify_folder(tmp_path).intact


@pytest.mark.parametrize("what", ["create", "write", "datasync"])
def test_disk_full_at_the_start_opens_unhealthy_and_recovers(tmp_path: Path, what: str) -> None:
    """A service on a full disk starts, denies for lack of a journal, and comes round when there is space."""
    full = Refusal(**{what: errno.ENOSPC})
    full.is_on = True

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=SimulatedDisk(full))
        assert not journal.healthy
        with pytest.raises(JournalError, match="No space left"):
            await journal.append(decision(1))
        full.is_on = False
        await journal.append(decision(2))
        assert journal.healthy
        await journal.aclose()

    on_loop(main)

    assert story_of(tmp_path) == ["start", 2]


def test_disk_that_hangs_does_not_fill_the_memory(tmp_path: Path) -> None:
    """What may wait for the disk is bounded; beyond that an entry is refused at once."""
    disk = GatedDisk()
    big = b'{"kind":"decision","id":0,"text":"' + b"x" * 1_000_000 + b'"}'

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        disk.gate.clear()
        waiters = [journal.append(big) for _ in range(WAITING_BYTES // 1_000_000 + 2)]
        assert [waiter.done() for waiter in waiters] == [False] * (len(waiters) - 1) + [True]
        with pytest.raises(JournalError, match="behind"):
            await waiters.pop()
        assert not journal.healthy
        disk.gate.set()
        await asyncio.gather(*waiters)
        await journal.append(decision(1))
        assert journal.healthy
        await journal.aclose()

    on_loop(main)

    assert verify_folder(tmp_path).intact


def test_nobody_begins_to_wait_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes after it was seen to hang is refused at once; who waited before is kept, once it answers."""
    disk = GatedDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk)
        await journal.append(decision(1))
        disk.gate.clear()
        waiters = [journal.append(decision(number)) for number in (2, 3)]
        await asyncio.sleep(0.02)
        later = journal.append(decision(4))
        assert not journal.is_hanging
        assert not later.done(), "a disk that is only slow is waited for"
        monkeypatch.setattr(journal_base, "HANGING_SECONDS", 0.0)
        await asyncio.sleep(0.02)
        assert journal.is_hanging
        assert journal.status()["trouble"] == "hanging"
        with pytest.raises(JournalError, match="does not answer"):
            await journal.append(decision(5))
        assert not journal.healthy
        monkeypatch.undo()
        disk.gate.set()
        await asyncio.gather(*waiters, later)
        assert not journal.is_hanging
        await journal.append(decision(6))
        assert (journal.healthy, journal.status()["trouble"]) == (True, None)
        await journal.aclose()

    on_loop(main)

    assert story_of(tmp_path) == ["start", 1, 2, 3, 4, 6]


def test_a_disk_that_nobody_waits_for_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long ago the last group was written: not before the first entry, nor after the last."""
    monkeypatch.setattr(journal_base, "HANGING_SECONDS", 0.0)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        assert not journal.is_hanging
        for number in (1, 2):
            await asyncio.gather(journal.append(decision(number)), journal.append(decision(number + 10)))
            await asyncio.sleep(0.02)
            assert not journal.is_hanging
        await journal.aclose()

    on_loop(main)


def test_refused_future_that_nobody_looks_at_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A dropped waiter of a failed group says nothing more than the journal's own log line."""
    full = Refusal(write=errno.ENOSPC)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=SimulatedDisk(full))
        full.is_on = True
        journal.append(decision(1))
        await journal.aclose()
        gc.collect()

    with caplog.at_level(logging.DEBUG):
        on_loop(main)

    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == ["ruqsat.journal"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("            self._disk.sync_dir(self._folder)\n", "            pass\n"),
        ("        if self._syncs:\n            self._sync()\n        self._kept", "        self._kept"),
        ("            self._disk.truncate(self._descriptor, self._kept)\n", "            pass\n"),
    ],
    ids=["the folder is not synced", "answered before the sync", "what failed is not cut off"],
)
def test_planted_mistakes_of_the_file_lose_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    """A file that skips a sync, of itself or of the folder, or leaves a failed group, is found by the same power cuts."""
    monkeypatch.setattr(journal_base, "SegmentFile", plant(journal_file, right, wrong).SegmentFile)
    full = Refusal(write=errno.ENOSPC)
    disk = SimulatedDisk(full)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path / "journal", disk=disk, segment_bytes=900)
        for number in range(6):
            full.is_on = number == 2
            with suppress(JournalError):
                await journal.append(decision(number))
                disk.acknowledged.append(number)
        await journal.aclose()
        for moment in disk.moments:
            await check_power_cut(moment, tmp_path / "image", every=50)

    with pytest.raises(AssertionError):
        on_loop(main)


def test_planted_reading_of_the_checks_is_fair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same life with the true file loses nothing, so it is the mistakes that the test above finds."""
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_planted_mistakes_of_the_file_lose_what_was_acknowledged(
            tmp_path, monkeypatch, "self._segment = 0", "self._segment = 0"
        )
