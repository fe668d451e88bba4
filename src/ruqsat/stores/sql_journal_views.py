"""
The journals in the database as they are looked at: filtered, newest first, page by page.

A page begins after the spot where the one before ended, so that what is shipped meanwhile
moves nothing.  As in ``sql_facts``, each function takes a Connection inside a transaction.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Boolean, ColumnElement, Connection, Exists, Select, and_, func, select, tuple_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from ruqsat.core.instant import DAY
from ruqsat.core.journal_filter import Found, JournalFilter, Spot
from ruqsat.core.journaled import DECISION, NOT_SENT, Journaled, read_line
from ruqsat.core.kept_facts import FACTS
from ruqsat.errors import StoreUnavailableError
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_schema import journal_beside, journal_entry

T = TypeVar("T")

CHUNK = 200
"""How many entries are read at once."""

MOST_READ = 10_000
"""How many entries are read for one page at most, however few of them are shown."""

_SECONDS = 5.0
_AT = journal_entry.c
_SPOT = (_AT.at, _AT.writer, _AT.segment, _AT.number)
_PLACE = ("writer", "segment", "number")
_EQUAL = ("subject", "org", "action", "data_class", "reason", "rule")


class _has_words(FunctionElement[bool]):  # noqa: N801 - it is called as a function of SQL
    """Whether a text has every word of another one: as the index of PostgreSQL knows it; elsewhere nothing is said."""

    type = Boolean()
    inherit_cache = True


@compiles(_has_words)
def _anything(_element: _has_words, _compiler: Any, **_: Any) -> str:
    return "1 = 1"


@compiles(_has_words, "postgresql")
def _words_in_index(element: _has_words, compiler: Any, **said: Any) -> str:
    text, words = [compiler.process(each, **said) for each in element.clauses]
    return f"string_to_array({text}, ' ') @> string_to_array({words}, ' ')"


class SqlJournalViews:
    """The journal of a database, for those who look; any call raises StoreUnavailableError: no answer in time."""

    def __init__(self, store: SqlStore) -> None:
        """Read on connections that no decision waits for."""
        self._store = store

    async def page(
        self, wanted: JournalFilter, after: Spot | None, limit: int, shown: Callable[[Journaled], T | None]
    ) -> tuple[list[tuple[T, Found]], Spot | None]:
        """Return a page; *shown* must be pure, for it runs on another thread; see ``fill_page``."""
        return await self._store.run_looking(
            lambda connection: fill_page(connection, wanted, after, limit, shown), _SECONDS
        )

    async def by_id(self, entry: str) -> list[Found]:
        """Return the entries of an id, oldest first: a decision, that it was not sent, what came of it."""
        return await self._store.run_reading(lambda connection: read_by_id(connection, entry), _SECONDS)

    async def count(self, wanted: JournalFilter, most: int) -> int:
        """Return how many entries there are, counting no further than *most*."""
        return await self._store.run_looking(lambda connection: count_journal(connection, wanted, most), _SECONDS)


def read_journal(connection: Connection, wanted: JournalFilter, after: Spot | None, limit: int) -> list[Found]:
    """
    Return at most *limit* entries that come after *after*, newest first.

    Raises:
        StoreUnavailableError: what is stored cannot be read as an entry.
    """
    pages = [connection.execute(each.limit(limit)) for each in _questions(wanted, after)]
    rows = merge(*pages, key=_spot_of, reverse=True)
    return [_found(row) for row in islice(rows, limit)]


def read_by_id(connection: Connection, entry: str) -> list[Found]:
    """
    Return the entries of an id, oldest first, no more than ``CHUNK``.

    Raises:
        StoreUnavailableError: what is stored cannot be read as an entry.
    """
    question = select(*_SPOT, _AT.line).where(_AT.entry == entry).order_by(*_SPOT).limit(CHUNK)
    return [_found(row) for row in connection.execute(question)]


def fill_page(
    connection: Connection,
    wanted: JournalFilter,
    after: Spot | None,
    limit: int,
    shown: Callable[[Journaled], T | None],
) -> tuple[list[tuple[T, Found]], Spot | None]:
    """
    Return the next *limit* entries of which *shown* makes something, and after which spot to go on, None at the end.

    A page is full whatever is left out of it, so that nobody learns from its length that
    something was; but no more than ``MOST_READ`` entries are read for one.
    """
    page: list[tuple[T, Found]] = []
    for _ in range(MOST_READ // CHUNK):
        found = read_journal(connection, wanted, after, CHUNK)
        for each in found:
            row = shown(each.entry)
            if row is not None and len(page) == limit:
                return page, page[-1][1].spot
            page += [(row, each)] if row is not None else []
            after = each.spot
        if len(found) < CHUNK:
            return page, None
    return page, after


def count_journal(connection: Connection, wanted: JournalFilter, most: int) -> int:
    """Return how many entries there are, counting no further than *most* a question."""
    counted = 0
    for question in _questions(wanted, None):
        some = question.with_only_columns(_AT.number).order_by(None).limit(most).subquery()
        counted += int(connection.execute(select(func.count()).select_from(some)).scalar_one())
    return counted


def _questions(wanted: JournalFilter, after: Spot | None) -> Iterator[Select[Any]]:
    """Yield the queries to ask, each with its index: of a patient one for entries about it alone, one beside others."""
    conditions = list(_conditions(wanted))
    if after is not None:
        # The first bound says no more than the second; it is what an index understands.
        conditions += [_AT.at <= after.at, tuple_(*_SPOT) < tuple_(*after)]
    question = select(*_SPOT, _AT.line).order_by(*[column.desc() for column in _SPOT])
    if wanted.patient is None:
        yield question.where(*conditions)
        return
    yield question.where(_AT.patient == wanted.patient, *conditions)
    beside = and_(*[journal_beside.c[name] == _AT[name] for name in _PLACE])
    yield question.join(journal_beside, beside).where(journal_beside.c.patient == wanted.patient, *conditions)


def _conditions(wanted: JournalFilter) -> Iterator[ColumnElement[bool]]:
    yield _AT.kind != FACTS  # they are there for decisions to be made again, and no account of what was done
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            yield _AT[name] == value
    if wanted.allowed is not None:
        yield _AT.allowed == int(wanted.allowed)
    if wanted.grant is not None:
        yield _AT.documents.contains(wanted.grant, autoescape=True)
        yield _has_words(_AT.documents, wanted.grant)
    if wanted.since:
        yield _AT.at >= wanted.since
    if wanted.until is not None:
        yield _AT.at < wanted.until
    if wanted.sent:
        yield _AT.kind == DECISION
        yield ~_taken_back(wanted)


def _taken_back(wanted: JournalFilter) -> Exists:
    """Return the condition that a ``not_sent`` takes an entry's answer back; both were written within one call."""
    its = journal_entry.alias().c
    said = select(its.number).where(its.entry == _AT.entry, its.kind == NOT_SENT)
    said = said.where(its.at.between(_AT.at - DAY, _AT.at + DAY))
    # These say no more than that; they are what months are left out by before anything is read.
    if wanted.since:
        said = said.where(its.at >= wanted.since - DAY)
    if wanted.until is not None:
        said = said.where(its.at < wanted.until + DAY)
    return said.exists()


def _spot_of(row: Any) -> Spot:
    return Spot(row.at, row.writer, row.segment, row.number)


def _found(row: Any) -> Found:
    line = bytes(row.line)
    entry = read_line(line)
    if entry is None:
        raise StoreUnavailableError("a stored entry of the journal cannot be read, the database may be damaged")
    return Found(_spot_of(row), entry, line)
