"""
The journal of decisions on disk: hash-linked lines in segments, written in groups.

The event loop gives every entry its place and its hash at once.  One thread writes
and syncs; while it has a group in hand, the entries that come meanwhile gather, and
are the next one.  So everyone who waits shares a sync, and one hop there and back.
A small group lets the loop turn a few times before it goes.
"""

import asyncio
from collections.abc import Iterable

from ruqsat.core.kept_facts import Known
from ruqsat.stores.journal_base import HANGING, BaseJournal, refuse
from ruqsat.stores.journal_groups import Urgent

WAITING_BYTES = 16 * 1024 * 1024
FLUSH_SECONDS = 0.05

_CLOSED = "the journal is closed"
_HANGING = "the disk does not answer"
_BEHIND = "the disk is behind and the journal holds all it may"


class DurableJournal(BaseJournal):
    """
    The journal whose word can be relied on: an entry is acknowledged once it is synced.

    Attributes:
        healthy: Whether the last group was kept; the next one that is sets it again.
        last_error: Why the last failure happened; stays after recovery.
        entries: How many entries were kept since opening.
        groups: In how many groups.
        failed: How many were refused.
        cut_bytes: How much of an unfinished line was cut when the journal was opened.
        in_reserve: How many entries of emergencies were kept in the reserve.
        checkpoints: What signs, if a key was given.
        sync_seconds_observer: Called on the event loop with the seconds of every sync.
    """

    _syncs = True
    _gathering_seconds = 0.0

    def append(
        self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False,
        facts: Iterable[Known | None] = (),
    ) -> asyncio.Future[None]:  # fmt: skip
        """
        Append *entry*, a JSON object as msgspec encodes it; its place is the order of calls.

        The future is done when the entry, and every one before it, is on stable
        storage.  It may be cancelled or dropped: the entry is written all the same.
        A refused entry is not in the journal, nor will it be, unless the process
        dies on a disk that would not even cut it off again.

        Args:
            personal: What of it names people: JSON objects, each of which can be erased for itself.
            emergency: When the disk is full it may be kept in the reserve, as long as that lasts.
            facts: What it was decided by: kept before it, unless it stands in this segment already.  Of what goes
                into the reserve they are not kept again.

        Raises:
            ValueError: at once, if *entry* or a part is not such an object.
            JournalError: through the future; the entry could not be made durable.
        """
        loop = self._loop or self._start()
        waiter: asyncio.Future[None] = loop.create_future()
        if self._is_closed:
            return refuse(waiter, _CLOSED)
        if self._groups.waiting_bytes > WAITING_BYTES or self.is_hanging:
            self.failed += 1
            reason, trouble = (_HANGING, HANGING) if self.is_hanging else (_BEHIND, "behind")
            self._note_failure(reason, trouble)
            return refuse(waiter, reason)
        group = self._groups.take(entry, personal, facts)
        group.waiters.append(waiter)
        if emergency:
            group.urgent.append(Urgent(entry, personal, waiter))
        if not self._is_writing:
            self._schedule(loop)
        return waiter


class LossyJournal(BaseJournal):
    """
    The journal that acknowledges at once and may lose: up to 100 ms of entries, more in a power cut.

    The files are those of ``DurableJournal`` and verify alike; so do its attributes
    read, with "accepted by the system" for "kept" and "lost" for "refused".
    """

    _syncs = False
    _gathering_seconds = FLUSH_SECONDS

    def append(
        self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False,
        facts: Iterable[Known | None] = (),
    ) -> asyncio.Future[None]:  # fmt: skip
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
            return refuse(loop.create_future(), _CLOSED)
        if self._groups.waiting_bytes > WAITING_BYTES:
            self.failed += 1
            self._note_failure(_BEHIND, "behind")
            return self._accepted
        self._groups.take(entry, personal, facts)
        if not self._is_writing:
            self._schedule(loop)
        return self._accepted

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = super()._start()
        self._accepted: asyncio.Future[None] = loop.create_future()
        self._accepted.set_result(None)
        return loop
