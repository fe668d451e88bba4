"""
What a bulk import asks of the tables: a file is prepared in batches, then taken over in one transaction.

As in ``sql_facts``, each function takes a Connection inside a transaction and
neither begins nor ends one.  What is prepared is no truth: nobody reads it but
the import, and no position moves.  Taking over moves the position once, so
that a sidecar forgets what it read before, and only what it read before.

Patients who are new are put in place by the database itself.  Those on record
are merged one by one (``core.facts_merge``), under a lock each, and those
of whom the file states nothing new are not touched, unless they were changed
since the file was prepared.  What an organisation's people take from its entry
is written once more, as by any change of the directory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from ruqsat.core.directory import as_employer, is_organisation
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.core.facts_merge import merge_patient, merge_subject
from ruqsat.errors import RequestError
from ruqsat.stores import sql_facts
from ruqsat.stores.sql_schema import (
    consent_record,
    document,
    facts_import,
    facts_import_document,
    facts_import_run,
    patient_facts,
    record,
    subject_facts,
)

CHUNK = 1_000
"""How many ids are asked for at once."""

LINES_TOLD = 10
"""How many lines are named of which something was set aside."""

_encode = msgspec.json.Encoder().encode
_read_subject = msgspec.json.Decoder(SubjectFacts).decode
_read_patient = msgspec.json.Decoder(PatientFacts).decode


class State(IntEnum):
    """What taking over a line has to do: put it in place, merge it, or nothing."""

    NEW = 0
    KNOWN = 1
    NOTHING = 2


class Progress(NamedTuple):
    """
    How far a file is prepared.

    Attributes:
        source: The digest of the file, and of what it was checked by.
        place: Bytes of its text that are done.
        line: Lines that are done, the header among them.
    """

    source: bytes
    place: int = 0
    line: int = 0
    subjects: int = 0
    patients: int = 0


class Line(NamedTuple):
    """One line of the file: its number, and whose facts it states."""

    number: int
    facts: SubjectFacts | PatientFacts


class Clash(NamedTuple):
    """Two lines, or a line and the database (``other`` 0), that cannot both be taken."""

    line: int
    other: int
    what: str


class Taken(NamedTuple):
    """
    What taking over has changed; ``position`` is None if nothing.

    Attributes:
        set_aside: How many statements were set aside for what stands.
        lines: Some lines of theirs.
    """

    position: Position | None
    new: int
    merged: int
    unchanged: int
    set_aside: int
    lines: tuple[int, ...]


def read_progress(connection: Connection) -> Progress | None:
    """Return how far a file is prepared, None if there is none."""
    columns = (getattr(facts_import_run.c, name) for name in Progress._fields)
    row = connection.execute(select(*columns)).one_or_none()
    return None if row is None else Progress(*row)


def forget_prepared(connection: Connection) -> None:
    """Drop what was prepared."""
    for table in (facts_import, facts_import_document, facts_import_run):
        connection.execute(delete(table))


def prepare_batch(connection: Connection, lines: Sequence[Line], progress: Progress) -> None:
    """Prepare these lines, and say that the file is prepared up to *progress*."""
    standing = _Standing(connection, [line.facts for line in lines], lock=False)
    rows, documents = [], []
    for number, facts in lines:
        is_subject = isinstance(facts, SubjectFacts)
        result, set_aside = standing.merge(facts)
        state = State.NEW if result is None else State.NOTHING if result == standing.of(facts) else State.KNOWN
        about = (int(is_subject), facts.id, number, int(state), set_aside, standing.version_of(facts))
        rows.append((*about, _encode(facts)))
        if isinstance(facts, PatientFacts):
            documents += [(id_, facts.id, kind, number) for kind, id_ in _documents(facts)]
    _fill(connection, facts_import, rows)
    _fill(connection, facts_import_document, documents)
    connection.execute(delete(facts_import_run))
    connection.execute(insert(facts_import_run), {"id": 1, **progress._asdict()})


def _documents(facts: PatientFacts) -> Iterator[tuple[str, str]]:
    for kind, field in sql_facts.DOCUMENTS.items():
        for item in getattr(facts, field):
            yield kind, item.id


def _fill(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Add rows as fast as the database takes them."""
    if not rows:
        return
    names = [column.name for column in table.columns]
    if connection.dialect.name != "postgresql":
        connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({', '.join(names)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


class _Standing:
    """What is on record of some subjects and patients, and which of their documents the registries hold."""

    def __init__(self, connection: Connection, facts: Sequence[SubjectFacts | PatientFacts], *, lock: bool) -> None:
        subjects = sorted(each.id for each in facts if isinstance(each, SubjectFacts))
        patients = sorted(each.id for each in facts if isinstance(each, PatientFacts))
        employers = sorted({each.org for each in facts if isinstance(each, SubjectFacts) and each.org is not None})
        self._employers = _read(connection, subject_facts, employers, _read_subject, lock=False)
        self._subjects = _read(connection, subject_facts, subjects, _read_subject, lock)
        self._patients = _read(connection, patient_facts, patients, _read_patient, lock)
        self._registered: dict[str, dict[str, set[str]]] = {}
        for table, kind in ((consent_record, literal("consent")), (record, record.c.kind)):
            question = select(table.c.patient, kind, table.c.id)
            for patient, name, id_ in _each(connection, question, table.c.patient, sorted(self._patients)):
                if name in sql_facts.DOCUMENTS:
                    fields = self._registered.setdefault(patient, {})
                    fields.setdefault(sql_facts.DOCUMENTS[name], set()).add(id_)

    def of(self, given: SubjectFacts | PatientFacts) -> SubjectFacts | PatientFacts | None:
        """Return what is on record of the same person."""
        found: SubjectFacts | PatientFacts | None = self._found(given)[1]
        return found

    def version_of(self, given: SubjectFacts | PatientFacts) -> int:
        """Return the version of what is on record of the same person, 0 for nothing."""
        return self._found(given)[0]

    def _found(self, given: SubjectFacts | PatientFacts) -> tuple[int, Any]:
        return (self._subjects if isinstance(given, SubjectFacts) else self._patients).get(given.id, (0, None))

    def merge(self, given: SubjectFacts | PatientFacts) -> tuple[SubjectFacts | PatientFacts | None, int]:
        """Return what *given* makes of it, None for nobody on record; and how much of it was set aside."""
        before = self.of(given)
        if isinstance(before, SubjectFacts) and isinstance(given, SubjectFacts):
            entry = merge_subject(before, _employed(given, self._employers))
            return entry.facts, entry.set_aside
        if isinstance(before, PatientFacts) and isinstance(given, PatientFacts):
            merged = merge_patient(before, given, self._registered.get(given.id, {}))
            return merged.facts, merged.set_aside
        return None, 0


def _employed(person: SubjectFacts, employers: Mapping[str, tuple[int, SubjectFacts]]) -> SubjectFacts:
    """Return a person with what its employer's entry says; unchanged if the employer has no entry."""
    if person.org is None or person.org == person.id or person.org not in employers:
        return person
    return msgspec.structs.replace(person, organisation=as_employer(employers[person.org][1]))


def _each(connection: Connection, question: Select[Any], column: Any, ids: Sequence[str]) -> Iterator[Any]:
    for first in range(0, len(ids), CHUNK):
        yield from connection.execute(question.where(column.in_(ids[first : first + CHUNK])))


def _read(
    connection: Connection, table: Table, ids: Sequence[str], decode: Callable[[bytes], Any], lock: bool
) -> dict[str, tuple[int, Any]]:
    """Return the version and the facts of whoever of them is on record."""
    question = select(table.c.id, table.c.version, table.c.body)
    if lock:
        question = question.order_by(table.c.id).with_for_update()  # in the order of every writer
    rows = _each(connection, question, table.c.id, ids)
    return {id_: (version, sql_facts.decode_body(id_, body, decode)) for id_, version, body in rows}


def find_clashes(connection: Connection, limit: int) -> list[Clash]:
    """Return people and documents that the file states twice, and documents that are somebody else's on record."""
    people = (facts_import.c.subject, facts_import.c.id)
    papers = (facts_import_document.c.kind, facts_import_document.c.id)
    twice = [
        select(func.max(table.c.line), func.min(table.c.line), literal(what))
        .group_by(*key)
        .having(func.count() > 1)
        .limit(limit)
        for table, key, what in ((facts_import, people, "person"), (facts_import_document, papers, "document"))
    ]
    # A record may be in force nowhere, and so not among the documents, and yet its patient's.
    taken = [
        select(facts_import_document.c.line, literal(0), literal("document"))
        .join(table, (kind == papers[0]) & (table.c.id == papers[1]))
        .where(table.c.patient != facts_import_document.c.patient)
        .limit(limit)
        for table, kind in (
            (document, document.c.kind), (record, record.c.kind), (consent_record, literal("consent")),
        )
    ]  # fmt: skip
    found = {Clash(*row) for question in (*twice, *taken) for row in connection.execute(question)}
    return sorted(found)[:limit]


def take_over(connection: Connection, tell: Callable[[int], None], before_last: Callable[[], None]) -> Taken:
    """
    Make what was prepared the truth, drop it, and move the position by one entry for all of it.

    Up to 1,000 people are told by name, more as one change of everything.
    *tell* is told now and then how many were merged, *before_last* is called
    before the last statement, which locks the feed.

    Raises:
        RequestError: somebody took the id of a person or a document meanwhile; try again.
    """
    touched = _Touched()
    for subject, table in ((1, subject_facts), (0, patient_facts)):
        _notice_changed(connection, subject, table)
    unchanged = sum(_count(connection, _of(subject, State.NOTHING)) for subject in (1, 0))
    touched.set_aside(connection.execute(_ASIDE_UNTOUCHED))
    # An organisation is held before its people, as by whoever changes the directory.
    employers = _employers(connection)
    _read(connection, subject_facts, sorted(employers), _read_subject, lock=True)
    try:
        new = _put_new(connection, 1, touched)
        merged = _merge_known(connection, 1, touched, tell)
        _tell_staff(connection, employers | touched.organisations, touched)
        new += _put_new(connection, 0, touched)
        merged += _merge_known(connection, 0, touched, tell)
        _list_new_documents(connection)
    except IntegrityError:
        raise RequestError("somebody else took an id of the file meanwhile, expected to try again") from None
    forget_prepared(connection)
    before_last()
    position = sql_facts.advance_feed(connection, list(touched.entries))[0] if touched.entries else None
    return Taken(position, new, merged, unchanged, touched.aside, tuple(touched.lines))


class _Touched:
    """Collects whom taking over has changed, for the feed, and how much was set aside, with its first lines."""

    def __init__(self) -> None:
        self.entries: dict[sql_facts.Touched, None] = {}
        self.organisations: set[str] = set()
        self.aside = 0
        self.lines: list[int] = []

    def add(self, subject: int, ids: Iterable[str]) -> None:
        """Remember some of one kind."""
        kind, word = (sql_facts.Kind.SUBJECT, "subject") if subject else (sql_facts.Kind.PATIENT, "patient")
        for id_ in ids:
            if len(self.entries) > sql_facts.BULK:
                return
            self.entries[kind, f"{word}:{id_}"] = None

    def set_aside(self, of_lines: Iterable[Any]) -> None:
        """Count what was set aside of some lines."""
        for line, count in of_lines:
            if count:
                self.aside += count
                self.lines = sorted((*self.lines, line))[:LINES_TOLD]


def _of(subject: int, state: State) -> ColumnElement[bool]:
    return (facts_import.c.subject == subject) & (facts_import.c.state == int(state))


def _count(connection: Connection, those: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(facts_import).where(those)).scalar_one()


_ASIDE_UNTOUCHED = select(facts_import.c.line, facts_import.c.set_aside).where(
    facts_import.c.state == int(State.NOTHING), facts_import.c.set_aside > 0
)


def _notice_changed(connection: Connection, subject: int, table: Table) -> None:
    """Mark who has come on record since the file was prepared, and who was changed."""
    there = select(table.c.id).where(table.c.id == facts_import.c.id)
    changed = there.where(table.c.version != facts_import.c.version)
    known = {"state": int(State.KNOWN)}
    connection.execute(update(facts_import).where(_of(subject, State.NEW), exists(there)).values(known))
    connection.execute(update(facts_import).where(_of(subject, State.NOTHING), exists(changed)).values(known))


def _employers(connection: Connection) -> set[str]:
    """Return the organisations that the file changes, and those of people whom it changes."""
    question = select(facts_import.c.body).where(facts_import.c.subject == 1, facts_import.c.state != State.NOTHING)
    found = set()
    for body in connection.execute(question, execution_options={"yield_per": CHUNK}).scalars():
        entry = _read_subject(body)
        if entry.org is not None or is_organisation(entry):
            found.add(entry.org or entry.id)
    return found


def _tell_staff(connection: Connection, employers: set[str], touched: _Touched) -> None:
    """Rewrite the entries of people, of the file or not, that say otherwise than these employers' entries."""
    entries = _read(connection, subject_facts, sorted(employers), _read_subject, lock=False)
    if not entries:
        return
    rows = connection.execute(select(subject_facts.c.id, subject_facts.c.body), execution_options={"yield_per": CHUNK})
    stale = []
    for id_, body in rows:
        if b'"org":' in body and _employed(entry := sql_facts.decode_body(id_, body, _read_subject), entries) != entry:
            stale.append(id_)
    stale.sort()
    for first in range(0, len(stale), CHUNK):
        people = _read(connection, subject_facts, stale[first : first + CHUNK], _read_subject, lock=True)
        told = [_employed(entry, entries) for _, entry in people.values()]
        sql_facts.write_facts(connection, told, ())
        touched.add(1, people)


def _put_new(connection: Connection, subject: int, touched: _Touched) -> int:
    table = subject_facts if subject else patient_facts
    rows = select(facts_import.c.id, literal(1), facts_import.c.body).where(_of(subject, State.NEW))
    connection.execute(insert(table).from_select(["id", "version", "body"], rows.order_by(facts_import.c.id)))
    some = select(facts_import.c.id).where(_of(subject, State.NEW)).limit(sql_facts.BULK + 1)
    touched.add(subject, connection.execute(some).scalars())
    return _count(connection, _of(subject, State.NEW))


def _merge_known(connection: Connection, subject: int, touched: _Touched, tell: Callable[[int], None]) -> int:
    decode: Callable[[bytes], Any] = _read_subject if subject else _read_patient
    question = select(facts_import.c.line, facts_import.c.body).where(_of(subject, State.KNOWN))
    merged = 0
    rows = connection.execute(question.order_by(facts_import.c.id), execution_options={"yield_per": CHUNK})
    for part in rows.partitions():
        given = [(line, decode(body)) for line, body in part]
        standing = _Standing(connection, [each for _, each in given], lock=True)
        results = [(line, each, *standing.merge(each)) for line, each in given]
        changed: list[Any] = [result or each for _, each, result, _ in results if result != standing.of(each)]
        sql_facts.write_facts(connection, changed if subject else (), () if subject else changed)
        touched.add(subject, (each.id for each in changed))
        touched.set_aside((line, aside) for line, _, _, aside in results)
        befores = map(standing.of, (each for _, each in given))
        touched.organisations |= {
            each.id for each in befores if isinstance(each, SubjectFacts) and is_organisation(each)
        }
        merged += len(changed)
        tell(merged)
    return merged


def _list_new_documents(connection: Connection) -> None:
    rows = (
        select(facts_import_document.c.id, facts_import_document.c.patient, facts_import_document.c.kind)
        .join(facts_import, (facts_import.c.id == facts_import_document.c.patient) & _of(0, State.NEW))
        .order_by(facts_import_document.c.kind, facts_import_document.c.id)
    )
    connection.execute(insert(document).from_select(["id", "patient", "kind"], rows))


def everybody(connection: Connection, patient: str | None) -> Iterator[SubjectFacts | PatientFacts]:
    """
    Yield the facts of all subjects, then of all patients, each by id; or those of one patient alone.

    Raises:
        StoreUnavailableError: what is stored cannot be read as facts.
    """
    decoders: tuple[tuple[Table, Callable[[bytes], Any]], ...] = (
        (subject_facts, _read_subject), (patient_facts, _read_patient),
    )  # fmt: skip
    for table, decode in decoders:
        question = select(table.c.id, table.c.body).order_by(table.c.id)
        if patient is not None and table is subject_facts:
            continue
        if patient is not None:
            question = question.where(table.c.id == patient)
        for id_, body in connection.execute(question, execution_options={"yield_per": CHUNK}):
            yield sql_facts.decode_body(id_, body, decode)
