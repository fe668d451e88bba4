"""
The line of the journal, how lines are linked, and how an altered one is found out.

A line is one JSON object::

    {"hash":"<64 hex>","prev":"<64 hex>","n":3,"kind":"decision",...}\\n

``hash`` is the SHA-256 of everything after its comma, to the closing brace, byte
by byte: of the hash before it (``prev``), of the number in the segment (``n``)
and of the entry.  Line 0 of a segment is its header, and the header's ``prev`` is
the hash of the last line of the segment before, so that one chain runs through
all segments.

What the chain shows: any line changed, removed, added or moved, as long as one
line after it is left.  What it cannot show: whole lines dropped from the very
end, and a chain computed anew from some line on by someone who may write to the
folder.  Both take a signed checkpoint kept elsewhere.
"""

import re
from collections.abc import Iterable
from hashlib import sha256

import msgspec

FORMAT = 1
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
MORE_FINDINGS = "more-findings"

_BODY = len('{"hash":"",') + 64
_FRAME = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","n":(0|[1-9][0-9]{0,17}),')
_FRESH = sha256()  # copying one costs half of asking for a new one


class SegmentHeader(msgspec.Struct, frozen=True, tag_field="kind", tag="segment"):
    """
    The entry that every segment begins with.

    Attributes:
        segment: The number in the name of the file, from 1.
        writer: Drawn at random by each process that opens the journal; with the
            segment and ``n`` it names an entry for good, even if a folder is lost
            and numbers begin again.
        because: Why a new segment was begun: ``start``, ``rotation``, ``sync-failure``,
            or ``damage`` when the process started and found the segment before damaged.
        cut_bytes: The length of the unfinished line that was cut off the segment before.
    """

    segment: int
    writer: str = ""
    because: str = "start"
    cut_bytes: int = 0
    format: int = FORMAT


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
    """

    entries: int
    findings: tuple[Finding, ...]
    end: bytes | None
    complete_bytes: int
    total_bytes: int


def build_line(prev: bytes, number: int, entry: bytes) -> tuple[bytes, bytes]:
    """
    Return the line that puts *entry* after the line whose hash is *prev*, and its own hash.

    Args:
        prev: 64 hexadecimal digits; ``NO_HASH`` before the very first line.
        number: The place in the segment; 0 is the header's.
        entry: A JSON object as msgspec encodes it, with none of the members
            ``hash``, ``prev`` and ``n``: those belong to the line.

    Raises:
        ValueError: *entry* is empty, not an object, or longer than one line.

    Examples:
        >>> line, digest = build_line(NO_HASH, 0, b'{"kind":"segment"}')
        >>> line.endswith(b'"n":0,"kind":"segment"}\\n') and digest in line
        True
        >>> build_line(digest, 1, b'{}')
        Traceback (most recent call last):
        ...
        ValueError: an entry is a JSON object with at least one member, on one line
    """
    if b"\n" in entry or not entry.startswith(b'{"') or not entry.endswith(b"}"):
        raise ValueError("an entry is a JSON object with at least one member, on one line")
    body = b'"prev":"%b","n":%d,%b' % (prev, number, entry[1:])
    digest = _digest(body)
    return b'{"hash":"%b",%b\n' % (digest, body), digest


def is_as_written(line: bytes) -> bool:
    """
    Tell whether one line alone holds what its hash says; where it stands in the chain is not looked at.

    Examples:
        >>> line, _ = build_line(NO_HASH, 1, b'{"allowed":false}')
        >>> is_as_written(line), is_as_written(line.replace(b"false", b"true"))
        (True, False)
    """
    frame = _FRAME.match(line)
    return frame is not None and line.endswith(b"\n") and _digest(memoryview(line)[_BODY:-1]) == frame[1]


def scan_segment(lines: Iterable[bytes], *, segment: int, prev: bytes | None, last: bool) -> SegmentScan:
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

    Examples:
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
        reader.take(line)
    return reader.scan()


def _digest(body: bytes | memoryview) -> bytes:
    digest = _FRESH.copy()
    digest.update(body)
    return digest.hexdigest().encode()


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

    def take(self, line: bytes) -> None:
        """Judge the next *line*."""
        self._line += 1
        flaw = self._judge(line) if line.endswith(b"\n") else self._judge_unfinished()
        if flaw is not None:
            self._report(*flaw)
        elif self._line > 1:
            self._entries += 1
        self._total += len(line)
        if line.endswith(b"\n"):
            self._complete = self._total

    def scan(self) -> SegmentScan:
        """Return what was found."""
        return SegmentScan(self._entries, tuple(self._findings), self._end, self._complete, self._total)

    def _report(self, code: str, sentence: str) -> None:
        if len(self._findings) == MAX_FINDINGS:
            code, sentence = MORE_FINDINGS, "further findings in this segment are not listed"
        if len(self._findings) <= MAX_FINDINGS:
            self._findings.append(Finding(self._line, self._total, code, sentence))

    def _judge(self, line: bytes) -> tuple[str, str] | None:
        expected, follows = self._expected, self._end
        self._expected += 1
        frame = _FRAME.match(line)
        if frame is None:
            return ALTERED, "this is not a line of the journal; it was damaged or put here from elsewhere"
        self._end, prev, number = frame[1], frame[2], int(frame[3])
        if _digest(memoryview(line)[_BODY:-1]) != self._end:
            return ALTERED, "the line and its hash disagree; one of them was changed after it was written"
        self._expected = number + 1
        if follows is not None and prev != follows:
            return BROKEN_LINK, f"{_what(number)} does not follow {_after(expected)}; {_LOST}"
        if number != expected:
            return WRONG_NUMBER, f"{_what(number)} stands where number {expected} belongs"
        return self._judge_header(line) if self._line == 1 else None

    def _judge_header(self, line: bytes) -> tuple[str, str] | None:
        try:
            header = msgspec.json.decode(line, type=SegmentHeader)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return NO_HEADER, "the segment does not begin with its header"
        if header.segment != self._segment:
            return WRONG_SEGMENT, f"this is segment {header.segment}, its name says {self._segment}"
        if header.format != FORMAT:
            return UNKNOWN_FORMAT, f"the format is {header.format}, this version reads {FORMAT}"
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
