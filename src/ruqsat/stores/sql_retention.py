"""
Removing what the database need not hold any more: lines that are archived, notices that were delivered.

As in ``sql_facts``, each function takes a Connection inside a transaction, and does so much at once as holds
up nobody.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, delete, func, select

from ruqsat.core.instant import Instant
from ruqsat.core.outgoing import DELIVERED
from ruqsat.stores.sql_schema import journal_beside, journal_entry, outbox

AT_ONCE = 500

_AT, _BESIDE, _OUT = journal_entry.c, journal_beside.c, outbox.c


def remove_lines(
    connection: Connection, writer: str, segment: int, archived: Mapping[int, bytes], moments: Collection[Instant] = ()
) -> int:
    """
    Remove lines of a segment, by their numbers, that are byte for byte those *archived*; return how many.

    Args:
        moments: When they were written; no other month is looked into. None are known if there are none.
    """
    here = (_AT.writer == writer) & (_AT.segment == segment) & _AT.number.in_(archived)
    if moments:
        here &= _AT.at.between(min(moments), max(moments))
    rows = connection.execute(select(_AT.number, _AT.line).where(here))
    same = [row.number for row in rows if bytes(row.line) == archived[row.number]]
    if not same:
        return 0
    beside = (_BESIDE.writer == writer) & (_BESIDE.segment == segment) & _BESIDE.number.in_(same)
    connection.execute(delete(journal_beside).where(beside))
    return connection.execute(delete(journal_entry).where(here & _AT.number.in_(same))).rowcount


def count_delivered(connection: Connection, before: Instant) -> int:
    """Return how many delivered notices were settled before an instant."""
    question = select(func.count()).select_from(outbox).where(_OUT.state == DELIVERED, _OUT.settled_at < before)
    return int(connection.execute(question).scalar_one())


def remove_delivered(connection: Connection, before: Instant) -> int:
    """Remove some of them, and return how many; what was not delivered is never removed."""
    some = select(_OUT.key).where(_OUT.state == DELIVERED, _OUT.settled_at < before).limit(AT_ONCE)
    keys = list(connection.execute(some).scalars())
    return connection.execute(delete(outbox).where(_OUT.key.in_(keys))).rowcount if keys else 0
