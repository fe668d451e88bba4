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
from ruqsat.service.barrier import Row
from tests.freshness.database import Database
from tests.freshness.hints import Parts, Shared
from tests.freshness.sidecar import LEASE, Keys, Sidecar, Token, Values

EPISODE = 25_000
"""Steps of one history; then another begins, with the next seed."""


class Shape(NamedTuple):
    """
    How many sidecars, and how many keys: two or three.

    ``comings``: sidecars come and go, the database fails over and barriers look so often that a lease is long beside it.
    """

    sidecars: int
    keys: int
    comings: bool = False


USUAL = Parts()


class Outcome(NamedTuple):
    """
    How many steps were done, decisions begun, allows sent, barriers that ended before a lease; and what ended it, or "".
    """

    steps: int
    begun: int
    served: int
    acknowledged: int
    violation: str


class ViolationError(Exception):
    """Something was sent that must not have been."""


class Model:
    """
    One history.

    ``begun`` and ``served`` count decisions.  ``now`` is everybody's boot time, in ticks; a pause is time that passes
    while a process does nothing.  ``registry`` is the table by which a barrier
    may end early: of each run of a sidecar, the row that it wrote last.
    """

    def __init__(self, seed: int, shape: Shape, parts: Parts = USUAL, mistakes: frozenset[str] = frozenset()) -> None:
        """Begin with nobody knowing anything."""
        self.seed, self.keys, self.comings = seed, shape.keys, shape.comings
        self.chance = Random(seed)
        self.now = self.steps = self.begun = self.served = 0
        self.database = Database(
            self.chance,
            shape.keys,
            bigserial="BIGSERIAL" in mistakes,
            keeps_epoch="failover keeps the epoch" in mistakes,
        )
        self.shared: Shared = parts.shared(self.chance)
        self.tokens: list[Token] = []
        self.registry: dict[str, Row] = {}
        self.acknowledged = 0
        self._registry_copy: dict[str, Row] = {}
        self._random = self.chance.random
        self.sidecars = [Sidecar(number, self, parts, mistakes) for number in range(shape.sidecars)]
        self._actions = self._table()

    def _table(self) -> list[Callable[[], None]]:
        """Every action as often as its weight; those of sidecars once for each."""
        table: list[Callable[[], None]] = []
        for each in self.sidecars:
            for action, weight in (
                (each.decide, 14), (each.probe, 8), (each.fill, 8), (each.hear, 4), (each.acknowledge, 2), (each.wait, 4),
            ):  # fmt: skip
                often = 8 if self.comings and action in (each.acknowledge, each.wait) else 1
                table += [self._awake(each, action)] * (weight * often)
        for world, weight in (
            (self._tick, 3 if self.comings else 16), (self._write, 4 if self.comings else 3), (self._replicate, 2), (self._token, 1), (self._trouble, 0 if self.comings else 1),
            (self._come_and_go, 1 * self.comings),
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
        if self._random() < 0.85:  # else the writer died before it told Redis
            for seq, name in enumerate(names, position.seq - len(names) + 1):
                for each in self.sidecars:
                    each.mailbox.add((seq, name))

    def _replicate(self) -> None:
        self.database.replicate()
        if self.database.standby == len(self.database.commits) - 1:
            self._registry_copy = dict(self.registry)

    def declare_visible(self, sidecar: Sidecar, values: Values, acknowledged: bool) -> None:
        """A barrier of *sidecar* tells its caller that these values are in force everywhere else."""
        self.acknowledged += acknowledged
        for each in self.sidecars:
            if each is not sidecar:
                each.raise_floor(values)

    def drop_silent(self, silent: list[tuple[str, int]]) -> None:
        """Take rows out of the registry, unless they were written again."""
        for id_, beat in silent:
            if id_ in self.registry and self.registry[id_][3] == beat:
                del self.registry[id_]

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
        if dice < 0.4:
            each.paused_until = self.now + int(self._random() * 1.5 * LEASE)
        elif dice < 0.5:
            each.restart()
        elif dice < 0.85:
            self.shared.disturb()
        else:
            self._fail_over(int(self._random() * 4) if dice > 0.93 else 0)

    def _fail_over(self, back: int) -> None:
        self.database.fail_over(back, self.now)
        self.registry = dict(self._registry_copy)

    def _come_and_go(self) -> None:
        dice = self._random()
        if dice < 0.8:
            return
        if dice < 0.82:
            self._trouble()
        elif dice < 0.86:
            self._fail_over(0)
        else:
            each = self.sidecars[int(self._random() * len(self.sidecars))]
            self.registry.pop(each.id, None)  # it stops cleanly, and says so
            each.restart()

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
    begun = served = acknowledged = 0
    for done in range(0, steps, EPISODE):
        model = Model(seed + done // EPISODE, shape, parts, mistakes)
        try:
            model.run(min(EPISODE, steps - done))
        except ViolationError as violation:
            totals = (begun + model.begun, served + model.served, acknowledged + model.acknowledged)
            return Outcome(done + model.steps, *totals, str(violation))
        begun += model.begun
        served += model.served
        acknowledged += model.acknowledged
    return Outcome(steps, begun, served, acknowledged, "")
