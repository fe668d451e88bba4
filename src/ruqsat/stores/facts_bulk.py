"""
Facts in bulk: a whole file into a database, and a whole database into a file.

An import prepares the file in batches, each in a transaction of its own with how
far it has come, so that a run that was killed is gone on with.  Then one
transaction takes everything over and moves the position once.  Until that
commit nobody sees anything of the file, after it everybody sees all of it.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from ruqsat import __version__
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.core.facts_lines import (
    Header,
    LineError,
    Words,
    parse_header,
    parse_line,
    render_header,
    render_line,
)
from ruqsat.errors import RequestError, RuqsatError, SettingsError, StoreLockedError, StoreUnavailableError
from ruqsat.stores import migrations, sql_facts, sql_import
from ruqsat.stores.facts_file import FactsFile, FileEndedEarlyError, RawLine
from ruqsat.stores.sql_database import Database, open_database
from ruqsat.stores.sql_import import Line, Progress, Taken
from ruqsat.stores.sql_lane import Lane
from ruqsat.stores.sql_schema import patient_facts, read_revision, subject_facts

BATCH_LINES = 2_000
BATCH_BYTES = 8 * 1024 * 1024
ERRORS_TOLD = 100
TRIES = 3
LOCK_TRIES = 20

_ONE_IMPORT = 0x72757174
_PATIENCE = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL lock_timeout = '10s'",
    "SET LOCAL work_mem = '64MB'",
)
"""The limits of a session are for requests: an import takes its time, where nobody waits for it."""

Watch = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and of how much."""


class Finding(NamedTuple):
    """What is wrong at a line of the file, and what to do."""

    line: int
    found: str
    do: str


class Imported(NamedTuple):
    """
    What came of an import.

    Attributes:
        findings: If there are any, nothing was changed.
        resumed_at: The line that an earlier run had come to.
        taken: None if there are findings, or it was a trial.
        held_seconds: How long the last transaction lasted, and how long of that it held the feed.
    """

    subjects: int
    patients: int
    findings: tuple[Finding, ...] = ()
    resumed_at: int = 0
    taken: Taken | None = None
    held_seconds: tuple[float, float] = (0.0, 0.0)


class Bulk:
    """A database that a command of an operator works on, with the one connection that it needs."""

    def __init__(self, database: Database, lane: Lane) -> None:
        """Prefer ``opened_bulk``."""
        self._engine = lane.engine
        self._failures = lane.failures
        self._database = database

    @contextmanager
    def transaction(self, *, snapshot: bool = False) -> Iterator[Connection]:
        """
        Open a transaction that may take its time; it is kept when the block ends well.

        Raises:
            StoreUnavailableError: the database failed; nothing was changed.
        """
        try:
            with self._engine.connect() as connection:
                if connection.dialect.name == "postgresql":
                    if snapshot:
                        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    for setting in _PATIENCE:
                        connection.exec_driver_sql(setting)
                yield connection
                connection.commit()
        except self._failures as error:
            raise StoreUnavailableError("the database failed") from error

    def check(self) -> None:
        """
        Refuse a database of another revision.

        Raises:
            SettingsError: its tables are not those of this version.
        """
        with self.transaction() as connection:
            found = read_revision(connection)
        if found != migrations.HEAD:
            at = "has no tables yet" if found is None else f"is at revision `{found}`"
            raise SettingsError(f"the database {at}, expected revision `{migrations.HEAD}`: run `ruqsat db upgrade`")

    def be_the_only_import(self) -> None:
        """
        Refuse to go on beside another import; one on a file of SQLite is alone anyway.

        One that was killed a moment ago is waited for, until the server has noticed.

        Raises:
            StoreLockedError: another one is under way.
        """
        for _ in range(LOCK_TRIES):
            with self.transaction() as connection:
                if connection.dialect.name != "postgresql":
                    return
                connection.exec_driver_sql("SET client_connection_check_interval = '1s'")
                # Of the session, which is this one connection: it is gone with the process.
                if connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({_ONE_IMPORT})").scalar_one():
                    return
            time.sleep(0.5)
        raise StoreLockedError("another import into this database is under way, expected to be the only one")

    def import_file(self, file: FactsFile, words: Words, *, trial: bool = False, watch: Watch) -> Imported:
        """
        Take over a whole file, or go on with one; nothing at all if anything is wrong with it.

        Args:
            file: What to read.
            words: What facts may be said with.
            trial: Do everything but take it over; the next run of the same file need only do that.
            watch: Is told how far it is.

        Raises:
            StoreUnavailableError: the database failed; run it again to go on.
            RequestError: others changed the same people all the time; run it again.
        """
        preparation = _Preparation(self, file, words, watch)
        report = preparation.run()
        if not report.findings:
            watch("checking", 0, 0)
            with self.transaction() as connection:
                clashes = sql_import.find_clashes(connection, ERRORS_TOLD)
            report = report._replace(findings=tuple(_told(clash) for clash in clashes))
        if report.findings:
            with self.transaction() as connection:
                sql_import.forget_prepared(connection)
        if report.findings or trial:
            return report
        watch("taking over", 0, 0)
        return self._take_over(report, watch)

    def _take_over(self, report: Imported, watch: Watch) -> Imported:
        for left in reversed(range(TRIES)):
            began = locked = time.monotonic()

            def before_last() -> None:
                nonlocal locked
                locked = time.monotonic()

            try:
                with self.transaction() as connection:
                    taken = sql_import.take_over(connection, lambda done: watch("merging", done, 0), before_last)
            except (RequestError, StoreUnavailableError) as error:
                if not left or not _may_try_again(error):
                    raise
            else:
                now = time.monotonic()
                return report._replace(taken=taken, held_seconds=(now - began, now - locked))
        raise AssertionError("unreachable")

    def export(self, out: IO[bytes], patient: str | None, watch: Watch) -> tuple[int, int, Position]:
        """
        Write everybody on record, by id, as of one moment; or *patient* alone.

        Returns:
            How many subjects and patients, and the position that they are of.

        Raises:
            StoreUnavailableError: the database failed, or holds what cannot be read.
            RequestError: nobody by that id.
        """
        with self.transaction(snapshot=True) as connection:
            position = sql_facts.read_position(connection)
            counts = [
                1 - (table is subject_facts)
                if patient is not None
                else connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (subject_facts, patient_facts)
            ]
            out.write(render_header(*counts))
            done = 0
            for facts in sql_import.everybody(connection, patient):
                out.write(render_line(facts))
                done += 1
                if not done % 1000:
                    watch("writing", done, sum(counts))
        if patient is not None and not done:
            raise RequestError("nobody is on record by this patient id")
        return counts[0], counts[1], position


@contextmanager
def opened_bulk(url: str) -> Iterator[Bulk]:
    """
    Open the database at *url* for bulk work.

    Raises:
        SettingsError: it is none of ours, or of another revision.
        StoreLockedError: a sidecar, or another command, has the file.
    """
    database = open_database(url)
    lane = database.writer()
    try:
        bulk = Bulk(database, lane)
        bulk.check()
        yield bulk
    finally:
        lane.engine.dispose()
        database.release()


def _may_try_again(error: RuqsatError) -> bool:
    """Tell whether others stood in the way: an id taken, a lock not had in time, a circle of waiting."""
    cause = error.__cause__
    return isinstance(error, RequestError) or (isinstance(cause, DBAPIError) and not cause.connection_invalidated)


def _told(clash: sql_import.Clash) -> Finding:
    if clash.other:
        return Finding(clash.line, f"the {clash.what} of line {clash.other} again", "leave one of the two out")
    found = "the id of a document is taken by another patient on record"
    return Finding(clash.line, found, "give the document an id of its own")


class _Preparation:
    """One reading of a file, from where an earlier one stopped."""

    def __init__(self, bulk: Bulk, file: FactsFile, words: Words, watch: Watch) -> None:
        self._bulk, self._file, self._words, self._watch = bulk, file, words, watch
        self._findings: list[Finding] = []
        self._batch: list[Line] = []
        self._bytes = 0
        # Other words, or another version of the checks, might find what was prepared wrong.
        checked_by = __version__.encode() + msgspec.json.encode(words, order="deterministic")
        self._progress = Progress(hashlib.sha256(checked_by + file.digest).digest())

    def run(self) -> Imported:
        """Prepare the rest of the file; once something is wrong, only read it to tell what else is."""
        self._find_place()
        resumed_at, header = self._progress.line, Header(1)
        try:
            for line in self._file.lines():
                header = parse_header(line.text)
                if not resumed_at:
                    self._progress = self._progress._replace(place=line.end, line=1)
                break
            else:
                raise LineError("", "the file is empty", 'write `{"ruqsat_facts": 1}` first')
            for line in self._file.lines(self._progress.line, self._progress.place):
                self._read(line)
                if len(self._findings) >= ERRORS_TOLD:
                    break
            else:
                self._flush()
                self._compare(header)
        except LineError as error:
            self._findings.append(Finding(1, str(error), error.do))
        except FileEndedEarlyError as error:
            self._findings.append(Finding(self._progress.line + 1, str(error), "take the file from its source again"))
        done = self._progress
        return Imported(done.subjects, done.patients, tuple(self._findings), resumed_at)

    def _find_place(self) -> None:
        with self._bulk.transaction() as connection:
            found = sql_import.read_progress(connection)
            if found is not None and found.source == self._progress.source:
                self._progress = found
            else:
                sql_import.forget_prepared(connection)  # of another file, which was never taken over

    def _read(self, line: RawLine) -> None:
        subjects, patients = self._progress.subjects, self._progress.patients
        if line.text.strip():
            try:
                facts: SubjectFacts | PatientFacts = parse_line(line.text, self._words)
            except LineError as error:
                self._findings.append(Finding(line.number, str(error), error.do))
            else:
                self._batch.append(Line(line.number, facts))
                self._bytes += len(line.text)
                subjects += isinstance(facts, SubjectFacts)
                patients += isinstance(facts, PatientFacts)
        self._progress = Progress(self._progress.source, line.end, line.number, subjects, patients)
        if len(self._batch) >= BATCH_LINES or self._bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._findings:
            with self._bulk.transaction() as connection:
                sql_import.prepare_batch(connection, self._batch, self._progress)
        self._batch, self._bytes = [], 0
        self._watch("reading", self._file.done, self._file.size)

    def _compare(self, header: Header) -> None:
        done = self._progress
        for word, stated, found in (
            ("subjects", header.subjects, done.subjects),
            ("patients", header.patients, done.patients),
        ):
            if stated is not None and stated != found and not self._findings:
                self._findings.append(
                    Finding(1, f"the file holds {found} {word}, its first line says {stated}", "is it cut off?")
                )
