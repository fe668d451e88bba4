"""
Planted mistakes: each takes one guard out of the protocol.

Those of the product's ``Freshness`` are planted in its source; those of what
stands around it are switches of the model, known by their names.
"""

from typing import NamedTuple

from ruqsat.service import barrier, freshness, probe
from tests.freshness.hints import Parts, by_hand
from tests.freshness.model import USUAL, Outcome, Shape, check
from tests.mutants import plant


class Mistake(NamedTuple):
    """One guard missing: what is exchanged in a sidecar, and the model's switches."""

    parts: Parts = USUAL
    switches: frozenset[str] = frozenset()

    def check(self, seed: int, steps: int, shape: Shape) -> Outcome:
        """Run the model with this mistake in it."""
        return check(seed, steps, shape, self.parts, self.switches)


def _switch(name: str) -> Mistake:
    return Mistake(switches=frozenset([name]))


def _planted(right: str, wrong: str) -> Mistake:
    return Mistake(Parts(freshness=plant(freshness, right, wrong).Freshness))


def _in_barrier(right: str, wrong: str) -> Mistake:
    return Mistake(Parts(wait=plant(barrier, right, wrong).Wait))


def _in_probe(right: str, wrong: str) -> Mistake:
    return Mistake(Parts(probe=by_hand(plant(probe, right, wrong))))


SWITCHES = (
    "lease tested at start",
    "evict-only cache",
    "L2 trusted",
    "derived re-stamp",
    "BIGSERIAL",
    "replica probe",
    "failover keeps the epoch",
    "newest of the inputs",
)

MISTAKES = {name: _switch(name) for name in SWITCHES} | {
    "lease at receive": _in_probe("(head, changes, sent_at, asked)", "(head, changes, self._boottime(), asked)"),
    "max instead of contiguous": _planted(
        "self._early.add(seq)\n            self._advance()", "self.applied = seq"
    ),
    "no epoch": _planted("if as_of.epoch != self.epoch or seq < self.win:", "if seq < self.win:"),
    "window dropped": _planted("self.win = max(self.win, dropped)", "pass"),
    "flush keeps window": _planted("self.applied = self.win = self._newest", "self.applied = self._newest"),
    "token of any position": _planted("max(self.applied, seq) >= token.seq", "True"),
    "own change not learnt": _planted("for seq, key in enumerate(keys, position", "for seq, key in enumerate((), position"),
    "own change keeps the lease": _planted("self._forget(position)\n            self.lease = _NEVER", "self._forget(position)"),
    "incomplete changes taken": _planted("return len(changes) == head - since and all(", "return True or all("),
}  # fmt: skip
"""Found by the random model."""

IN_BARRIERS = {
    "registers after the first lease": _switch("registers after the first lease"),
    "registers in the transaction of the reading": _switch("registers in the transaction of the reading"),
    "barrier shorter than a lease": _in_barrier("now - self._committed_at > self._lease + self._margin", "True"),
    "silent rows not waited for": _in_barrier(
        "all(self._has_it(known) for _, known, _, _ in rows)",
        "all(self._has_it(known) or self._first.get(id_) == beat for id_, known, _, beat in rows)",
    ),
    "rows dropped that were written again": _in_barrier("if first.get(id_) == beat and not", "if not"),
}
"""Found by it where sidecars come and go; the others of a barrier have scenarios of their own."""


RARE = {
    "asked at receive": _in_probe("(head, changes, sent_at, asked)", "(head, changes, sent_at, self._freshness.ask())"),
    "hint taken for knowledge": _planted(
        "if seq <= self.applied:\n            return\n        hinted", "self.learn(seq, key)\n        hinted"
    ),
}
"""Found by it once in about a million steps; each has a scenario of its own besides."""
