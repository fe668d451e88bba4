"""
The folder of a journal: which files belong there, and whether they are as they were written.

A folder holds ``segment-00000001.jsonl`` and on, and ``journal.lock``; nothing else.
A segment of no bytes is one that was created and never begun (a crash or a full disk
came between): it says nothing, and the chain passes it by.

Nothing here changes a file.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from ruqsat.core.chain import NO_HASH, TORN_TAIL, SegmentScan, scan_segment
from ruqsat.errors import JournalError

LOCK_NAME = "journal.lock"

MISSING_FOLDER = "missing-folder"
EMPTY_JOURNAL = "empty-journal"
MISSING_SEGMENT = "missing-segment"
UNKNOWN_FILE = "unknown-file"
UNREADABLE_FILE = "unreadable-file"

_NAME = re.compile(r"segment-([0-9]{8})\.jsonl", re.ASCII)
_READINGS = 3


class SegmentPath(NamedTuple):
    """One segment: its number, and where it lies."""

    number: int
    path: Path


class FolderFinding(Struct, frozen=True):
    """
    One thing wrong in a folder.

    Attributes:
        file: A name in the folder; empty if it is about the folder itself.
        line: From 1; None if it is about a whole file.
        offset: Of the first byte of the line; None if it is about a whole file.
        code: Stable, kebab-case.
        sentence: For the operator.
    """

    file: str
    line: int | None
    offset: int | None
    code: str
    sentence: str


class FolderReport(Struct, frozen=True):
    """What a verification read and found; ``entries`` counts only what holds what was written."""

    segments: int
    entries: int
    findings: tuple[FolderFinding, ...]

    @property
    def intact(self) -> bool:
        """Whether there is a journal, and nothing in it was altered."""
        return not self.findings


def as_text(name: str) -> str:
    """
    Return *name* with everything escaped that a terminal or a JSON reader would stumble over.

    Examples:
        >>> as_text("журнал/segment\\x1b[2J")
        'журнал/segment\\\\x1b[2J'
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def segment_path(folder: Path, number: int) -> Path:
    """Return where segment *number* of *folder* lies."""
    return folder / f"segment-{number:08d}.jsonl"


def list_segments(folder: Path) -> list[SegmentPath]:
    """
    Return the segments of *folder* in order.

    Raises:
        OSError: the folder cannot be read.
    """
    names = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(SegmentPath(int(name[1]), path) for name, path in names if name)


def read_segment(segment: SegmentPath, *, prev: bytes | None, last: bool) -> SegmentScan | None:
    """Scan the file of *segment* (see ``scan_segment``); return None if it cannot be read."""
    try:
        with segment.path.open("rb") as lines:
            return scan_segment(lines, segment=segment.number, prev=prev, last=last)
    except OSError:
        return None


def read_entries(folder: Path) -> Iterator[bytes]:
    """
    Yield every whole line of a journal, oldest first, without verifying it.

    Raises:
        JournalError: the folder cannot be read.
    """
    try:
        for segment in list_segments(folder):
            with segment.path.open("rb") as lines:
                yield from (line for line in lines if line.endswith(b"\n"))
    except OSError as error:
        raise JournalError(f"`{folder}` cannot be read: {error.strerror}") from error


def verify_folder(folder: Path) -> FolderReport:
    """
    Read every segment of *folder* and report whatever is not as it was written.

    A folder that is missing, or has no line in it, is a finding and never intact.
    It may be verified while a journal is writing there.

    What this cannot see: whole lines, or whole segments, dropped from the very
    end, and a chain computed anew by someone who may write to the folder.  Only
    a signed checkpoint kept elsewhere shows those.

    Raises:
        OSError: the folder cannot be listed.
    """
    if not folder.is_dir():
        return FolderReport(0, 0, (_about("", MISSING_FOLDER, "there is no such folder"),))
    segments = list_segments(folder)
    known = {LOCK_NAME, *(segment.path.name for segment in segments)}
    strangers = sorted(path.name for path in folder.iterdir() if path.name not in known)
    walk = _Walk()
    for name in strangers:
        walk.findings.append(_about(as_text(name), UNKNOWN_FILE, "this file does not belong to a journal"))
    for segment in segments:
        walk.visit(segment, last=segment == segments[-1])
    if not walk.lines_met:
        walk.findings.append(_about("", EMPTY_JOURNAL, "the folder holds no line of a journal"))
    return FolderReport(len(segments), walk.entries, tuple(walk.findings))


class _Walk:
    """The way through the segments in order: what the next one must follow, what was found."""

    def __init__(self) -> None:
        self.entries = 0
        self.lines_met = False
        self.findings: list[FolderFinding] = []
        self._expected = 1
        self._end: bytes | None = NO_HASH

    def visit(self, segment: SegmentPath, *, last: bool) -> None:
        """Read the next segment."""
        name = segment.path.name
        if segment.number != self._expected:
            self.findings.append(_missing(name, self._expected, segment.number - 1))
            self._end = None
        self._expected = segment.number + 1
        scan = _read_settled(segment, self._end, last)
        if scan is None:
            self.findings.append(_about(name, UNREADABLE_FILE, "the file cannot be read"))
            self._end = None
            return
        for found in scan.findings:
            self.findings.append(FolderFinding(name, found.line, found.offset, found.code, found.sentence))
        self.entries += scan.entries
        self.lines_met = self.lines_met or scan.total_bytes > 0
        self._end = scan.end


def _read_settled(segment: SegmentPath, prev: bytes | None, last: bool) -> SegmentScan | None:
    """Read again if the unfinished line at the end was only one that was just being written."""
    scan = None
    for _ in range(_READINGS):
        scan = read_segment(segment, prev=prev, last=last)
        if scan is None or not _has_grown(segment.path, scan):
            break
    return scan


def _has_grown(path: Path, scan: SegmentScan) -> bool:
    is_torn = bool(scan.findings) and scan.findings[-1].code == TORN_TAIL
    return is_torn and path.stat().st_size != scan.total_bytes


def _about(file: str, code: str, sentence: str) -> FolderFinding:
    return FolderFinding(file, None, None, code, sentence)


def _missing(file: str, first: int, last: int) -> FolderFinding:
    what = f"segment {first} is" if first == last else f"segments {first} to {last} are"
    return _about(file, MISSING_SEGMENT, f"{what} missing before this one")
