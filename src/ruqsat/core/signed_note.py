"""
Signed notes (C2SP ``signed-note``): a text, an empty line, and a line for each signature, Ed25519.

The form is that of transparency logs, so that their witnesses and tools read ours.
A verifier key is one word, ``<name>+<key id>+<base64>``; it may be published.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_NOTE_BYTES = 64 * 1024
"""Longer ones are not looked at; sixteen of the longest signatures fit."""

_ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+]+")
_SIGNATURE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_ID_BYTES = 4


class VerifierKey:
    """
    Whose signature is believed: a name and a public key.

    Examples:
        >>> VerifierKey.read("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW").id.hex()
        'c74f20a3'
    """

    def __init__(self, name: str, public: bytes) -> None:
        """
        Keep a name and the 32 bytes of a key.

        Raises:
            ValueError: either is none.
        """
        if _NAME.fullmatch(name) is None:
            raise ValueError("expected a name without spaces and without `+`")
        self.name = name
        self.id = sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]
        self._bytes = public
        self._public = Ed25519PublicKey.from_public_bytes(public)

    @classmethod
    def read(cls, text: str) -> "VerifierKey":
        """
        Read a key from its one word.

        Raises:
            ValueError: it is none of Ed25519, or its id is not its own.
        """
        name, id_, key = [*text.strip().split("+", 2), "", ""][:3]
        decoded = _decode(key)
        if decoded is None or len(decoded) != 33 or decoded[:1] != _ED25519:
            raise ValueError("expected a verifier key, `<name>+<id>+<base64>`, of Ed25519")
        found = cls(name, decoded[1:])
        if found.id.hex() != id_:
            raise ValueError("the verifier key does not bear its own id: it was altered or cut")
        return found

    def __str__(self) -> str:
        """Return the key as one word."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self._bytes).decode()}"

    def has_signed(self, text: str, signature: bytes) -> bool:
        """Tell whether this key made *signature* over *text*."""
        try:
            self._public.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """Who signs: a name and a private key."""

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        """
        Keep a name and a key.

        Raises:
            ValueError: the name is none.
        """
        self.verifier = VerifierKey(name, private.public_key().public_bytes_raw())
        self._private = private

    def sign(self, text: str) -> str:
        """
        Return *text*, lines that end in a newline, as a note signed by this key.

        Raises:
            ValueError: *text* cannot be signed as a note.
        """
        if not text.endswith("\n") or _CONTROL.search(text):
            raise ValueError("a note is lines of text without control characters")
        signature = base64.b64encode(self.verifier.id + self._private.sign(text.encode())).decode()
        return f"{text}\n— {self.verifier.name} {signature}\n"


def split_note(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    """
    Return the text of a note, which nobody vouches for yet, and its signatures: name, key id and signature.

    Raises:
        ValueError: it is no note.
    """
    text, gap, rest = note.rpartition("\n\n")
    lines = rest.split("\n")
    if len(note) > MAX_NOTE_BYTES or not gap or len(lines) < 2 or lines.pop() or _CONTROL.search(note):
        raise ValueError("expected a signed note: lines of text, an empty line, lines of signatures")
    return text + "\n", [_read_signature(line) for line in lines]


def open_note(note: str, keys: Sequence[VerifierKey]) -> str:
    """
    Return the text of *note*, signed by at least one of *keys*; signatures of others are passed by.

    Raises:
        ValueError: no known key has signed it, or what bears a known key's name and id is not its signature.
    """
    text, signatures = split_note(note)
    known = {(key.name, key.id): key for key in keys}
    mine = [(known[name, box[:_ID_BYTES]], box[_ID_BYTES:]) for name, box in signatures if (name, box[:4]) in known]
    if not mine:
        raise ValueError("no known key has signed this")
    if not all(key.has_signed(text, signature) for key, signature in mine):
        raise ValueError("the signature is not that of the text: one of them was altered")
    return text


def _read_signature(line: str) -> tuple[str, bytes]:
    found = _SIGNATURE.fullmatch(line)
    decoded = _decode(found[2]) if found else None
    if found is None or decoded is None or len(decoded) <= _ID_BYTES:
        raise ValueError("expected a signature: a dash, a name and base64")
    return found[1], decoded


def _decode(text: str) -> bytes | None:
    """Return what *text* is the one base64 of; None if it is not."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None
