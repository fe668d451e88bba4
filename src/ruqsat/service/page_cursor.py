"""Cursors of pages: sealed, so that they tell nothing, and bound to who asked and for what."""

import base64
import binascii
import os
from hashlib import blake2b

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ruqsat.core.journal_filter import Spot
from ruqsat.errors import RequestError

_NONCE = 12


class CursorRefusedError(RequestError):
    """The cursor is not one of this question of this caller."""

    code = "cursor-refused"


class PageCursors:
    """
    Cursors under a key of their own, derived from the store's token key.

    Examples:
        >>> cursors = PageCursors(bytes(32))
        >>> text = cursors.seal(Spot(1, "w", 2, 3), b"anna's journal, for anna")
        >>> cursors.open(text, b"anna's journal, for anna")
        Spot(at=1, writer='w', segment=2, number=3)
        >>> cursors.open(text, b"berik's journal, for berik")
        Traceback (most recent call last):
        ...
        ruqsat.service.page_cursor.CursorRefusedError: the cursor is not one of this question
    """

    def __init__(self, token_key: bytes) -> None:
        """Derive the key."""
        self._cipher = AESGCM(blake2b(b"ruqsat journal page", key=token_key, digest_size=32).digest())

    def seal(self, spot: Spot, binding: bytes) -> str:
        """Return the cursor that goes on after *spot*, for *binding* alone."""
        nonce = os.urandom(_NONCE)
        return base64.urlsafe_b64encode(
            nonce + self._cipher.encrypt(nonce, msgspec.json.encode(spot), binding)
        ).decode()

    def open(self, text: str, binding: bytes) -> Spot:
        """
        Return where to go on.

        Raises:
            CursorRefusedError: it was given to somebody else, for something else, or by nobody.
        """
        try:
            sealed = base64.b64decode(text.encode(), altchars=b"-_", validate=True)
            said = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], binding)
        except (InvalidTag, ValueError, binascii.Error):
            raise CursorRefusedError("the cursor is not one of this question") from None
        return msgspec.json.decode(said, type=Spot)
