"""The canonicaliser refuses whatever two readers could read differently."""

import inspect
import posixpath
import re
import sys
from collections.abc import Callable
from types import ModuleType
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core import target as module
from ruqsat.core.target import (
    MAX_FORM_BYTES,
    MAX_SEGMENTS,
    MAX_TARGET_BYTES,
    Target,
    TargetRejected,
    merged,
    parse_form,
    parse_relative,
    parse_target,
)
from tests.wire.vectors import spelled

ACCEPTED = {
    b"/": ((), ()),
    b"/patients/p-1/labs/o1": (("patients", "p-1", "labs", "o1"), ()),
    b"/patients/p%2D1": (("patients", "p-1"), ()),
    b"/a.b/c": (("a.b", "c"), ()),
    b"/~x/_y": (("~x", "_y"), ()),
    b"/a?class=labs&id=o1": (("a",), (("class", "labs"), ("id", "o1"))),
    b"/a?name=%D0%98%D0%B2%D0%B0%D0%BD": (("a",), (("name", "Иван"),)),
    b"/a?empty=": (("a",), (("empty", ""),)),
    b"/a?id=s|1&other=s%7C1": (("a",), (("id", "s|1"), ("other", "s|1"))),
    b"/a?since=ge2026-01-01T00:00:00%2B05:00": (("a",), (("since", "ge2026-01-01T00:00:00+05:00"),)),
    b"/fhir/$export": (("fhir", "$export"), ()),
    b"/.well-known/x": ((".well-known", "x"), ()),
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
    b"/a?a=e%CC%81", b"/a?a=%E2%80%AE", b"/a?a=%C2%A0", b"/a?a=1&A=2", b"/a?A=1&a=2", b"/a%2eb", b"/a?=", b"/a?%D0%98=1", b"/a?a[]=1", b"/a?a%5B%5D=1", b"/a?a=%3D",
    b"/a?a=%ED%A0%80", b"/a?a=%F5%80%80%80", b"/a?a=%+1", b"/a?a=%_1", b"/a%+1", b"/a?%00=1", b"/a?a%00=1", b"/a?a=%09", b"/a?a=%3B",
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


@pytest.mark.slow
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


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(st.lists(PIECES, max_size=12).map(b"".join), st.lists(PIECES, max_size=8).map(b"".join))
def test_a_target_has_one_spelling(path: bytes, query: bytes) -> None:
    """The canonical spelling of an accepted target is accepted, is that target, and is its own canonical spelling."""
    try:
        target = parse_target(b"/" + path + b"?" + query, None)
    except TargetRejected:
        return

    again = parse_target(spelled(target), None)

    assert again == target
    assert spelled(again) == spelled(target)


def test_the_spelling_of_a_value_survives() -> None:
    """Letters of any script, spaces, bars and pluses come through one spelling unchanged."""
    query = (("name", "Иванов Ә"), ("identifier", "urn:kz:iin|1"), ("since", "00:00+05:00"), ("empty", ""))
    target = Target("/a", ("a",), query)

    assert parse_target(spelled(target)).query == query


def as_a_server_reads(raw: bytes) -> tuple[bytes, bytes]:
    """Read a path as lenient servers do: decoded once, slashes merged, dots resolved, matrix parameters and case dropped."""
    path, _, query = raw.partition(b"?")
    decoded = unquote_to_bytes(path).replace(b"\\", b"/")
    bare = b"/".join(part.partition(b";")[0].rstrip(b". ") or part for part in decoded.split(b"/"))
    return posixpath.normpath(re.sub(b"/+", b"/", bare)), unquote_to_bytes(query)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(PIECES, max_size=8).map(b"".join))
def test_what_a_lenient_server_reads_alike_is_read_alike_here(one: bytes, other: bytes) -> None:
    """Of two accepted targets that a server would not tell apart, both are the same path; each is the server's reading."""
    read = {}
    for raw in (b"/" + one, b"/" + other):
        try:
            read[raw] = parse_target(raw, None)
        except TargetRejected:
            continue
    for raw, target in read.items():
        assert as_a_server_reads(raw)[0] == target.path.encode()
    assert len({as_a_server_reads(raw)[0] for raw in read}) == len({target.path for target in read.values()})


def test_only_named_parameters_may_be_given_twice() -> None:
    """One that may be repeated is; another is refused, and so is any in another case."""
    repeat = frozenset({"date"})

    assert parse_target(b"/a?date=ge1&date=lt2", repeat).query == (("date", "ge1"), ("date", "lt2"))
    assert len(parse_target(b"/a?x=1&x=2", None).query) == 2
    for raw in (b"/a?date=1&x=1&x=2", b"/a?date=1&Date=2", b"/a?date=1&dat%45=2"):
        with pytest.raises(TargetRejected, match="query_twice"):
            parse_target(raw, repeat)
    with pytest.raises(TargetRejected, match="query_twice"):
        parse_target(b"/a?x=1&X=2", None)


def test_forms_and_urls_of_documents_are_read_by_the_same_rules() -> None:
    """A form is a query with a limit of its own; a URL in a document is relative, or refused."""
    assert parse_form(b"a=1&b=%D0%98") == (("a", "1"), ("b", "И"))
    assert parse_form(b"") == ()
    assert parse_relative("Patient/p1").segments == ("Patient", "p1")
    assert merged((("a", "1"),), (("b", "2"),), frozenset()) == (("a", "1"), ("b", "2"))
    for text in ("/Patient/p1", "http://host/Patient/p1", "//host/x", "Patient/../p2", "Иван", "a#b"):
        with pytest.raises(TargetRejected):
            parse_relative(text)
    for body in (b"a=1+2", b"a=1&a=2", b"a=" + b"1" * MAX_FORM_BYTES, b"&".join(b"p%d=1" % n for n in range(33))):
        with pytest.raises(TargetRejected):
            parse_form(body)
    with pytest.raises(TargetRejected):
        merged((("a", "1"),), (("a", "2"),), frozenset())


GUARDS = {
    "length": ('if len(raw) > MAX_TARGET_BYTES:', "if False:"),
    "form": ('if not raw.startswith(b"/"):', "if False:"),
    "fragment and path bytes": ("if path.translate(None, _PATH):", "if False:"),
    "matrix parameters": ("""_PATH = _UNRESERVED + b".!""", """_PATH = _UNRESERVED + b";.!"""),
    "escapes of a path": ("byte is None or (only is not None and byte not in only)", "byte is None"),
    "malformed escapes": ("byte = _HEX.get(piece[:2])", "byte = _HEX.get(piece[:2], 65)"),
    "lenient digits": ("byte = _HEX.get(piece[:2])", "byte = int(piece[:2], 16) if piece[:2].strip() else None"),
    "dot of a path": ('23456789-_~"', '23456789-_~."'),
    "empty segments": ('if segment == "":', "if False:"),
    "dot segments": ('if segment.endswith("."):', "if False:"),
    "trailing dots": ('if segment.endswith("."):', 'if segment in (".", ".."):'),
    "number of segments": ("if len(segments) > MAX_SEGMENTS:", "if False:"),
    "query bytes": ("if query.translate(None, _QUERY):", "if False:"),
    "number of parameters": ("if len(pairs) > MAX_PARAMETERS:", "if False:"),
    "shape of a parameter": ("if not key or not equals:", "if False:"),
    "name of an empty parameter": ("if not key or not equals:", "if not equals:"),
    "name of a parameter": ("if key.translate(None, _NAME):", "if not key.isascii():"),
    "doubled parameters": ("(before != name or (may_repeat is not None and name not in may_repeat))", "False"),
    "case of doubled parameters": ("seen[name.lower()] = name", "seen[name] = name"),
    "strict UTF-8": ('text = value.decode("utf-8")', 'text = value.decode("utf-8", "replace")'),
    "composed letters": ('if not is_normalized("NFC", text):', "if False:"),
    "invisible characters": ("not text.isprintable() or", "False or"),
    "separators": ("or not _TWO_READINGS.isdisjoint(text)", ""),
    "size of a form": ("if len(body) > MAX_FORM_BYTES:", "if False:"),
    "letters of a document's URL": ("if not text.isascii():", "if False:"),
}  # fmt: skip


def without(guard: str) -> ModuleType:
    """Return the canonicaliser with one guard taken out."""
    old, new = GUARDS[guard]
    source = inspect.getsource(module)
    assert old in source, guard
    spoilt = ModuleType("spoilt_target")
    sys.modules["spoilt_target"] = spoilt
    exec(compile(source.replace(old, new), "spoilt", "exec"), spoilt.__dict__)
    return spoilt


def accepts(parse: Callable[..., object], *arguments: object) -> bool:
    """Tell whether something is accepted; a failure of another kind is no acceptance, and no refusal either."""
    try:
        parse(*arguments)
    except Exception as refusal:
        if type(refusal).__name__ != "TargetRejected":
            raise AssertionError("broken") from refusal
        return False
    return True


def slips(canonicaliser: ModuleType) -> list[bytes | str]:
    """Return what this canonicaliser accepts, or breaks on, and must refuse; or refuses and must accept."""
    found: list[bytes | str] = []
    long = [
        b"/" + b"a" * MAX_TARGET_BYTES,
        b"/a" * (MAX_SEGMENTS + 1),
        b"/a?" + b"&".join(b"p%d=1" % n for n in range(33)),
    ]
    forms = [b"a=" + b"1" * MAX_FORM_BYTES]
    for parse, bad in (("parse_target", [*REFUSED, *long]), ("parse_form", forms), ("parse_relative", ["Иван"])):
        for raw in bad:
            try:
                if accepts(getattr(canonicaliser, parse), raw):
                    found.append(raw)
            except AssertionError:
                found.append(raw)
    return found + [raw for raw in ACCEPTED if not accepts(canonicaliser.parse_target, raw)]


def test_the_whole_canonicaliser_has_no_slip() -> None:
    """With every guard in place, the vectors find nothing."""
    assert slips(module) == []


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_taken_out_is_missed(guard: str) -> None:
    """Each guard, dropped alone, lets a vector through: none is there for nothing."""
    assert slips(without(guard)) != []
