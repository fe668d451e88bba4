"""
The months of the journal on PostgreSQL, each a partition of its own; SQLite has none.

A line never waits for a partition: one of a month that has none goes into ``journal_entry_other``, and one that
does not say when into ``journal_entry_undated``.  Whoever ships makes the month before, and the one after it,
so that the others stay empty; what is in them moves when its month is made.

Locks: while a month is made, readers and shippers go on, except for those who need ``journal_entry_other``;
while an empty one is dropped, nobody goes on.  Either takes milliseconds, and gives up rather than let anybody
wait for long.  All take them in the same order: the whole table, then one part of it.

As in ``sql_facts``, each function takes a Connection inside a transaction.  A failure leaves it broken.
"""

import logging
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection, text

from ruqsat.core.instant import MINUTE, SECOND, Instant, render_instant
from ruqsat.core.journaled import Lines
from ruqsat.core.month import FIRST_YEAR, Month, months_to_keep
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores.sql_lane import Lane

_log = logging.getLogger(__name__)

MOST_MOVED = 10_000
"""How many lines are moved while somebody may wait for them; for more, ``ruqsat db upgrade``."""

_RETRY = 10 * MINUTE
_SECONDS = 5.0
_TRIES = 3
_PATIENCE = "SET LOCAL lock_timeout = '500ms'"
_MAKERS_LOCK = "LOCK TABLE ONLY journal_entry IN SHARE UPDATE EXCLUSIVE MODE"
"""Whoever reads or ships goes on under it; whoever else would make a month waits."""
_OTHERS = "journal_entry_other"

_BY_MONTH = "SELECT FROM pg_partitioned_table WHERE partrelid = to_regclass('journal_entry')"
_THERE = """
    SELECT substr(part.relname, 15) FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid
    WHERE inhparent = 'journal_entry'::regclass AND part.relname ~ '^journal_entry_[0-9]{4}_[0-9]{2}$'
"""
_STRAY = f"""
    SELECT DISTINCT date_trunc('month', to_timestamp(at / {SECOND}) AT TIME ZONE 'UTC') FROM {_OTHERS}
    WHERE at >= :begins AND at < :ends
"""  # noqa: S608


def months_there(connection: Connection) -> list[Month]:
    """Return the months that have their partitions, oldest first."""
    found = connection.execute(text(_THERE)).scalars()
    return sorted([Month(int(each[:4]), int(each[5:])) for each in found])


def months_astray(connection: Connection, now: Instant) -> list[Month]:
    """Return the months, up to the one after *now*, of lines that are in no month's partition."""
    begins, ends = Month(FIRST_YEAR, 1).begins, Month.of(now).next.ends
    found = connection.execute(text(_STRAY), {"begins": begins, "ends": ends}).scalars()
    return sorted([Month(each.year, each.month) for each in found])


def make_month(connection: Connection, month: Month, most: int | None = None) -> bool:
    """
    Make the partition of a month, with the lines of it that are among the others, unless it is there.

    Several may do so at once: one makes it, the others find it made.

    Returns:
        False where more than *most* lines would have to be moved: they stay where they are.
    """
    connection.execute(text(_MAKERS_LOCK))
    if month in months_there(connection):
        return True
    connection.execute(text(_PATIENCE))  # from here on others wait while we do
    connection.execute(text(f"LOCK TABLE {_OTHERS} IN ACCESS EXCLUSIVE MODE"))
    name, within = f"journal_entry_{month}", f"at >= {month.begins} AND at < {month.ends}"
    if most is not None and _count(connection, f"{_OTHERS} WHERE {within}", most + 1) > most:
        return False
    connection.execute(text(f"CREATE TABLE {name} (LIKE journal_entry)"))
    moved = f"DELETE FROM {_OTHERS} WHERE {within} RETURNING *"  # noqa: S608
    connection.execute(text(f"WITH moved AS ({moved}) INSERT INTO {name} SELECT * FROM moved"))  # noqa: S608
    bounds = f"FROM ({month.begins}) TO ({month.ends})"
    connection.execute(text(f"ALTER TABLE journal_entry ATTACH PARTITION {name} FOR VALUES {bounds}"))
    return True


def keep_months(connection: Connection, now: Instant) -> None:
    """Make the present month and the next, and those that lines are astray of; the operator's own doing."""
    if not connection.execute(text(_BY_MONTH)).all():
        return  # the tables are of a revision before
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text(_MAKERS_LOCK))
    wanted = {*months_to_keep((), now), *months_astray(connection, now)}
    for month in sorted(wanted - {*months_there(connection)}):
        make_month(connection, month)


def empty_months(connection: Connection, now: Instant) -> list[Month]:
    """Return the past months whose partitions hold nothing, oldest first."""
    past = [each for each in months_there(connection) if each < Month.of(now)]
    return [each for each in past if _is_empty(connection, each)]


def drop_month(connection: Connection, month: Month) -> bool:
    """Drop the partition of a month if it is there and still empty; tell whether it was dropped."""
    connection.execute(text(_PATIENCE))
    connection.execute(text("LOCK TABLE ONLY journal_entry IN ACCESS EXCLUSIVE MODE"))
    if month not in months_there(connection) or not _is_empty(connection, month):
        return False
    connection.execute(text(f"DROP TABLE journal_entry_{month}"))
    return True


def _is_empty(connection: Connection, month: Month) -> bool:
    within = f"at >= {month.begins} AND at < {month.ends}"
    return not _count(connection, f"journal_entry WHERE {within}", 1)


def _count(connection: Connection, what: str, most: int) -> int:
    some = f"SELECT FROM {what} LIMIT {most}"
    return int(connection.execute(text(f"SELECT count(*) FROM ({some}) AS lines")).scalar_one())  # noqa: S608


class KeptMonths:
    """
    The months that a process knows to be there; shipping never fails by what is asked here.

    Where no partition can be made (a role that may not, a table that is busy), it is said once and tried again
    after a while.
    """

    def __init__(self, lane: Lane) -> None:
        """Make them on *lane*."""
        self._lane = lane
        self._seen: set[str] = set()
        self._not_before: Instant = 0

    async def keep_for(self, lines: Lines, now: Instant) -> None:
        """See to it that the months of *lines*, the present one and the next are there."""
        if self._lane.engine.dialect.name != "postgresql":
            return
        said = {each.at[:7] for _, each, _ in lines.lines} | {str(Month.of(now))}
        if said <= self._seen or now < self._not_before:
            return
        reason = await self._make([each.moment for _, each, _ in lines.lines], now)
        if not reason:
            self._seen |= said
            return
        self._not_before = now + _RETRY
        _log.warning(
            "journal_months_not_made until=%s reason=%s: lines go into %s; see `ruqsat db upgrade`",
            render_instant(self._not_before), reason, _OTHERS,
        )  # fmt: skip

    async def _make(self, moments: Collection[Instant], now: Instant) -> str:
        """Make what is missing; return why something is missing still, empty if nothing is."""
        run, all_made = self._lane.run, True
        try:
            there = await run(months_there, _SECONDS)
            for month in months_to_keep(moments, now):
                if month not in there:
                    work = partial(make_month, month=month, most=MOST_MOVED)
                    all_made &= await run(work, _SECONDS, commit=True)
        except StoreUnavailableError as problem:
            return f"{problem}: {problem.__cause__}".split("\n", 1)[0]
        return "" if all_made else f"more than {MOST_MOVED} lines of one would have to move"


class TidyMonths(NamedTuple):
    """How many empty months were dropped, and how many could not be for now."""

    dropped: int = 0
    kept: int = 0


async def tidy_months(lane: Lane, now: Instant) -> TidyMonths:
    """
    Drop the past months that hold nothing.

    One is kept where somebody used the table for long, somebody put a line into it meanwhile, or the role may
    not drop it.

    Raises:
        StoreUnavailableError: no answer in time.
    """
    if lane.engine.dialect.name != "postgresql":
        return TidyMonths()
    months = await lane.run(partial(empty_months, now=now), _SECONDS)
    dropped = [await _dropped(lane, each) for each in months]
    return TidyMonths(sum(dropped), len(dropped) - sum(dropped))


async def _dropped(lane: Lane, month: Month) -> bool:
    for _ in range(_TRIES):
        with suppress(StoreUnavailableError):
            return await lane.run(partial(drop_month, month=month), _SECONDS, commit=True)
    return False
