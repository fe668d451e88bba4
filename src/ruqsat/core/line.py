"""
The line of the journal.

A line is one JSON object::

    {"hash":"<64 hex>","prev":"<64 hex>","n":3,"kind":"decision",...}\\n

``hash`` is the SHA-256 of everything after its comma, to the closing brace, byte
by byte: of the hash before it (``prev``), of the number in the segment (``n``)
and of the entry.  What names people stands behind that, as parts that the hash
covers only through their own hashes (see :mod:`ruqsat.core.personal`)::

    {"hash":...,"sealed":["<64 hex>"],"personal":[{"salt":...,"patient":...}]}\\n

There ``hash`` is that of the line without the member ``personal``, which comes last:
the same before and after a part is erased.
"""

import re
from collections.abc import Callable, Collection, Sequence
from hashlib import sha256
from typing import NamedTuple

from ruqsat.core.personal import commitment, erased, is_erased, is_object, parts_to_erase, split_parts

_BEFORE_HASH = b'{"hash":"'
_BODY = len('{"hash":"",') + 64
_HASH = slice(len('{"hash":"'), len('{"hash":"') + 64)
_FRAME = re.compile(rb'\{"hash":"([0-9a-f]{64})","prev":"([0-9a-f]{64})","n":(0|[1-9][0-9]{0,17}),')
_SEALED = re.compile(rb',"sealed":\["([0-9a-f]{64}(?:","[0-9a-f]{64})*)"\]\}')
_SEALED_AT, _PERSONAL_AT = b',"sealed":["', b'"],"personal":['
_FRESH = sha256()  # copying one costs half of asking for a new one

_HASH_DIFFERS = "the line and its hash disagree; one of them was changed after it was written"
_PARTS_DIFFER = "a personal part and its hash disagree; it was changed after it was written, or taken out"


class Line(NamedTuple):
    """
    A line as it is read.

    Attributes:
        hash: What it records of itself.
        prev: What it records of the line before it.
        number: Its place in the segment.
        parts: Its personal parts, byte for byte, and where the first begins.
        parts_at: How far into the line that is.
        holds: The hash is that of the line.
        flaw: What is not as it was written, in words; None if everything is.
    """

    hash: bytes
    prev: bytes
    number: int
    parts: tuple[bytes, ...]
    parts_at: int
    holds: bool
    flaw: str | None


def build_line(prev: bytes, number: int, entry: bytes, parts: Sequence[bytes] = ()) -> tuple[bytes, bytes]:
    """
    Return the line that puts *entry* after the line whose hash is *prev*, and its own hash.

    Args:
        prev: 64 hexadecimal digits; ``NO_HASH`` before the very first line.
        number: The place in the segment; 0 is the header's.
        entry: A JSON object as msgspec encodes it, with none of the members ``hash``,
            ``prev``, ``n``, ``sealed`` and ``personal``: those belong to the line.
        parts: Its personal parts, salted.

    Raises:
        ValueError: *entry* is empty, not an object, or longer than one line.

    Examples:
        >>> line, digest = build_line(b"0" * 64, 0, b'{"kind":"segment"}')
        >>> line.endswith(b'"n":0,"kind":"segment"}\\n') and digest in line
        True
        >>> build_line(digest, 1, b'{}')
        Traceback (most recent call last):
        ...
        ValueError: an entry is a JSON object with at least one member, on one line
    """
    if not is_object(entry):
        raise ValueError("an entry is a JSON object with at least one member, on one line")
    if not parts:
        body = b'"prev":"%b","n":%d,%b' % (prev, number, entry[1:])
        digest = _digest(body)
        return b"".join((_BEFORE_HASH, digest, b'",', body, b"\n")), digest
    sealed = b'","'.join(map(commitment, parts))
    body = b'"prev":"%b","n":%d,%b,"sealed":["%b"]}' % (prev, number, entry[1:-1], sealed)
    digest = _digest(body)
    return b"".join((_BEFORE_HASH, digest, b'",', body[:-1], b',"personal":[', b",".join(parts), b"]}\n")), digest


def read_line(line: bytes) -> Line | None:
    """
    Return what *line*, with its newline, says of itself, and whether that is so; None if it is no line of ours.

    Examples:
        >>> read_line(b"{}\\n")
        >>> line, _ = build_line(b"0" * 64, 1, b'{"kind":"a"}', [b'{"salt":"00","patient":"p1"}'])
        >>> read_line(line).flaw, read_line(line).parts
        (None, (b'{"salt":"00","patient":"p1"}',))
        >>> read_line(line.replace(b"p1", b"p2")).flaw
        'a personal part and its hash disagree; it was changed after it was written, or taken out'
    """
    frame = _FRAME.match(line)
    if frame is None or not line.endswith(b"}\n"):
        return None
    at = line.rfind(_PERSONAL_AT)
    body = line[_BODY:-1] if at < 0 else line[_BODY : at + 2] + b"}"
    holds = _digest(body) == frame[1]
    parts, flaw = _read_parts(body, line[at + len(_PERSONAL_AT) - 1 : -2] if at >= 0 else b"[]")
    if not holds:
        flaw = _HASH_DIFFERS
    return Line(frame[1], frame[2], int(frame[3]), parts, at + len(_PERSONAL_AT), holds, flaw)


def parts_of(line: bytes) -> tuple[bytes, ...]:
    """
    Return the personal parts of *line*, byte for byte, as ``read_line`` finds them; nothing of a hash is computed.

    Examples:
        >>> line, _ = build_line(b"0" * 64, 1, b'{"kind":"a"}', [b'{"salt":"00","patient":"p1"}'])
        >>> parts_of(line) == read_line(line).parts, parts_of(b"{}\\n")
        (True, ())
    """
    at = line.rfind(_PERSONAL_AT)
    found = split_parts(line[at + len(_PERSONAL_AT) - 1 : -2]) if at >= 0 and line.endswith(b"}\n") else None
    return tuple(found or ())


def blanked(line: bytes, going: Callable[[tuple[bytes, ...]], Sequence[int]]) -> tuple[bytes, tuple[bytes, ...]]:
    """
    Return *line* with some of its parts erased, and these parts as they were; its hash holds as before.

    Args:
        going: Says of the line's parts which ones go; those that are erased already stay as they are.

    Examples:
        >>> line, _ = build_line(b"0" * 64, 1, b'{"kind":"a"}', [b'{"salt":"00","patient":"p1"}'])
        >>> blank, parts = blanked(line, lambda parts: [0])
        >>> b"p1" in blank, read_line(blank).hash == read_line(line).hash, parts
        (False, True, (b'{"salt":"00","patient":"p1"}',))
    """
    found = read_line(line)
    if found is None or not found.parts:
        return line, ()
    which = [at for at in going(found.parts) if not is_erased(found.parts[at])]
    parts = [erased(part) if at in which else part for at, part in enumerate(found.parts)]
    blank = line[: found.parts_at] + b",".join(parts) + b"]}\n"
    return blank, tuple([found.parts[at] for at in which])


def erase_of(patients: Collection[str]) -> Callable[[tuple[bytes, ...]], Sequence[int]]:
    """Return what says which parts of a line go when these patients are erased."""
    return lambda parts: parts_to_erase(parts, patients)


def are_one_line(here: bytes, there: bytes) -> bool:
    """
    Tell whether both are the same line as it was written, whatever of it is erased in either.

    Examples:
        >>> line, _ = build_line(b"0" * 64, 1, b'{"kind":"a"}', [b'{"salt":"00","patient":"p1"}'])
        >>> blank, _ = blanked(line, lambda parts: [0])
        >>> are_one_line(line, blank), are_one_line(line, line.replace(b"p1", b"p2")), are_one_line(line, b"")
        (True, False, False)
    """
    one, other = read_line(here), read_line(there)
    return one is not None and other is not None and one.hash == other.hash and (one.flaw, other.flaw) == (None, None)


def hash_of(line: bytes) -> bytes:
    """Return the hash that a line of ours bears, unverified."""
    return line[_HASH]


def _read_parts(body: bytes, text: bytes) -> tuple[tuple[bytes, ...], str | None]:
    found = _SEALED.fullmatch(body, at) if (at := body.rfind(_SEALED_AT)) >= 0 else None
    sealed = found[1].split(b'","') if found else []
    parts = split_parts(text)
    if parts is None or len(parts) != len(sealed):
        return (), _PARTS_DIFFER
    hold = all(is_erased(part) or commitment(part) == digest for part, digest in zip(parts, sealed, strict=True))
    return tuple(parts), None if hold else _PARTS_DIFFER


def _digest(body: bytes) -> bytes:
    digest = _FRESH.copy()
    digest.update(body)
    return digest.hexdigest().encode()
