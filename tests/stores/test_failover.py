"""After a failover the old primary may live on behind connections that are open: nobody is answered from there."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event
from tests.clocks import FixedClock
from tests.ground import PostgresServer

from ruqsat.core.facts import PatientFacts, Position
from ruqsat.errors import OutcomeUnknownError, StoreUnavailableError
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_lane import Lane

ALICE = PatientFacts(id="alice")


class Primaries:
    """
    Two databases behind one address, the second promoted from the first.

    The address is a service of libpq, which is looked up for each new connection.
    """

    url = "postgresql:///?service=primary"

    def __init__(self, server: PostgresServer, services: Path) -> None:
        self._server, self._services = server, services
        self.old, self.new = server.new_truth(), server.new_truth()
        self._run(self.new, "UPDATE feed_head SET epoch = 'promoted'")
        self.lead_to(self.old)

    def lead_to(self, url: str) -> None:
        """Let new connections reach this database; those that are open stay where they are."""
        user, _, database = url.removeprefix("postgresql://").partition("@")
        name = database.rpartition("/")[2]
        self._services.write_text(f"[primary]\nhost=127.0.0.1\nport={self._server.port}\nuser={user}\ndbname={name}\n")

    async def fail_over(self, *cut: Lane) -> None:
        """Promote the second; the connections of these lanes are cut, every other one stays at the first."""
        self.lead_to(self.new)
        for lane in cut:
            pid = await lane.run(lambda each: each.exec_driver_sql("SELECT pg_backend_pid()").scalar_one(), 2)
            self._server.execute(f"SELECT pg_terminate_backend({pid}, 5000)")
            with suppress(StoreUnavailableError):  # the first use only finds that it is broken
                await lane.run(lambda each: each.exec_driver_sql("SELECT 1").close(), 2)

    def written(self, url: str) -> int:
        """Return how many changes a database holds."""
        return int(self._run(url, "SELECT seq FROM feed_head")[0][0])

    def _run(self, url: str, statement: str) -> list[tuple[object, ...]]:
        return self._server.execute(statement, url.rpartition("/")[2])

    def forget(self) -> None:
        """Drop both."""
        for url in (self.old, self.new):
            self._server.drop_database(url)


@pytest.fixture
def primaries(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Primaries]:
    """An old primary and the new one, each without anybody on record."""
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    pair = Primaries(postgres, tmp_path / "services")
    yield pair
    pair.forget()


@asynccontextmanager
async def deciding(primaries: Primaries) -> AsyncIterator[tuple[SqlStore, InformationPoint]]:
    """Put Alice on record at both; give a store that has written, read and probed at the old one, and who decides."""
    for url in (primaries.new, primaries.old):
        primaries.lead_to(url)
        store = await SqlStore.open(primaries.url, read_timeout_seconds=2)
        await store.record_facts((), (ALICE,))
        if url == primaries.new:
            await store.aclose()
    point = InformationPoint(store, Freshness(store.token_key), FixedClock())
    try:
        await point.fetch(None, "alice")
        yield store, point
    finally:
        await point.aclose()
        await store.aclose()


def register(facts: PatientFacts) -> PatientFacts:
    """Make a change of a patient."""
    return msgspec.structs.replace(facts, egov=True)


def test_a_change_after_a_failover_is_made_at_the_new_primary(primaries: Primaries) -> None:
    """Once a probe has told of another epoch, the writer's idle connection to the old primary is not used again."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            await primaries.fail_over(store._probe)
            await point.probe_once()
            made = await point.change_patient("alice", register)

            assert (primaries.written(primaries.old), primaries.written(primaries.new)) == (1, 2)
            assert made == point.position
            assert (await point.fetch(None, "alice")).patient == register(ALICE)

    asyncio.run(scenario())


def test_what_is_read_after_a_failover_is_the_new_primarys(primaries: Primaries) -> None:
    """Once a probe has told of another epoch, the readers' idle connections to the old primary are not used again."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            await primaries.fail_over(store._probe)
            await point.probe_once()

            assert (await point.fetch(None, "alice")).position == point.position
            for lane in (store._readers, store._lookers, store._desk, store._writer, store.background()):
                name = await lane.run(lambda each: each.exec_driver_sql("SELECT current_database()").scalar_one(), 2)
                assert primaries.new.endswith(f"/{name}")

    asyncio.run(scenario())


def test_a_reader_that_is_at_the_new_primary_first_takes_the_probe_along(primaries: Primaries) -> None:
    """Facts of another epoch than the last probe's are not used, and the next probe finds out where they were read."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            await primaries.fail_over(store._readers)
            point.forget()

            assert (await point.fetch(None, "alice")).position.epoch.startswith("promoted")

    asyncio.run(scenario())


def test_a_change_at_a_primary_that_no_probe_has_told_of_is_refused_once(primaries: Primaries) -> None:
    """The writer came to the new primary first: nothing is changed anywhere, and after the next probe it is."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            await primaries.fail_over(store._writer)
            with pytest.raises(StoreUnavailableError, match="another history") as refused:
                await point.change_patient("alice", register)
            assert not isinstance(refused.value, OutcomeUnknownError)
            assert primaries.written(primaries.old) == primaries.written(primaries.new) == 1

            await point.probe_once()
            await point.change_patient("alice", register)
            assert (primaries.written(primaries.old), primaries.written(primaries.new)) == (1, 2)

    asyncio.run(scenario())


class Standstill:
    """Where a thread waits until the test lets it go on."""

    def __init__(self) -> None:
        self.reached, self.over = threading.Event(), threading.Event()

    def __call__(self, *_: object) -> None:
        """Wait."""
        self.reached.set()
        assert self.over.wait(10)


async def failed_over_meanwhile(
    primaries: Primaries, store: SqlStore, point: InformationPoint, standstill: Standstill, change: Awaitable[Position]
) -> StoreUnavailableError:
    """Fail over, and let a probe tell so, while *change* stands still; return how it is refused."""
    task = asyncio.ensure_future(change)
    try:
        await asyncio.to_thread(standstill.reached.wait, 10)
        await primaries.fail_over(store._probe)
        await point.probe_once()
    finally:
        standstill.over.set()
    with pytest.raises(StoreUnavailableError) as refused:
        await task
    return refused.value


def test_a_change_that_a_failover_overtakes_is_not_made(primaries: Primaries) -> None:
    """A change that waited at the old primary while a probe told of the new one is rolled back, and told as not made."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            standstill = Standstill()

            def register_late(facts: PatientFacts) -> PatientFacts:
                standstill()
                return register(facts)

            change = point.change_patient("alice", register_late)
            refused = await failed_over_meanwhile(primaries, store, point, standstill, change)

            assert not isinstance(refused, OutcomeUnknownError)
            assert primaries.written(primaries.old) == primaries.written(primaries.new) == 1

    asyncio.run(scenario())


def test_a_commit_that_a_failover_overtakes_is_told_as_unknown(primaries: Primaries) -> None:
    """A commit under way at the old primary while a probe tells of the new one may be lost: nobody says it was made."""

    async def scenario() -> None:
        async with deciding(primaries) as (store, point):
            standstill = Standstill()
            event.listen(store._writer.engine, "commit", standstill)

            change = point.change_patient("alice", register)
            refused = await failed_over_meanwhile(primaries, store, point, standstill, change)

            assert isinstance(refused, OutcomeUnknownError)
            assert point.position.epoch.startswith("promoted")
            assert (await point.fetch(None, "alice")).patient == ALICE

    asyncio.run(scenario())
