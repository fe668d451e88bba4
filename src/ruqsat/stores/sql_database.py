"""
Which database a URL names, and what an operator does to it before it is served from.

What differs between SQLite and PostgreSQL is behind ``Database``; the store asks
the same questions of both.
"""

import secrets
from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from ruqsat.stores import sql_facts
from ruqsat.stores.sql_lane import ClockReading, Lane
from ruqsat.stores.sql_schema import read_revision
from ruqsat.stores.sqlite import Sqlite

T = TypeVar("T")

UPGRADE_SECONDS = 600.0
_REVISIONS_SECONDS = 24 * 3600.0
"""A revision may write a table anew that holds years; nobody knows how long that takes."""


class Database(Protocol):
    """What a store needs of a kind of database."""

    def writer(self) -> Lane:
        """Return the lane of the one connection that writes."""
        ...

    def readers(self, seats: int) -> Lane:
        """Return a lane of connections that only read, each transaction one snapshot."""
        ...

    def prober(self) -> Lane:
        """Return the lane of the one connection that probes; where others share the database it says who is here."""
        ...

    def background(self) -> Lane | None:
        """Return a lane of one more connection that writes, for work nobody waits for; None where it would block."""
        ...

    def prepare(self, connection: Connection) -> bytes:
        """Recognise the tables, or refuse them, and return the token key."""
        ...

    def upgrade(self, connection: Connection) -> None:
        """Bring the tables to our revision."""
        ...

    def read_clock(self, connection: Connection) -> ClockReading:
        """Read the server's clock; this machine's own where there is no server."""
        ...

    def scrub(self) -> None:
        """Leave nothing of what was written over, as far as this kind of database can be made to."""
        ...

    def release(self) -> None:
        """Let go of what ``open`` took."""
        ...


def open_database(url: str) -> Database:
    """
    Return the database that *url* names: ``sqlite:///file`` or ``postgresql://…``.

    Raises:
        SettingsError: the URL or the file is not what this version can use; the URL is never repeated.
        StoreLockedError: another process owns the file.
    """
    if is_postgres(url):
        from ruqsat.stores.postgres import Postgres  # noqa: PLC0415 - a driver that SQLite does not need

        return Postgres.open(url)
    return Sqlite.open(url)


def is_postgres(url: str) -> bool:
    """
    Tell whether *url* asks for PostgreSQL.

    Examples:
        >>> is_postgres("postgresql://ruqsat@db/ruqsat"), is_postgres("sqlite:///ruqsat.db")
        (True, False)
    """
    return url.startswith(("postgresql://", "postgres://"))


async def upgrade_database(url: str) -> str:
    """
    Bring the tables of a database to our revision, and return it.

    Raises:
        SettingsError: the database is another program's, or of a later version of ours.
        StoreUnavailableError: the database failed; nothing was changed.
    """

    def upgrade(connection: Connection) -> str:
        database.upgrade(connection)
        return str(read_revision(connection))

    database = open_database(url)
    return await _once(database, upgrade, commit=True, within_seconds=_REVISIONS_SECONDS)


async def current_revision(url: str) -> str | None:
    """
    Return the revision that the tables of a database are at; None when there are none.

    Raises:
        SettingsError: the database is another program's.
        StoreUnavailableError: the database failed.
    """
    return await _once(open_database(url), read_revision, commit=False)


async def renew_epoch(url: str) -> str:
    """
    Give a database a new epoch, and return its position: no position or token from before is compared any more.

    For a database that was restored from a backup, and lacks changes that somebody may have seen.

    Raises:
        SettingsError: it is not a database of ours at our revision.
        StoreUnavailableError: the database failed; nothing was changed.
    """

    def renew(connection: Connection) -> str:
        database.prepare(connection)
        return sql_facts.renew_epoch(connection, secrets.token_hex(8)).epoch

    database = open_database(url)
    return await _once(database, renew, commit=True)


async def _once(
    database: Database, work: Callable[[Connection], T], *, commit: bool, within_seconds: float = UPGRADE_SECONDS
) -> T:
    lane = database.writer()
    try:
        return await lane.run(work, within_seconds, commit=commit)
    finally:
        await lane.aclose()
        database.release()
