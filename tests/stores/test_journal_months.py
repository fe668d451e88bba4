"""The journal on PostgreSQL is kept by months: no line is refused, lost or there twice, and old months go when empty."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, insert, select, text
from tests.duties.ground import AT, close, make, opened
from tests.duties.test_archive import write
from tests.duties.test_erasure import reading
from tests.duties.test_shipping import decision, lines_there, ship_all, shipper
from tests.ground import PostgresServer
from tests.mutants import plant
from tests.process.starter import run_cli
from tests.stores.test_migrations import run_once
from tests.views.ground import NOW, written

from ruqsat.core.instant import MINUTE, SECOND, render_instant
from ruqsat.core.journal_filter import JournalFilter, Spot
from ruqsat.core.journaled import BEGINNING, Lines, Place, Shipped, read_line
from ruqsat.core.month import Month
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores import migrations, sql_journal, sql_journal_months
from ruqsat.stores.sql_database import upgrade_database
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_erasure import journal_row
from ruqsat.stores.sql_journal_months import drop_month, empty_months, keep_months, make_month, months_there
from ruqsat.stores.sql_journal_views import _questions, read_journal
from ruqsat.stores.sql_schema import journal_entry

PRESENT = Month.of(NOW)
"""Of the tests' clock; the server's, by which databases are made, may be in another month."""


OTHER, UNDATED = "journal_entry_other", "journal_entry_undated"


def lines_of(*moments: int, writer: str = "w1", after: Place = BEGINNING) -> Lines:
    """Return lines of these moments, each after the one before; 0 is a line that does not say when."""
    found = []
    for number, moment in enumerate(moments, after.number + 1):
        line = written(number, at=render_instant(moment) if moment else None, id=f"{writer}-{number}")
        said = read_line(line)
        assert said is not None
        found.append((Place(1, number), said, line))
    return Lines(writer, after, tuple(found))


async def ship(duties: SqlDuties, lines: Lines, now: int = NOW) -> Shipped:
    """Ship lines at a moment."""
    return await duties.ship(lines, make, close, now)


def parts(connection: Connection) -> dict[str, int]:
    """Return which part of the journal holds how many lines."""
    question = "SELECT tableoid::regclass::text, count(*) FROM journal_entry GROUP BY 1"
    return dict([tuple(row) for row in connection.execute(text(question))])


def part(month: Month) -> str:
    """Return the name of a month's part."""
    return f"journal_entry_{month}"


def before(month: Month, count: int) -> Month:
    """Return the month that is *count* before."""
    at = month.year * 12 + month.number - 1 - count
    return Month(at // 12, at % 12 + 1)


@contextmanager
def looking(url: str, *tables: str) -> Iterator[Any]:
    """Read these tables in a transaction that stays open: whoever wants one alone waits."""
    with psycopg.connect(url) as connection:
        for table in tables:
            connection.execute(f"SELECT count(*) FROM {table}".encode())
        yield connection


MOMENTS = (
    0, 1, Month(1999, 12).ends - 1, Month(2000, 1).begins, before(PRESENT, 2).begins, before(PRESENT, 1).begins - 1,
    before(PRESENT, 1).begins, PRESENT.begins - SECOND, PRESENT.begins, NOW, PRESENT.ends - 1, PRESENT.ends,
    PRESENT.next.ends, Month(9999, 12).begins,
)  # fmt: skip
WHERE = {
    UNDATED: 1, OTHER: 4, part(Month(2000, 1)): 1, part(before(PRESENT, 2)): 2, part(before(PRESENT, 1)): 2,
    part(PRESENT): 3, part(PRESENT.next): 1,
}  # fmt: skip
"""Where they belong, once the months are made that may be."""


def test_a_line_of_any_moment_is_taken_and_of_a_month_stands_in_its_part(truth: str) -> None:
    """Undated, older than any journal, of the year 9999: none is refused; and a clock that is wrong makes no month."""

    async def go() -> None:
        async with opened(truth) as (store, duties):
            lines = lines_of(*MOMENTS)
            assert (await ship(duties, lines)).lines == len(MOMENTS)
            assert await lines_there(store) == [line for _, _, line in lines.lines]
            assert await store.run_reading(parts, 5) == WHERE

            later = PRESENT.next.ends + SECOND  # two months on: what was too far ahead finds its part
            await ship(duties, lines_of(later, after=lines.end), later)
            there = await store.run_reading(parts, 5)
            assert (there[OTHER], there[part(Month.of(later))]) == (3, 2)
            assert Month.of(later).next in await store.run_reading(months_there, 5), "made before it begins"

    asyncio.run(go())


SHAPE = (
    "SELECT attname, atttypid::regtype::text, attnotnull, attcollation FROM pg_attribute"
    " WHERE attrelid = 'journal_entry'::regclass AND attnum > 0 ORDER BY attnum",
    "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'journal_entry'::regclass ORDER BY 1",
    "SELECT indexdef FROM pg_indexes WHERE tablename IN ('journal_entry', 'journal_entry_other',"
    " 'journal_entry_undated', 'journal_entry_2026_11') ORDER BY 1",
    "SELECT pg_get_partkeydef('journal_entry'::regclass)",
)


def shape(connection: Connection) -> list[list[tuple[Any, ...]]]:
    """Return the columns, constraints and indexes of the journal and of some of its parts."""
    make_month(connection, Month(2026, 11))
    return [[tuple(row) for row in connection.execute(text(question))] for question in SHAPE]


def test_an_upgrade_keeps_every_line_and_leads_to_what_is_made_fresh(
    truth: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of many months, and words that no index holds; and another index beside would be noticed."""
    url = postgres.new_database()
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "HEAD", "0012")
        asyncio.run(upgrade_database(url))
    now = run_once(url, lambda found: found.execute(text("SELECT extract(epoch FROM now())::bigint")).scalar_one())
    assert isinstance(now, int)
    moments = (
        *MOMENTS[:5],
        Month(2003, 6).begins - 1,
        *[Month.of(now * SECOND).begins - days * 86_400 * SECOND for days in range(0, 300, 7)],
    )
    rows = [journal_row("w1", *each) for each in lines_of(*moments).lines]
    rows[0] |= {"rule": "r" * 3000, "documents": f"c-1 {'d' * 3000} c-2"}

    def whole(connection: Connection) -> list[Any]:
        order = (journal_entry.c.writer, journal_entry.c.segment, journal_entry.c.number)
        return [dict(row) for row in connection.execute(select(journal_entry).order_by(*order)).mappings()]

    run_once(url, lambda connection: connection.execute(insert(journal_entry), rows).close())
    assert run_once(url, whole) == rows
    assert asyncio.run(upgrade_database(url)) == migrations.HEAD
    assert run_once(url, whole) == [rows[0] | {"rule": None, "documents": "c-1 c-2"}, *rows[1:]]
    told = {Month.of(row["at"]) for row in rows if row["at"] >= Month(2000, 1).begins}
    there = run_once(url, parts)
    assert isinstance(there, dict)
    assert sum(there.values()) == len(rows) and there[UNDATED] == 1 and there[OTHER] == 2 and len(there) >= 12
    assert {name: count for name, count in there.items() if name not in (UNDATED, OTHER)} == {
        part(month): sum(month.begins <= row["at"] < month.ends for row in rows) for month in told
    }
    assert run_once(url, months_there) == sorted({*told, Month.of(now * SECOND).next})
    assert run_once(url, shape) == run_once(truth, shape)
    run_once(url, lambda connection: connection.execute(text("CREATE INDEX one_more ON journal_entry (basis)")).close())
    assert run_once(url, shape) != run_once(truth, shape)
    postgres.drop_database(url)


@pytest.mark.slow
def test_several_who_make_a_month_at_once_all_succeed(truth: str, tmp_path: Path) -> None:
    """Four shippers and two upgrades in processes of their own, with lines of the same months that nobody has."""
    rows = [journal_row("w0", *each) for each in lines_of(*[before(PRESENT, back).begins for back in range(12)]).lines]
    run_once(truth, lambda connection: connection.execute(insert(journal_entry), rows).close())

    async def one(writer: str) -> Shipped:
        async with opened(truth) as (_, duties):
            return await ship(duties, lines_of(*[before(PRESENT, back).begins for back in range(12)], writer=writer))

    async def go() -> None:
        upgrades = [asyncio.to_thread(run_cli, tmp_path, "db", "upgrade", database_url=truth) for _ in range(2)]
        shipments = [one(f"w{number}") for number in range(1, 5)]
        first, second, *told = await asyncio.gather(*upgrades, *shipments)
        assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
        assert [each.lines for each in told] == [12] * 4
        async with opened(truth) as (store, _):
            assert await store.run_reading(parts, 5) == {part(before(PRESENT, back)): 5 for back in range(12)}

        blind = plant(sql_journal_months, "if month in months_there(connection):", "if False:")
        async with opened(truth) as (store, _):
            with pytest.raises(StoreUnavailableError):
                await store.run_writing(lambda found: blind.make_month(found, PRESENT))

        assert await at_once(sql_journal_months, before(PRESENT, 40)) == [True, True]
        unlocked = plant(
            sql_journal_months,
            "    connection.execute(text(_MAKERS_LOCK))\n    if month in",
            "    if month in",
        )
        assert len(await at_once(unlocked, before(PRESENT, 41))) == 1

    async def at_once(module: Any, month: Month) -> list[bool]:
        """Have one make a month, another begin to before the first has committed; return the answers of who had one."""
        loop, made, begun = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        def first(connection: Connection) -> bool:
            told = bool(module.make_month(connection, month))
            loop.call_soon_threadsafe(made.set)
            begun.wait(20)
            time.sleep(0.1)  # by now the second waits for us, or has failed
            return told

        def second(connection: Connection) -> bool:
            begun.set()
            return bool(module.make_month(connection, month))

        async with opened(truth) as (one, _), opened(truth) as (two, _):
            running = asyncio.ensure_future(one.run_writing(first))
            await made.wait()
            told = await asyncio.gather(running, two.run_writing(second), return_exceptions=True)
        assert all(isinstance(each, bool | StoreUnavailableError) for each in told)
        return [each for each in told if isinstance(each, bool)]

    asyncio.run(go())


def test_shipping_does_not_wait_for_a_part_that_cannot_be_made(truth: str, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody reads the others for long: lines go there, it is said; later the part is made and they move."""
    old = before(PRESENT, 30)

    async def go() -> None:
        async with opened(truth) as (store, duties):
            with looking(truth, OTHER):
                assert (await ship(duties, lines_of(old.begins))).lines == 1
                assert (await ship(duties, lines_of(NOW, writer="w2"))).lines == 1
            assert (await store.run_reading(parts, 5))[OTHER] >= 1
            assert caplog.text.count("journal_months_not_made") == 1 and "lock" in caplog.text
            await ship(duties, lines_of(old.begins, after=Place(1, 1)))
            assert (await store.run_reading(parts, 5))[OTHER] >= 2, "it is not tried at every batch"
            await ship(duties, lines_of(old.begins, after=Place(1, 2)), NOW + 11 * MINUTE)
            there = await store.run_reading(parts, 5)
            assert (there[part(old)], OTHER in there) == (3, False)
            assert len(await lines_there(store)) == 4

    with caplog.at_level(logging.WARNING):
        asyncio.run(go())


def test_too_many_lines_are_left_to_the_operator(
    truth: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Serving moves no more than some; `ruqsat db upgrade` moves them all, or says that it could not, and ends well."""
    monkeypatch.setattr(sql_journal_months, "MOST_MOVED", 2)
    old = before(PRESENT, 30)
    rows = [journal_row("w1", *each) for each in lines_of(*[old.begins] * 3).lines]
    run_once(truth, lambda connection: connection.execute(insert(journal_entry), rows).close())

    async def go() -> None:
        async with opened(truth) as (store, duties):
            await ship(duties, lines_of(old.begins, writer="w2"))
            assert (await store.run_reading(parts, 5)) == {OTHER: 4}
            caplog.clear()
            with looking(truth, OTHER):
                assert await upgrade_database(truth) == migrations.HEAD
            assert "journal_months_not_made" in caplog.text and "lock timeout" in caplog.text
            assert (await store.run_reading(parts, 5)) == {OTHER: 4}
            for _ in range(2):
                await upgrade_database(truth)
                assert (await store.run_reading(parts, 5)) == {part(old): 4}

    asyncio.run(go())


def test_a_role_that_may_make_no_tables_ships_all_the_same(
    truth: str, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What it ships stands among the others until the owner comes by; nothing of it is refused."""
    name = truth.rpartition("/")[2]
    for statement in (
        "DROP ROLE IF EXISTS plain", "CREATE ROLE plain LOGIN",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO plain",
    ):  # fmt: skip
        postgres.execute(statement, name)
    old = before(PRESENT, 5)

    async def go() -> None:
        async with opened(truth.replace("ruqsat@", "plain@")) as (store, duties):
            assert (await ship(duties, lines_of(old.begins, NOW))).lines == 2
            assert await duties.count_lines("w1", 1) == 2
            assert (await store.run_reading(parts, 5))[OTHER] >= 1
            assert "must be owner" in caplog.text or "permission denied" in caplog.text
            await upgrade_database(truth)
            assert (await store.run_reading(parts, 5))[part(old)] == 1

    asyncio.run(go())
    postgres.execute("DROP OWNED BY plain; DROP ROLE plain", name)


def test_readers_and_shippers_of_other_months_go_on_while_one_is_made(truth: str) -> None:
    """Its transaction is still open: a month's view is answered, a line of it taken; one of the others waits."""
    made = before(PRESENT, 7)

    async def go() -> None:
        async with opened(truth) as (store, duties):
            await ship(duties, lines_of(NOW))
            with psycopg.connect(truth) as maker:
                for statement in maker_statements(made):
                    maker.execute(statement.encode())
                wanted = JournalFilter(patient="p-anna", since=PRESENT.begins, until=PRESENT.ends)
                found = await store.run_reading(lambda asked: read_journal(asked, wanted, None, 9), 5)
                assert [each.entry.id for each in found] == ["w1-1"]
                assert (await ship(duties, lines_of(NOW, after=Place(1, 1)))).lines == 1
                with pytest.raises(StoreUnavailableError):
                    await store.run_reading(lambda asked: read_journal(asked, JournalFilter(), None, 9), 0.3)
                maker.rollback()
            assert made not in await store.run_reading(months_there, 5)

    asyncio.run(go())


def maker_statements(month: Month) -> list[str]:
    """Return what making a month says to the database."""
    said: list[str] = []

    class Listening:
        def execute(self, statement: Any, *_: Any) -> Any:
            said.append(str(statement))
            return self

        def scalars(self) -> list[str]:
            return []

    make_month(Listening(), month)  # type: ignore[arg-type]
    return said


def test_of_two_who_ship_the_same_first_lines_one_does(truth: str) -> None:
    """Even if the lines say another moment, which another key would let in; without the cursor both would be there."""

    async def go() -> None:
        async with opened(truth) as (_, one), opened(truth) as (_, two):
            await ship(one, lines_of(NOW, writer="w0"))
            told = await asyncio.gather(ship(one, lines_of(NOW)), ship(two, lines_of(NOW + SECOND)))
            assert sorted([(each.place, each.lines) for each in told]) == [(Place(1, 1), 0), (Place(1, 1), 1)]
            assert await two.count_lines("w1", 1) == 1
            again = await ship(one, lines_of(NOW + MINUTE))
            assert (again[:3], await one.count_lines("w1", 1)) == ((Place(1, 1), 0, 0), 1)

    asyncio.run(go())
    assert twice(truth, sql_journal) == 1
    assert twice(truth, plant(sql_journal, "    if lines.after == BEGINNING:\n", "    if False:\n")) == 2


def twice(url: str, module: Any) -> int:
    """Begin to ship a writer's first line in a transaction, another in a second one, end both; count what is there."""
    writer = f"w-{module is sql_journal}"

    async def go() -> int:
        async with opened(url) as (one, _), opened(url) as (two, duties):
            begun, free = asyncio.Event(), asyncio.Event()
            loop = asyncio.get_running_loop()

            def slowly(connection: Connection) -> None:
                module.ship_lines(connection, lines_of(NOW, writer=writer), make, close, NOW)
                loop.call_soon_threadsafe(begun.set)
                asyncio.run_coroutine_threadsafe(free.wait(), loop).result(20)

            def after(connection: Connection) -> None:
                module.ship_lines(connection, lines_of(NOW + SECOND, writer=writer), make, close, NOW)

            first = asyncio.ensure_future(one.run_writing(slowly))
            await begun.wait()
            second = asyncio.ensure_future(two.run_writing(after))
            await asyncio.sleep(0.2)
            free.set()
            await asyncio.gather(first, second, return_exceptions=True)
            return await duties.count_lines(writer, 1)

    return asyncio.run(go())


def fill(connection: Connection) -> None:
    """Let there be so many lines that an index of theirs is worth it."""
    connection.execute(
        text(
            "INSERT INTO journal_entry SELECT 'w9', 1, n, at - n, kind, n::text, patient, 'dr-' || n, org, action, data_class,"
            " allowed, reason, 'r-' || n, basis, 'c-' || n || ' x', degraded, line"
            " FROM journal_entry, generate_series(1, 3000) AS n WHERE at = :at"
        ),
        {"at": PRESENT.begins + SECOND},
    )
    connection.execute(text("ANALYZE journal_entry"))


def plans(wanted: JournalFilter, connection: Connection) -> str:
    """Return how the database answers a question of the views."""
    connection.execute(text("SET LOCAL enable_seqscan = off"))
    found = []
    for question in _questions(wanted, Spot(NOW, "w", 1, 1)):
        said = question.limit(5).compile(connection, compile_kwargs={"literal_binds": True})
        found += list(connection.exec_driver_sql("EXPLAIN " + str(said).replace("%", "%%")).scalars())
    return "\n".join(found)


def test_a_view_of_some_months_touches_no_other(truth: str) -> None:
    """The patient's over two months of twelve, by its plan; a document and a rule by their indexes; all of it, all."""
    months = [before(PRESENT, back) for back in range(12)]
    wanted = JournalFilter(patient="p-anna", since=months[6].begins + 2 * 86_400 * SECOND, until=months[4].begins)

    async def go() -> None:
        async with opened(truth) as (store, duties):
            await ship(duties, lines_of(*[month.begins + SECOND for month in months]))
            found = await store.run_reading(lambda asked: read_journal(asked, wanted, None, 99), 5)
            assert [each.spot.at for each in found] == [months[5].begins + SECOND]

            def touched(filter_: JournalFilter) -> Any:
                return store.run_reading(lambda asked: plans(filter_, asked), 5)

            plan = await touched(wanted)
            assert {month for month in months if part(month) in plan} == {months[5], months[6]}, plan
            assert OTHER not in plan and UNDATED not in plan and f"{part(months[5])}_patient_at_idx" in plan
            sent = await touched(JournalFilter(patient="p-anna", since=wanted.since, until=wanted.until, sent=True))
            assert {month for month in months if part(month) in sent} <= {months[4], months[5], months[6]}, sent
            whole = await touched(JournalFilter(patient="p-anna"))
            assert all(part(month) in whole for month in months if month <= PRESENT) and OTHER in whole
            await store.run_writing(fill)
            for named, index in (
                (JournalFilter(grant="c-1", since=PRESENT.begins), "string_to_array_idx"),
                (JournalFilter(rule="consent-01", since=PRESENT.begins), "rule_at_idx"),
                (JournalFilter(subject="dr-aliya", since=PRESENT.begins), "subject_at_idx"),
            ):
                plan = await touched(named)
                assert f"{part(PRESENT)}_{index}" in plan and part(months[1]) not in plan, plan

    asyncio.run(go())


def test_what_was_taken_back_in_the_next_month_is_taken_back(url: str) -> None:
    """A decision at the last instant of a month, never sent as the next began: it is in no view of what was answered."""
    last = PRESENT.ends - 1
    lines = [
        written(1, at=render_instant(last)), written(2, at=render_instant(last + 2), kind="not_sent", id="d-1"),
        written(3, at=render_instant(last)),
    ]  # fmt: skip

    async def go() -> None:
        async with opened(url) as (store, duties):
            said = tuple([(Place(1, number), read_line(line), line) for number, line in enumerate(lines, 1)])
            await ship(duties, Lines("w1", BEGINNING, said))  # type: ignore[arg-type]
            for until in (PRESENT.ends, None):
                wanted = JournalFilter(patient="p-anna", since=last, until=until, sent=True)
                found = await store.run_reading(lambda asked, wanted=wanted: read_journal(asked, wanted, None, 9), 5)
                assert [each.entry.id for each in found] == ["d-3"]

    asyncio.run(go())


def test_a_past_month_that_holds_nothing_is_dropped_and_no_other(truth: str) -> None:
    """One with a line stays, and so do the present and the next, empty as they are; a late line is taken all the same."""
    empty, held = before(PRESENT, 9), before(PRESENT, 8)

    async def go() -> None:
        async with opened(truth) as (store, duties):
            await ship(duties, lines_of(held.begins, empty.begins))

            def remove(connection: Connection) -> None:
                connection.execute(text(f"DELETE FROM journal_entry WHERE at = {empty.begins}"))

            assert (await duties.tidy_months(NOW))[1] == 0
            assert empty in await store.run_reading(months_there, 5)
            await store.run_writing(remove)
            with looking(truth, "journal_entry"):
                assert (await duties.tidy_months(NOW)) == (0, 1), "whoever looks is not cut off"
            assert (await duties.tidy_months(NOW)) == (1, 0)
            there = await store.run_reading(months_there, 5)
            assert empty not in there and {held, PRESENT, PRESENT.next} <= {*there}
            assert not await store.run_writing(lambda found: drop_month(found, held)), "somebody shipped meanwhile"
            assert not await store.run_writing(lambda found: drop_month(found, empty)), "somebody dropped it before"
            await ship(duties, lines_of(empty.begins, after=Place(1, 2)))
            assert await duties.count_lines("w1", 1) == 2
            await store.run_writing(lambda found: keep_months(found, NOW))
            assert (await store.run_reading(parts, 5)) == {part(held): 1, part(empty): 1}
            assert await store.run_reading(lambda found: empty_months(found, NOW), 5) == []

    asyncio.run(go())


def test_an_erasure_reaches_every_part(truth: str, tmp_path: Path) -> None:
    """Lines of three months, of the year 9999, and one that does not say when; no other patient's, each in its part."""
    moments = [before(PRESENT, 2).begins, before(PRESENT, 1).begins, PRESENT.begins, Month(9999, 12).begins]
    dated = [f'"at":"{render_instant(each)}"'.encode() for each in moments] + [b'"at":""']

    async def go() -> None:
        entries = [
            (line.replace(f'"at":"{AT}"'.encode(), at), who)
            for number, at in enumerate(dated)
            for line, who in (reading(number, "p-dana", "p-bota"), reading(number + 9, "p-bota"))
        ]
        await write(tmp_path, *entries)
        async with opened(truth) as (store, duties):
            await ship_all(shipper(tmp_path, duties))
            there = await store.run_reading(parts, 5)
            assert len(there) == 5 and all(count % 2 == 0 for name, count in there.items() if name != UNDATED)
            done = await duties.erase({"p-dana"}, (), "act 1", NOW)
            assert (done.lines, done.unerasable) == (5, 0)
            whole = b"".join(await lines_there(store))
            assert b"p-dana" not in whole and whole.count(b"p-bota-r") == 5
            assert await store.run_reading(parts, 5) == there
            wanted = JournalFilter(patient="p-bota")
            assert len(await store.run_reading(lambda asked: read_journal(asked, wanted, None, 99), 5)) == 10
            question = select(journal_entry.c.patient, journal_entry.c.documents).where(
                journal_entry.c.kind == "decision"
            )
            named = await store.run_reading(lambda asked: asked.execute(question).all(), 5)
            kept = sorted([("p-bota", f"c{number + 9}") for number in range(5)])
            assert sorted([(row.patient or "", row.documents or "") for row in named]) == [*[("", "")] * 5, *kept]

    asyncio.run(go())


def test_archiving_leaves_no_empty_month_behind(truth: str, tmp_path: Path) -> None:
    """The command removes rows and says which months went; what the last segment holds keeps its month."""
    folder, archive = tmp_path / "journal", tmp_path / "archive"
    moments = [before(PRESENT, back).begins for back in (14, 13, 12) for _ in range(8)]

    async def go() -> None:
        await write(folder, *[decision(n, at=render_instant(at)) for n, at in enumerate(moments)], key=None)
        async with opened(truth) as (_, duties):
            await ship_all(shipper(folder, duties))

    asyncio.run(go())
    settings = {"database_url": truth, "journal_archive_dir": str(archive)}
    told = run_cli(tmp_path, "journal", "archive", "--unsigned", **settings)
    assert told.returncode == 0 and "2 empty months dropped there" in told.stdout, told.stdout + told.stderr
    there = run_once(truth, months_there)
    assert isinstance(there, list)
    assert before(PRESENT, 12) in there and not {before(PRESENT, 13), before(PRESENT, 14)} & {*there}
    assert run_cli(tmp_path, "journal", "verify", str(folder), "--archive", str(archive)).returncode == 0
    again = run_cli(tmp_path, "journal", "archive", "--unsigned", **settings)
    assert again.returncode == 0 and "empty month" not in again.stdout


def test_sqlite_has_no_months(tmp_path: Path) -> None:
    """Nothing is asked of it; lines of any moment are there all the same."""
    url = f"sqlite:///{tmp_path}/truth.db"

    async def go() -> None:
        await upgrade_database(url)
        async with opened(url) as (store, duties):
            await ship(duties, lines_of(*MOMENTS))
            assert len(await lines_there(store)) == len(MOMENTS)
            assert await duties.tidy_months(NOW) == (0, 0)

    asyncio.run(go())
