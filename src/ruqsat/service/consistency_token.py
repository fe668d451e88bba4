"""
Consistency tokens: a position that a caller may carry, sealed so that it cannot be made up.

A forged position far ahead would deny a patient's access for as long as the
caller likes; one far back would quietly promise nothing.
"""

import hmac
import re
from hashlib import blake2b

from ruqsat.core.facts import Position
from ruqsat.errors import RequestError

_SHAPE = re.compile(r"([0-9a-f]{1,32})\.(0|[1-9][0-9]{0,17})\.([0-9a-f]{24})")


class TokenSeal:
    """
    Writes and reads tokens under one key.

    Examples:
        >>> seal = TokenSeal(bytes(32))
        >>> token = seal.issue(Position("5eed", 42))
        >>> seal.read(token)
        Position(epoch='5eed', seq=42)
        >>> seal.read(token.replace("42", "43"))
        Traceback (most recent call last):
        ...
        ruqsat.errors.RequestError: the consistency token is not one of ours
    """

    def __init__(self, key: bytes) -> None:
        """Keep *key*, of 16 to 64 bytes."""
        self._key = key
        self._last: tuple[Position, str] | None = None

    def issue(self, position: Position) -> str:
        """Return the token of *position*; the last one is remembered."""
        last = self._last
        if last is not None and last[0] == position:
            return last[1]
        said = f"{position.epoch}.{position.seq}"
        text = f"{said}.{self._mac(said)}"
        self._last = (position, text)
        return text

    def read(self, text: str) -> Position:
        """
        Return the position in *text*.

        Raises:
            RequestError: *text* is not a token of ours.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None or not hmac.compare_digest(self._mac(f"{shape[1]}.{shape[2]}"), shape[3]):
            raise RequestError("the consistency token is not one of ours")
        return Position(shape[1], int(shape[2]))

    def _mac(self, said: str) -> str:
        return blake2b(said.encode(), key=self._key, digest_size=12, person=b"ruqsat-token").hexdigest()
