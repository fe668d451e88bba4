"""
What is asked of the tables of full records, one function a question.

As in ``sql_facts``, each takes a Connection inside a transaction and neither
begins nor ends one.  The rows of a patient are changed only by whoever holds
that patient's row of facts.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Table, bindparam, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from ruqsat.core.consent_record import ConsentRow, Receipt, RecordBody
from ruqsat.core.instant import Instant
from ruqsat.core.proceeding import ProceedingRow
from ruqsat.core.registered import Body, RecordRow
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.stores.sql_proceedings import write_proceeding
from ruqsat.stores.sql_schema import consent_record, idempotency, record

CONSENT = "consent"
"""The kind whose records stand in a table of their own; the others share one."""

RECEIPTS_KEPT: Instant = 30 * 24 * 3600 * 1_000_000
"""How long a repeated call is answered as it was the first time."""

_encode = msgspec.json.Encoder().encode
_read_body = msgspec.json.Decoder(RecordBody)
_read_other_body = msgspec.json.Decoder(Body)
_RECEIPT = select(idempotency).where(idempotency.c.key == bindparam("wanted"))
_SOMEBODY_ELSE = select(
    exists(
        select(consent_record.c.id).where(
            # Permits that were once verified: whoever hands in anything else may have made the number up.
            consent_record.c.effect == "permit",
            consent_record.c.status.in_(("active", "revoked", "superseded")),
            (
                consent_record.c.owner_tag.in_(bindparam("tags", expanding=True))
                & (consent_record.c.patient != bindparam("owner"))
            )
            | (
                consent_record.c.owner_tag.not_in(bindparam("tags", expanding=True))
                & (consent_record.c.patient == bindparam("owner"))
            ),
        )
    )
)


def read_record(connection: Connection, kind: str, id_: str) -> Any:
    """
    Return one record of a kind, None for none.

    Raises:
        StoreUnavailableError: what is stored cannot be read as a record.
    """
    table = _table_of(kind)
    question = select(table).where(table.c.id == id_)
    if table is record:
        question = question.where(record.c.kind == kind)
    found = connection.execute(question).mappings().one_or_none()
    return None if found is None else row_of(table, dict(found))


def read_page(connection: Connection, kind: str, patient: str, org: str | None, after: str, limit: int) -> list[Any]:
    """Return a patient's records of a kind in the order of their ids, those of one organisation if *org* is given."""
    table = _table_of(kind)
    question = select(table).where(table.c.patient == patient, table.c.id > after).order_by(table.c.id).limit(limit)
    if table is record:
        question = question.where(record.c.kind == kind)
    if org is not None:
        question = question.where(table.c.org == org)
    return [row_of(table, dict(row)) for row in connection.execute(question).mappings()]


def _table_of(kind: str) -> Table:
    return consent_record if kind == CONSENT else record


def row_of(table: Table, columns: dict[str, Any]) -> ConsentRow | RecordRow:
    """
    Return a record as it is stored.

    Raises:
        StoreUnavailableError: what is stored cannot be read as a record.
    """
    try:
        if table is record:
            return RecordRow(**columns | {"body": _read_other_body.decode(columns["body"])})
        return ConsentRow(**columns | {"body": _read_body.decode(columns["body"])})
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StoreUnavailableError("a stored record cannot be read, the database may be damaged") from error


def read_receipt(connection: Connection, key: bytes) -> Receipt | None:
    """Return what was answered under an idempotency key, None for nothing."""
    found = connection.execute(_RECEIPT, {"wanted": key}).mappings().one_or_none()
    return None if found is None else Receipt(**dict(found))


def is_somebody_else(connection: Connection, patient: str, tags: tuple[bytes, ...]) -> bool:
    """Tell whether verified records tie these tags' number to another patient, or this patient to another number."""
    return bool(connection.execute(_SOMEBODY_ELSE, {"owner": patient, "tags": tags}).scalar_one())


def write_records(connection: Connection, rows: tuple[ConsentRow | RecordRow | ProceedingRow, ...]) -> None:
    """
    Write records: a first version is new, a further one replaces the one before.

    Raises:
        RequestError: the id is taken.
        StoreUnavailableError: the version before is not there.
    """
    for row in rows:
        if isinstance(row, ProceedingRow):
            write_proceeding(connection, row)
            continue
        table = record if isinstance(row, RecordRow) else consent_record
        columns = {name: getattr(row, name) for name in row.__struct_fields__} | {"body": _encode(row.body)}
        try:
            if row.version == 1:
                connection.execute(insert(table), columns)
                continue
            before = (table.c.id == row.id) & (table.c.version == row.version - 1)
            if isinstance(row, RecordRow):
                before &= table.c.kind == row.kind
            changed = connection.execute(update(table).where(before).values(**columns))
        except IntegrityError:
            raise RequestError("the id of a record is already taken, expected a new one") from None
        if changed.rowcount != 1:
            raise StoreUnavailableError("the version of a record that was read is not there any more")


def write_receipt(connection: Connection, receipt: Receipt) -> None:
    """
    Keep what is answered under an idempotency key, and forget receipts older than thirty days.

    Raises:
        RequestError: another call used the key at the same time.
    """
    connection.execute(idempotency.delete().where(idempotency.c.at < receipt.at - RECEIPTS_KEPT))
    try:
        connection.execute(insert(idempotency), msgspec.structs.asdict(receipt))
    except IntegrityError:
        raise RequestError("the idempotency key is in use, expected a new one for another call") from None
