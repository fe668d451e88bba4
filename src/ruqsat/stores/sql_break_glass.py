"""
What is asked of the tables of break-glass sessions.

As in ``sql_facts``, each takes a Connection inside a transaction.  Rows are held in the order of
``sql_changes``: the organisation, the clinician, the patient; the head of the feed last.  Openings are counted
only once the clinician and the patient are held, so what is counted is what there is.
"""

from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from ruqsat.core.break_glass import Found, Made, Opening, Rates, SessionChange, Wanted
from ruqsat.core.facts import Position
from ruqsat.core.instant import Instant
from ruqsat.core.registered import GRANT
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores import sql_facts, sql_records
from ruqsat.stores.sql_facts import UnknownPatientError
from ruqsat.stores.sql_outbox import AddNotices
from ruqsat.stores.sql_schema import break_glass, break_glass_right, record


class Page(Struct, frozen=True):
    """
    Which sessions that wait for a review are wanted.

    Attributes:
        due_before: Due before that.
        after: After this one: when it is due, and its id.
    """

    due_before: Instant | None
    after: tuple[Instant, str] = (0, "")
    limit: int = 50


def rewrite_session(
    connection: Connection, wanted: Wanted, change: SessionChange, add_notices: AddNotices | None
) -> tuple[Position, tuple[str, ...], Made]:
    """
    Write what *change* makes of a session, its patient, its clinician and their notices.

    Raises:
        UnknownPatientError: nobody by that id.
        RequestError: *change* refuses it, or an id is taken.
        StoreUnavailableError: what is stored cannot be read.
    """
    made = change(_found(connection, wanted))
    if made.receipt is not None:
        sql_records.write_receipt(connection, made.receipt)
    if made.row is not None:
        sql_records.write_records(connection, (made.row,))
    if made.opening is not None:
        _write_opening(connection, made.opening)
    if made.right is not None:
        connection.execute(insert(break_glass_right), msgspec.structs.asdict(made.right))
    if made.notices:
        if add_notices is None:
            raise StoreUnavailableError("there is no outbox for those who must be told")
        add_notices(connection, made.notices)
    subjects = () if made.subject is None else (made.subject,)
    patients = () if made.facts is None else (made.facts,)
    if not subjects and not patients:
        return sql_facts.read_position(connection), (), made
    touched = sql_facts.write_facts(connection, subjects, patients)
    return *sql_facts.advance_feed(connection, touched), made


def _found(connection: Connection, wanted: Wanted) -> Found:
    if wanted.org is not None:
        sql_facts.read_subject_to_change(connection, wanted.org)
    subject = sql_facts.read_subject_to_change(connection, wanted.subject)
    facts = sql_facts.read_patient_to_change(connection, wanted.patient)
    if facts is None:
        raise UnknownPatientError("nobody is on record by this patient id")
    beside, _, _ = sql_facts.read_facts(connection, wanted.beside, None)
    row = None if wanted.session is None else sql_records.read_record(connection, GRANT.name, wanted.session)
    return Found(
        facts, subject, beside,
        row if row is not None and row.patient == wanted.patient else None,
        _read_opening(connection, wanted.session),
        _rates(connection, wanted),
        _overdue(connection, wanted.subject),
        None if wanted.key is None else sql_records.read_receipt(connection, wanted.key),
    )  # fmt: skip


def _rates(connection: Connection, wanted: Wanted) -> Rates:
    if not wanted.since:
        return Rates()
    table = break_glass.c
    mine, theirs = table.subject == wanted.subject, table.patient == wanted.patient
    ward = and_(table.ward == wanted.ward, table.org == wanted.org)  # another organisation may have one of that name
    tests = (mine, ward, theirs, and_(mine, theirs))
    return Rates(
        *(
            connection.execute(
                select(func.count()).select_from(break_glass).where(test, table.opened_at >= wanted.since)
            ).scalar_one()
            for test in tests
        )
    )


def _overdue(connection: Connection, subject: str) -> int:
    right = break_glass_right.c
    lifted = select(func.max(right.at)).where(right.subject == subject, right.event == "lifted").scalar_subquery()
    found = break_glass.c.overdue_at > func.coalesce(lifted, 0)
    question = select(func.count()).select_from(break_glass).where(break_glass.c.subject == subject, found)
    return int(connection.execute(question).scalar_one())


def _read_opening(connection: Connection, id_: str | None) -> Opening | None:
    found = connection.execute(select(break_glass).where(break_glass.c.id == id_)).mappings().one_or_none()
    return None if found is None else _opening(dict(found))


def _opening(columns: dict[str, Any]) -> Opening:
    return Opening(**columns | {"anomaly": tuple(columns["anomaly"].split())})


def _write_opening(connection: Connection, opening: Opening) -> None:
    columns = msgspec.structs.asdict(opening) | {"anomaly": " ".join(opening.anomaly)}
    changed = connection.execute(update(break_glass).where(break_glass.c.id == opening.id).values(**columns))
    if changed.rowcount == 0:
        connection.execute(insert(break_glass), columns)


def read_waiting(connection: Connection, org: str, page: Page) -> list[tuple[Opening, Any]]:
    """Return a page of an organisation's sessions that no review has settled, with their records, as they are due."""
    found = _waiting(connection, break_glass.c.org == org, page)
    asked = select(record).where(record.c.kind == GRANT.name, record.c.id.in_([each.id for each in found]))
    rows = {row["id"]: sql_records.row_of(record, dict(row)) for row in connection.execute(asked).mappings()}
    return [(each, rows[each.id]) for each in found if each.id in rows]


def read_unfound(connection: Connection, page: Page) -> list[Opening]:
    """Return a page of everybody's sessions that no review has settled, nor was found overdue, as they are due."""
    return _waiting(connection, break_glass.c.overdue_at.is_(None), page)


def _waiting(connection: Connection, test: ColumnElement[bool], page: Page) -> list[Opening]:
    table, (due, id_) = break_glass.c, page.after
    question = (
        select(*break_glass.c)
        .where(test, table.settled_at.is_(None), or_(table.due > due, and_(table.due == due, table.id > id_)))
        .order_by(table.due, table.id)
        .limit(page.limit)
    )
    if page.due_before is not None:
        question = question.where(table.due < page.due_before)
    return [_opening(dict(row)) for row in connection.execute(question).mappings()]
