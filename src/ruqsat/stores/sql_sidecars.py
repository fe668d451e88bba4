"""
The table of the processes that answer from this database, each row written by its own process.

A row is committed BEFORE the reading that renews a lease begins.  So whoever has
committed a change, and then reads the table, finds in it every process that may
answer without that change.  ``beat`` is the process's own count: a row that has
been written again never looks like the one before.  ``seen_at`` is the server's
clock, for people who look; nothing depends on it.
"""

from collections.abc import Collection
from secrets import token_hex

from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects import postgresql

from ruqsat.core.facts import Position
from ruqsat.core.instant import Instant
from ruqsat.stores.sql_facts import read_position
from ruqsat.stores.sql_schema import sidecar

Row = tuple[str, Position, Instant, int]
"""Whose it is, how far it knew the truth, how long its leases are, its beat."""

_NOW = text("(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_OTHERS = select(sidecar.c.id, sidecar.c.epoch, sidecar.c.applied, sidecar.c.lease, sidecar.c.beat)


class Place:
    """A process's own row."""

    def __init__(self, lease: Instant) -> None:
        """Have an id that no process had before; *lease* is how long it answers without hearing from here."""
        self.id = token_hex(8)
        self._lease = lease
        self._beat = 0

    def register(self, connection: Connection, known: Position) -> None:
        """Say that this process is here and knows the truth up to *known*, and commit that."""
        self._beat += 1
        row = {"epoch": known.epoch, "applied": known.seq, "lease": self._lease, "beat": self._beat, "seen_at": _NOW}
        fresh = postgresql.insert(sidecar).values(id=self.id, **row)
        connection.execute(fresh.on_conflict_do_update(index_elements=[sidecar.c.id], set_=row))
        # Whoever is no longer waited for may be cut off in the middle of this: the row does no harm.
        connection.commit()

    def leave(self, connection: Connection) -> None:
        """Take the row away: this process answers nobody any more."""
        connection.execute(delete(sidecar).where(sidecar.c.id == self.id))
        connection.commit()

    def read_others(self, connection: Connection) -> tuple[str, tuple[Row, ...]]:
        """Return the epoch of the database, and the rows of the others."""
        rows = connection.execute(_OTHERS.where(sidecar.c.id != self.id)).all()
        return read_position(connection).epoch, tuple(
            (id_, Position(epoch, applied), lease, beat) for id_, epoch, applied, lease, beat in rows
        )


def drop_rows(connection: Connection, silent: Collection[tuple[str, int]]) -> None:
    """Take away these rows, those that have been written again since excepted."""
    for id_, beat in silent:
        connection.execute(delete(sidecar).where(sidecar.c.id == id_, sidecar.c.beat == beat))
