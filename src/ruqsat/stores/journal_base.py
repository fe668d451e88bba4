"""
What both journals share: the chain, the groups, the thread, failure and recovery.

After a failure everything that waits is refused, the journal goes back to the last
place known to be on stable storage, and goes on from there with the next entry.  It
never answers for bytes of which a sync has failed: such a file is left, and a new
segment follows its last durable line.  What a full disk refuses of emergencies goes
into the reserve, as long as that lasts.
"""

import asyncio
import errno
import logging
import math
import os
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores.journal_checkpoints import CHECKPOINT_SECONDS, CheckpointWriter
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_file import Outcome, SegmentFile
from ruqsat.stores.journal_groups import Group, Groups, Place
from ruqsat.stores.journal_recovery import Recovered, create_folder, lock_folder, recover
from ruqsat.stores.journal_reserve import NO_SPACE, Reserve

SEGMENT_BYTES = 64 * 1024 * 1024

TURNS = 6
"""
So many turns of the event loop a small group waits for others.

Whoever was told a moment ago asks again in these turns.  Without them half of the callers are told while the other
half waits, and so it stays: twice the syncs, each with its changes of threads.
"""
FEW = 16
"""A group of this many lines waits for nobody: its sync costs each of them little."""
QUICK_SECONDS = 0.0005
"""Only for a disk that needs no longer for a sync the event loop itself may wait."""
SLOW_SECONDS = 0.01
"""A sync that takes so long is noticed by others, if the event loop waits for it."""
CALM_SECONDS = 10.0
"""How long after a sync that took ``SLOW_SECONDS`` the event loop itself waits for no disk."""
HANGING_SECONDS = 5.0
"""A disk that has had a group for so long hangs: until it answers, nothing more is begun that would wait for it."""

HANGING = "hanging"
_TROUBLES = dict.fromkeys(NO_SPACE, "full") | {
    errno.EROFS: "read_only", errno.EACCES: "forbidden", errno.EPERM: "forbidden", errno.ENOENT: "missing",
    errno.EMFILE: "no_descriptors", errno.ENFILE: "no_descriptors",
}  # fmt: skip

_log = logging.getLogger("ruqsat.journal")


class BaseJournal:
    """
    A journal but for its ``append``.

    Everything belongs to the thread of the event loop, and to one loop; only
    ``_work`` runs elsewhere, and touches nothing but the file and the queue.
    """

    _syncs: bool
    _gathering_seconds: float

    def __init__(self, file: SegmentFile, lock: int, recovered: Recovered, segment_bytes: int) -> None:
        self.healthy = True
        self.last_error: str | None = None
        self._trouble: str | None = None
        self.entries = 0
        self.groups = 0
        self.failed = 0
        self.cut_bytes = recovered.cut_bytes
        self.sync_seconds_observer: Callable[[float], None] = _ignore
        self.in_reserve = 0
        self.checkpoints: CheckpointWriter | None = None
        self._reserve: Reserve | None = None
        self._file = file
        self._lock = lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._queue: SimpleQueue[Group | None] = SimpleQueue()
        self._dispatching: asyncio.Handle | None = None
        self._last_sync = QUICK_SECONDS
        self._in_company = False  # the last group was of more than one: whoever asks alone waits for nobody
        self._calm_from = 0.0
        self._in_hand_since = math.inf
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
    def open(
        cls,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        key: SigningKey | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        reserve_bytes: int = 0,
        disk: Disk | None = None,
    ) -> Self:
        """
        Take over *folder*, settle what a crash left there, and begin a new segment.

        A folder that is missing is made.  If the new segment cannot be begun (the
        disk is full, say), the journal opens unhealthy and tries again with every
        entry.  Damaged segments are left alone and logged; verification goes on
        reporting them.  Waits for the disk: open it before serving.

        Args:
            folder: For this journal alone.
            segment_bytes: A segment that has grown to this size is followed by a new one.
            key: Who signs checkpoints; without, none are written, nor of a journal that may lose.
            checkpoint_seconds: How often the open segment is signed, if it has grown.
            reserve_bytes: So much of the disk is held for emergencies; 0: nothing, as in a journal that may lose.
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
        if key is not None and cls._syncs:
            journal.checkpoints = CheckpointWriter(folder, disk, key, checkpoint_seconds)
            journal.checkpoints.announce(recovered.segment + 1)
        if reserve_bytes and cls._syncs:
            journal._reserve = Reserve(folder, disk, reserve_bytes)
            journal._reserve.refill()
        journal._begin()
        if journal.checkpoints is not None:
            journal.checkpoints.start()
        return journal

    @property
    def has_reserve(self) -> bool:
        """Whether all the blocks are held that emergencies should have, of which none is used yet."""
        return self._reserve is not None and self._reserve.is_whole

    @property
    def is_hanging(self) -> bool:
        """Whether the disk has had a group for ``HANGING_SECONDS`` and says nothing, not even that it failed."""
        return self._loop is not None and self._loop.time() - self._in_hand_since > HANGING_SECONDS

    @property
    def trouble(self) -> str | None:
        """Why nothing is kept at the moment, as one word of a closed list; None if all is well."""
        return HANGING if self.is_hanging else self._trouble

    def status(self) -> dict[str, Any]:
        """Return how the journal fares, for operators."""
        newest = self.checkpoints.newest if self.checkpoints is not None else None
        place = self._reserve.place_after(self._kept.segment, self._file.segment) if self._reserve is not None else None
        return {
            "healthy": self.healthy, "hanging": self.is_hanging, "trouble": self.trouble,
            "entries": self.entries, "groups": self.groups,
            "reserve": {"ready": self.has_reserve, "entries": self.in_reserve, "left": place[1] if place else 0},
            "checkpoint": {"origin": newest.origin, "size": newest.size} if newest is not None else None,
        }  # fmt: skip

    @property
    def lasting(self) -> tuple[int, int]:
        """The segment that the chain ends in, and how many lines of it were kept; those before it were kept whole."""
        return self._kept.segment, self._kept.number

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
            outcome = self._file.commit(group.segment, group.lines)
            self._count_in(group, outcome)
            self._conclude(group, outcome)

    def _release(self) -> None:
        if self._lock < 0:
            return
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self.checkpoints is not None:
            self.checkpoints.close()
        for file in (self._file, self._reserve):
            problem = file.close() if file is not None else None
            if problem is not None:
                self._note_failure(problem.strerror or str(problem), trouble_of(problem))
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
            outcome = self._commit(group)
            self._count_in(group, outcome)  # before the loop may commit the next one itself: they are counted in order
            try:
                loop.call_soon_threadsafe(self._settle, group, outcome)
            except RuntimeError:  # the loop was closed under us; nobody waits any more
                return
            if self._reserve is not None and outcome.problem is None and not group.is_reserve:
                self._reserve.refill()

    def _commit(self, group: Group) -> Outcome:
        """Write *group*; what a failed one left in the reserve is cut off before anything follows it."""
        if self._reserve is None:
            return self._file.commit(group.segment, group.lines)
        if group.is_reserve:
            return self._reserve.commit(group.segment, group.lines)
        try:
            self._reserve.mend()
        except OSError as problem:
            return Outcome(problem, False, 0, 0.0)
        return self._file.commit(group.segment, group.lines)

    def _count_in(self, group: Group, outcome: Outcome) -> None:
        if self.checkpoints is not None and outcome.problem is None:
            self.checkpoints.take(group.segment, group.lines)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Write soon; until then others may join the group."""
        if self._gathering_seconds:
            self._dispatching = loop.call_later(self._gathering_seconds, self._dispatch)
        else:
            self._dispatching = loop.call_soon(self._wait_a_turn, loop, TURNS)
        self._is_writing = True

    def _wait_a_turn(self, loop: asyncio.AbstractEventLoop, left: int) -> None:
        """Let others join a small group, if there are any; then write."""
        with suppress(Exception):  # whatever fails here must not keep entries from the disk: they are written now
            if left and self._in_company and 0 < self._groups.gathered < FEW:
                self._dispatching = loop.call_soon(self._wait_a_turn, loop, left - 1)
                return
        self._dispatch()

    def _dispatch(self) -> None:
        """Hand the next group to the thread, or to the disk itself, or rest."""
        group: Group | None = None
        try:
            self._dispatching = None
            group = self._groups.hand_over()
            if group is not None:
                if self._loop is not None and self._is_soon_kept(group, self._loop):
                    self._keep_now(group, self._loop)
                else:
                    self._in_hand_since = math.inf if self._loop is None else self._loop.time()
                    self._queue.put(group)
                return
        except Exception:  # noqa: BLE001 - nobody was told of it; whoever waits must not wait for ever
            self._give_up(group)
        self._is_writing = False
        self._rested.set()

    def _is_soon_kept(self, group: Group, loop: asyncio.AbstractEventLoop) -> bool:
        """
        Tell whether the event loop itself may write and sync *group*, in the thread's place.

        It may for a single caller with nobody beside, if the disk has been quick for some time: the way to the thread
        and back costs such a caller as much as half a sync, and whoever comes meanwhile waits no longer than a sync.
        """
        is_alone = len(group.waiters) == 1 and not (group.headers or group.is_reserve or self._in_company)
        is_quick = self._last_sync < QUICK_SECONDS and loop.time() >= self._calm_from
        is_whole = self._reserve is None or self._reserve.is_whole  # else the thread sees to it
        return is_alone and is_quick and is_whole and not self._is_closed

    def _keep_now(self, group: Group, loop: asyncio.AbstractEventLoop) -> None:
        """Write *group* on the event loop; if anything but the disk fails, what was written of it is taken back."""
        before = self._file.kept
        try:
            outcome = self._file.commit(group.segment, group.lines)
            self._count_in(group, outcome)
            loop.call_soon(self._settle, group, outcome)
        except BaseException:
            self._file.go_back(before)
            raise

    def _give_up(self, group: Group | None) -> None:
        """Refuse *group* and whatever else waits: it could not even be handed to the disk."""
        self._in_hand_since = math.inf
        _log.exception("journal_group_not_handed_over")
        self._fail(group or Group(self._kept.segment), Outcome(MemoryError(), False, 0, 0.0))

    def _settle(self, group: Group, outcome: Outcome) -> None:
        self._in_hand_since = math.inf
        try:
            self._conclude(group, outcome)
        except Exception:  # noqa: BLE001 - it is kept, and whoever waits is told otherwise: a denial, and nothing hangs
            _log.exception("journal_group_not_concluded")
            for waiter in group.waiters:
                refuse(waiter, "whether the entry was made durable could not be told")
        try:
            self._go_on(outcome)
        except Exception:  # noqa: BLE001 - as above
            self._give_up(None)
            self._is_writing = False
            self._rested.set()

    def _go_on(self, outcome: Outcome) -> None:
        self._last_sync = outcome.sync_seconds or self._last_sync
        if self._loop is not None and (outcome.problem is not None or outcome.sync_seconds > SLOW_SECONDS):
            self._calm_from = self._loop.time() + CALM_SECONDS
        if self._loop is None or self._is_closed or self._groups.has_sealed:
            self._dispatch()
        elif self._gathering_seconds:
            self._schedule(self._loop)
        else:
            self._wait_a_turn(self._loop, TURNS)
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
        self._in_company = group.entries > 1
        self.in_reserve += group.entries if group.is_reserve else 0
        if not self.healthy and not group.is_reserve:
            self.healthy, self._trouble = True, None
            _log.warning("journal_recovered segment=%d", group.segment)
        for waiter in group.waiters:
            if not waiter.done():  # a client that went away cancels its own waiting, nothing else
                waiter.set_result(None)

    def _fail(self, group: Group, outcome: Outcome) -> None:
        """Refuse *group* and everything linked after it, but for emergencies, and go back to what is durable."""
        refused = [group, *self._groups.waiting()]
        if outcome.is_spoiled:
            self._kept = self._kept._replace(room=0, because="sync-failure")
        if group.is_reserve and group.headers and self._reserve is not None and not self._reserve.is_ready:
            # The reserve has that segment's name and no line: the chain passes it by, as one that was never begun.
            self._kept = self._kept._replace(segment=group.segment, number=0, room=0)
        self._groups.return_to(self._kept)
        reason = getattr(outcome.problem, "strerror", None) or "no memory"
        self._note_failure(reason, trouble_of(outcome.problem))
        rescued = self._rescue(group, refused, outcome)
        self.failed += sum(each.entries for each in refused) - len(rescued)
        for waiter in chain.from_iterable(each.waiters for each in refused):
            if waiter not in rescued:
                refuse(waiter, f"an entry could not be made durable: {reason}")

    def _rescue(self, failed: Group, refused: list[Group], outcome: Outcome) -> frozenset[asyncio.Future[None]]:
        """If the disk is full, link those emergencies of *refused* that fit into the reserve; return who waits on."""
        urgent = [each for group in refused for each in group.urgent]
        number = getattr(outcome.problem, "errno", None)
        is_hopeless = failed.is_reserve or number not in NO_SPACE or self._file.is_dirty
        if self._reserve is None or is_hopeless or not urgent:
            return frozenset()
        place = self._reserve.place_after(self._kept.segment, self._file.segment)
        if place is None:
            return frozenset()
        rescued = self._groups.fall_back(*place, urgent).waiters
        if not rescued:
            self._groups.return_to(self._kept)
        return frozenset(rescued)

    def _note_failure(self, reason: str, trouble: str) -> None:
        self.last_error, self._trouble = reason, trouble
        if self.healthy:
            self.healthy = False
            _log.error("journal_failed reason=%r", reason)


def trouble_of(problem: OSError | MemoryError | None) -> str:
    """Return the word for what a commit failed by; a disk that fails in any other way is broken."""
    return _TROUBLES.get(problem.errno or 0, "broken") if isinstance(problem, OSError) else "no_memory"


def refuse(waiter: asyncio.Future[None], reason: str) -> asyncio.Future[None]:
    """Let *waiter* learn that its entry is not kept, and return it."""
    if not waiter.done():
        waiter.set_exception(JournalError(reason))
        waiter.exception()  # counts as looked at: whoever drops the future has been told by the log
    return waiter


def _ignore(seconds: float) -> None:
    """Observe nothing."""
