"""One process, one file, one schema: what opening an SQLite store accepts, refuses and survives."""

import asyncio
import logging
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.ground import position_of

import ruqsat
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.errors import SettingsError, StoreLockedError, StoreUnavailableError
from ruqsat.service.clock import ServerClock
from ruqsat.stores import migrations
from ruqsat.stores.sql import SqlStore

SOURCE = str(Path(ruqsat.__file__).parent.parent)

OPEN = """
import asyncio, sys
from ruqsat.errors import RuqsatError
from ruqsat.stores.sql import SqlStore

async def run():
    try:
        store = await SqlStore.open(sys.argv[1])
    except RuqsatError as error:
        print(error.code, error)
    else:
        print("opened")
        await store.aclose()

asyncio.run(run())
"""

WRITE = """
import asyncio, sys
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.stores.sql import SqlStore

async def run():
    store = await SqlStore.open(sys.argv[1])
    for number in range(int(sys.argv[2]), 1_000_000):
        subject = SubjectFacts(id="doctor", btg_today=number)
        position, _ = await store.record_facts((subject,), (PatientFacts(id=f"patient-{number}"),))
        print(number, position.seq, flush=True)

asyncio.run(run())
"""


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a second process that runs *script* with this source tree."""
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], env=environment, stdout=subprocess.PIPE, text=True
    )


def with_store(path: Path, scenario: Callable[[SqlStore], Awaitable[None]] | None = None) -> None:
    """Open the store at *path*, run *scenario* if there is one, close it."""

    async def run() -> None:
        store = await SqlStore.open(f"sqlite:///{path}")
        try:
            if scenario is not None:
                await scenario(store)
        finally:
            await store.aclose()

    asyncio.run(run())


def edit(path: Path, statement: str, *values: object) -> None:
    """Change the closed database at *path* behind our back."""
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.slow
def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """While one process has the file, another is told so with the first one's number; afterwards it may."""
    path = tmp_path / "truth.db"

    def ask() -> str:
        return start(OPEN, f"sqlite:///{path}").communicate(timeout=30)[0]

    async def scenario(_: SqlStore) -> None:
        answer = await asyncio.to_thread(ask)
        assert answer.startswith("store-locked")
        assert f"in use by process {os.getpid()}," in answer

    with_store(path, scenario)
    assert ask() == "opened\n"


def test_another_name_of_the_file_is_refused_too(tmp_path: Path) -> None:
    """A link to a database in use is the same database."""
    path = tmp_path / "truth.db"
    (tmp_path / "link.db").symlink_to(path)

    async def scenario(_: SqlStore) -> None:
        with pytest.raises(StoreLockedError):
            await SqlStore.open(f"sqlite:///{tmp_path}/link.db")

    with_store(path, scenario)


def test_another_file_is_not_refused(tmp_path: Path) -> None:
    """Two databases side by side do not lock each other."""

    async def scenario(_: SqlStore) -> None:
        await (await SqlStore.open(f"sqlite:///{tmp_path}/other.db")).aclose()

    with_store(tmp_path / "truth.db", scenario)


@pytest.mark.slow
def test_acknowledged_changes_survive_a_kill(tmp_path: Path) -> None:
    """A writer killed at any moment leaves all it had acknowledged, whole, under dense numbers."""
    path = tmp_path / "truth.db"
    chance = random.Random(54)
    number = 0
    for _ in range(5):
        writer = start(WRITE, f"sqlite:///{path}", str(number))
        assert writer.stdout is not None
        assert writer.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        acked = [line.split() for line in writer.stdout.read().splitlines() if len(line.split()) == 2]
        writer.wait(timeout=30)
        writer.stdout.close()
        number = int(acked[-1][0]) if acked else number

        async def scenario(store: SqlStore, last: int = number) -> None:
            subject, patient, position = await store.fetch_facts("doctor", f"patient-{last}")
            assert patient == PatientFacts(id=f"patient-{last}")
            assert subject is not None
            assert subject.btg_today >= last
            _, changes = await store.fetch_changes(Position(position.epoch, max(0, position.seq - 900)))
            assert [seq for seq, _ in changes] == list(range(max(0, position.seq - 900) + 1, position.seq + 1))

        with_store(path, scenario)
        number += 2
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_file_is_for_our_user_only(tmp_path: Path) -> None:
    """A new database cannot be read by others on the machine."""
    path = tmp_path / "truth.db"
    with_store(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_writes_are_synced_and_only_the_writer_checkpoints(tmp_path: Path) -> None:
    """The writer commits to a log with full syncing; readers can neither write nor checkpoint."""

    async def scenario(store: SqlStore) -> None:
        def pragma(name: str) -> Callable[..., object]:
            return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()

        assert await store._writer.run(pragma("journal_mode"), 1) == "wal"
        assert await store._writer.run(pragma("synchronous"), 1) == 2
        for lane in (store._readers, store._probe):
            assert await lane.run(pragma("wal_autocheckpoint"), 1) == 0
            assert await lane.run(pragma("query_only"), 1) == 1

    with_store(tmp_path / "truth.db", scenario)


@pytest.mark.parametrize(
    "url",
    [
        "truth.db",
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///truth.db",
        "sqlite:///truth.db?mode=ro",
        "sqlite://host/truth.db",
        "mysql://user:hunter2@host/truth",
        "postgresql+psycopg://user:hunter2@host/truth",
    ],
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    """Only a plain SQLite file is accepted, and no error shows what may be a password."""
    with pytest.raises(SettingsError, match="expected `sqlite:///file`") as caught:
        asyncio.run(SqlStore.open(url))
    assert "hunter2" not in str(caught.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """A database in a folder that does not exist is a wrong setting, not an outage."""
    with pytest.raises(SettingsError, match="No such file or directory"):
        with_store(tmp_path / "nowhere" / "truth.db")


def test_a_folder_is_not_a_database(tmp_path: Path) -> None:
    """A folder in the place of the file is refused, and the lock let go."""
    (tmp_path / "truth.db").mkdir()
    for _ in range(2):
        with pytest.raises(SettingsError, match="cannot be opened"):
            with_store(tmp_path / "truth.db")


def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    """A text file is never overwritten by a database."""
    path = tmp_path / "notes.txt"
    path.write_text("minutes of the meeting")
    with pytest.raises(SettingsError, match="not an SQLite database"):
        with_store(path)
    assert path.read_text() == "minutes of the meeting"


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """Tables that are not ours are left alone."""
    path = tmp_path / "other.db"
    edit(path, "CREATE TABLE invoices (id INTEGER)")
    with pytest.raises(SettingsError, match="belongs to another program"):
        with_store(path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    """A database of a later version is refused and kept, and can be opened when put right."""
    path = tmp_path / "truth.db"
    with_store(path)
    edit(path, "UPDATE ruqsat_revision SET version_num = ?", "7777")

    with pytest.raises(
        SettingsError, match=f"a revision that this version does not know, expected `{migrations.HEAD}`"
    ):
        with_store(path)

    edit(path, "UPDATE ruqsat_revision SET version_num = ?", migrations.HEAD)
    with_store(path)


def test_a_database_without_its_token_key_is_refused(tmp_path: Path) -> None:
    """Tokens are never sealed with a key that was made up later."""
    path = tmp_path / "truth.db"
    with_store(path)
    edit(path, "DELETE FROM meta WHERE name = 'token_key'")
    with pytest.raises(SettingsError, match="token key"):
        with_store(path)


def test_each_database_has_its_own_key_and_epoch(tmp_path: Path) -> None:
    """Two new databases share neither key nor epoch, so tokens of one mean nothing to the other."""
    seen = set()

    async def scenario(store: SqlStore) -> None:
        assert len(store.token_key) == 32
        seen.update([store.token_key, (await position_of(store)).epoch])

    with_store(tmp_path / "one.db", scenario)
    with_store(tmp_path / "two.db", scenario)
    assert len(seen) == 4


def test_an_old_sqlite_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An SQLite with a known fault of its log is used, but not in silence; a sound one is not mentioned."""
    for version, lines in (((3, 51, 2), 1), ((3, 51, 3), 0)):
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            with_store(tmp_path / "truth.db")
        assert [record.getMessage().split()[0] for record in caplog.records] == ["sqlite_is_old"] * lines


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"id": 7}', b'{"id": "someone-else"}', b'{"id": "patient-1", "egov": "yes"}', b"\xff\xfe"],
)
def test_a_corrupt_body_is_an_outage_not_an_answer(tmp_path: Path, body: bytes) -> None:
    """Facts that cannot be read, or are somebody else's, deny; the patient is never taken for unknown."""
    path = tmp_path / "truth.db"

    async def write(store: SqlStore) -> None:
        await store.record_facts((SubjectFacts(id="doctor"),), (PatientFacts(id="patient-1"),))

    async def read(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailableError):
            await store.fetch_facts("doctor", "patient-1")
        with pytest.raises(StoreUnavailableError):
            await store.change_patient("patient-1", lambda facts: facts)
        assert (await store.fetch_facts("doctor", None))[0] == SubjectFacts(id="doctor")

    with_store(path, write)
    edit(path, "UPDATE patient_facts SET body = ?", body)
    with_store(path, read)


def test_a_damaged_file_is_an_outage_not_an_answer(tmp_path: Path) -> None:
    """Pages overwritten on the disk lead to errors, never to fewer facts."""
    path = tmp_path / "truth.db"

    async def write(store: SqlStore) -> None:
        await store.record_facts((), tuple(PatientFacts(id=f"patient-{i}") for i in range(500)))

    async def read(store: SqlStore) -> None:
        refused = 0
        for i in range(500):
            try:
                _, patient, _ = await store.fetch_facts(None, f"patient-{i}")
            except StoreUnavailableError:
                refused += 1
            else:
                assert patient == PatientFacts(id=f"patient-{i}")
        assert refused > 0

    with_store(path, write)
    page = 4096
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'patient_facts'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * page)
        file.write(os.urandom(page))
    with_store(path, read)


def test_a_vanished_table_is_an_outage(tmp_path: Path) -> None:
    """When the database is no longer what it was, questions fail and say so."""
    path = tmp_path / "truth.db"
    with_store(path)
    edit(path, "DROP TABLE patient_facts")

    async def scenario(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailableError, match="the database failed"):
            await store.fetch_facts(None, "patient-1")

    with_store(path, scenario)


def test_a_full_disk_refuses_the_change_and_keeps_the_rest(tmp_path: Path) -> None:
    """When there is no room the change is refused, the position stays, and later changes work again."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PatientFacts(id="patient-1"),))
        before = await position_of(store)

        def limit(pages: int) -> Callable[..., object]:
            return lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar_one()

        await store._writer.run(limit(1), 1)
        with pytest.raises(StoreUnavailableError):
            await store.record_facts((), tuple(PatientFacts(id=f"patient-{i}") for i in range(2, 900)))
        assert await store.fetch_facts(None, "patient-2") == (None, None, before)

        await store.record_facts((), (PatientFacts(id="patient-2"),))
        assert (await store.fetch_facts(None, "patient-2"))[1] == PatientFacts(id="patient-2")

    with_store(tmp_path / "truth.db", scenario)


def test_time_for_decisions_does_not_follow_the_hosts_clock_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody sets it back by two hours: what was over stays over."""
    clock, moment = ServerClock(), time.time_ns()

    async def story() -> None:
        store = await SqlStore.open(f"sqlite:///{tmp_path}/truth.db")
        store.observe_clock = clock.observe
        for told in (moment, moment - 2 * 3600 * 10**9):
            monkeypatch.setattr("ruqsat.stores.sqlite.time.time_ns", lambda told=told: told)
            await store.fetch_changes(Position("", 0))
            assert clock.now().lo >= moment // 1000
        await store.aclose()

    asyncio.run(story())
