"""
The open end of a journal: one file that groups of lines are written to and synced.

It belongs to one thread at a time, waits for the disk, and keeps one promise:
what a commit did not make durable is cut off before anything else is written.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import segment_path


class Outcome(NamedTuple):
    """
    How a commit ended.

    Attributes:
        problem: Why nothing of the group was kept; None if all of it was.
        is_spoiled: A sync failed over bytes that share the file with durable ones,
            so the next group must go to a new segment.
        size: Length of the group in bytes.
        sync_seconds: How long the disk took to sync.
    """

    problem: OSError | MemoryError | None
    is_spoiled: bool
    size: int
    sync_seconds: float


class SegmentFile:
    """The last segment, open for appending."""

    def __init__(self, folder: Path, disk: Disk, *, syncs: bool) -> None:
        self._folder = folder
        self._disk = disk
        self._syncs = syncs
        self._descriptor = -1
        self._segment = 0
        self._kept = 0
        self._name_lasts = False
        self._is_dirty = False
        self._is_spoiled = False
        self._sync_seconds = 0.0

    @property
    def segment(self) -> int:
        """The number of the segment that is open, or was tried last; 0 before the first."""
        return self._segment

    @property
    def is_dirty(self) -> bool:
        """Whether the remains of a failed group could not be cut off yet."""
        return self._is_dirty

    @property
    def kept(self) -> int:
        """How many bytes of the open segment are kept."""
        return self._kept

    def go_back(self, kept: int) -> None:
        """Have whatever the open segment holds beyond *kept* cut off before anything else is written."""
        self._kept, self._is_dirty = kept, True

    def commit(self, segment: int, lines: Iterable[bytes]) -> Outcome:
        """
        Write *lines* to *segment*, creating it first if it is a new one, and sync them.

        Never raises for what the disk does: a group that is not durable has been
        cut off again, or will be before the next one is written.  Without syncs,
        "durable" reads "accepted by the system".
        """
        size, self._sync_seconds = 0, 0.0
        try:
            data = b"".join(lines)
            size = len(data)
            self.mend()
            self._turn_to(segment)
            self._append(data)
        except (OSError, MemoryError) as problem:
            with suppress(OSError):
                self.mend()
            return Outcome(problem, self._is_spoiled, size, self._sync_seconds)
        return Outcome(None, False, size, self._sync_seconds)

    def mend(self) -> None:
        """
        Cut off what a failed commit left behind.

        Raises:
            OSError: it is there still.
        """
        if self._is_dirty:
            self._disk.truncate(self._descriptor, self._kept)
            self._sync()
            self._is_dirty = False

    def close(self) -> OSError | None:
        """Sync what is not synced yet and close; return what went wrong, if anything did."""
        if self._descriptor < 0:
            return None
        try:
            self.mend()
            if not self._syncs:
                self._sync()
        except OSError as problem:
            return problem
        finally:
            os.close(self._descriptor)
            self._descriptor = -1
        return None

    def _turn_to(self, segment: int) -> None:
        """Make *segment* the open one, its name on stable storage."""
        if segment != self._segment:
            if self._descriptor >= 0 and not self._syncs:
                self._sync()  # a later segment must not outlive the end of this one
            descriptor = self._make(segment_path(self._folder, segment))
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor, self._segment, self._kept = descriptor, segment, 0
            self._name_lasts, self._is_spoiled = False, False
        if not self._name_lasts:
            self._disk.sync_dir(self._folder)
            self._name_lasts = True

    def _make(self, path: Path) -> int:
        return self._disk.open(path, create=True)

    def _append(self, data: bytes) -> None:
        self._is_dirty = True
        rest = memoryview(data)
        while rest:
            rest = rest[self._disk.write(self._descriptor, rest) :]
        if self._syncs:
            self._sync()
        self._kept += len(data)
        self._is_dirty = False

    def _sync(self) -> None:
        began = perf_counter()
        try:
            self._disk.datasync(self._descriptor)
        except OSError:
            # The system may have thrown the bytes away and will not fail again, so the file
            # is left.  If nothing durable is in it, cutting it to nothing is enough.
            self._is_spoiled = self._is_spoiled or self._kept > 0
            raise
        self._sync_seconds = perf_counter() - began
