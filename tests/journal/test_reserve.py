"""The reserve: when the disk is full, emergencies are still kept, and nothing else is."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from journal_helpers import decision, headers_in, ids_in, on_loop, signing_key
from simulated_disk import (
    BadReserve,
    FullDisk,
    Refusal,
    SimulatedDisk,
    SmallDisk,
    UnsyncedDisk,
    lay_out,
    owned_by,
    power_cuts,
)
from tests.mutants import plant

import ruqsat
from ruqsat.errors import JournalError
from ruqsat.stores import journal_base, journal_reserve
from ruqsat.stores.journal_claims import Trust
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import RESERVE_NAME, list_segments
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder

RESERVE = 8192
SOURCES = Path(ruqsat.__file__).parents[1]


async def kept(journal: DurableJournal, number: int, *, emergency: bool = False) -> bool:
    """Tell whether a decision was kept."""
    try:
        await journal.append(decision(number), emergency=emergency)
    except JournalError:
        return False
    return True


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_emergencies_are_kept_while_the_disk_is_full_and_others_are_refused(tmp_path: Path, number: int) -> None:
    """The reserve becomes a segment for emergencies alone; with space again everything goes on, and one chain runs through."""
    disk = FullDisk()
    disk.number = number

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        assert await kept(journal, 1)
        disk.is_full = True
        assert [await kept(journal, each, emergency=each % 2 == 0) for each in range(2, 8)] == [True, False] * 3
        assert (journal.healthy, journal.in_reserve) == (False, 3)
        disk.is_full = False
        assert await kept(journal, 8)
        assert journal.healthy
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1, 2, 4, 6, 8]
    assert [header["because"] for header in headers_in(tmp_path)] == ["start", "reserve", "rotation"]
    assert verify_folder(tmp_path).intact


def test_emergencies_and_others_of_one_group_part_ways(tmp_path: Path) -> None:
    """Of what waited together on the full disk, the emergencies are kept, in their order, and nobody is told twice."""
    disk = FullDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        disk.is_full = True
        told = await asyncio.gather(*(kept(journal, each, emergency=each % 3 == 0) for each in range(9)))
        assert told == [each % 3 == 0 for each in range(9)]
        assert (journal.entries, journal.failed) == (3, 6)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [0, 3, 6]


def test_of_emergencies_that_come_together_those_are_kept_that_fit(tmp_path: Path) -> None:
    """One that is too large for what is left is refused alone; and with space again the journal goes on, segment after segment."""
    disk, large = FullDisk(), b'{"kind":"decision","id":%d,"asked":"' + b"y" * 3000 + b'"}'

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE, segment_bytes=1000)
        disk.is_full = True
        entries = [large % 1, large % 2, large % 3, decision(4)]
        told = await asyncio.gather(*(journal.append(each, emergency=True) for each in entries), return_exceptions=True)
        assert [each is None for each in told] == [True, True, False, True]
        assert not await kept(journal, 5)
        huge = b'{"kind":"decision","id":6,"asked":"' + b"y" * RESERVE + b'"}'
        assert isinstance(
            (await asyncio.gather(journal.append(huge, emergency=True), return_exceptions=True))[0], JournalError
        )
        assert await kept(journal, 7, emergency=True)
        assert (journal.in_reserve, journal.failed) == (4, 3)
        assert 0 < journal.status()["reserve"]["left"] < RESERVE - 6000
        disk.is_full = False
        assert all([await kept(journal, each) for each in range(8, 40)])
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1, 2, 4, *range(7, 40)]
    assert verify_folder(tmp_path).intact


def test_emergency_larger_than_the_reserve_leaves_it_whole(tmp_path: Path) -> None:
    """It is refused, and the next one finds the reserve as it was."""
    disk = FullDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        disk.is_full = True
        with pytest.raises(JournalError, match="No space"):
            await journal.append(b'{"kind":"decision","id":1,"asked":"%b"}' % (b"y" * RESERVE), emergency=True)
        assert journal.has_reserve
        assert await kept(journal, 2, emergency=True)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [2]
    assert verify_folder(tmp_path).intact


@pytest.mark.parametrize("what", ["rename", "open", "sync_dir", "write", "datasync"])
def test_reserve_that_fails_stops_nothing(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever call fails, the emergency is refused; with space again the journal goes on for many segments, and keeps a new reserve."""
    monkeypatch.setattr(journal_reserve, "REFILL_SECONDS", 0.0)
    disk, key = BadReserve(what), signing_key()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE, segment_bytes=1000, key=key)
        assert await kept(journal, 0)
        for start in (0, 20):
            disk.is_full = True
            assert [await kept(journal, 90, emergency=True), await kept(journal, 91)] == [False, False]
            disk.is_full = False
            assert all([await kept(journal, start + each) for each in range(1, 21)])
        disk.bad.clear()
        disk.is_full = True
        assert await kept(journal, 41, emergency=True)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == list(range(42))
    assert verify_folder(tmp_path, Trust((key.verifier,))).findings == ()


def test_segment_that_was_passed_by_is_not_gone_back_to(tmp_path: Path) -> None:
    """A reserve that failed once is none until there is space again: its segment has no header, and gets no other line."""
    disk = BadReserve("sync_dir")

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        disk.is_full = True
        assert not await kept(journal, 1, emergency=True)
        disk.bad.clear()
        assert not await kept(journal, 2, emergency=True)
        disk.is_full = False
        assert await kept(journal, 3)
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [3]
    assert [each.path.stat().st_size > 0 for each in list_segments(tmp_path)] == [True, False, True]
    assert verify_folder(tmp_path).intact
    assert_no_blocks_behind_the_end(tmp_path)


def test_torn_write_into_the_reserve_is_cut_off_before_anything_else_is_kept(tmp_path: Path) -> None:
    """As long as that fails nothing is acknowledged: what is written after it would follow another line."""
    disk = BadReserve("write", "truncate")

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        assert await kept(journal, 1)
        disk.is_full = True
        assert not await kept(journal, 2, emergency=True)
        assert list_segments(tmp_path)[-1].path.stat().st_size > 0
        disk.is_full, disk.is_stuck = False, True
        assert [await kept(journal, 3), await kept(journal, 4, emergency=True)] == [False, False]
        disk.is_stuck = False
        assert await kept(journal, 5)
        assert verify_folder(tmp_path).intact
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [1, 5]


@pytest.mark.parametrize("calm", [journal_base.CALM_SECONDS, -1.0], ids=["after a failure", "long after it"])
def test_reserve_is_bounded_and_filled_again(calm: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is used up is refused; after the disk has recovered there is a new reserve, which serves as the first did."""
    monkeypatch.setattr(journal_reserve, "REFILL_SECONDS", 0.0)
    monkeypatch.setattr(journal_base, "CALM_SECONDS", calm)
    monkeypatch.setattr(journal_base, "QUICK_SECONDS", float("inf"))
    disk = FullDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        for start in (0, 1000):
            disk.is_full = True
            told = [await kept(journal, start + each, emergency=True) for each in range(100)]
            count = told.count(True)
            assert told == [True] * count + [False] * (100 - count)
            assert 20 < count < RESERVE // 150
            assert not (tmp_path / RESERVE_NAME).exists()
            disk.is_full = False
            assert await kept(journal, start + 500)
            assert await kept(journal, start + 501)
            assert (tmp_path / RESERVE_NAME).stat().st_size == 0
        await journal.aclose()

    on_loop(main)

    assert_no_blocks_behind_the_end(tmp_path)
    sizes = [each.path.stat().st_size for each in list_segments(tmp_path)]
    assert max(sizes) <= RESERVE
    assert verify_folder(tmp_path).intact


def test_reserve_owns_its_blocks_and_shows_none(tmp_path: Path) -> None:
    """The file is empty, so that it can become a segment, and the disk holds the blocks all the same."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, reserve_bytes=1 << 20)
        found = (tmp_path / RESERVE_NAME).stat()
        assert (found.st_size, found.st_mode & 0o777) == (0, 0o600)
        assert found.st_blocks * 512 >= 1 << 20
        await journal.aclose()

    on_loop(main)

    assert verify_folder(tmp_path).intact


def test_broken_disk_is_not_helped_by_the_reserve(tmp_path: Path) -> None:
    """What fails for another reason than space fails for emergencies too: the reserve is not spent on it."""
    broken = FullDisk()
    broken.number = errno.EIO

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=broken, reserve_bytes=RESERVE)
        broken.is_full = True
        assert not await kept(journal, 1, emergency=True)
        assert (tmp_path / RESERVE_NAME).exists()
        await journal.aclose()

    on_loop(main)


def test_start_on_a_full_disk_uses_the_reserve_of_before(tmp_path: Path) -> None:
    """A sidecar that is started on a full disk still keeps emergencies, in what the process before it reserved."""
    disk = FullDisk()

    async def main() -> None:
        await DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE).aclose()
        disk.is_full = True
        disk.allocate = lambda path, size: None  # type: ignore[method-assign]  # it owns its blocks already
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        assert [await kept(journal, 1), await kept(journal, 2, emergency=True)] == [False, True]
        await journal.aclose()

    on_loop(main)

    assert ids_in(tmp_path) == [2]
    assert verify_folder(tmp_path).intact


def test_restarts_on_a_full_disk_leave_a_reserve_of_what_is_left(tmp_path: Path) -> None:
    """Whatever part was used before: ordinary entries fill the rest of the disk, and then emergencies are kept still."""
    folder = tmp_path / "journal"
    disk = SmallDisk(folder, 160 * 1024)
    emergencies, number = 0, iter(range(10_000))

    async def main() -> None:
        nonlocal emergencies
        for _ in range(4):
            journal = DurableJournal.open(folder, disk=disk, reserve_bytes=65536)
            while await kept(journal, next(number)):
                pass
            assert await kept(journal, next(number), emergency=True)
            emergencies += journal.in_reserve
            await journal.aclose()
        disk.size *= 4
        journal = DurableJournal.open(folder, disk=disk, reserve_bytes=65536)
        assert await kept(journal, next(number))
        assert journal.has_reserve
        await journal.aclose()

    on_loop(main)

    assert emergencies == 4
    assert verify_folder(folder).intact
    assert_no_blocks_behind_the_end(folder)


def test_reserve_that_was_made_of_what_was_left_becomes_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A smaller one is not called whole, and held as it is while there is no more; with space again it grows, without a restart."""
    monkeypatch.setattr(journal_reserve, "REFILL_SECONDS", 0.0)
    monkeypatch.setattr(journal_base, "CALM_SECONDS", -1.0)
    monkeypatch.setattr(journal_base, "QUICK_SECONDS", float("inf"))
    folder = tmp_path / "journal"
    disk = SmallDisk(folder, 40 * 1024)

    async def main() -> None:
        journal = DurableJournal.open(folder, disk=disk, reserve_bytes=65536)
        assert not journal.has_reserve
        assert owned_by(folder / RESERVE_NAME) == 32768
        assert await kept(journal, 1)
        assert await kept(journal, 2)
        assert not journal.has_reserve
        assert disk.asked == [65536, 32768]
        disk.size = 1 << 20
        assert [await kept(journal, 3), await kept(journal, 4)] == [True, True]
        assert journal.has_reserve
        assert owned_by(folder / RESERVE_NAME) == 65536
        await journal.aclose()

    on_loop(main)


def test_blocks_behind_the_end_of_the_last_segment_are_let_go_at_the_start(tmp_path: Path) -> None:
    """As a kill leaves them while the reserve is in use; of the file not a byte differs."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path)
        assert await kept(journal, 1)
        await journal.aclose()
        path = list_segments(tmp_path)[-1].path
        before = path.read_bytes()
        Disk().allocate(path, 1 << 20)
        assert owned_by(path) >= 1 << 20
        await DurableJournal.open(tmp_path).aclose()
        assert path.read_bytes() == before

    on_loop(main)

    assert_no_blocks_behind_the_end(tmp_path)


def assert_no_blocks_behind_the_end(folder: Path) -> None:
    """Assert that no segment owns more of the disk than it fills."""
    for each in list_segments(folder):
        assert owned_by(each.path) <= each.path.stat().st_size + 4096, each.path.name


@pytest.mark.slow
@pytest.mark.parametrize("serves", [True, False], ids=["it serves", "it is refused too"])
def test_power_cut_while_the_reserve_is_in_use_loses_nothing_acknowledged(serves: bool, tmp_path: Path) -> None:
    """At any call and at every byte: what was acknowledged, out of the reserve or after it, is there after the cut."""
    full = Refusal(write=errno.ENOSPC)
    disk = ReservingDisk(full) if serves else SimulatedDisk(full)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path / "journal", disk=disk, reserve_bytes=RESERVE)
        for number in range(6):
            full.is_on = number in (2, 3)
            if await kept(journal, number, emergency=True):
                disk.acknowledged.append(number)
        await journal.aclose()
        for moment in disk.moments:
            for files in power_cuts(moment, every=7):
                lay_out(files, tmp_path / "image")
                await DurableJournal.open(tmp_path / "image", disk=UnsyncedDisk()).aclose()
                assert verify_folder(tmp_path / "image").findings == ()
                assert set(moment.acknowledged) <= set(ids_in(tmp_path / "image"))

    on_loop(main)

    assert disk.acknowledged == (list(range(6)) if serves else [0, 1, 4, 5])
    because = ["start", "reserve", "rotation"] if serves else ["start", "rotation"]
    assert [header["because"] for header in headers_in(tmp_path / "journal")] == because


class ReservingDisk(SimulatedDisk):
    """The simulated disk, whose refusals do not reach into what was allocated."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(lambda index, what: None if self.is_own else refusal(index, what))
        self.is_own = False
        self._reserved: set[int] = set()

    def allocate(self, path: Path, size: int) -> None:
        """Make the reserve."""
        super().allocate(path, size)
        self._reserved.add(path.stat().st_ino)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write, into own blocks if they are."""
        self.is_own = os.fstat(descriptor).st_ino in self._reserved
        try:
            return super().write(descriptor, data)
        finally:
            self.is_own = False


def test_folder_is_synced_before_anything_in_the_reserve_is_acknowledged(tmp_path: Path) -> None:
    """The new name of the reserve is on stable storage before a line of it, and the line before its answer."""
    full = Refusal(write=errno.ENOSPC)
    disk = ReservingDisk(full)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=RESERVE)
        full.is_on = True
        disk.calls.clear()
        assert await kept(journal, 1, emergency=True)
        steps = [what for what, name in disk.calls if name in ("segment-00000002.jsonl", tmp_path.name)]
        assert steps == ["rename", "open", "sync_dir", "write", "datasync"]
        await journal.aclose()

    on_loop(main)


ON_A_REAL_ONE = """
import asyncio, sys
from pathlib import Path
from ruqsat.errors import JournalError
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder

async def kept(journal, number, emergency=False):
    try:
        await journal.append(b'{"kind":"decision","id":%d,"fill":"%b"}' % (number, b"x" * 700), emergency=emergency)
    except JournalError:
        return False
    return True

async def main(folder):
    journal = DurableJournal.open(folder / "journal", reserve_bytes=65536)
    count = 0
    while await kept(journal, count):
        count += 1
    while True:  # what is left of the last block
        try:
            with (folder / "filler").open("ab", buffering=0) as file: file.write(b"x" * 512)
        except OSError: break
    await journal.aclose()
    journal = DurableJournal.open(folder / "journal", reserve_bytes=65536)  # a start on the full disk finds the reserve
    assert not journal.healthy and journal.has_reserve
    emergencies = 0
    while await kept(journal, 10_000 + emergencies, True):
        assert not await kept(journal, 1)
        emergencies += 1
    assert verify_folder(folder / "journal").intact, verify_folder(folder / "journal")
    (folder / "filler").unlink()
    (folder / "ballast").unlink()
    assert await kept(journal, 20_000)
    await journal.aclose()
    report = verify_folder(folder / "journal")
    assert report.intact and report.entries == count + emergencies + 1, report
    print(count, emergencies)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_on_a_real_full_disk(tmp_path: Path) -> None:
    """On a disk of 256 KiB: allow until it is full, then only emergencies as long as the reserve lasts, then everything."""
    mount = 'mount -t tmpfs -o size=256k none $1 && head -c 65536 /dev/zero > $1/ballast && exec $2 -c "$3" $1'
    command = ["unshare", "-Urm", "sh", "-c", mount, "sh", str(tmp_path), sys.executable, ON_A_REAL_ONE]
    if subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False).returncode:
        pytest.skip("this system lets nobody mount a disk of one's own")

    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    count, emergencies = map(int, done.stdout.split())
    assert count > 50
    assert 50 <= emergencies <= 65536 // 700
    print(f"{count} kept, then {emergencies} emergencies")


def test_planted_reserve_without_a_bound_is_noticed(tmp_path: Path) -> None:
    """A reserve that goes on into what is everybody's is not bounded; the same check as above finds it."""
    planted = plant(journal_reserve, "if self._kept + len(data) > self._held:", "if False:")
    reserve = planted.Reserve(tmp_path, UnsyncedDisk(), RESERVE)
    reserve.refill()
    honest = journal_reserve.Reserve(tmp_path, UnsyncedDisk(), RESERVE)
    lines = [b"x" * RESERVE, b"y"]

    assert reserve.commit(1, lines).problem is None
    honest.refill()
    assert honest.commit(2, lines).problem is not None
    assert (tmp_path / "segment-00000001.jsonl").stat().st_size > RESERVE
    reserve.close()
    honest.close()
