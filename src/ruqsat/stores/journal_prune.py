"""Deleting old segments of a journal: only what is in the database, line by line, and never the last; telling so."""

from pathlib import Path
from typing import NamedTuple, Protocol

from ruqsat.core.instant import Instant
from ruqsat.core.journaled import SEGMENT, read_line
from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import SegmentPath, finished, list_segments


class Shipments(Protocol):
    """Where lines are shipped to."""

    async def count_lines(self, writer: str, segment: int) -> int:
        """Return how many lines of a segment are there."""
        ...


class Pruned(NamedTuple):
    """How many segments were deleted, the number of the oldest that is left, and why it was left."""

    segments: int
    first: int
    because: str


async def prune_journal(folder: Path, shipments: Shipments, before: Instant, disk: Disk | None = None) -> Pruned:
    """
    Delete segments, oldest first, whose lines are all older than *before* and all in the database.

    It ends at the first that is not so: what is left has no gap.  It may be done while a
    journal is writing there; whoever stops it leaves nothing half done.

    Raises:
        StoreUnavailableError: the database did not say what it has; segments before were deleted.
        OSError: a file cannot be read or deleted.
    """
    segments, deleted, because = list_segments(folder), 0, "it is the last"
    for segment in finished(segments):
        reason = await reason_to_keep(segment, shipments, before)
        if reason:
            because = reason
            break
        segment.path.unlink()
        deleted += 1
    if deleted:
        (disk or Disk()).sync_dir(folder)
    return Pruned(deleted, segments[deleted].number if segments else 0, because)


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
