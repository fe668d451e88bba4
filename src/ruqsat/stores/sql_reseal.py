"""
Sealing records anew after a change of the record key: batch by batch, each its own transaction.

It may be stopped anywhere and run again: what is under the new key already is
left alone.  Others may go on changing records meanwhile.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Select, Table, bindparam, select, update

from ruqsat.core.consent_record import ConsentRow
from ruqsat.core.proceeding import ProceedingRow
from ruqsat.core.registered import RecordRow
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores.sql_database import UPGRADE_SECONDS, open_database
from ruqsat.stores.sql_lane import Lane
from ruqsat.stores.sql_proceedings import proceedings_of
from ruqsat.stores.sql_records import row_of
from ruqsat.stores.sql_schema import consent_record, outbox, proceeding, record

Sealed = ConsentRow | RecordRow | ProceedingRow

_AFTER: tuple[Any, Any] = (bindparam("kind"), bindparam("id"))
_BATCHES = (
    (consent_record, select(consent_record).where(consent_record.c.id > _AFTER[1]).order_by(consent_record.c.id)),
    (
        record,
        select(record)
        .where((record.c.kind > _AFTER[0]) | ((record.c.kind == _AFTER[0]) & (record.c.id > _AFTER[1])))
        .order_by(record.c.kind, record.c.id),
    ),
    (proceeding, select(proceeding).where(proceeding.c.id > _AFTER[1]).order_by(proceeding.c.id)),
)


class Resealed(Struct):
    """How many records were sealed anew, were so already, changed meanwhile, or open under no key."""

    resealed: int = 0
    current: int = 0
    changed: int = 0
    unreadable: int = 0


async def reseal_records(url: str, reseal: Callable[[Any], Sealed | None], batch: int) -> Resealed:
    """
    Give every record the seal, and a consent the tag, that *reseal* makes of it; None leaves it as it is.

    Raises:
        SettingsError: it is not a database of ours at our revision.
        StoreUnavailableError: the database failed; the batches before stay.
    """
    told = Resealed()
    async with _writing(url) as lane:
        for table, question in _BATCHES:
            after: dict[str, str] | None = {"kind": "", "id": ""}
            while after is not None:
                work = partial(_reseal_batch, table, question.limit(batch), after, reseal, told)
                after = await lane.run(work, UPGRADE_SECONDS, commit=True)
    return told


ResealBody = Callable[[str, str | None, bytes], bytes | None]
"""Given key, patient and body of a notice, makes the body under the new key; None leaves it."""


async def reseal_notices(url: str, reseal: ResealBody, batch: int) -> Resealed:
    """
    Give every notice whose facts are kept the seal that *reseal* makes of it, with the promises of ``reseal_records``.

    Raises:
        SettingsError: it is not a database of ours at our revision.
        StoreUnavailableError: the database failed; the batches before stay.
    """
    told = Resealed()
    async with _writing(url) as lane:
        after: str | None = ""
        while after is not None:
            after = await lane.run(partial(_reseal_bodies, after, batch, reseal, told), UPGRADE_SECONDS, commit=True)
    return told


@asynccontextmanager
async def _writing(url: str) -> AsyncIterator[Lane]:
    database = open_database(url)
    lane = database.writer()
    try:
        await lane.run(database.prepare, UPGRADE_SECONDS, commit=True)
        yield lane
    finally:
        await lane.aclose()
        database.release()


def _reseal_bodies(
    after: str, batch: int, reseal: ResealBody, told: Resealed, connection: Connection
) -> str | None:  # fmt: skip
    question = select(outbox.c.key, outbox.c.patient, outbox.c.body).where(outbox.c.key > after)
    rows = connection.execute(question.order_by(outbox.c.key).limit(batch)).all()
    for key, patient, body in rows:
        try:
            new = reseal(key, patient, body)
        except StoreUnavailableError:
            told.unreadable += 1
            continue
        if new is None:
            told.current += 1
            continue
        same = (outbox.c.key == key) & (outbox.c.body == body)
        is_changed = connection.execute(update(outbox).where(same).values(body=new)).rowcount == 1
        told.resealed += is_changed
        told.changed += not is_changed
    return rows[-1].key if rows else None


def _reseal_batch(
    table: Table, question: Select[Any], after: dict[str, str], reseal: Callable[[Any], Sealed | None],
    told: Resealed, connection: Connection,
) -> dict[str, str] | None:  # fmt: skip
    found = [dict(row) for row in connection.execute(question, after).mappings()]
    rows: list[Sealed] = []
    if table is proceeding:
        rows += proceedings_of(found)
    else:
        rows += [row_of(table, row) for row in found]
    for row in rows:
        try:
            new = reseal(row)
        except StoreUnavailableError:
            told.unreadable += 1
            continue
        if new is None:
            told.current += 1
        elif _write(table, connection, row, new):
            told.resealed += 1
        else:
            told.changed += 1
    return {"kind": getattr(rows[-1], "kind", ""), "id": rows[-1].id} if rows else None


def _write(table: Table, connection: Connection, old: Sealed, new: Sealed) -> bool:
    columns = table.c
    same = (columns.id == old.id) & (columns.version == old.version) & (columns.sealed == old.sealed)
    if isinstance(old, RecordRow):
        same &= columns.kind == old.kind
    changes = {"sealed": new.sealed} | ({"owner_tag": new.owner_tag} if isinstance(new, ConsentRow) else {})
    return connection.execute(update(table).where(same).values(**changes)).rowcount == 1
