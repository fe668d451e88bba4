"""
The seal on personal fields: encrypted before they reach the store, opened only for who may read them.

AES-256-GCM with a fresh nonce; patient, id and version are bound in, so that a
sealed part moved to another record, or put back from an older version, does
not open.
"""

import base64
import binascii
import hmac
import secrets
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ruqsat.errors import RuqsatError, SettingsError, StoreUnavailableError

KEY_BYTES = 32
_NONCE_BYTES = 12
_NAME_BYTES = 4


class RecordUnreadableError(StoreUnavailableError):
    """A sealed part does not open: it was changed, moved, or sealed under another key."""

    code = "record-unreadable"


class NotConfiguredError(RuqsatError):
    """Full records need a key, and none is set."""

    code = "records-not-configured"


def read_record_key(text: bytes) -> bytes:
    """
    Read a key: 32 bytes in base64.

    Raises:
        SettingsError: it is none; what was found is not repeated.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError(f"expected {KEY_BYTES} random bytes in base64, such as `openssl rand -base64 32` prints")
    return key


class RecordSeal:
    """
    Seals under one key, opens what it and older ones sealed, and makes tags that only their holder can make.

    Examples:
        >>> seal = RecordSeal(bytes(32))
        >>> box = seal.close(b"a name", "p1", "c1", 1)
        >>> seal.open(box, "p1", "c1", 1)
        b'a name'
        >>> seal.open(box, "p1", "c1", 2)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ...
        RecordUnreadableError: …
    """

    def __init__(self, key: bytes, *previous: bytes) -> None:
        """
        Keep what follows from *key*, of 32 bytes, and from the keys before it.

        Raises:
            SettingsError: two keys are the same.
        """
        keys = {_derive(each, b"ruqsat record key name")[:_NAME_BYTES]: each for each in (key, *previous)}
        if len(keys) <= len(previous):
            raise SettingsError("the key before is the same as the key: expected another one")
        self._name = next(iter(keys))
        self._ciphers = {name: AESGCM(_derive(each, b"ruqsat record seal")) for name, each in keys.items()}
        self._tag_keys = [_derive(each, b"ruqsat record tag") for each in keys.values()]

    def close(self, text: bytes, patient: str, id_: str, version: int) -> bytes:
        """Return *text* sealed for this version of this record."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return self._name + nonce + self._ciphers[self._name].encrypt(nonce, text, _bound(patient, id_, version))

    def open(self, box: bytes, patient: str, id_: str, version: int) -> bytes:
        """
        Return what was sealed for this version of this record.

        Raises:
            RecordUnreadableError: it does not open.
        """
        name, nonce, rest = box[:_NAME_BYTES], box[_NAME_BYTES:][:_NONCE_BYTES], box[_NAME_BYTES + _NONCE_BYTES :]
        try:
            if (cipher := self._ciphers.get(name)) is not None:
                return cipher.decrypt(nonce, rest, _bound(patient, id_, version))
        except (InvalidTag, ValueError):
            pass
        raise RecordUnreadableError("a sealed record does not open: changed, moved or of another key")

    def is_current(self, box: bytes) -> bool:
        """Tell whether this was sealed under the newest key."""
        return box[:_NAME_BYTES] == self._name

    def tag(self, kind: str, *parts: bytes) -> bytes:
        """Return a tag of *parts*: the same for the same, and for whoever lacks the key it tells nothing."""
        return self.tags(kind, *parts)[0]

    def tags(self, kind: str, *parts: bytes) -> tuple[bytes, ...]:
        """Return the tags of *parts* under each key, the newest first: what is not sealed anew yet has an older one."""
        return tuple(_tag(key, kind, parts) for key in self._tag_keys)


def required(seal: RecordSeal | None) -> RecordSeal:
    """
    Return the seal.

    Raises:
        NotConfiguredError: there is none, for there is no key.
    """
    if seal is None:
        raise NotConfiguredError("full records need a key: set RUQSAT_RECORD_KEY or RUQSAT_RECORD_KEY_FILE")
    return seal


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(SHA256(), KEY_BYTES, purpose).derive(key)


def _tag(key: bytes, kind: str, parts: tuple[bytes, ...]) -> bytes:
    mac = hmac.new(key, kind.encode(), sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.digest()


def _bound(patient: str, id_: str, version: int) -> bytes:
    parts = (patient.encode(), id_.encode(), str(version).encode())
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
