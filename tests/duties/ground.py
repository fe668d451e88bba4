"""A database of each kind, and what is told in tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, select

from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import parse_instant
from ruqsat.core.journaled import Journaled
from ruqsat.core.notice import Notice, notices_of
from ruqsat.core.vocabulary import Switches
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_schema import outbox

T = TypeVar("T")

AT = "2026-11-24T10:00:00.000000Z"
MOMENT = parse_instant(AT)


def make(entry: Journaled, patients: dict[str, PatientFacts]) -> tuple[Notice, ...]:
    """Make the notices of an entry under the usual switches."""
    return notices_of(entry, patients, Switches())


def close(notice: Notice) -> bytes:
    """Close the facts of a notice without a key."""
    return msgspec.json.encode(notice.facts)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[SqlStore, SqlDuties]]:
    """The store at *url*, with its journal and outbox."""
    store = await SqlStore.open(url, read_timeout_seconds=5)
    try:
        yield store, SqlDuties(store.background())
    finally:
        await store.aclose()


def run(url: str, work: Callable[[SqlStore, SqlDuties], Awaitable[T]]) -> T:
    """Run *work* on a store of its own."""

    async def go() -> T:
        async with opened(url) as (store, duties):
            return await work(store, duties)

    return asyncio.run(go())


async def rows(store: SqlStore, *columns: str) -> list[Any]:
    """Return these columns of the outbox, by key."""

    def read(connection: Connection) -> list[Any]:
        question = select(*[outbox.c[name] for name in columns]).order_by(outbox.c.key)
        return [tuple(row) if len(columns) > 1 else row[0] for row in connection.execute(question)]

    return await store.run_reading(read, 5)
