"""The revisions lead to the tables that the code speaks of, on both databases; older files are taken over."""

import asyncio
import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, create_engine, insert, select
from sqlalchemy.schema import CreateTable
from tests.ground import PostgresServer, position_of
from tests.process.starter import run_cli

from ruqsat.core.facts import PatientFacts, Position, Representation, StatutoryRequest
from ruqsat.core.instant import HOUR
from ruqsat.errors import SettingsError
from ruqsat.stores import migrations
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import open_database, upgrade_database
from ruqsat.stores.sql_schema import (
    REVISION_TABLE,
    break_glass,
    document,
    facts_import_run,
    feed_head,
    meta,
    metadata,
    patient_facts,
    record,
)


def is_spoken_of(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out what PostgreSQL alone has: parts of the journal, and its index of documents; they have their tests."""
    is_part = kind == "table" and str(name).startswith("journal_entry_")
    return not is_part and (kind, name) != ("index", "journal_entry_by_document")


def differences(connection: Connection) -> list[object]:
    """Return what the tables lack, or have beside, what the code speaks of."""
    options = {"version_table": REVISION_TABLE, "compare_type": True, "compare_server_default": True,
               "include_name": is_spoken_of}  # fmt: skip
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def run_once(url: str, work: object) -> object:
    """Run *work* in a writing transaction on the database at *url*, and keep it."""

    async def run() -> object:
        database = open_database(url)
        lane = database.writer()
        try:
            return await lane.run(work, 10, commit=True)  # type: ignore[arg-type]
        finally:
            await lane.aclose()
            database.release()

    return asyncio.run(run())


def test_the_revisions_lead_to_the_tables_of_the_code(url: str) -> None:
    """Nothing is missing, nothing is beside; and a column that is taken away is noticed."""
    assert run_once(url, differences) == []

    run_once(url, lambda connection: connection.exec_driver_sql("ALTER TABLE feed DROP COLUMN kind").close())
    assert run_once(url, differences) != []


def test_tables_of_sqlite_are_made_as_the_code_says_to_the_letter(tmp_path: Path) -> None:
    """Collations, strictness and checks, which a comparison of columns does not see, are the same text."""
    asyncio.run(upgrade_database(f"sqlite:///{tmp_path}/truth.db"))
    connection = sqlite3.connect(tmp_path / "truth.db")
    made = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    connection.close()
    engine = create_engine("sqlite://")

    def text(table: Table) -> str:
        return " ".join(str(CreateTable(table).compile(engine)).split())

    for table in metadata.tables.values():
        assert " ".join(made[table.name].split()) == text(table)


def test_ids_of_postgres_are_compared_byte_by_byte(truth: str) -> None:
    """Every column of text has the collation that knows no language."""
    question = (
        "SELECT count(*) FILTER (WHERE collation_name = 'C'), count(*) FROM information_schema.columns"
        f" WHERE table_schema = 'public' AND data_type = 'text' AND table_name <> '{REVISION_TABLE}'"
    )
    exact, all_ = run_once(truth, lambda connection: connection.exec_driver_sql(question).one())  # type: ignore[misc]
    assert exact == all_ > 5


FIRST_TABLES = ("feed_head", "feed", "subject_facts", "patient_facts", "document", "meta")
"""Those of revision 0001."""


def make_old_file(path: Path, version: bytes) -> None:
    """Make a file as the versions before the revisions did, with one patient's history in its head."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        metadata.create_all(connection, [metadata.tables[name] for name in FIRST_TABLES])
        connection.execute(insert(feed_head).values(id=1, epoch="5eed", seq=7))
        rows = [{"name": "schema_version", "value": version}, {"name": "token_key", "value": bytes(32)}]
        connection.execute(insert(meta), rows)
    engine.dispose()


def test_a_file_from_before_the_revisions_is_taken_over(tmp_path: Path) -> None:
    """Its epoch, position and key stay, and it is at the newest revision from then on."""
    make_old_file(tmp_path / "truth.db", b"1")

    async def scenario() -> None:
        for seq in (7, 8):
            store = await SqlStore.open(f"sqlite:///{tmp_path}/truth.db")
            assert (await position_of(store), store.token_key) == (Position("5eed", seq), bytes(32))
            await store.record_facts((), (PatientFacts(id="alice"),))
            await store.aclose()

    asyncio.run(scenario())
    connection = sqlite3.connect(tmp_path / "truth.db")
    assert connection.execute(f"SELECT version_num FROM {REVISION_TABLE}").fetchall() == [(migrations.HEAD,)]
    connection.close()


def test_a_file_of_an_unknown_kind_is_not_taken_over(tmp_path: Path) -> None:
    """Only the one kind of file that was ever made before the revisions is taken for one."""
    make_old_file(tmp_path / "truth.db", b"2")

    with pytest.raises(SettingsError, match="belongs to another program"):
        asyncio.run(SqlStore.open(f"sqlite:///{tmp_path}/truth.db"))


@pytest.mark.slow
def test_the_command_line_upgrades_and_serving_says_that_it_must(tmp_path: Path, postgres: PostgresServer) -> None:
    """`serve` on an empty database names the command in one line; after it, `current` and `serve` are content."""
    url = postgres.new_database()
    settings = {"database_url": url, "auth_listen": "off"}

    current = run_cli(tmp_path, "db", "current", **settings)
    assert (current.returncode, "no tables yet" in current.stdout) == (1, True)
    refused = run_cli(tmp_path, "serve", **settings)
    assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    assert "RUQSAT_DATABASE_URL: the database has no tables yet" in refused.stderr
    assert "run `ruqsat db upgrade`" in refused.stderr

    assert run_cli(tmp_path, "db", "upgrade", **settings).stdout == f"the database is at revision {migrations.HEAD}\n"
    assert (
        run_cli(tmp_path, "db", "current", "--database-url", url).stdout
        == f"the database is at revision {migrations.HEAD}\n"
    )
    postgres.drop_database(url)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_powers_and_requests_from_before_are_listed_by_their_ids(
    kind: str, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two patients with one id the first is; what an import had prepared, which was checked less, is dropped."""
    url = postgres.new_database() if kind == "postgres" else f"sqlite:///{tmp_path}/truth.db"
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "HEAD", "0006")
        asyncio.run(upgrade_database(url))
    power, request = Representation("w1", "saule", "guardian"), StatutoryRequest("q1", "court", (), 99)
    there = [
        PatientFacts("p1", representations=(power,), requests=(request,)), PatientFacts("p2", representations=(power,)),
    ]  # fmt: skip

    def put(connection: Connection) -> None:
        rows = [{"id": each.id, "version": 1, "body": msgspec.json.encode(each)} for each in there]
        connection.execute(insert(patient_facts), rows)
        run = {"id": 1, "source": b"", "place": 9, "line": 9, "subjects": 9, "patients": 9}
        connection.execute(insert(facts_import_run), run)

    run_once(url, put)
    asyncio.run(upgrade_database(url))

    def listed(connection: Connection) -> object:
        tables = (document, facts_import_run)
        return [{tuple(row) for row in connection.execute(select(table))} for table in tables]

    assert run_once(url, listed) == [{("w1", "p1", "representation"), ("q1", "p1", "request")}, set()]
    if kind == "postgres":
        postgres.drop_database(url)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_sessions_from_before_wait_for_their_review(
    kind: str, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their clinicians, due 72 hours after they were opened; what was settled is, and what was invalid is none."""
    url = postgres.new_database() if kind == "postgres" else f"sqlite:///{tmp_path}/truth.db"
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "HEAD", "0007")
        asyncio.run(upgrade_database(url))
    states = {"s1": "open", "s2": "unclear", "s3": "misuse", "s4": "invalid"}

    def put(connection: Connection) -> None:
        usual = {"kind": "grant", "patient": "p", "version": 1, "org": "h1", "created_at": 5, "updated_at": 9}
        bodies = {id_: {} if status == "invalid" else {"subject": "ed"} for id_, status in states.items()}
        rows = [
            usual | {"id": id_, "status": status, "body": msgspec.json.encode({"said": bodies[id_]}),
                     "sealed": b"", "sealed_at": 1}
            for id_, status in states.items()
        ]  # fmt: skip
        connection.execute(insert(record), rows)

    def kept(connection: Connection) -> object:
        columns = [break_glass.c[name] for name in ("id", "subject", "ward", "opened_at", "due", "settled_at")]
        return [tuple(row) for row in connection.execute(select(*columns).order_by(break_glass.c.id))]

    run_once(url, put)
    asyncio.run(upgrade_database(url))
    due = 5 + 72 * HOUR
    assert run_once(url, kept) == [
        ("s1", "ed", "h1", 5, due, None), ("s2", "ed", "h1", 5, due, None), ("s3", "ed", "h1", 5, due, 9),
    ]  # fmt: skip
    if kind == "postgres":
        postgres.drop_database(url)


def test_a_restored_database_is_another_epoch(url: str, tmp_path: Path) -> None:
    """Once the operator has said so it shares no position with its past; facts, key and numbers are as they were."""

    async def look() -> tuple[Position, bytes, PatientFacts | None]:
        store = await SqlStore.open(url, read_timeout_seconds=2)
        try:
            return await position_of(store), store.token_key, (await store.fetch_facts(None, "alice"))[1]
        finally:
            await store.aclose()

    async def write() -> None:
        store = await SqlStore.open(url)
        await store.record_facts((), (PatientFacts(id="alice"),))
        await store.aclose()

    asyncio.run(write())
    before, key, alice = asyncio.run(look())
    done = run_cli(tmp_path, "db", "restored", database_url=url, auth_listen="off")
    after, *same = asyncio.run(look())

    assert done.stdout == f"the database is in the new epoch {after.epoch}\n", done.stderr
    assert (after.seq, same) == (before.seq, [key, alice])
    assert after.epoch != before.epoch


@pytest.mark.parametrize("command", ["current", "restored", "reseal"])
def test_a_file_that_is_not_there_cannot_be_said_to_be_done(command: str, tmp_path: Path) -> None:
    """Under a mistaken path no new database is made, restored or sealed anew: the true one was not touched."""
    new, old = (base64.b64encode(bytes([each]) * 32).decode() for each in (1, 2))
    url = f"sqlite:///{tmp_path}/mistaken.db"
    done = run_cli(tmp_path, "db", command, database_url=url, record_key=new, record_key_previous=old)

    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no database" in done.stderr
    assert not (tmp_path / "mistaken.db").exists()


def test_tables_of_a_later_version_are_not_said_to_need_an_upgrade(tmp_path: Path) -> None:
    """There is no way back: whoever went back to an earlier version is told so, and not to run what refuses it."""
    url = f"sqlite:///{tmp_path}/truth.db"
    asyncio.run(upgrade_database(url))
    with closing(sqlite3.connect(tmp_path / "truth.db")) as connection, connection:
        connection.execute("UPDATE ruqsat_revision SET version_num = '7777'")

    done = run_cli(tmp_path, "db", "current", database_url=url)

    assert (done.returncode, "a later version made them" in done.stdout, "upgrade" in done.stdout) == (1, True, False)


def test_a_database_that_is_not_there_is_one_line_without_the_password(tmp_path: Path) -> None:
    """The command line tells what libpq found, and never the URL."""
    done = run_cli(tmp_path, "db", "current", database_url="postgresql://u:hunter2@127.0.0.1:1/x")

    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert "hunter2" not in done.stderr + done.stdout
    assert "refused" in done.stderr
