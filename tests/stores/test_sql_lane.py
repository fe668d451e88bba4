"""Nobody waits longer than asked for, and whoever leaves takes the connection out of use."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
from sqlalchemy import Connection, event, text
from tests.ground import PostgresServer

from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.stores.postgres import Postgres
from ruqsat.stores.sql_lane import Driver, Lane
from ruqsat.stores.sqlite import Sqlite


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    """Each kind of database in turn, empty."""
    if request.param == "sqlite":
        yield Sqlite(tmp_path / "lane.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    url = server.new_database()
    yield Postgres.open(url)
    server.drop_database(url)


def wait_endlessly(connection: Connection) -> None:
    """Run a statement that does not end by itself."""
    count_up = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    execute(connection, count_up if connection.dialect.name == "sqlite" else "SELECT pg_sleep(600)")


@asynccontextmanager
async def opened(database: Driver, seats: int = 1) -> AsyncIterator[Lane]:
    """Open a lane that may write, on a database with one table."""
    lane = Lane(database, seats, begin="BEGIN IMMEDIATE" if isinstance(database, Sqlite) else "BEGIN", set_up=())
    try:
        await lane.run(lambda connection: execute(connection, "CREATE TABLE t (n INTEGER)"), 5, commit=True)
        yield lane
    finally:
        await lane.aclose()


def with_lane(database: Driver, scenario: Callable[[Lane], Awaitable[None]], seats: int = 1) -> None:
    """Run *scenario* against a lane and close it."""

    async def run() -> None:
        async with opened(database, seats) as lane:
            await scenario(lane)

    asyncio.run(run())


def execute(connection: Connection, statement: str) -> None:
    """Run a statement that returns nothing."""
    connection.exec_driver_sql(statement)


def insert(connection: Connection) -> int:
    """Insert a row and return how many there are."""
    connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    return count(connection)


def count(connection: Connection) -> int:
    """Return how many rows there are."""
    return int(connection.exec_driver_sql("SELECT count(*) FROM t").scalar_one())


def driver(connection: Connection) -> object:
    """Return the driver's own connection."""
    return connection.connection.driver_connection


def test_an_endless_statement_is_given_up_in_time(database: Driver) -> None:
    """The caller is answered when it asked to be; the statement ends, and its connection is not used again."""

    async def scenario(lane: Lane) -> None:
        first = await lane.run(driver, 5)
        began = perf_counter()

        with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.1 s"):
            await lane.run(wait_endlessly, 0.1)

        assert 0.1 <= perf_counter() - began < 0.3
        assert await lane.run(driver, 5) is not first

    with_lane(database, scenario)


def test_a_finished_connection_is_used_again(database: Driver) -> None:
    """A connection whose work ended in time, well or with our own refusal, serves the next caller."""

    async def scenario(lane: Lane) -> None:
        first = await lane.run(driver, 5)

        def refuse(_: Connection) -> None:
            raise RequestError("no")

        with pytest.raises(RequestError):
            await lane.run(refuse, 5, commit=True)

        assert await lane.run(driver, 5) is first

    with_lane(database, scenario)


def test_a_connection_made_too_late_serves_the_next(database: Driver) -> None:
    """Where connecting takes longer than callers wait, the first is refused in time and a later one is served."""

    async def scenario() -> None:
        lane = Lane(database, 1, begin="BEGIN", set_up=())

        @event.listens_for(lane.engine, "connect")
        def dawdle(_connection: object, _record: object) -> None:
            sleep(0.3)

        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await lane.run(driver, 0.1)
        await asyncio.sleep(0.5)
        assert await lane.run(driver, 0.2) is not None
        await lane.aclose()

    asyncio.run(scenario())


def test_no_connection_from_before_a_renewal_is_used_again(database: Driver) -> None:
    """Idle, in use or being made when the lane is renewed: what begins afterwards runs on another, which serves on."""

    async def scenario(lane: Lane) -> None:
        idle = await lane.run(driver, 5)
        lane.renew()

        def renew_meanwhile(connection: Connection) -> object:
            lane.renew()
            return driver(connection)

        in_use = await lane.run(renew_meanwhile, 5)
        lane.engine.dispose()
        event.listen(lane.engine, "connect", lambda *_: lane.renew(), once=True)
        being_made = await lane.run(driver, 5)
        fresh = await lane.run(driver, 5)

        assert len({id(each) for each in (idle, in_use, being_made, fresh)}) == 4
        assert await lane.run(driver, 5) is fresh

    with_lane(database, scenario)


def test_a_connection_that_failed_is_not_used_again(database: Driver) -> None:
    """After an error of the database its connection is closed."""

    async def scenario(lane: Lane) -> None:
        first = await lane.run(driver, 5)

        with pytest.raises(StoreUnavailableError, match="the database failed"):
            await lane.run(lambda connection: execute(connection, "SELECT nothing"), 5)

        assert await lane.run(driver, 5) is not first

    with_lane(database, scenario)


def test_a_cancelled_caller_takes_its_connection_along(database: Driver) -> None:
    """Work whose caller was cancelled is interrupted, and its connection closed."""

    async def scenario(lane: Lane) -> None:
        first = await lane.run(driver, 5)
        work = asyncio.create_task(lane.run(wait_endlessly, 60))
        await asyncio.sleep(0.05)

        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

        assert await lane.run(driver, 1) is not first

    with_lane(database, scenario)


def test_a_thread_that_hangs_does_not_hold_its_caller(database: Driver) -> None:
    """Even when nothing can interrupt the work, the caller is answered in time; the seat stays taken."""
    release = threading.Event()

    async def scenario(lane: Lane) -> None:
        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await lane.run(lambda _: release.wait(30), 0.05)
        with pytest.raises(StoreUnavailableError, match="no connection was free"):
            await lane.run(count, 0.05)

        release.set()
        assert await lane.run(count, 5) == 0

    with_lane(database, scenario)


def test_a_thread_that_cannot_be_had_takes_no_seat(database: Driver) -> None:
    """The caller gets the error; the next one finds the seat free."""

    async def scenario(lane: Lane) -> None:
        right = lane._submit

        def refuse(*_: object) -> Any:
            raise RuntimeError("can't start new thread")

        lane._submit = refuse  # type: ignore[method-assign]
        with pytest.raises(RuntimeError):
            await lane.run(count, 5)
        lane._submit = right  # type: ignore[method-assign]
        assert await lane.run(count, 5) == 0

    with_lane(database, scenario)


def test_a_hanging_seat_does_not_stop_the_others(database: Driver) -> None:
    """With two seats, one that hangs leaves the other in use."""
    release = threading.Event()

    async def scenario(lane: Lane) -> None:
        with pytest.raises(StoreUnavailableError):
            await lane.run(lambda _: release.wait(30), 0.05)
        for _ in range(10):
            assert await lane.run(count, 5) == 0
        release.set()

    with_lane(database, scenario, seats=2)


def test_a_change_given_up_before_its_commit_never_happens(database: Driver) -> None:
    """A caller told that nothing was changed is told the truth, however long the thread takes."""
    release = threading.Event()

    async def scenario(lane: Lane) -> None:
        def slow(connection: Connection) -> None:
            insert(connection)
            release.wait(30)

        with pytest.raises(StoreUnavailableError):
            await lane.run(slow, 0.05, commit=True)

        release.set()
        assert await lane.run(count, 5) == 0

    with_lane(database, scenario)


def test_a_commit_that_has_begun_is_waited_for(database: Driver) -> None:
    """Past the point of no return the caller learns the outcome, even after its deadline."""

    async def scenario(lane: Lane) -> None:
        @event.listens_for(lane.engine, "commit")
        def dawdle(_: Connection) -> None:
            sleep(0.2)

        assert await lane.run(insert, 0.1, commit=True) == 1
        assert await lane.run(count, 5) == 1

    with_lane(database, scenario)


def test_reading_work_cannot_leave_a_change_behind(database: Driver) -> None:
    """Without being asked to commit, a lane rolls back."""

    async def scenario(lane: Lane) -> None:
        assert await lane.run(insert, 5) == 1
        assert await lane.run(count, 5) == 0

    with_lane(database, scenario)


def test_the_words_of_an_error_hold_no_values(database: Driver) -> None:
    """Neither the text of a failure nor its cause repeats what was asked for."""

    async def scenario(lane: Lane) -> None:
        with pytest.raises(StoreUnavailableError) as caught:
            await lane.run(lambda connection: connection.execute(text("SELECT x WHERE :y"), {"y": "patient-canary"}), 5)
        assert "canary" not in f"{caught.value} {caught.value.__cause__}"

    with_lane(database, scenario)


def test_closing_waits_for_the_work_in_hand(database: Driver) -> None:
    """A change under way when the lane is closed is finished first, and its caller hears of it."""

    async def scenario() -> None:
        async with opened(database) as lane:

            def slow(connection: Connection) -> int:
                sleep(0.1)
                return insert(connection)

            work = asyncio.create_task(lane.run(slow, 5, commit=True))
            await asyncio.sleep(0.02)
        assert await work == 1
        async with opened_again(database) as lane:
            assert await lane.run(count, 5) == 1

    asyncio.run(scenario())


@asynccontextmanager
async def opened_again(database: Driver) -> AsyncIterator[Lane]:
    """Open a lane on the database that is there."""
    lane = Lane(database, 1, begin="BEGIN", set_up=())
    try:
        yield lane
    finally:
        await lane.aclose()
