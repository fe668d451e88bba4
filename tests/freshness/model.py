"""
A random model of the protocol: a few sidecars, one database, one Redis, and everything that can go wrong between.

Every step is one thing that happens, drawn at random from a seed.  Whenever a
sidecar SENDS an allow, the model knows what was true when, and tells whether

- it reflects every change committed a lease ago or earlier;
- with a consistency token, it reflects at least what the token stands for;
- it reflects every change that this sidecar acknowledged to a caller of its own;
- it reflects every change that a barrier (``wait=visible``) declared visible.

A failover that loses changes is itself a change, at its moment, of all that it
undid.  What was undone need not be seen any more.
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from ruqsat.core.facts import Position
from tests.freshness.database import Database
from tests.freshness.hints import Parts, Shared
from tests.freshness.sidecar import LEASE, Keys, Sidecar, Token, Values

EPISODE = 25_000
"""Steps of one history; then another begins, with the next seed."""

Shape = tuple[int, int]
"""How many sidecars, and how many keys: two or three."""

USUAL = Parts()


class Outcome(NamedTuple):
    """How many steps were done, decisions begun and allows sent; and the violation that ended it, or ""."""

    steps: int
    begun: int
    served: int
    violation: str


class ViolationError(Exception):
    """Something was sent that must not have been."""


class Model:
    """
    One history.

    ``begun`` and ``served`` count decisions.  ``now`` is everybody's boot time, in ticks; a pause is time that passes
    while a process does nothing.  ``registry`` is the table by which a barrier
    may end early: of each sidecar, how far it was and when it said so.
    """

    def __init__(self, seed: int, shape: Shape, parts: Parts = USUAL, mistakes: frozenset[str] = frozenset()) -> None:
        """Begin with nobody knowing anything."""
        sidecars, keys = shape
        self.seed, self.keys = seed, keys
        self.chance = Random(seed)
        self.now = self.steps = self.begun = self.served = 0
        self.database = Database(
            self.chance, keys, bigserial="BIGSERIAL" in mistakes, keeps_epoch="failover keeps the epoch" in mistakes
        )
        self.shared: Shared = parts.shared(self.chance)
        self.tokens: list[Token] = []
        self.registry: dict[int, tuple[Position, int]] = {}
        self._registry_copy: dict[int, tuple[Position, int]] = {}
        self._waiting: list[tuple[Position, int, Values]] = []
        self._hasty = "registry trusted after a failover" in mistakes
        self._random = self.chance.random
        self.sidecars = [Sidecar(number, self, parts, mistakes) for number in range(sidecars)]
        self._actions = self._table()

    def _table(self) -> list[Callable[[], None]]:
        """Every action as often as its weight; those of sidecars once for each."""
        table: list[Callable[[], None]] = []
        for each in self.sidecars:
            for action, weight in (
                (each.decide, 14), (each.probe, 6), (each.fill, 8), (each.hear, 4), (each.acknowledge, 1),
            ):  # fmt: skip
                table += [self._awake(each, action)] * weight
        for world, weight in (
            (self._tick, 16), (self._write, 3), (self._replicate, 2), (self._barrier, 2), (self._token, 1), (self._trouble, 1),
        ):  # fmt: skip
            table += [world] * weight
        return table

    def _awake(self, sidecar: Sidecar, action: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            if sidecar.paused_until <= self.now:
                action()

        return act

    def run(self, steps: int) -> None:
        """
        Let so many things happen.

        Raises:
            ViolationError: an invariant does not hold; it tells which, and when.
        """
        actions, dice, count = self._actions, self._random, len(self._actions)
        began = self.steps
        for self.steps in range(began + 1, began + steps + 1):
            actions[int(dice() * count)]()

    # -- The world -----------------------------------------------------------

    def _tick(self) -> None:
        self.now += 1 if self._random() < 0.98 else int(self._random() * 2 * LEASE)

    def _write(self) -> None:
        database = self.database
        if not database.open or (len(database.open) < 3 and self._random() < 0.5):
            database.begin(int(self._random() * len(self.sidecars)))
            return
        if self._random() < 0.05:
            database.open.pop()  # rolled back
            return
        who, position, names = database.commit(self.now)
        if self._random() < 0.8:
            self.sidecars[who].replies.append((position, names, database.vector))
            del self.sidecars[who].replies[:-3]
        if self._random() < 0.3:
            self._waiting.append((position, self.now, database.vector))
        if self._random() < 0.85:  # else the writer died before it told Redis
            for seq, name in enumerate(names, position.seq - len(names) + 1):
                for each in self.sidecars:
                    each.mailbox.add((position.epoch, seq, name))

    def _replicate(self) -> None:
        self.database.replicate()
        if self.database.standby == len(self.database.commits) - 1:
            self._registry_copy = dict(self.registry)

    def _barrier(self) -> None:
        """One waiting writer looks whether its change is visible everywhere."""
        if not self._waiting:
            return
        position, committed, values = self._waiting.pop(int(self._random() * len(self._waiting)))
        if self.now - committed > LEASE or self._all_have(position):
            for each in self.sidecars:
                each.raise_floor(values)
        else:
            self._waiting.append((position, committed, values))
            del self._waiting[:-4]

    def _all_have(self, position: Position) -> bool:
        # A failover may have lost the rows of sidecars that still hold a lease, so for a lease nobody trusts the table.
        if self.now - self.database.epoch_began <= LEASE and self.database.epochs > 1 and not self._hasty:
            return False
        rows = [known for known, at in self.registry.values() if self.now - at <= LEASE]
        return all(known.epoch == position.epoch and known.seq >= position.seq for known in rows)

    def _token(self) -> None:
        """A sidecar, or a writer, gives its caller a token."""
        each = self.sidecars[int(self._random() * len(self.sidecars))]
        database = self.database
        head = Position(database.epoch, database.head)
        position = each.freshness.position if self._random() < 0.5 else head
        if position.epoch == database.epoch and position.seq in database.feed:
            self.tokens.append((each.freshness.issue_token(position), database.feed[position.seq][1]))
            del self.tokens[:-5]

    def _trouble(self) -> None:
        dice = self._random()
        each = self.sidecars[int(self._random() * len(self.sidecars))]
        if dice < 0.45:
            each.paused_until = self.now + int(self._random() * 1.5 * LEASE)
        elif dice < 0.5:
            each.restart()
        elif dice < 0.85:
            self.shared.disturb()
        else:
            self.database.fail_over(int(self._random() * 4) if dice > 0.93 else 0, self.now)
            self.registry = dict(self._registry_copy)

    # -- What must hold ------------------------------------------------------

    def sent(self, sidecar: Sidecar, keys: Keys, values: Values, token: Token | None) -> None:
        """
        Judge an allow that *sidecar* sends now, on these values.

        Raises:
            ViolationError: it must not have been sent.
        """
        self.served += 1
        gone, limit, lost = self.database.gone, self.now - LEASE, self.database.lost
        for key, value in zip(keys, values, strict=True):
            if gone[value] <= limit:
                self._fail(sidecar, f"key {key}: {value} was replaced at {gone[value]}")
            if token is not None and value < token[1][key]:
                self._fail(sidecar, f"key {key}: {value} is older than the token's {token[1][key]}")
            floor = sidecar.floor[key]
            if value < floor and floor not in lost:
                self._fail(sidecar, f"key {key}: {value} is older than {floor}, which was promised")

    def _fail(self, sidecar: Sidecar, why: str) -> None:
        where = f"seed {self.seed}, step {self.steps}, tick {self.now}, sidecar {sidecar.number}"
        raise ViolationError(f"{where}: {why}")


def check(seed: int, steps: int, shape: Shape, parts: Parts = USUAL, mistakes: frozenset[str] = frozenset()) -> Outcome:
    """Run so many steps, an episode at a time, up to the first violation."""
    begun = served = 0
    for done in range(0, steps, EPISODE):
        model = Model(seed + done // EPISODE, shape, parts, mistakes)
        try:
            model.run(min(EPISODE, steps - done))
        except ViolationError as violation:
            return Outcome(done + model.steps, begun + model.begun, served + model.served, str(violation))
        begun += model.begun
        served += model.served
    return Outcome(steps, begun, served, "")
