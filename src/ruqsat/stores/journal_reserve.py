"""
The reserve: blocks of the disk that are held for emergencies.

``journal.reserve`` is an empty file with blocks behind its end that are already its own.
When the disk is full, it becomes the next segment, by its name alone, and entries of
emergencies are written into these blocks; nothing else is.  When there is space again
the journal goes on in an ordinary segment, and a new reserve is made.
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
        self._path = folder / RESERVE_NAME
        self._looked_at = float("-inf")
        self._is_missed = False

    def refill(self) -> None:
        """Make a reserve if there is none; if that fails, try again a second later at the earliest."""
        if self.is_ready or time.monotonic() - self._looked_at < REFILL_SECONDS:
            return
        try:
            self._give_back()
            self._disk.allocate(self._path, self._size)
            self._disk.sync_dir(self._folder)
            self.is_ready, self._is_missed = True, False
        except OSError as problem:
            if not self._is_missed:
                _log.warning("journal_without_reserve reason=%r", problem.strerror)
            self._is_missed = True
        self._looked_at = time.monotonic()

    def segment_after(self, kept: int, others: int) -> int | None:
        """
        Return which segment an emergency is written to now; None if nothing is left to write it to.

        Args:
            kept: The segment that the chain ends in.
            others: The newest segment that has a file.
        """
        if self.segment and kept == self.segment and not self._is_spoiled:
            return kept
        return max(kept, others) + 1 if self.is_ready else None

    def _give_back(self) -> None:
        """Let go of what the segment that the reserve has become did not use, and of the segment."""
        if self._descriptor >= 0:
            self._disk.truncate(self._descriptor, self._kept)
            os.close(self._descriptor)
            self._descriptor, self._segment = -1, 0

    def _make(self, path: Path) -> int:
        self._disk.rename(self._path, path)
        self.is_ready = False
        _log.error("journal_reserve_taken file=%s", path.name)
        return self._disk.open(path)

    def _append(self, data: bytes) -> None:
        if self._kept + len(data) > self._size:
            raise OSError(errno.ENOSPC, "the reserve is used up")
        super()._append(data)
