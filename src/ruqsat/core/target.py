"""
The canonicaliser: raw request target → path segments and parameters, or a refusal.

The only code that reads a path or a query.  It refuses what is ambiguous
instead of "fixing" it, because the backend sees the bytes as they were sent:
whatever a proxy, this module and a backend could read differently is denied.
In a path only escapes of unreserved characters other than the dot are decoded,
so that what is accepted is the same after any number of readings.  No pattern
is matched: each byte is looked at a fixed number of times.
"""

from unicodedata import is_normalized

from msgspec import Struct

MAX_TARGET_BYTES = 2048
MAX_SEGMENTS = 64
MAX_PARAMETERS = 32
MAX_FORM_BYTES = 16 * 1024

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~"
_PATH = _UNRESERVED + b".!$&'()*+,=:@%/"
_QUERY = _UNRESERVED + b".!$'()*,:@%/?=&|"
_NAME = _UNRESERVED + b".:"

_TWO_READINGS = frozenset("%&=#;\\")
_DIGITS = "0123456789abcdefABCDEF"
_HEX = {(high + low).encode(): int(high + low, 16) for high in _DIGITS for low in _DIGITS}

Parameters = tuple[tuple[str, str], ...]
Repeat = frozenset[str] | None
NOTHING: Repeat = frozenset()


class Target(Struct, frozen=True):
    """An accepted target: ``path`` is canonical, ``segments`` are its parts, ``query`` is decoded, in order."""

    path: str
    segments: tuple[str, ...]
    query: Parameters = ()


class TargetRejected(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The target is refused; ``code`` is one of a closed list and carries nothing of the target."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def parse_target(raw: bytes, may_repeat: Repeat = NOTHING) -> Target:
    """
    Read a raw request target.

    Args:
        raw: The bytes of the request line, or of the header in which a proxy tells them.
        may_repeat: Parameters that may be given more than once, None if the caller sees to that itself; one that
            is given again in another case is refused always.

    Raises:
        TargetRejected: absolute or authority form, ``*``, a fragment, dot segments, empty segments, matrix
            parameters, encoded separators, dots or control characters, double encoding, bytes outside
            ASCII, a parameter given twice, or more than the limits.

    Examples:
        >>> parse_target(b"/patients/p%2D1?class=labs")
        Target(path='/patients/p-1', segments=('patients', 'p-1'), query=(('class', 'labs'),))
        >>> parse_target(b"/a/%2e%2e/b")
        Traceback (most recent call last):
        ...
        ruqsat.core.target.TargetRejected: escape
    """
    if len(raw) > MAX_TARGET_BYTES:
        raise TargetRejected("too_long")
    if not raw.startswith(b"/"):
        raise TargetRejected("form")
    if b"#" in raw:
        raise TargetRejected("fragment")
    path, mark, query = raw.partition(b"?")
    if path.translate(None, _PATH):
        raise TargetRejected("character")
    text = _decoded(path, _UNRESERVED, "escape").decode("ascii")
    return Target(text, _segments(text), _parameters(query, may_repeat) if mark else ())


def parse_form(body: bytes, may_repeat: Repeat = NOTHING) -> Parameters:
    """
    Read the body of a form as a query is read.

    Raises:
        TargetRejected: what a query is refused for; a space must be written as ``%20``.

    Examples:
        >>> parse_form(b"patient=p1&code=2339-0")
        (('patient', 'p1'), ('code', '2339-0'))
    """
    if len(body) > MAX_FORM_BYTES:
        raise TargetRejected("too_long")
    return _parameters(body, may_repeat) if body else ()


def parse_relative(text: str, may_repeat: Repeat = NOTHING) -> Target:
    """
    Read a URL inside a document, which is relative to the document's base.

    Raises:
        TargetRejected: what a target is refused for; also a URL with a scheme, or one that begins at a root.
    """
    if not text.isascii():
        raise TargetRejected("character")
    return parse_target(b"/" + text.encode("ascii"), may_repeat)


def merged(first: Parameters, second: Parameters, may_repeat: Repeat) -> Parameters:
    """
    Return both, as one query.

    Raises:
        TargetRejected: a parameter stands in both and may not be repeated, or there are too many.
    """
    return _unambiguous([*first, *second], may_repeat)


def _segments(path: str) -> tuple[str, ...]:
    if path == "/":
        return ()
    segments = tuple(path[1:].split("/"))
    if len(segments) > MAX_SEGMENTS:
        raise TargetRejected("too_long")
    for segment in segments:
        if segment == "":
            raise TargetRejected("empty_segment")
        if segment.endswith("."):
            # `.` and `..`, and names that some file systems read without their last dot.
            raise TargetRejected("dot_segment")
    return segments


def _parameters(query: bytes, may_repeat: Repeat) -> Parameters:
    if query.translate(None, _QUERY):
        raise TargetRejected("query_character")
    return _unambiguous([_parameter(part) for part in query.split(b"&", MAX_PARAMETERS)], may_repeat)


def _parameter(part: bytes) -> tuple[str, str]:
    name, equals, value = part.partition(b"=")
    key = _decoded(name, None, "query_escape")
    if not key or not equals:
        raise TargetRejected("query_shape")
    if key.translate(None, _NAME):
        raise TargetRejected("query_character")
    return key.decode("ascii"), _text(_decoded(value, None, "query_escape"))


def _unambiguous(pairs: list[tuple[str, str]], may_repeat: Repeat) -> Parameters:
    if len(pairs) > MAX_PARAMETERS:
        raise TargetRejected("too_long")
    seen: dict[str, str] = {}
    for name, _ in pairs:
        # Some backends do not tell `patient` from `Patient`.
        before = seen.get(name.lower())
        if before is not None and (before != name or (may_repeat is not None and name not in may_repeat)):
            raise TargetRejected("query_twice")
        seen[name.lower()] = name
    return tuple(pairs)


def _text(value: bytes) -> str:
    """Return a value as text: strict UTF-8, composed; controls, separators, `%` and what is invisible are refused."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise TargetRejected("query_encoding") from None
    if not is_normalized("NFC", text):
        raise TargetRejected("query_encoding")
    if not text.isprintable() or not _TWO_READINGS.isdisjoint(text):
        raise TargetRejected("query_escape")
    return text


def _decoded(part: bytes, only: bytes | None, code: str) -> bytes:
    """Decode escapes, each once; one that is malformed, or of a byte that is not in *only*, is refused."""
    if b"%" not in part:
        return part
    first, *rest = part.split(b"%")
    out = bytearray(first)
    for piece in rest:
        byte = _HEX.get(piece[:2])
        if byte is None or (only is not None and byte not in only):
            raise TargetRejected(code)
        out.append(byte)
        out += piece[2:]
    return bytes(out)
