"""
L1: what was read of one kind of thing, with the position it was read at.

It forgets the least recently used when it is full, and judges nothing: whether
an entry may be used is the rule's business (``service.freshness``).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from ruqsat.core.facts import PatientFacts, Position, SubjectFacts

FactsT = TypeVar("FactsT", SubjectFacts, PatientFacts)

_encode = msgspec.json.Encoder().encode

# Measured: decoded facts take about four times their encoded length; the entry and its keys some 500 bytes.
_GROWTH = 4
_OVERHEAD = 500


class Entry(Generic[FactsT]):
    """One value (None is "nobody by that id"), its key in the feed, and the position of its snapshot."""

    __slots__ = ("as_of", "cost", "key", "value")

    def __init__(self, key: str, value: FactsT | None, as_of: Position) -> None:
        """Weigh *value*, to bytes of memory, roughly."""
        self.key = key
        self.value: FactsT | None = value
        self.as_of = as_of
        self.cost = _OVERHEAD + (0 if value is None else _GROWTH * len(_encode(value)))


class FactCache(Generic[FactsT]):
    """
    A bounded map from ids to entries; ``weight`` is what they cost, in bytes.

    ``look`` returns the entry of an id or None; ``touch`` makes an id that is
    there the most recently used.  Both are the map's own, for the hot path.
    """

    def __init__(self, kind: str, max_entries: int, max_bytes: int) -> None:
        """Begin empty; *kind* is what the feed writes before the id. Whichever bound is met first holds."""
        self.weight = 0
        self._entries: OrderedDict[str, Entry[FactsT]] = OrderedDict()
        self.look: Callable[[str], Entry[FactsT] | None] = self._entries.get
        self.touch = self._entries.move_to_end
        self._kind = kind
        self._max_entries = max_entries
        self._max_bytes = max_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def keep(self, id_: str, value: FactsT | None, as_of: Position) -> None:
        """Keep *value* unless a newer reading of the same epoch is here already."""
        entries = self._entries
        before = entries.get(id_)
        if before is not None:
            if before.as_of.epoch == as_of.epoch and before.as_of.seq >= as_of.seq:
                return
            self.weight -= before.cost
        entry = entries[id_] = Entry(f"{self._kind}:{id_}", value, as_of)
        entries.move_to_end(id_)
        self.weight += entry.cost
        while len(entries) > self._max_entries or self.weight > self._max_bytes:
            _, dropped = entries.popitem(last=False)
            self.weight -= dropped.cost

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.weight = 0
