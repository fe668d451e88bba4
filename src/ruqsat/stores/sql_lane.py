"""
A lane: one SQLAlchemy engine on an SQLite file, with a thread for each connection.

The event loop hands over a whole transaction and waits once.  A driver that
awaits every call crosses threads about twenty times for the same read, and on
a busy loop each crossing is a turn in the queue.

Three promises:

1. Nobody waits longer than they asked for, whatever the disk does; except for
   a change that has begun to commit, which is waited for, so that its outcome
   is known.
2. Whoever stops waiting leaves no connection in an unknown state: its
   statement is interrupted and the connection is closed.
3. Work waits for a seat where it can be called back, never in a hidden queue.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from ruqsat.errors import StoreUnavailableError

T = TypeVar("T")

_FAILURES = (SQLAlchemyError, sqlite3.Error, UnicodeError)
_BUSY_SECONDS = 0.2


class Lane:
    """Connections of one kind to one file; *begin* is the statement that opens each transaction."""

    def __init__(self, path: Path, seats: int, *, begin: str, pragmas: tuple[str, ...]) -> None:
        """Open nothing yet; connections are made as they are needed, and set up by *pragmas*."""
        self.engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS},
            pool_size=seats,
            max_overflow=0,
            hide_parameters=True,
        )

        @event.listens_for(self.engine, "connect")
        def set_up(connection: sqlite3.Connection, _record: object) -> None:
            for pragma in pragmas:
                connection.execute(pragma).close()

        # Invariant: with `isolation_level=None` the driver begins nothing; this line alone makes a snapshot.
        @event.listens_for(self.engine, "begin")
        def open_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        self._closed = False
        self._seats = seats
        self._free = asyncio.Semaphore(seats)
        self._threads = ThreadPoolExecutor(seats, thread_name_prefix="ruqsat-sql")

    async def run(self, work: Callable[[Connection], T], within_seconds: float, *, commit: bool = False) -> T:
        """
        Run *work* in a transaction on a thread, and return what it returns.

        The transaction is rolled back, or with *commit* committed, when *work* is done.

        Raises:
            StoreUnavailableError: no answer in time, or the database failed; nothing was changed.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(f"no connection was free within {within_seconds:g} s") from error
        visit = _Visit()
        answer = asyncio.wrap_future(self._submit(visit, work, commit))
        try:
            await asyncio.wait((answer,), timeout=deadline - loop.time())
        except asyncio.CancelledError:
            visit.give_up()
            answer.cancel()
            raise
        if not answer.done() and visit.give_up():
            answer.cancel()
            raise StoreUnavailableError(f"the database did not answer within {within_seconds:g} s")
        return await answer

    def _submit(self, visit: "_Visit", work: Callable[[Connection], T], commit: bool) -> "Future[T]":
        loop = asyncio.get_running_loop()
        future = self._threads.submit(self._serve, visit, work, commit)
        # The seat is free when the thread is, which may be long after the caller has left.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free.release))
        return future

    def _serve(self, visit: "_Visit", work: Callable[[Connection], T], commit: bool) -> T:
        try:
            with self.engine.connect() as connection:
                try:
                    visit.begin(connection)
                    answer = work(connection)
                    if commit:
                        visit.begin_commit()
                        connection.commit()
                    else:
                        connection.rollback()
                except _FAILURES:
                    visit.end()
                    connection.invalidate()
                    raise
                finally:
                    if visit.end():
                        connection.invalidate()
                return answer
        except _FAILURES as error:
            raise StoreUnavailableError("the database failed") from error

    async def aclose(self) -> None:
        """Wait for the work in hand, then close every connection and thread; nothing runs afterwards."""
        if self._closed:
            return
        self._closed = True
        for _ in range(self._seats):
            await self._free.acquire()
        await asyncio.get_running_loop().run_in_executor(self._threads, self.engine.dispose)
        self._threads.shutdown()


class _Visit:
    """One transaction on its way through a thread, and whether anybody still waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._driver: Any = None
        self._left = False
        self._committing = False

    def begin(self, connection: Connection) -> None:
        with self._lock:
            self._driver = connection.connection.driver_connection
        self._refuse_if_left()

    def begin_commit(self) -> None:
        """Pass the point of no return, unless the caller has left."""
        with self._lock:
            self._committing = not self._left
        self._refuse_if_left()

    def end(self) -> bool:
        """Let go of the connection; tell whether the caller has left."""
        with self._lock:
            self._driver = None
            return self._left

    def give_up(self) -> bool:
        """Leave, interrupting what runs; False when the commit has begun and must be waited for."""
        with self._lock:
            if self._committing:
                return False
            self._left = True
            if self._driver is not None:
                self._driver.interrupt()
            return True

    def _refuse_if_left(self) -> None:
        if self._left:
            raise StoreUnavailableError("the caller has left, the transaction is rolled back")
