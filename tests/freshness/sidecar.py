"""
One process in the model: the product's ``Freshness`` and ``Probe`` in it, and around them what carries things in and out.

Each loop goes one step at a time, so that anything can happen in between: a
probe is sent, registered, executed and received, a fill and a look at the
registry are sent, executed and received (or lost on the way); a decision is evaluated, its entry made durable, then tested and sent.  That last
test and the sending are one step, as there is no await between them.
"""

from collections.abc import Coroutine, Generator, Sequence
from itertools import count
from types import SimpleNamespace, coroutine
from typing import TYPE_CHECKING, Any

from ruqsat.core.facts import Position
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.barrier import Row, Wait
from ruqsat.service.freshness import ALL, ProbeNews
from tests.freshness.database import NAMES
from tests.freshness.hints import Mailbox, Parts, Reading

if TYPE_CHECKING:
    from tests.freshness.model import Model

LEASE = 30
"""In ticks of the model's clock, which is everybody's boot time."""

TOKEN_KEY = bytes(32)
RECENT = 2
"""So few changed keys are remembered that the window moves."""

QUESTIONS = (
    ((0,), (1,), (0, 1)),
    ((0,), (1,), (2,), (0, 1), (1, 2)),
)
"""Which keys a decision reads: of two keys, of three."""

NAMES_OF: dict[tuple[int, ...], tuple[str, ...]] = {
    keys: tuple([NAMES[key] for key in keys]) for shape in QUESTIONS for keys in shape
}

Keys = tuple[int, ...]
Values = tuple[int, ...]
Token = tuple[str, Values]
"""What the caller carries, and the values that it stands for."""

Decision = tuple[Keys, Position, Values, Token | None, bool, bool, int]
"""Keys, position, values, token, whether it is durable, whether it is the second attempt, when it began."""

Answer = tuple[Position, tuple[tuple[int, str], ...]]
Look = tuple[int, tuple[str, tuple[Row, ...]] | None]
"""When it began, and what it found."""

_runs = count()


class Sidecar:
    """
    One process.

    ``floor``: of each key, the value that its callers must see: one it wrote
    itself and acknowledged, or one that a barrier declared visible.
    """

    def __init__(self, number: int, model: "Model", parts: Parts, mistakes: frozenset[str]) -> None:
        """Start for the first time."""
        self.number = number
        self.model = model
        self.mailbox = Mailbox(model.chance)
        self.floor = [0] * model.keys
        self.paused_until = 0
        self._questions = QUESTIONS[model.keys - 2]
        self._random = model.chance.random
        self._parts = parts
        self._lease_at_start = "lease tested at start" in mistakes
        self._evict_only = "evict-only cache" in mistakes
        self._trusts_shared = "L2 trusted" in mistakes
        self._restamps = "derived re-stamp" in mistakes
        self._newest_input = "newest of the inputs" in mistakes
        self._asks_standby = "replica probe" in mistakes
        self._registers_late = "registers after the first lease" in mistakes
        self._registers_beside = "registers in the transaction of the reading" in mistakes
        self.restart()

    def restart(self) -> None:
        """Lose all that was in memory and under way; what callers were promised stays promised."""
        self.freshness = self._parts.freshness(TOKEN_KEY, lease_for=LEASE, recent_limit=RECENT)
        self.known: dict[int, Reading] = {}
        self.derived: dict[Keys, tuple[Position, Values]] = {}
        self.replies: list[tuple[Position, tuple[str, ...], Values]] = []
        self._era = self.freshness.era
        self.id = str(next(_runs))
        self.beat = 0
        self.known_since = self.model.now
        clock = SimpleNamespace(boottime=lambda: self.model.now)
        self._probes = self._parts.probe(self, self.freshness, clock, self._told)
        self._probe: Coroutine[Any, Any, None] | None = None
        self._waits: list[tuple[Wait, Position, Values, Look | None]] = []
        self._fills: list[tuple[Keys, int, tuple[Position, Values] | None]] = []
        self._open: list[Decision] = []

    # -- What changed --------------------------------------------------------

    def probe(self) -> None:
        """Send a probe, let the database register us and then answer, or receive its answer; each may be the last."""
        if self._probe is None:
            self._probe = self._probes._send(1)
        try:
            self._probe.send(None)
        except (StopIteration, StoreUnavailableError):
            self._probe = None
        else:
            if self._random() < 0.05:
                self._probe = None

    @coroutine
    def fetch_changes(self, since: Position) -> Generator[None, None, Answer]:
        """Answer our probe, as ``service.probe.Feed`` promises; the model goes on in between."""
        model, answer = self.model, None
        yield
        if self._registers_beside:
            answer = model.database.changes(since, False)  # and committed, with the row, later
        elif self.freshness.era or not self._registers_late:
            self._register(since)
        yield
        if answer is None:
            on_standby = self._random() < 0.1
            if on_standby and not self._asks_standby:
                raise StoreUnavailableError("whoever is not the primary is refused")
            answer = model.database.changes(since, on_standby)
            yield
        if self._registers_beside:
            self._register(since)
        return answer

    def _register(self, known: Position) -> None:
        self.beat += 1
        self.model.registry[self.id] = (self.id, known, LEASE, self.beat)

    def _told(self, _: ProbeNews, changes: Sequence[tuple[int, str]]) -> None:
        self._dropped([name for _, name in changes])

    def wait(self) -> None:
        """Let a barrier of ours begin to look at the registry, find what is there, or receive it."""
        if not self._waits:
            return
        model = self.model
        wait, position, values, look = self._waits.pop(int(self._random() * len(self._waits)))
        if look is None:
            look = (model.now, None)
        elif look[1] is None:
            rows = tuple([row for row in model.registry.values() if row[0] != self.id])
            look = (look[0], (model.database.epoch, rows))
        else:
            began, (epoch, rows) = look[0], look[1]
            acknowledged = wait.look(epoch, rows, began, model.now)
            if acknowledged or wait.is_over(model.now):
                if not acknowledged:
                    model.drop_silent(wait.silent(model.now))
                newest = self.freshness.newest
                if newest.epoch == position.epoch and newest.seq >= position.seq:
                    model.declare_visible(self, values, acknowledged)
                return
            look = None
        self._waits.append((wait, position, values, look))
        del self._waits[:-3]

    def hear(self) -> None:
        """Take in a hint from the stream."""
        if self.mailbox.hints:
            hint = self.mailbox.take()
            self.freshness.hint(*hint, self.model.now)
            self._dropped([hint[1]])

    def acknowledge(self) -> None:
        """Receive what the database said to a change of ours; from now on our callers rely on it."""
        if self.replies:
            position, names, values = self.replies.pop(int(self._random() * len(self.replies)))
            self.freshness.learn_commit(position, names)
            self._dropped(names)
            self.raise_floor([value if NAMES[key] in names or ALL in names else 0 for key, value in enumerate(values)])
            if self._random() < 0.7:
                newest = self.freshness.newest
                self._waits.append(
                    (self._parts.wait(newest, self.model.now, LEASE, self.known_since), newest, values, None)
                )

    def raise_floor(self, values: Sequence[int]) -> None:
        """Promise that what is sent from now on reflects these values."""
        self.floor = list(map(max, self.floor, values))

    def _dropped(self, names: Sequence[str]) -> None:
        if self._era != self.freshness.era:
            self._era, self.known_since = self.freshness.era, self.model.now
            self.known.clear()
            self.derived.clear()
        elif self._evict_only:
            for key in [key for key in self.known if NAMES[key] in names or ALL in names]:
                del self.known[key]
            self.derived.clear()

    # -- Facts ---------------------------------------------------------------

    def fill(self) -> None:
        """Let the database execute one of our readings, or receive it; it may be lost."""
        if not self._fills:
            return
        keys, era, answer = self._fills.pop(int(self._random() * len(self._fills)))
        if self._random() < 0.05:
            return
        if answer is None:
            position, vector = self.model.database.read(self._random() < 0.2)
            self._fills.append((keys, era, (position, tuple([vector[key] for key in keys]))))
            return
        position, values = answer
        if era == self.freshness.era and position.epoch == self.freshness.epoch:
            for key, value in zip(keys, values, strict=True):
                self._keep(key, (position, value))
                self.model.shared.put(key, (position, value))

    def _keep(self, key: int, reading: Reading) -> None:
        before = self.known.get(key)
        if before is None or before[0].epoch != reading[0].epoch or before[0].seq < reading[0].seq:
            self.known[key] = reading

    def _usable(self, as_of: Position, keys: Keys, now: int, token: Position | None = None) -> bool:
        if self._evict_only:
            return self.freshness.usable(self.freshness.position, (), now)
        return self.freshness.usable(as_of, NAMES_OF[keys], now, token)

    def _reading(self, key: int) -> Reading | None:
        """One key from memory, else from the copy in Redis."""
        now = self.model.now
        reading = self.known.get(key)
        if reading is not None and self._usable(reading[0], (key,), now):
            return reading
        reading = None if self._evict_only else self.model.shared.get(key)
        if reading is None:
            return None
        if self._trusts_shared:
            return (self.freshness.position, reading[1])
        if self._usable(reading[0], (key,), now):
            self._keep(key, reading)
            return reading
        return None

    def _facts(self, keys: Keys, token: Position | None) -> tuple[Position, Values] | None:
        """What a decision on *keys* may rest on; None sends for it."""
        now = self.model.now
        found = self.derived.get(keys)
        if found is not None and self._usable(found[0], keys, now, token):
            return found
        readings = [self._reading(key) for key in keys]
        whole = [reading for reading in readings if reading is not None]
        if len(whole) == len(keys) and len({as_of.epoch for as_of, _ in whole}) == 1:
            order = max if self._newest_input else min
            as_of = Position(whole[0][0].epoch, order([as_of.seq for as_of, _ in whole]))
            if self._usable(as_of, keys, now, token):
                return as_of, tuple([value for _, value in whole])
        if len(self._fills) < 2:
            self._fills.append((keys, self.freshness.era, None))
        return None

    # -- Decisions -----------------------------------------------------------

    def decide(self) -> None:
        """Begin a decision, or take one a step further."""
        if not self._open or (len(self._open) < 3 and self._random() < 0.4):
            keys = self._questions[int(self._random() * len(self._questions))]
            tokens = self.model.tokens
            token = tokens[int(self._random() * len(tokens))] if tokens and self._random() < 0.15 else None
            self.model.begun += 1
            self._evaluate(keys, token, False)
        else:
            self._advance(self._open.pop(int(self._random() * len(self._open))))

    def _evaluate(self, keys: Keys, token: Token | None, again: bool) -> None:
        found = self._facts(keys, None if token is None else self.freshness.read_token(token[0]))
        if found is not None:
            self._open.append((keys, *found, token, False, again, self.model.now))

    def _advance(self, decision: Decision) -> None:
        keys, as_of, values, token, durable, again, began = decision
        if not durable:
            self.derived[keys] = (self.freshness.position if self._restamps else as_of, values)
            self._open.append((keys, as_of, values, token, True, again, began))
        elif self._usable(as_of, keys, began if self._lease_at_start else self.model.now):
            self.model.sent(self, keys, values, token)
        elif not again:
            self._evaluate(keys, token, True)
