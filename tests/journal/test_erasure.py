"""A patient who is erased from the journal: unreadable everywhere, and every proof holds."""

import errno
import json
import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_helpers import about_patient, files_in, on_loop, signing_key
from simulated_disk import UnsyncedDisk
from tests.mutants import plant

from ruqsat.core import personal
from ruqsat.core.chain import scan_segment
from ruqsat.core.journal_proof import verify_growth, verify_receipt
from ruqsat.core.line import build_line, read_line
from ruqsat.core.personal import commitment, erased, is_erased, lifted, parts_to_erase, salted, split_parts
from ruqsat.errors import JournalError, StoreLockedError
from ruqsat.stores import journal_disk, journal_erasure
from ruqsat.stores.journal_claims import Trust, read_kept
from ruqsat.stores.journal_erasure import Elsewhere, Erased, erase_patients
from ruqsat.stores.journal_folder import checkpoint_path, list_segments, segment_path
from ruqsat.stores.journal_proofs import make_receipt, prove_growth
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import ERASED_WITHOUT_ACT, verify_folder

KEY = signing_key()
TRUST = Trust((KEY.verifier,))
AT = "2026-11-26T03:00:00+00:00"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal of two segments: of Dana, of Bota, and of both."""
    path = tmp_path / "journal"
    for start in (0, 10):

        async def main(start: int = start) -> None:
            journal = DurableJournal.open(path, key=KEY, disk=UnsyncedDisk())
            await journal.append(*about_patient(start, "p-dana"))
            await journal.append(*about_patient(start + 1, "p-bota"))
            await journal.append(*about_patient(start + 2, "p-bota", "p-dana"))
            await journal.append(b'{"kind":"policy","policy":"abc"}')
            await journal.aclose()

        on_loop(main)
    return path


def erase(folder: Path, *patients: str, disk: UnsyncedDisk | None = None) -> Erased:
    """Erase patients by act 12."""
    done = []

    async def main() -> None:
        done.append(await erase_patients(folder, patients, "act 12", AT, key=KEY, disk=disk or UnsyncedDisk()))

    on_loop(main)
    return done[0]


def told(folder: Path) -> dict[str, dict[str, object]]:
    """Return every decision by its id, with what its personal parts say."""
    lines = [line for each in list_segments(folder) for line in each.path.read_bytes().splitlines()]
    return {entry["id"]: entry for entry in map(lifted, lines) if entry["kind"] == "decision"}


def test_erased_patient_is_unreadable_and_the_journal_still_verifies(folder: Path) -> None:
    """No byte of the folder names the patient, or who read only that record; chain, signatures and counts hold."""
    before = {name: len(text) for name, text in files_in(folder).items()}

    assert erase(folder, "p-dana") == Erased(lines=4, parts=4)

    texts = b"".join(files_in(folder).values())
    assert b"p-dana" not in texts
    assert b'"dr-0"' not in texts
    report = verify_folder(folder, TRUST)
    assert (report.findings, report.erased, report.signed) == ((), 4, 3)
    assert {name: len(text) for name, text in files_in(folder).items() if name in before} == before
    act = next(
        line for each in list_segments(folder) for line in each.path.read_bytes().splitlines() if b"act 12" in line
    )
    assert json.loads(act)["parts"] == ["1:1:0", "1:3:2", "2:1:0", "2:3:2"]


def test_others_lose_nothing(folder: Path) -> None:
    """What was asked and decided stays in every line, and whoever else is in it can still see who looked."""
    erase(folder, "p-dana")

    entries = told(folder)
    assert entries["d-0"] == {**entries["d-0"], "kind": "decision", "allowed": True, "rule": "consent-01"}
    assert not {"subject", "patient", "resource"} & entries["d-0"].keys()
    assert (entries["d-1"]["patient"], entries["d-1"]["subject"]) == ("p-bota", "dr-1")
    assert (entries["d-2"]["patient"], entries["d-2"]["subject"]) == ("p-bota", "dr-2")
    assert "patients_beside" not in entries["d-2"]


def test_nobody_can_tell_from_what_is_left_who_it_was(folder: Path) -> None:
    """With the salt gone, trying every name against the hash that stays finds none; with the salt it would."""
    line = segment_path(folder, 1).read_bytes().splitlines(keepends=True)[1]
    found = read_line(line)
    assert found is not None
    salt = json.loads(found.parts[0])["salt"].encode()
    erase(folder, "p-dana")
    left = segment_path(folder, 1).read_bytes().splitlines(keepends=True)[1]

    guess = b'{"subject":"dr-0","patient":"p-dana","resource":"r0"}'
    assert commitment(salted(salt, guess)) in left
    assert salt not in b"".join(files_in(folder).values())
    assert sha256(guess).hexdigest().encode() not in left


def test_salts_are_never_used_twice(folder: Path) -> None:
    """Two parts that say the same have nothing in common that a reader of hashes could see."""

    async def main() -> None:
        journal = DurableJournal.open(folder, disk=UnsyncedDisk())
        for _ in range(600):
            await journal.append(*about_patient(99, "p-dana"))
        await journal.aclose()

    on_loop(main)

    lines = [line for line in segment_path(folder, 3).read_bytes().splitlines() if b'"id":"d-99"' in line]
    assert len({json.loads(line)["personal"][0]["salt"] for line in lines}) == len(lines) == 600
    assert len({json.loads(line)["sealed"][0] for line in lines}) == 600


def test_proofs_of_before_hold_after(folder: Path, tmp_path: Path) -> None:
    """Receipts and kept checkpoints from before an erasure are true after it."""
    kept = tmp_path / "kept"
    shutil.copy(checkpoint_path(folder, 1), kept)
    receipt, bare = make_receipt(folder, "d-10"), make_receipt(folder, "d-10", without_personal=True)

    erase(folder, "p-dana", "p-bota")

    entry, _ = verify_receipt(make_receipt(folder, "d-10"), [KEY.verifier])
    assert ("patient" in entry, entry["allowed"]) == (False, True)
    assert verify_receipt(receipt, [KEY.verifier])[0]["patient"] == "p-dana"
    assert "patient" not in verify_receipt(bare, [KEY.verifier])[0]
    checkpoint = read_kept(kept, [KEY.verifier])
    assert verify_folder(folder, TRUST._replace(kept=(("kept", checkpoint),))).intact
    assert verify_growth(checkpoint, prove_growth(folder, checkpoint), [KEY.verifier]).segment == 3


def test_erasing_again_finds_nothing(folder: Path) -> None:
    """What is gone is gone; a second time, or for somebody unknown, nothing is written over."""
    erase(folder, "p-dana")

    assert erase(folder, "p-dana", "p-nobody") == Erased(0, 0)
    assert verify_folder(folder, TRUST).erased == 4


def test_part_that_is_blanked_without_an_act_is_reported(folder: Path) -> None:
    """Whoever may write to the folder cannot use the erasure to hide who looked."""
    path = segment_path(folder, 1)
    line = path.read_bytes().splitlines(keepends=True)[2]
    found = read_line(line)
    assert found is not None
    path.write_bytes(path.read_bytes().replace(found.parts[0], erased(found.parts[0])))

    (finding,) = verify_folder(folder, TRUST).findings
    assert (finding.code, finding.file, finding.line) == (ERASED_WITHOUT_ACT, path.name, 3)


def test_crash_amid_an_erasure_is_made_up_for(folder: Path) -> None:
    """The act comes first, then the parts: a crash between leaves parts that the next try erases, and an intact journal."""

    class CrashingDisk(UnsyncedDisk):
        def overwrite(self, path: Path, pieces: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(JournalError, match="Input/output"):
        erase(folder, "p-dana", disk=CrashingDisk())
    assert verify_folder(folder, TRUST).intact
    assert b"p-dana" in files_in(folder)["segment-00000001.jsonl"]

    assert erase(folder, "p-dana").parts == 4
    assert verify_folder(folder, TRUST).intact


class TornDisk(UnsyncedDisk):
    """A disk whose power is cut amid the writing over of a part: of its bytes those of a slice are there, or are not."""

    def __init__(self, whole: int, reached: slice) -> None:
        self.whole, self.reached = whole, reached

    def overwrite(self, path: Path, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Write over so many parts whole, of the next one the slice, and nothing after it."""
        for offset, data in pieces:
            if not self.whole:
                start, stop, _ = self.reached.indices(len(data))
                super().overwrite(path, [(offset + start, data[start:stop])])
                raise OSError(errno.EIO, "the power is cut")
            super().overwrite(path, [(offset, data)])
            self.whole -= 1


def tear(folder: Path, disk: UnsyncedDisk, module: ModuleType = journal_erasure, archive: Path | None = None) -> None:
    """Begin to erase Dana on a disk that tears."""

    async def main() -> None:
        elsewhere = Elsewhere(archive)
        await module.erase_patients(folder, ["p-dana"], "act 12", AT, key=KEY, disk=disk, elsewhere=elsewhere)

    with pytest.raises(Exception, match="the power is cut"):
        on_loop(main)


TEARS = [
    *[slice(0, length) for length in (3, 11, 12, 30, 60, -20, -10, -3)],
    *[slice(length, None) for length in (3, 11, 12, 30, 60, -20, -10, -3)], slice(20, 40), slice(-20, -10),
]  # fmt: skip


@pytest.mark.parametrize("reached", TEARS, ids=str)
def test_power_cut_amid_a_part_is_made_up_for(folder: Path, tmp_path: Path, reached: slice) -> None:
    """Whichever bytes of whichever part reached the disk: erasing again leaves none of the patient, and all is intact."""
    for whole in range(4):
        torn = tmp_path / f"torn-{whole}"
        shutil.copytree(folder, torn)
        tear(torn, TornDisk(whole, reached))
        assert {each.code for each in verify_folder(torn, TRUST).findings} == {"altered"}

        assert erase(torn, "p-dana").parts == 4 - whole

        assert b"p-dana" not in b"".join(files_in(torn).values())
        report = verify_folder(torn, TRUST)
        assert (report.findings, report.erased) == ((), 4)
        assert told(torn)["d-1"]["subject"] == "dr-1" and told(torn)["d-2"]["patient"] == "p-bota"


def test_what_was_torn_is_finished_whoever_is_erased_next(folder: Path, tmp_path: Path) -> None:
    """By the act that names it, in the archive, too; parts that no act names, or that somebody altered, stay as they are."""
    archive = tmp_path / "archive"
    archive.mkdir()
    segment_path(folder, 1).rename(segment_path(archive, 1))
    tear(folder, TornDisk(2, slice(0, 40)), archive=archive)
    assert b"p-dana" not in segment_path(folder, 2).read_bytes()
    for path, number in ((segment_path(archive, 1), 2), (segment_path(folder, 2), 3)):
        line = path.read_bytes().splitlines(keepends=True)[number]
        path.write_bytes(path.read_bytes().replace(line, line.replace(b"p-bota", b"p-bote")))

    async def main() -> None:
        done = await erase_patients(
            folder, ["p-nobody"], "act 13", AT, key=KEY, disk=UnsyncedDisk(), elsewhere=Elsewhere(archive)
        )
        assert done == Erased(1, 1)

    on_loop(main)
    report = verify_folder(folder, TRUST, archive=archive)
    assert [(each.code, each.line) for each in report.findings] == [("altered", 3), ("altered", 4)]
    lines = segment_path(archive, 1).read_bytes().splitlines(keepends=True)
    assert b'"erased":"' in lines[1] and b"p-bote" in lines[2] and b"p-dana" in lines[3]
    assert b"p-bote" in segment_path(folder, 2).read_bytes()


def test_planted_erasure_that_forgets_what_was_torn_never_ends(folder: Path) -> None:
    """Without the places that the act keeps, a part that cannot be read is found by nobody's name."""
    planted = plant(journal_erasure, "torn = list(_half_erased(places))", "torn = []")
    tear(folder, TornDisk(0, slice(0, 60)), planted)

    async def main() -> None:
        for _ in range(2):
            await planted.erase_patients(folder, ["p-dana"], "act 12", AT, key=KEY, disk=UnsyncedDisk())

    on_loop(main)
    assert [each.code for each in verify_folder(folder, TRUST).findings] == ["altered"]
    erase(folder, "p-dana")
    assert verify_folder(folder, TRUST).intact


def test_a_disk_that_takes_few_bytes_at_a_time_is_written_over_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that ends early is gone on with, so that no part is left half there by a run that says it is done."""
    write = os.pwrite
    monkeypatch.setattr(journal_disk.os, "pwrite", lambda file, data, offset: write(file, data[:7], offset))

    assert erase(folder, "p-dana").parts == 4

    assert verify_folder(folder, TRUST).intact
    assert b"p-dana" not in b"".join(files_in(folder).values())


def test_journal_in_use_cannot_be_erased_in(folder: Path) -> None:
    """There is one writer; the sidecar must be stopped."""

    async def main() -> None:
        journal = DurableJournal.open(folder, disk=UnsyncedDisk())
        with pytest.raises(StoreLockedError):
            await erase_patients(folder, ["p-dana"], "act 12", AT)
        await journal.aclose()

    on_loop(main)

    assert b"p-dana" in files_in(folder)["segment-00000001.jsonl"]


def test_journal_of_the_format_before_is_still_read(tmp_path: Path) -> None:
    """Lines that hold everything in the chain, from before there were parts, verify as they did."""
    header, first = build_line(b"0" * 64, 0, b'{"kind":"segment","segment":1,"writer":"a","format":1}')
    line, _ = build_line(first, 1, b'{"kind":"decision","id":"x","subject":"s","patient":"p"}')

    assert scan_segment([header, line], segment=1, prev=None, last=True).findings == ()
    assert lifted(line)["patient"] == "p"


# Parts, as values


@given(st.lists(st.dictionaries(st.sampled_from(["patient", "subject"]), st.text(max_size=5), min_size=1), max_size=4))
def test_parts_come_back_byte_for_byte(said: list[dict[str, str]]) -> None:
    """What was put beside an entry is read back, and erased parts keep their length and the line its hash."""
    parts = [salted(b"0" * 32, json.dumps(each).encode()) for each in said]
    line, digest = build_line(b"0" * 64, 3, b'{"kind":"decision","id":"x"}', parts)

    found = read_line(line)
    assert found is not None
    assert (list(found.parts), found.flaw, found.hash) == (parts, None, digest)
    for part in parts:
        line = line.replace(part, erased(part))
    gone = read_line(line)
    assert gone is not None
    assert (gone.hash, gone.flaw, all(map(is_erased, gone.parts))) == (digest, None, True)


@pytest.mark.parametrize("text", [b"", b"{}", b"[{}", b'[{"a":1},]', b'[ {"a":1}]', b"[" * 5000])
def test_what_is_no_list_of_parts_is_refused(text: bytes) -> None:
    """Only what the journal itself writes is taken for parts."""
    assert split_parts(text) is None


@pytest.mark.parametrize("part", [b"{}", b"", b"[]", b'{"a":1', b'{"a":1}\n', b'{"a":\n1}'])
def test_what_is_no_part_cannot_be_salted(part: bytes) -> None:
    """A part that would break its line is refused before it is linked."""
    with pytest.raises(ValueError, match="at least one member, on one line"):
        salted(b"0" * 32, part)


def test_planted_part_without_its_salt_can_be_guessed() -> None:
    """A hash without a salt gives the patient away to whoever tries the names: the check above would find it."""
    planted = plant(personal, """return b'{"salt":"%b",%b' % (salt, part[1:])""", "return part")
    names = [b'{"patient":"p-%d"}' % number for number in range(100)]

    def guessed(module: object, salt: bytes) -> bool:
        left = module.commitment(module.salted(salt, names[42]))  # type: ignore[attr-defined]
        return left in [module.commitment(module.salted(b"0" * 32, name)) for name in names]  # type: ignore[attr-defined]

    assert not guessed(personal, b"1" * 32)
    assert guessed(planted, b"1" * 32)


def test_planted_erasure_that_forgets_who_asked_is_noticed() -> None:
    """Who asked goes with the last patient of the line; without that rule the access would still name a person."""
    planted = plant(personal, "if going and not any(", "if False and not any(")
    parts = [b'{"salt":"0","subject":"s"}', b'{"salt":"0","patient":"p"}']

    assert parts_to_erase(parts, {"p"}) == [0, 1]
    assert planted.parts_to_erase(parts, {"p"}) == [1]
