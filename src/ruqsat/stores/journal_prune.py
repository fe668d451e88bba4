"""Deleting old segments of a journal: only what is in the database, byte by byte, and never the last; telling so."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ruqsat.core.instant import Instant
from ruqsat.core.journaled import SEGMENT, read_line
from ruqsat.core.line import are_one_line
from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import SegmentPath, finished, list_segments, writer_of


class Shipments(Protocol):
    """Where lines are shipped to."""

    async def count_lines(self, writer: str, segment: int) -> int:
        """Return how many lines of a segment are there."""
        ...


class Rows(Shipments, Protocol):
    """The database that lines are shipped to, and its lines."""

    async def first_unlike(self, writer: str, segment: int, lines: Sequence[bytes]) -> tuple[int, bytes] | None:
        """Return which of the *lines* of a segment is not there byte for byte, and what is instead; None if all are."""
        ...


class Pruned(NamedTuple):
    """How many segments were deleted, the number of the oldest that is left, and why it was left."""

    segments: int
    first: int
    because: str


async def prune_journal(folder: Path, shipments: Rows, before: Instant, disk: Disk | None = None) -> Pruned:
    """
    Delete segments, oldest first, whose lines are all older than *before* and all in the database as they are here.

    It ends at the first that is not so: what is left has no gap.  It may be done while a
    journal is writing there; whoever stops it leaves nothing half done.

    Raises:
        JournalError: a line is not the same there, and both may be needed; segments before were deleted.
        StoreUnavailableError: the database did not say what it has; segments before were deleted.
        OSError: a file cannot be read or deleted.
    """
    segments, deleted, because = list_segments(folder), 0, "it is the last"
    try:
        for segment in finished(segments):
            reason = await reason_to_keep(segment, shipments, before)
            if reason:
                because = reason
                break
            await _refuse_unlike(segment, shipments)
            segment.path.unlink()
            deleted += 1
    finally:
        if deleted:
            (disk or Disk()).sync_dir(folder)
    return Pruned(deleted, segments[deleted].number if segments else 0, because)


async def _refuse_unlike(segment: SegmentPath, shipments: Rows) -> None:
    """Refuse a segment of which the database has another line: here may be the only one that is as it was written."""
    lines = segment.path.read_bytes().splitlines(keepends=True)
    unlike = await shipments.first_unlike(writer_of(segment.path), segment.number, lines)
    if unlike is None:
        return
    at, there = unlike
    if are_one_line(lines[at], there):
        raise JournalError(
            f"`{segment.path}`, line {at + 1}: erased in the database or here, expected in both; "
            "run `ruqsat journal erase` again for whom the act names, then prune"
        )
    raise JournalError(
        f"`{segment.path}`, line {at + 1}: the database has another line in its place, expected the same; one of them "
        "was altered: keep this file, and see by `ruqsat journal verify` whether it is as it was written"
    )


def refuse_pruned(folder: Path, since: Instant) -> None:
    """
    Refuse a folder that lacks what it once held of *since* or later: part of a journal is no evidence.

    Raises:
        JournalError: its older segments were deleted, or it cannot be read.
    """
    try:
        first = next((each for each in list_segments(folder) if each.path.stat().st_size), None)
        if first is None or first.number == 1:
            return
        with first.path.open("rb") as lines:
            dated = (said for line in lines if (said := read_line(line)) is not None and said.at)
            oldest = next(dated, None)
    except OSError as error:
        raise JournalError(f"`{folder}` cannot be read: {error.strerror}") from error
    if oldest is None or oldest.moment > since:
        begins = "" if oldest is None else f", {oldest.at}"
        raise JournalError(f"`{folder}` begins with segment {first.number}{begins}: earlier ones were deleted")


async def reason_to_keep(segment: SegmentPath, shipments: Shipments, before: Instant) -> str:
    """Return why a segment must stay, empty if it need not: it is old, and the database has every line of it."""
    lines = segment.path.read_bytes().splitlines(keepends=True)
    if not lines:
        return ""  # created, and never begun: it says nothing
    said = [read_line(line) for line in lines]
    header = said[0]
    if header is None or header.kind != SEGMENT or not header.writer:
        return "it does not begin with its header"
    if any(each is None or each.moment >= before for each in said):
        return "not all of it is old enough, or readable"
    if await shipments.count_lines(header.writer, segment.number) != len(lines):
        return "not all of it is in the database"
    return ""
