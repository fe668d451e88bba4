"""
Writing checkpoints: what the journal has made durable is signed, off the way of decisions.

The journal's thread tells of every line after those who waited for it were told.  A
thread of its own signs: when a segment ends, at intervals, and on the stop.  What was
signed once is never contradicted: a segment whose lines do not bear out the checkpoint
that lies beside it is not signed again.
"""

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ruqsat.core.checkpoint import Checkpoint, leaf_of, origin_of, read_checkpoint
from ruqsat.core.line import hash_of
from ruqsat.core.merkle import Frontier
from ruqsat.core.signed_note import SigningKey, split_note
from ruqsat.stores.journal_claims import Tally
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import SegmentPath, checkpoint_path, list_segments, read_segment

CHECKPOINT_SECONDS = 60.0
SETTLED_BACK = 8
"""How many segments before the new one are looked at for one that a killed process left unsigned."""

_log = logging.getLogger("ruqsat.journal")


class CheckpointWriter:
    """
    Signs the segments of one journal.

    Attributes:
        written: How many checkpoints were written.
        failed: How many could not be; each is tried again.
        newest: The newest that was written.
    """

    def __init__(self, folder: Path, disk: Disk, key: SigningKey, seconds: float = CHECKPOINT_SECONDS) -> None:
        self.written = 0
        self.failed = 0
        self.newest: Checkpoint | None = None
        self._folder, self._disk, self._key, self._seconds = folder, disk, key, seconds
        self._lock = threading.Lock()  # over the four below, which the journal's thread moves on
        self._segment = 0
        self._tree = Frontier()
        self._signed_size = 0
        self._ended: dict[int, Checkpoint] = {}
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to sign at intervals; first whatever a killed process before this one left unsigned."""
        self._thread = threading.Thread(target=self._work, name="ruqsat-checkpoints", daemon=True)
        self._thread.start()

    def take(self, segment: int, lines: Iterable[bytes]) -> None:
        """Count *lines* of *segment*, which are on stable storage, in."""
        with self._lock:
            if segment != self._segment:
                self._end_segment(segment)
            for line in lines:
                self._tree.add(leaf_of(hash_of(line)))

    def close(self) -> None:
        """Sign what is left and stop; never raises for what the disk does."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self.sign_due()

    def sign_due(self) -> None:
        """Sign the segments that ended, and the open one if it has grown."""
        with self._lock:
            due, self._ended = [*self._ended.values()], {}
            if self._tree.size > self._signed_size:
                due.append(self._checkpoint())
        for checkpoint in due:
            is_written = self._write(checkpoint)
            with self._lock:
                if checkpoint.segment == self._segment:
                    self._signed_size = checkpoint.size if is_written else self._signed_size
                elif not is_written:  # unless the segment ended meanwhile, and is to be signed further
                    self._ended.setdefault(checkpoint.segment, checkpoint)

    def settle(self) -> None:
        """
        Sign to its end whatever a killed process left unsigned.

        Raises:
            OSError: the folder cannot be read.
        """
        with self._lock:
            before = [each for each in list_segments(self._folder) if each.number < (self._segment or 1)]
        for segment in reversed(before[-SETTLED_BACK:]):
            if self._settle(segment):
                return

    def _work(self) -> None:
        with suppress(OSError):
            self.settle()
        while not self._closing:
            self._wake.wait(self._seconds)
            self._wake.clear()
            self.sign_due()

    def _end_segment(self, following: int) -> None:
        if self._tree.size > self._signed_size:
            self._ended[self._segment] = self._checkpoint()
            self._wake.set()
        self._segment, self._tree, self._signed_size = following, Frontier(), 0

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(origin_of(self._key.verifier.name, self._segment), self._tree.size, self._tree.root())

    def _settle(self, segment: SegmentPath) -> bool:
        """Sign one segment to its end; tell whether those before it need no look."""
        path = checkpoint_path(self._folder, segment.number)
        claim = _claim_in(path)
        tally = Tally([claim.size] if claim else [])
        scan = read_segment(segment, prev=None, last=False, each=tally.add)
        if scan is None or scan.findings or not tally.size:
            return False
        if claim is not None and tally.roots.get(claim.size) != claim.root:
            _log.error("journal_checkpoint_contradicted file=%s", segment.path.name)
            return False
        if claim is not None and claim.size == tally.size:
            return True
        self._write(Checkpoint(origin_of(self._key.verifier.name, segment.number), tally.size, tally.whole()))
        return False

    def _write(self, checkpoint: Checkpoint) -> bool:
        note = self._key.sign(checkpoint.text())
        try:
            self._disk.replace(checkpoint_path(self._folder, checkpoint.segment), note.encode())
            self._disk.sync_dir(self._folder)
        except OSError as problem:
            self.failed += 1
            _log.warning("journal_checkpoint_failed segment=%d reason=%r", checkpoint.segment, problem.strerror)
            return False
        self.written, self.newest = self.written + 1, checkpoint
        return True


def _claim_in(path: Path) -> Checkpoint | None:
    """Return what a checkpoint file claims, whoever signed it: it is only held against the lines."""
    try:
        return read_checkpoint(split_note(path.read_bytes().decode())[0])
    except (OSError, ValueError):
        return None
