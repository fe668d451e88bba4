"""The information point: from memory when nothing changed, and never from before a change that was answered."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from ruqsat.core.break_glass import Made as SessionMade
from ruqsat.core.break_glass import Wanted as SessionWanted
from ruqsat.core.consent_record import Change
from ruqsat.core.fact_changes import FactChange, Found, Wanted
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.errors import OutcomeUnknownError, StoreUnavailableError
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint, Limits
from tests.clocks import FixedClock

LEASE = 5_000_000


class Gate:
    """A place where a reading waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def __call__(self) -> None:
        """Say that it is reached, and wait."""
        self.reached.set()
        await self.open.wait()


class Memory:
    """A store in memory with the shape of the port, whose answers can be held up or fail."""

    def __init__(self) -> None:
        self.seq, self.feed = 0, []  # type: int, list[tuple[int, str]]
        self.subjects = {"s1": SubjectFacts("s1")}
        self.patients = {"p1": PatientFacts("p1", egov=True)}
        self.readings = 0
        self.gate: Gate | None = None
        self.is_down = False

    def _refuse_if_down(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("down")

    async def fetch_facts(self, subject: str | None, patient: str | None) -> Any:
        """Read both and the position, then perhaps wait: the answer is on its way."""
        self._refuse_if_down()
        self.readings += 1
        read = self.subjects.get(subject or ""), self.patients.get(patient or ""), Position("e", self.seq)
        if self.gate is not None:
            await self.gate()
        return read

    async def fetch_changes(self, since: Position) -> Any:
        """Return the newest position and what changed since."""
        self._refuse_if_down()
        return Position("e", self.seq), tuple(change for change in self.feed if change[0] > since.seq)

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """Change and commit."""
        self.patients[patient] = change(self.patients[patient])
        self.seq += 1
        self.feed.append((self.seq, "patient:" + patient))
        return Position("e", self.seq)

    async def change_facts(self, wanted: Wanted, change: FactChange) -> tuple[Position, tuple[str, ...]]:
        """Find everything as it is wanted."""
        return Position("e", self.seq), ()

    async def change_records(self, *_: Any) -> tuple[Position, Change]:
        """Find the call answered already."""
        return Position("e", self.seq), Change(b"{}")

    async def change_session(self, *_: Any) -> tuple[Position, tuple[str, ...], SessionMade]:
        """Find the call answered already."""
        return Position("e", self.seq), (), SessionMade(b"{}")

    async def record_facts(self, subjects: Any, patients: Any) -> Any:
        """Not used here."""
        raise NotImplementedError


def run(
    story: Callable[[InformationPoint, Memory, FixedClock], Coroutine[Any, Any, None]], *, max_stale: int = 0, **limits: int
) -> None:  # fmt: skip
    """Tell a story about an information point over a store in memory."""

    async def tell() -> None:
        store, clock = Memory(), FixedClock()
        rule = Freshness(bytes(32), lease_for=LEASE)
        point = InformationPoint(store, rule, clock, limits=Limits(**limits), max_stale=max_stale)
        await point.probe_once()
        try:
            await story(point, store, clock)
        finally:
            await point.aclose()

    asyncio.run(tell())


def closed(facts: PatientFacts) -> PatientFacts:
    """The change that the stories make."""
    return msgspec.structs.replace(facts, egov=False)


def is_open(facts: Facts | None) -> bool:
    """Whether the facts are those from before the change."""
    assert facts is not None and facts.patient is not None
    return facts.patient.egov


def test_what_was_read_once_is_answered_from_memory() -> None:
    """A second request for the same people reads nothing; nobody by an id is remembered too."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        assert point.facts_now("s1", "p1") is None
        await point.fetch("s1", "p1")
        await point.fetch("nobody", None)

        assert is_open(point.facts_now("s1", "p1"))
        unknown = point.facts_now("nobody", None)
        assert unknown is not None and unknown.subject is None
        assert store.readings == 2

    run(story)


def test_a_change_that_was_answered_is_never_answered_from_before_it() -> None:
    """From the moment a change returns, the old entry is unusable."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        old = await point.fetch("s1", "p1")

        await point.change_patient("p1", closed)

        assert point.facts_now("s1", "p1") is None
        assert not point.usable(old, "s1", "p1")
        assert not is_open(await point.fetch("s1", "p1"))

    run(story)


def test_two_readings_are_together_no_newer_than_the_older_one() -> None:
    """Of a doctor who was changed after having been read nothing is used beside a patient who was read since."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        await point.fetch("s1", None)
        store.subjects["s1"], store.seq = SubjectFacts("s1", active=False), 1
        store.feed.append((1, "subject:s1"))
        await point.probe_once()
        await point.fetch(None, "p1")
        assert point.facts_now("s1", "p1") is None

        clock.advance(LEASE)
        assert point.is_degraded
        assert point.last_known(None, "p1", presumed=True) is None and point.last_known("s1", None) is None
        assert point.last_known("s1", "p1") is None
        await point.fetch("s1", None)
        assert (facts := point.facts_now("s1", "p1")) is not None and facts.subject == store.subjects["s1"]

    run(story, max_stale=2 * LEASE)


@pytest.mark.parametrize("token", [Position("e", 1), Position("d", 0)], ids=["later", "another history"])
def test_nothing_is_answered_from_before_a_token(token: Position) -> None:
    """Who carries one that the store has not reached gets no facts at all; once it has reached that, they are read."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        await point.fetch("s1", "p1")
        with pytest.raises(StoreUnavailableError):
            await point.fetch("s1", "p1", token)

        await store.change_patient("p1", closed)
        assert not is_open(await point.fetch("s1", "p1", Position("e", 1)))

    run(story)


def test_a_change_that_may_have_been_made_is_not_told_as_one_that_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store does not know whether it has committed, whoever made the change hears exactly that."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        async def lose(*_: object) -> Position:
            raise OutcomeUnknownError("lost in the commit")

        monkeypatch.setattr(store, "change_patient", lose)
        with pytest.raises(OutcomeUnknownError, match="lost in the commit"):
            await point.change_patient("p1", closed)

    run(story)


def test_a_reading_that_lands_after_a_change_is_unusable() -> None:
    """A fill that was read before a change and arrives after it is not answered, nor kept."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        store.gate = gate = Gate()
        slow = asyncio.create_task(point.fetch("s1", "p1"))
        await gate.reached.wait()
        store.gate = None
        await point.change_patient("p1", closed)
        gate.open.set()

        assert not is_open(await slow)
        assert not is_open(await point.fetch("s1", "p1"))

    run(story)


def test_the_race_would_be_noticed_if_entries_were_stamped_when_they_arrive() -> None:
    """Plant: a store that stamps its answer with the newest position lets the old facts through."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        honest = store.fetch_facts

        async def restamped(subject: str | None, patient: str | None) -> Any:
            known, whom, _ = await honest(subject, patient)
            return known, whom, Position("e", store.seq)

        store.fetch_facts = restamped  # type: ignore[method-assign]
        store.gate = gate = Gate()
        slow = asyncio.create_task(point.fetch("s1", "p1"))
        await gate.reached.wait()
        store.gate = None
        await point.change_patient("p1", closed)
        gate.open.set()

        assert is_open(await slow)

    run(story)


def test_callers_with_the_same_question_share_one_reading() -> None:
    """A hundred callers who miss together read the store once."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        store.gate = gate = Gate()
        asked = [asyncio.create_task(point.fetch("s1", "p1")) for _ in range(100)]
        await gate.reached.wait()
        gate.open.set()
        await asyncio.gather(*asked)

        assert store.readings == 1

    run(story)


def test_a_storm_of_misses_is_bounded() -> None:
    """Beyond the limit of waiting readings a caller is told to try later."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        store.gate = gate = Gate()
        waiting = [asyncio.create_task(point.fetch(f"s{n}", None)) for n in range(2)]
        await gate.reached.wait()
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailableError):
            await point.fetch("one-too-many", None)
        gate.open.set()
        await asyncio.gather(*waiting)

    run(story, fills=2)


def test_without_the_store_memory_serves_until_the_lease_ends() -> None:
    """When the store is gone, known facts are used for the rest of the lease and not a moment longer."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        facts = await point.fetch("s1", "p1")
        store.is_down = True
        clock.advance(LEASE - 1)
        assert point.usable(facts, "s1", "p1")

        clock.advance(1)
        assert point.facts_now("s1", "p1") is None
        assert not point.has_lease()
        with pytest.raises(StoreUnavailableError):
            await point.fetch("s1", "p1")

        store.is_down = False
        assert is_open(await point.fetch("s1", "p1"))

    run(story)


def test_a_probe_counts_from_when_it_was_sent() -> None:
    """An answer that lay on its way, as while the machine slept, is worth as much less."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        answer = store.fetch_changes

        async def late(since: Position) -> Any:
            clock.advance(LEASE - 1)
            return await answer(since)

        store.fetch_changes = late  # type: ignore[method-assign]
        clock.advance(LEASE)
        await point.probe_once()

        assert point.has_lease()
        clock.advance(1)
        assert not point.has_lease()

    run(story)


def test_a_probe_that_was_asked_before_everything_was_forgotten_gives_no_lease() -> None:
    """The database was exchanged while the answer was on its way: it tells of the one before."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        freshness, answer = point._freshness, store.fetch_changes

        async def overtaken(since: Position) -> Any:
            found = await answer(since)
            freshness.learn_commit(Position("e2", 7), ("patient:p1",))
            return found

        store.fetch_changes = overtaken  # type: ignore[method-assign]
        await point.probe_once()

        assert (point.has_lease(), freshness.epoch, point.probes["outdated"]) == (False, "e2", 1)

    run(story)


def test_last_known_facts_are_used_up_to_their_bound_and_no_longer() -> None:
    """Also those that were got before it, when a permit that rests on them is about to be sent."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        await point.fetch("s1", "p1")
        clock.advance(2 * LEASE)
        facts = point.last_known("s1", "p1")
        assert facts is not None and point.is_last_known(facts, "s1", "p1")

        clock.advance(1)
        assert not point.is_last_known(facts, "s1", "p1")

    run(story, max_stale=2 * LEASE)


def test_a_reading_from_a_history_that_was_lost_meanwhile_is_not_used() -> None:
    """The database went back while it was under way: its position looks newer than all that is known, and is nobody's."""

    async def story(point: InformationPoint, store: Memory, clock: FixedClock) -> None:
        for _ in range(5):
            await point.change_patient("p1", closed)
        store.gate = gate = Gate()
        reading = asyncio.create_task(point.fetch("s1", "p1"))
        await gate.reached.wait()
        store.gate, store.seq, store.patients["p1"] = None, 2, PatientFacts("p1", egov=True)
        clock.advance(10)
        await point.probe_once()
        assert (point.known_since, point.has_lease()) == (clock.boot, False)
        await point.probe_once()
        gate.open.set()

        assert is_open(await reading) and is_open(point.facts_now("s1", "p1"))

    run(story)


def test_memory_is_bounded() -> None:
    """Entries beyond the limit push out the least used."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        for n in range(10):
            await point.fetch(f"s{n}", None)

        assert sum(point.facts_now(f"s{n}", None) is not None for n in range(10)) == 4
        assert point.facts_now("s9", None) is not None

    run(story, subjects=4)


@pytest.mark.parametrize("wanted", [Wanted(subjects=("s1",)), Wanted(patients=("p1",)), Wanted(staff_of="h1")], ids=str)
def test_what_is_found_as_it_is_wanted_is_not_answered_from_before_it(wanted: Wanted) -> None:
    """Somebody else has made that change and it is not known here yet: it is from the answer on, and a token covers it."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        old = await point.fetch("s1", "p1")
        store.seq += 1  # another process makes the change, and no probe has told yet

        def nothing(_: Found) -> Any:
            raise AssertionError("the store here calls nobody")

        await point.change_facts(wanted, nothing)

        assert point.facts_now("s1", "p1") is None and not point.usable(old, "s1", "p1")
        assert point.newest == Position("e", 1)
        assert (await point.fetch("s1", "p1")).position == Position("e", 1)

    run(story)


@pytest.mark.parametrize("kind", ["records", "session"])
def test_a_call_that_was_answered_before_is_not_answered_from_before_that(kind: str) -> None:
    """By another process, and it is not known here yet: whoever repeats it is told that it is done, and then it is."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        await point.fetch("s1", "p1")
        store.seq += 1

        def nothing(*_: Any) -> Any:
            raise AssertionError("the store here calls nobody")

        if kind == "records":
            await point.change_records("p1", (), b"key", nothing)
        else:
            await point.change_session(SessionWanted("s1", "p1", key=b"key"), nothing)
            assert point.facts_now("s1", None) is None

        assert point.facts_now(None, "p1") is None
        assert point.newest == Position("e", 1)

    run(story)


def test_who_leaves_does_not_stop_a_change_and_nothing_is_answered_from_before_it() -> None:
    """It goes on without its caller, is known here once it is made, and a closing process waits for it."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        await point.fetch("s1", "p1")
        gate, change = Gate(), store.change_patient

        async def slowly(patient: str, what: Callable[[PatientFacts], PatientFacts]) -> Position:
            await gate()
            for _ in range(10):
                await asyncio.sleep(0)
            return await change(patient, what)

        store.change_patient = slowly  # type: ignore[method-assign]
        caller = asyncio.create_task(point.change_patient("p1", closed))
        await gate.reached.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.open.set()
        await point.aclose()

        assert not store.patients["p1"].egov
        assert point.facts_now("s1", "p1") is None

    run(story)


def test_a_reading_ahead_of_what_is_known_counts_for_tokens() -> None:
    """What an answer came from is never newer than the newest that is known."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        store.seq = 20
        facts = await point.fetch("s1", "p1")
        assert (facts.position, point.position, point.newest) == (
            Position("e", 20), Position("e", 0), Position("e", 20),
        )  # fmt: skip

    run(story)


def test_probes_go_on_whatever_happens_to_one(caplog: pytest.LogCaptureFixture) -> None:
    """An error that nobody foresaw is logged, counts as a failure, and the next probe is sent."""

    async def story(point: InformationPoint, store: Memory, _clock: FixedClock) -> None:
        honest, sent = store.fetch_changes, asyncio.Queue[str]()

        async def odd(since: Position) -> Any:
            sent.put_nowait("odd")
            store.fetch_changes = usual  # type: ignore[method-assign]
            raise RuntimeError("can't start new thread")

        async def usual(since: Position) -> Any:
            sent.put_nowait("usual")
            return await honest(since)

        store.fetch_changes = odd  # type: ignore[method-assign]
        probing = asyncio.create_task(point.probe_forever(1000))
        assert [await sent.get(), await sent.get()] == ["odd", "usual"]
        assert not probing.done()
        probing.cancel()

    run(story)
    assert "probe_failed" in caplog.text
