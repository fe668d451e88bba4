"""
How the lines of the journal are linked, and how an altered one is found out.

Each line bears the hash of the one before it (see :mod:`ruqsat.core.line`).  Line 0 of a
segment is its header, and the header's ``prev`` is the hash of the last line of the
segment before, so that one chain runs through all segments.

What the chain shows: any line changed, removed, added or moved, as long as one
line after it is left.  What it cannot show: whole lines dropped from the very
end, and a chain computed anew from some line on by someone who may write to the
folder.  Both take a signed checkpoint kept elsewhere.
"""

from collections.abc import Callable, Iterable

import msgspec

from ruqsat.core.line import Line, hash_of, read_line
from ruqsat.core.personal import is_erased

FORMAT = 2
FORMATS = (1, FORMAT)
"""Lines of format 1 have no personal parts; everything stands in the entry."""

NO_HASH = b"0" * 64
"""What the very first line of a journal follows."""

MAX_FINDINGS = 100
"""How many findings of one segment are listed; more of them add nothing but length."""

ALTERED = "altered"
BROKEN_LINK = "broken-link"
WRONG_NUMBER = "wrong-number"
TORN_TAIL = "torn-tail"
NO_HEADER = "no-header"
WRONG_SEGMENT = "wrong-segment"
UNKNOWN_FORMAT = "unknown-format"
BAD_ACT = "bad-act"
MORE_FINDINGS = "more-findings"


class SegmentHeader(msgspec.Struct, frozen=True, tag_field="kind", tag="segment"):
    """
    The entry that every segment begins with.

    Attributes:
        segment: The number in the name of the file, from 1.
        writer: Drawn at random by each process that opens the journal; with the
            segment and ``n`` it names an entry for good, even if a folder is lost
            and numbers begin again.
        because: Why a new segment was begun: ``start``, ``rotation``, ``sync-failure``,
            ``damage`` when the process started and found the segment before damaged, or
            ``reserve`` when the disk was full and an emergency was written all the same.
        cut_bytes: The length of the unfinished line that was cut off the segment before.
        product: The version that wrote it; what another version decides may differ for good reasons.
    """

    segment: int
    writer: str = ""
    because: str = "start"
    cut_bytes: int = 0
    format: int = FORMAT
    product: str = ""


class ErasureEntry(msgspec.Struct, frozen=True, tag_field="kind", tag="erasure"):
    """
    The entry that goes before an erasure: by which act, and which parts of which lines.

    Attributes:
        at: When, for people.
        act: The act of destruction (order §24), as the operator files it; it names nobody.
        parts: Of each part the segment, the line's number and the part's place: ``3:17:0``.
        places: Of each where it begins in the segment's file, and how many bytes it is: one that a power cut left
            half written over cannot be read, and is found by these.  Acts of before have none.
    """

    at: str
    act: str
    parts: tuple[str, ...]
    places: tuple[tuple[int, int], ...] = ()


class RemovalEntry(msgspec.Struct, frozen=True, tag_field="kind", tag="removal"):
    """
    The entry that goes before archived segments are removed for good, their term being over.

    Attributes:
        at: When, for people.
        act: How the decision is filed; it names nobody.
        first, last: The segments.
        head: The hash of the last line of the last one, which the next segment's header follows.
        notices_before: Delivered notices that were settled before this instant go with them; empty for none.
    """

    at: str
    act: str
    first: int
    last: int
    head: str
    notices_before: str = ""


class Finding(msgspec.Struct, frozen=True):
    """One thing wrong in a segment: line (from 1), offset of its first byte, stable code, sentence."""

    line: int
    offset: int
    code: str
    sentence: str


class SegmentScan(msgspec.Struct, frozen=True):
    """
    What one reading of a segment showed.

    Attributes:
        entries: Lines that hold what was written, the header not counted.
        findings: In order of place; empty means intact.
        end: The hash that the last readable line records, which the next segment
            must follow; what the reader began with when no line is readable.
        complete_bytes: Length up to the last newline.
        total_bytes: Length, the unfinished line included.
        erased: Parts that are erased, and their lines, as an act names them: with the line of the file.
        acts: Parts that acts in this segment name.
        prev: What the first line follows; None if there is none.
        removals: Entries in this segment that say which earlier ones were removed.
    """

    entries: int
    findings: tuple[Finding, ...]
    end: bytes | None
    complete_bytes: int
    total_bytes: int
    erased: tuple[tuple[str, int], ...] = ()
    acts: tuple[str, ...] = ()
    prev: bytes | None = None
    removals: tuple[RemovalEntry, ...] = ()


def part_name(segment: int, number: int, part: int) -> str:
    """
    Return how an act names a part.

    Examples:
        >>> part_name(3, 17, 0)
        '3:17:0'
    """
    return f"{segment}:{number}:{part}"


def ignore(digest: bytes) -> None:
    """Pass by the hash of a line."""


def scan_segment(
    lines: Iterable[bytes],
    *,
    segment: int,
    prev: bytes | None,
    last: bool,
    each: Callable[[bytes], object] = ignore,
) -> SegmentScan:
    """
    Read one segment line by line and report everything that is not as it was written.

    Only one line is held at a time.  A finding never ends the reading: what comes
    after it is judged against the last readable line.

    Args:
        lines: Ending in a newline each, as a binary file yields them.
        segment: The number its file is named by.
        prev: The hash the header must follow; None if it is not known.
        last: Whether this is the last segment, the only one whose last line may be
            unfinished (``torn-tail``); elsewhere such a line is ``altered``.
        each: Called with the hash of every line that bears its own, in order.

    Examples:
        >>> from ruqsat.core.line import build_line
        >>> header, first = build_line(NO_HASH, 0, msgspec.json.encode(SegmentHeader(segment=1)))
        >>> entry, end = build_line(first, 1, b'{"allowed":false}')
        >>> scan_segment([header, entry], segment=1, prev=NO_HASH, last=True).findings
        ()
        >>> edited = entry.replace(b"false", b"true")
        >>> scan_segment([header, edited], segment=1, prev=NO_HASH, last=True).findings[0].code
        'altered'
    """
    reader = _Reader(segment, prev, last)
    for line in lines:
        if reader.take(line):
            each(hash_of(line))
    return reader.scan()


class _Reader:
    """The reading of one segment: where it stands, what the next line must follow, what was found."""

    def __init__(self, segment: int, prev: bytes | None, last: bool) -> None:
        self._segment = segment
        self._last = last
        self._end = prev
        self._expected = 0
        self._line = 0
        self._entries = 0
        self._complete = 0
        self._total = 0
        self._findings: list[Finding] = []
        self._erased: list[tuple[str, int]] = []
        self._acts: list[str] = []
        self._prev: bytes | None = None
        self._removals: list[RemovalEntry] = []

    def take(self, line: bytes) -> bool:
        """Judge the next *line*, and tell whether it bears its own hash."""
        self._line += 1
        found = read_line(line)
        if self._line == 1 and found is not None:
            self._prev = found.prev
        flaw = self._judge(line, found) if line.endswith(b"\n") else self._judge_unfinished()
        if flaw is not None:
            self._report(*flaw)
        elif self._line > 1:
            self._entries += 1
        self._total += len(line)
        if line.endswith(b"\n"):
            self._complete = self._total
        return found is not None and found.holds

    def scan(self) -> SegmentScan:
        """Return what was found."""
        return SegmentScan(
            self._entries, tuple(self._findings), self._end, self._complete, self._total,
            tuple(self._erased), tuple(self._acts), self._prev, tuple(self._removals),
        )  # fmt: skip

    def _report(self, code: str, sentence: str) -> None:
        if len(self._findings) == MAX_FINDINGS:
            code, sentence = MORE_FINDINGS, "further findings in this segment are not listed"
        if len(self._findings) <= MAX_FINDINGS:
            self._findings.append(Finding(self._line, self._total, code, sentence))

    def _judge(self, line: bytes, found: Line | None) -> tuple[str, str] | None:
        expected, follows = self._expected, self._end
        self._expected += 1
        if found is None:
            return ALTERED, "this is not a line of the journal; it was damaged or put here from elsewhere"
        self._end = found.hash
        if not found.holds and found.flaw is not None:
            return ALTERED, found.flaw
        self._expected = found.number + 1
        if follows is not None and found.prev != follows:
            return BROKEN_LINK, f"{_what(found.number)} does not follow {_after(expected)}; {_LOST}"
        if found.number != expected:
            return WRONG_NUMBER, f"{_what(found.number)} stands where number {expected} belongs"
        if found.flaw is not None:
            return ALTERED, found.flaw
        return self._judge_header(line) if self._line == 1 else self._judge_acts(line, found)

    def _judge_acts(self, line: bytes, found: Line) -> tuple[str, str] | None:
        for part, text in enumerate(found.parts):
            if is_erased(text):
                self._erased.append((part_name(self._segment, found.number, part), self._line))
        try:
            if b'"kind":"erasure"' in line:
                self._acts += msgspec.json.decode(line, type=ErasureEntry).parts
            elif b'"kind":"removal"' in line:
                self._removals.append(msgspec.json.decode(line, type=RemovalEntry))
        except msgspec.MsgspecError:
            return BAD_ACT, "the act of an erasure or a removal cannot be read"
        return None

    def _judge_header(self, line: bytes) -> tuple[str, str] | None:
        try:
            header = msgspec.json.decode(line, type=SegmentHeader)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return NO_HEADER, "the segment does not begin with its header"
        if header.segment != self._segment:
            return WRONG_SEGMENT, f"this is segment {header.segment}, its name says {self._segment}"
        if header.format not in FORMATS:
            return UNKNOWN_FORMAT, f"the format is {header.format}, this version reads up to {FORMAT}"
        return None

    def _judge_unfinished(self) -> tuple[str, str]:
        if self._last:
            return TORN_TAIL, "the last line is unfinished, as a crash leaves it; opening the journal cuts it"
        return ALTERED, "the last line is unfinished, which only the last segment may have"


_LOST = "lines were removed, added or moved here"


def _what(number: int) -> str:
    return f"line number {number}" if number else "the header"


def _after(expected: int) -> str:
    return "the line before it" if expected else "the last line of the segment before"
