"""
PostgreSQL as a database of facts: for several processes and hosts.

Reading is REPEATABLE READ: facts and position are of one snapshot.  Writing is
READ COMMITTED: whoever waits for a row, the head of the feed above all, goes on
with what the one before has committed; under REPEATABLE READ it would fail.

A standby answers nothing, and the epoch names the timeline, so that positions
from before and after a failover are never compared.
"""

import logging
import os
import socket
from contextlib import suppress
from functools import partial
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from ruqsat.errors import SettingsError
from ruqsat.stores import migrations
from ruqsat.stores.sql_journal_months import keep_months
from ruqsat.stores.sql_lane import ClockReading, Lane, boottime
from ruqsat.stores.sql_schema import read_revision, read_token_key

_log = logging.getLogger(__name__)

_HINT = "expected `postgresql://user@host/database` with parameters of libpq"
_UPGRADE_LOCK = 0x72757173

_USUAL: dict[str, Any] = {
    "application_name": "ruqsat",
    "connect_timeout": 2,
    "target_session_attrs": "read-write",
    # A host that has vanished is noticed in seconds, not in the minutes of the system's defaults.
    "tcp_user_timeout": 3000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

_SESSION = (
    "SET client_encoding = 'UTF8'",
    "SET timezone = 'UTC'",
    "SET lock_timeout = '3s'",
    "SET statement_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '10s'",  # nobody holds the head of the feed while they sleep
)
_WRITER = (
    *_SESSION,
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
)
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_PROBING = "BEGIN ISOLATION LEVEL REPEATABLE READ"


_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Postgres:
    """One database on a server; its tables are made and upgraded by ``upgrade`` alone, never by serving."""

    failures: tuple[type[Exception], ...] = (psycopg.Error,)
    commit_seconds: float | None = 5.0
    set_up_seconds: float | None = 3.0

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Prefer ``Postgres.open``; *parameters* are libpq's."""
        self._parameters = parameters

    @classmethod
    def open(cls, url: str) -> Self:
        """
        Read *url*; nothing is connected yet.

        Raises:
            SettingsError: libpq cannot read it; what was written is not repeated, since it may hold a password.
        """
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            raise SettingsError(f"the database URL cannot be read, {_HINT}") from None
        return cls(_USUAL | given)

    def open_engine(self, seats: int) -> Engine:
        """Return an engine on the database, which never sees the URL."""
        return create_engine(
            "postgresql+psycopg://",
            creator=partial(psycopg.connect, autocommit=True, **self._parameters),
            pool_size=seats,
            max_overflow=0,
            hide_parameters=True,
        )

    def interrupt(self, connection: Any) -> None:
        """Shut the connection: a request to cancel would need a server that answers."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    def lost(self, connection: Any) -> bool:
        """Tell that a commit may have been made, if the connection broke before its answer."""
        return bool(connection.closed)

    def writer(self) -> Lane:
        """Return the lane of the one connection that writes."""
        return Lane(self, 1, begin=_BEGIN_WRITING, set_up=_WRITER)

    def readers(self, seats: int) -> Lane:
        """Return a lane of connections that only read."""
        return Lane(self, seats, begin=_BEGIN_READING, set_up=_SESSION)

    def prober(self) -> Lane:
        """
        Return the lane of the connection that probes.

        It commits who is here before it reads.  Under synchronous replication, a
        primary that is cut off from its standbys cannot commit, and so renews no lease.
        """
        return Lane(self, 1, begin=_BEGIN_PROBING, set_up=_WRITER)

    def background(self) -> Lane:
        """Return a lane like the writer's."""
        return self.writer()

    def prepare(self, connection: Connection) -> bytes:
        """
        Recognise the tables as those of our revision and return the token key.

        Raises:
            SettingsError: they are of another revision, or the database is not one for us.
        """
        found = read_revision(connection)
        if found != migrations.HEAD:
            at = "has no tables yet" if found is None else f"is at revision `{found}`"
            raise SettingsError(f"the database {at}, expected revision `{migrations.HEAD}`: {migrations.way_on(found)}")
        if connection.exec_driver_sql("SHOW fsync").scalar_one() != "on":
            _log.warning("postgres_does_not_sync: fsync is off, what is acknowledged may be lost with the machine")
        return read_token_key(connection)

    def upgrade(self, connection: Connection) -> None:
        """
        Bring the tables to our revision, with the months of the journal; others who do the same wait meanwhile.

        Raises:
            SettingsError: the tables are another program's or of a later version of ours, or the database
                cannot keep every text.
        """
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise SettingsError(f"the database keeps text as {encoding}, expected UTF8")
        if read_revision(connection) != migrations.HEAD:
            migrations.upgrade(connection)
        self._keep_months(connection)

    def _keep_months(self, connection: Connection) -> None:
        """Make months of the journal; serving does without them, and must not wait for a table that is busy."""
        try:
            with connection.begin_nested():
                keep_months(connection, self.read_clock(connection).server)
        except DBAPIError as problem:
            _log.warning("journal_months_not_made reason=%s: run `ruqsat db upgrade` again", problem.orig)

    def read_clock(self, connection: Connection) -> ClockReading:
        """Read the server's clock."""
        sent = boottime()
        server = connection.exec_driver_sql(_CLOCK).scalar_one()
        return ClockReading(server, sent, boottime())

    def scrub(self) -> None:
        """Do nothing: what rows were goes with the server's own VACUUM, its log and its backups."""

    def release(self) -> None:
        """Do nothing: the database is not ours alone."""
