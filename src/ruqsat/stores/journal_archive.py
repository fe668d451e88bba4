"""
Archiving segments of a journal: moved out of the folder once they are old, shipped and signed, whole and verified.

An archive is a folder of the same form: segments and their checkpoints.  It belongs to
one journal, and each segment follows the one before it there.  Nothing is deleted before
its copy lasts and was read back; whoever stops it leaves a segment in both places, and
the next time goes on from there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ruqsat.core.chain import SegmentScan
from ruqsat.core.checkpoint import read_checkpoint
from ruqsat.core.instant import Instant
from ruqsat.core.signed_note import split_note
from ruqsat.errors import JournalError
from ruqsat.stores.journal_claims import Tally
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import (
    SegmentPath,
    checkpoint_path,
    finished,
    list_segments,
    read_segment,
    segment_path,
    writer_of,
)
from ruqsat.stores.journal_prune import Shipments, reason_to_keep
from ruqsat.stores.journal_recovery import create_folder


class Archived(NamedTuple):
    """How many segments were archived, the number of the oldest that is left, and why it was left."""

    segments: int
    first: int
    because: str


class ArchivedRows(NamedTuple):
    """How many rows of archived segments were removed, and how many stay: they are not as they were archived."""

    removed: int
    kept: int


class Copies(Shipments, Protocol):
    """The database that lines are shipped to."""

    async def remove_lines(self, writer: str, segment: int, archived: Sequence[bytes]) -> int:
        """Remove the lines of a segment that are byte for byte those *archived*; return how many."""
        ...


async def archive_journal(
    folder: Path, archive: Path, shipments: Shipments, before: Instant, *, signed: bool = True, disk: Disk | None = None
) -> Archived:
    """
    Move segments into *archive*, oldest first, whose lines are all older than *before*, shipped, and signed.

    It ends at the first that is not so, and never takes the last.  A journal may be writing there.

    Args:
        signed: A checkpoint must vouch for each to its end; not so in a journal that has no key.

    Raises:
        JournalError: the archive is another journal's, or a copy is not what was written.
        StoreUnavailableError: the database did not say what it has; segments before are archived.
        OSError: a file cannot be read, written or deleted.
    """
    disk, because, done = disk or Disk(), "it is the last", 0
    create_folder(archive, disk)
    segments = list_segments(folder)
    for segment in finished(segments):
        if not _is_there(segment, archive):
            because = await reason_to_keep(segment, shipments, before) or _unfit(segment, archive, signed=signed)
            if because:
                break
            because = "it is the last"
            _copy(segment, archive, disk)
        _remove(segment, disk)
        done += 1
    return Archived(done, segments[done].number if segments else 0, because)


async def remove_archived_rows(folder: Path, archive: Path, copies: Copies) -> ArchivedRows:
    """
    Remove from the database whatever is archived, not in the folder any more, and the same in both.

    Raises:
        StoreUnavailableError: the database did not answer; asking again goes on from there.
        OSError: a file cannot be read.
    """
    here = {each.number for each in list_segments(folder)}
    removed = kept = 0
    for segment in list_segments(archive):
        writer = writer_of(segment.path)
        if segment.number in here or not writer or not await copies.count_lines(writer, segment.number):
            continue
        lines = segment.path.read_bytes().splitlines(keepends=True)
        removed += await copies.remove_lines(writer, segment.number, lines)
        kept += await copies.count_lines(writer, segment.number)
    return ArchivedRows(removed, kept)


def _is_there(segment: SegmentPath, archive: Path) -> bool:
    """
    Tell whether the archive has this segment already, byte for byte.

    Raises:
        JournalError: it has another one by that number.
    """
    copy = segment_path(archive, segment.number)
    if not copy.exists():
        return False
    if copy.read_bytes() != segment.path.read_bytes():
        raise JournalError(f"`{copy}` is not the segment of that number: the archive is of another journal, or altered")
    return True


def _unfit(segment: SegmentPath, archive: Path, *, signed: bool) -> str:
    """Return why a segment cannot be archived, empty if it can; raises JournalError if it does not follow."""
    before = list_segments(archive)
    if before and before[-1].number != segment.number - 1:
        last = before[-1].number
        raise JournalError(f"`{archive}` ends with segment {last}, and segment {segment.number} does not follow it")
    tally = Tally(())
    scan = read_segment(segment, prev=_end_of(before), last=False, each=tally.add)
    if scan is None:
        return "it cannot be read"
    if scan.findings:
        return f"it is not as it was written: {scan.findings[0].code}"
    if signed and tally.size and not _is_signed(segment, tally):
        return "no checkpoint vouches for it to its end (`ruqsat journal sign`; a journal without a key: --unsigned)"
    return ""


def _end_of(before: list[SegmentPath]) -> bytes | None:
    """Return the last hash of these segments; None where nothing is known."""
    for each in reversed(before):
        scan: SegmentScan | None = read_segment(each, prev=None, last=False)
        if scan is not None and scan.end is not None:
            return scan.end
    return None


def _is_signed(segment: SegmentPath, tally: Tally) -> bool:
    try:
        note = checkpoint_path(segment.path.parent, segment.number).read_bytes().decode()
        claim = read_checkpoint(split_note(note)[0])
    except (OSError, ValueError):
        return False
    return (claim.segment, claim.size, claim.root) == (segment.number, tally.size, tally.whole())


def _copy(segment: SegmentPath, archive: Path, disk: Disk) -> None:
    """Copy a segment and its checkpoint, the checkpoint first: what it vouches for is never there without it."""
    note = checkpoint_path(segment.path.parent, segment.number)
    pairs = [(note, checkpoint_path(archive, segment.number))] if note.exists() else []
    for source, copy in [*pairs, (segment.path, segment_path(archive, segment.number))]:
        text = source.read_bytes()
        disk.replace(copy, text)
        disk.sync_dir(archive)
        if copy.read_bytes() != text:
            copy.unlink()
            raise JournalError(f"`{copy}` could not be written whole; nothing was deleted")


def _remove(segment: SegmentPath, disk: Disk) -> None:
    folder = segment.path.parent
    checkpoint_path(folder, segment.number).unlink(missing_ok=True)
    segment.path.unlink()
    disk.sync_dir(folder)
