"""
The calls by which the journal touches a disk.

They stand apart so that a test can put a disk in their place that loses, tears
and refuses; nothing else in the journal writes.
"""

import os
from pathlib import Path

from ruqsat.stores.journal_folder import UNFINISHED


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
