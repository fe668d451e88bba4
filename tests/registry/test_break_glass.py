"""Break-glass sessions in the registry: counted in one transaction, told of, reviewed, late; on SQLite and on PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Struct
from sqlalchemy import Connection, Engine, create_engine, select, text

from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Episode, Facts, Organisation, PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import DAY, HOUR, Instant, Now, at, parse_instant
from ruqsat.core.notice import Notice
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.registered import GRANT, RecordRow
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.errors import JournalError, StoreUnavailableError
from ruqsat.service.break_glass import Ask, BreakGlass
from ruqsat.service.clock import SystemClock
from ruqsat.service.consent_changes import Call, Caller, RegistryError, new_id
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.entries import Named
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.service.record_seal import RecordSeal
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import is_postgres
from ruqsat.stores.sql_schema import break_glass_right
from ruqsat.web.consent_models import read_model
from ruqsat.web.record_models import SessionIn
from tests.registry.record_documents import whole

NOW = parse_instant("2026-11-24T10:00:00+05:00")
MIDNIGHT = parse_instant("2026-11-25T00:00:00+05:00")
DUE = 72 * HOUR
PATIENTS = tuple(f"p{number}" for number in range(14))
CLINICIANS = ("ed", "mate", "other")
OFFICE = ("dpo1", "dpo2")
LIMIT = "break-glass-rate-limited"


class Sidecar:
    """What one sidecar has of sessions, its clock in our hand; notices go to *told* in the transaction."""

    def __init__(
        self, store: SqlStore, information: InformationPoint, policy_set: PolicySet, told: list[Notice]
    ) -> None:
        self.store, self.information, self.policy_set = store, information, policy_set
        self.time, self.journal, self.told = NOW, [], told  # type: ignore[var-annotated]
        self.fails: Callable[[], None] = lambda: None
        store.add_notices = self._add
        self.sessions = BreakGlass(
            store, information, RecordSeal(bytes(32)), lambda: self.policy_set.vocabulary, lambda: "token",
            lambda: self.time, self._tell,
        )  # fmt: skip

    def _add(self, connection: Connection, notices: Sequence[Notice]) -> None:
        assert connection.in_transaction()
        self.fails()
        self.told.extend(notices)

    async def _tell(self, entry: Struct, named: Named) -> None:
        assert named.subject is not None and named.resource is not None
        self.journal.append(entry)

    async def open(
        self, who: str = "ed", patient: str = "p0", second: str | None = None, org: str | None = "h1", **changes: Any
    ) -> str:
        """Open a session and return its id; *org* is whose the second person says that it is."""
        content = json.dumps(whole("grant", patient=patient, **changes)).encode()
        data, id_ = read_model(SessionIn, content), new_id(self.time)
        call = Call(changes.get("key"), content)
        told = await self.sessions.open(
            Caller(who), data, call, Ask(id_, f"d-{id_}", "h1", True, second and (second, org))
        )
        return str(told["id"])

    async def attempt(self, who: str = "ed", patient: str = "p0") -> str:
        """Try to open one; return its id, or the code of why not."""
        try:
            return await self.open(who, patient)
        except RegistryError as error:
            return error.code

    async def row(self, id_: str) -> RecordRow:
        """Return the record of a session."""
        found: RecordRow = await self.store.find_registered(GRANT.name, id_)
        return found

    async def review(
        self, id_: str, who: str = "dpo1", verdict: str = "justified", org: str | None = "h1"
    ) -> dict[str, Any]:
        """Write a review down, as somebody of *org* by the token."""
        row, said = await self.row(id_), {"verdict": verdict, "note": "CANARY of a reviewer"}
        return await self.sessions.review(Caller(who), row, row.version, said, org)

    async def reinstate(self, id_: str, who: str = "dpo1", org: str | None = "h1") -> dict[str, Any]:
        """Give the clinician of a session the right back."""
        row = await self.row(id_)
        return await self.sessions.reinstate(Caller(who), row, row.version, "CANARY reason of the office", org)

    async def reason(self, session: str, who: str = "ed", patient: str = "p0", now: Instant | None = None) -> str:
        """Decide a reading under a session, by what this sidecar knows."""
        facts = self.information.facts_now(who, patient) or await self.information.fetch(who, patient)
        request = EvaluationRequest(
            Subject("user", who, SubjectProperties(("emergency_clinician",), "h1")), Action("read"),
            Resource("Record", "r", ResourceProperties(patient=patient, data_class="labs", labels=())),
            RequestContext("BTG", btg_session=session),
        )  # fmt: skip
        return evaluate(self.policy_set, request, facts, at(self.time if now is None else now), frozenset()).reason

    async def waiting(self, org: str = "h1", before: Instant | None = None) -> list[tuple[str, bool]]:
        """Return which sessions wait for a review, and whether they are late."""
        found = await self.sessions.queue(org, before, (0, ""), 100)
        return [(opening.id, told["overdue"]) for opening, told in found]


def person(name: str, role: str, org: str) -> SubjectFacts:
    """Return somebody of a hospital."""
    return SubjectFacts(name, roles=(role,), org=org, organisation=Organisation("provider_medical", undertaking=True))


@asynccontextmanager
async def fleet(url: str, policy_set: PolicySet, size: int = 1) -> AsyncIterator[list[Sidecar]]:
    """Run so many sidecars on a database that knows the clinicians, the office and the patients."""
    async with AsyncExitStack() as stack:
        told: list[Notice] = []
        fleet: list[Sidecar] = []
        for _ in range(size):
            store = await SqlStore.open(url, write_timeout_seconds=60, read_timeout_seconds=20)
            stack.push_async_callback(store.aclose)
            information = InformationPoint(store, Freshness(store.token_key), SystemClock())
            stack.push_async_callback(information.aclose)
            await information.probe_once()
            fleet.append(Sidecar(store, information, policy_set, told))
        people = [person(name, "emergency_clinician", "h1") for name in CLINICIANS]
        people += [person(name, "privacy_officer", "h1") for name in OFFICE]
        people += [person("stranger", "privacy_officer", "h2")]
        episode = Episode("e", "h1", "emergency", NOW - HOUR)
        await fleet[0].information.record(
            tuple(people), tuple(PatientFacts(id_, episodes=(episode,)) for id_ in PATIENTS)
        )
        yield fleet


Life = Callable[[list[Sidecar]], Awaitable[None]]
Live = Callable[..., None]


@pytest.fixture
def live(url: str, policy_set: PolicySet) -> Live:
    """Return what lives a life through; with several sidecars on PostgreSQL, on SQLite with as many tasks of one."""

    def run(life: Life, size: int = 1) -> None:
        async def whole_life() -> None:
            async with fleet(url, policy_set, size if is_postgres(url) else 1) as sidecars:
                await life(sidecars)

        asyncio.run(whole_life())

    return run


def rows(url: str, statement: str) -> list[Any]:
    """Ask the database itself, or damage it."""
    engine: Engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        done = connection.execute(text(statement))
        found = list(done) if done.returns_rows else []
    engine.dispose()
    return found


def test_a_session_opens_with_its_notices_and_for_its_clinician_alone(live: Live) -> None:
    """The alert and the patient's notice are there before anybody may read; over after four hours, to the microsecond."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        assert one.told == [] and await one.reason("none") == "deny.btg.no_session"
        id_ = await one.open()
        assert [(each.audience, each.kind, each.patient) for each in one.told] == [
            ("privacy_officer", "alert", "p0"), ("patient", "supplement", "p0"),
        ]  # fmt: skip
        assert {each.entry for each in one.told} == {f"d-{id_}"}
        answers = [await one.reason(id_, now=moment) for moment in (NOW - 1, NOW, NOW + 4 * HOUR - 1, NOW + 4 * HOUR)]
        allow, over = "allow.emergency.override", "deny.btg.expired"
        assert answers == [over, allow, allow, over]
        assert await one.reason(id_, who="mate") == "deny.btg.subject_mismatch"
        assert await one.reason(id_, patient="p1") == "deny.btg.patient_mismatch"

    live(life)


def test_what_cannot_be_told_does_not_open(live: Live) -> None:
    """Notices that fail undo the opening: no record, nothing to count, no permit."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars

        def fail() -> None:
            raise StoreUnavailableError("no place for a notice")

        one.fails = fail
        with pytest.raises(StoreUnavailableError):
            await one.open()
        assert await one.waiting() == []
        facts = await one.information.fetch("ed", "p0")
        assert facts.subject is not None and facts.patient is not None
        assert (facts.subject.btg_opened, facts.patient.grants) == ((), ())

    live(life)


def test_without_an_outbox_nothing_opens(live: Live) -> None:
    """Where nobody could be told of it, no session opens."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        one.store.add_notices = None
        with pytest.raises(StoreUnavailableError):
            await one.open()
        assert await one.waiting() == []

    live(life)


@pytest.mark.slow
def test_no_two_sidecars_open_the_eleventh_session_of_a_day(live: Live, url: str) -> None:
    """Fourteen attempts at a time at four sidecars: ten open; at local midnight, and no microsecond sooner, another."""

    async def life(sidecars: list[Sidecar]) -> None:
        for day in range(3):
            for each in sidecars:
                each.time = NOW + day * DAY
            attempts = [sidecars[number % len(sidecars)].attempt(patient=id_) for number, id_ in enumerate(PATIENTS)]
            answers = await asyncio.gather(*attempts)
            assert answers.count(LIMIT) == 4
            assert rows(url, "SELECT count(*) FROM break_glass") == [(10 * (day + 1),)]
        assert await sidecars[0].attempt("mate", "p0") != LIMIT
        last = sidecars[-1]
        last.time = MIDNIGHT + 2 * DAY - 1
        assert await last.attempt(patient="p0") == LIMIT
        last.time = MIDNIGHT + 2 * DAY
        assert await last.attempt(patient="p0") != LIMIT

    live(life, 4)


@pytest.mark.slow
def test_no_two_sidecars_open_more_in_a_ward_than_its_limit(
    live: Live, url: str, variant: Callable[..., PolicySet]
) -> None:
    """Three clinicians at a time at four sidecars, each for patients of its own: three more sessions open each time."""

    async def life(sidecars: list[Sidecar]) -> None:
        hospital = SubjectFacts("h1", roles=(), organisation=Organisation("provider_medical", undertaking=True))
        await sidecars[0].information.record((hospital,), ())
        for limit in (3, 6, 9, 12):
            for each in sidecars:
                each.policy_set = variant({"btg": {"rates": {"limit_ward": limit, "alone": 99}}})
            attempts = [
                sidecars[number % len(sidecars)].attempt(CLINICIANS[number % 3], id_)
                for number, id_ in enumerate(PATIENTS)
            ]
            answers = await asyncio.gather(*attempts)
            assert answers.count(LIMIT) == len(PATIENTS) - 3
            assert rows(url, "SELECT count(*) FROM break_glass") == [(limit,)]

    live(life, 4)


def test_a_ward_of_another_organisation_is_another_whatever_its_name(
    live: Live, variant: Callable[..., PolicySet]
) -> None:
    """Who opens sessions in one hospital takes nothing from its namesake; in the ward itself the limit holds."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        one.policy_set = variant({"btg": {"rates": {"limit_ward": 2, "alone": 99}}})
        people = [
            person(name, "emergency_clinician", "h2" if name == "far" else "h1") for name in ("ed", "mate", "far")
        ]
        wards = [msgspec.structs.replace(each, groups=("ward:er",)) for each in people]
        both = tuple(Episode(org, org, "emergency", NOW - HOUR) for org in ("h1", "h2"))
        await one.information.record(tuple(wards), (PatientFacts("p0", episodes=both),))
        content = json.dumps(whole("grant", patient="p0")).encode()
        for number in range(2):
            await one.sessions.open(
                Caller("far"), read_model(SessionIn, content), Call(None, content), Ask(f"f{number}", "d", "h2", True)
            )
        assert [await one.attempt(who) == LIMIT for who in ("ed", "mate", "ed")] == [False, False, True]

    live(life)


def test_a_decision_counts_the_sessions_of_the_day_again(live: Live, variant: Callable[..., PolicySet]) -> None:
    """Once the operator lowers the limit, what was opened above it opens nothing any more."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        opened = [await one.open(patient=id_) for id_ in PATIENTS[:4]]
        assert await one.reason(opened[0]) == "allow.emergency.override"
        one.policy_set = variant({"btg": {"daily_limit": 4}})
        assert await one.reason(opened[0]) == "allow.emergency.override"
        one.policy_set = variant({"btg": {"daily_limit": 3}})
        assert await one.reason(opened[0]) == "deny.btg.rate_limited"
        assert await one.reason(opened[0], now=NOW + 1) == "deny.btg.rate_limited"

    live(life)


def test_rates_flag_a_session_and_the_queue_and_the_alert_show_it(live: Live) -> None:
    """The fourth session for a patient, whoever opens it; the sixth of a clinician; the first of each is not flagged."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        for who in ("ed", "ed", "mate"):
            await one.open(who)
        flagged = await one.open("other")
        for id_ in PATIENTS[1:4]:
            await one.open(patient=id_)
        busy = await one.open(patient="p4")
        shown = {opening.id: told["anomaly"] for opening, told in await one.sessions.queue("h1", None, (0, ""), 100)}
        assert {id_: flags for id_, flags in shown.items() if flags} == {flagged: ["patient"], busy: ["clinician"]}
        alerts = {each.facts["session"]: each.facts.get("anomaly") for each in one.told if each.kind == "alert"}
        assert (alerts[flagged], alerts[busy]) == ("patient", "clinician")

    live(life)


def test_a_third_session_for_one_patient_needs_a_colleague(live: Live) -> None:
    """Of the same organisation, by the directory and by the token; who confirms is on record, and may not review it."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        for _ in range(2):
            await one.open()
        assert await one.attempt() == "break-glass-second-person"
        roamer = SubjectFacts("roamer", roles=("emergency_clinician",))
        await one.information.record((roamer,), ())
        for who, org in (("roamer", "h2"), ("roamer", None), ("mate", "h2"), ("stranger", "h2"), ("nobody", "h1")):
            with pytest.raises(RegistryError, match="second person"):
                await one.open(second=who, org=org)
        id_ = await one.open(second="mate")
        assert [(step.event, step.by) for step in (await one.row(id_)).body.steps] == [
            ("create", "ed"), ("confirm", "mate"),
        ]  # fmt: skip
        one.time += 5 * HOUR
        with pytest.raises(RegistryError, match="no hand"):
            await one.review(id_, "mate")

    live(life)


def test_a_repeated_call_opens_one_session(live: Live) -> None:
    """The same key and content: the same answer, and one session is counted."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        content = json.dumps(whole("grant", patient="p0")).encode()
        data, call = read_model(SessionIn, content), Call("key-of-a-call", content)
        ids = [
            (await one.sessions.open(Caller("ed"), data, call, Ask(id_, "d", "h1", True)))["id"] for id_ in ("s1", "s2")
        ]  # fmt: skip
        assert ids == ["s1", "s1"] and len(await one.waiting()) == 1 and len(one.told) == 2

    live(life)


def test_what_fails_an_item_is_kept_and_counts_for_nothing(live: Live) -> None:
    """No session, no notice, nothing to review."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        id_ = await one.open(reason_code="curiosity")
        assert (await one.row(id_)).status == "invalid"
        assert (await one.waiting(), one.told) == ([], [])
        assert await one.reason(id_) == "deny.btg.no_session"

    live(life)


def test_sessions_wait_for_a_review_in_the_order_in_which_they_are_due(live: Live) -> None:
    """Of the own organisation, until one is settled; late at the due moment; what is unclear waits for another reviewer."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        first = await one.open()
        one.time += 1
        second = await one.open("mate", "p1")
        assert await one.waiting("h2") == []
        assert await one.waiting(before=NOW + DUE + 1) == [(first, False)]
        one.time = NOW + DUE
        assert await one.waiting() == [(first, True), (second, False)]
        assert (await one.review(first, "dpo1", "unclear"))["status"] == "unclear"
        assert [id_ for id_, _ in await one.waiting()] == [first, second]
        with pytest.raises(RegistryError, match="no hand"):
            await one.review(first, "dpo1")
        assert (await one.review(first, "dpo2"))["status"] == "justified"
        assert [id_ for id_, _ in await one.waiting()] == [second]

    live(life)


def test_nobody_judges_a_session_of_the_own_or_of_another_organisation(live: Live) -> None:
    """Neither its clinician nor another organisation's office reviews it or gives the right back."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        id_ = await one.open()
        one.time += 5 * HOUR
        await one.review(id_, "dpo1", "misuse")
        await one.information.record((SubjectFacts("roamer", roles=("privacy_officer",)),), ())
        outsiders = (("ed", "own clinician", "h1"), ("stranger", "own organisation", None), ("dpo2", "own", "h2"))
        for who, words, org in (
            *outsiders,
            ("roamer", "own", "h2"),
            ("roamer", "own", None),
            ("nobody", "own", "h1"),
        ):
            with pytest.raises(RegistryError, match=words):
                await one.review(id_, who, org=org)
            with pytest.raises(RegistryError, match=words):
                await one.reinstate(id_, who, org)

    live(life)


async def rights_of(store: SqlStore, subject: str) -> list[tuple[Any, ...]]:
    """Return what became of a clinician's right, oldest first: event, cause and by whom."""
    right = break_glass_right.c
    story = select(right.event, right.cause, right.by).where(right.subject == subject).order_by(right.at, right.id)
    return await store.run_looking(lambda connection: [tuple(row) for row in connection.execute(story)], 5)


def test_misuse_suspends_the_right_and_the_office_gives_it_back(live: Live, url: str) -> None:
    """In the same transaction: open sessions end, none opens; lifted with a reason, on record and told of."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        misused = await one.open(minutes=1)
        other = await one.open(patient="p1")
        one.time += 60_000_000
        await one.review(misused, verdict="misuse")
        assert await one.reason(other, patient="p1") == "deny.btg.suspended"
        assert await one.attempt() == "break-glass-suspended"
        one.time += 1
        lifted = await one.reinstate(misused, "dpo2")
        assert lifted["token"] and await one.reason(other, patient="p1") == "allow.emergency.override"
        assert await one.attempt() != "break-glass-suspended"
        with pytest.raises(RegistryError, match="not suspended"):
            await one.reinstate(misused, "dpo2")
        story = await rights_of(one.store, "ed")
        assert story == [("suspended", "misuse", "dpo1"), ("lifted", "office", "dpo2")]
        events = [each.facts["event"] for each in one.told if each.facts.get("event") not in (None, "opened")]
        assert events == [each.event for each in one.journal] == ["suspended", "lifted"]
        assert {each.org for each in one.journal} == {"h1"}  # its privacy office finds them in the journal
        assert "CANARY" not in repr((await one.row(misused)).body) + repr(one.told) + repr(one.journal)

    live(life)


def test_a_late_review_is_told_of_once_and_the_second_suspends(live: Live, url: str) -> None:
    """At the due moment, not before; however many sidecars look; another clinician's is none of this one's."""

    async def life(sidecars: list[Sidecar]) -> None:
        one, last = sidecars[0], sidecars[-1]
        await one.open()
        await one.open("mate")
        one.time += 1
        second = await one.open(patient="p1")
        settled = await one.open(patient="p2", minutes=1)
        one.time += HOUR
        await one.review(settled)
        one.told.clear()

        async def look(now: Instant) -> int:
            return sum(await asyncio.gather(*(each.sessions.look(now) for each in sidecars)))

        assert await look(NOW + DUE - 1) == 0 and one.told == []
        assert await look(NOW + DUE) == 2
        facts = (await last.information.fetch("ed", None)).subject
        assert facts is not None and not facts.btg_suspended
        assert await look(NOW + DUE + 1) == 1
        assert await look(NOW + DAY + DUE) == 0
        events = [each.facts["event"] for each in one.told]
        assert events == ["review_overdue"] * 3 + ["suspended"]
        await one.information.probe_once()
        await last.information.probe_once()
        late = NOW + DUE + 2
        assert await last.reason(second, patient="p1", now=late) == "deny.btg.expired"
        for each in sidecars:
            each.time = late
            assert await each.attempt() == "break-glass-suspended"
        assert await one.attempt("mate") != "break-glass-suspended"
        story = await rights_of(one.store, "ed")
        assert story == [("suspended", "overdue", None)]

    live(life, 2)


def test_damaged_facts_hide_nobody_elses_late_review(live: Live, url: str) -> None:
    """One patient's facts, or one session's record, cannot be read: the sessions due after it are found all the same."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        ids = [await one.open(patient=id_) for id_ in ("p1", "p2")] + [await one.open("mate", "p3")]
        damaged = "'\\x7b'" if is_postgres(url) else "x'7b'"
        rows(url, f"UPDATE patient_facts SET body = {damaged} WHERE id = 'p1'")
        rows(url, f"UPDATE record SET body = {damaged} WHERE id = '{ids[1]}'")
        assert await one.sessions.look(NOW + DUE) == 1 and await one.sessions.look(NOW + DUE) == 0
        found = rows(url, "SELECT id FROM break_glass WHERE overdue_at IS NOT NULL")
        assert [each[0] for each in found] == ids[2:]

    live(life)


def test_a_review_that_comes_late_is_late_whether_or_not_anybody_has_looked(live: Live) -> None:
    """At the due moment, not a microsecond before; what is unclear counts once; the second suspends, told and journaled."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        ids = [await one.open(patient=id_) for id_ in PATIENTS[:3]]
        one.told.clear()
        one.time = NOW + DUE - 1
        await one.review(ids[0])
        assert (one.told, one.journal) == ([], [])
        one.time = NOW + DUE
        await one.review(ids[1], "dpo1", "unclear")
        one.time += 1
        await one.review(ids[1], "dpo2")
        assert await one.attempt(patient="p5") != "break-glass-suspended"
        await one.review(ids[2])
        events = [each.facts["event"] for each in one.told if each.facts.get("event") not in (None, "opened")]
        assert events == ["review_overdue", "review_overdue", "suspended"]
        assert [each.event for each in one.journal] == ["review_overdue", "review_overdue", "suspended"]
        assert await one.attempt(patient="p6") == "break-glass-suspended"
        assert [id_ for id_, _ in await one.waiting() if id_ in ids] == []

    live(life)


def test_a_late_session_of_misuse_is_both(live: Live) -> None:
    """Late and misuse: told of each once, and the right is suspended for the misuse."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        ids = [await one.open(patient=id_) for id_ in PATIENTS[:2]]
        assert await one.sessions.look(NOW + DUE) == 2
        one.time = NOW + DUE + HOUR
        await one.reinstate(ids[0])
        late = await one.open(patient="p5")
        one.time += DUE
        one.told.clear()
        await one.review(late, "dpo1", "misuse")
        assert [each.facts["event"] for each in one.told] == ["review_overdue", "suspended"]
        assert (await rights_of(one.store, "ed"))[-1][1] == "misuse"

    live(life)


def test_after_the_right_was_given_back_late_reviews_are_counted_anew(live: Live) -> None:
    """One further late review suspends nothing; two do."""

    async def life(sidecars: list[Sidecar]) -> None:
        (one,) = sidecars
        ids = [await one.open(patient=id_) for id_ in PATIENTS[:2]]
        assert await one.sessions.look(NOW + DUE) == 2
        one.time = NOW + DUE + HOUR
        await one.reinstate(ids[0])
        for number, suspended in ((2, False), (3, True)):
            await one.open(patient=PATIENTS[number])
            one.time += HOUR
            assert await one.sessions.look(one.time + DUE) == 1
            facts = (await one.information.fetch("ed", None)).subject
            assert facts is not None and facts.btg_suspended is suspended
            one.time += DUE

    live(life)


def test_a_decision_to_open_that_cannot_be_journaled_is_none(policy_set: PolicySet) -> None:
    """The entry of the journal comes before the transaction: without it the answer is a denial, and nothing is opened."""

    class Broken:
        async def append(self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False) -> None:
            raise JournalError("no room")

    known = Facts(person("ed", "emergency_clinician", "h1"), PatientFacts("p0"), Position("e", 1))
    facts: Any = SimpleNamespace(facts_now=lambda *_: known, usable=lambda *_: True, position=known.position)
    clock: Any = SimpleNamespace(now=lambda: Now(NOW, NOW), boottime=lambda: 0)
    tokens: Any = SimpleNamespace(issue_token=lambda _: "t")
    point = DecisionPoint(policy_set, facts, tokens, Broken(), clock, Metrics())
    request = EvaluationRequest(
        Subject("user", "ed", SubjectProperties(("emergency_clinician",), "h1")), Action("create"),
        Resource("EmergencyGrant", "s1", ResourceProperties(patient="p0", data_class="session", labels=())),
        RequestContext("BTG"),
    )  # fmt: skip
    assert evaluate(policy_set, request, known, at(NOW), frozenset()).allowed
    answer = asyncio.run(point.decide(request, Origin("control")))
    assert (answer.decision.allowed, answer.decision.reason) == (False, "deny.audit_unavailable")


def test_nobody_opens_a_session_past_its_counting() -> None:
    """The registry of other records refuses to write one down."""
    nothing: Any = None
    registry = RecordRegistry(GRANT, nothing, nothing, RecordSeal(bytes(32)), nothing, str, lambda: NOW)
    with pytest.raises(ValueError, match="counted"):
        asyncio.run(registry.create(Caller("ed"), {"patient": "p0"}, Call()))
