"""
The canonicaliser: raw request target → path segments and query, or a refusal.

The only code that reads a path or a query.  It refuses what is ambiguous
instead of "fixing" it, because the backend sees the bytes as they were sent:
whatever a proxy, this module and a backend could read differently is denied.
Only escapes of unreserved characters other than the dot are decoded, so that
what is accepted is the same after any number of readings.
"""

import re

from msgspec import Struct

MAX_TARGET_BYTES = 2048
MAX_SEGMENTS = 64
MAX_PARAMETERS = 32

_PATH = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,=:@%/]*")
_QUERY = re.compile(rb"[A-Za-z0-9\-._~!$'()*,:@%/?=&]*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")


class Target(Struct, frozen=True):
    """An accepted target: ``path`` is canonical, ``segments`` are its parts, ``query`` is decoded, in order."""

    path: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str], ...] = ()


class TargetRejected(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The target is refused; ``code`` is one of a closed list and carries nothing of the target."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def parse_target(raw: bytes) -> Target:
    """
    Read a raw request target.

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
        ruqsat.web.target.TargetRejected: escape
    """
    if len(raw) > MAX_TARGET_BYTES:
        raise TargetRejected("too_long")
    if not raw.startswith(b"/"):
        raise TargetRejected("form")
    if b"#" in raw:
        raise TargetRejected("fragment")
    path, mark, query = raw.partition(b"?")
    if not _PATH.fullmatch(path):
        raise TargetRejected("character")
    text = _ESCAPE.sub(_unreserved, path).decode("ascii")
    return Target(text, _segments(text), _parameters(query) if mark else ())


def _segments(path: str) -> tuple[str, ...]:
    if path == "/":
        return ()
    segments = tuple(path[1:].split("/"))
    if len(segments) > MAX_SEGMENTS:
        raise TargetRejected("too_long")
    for segment in segments:
        if segment == "":
            raise TargetRejected("empty_segment")
        if segment in (".", "..") or segment.endswith("."):
            raise TargetRejected("dot_segment")
    return segments


def _parameters(query: bytes) -> tuple[tuple[str, str], ...]:
    if not _QUERY.fullmatch(query):
        raise TargetRejected("query_character")
    parameters: dict[str, str] = {}
    for part in query.split(b"&"):
        name, equals, value = part.partition(b"=")
        key = _decoded(name)
        if not key or not equals or b"=" in value:
            raise TargetRejected("query_shape")
        if key in parameters:
            raise TargetRejected("query_twice")
        parameters[key] = _decoded(value)
    if len(parameters) > MAX_PARAMETERS:
        raise TargetRejected("too_long")
    return tuple(parameters.items())


def _decoded(part: bytes) -> str:
    """Decode a name or value: strict UTF-8; controls, separators, `%` and invisible characters are refused."""
    try:
        text = _ESCAPE.sub(_any_byte, part).decode("utf-8")
    except UnicodeDecodeError:
        raise TargetRejected("query_encoding") from None
    if not text.isprintable() or any(character in "%&=#;+\\" for character in text):
        raise TargetRejected("query_escape")
    return text


def _unreserved(escape: re.Match[bytes]) -> bytes:
    digits = escape.group(1)
    if digits is None or int(digits, 16) not in _UNRESERVED:
        raise TargetRejected("escape")
    return bytes((int(digits, 16),))


def _any_byte(escape: re.Match[bytes]) -> bytes:
    digits = escape.group(1)
    if digits is None:
        raise TargetRejected("query_escape")
    return bytes((int(digits, 16),))
