"""Sidecars with one guard missing each: ``python planted.py <name> serve …``; an enforcement of nothing, for tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ruqsat import wiring
from ruqsat.cli.main import run
from ruqsat.service import freshness, sharing
from ruqsat.service.record_seal import RecordSeal
from tests.mutants import plant

_LEASE = "return now_boottime - self.lease < self._lease_for\n\n    def _covers"
_UNTESTED = "if as_of.epoch != self.epoch or seq < self.win:\n            return False\n        recent"
_COPIES = "one, other = await self._copies.look(subject, patient)"
_STAMPED = (
    "one, other = [each and (each[0], self._freshness.position) for each in await self._copies.look(subject, patient)]"
)

FRESHNESS = {
    "lease ignored": (_LEASE, _LEASE.replace("now_boottime - self.lease < self._lease_for", "True")),
    "lease renewed by hints": (
        "hinted.move_to_end(key)\n", "hinted.move_to_end(key)\n        self.lease = now_boottime\n",
    ),
    "cached entry never tested": (
        _UNTESTED, "return now_boottime - self.lease < self._lease_for\n        recent",
    ),
    "token ignored": ("return self._seal.read(text)", "return Position(self.epoch, 0)"),
}  # fmt: skip


def plant_in_freshness(right: str, wrong: str) -> None:
    """Let the process be built with a rule of freshness that has this mistake."""
    wiring.Freshness = plant(freshness, right, wrong).Freshness  # type: ignore[misc]


def trust_copies() -> None:
    """Take what Redis holds for as fresh as what is known."""
    wiring.Sharing = plant(sharing, _COPIES, _STAMPED).Sharing  # type: ignore[misc]


def leave_unsealed() -> None:
    """Keep what names people as it came."""
    RecordSeal.close = lambda _seal, text, *_: text  # type: ignore[method-assign]
    RecordSeal.open = lambda _seal, box, *_: box  # type: ignore[method-assign]


if __name__ == "__main__":
    name = sys.argv.pop(1)
    if name == "copies trusted without position":
        trust_copies()
    elif name == "records not sealed":
        leave_unsealed()
    else:
        plant_in_freshness(*FRESHNESS[name])
    run()
