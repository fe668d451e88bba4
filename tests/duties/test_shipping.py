"""Every line of a journal reaches the database once, with its notices, whatever fails meanwhile."""

import asyncio
import random
from collections.abc import Callable
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, select, update

from ruqsat.core.facts import PatientFacts, Representation
from ruqsat.core.journal_filter import Found, JournalFilter
from ruqsat.core.journaled import BEGINNING, Lines, Place, Shipped
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import OutcomeUnknownError, StoreUnavailableError
from ruqsat.service import shipping
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.shipping import Shipper
from ruqsat.stores import journal_reader, sql_journal
from ruqsat.stores.journal_folder import list_segments, read_lines
from ruqsat.stores.journal_reader import JournalReader
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_views import read_journal
from ruqsat.stores.sql_schema import journal_entry, patient_facts
from tests.duties.ground import AT, MOMENT, close, make, opened, rows

NOW = 1_800_000_000_000_000
EVERYTHING = Place(10**6, 0)


def decision(number: int, **said: Any) -> bytes:
    """Return the entry of an allowed reading."""
    usual = {
        "kind": "decision", "id": f"d-{number}", "at": AT, "allowed": True, "action": "read", "subject": "dr_aida",
        "org": "h1", "patient": f"p{number % 3}", "basis": "consent", "rule": "consent-01", "law": ["R3"],
        "duties": ["notify_subject"], "data_class": "labs", "applied": ["c1"],
    }  # fmt: skip
    return msgspec.json.encode(usual | said)


async def write(folder: Path, *entries: bytes, segment_bytes: int = 2000) -> tuple[int, int]:
    """Write entries into the journal of *folder*, close it, and return how far it lasted."""
    journal = DurableJournal.open(folder, segment_bytes=segment_bytes)
    await asyncio.gather(*[journal.append(each) for each in entries])
    await journal.aclose()
    return journal.lasting


def shipper(folder: Path, duties: Any, until: Callable[[], tuple[int, int]] | None = None) -> Shipper:
    """Return a shipper of *folder*; all that is there lasts unless *until* says otherwise."""
    return Shipper(
        JournalReader(folder), duties, NoticeBodies(None), until or (lambda: EVERYTHING), Switches, lambda: NOW
    )


async def ship_all(ship: Shipper, tries: int = 1000) -> None:
    """Ship until there is nothing left, whatever fails."""
    for _ in range(tries):
        try:
            if not await ship.ship_some() and ship.behind_seconds == 0:
                return
        except StoreUnavailableError:
            continue
    raise AssertionError("it never ended")


async def lines_there(store: SqlStore) -> list[bytes]:
    """Return the lines in the database, by their places."""
    order = (journal_entry.c.segment, journal_entry.c.number)

    def read(connection: Connection) -> list[bytes]:
        return list(connection.execute(select(journal_entry.c.line).order_by(*order)).scalars())

    return await store.run_reading(read, 5)


async def is_whole(store: SqlStore, folder: Path, decisions: int) -> None:
    """Hold that the database has every line of the folder once, byte by byte, and one notice a decision."""
    assert await lines_there(store) == list(read_lines(folder))
    assert len(await rows(store, "key")) == decisions


def read_all(folder: Path) -> list[Lines]:
    """Return all batches of a folder."""
    reader, found = JournalReader(folder), []
    while (lines := reader.read_on(EVERYTHING)) is not None:
        found.append(lines)
        reader.accept(lines)
    return found


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven lines are a batch, so that a few dozen entries are many of them."""
    monkeypatch.setattr(journal_reader, "MOST_LINES", 7)


def test_every_line_arrives_once_with_its_notice(url: str, tmp_path: Path) -> None:
    """Over several segments and processes; shipping again, by the same or another shipper, adds nothing."""

    async def go() -> None:
        await write(tmp_path / "j", *map(decision, range(30)))
        await write(tmp_path / "j", *map(decision, range(30, 60)))
        async with opened(url) as (store, duties):
            ship = shipper(tmp_path / "j", duties)
            await ship_all(ship)
            await is_whole(store, tmp_path / "j", 60)
            await write(tmp_path / "j", *map(decision, range(60, 70)))
            await ship_all(shipper(tmp_path / "j", duties))
            await ship_all(ship)
            await is_whole(store, tmp_path / "j", 70)
            assert len(list_segments(tmp_path / "j")) > 5

    asyncio.run(go())


def test_lines_are_found_by_whom_they_are_about(url: str, tmp_path: Path) -> None:
    """A patient's own, and those where the patient is one of several (order §28); nobody else's."""

    async def go() -> None:
        await write(tmp_path, decision(0), decision(1), decision(2, patient="p1", patients_beside=["p0", "p1", "p7"]))
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))

            def about(patient: str) -> Callable[[Connection], list[Found]]:
                return lambda connection: read_journal(connection, JournalFilter(patient=patient), None, 10)

            found = {who: len(await store.run_reading(about(who), 5)) for who in ("p0", "p1", "p7", "p8")}
            assert found == {"p0": 2, "p1": 2, "p7": 1, "p8": 0}
            (row,) = await store.run_reading(
                lambda connection: list(
                    connection.execute(select(journal_entry).where(journal_entry.c.entry == "d-0")).mappings()
                ),
                5,
            )
            kept = {
                name: value for name, value in row.items() if name not in ("writer", "segment", "number", "line", "at")
            }
            assert kept == {
                "kind": "decision", "entry": "d-0", "patient": "p0", "subject": "dr_aida", "org": "h1", "action": "read",
                "data_class": "labs", "allowed": 1, "reason": None, "rule": "consent-01", "basis": "consent",
                "documents": "c1", "degraded": 0,
            }  # fmt: skip

    asyncio.run(go())


def test_who_is_named_beside_the_chain_is_told(url: str, tmp_path: Path) -> None:
    """Names that stand in personal parts of a line, each for itself, are read from there."""

    async def go() -> None:
        said = msgspec.json.decode(decision(0))
        beside = [msgspec.json.encode({name: said.pop(name)}) for name in ("subject", "patient")]
        journal = DurableJournal.open(tmp_path)
        await journal.append(msgspec.json.encode(said), (*beside, b'{"patients_beside":["p8"]}', b'{"applied":["c1"]}'))
        await journal.aclose()
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))
            assert await lines_there(store) == list(read_lines(tmp_path))
            assert set(await rows(store, "patient")) == {"p0", "p8"}

    asyncio.run(go())


def test_only_what_lasts_is_shipped(url: str, tmp_path: Path) -> None:
    """A line that is in the file and not yet on stable storage stays here; as soon as it lasts, it goes."""

    async def go() -> None:
        segment, number = await write(tmp_path, *map(decision, range(9)), segment_bytes=10**6)
        assert (segment, number) == (1, 10)
        lasting = [1, 4]
        async with opened(url) as (store, duties):
            ship = shipper(tmp_path, duties, lambda: (lasting[0], lasting[1]))
            for kept, there in ((4, 4), (4, 4), (9, 9), (10, 10)):
                lasting[1] = kept
                await ship_all(ship)
                assert len(await lines_there(store)) == there

    asyncio.run(go())


def test_a_line_that_cannot_be_read_is_not_passed_by_before_it_lasts(tmp_path: Path) -> None:
    """It may be cut off yet; what is written in its place is shipped like any other."""
    asyncio.run(write(tmp_path, *map(decision, range(3)), segment_bytes=10**6))
    path = list_segments(tmp_path)[0].path
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:2], b"x" * 1000 + b"\n"]))
    reader = JournalReader(tmp_path)
    reader.resume({})
    found = reader.read_on(Place(1, 2))
    assert found is not None
    reader.accept(found)

    assert reader.read_on(Place(1, 2)) is None
    path.write_bytes(b"".join(whole))
    again = reader.read_on(Place(1, 4))

    assert reader.unreadable == 0
    assert again is not None
    assert [place.number for place, _, _ in (*found.lines, *again.lines)] == [0, 1, 2, 3]


def test_a_torn_line_is_not_shipped_until_it_is_whole(url: str, tmp_path: Path) -> None:
    """The end of a file that is just being written is left alone."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(5)), segment_bytes=10**6)
        path = list_segments(tmp_path)[0].path
        whole = path.read_bytes()
        async with opened(url) as (store, duties):
            ship = shipper(tmp_path, duties)
            path.write_bytes(whole[:-20])
            await ship_all(ship)
            assert len(await lines_there(store)) == 5
            path.write_bytes(whole)
            await ship_all(ship)
            await is_whole(store, tmp_path, 5)

    asyncio.run(go())


def test_batches_that_come_twice_or_in_another_order_change_nothing(url: str, tmp_path: Path) -> None:
    """Each is taken when it is its turn, at no other time, and told where to go on."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(40)))
        batches, chance = read_all(tmp_path), random.Random(seed := random.randrange(1 << 32))
        print("seed", seed)
        async with opened(url) as (store, duties):
            taken, place = 0, BEGINNING
            while taken < len(batches):
                lines = chance.choice(batches)
                shipped = await duties.ship(lines, make, close, NOW)
                assert (shipped.lines > 0) is (lines.after == place)
                taken += shipped.lines > 0
                place = shipped.place
            for lines in batches:
                assert (await duties.ship(lines, make, close, NOW))[:3] == (batches[-1].end, 0, 0)
            await is_whole(store, tmp_path, 40)

    asyncio.run(go())


class Unsure(SqlDuties):
    """A database that fails before, after, or in the middle of half of all shipments."""

    def __init__(self, duties: SqlDuties, chance: random.Random) -> None:
        super().__init__(duties._lane)
        self._chance = chance
        self.failed = 0

    async def ship(self, *args: Any) -> Shipped:
        """Ship, or fail, or ship and say that nobody knows."""
        fate = self._chance.randrange(6)
        self.failed += fate < 3
        if fate == 0:
            raise StoreUnavailableError("away")
        if fate == 1:
            return await self._ship_and_break(*args)
        shipped = await super().ship(*args)
        if fate == 2:
            raise OutcomeUnknownError("the commit was made, and its answer lost")
        return shipped

    async def _ship_and_break(self, lines: Lines, make_notices: Any, close_: Any, now: int) -> Shipped:
        def work(connection: Connection) -> Shipped:
            sql_journal.ship_lines(connection, lines, make_notices, close_, now)
            raise StoreUnavailableError("broke before the commit")

        return await self._lane.run(work, 5, commit=True)


def test_a_database_that_fails_anywhere_gets_every_line_once(url: str, tmp_path: Path) -> None:
    """Away, broken before the commit, or its answer lost: nothing is missing, nothing is twice."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(60)))
        chance = random.Random(seed := random.randrange(1 << 32))
        print("seed", seed)
        async with opened(url) as (store, duties):
            unsure = Unsure(duties, chance)
            ship = shipper(tmp_path, unsure)
            await ship_all(ship)
            assert unsure.failed == ship.failures > 0
            await is_whole(store, tmp_path, 60)

    asyncio.run(go())


def test_an_hour_without_the_database_loses_and_doubles_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decisions go on and are kept here; waits grow to half a minute; then everything arrives, once."""
    waited: list[float] = []
    sleep = asyncio.sleep

    class Away(SqlDuties):
        """Away until an hour of waiting is over."""

        async def places(self, *args: Any) -> Any:
            """Answer after an hour."""
            if sum(waited) < 3600:
                raise StoreUnavailableError("away")
            return await super().places(*args)

    async def go() -> None:
        journal = DurableJournal.open(tmp_path, segment_bytes=4000)
        number = 0

        async def passing(seconds: float) -> None:
            """Let time pass at once, in which one more decision is made."""
            nonlocal number
            waited.append(seconds)
            if number < 150 and seconds >= 1:
                await journal.append(decision(number))
                number += 1
            await sleep(0)

        async with opened(url) as (store, duties):
            ship = shipper(tmp_path, Away(duties._lane), lambda: journal.lasting)
            monkeypatch.setattr(shipping.asyncio, "sleep", passing)
            running = asyncio.get_running_loop().create_task(ship.forever())
            while not (ship.lines and ship.behind_seconds == 0 and ship.failures):
                await sleep(0.01)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            monkeypatch.setattr(shipping.asyncio, "sleep", sleep)
            await journal.aclose()
            await ship_all(ship)
            assert ship.failures > 100 and number > 100 and max(waited) == 30
            await is_whole(store, tmp_path, number)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("busy", "late", "rest"),
    [
        (0.9, 0, shipping.REST), (0.9, 2 * shipping.LATE, shipping.LATE_REST), (0.3, 0, shipping.CALM_REST),
        (0.3, 2 * shipping.LATE, shipping.CALM_REST),
    ],
)  # fmt: skip
def test_who_decides_has_most_of_the_time_and_most_in_a_rush(
    busy: float, late: int, rest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest after a batch goes by the work in it, not by what it waited for; a line of an hour ago cuts it short."""
    passed = count()
    monkeypatch.setattr(shipping, "monotonic", lambda: float(next(passed)))
    spent = count()
    monkeypatch.setattr(shipping, "process_time", lambda: busy * next(spent))
    waited: list[float] = []
    sleep = asyncio.sleep

    class Slow:
        """A database that waits long and works for a hundred seconds each time."""

        async def places(self, _writers: Any) -> dict[str, Place]:
            """Return none."""
            return {}

        async def ship(self, lines: Lines, *_: Any) -> Shipped:
            """Take all."""
            await sleep(0.05)
            return Shipped(lines.end, len(lines.lines), 0, 100.0)

    async def go() -> None:
        async def passing(seconds: float) -> None:
            waited.append(seconds)
            await sleep(0)

        await write(tmp_path, *map(decision, range(20)))
        ship = Shipper(
            JournalReader(tmp_path), Slow(), NoticeBodies(None), lambda: EVERYTHING, Switches, lambda: MOMENT + late
        )  # fmt: skip
        monkeypatch.setattr(shipping.asyncio, "sleep", passing)
        running = asyncio.get_running_loop().create_task(ship.forever())
        while len(waited) < 3:
            await sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(go())
    assert [each // 100 for each in waited[:2]] == [rest, rest]


def test_facts_of_the_same_moment_say_who_is_told(url: str, tmp_path: Path) -> None:
    """A child's mother, by the facts that stand in the database as the line is shipped."""

    async def go() -> None:
        await write(tmp_path, decision(0), decision(1))
        async with opened(url) as (store, duties):
            mother = Representation("r1", "mother", "parent", verified=True)
            await store.record_facts((), (PatientFacts("p0", date(2020, 1, 1), representations=(mother,)),))
            await ship_all(shipper(tmp_path, duties))
            assert sorted(await rows(store, "patient", "audience", "recipient"), key=str) == [
                ("p0", "representatives", "mother"), ("p1", "patient", None),
            ]  # fmt: skip

    asyncio.run(go())


NO_ID = "".join(random.Random(7).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=4000))
"""More than a row of an index of PostgreSQL holds, however it is compressed."""


@pytest.mark.parametrize("odd", [NO_ID, "a\x00b"], ids=["long", "nul"])
def test_what_no_column_can_hold_keeps_nobody_else_waiting(url: str, tmp_path: Path, odd: str) -> None:
    """A caller's word of any length or letters is whole in its line, and whoever comes after it is told."""

    async def go() -> None:
        for field in ("patient", "org", "data_class"):
            await write(tmp_path, decision(0, **{field: odd}), segment_bytes=10**6)
        await write(tmp_path, decision(0, patients_beside=[odd], applied=[odd]), decision(1), segment_bytes=10**6)
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties), 10)
            assert await lines_there(store) == list(read_lines(tmp_path))
            assert "p1" in await rows(store, "patient")

    asyncio.run(go())


@pytest.mark.parametrize("body", [b"\xff", b'{"id":"p0","birth_date":"soon"}', b'{"id":"p1"}'])
def test_facts_that_cannot_be_read_keep_nobody_else_waiting(url: str, tmp_path: Path, body: bytes) -> None:
    """Whose they are is told alone, by whatever way needs no facts; the next patient as ever."""

    async def go() -> None:
        await write(tmp_path, decision(0), decision(1))
        async with opened(url) as (store, duties):
            await store.record_facts((), (PatientFacts("p0", egov=True), PatientFacts("p1", egov=True)))
            spoil = update(patient_facts).where(patient_facts.c.id == "p0").values(body=body)
            await store.run_writing(lambda connection: connection.execute(spoil))
            await ship_all(shipper(tmp_path, duties), 10)
            claimed = await duties.claim(NOW + sql_journal.SETTLE, 10, "c")
            assert sorted((each.patient, each.egov) for each in claimed) == [("p0", False), ("p1", True)]

    asyncio.run(go())


def test_an_answer_that_was_never_sent_is_told_to_nobody(url: str, tmp_path: Path) -> None:
    """In the same batch or in a later one; the decision in its place is told of."""

    async def go() -> None:
        taken_back = msgspec.json.encode({"kind": "not_sent", "id": "d-0", "at": AT, "allowed": True, "patient": "p0"})
        filler = [decision(n, duties=[]) for n in range(10, 20)]
        await write(tmp_path, decision(0), *filler, taken_back, decision(1))
        async with opened(url) as (store, duties):
            await ship_all(shipper(tmp_path, duties))
            assert sorted(await rows(store, "entry", "state", "reason")) == [
                ("d-0", "skipped", "not_sent"), ("d-1", "pending", None),
            ]  # fmt: skip
            assert await duties.claim(NOW, 10, "c") == []
            assert [each.entry for each in await duties.claim(NOW + sql_journal.SETTLE, 10, "c")] == ["d-1"]

    asyncio.run(go())


def test_what_is_no_line_is_passed_by_and_told(url: str, tmp_path: Path) -> None:
    """A damaged line and a segment without its header are counted; every other line arrives."""

    async def go() -> None:
        await write(tmp_path, *map(decision, range(40)))
        segments = list_segments(tmp_path)
        spoiled = segments[1].path.read_bytes().splitlines(keepends=True)
        segments[1].path.write_bytes(b"".join([spoiled[0], b"\x00" * 50 + b"\n", *spoiled[2:]]))
        headless = segments[2].path.read_bytes().partition(b"\n")[2]
        segments[2].path.write_bytes(headless)
        async with opened(url) as (store, duties):
            ship = shipper(tmp_path, duties)
            await ship_all(ship)
            missing = {spoiled[1], *headless.splitlines(keepends=True)}
            assert set(await lines_there(store)) == set(read_lines(tmp_path)) - missing - {b"\x00" * 50 + b"\n"}
            assert ship.unreadable == 2

    asyncio.run(go())


def commits_after(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Make a transaction end after one of its steps."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        step = getattr(sql_journal, name)

        def committed(connection: Connection, *args: Any) -> Any:
            done = step(connection, *args)
            connection.commit()
            return done

        patch.setattr(sql_journal, name, committed)

    return plant


def place_first(patch: pytest.MonkeyPatch) -> None:
    """Move the place, and commit that, before the lines are written."""
    move, write_lines = sql_journal._move_place, sql_journal._write_lines

    def reversed_(connection: Connection, lines: Lines) -> None:
        move(connection, lines.writer, lines.end)
        connection.commit()
        write_lines(connection, lines)

    patch.setattr(sql_journal, "_write_lines", reversed_)


def twice(patch: pytest.MonkeyPatch) -> None:
    """Take whatever comes, and give a line another name if its own is taken."""
    patch.setattr(sql_journal, "_follow", lambda lines, place: True)
    write_lines, count = sql_journal._write_lines, iter(range(10**6))

    def renamed(connection: Connection, lines: Lines) -> None:
        write_lines(connection, msgspec.structs.replace(lines, writer=f"{lines.writer}-{next(count)}"))

    patch.setattr(sql_journal, "_write_lines", renamed)


MISTAKES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "lines are shipped twice": twice,
    "the place is moved before the lines": place_first,
    "lines are committed before the notices": commits_after("_write_lines"),
    "notices are committed before the place": commits_after("_write_notices"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_shipping_is_seen(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by a database that fails anywhere, or by batches that come twice: a line or a notice missing, or doubled."""
    MISTAKES[mistake](monkeypatch)
    with pytest.raises((AssertionError, StoreUnavailableError)):
        for n in range(3):
            test_a_database_that_fails_anywhere_gets_every_line_once(f"sqlite:///{tmp_path}/{n}.db", tmp_path / f"j{n}")
        test_batches_that_come_twice_or_in_another_order_change_nothing(f"sqlite:///{tmp_path}/t.db", tmp_path / "t")
