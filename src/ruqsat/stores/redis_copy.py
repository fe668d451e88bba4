"""
A copy of facts in Redis that the sidecars share, and that none of them trusts (L2).

What is read there counts only if it was sealed by one of us, under this very
name, in this very shape; whether it is still true is for the rule of freshness
to say, not for us.  Names show nobody's id.  When Redis is away, slow or full
of rubbish, the store answers as if there were no copy.

Facts hold no names, addresses or numbers of people.  They still tell whose
consents exist and which kinds of illness are on record, and Redis writes its
memory to disks and replicas: they are encrypted unless a setting says otherwise.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from random import SystemRandom
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from redis.asyncio.connection import ConnectionPool

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.stores.copy_seal import LONGEST_HEAD, CopySeal
from ruqsat.stores.redis_lane import BusyLaneError, RedisFailure, RedisLane

TIMEOUT_SECONDS = 0.02
LONGEST_VALUE = 1 << 20

_KEPT_SECONDS = 3600
_WAITING = 1_000
_FAILURES = 5
_REST_SECONDS = 1.0

# Our own head is compared as text: digits of one width are ordered as numbers are, in every locale.
_PUT_IF_NEWER = f"""
local held = redis.pcall('GETRANGE', KEYS[1], 0, {LONGEST_HEAD})
local ours = #ARGV[2]
if ARGV[5] == '0' and type(held) == 'string' and string.sub(held, 1, ours) == ARGV[2]
    and string.match(string.sub(held, ours + 1, ours + 20), '^%d+$') and #held >= ours + 20
    and string.sub(held, ours + 1, ours + 20) >= ARGV[3] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
return 1
"""

_log = logging.getLogger(__name__)
_dice = SystemRandom()
_encode = msgspec.json.Encoder().encode

FactsT = TypeVar("FactsT", SubjectFacts, PatientFacts)
Reading = tuple[FactsT | None, Position]


class Breaker:
    """Opens after five failures in a row; lets one attempt through about every second then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed."""
        self.opened = 0
        self._clock = clock
        self._failures = 0
        self._rest_until = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether Redis is left alone for the moment."""
        return self._failures >= _FAILURES

    def lets_through(self) -> bool:
        """Tell whether an attempt may be made now."""
        if not self.is_open:
            return True
        now = self._clock()
        if now < self._rest_until:
            return False
        self._rest(now)
        return True

    def succeeded(self) -> None:
        """Close: Redis answers."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure."""
        self._failures += 1
        if self._failures == _FAILURES:
            self.opened += 1
            self._rest(self._clock())

    def _rest(self, now: float) -> None:
        self._rest_until = now + _REST_SECONDS * _dice.uniform(0.8, 1.2)


class _Kind(Generic[FactsT]):
    """How facts of one kind are named and written; another shape of theirs is another kind."""

    def __init__(self, name: str, shape: type[FactsT]) -> None:
        self.name = name
        self.read = msgspec.json.Decoder(tuple[str, shape | None]).decode  # type: ignore[valid-type]
        self.shape = blake2b(_encode(msgspec.json.schema(shape)), digest_size=8).hexdigest()


class _Wanted(NamedTuple):
    """A copy to be put: where, whose, what and read when."""

    name: str
    whose: str
    facts: SubjectFacts | PatientFacts | None
    position: Position


class RedisCopy:
    """
    Shared copies of facts; every failure is counted and none is told.

    Counters: ``found``, ``absent``, ``refused`` (not sealed by us for that place,
    too long, of another shape), ``failed`` (no answer in time), ``skipped`` (the
    breaker is open, or the connection is busy), ``put``, ``put_lost``.
    """

    counters = ("found", "absent", "refused", "failed", "skipped", "put", "put_lost")

    def __init__(
        self, server: ConnectionPool, namespace: str, seal: CopySeal, *, seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """Connect nothing yet; ``work`` must run for what is offered to be put. *seconds* bound each command."""
        self.found = self.absent = self.refused = self.failed = self.skipped = self.put = self.put_lost = 0
        self.breaker = Breaker()
        self._seal = seal
        self._prefix = f"ruqsat:{namespace}:facts:"
        self._reading, self._writing = RedisLane(server, seconds), RedisLane(server, seconds)
        self._subjects, self._patients = _Kind("subject", SubjectFacts), _Kind("patient", PatientFacts)
        self._offered: asyncio.Queue[_Wanted] = asyncio.Queue(_WAITING)
        self._to_replace: set[str] = set()

    async def look(
        self, subject: str | None, patient: str | None
    ) -> tuple[Reading[SubjectFacts] | None, Reading[PatientFacts] | None]:
        """
        Return what is copied of both, with the position each was read at; None where there is nothing to go by.

        A reading may be as old as it likes.  Never raises, and takes 20 ms at most.
        """
        one = None if subject is None else self._name(self._subjects, subject)
        other = None if patient is None else self._name(self._patients, patient)
        names = [name for name in (one, other) if name is not None]
        values = dict(zip(names, await self._get(names), strict=True))
        return (
            None if subject is None or one is None else self._read(self._subjects, subject, one, values[one]),
            None if patient is None or other is None else self._read(self._patients, patient, other, values[other]),
        )

    def _name(self, kind: _Kind[Any], id_: str) -> str:
        return self._prefix + self._seal.name(kind.name, kind.shape, id_)

    async def _get(self, names: list[str]) -> list[Any]:
        nothing: list[Any] = [None] * len(names)
        if not self.breaker.lets_through():
            self.skipped += 1
            return nothing
        try:
            replies = await self._reading.ask_all([("GETRANGE", name, 0, LONGEST_VALUE) for name in names])
        except BusyLaneError:
            self.skipped += 1
            return nothing
        except RedisFailure:
            self.failed += 1
            self.breaker.failed()
            return nothing
        self.breaker.succeeded()
        return replies

    def _read(self, kind: _Kind[FactsT], id_: str, name: str, value: Any) -> Reading[FactsT] | None:
        if not value:
            self.absent += value is not None
            return None
        reading = self._unsealed(kind, id_, name, value)
        if reading is None:
            self.refused += 1
            if len(self._to_replace) < _WAITING:
                self._to_replace.add(name)
        else:
            self.found += 1
        return reading

    def _unsealed(self, kind: _Kind[FactsT], id_: str, name: str, value: Any) -> Reading[FactsT] | None:
        if not isinstance(value, bytes) or len(value) > LONGEST_VALUE:
            return None
        opened = self._seal.open(name.encode(), value)
        if opened is None:
            return None
        position, payload = opened
        try:
            whose, facts = kind.read(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        # Names are hashes: the id itself is compared in full.
        return (facts, position) if whose == id_ and (facts is None or facts.id == id_) else None

    def offer(self, subject: str | None, patient: str | None, facts: Facts) -> None:
        """Put these facts, read just now from the store, when there is time; what cannot be put is dropped."""
        if subject is not None:
            self._offer(_Wanted(self._name(self._subjects, subject), subject, facts.subject, facts.position))
        if patient is not None:
            self._offer(_Wanted(self._name(self._patients, patient), patient, facts.patient, facts.position))

    def _offer(self, wanted: _Wanted) -> None:
        try:
            self._offered.put_nowait(wanted)
        except asyncio.QueueFull:
            self.put_lost += 1

    async def work(self) -> None:
        """Put what is offered, one after the other, until cancelled."""
        while True:
            await self._put(await self._offered.get())

    async def _put(self, wanted: _Wanted) -> None:
        if not self.breaker.lets_through():
            self.put_lost += 1
            return
        try:
            value = self._seal.seal(wanted.name.encode(), wanted.position, _encode((wanted.whose, wanted.facts)))
            if len(value) > LONGEST_VALUE:
                raise ValueError("too long for a copy")
            position, replaces = wanted.position, wanted.name in self._to_replace
            kept = int(_KEPT_SECONDS * 1000 * _dice.uniform(0.9, 1.1))
            await self._writing.ask(
                "EVAL", _PUT_IF_NEWER, 1, wanted.name, value, f"v1|{position.epoch}|", f"{position.seq:020d}", kept,
                int(replaces),
            )  # fmt: skip
        except (RedisFailure, BusyLaneError):
            self.put_lost += 1
            self.breaker.failed()
        except Exception:  # noqa: BLE001 - a copy is never worth more than its loss
            self.put_lost += 1
            _log.exception("copy_not_put")
        else:
            self.put += 1
            self._to_replace.discard(wanted.name)
            self.breaker.succeeded()

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of the copy."""
        counted = {name: getattr(self, name) for name in self.counters}
        return counted | {"breaker": "open" if self.breaker.is_open else "closed"}

    async def aclose(self) -> None:
        """Close the connections; what is still waiting is dropped."""
        for lane in (self._reading, self._writing):
            with suppress(Exception):
                await lane.aclose()
