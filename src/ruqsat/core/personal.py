"""
Personal parts of a line: committed to by the chain, and erasable without breaking it.

A part is a JSON object that names people.  It stands in its line under a random salt,
and the chain covers only its SHA-256 (order §24: what is destroyed must be gone, and
what proves the journal must stay).  Once the part, and with it the salt, is written over,
nobody can tell from the hash that is left who was meant, not even by trying every name.

A part is written over in place and keeps its length, so that no other byte of the
file moves.
"""

import re
from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any

import msgspec

SALT_DIGITS = 32
"""Hexadecimal digits of a salt: 128 bits from the system's random source."""

_ERASED = re.compile(rb'\{"erased":"-*"\}')
_FRESH = sha256()  # copying one costs half of asking for a new one
_FRAME = len('{"erased":""}')
_NEWLINE, _CLOSING = b"\n}"
_OF_PATIENTS = ("patient", "patients_beside")
_ASKED = "asked"
_ONLY_PART = b'"],"personal":[{'
"""Between what is sealed and what it seals; within a text its marks would be escaped."""


def salted(salt: bytes, part: bytes) -> bytes:
    """
    Return *part*, a JSON object with at least one member, under *salt*.

    Raises:
        ValueError: *part* is none, or longer than one line.

    Examples:
        >>> salted(b"00" * 16, b'{"patient":"p1"}')
        b'{"salt":"00000000000000000000000000000000","patient":"p1"}'
    """
    if not is_object(part):
        raise ValueError("a personal part is a JSON object with at least one member, on one line")
    return b'{"salt":"%b",%b' % (salt, part[1:])


def is_object(text: bytes) -> bool:
    """
    Tell whether *text* begins and ends as a JSON object with a member does, and stands on one line.

    Examples:
        >>> [is_object(text) for text in (b'{"a":1}', b"{}", b"", b'{"a":1}\\n', b'{"a":\\n1}')]
        [True, False, False, False, False]
    """
    return text[:2] == b'{"' and text[-1] == _CLOSING and _NEWLINE not in text


def commitment(part: bytes) -> bytes:
    """Return what the chain holds of a salted *part*: 64 hexadecimal digits."""
    digest = _FRESH.copy()
    digest.update(part)
    return digest.hexdigest().encode()


def erased(part: bytes) -> bytes:
    """
    Return what stands in the place of *part* once it is erased: as long, and empty.

    Examples:
        >>> erased(b'{"salt":"0000","patient":"p1"}')
        b'{"erased":"-----------------"}'
    """
    return b'{"erased":"%b"}' % (b"-" * (len(part) - _FRAME))


def is_erased(part: bytes) -> bool:
    """Tell whether nothing is left of *part*."""
    return _ERASED.fullmatch(part) is not None


def split_parts(text: bytes) -> list[bytes] | None:
    """
    Return the parts of a list, byte for byte; None unless *text* is one, written without a blank.

    Examples:
        >>> split_parts(b'[{"a":1},{"b":2}]')
        [b'{"a":1}', b'{"b":2}']
        >>> split_parts(b'[{"a":1}, {"b":2}]')
    """
    try:
        parts = [bytes(part) for part in msgspec.json.decode(text, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, RecursionError):
        return None
    return parts if b"[%b]" % b",".join(parts) == text else None


def parts_to_erase(parts: Sequence[bytes], patients: Collection[str]) -> list[int]:
    """
    Return which *parts* of one line go when *patients* are erased.

    Who asked goes too, unless the line is about somebody else's record as well.

    Examples:
        >>> who, whom = b'{"salt":"0","subject":"s"}', b'{"salt":"0","patient":"p1"}'
        >>> parts_to_erase([who, whom], {"p1"}), parts_to_erase([who, whom], {"p2"})
        ([0, 1], [])
        >>> parts_to_erase([who, whom, b'{"salt":"0","patients_beside":["p2"]}'], {"p1"})
        [1]
    """
    named = [_patients_in(part) for part in parts]
    going = [at for at, names in enumerate(named) if names and not names.isdisjoint(patients)]
    if going and not any(names for at, names in enumerate(named) if at not in going):
        return [at for at, part in enumerate(parts) if not is_erased(part)]
    return going


def lifted(line: bytes) -> dict[str, Any]:
    """
    Return a line as one object, with what its personal parts say among its own members.

    Raises:
        msgspec.DecodeError: it is no JSON object.

    Examples:
        >>> lifted(b'{"kind":"decision","personal":[{"salt":"0","patient":"p1"}]}')
        {'kind': 'decision', 'patient': 'p1'}
    """
    entry = msgspec.json.decode(line, type=dict[str, Any])
    parts = entry.pop("personal", ())
    entry.pop("sealed", None)
    beside: list[str] = []
    for part in parts if isinstance(parts, list) else ():
        said = {name: value for name, value in part.items() if name not in ("salt", "erased")}
        beside += said.pop("patients_beside", ())
        entry.update(said)
    return entry | {"patients_beside": beside} if beside else entry


def spliced(line: bytes) -> bytes | None:
    """
    Return a line with the members of its only personal part among its own, to be decoded as ``lifted`` says.

    None if that takes more than cutting: several parts, one that is erased, a word of the line that is called so.
    What is returned need not be JSON, if the line is not one that we write.

    Examples:
        >>> spliced(b'{"kind":"decision","sealed":["00"],"personal":[{"salt":"0","patient":"p1"}]}\\n')
        b'{"kind":"decision","sealed":["00"],"salt":"0","patient":"p1"}'
        >>> spliced(b'{"kind":"decision","sealed":["00"],"personal":[{"erased":"--"}]}\\n')
        >>> spliced(b'{"kind":"checkpoint"}\\n')
        b'{"kind":"checkpoint"}\\n'
    """
    at = line.find(_ONLY_PART)
    if b'"erased":' in line:
        return None
    if at < 0:
        return None if b'"personal":' in line else line
    if not line.endswith(b"}]}\n") or line.find(b'},{"salt":', at) >= 0:
        return None
    return b"%b],%b}" % (line[: at + 1], line[at + len(_ONLY_PART) : -4])


def of_one(line: bytes, patient: str) -> bytes:
    """
    Return a line with the parts erased that name other patients; its hash holds as before.

    Only a question names several at once: then nothing of it is handed on.

    Examples:
        >>> mine, other = b'{"salt":"0","patient":"p1"}', b'{"salt":"0","patients_beside":["p2"]}'
        >>> of_one(b'{"kind":"a","personal":[%b,%b]}' % (mine, other), "p1")
        b'{"kind":"a","personal":[{"salt":"0","patient":"p1"},{"erased":"------------------------"}]}'
    """
    at = line.rfind(b'"personal":[')
    parts = split_parts(line[at + len(b'"personal":') : line.rfind(b"}")]) if at >= 0 else None
    for part in parts or ():
        if (names := _patients_in(part)) and not names <= {patient}:
            line = line.replace(part, erased(part), 1)
    return line


def _patients_in(part: bytes) -> frozenset[str]:
    said = msgspec.json.decode(part, type=dict[str, Any])
    single, beside = (said.get(name) for name in _OF_PATIENTS)
    names = [single, *(beside if isinstance(beside, list) else ()), *_patients_asked(said.get(_ASKED))]
    return frozenset(name for name in names if isinstance(name, str))


def _patients_asked(text: Any) -> list[Any]:
    """
    Return every patient that a question names, which is a JSON text.

    Examples:
        >>> _patients_asked('{"resource": {"properties": {"patient": "p1", "parts": [{"patient": "p2"}, 7]}}}')
        ['p1', 'p2']
        >>> _patients_asked('{"context": {"inspection": {"patients": ["p3"]}, "legal_request": {"patient": "p4"}}}')
        ['p4', 'p3']
    """
    try:
        question = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):
        return []  # the part's hash covers it: whoever altered it is told of elsewhere
    properties, context = _member(_member(question, "resource"), "properties"), _member(question, "context")
    parts, inspected = properties.get("parts"), _member(context, "inspection").get("patients")
    named = [
        properties.get("patient"), context.get("launch_patient"), _member(context, "legal_request").get("patient"),
        *(part.get("patient") for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict)),
        *(inspected if isinstance(inspected, list) else ()),
    ]  # fmt: skip
    return [name for name in named if name is not None]


def _member(whole: Any, name: str) -> dict[str, Any]:
    found = whole.get(name) if isinstance(whole, dict) else None
    return found if isinstance(found, dict) else {}
