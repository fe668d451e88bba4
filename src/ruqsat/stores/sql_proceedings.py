"""
What is asked of the tables of proceedings, one function a question.

As in ``sql_facts``, each takes a Connection inside a transaction and neither begins nor ends one.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Text, and_, cast, exists, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ruqsat.core.instant import Instant
from ruqsat.core.proceeding import OUTER_OVERDUE, OVERDUE, WARNING, ProceedingBody, ProceedingRow, Wanted
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.stores.sql_schema import consent_record, proceeding, proceeding_event

_read_body = msgspec.json.Decoder(ProceedingBody).decode
_encode = msgspec.json.Encoder().encode
_LAPSING = [kind.name for kind in PROCEEDING_KINDS.values() if kind.lapses]
_row = proceeding.c
_event = proceeding_event.c


class ProceedingConflictError(RequestError):
    """Somebody else changed the proceeding meanwhile."""

    code = "version-conflict"


def read_proceeding(connection: Connection, id_: str, *, to_change: bool = False) -> ProceedingRow | None:
    """
    Return one proceeding, None for none; *to_change*: nobody else changes it until the end.

    Raises:
        StoreUnavailableError: what is stored cannot be read.
    """
    question = select(proceeding).where(_row.id == id_)
    found = _rows(connection, question.with_for_update() if to_change else question)
    return found[0] if found else None


def read_queue(connection: Connection, wanted: Wanted) -> list[ProceedingRow]:
    """
    Return a page of proceedings, the first due first.

    Raises:
        StoreUnavailableError: what is stored cannot be read.
    """
    question = select(proceeding).order_by(_row.due, _row.id).limit(wanted.limit)
    for column, value in (
        (_row.patient, wanted.patient), (_row.org, wanted.org), (_row.owner, wanted.owner), (_row.kind, wanted.kind),
    ):  # fmt: skip
        if value is not None:
            question = question.where(column == value)
    if wanted.state in ("open", "closed"):
        question = question.where(_row.is_open == int(wanted.state == "open"))
    elif wanted.state is not None:
        question = question.where(_row.status == wanted.state)
    if wanted.due_before is not None:
        question = question.where(_row.due < wanted.due_before)
    if wanted.after is not None:
        due, id_ = wanted.after
        question = question.where((_row.due > due) | ((_row.due == due) & (_row.id > id_)))
    return _rows(connection, question)


def read_events(connection: Connection, id_: str) -> list[tuple[str, str, Instant]]:
    """Return what the clock said of a proceeding: event, last day, when."""
    question = select(_event.event, _event.due, _event.at).where(_event.proceeding == id_)
    return [tuple(row) for row in connection.execute(question.order_by(_event.at, _event.event))]


def write_proceeding(connection: Connection, row: ProceedingRow) -> None:
    """
    Write a proceeding: a first version is new, a further one replaces the one before.

    Raises:
        ProceedingConflictError: the version before is not there any more, or the id is taken.
    """
    columns = _columns(row)
    if row.version == 1:
        try:
            connection.execute(insert(proceeding), columns)
        except IntegrityError:
            raise ProceedingConflictError("the id is already taken, expected a new one") from None
        return
    before = (_row.id == row.id) & (_row.version == row.version - 1)
    if connection.execute(update(proceeding).where(before).values(**columns)).rowcount != 1:
        raise ProceedingConflictError("the proceeding was changed since it was read: read it again")


def begin(connection: Connection, row: ProceedingRow) -> bool:
    """Write a new proceeding whose id says what it is about; False if this or another process has begun it already."""
    fresh = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(proceeding)
    begun = fresh.on_conflict_do_nothing(index_elements=[_row.id]).returning(_row.id)
    return connection.execute(begun, _columns(row)).scalar_one_or_none() is not None


def find_unsaid(connection: Connection, today: str, limit: int) -> list[ProceedingRow]:
    """Return open proceedings of which the clock has something to say that it has not said yet."""
    rows: dict[str, ProceedingRow] = {}
    for name, has_come in (
        (WARNING, _row.warn_on <= today), (OVERDUE, _row.due < today), (OUTER_OVERDUE, _row.outer_due < today),
    ):  # fmt: skip
        said = exists().where(_event.proceeding == _row.id, _event.event == cast(_row.stage, Text).concat(f":{name}"))
        unsaid = and_(_row.is_open == 1, _row.kind.not_in(_LAPSING), has_come, ~said)
        question = select(proceeding).where(unsaid).order_by(_row.due, _row.id).limit(limit)
        rows |= {row.id: row for row in _rows(connection, question)}
    return list(rows.values())


def say(connection: Connection, id_: str, event: str, due: str, at: Instant) -> bool:
    """Write down what the clock says; False if this or another process has said it already."""
    fresh = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(proceeding_event)
    columns = {"proceeding": id_, "event": event, "due": due, "at": at}
    said = fresh.on_conflict_do_nothing(index_elements=[_event.proceeding, _event.event]).returning(_event.event)
    return connection.execute(said, columns).scalar_one_or_none() is not None


def find_lapsed(connection: Connection, today: str, limit: int) -> list[ProceedingRow]:
    """Return open offers that have run out; nobody else changes them until the end."""
    lapsed = and_(_row.is_open == 1, _row.kind.in_(_LAPSING), _row.due < today)
    return _rows(connection, select(proceeding).where(lapsed).order_by(_row.id).limit(limit).with_for_update())


def find_withdrawn(connection: Connection, since: Instant, prefix: str, limit: int) -> list[Any]:
    """Return consents withdrawn since then that nobody follows up yet: id, patient, organisation, moment."""
    followed = exists().where(_row.id == literal(prefix, Text).concat(consent_record.c.id))
    columns = (consent_record.c.id, consent_record.c.patient, consent_record.c.org, consent_record.c.updated_at)
    question = select(*columns).where(
        consent_record.c.status == "revoked", consent_record.c.effect == "permit",
        consent_record.c.updated_at >= since, ~followed,
    )  # fmt: skip
    return list(connection.execute(question.order_by(consent_record.c.updated_at).limit(limit)))


def _columns(row: ProceedingRow) -> dict[str, Any]:
    columns = {name: getattr(row, name) for name in row.__struct_fields__}
    return columns | {"body": _encode(row.body), "is_open": int(row.is_open)}


def _rows(connection: Connection, question: Select[Any]) -> list[ProceedingRow]:
    return proceedings_of([dict(row) for row in connection.execute(question).mappings()])


def proceedings_of(found: list[dict[str, Any]]) -> list[ProceedingRow]:
    """
    Return proceedings as they are stored.

    Raises:
        StoreUnavailableError: what is stored cannot be read.
    """
    try:
        return [
            ProceedingRow(**row | {"body": _read_body(row["body"]), "is_open": bool(row["is_open"])}) for row in found
        ]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StoreUnavailableError("a stored proceeding cannot be read, the database may be damaged") from error
