"""
L1: what was read of one kind of thing, with the position it was read at.

It forgets the least recently used when it is full, and judges nothing: whether
an entry may be used is the rule's business (``service.freshness``).

What was used lately lies open, as the decision wants it; the rest lies packed, in a
quarter of the memory, and is opened when it is asked for: some twenty microseconds,
and as many until what follows from the facts is worked out anew.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from ruqsat.core.facts import PatientFacts, Position, SubjectFacts

FactsT = TypeVar("FactsT", SubjectFacts, PatientFacts)

OPEN = 1024
"""How many entries lie open, the most recently used."""

_log = logging.getLogger(__name__)
_pack = msgspec.msgpack.Encoder().encode

# Measured: open facts take about six times their packed length; an entry with its keys and places some 500 bytes.
_GROWTH = 6
_OVERHEAD = 500


class Entry(Generic[FactsT]):
    """One value (None is "nobody by that id"), its key in the feed, and the position of its snapshot."""

    __slots__ = ("as_of", "cost", "key", "value")

    def __init__(self, key: str, value: FactsT | None, as_of: Position, length: int) -> None:
        """Take a *value* of so many bytes, packed; ``cost`` is in bytes of memory, roughly."""
        self.key = key
        self.value: FactsT | None = value
        self.as_of = as_of
        self.cost = _OVERHEAD + _GROWTH * length


class Packed(NamedTuple):
    """An entry put away: the position of its snapshot, and its value as bytes, none for "nobody by that id"."""

    as_of: Position
    body: bytes


class _Opened(OrderedDict[str, Entry[FactsT]], Generic[FactsT]):
    """The open entries; one that is not there is opened, if it is packed, or else reads as None."""

    def __init__(self, open_: Callable[[str], Entry[FactsT] | None]) -> None:
        super().__init__()
        self._open: Callable[[str], Entry[FactsT] | None] = open_

    def __missing__(self, id_: str) -> Entry[FactsT] | None:
        return self._open(id_)


class FactCache(Generic[FactsT]):
    """
    A bounded map from ids to entries; ``weight`` is what they cost, in bytes.

    ``look`` returns the entry of an id or None; ``touch`` makes an id that was
    just found the most recently used.  Both are the map's own, for the hot path.
    """

    def __init__(self, kind: str, of: type[FactsT], max_entries: int, max_bytes: int) -> None:
        """Begin empty; *kind* is what the feed writes before the id. Whichever bound is met first holds."""
        self.weight = 0
        self._opened: _Opened[FactsT] = _Opened(self._open)
        self._packed: OrderedDict[str, Packed] = OrderedDict()
        self.look: Callable[[str], Entry[FactsT] | None] = self._opened.__getitem__
        self.touch: Callable[[str], None] = self._opened.move_to_end
        self._kind = kind
        self._unpack: Callable[[bytes], FactsT] = msgspec.msgpack.Decoder(of).decode
        self._max_entries = max_entries
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._opened) + len(self._packed)

    def keep(self, id_: str, value: FactsT | None, as_of: Position) -> None:
        """Keep *value* unless a newer reading of the same epoch is here already, or it cannot be packed."""
        before = self._opened.get(id_) or self._packed.get(id_)
        if before is not None:
            if before.as_of.epoch == as_of.epoch and before.as_of.seq >= as_of.seq:
                return
            self._drop(id_)
        try:
            length = len(_body(value))
        except OverflowError:  # a number of more than 64 bits, from before such were refused: read anew each time
            _log.error("facts_not_kept kind=%s", self._kind)
            return
        self._put(id_, value, as_of, length)

    def clear(self) -> None:
        """Forget everything."""
        self._opened.clear()
        self._packed.clear()
        self.weight = 0

    def _open(self, id_: str) -> Entry[FactsT] | None:
        packed = self._packed.get(id_)
        if packed is None:
            return None
        as_of, body = packed
        value = self._unpack(body) if body else None
        self._drop(id_)
        return self._put(id_, value, as_of, len(body))

    def _put(self, id_: str, value: FactsT | None, as_of: Position, length: int) -> Entry[FactsT]:
        entry = self._opened[id_] = Entry(f"{self._kind}:{id_}", value, as_of, length)
        self.weight += entry.cost
        if len(self._opened) > OPEN:
            self._put_away()
        while len(self) > self._max_entries or self.weight > self._max_bytes:
            self._drop(next(iter(self._packed or self._opened)))
        return entry

    def _put_away(self) -> None:
        """Pack the open entry that was used longest ago."""
        id_, entry = self._opened.popitem(last=False)
        body = _body(entry.value)
        self._packed[id_] = Packed(entry.as_of, body)
        self.weight += _OVERHEAD + len(body) - entry.cost

    def _drop(self, id_: str) -> None:
        opened = self._opened.pop(id_, None)
        if opened is not None:
            self.weight -= opened.cost
        else:
            self.weight -= _OVERHEAD + len(self._packed.pop(id_).body)


def _body(value: SubjectFacts | PatientFacts | None) -> bytes:
    return b"" if value is None else _pack(value)
