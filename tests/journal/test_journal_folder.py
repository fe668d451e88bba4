"""Verification of a whole folder: segments, the links between them, and what does not belong."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_helpers import decision, on_loop
from simulated_disk import UnsyncedDisk, lay_out

from ruqsat.core.chain import (
    ALTERED,
    BROKEN_LINK,
    TORN_TAIL,
    WRONG_SEGMENT,
    SegmentScan,
    scan_segment,
)
from ruqsat.stores import journal_folder
from ruqsat.stores.journal_folder import list_segments, segment_path
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import (
    EMPTY_JOURNAL,
    MISSING_FOLDER,
    MISSING_SEGMENT,
    UNKNOWN_FILE,
    FolderReport,
    verify_folder,
)

COUNT = 4
"""How many segments the journal of these tests has, with two entries each."""


def found_in(folder: Path) -> list[tuple[str, int | None, str]]:
    """Return file, line and code of every finding in *folder*."""
    return [(each.file, each.line, each.code) for each in verify_folder(folder).findings]


@pytest.fixture(scope="module")
def journal_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an intact journal."""
    folder = tmp_path_factory.mktemp("journal")

    async def main() -> None:
        for number in range(COUNT):
            journal = DurableJournal.open(folder, disk=UnsyncedDisk())
            await journal.append(decision(2 * number))
            await journal.append(decision(2 * number + 1))
            await journal.aclose()

    on_loop(main)
    return {segment.path.name: segment.path.read_bytes() for segment in list_segments(folder)}


@pytest.fixture
def folder(tmp_path: Path, journal_files: dict[str, bytes]) -> Path:
    """A folder with an intact journal, for one test to spoil."""
    return lay_out(journal_files, tmp_path / "folder")


def test_untouched_folder_is_intact(folder: Path) -> None:
    """Every segment and every entry is counted, and there is nothing to report."""
    report = verify_folder(folder)

    assert report == FolderReport(COUNT, 2 * COUNT, ())
    assert report.intact


def test_missing_folder_is_not_intact(tmp_path: Path) -> None:
    """No folder is no journal, and a file is no folder."""
    (tmp_path / "file").touch()

    assert found_in(tmp_path / "nothing") == [("", None, MISSING_FOLDER)]
    assert found_in(tmp_path / "file") == [("", None, MISSING_FOLDER)]


def test_folder_without_a_line_is_not_intact(tmp_path: Path) -> None:
    """An empty folder, or one of empty files, proves nothing and is not called intact."""
    assert found_in(tmp_path) == [("", None, EMPTY_JOURNAL)]

    segment_path(tmp_path, 1).touch()
    assert found_in(tmp_path) == [("", None, EMPTY_JOURNAL)]


def test_missing_segments_are_named(folder: Path) -> None:
    """A gap in the numbers is reported once, and what is left is still verified."""
    segment_path(folder, 2).unlink()
    segment_path(folder, 3).unlink()

    report = verify_folder(folder)

    assert found_in(folder) == [("segment-00000004.jsonl", None, MISSING_SEGMENT)]
    assert report.findings[0].sentence == "segments 2 to 3 are missing before this one"
    assert report.entries == 4


def test_missing_first_segment_is_named(folder: Path) -> None:
    """The beginning cannot be dropped unseen."""
    segment_path(folder, 1).unlink()

    assert verify_folder(folder).findings[0].sentence == "segment 1 is missing before this one"


def test_segments_cannot_change_places(folder: Path) -> None:
    """A segment under another number is reported, link and header."""
    one, other = segment_path(folder, 2).read_bytes(), segment_path(folder, 3).read_bytes()
    segment_path(folder, 2).write_bytes(other)
    segment_path(folder, 3).write_bytes(one)

    assert {code for _, line, code in found_in(folder) if line == 1} == {BROKEN_LINK}


def test_segment_under_a_free_number_is_reported(folder: Path) -> None:
    """The last segment cannot be moved to a later number without a word."""
    segment_path(folder, 4).rename(segment_path(folder, 9))

    assert [code for _, _, code in found_in(folder)] == [MISSING_SEGMENT, WRONG_SEGMENT]


def test_torn_line_is_a_torn_tail_only_at_the_very_end(folder: Path) -> None:
    """What a crash may leave in the last segment is an alteration in any other."""
    for number in (2, COUNT):
        path = segment_path(folder, number)
        path.write_bytes(path.read_bytes()[:-1])

    assert found_in(folder) == [
        ("segment-00000002.jsonl", 3, ALTERED),
        ("segment-00000003.jsonl", 1, BROKEN_LINK),
        ("segment-00000004.jsonl", 3, TORN_TAIL),
    ]


def test_files_that_do_not_belong_are_reported(folder: Path) -> None:
    """A file nobody knows is named, in letters that do no harm to a terminal; the lock is known."""
    (folder / "journal.lock").touch()
    (folder / "notes\x1b[2J.txt").touch()
    (folder / "segment-1.jsonl").touch()
    (folder / "segment-00000002.jsonl.bak").touch()

    assert found_in(folder) == [
        (r"notes\x1b[2J.txt", None, UNKNOWN_FILE),
        ("segment-00000002.jsonl.bak", None, UNKNOWN_FILE),
        ("segment-1.jsonl", None, UNKNOWN_FILE),
    ]


def test_line_that_is_just_being_written_is_no_finding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in use is read again where its end has moved meanwhile, and is intact."""
    path = segment_path(folder, COUNT)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])

    def scan_while_writing(lines: Iterable[bytes], *, segment: int, last: bool, **rest: Any) -> SegmentScan:
        scan = scan_segment(lines, segment=segment, last=last, **rest)
        if last:
            path.write_bytes(whole)
        return scan

    monkeypatch.setattr(journal_folder, "scan_segment", scan_while_writing)

    assert verify_folder(folder).intact


@pytest.mark.slow
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_any_edit_of_a_line_in_any_segment_is_reported(
    journal_files: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    """Flip, delete, insert, swap, duplicate or move a line anywhere: the folder is not intact."""
    lines = [(name, line) for name, text in journal_files.items() for line in text.splitlines(keepends=True)]
    last = len(lines) - 1
    edit = data.draw(st.sampled_from(["flip", "delete", "insert", "swap", "duplicate"]))
    place = data.draw(st.integers(0, last - (edit == "delete")))
    name, line = lines[place]
    if edit == "flip":
        at = data.draw(st.integers(0, len(line) - 1))
        lines[place] = name, line[:at] + bytes([line[at] ^ data.draw(st.integers(1, 255))]) + line[at + 1 :]
    elif edit == "delete":
        del lines[place]
    elif edit == "insert":
        lines.insert(place, (name, data.draw(st.binary(max_size=20)) + b"\n"))
    else:
        other = data.draw(st.integers(0, last).filter(lambda each: each != place or edit == "duplicate"))
        if edit == "swap":
            lines[place], lines[other] = (name, lines[other][1]), (lines[other][0], line)
        else:
            lines.insert(other, (lines[other][0], line))

    spoiled = dict.fromkeys(journal_files, b"")
    for file, text in lines:
        spoiled[file] += text

    assert not verify_folder(lay_out(spoiled, tmp_path / "spoiled")).intact


def test_whole_segments_dropped_from_the_very_end_cannot_be_seen(folder: Path) -> None:
    """The one honest exception, until checkpoints say how long the journal was."""
    segment_path(folder, COUNT).unlink()

    assert verify_folder(folder).intact
