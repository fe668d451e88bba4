"""
Writing checkpoints: what the journal has made durable is signed, off the way of decisions.

The journal's thread tells of every line after those who waited for it were told.  A
thread of its own signs: when a segment begins and ends, at intervals, and on the stop.
What was signed once is never contradicted: a segment whose lines do not bear out the
checkpoint that lies beside it is not signed again.  Of what earlier processes left, only
that is signed which goes on from something that this key has signed: whoever can merely
write to the folder must not get a signature for a history by taking the checkpoints away.
"""

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from ruqsat.core.chain import NO_HASH
from ruqsat.core.checkpoint import Checkpoint, leaf_of, open_checkpoint, origin_of
from ruqsat.core.line import hash_of, read_line
from ruqsat.core.merkle import Frontier
from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores.journal_claims import Tally, claim_in
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import SegmentPath, checkpoint_path, list_segments, read_segment

CHECKPOINT_SECONDS = 60.0

_TAIL_BYTES = 64 * 1024
"""How much of a segment's end is read to tell its length; one whose last line is longer is read whole."""

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

    def announce(self, segment: int) -> None:
        """Sign that *segment* begins, before its first line: what a killed process then leaves is known as ours."""
        self._write(Checkpoint(origin_of(self._key.verifier.name, segment), 0, Frontier().root()))

    def take(self, segment: int, lines: Iterable[bytes]) -> None:
        """Count *lines* of *segment*, which are on stable storage, in; the first of a segment are signed at once."""
        with self._lock:
            if segment != self._segment:
                self._end_segment(segment)
                self._wake.set()
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
        Sign to its end whatever earlier processes left unsigned, if it goes on from what this key has signed.

        What cannot be written is tried again with every checkpoint.

        Raises:
            OSError: the folder cannot be read.
        """
        with self._lock:
            own = self._segment
        begun = _begun(self._folder)
        for at, (segment, following) in enumerate(pairwise(begun)):
            if segment.number >= own:
                return
            try:
                self._settle(segment, following, begun[at - 1] if at else None)
            except (OSError, ValueError) as problem:
                _log.error("journal_segment_left_unsigned file=%s reason=%r", segment.path.name, str(problem))

    def _work(self) -> None:
        self.sign_due()
        with suppress(OSError):
            self.settle()
        while not self._closing:
            self._wake.wait(self._seconds)
            self._wake.clear()
            self.sign_due()

    def _end_segment(self, following: int) -> None:
        if self._tree.size > self._signed_size:
            self._ended[self._segment] = self._checkpoint()
        self._segment, self._tree, self._signed_size = following, Frontier(), 0

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(origin_of(self._key.verifier.name, self._segment), self._tree.size, self._tree.root())

    def _settle(self, segment: SegmentPath, following: SegmentPath, before: SegmentPath | None) -> None:
        told = claim_in(checkpoint_path(self._folder, segment.number))
        if told is not None and told.size == _length(segment.path):
            return  # whether it is true, and whose, verification tells
        claim = self._claim(segment)
        if claim is None and not self._goes_on(segment, before):
            return  # nothing signed leads here: whoever holds the key must say that it is the true one
        tally = _read_whole(segment, following, claim)
        with self._lock:
            self._ended[segment.number] = _end_of(segment, tally, self._key)
        self.sign_due()

    def _goes_on(self, segment: SegmentPath, before: SegmentPath | None) -> bool:
        """Tell whether the segment *before* is signed; raises ValueError if its lines are not the signed ones."""
        claim = self._claim(before) if before is not None else None
        if before is None or claim is None:
            return False
        _read_whole(before, segment, claim)
        return True

    def _claim(self, segment: SegmentPath) -> Checkpoint | None:
        """Return what this key has signed of *segment*; raises ValueError if somebody else has, or of another."""
        path = checkpoint_path(self._folder, segment.number)
        if not path.exists():
            return None
        claim = open_checkpoint(path.read_bytes().decode(), [self._key.verifier])
        if claim.segment != segment.number:
            raise ValueError(f"this is the checkpoint of `{claim.origin}`")
        return claim

    def _write(self, checkpoint: Checkpoint) -> bool:
        try:
            _write(self._folder, self._disk, self._key, checkpoint)
        except OSError as problem:
            self.failed += 1
            _log.warning("journal_checkpoint_failed segment=%d reason=%r", checkpoint.segment, problem.strerror)
            return False
        self.written, self.newest = self.written + 1, checkpoint
        return True


def sign_segment(folder: Path, number: int, key: SigningKey, disk: Disk | None = None) -> Checkpoint:
    """
    Sign a segment to its end that no start signs, for whoever holds the key and knows that it is the true one.

    A journal may be writing there.

    Raises:
        JournalError: it is missing or the last, the chain or a checkpoint contradicts it, or the disk refuses.
    """
    try:
        begun = _begun(folder)
        at = next((at for at, each in enumerate(begun[:-1]) if each.number == number), None)
        if at is None:
            raise ValueError("it is not there, or the last, which is signed by whoever writes it")
        tally = _read_whole(begun[at], begun[at + 1], claim_in(checkpoint_path(folder, number)), _end_before(begun, at))
        checkpoint = _end_of(begun[at], tally, key)
        _write(folder, disk or Disk(), key, checkpoint)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise JournalError(f"segment {number} of `{folder}` is not signed: {reason}") from problem
    return checkpoint


def _write(folder: Path, disk: Disk, key: SigningKey, checkpoint: Checkpoint) -> None:
    disk.replace(checkpoint_path(folder, checkpoint.segment), key.sign(checkpoint.text()).encode())
    disk.sync_dir(folder)


def _begun(folder: Path) -> list[SegmentPath]:
    return [each for each in list_segments(folder) if each.path.stat().st_size]


def _end_of(segment: SegmentPath, tally: Tally, key: SigningKey) -> Checkpoint:
    return Checkpoint(origin_of(key.verifier.name, segment.number), tally.size, tally.whole())


def _read_whole(
    segment: SegmentPath, following: SegmentPath, claim: Checkpoint | None, prev: bytes | None = None
) -> Tally:
    """Return the tree of *segment*; raises ValueError if it is not as it was written, was signed and is followed."""
    tally = Tally([claim.size] if claim else [])
    scan = read_segment(segment, prev=prev, last=False, each=tally.add)
    if scan is None or scan.findings:
        raise ValueError(f"it is not as it was written: {scan.findings[0].code}" if scan else "it cannot be read")
    if claim is not None and tally.roots.get(claim.size) != claim.root:
        raise ValueError("a checkpoint vouches for other lines")
    with following.path.open("rb") as lines:
        header = read_line(lines.readline())
    if header is None or header.prev != scan.end:
        raise ValueError(f"segment {following.number} does not follow it")
    return tally


def _length(path: Path) -> int | None:
    """Return how many lines a segment has, as its last one says; None if only a reading of all of it can tell."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        last = read_line(file.read().removesuffix(b"\n").rpartition(b"\n")[2] + b"\n")
    return last.number + 1 if last is not None else None


def _end_before(begun: list[SegmentPath], at: int) -> bytes | None:
    """Return what the first line of a segment must follow; None if what came before is not there, or unreadable."""
    if at == 0:
        return NO_HASH if begun[at].number == 1 else None
    scan = read_segment(begun[at - 1], prev=None, last=False)
    return scan.end if scan is not None else None
