"""SQLite as a database of facts: one file of one process, which makes and upgrades its tables by itself."""

import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Self

from sqlalchemy import URL, Connection, Engine, create_engine, delete, inspect, select

from ruqsat.errors import SettingsError, StoreUnavailableError
from ruqsat.stores import migrations
from ruqsat.stores.sql_lane import ClockReading, Lane, boottime
from ruqsat.stores.sql_schema import REVISION_TABLE, meta, read_revision, read_token_key
from ruqsat.stores.sqlite_file import FileLock, make_file, parse_url

_log = logging.getLogger(__name__)

_SOUND_SQLITE = (3, 51, 3)
_BUSY_SECONDS = 0.2
_WRITER = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA trusted_schema=OFF")
_READER = ("PRAGMA wal_autocheckpoint=0", "PRAGMA query_only=ON", "PRAGMA trusted_schema=OFF")

_OLDEST = b"1"
"""What files from before the revisions say of themselves; their tables are those of revision 0001."""


class Sqlite:
    """One file, which is ours from ``open`` to ``release``."""

    failures: tuple[type[Exception], ...] = (sqlite3.Error,)
    commit_seconds: float | None = None
    set_up_seconds: float | None = None

    def __init__(self, path: Path, lock: FileLock | None = None) -> None:
        """Prefer ``Sqlite.open``, which also takes the lock and makes the file."""
        self._path = path
        self._lock = lock

    @classmethod
    def open(cls, url: str) -> Self:
        """
        Take the file at *url*, making it when there is none.

        Raises:
            SettingsError: the URL or the file is not what this version can use.
            StoreLockedError: another process owns the file.
        """
        path = parse_url(url)
        if sqlite3.sqlite_version_info < _SOUND_SQLITE:
            _log.warning("sqlite_is_old version=%s wanted=3.51.3 or later", sqlite3.sqlite_version)
        lock = FileLock(path)
        try:
            make_file(path)
        except SettingsError:
            lock.release()
            raise
        return cls(path, lock)

    def open_engine(self, seats: int) -> Engine:
        """Return an engine on the file."""
        return create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS},
            pool_size=seats,
            max_overflow=0,
            hide_parameters=True,
        )

    def interrupt(self, connection: Any) -> None:
        """Stop the statement that runs."""
        connection.interrupt()

    def lost(self, connection: Any) -> bool:
        """Return False: of a commit to a file on this machine it is always known whether it was made."""
        return False

    def writer(self) -> Lane:
        """Return the lane of the one connection that writes, and it alone checkpoints."""
        return Lane(self, 1, begin="BEGIN IMMEDIATE", set_up=_WRITER)

    def readers(self, seats: int) -> Lane:
        """Return a lane of connections that only read."""
        return Lane(self, seats, begin="BEGIN", set_up=_READER)

    def prober(self) -> Lane:
        """Return the lane of the connection that probes; it only reads."""
        return self.readers(1)

    def background(self) -> None:
        """Return None: a second connection that writes would lock the first one out."""

    def prepare(self, connection: Connection) -> bytes:
        """
        Bring the tables to our revision and return the token key.

        Raises:
            SettingsError: the file is another program's, or of a later version of ours.
        """
        if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
            raise SettingsError("the file system of the database has no write-ahead log, expected a local disk")
        self.upgrade(connection)
        return read_token_key(connection)

    def upgrade(self, connection: Connection) -> None:
        """
        Bring the tables to our revision.

        Raises:
            SettingsError: the file is another program's, or of a later version of ours.
        """
        _take_over(connection)
        if read_revision(connection) != migrations.HEAD:
            migrations.upgrade(connection)

    def read_clock(self, connection: Connection) -> ClockReading:
        """Read this machine's clock: nobody else writes to the file."""
        now = boottime()
        return ClockReading(time.time_ns() // 1000, now, now)

    def scrub(self) -> None:
        """
        Write the file anew, so that nothing is left in it of what was written over or deleted.

        Every lane must be closed.

        Raises:
            StoreUnavailableError: it could not be done.
        """
        try:
            with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.execute(statement)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the database could not be written anew: {error}") from error

    def release(self) -> None:
        """Let another process have the file."""
        if self._lock is not None:
            self._lock.release()


def _take_over(connection: Connection) -> None:
    """Give a file from before the revisions the first of them."""
    tables = set(inspect(connection).get_table_names())
    if meta.name not in tables or REVISION_TABLE in tables:
        return
    version = connection.execute(select(meta.c.value).where(meta.c.name == "schema_version")).scalar_one_or_none()
    if version != _OLDEST:
        raise SettingsError("the database belongs to another program, expected an empty one or one of ours")
    connection.exec_driver_sql(f"CREATE TABLE {REVISION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql(f"INSERT INTO {REVISION_TABLE} VALUES ('0001')")  # noqa: S608
    connection.execute(delete(meta).where(meta.c.name == "schema_version"))
