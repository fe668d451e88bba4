"""
The calls by which the journal touches a disk.

They stand apart so that a test can put a disk in their place that loses, tears
and refuses; nothing else in the journal writes.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

from ruqsat.stores.journal_folder import UNFINISHED

_libc = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE = 1
"""``FALLOC_FL_KEEP_SIZE``: the blocks lie behind the end of the file."""


class Disk:
    """The real disk; every call may raise OSError, and then promises nothing."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """
        Open *path* for appending and return its descriptor.

        With *create* the file must not exist yet; only its owner may read it.
        """
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(path, flags, 0o600)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Append *data* and return how many bytes were taken, which may be fewer."""
        return os.write(descriptor, data)

    def datasync(self, descriptor: int) -> None:
        """Return once everything written to the file is on stable storage."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to *size* bytes."""
        os.ftruncate(descriptor, size)

    def rename(self, path: Path, to: Path) -> None:
        """Give the file another name in its folder, for good once ``sync_dir`` has returned."""
        path.rename(to)

    def allocate(self, path: Path, size: int) -> None:
        """
        Make *path* an empty file that owns blocks for *size* bytes to come; nothing is left if that fails.

        One that owns them already is left as it is: on a full disk it would not get them again.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _libc.fallocate(descriptor, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)):
                number = ctypes.get_errno()
                path.unlink()
                raise OSError(number, os.strerror(number))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free(self, folder: Path) -> int:
        """Return how many bytes of the disk of *folder* are left to whoever asks."""
        found = os.statvfs(folder)
        return found.f_bavail * found.f_frsize

    def overwrite(self, path: Path, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Write each piece over what stands at its offset, and return once that is on stable storage."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for offset, data in pieces:
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], offset + written)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, data: bytes) -> None:
        """Let *path* hold *data* and nothing else, whole or not at all, once ``sync_dir`` has returned."""
        unfinished = path.with_name(path.name + UNFINISHED)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        unfinished.replace(path)

    def sync_dir(self, folder: Path) -> None:
        """Return once the names in *folder* are on stable storage."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
