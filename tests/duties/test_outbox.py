"""The outbox keeps a notice once, gives it into one hand at a time, and forgets none."""

import asyncio
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, Engine, delete, event

from ruqsat.core.facts import PatientFacts, Representation
from ruqsat.core.instant import SECOND
from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import IN_HAND, Attempt, Claimed, Outcome, Standing
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal
from ruqsat.stores import sql_outbox
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import LEASE, SqlDuties
from ruqsat.stores.sql_outbox import add_notices, withdraw_notices
from ruqsat.stores.sql_reseal import Resealed, reseal_notices
from ruqsat.stores.sql_schema import patient_facts
from tests.duties.ground import MOMENT, close, opened, rows, run

MOTHER = Representation("r1", "mother", "parent", verified=True)


def notice(number: int, **said: object) -> Notice:
    """Return one of many notices to p1."""
    usual = Notice(f"k{number:03}", f"e-{number}", "use", "patient", "p1", None, "h1", {"by": "dr_aida"}, MOMENT)
    return msgspec.structs.replace(usual, **said)


async def add(store: SqlStore, *notices: Notice, now: int = MOMENT) -> int:
    """Add notices in a transaction of their own."""
    return await store.run_writing(lambda connection: add_notices(connection, notices, close, now))


def test_a_notice_is_kept_once_however_often_it_is_added(url: str) -> None:
    """The key alone tells; what was there stays as it was, even once it was delivered."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        assert await add(store, notice(1), notice(2), notice(1)) == 2
        assert await add(store, notice(2, kind="change"), notice(3)) == 1
        assert await rows(store, "kind") == ["use"] * 3

        (first, *_) = await duties.claim(MOMENT, 1, "c")
        await duties.settle([Attempt(first, Outcome("delivered"), "log", 0)], MOMENT)
        assert await add(store, notice(1)) == 0
        assert await rows(store, "state") == ["delivered", "pending", "pending"]

    run(url, work)


def test_notices_are_added_with_the_change_or_not_at_all(url: str) -> None:
    """A transaction that fails after them leaves none."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        def fails(connection: Connection) -> None:
            add_notices(connection, [notice(1)], close, MOMENT)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            await store.run_writing(fails)
        assert await rows(store, "key") == []

    run(url, work)


def test_what_is_left_out_is_on_record_with_its_reason_and_never_claimed(url: str) -> None:
    """Suppressed on its ground; nobody takes it in hand, nobody can have it tried again, its facts are not kept."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1, skipped="suppressed", ground="H273.4.9"))

        assert await duties.claim(MOMENT + 10**12, 10, "c") == []
        assert await duties.retry(None, None, MOMENT) == 0
        assert await rows(store, "state", "reason", "legal_ground", "body") == [
            ("skipped", "suppressed", "H273.4.9", b"")
        ]

    run(url, work)


def test_nothing_is_taken_before_its_time(url: str) -> None:
    """Deferred until a day: not a microsecond sooner, and not by trying again either."""
    until = MOMENT + 1000 * SECOND

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1, due=until, deferred_until=until, ground="H273.4.3"))
        assert await duties.claim(until - 1, 10, "c") == []
        (found,) = await duties.claim(until, 10, "c")
        await duties.settle([Attempt(found, Outcome("dead", "x"), "log", 0)], until)
        assert await duties.retry(None, None, MOMENT) == 1
        assert await duties.claim(until - 1, 10, "c") == []
        assert len(await duties.claim(until, 10, "c")) == 1

    run(url, work)


def test_two_deliverers_never_have_the_same_notice_in_hand(url: str) -> None:
    """Eight take at once what there is: each notice once; and again only when the lease of the first is over."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, *map(notice, range(40)))
        hands = await asyncio.gather(*[duties.claim(MOMENT, 7, f"c{n}") for n in range(8)])
        taken = [each.key for hand in hands for each in hand]

        assert sorted(taken) == [f"k{n:03}" for n in range(40)]
        assert await duties.claim(MOMENT + LEASE - 1, 100, "d") == []
        again = await duties.claim(MOMENT + LEASE, 100, "d")
        assert len(again) == 40 and {each.attempts for each in again} == {2}

    run(url, work)


ODD = ("", "NULL", "null", "{a,b}", 'a"b', "a\\b", "a'b", "a,b", " a ", "әл-фараби", "%s ? :x $1", "a\nb", "\U0001f600")


def test_words_of_any_letters_come_back_as_they_were(url: str) -> None:
    """However rows are handed to the driver: texts that look like arrays, parameters or nothing at all, and real nothing."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        given = [notice(n, key=f"k{each}", entry=each, org=each, patient=each) for n, each in enumerate(ODD)]
        assert await add(store, *given, notice(99, org=None, patient=None)) == len(ODD) + 1
        assert await add(store, *given, notice(100)) == 1
        found = {(each.key, each.entry, each.org, each.patient) for each in await duties.claim(MOMENT, 99, "c")}
        assert found == {(f"k{each}", each, each, each) for each in ODD} | {
            ("k099", "e-99", None, None), ("k100", "e-100", "h1", "p1")
        }  # fmt: skip

    run(url, work)


def test_more_are_looked_at_than_are_taken_in_hand(url: str) -> None:
    """What ends at once ends, however many they are; of what is to be sent no more is taken than a hand holds."""

    def nowhere(each: Claimed) -> Attempt | None:
        over = int(each.key[1:]) % 3 == 0
        return Attempt(each, Outcome("skipped", "no_channel"), "egov", 0) if over else None

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, *map(notice, range(150)))
        assert len(await duties.claim(MOMENT, 200, "c", nowhere)) == 50 + IN_HAND
        found = await rows(store, "state", "reason", "channel", "claim", "attempts", "settled_at")
        assert Counter(found) == {
            ("skipped", "no_channel", "egov", None, 1, MOMENT): 50,
            ("pending", None, None, "c", 1, None): IN_HAND,
            ("pending", None, None, None, 0, None): 100 - IN_HAND,
        }
        assert len(await duties.claim(MOMENT, 200, "d", nowhere)) == 100 - IN_HAND

    run(url, work)


def test_on_sqlite_notices_are_found_by_their_keys(tmp_path: Path) -> None:
    """Never by looking through all that waits, which may be an hour of decisions: neither taken, nor settled, nor left out."""
    plans: list[str] = []

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        def explain(connection: Any, _cursor: Any, statement: str, said: Any, *_: Any) -> None:
            if statement.startswith("UPDATE outbox"):
                plan = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", said).fetchall()
                plans.append(next(step[3] for step in plan if "outbox" in step[3]))

        def withdraw(connection: Connection) -> int:
            return withdraw_notices(connection, {"e-3"}, MOMENT)

        await add(store, *map(notice, range(9)))
        event.listen(Engine, "before_cursor_execute", explain)
        try:
            taken = await duties.claim(MOMENT, 2, "c")
            ends = [
                Attempt(taken[0], Outcome("delivered"), "log", 0),
                Attempt(taken[1], Outcome("retry", "x"), "log", 1),
            ]
            await duties.settle(ends, MOMENT)
            assert await store.run_writing(withdraw) == 1
        finally:
            event.remove(Engine, "before_cursor_execute", explain)

    run(f"sqlite:///{tmp_path}/truth.db", work)
    by_key, by_entry = "sqlite_autoindex_outbox_1 (key=?)", "outbox_by_entry (entry=?)"
    assert [each.removeprefix("SEARCH outbox USING INDEX ") for each in plans] == [by_key] * 3 + [by_entry]


GONE: dict[str, PatientFacts] = {
    "revoked": PatientFacts("p1", date(2020, 1, 1), representations=(replace(MOTHER, revoked_at=MOMENT),)),
    "of age": PatientFacts("p1", date(2008, 11, 24), representations=(MOTHER,)),
    "dead": PatientFacts("p1", date(2020, 1, 1), representations=(MOTHER,), deceased_at=MOMENT),
    "unknown": PatientFacts("p0"),
}


@pytest.mark.parametrize("why", GONE)
def test_who_stands_for_the_patient_no_longer_is_not_told_and_the_patient_is(url: str, why: str) -> None:
    """Between the access and its notice (a wait on a written ground, a database away) a power may end; it is asked last."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        before = PatientFacts("p1", date(2010, 1, 1), representations=(MOTHER,))
        await store.record_facts((), (before,))
        await add(store, notice(1, audience="representatives", recipient="mother"))
        (claimed,) = await duties.claim(MOMENT, 1, "c")
        assert (claimed.audience, claimed.recipient, claimed.egov) == ("representatives", "mother", None)

        gone = [] if why == "unknown" else [GONE[why]]
        forget = delete(patient_facts).where(patient_facts.c.id == "p1")
        await store.run_writing(lambda connection: connection.execute(forget))
        await store.record_facts((), gone)
        (claimed,) = await duties.claim(MOMENT + LEASE, 1, "c")
        assert (claimed.audience, claimed.patient, claimed.recipient, claimed.egov) == ("patient", "p1", None, False)
        assert await rows(store, "audience", "recipient") == [("patient", None)]

    run(url, work)


def test_on_a_server_deliverers_do_not_wait_for_each_other(truth: str) -> None:
    """Rows that another transaction has in hand are passed over, not waited for."""

    async def go() -> None:
        async with opened(truth) as (store, _), opened(truth) as (_, others):
            await add(store, *map(notice, range(4)))

            def hold(connection: Connection) -> list[Claimed]:
                return sql_outbox.claim_notices(connection, MOMENT, 2, LEASE, "c", lambda *_: True)

            held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()

            def slowly(connection: Connection) -> list[Claimed]:
                found = hold(connection)
                loop.call_soon_threadsafe(held.set_result, None)
                asyncio.run_coroutine_threadsafe(free.wait(), loop).result(10)
                return found

            free = asyncio.Event()
            first = asyncio.ensure_future(store.run_writing(slowly))
            await held
            second = await others.claim(MOMENT, 10, "d")
            free.set()
            assert {each.key for each in second}.isdisjoint(each.key for each in await first) and len(second) == 2

    asyncio.run(go())


def test_whoever_lost_the_lease_can_say_that_it_was_delivered_and_nothing_else(url: str) -> None:
    """A failure reported late does not undo what another has done since; a delivery is true whoever says it."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1))
        (slow,) = await duties.claim(MOMENT, 1, "slow")
        (quick,) = await duties.claim(MOMENT + LEASE, 1, "quick")
        await duties.settle([Attempt(slow, Outcome("dead", "x"), "webhook", 0)], MOMENT)
        assert await rows(store, "state", "claim") == [("pending", "quick")]
        await duties.settle([Attempt(slow, Outcome("delivered"), "webhook", 0)], MOMENT)
        await duties.settle([Attempt(quick, Outcome("dead", "x"), "webhook", 0)], MOMENT)
        assert await rows(store, "state", "reason", "body") == [("delivered", None, b"")]

    run(url, work)


def test_what_was_never_sent_is_not_told_unless_it_is_too_late(url: str) -> None:
    """Notices of a decision that was taken back are skipped with that reason; a delivered one stays delivered."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1), notice(2, entry="e-1"), notice(3))
        (first,) = await duties.claim(MOMENT, 1, "c")
        await duties.settle([Attempt(first, Outcome("delivered"), "log", 0)], MOMENT)
        assert await store.run_writing(lambda connection: withdraw_notices(connection, {"e-1"}, MOMENT)) == 1
        assert await rows(store, "state", "reason") == [("delivered", None), ("skipped", "not_sent"), ("pending", None)]

    run(url, work)


@pytest.mark.parametrize(("result", "stands"), [("delivered", ("delivered", None)), ("dead", ("skipped", "not_sent"))])
def test_what_was_in_hand_when_it_was_taken_back_is_told_as_it_was(
    url: str, result: Any, stands: tuple[Any, Any]
) -> None:
    """Somebody was told: that is on record, whatever became of the decision; if nobody was, that it was never sent."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1))
        (claimed,) = await duties.claim(MOMENT, 1, "c")
        await store.run_writing(lambda connection: withdraw_notices(connection, {claimed.entry}, MOMENT))
        await duties.settle([Attempt(claimed, Outcome(result), "log", 0)], MOMENT)
        assert await rows(store, "state", "reason") == [stands]

    run(url, work)


@pytest.mark.parametrize(("result", "reason"), [("skipped", "not_registered"), ("dead", "http_500")])
def test_what_was_never_sent_is_not_told_by_trying_again(url: str, result: Any, reason: str) -> None:
    """The word that it was not comes last: what ended before, and might be tried again, stays untold for good."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, notice(1))
        claimed = await duties.claim(MOMENT, 1, "c")
        await duties.settle([Attempt(each, Outcome(result, reason), "egov", 0) for each in claimed], MOMENT)
        await store.run_writing(lambda connection: withdraw_notices(connection, {claimed[0].entry}, MOMENT))
        await duties.retry(None, None, MOMENT)
        assert await rows(store, "state", "reason") == [("skipped", "not_sent")]
        assert await duties.claim(MOMENT + LEASE, 1, "c") == []

    run(url, work)


def test_a_deliverer_learns_of_cabinet_and_channel_of_the_patient_alone(url: str) -> None:
    """What is known of the patient says nothing of a representative."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await store.record_facts(
            (), (PatientFacts("p1", date(2010, 1, 1), egov=True, representations=(MOTHER,)), PatientFacts("p2"))
        )
        await duties.set_channel("p1", "egov", MOMENT)
        await duties.set_channel("p1", "webhook", MOMENT)
        await duties.set_channel("p2", "webhook", MOMENT)
        await duties.set_channel("p2", None, MOMENT)
        await add(
            store, notice(1), notice(2, patient="p2"), notice(3, audience="representatives", recipient="mother"),
            notice(4, audience="privacy_officer"), notice(5, patient="p9"),
        )  # fmt: skip
        found = {each.key: (each.egov, each.channel) for each in await duties.claim(MOMENT, 9, "c")}
        assert found == {
            "k001": (True, "webhook"), "k002": (False, None), "k003": (None, None), "k004": (None, None), "k005": (False, None),
        }  # fmt: skip

    run(url, work)


def test_what_was_given_up_is_counted_listed_and_tried_again_on_demand(url: str) -> None:
    """All of it, one by its key, or those that ended for one reason; never what was delivered."""

    async def work(store: SqlStore, duties: SqlDuties) -> None:
        await add(store, *map(notice, range(6)))
        ends = ["delivered", "dead", "dead", "skipped", "skipped"]
        reasons = [None, "http_500", "http_404", "egov_not_configured", "not_registered"]
        claimed = await duties.claim(MOMENT, 5, "c")
        for each, result, reason in zip(sorted(claimed, key=lambda one: one.key), ends, reasons, strict=True):
            await duties.settle([Attempt(each, Outcome(result, reason), "webhook", 0)], MOMENT)  # type: ignore[arg-type]

        assert await duties.standing() == Standing(1, 2, MOMENT)
        listed = await duties.list_notices(("dead",), None, (0, ""), 10)
        assert [(each.key, each.reason) for each in listed] == [("k001", "http_500"), ("k002", "http_404")]
        page = await duties.list_notices((), "p1", (listed[0].created_at, "k003"), 10)
        assert [each.key for each in page] == ["k004", "k005"]
        assert await duties.list_notices((), "p1", (listed[0].created_at, "k003"), 10, "h1") == page
        assert await duties.list_notices((), "p1", (listed[0].created_at, "k003"), 10, "h2") == []

        assert await duties.retry(["k001"], None, MOMENT) == 1
        assert await duties.retry(None, "egov_not_configured", MOMENT) == 1
        assert await duties.retry(["k000", "k005"], None, MOMENT) == 0
        assert await duties.standing() == Standing(3, 1, MOMENT)

    run(url, work)


def test_the_facts_are_sealed_anew_when_the_key_changes(url: str) -> None:
    """They open under the new key alone; what was delivered has none; a second run finds nothing to do."""
    old, new = RecordSeal(bytes(range(32))), RecordSeal(bytes(32))
    both = NoticeBodies(RecordSeal(bytes(32), bytes(range(32))))

    async def fill(store: SqlStore, duties: SqlDuties) -> None:
        before = NoticeBodies(old)
        given = [*map(notice, range(9)), notice(10, skipped="suppressed")]
        await store.run_writing(lambda connection: add_notices(connection, given, before.close, MOMENT))
        (first,) = await duties.claim(MOMENT, 1, "c")
        await duties.settle([Attempt(first, Outcome("delivered"), "log", 0)], MOMENT)

    async def opens(store: SqlStore, duties: SqlDuties) -> None:
        claimed = await duties.claim(MOMENT + LEASE, 20, "c")
        assert [NoticeBodies(new).open(each) for each in claimed] == [{"by": "dr_aida"}] * 8

    run(url, fill)
    assert asyncio.run(reseal_notices(url, both.resealed, 3)) == Resealed(resealed=8, current=2)
    assert asyncio.run(reseal_notices(url, both.resealed, 3)) == Resealed(current=10)
    run(url, opens)
