"""The line format and its verification: pure bytes in, findings out."""

import json
from hashlib import sha256

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ruqsat.core.chain import (
    ALTERED,
    BROKEN_LINK,
    MAX_FINDINGS,
    MORE_FINDINGS,
    NO_HASH,
    NO_HEADER,
    TORN_TAIL,
    UNKNOWN_FORMAT,
    WRONG_NUMBER,
    WRONG_SEGMENT,
    SegmentHeader,
    SegmentScan,
    scan_segment,
)
from ruqsat.core.line import build_line

unhurried = settings(deadline=None)


def build_segment(count: int, *, segment: int = 1, writer: str = "a", prev: bytes = NO_HASH) -> list[bytes]:
    """Return the lines of a segment with *count* entries after its header."""
    entries = [msgspec.json.encode(SegmentHeader(segment, writer))]
    entries += [b'{"kind":"decision","id":%d}' % each for each in range(count)]
    lines = []
    for number, entry in enumerate(entries):
        line, prev = build_line(prev, number, entry)
        lines.append(line)
    return lines


def scan(lines: list[bytes], *, prev: bytes | None = NO_HASH, last: bool = True) -> SegmentScan:
    """Scan *lines* as segment 1, cut anew where newlines are."""
    return scan_segment(b"".join(lines).splitlines(keepends=True), segment=1, prev=prev, last=last)


def codes(lines: list[bytes], *, prev: bytes | None = NO_HASH, last: bool = True) -> list[str]:
    """Return the codes of the findings in *lines*."""
    return [finding.code for finding in scan(lines, prev=prev, last=last).findings]


def test_line_is_json_and_its_hash_covers_everything_after_it() -> None:
    """A reader with a JSON parser and SHA-256 can check a line without us."""
    line, digest = build_line(NO_HASH, 7, b'{"kind":"decision","allowed":true}')

    assert json.loads(line) == {
        "hash": digest.decode(),
        "prev": "0" * 64,
        "n": 7,
        "kind": "decision",
        "allowed": True,
    }
    assert sha256(line[line.index(b'"prev"') : -1]).hexdigest().encode() == digest


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b'{"a":1', b'{"a":1}\n', b'{"a":\n1}', b'"a"', b"null"])
def test_line_cannot_be_built_from_anything_but_an_object_on_one_line(entry: bytes) -> None:
    """What could be taken for two lines, or for none, is refused before it is linked."""
    with pytest.raises(ValueError, match="at least one member, on one line"):
        build_line(NO_HASH, 1, entry)


@unhurried
@given(count=st.integers(0, 6))
def test_untouched_segment_has_no_findings(count: int) -> None:
    """What was written and left alone is intact, and every entry of it counts."""
    lines = build_segment(count)

    found = scan(lines)

    assert found.findings == ()
    assert found.entries == count
    assert found.complete_bytes == found.total_bytes == sum(map(len, lines))
    assert found.end == json.loads(lines[-1])["hash"].encode()


@unhurried
@given(data=st.data(), count=st.integers(1, 5))
def test_any_changed_byte_is_reported(data: st.DataObject, count: int) -> None:
    """No byte of a line can become another one without a finding."""
    whole = bytearray(b"".join(build_segment(count)))
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    assume(whole[place] != byte)

    whole[place] = byte

    assert codes([bytes(whole)])


@unhurried
@given(data=st.data(), count=st.integers(1, 6))
def test_any_deleted_line_but_the_last_is_reported(data: st.DataObject, count: int) -> None:
    """A line cannot be taken out as long as one after it stays."""
    lines = build_segment(count)
    del lines[data.draw(st.integers(0, count - 1))]

    assert BROKEN_LINK in codes(lines)


@unhurried
@given(data=st.data(), count=st.integers(1, 6))
def test_any_two_swapped_lines_are_reported(data: st.DataObject, count: int) -> None:
    """Two lines that changed places are found, whichever two they are."""
    lines = build_segment(count)
    one, other = data.draw(st.lists(st.integers(0, count), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]

    assert BROKEN_LINK in codes(lines)


@unhurried
@given(data=st.data(), count=st.integers(0, 6))
def test_any_duplicated_line_is_reported(data: st.DataObject, count: int) -> None:
    """A line cannot stand twice, wherever the second copy is put, the very end included."""
    lines = build_segment(count)
    copy = lines[data.draw(st.integers(0, count))]
    lines.insert(data.draw(st.integers(0, len(lines))), copy)

    assert BROKEN_LINK in codes(lines)


@unhurried
@given(data=st.data(), count=st.integers(0, 6), text=st.binary(max_size=40))
def test_any_inserted_line_is_reported(data: st.DataObject, count: int, text: bytes) -> None:
    """Nothing can be slipped in between, not even an empty line."""
    lines = build_segment(count)
    lines.insert(data.draw(st.integers(0, len(lines))), text + b"\n")

    assert ALTERED in codes(lines)


@unhurried
@given(data=st.data(), count=st.integers(1, 6))
def test_lines_of_another_journal_are_reported(data: st.DataObject, count: int) -> None:
    """The end of one journal cannot be spliced onto the beginning of another, however alike they are."""
    ours, theirs = build_segment(count), build_segment(count, writer="b")
    cut = data.draw(st.integers(1, count))

    assert BROKEN_LINK in codes(ours[:cut] + theirs[cut:])
    assert BROKEN_LINK in codes(theirs[:cut] + ours[cut:])


@unhurried
@given(data=st.data(), count=st.integers(0, 6))
def test_cut_inside_a_line_is_a_torn_tail(data: st.DataObject, count: int) -> None:
    """Half a line at the end of the last segment is what a crash leaves, and is reported as that."""
    whole = b"".join(build_segment(count))
    ends = {place + 1 for place, byte in enumerate(whole) if byte == ord("\n")}
    cut = data.draw(st.integers(1, len(whole) - 1).filter(lambda place: place not in ends))

    found = scan([whole[:cut]])

    assert [finding.code for finding in found.findings] == [TORN_TAIL]
    assert found.complete_bytes == max((end for end in ends if end < cut), default=0)
    assert codes([whole[:cut]], last=False) == [ALTERED]


@unhurried
@given(data=st.data(), count=st.integers(1, 6))
def test_whole_lines_cut_from_the_very_end_cannot_be_seen(data: st.DataObject, count: int) -> None:
    """The one honest exception: what is left is a chain, and only a checkpoint could say it was longer."""
    lines = build_segment(count)[: data.draw(st.integers(1, count))]

    assert codes(lines) == []


def test_edited_number_is_reported_at_its_line() -> None:
    """A number cannot be edited without its hash, nor with it."""
    lines = build_segment(3)
    edited = lines[2].replace(b'"n":2', b'"n":5')
    body = edited[edited.index(b'"prev"') : -1]
    forged = b'{"hash":"%b",%b\n' % (sha256(body).hexdigest().encode(), body)

    found = scan([*lines[:2], edited, lines[3]]).findings
    assert [(each.line, each.offset, each.code) for each in found] == [(3, len(lines[0] + lines[1]), ALTERED)]
    assert codes([*lines[:2], forged, lines[3]]) == [WRONG_NUMBER, BROKEN_LINK]


def test_one_edit_is_one_finding_and_the_rest_still_counts() -> None:
    """A finding does not end the reading: lines after it are judged, and count, as before."""
    lines = build_segment(4)
    lines[2] = lines[2].replace(b'"id":1', b'"id":9')

    found = scan(lines)

    assert [finding.code for finding in found.findings] == [ALTERED]
    assert found.entries == 3


def test_segment_follows_the_one_before_it() -> None:
    """A header that follows another hash is reported, and one whose past is unknown is not."""
    before = b"ab" * 32
    lines = build_segment(1, prev=before)

    assert codes(lines, prev=before) == []
    assert codes(lines, prev=None) == []
    assert codes(lines, prev=NO_HASH) == [BROKEN_LINK]


def test_segment_cannot_begin_without_its_own_header() -> None:
    """The first line says which segment this is, and in a format we read."""
    plain, _ = build_line(NO_HASH, 0, b'{"kind":"decision"}')
    nested, _ = build_line(NO_HASH, 0, b'{"kind":"segment","segment":' + b"[" * 5000 + b"]" * 5000 + b"}")
    garbled, _ = build_line(NO_HASH, 0, b'{"kind":"segment","segment":1,"writer":"\xff"}')
    newer, _ = build_line(NO_HASH, 0, msgspec.json.encode(SegmentHeader(1, format=3)))

    assert codes([plain]) == codes([nested]) == codes([garbled]) == [NO_HEADER]
    assert codes(build_segment(0, segment=6)) == [WRONG_SEGMENT]
    assert codes([newer]) == [UNKNOWN_FORMAT]


def test_findings_of_a_ruined_segment_are_bounded() -> None:
    """A file full of nonsense is reported at a bounded length that says it was bounded."""
    found = codes([b"\n"] * 10_000)

    assert len(found) == MAX_FINDINGS + 1
    assert found[-1] == MORE_FINDINGS


def test_empty_segment_is_no_finding_by_itself() -> None:
    """A file that was created and never begun passes on the hash it was to follow."""
    found = scan([])

    assert found == SegmentScan(0, (), NO_HASH, 0, 0)
