"""What proceedings and break-glass sessions have somebody told of is in the outbox with the change itself, or neither is."""

from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, delete, func, select

from ruqsat.core.break_glass import Found, Made, Opening, Wanted
from ruqsat.core.facts import PatientFacts, Representation
from ruqsat.core.instant import HOUR
from ruqsat.core.journaled import Journaled
from ruqsat.core.proceeding import Hour, ProceedingChange, first_row
from ruqsat.core.proceeding import Opening as Begun
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.core.proceeding_notice import events_of
from ruqsat.core.session_notice import About, of_opening
from ruqsat.core.working_days import WorkingDays
from ruqsat.duties import keeping_notices
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.stores.proceeding_store import ProceedingStore
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_outbox import add_notices
from ruqsat.stores.sql_schema import break_glass, outbox
from tests.duties.ground import AT, MOMENT, close, make, rows, run

SESSION = Opening("s1", "dr_aida", "p1", "h1", None, MOMENT, MOMENT + 72 * HOUR, ())


def hour_at(day: str) -> Hour:
    """Return the noon of a day."""
    return Hour(int(datetime.fromisoformat(day).replace(hour=7, tzinfo=UTC).timestamp()) * 1_000_000, WorkingDays(), 5)


async def ready(store: SqlStore) -> None:
    """Put a patient on record, and have notices kept as a serving process does."""
    store.add_notices = keeping_notices(NoticeBodies(None), lambda: MOMENT)
    await store.record_facts((), (PatientFacts("p1"),))


async def begin(store: SqlStore) -> None:
    """Begin a proceeding of the patient's."""
    row = first_row(Begun("i", PROCEEDING_KINDS["information"], "p1", "h1", hour_at("2026-03-20").now, {}, "dpo", None),
                    hour_at("2026-03-20"))  # fmt: skip
    made = ProceedingChange(b"", row, events_of(row, by_applicant=True))
    await ProceedingStore(store).change("i", None, lambda _before, _receipt: made)


async def open_session(store: SqlStore) -> None:
    """Open a break-glass session for the patient."""

    def change(found: Found) -> Made:
        notices = of_opening(About("s1", "dr_aida", "p1", "h1"), "d-1", (), MOMENT)
        return Made(facts=found.facts, opening=SESSION, notices=notices)

    await store.change_session(Wanted("dr_aida", "p1", "s1"), change)


def test_a_proceeding_and_what_the_clock_says_of_it_are_told(url: str) -> None:
    """Of the office that owes the answer: once as it begins, once a signal, however often the clock looks."""

    async def work(store: SqlStore, _: SqlDuties) -> None:
        await ready(store)
        await begin(store)
        assert await rows(store, "kind", "audience", "state") == [("proceeding.open", "office", "pending")]
        for _time in range(3):
            await ProceedingStore(store).tick(hour_at("2026-04-10"))
        kinds = await rows(store, "kind")
        assert sorted(kinds) == ["proceeding.open", "proceeding.overdue", "proceeding.warning"]

    run(url, work)


def test_what_the_office_answers_of_a_child_is_told_to_who_stands_for_it(url: str) -> None:
    """To each parent under a key of the own, to an adolescent whom the law hears in person; the office is the office."""
    powers = tuple(Representation(who, who, "parent", verified=True) for who in ("father", "mother"))
    row = first_row(
        Begun("i", PROCEEDING_KINDS["information"], "p1", "h1", MOMENT, {}, "dpo", None), hour_at("2026-11-24")
    )
    told = (*events_of(row), *events_of(row, signals=("1:warning",)))

    async def work(store: SqlStore, _: SqlDuties) -> None:
        await ready(store)
        assert store.add_notices is not None
        keep = store.add_notices
        for born, audiences in ((2020, ["office", "father", "mother"]), (2009, ["office", "patient"])):
            await store.record_facts((), (PatientFacts("p1", date(born, 1, 1), representations=powers),))
            await store.run_writing(lambda connection: connection.execute(delete(outbox)))
            await store.run_writing(lambda connection: keep(connection, told))
            found = await rows(store, "audience", "recipient")
            assert sorted(recipient or audience for audience, recipient in found) == sorted(audiences)

    run(url, work)


def test_a_session_is_told_to_the_office_and_to_the_patient(url: str) -> None:
    """Both notices are there once the session is."""

    async def work(store: SqlStore, _: SqlDuties) -> None:
        await ready(store)
        await open_session(store)
        assert sorted(await rows(store, "kind", "audience", "patient")) == [
            ("alert", "privacy_officer", "p1"), ("supplement", "patient", "p1"),
        ]  # fmt: skip

    run(url, work)


POWERS = tuple(Representation(who, who, "parent", verified=True) for who in ("dr_aida", "mother"))


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        (PatientFacts("p1", date(2020, 1, 1), representations=POWERS), {"mother": "pending", "dr_aida": "skipped"}),
        (PatientFacts("p1", date(2009, 1, 1), representations=POWERS),
         {"patient": "pending", "mother": "pending", "dr_aida": "skipped"}),
        (PatientFacts("p1", date(1980, 1, 1), representations=POWERS), {"patient": "pending"}),
        (PatientFacts("p1", date(1980, 1, 1), deceased_at=MOMENT - HOUR), {"patient": "skipped"}),
    ],
    ids=["a child", "an adolescent", "an adult", "who died"],
)  # fmt: skip
def test_of_a_session_are_told_whom_its_decision_has_told_and_each_once(
    url: str, patient: PatientFacts, expected: dict[str, str]
) -> None:
    """A child's mother and not the child, no parent of the own act, nobody who died; the decision adds none to them."""
    decided = msgspec.convert(
        {"n": 1, "hash": "00", "kind": "decision", "id": "d-1", "at": AT, "allowed": True, "action": "create",
         "subject": "dr_aida", "org": "h1", "patient": "p1", "duties": ["notify_subject"]}, Journaled,
    )  # fmt: skip

    async def work(store: SqlStore, _: SqlDuties) -> None:
        await ready(store)
        await store.record_facts((), (patient,))
        await open_session(store)
        shipped = make(decided, {"p1": patient})
        for _time in range(2):
            found = await rows(store, "audience", "recipient", "state")
            told = {recipient or audience: state for audience, recipient, state in found}
            assert told == expected | {"privacy_officer": "pending"} and len(found) == len(told)
            await store.run_writing(lambda connection: add_notices(connection, shipped, close, MOMENT))

    run(url, work)


@pytest.mark.parametrize("what", ["proceeding", "signal", "session"])
def test_nothing_is_told_of_a_change_that_fails(url: str, what: str) -> None:
    """The change fails after its notices were written: neither it nor they are there."""

    async def work(store: SqlStore, _: SqlDuties) -> None:
        await ready(store)
        if what == "signal":
            await begin(store)
        before = await rows(store, "key")
        keep, kept = store.add_notices, []

        def keep_and_fail(connection: Connection, notices: Any) -> None:
            assert keep is not None
            keep(connection, notices)
            kept.append(connection.execute(select(func.count()).select_from(outbox)).scalar_one())
            raise StoreUnavailableError("the transaction ends here")

        store.add_notices = keep_and_fail
        with pytest.raises(StoreUnavailableError):
            if what == "proceeding":
                await begin(store)
            elif what == "signal":
                await ProceedingStore(store).tick(hour_at("2026-04-10"))
            else:
                await open_session(store)
        assert kept and kept[0] > len(before)
        assert await rows(store, "key") == before
        proceedings = ProceedingStore(store)
        assert (await proceedings.find("i") is None) is (what != "signal")
        assert await proceedings.events("i") == []
        opened = select(func.count()).select_from(break_glass)
        assert await store.run_reading(lambda connection: connection.execute(opened).scalar_one(), 5) == 0

    run(url, work)
