"""
Erasing a patient from the journals in the database (order §24), for good.

The lines stay, and with them their hashes; what names the patient is written over in each
of them, and gone from the columns that lines are found by, and from the notices.  Whom a
question alone names stands in no column: every line is looked at once for that.  The
hash of each erased part is kept: a line that is shipped later, or again from a folder that
was put back, arrives with these parts erased.  Such a hash tells nothing of its part, whose
salt is gone.

As in ``sql_facts``, each function takes a Connection inside a transaction.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, and_, delete, exists, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from ruqsat.core.instant import Instant
from ruqsat.core.journaled import GonePart, Journaled, Lines, Place, read_line
from ruqsat.core.line import blanked, erase_of, parts_of
from ruqsat.core.outgoing import DELIVERED, ERASED, SKIPPED
from ruqsat.core.personal import commitment
from ruqsat.stores.sql_rows import among
from ruqsat.stores.sql_schema import indexed, journal_beside, journal_entry, journal_erased, outbox

T = TypeVar("T")

AT_ONCE = 200
"""How many lines are erased in one transaction."""

READ_AT_ONCE = 1000
"""How many lines are looked at in one transaction."""

_ASKED_AT_ONCE = 500
_AT, _BESIDE = journal_entry.c, journal_beside.c
_ANY_ERASED = select(exists().select_from(journal_erased))
_WHICH_ERASED = select(journal_erased.c.part).where(among(journal_erased.c.part, "parts"))
_PLACE = ("writer", "segment", "number")
_ROW = (*_PLACE, "at", "entry", "line")
_IN_ORDER = tuple([_AT[name] for name in (*_PLACE, "at")])

LineKey = tuple[str, int, int, int]
"""Writer, segment, number and moment of a line."""

BEFORE_ALL: LineKey = ("", 0, 0, 0)


class ErasedRows(NamedTuple):
    """How many lines and notices were erased, by whom the lines were written, and how many lines could not be."""

    lines: int = 0
    notices: int = 0
    writers: frozenset[str] = frozenset()
    unerasable: int = 0

    def and_also(self, more: "ErasedRows") -> "ErasedRows":
        """Return both together."""
        return ErasedRows(
            self.lines + more.lines, self.notices + more.notices, self.writers | more.writers,
            self.unerasable + more.unerasable,
        )  # fmt: skip


def still_erased(connection: Connection, lines: Lines) -> Lines:
    """Return *lines* with the parts erased that were erased before, here or in the folder."""
    if not connection.execute(_ANY_ERASED).scalar_one():
        return lines
    hashes = {commitment(part).decode() for _, _, line in lines.lines for part in parts_of(line)}
    gone = _marked(connection, hashes)
    if not gone:
        return lines
    return msgspec.structs.replace(lines, lines=tuple([_blank(*each, gone) for each in lines.lines]))


def _blank(place: Place, said: Journaled, line: bytes, gone: Collection[bytes]) -> tuple[Place, Journaled, bytes]:
    blank, parts = blanked(line, lambda parts: [at for at, part in enumerate(parts) if commitment(part) in gone])
    return place, (read_line(blank) or said) if parts else said, blank


def _marked(connection: Connection, hashes: Collection[str]) -> frozenset[bytes]:
    return frozenset([each.encode() for each in connection.execute(_WHICH_ERASED, {"parts": hashes}).scalars()])


def _batched(all_of_them: list[T]) -> Iterator[list[T]]:
    return (all_of_them[at : at + _ASKED_AT_ONCE] for at in range(0, len(all_of_them), _ASKED_AT_ONCE))


def mark_erased(connection: Connection, parts: Iterable[bytes], act: str, now: Instant) -> None:
    """Remember that these parts, as they were, are erased by this act."""
    rows = [{"part": commitment(each).decode(), "act": act, "at": now} for each in parts]
    made = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    for some in _batched(rows):
        connection.execute(made(journal_erased).on_conflict_do_nothing(), some)


def erase_some(connection: Connection, patients: Collection[str], act: str, now: Instant) -> ErasedRows:
    """
    Erase these patients from the next lines that name them, with their notices.

    Returns:
        What was erased; nothing once there is nothing left.
    """
    return _erase_rows(connection, _next_rows(connection, patients), patients, act, now)


def erase_named(
    connection: Connection, patients: Collection[str], act: str, now: Instant, after: LineKey
) -> tuple[ErasedRows, LineKey | None]:
    """
    Erase these patients from those of the next lines behind *after* that name them where no column tells.

    Returns:
        What was erased, and behind which line to go on; None at the end.
    """
    columns, bound = [_AT[name] for name in _ROW], tuple_(*_IN_ORDER) > tuple_(*after)
    # The first bound says no more than the second; it is what an index understands.
    question = select(*columns).where(_AT.writer >= after[0], bound).order_by(*_IN_ORDER).limit(READ_AT_ONCE)
    rows = connection.execute(question).all()
    named = [row for row in rows if _names(bytes(row.line), patients)]
    erased = _erase_rows(connection, named, patients, act, now) if named else ErasedRows()
    last = rows[-1] if len(rows) == READ_AT_ONCE else None
    return erased, None if last is None else (last.writer, last.segment, last.number, last.at)


def _names(line: bytes, patients: Collection[str]) -> bool:
    try:
        return bool(erase_of(patients)(parts_of(line)))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False  # no line that we wrote: whoever altered it is told of elsewhere, and keeps no other from going


def _erase_rows(
    connection: Connection, rows: Sequence[Any], patients: Collection[str], act: str, now: Instant
) -> ErasedRows:
    done = [_erase_row(connection, row, patients, act, now) for row in rows]
    entries = {row.entry for row in rows} - {None}
    told = _forget_notices(connection, patients, entries, now)
    return ErasedRows(sum(done), told, frozenset([row.writer for row in rows]), len(done) - sum(done))


def by_line(parts: Collection[GonePart]) -> list[tuple[GonePart, ...]]:
    """Return *parts* put together by the line that they are of."""
    lines: dict[tuple[str, Place], list[GonePart]] = {}
    for each in parts:
        lines.setdefault((each.writer, each.place), []).append(each)
    return [tuple(each) for each in lines.values()]


def erase_parts(connection: Connection, lines: Collection[tuple[GonePart, ...]]) -> ErasedRows:
    """
    Erase parts that name no patient: a clinician's facts go with the last entry that was decided by them.

    Args:
        lines: The parts of a line each, as they were; they are marked as erased already.
    """
    done, writers = 0, set[str]()
    for going in lines:
        writer, place, _ = going[0]
        here = and_(_AT.writer == writer, _AT.segment == place.segment, _AT.number == place.number)
        line = connection.execute(select(_AT.line).where(here)).scalar_one_or_none()
        texts = {each.text for each in going}
        blank, parts = blanked(bytes(line or b""), partial(_among, texts))
        said = read_line(blank) if parts else None
        if said is not None:
            connection.execute(update(journal_entry).where(here).values(**journal_row(writer, place, said, blank)))
            done, writers = done + 1, writers | {writer}
    return ErasedRows(done, writers=frozenset(writers))


def _among(texts: Collection[bytes], parts: tuple[bytes, ...]) -> list[int]:
    return [at for at, part in enumerate(parts) if part in texts]


def _next_rows(connection: Connection, patients: Collection[str]) -> list[Any]:
    columns = [_AT[name] for name in _ROW]
    rows = list(connection.execute(select(*columns).where(_AT.patient.in_(patients)).limit(AT_ONCE)))
    if rows:
        return rows
    same = and_(*[_BESIDE[name] == _AT[name] for name in _PLACE])
    beside = select(*columns).distinct().join(journal_beside, same).where(_BESIDE.patient.in_(patients))
    return list(connection.execute(beside.limit(AT_ONCE)))


def _erase_row(connection: Connection, row: Any, patients: Collection[str], act: str, now: Instant) -> bool:
    """Erase a line; False if it could not be, as in the oldest format, where names stand in the chain itself."""
    blank, parts = blanked(bytes(row.line), erase_of(patients))
    mark_erased(connection, parts, act, now)
    said = read_line(blank)
    columns: dict[str, Any] = (
        {"line": blank} if said is None else journal_row(row.writer, Place(row.segment, row.number), said, blank)
    )
    if said is None or said.patient in patients:
        columns["patient"] = None  # of a line that cannot be erased: at least it is found by nobody's name
    here = and_(*[_AT[name] == getattr(row, name) for name in (*_PLACE, "at")])  # in the one month alone
    connection.execute(update(journal_entry).where(here).values(**columns))
    beside = and_(*[_BESIDE[name] == getattr(row, name) for name in _PLACE])
    connection.execute(delete(journal_beside).where(beside, _BESIDE.patient.in_(patients)))
    return bool(parts)


def _forget_notices(connection: Connection, patients: Collection[str], entries: Collection[str], now: Instant) -> int:
    """Take out of notices whom they name and what they tell; what waited has nothing to tell any more."""
    its = outbox.c
    about = or_(its.patient.in_(patients), and_(its.patient.is_(None), its.entry.in_(entries)))
    whole = or_(its.patient.is_not(None), its.recipient.is_not(None), func.length(its.body) > 0)
    nothing = {"patient": None, "recipient": None, "body": b"", "claim": None}
    told = connection.execute(update(outbox).where(about, whole, its.state == DELIVERED).values(**nothing)).rowcount
    over = nothing | {"state": SKIPPED, "reason": ERASED, "settled_at": func.coalesce(its.settled_at, now)}
    return told + connection.execute(update(outbox).where(about, whole, its.state != DELIVERED).values(**over)).rowcount


def journal_row(writer: str, place: Place, said: Journaled, line: bytes) -> dict[str, Any]:
    """Return a line as it stands in the table: what it is found by, and the line itself."""
    return {
        "writer": writer, "segment": place.segment, "number": place.number,
        "at": said.moment, "kind": said.kind, "entry": said.id or None,
        "patient": indexed(said.patient), "subject": indexed(said.subject), "org": indexed(said.org),
        "action": indexed(said.action), "data_class": indexed(said.data_class),
        "allowed": None if said.allowed is None else int(said.allowed), "reason": said.reason,
        "rule": indexed(said.rule), "basis": said.basis,
        "documents": " ".join([each for each in said.applied if indexed(each)]) or None,
        "degraded": int(said.degraded), "line": line,
    }  # fmt: skip
