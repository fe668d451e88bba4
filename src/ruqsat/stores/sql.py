"""
The truth about subjects and patients, in one SQLite file of one process.

Facts are read with the position of the feed in one snapshot, so that a copy of
them can later be tested against what has changed since.  Every change moves
the position in the same transaction.  What cannot be read is an error, never
an empty answer.
"""

import logging
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from sqlalchemy import Connection

from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.errors import RequestError, SettingsError
from ruqsat.stores import sql_facts
from ruqsat.stores.sql_lane import Lane
from ruqsat.stores.sql_schema import ensure_schema
from ruqsat.stores.sqlite_file import FileLock, make_file, parse_url

T = TypeVar("T")

_log = logging.getLogger(__name__)

_SOUND_SQLITE = (3, 51, 3)
_WRITER = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA trusted_schema=OFF")
_READER = ("PRAGMA wal_autocheckpoint=0", "PRAGMA query_only=ON", "PRAGMA trusted_schema=OFF")


class UnknownPatientError(RequestError):
    """Nobody is on record by that patient id."""

    code = "unknown-patient"


class SqlStore:
    """
    Facts of subjects and patients, with the position they were read at.

    One connection writes, and it alone checkpoints; the probe has one of its
    own, which busy readers cannot take.
    """

    token_key: bytes

    def __init__(self, path: Path, lock: FileLock, *, readers: int, read_timeout: float, write_timeout: float) -> None:
        """Prefer ``SqlStore.open``, which also makes the file and its tables."""
        self._lock = lock
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self._writer = Lane(path, 1, begin="BEGIN IMMEDIATE", pragmas=_WRITER)
        self._readers = Lane(path, readers, begin="BEGIN", pragmas=_READER)
        self._probe = Lane(path, 1, begin="BEGIN", pragmas=_READER)

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        readers: int = 4,
        read_timeout_seconds: float = 0.25,
        write_timeout_seconds: float = 5.0,
    ) -> Self:
        """
        Open the database at *url* (``sqlite:///file``), making it when there is none.

        Raises:
            SettingsError: the URL, the file or its schema is not what this version can use.
            StoreLockedError: another process owns the file.
            StoreUnavailableError: the database failed.
        """
        path = parse_url(url)
        _warn_of_old_sqlite()
        lock = FileLock(path)
        try:
            make_file(path)
        except SettingsError:
            lock.release()
            raise
        store = cls(
            path,
            lock,
            readers=readers,
            read_timeout=read_timeout_seconds,
            write_timeout=write_timeout_seconds,
        )
        try:
            store.token_key = await store._write(_prepare)
        except BaseException:
            await store.aclose()
            raise
        return store

    async def fetch_facts(
        self, subject: str | None, patient: str | None
    ) -> tuple[SubjectFacts | None, PatientFacts | None, Position]:
        """
        Read both, and the position, in one snapshot; None for nobody by that id.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._readers.run(
            lambda connection: sql_facts.read_facts(connection, subject, patient), self._read_timeout
        )

    async def fetch_position(self) -> Position:
        """
        Return the newest committed position, on the probe's own connection.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._probe.run(sql_facts.read_position, self._read_timeout)

    async def fetch_changes(self, since: Position) -> tuple[Position, tuple[tuple[int, str], ...]]:
        """
        Return the newest position, and ``(seq, key)`` of each change after *since*, oldest first.

        At most 1,000 changes are listed, and none for another epoch; the
        caller sees from the numbers whether they reach the position.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._probe.run(lambda connection: sql_facts.read_changes(connection, since), self._read_timeout)

    async def record_facts(
        self, subjects: tuple[SubjectFacts, ...], patients: tuple[PatientFacts, ...]
    ) -> tuple[Position, tuple[str, ...]]:
        """
        Replace the facts of these subjects and patients in one transaction.

        Returns:
            The position of the commit, and the touched keys in the order of
            their numbers, the last one at the position; more than 1,000 become ``ALL``.

        Raises:
            StoreUnavailableError: nothing was changed.
            RequestError: the id of a document is already taken; nothing was changed.
        """

        def change(connection: Connection) -> tuple[Position, tuple[str, ...]]:
            touched = sql_facts.write_facts(connection, subjects, patients)
            return sql_facts.advance_feed(connection, touched)

        return await self._write(change)

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """
        Replace a patient's facts by what *change* makes of them, in one transaction.

        *change* must be pure, for it runs on another thread; what it raises
        is passed on and nothing is changed.

        Raises:
            UnknownPatientError: nobody by that id.
            StoreUnavailableError: nothing was changed.
            RequestError: the id of a document is already taken; nothing was changed.
        """

        def rewrite(connection: Connection) -> Position:
            before = sql_facts.read_patient(connection, patient)
            if before is None:
                raise UnknownPatientError("nobody is on record by this patient id")
            after = change(before)
            if after.id != patient:
                raise ValueError("a change may not alter the id of a patient")
            touched = sql_facts.write_facts(connection, (), (after,))
            return sql_facts.advance_feed(connection, touched)[0]

        return await self._write(rewrite)

    async def find_consent(self, consent: str) -> str | None:
        """
        Return the id of the patient who has the consent, None when nobody has.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self.find_document("consent", consent)

    async def find_document(self, kind: str, document: str) -> str | None:
        """
        Return the id of the patient who has a ``consent``, ``delegation`` or ``grant`` of that id.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._readers.run(
            lambda connection: sql_facts.find_document(connection, kind, document), self._read_timeout
        )

    async def is_empty(self) -> bool:
        """
        Tell whether nobody at all is on record.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return not await self._readers.run(sql_facts.has_facts, self._read_timeout)

    async def aclose(self) -> None:
        """Finish what was begun, close the file and let another process have it."""
        for lane in (self._probe, self._readers, self._writer):
            await lane.aclose()
        self._lock.release()

    async def _write(self, change: Callable[[Connection], T]) -> T:
        return await self._writer.run(change, self._write_timeout, commit=True)


def _prepare(connection: Connection) -> bytes:
    if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
        raise SettingsError("the file system of the database has no write-ahead log, expected a local disk")
    key = ensure_schema(connection, secrets.token_hex(8), secrets.token_bytes(32))
    sql_facts.trim_feed(connection)
    return key


def _warn_of_old_sqlite() -> None:
    if sqlite3.sqlite_version_info < _SOUND_SQLITE:
        _log.warning("sqlite_is_old version=%s wanted=3.51.3 or later", sqlite3.sqlite_version)
