"""
What is asked of the tables, one function a question.

Each takes a Connection inside a transaction and neither begins nor ends one,
so several make one snapshot or one change.  They are the same on SQLite and
PostgreSQL.  Rows are changed in one order everywhere (subjects, patients,
documents, each by id; the head of the feed last), so that writers who wait for
one another never wait in a circle.
"""

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from enum import IntEnum
from operator import itemgetter
from typing import TypeVar

import msgspec
from sqlalchemy import Connection, Select, Table, bindparam, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from ruqsat.core.addressee import Addressee
from ruqsat.core.facts import PatientFacts, Position, SubjectFacts
from ruqsat.core.registered import KINDS
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.stores.sql_rows import among
from ruqsat.stores.sql_schema import document, feed, feed_head, indexed, patient_facts, subject_facts, timeline

ALL = "ALL"
BULK = 1_000
FEED_PAGE = 1_000
FEED_KEPT = 100_000
TRIM_EVERY = 100
TRIM_MOST = 5_000

DOCUMENTS = {"consent": "consents"} | {kind.name: kind.facts for kind in KINDS.values()}
"""The kinds of documents that are listed by their id, and where the facts hold them."""

_LISTED_LATER = ("representation", "request")
"""Kinds that were not listed once: two patients may have one id.  The first is listed, and neither is held up."""

FactsT = TypeVar("FactsT", SubjectFacts, PatientFacts, Addressee)


class UnknownPatientError(RequestError):
    """Nobody is on record by that patient id."""

    code = "unknown-patient"


class Kind(IntEnum):
    """What an entry of the feed says was changed."""

    EVERYTHING = 0
    SUBJECT = 1
    PATIENT = 2
    POLICY = 3


Touched = tuple[Kind, str]

_encode = msgspec.json.Encoder().encode
_read_subject = msgspec.json.Decoder(SubjectFacts)
_read_patient = msgspec.json.Decoder(PatientFacts)
_read_addressee = msgspec.json.Decoder(Addressee)

_EPOCH = feed_head.c.epoch.concat(timeline())
_HEAD = select(_EPOCH, feed_head.c.seq).where(feed_head.c.id == 1)
_CHANGES = select(feed.c.seq, feed.c.key).where(feed.c.seq > bindparam("since")).order_by(feed.c.seq).limit(FEED_PAGE)
_SUBJECT = select(subject_facts.c.body).where(subject_facts.c.id == bindparam("wanted"))
_PATIENT = select(patient_facts.c.body).where(patient_facts.c.id == bindparam("wanted"))
_PATIENTS = select(patient_facts.c.id, patient_facts.c.body).where(among(patient_facts.c.id, "wanted"))
_DOCUMENT = select(document.c.patient).where(
    document.c.kind == bindparam("wanted_kind"), document.c.id == bindparam("wanted")
)
_PATIENT_TO_CHANGE = _PATIENT.with_for_update()  # SQLite has locked out other writers already
_SUBJECT_TO_CHANGE = _SUBJECT.with_for_update()
_UNLIST = delete(document).where(document.c.patient == bindparam("owner"))
_ADVANCE = (
    update(feed_head)
    .where(feed_head.c.id == 1)
    .values(seq=feed_head.c.seq + bindparam("steps"))
    .returning(_EPOCH, feed_head.c.seq)
)


def read_position(connection: Connection) -> Position:
    """
    Return the head of the feed.

    Raises:
        StoreUnavailableError: the database is a standby, which may lag behind without knowing it.
    """
    epoch, seq = connection.execute(_HEAD).one()
    if epoch is None:
        raise StoreUnavailableError("the database is a standby, expected the primary")
    return Position(epoch, seq)


def read_facts(
    connection: Connection, subject: str | None, patient: str | None
) -> tuple[SubjectFacts | None, PatientFacts | None, Position]:
    """
    Return the facts of both and the position; None for nobody by that id.

    Raises:
        StoreUnavailableError: what is stored cannot be read as facts.
    """
    # The head comes first: should the snapshot ever be lost, facts look older than they are, never newer.
    position = read_position(connection)
    return (
        None if subject is None else _read_body(connection, _SUBJECT, subject, _read_subject),
        None if patient is None else _read_body(connection, _PATIENT, patient, _read_patient),
        position,
    )


def _read_body(
    connection: Connection, question: Select[bytes], wanted: str, decoder: msgspec.json.Decoder[FactsT]
) -> FactsT | None:
    body = connection.execute(question, {"wanted": wanted}).scalar_one_or_none()
    return None if body is None else decode_body(wanted, body, decoder.decode)


def decode_body(wanted: str, body: bytes, decode: Callable[[bytes], FactsT]) -> FactsT:
    """
    Return the facts that stand under the id *wanted*.

    Raises:
        StoreUnavailableError: what is stored cannot be read as facts, or is of somebody else.
    """
    try:
        facts = decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StoreUnavailableError("stored facts cannot be read, the database may be damaged") from error
    if facts.id != wanted:
        raise StoreUnavailableError("stored facts stand under another id, the database may be damaged")
    return facts


def read_addressees(connection: Connection, patients: Collection[str]) -> dict[str, Addressee]:
    """Return by what these patients are told; whoever cannot be read is not there, and keeps nobody else waiting."""
    wanted = [who for who in patients if indexed(who) is not None]
    known: dict[str, Addressee] = {}
    if not wanted:
        return known
    for id_, body in connection.execute(_PATIENTS, {"wanted": wanted}).all():
        with suppress(StoreUnavailableError):
            known[id_] = decode_body(id_, body, _read_addressee.decode)
    return known


def read_changes(connection: Connection, since: Position) -> tuple[Position, tuple[tuple[int, str], ...]]:
    """
    Return the head, and ``(seq, key)`` of the entries after *since*, oldest first.

    At most 1,000 entries; a reader sees from a gap before the head that some
    are missing.  None for another epoch, whose numbers mean nothing here.
    """
    head = read_position(connection)
    if head.epoch != since.epoch or head.seq <= since.seq:
        return head, ()
    rows = connection.execute(_CHANGES, {"since": since.seq})
    return head, tuple((seq, key) for seq, key in rows)


def read_patient_to_change(connection: Connection, patient: str) -> PatientFacts | None:
    """Return the newest facts of *patient*, which nobody else can change until the end; None for nobody by that id."""
    return _read_body(connection, _PATIENT_TO_CHANGE, patient, _read_patient)


def read_subject_to_change(connection: Connection, subject: str) -> SubjectFacts | None:
    """Return the newest facts of *subject* as ``read_patient_to_change`` does a patient's."""
    return _read_body(connection, _SUBJECT_TO_CHANGE, subject, _read_subject)


def find_document(connection: Connection, kind: str, wanted: str) -> str | None:
    """Return whose document it is; *kind* is one of ``DOCUMENTS``."""
    owner: str | None = connection.execute(_DOCUMENT, {"wanted_kind": kind, "wanted": wanted}).scalar_one_or_none()
    return owner


def list_directory(connection: Connection, after: str, before: str | None, limit: int) -> list[SubjectFacts]:
    """
    Return at most *limit* entries of the directory after *after*, and before *before* if given, by id.

    Raises:
        StoreUnavailableError: what is stored cannot be read as facts.
    """
    question = select(subject_facts.c.body).where(subject_facts.c.id > after)
    if before is not None:
        question = question.where(subject_facts.c.id < before)
    read_position(connection)  # refuses a standby
    try:
        rows = connection.execute(question.order_by(subject_facts.c.id).limit(limit))
        return [_read_subject.decode(body) for (body,) in rows]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StoreUnavailableError("stored facts cannot be read, the database may be damaged") from error


def has_facts(connection: Connection) -> bool:
    """Tell whether any subject or patient is on record."""
    anyone = select(exists(select(subject_facts.c.id)) | exists(select(patient_facts.c.id)))
    return bool(connection.execute(anyone).scalar_one())


def write_facts(
    connection: Connection, subjects: Iterable[SubjectFacts], patients: Iterable[PatientFacts]
) -> list[Touched]:
    """
    Replace these facts, the last of each id; return what was touched, in order.

    Raises:
        RequestError: a document's id is taken, by another patient or twice in one.
    """
    last_subjects = {subject.id: subject for subject in subjects}
    last_patients = {patient.id: patient for patient in patients}
    _replace(connection, subject_facts, last_subjects.values())
    _replace(connection, patient_facts, last_patients.values())
    _list_documents(connection, last_patients.values())
    touched = [(Kind.SUBJECT, f"subject:{id_}") for id_ in last_subjects]
    return touched + [(Kind.PATIENT, f"patient:{id_}") for id_ in last_patients]


def _replace(connection: Connection, table: Table, facts: Collection[SubjectFacts | PatientFacts]) -> None:
    if not facts:
        return
    fresh = postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
    replace = fresh.on_conflict_do_update(
        index_elements=[table.c.id], set_={"version": table.c.version + 1, "body": fresh.excluded.body}
    )
    rows = [{"id": item.id, "version": 1, "body": _encode(item)} for item in facts]
    connection.execute(replace, sorted(rows, key=itemgetter("id")))


def _list_documents(connection: Connection, patients: Collection[PatientFacts]) -> None:
    if patients:
        connection.execute(_UNLIST, [{"owner": id_} for id_ in sorted(patient.id for patient in patients)])
    listed = [
        {"id": item.id, "patient": patient.id, "kind": kind}
        for patient in patients
        for kind, field in DOCUMENTS.items()
        for item in getattr(patient, field)
    ]
    listed.sort(key=itemgetter("kind", "id"))
    fresh = postgresql.insert(document) if connection.dialect.name == "postgresql" else sqlite.insert(document)
    try:
        for statement, is_later in ((insert(document), False), (fresh.on_conflict_do_nothing(), True)):
            rows = [row for row in listed if (row["kind"] in _LISTED_LATER) == is_later]
            if rows:
                connection.execute(statement, rows)
    except IntegrityError:
        # Its words name the id, so they go no further.
        raise RequestError("the id of a consent, delegation or grant is already taken, expected a new one") from None


def advance_feed(connection: Connection, touched: list[Touched]) -> tuple[Position, tuple[str, ...]]:
    """
    Number the change and tell the feed; the last thing before a commit.

    Returns:
        The new head, and the keys in the order of their entries, the last one
        at the head.  More than 1,000 keys become the single entry ``ALL``.
    """
    if len(touched) > BULK:
        touched = [(Kind.EVERYTHING, ALL)]
    # Invariant: this row stays locked until the commit, so numbers are dense and in commit order.
    epoch, seq = connection.execute(_ADVANCE, {"steps": len(touched)}).one()
    if touched:
        first = seq - len(touched) + 1
        entries = [{"seq": number, "key": key, "kind": int(kind)} for number, (kind, key) in enumerate(touched, first)]
        connection.execute(insert(feed), entries)
        if seq // TRIM_EVERY != (first - 1) // TRIM_EVERY:
            _trim_some(connection, seq - FEED_KEPT)
    return Position(epoch, seq), tuple(key for _, key in touched)


def _trim_some(connection: Connection, until: int) -> None:
    """
    Take away entries up to number *until*, as many as may have come since the last time and some more.

    Whoever is further behind than what is kept finds a gap, and forgets everything.
    """
    connection.execute(delete(feed).where(feed.c.seq <= until, feed.c.seq > until - TRIM_MOST))


def renew_epoch(connection: Connection, epoch: str) -> Position:
    """Begin another epoch, in which no position from before means anything; return the head."""
    connection.execute(update(feed_head).values(epoch=epoch))
    return read_position(connection)


def trim_feed(connection: Connection) -> None:
    """Keep the newest 100,000 entries of the feed, however many there are; for a start."""
    connection.execute(delete(feed).where(feed.c.seq <= read_position(connection).seq - FEED_KEPT))
