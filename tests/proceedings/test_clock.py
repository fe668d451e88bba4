"""What the passing of time does: written down once, whoever looks and however often, together with its notices."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import insert

from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import HOUR
from ruqsat.core.notice import Notice, notice_key
from ruqsat.core.proceeding import NO_TERM, Hour, Opening, ProceedingChange, ProceedingRow, Wanted, advanced, first_row
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.core.proceeding_notice import events_of
from ruqsat.core.working_days import WorkingDays
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.proceeding_clock import ProceedingClock
from ruqsat.stores import sql_proceedings
from ruqsat.stores.proceeding_store import BATCH, ProceedingStore
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_facts import UnknownPatientError
from ruqsat.stores.sql_schema import consent_record

OFFSET = 5
Work = Callable[[SqlStore, ProceedingStore], Coroutine[Any, Any, None]]


def noon(day: str) -> Hour:
    """Return the noon of a day at home."""
    days = (date.fromisoformat(day) - date(1970, 1, 1)).days
    return Hour((days * 24 + 12 - OFFSET) * HOUR, WorkingDays(), OFFSET)


def begun(id_: str, kind: str, day: str, patient: str | None = "p1", due: str | None = None) -> ProceedingRow:
    """Return a proceeding as it was opened at that noon."""
    hour, stated = noon(day), None if due is None else date.fromisoformat(due)
    return first_row(Opening(id_, PROCEEDING_KINDS[kind], patient, "h1", hour.now, {}, "dpo", stated), hour)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database on each kind of store in turn."""
    return str(request.getfixturevalue("truth")) if request.param == "postgres" else f"sqlite:///{tmp_path}/truth.db"


def run(url: str, work: Work) -> list[Notice]:
    """Run *work* on a database that knows one patient; return the notices that were made."""
    told: list[Notice] = []

    async def go() -> None:
        store = await SqlStore.open(url)
        store.add_notices = lambda _connection, notices: told.extend(notices)
        try:
            await store.record_facts((), (PatientFacts("p1"),))
            await work(store, ProceedingStore(store))
        finally:
            await store.aclose()

    asyncio.run(go())
    return told


async def put(store: ProceedingStore, *rows: ProceedingRow) -> None:
    """Write these down."""
    for row in rows:
        await store.change(row.id, None, lambda _before, _receipt, row=row: ProceedingChange(b"", row))  # type: ignore[misc]


def test_each_signal_is_said_once_a_term(url: str) -> None:
    """Day by day, thrice a day: a warning at the second working day, overdue after the third; the outer limit of its own."""
    said: dict[str, list[tuple[str, str]]] = {}

    async def work(_: SqlStore, store: ProceedingStore) -> None:
        await put(store, begun("i", "information", "2026-03-20"), begun("c", "correction", "2026-03-20"))
        day = date(2026, 3, 20)
        while day < date(2026, 4, 5):
            for _ in range(3):
                await store.tick(noon(day.isoformat()))
            day += timedelta(days=1)
        for id_ in ("i", "c"):
            said[id_] = [(event, due) for event, due, _ in await store.events(id_)]

    told = run(url, work)
    assert said == {
        "i": [("1:warning", "2026-03-30"), ("1:overdue", "2026-03-30")],
        "c": [("1:warning", "2026-03-26"), ("1:overdue", "2026-03-26"), ("1:outer_overdue", "2026-03-26")],
    }
    assert Counter(notice.key for notice in told) == Counter(
        {
            notice_key("proceeding", *key.split("/")): 1
            for key in ("i/1:warning", "i/1:overdue", "c/1:warning", "c/1:overdue", "c/1:outer_overdue")
        }
    )
    assert {notice.audience for notice in told} == {"office"}


def test_what_is_decided_is_not_warned_of_and_a_new_term_is(url: str) -> None:
    """Blocked in time: silence; confirmed: its own term warns and runs out."""
    kind = PROCEEDING_KINDS["destruction"]

    async def work(_: SqlStore, store: ProceedingStore) -> None:
        row = begun("d", "destruction", "2026-03-16")
        await put(store, row)
        blocked = advanced(kind, row, "block", "dpo", noon("2026-03-16"), {})
        await put(store, blocked)
        await store.tick(noon("2026-03-19"))
        assert await store.events("d") == []
        await put(store, advanced(kind, blocked, "confirm", "dpo", noon("2026-03-20"), {}))
        await store.tick(noon("2026-03-27"))
        assert [event for event, *_ in await store.events("d")] == ["3:overdue", "3:warning"]

    run(url, work)


def test_several_processes_say_each_thing_once(truth: str) -> None:
    """Four at once, ten looks each, on one PostgreSQL: as many notices as there are things to say."""
    told: list[Notice] = []
    lock = threading.Lock()

    def tell(_connection: Any, notices: tuple[Notice, ...]) -> None:
        with lock:
            told.extend(notices)

    async def go() -> None:
        stores = [await SqlStore.open(truth) for _ in range(4)]
        try:
            await stores[0].record_facts((), (PatientFacts("p1"),))
            kept = [ProceedingStore(store) for store in stores]
            await put(kept[0], *(begun(f"x{n:03}", "information", "2026-03-20") for n in range(60)))
            await put(
                kept[0], *(begun(f"y{n:03}", "consent_request", "2026-03-20", due="2026-03-30") for n in range(20))
            )
            for store in stores:
                store.add_notices = tell

            async def look(store: ProceedingStore) -> None:
                for _ in range(10):
                    try:
                        await store.tick(noon("2026-04-10"))
                    except StoreUnavailableError:  # two that wrote at once: the next look says what is left
                        await asyncio.sleep(0.01)

            await asyncio.gather(*map(look, kept))
            await kept[0].tick(noon("2026-04-10"))
            for n in range(60):
                assert len(await kept[1].events(f"x{n:03}")) == 2
            assert len(await kept[1].queue(Wanted(state="lapsed", limit=100))) == 20
        finally:
            for store in stores:
                await store.aclose()

    asyncio.run(go())
    assert len(told) == 60 * 2 + 20
    assert len({notice.key for notice in told}) == len(told)


def test_two_that_found_the_same_say_it_once(truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds its transaction open until the other has found the same things unsaid: still one notice each."""
    told: list[str] = []
    looks: list[int] = []
    found_again, usual = threading.Event(), sql_proceedings.find_unsaid

    def find(*asked: Any) -> Any:
        found = usual(*asked)
        looks.append(len(found))
        if len(looks) == 2:
            found_again.set()
        return found

    def tell_late(_connection: Any, notices: tuple[Notice, ...]) -> None:
        assert found_again.wait(5)
        told.extend(notice.key for notice in notices)

    async def go() -> None:
        first, second = [await SqlStore.open(truth, write_timeout_seconds=20) for _ in range(2)]
        try:
            await first.record_facts((), (PatientFacts("p1"),))
            await put(ProceedingStore(first), begun("i", "information", "2026-03-20"))
            first.add_notices = second.add_notices = tell_late
            monkeypatch.setattr(sql_proceedings, "find_unsaid", find)
            await asyncio.gather(*(ProceedingStore(store).tick(noon("2026-04-10")) for store in (first, second)))
        finally:
            for store in (first, second):
                await store.aclose()

    asyncio.run(go())
    assert looks == [1, 1]
    assert (
        set(told) == {notice_key("proceeding", "i", event) for event in ("1:overdue", "1:warning")} and len(told) == 2
    )


def test_a_look_ends_when_nothing_is_left_to_say(url: str) -> None:
    """More than a batch holds is said in one look of the clock."""

    async def work(_: SqlStore, store: ProceedingStore) -> None:
        await put(store, *(begun(f"x{n:03}", "information", "2026-03-20") for n in range(BATCH + 5)))
        clock = ProceedingClock(store, lambda: noon("2026-04-10"), enough=BATCH)
        assert await clock.look() == 2 * (BATCH + 5)
        assert await clock.look() == 0

    run(url, work)


def test_an_offer_lapses_by_itself_and_is_never_overdue(url: str) -> None:
    """The day after its last; whoever asked is told; after that nobody answers it."""

    async def work(_: SqlStore, store: ProceedingStore) -> None:
        await put(store, begun("o", "consent_request", "2026-03-20", due="2026-03-30"))
        await store.tick(noon("2026-03-30"))
        assert (await store.find("o")).is_open  # type: ignore[union-attr]
        await store.tick(noon("2026-03-31"))
        lapsed = await store.find("o")
        assert lapsed is not None and (lapsed.status, lapsed.is_open, lapsed.version) == ("lapsed", False, 2)
        await store.tick(noon("2026-04-15"))
        assert await store.events("o") == []

    assert [(notice.kind, notice.audience) for notice in run(url, work)] == [("proceeding.lapse", "office")]


def withdrawn(id_: str, at: int, **changes: Any) -> dict[str, Any]:
    """Return the columns of a consent that was withdrawn then."""
    return {
        "id": id_, "patient": "p1", "version": 2, "status": "revoked", "effect": "permit", "thread": id_, "org": "h1",
        "owner_tag": None, "created_at": 1, "updated_at": at, "body": b"", "sealed": b"", "sealed_at": 1,
    } | changes  # fmt: skip


def test_a_withdrawal_is_followed_up_by_itself_once(url: str) -> None:
    """Due fifteen working days after it; a refusal that is lifted, a draft and what was long ago begin nothing."""
    friday = noon("2026-03-20")
    rows = [
        withdrawn("c1", friday.now), withdrawn("c2", friday.now, status="active"),
        withdrawn("c3", friday.now, effect="deny"), withdrawn("c4", friday.now - 40 * 24 * HOUR),
    ]  # fmt: skip

    async def work(store: SqlStore, kept: ProceedingStore) -> None:
        await store.run_writing(lambda connection: connection.execute(insert(consent_record), rows) and None)
        for _ in range(3):
            await kept.tick(noon("2026-03-26"))
        found = await kept.queue(Wanted())
        assert [(row.id, row.kind, row.due, row.body.said["consent"]) for row in found] == [
            ("w-c1", "withdrawal", "2026-04-15", "c1")
        ]

    assert [notice.key for notice in run(url, work)] == [notice_key("proceeding", "w-c1", "1/open")]


def test_a_notice_that_cannot_be_kept_undoes_what_it_tells_of(url: str) -> None:
    """The seam is in the same transaction: no outbox, no change."""

    def fails(_connection: Any, _notices: Any) -> None:
        raise StoreUnavailableError("no room")

    async def work(store: SqlStore, kept: ProceedingStore) -> None:
        row = begun("i", "information", "2026-03-20")
        store.add_notices = fails
        made = ProceedingChange(b"", row, events_of(row, by_applicant=True))
        with pytest.raises(StoreUnavailableError):
            await kept.change("i", None, lambda _before, _receipt: made)
        assert await kept.find("i") is None
        store.add_notices = None
        await put(kept, row)
        store.add_notices = fails
        with pytest.raises(StoreUnavailableError):
            await kept.tick(noon("2026-04-10"))
        assert await kept.events("i") == []

    run(url, work)


def test_a_proceeding_is_about_somebody_on_record(url: str) -> None:
    """About an unknown patient: refused; about nobody in particular: kept."""

    async def work(_: SqlStore, store: ProceedingStore) -> None:
        with pytest.raises(UnknownPatientError):
            await put(store, begun("x", "information", "2026-03-20", patient="p-nobody"))
        await put(store, begun("b", "breach_notice", "2026-03-20", patient=None))
        assert [row.id for row in await store.queue(Wanted())] == ["b"]

    run(url, work)


@pytest.mark.parametrize("failure", [StoreUnavailableError("away"), KeyError("a kind that is none")])
def test_a_look_that_fails_is_not_the_last_one(failure: Exception) -> None:
    """The clock goes on when the store does not answer, and when a row is there that nobody understands."""
    looks = 0

    class Away:
        async def tick(self, hour: Hour) -> int:
            nonlocal looks
            looks += 1
            if looks < 3:
                raise failure
            raise asyncio.CancelledError

    async def go() -> None:
        with pytest.raises(asyncio.CancelledError):
            await ProceedingClock(Away(), lambda: noon("2026-04-10"), enough=1).forever(0)

    asyncio.run(go())
    assert looks == 3


def test_whoever_did_something_is_not_told_of_it() -> None:
    """The applicant's steps go to the office, the office's to the patient; nothing of the dealings with the authority."""
    row = begun("i", "information", "2026-03-20")
    assert [notice.audience for notice in events_of(row, by_applicant=True)] == ["office"]
    answered = advanced(PROCEEDING_KINDS["information"], row, "answer", "dpo", noon("2026-03-26"), {})
    (told,) = events_of(answered)
    assert (told.audience, told.kind, told.patient, told.facts.get("due")) == (
        "patient",
        "proceeding.answer",
        "p1",
        None,
    )
    assert set(told.facts) == {"proceeding", "proceeding_kind", "status", "event"}
    assert events_of(begun("a", "authority", "2026-03-20")) == ()
    assert events_of(begun("b", "breach_notice", "2026-03-20", patient=None)) == ()
    open_still = msgspec.structs.replace(row, due="2026-03-30")
    assert events_of(open_still)[0].facts["due"] == "2026-03-30" != NO_TERM
