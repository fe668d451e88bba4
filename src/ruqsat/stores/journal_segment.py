"""
The journal of decisions on disk: hash-linked lines in segments, written in groups.

The event loop gives every entry its place and its hash at once.  One thread writes
and syncs; while it has a group in hand, the entries that come meanwhile gather, and
are the next one.  So everyone who waits shares a sync, and one hop there and back.

After a failure everything that waits is refused, the journal goes back to the last
place known to be on stable storage, and goes on from there with the next entry.  It
never answers for bytes of which a sync has failed: such a file is left, and a new
segment follows its last durable line.
"""

import asyncio
import logging
import os
import secrets
import threading
from collections.abc import Awaitable, Callable, Generator
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Self

from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_file import Outcome, SegmentFile
from ruqsat.stores.journal_groups import Group, Groups, Place
from ruqsat.stores.journal_recovery import Recovered, create_folder, lock_folder, recover

SEGMENT_BYTES = 64 * 1024 * 1024
WAITING_BYTES = 16 * 1024 * 1024
FLUSH_SECONDS = 0.05

_CLOSED = "the journal is closed"
_BEHIND = "the disk is behind and the journal holds all it may"
_log = logging.getLogger("ruqsat.journal")


class _Journal:
    """
    What both journals share: the chain, the groups, the thread, failure and recovery.

    Everything belongs to the thread of the event loop, and to one loop; only
    ``_work`` runs elsewhere, and touches nothing but the file and the queue.
    """

    _syncs: bool
    _gathering_seconds: float

    def __init__(self, file: SegmentFile, lock: int, recovered: Recovered, segment_bytes: int) -> None:
        self.healthy = True
        self.last_error: str | None = None
        self.entries = 0
        self.groups = 0
        self.failed = 0
        self.cut_bytes = recovered.cut_bytes
        self.sync_seconds_observer: Callable[[float], None] = _ignore
        self._file = file
        self._lock = lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._dispatching: asyncio.Handle | None = None
        self._is_writing = False  # a group is in hand, or will be in a moment
        self._is_closed = False
        self._rested = asyncio.Event()
        because = "damage" if recovered.damaged else "start"
        self._kept = Place(recovered.segment, 0, recovered.hash, 0, because)
        self._groups = Groups(
            self._kept,
            writer=secrets.token_hex(16),
            segment_bytes=segment_bytes,
            cut_bytes=recovered.cut_bytes,
        )

    @classmethod
    def open(cls, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, disk: Disk | None = None) -> Self:
        """
        Take over *folder*, settle what a crash left there, and begin a new segment.

        A folder that is missing is made.  If the new segment cannot be begun (the
        disk is full, say), the journal opens unhealthy and tries again with every
        entry.  Damaged segments are left alone and logged; verification goes on
        reporting them.  Waits for the disk: open it before serving.

        Args:
            folder: For this journal alone.
            segment_bytes: A segment that has grown to this size is followed by a new one.
            disk: Another one than the real, for tests.

        Raises:
            StoreLockedError: another writer has the folder.
            JournalError: the folder cannot be made, read or settled.
        """
        disk = disk or Disk()
        lock = -1
        try:
            create_folder(folder, disk)
            lock = lock_folder(folder)
            recovered = recover(folder, disk)
        except OSError as problem:
            if lock >= 0:
                os.close(lock)
            raise JournalError(f"the journal at `{folder}` cannot be opened: {problem.strerror}") from problem
        journal = cls(SegmentFile(folder, disk, syncs=cls._syncs), lock, recovered, segment_bytes)
        journal._begin()
        return journal

    async def aclose(self) -> None:
        """
        Make everything accepted durable, then close the files and let others have the folder.

        What is appended later is refused.  May be called again, and never raises:
        whoever waits for an entry learns its fate from the entry's own future.
        """
        self._is_closed = True
        if self._dispatching is not None:
            self._dispatching.cancel()
            self._dispatch()
        while self._is_writing:
            self._rested.clear()
            await self._rested.wait()
        self._release()

    def _begin(self) -> None:
        self._groups.begin_segment()
        if (group := self._groups.hand_over()) is not None:
            self._conclude(group, self._file.commit(group.segment, group.lines))

    def _release(self) -> None:
        if self._lock < 0:
            return
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        problem = self._file.close()
        if problem is not None:
            self._note_failure(problem.strerror or str(problem))
        os.close(self._lock)
        self._lock = -1

    def _start(self) -> asyncio.AbstractEventLoop:
        """Bind to the running loop; done with the first entry, since opening needs no loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, args=(self._loop,), name="ruqsat-journal", daemon=True)
        self._thread.start()
        return self._loop

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (group := self._queue.get()) is not None:
            outcome = self._file.commit(group.segment, group.lines)
            try:
                loop.call_soon_threadsafe(self._settle, group, outcome)
            except RuntimeError:  # the loop was closed under us; nobody waits any more
                return

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write soon; until then others may join the group."""
        if self._gathering_seconds:
            self._dispatching = loop.call_later(self._gathering_seconds, self._dispatch)
        else:
            self._dispatching = loop.call_soon(self._dispatch)
        self._is_writing = True

    def _dispatch(self) -> None:
        """Hand the next group to the thread, or rest."""
        group: Group | None = None
        try:
            self._dispatching = None
            group = self._groups.hand_over()
            if group is not None:
                self._queue.put(group)
                return
        except Exception:  # noqa: BLE001 - nothing of it is written; whoever waits must not wait for ever
            self._give_up(group)
        self._is_writing = False
        self._rested.set()

    def _give_up(self, group: Group | None) -> None:
        """Refuse *group* and whatever else waits: it could not even be handed to the disk."""
        _log.exception("journal_group_not_handed_over")
        self._fail(group or Group(self._kept.segment), Outcome(MemoryError(), False, 0, 0.0))

    def _settle(self, group: Group, outcome: Outcome) -> None:
        try:
            self._conclude(group, outcome)
        except Exception:  # noqa: BLE001 - it is kept, and whoever waits is told otherwise: a denial, and nothing hangs
            _log.exception("journal_group_not_concluded")
            for waiter in group.waiters:
                _refuse(waiter, "whether the entry was made durable could not be told")
        try:
            self._go_on(outcome)
        except Exception:  # noqa: BLE001 - as above
            self._give_up(None)
            self._is_writing = False
            self._rested.set()

    def _go_on(self, outcome: Outcome) -> None:
        can_gather = self._gathering_seconds and not self._is_closed and not self._groups.has_sealed
        if can_gather and self._loop is not None:
            self._schedule(self._loop)
        else:
            self._dispatch()
        if outcome.sync_seconds:
            self.sync_seconds_observer(outcome.sync_seconds)

    def _conclude(self, group: Group, outcome: Outcome) -> None:
        if outcome.problem is not None:
            self._fail(group, outcome)
            return
        self._kept = group.place_after
        self._groups.waiting_bytes -= outcome.size
        self.entries += group.entries
        self.groups += group.entries > 0
        if not self.healthy:
            self.healthy = True
            _log.warning("journal_recovered segment=%d", group.segment)
        for waiter in group.waiters:
            if not waiter.done():  # a client that went away cancels its own waiting, nothing else
                waiter.set_result(None)

    def _fail(self, group: Group, outcome: Outcome) -> None:
        """Refuse *group* and everything linked after it, and go back to what is durable."""
        refused = [group, *self._groups.waiting()]
        if outcome.is_spoiled:
            self._kept = self._kept._replace(room=0, because="sync-failure")
        self._groups.return_to(self._kept)
        self.failed += sum(each.entries for each in refused)
        reason = getattr(outcome.problem, "strerror", None) or "no memory"
        self._note_failure(reason)
        for waiter in chain.from_iterable(each.waiters for each in refused):
            _refuse(waiter, f"an entry could not be made durable: {reason}")

    def _note_failure(self, reason: str) -> None:
        self.last_error = reason
        if self.healthy:
            self.healthy = False
            _log.error("journal_failed reason=%r", reason)


class DurableJournal(_Journal):
    """
    The journal whose word can be relied on: an entry is acknowledged once it is synced.

    Attributes:
        healthy: Whether the last group was kept; the next one that is sets it again.
        last_error: Why the last failure happened; stays after recovery.
        entries: How many entries were kept since opening.
        groups: In how many groups.
        failed: How many were refused.
        cut_bytes: How much of an unfinished line was cut when the journal was opened.
        sync_seconds_observer: Called on the event loop with the seconds of every sync.
    """

    _syncs = True
    _gathering_seconds = 0.0

    def append(self, entry: bytes) -> asyncio.Future[None]:
        """
        Append *entry*, a JSON object as msgspec encodes it; its place is the order of calls.

        The future is done when the entry, and every one before it, is on stable
        storage.  It may be cancelled or dropped: the entry is written all the same.
        A refused entry is not in the journal, nor will it be, unless the process
        dies on a disk that would not even cut it off again.

        Raises:
            ValueError: at once, if *entry* is not such an object.
            JournalError: through the future; the entry could not be made durable.
        """
        loop = self._loop or self._start()
        waiter: asyncio.Future[None] = loop.create_future()
        if self._is_closed:
            return _refuse(waiter, _CLOSED)
        if self._groups.waiting_bytes > WAITING_BYTES:
            self.failed += 1
            self._note_failure(_BEHIND)
            return _refuse(waiter, _BEHIND)
        self._groups.take(entry).waiters.append(waiter)
        if not self._is_writing:
            self._schedule(loop)
        return waiter


class LossyJournal(_Journal):
    """
    The journal that acknowledges at once and may lose: up to 100 ms of entries, more in a power cut.

    The files are those of ``DurableJournal`` and verify alike; so do its attributes
    read, with "accepted by the system" for "kept" and "lost" for "refused".
    """

    _syncs = False
    _gathering_seconds = FLUSH_SECONDS

    def append(self, entry: bytes) -> Awaitable[None]:
        """
        Accept *entry*, a JSON object as msgspec encodes it; what is returned is done already.

        Losing an entry later is not reported to its caller; it is counted in
        ``failed`` and makes the journal unhealthy.

        Raises:
            ValueError: at once, if *entry* is not such an object.
            JournalError: through what is returned, if the journal is closed.
        """
        loop = self._loop or self._start()
        if self._is_closed:
            return _refuse(loop.create_future(), _CLOSED)
        if self._groups.waiting_bytes > WAITING_BYTES:
            self.failed += 1
            self._note_failure(_BEHIND)
            return _ACCEPTED
        self._groups.take(entry)
        if not self._is_writing:
            self._schedule(loop)
        return _ACCEPTED


class _Accepted:
    """An awaitable that is done before anyone waits for it."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


_ACCEPTED = _Accepted()


def _refuse(waiter: asyncio.Future[None], reason: str) -> asyncio.Future[None]:
    if not waiter.done():
        waiter.set_exception(JournalError(reason))
        waiter.exception()  # counts as looked at: whoever drops the future has been told by the log
    return waiter


def _ignore(seconds: float) -> None:
    """Observe nothing."""
