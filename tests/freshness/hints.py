"""
What Redis does in the model: a stream of hints, and a copy of what was read.

The copy is after the design's text; what is heard is taken in by the product's ``Freshness``, and probes are sent
by its ``Probe``.  ``Parts`` is where a planted mistake takes the place of any of them.
"""

from contextlib import nullcontext
from logging import CRITICAL, Logger
from random import Random
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

from ruqsat.core.facts import Position
from ruqsat.service import probe
from ruqsat.service.barrier import Wait
from ruqsat.service.freshness import Freshness
from ruqsat.service.probe import Probe
from tests.mutants import plant

Hint = tuple[int, str]
"""Number and name; of whatever epoch, for what a hint says need not be true."""

Reading = tuple[Position, int]
"""The position of the snapshot, and the value of one key in it."""


def by_hand(module: ModuleType) -> type[Probe]:
    """Return the probe of a copy of its module as one that needs no loop, so that it goes on when the model says so."""
    vars(module).update(asyncio=SimpleNamespace(timeout=lambda _: nullcontext()), _log=Logger("unread", CRITICAL + 1))
    return module.Probe  # type: ignore[no-any-return]


class Mailbox:
    """The stream as one reader gets it: entries are lost, doubled and out of order."""

    __slots__ = ("_random", "hints")

    def __init__(self, chance: Random) -> None:
        """Begin empty."""
        self.hints: list[Hint] = []
        self._random = chance.random

    def add(self, hint: Hint) -> None:
        """Lose it, or keep it; the oldest are trimmed."""
        if self._random() < 0.8:
            self.hints.append(hint)
            if len(self.hints) > 12:
                del self.hints[0]

    def take(self) -> Hint:
        """Return any one; it may come again."""
        at = int(self._random() * len(self.hints))
        return self.hints[at] if self._random() < 0.15 else self.hints.pop(at)


class Shared:
    """The copy in Redis, that all read and write; it may be rolled back, or lose everything, at any time."""

    __slots__ = ("_entries", "_random", "_snapshots")

    def __init__(self, chance: Random) -> None:
        """Begin empty."""
        self._entries: dict[int, Reading] = {}
        self._snapshots: list[dict[int, Reading]] = []
        self._random = chance.random

    def get(self, key: int) -> Reading | None:
        """Return what is there; whether it may be used is the reader's business."""
        return self._entries.get(key)

    def put(self, key: int, reading: Reading) -> None:
        """Keep it unless a newer one of the same epoch is there."""
        before = self._entries.get(key)
        if before is None or before[0].epoch != reading[0].epoch or before[0].seq < reading[0].seq:
            self._entries[key] = reading

    def disturb(self) -> None:
        """Save a snapshot, return to an old one, or lose everything."""
        dice = self._random()
        if dice < 0.5:
            self._snapshots.append(dict(self._entries))
            del self._snapshots[:-4]
        elif dice < 0.9 and self._snapshots:
            self._entries = dict(self._snapshots[int(self._random() * len(self._snapshots))])
        else:
            self._entries = {}


class Parts(NamedTuple):
    """What of a sidecar can be exchanged: by the product's code, or by a planted mistake."""

    freshness: type[Freshness] = Freshness
    shared: type[Shared] = Shared
    wait: type[Wait] = Wait
    probe: type[Probe] = by_hand(plant(probe, "class Probe:", "class Probe:"))
