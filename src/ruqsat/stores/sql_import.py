"""
What a bulk import asks of the tables: a file is prepared in batches, then taken over in one transaction.

As in ``sql_facts``, each function takes a Connection inside a transaction and
neither begins nor ends one.  What is prepared is no truth: nobody reads it but
the import, and no position moves.  Taking over moves the position once, so
that a sidecar forgets what it read before, and only what it read before.

Patients who are new are put in place by the database itself.  Those on record
are merged one by one (``core.facts_merge``), under a lock each, and those
of whom the file states nothing new are not touched.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
"""So many ids are asked for at once."""

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
        source: The digest of the file.
        place: Bytes of its text that are done.
        line: Lines that are done, the header among them.
    """

    source: bytes
    place: int = 0
    line: int = 0
    subjects: int = 0
    patients: int = 0


class Line(NamedTuple):
    """What one line states."""

    number: int
    facts: SubjectFacts | PatientFacts


class Clash(NamedTuple):
    """Two lines, or a line and the database (``other`` 0), that cannot both be."""

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
        body = b"" if state is State.NOTHING else _encode(facts)
        rows.append((int(is_subject), facts.id, number, int(state), set_aside, body))
        if isinstance(facts, PatientFacts):
            documents += [(id_, facts.id, kind, number) for kind, id_ in _documents(facts)]
    _fill(connection, facts_import, rows)
    _fill(connection, facts_import_document, documents)
    connection.execute(delete(facts_import_run))
    connection.execute(insert(facts_import_run), {"id": 1, **progress._asdict()})


def _documents(facts: PatientFacts) -> Iterator[tuple[str, str]]:
    for kind, items in (("consent", facts.consents), ("delegation", facts.delegations), ("grant", facts.grants)):
        for item in items:
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
    """What is on record of some subjects and patients, and which of their documents the registry holds."""

    def __init__(self, connection: Connection, facts: Sequence[SubjectFacts | PatientFacts], *, lock: bool) -> None:
        subjects = sorted(each.id for each in facts if isinstance(each, SubjectFacts))
        patients = sorted(each.id for each in facts if isinstance(each, PatientFacts))
        self._subjects = _read(connection, subject_facts, subjects, _read_subject, lock)
        self._patients = _read(connection, patient_facts, patients, _read_patient, lock)
        self._registered: dict[str, set[str]] = {}
        for table in (consent_record, record):
            question = select(table.c.patient, table.c.id)
            for patient, id_ in _each(connection, question, table.c.patient, sorted(self._patients)):
                self._registered.setdefault(patient, set()).add(id_)

    def of(self, given: SubjectFacts | PatientFacts) -> SubjectFacts | PatientFacts | None:
        """Return what is on record of the same person."""
        return self._subjects.get(given.id) if isinstance(given, SubjectFacts) else self._patients.get(given.id)

    def merge(self, given: SubjectFacts | PatientFacts) -> tuple[SubjectFacts | PatientFacts | None, int]:
        """Return what *given* makes of it, None for nobody on record; and how much of it was set aside."""
        before = self.of(given)
        if isinstance(before, SubjectFacts) and isinstance(given, SubjectFacts):
            return merge_subject(before, given), 0
        if isinstance(before, PatientFacts) and isinstance(given, PatientFacts):
            merged = merge_patient(before, given, self._registered.get(given.id, ()))
            return merged.facts, merged.set_aside
        return None, 0


def _each(connection: Connection, question: Select[Any], column: Any, ids: Sequence[str]) -> Iterator[Any]:
    for first in range(0, len(ids), CHUNK):
        yield from connection.execute(question.where(column.in_(ids[first : first + CHUNK])))


def _read(
    connection: Connection, table: Table, ids: Sequence[str], decode: Callable[[bytes], Any], lock: bool
) -> dict[str, Any]:
    question = select(table.c.id, table.c.body)
    if lock:
        question = question.order_by(table.c.id).with_for_update()  # in the order of every writer
    return {id_: sql_facts.decode_body(id_, body, decode) for id_, body in _each(connection, question, table.c.id, ids)}


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
    taken = (
        select(facts_import_document.c.line, literal(0), literal("document"))
        .join(document, (document.c.kind == papers[0]) & (document.c.id == papers[1]))
        .where(document.c.patient != facts_import_document.c.patient)
        .limit(limit)
    )
    return sorted(Clash(*row) for question in (*twice, taken) for row in connection.execute(question))[:limit]


def take_over(connection: Connection, tell: Callable[[int], None], before_last: Callable[[], None]) -> Taken:
    """
    Make what was prepared the truth, drop it, and move the position by one entry for all of it.

    Up to 1,000 people are told by name, more as one change of everything.
    *tell* is told now and then how many were merged, *before_last* is called
    before the last statement, which locks the feed.

    Raises:
        RequestError: somebody took the id of a person or a document meanwhile; try again.
    """
    set_aside, lines = _set_aside(connection)
    unchanged = sum(_count(connection, _of(subject, State.NOTHING)) for subject in (1, 0))
    for subject, table in ((1, subject_facts), (0, patient_facts)):
        _notice_known(connection, subject, table)
    touched = _Touched()
    try:
        new = sum(_put_new(connection, subject, touched) for subject in (1, 0))
        merged = sum(_merge_known(connection, subject, touched, tell) for subject in (1, 0))
        _list_new_documents(connection)
    except IntegrityError:
        raise RequestError("somebody else took an id of the file meanwhile, expected to try again") from None
    forget_prepared(connection)
    before_last()
    position = sql_facts.advance_feed(connection, touched.entries)[0] if touched.entries else None
    return Taken(position, new, merged, unchanged, set_aside, lines)


class _Touched:
    """Who was changed, as far as the feed tells names."""

    def __init__(self) -> None:
        self.entries: list[sql_facts.Touched] = []

    def add(self, subject: int, ids: Iterable[str]) -> None:
        """Remember some of one kind."""
        kind, word = (sql_facts.Kind.SUBJECT, "subject") if subject else (sql_facts.Kind.PATIENT, "patient")
        for id_ in ids:
            if len(self.entries) > sql_facts.BULK:
                return
            self.entries.append((kind, f"{word}:{id_}"))


def _of(subject: int, state: State) -> ColumnElement[bool]:
    return (facts_import.c.subject == subject) & (facts_import.c.state == int(state))


def _count(connection: Connection, those: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(facts_import).where(those)).scalar_one()


def _set_aside(connection: Connection) -> tuple[int, tuple[int, ...]]:
    some = facts_import.c.set_aside > 0
    total = connection.execute(select(func.sum(facts_import.c.set_aside)).where(some)).scalar_one()
    lines = connection.execute(select(facts_import.c.line).where(some).order_by(facts_import.c.line).limit(10))
    return total or 0, tuple(lines.scalars())


def _notice_known(connection: Connection, subject: int, table: Table) -> None:
    """Mark who has come on record since the file was prepared."""
    there = exists(select(table.c.id).where(table.c.id == facts_import.c.id))
    connection.execute(update(facts_import).where(_of(subject, State.NEW), there).values(state=int(State.KNOWN)))


def _put_new(connection: Connection, subject: int, touched: _Touched) -> int:
    table = subject_facts if subject else patient_facts
    rows = select(facts_import.c.id, literal(1), facts_import.c.body).where(_of(subject, State.NEW))
    connection.execute(insert(table).from_select(["id", "version", "body"], rows.order_by(facts_import.c.id)))
    some = select(facts_import.c.id).where(_of(subject, State.NEW)).limit(sql_facts.BULK + 1)
    touched.add(subject, connection.execute(some).scalars())
    return _count(connection, _of(subject, State.NEW))


def _merge_known(connection: Connection, subject: int, touched: _Touched, tell: Callable[[int], None]) -> int:
    decode: Callable[[bytes], Any] = _read_subject if subject else _read_patient
    question = select(facts_import.c.body).where(_of(subject, State.KNOWN)).order_by(facts_import.c.id)
    merged = 0
    rows = connection.execute(question, execution_options={"yield_per": CHUNK})
    for part in rows.scalars().partitions():
        given = [decode(body) for body in part]
        standing = _Standing(connection, given, lock=True)
        results = [(each, standing.merge(each)[0] or each) for each in given]
        changed: list[Any] = [result for each, result in results if result != standing.of(each)]
        sql_facts.write_facts(connection, changed if subject else (), () if subject else changed)
        touched.add(subject, (each.id for each in changed))
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
