"""
The truth about subjects and patients, on SQLite or PostgreSQL.

Facts are read with the position of the feed in one snapshot, so that a copy of
them can later be tested against what has changed since.  Every change moves
the position in the same transaction.  What cannot be read is an error, never
an empty answer.
"""

from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from ruqsat.core.break_glass import Made as SessionMade
from ruqsat.core.break_glass import Opening, SessionChange
from ruqsat.core.break_glass import Wanted as SessionWanted
from ruqsat.core.consent_record import Change, ConsentRow, Receipt
from ruqsat.core.fact_changes import FactChange, Wanted
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import Instant
from ruqsat.errors import OutcomeUnknownError, StoreUnavailableError
from ruqsat.stores import sql_break_glass, sql_changes, sql_facts, sql_records, sql_sidecars
from ruqsat.stores.sql_database import Database, open_database
from ruqsat.stores.sql_facts import UnknownPatientError
from ruqsat.stores.sql_lane import ClockReading, Lane
from ruqsat.stores.sql_outbox import AddNotices

T = TypeVar("T")

LEAVE_SECONDS = 1.0
LOOKERS = 2
"""How many readers look through the journal at a time; the others wait."""

DESKS, LOOK_TIMES = 2, 4
"""
So many look up records at a time, beside those who decide, and each waits so many times as long as a decision: a
refusal would make somebody at a screen ask again.
"""


class SqlStore:
    """
    Facts of subjects and patients, with the position they were read at.

    One connection writes; the probe has one of its own, which busy readers
    cannot take, and so have those who look through the journal or up records.

    ``observe_clock``: is told what a probe has read of the server's clock, or of this machine's.
    ``add_notices``: is given what somebody must be told of a change, inside the change's transaction:
    the seam to an outbox.  What it raises undoes the change.
    """

    token_key: bytes
    observe_clock: Callable[[int, int, int], None] | None = None
    add_notices: AddNotices | None = None

    def __init__(self, database: Database, *, readers: int, read_timeout: float, write_timeout: float) -> None:
        """Prefer ``SqlStore.open``, which also recognises the tables."""
        self._database = database
        self._read_timeout, self._look_timeout = read_timeout, LOOK_TIMES * read_timeout
        self._write_timeout = write_timeout
        self._writer = database.writer()
        self._readers = database.readers(readers)
        self._lookers, self._desk = database.readers(LOOKERS), database.readers(DESKS)
        self._probe = database.prober()
        self._background: Lane | None = None
        self._place: sql_sidecars.Place | None = None
        self._epoch: str | None = None

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
        Open the database at *url* (``sqlite:///file``, made when there is none, or ``postgresql://…``).

        Raises:
            SettingsError: the URL, the file or the tables are not what this version can use.
            StoreLockedError: another process owns the file.
            StoreUnavailableError: the database failed.
        """
        store = cls(
            open_database(url),
            readers=readers,
            read_timeout=read_timeout_seconds,
            write_timeout=write_timeout_seconds,
        )
        try:
            store.token_key = await store._write(store._prepare)
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
        facts = await self._readers.run(
            lambda connection: sql_facts.read_facts(connection, subject, patient), self._read_timeout
        )
        self._recognise(facts[2].epoch)
        return facts

    async def fetch_changes(self, since: Position) -> tuple[Position, tuple[tuple[int, str], ...]]:
        """
        Return the newest position, and ``(seq, key)`` of each change after *since*, oldest first.

        At most 1,000 changes are listed, and none for another epoch; the
        caller sees from the numbers whether they reach the position.  A process that
        has joined says first, in the table of processes, that it knows all up to *since*.

        Raises:
            StoreUnavailableError: no answer in time.
        """

        place = self._place

        def ask(connection: Connection) -> tuple[Position, tuple[tuple[int, str], ...], ClockReading]:
            if place is not None:
                # Invariant: committed before the reading begins; in one transaction with it, it could be seen too late.
                place.register(connection, since)
            return *sql_facts.read_changes(connection, since), self._database.read_clock(connection)

        # A commit waits for a disk, perhaps for a standby's too: it is given longer than a reading.
        head, changes, reading = await self._probe.run(ask, self._read_timeout * (1 if place is None else 2))
        if self.observe_clock is not None:
            self.observe_clock(*reading)
        self._recognise(head.epoch)
        self._epoch = head.epoch
        return head, changes

    def join(self, lease: Instant) -> None:
        """
        Stand in the table of processes from the next probe on; *lease* is how long we answer without one.

        Only where several processes share a database, and before the first of those probes.
        """
        self._place = sql_sidecars.Place(lease)

    async def fetch_others(self) -> tuple[str, tuple[sql_sidecars.Row, ...]]:
        """
        Return the epoch, and of every other process its id, position, lease and beat; only after ``join``.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        if self._place is None:
            raise StoreUnavailableError("this process has not joined the others")
        return await self._readers.run(self._place.read_others, self._read_timeout)

    async def drop_silent(self, silent: Collection[tuple[str, int]]) -> None:
        """
        Take away the rows of processes that have ended without a word, unless their beat is another by now.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        await self._write(lambda connection: sql_sidecars.drop_rows(connection, silent))

    async def record_facts(
        self, subjects: tuple[SubjectFacts, ...], patients: tuple[PatientFacts, ...]
    ) -> tuple[Position, tuple[str, ...]]:
        """
        Replace the facts of these subjects and patients in one transaction.

        Returns:
            The position of the commit, and the touched keys in the order of
            their numbers, the last one at the position; more than 1,000 become ``ALL``.

        Raises:
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
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
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
            RequestError: the id of a document is already taken; nothing was changed.
        """

        def rewrite(connection: Connection) -> Position:
            before = sql_facts.read_patient_to_change(connection, patient)
            if before is None:
                raise UnknownPatientError("nobody is on record by this patient id")
            after = change(before)
            if after.id != patient:
                raise ValueError("a change may not alter the id of a patient")
            touched = sql_facts.write_facts(connection, (), (after,))
            return sql_facts.advance_feed(connection, touched)[0]

        return await self._write(rewrite)

    async def change_facts(self, wanted: Wanted, change: FactChange) -> tuple[Position, tuple[str, ...]]:
        """
        Change several subjects and patients in one transaction by what *change* makes of them.

        *change* must be pure, as of ``change_patient``.  Where it changes nothing, no entry of the feed is made.

        Returns:
            The position, and the touched keys as ``record_facts``.

        Raises:
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
            RequestError: *change* refuses it; nothing was changed.
        """

        def rewrite(connection: Connection) -> tuple[Position, tuple[str, ...]]:
            touched = sql_changes.rewrite_facts(connection, wanted, change)
            if not touched:
                return sql_facts.read_position(connection), ()
            return sql_facts.advance_feed(connection, touched)

        return await self._write(rewrite)

    async def change_records(
        self,
        patient: str,
        wanted: tuple[str, ...],
        key: bytes | None,
        change: Callable[[PatientFacts, dict[str, Any], Receipt | None], Change],
        kind: str = sql_records.CONSENT,
    ) -> tuple[Position, Change]:
        """
        Make one change of a patient's records and facts together, or none.

        Args:
            patient: Whose they are; nobody else changes them meanwhile.
            wanted: Ids of records that *change* is given, those of other patients left out.
            key: Idempotency key whose receipt *change* is given.
            change: Pure, as of ``change_patient``.
            kind: What kind of records *wanted* names.

        Raises:
            UnknownPatientError: nobody by that id.
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
            RequestError: an id is already taken; nothing was changed.
        """

        def rewrite(connection: Connection) -> tuple[Position, Change]:
            facts = sql_facts.read_patient_to_change(connection, patient)
            if facts is None:
                raise UnknownPatientError("nobody is on record by this patient id")
            found = [sql_records.read_record(connection, kind, id_) for id_ in wanted]
            rows = {row.id: row for row in found if row is not None and row.patient == patient}
            made = change(facts, rows, None if key is None else sql_records.read_receipt(connection, key))
            if made.receipt is not None:
                sql_records.write_receipt(connection, made.receipt)
            sql_records.write_records(connection, made.rows)
            if self.add_notices is not None and made.notices:
                self.add_notices(connection, made.notices)
            if made.facts is None:
                return sql_facts.read_position(connection), made
            touched = sql_facts.write_facts(connection, (), (made.facts,))
            return sql_facts.advance_feed(connection, touched)[0], made

        return await self._write(rewrite)

    async def change_session(
        self, wanted: SessionWanted, change: SessionChange
    ) -> tuple[Position, tuple[str, ...], SessionMade]:
        """
        Make one change of a break-glass session, its patient, its clinician and its notices together, or none.

        *change* must be pure, as of ``change_patient``.

        Returns:
            The position, the touched keys, nothing if no facts are different, and what was made.

        Raises:
            UnknownPatientError: nobody by that id.
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
            RequestError: *change* or the store refuses it; nothing was changed.
        """
        return await self._write(
            lambda connection: sql_break_glass.rewrite_session(connection, wanted, change, self.add_notices)
        )

    async def list_waiting(
        self, org: str, due_before: Instant | None, after: tuple[Instant, str], limit: int
    ) -> list[tuple[Opening, Any]]:
        """
        Return an organisation's sessions that wait for a review, with their records, as they are due.

        Args:
            after: After this one: when it is due, and its id.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        page = sql_break_glass.Page(due_before, after, limit)
        return await self._desk.run(
            lambda connection: sql_break_glass.read_waiting(connection, org, page), self._look_timeout
        )

    async def list_unfound(self, due_before: Instant, after: tuple[Instant, str], limit: int) -> list[Opening]:
        """
        Return everybody's sessions that wait for a review and were not found overdue, as they are due.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        page = sql_break_glass.Page(due_before, after, limit)
        return await self._desk.run(
            lambda connection: sql_break_glass.read_unfound(connection, page), self._look_timeout
        )

    async def find_record(self, id_: str) -> ConsentRow | None:
        """
        Return one full record, None for none.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        row: ConsentRow | None = await self.find_registered(sql_records.CONSENT, id_)
        return row

    async def find_registered(self, kind: str, id_: str) -> Any:
        """
        Return one full record of a kind, None for none.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._desk.run(
            lambda connection: sql_records.read_record(connection, kind, id_), self._look_timeout
        )

    async def list_records(self, patient: str, org: str | None, after: str, limit: int) -> list[ConsentRow]:
        """
        Return at most *limit* of a patient's records whose ids come after *after*, of one organisation if given.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self.list_registered(sql_records.CONSENT, patient, org, after, limit)

    async def list_registered(self, kind: str, patient: str, org: str | None, after: str, limit: int) -> list[Any]:
        """
        Return a page as ``list_records``, of records of a kind.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._desk.run(
            lambda connection: sql_records.read_page(connection, kind, patient, org, after, limit), self._look_timeout
        )

    async def is_somebody_else(self, patient: str, tags: tuple[bytes, ...]) -> bool:
        """
        Tell whether verified records tie the number of this tag to another patient, or this patient to another number.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._desk.run(
            lambda connection: sql_records.is_somebody_else(connection, patient, tags), self._look_timeout
        )

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
        return await self._desk.run(
            lambda connection: sql_facts.find_document(connection, kind, document), self._look_timeout
        )

    async def list_directory(self, after: str, before: str | None, limit: int) -> list[SubjectFacts]:
        """
        Return at most *limit* entries of the directory after *after*, and before *before* if given, by id.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._readers.run(
            lambda connection: sql_facts.list_directory(connection, after, before, limit), self._read_timeout
        )

    async def is_empty(self) -> bool:
        """
        Tell whether nobody at all is on record.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return not await self._readers.run(sql_facts.has_facts, self._write_timeout)  # asked at starts alone

    async def run_reading(self, work: Callable[[Connection], T], within_seconds: float) -> T:
        """
        Run *work* in one snapshot, for tables that have a store of their own.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._readers.run(work, within_seconds)

    async def run_looking(self, work: Callable[[Connection], T], within_seconds: float) -> T:
        """
        Run *work* in one snapshot, however long it takes, where no decision waits for it.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._lookers.run(work, within_seconds)

    def background(self) -> Lane:
        """
        Return a lane for work that nobody waits for, such as shipping the journal.

        On a server it has a connection of its own.  A file has one writer at a time whatever the
        connections: there such work waits in the same row, rather than lock the file against changes.
        """
        if self._background is None:
            self._background = self._database.background() or self._writer
        return self._background

    async def run_writing(self, work: Callable[[Connection], T]) -> T:
        """
        Run *work* in one transaction; what it raises is passed on and nothing is changed.

        Raises:
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
        """
        return await self._write(work)

    async def aclose(self) -> None:
        """Finish what was begun, close the database and let another process have it."""
        if self._place is not None:
            with suppress(StoreUnavailableError):  # then a barrier waits for our lease
                await self._probe.run(self._place.leave, LEAVE_SECONDS)
        for lane in self._lanes():
            await lane.aclose()
        self._database.release()

    def _lanes(self) -> list[Lane]:
        lanes = (self._background, self._probe, self._desk, self._lookers, self._readers, self._writer)
        return [lane for lane in lanes if lane is not None]

    def _recognise(self, epoch: str) -> bool:
        """
        Tell whether *epoch* is the one that the last probe has told; any is, before the first.

        If it is not, connections lead to two servers, as after a failover that the old primary has
        outlived: no work begins on any of them again.
        """
        if self._epoch in (None, epoch):
            return True
        for lane in self._lanes():
            lane.renew()
        return False

    async def _write(self, change: Callable[[Connection], T]) -> T:
        def write(connection: Connection) -> tuple[T, str]:
            made = change(connection)
            epoch = sql_facts.read_position(connection).epoch
            if not self._recognise(epoch):
                raise StoreUnavailableError("the database is of another history than the last probe's, try again")
            return made, epoch

        made, epoch = await self._writer.run(write, self._write_timeout, commit=True)
        if not self._recognise(epoch):
            raise OutcomeUnknownError("the database was replaced while the change was committed, it may be lost")
        return made

    def _prepare(self, connection: Connection) -> bytes:
        key = self._database.prepare(connection)
        sql_facts.trim_feed(connection)
        return key
