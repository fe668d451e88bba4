"""
The policy information point: the facts of a request, from memory when that is provably safe.

A cached entry is stamped with the position it was READ at and is tested at
every use.  Our own changes are known here before the call that made them
returns, so nobody who has seen a change succeed is answered from before it.

What others share (``service.sharing``) may make a change known sooner and spare
the store a reading.  It passes the same rule at the same place, so it cannot
make an answer less right; without it everything is the same, later.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol

from msgspec import Struct

from ruqsat.core.break_glass import Made as SessionMade
from ruqsat.core.break_glass import SessionChange
from ruqsat.core.break_glass import Wanted as SessionWanted
from ruqsat.core.consent_record import Change, Receipt
from ruqsat.core.fact_changes import FactChange, Wanted
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import Instant
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.fact_cache import FactCache
from ruqsat.service.flight import land, launch, outcome
from ruqsat.service.freshness import ALL, Freshness, ProbeNews
from ruqsat.service.ports import Clock, FactsStore
from ruqsat.service.probe import PROBE_PERIOD, Changes, Feed, Probe
from ruqsat.service.sharing import Sharing

_ATTEMPTS = 3

RecordChange = Callable[[PatientFacts, dict[str, Any], Receipt | None], Change]
"""What a use case makes of a patient's facts, the records that it asked for, and what it answered before."""


class Truth(FactsStore, Feed, Protocol):
    """What the information point needs of a store: facts, their changes, and a way to change them."""

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """Replace a patient's facts by what *change* makes of them, in one transaction."""
        ...

    async def change_facts(self, wanted: Wanted, change: FactChange) -> tuple[Position, tuple[str, ...]]:
        """Change several subjects and patients in one transaction by what *change* makes of them."""
        ...

    async def change_records(
        self, patient: str, wanted: tuple[str, ...], key: bytes | None, change: "RecordChange", kind: str = "consent"
    ) -> tuple[Position, Change]:
        """Make one change of a patient's records and facts together, or none."""
        ...

    async def change_session(
        self, wanted: SessionWanted, change: SessionChange
    ) -> tuple[Position, tuple[str, ...], SessionMade]:
        """Make one change of a break-glass session, its patient and its clinician together, or none."""
        ...


class Limits(Struct, frozen=True):
    """How many of each are kept, in how many bytes of memory, and how many fills may wait."""

    subjects: int = 50_000
    subject_bytes: int = 32 * 1024 * 1024
    patients: int = 50_000
    patient_bytes: int = 128 * 1024 * 1024
    fills: int = 256


_USUAL = Limits()


class InformationPoint:
    """
    Facts for decisions, and the way in for changes to them.

    Counters for the metrics: ``hits``, ``misses``, ``fills`` (readings of the
    store) and ``forgotten`` (times the whole memory had to be dropped).
    ``on_probe``: is called after each probe that was answered.
    ``known_since``: the time since boot at which that was last so.
    """

    def __init__(
        self, store: Truth, freshness: Freshness, clock: Clock, *, limits: Limits = _USUAL,
        sharing: Sharing | None = None, max_stale: Instant = 0,
    ) -> None:  # fmt: skip
        """
        Begin with an empty memory and no lease: the first fetch, or ``probe_once``, gets one.

        *max_stale* is how long ``last_known`` goes on without hearing from the store; 0 is not at all.
        """
        self.hits = self.misses = self.fills = self.forgotten = 0
        self.on_probe: Callable[[], None] = lambda: None
        self._sharing, self._max_stale = sharing, max_stale
        self._store = store
        self._freshness = freshness
        self._usable = freshness.usable
        self._boottime = clock.boottime
        self._subjects = FactCache("subject", SubjectFacts, limits.subjects, limits.subject_bytes)
        self._patients = FactCache("patient", PatientFacts, limits.patients, limits.patient_bytes)
        self._max_fills = limits.fills
        self._era = freshness.era
        self.known_since = self._boottime()
        self._readings: dict[tuple[str | None, str | None], asyncio.Task[Facts | None]] = {}
        self._writes: set[asyncio.Task[Any]] = set()
        self._probe = Probe(store, freshness, clock, self._on_news)

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """
        Return the facts of both from memory, if usable at this instant; None means ``fetch`` them.

        Their position is the older of the two readings.  This is the hot path.
        """
        if subject is None or patient is None:
            return self._half_now(subject, patient)
        one = self._subjects.look(subject)
        other = self._patients.look(patient)
        if one is not None and other is not None and one.as_of.epoch == other.as_of.epoch:
            as_of = one.as_of if one.as_of.seq <= other.as_of.seq else other.as_of
            if self._usable(as_of, (one.key, other.key), self._boottime()):
                self._subjects.touch(subject)
                self._patients.touch(patient)
                self.hits += 1
                return Facts(one.value, other.value, as_of)
        self.misses += 1
        return None

    def _half_now(self, subject: str | None, patient: str | None) -> Facts | None:
        facts: Facts | None = None
        if subject is not None and (one := self._subjects.look(subject)) is not None:
            self._subjects.touch(subject)
            facts = Facts(one.value, None, one.as_of)
        elif patient is not None and (other := self._patients.look(patient)) is not None:
            self._patients.touch(patient)
            facts = Facts(None, other.value, other.as_of)
        if facts is None or not self.usable(facts, subject, patient):
            self.misses += 1
            return None
        self.hits += 1
        return facts

    def usable(self, facts: Facts, subject: str | None, patient: str | None, token: Position | None = None) -> bool:
        """
        Tell whether *facts*, once got for these ids, may be used at this very moment.

        Ask it last, after every await, just before sending.  With *token* the
        facts must also reflect that position.
        """
        return self._usable(facts.position, _keys(subject, patient), self._boottime(), token)

    def last_known(self, subject: str | None, patient: str | None, *, presumed: bool = False) -> Facts | None:
        """
        Return what was known of both when the store was last heard, the consents marked as unknown.

        For the time after a lease alone, and not for longer than ``max_stale``.  Nothing
        that is known, or said, to have changed since it was read comes from here.  A
        subject of whom nothing at all is known is *presumed* to be active, or there is no answer.
        """
        if not self.is_degraded:
            return None
        one = self._subjects.look(subject) if subject is not None else None
        other = self._patients.look(patient) if patient is not None else None
        if (patient is not None and other is None) or (one is None and (subject is None or not presumed)):
            return None
        positions = [entry.as_of for entry in (one, other) if entry is not None] or [self._freshness.position]
        known = SubjectFacts(subject or "") if one is None else one.value
        as_of = min(positions, key=lambda position: position.seq)
        facts = Facts(known, None if other is None else other.value, as_of, consents_known=False)
        is_whole = all(position.epoch == as_of.epoch for position in positions)
        if one is None and self._freshness.has_news_of(f"subject:{subject}"):
            return None
        return facts if is_whole and self.is_last_known(facts, subject, patient) else None

    def is_last_known(self, facts: Facts, subject: str | None, patient: str | None) -> bool:
        """Tell whether ``last_known`` facts may be used at this moment; ask it last, as ``usable``."""
        age = self._freshness.lease_age(self._boottime())
        return (
            age is not None
            and age <= self._max_stale
            # A lease that the policy withholds is no store that is away: a set that must apply denies everything.
            and self._freshness.may_outlast_lease()
            # As the rule was when the store was last heard.
            and self._usable(facts.position, _keys(subject, patient), self._freshness.lease)
        )

    @property
    def is_degraded(self) -> bool:
        """Tell whether last known facts are what there is: the lease is over, ``max_stale`` is not."""
        age = self._freshness.lease_age(self._boottime())
        told = self._freshness.may_outlast_lease()  # a lease that the policy withholds is no store that is away
        return told and age is not None and age <= self._max_stale and not self.has_lease()

    async def fetch(self, subject: str | None, patient: str | None, token: Position | None = None) -> Facts:
        """
        Return usable facts of both, reading the store; callers with the same question share one reading.

        When the lease has run out or *token* is ahead of us, one probe is sent
        first.  Reading alone never renews the lease.

        Raises:
            StoreUnavailableError: no usable facts in time, *token* is of a point that
                the store has not reached, or too many fills are waiting.  In degraded
                mode at once: whoever asks behind a proxy cannot wait for a probe.
        """
        if self._probe.is_failing and self.is_degraded:
            self._probe.begin()
            raise StoreUnavailableError("the store is away, the next probe will tell when it is back")
        for attempt in range(_ATTEMPTS):
            facts: Facts | None = None
            if attempt or not self._is_current(token):
                await self.probe_once()
                facts = self.facts_now(subject, patient)
            facts = facts or await self._fill(subject, patient)
            if facts is not None and self.usable(facts, subject, patient, token):
                return facts
        raise StoreUnavailableError("the facts read were out of date each time, expected a usable reading")

    def _is_current(self, token: Position | None) -> bool:
        known = self._freshness.position
        covered = token is None or (token.epoch == known.epoch and token.seq <= known.seq)
        return covered and self._freshness.has_lease(self._boottime())

    async def _fill(self, subject: str | None, patient: str | None) -> Facts | None:
        pair = (subject, patient)
        fill = self._readings.get(pair)
        if fill is None:
            if len(self._readings) >= self._max_fills:
                raise StoreUnavailableError(f"{self._max_fills} readings are waiting already, try later")
            fill = self._readings[pair] = launch(self._read(subject, patient))
        return await outcome(fill)

    async def _read(self, subject: str | None, patient: str | None) -> Facts | None:
        try:
            return await self._read_copies(subject, patient) or await self._read_store(subject, patient)
        finally:
            del self._readings[subject, patient]

    async def _read_copies(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return facts of both if memory and the shared copy together have them, usable."""
        if self._sharing is None:
            return None
        one, other = await self._sharing.look(*self._lacking(subject, patient))
        if one is not None and subject is not None:
            self._subjects.keep(subject, *one)
        if other is not None and patient is not None:
            self._patients.keep(patient, *other)
        facts = self._from_memory(subject, patient)
        self._sharing.spared += facts is not None
        return facts

    def _lacking(self, subject: str | None, patient: str | None) -> tuple[str | None, str | None]:
        """Return whom to read anew: of one in memory who may stand beside any reading of the other, only the other."""
        if subject is None or patient is None:
            return subject, patient
        one, other = self._subjects.look(subject), self._patients.look(patient)
        keys, now = _keys(subject, patient), self._boottime()
        if one is not None and self._usable(one.as_of, keys, now):
            return None, patient
        if other is not None and self._usable(other.as_of, keys, now):
            return subject, None
        return subject, patient

    def _from_memory(self, subject: str | None, patient: str | None) -> Facts | None:
        one = None if subject is None else self._subjects.look(subject)
        other = None if patient is None else self._patients.look(patient)
        positions = [entry.as_of for entry in (one, other) if entry is not None]
        if not positions or len(positions) != (subject is not None) + (patient is not None):
            return None
        as_of = min(positions, key=lambda position: position.seq)
        facts = Facts(None if one is None else one.value, None if other is None else other.value, as_of)
        # Each may be usable at its own position and both together not at the older one: then the store is read.
        is_usable = all(position.epoch == as_of.epoch for position in positions) and self.usable(
            facts, subject, patient
        )
        return facts if is_usable else None

    async def _read_store(self, subject: str | None, patient: str | None) -> Facts | None:
        era = self._freshness.era
        known_subject, known_patient, position = await self._store.fetch_facts(subject, patient)
        self.fills += 1
        # Invariant: what is kept was read under the present epoch and era, whenever it arrives.
        if era != self._freshness.era or position.epoch != self._freshness.epoch:
            return None
        self._freshness.saw(position)
        if subject is not None:
            self._subjects.keep(subject, known_subject, position)
        if patient is not None:
            self._patients.keep(patient, known_patient, position)
        facts = Facts(known_subject, known_patient, position)
        if self._sharing is not None:
            self._sharing.offer(subject, patient, facts)
        return facts

    async def record(
        self, subjects: tuple[SubjectFacts, ...] = (), patients: tuple[PatientFacts, ...] = ()
    ) -> Position:
        """
        Replace these facts in one transaction and return its position.

        From the moment this returns, no check in this process is answered
        from before it.  A caller that leaves does not stop a change it began.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: the store refuses the change.
        """

        async def write() -> Position:
            position, keys = await self._store.record_facts(subjects, patients)
            return self._learn(position, keys)

        return await self._finish(launch(write()))

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """
        Replace a patient's facts by what the pure function *change* makes of them; promises as ``record``.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: nobody by that id (``unknown-patient``), or the store refuses the change.
        """

        async def write() -> Position:
            position = await self._store.change_patient(patient, change)
            return self._learn(position, ("patient:" + patient,))

        return await self._finish(launch(write()))

    async def change_facts(self, wanted: Wanted, change: FactChange) -> Position:
        """
        Change several subjects and patients in one transaction; promises as ``record``.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: *change* refuses it.
        """

        async def write() -> Position:
            position, keys = await self._store.change_facts(wanted, change)
            self._learn(position, keys)
            # What was found as it is wanted may have been made so by a change that is not known here.
            for key in _found(wanted):
                self._freshness.learn_reading(position, key, self._boottime())
            return position

        return await self._finish(launch(write()))

    async def change_records(
        self, patient: str, wanted: tuple[str, ...], key: bytes | None, change: RecordChange, kind: str = "consent"
    ) -> Change:
        """
        Change a patient's records and facts together, or neither; promises as ``record``.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: nobody by that id (``unknown-patient``), or *change* or the store refuses it.
        """
        made: list[Change] = []

        async def write() -> Position:
            position, done = await self._store.change_records(patient, wanted, key, change, kind)
            made.append(done)
            if done.facts is None:
                # Made before, perhaps by another process whose change is not known here: the answer tells of it.
                self._learn(position, ())
                self._freshness.learn_reading(position, "patient:" + patient, self._boottime())
                return position
            return self._learn(position, ("patient:" + patient,))

        await self._finish(launch(write()))
        return made[0]

    async def change_session(self, wanted: SessionWanted, change: SessionChange) -> SessionMade:
        """
        Change a break-glass session with its patient, clinician and notices, or nothing; promises as ``record``.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: nobody by that id (``unknown-patient``), or *change* or the store refuses it.
        """
        made: list[SessionMade] = []

        async def write() -> Position:
            position, keys, done = await self._store.change_session(wanted, change)
            made.append(done)
            self._learn(position, keys)
            # Made before, perhaps by another process whose change is not known here: the answer tells of it.
            for key in {f"subject:{wanted.subject}", f"patient:{wanted.patient}"}.difference(keys):
                self._freshness.learn_reading(position, key, self._boottime())
            return position

        await self._finish(launch(write()))
        return made[0]

    def _learn(self, position: Position, keys: tuple[str, ...]) -> Position:
        self._freshness.learn_commit(position, keys)
        self._drop_if_forgotten()
        if self._sharing is not None:
            self._sharing.send(position, keys)
        return position

    async def _finish(self, write: asyncio.Task[Position]) -> Position:
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await outcome(write)

    async def probe_once(self, period: Instant = PROBE_PERIOD) -> None:
        """
        Ask the store how far the truth is, and renew the lease; a probe under way is shared.

        Raises:
            StoreUnavailableError: no answer within 0.8 of *period* (microseconds); the lease runs on.
        """
        await self._probe.once(period)

    async def probe_forever(self, period: Instant = PROBE_PERIOD) -> None:
        """Probe about every *period* (microseconds) until cancelled; failures are logged and survived."""
        await self._probe.forever(period)

    def _on_news(self, news: ProbeNews, changes: Changes) -> None:
        self._drop_if_forgotten()
        if self._sharing is not None:
            self._sharing.probed(news, changes)
        self.on_probe()

    def _drop_if_forgotten(self) -> None:
        era = self._freshness.era
        if era != self._era:
            self.forgotten += self._era > 0  # the first epoch replaces nothing
            self._era, self.known_since = era, self._boottime()
            self.forget()

    def forget(self) -> None:
        """Drop what is in memory: the next questions read the store."""
        self._subjects.clear()
        self._patients.clear()

    @property
    def failed_probes(self) -> int:
        """How many probes got no answer."""
        return self._probe.failures

    @property
    def probes(self) -> Mapping[ProbeNews, int]:
        """How many probes were answered, by what they told."""
        return self._probe.answers

    @property
    def position(self) -> Position:
        """How far this process knows the truth; every usable answer reflects at least this."""
        return self._freshness.position

    @property
    def newest(self) -> Position:
        """The newest change known here: from ``record`` and its like on, no change of ours is after it."""
        return self._freshness.newest

    def has_lease(self) -> bool:
        """Tell whether anything is usable at this moment; part of readiness."""
        return self._freshness.has_lease(self._boottime())

    def lease_age(self, boottime: Instant) -> Instant | None:
        """Return how long before *boottime* the last successful probe was sent; None before the first."""
        return self._freshness.lease_age(boottime)

    async def aclose(self) -> None:
        """Let writes finish, stop probes and fills; call it before the store is closed."""
        await land(tuple(self._writes))
        await self._probe.aclose()
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        await land(readings)
        self._readings.clear()


def _found(wanted: Wanted) -> list[str]:
    """Return the keys in the feed of all whose facts a change was given."""
    keys = [f"subject:{each}" for each in wanted.subjects] + [f"patient:{each}" for each in wanted.patients]
    return [*keys, ALL] if wanted.staff_of is not None else keys


@lru_cache(maxsize=8192)
def _keys(subject: str | None, patient: str | None) -> tuple[str, ...]:
    if patient is None:
        return () if subject is None else ("subject:" + subject,)
    return ("patient:" + patient,) if subject is None else ("subject:" + subject, "patient:" + patient)
