"""Checkpoints: when they are written, what they vouch for, and what contradicts them."""

import asyncio
import errno
import shutil
import threading
from pathlib import Path

import pytest
from journal_helpers import decision, files_in, ids_in, lines_in, on_loop, signing_key
from simulated_disk import Refusal, SimulatedDisk, UnsyncedDisk
from tests.mutants import plant

from ruqsat.core import checkpoint
from ruqsat.core.chain import NO_HASH
from ruqsat.core.checkpoint import Checkpoint, read_checkpoint, worker_name
from ruqsat.core.line import build_line, hash_of
from ruqsat.core.signed_note import SigningKey, open_note, split_note
from ruqsat.errors import JournalError
from ruqsat.stores import journal_checkpoints
from ruqsat.stores.journal_checkpoints import CheckpointWriter, sign_segment
from ruqsat.stores.journal_claims import (
    BAD_SIGNATURE,
    CONTRADICTED,
    ROLLED_BACK,
    UNREADABLE_CHECKPOINT,
    UNSIGNED_SEGMENT,
    Trust,
    read_kept,
)
from ruqsat.stores.journal_folder import checkpoint_path, list_segments, segment_path
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.journal_verification import verify_folder

KEY = signing_key()
TRUST = Trust((KEY.verifier,))


def checkpoint_in(folder: Path, segment: int = 1) -> Checkpoint:
    """Return the checkpoint of a segment, if it is signed."""
    return read_checkpoint(open_note(checkpoint_path(folder, segment).read_text(), [KEY.verifier]))


def codes(folder: Path, trust: Trust = TRUST) -> set[str]:
    """Return the codes of what is found in *folder*."""
    return {finding.code for finding in verify_folder(folder, trust).findings}


def written(folder: Path, *numbers: int, segment_bytes: int = 1 << 20, key: SigningKey = KEY) -> Path:
    """Open a journal, append decisions one after the other, and close it."""

    async def main() -> None:
        journal = DurableJournal.open(folder, key=key, segment_bytes=segment_bytes, disk=UnsyncedDisk())
        for number in numbers:
            await journal.append(decision(number))
        await journal.aclose()

    on_loop(main)
    return folder


def test_checkpoint_vouches_for_every_line_on_the_stop(tmp_path: Path) -> None:
    """A journal that was closed is signed to its end, header and all, under its name and segment."""
    written(tmp_path, 1, 2, 3)

    found = checkpoint_in(tmp_path)

    assert (found.origin, found.size) == ("clinic.example/a/00000001", 4)
    report = verify_folder(tmp_path, TRUST)
    assert (report.findings, report.signed) == ((), 1)
    assert checkpoint_path(tmp_path, 1).stat().st_mode & 0o777 == 0o600


def test_checkpoint_is_written_when_a_segment_ends(tmp_path: Path) -> None:
    """Every segment that is left behind is signed to its end, while the journal goes on."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=3600, segment_bytes=600)
        for number in range(12):
            await journal.append(decision(number))
        while not checkpoint_path(tmp_path, 2).exists():  # noqa: ASYNC110 - another thread writes it
            await asyncio.sleep(0.01)
        assert verify_folder(tmp_path, TRUST).intact
        await journal.aclose()

    on_loop(main)

    report = verify_folder(tmp_path, TRUST)
    assert (report.findings, report.signed) == ((), report.segments)
    assert report.segments > 3


def test_checkpoint_is_written_at_intervals_and_only_if_there_is_news(tmp_path: Path) -> None:
    """The open segment is signed again once it has grown, and not for nothing."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=0.01)
        assert journal.checkpoints is not None
        for size in (2, 3):
            await journal.append(decision(size))
            while journal.checkpoints.newest is None or journal.checkpoints.newest.size < size:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert checkpoint_in(tmp_path).size == size
        before = journal.checkpoints.written
        await asyncio.sleep(0.1)
        assert journal.checkpoints.written == before
        await journal.aclose()

    on_loop(main)


def test_nobody_waits_for_a_checkpoint(tmp_path: Path) -> None:
    """While a checkpoint hangs on the disk, entries are kept and answered."""
    gate = threading.Event()
    gate.set()

    class HangingDisk(UnsyncedDisk):
        def replace(self, path: Path, data: bytes) -> None:
            assert gate.wait(30)
            super().replace(path, data)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=0.01, segment_bytes=500, disk=HangingDisk())
        gate.clear()
        for number in range(20):
            await asyncio.wait_for(journal.append(decision(number)), 10)
        gate.set()
        await journal.aclose()

    on_loop(main)

    assert verify_folder(tmp_path, TRUST).intact


def test_only_what_is_on_stable_storage_is_signed(tmp_path: Path) -> None:
    """A line whose sync failed is in no checkpoint, and the chain after it is signed without it."""
    broken = Refusal(datasync=errno.EIO)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, disk=SimulatedDisk(broken))
        await journal.append(decision(1))
        broken.is_on = True
        with pytest.raises(Exception, match="Input/output"):
            await journal.append(decision(2))
        broken.is_on = False
        await journal.append(decision(3))
        await journal.aclose()

    on_loop(main)

    assert [checkpoint_in(tmp_path, each).size for each in (1, 2)] == [2, 2]
    assert ids_in(tmp_path) == [1, 3]
    assert verify_folder(tmp_path, TRUST).intact


def test_checkpoint_that_cannot_be_written_is_tried_again_and_denies_nobody(tmp_path: Path) -> None:
    """A disk that refuses the checkpoint does not stop the journal; what is missed is made up for."""

    class RefusingDisk(UnsyncedDisk):
        is_full = True

        def replace(self, path: Path, data: bytes) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().replace(path, data)

    disk = RefusingDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=0.01, segment_bytes=500, disk=disk)
        for number in range(10):
            await journal.append(decision(number))
        while journal.checkpoints is None or not journal.checkpoints.failed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert (journal.healthy, UNSIGNED_SEGMENT in codes(tmp_path)) == (True, True)
        disk.is_full = False
        await journal.aclose()

    on_loop(main)

    assert verify_folder(tmp_path, TRUST).intact


def test_what_a_killed_process_left_unsigned_is_signed_by_the_next(tmp_path: Path) -> None:
    """After a kill the next start signs the old segment to its end, if its lines bear out what was signed before."""
    written(tmp_path, 1, 2)
    checkpoint_path(tmp_path, 1).write_text(KEY.sign(older_checkpoint(tmp_path, 2).text()))

    written(tmp_path, 3)

    assert checkpoint_in(tmp_path, 1).size == 3
    assert verify_folder(tmp_path, TRUST).intact


def older_checkpoint(folder: Path, size: int, segment: int = 1) -> Checkpoint:
    """Return the checkpoint of the first *size* lines of a segment, as it was at the time."""
    writer = CheckpointWriter(folder, UnsyncedDisk(), KEY)
    writer.take(segment, segment_path(folder, segment).read_bytes().splitlines(keepends=True)[:size])
    return writer._checkpoint()


def rewrite(folder: Path, *numbers: int) -> None:
    """Write these segments anew, linked and whole, with another decision; whoever does it has no key."""
    prev = NO_HASH
    for number in range(1, max(numbers) + 1):
        lines = segment_path(folder, number).read_bytes().splitlines(keepends=True)
        if number in numbers:
            bodies = [b"{" + line.partition(b',"n":')[2].partition(b",")[2].rstrip(b"\n") for line in lines]
            bodies = [body.replace(b'"id":', b'"id":9') for body in bodies]
            lines = []
            for place, body in enumerate(bodies):
                line, prev = build_line(prev, place, body)
                lines.append(line)
            segment_path(folder, number).write_bytes(b"".join(lines))
        prev = hash_of(lines[-1])


def left(folder: Path) -> list[str]:
    """Return the files of which a stopped journal is found to be unsigned, and nothing else is found."""
    found = verify_folder(folder, TRUST._replace(stopped=True)).findings
    assert {each.code for each in found} <= {UNSIGNED_SEGMENT}
    return [each.file for each in found]


def is_signed(folder: Path, segment: int) -> bool:
    """Tell whether the header of a segment is signed; one that is only announced has nothing signed."""
    return checkpoint_path(folder, segment).exists() and checkpoint_in(folder, segment).size >= 1


def test_segment_is_signed_as_soon_as_it_begins(tmp_path: Path) -> None:
    """The header is signed at once, on the start and on each rotation, however long the interval is."""

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=3600, segment_bytes=600)
        for number in range(12):
            await journal.append(decision(number))
            newest = journal.lasting[0]
            async with asyncio.timeout(30):
                while not is_signed(tmp_path, newest):  # noqa: ASYNC110 - another thread writes it
                    await asyncio.sleep(0.01)
        assert newest > 3
        await journal.aclose()

    on_loop(main)


def test_next_start_signs_no_history_that_nothing_signed_leads_to(tmp_path: Path) -> None:
    """Who can write to the folder and has no key gets no signature for it by taking the checkpoints away."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    rewrite(tmp_path, 1, 2, 3)
    for number in (1, 2, 3):
        checkpoint_path(tmp_path, number).unlink()

    for number in (4, 5):
        written(tmp_path, number)

    assert left(tmp_path) == [f"segment-0000000{number}.jsonl" for number in (1, 2, 3)]


def test_planted_start_that_signs_what_nothing_signed_leads_to_is_noticed(tmp_path: Path) -> None:
    """Without the look at what is signed before, a history whose checkpoints were taken away would be signed."""
    for number in (1, 2):
        written(tmp_path, number)
    rewrite(tmp_path, 1, 2)
    for number in (1, 2):
        checkpoint_path(tmp_path, number).unlink()
    written(tmp_path, 3)
    assert len(left(tmp_path)) == 2
    planted = plant(journal_checkpoints, "claim is None and not self._goes_on(segment, before)", "False")
    writer = planted.CheckpointWriter(tmp_path, UnsyncedDisk(), KEY)
    writer.take(4, [])

    writer.settle()

    assert left(tmp_path) == []


def test_segment_is_announced_before_its_first_line(tmp_path: Path) -> None:
    """Killed before the first checkpoint, even of the first segment, a process has left what the next start signs."""
    kill = {"moment": 0}

    class Killed(BaseException):
        """What stands for the kill."""

    class MortalDisk(UnsyncedDisk):
        def replace(self, path: Path, data: bytes) -> None:
            kill["moment"] -= 1
            super().replace(path, data)
            if not kill["moment"]:
                raise Killed

        def write(self, descriptor: int, data: bytes | memoryview) -> int:
            count = super().write(descriptor, data)
            if kill["moment"] == 1:
                raise Killed
            return count

    for moment, segments in ((1, 0), (2, 1)):
        killed, folder, kill["moment"] = tmp_path / f"killed-{moment}", tmp_path / str(moment), moment
        with pytest.raises(Killed):
            DurableJournal.open(killed, key=KEY, disk=MortalDisk())
        shutil.copytree(killed, folder)  # whose lock nobody holds
        assert (checkpoint_in(folder).size, len(list_segments(folder))) == (0, segments)
        written(folder, 1)
        assert (left(folder), ids_in(folder), len(list_segments(folder))) == ([], [1], segments + 1)


def test_what_several_processes_left_unsigned_is_made_up(tmp_path: Path) -> None:
    """A checkpoint that was missed long ago is made up by the next start, wherever in the folder it is missing."""
    for number in range(12):
        written(tmp_path, number)
    checkpoint_path(tmp_path, 1).write_text(KEY.sign(older_checkpoint(tmp_path, 1).text()))
    checkpoint_path(tmp_path, 3).write_text(KEY.sign(older_checkpoint(tmp_path, 1, segment=3).text()))
    for number in (5, 6):  # killed before their headers were signed, which follow what is signed
        checkpoint_path(tmp_path, number).unlink()
    assert len(left(tmp_path)) == 4

    written(tmp_path, 12)

    assert left(tmp_path) == []


def test_what_is_signed_without_a_checkpoint_goes_on_from_what_was_signed(tmp_path: Path) -> None:
    """A segment without a checkpoint is signed only if it follows what this key has signed, and is followed itself."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    checkpoint_path(tmp_path, 2).unlink()
    before = checkpoint_path(tmp_path, 1).read_bytes()
    checkpoint_path(tmp_path, 1).write_text(signing_key(seed=2).sign(older_checkpoint(tmp_path, 2).text()))
    written(tmp_path, 4)
    assert not checkpoint_path(tmp_path, 2).exists()

    checkpoint_path(tmp_path, 1).write_bytes(before)
    true = segment_path(tmp_path, 2).read_bytes()
    rewrite(tmp_path, 2)
    written(tmp_path, 5)
    assert not checkpoint_path(tmp_path, 2).exists()

    segment_path(tmp_path, 2).write_bytes(true)
    written(tmp_path, 6)
    assert left(tmp_path) == []


def test_what_follows_a_rewritten_segment_is_not_signed(tmp_path: Path) -> None:
    """A checkpoint vouches for what comes after its segment only if the segment bears it out."""
    for number in (1, 2):
        written(tmp_path, number)
    rewrite(tmp_path, 1, 2)
    checkpoint_path(tmp_path, 2).unlink()

    written(tmp_path, 3)

    assert not checkpoint_path(tmp_path, 2).exists()
    assert codes(tmp_path) == {CONTRADICTED, UNSIGNED_SEGMENT}


def test_checkpoint_that_this_key_has_not_signed_is_left_as_it_is(tmp_path: Path) -> None:
    """Whoever wrote a checkpoint of the beginning without the key does not have the rest signed by that."""
    written(tmp_path, 1, 2)
    note = signing_key(seed=2).sign(older_checkpoint(tmp_path, 2).text())
    checkpoint_path(tmp_path, 1).write_text(note)

    written(tmp_path, 3)

    assert checkpoint_path(tmp_path, 1).read_text() == note
    assert codes(tmp_path) == {BAD_SIGNATURE, UNSIGNED_SEGMENT}


def test_checkpoint_missed_at_the_start_is_made_up_while_the_process_lives(tmp_path: Path) -> None:
    """What the next start could not sign on a bad disk it signs as soon as the disk lets it."""
    written(tmp_path, 1, 2)
    checkpoint_path(tmp_path, 1).write_text(KEY.sign(older_checkpoint(tmp_path, 1).text()))

    class RefusingDisk(UnsyncedDisk):
        refused = 0

        def replace(self, path: Path, data: bytes) -> None:
            if self.refused < 3 and path.name == "segment-00000001.checkpoint":
                self.refused += 1
                raise OSError(errno.EIO, "Input/output error")
            super().replace(path, data)

    disk = RefusingDisk()

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, key=KEY, checkpoint_seconds=0.01, disk=disk)
        async with asyncio.timeout(30):
            while checkpoint_in(tmp_path).size < 3:  # noqa: ASYNC110 - another thread writes it
                await asyncio.sleep(0.01)
        await journal.aclose()

    on_loop(main)

    assert (disk.refused, left(tmp_path)) == (3, [])


def test_end_that_goes_on_from_what_is_signed_is_signed_whoever_wrote_it(tmp_path: Path) -> None:
    """The honest limit: a start cannot tell who wrote on behind what is signed; a checkpoint that was kept can."""
    for number in (1, 2):
        written(tmp_path, number)
    kept = Trust((KEY.verifier,), (("kept", checkpoint_in(tmp_path, 2)),))
    rewrite(tmp_path, 2)
    checkpoint_path(tmp_path, 2).unlink()

    written(tmp_path, 3)

    assert left(tmp_path) == []
    assert codes(tmp_path, kept) == {CONTRADICTED}


# Signing by hand


def test_whoever_holds_the_key_signs_what_was_left_to_them(tmp_path: Path) -> None:
    """A segment that no start signs is signed by hand, once it is known for the true one; then all is intact."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    for number in (1, 2):
        checkpoint_path(tmp_path, number).unlink()
    assert left(tmp_path) == ["segment-00000001.jsonl", "segment-00000002.jsonl"]

    assert [sign_segment(tmp_path, number, KEY).size for number in (1, 2)] == [2, 2]

    assert left(tmp_path) == []


def test_by_hand_nothing_is_signed_that_contradicts_itself(tmp_path: Path) -> None:
    """The last, one that is missing, altered, not followed or not following, or signed otherwise: each is refused."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    true = files_in(tmp_path)
    for number, said in ((3, "or the last"), (7, "not there")):
        with pytest.raises(JournalError, match=said):
            sign_segment(tmp_path, number, KEY)
    rewrite(tmp_path, 1)
    with pytest.raises(JournalError, match="a checkpoint vouches for other lines"):
        sign_segment(tmp_path, 1, KEY)
    checkpoint_path(tmp_path, 1).unlink()
    with pytest.raises(JournalError, match="segment 2 does not follow it"):
        sign_segment(tmp_path, 1, KEY)
    with pytest.raises(JournalError, match="broken-link"):
        sign_segment(tmp_path, 2, KEY)
    path = segment_path(tmp_path, 1)
    path.write_bytes(true[path.name].replace(b'"id":1', b'"id":7'))
    with pytest.raises(JournalError, match="altered"):
        sign_segment(tmp_path, 1, KEY)
    assert not checkpoint_path(tmp_path, 1).exists()


def test_what_was_signed_is_never_contradicted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A segment that was cut behind our back is not signed anew: the old checkpoint goes on accusing."""
    written(tmp_path, 1, 2, 3)
    before = checkpoint_path(tmp_path, 1).read_bytes()
    path = segment_path(tmp_path, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))

    written(tmp_path, 4)

    assert checkpoint_path(tmp_path, 1).read_bytes() == before
    assert codes(tmp_path) == {ROLLED_BACK}
    said = "a checkpoint vouches for other lines"
    assert f"journal_segment_left_unsigned file={path.name} reason={said!r}" in caplog.messages


def test_number_that_was_signed_is_never_given_twice(tmp_path: Path) -> None:
    """When the last segment was taken away, the next one does not take its number, nor its checkpoint."""
    for number in (1, 2):
        written(tmp_path, number)
    segment_path(tmp_path, 2).unlink()

    written(tmp_path, 3)

    assert checkpoint_in(tmp_path, 2).size == 2
    assert segment_path(tmp_path, 3).exists()
    assert ROLLED_BACK in codes(tmp_path)


def test_planted_writer_that_signs_whatever_it_finds_is_noticed(tmp_path: Path) -> None:
    """Without the look at what was signed before, a cut segment would be signed as if nothing had been."""
    planted = plant(journal_checkpoints, "tally.roots.get(claim.size) != claim.root", "False")
    written(tmp_path, 1, 2, 3)
    path = segment_path(tmp_path, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    written(tmp_path, 4)
    writer = planted.CheckpointWriter(tmp_path, UnsyncedDisk(), KEY)
    writer.take(3, [])

    writer.settle()

    assert checkpoint_in(tmp_path, 1).size == 3
    assert verify_folder(tmp_path, TRUST, final=1).intact


def test_no_key_no_checkpoint(tmp_path: Path) -> None:
    """Without a key nothing is signed, and a journal that may lose signs nothing."""

    async def main() -> None:
        for journal in (DurableJournal.open(tmp_path), LossyJournal.open(tmp_path / "lossy", key=KEY)):
            await journal.append(decision(1))
            await journal.aclose()

    on_loop(main)

    assert not list(tmp_path.rglob("*.checkpoint"))


# Verification


def test_lines_dropped_from_the_very_end_show_against_the_checkpoint(tmp_path: Path) -> None:
    """What the chain alone cannot see, the signed size does, with or without the key in hand."""
    written(tmp_path, 1, 2, 3)
    path = segment_path(tmp_path, 1)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))

    assert codes(tmp_path) == codes(tmp_path, Trust()) == {ROLLED_BACK}
    checkpoint_path(tmp_path, 1).unlink()
    assert codes(tmp_path) == set()


def test_chain_computed_anew_shows_against_the_checkpoint(tmp_path: Path) -> None:
    """Who may write to the folder can make another chain, and cannot sign it."""
    written(tmp_path / "true", 1, 2, 3)
    written(tmp_path / "false", 1, 7, 3)
    shutil.copy(checkpoint_path(tmp_path / "true", 1), checkpoint_path(tmp_path / "false", 1))

    assert codes(tmp_path / "false") == codes(tmp_path / "false", Trust()) == {CONTRADICTED}


def test_checkpoint_of_another_key_is_not_believed(tmp_path: Path) -> None:
    """A signature of somebody else, or of the right key under another name, is a finding."""
    written(tmp_path, 1)
    for other in (signing_key(seed=2), signing_key("clinic.example/b")):
        assert codes(tmp_path, Trust((other.verifier,))) == {BAD_SIGNATURE}
    path = checkpoint_path(tmp_path, 1)
    path.write_text(path.read_text().replace("\n2\n", "\n1\n"))
    assert BAD_SIGNATURE in codes(tmp_path)
    path.write_text("none")
    assert UNREADABLE_CHECKPOINT in codes(tmp_path)


def test_journal_of_one_worker_does_not_pass_for_that_of_another(tmp_path: Path) -> None:
    """One key, a name for each worker: a folder that another worker's was copied over is told by its own name."""
    keys = [signing_key(worker_name("clinic.example/a", each)) for each in (0, 1)]
    folders = [written(tmp_path / key.verifier.name[-1], 1, 2, key=key) for key in keys]
    trusts = [Trust((key.verifier,), stopped=True) for key in keys]
    assert [codes(*each) for each in zip(folders, trusts, strict=True)] == [set(), set()]

    assert codes(folders[0], trusts[1]) == {BAD_SIGNATURE, UNSIGNED_SEGMENT}


def test_segments_signed_under_a_name_before_verify_under_both(tmp_path: Path) -> None:
    """A journal whose name has changed is verified by the key of each name; what was signed before stays signed."""
    renamed = signing_key(worker_name("clinic.example/a", 1))
    written(tmp_path, 1)
    written(tmp_path, 2, key=renamed)

    assert codes(tmp_path, Trust((renamed.verifier,))) == {BAD_SIGNATURE, UNSIGNED_SEGMENT}
    assert codes(tmp_path, Trust((KEY.verifier, renamed.verifier), stopped=True)) == set()


def signed_for_another(folder: Path) -> SigningKey:
    """Let journal b's key sign the newest checkpoint of a's journal in *folder*, and return that key."""
    other = signing_key("clinic.example/b", seed=2)
    path = checkpoint_path(folder, 1)
    path.write_text(other.sign(split_note(path.read_text())[0]))
    return other


def test_key_of_one_journal_vouches_for_no_other(tmp_path: Path) -> None:
    """Where several keys are known, a checkpoint counts only under the key that bears the name of its journal."""
    other = signed_for_another(written(tmp_path, 1))
    trust, path = Trust((KEY.verifier, other.verifier), stopped=True), checkpoint_path(tmp_path, 1)

    assert codes(tmp_path, trust) == {BAD_SIGNATURE, UNSIGNED_SEGMENT}
    with pytest.raises(ValueError, match="no known key"):
        read_kept(path, trust.keys)

    text, note = split_note(path.read_text())[0], path.read_text()
    path.write_text(note + KEY.sign(text).rpartition("\n\n")[2])
    assert codes(tmp_path, trust) == set()  # a witness may sign beside the journal
    assert read_kept(path, trust.keys).size == 2


def test_planted_reading_that_takes_any_known_key_is_noticed(tmp_path: Path) -> None:
    """Without the look at whose journal it is, the key of one would open the checkpoints of all."""
    planted = plant(checkpoint, "if key.name == found.name", "")
    other = signed_for_another(written(tmp_path, 1))
    note = checkpoint_path(tmp_path, 1).read_text()

    assert planted.open_checkpoint(note, [KEY.verifier, other.verifier]).size == 2
    with pytest.raises(ValueError, match="no known key"):
        checkpoint.open_checkpoint(note, [KEY.verifier, other.verifier])


def test_checkpoint_of_another_segment_does_not_count(tmp_path: Path) -> None:
    """A signed checkpoint cannot stand in for another one."""
    for number in (1, 2):
        written(tmp_path, number)
    shutil.copy(checkpoint_path(tmp_path, 1), checkpoint_path(tmp_path, 2))

    assert codes(tmp_path) == {BAD_SIGNATURE}


def test_segment_whose_checkpoint_was_taken_away_is_reported_unless_it_is_told_not_to_be(tmp_path: Path) -> None:
    """With a key every segment but the last must be signed to its end, from where the operator says."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    checkpoint_path(tmp_path, 1).unlink()

    assert codes(tmp_path) == {UNSIGNED_SEGMENT}
    assert codes(tmp_path, TRUST._replace(signed_from=2)) == set()
    assert codes(tmp_path, Trust()) == set()


def test_kept_checkpoint_shows_a_journal_that_was_put_back_cut_or_written_anew(tmp_path: Path) -> None:
    """Whoever kept a checkpoint elsewhere sees a folder that is perfect in itself and not the one it was."""
    written(tmp_path / "a", 1)
    older = files_in(tmp_path / "a")
    written(tmp_path / "a", 2)
    kept = Trust((KEY.verifier,), (("kept", checkpoint_in(tmp_path / "a", 2)),))
    assert codes(tmp_path / "a", kept) == set()

    (tmp_path / "back").mkdir()
    for name, data in older.items():
        (tmp_path / "back" / name).write_bytes(data)
    assert (codes(tmp_path / "back"), codes(tmp_path / "back", kept)) == (set(), {ROLLED_BACK})

    written(tmp_path / "back", 9)
    assert (codes(tmp_path / "back"), codes(tmp_path / "back", kept)) == (set(), {CONTRADICTED})


def test_part_of_a_journal_can_be_verified(tmp_path: Path) -> None:
    """A range is held against its own checkpoints, and what is damaged outside of it is not looked at."""
    for number in (1, 2, 3):
        written(tmp_path, number)
    path = segment_path(tmp_path, 1)
    path.write_bytes(path.read_bytes().replace(b'"id":1', b'"id":7'))

    report = verify_folder(tmp_path, TRUST, first=2)
    assert (report.findings, report.segments, report.entries, report.signed) == ((), 2, 2, 2)
    assert verify_folder(tmp_path, TRUST, first=2, final=2).segments == 1
    assert not verify_folder(tmp_path, TRUST, final=1).intact
    assert [each.code for each in verify_folder(tmp_path, first=3, final=5).findings] == ["missing-segment"]
    assert "empty-journal" in {each.code for each in verify_folder(tmp_path, first=4).findings}


def test_unfinished_checkpoint_of_a_crash_is_no_finding(tmp_path: Path) -> None:
    """A checkpoint that a crash left half written lies beside the whole one, and is nothing."""
    written(tmp_path, 1)
    (tmp_path / "segment-00000001.checkpoint.new").write_text("clinic.exa")

    assert codes(tmp_path) == set()
    assert lines_in(tmp_path)
