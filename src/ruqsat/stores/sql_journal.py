"""
The journals of all sidecars in the database: shipped from their folders, each line once.

A line is named by its writer (drawn anew by each process that opens a journal), its
segment and its number.  Lines, how far they reach and the notices of what they hold are
one transaction.  What callers wrote stands whole in the line; a column that cannot hold a
word of it stays empty, for a line that is refused would hold up all that follow it.
Lines that do not follow what is there are refused, whether they came
before or come too early; whoever ships is told where to go on.

As in ``sql_facts``, each function takes a Connection inside a transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise

from sqlalchemy import Connection, func, select, union
from sqlalchemy.dialects import postgresql, sqlite

from ruqsat.core.addressee import Told
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.journaled import BEGINNING, DECISION, NOT_SENT, Journaled, Lines, Place, Shipped
from ruqsat.core.notice import Notice
from ruqsat.stores.sql_facts import read_addressees
from ruqsat.stores.sql_journal_erasure import journal_row, still_erased
from ruqsat.stores.sql_outbox import Close, add_notices, withdraw_notices
from ruqsat.stores.sql_rows import insert_rows
from ruqsat.stores.sql_schema import indexed, journal_beside, journal_cursor, journal_entry
from ruqsat.stores.turns import in_turns

MakeNotices = Callable[[Journaled, Mapping[str, Told]], Sequence[Notice]]
"""Says who is to be told of a line; pure, and called on another thread."""

SETTLE: Instant = 10 * SECOND
"""Nothing is delivered sooner: that an answer was never sent is written a moment after it."""


def ship_lines(connection: Connection, lines: Lines, make_notices: MakeNotices, close: Close, now: Instant) -> Shipped:
    """
    Take in *lines*, with the notices of what they hold, if they follow what is there.

    Returns:
        How far the writer's journal reaches now; no lines were taken if they do not follow.
    """
    if lines.after == BEGINNING:
        _begin_writer(connection, lines.writer)
    place = _read_place(connection, lines.writer)
    if not _follow(lines, place):
        return Shipped(place, 0, 0)
    lines = still_erased(connection, lines)
    _write_lines(connection, lines)
    told = _write_notices(connection, lines, make_notices, close, now)
    _move_place(connection, lines.writer, lines.end)
    return Shipped(lines.end, len(lines.lines), told)


def read_places(connection: Connection, writers: Collection[str]) -> dict[str, Place]:
    """Return how far the journals of these writers are shipped; none is there of whom nothing is."""
    found = connection.execute(select(journal_cursor).where(journal_cursor.c.writer.in_(writers)))
    return {row.writer: Place(row.segment, row.number) for row in found}


def count_lines(connection: Connection, writer: str, segment: int) -> int:
    """Return how many lines of a segment are here."""
    where = (journal_entry.c.writer == writer) & (journal_entry.c.segment == segment)
    return int(connection.execute(select(func.count()).select_from(journal_entry).where(where)).scalar_one())


def writers_about(connection: Connection, patient: str, since: Instant, until: Instant) -> frozenset[str]:
    """Return who wrote the lines about a patient of this time that are here, those beside others among them."""
    line, beside = journal_entry.c, journal_beside.c
    same = (beside.writer == line.writer) & (beside.segment == line.segment) & (beside.number == line.number)
    when = (line.at >= since) & (line.at < until)
    found = union(
        select(line.writer).where(line.patient == patient, when),
        select(line.writer).where(beside.patient == patient, same, when),
    )
    return frozenset(connection.execute(found).scalars())


def _follow(lines: Lines, place: Place) -> bool:
    """Tell whether these are the next lines: none before them left out, none of them here already."""
    return lines.after == place and all(
        before < after for before, after in pairwise((place, *[each for each, _, _ in lines.lines]))
    )


def _begin_writer(connection: Connection, writer: str) -> None:
    """Let there be a cursor to lock: of two who ship the first lines at once, one waits for the other."""
    made = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = made(journal_cursor).values(writer=writer, **BEGINNING._asdict())
    connection.execute(fresh.on_conflict_do_nothing())


def _read_place(connection: Connection, writer: str) -> Place:
    row = connection.execute(select(journal_cursor).where(journal_cursor.c.writer == writer).with_for_update())
    found = row.one_or_none()
    return BEGINNING if found is None else Place(found.segment, found.number)


def _move_place(connection: Connection, writer: str, place: Place) -> None:
    row = place._asdict()
    made = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = made(journal_cursor).values(writer=writer, **row)
    connection.execute(fresh.on_conflict_do_update(index_elements=[journal_cursor.c.writer], set_=row))


def _write_lines(connection: Connection, lines: Lines) -> None:
    insert_rows(connection, journal_entry, [journal_row(lines.writer, *each) for each in in_turns(lines.lines)])
    beside = [
        {"patient": patient, "writer": lines.writer, **place._asdict()}
        for place, said, _ in lines.lines
        if said.patients_beside
        for patient in said.patients
        if patient != said.patient and indexed(patient) is not None
    ]
    insert_rows(connection, journal_beside, beside)


def _write_notices(connection: Connection, lines: Lines, make_notices: MakeNotices, close: Close, now: Instant) -> int:
    said = [each for _, each, _ in lines.lines]
    unsent = {each.id for each in said if each.kind == NOT_SENT}
    decisions = [each for each in said if each.kind == DECISION and each.id not in unsent]
    known = read_addressees(connection, {who for each in decisions if _tells(each) for who in each.patients})
    notices = [notice for each in in_turns(decisions) for notice in make_notices(each, known)]
    withdraw_notices(connection, unsent, now)
    return add_notices(connection, notices, close, now, settle=SETTLE)


def _tells(entry: Journaled) -> bool:
    return bool(entry.allowed) and bool(entry.duties or entry.untold)
