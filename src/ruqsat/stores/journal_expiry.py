"""
Removing archived segments whose term is over, for good, by an entry in the journal that says so.

The entry comes first: which segments, and the hash that the next one follows.  What is
left then verifies from there.  A crash in between leaves segments that an entry says are
gone: they verify, and the next time removes them.
"""

from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from ruqsat.core.chain import RemovalEntry
from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.journaled import read_line
from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import SegmentPath, checkpoint_path, list_segments, read_segment, writer_of
from ruqsat.stores.journal_segment import DurableJournal


class Copies(Protocol):
    """The database that lines are shipped to, with its notices."""

    async def count_lines(self, writer: str, segment: int) -> int:
        """Return how many lines of a segment are there."""
        ...

    async def count_delivered(self, before: Instant) -> int:
        """Return how many delivered notices were settled before."""
        ...

    async def remove_delivered(self, before: Instant) -> int:
        """Remove them, and return how many."""
        ...


class Order(NamedTuple):
    """The decision to remove what is older than ``before``: how it is filed, which names nobody, and when it was."""

    before: Instant
    act: str
    at: str


class Expired(NamedTuple):
    """How many segments and notices were removed, the oldest segment that is left, and why it was left."""

    segments: int
    notices: int
    first: int
    because: str


async def expire_archive(
    folder: Path, archive: Path, copies: Copies, order: Order, *, key: SigningKey | None = None,
    disk: Disk | None = None,
) -> Expired:  # fmt: skip
    """
    Remove the archived segments of the journal in *folder* whose lines are all too old, oldest first, and notices.

    It takes over the folder for that time: the sidecar that writes there must be stopped.
    Notices that were not delivered are never removed.

    Raises:
        StoreLockedError: another writer has the folder.
        JournalError: a folder cannot be read or written; nothing is removed without its entry.
        StoreUnavailableError: the database did not answer; removing again goes on from there.
    """
    disk = disk or Disk()
    journal = DurableJournal.open(folder, key=key, disk=disk)
    try:
        going, because = await _over(archive, copies, order.before)
        notices = await copies.count_delivered(order.before)
        if going or notices:
            await journal.append(msgspec.json.encode(_entry(going, order)))
        for each in going:
            checkpoint_path(archive, each.number).unlink(missing_ok=True)
            each.path.unlink()
        disk.sync_dir(archive)
        removed = await copies.remove_delivered(order.before) if notices else 0
        left = list_segments(archive)
    except OSError as problem:
        raise JournalError(f"`{archive}` cannot be removed from: {problem.strerror}") from problem
    finally:
        await journal.aclose()
    return Expired(len(going), removed, left[0].number if left else 0, because)


def _entry(going: list[SegmentPath], order: Order) -> RemovalEntry:
    head = ""
    for each in going:
        scan = read_segment(each, prev=None, last=False)
        if scan is not None and scan.end is not None:
            head = scan.end.decode()
    first, last = (going[0].number, going[-1].number) if going else (0, 0)
    return RemovalEntry(order.at, order.act, first, last, head, render_instant(order.before))


async def _over(archive: Path, copies: Copies, before: Instant) -> tuple[list[SegmentPath], str]:
    """Return the segments to remove, and why the next one stays."""
    going: list[SegmentPath] = []
    for segment in list_segments(archive):
        said = [read_line(line) for line in segment.path.read_bytes().splitlines(keepends=True)]
        if any(each is None or each.moment >= before for each in said):
            return going, "not all of it is old enough, or readable"
        if said and await copies.count_lines(writer_of(segment.path), segment.number):
            return going, "lines of it are in the database: `ruqsat journal archive` removes them"
        going.append(segment)
    return going, "nothing is left in the archive"
