"""Pages of the journal in the database: complete, in order, bounded, and by an index."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text

from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import MINUTE, render_instant
from ruqsat.core.journal_filter import JournalFilter, Spot
from ruqsat.core.journaled import Journaled, read_line
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import StoreUnavailableError
from ruqsat.service import journal_views
from ruqsat.service.journal_views import JournalViews, Looking, TooMuchError
from ruqsat.service.page_cursor import CursorRefusedError
from ruqsat.stores import sql_journal_views
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_journal_views import SqlJournalViews, _questions
from tests.views.ground import NOW, ship, written

ANYTHING: Callable[[Journaled], Journaled | None] = lambda said: said  # noqa: E731


class NobodyKnown:
    """Facts of patients of whom nothing is known but that they are there."""

    async def fetch(self, _subject: str | None, patient: str | None) -> Facts:
        """Return next to nothing."""
        return Facts(None, PatientFacts(patient or ""), Position("e", 1))


def lines(seed: int, count: int = 60) -> list[bytes]:
    """Return lines of three patients and two organisations, many at the same moment."""
    draw, found = random.Random(seed), []
    for number in range(1, count + 1):
        said: dict[str, Any] = {"at": render_instant(NOW + draw.randrange(8) * MINUTE)}
        said["patient"], said["org"] = draw.choice(["p-anna", "p-berik", "p-anna "]), draw.choice(["h1", "h2"])
        said["subject"] = draw.choice(["dr-aliya", "dr-Aliya"])
        said["patients_beside"] = draw.choice([None, ["p-anna"], ["p-berik", "p-dana"]])
        said["allowed"], said["applied"] = draw.random() < 0.5, draw.choice([["c-1"], ["c-10", "C-1"], None])
        found.append(written(number, **{k: v for k, v in said.items() if v is not None}))
    return found


def run(url: str, work: Callable[[SqlStore, SqlJournalViews], Any], **writers: list[bytes]) -> Any:
    """Put lines into the database and run *work* on it."""

    async def go() -> Any:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        try:
            for writer, some in writers.items():
                await ship(store, writer, some)
            return await work(store, SqlJournalViews(store))
        finally:
            await store.aclose()

    return asyncio.run(go())


async def all_pages(
    pages: SqlJournalViews, wanted: JournalFilter, limit: int, shown: Any = ANYTHING
) -> list[list[Any]]:
    """Return every page of a question."""
    after: Spot | None = None
    found: list[list[Any]] = []
    while not found or after is not None:
        page, after = await pages.page(wanted, after, limit, shown)
        found.append([each for _, each in page])
    return found


def expected(written_lines: dict[str, list[bytes]], matches: Callable[[Journaled], bool]) -> list[Spot]:
    """Return where the lines that match stand, newest first, by the plainest reading."""
    spots = []
    for writer, some in written_lines.items():
        for number, line in enumerate(some, 1):
            said = read_line(line)
            assert said is not None
            spots += [Spot(said.moment, writer, 1, number)] if matches(said) else []
    return sorted(spots, reverse=True)


QUESTIONS: list[tuple[JournalFilter, Callable[[Journaled], bool]]] = [
    (JournalFilter(), lambda _: True),
    (JournalFilter(patient="p-anna"), lambda said: "p-anna" in said.patients),
    (JournalFilter(patient="p-anna", org="h1"), lambda said: "p-anna" in said.patients and said.org == "h1"),
    (JournalFilter(org="h2", allowed=False), lambda said: said.org == "h2" and not said.allowed),
    (JournalFilter(subject="dr-Aliya"), lambda said: said.subject == "dr-Aliya"),
    (JournalFilter(org="h1", data_class="labs", action="read", reason="allow.consent", rule="consent-01"), lambda said: said.org == "h1"),
    (
        JournalFilter(since=NOW + 2 * MINUTE, until=NOW + 5 * MINUTE),
        lambda said: NOW + 2 * MINUTE <= said.moment < NOW + 5 * MINUTE,
    ),
    (JournalFilter(patient="p-nobody"), lambda _: False),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 7, 200])
def test_pages_hold_every_entry_once_newest_first(url: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers, many entries at one moment, three seeds; the pages of each question are those of a plain reading."""
    monkeypatch.setattr(sql_journal_views, "CHUNK", 5)
    seed = random.randrange(1000)
    print(f"seed {seed}")
    shipped = {"w1": lines(seed), "w2": lines(seed + 1)}

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        for wanted, matches in QUESTIONS:
            found = await all_pages(pages, wanted, limit)
            assert [each.spot for page in found for each in page] == expected(shipped, matches), wanted
            assert all(len(page) == limit for page in found[:-1]), wanted

    run(url, work, **shipped)


def test_a_document_is_compared_whole_and_by_its_letters(url: str) -> None:
    """`c-1` is neither `c-10` nor `C-1`; signs that a pattern would heed are letters here."""
    shipped = [
        written(1, applied=["c-1", "x"]),
        written(2, applied=["c-10"]),
        written(3, applied=["C-1"]),
        written(4, applied=["c%"]),
    ]

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        views = JournalViews(pages, NobodyKnown(), bytes(32), lambda: None, lambda: NOW)  # type: ignore[arg-type, return-value]
        for grant, ids in (("c-1", ["d-1"]), ("c%", ["d-4"]), ("c-", []), ("%", [])):
            found, _ = await views.entries(JournalFilter(grant=grant), Looking("dpo", None, 10))
            assert [each.entry.id for each in found] == ids, grant

    run(url, work, w1=shipped)


def test_an_export_is_whole_or_ends_by_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly as many as may leave do; one more that came since they were counted is not left out in silence."""
    monkeypatch.setattr(journal_views, "MOST_EXPORTED", 6)
    monkeypatch.setattr(journal_views, "_EXPORT_PAGE", 2)

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        views = JournalViews(pages, NobodyKnown(), bytes(32), lambda: None, lambda: NOW)  # type: ignore[arg-type, return-value]
        assert len([each async for each in views.export(JournalFilter(org="h1"))]) == 6
        taken = []
        with pytest.raises(StoreUnavailableError):
            async for each in views.export(JournalFilter()):
                taken.append(each)
        assert len(taken) == 6

    run(url, work, w1=[written(number, org="h1" if number < 7 else "h2") for number in range(1, 8)])


def test_what_is_left_out_does_not_shorten_a_page(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that came short would tell that something is kept secret; the last one ends, and no cursor follows it."""
    monkeypatch.setattr(sql_journal_views, "CHUNK", 4)
    secret = {"basis": "kz273_4_9", "purpose": "HLEGAL", "duties": []}
    shipped = [written(number, **(secret if number % 3 else {})) for number in range(1, 31)]

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        found = await all_pages(pages, JournalFilter(), 5, lambda said: None if said.basis == "kz273_4_9" else said)
        assert [len(page) for page in found] == [5, 5]
        monkeypatch.setattr(sql_journal_views, "MOST_READ", 8)  # nobody reads the whole journal for one page
        page, after = await pages.page(JournalFilter(), None, 5, lambda _: None)
        assert page == [] and after is not None and after.number == 23

    run(url, work, w1=shipped)


def test_a_decision_that_was_never_sent_is_no_row_of_the_patient(url: str, policy_set: PolicySet) -> None:
    """The privacy office sees both lines; the patient sees what was answered in its place."""
    shipped = [
        written(1), written(2, kind="not_sent", id="d-1"),
        written(3, allowed=False, reason="deny.stale", basis=None), written(4, id="d-4"),
    ]  # fmt: skip

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        views = JournalViews(pages, NobodyKnown(), bytes(32), lambda: policy_set, lambda: NOW)
        rows, _cursor = await views.access_log(JournalFilter(patient="p-anna"), "self", Looking("anna", None, 10))
        assert [(row.id, row.allowed) for row in rows] == [("d-4", True), ("d-3", False)]
        entries, _cursor = await views.entries(JournalFilter(patient="p-anna"), Looking("dpo", None, 10))
        assert [each.entry.id for each in entries] == ["d-4", "d-3", "d-1", "d-1"]

    run(url, work, w1=shipped)


def test_a_cursor_is_good_for_its_caller_and_its_question_alone(url: str, policy_set: PolicySet) -> None:
    """Another caller's, another patient's, another view's or filter's is refused, and so is one that was altered."""
    shipped = [written(number, patient=patient) for number, patient in enumerate(["p-anna", "p-berik"] * 5, 1)]

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        views = JournalViews(pages, NobodyKnown(), bytes(32), lambda: policy_set, lambda: NOW)
        anna, berik = JournalFilter(patient="p-anna"), JournalFilter(patient="p-berik")
        rows, cursor = await views.access_log(anna, "self", Looking("anna", None, 2))
        more, _last = await views.access_log(anna, "self", Looking("anna", cursor, 10))
        assert [row.id for row in (*rows, *more)] == ["d-9", "d-7", "d-5", "d-3", "d-1"]
        assert cursor is not None and b"p-anna" not in cursor.encode()

        flipped = cursor[:20] + ("A" if cursor[20] != "A" else "B") + cursor[21:]
        for wanted, viewer, looking in (
            (berik, "self", Looking("anna", cursor, 2)), (anna, "self", Looking("berik", cursor, 2)),
            (anna, "legal_rep", Looking("anna", cursor, 2)), (anna, "self", Looking("anna", flipped, 2)),
            (anna, "self", Looking("anna", "", 2)), (anna, "self", Looking("anna", "é", 2)),
            (JournalFilter(patient="p-anna", until=NOW), "self", Looking("anna", cursor, 2)),
        ):  # fmt: skip
            with pytest.raises(CursorRefusedError):
                await views.access_log(wanted, viewer, looking)  # type: ignore[arg-type]
        with pytest.raises(CursorRefusedError):
            await views.entries(anna, Looking("anna", cursor, 2))
        other = JournalViews(pages, NobodyKnown(), bytes(31) + b"1", lambda: policy_set, lambda: NOW)
        with pytest.raises(CursorRefusedError):
            await other.access_log(anna, "self", Looking("anna", cursor, 2))

    run(url, work, w1=shipped)


def test_an_export_holds_everything_or_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several readings, newest first; what would be too much is refused before the first entry leaves."""
    monkeypatch.setattr(journal_views, "_EXPORT_PAGE", 7)

    async def work(_: SqlStore, pages: SqlJournalViews) -> None:
        views = JournalViews(pages, NobodyKnown(), bytes(32), lambda: None, lambda: NOW)  # type: ignore[arg-type, return-value]
        wanted = JournalFilter(org="h1")
        await views.refuse_too_much(wanted)
        found = [each.entry.id async for each in views.export(wanted)]
        assert found == [f"d-{number}" for number in range(30, 0, -1)]
        monkeypatch.setattr(journal_views, "MOST_EXPORTED", 29)
        with pytest.raises(TooMuchError):
            await views.refuse_too_much(wanted)

    run(url, work, w1=[written(number) for number in range(1, 31)])


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JournalFilter(patient="p-anna"), "journal_entry_by_patient"),
        (JournalFilter(patient="p-anna", sent=True), "journal_entry_by_patient"),
        (JournalFilter(subject="dr-aliya"), "journal_entry_by_subject"),
        (JournalFilter(org="h1", since=NOW), "journal_entry_by_org"),
        (JournalFilter(rule="consent-01"), "journal_entry_by_rule"),
    ],
)  # fmt: skip
def test_a_page_is_found_by_an_index(url: str, wanted: JournalFilter, index: str) -> None:
    """Of the patient, the person or the organisation; no question reads the table from end to end."""

    async def work(store: SqlStore, _: SqlJournalViews) -> None:
        def plans(connection: Connection) -> list[str]:
            is_postgres = connection.dialect.name == "postgresql"
            if is_postgres:  # a table of a few rows is read whole, whatever its indexes
                connection.execute(text("SET LOCAL enable_seqscan = off"))
            ask = "EXPLAIN " if is_postgres else "EXPLAIN QUERY PLAN "
            found = []
            for question in _questions(wanted, Spot(NOW, "w", 1, 1)):
                said = question.limit(5).compile(connection, compile_kwargs={"literal_binds": True})
                found.append(
                    "\n".join(
                        str(tuple(row)) for row in connection.exec_driver_sql((ask + str(said)).replace("%", "%%"))
                    )
                )
            return found

        first, *others = await store.run_reading(plans, 5)
        # A part of the journal on PostgreSQL names its index by the columns.
        assert index in first or f"{index.removeprefix('journal_entry_by_')}_at_idx" in first, first
        for plan in (first, *others):
            assert "Seq Scan" not in plan and "SCAN journal_entry" not in plan, plan

    run(url, work, w1=lines(1))


def test_whoever_looks_through_the_journal_keeps_no_decision_waiting(url: str) -> None:
    """As many as ever at once, each a page that does not end: facts are read as if nobody looked."""
    free = threading.Event()

    def slowly(said: Journaled) -> Journaled:
        free.wait(20)
        return said

    async def work(store: SqlStore, views: SqlJournalViews) -> None:
        pages = [asyncio.ensure_future(views.page(JournalFilter(org="h1"), None, 1, slowly)) for _ in range(8)]
        await asyncio.sleep(0.2)
        try:
            for _ in range(5):
                await store.fetch_facts("dr-aliya", "p-anna")
        finally:
            free.set()
            await asyncio.gather(*pages, return_exceptions=True)

    run(url, work, w1=lines(1))
