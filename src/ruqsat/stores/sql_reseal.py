"""
Sealing records anew after a change of the record key: batch by batch, each its own transaction.

It may be stopped anywhere and run again: what is under the new key already is
left alone.  Others may go on changing records meanwhile.
"""

from collections.abc import Callable

from msgspec import Struct
from sqlalchemy import Connection, bindparam, select, update

from ruqsat.core.consent_record import ConsentRow
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores.sql_database import UPGRADE_SECONDS, open_database
from ruqsat.stores.sql_records import row_of
from ruqsat.stores.sql_schema import consent_record

_BATCH = select(consent_record).where(consent_record.c.id > bindparam("after")).order_by(consent_record.c.id)


class Resealed(Struct):
    """How many records were sealed anew, were so already, changed meanwhile, or open under no key."""

    resealed: int = 0
    current: int = 0
    changed: int = 0
    unreadable: int = 0


async def reseal_records(url: str, reseal: Callable[[ConsentRow], ConsentRow | None], batch: int) -> Resealed:
    """
    Give every record the seal and the tag that *reseal* makes of it; None leaves it as it is.

    Raises:
        SettingsError: it is not a database of ours at our revision.
        StoreUnavailableError: the database failed; the batches before stay.
    """
    told, database = Resealed(), open_database(url)
    lane, after = database.writer(), ""

    def work(connection: Connection) -> str | None:
        if not after:
            database.prepare(connection)
        return _reseal_batch(connection, after, batch, reseal, told)

    try:
        while (last := await lane.run(work, UPGRADE_SECONDS, commit=True)) is not None:
            after = last
    finally:
        await lane.aclose()
        database.release()
    return told


def _reseal_batch(
    connection: Connection, after: str, batch: int, reseal: Callable[[ConsentRow], ConsentRow | None], told: Resealed
) -> str | None:
    rows = [row_of(dict(row)) for row in connection.execute(_BATCH.limit(batch), {"after": after}).mappings()]
    for row in rows:
        try:
            new = reseal(row)
        except StoreUnavailableError:
            told.unreadable += 1
            continue
        if new is None:
            told.current += 1
        elif _write(connection, row, new):
            told.resealed += 1
        else:
            told.changed += 1
    return rows[-1].id if rows else None


def _write(connection: Connection, old: ConsentRow, new: ConsentRow) -> bool:
    columns = consent_record.c
    same = (columns.id == old.id) & (columns.version == old.version) & (columns.sealed == old.sealed)
    changes = {"sealed": new.sealed, "owner_tag": new.owner_tag}
    return connection.execute(update(consent_record).where(same).values(**changes)).rowcount == 1
