"""
The reserve: blocks of the disk that are held for emergencies.

``journal.reserve`` is an empty file with blocks behind its end that are already its own.
When the disk is full, it becomes the next segment, by its name alone, and entries of
emergencies are written into these blocks; nothing else is.  When there is space again
the journal goes on in an ordinary segment, and a new reserve is made.

A process that stops leaves the blocks to the next one, which makes its reserve of what is
left of them: of a full disk it gets less than the whole, and takes the rest when there is space.
"""

import errno
import logging
import os
import time
from pathlib import Path

from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_file import SegmentFile
from ruqsat.stores.journal_folder import RESERVE_NAME

REFILL_SECONDS = 1.0
SMALLEST = 4096
"""Less than this is no reserve."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})

_log = logging.getLogger("ruqsat.journal")


class Reserve(SegmentFile):
    """
    The reserve, and the segment that it has become.

    Attributes:
        is_ready: There is a reserve that nothing was written into yet.
    """

    def __init__(self, folder: Path, disk: Disk, size: int) -> None:
        super().__init__(folder, disk, syncs=True)
        self.is_ready = False
        self._size = size
        self._held = 0
        self._path = folder / RESERVE_NAME
        self._looked_at = float("-inf")
        self._is_missed = False

    @property
    def is_whole(self) -> bool:
        """Whether the reserve is ready, and as large as it should be."""
        return self.is_ready and self._held == self._size

    def refill(self) -> None:
        """Make a whole reserve if there is none; if that fails, try again a second later at the earliest."""
        if self.is_whole:
            return
        try:
            self._give_back()
            if time.monotonic() - self._looked_at < REFILL_SECONDS:
                return
            if not self.is_ready or self._disk.free(self._folder) >= self._size - self._held:
                self._hold()
        except OSError as problem:
            self._miss(problem.strerror)
        self._looked_at = time.monotonic()

    def place_after(self, kept: int, others: int) -> tuple[int, int] | None:
        """
        Return which segment an emergency is written to now, and for how many bytes; None if nothing is left.

        Args:
            kept: The segment that the chain ends in.
            others: The newest segment that has a file.
        """
        # Where nothing was kept there is no header either: the chain has passed that segment by.
        if self._kept and kept == self.segment and not self._is_spoiled:
            return kept, self._held - self._kept
        return (max(kept, others) + 1, self._held) if self.is_ready else None

    def _hold(self) -> None:
        """Hold the blocks, and if there are not so many a half of them, or a half of that."""
        self.is_ready, self._held = False, self._size
        while not self.is_ready:
            try:
                self._disk.allocate(self._path, self._held)
                self._disk.sync_dir(self._folder)
                self.is_ready = True
            except OSError as problem:
                self._held //= 2
                if problem.errno not in NO_SPACE or self._held < SMALLEST:
                    raise
        if self.is_whole:
            self._is_missed = False
        else:
            self._miss(f"only {self._held} bytes are left")

    def _miss(self, reason: str | None) -> None:
        if not self._is_missed:
            _log.warning("journal_without_reserve reason=%r", reason)
        self._is_missed = True

    def _give_back(self) -> None:
        """Let go of what the segment that the reserve has become did not use, and of the segment."""
        if self._descriptor >= 0:
            self._disk.truncate(self._descriptor, self._kept)
            os.close(self._descriptor)
            self._descriptor, self._segment, self._kept = -1, 0, 0

    def _make(self, path: Path) -> int:
        self._disk.rename(self._path, path)
        self.is_ready = False
        _log.error("journal_reserve_taken file=%s", path.name)
        return self._disk.open(path)

    def _append(self, data: bytes) -> None:
        if self._kept + len(data) > self._held:
            raise OSError(errno.ENOSPC, "the reserve is used up")
        super()._append(data)
