"""Proceedings in the database: each change one transaction, together with the notices that follow from it."""

from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection, exists, select

from ruqsat.core.consent_record import Receipt
from ruqsat.core.instant import HOUR, Instant
from ruqsat.core.notice import Notice
from ruqsat.core.proceeding import (
    CLOCK,
    Hour,
    ProceedingChange,
    ProceedingRow,
    Wanted,
    advanced,
    followed_up,
    followed_up_as,
    signals,
)
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.core.proceeding_notice import events_of
from ruqsat.stores import sql_proceedings, sql_records
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_facts import UnknownPatientError
from ruqsat.stores.sql_schema import patient_facts

READING_SECONDS = 2.0
BATCH = 200
FOLLOWED_UP: Instant = 30 * 24 * HOUR
"""How far back withdrawals are looked for: those from before there were proceedings were followed up on paper."""

Changed = Callable[[ProceedingRow | None, Receipt | None], ProceedingChange]


class ProceedingStore:
    """
    The proceedings beside the facts of one database.

    Notices go through ``SqlStore.add_notices``, the one seam to an outbox: called in the transaction of the change.
    """

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def find(self, id_: str) -> ProceedingRow | None:
        """
        Return one proceeding, None for none.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._store.run_reading(partial(sql_proceedings.read_proceeding, id_=id_), READING_SECONDS)

    async def queue(self, wanted: Wanted) -> list[ProceedingRow]:
        """
        Return a page, the first due first.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._store.run_reading(partial(sql_proceedings.read_queue, wanted=wanted), READING_SECONDS)

    async def events(self, id_: str) -> list[tuple[str, str, Instant]]:
        """
        Return what the clock said of a proceeding: event, last day, when.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._store.run_reading(partial(sql_proceedings.read_events, id_=id_), READING_SECONDS)

    async def change(self, id_: str, key: bytes | None, change: Changed) -> ProceedingChange:
        """
        Make one change of a proceeding, or none, by what *change* makes of it and of the receipt under *key*.

        Raises:
            UnknownPatientError: a new one is about nobody on record.
            RequestError: *change* refuses it, or somebody else changed it meanwhile; nothing was changed.
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
        """

        def rewrite(connection: Connection) -> ProceedingChange:
            row = sql_proceedings.read_proceeding(connection, id_, to_change=True)
            made = change(row, None if key is None else sql_records.read_receipt(connection, key))
            if made.receipt is not None:
                sql_records.write_receipt(connection, made.receipt)
            if made.row is not None:
                _refuse_unknown(connection, made.row)
                sql_proceedings.write_proceeding(connection, made.row)
                self._tell(connection, made.notices)
            return made

        return await self._store.run_writing(rewrite)

    async def tick(self, hour: Hour) -> int:
        """
        Do what the passing of time does: follow withdrawals up, let offers lapse, warn, say that a term is over.

        Any number of processes may do it at once, and again: each thing is written down once.

        Returns:
            How many things there were to say; with as many as a batch holds, there may be more.

        Raises:
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
        """

        def look(connection: Connection) -> int:
            return sum(work(connection, hour) for work in (self._follow_up, self._lapse, self._say))

        return await self._store.run_writing(look)

    def _follow_up(self, connection: Connection, hour: Hour) -> int:
        since, prefix = hour.now - FOLLOWED_UP, followed_up_as("")
        found = sql_proceedings.find_withdrawn(connection, since, prefix, BATCH)
        for consent, patient, org, at in found:
            row = followed_up(consent, patient, org, at, hour)
            if sql_proceedings.begin(connection, row):
                self._tell(connection, events_of(row, by_applicant=True))
        return len(found)

    def _lapse(self, connection: Connection, hour: Hour) -> int:
        found = sql_proceedings.find_lapsed(connection, hour.today.isoformat(), BATCH)
        for row in found:
            after = advanced(PROCEEDING_KINDS[row.kind], row, "lapse", CLOCK, hour, {})
            sql_proceedings.write_proceeding(connection, after)
            self._tell(connection, events_of(after))
        return len(found)

    def _say(self, connection: Connection, hour: Hour) -> int:
        said = 0
        for row in sql_proceedings.find_unsaid(connection, hour.today.isoformat(), BATCH):
            for event in signals(row, hour.today):
                if sql_proceedings.say(connection, row.id, event, row.due, hour.now):
                    self._tell(connection, events_of(row, signals=(event,), now=hour.now))
                    said += 1
        return said

    def _tell(self, connection: Connection, notices: tuple[Notice, ...]) -> None:
        if self._store.add_notices is not None and notices:
            self._store.add_notices(connection, notices)


def _refuse_unknown(connection: Connection, row: ProceedingRow) -> None:
    if row.version > 1 or row.patient is None:
        return
    if not connection.execute(select(exists().where(patient_facts.c.id == row.patient))).scalar_one():
        raise UnknownPatientError("nobody is on record by this patient id")
