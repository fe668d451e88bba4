"""
A lane: one SQLAlchemy engine on a database, with a thread for each connection.

The event loop hands over a whole transaction and waits once.  A driver that
awaits every call is a turn in the queue of a busy loop for each of them (and on
SQLite crosses threads about twenty times for the same read).

Three promises:

1. Nobody waits longer than they asked for, whatever the disk or the network
   does; except for a change that has begun to commit, which is waited for, so
   that its outcome is known.
2. Whoever stops waiting leaves no connection in an unknown state: its
   statement is interrupted and the connection is closed.
3. Work waits for a seat where it can be called back, never in a hidden queue.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from ruqsat.errors import OutcomeUnknownError, StoreUnavailableError

T = TypeVar("T")


def boottime() -> int:
    """Return microseconds since boot."""
    return clock_gettime_ns(CLOCK_BOOTTIME) // 1000


class ClockReading(NamedTuple):
    """
    What a server's clock said at some moment between two times since our boot; all in microseconds.

    ``server`` is since 1970.
    """

    server: int
    sent: int
    received: int


class Driver(Protocol):
    """
    What a lane needs to know of a kind of database.

    Attributes:
        failures: What the driver raises beside SQLAlchemy's errors.
        commit_seconds: How long past its deadline a commit that has begun is waited for;
            None where the database always tells how it ended.
        set_up_seconds: How long a new connection may take to be set up; None where nobody could hold that up.
    """

    failures: tuple[type[Exception], ...]
    commit_seconds: float | None
    set_up_seconds: float | None

    def open_engine(self, seats: int) -> Engine:
        """Return an engine of *seats* connections, whose driver begins no transaction by itself."""
        ...

    def interrupt(self, connection: Any) -> None:
        """Make whatever waits on the driver's *connection* fail at once; called from another thread."""
        ...

    def lost(self, connection: Any) -> bool:
        """Tell whether a commit that failed on the driver's *connection* may have been made all the same."""
        ...


class Lane:
    """Connections of one kind; *begin* is the statement that opens each transaction, ``failures`` what may go wrong."""

    def __init__(self, driver: Driver, seats: int, *, begin: str, set_up: tuple[str, ...]) -> None:
        """Open nothing yet; connections are made as they are needed, and *set_up* by these statements."""
        self.engine = driver.open_engine(seats)

        # No visit has the connection yet that could give it up, and a server may let us in and then fall silent.
        @event.listens_for(self.engine, "connect", insert=True)  # before SQLAlchemy's own questions
        def limit_set_up(connection: Any, record: ConnectionPoolEntry) -> None:
            if driver.set_up_seconds is not None:
                record.info["limit"] = limit = threading.Timer(driver.set_up_seconds, driver.interrupt, (connection,))
                limit.daemon = True
                limit.start()

        @event.listens_for(self.engine, "connect")
        def set_up_connection(connection: Any, record: ConnectionPoolEntry) -> None:
            for statement in set_up:
                connection.execute(statement).close()
            if driver.set_up_seconds is not None:
                record.info.pop("limit").cancel()

        # Invariant: the driver begins nothing by itself; this line alone makes a snapshot.
        @event.listens_for(self.engine, "begin")
        def open_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        self._driver = driver
        self.failures: tuple[type[Exception], ...] = (SQLAlchemyError, UnicodeError, *driver.failures)
        self._closed = False
        self._era = 0
        self._seats = seats
        self._free = asyncio.Semaphore(seats)
        self._threads = ThreadPoolExecutor(seats, thread_name_prefix="ruqsat-sql")

    async def run(self, work: Callable[[Connection], T], within_seconds: float, *, commit: bool = False) -> T:
        """
        Run *work* in a transaction on a thread, and return what it returns.

        The transaction is rolled back, or with *commit* committed, when *work* is done.

        Raises:
            StoreUnavailableError: no answer in time, or the database failed; nothing was changed.
            OutcomeUnknownError: the connection was lost during the commit.
        """
        if self._closed:
            raise StoreUnavailableError("the store is closed")
        loop = asyncio.get_running_loop()
        deadline, visit = loop.time() + within_seconds, _Visit(self._driver)
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError as error:
            raise StoreUnavailableError(f"no connection was free within {within_seconds:g} s") from error
        try:
            answer = asyncio.wrap_future(self._submit(visit, work, commit))
        except BaseException:
            if not visit.sets_out:
                self._free.release()  # or the seat would be taken for ever
            raise
        try:
            await asyncio.wait((answer,), timeout=deadline - loop.time())
            if not answer.done() and visit.give_up():
                raise StoreUnavailableError(f"the database did not answer within {within_seconds:g} s")
            if not answer.done() and self._driver.commit_seconds is not None:
                await asyncio.wait((answer,), timeout=self._driver.commit_seconds)
                if not answer.done():
                    visit.cut()
                    raise OutcomeUnknownError("the database did not say whether the change was made")
            return await answer
        except asyncio.CancelledError:
            if not visit.give_up() and self._driver.commit_seconds is not None:
                loop.call_later(self._driver.commit_seconds, visit.cut)
            raise
        finally:
            answer.cancel()  # nobody is here any more to hear of it

    def _submit(self, visit: "_Visit", work: Callable[[Connection], T], commit: bool) -> "Future[T]":
        loop = asyncio.get_running_loop()
        future = self._threads.submit(self._serve, visit, work, commit)
        # The seat is free when the thread is, which may be long after the caller has left.
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free.release))
        visit.sets_out = True
        return future

    def _serve(self, visit: "_Visit", work: Callable[[Connection], T], commit: bool) -> T:
        try:
            with self._connect() as connection:
                visit.begin(connection)
                try:
                    answer = work(connection)
                    if commit:
                        visit.begin_commit()
                        connection.commit()
                    else:
                        connection.rollback()
                except self.failures as error:
                    in_doubt = visit.is_in_doubt()
                    visit.end()
                    connection.invalidate()
                    if in_doubt:
                        raise OutcomeUnknownError("the database did not say whether the change was made") from error
                    raise
                except BaseException:
                    connection.rollback()  # here, where it can still be given up
                    raise
                finally:
                    if visit.end():
                        connection.invalidate()
                return answer
        except self.failures as error:
            raise StoreUnavailableError("the database failed") from error

    def _connect(self) -> Connection:
        era = self._era  # read first: a connection that is being made while ``renew`` is called is of before
        connection = self.engine.connect()
        if connection.info.setdefault("era", era) < era:
            connection.invalidate()  # the next use makes another
            connection.info["era"] = era
        return connection

    def renew(self) -> None:
        """Let no connection that there is, or that is being made, be used for any work that begins from now on."""
        self._era += 1

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

    def __init__(self, driver: Driver) -> None:
        self._lock = threading.Lock()
        self._driver = driver
        self._connection: Any = None
        self._left = False
        self._committing = False
        self.sets_out = False

    def begin(self, connection: Connection) -> None:
        """Take a connection, unless the caller has left: then nothing was asked on it, and it may be used again."""
        with self._lock:
            if not self._left:
                self._connection = connection.connection.driver_connection
        self._refuse_if_left()

    def begin_commit(self) -> None:
        """Pass the point of no return, unless the caller has left."""
        with self._lock:
            self._committing = not self._left
        self._refuse_if_left()

    def is_in_doubt(self) -> bool:
        """Tell whether a commit has begun and its end cannot be known."""
        return self._committing and self._driver.lost(self._connection)

    def end(self) -> bool:
        """Let go of the connection; tell whether the caller has left."""
        with self._lock:
            self._connection = None
            return self._left

    def give_up(self) -> bool:
        """Leave, interrupting what runs; False when the commit has begun and must be waited for."""
        with self._lock:
            if self._committing:
                return False
            self._interrupt()
            return True

    def cut(self) -> None:
        """Leave in the middle of a commit, whose outcome then nobody knows."""
        with self._lock:
            self._interrupt()

    def _interrupt(self) -> None:
        self._left = True
        if self._connection is not None:
            self._driver.interrupt(self._connection)

    def _refuse_if_left(self) -> None:
        if self._left:
            raise StoreUnavailableError("the caller has left, the transaction is rolled back")
