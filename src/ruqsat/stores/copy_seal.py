"""
How a value is sealed for a place that anyone may write to.

A sealed value is bound to the name it stands under, and says in clear which
position it was read at, so that a server can keep the newer of two without
being able to read either::

    v1|<epoch>|<seq, 20 digits>|<e or p>|<payload><tag of 16 bytes>

The tag is BLAKE2b over the name and everything before it: a value that was
altered, shortened or moved to another name is no value.  The payload is
encrypted (``e``, AES-256-GCM) or in clear (``p``).  A replayed value passes:
whether it is too old is the business of its position, not of the seal.
"""

import hmac
import os
import re
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ruqsat.core.facts import Position

TAG = 16
LONGEST_HEAD = 64

_SALT = 24
_HEAD = re.compile(rb"v1\|([0-9a-f]{1,32})\|([0-9]{20})\|([ep])\|")


class CopySeal:
    """
    Seals and opens values under keys of its own, derived from the store's token key.

    Examples:
        >>> seal = CopySeal(bytes(32))
        >>> value = seal.seal(b"here", Position("5eed", 42), b"payload")
        >>> seal.open(b"here", value)
        (Position(epoch='5eed', seq=42), b'payload')
        >>> seal.open(b"there", value)
        >>> seal.open(b"here", value[:-1])
    """

    def __init__(self, token_key: bytes, *, encrypt: bool = True) -> None:
        """Derive one key for names, one for tags and one for what is encrypted."""
        self._names = _derive(token_key, b"copy-names")
        self._tags = _derive(token_key, b"copy-tags")
        self._secrets = _derive(token_key, b"copy-secrets")
        self._mode = b"e" if encrypt else b"p"

    def name(self, *parts: str) -> str:
        """Return what stands for *parts* where nobody may read them; each part counts with its length."""
        texts = [part.encode() for part in parts]
        whole = b"".join([len(text).to_bytes(8) + text for text in texts])
        return blake2b(whole, key=self._names, digest_size=16).hexdigest()

    def seal(self, name: bytes, position: Position, payload: bytes) -> bytes:
        """
        Return the value that carries *payload* under *name*.

        Raises:
            ValueError: the position is not one of the feed's.
        """
        head = b"v1|%s|%020d|%s|" % (position.epoch.encode(), position.seq, self._mode)
        if _HEAD.fullmatch(head) is None:
            raise ValueError("expected a position of the feed")
        body = head + (self._encrypt(name + head, payload) if self._mode == b"e" else payload)
        return body + self._tag(name, body)

    def open(self, name: bytes, value: bytes) -> tuple[Position, bytes] | None:
        """Return the position and the payload of *value*; None if it was not sealed here under *name*."""
        body, tag = value[:-TAG], value[-TAG:]
        if not hmac.compare_digest(self._tag(name, body), tag):
            return None
        head = _HEAD.match(body)
        # A process that encrypts takes nothing in clear: it would be of another configuration.
        if head is None or head[3] != self._mode:
            return None
        payload: bytes | None = body[head.end() :]
        if self._mode == b"e":
            payload = self._decrypt(name + head[0], body[head.end() :])
        return None if payload is None else (Position(head[1].decode(), int(head[2])), payload)

    def _tag(self, name: bytes, body: bytes) -> bytes:
        return blake2b(len(name).to_bytes(8) + name + body, key=self._tags, digest_size=TAG).digest()

    def _encrypt(self, bound: bytes, payload: bytes) -> bytes:
        salt = os.urandom(_SALT)
        return salt + self._cipher(salt).encrypt(salt[12:], payload, bound)

    def _decrypt(self, bound: bytes, secret: bytes) -> bytes | None:
        salt = secret[:_SALT]
        try:
            return self._cipher(salt).decrypt(salt[12:], secret[_SALT:], bound)
        except (InvalidTag, ValueError):
            return None

    def _cipher(self, salt: bytes) -> AESGCM:
        # A key for each value: many processes draw salts for years, too many for the nonce of GCM alone.
        return AESGCM(blake2b(salt[:12], key=self._secrets, digest_size=32).digest())


def _derive(token_key: bytes, purpose: bytes) -> bytes:
    return blake2b(purpose, key=token_key, digest_size=32, person=b"ruqsat-redis").digest()
