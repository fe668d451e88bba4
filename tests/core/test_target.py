"""The canonicaliser refuses whatever two readers could read differently."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.target import MAX_SEGMENTS, MAX_TARGET_BYTES, TargetRejected, parse_target

ACCEPTED = {
    b"/": ((), ()),
    b"/patients/p-1/labs/o1": (("patients", "p-1", "labs", "o1"), ()),
    b"/patients/p%2D1": (("patients", "p-1"), ()),
    b"/a.b/c": (("a.b", "c"), ()),
    b"/~x/_y": (("~x", "_y"), ()),
    b"/a?class=labs&id=o1": (("a",), (("class", "labs"), ("id", "o1"))),
    b"/a?name=%D0%98%D0%B2%D0%B0%D0%BD": (("a",), (("name", "Иван"),)),
    b"/a?empty=": (("a",), (("empty", ""),)),
}

REFUSED = [
    # more than one slash, dot segments, encoded dots
    b"//a", b"/a//b", b"/a/", b"/./a", b"/a/.", b"/a/..", b"/a/../b", b"/..", b"/a/%2e%2e/b", b"/a/%2E./b", b"/%2e/a",
    b"/a%2e", b"/a.", b"/a../b", b"/%252e%252e/a",
    # encoded separators, overlong forms, double encoding, controls
    b"/%c0%ae%c0%ae/a", b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%255cb", b"/a%252fb", b"/a%00", b"/a%0a", b"/a%0d%0a",
    b"/a\tb", b"/\t/a", b"/a b", b"/a%20", b"/a ", b"/a%7f", b"/a%", b"/a%2", b"/a%zz", b"/a%u0041",
    # matrix parameters, wildcards, forms that are no path
    b"/a;b", b"/a;/b", b"/a%3bb", b"*", b"", b"a", b"http://h/a", b"https://h/a", b"h:80", b"?a=1",
    # fragments, encoded question marks, quotes and brackets
    b"/a#b", b"/a%23b", b"/a%3fb", b"/a\"b", b"/a<b", b"/a|b", b"/a[b", b"/a{b", b"/a^b", b"/a`b",
    # bytes outside ASCII, raw or encoded
    "/é".encode(), b"/e%CC%81", b"/%C3%A9", b"/\xff", b"/%ff", "/．．／a".encode(), "/ı".encode(), b"/a%E2%80%8Bb",
    b"/a%E2%80%AEb",
    # queries
    b"/a?", b"/a?b", b"/a?=1", b"/a?a=1&a=2", b"/a?a=1&%61=2", b"/a?a=1&", b"/a?a=1&&b=2", b"/a?a=1;b=2", b"/a?a=%26", b"/a?a=b+c",
    b"/a?a=%00", b"/a?a=%0a", b"/a?a=%ff", b"/a?a=%C0%AE", b"/a?a=%E2%80%8B", b"/a?a=%2526", b"/a?a=%25", b"/a?a=1=2",
    b"/a?a=\xd0\x98", b"/a?a=%", b"/a?a=\"x\"", b"/a?a=%23", b"/a?a=%5c", b"/a?a=x y",
]  # fmt: skip


@pytest.mark.parametrize("raw", ACCEPTED, ids=repr)
def test_plain_targets_are_read(raw: bytes) -> None:
    """A target with one reading is accepted, escapes of unreserved characters decoded."""
    segments, query = ACCEPTED[raw]

    target = parse_target(raw)

    assert (target.segments, target.query) == (segments, query)


@pytest.mark.parametrize("raw", REFUSED, ids=repr)
def test_ambiguous_targets_are_refused(raw: bytes) -> None:
    """A target that somebody could read in another way is refused, never mended."""
    with pytest.raises(TargetRejected):
        parse_target(raw)


def test_targets_over_the_limits_are_refused() -> None:
    """Length, depth and number of parameters are bounded, to the byte."""
    longest = b"/" + b"a" * (MAX_TARGET_BYTES - 1)
    deepest = b"/a" * MAX_SEGMENTS

    assert parse_target(longest).path == longest.decode()
    assert len(parse_target(deepest).segments) == MAX_SEGMENTS
    for raw in (longest + b"a", deepest + b"/a", b"/a?" + b"&".join(b"p%d=1" % n for n in range(33))):
        with pytest.raises(TargetRejected, match="too_long"):
            parse_target(raw)


PIECES = st.sampled_from(
    [b"/", b"a", b"B9", b".", b"..", b"%2e", b"%2f", b"%41", b"%61", b"%7e", b"%25", b";", b"?", b"&", b"=", b"#", b"\\", b"\xd0", b"+", b"%"]
)  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40))
def test_what_is_accepted_is_canonical(tail: bytes) -> None:
    """An accepted path read again is itself, and holds no dot segment, empty segment, escape or separator."""
    try:
        target = parse_target(b"/" + tail)
    except TargetRejected:
        return

    assert parse_target(target.path.encode()).path == target.path
    assert target.path == "/" + "/".join(target.segments)
    for segment in target.segments:
        assert segment not in ("", ".", "..")
        assert not set(segment) & set("/\\%;?# \t")


@settings(max_examples=1000, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_a_refusal_tells_nothing_of_the_target(tail: bytes) -> None:
    """The code of a refusal comes from a closed list."""
    try:
        parse_target(b"/" + tail)
    except TargetRejected as refusal:
        assert refusal.code in {
            "too_long", "form", "fragment", "character", "escape", "empty_segment", "dot_segment",
            "query_character", "query_shape", "query_twice", "query_encoding", "query_escape",
        }  # fmt: skip
