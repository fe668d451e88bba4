"""
Taking over the folder of a journal: its one writer, and the state a crash left it in.

One thing only is ever changed here: the unfinished last line of the last segment
is cut.  Nobody was told that it was kept.  A damaged file is never touched.  What the
reserve left of its blocks, behind the end of the last segment, is let go of.
"""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ruqsat.core.chain import NO_HASH, TORN_TAIL, SegmentScan
from ruqsat.errors import StoreLockedError
from ruqsat.stores.journal_claims import claim_in
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import (
    LOCK_NAME,
    SegmentPath,
    last_begun,
    list_checkpoints,
    list_segments,
    read_segment,
)

_log = logging.getLogger("ruqsat.journal")


class Recovered(NamedTuple):
    """Where a journal goes on: after which hash and which segment, and what was met there."""

    hash: bytes
    segment: int
    cut_bytes: int
    damaged: bool


def create_folder(folder: Path, disk: Disk) -> None:
    """
    Make *folder* and what is missing above it, for their owner only, and make the names last.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
        disk.sync_dir(path.parent)


def lock_folder(folder: Path) -> int:
    """
    Become the only writer of *folder* for as long as the returned descriptor is open.

    Raises:
        StoreLockedError: another process, or another journal of this one, is.
        OSError: the lock file cannot be opened.
    """
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreLockedError(f"`{path}` is held by another writer; expected a folder of its own for each") from None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def recover(folder: Path, disk: Disk) -> Recovered:
    """
    Cut the unfinished line of the last segment that was begun, if there is one, and return where to go on.

    A segment with any other flaw stays as it is, byte for byte, so that
    verification goes on reporting it; the journal then follows the hash that its
    last readable line records.  What lies before the last segment with a readable
    line is not read: that is what verification is for.

    What is returned is on stable storage: a killed process may have left lines
    that only memory holds, and the next header must not follow what can vanish.

    Raises:
        OSError: the folder cannot be listed, or a file cannot be cut or synced.
    """
    segments = list_segments(folder)
    disk.sync_dir(folder)
    # A segment that was signed and is gone keeps its number: it must not be written, and signed, a second time.
    last = max((each.number for each in (*segments, *filter(_is_signed, list_checkpoints(folder)))), default=0)
    cut_bytes, damaged, torn = 0, False, last_begun(segments)
    for segment in reversed(segments):
        scan = read_segment(segment, prev=None, last=segment == torn)
        if scan is None or any(found.code != TORN_TAIL for found in scan.findings):
            damaged = True
            _log.error("journal_damage_met file=%s", segment.path.name)
        if scan is not None:
            cut_bytes += _settle(segment.path, scan, disk)
        if scan is not None and scan.end is not None:
            return Recovered(scan.end, last, cut_bytes, damaged)
    return Recovered(NO_HASH, last, cut_bytes, damaged)


def _is_signed(checkpoint: SegmentPath) -> bool:
    """Tell whether a checkpoint may vouch for a line; one that only announces its segment vouches for none."""
    claim = claim_in(checkpoint.path)
    return claim is None or claim.size > 0


def _settle(path: Path, scan: SegmentScan, disk: Disk) -> int:
    is_torn_only = [found.code for found in scan.findings] == [TORN_TAIL]
    cut_bytes = scan.total_bytes - scan.complete_bytes if is_torn_only else 0
    descriptor = disk.open(path)
    try:
        if cut_bytes:
            disk.truncate(descriptor, scan.complete_bytes)
            _log.warning("journal_tail_cut file=%s bytes=%d", path.name, cut_bytes)
        elif not scan.findings:
            with suppress(OSError):  # not a byte of the file depends on it
                disk.truncate(descriptor, scan.total_bytes)
        disk.datasync(descriptor)
    finally:
        os.close(descriptor)
    return cut_bytes
