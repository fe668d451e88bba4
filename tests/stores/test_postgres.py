"""What several processes, a failing server and an operator may expect of a store on PostgreSQL."""

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import Connection, event
from tests.ground import GroundMissingError, PostgresServer, free_port, missing, position_of, running_postgres

from ruqsat.core.facts import Consent, PatientFacts, Position, Provision, SubjectFacts
from ruqsat.errors import OutcomeUnknownError, RequestError, RuqsatError, SettingsError, StoreUnavailableError
from ruqsat.service.clock import ServerClock
from ruqsat.service.freshness import Freshness
from ruqsat.stores import migrations, sql_facts
from ruqsat.stores.postgres import Postgres
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import current_revision, upgrade_database
from ruqsat.stores.sql_lane import Lane

ALICE, BOB = PatientFacts(id="alice"), PatientFacts(id="bob")


@asynccontextmanager
async def opened(url: str, **timeouts: float) -> AsyncIterator[SqlStore]:
    """Open a store and close it."""
    store = await SqlStore.open(url, **({"read_timeout_seconds": 2} | timeouts))  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def two_stores(url: str) -> AsyncIterator[tuple[SqlStore, SqlStore]]:
    """Open one database twice, as two sidecars do."""
    async with opened(url) as one, opened(url) as other:
        yield one, other


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that a server of the test's own may enter."""
    with TemporaryDirectory(prefix="ruqsat-postgres-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def own(own_folder: Path) -> Iterator[PostgresServer]:
    """A server that the test may stop and break."""
    try:
        with running_postgres(own_folder / "server", durable=True) as server:
            yield server
    except GroundMissingError as error:
        missing("PostgreSQL", error)


# Several processes


def test_a_change_by_one_is_learnt_by_the_probe_of_the_other(truth: str) -> None:
    """What one store commits, another finds in the feed, and then uses no older reading."""

    async def scenario() -> None:
        async with two_stores(truth) as (one, other):
            await one.record_facts((), (ALICE,))
            freshness = Freshness(other.token_key)
            asked = freshness.ask()
            freshness.observe_probe(*await other.fetch_changes(asked.since), 1, asked)
            _, _, read_at = await other.fetch_facts(None, "alice")
            assert freshness.usable(read_at, ("patient:alice",), 2)

            await one.change_patient("alice", lambda facts: msgspec.structs.replace(facts, egov=True))
            asked = freshness.ask()
            freshness.observe_probe(*await other.fetch_changes(asked.since), 3, asked)

            assert not freshness.usable(read_at, ("patient:alice",), 4)
            assert freshness.usable((await other.fetch_facts(None, "alice"))[2], ("patient:alice",), 4)

    asyncio.run(scenario())


def test_numbers_are_dense_and_in_commit_order_whoever_writes(truth: str) -> None:
    """Two stores that write at once take turns: no number is missing or given twice, and each finds its key there."""

    async def scenario() -> None:
        async with two_stores(truth) as stores:
            start = await position_of(stores[0])
            writes = [stores[n % 2].record_facts((), (PatientFacts(id=f"p{n}"), ALICE)) for n in range(60)]
            seen = dict[int, str]()
            for position, keys in await asyncio.gather(*writes):
                seen |= dict(enumerate(keys, position.seq - len(keys) + 1))

            head, changes = await stores[1].fetch_changes(start)

            assert [seq for seq, _ in changes] == list(range(start.seq + 1, start.seq + 121))
            assert (dict(changes), head.seq) == (seen, start.seq + 120)

    asyncio.run(scenario())


async def count_in_turns(url: str, times: int) -> int | None:
    """Let two stores count up one patient at once, and return what came of it."""
    async with two_stores(url) as stores:
        await stores[0].record_facts((), (PatientFacts(id="alice", deceased_at=0),))

        def count(facts: PatientFacts) -> PatientFacts:
            return msgspec.structs.replace(facts, deceased_at=(facts.deceased_at or 0) + 1)

        await asyncio.gather(*(stores[n % 2].change_patient("alice", count) for n in range(times)))
        _, alice, _ = await stores[0].fetch_facts(None, "alice")
        assert alice is not None
        return alice.deceased_at


def test_no_change_is_lost_between_two_writers(truth: str) -> None:
    """Of changes to one patient by two stores at once, each sees the one before it."""
    assert asyncio.run(count_in_turns(truth, 200)) == 200


def test_changes_are_lost_when_rows_are_read_without_a_lock(truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lock of the row taken away, the same check finds that changes are missing."""
    monkeypatch.setattr(sql_facts, "_PATIENT_TO_CHANGE", sql_facts._PATIENT)
    assert asyncio.run(count_in_turns(truth, 200)) != 200


def test_writers_never_wait_in_a_circle(truth: str) -> None:
    """Two stores that write the same people in opposite orders both succeed, however often they meet."""

    async def scenario() -> None:
        async with two_stores(truth) as stores:
            crowd = tuple(PatientFacts(id=f"p{n}") for n in range(300))
            writes = [stores[n % 2].record_facts((), crowd[:: 1 - 2 * (n % 2)]) for n in range(20)]
            assert len(await asyncio.gather(*writes)) == 20

    asyncio.run(scenario())


def test_a_document_cannot_go_to_two_patients_at_once(truth: str) -> None:
    """Of two stores that give one consent id to two patients at once, one is refused, without the id in its words."""
    consent = Consent(id="consent-canary", thread="t", status="active", granted_at=0, root=Provision(effect="permit"))

    async def scenario() -> None:
        async with two_stores(truth) as (one, other):
            done = await asyncio.gather(
                *(
                    store.record_facts((), (msgspec.structs.replace(who, consents=(consent,)),))
                    for store, who in ((one, ALICE), (other, BOB))
                ),
                return_exceptions=True,
            )
            (refused,) = [each for each in done if isinstance(each, BaseException)]
            assert isinstance(refused, RequestError)
            assert "canary" not in f"{refused} {refused.__cause__}"
            assert await one.find_consent("consent-canary") in ("alice", "bob")

    asyncio.run(scenario())


def test_whoever_sleeps_on_the_head_of_the_feed_stops_nobody_for_good(truth: str) -> None:
    """While somebody holds the head, a change is refused and nothing is changed; reading goes on; then all is well."""

    async def scenario() -> None:
        async with opened(truth, write_timeout_seconds=0.5) as store:
            before, _ = await store.record_facts((), (ALICE,))
            with psycopg.connect(truth) as sleeper:
                sleeper.execute("UPDATE feed_head SET seq = seq + 1")
                with pytest.raises(StoreUnavailableError) as refused:
                    await store.record_facts((), (BOB,))
                assert not isinstance(refused.value, OutcomeUnknownError)
                assert await store.fetch_facts(None, "bob") == (None, None, before)
                sleeper.rollback()
            assert (await store.record_facts((), (BOB,)))[0].seq == before.seq + 1

    asyncio.run(scenario())


# A server that fails


@pytest.mark.slow
def test_a_server_that_stands_still_is_given_up_in_time(own: PostgresServer) -> None:
    """Probe and reading end at their deadline, on connections that are never used again; later all goes on."""
    url = own.new_truth()

    async def backend(store: SqlStore) -> int:
        return await store._probe.run(lambda each: int(each.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()), 2)

    async def scenario() -> None:
        async with opened(url, read_timeout_seconds=0.25) as store:
            before, _ = await store.record_facts((), (ALICE,))
            first = await backend(store)
            with suspended(own, first):
                began = asyncio.get_running_loop().time()
                with pytest.raises(StoreUnavailableError, match="did not answer"):
                    await store.fetch_changes(before)
                assert asyncio.get_running_loop().time() - began < 0.25 + 1
            assert await store.fetch_changes(before) == (before, ())
            assert await backend(store) != first

    asyncio.run(scenario())


class suspended:  # noqa: N801
    """A backend, and perhaps more of our server's processes, stopped by a signal for the length of a block."""

    def __init__(self, server: PostgresServer, *pids: int) -> None:
        assert all(_parent(pid) == server.pid for pid in pids)
        self._pids = pids

    def __enter__(self) -> None:
        """Stop them."""
        for pid in self._pids:
            os.kill(pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        """Let them go on."""
        for pid in self._pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def silent_in_set_up(lane: Lane, server: PostgresServer) -> Iterator[None]:
    """For the length of a block, the server of the next connection says nothing more once it has let us in."""
    stopped = list[int]()

    def silence(connection: Any, _record: object) -> None:
        if not stopped:
            stopped.append(connection.info.backend_pid)
            os.kill(stopped[0], signal.SIGSTOP)

    event.listen(lane.engine, "connect", silence, insert=True)
    try:
        yield
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("is_first", [True, False], ids=["the first", "a later one"])
def test_a_connection_that_falls_silent_while_it_is_set_up_is_given_up(
    is_first: bool, truth: str, postgres: PostgresServer
) -> None:
    """Whether SQLAlchemy asks it who it is or we set the session: the seat is free for another in time."""

    async def scenario() -> None:
        database = Postgres.open(truth)
        database.set_up_seconds = 0.3
        lane = database.prober()
        if not is_first:
            await lane.run(sql_facts.read_position, 5)
            lane.renew()
        with silent_in_set_up(lane, postgres):
            with pytest.raises(StoreUnavailableError, match="did not answer"):
                await lane.run(sql_facts.read_position, 0.1)
            await lane.run(sql_facts.read_position, 5)
        await asyncio.sleep(0.3)
        await lane.run(sql_facts.read_position, 5)  # whoever was set up in time is left alone
        await lane.aclose()

    asyncio.run(scenario())


def test_a_server_that_falls_silent_after_a_refusal_of_ours_is_given_up(truth: str, postgres: PostgresServer) -> None:
    """The change that we refuse is undone while somebody can still give that up: the seat is free for another in time."""

    async def scenario() -> None:
        lane = Postgres.open(truth).writer()
        pid = await lane.run(lambda each: int(each.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()), 5)

        def refuse(connection: Connection) -> None:
            sql_facts.read_position(connection)
            os.kill(pid, signal.SIGSTOP)
            raise RequestError("no")

        try:
            with pytest.raises(StoreUnavailableError, match="did not answer"):
                await lane.run(refuse, 0.2, commit=True)
            await lane.run(sql_facts.read_position, 5)
        finally:
            os.kill(pid, signal.SIGCONT)
        await lane.aclose()

    asyncio.run(scenario())


def test_a_probe_that_is_cancelled_takes_its_connection_along(truth: str, postgres: PostgresServer) -> None:
    """A connection whose question was abandoned is closed, so that no late answer goes to somebody else."""

    async def scenario() -> None:
        async with opened(truth) as store:

            def ask(connection: Connection) -> int:
                return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

            first = await store._probe.run(ask, 2)
            asked = asyncio.create_task(
                store._probe.run(lambda each: each.exec_driver_sql("SELECT pg_sleep(60)").scalar_one(), 90)
            )
            await asyncio.sleep(0.1)
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            assert await store._probe.run(ask, 2) != first

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_commit_without_an_answer_is_told_as_unknown(own: PostgresServer) -> None:
    """When the server falls silent in the middle of a commit, nobody says that nothing was changed."""
    url = own.new_truth()

    async def scenario() -> None:
        async with opened(url, write_timeout_seconds=1) as store:
            store._database.commit_seconds = 0.2  # type: ignore[attr-defined]
            await store.record_facts((), (ALICE,))
            stopped = list[int]()

            @event.listens_for(store._writer.engine, "commit")
            def silence(connection: Connection) -> None:
                if not stopped:
                    stopped.append(connection.connection.driver_connection.info.backend_pid)  # type: ignore[union-attr]
                    os.kill(stopped[0], signal.SIGSTOP)

            try:
                with pytest.raises(OutcomeUnknownError):
                    await store.record_facts((), (BOB,))
            finally:
                os.kill(stopped[0], signal.SIGCONT)
            assert (await store.record_facts((), (BOB,)))[0].seq >= 2

    asyncio.run(scenario())


def test_a_connection_that_breaks_in_a_commit_is_told_as_unknown(truth: str, postgres: PostgresServer) -> None:
    """A backend that is ended in the middle of a commit may have made it; before the commit it has not."""

    async def scenario() -> None:
        async with opened(truth) as store:

            def end(connection: Connection) -> None:
                pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                postgres.execute(f"SELECT pg_terminate_backend({pid}, 5000)")

            event.listen(store._writer.engine, "commit", end)
            with pytest.raises(OutcomeUnknownError):
                await store.record_facts((), (ALICE,))
            event.remove(store._writer.engine, "commit", end)

            def broken(facts: PatientFacts) -> PatientFacts:
                postgres.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE state = 'idle in transaction'"
                )
                return facts

            await store.record_facts((), (BOB,))
            with pytest.raises(StoreUnavailableError) as refused:
                await store.change_patient("bob", broken)
            assert not isinstance(refused.value, OutcomeUnknownError)

    asyncio.run(scenario())


@pytest.mark.slow
def test_acknowledged_changes_survive_a_killed_server(own: PostgresServer, own_folder: Path) -> None:
    """After the server is killed at some moment and started anew, all that was acknowledged is there."""
    url = own.new_truth()
    acked = list[int]()

    async def write() -> None:
        async with opened(url) as store:
            threading.Timer(0.5, kill_server).start()
            with suppress(StoreUnavailableError):
                for number in range(1_000_000):
                    await store.record_facts((SubjectFacts(id="doctor", btg_today=number),), ())
                    acked.append(number)

    def kill_server() -> None:
        os.kill(own.pid, signal.SIGQUIT)

    async def read(url: str) -> None:
        async with opened(url) as store:
            doctor, _, position = await store.fetch_facts("doctor", None)
            assert doctor is not None
            assert doctor.btg_today >= acked[-1] > 0
            assert position.seq == doctor.btg_today + 1

    asyncio.run(write())
    own.server.process.wait(20)
    with running_postgres(own_folder / "server", durable=True) as again:
        asyncio.run(read(again.url(url.rpartition("/")[2])))


def make_standby(server: Path, standby: Path) -> None:
    """Copy the folder of a server that is stopped into that of a standby; it keeps its owner."""
    subprocess.run(["cp", "-a", str(server), str(standby)], check=True)
    (standby / "data" / "standby.signal").touch()


@pytest.mark.slow
def test_a_standby_answers_nothing_and_its_promotion_is_another_epoch(own: PostgresServer, own_folder: Path) -> None:
    """The same address, now a standby: probe and readings fail; promoted, it is another epoch, so nothing is compared."""
    url = own.new_truth() + "?target_session_attrs=any"

    async def scenario() -> None:
        async with opened(url) as store:
            before, _ = await store.record_facts((), (ALICE,))
            own.server.stop()
            make_standby(own_folder / "server", own_folder / "standby")
            with running_postgres(own_folder / "standby", port=own.port) as standby:
                assert standby.execute("SELECT pg_is_in_recovery()") == [(True,)]
                for _ in range(3):  # the first use of an old connection only finds that it is broken
                    with pytest.raises(StoreUnavailableError) as refused:
                        await store.fetch_changes(before)
                    with pytest.raises(StoreUnavailableError):
                        await store.fetch_facts(None, "alice")
                    with pytest.raises(StoreUnavailableError):
                        await store.record_facts((), (BOB,))
                assert "standby" in str(refused.value)

                standby.execute("SELECT pg_promote()")
                head, changes = await store.fetch_changes(before)
                assert (head.seq, changes) == (before.seq, ())
                assert head.epoch != before.epoch
                assert (await store.fetch_facts(None, "alice"))[1:] == (ALICE, head)
                assert (await store.record_facts((), (BOB,)))[0] == Position(head.epoch, head.seq + 1)

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_standby_is_not_connected_to_unless_asked(own: PostgresServer, own_folder: Path) -> None:
    """Without a word in the URL a store refuses a standby when it connects."""
    url = own.new_truth()
    own.server.stop()
    (own.data / "standby.signal").touch()

    async def scenario(url: str) -> None:
        with pytest.raises(StoreUnavailableError) as refused:
            await SqlStore.open(url)
        assert "read-only" in str(refused.value.__cause__)
        lane = Postgres.open(url + "?target_session_attrs=any").readers(1)
        with pytest.raises(StoreUnavailableError, match="is a standby, expected the primary"):
            await lane.run(sql_facts.read_position, 2)
        await lane.aclose()

    with running_postgres(own_folder / "server") as standby:
        asyncio.run(scenario(standby.url(url.rpartition("/")[2])))


def test_a_probe_brings_the_servers_clock(truth: str, postgres: PostgresServer) -> None:
    """The time for decisions, after a probe, encloses what the server then says of itself."""
    clock = ServerClock()

    async def scenario() -> None:
        async with opened(truth) as store:
            store.observe_clock = clock.observe
            await store.fetch_changes(Position("", 0))

    asyncio.run(scenario())
    earlier = clock.now()
    ((between,),) = postgres.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    assert earlier.lo <= between <= clock.now().hi


# What the operator does


def test_commits_are_durable_whatever_the_database_says(truth: str, postgres: PostgresServer) -> None:
    """A database that is set to acknowledge before it syncs is overruled; nobody sleeps inside a transaction."""
    name = truth.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")

    def show(setting: str) -> Callable[[Connection], str]:
        return lambda connection: str(connection.exec_driver_sql(f"SHOW {setting}").scalar_one())

    async def scenario() -> None:
        async with opened(truth) as store:
            assert await store._writer.run(show("synchronous_commit"), 1) == "on"
            assert await store._writer.run(show("transaction_isolation"), 1) == "read committed"
            for lane in (store._readers, store._probe):
                assert await lane.run(show("transaction_isolation"), 1) == "repeatable read"
            assert await store._readers.run(show("transaction_read_only"), 1) == "on"
            assert await store._probe.run(show("synchronous_commit"), 1) == "on"
            for lane in (store._writer, store._readers, store._probe):
                assert await lane.run(show("idle_in_transaction_session_timeout"), 1) == "10s"
                assert await lane.run(show("lock_timeout"), 1) == "3s"

    asyncio.run(scenario())


def test_serving_refuses_another_revision_and_says_what_to_run(postgres: PostgresServer) -> None:
    """No tables, and tables of another revision: one line that names the command; afterwards it serves."""
    url = postgres.new_database()

    async def scenario() -> None:
        assert await current_revision(url) is None
        with pytest.raises(
            SettingsError, match=f"no tables yet, expected revision `{migrations.HEAD}`: run `ruqsat db upgrade`"
        ):
            await SqlStore.open(url)
        assert await asyncio.gather(upgrade_database(url), upgrade_database(url)) == [migrations.HEAD] * 2
        assert await upgrade_database(url) == await current_revision(url) == migrations.HEAD
        async with opened(url) as store:
            assert await store.is_empty()

        postgres.execute("UPDATE ruqsat_revision SET version_num = '7777'", url.rpartition("/")[2])
        with pytest.raises(
            SettingsError, match=f"at revision `7777`, expected revision `{migrations.HEAD}`: a later version"
        ):
            await SqlStore.open(url)
        with pytest.raises(SettingsError, match="a revision that this version does not know"):
            await upgrade_database(url)

    asyncio.run(scenario())
    postgres.drop_database(url)


def test_a_database_of_another_program_is_left_alone(postgres: PostgresServer) -> None:
    """Tables that are not ours are refused by serving and by the upgrade."""
    url = postgres.new_database()
    name = url.rpartition("/")[2]
    postgres.execute("CREATE TABLE invoices (id int)", name)

    for attempt in (SqlStore.open, upgrade_database):
        with pytest.raises(SettingsError, match="belongs to another program"):
            asyncio.run(attempt(url))
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name) == [("invoices",)]
    postgres.drop_database(url)


def test_a_database_that_cannot_keep_every_text_is_refused(postgres: PostgresServer) -> None:
    """Ids are kept exactly, so the encoding has to be one that holds all of them."""
    url = postgres.new_database("template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(SettingsError, match="keeps text as LATIN1, expected UTF8"):
        asyncio.run(upgrade_database(url))
    postgres.drop_database(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@127.0.0.1:1/x", "postgresql://u:hunter2@127.0.0.1:{port}/nowhere", "postgresql://u:hunter2@[::1/x",
        "postgresql://u:hunter2@127.0.0.1:{port}/x?no_such=hunter2", "postgresql://u@127.0.0.1/x?password=hunter2&port=1",
        "postgresql://u:hunter2@no-such-host.invalid/x", "postgres://u:hunter2@127.0.0.1:port/x",
    ],
)  # fmt: skip
def test_no_error_repeats_a_password(url: str, postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with the URL or behind it, neither error, cause nor log holds the password."""
    with pytest.raises(RuqsatError) as refused:
        asyncio.run(SqlStore.open(url.format(port=postgres.port)))

    told, error = "", refused.value
    while error is not None:
        told, error = f"{told} {error!r} {error}", error.__cause__  # type: ignore[assignment]
    assert "hunter2" not in told + caplog.text


def test_parameters_of_libpq_are_taken(truth: str) -> None:
    """What the URL says of the connection is what libpq does."""

    async def scenario() -> None:
        async with opened(truth + "?application_name=canary&options=-c%20work_mem%3D7MB") as store:

            def ask(connection: Connection) -> tuple[str, ...]:
                return tuple(
                    connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in ("application_name", "work_mem")
                )

            assert await store._probe.run(ask, 1) == ("canary", "7MB")

    asyncio.run(scenario())


def test_nobody_there_is_an_outage(tmp_path: Path) -> None:
    """A server that is not there is not a wrong setting: the store says that it did not answer."""
    with pytest.raises(StoreUnavailableError):
        asyncio.run(SqlStore.open(f"postgresql://ruqsat@127.0.0.1:{free_port()}/x"))


def test_a_process_stands_in_the_table_before_its_first_answer_and_not_after_its_end(truth: str) -> None:
    """Whoever looks sees the others, with what they knew; a row that was written again is not taken away."""

    async def scenario() -> None:
        async with opened(truth) as one, opened(truth) as two:
            one.join(5)
            two.join(7)
            epoch, rows = await one.fetch_others()
            assert rows == ()
            head, _ = await two.fetch_changes(Position("", 0))
            (row,) = (await one.fetch_others())[1]
            assert (row[1:], epoch) == ((Position("", 0), 7, 1), head.epoch)

            await two.fetch_changes(head)
            await one.drop_silent([(row[0], row[3])])
            assert (await one.fetch_others())[1] == ((row[0], head, 7, 2),)
            await two.aclose()
            assert (await one.fetch_others())[1] == ()

    asyncio.run(scenario())


def test_a_process_stands_in_the_table_before_the_reading_that_renews_its_lease_begins(truth: str) -> None:
    """Whoever commits after that reading began, and then looks, finds it there: its row is committed in a transaction before."""

    async def scenario() -> None:
        async with opened(truth) as store:
            store.join(5)
            await store.fetch_changes(Position("", 0))
            done: list[str] = []

            @event.listens_for(store._probe.engine, "before_cursor_execute")
            def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
                done.append(statement.partition(" ")[0])

            event.listen(store._probe.engine, "commit", lambda _: done.append("COMMIT"))
            await store.fetch_changes(Position("", 0))

            assert done[:4] == ["BEGIN", "INSERT", "COMMIT", "BEGIN"] and set(done[4:]) == {"SELECT"}

    asyncio.run(scenario())


def test_a_process_that_cannot_say_it_is_here_gets_no_answer(truth: str, postgres: PostgresServer) -> None:
    """A probe whose row cannot be committed renews nothing, though the truth could be read."""

    async def scenario() -> None:
        async with opened(truth) as store:
            store.join(5)
            head, _ = await store.fetch_changes(Position("", 0))
            postgres.execute("ALTER TABLE sidecar RENAME TO mislaid", truth.rpartition("/")[2])
            with pytest.raises(StoreUnavailableError):
                await store.fetch_changes(head)
            assert await position_of(store) == head

    asyncio.run(scenario())
