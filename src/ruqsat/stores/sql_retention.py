"""
Removing what the database need not hold any more: lines that are archived, notices that were delivered.

As in ``sql_facts``, each function takes a Connection inside a transaction, and does so much at once as holds
up nobody.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, Connection, delete, func, select

from ruqsat.core.instant import Instant
from ruqsat.core.outgoing import DELIVERED
from ruqsat.stores.sql_schema import journal_beside, journal_entry, outbox

AT_ONCE = 500

_AT, _BESIDE, _OUT = journal_entry.c, journal_beside.c, outbox.c


def read_rows(
    connection: Connection, writer: str, segment: int, numbers: Collection[int], moments: Collection[Instant] = ()
) -> dict[int, bytes]:
    """
    Return lines of a segment as they stand here, by their numbers.

    Args:
        moments: When they were written; no other month is looked into. None are known if there are none.
    """
    rows = connection.execute(select(_AT.number, _AT.line).where(_of(writer, segment, numbers, moments)))
    return {row.number: bytes(row.line) for row in rows}


def remove_lines(
    connection: Connection, writer: str, segment: int, archived: Mapping[int, bytes], moments: Collection[Instant] = ()
) -> int:
    """Remove lines of a segment, by their numbers, that are byte for byte those *archived*; return how many."""
    there = read_rows(connection, writer, segment, archived, moments)
    same = [number for number, line in there.items() if line == archived[number]]
    if not same:
        return 0
    beside = (_BESIDE.writer == writer) & (_BESIDE.segment == segment) & _BESIDE.number.in_(same)
    connection.execute(delete(journal_beside).where(beside))
    return connection.execute(delete(journal_entry).where(_of(writer, segment, same, moments))).rowcount


def _of(writer: str, segment: int, numbers: Collection[int], moments: Collection[Instant]) -> ColumnElement[bool]:
    here = (_AT.writer == writer) & (_AT.segment == segment) & _AT.number.in_(numbers)
    return here & _AT.at.between(min(moments), max(moments)) if moments else here


def count_delivered(connection: Connection, before: Instant) -> int:
    """Return how many delivered notices were settled before an instant."""
    question = select(func.count()).select_from(outbox).where(_OUT.state == DELIVERED, _OUT.settled_at < before)
    return int(connection.execute(question).scalar_one())


def remove_delivered(connection: Connection, before: Instant) -> int:
    """Remove some of them, and return how many; what was not delivered is never removed."""
    some = select(_OUT.key).where(_OUT.state == DELIVERED, _OUT.settled_at < before).limit(AT_ONCE)
    keys = list(connection.execute(some).scalars())
    return connection.execute(delete(outbox).where(_OUT.key.in_(keys))).rowcount if keys else 0
