"""
The body of a notice in the outbox: its facts, sealed under the record key where there is one.

They name who acted.  Without a key they stand as they are: opaque ids, as in the journal.
"""

import msgspec

from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import Claimed
from ruqsat.service.record_seal import RecordSeal, RecordUnreadableError

_OPEN, _SEALED = b"\x00", b"\x01"
_VERSION = 1

_read = msgspec.json.Decoder(dict[str, str])


class NoticeBodies:
    """
    Closes and opens; a body moved to another notice or patient does not open.

    Examples:
        >>> NoticeBodies(None).close(Notice("k", "e", "use", "patient", "p1", None, None, {"by": "s"}, 0))
        b'\\x00{"by":"s"}'
    """

    def __init__(self, seal: RecordSeal | None) -> None:
        self._seal = seal

    def close(self, notice: Notice) -> bytes:
        """Return the facts of *notice* as they are kept."""
        text = msgspec.json.encode(notice.facts)
        if self._seal is None:
            return _OPEN + text
        return _SEALED + self._seal.close(text, notice.patient or "", notice.key, _VERSION)

    def resealed(self, key: str, patient: str | None, body: bytes) -> bytes | None:
        """
        Return *body* under the newest key; None if it is so already, or was never sealed.

        Raises:
            RecordUnreadableError: it opens under no key.
        """
        kind, box = body[:1], body[1:]
        if kind != _SEALED or self._seal is None or self._seal.is_current(box):
            return None
        text = self._seal.open(box, patient or "", key, _VERSION)
        return _SEALED + self._seal.close(text, patient or "", key, _VERSION)

    def open(self, notice: Claimed) -> dict[str, str]:
        """
        Return the facts of a notice.

        Raises:
            RecordUnreadableError: it was changed, moved, or closed under another key.
        """
        kind, rest = notice.body[:1], notice.body[1:]
        if kind == _SEALED and self._seal is not None:
            rest = self._seal.open(rest, notice.patient or "", notice.key, _VERSION)
        elif kind != _OPEN:
            raise RecordUnreadableError("the facts of a notice do not open without their key")
        try:
            return _read.decode(rest)
        except msgspec.MsgspecError:
            raise RecordUnreadableError("the facts of a notice cannot be read") from None
