"""
Whether a journal on disk is as it was written.  Reads only; nothing here changes a file.

The chain finds what was changed amid it.  What the chain cannot see (lines dropped
from the very end, a chain computed anew by someone who may write to the folder) shows
against signed checkpoints, and surely against one that was kept elsewhere.
"""

from pathlib import Path

from msgspec import Struct

from ruqsat.core.chain import NO_HASH, TORN_TAIL, RemovalEntry, SegmentScan
from ruqsat.stores.journal_claims import NO_TRUST, Claims, FolderFinding, Tally, Trust, about
from ruqsat.stores.journal_folder import SegmentPath, as_text, last_begun, list_segments, list_strangers, read_segment

MISSING_FOLDER = "missing-folder"
EMPTY_JOURNAL = "empty-journal"
MISSING_SEGMENT = "missing-segment"
UNKNOWN_FILE = "unknown-file"
UNREADABLE_FILE = "unreadable-file"
ERASED_WITHOUT_ACT = "erased-without-act"

_READINGS = 3


class FolderReport(Struct, frozen=True):
    """
    What a verification read and found.

    Attributes:
        segments: How many were read.
        entries: How many lines hold what was written, headers not counted.
        findings: In order of place.
        signed: How many segments a believed checkpoint vouches for to their end.
        erased: How many personal parts are erased, by acts that stand in the journal.
    """

    segments: int
    entries: int
    findings: tuple[FolderFinding, ...]
    signed: int = 0
    erased: int = 0

    @property
    def intact(self) -> bool:
        """Whether there is a journal, and nothing in it was altered."""
        return not self.findings


def verify_folder(
    folder: Path, trust: Trust = NO_TRUST, *, first: int = 1, final: int | None = None, archive: Path | None = None
) -> FolderReport:
    """
    Read the segments of *folder* and report whatever is not as it was written.

    A folder that is missing, or has no line in it, is a finding and never intact.
    It may be verified while a journal is writing there.

    Args:
        trust: Keys and kept checkpoints; without, only what contradicts itself is seen.
        first: The first segment to read; one after the first is not held against the segment before it.
        final: The last segment to read; without, to the end.
        archive: Where earlier segments of the same journal were put; the two are read as one.

    Raises:
        OSError: a folder cannot be listed.
    """
    if not folder.is_dir() or not (archive is None or archive.is_dir()):
        return FolderReport(0, 0, (about("", MISSING_FOLDER, "there is no such folder"),))
    claims = Claims(folder, trust, archive)  # before the lines, which only become more
    segments = _segments_of(folder, archive)
    asked = [each for each in segments if first <= each.number and (final is None or each.number <= final)]
    walk, torn = _Walk(folder, claims, first), last_begun(segments)
    for name in list_strangers(folder):
        walk.findings.append(about(as_text(name), UNKNOWN_FILE, "this file does not belong to a journal"))
    for segment in asked:
        walk.visit(segment, last=torn is None or segment.number >= torn.number)
    walk.look_for_missing(first, final)
    if final is None:  # an act stands after what it erases
        walk.look_for_acts()
    walk.judge_beginning(complete=final is None)
    return FolderReport(len(asked), walk.entries, tuple(walk.findings), walk.signed, len(walk.erased))


class _Walk:
    """The way through the segments in order: what the next one must follow, what was found."""

    def __init__(self, folder: Path, claims: Claims, first: int) -> None:
        self.entries = 0
        self.signed = 0
        self.findings: list[FolderFinding] = [*claims.findings]
        self.erased: dict[str, tuple[str, int]] = {}
        self._folder = folder
        self._acts: set[str] = set()
        self._removals: list[RemovalEntry] = []
        self._beginning: tuple[SegmentPath, FolderFinding] | None = None
        self._prev: bytes | None = None
        self._claims = claims
        self._lines_met = False
        self._visited: set[int] = set()
        self._expected = first
        self._end: bytes | None = NO_HASH if first == 1 else None

    def visit(self, segment: SegmentPath, *, last: bool) -> None:
        """Read the next segment."""
        name = segment.path.name if segment.path.parent == self._folder else str(segment.path.absolute())
        is_first = not self._visited
        self._visited.add(segment.number)
        if segment.number != self._expected:
            missing = _missing(name, self._expected, segment.number - 1)
            if is_first:
                self._beginning = (segment, missing)
            else:
                self.findings.append(missing)
            self._end = None
        self._expected = segment.number + 1
        scan, tally = _read_settled(segment, self._end, last, self._claims)
        if scan is None:
            self.findings.append(about(name, UNREADABLE_FILE, "the file cannot be read"))
            self._end = None
            return
        for found in scan.findings:
            self.findings.append(FolderFinding(name, found.line, found.offset, found.code, found.sentence))
        self.erased |= {part: (name, line) for part, line in scan.erased}
        self._acts.update(scan.acts)
        self._removals += scan.removals
        if is_first:
            self._prev = scan.prev
        contradictions, signed = self._claims.judge(name, segment.number, tally, last=last)
        self.findings += contradictions
        self.signed += signed
        self.entries += scan.entries
        self._lines_met = self._lines_met or scan.total_bytes > 0
        self._end = scan.end

    def look_for_acts(self) -> None:
        """Report what was erased without an act."""
        for part, (file, line) in self.erased.items():
            if part not in self._acts:
                sentence = f"part {part} is erased, and no act in the journal says so"
                self.findings.append(FolderFinding(file, line, None, ERASED_WITHOUT_ACT, sentence))

    def judge_beginning(self, *, complete: bool) -> None:
        """Report that the first segments are missing, unless the journal itself says that they were removed."""
        if self._beginning is None:
            return
        segment, missing = self._beginning
        if not complete or self._removed_to() < segment.number - 1:
            self.findings.insert(0, missing)

    def _removed_to(self) -> int:
        """Return up to which segment the journal says that it was removed, and what is left bears that out."""
        if self._beginning is None:
            return 0
        first = self._beginning[0].number
        return max(
            (
                each.last
                for each in self._removals
                if each.last >= first or (each.last == first - 1 and each.head.encode() == self._prev)
            ),
            default=0,
        )

    def look_for_missing(self, first: int, final: int | None) -> None:
        """Report what should have been met and was not."""
        removed = self._removed_to()
        for segment in self._claims.segments():
            if (
                segment > removed
                and first <= segment
                and (final is None or segment <= final)
                and segment not in self._visited
            ):
                self.findings += self._claims.missing(segment)
        if final is not None and self._expected <= final:
            self.findings.append(_missing("", self._expected, final, "at the end"))
        if not self._lines_met:
            self.findings.append(about("", EMPTY_JOURNAL, "the folder holds no line of a journal"))


def _segments_of(folder: Path, archive: Path | None) -> list[SegmentPath]:
    """Return the segments of both in order; one that is on its way, and in both, where it was."""
    found = {each.number: each for each in (list_segments(archive) if archive is not None else ())}
    found |= {each.number: each for each in list_segments(folder)}
    return [found[number] for number in sorted(found)]


def _read_settled(
    segment: SegmentPath, prev: bytes | None, last: bool, claims: Claims
) -> tuple[SegmentScan | None, Tally]:  # fmt: skip
    """Read again if the unfinished line at the end was only one that was just being written."""
    scan, tally = None, claims.tally(segment.number)
    for _ in range(_READINGS):
        tally = claims.tally(segment.number)
        scan = read_segment(segment, prev=prev, last=last, each=tally.add)
        if scan is None or not _has_grown(segment.path, scan):
            break
    return scan, tally


def _has_grown(path: Path, scan: SegmentScan) -> bool:
    is_torn = bool(scan.findings) and scan.findings[-1].code == TORN_TAIL
    return is_torn and path.stat().st_size != scan.total_bytes


def _missing(file: str, first: int, last: int, where: str = "before this one") -> FolderFinding:
    what = f"segment {first} is" if first == last else f"segments {first} to {last} are"
    return about(file, MISSING_SEGMENT, f"{what} missing {where}")
