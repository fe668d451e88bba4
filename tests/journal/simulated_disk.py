"""
A disk that forgets and refuses, in the place of the real one.

It works on real files, so that the journal's reading is real, and keeps beside them
what a power cut would leave: for each file the bytes that were synced, and the writes
and cuts that were not, of which any beginning may have reached the disk.
"""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ruqsat.stores.journal_disk import Disk


class UnsyncedDisk(Disk):
    """The real disk in a hurry: nothing is synced.  For journals whose power is never cut."""

    def datasync(self, descriptor: int) -> None:
        """Do nothing."""

    def sync_dir(self, folder: Path) -> None:
        """Do nothing."""


class GatedDisk(UnsyncedDisk):
    """A disk whose syncs wait for a gate, and that counts the lines of each write."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.steps: list[str] = []

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        count = bytes(data).count(b"\n")
        self.steps.append(f"write {count}")
        return super().write(descriptor, data)

    def datasync(self, descriptor: int) -> None:
        assert self.gate.wait(10)
        self.steps.append("datasync")


class FullDisk(UnsyncedDisk):
    """A disk that has no space left but for what was allocated before; it counts what goes there."""

    def __init__(self) -> None:
        self.is_full = False
        self.number = errno.ENOSPC
        self._own: dict[int, int] = {}
        self._allocated: dict[int, int] = {}

    def allocate(self, path: Path, size: int) -> None:
        """Allocate, unless the disk is full."""
        self._refuse()
        super().allocate(path, size)
        self._allocated[path.stat().st_ino] = size

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write into allocated blocks, or if there is space."""
        inode = os.fstat(descriptor).st_ino
        if self._allocated.get(inode, 0) < len(data):
            self._refuse()
        else:
            self._allocated[inode] -= len(data)
        return super().write(descriptor, data)

    def _refuse(self) -> None:
        if self.is_full:
            raise OSError(self.number, os.strerror(self.number))


class BadReserve(FullDisk):
    """
    A disk that, when it is full, fails at one call as soon as it concerns the reserve, half done if it is a write.

    Attributes:
        bad: The calls that fail.
        is_stuck: They fail when there is space, too.
    """

    def __init__(self, *what: str) -> None:
        super().__init__()
        self.bad = {*what}
        self.is_stuck = False

    def rename(self, path: Path, to: Path) -> None:
        """Rename, or not."""
        self._meet("rename")
        super().rename(path, to)

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open, or not; nothing but the reserve is opened without being made."""
        if not create:
            self._meet("open")
        return super().open(path, create=create)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write, or only a half."""
        try:
            self._meet("write", descriptor)
        except OSError:
            super().write(descriptor, data[: len(data) // 2])
            raise
        return super().write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut, or not."""
        self._meet("truncate", descriptor)
        super().truncate(descriptor, size)

    def datasync(self, descriptor: int) -> None:
        """Sync, or not."""
        self._meet("datasync", descriptor)

    def sync_dir(self, folder: Path) -> None:
        """Sync, or not."""
        self._meet("sync_dir")

    def _meet(self, what: str, descriptor: int | None = None) -> None:
        is_own = descriptor is None or os.fstat(descriptor).st_ino in self._allocated
        if (self.is_full or self.is_stuck) and is_own and what in self.bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class SmallDisk(UnsyncedDisk):
    """
    A disk of so many bytes for one folder; it counts the blocks that the files there really own.

    Attributes:
        asked: What was to be allocated, refused or not.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.asked: list[int] = []
        self._folder = folder

    def free(self, folder: Path) -> int:
        """Return how many bytes nobody has."""
        return self.size - sum(owned_by(path) for path in folder.iterdir())

    def allocate(self, path: Path, size: int) -> None:
        """Allocate what is not owned yet, if there is so much; nothing is left if not."""
        self.asked.append(size)
        if size - (owned_by(path) if path.exists() else 0) > self.free(self._folder):
            path.unlink(missing_ok=True)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(path, size)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write, if the file owns the blocks or can get them."""
        found = os.fstat(descriptor)
        if found.st_size + len(data) - found.st_blocks * 512 > self.free(self._folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(descriptor, data)


def owned_by(path: Path) -> int:
    """Return how many bytes of the disk a file owns, those behind its end included."""
    return path.stat().st_blocks * 512


class Refusal:
    """A switch for a disk: what it refuses while it is on."""

    def __init__(self, **numbers: int) -> None:
        self.numbers = numbers
        self.is_on = False

    def __call__(self, index: int, what: str) -> int | None:
        return self.numbers.get(what) if self.is_on else None


class Moment(NamedTuple):
    """What the disk holds at one moment, and what had been acknowledged by then."""

    durable: dict[str, bytes]
    pending: dict[str, tuple[bytes | int, ...]]
    listed: frozenset[str]
    acknowledged: tuple[int, ...]


class SimulatedDisk(UnsyncedDisk):
    """
    Remembers every call, and fails where it is told to.

    Attributes:
        calls: The calls so far, as ``(what, file or folder name)``.
        moments: What a power cut after each call would find.
        acknowledged: Filled by the test; copied into the moments.
        refuse: Asked before each call with its index and name; an errno makes it fail.
    """

    def __init__(self, refuse: Callable[[int, str], int | None] = lambda index, what: None) -> None:
        self.calls: list[tuple[str, str]] = []
        self.moments: list[Moment] = []
        self.acknowledged: list[int] = []
        self.refuse = refuse
        self._durable: dict[str, bytes] = {}
        self._pending: dict[str, list[bytes | int]] = {}
        self._listed: set[str] = set()
        self._names: dict[int, str] = {}

    def survive_kill(self, moment: Moment, folder: Path) -> None:
        """Lay out in *folder* what a killed process left in memory, of which only a part is synced."""
        self._durable = dict(moment.durable)
        self._pending = {name: list(steps) for name, steps in moment.pending.items()}
        self._listed = set(moment.listed)
        self.acknowledged.extend(moment.acknowledged)
        lay_out({name: _apply(data, moment.pending[name]) for name, data in moment.durable.items()}, folder)

    def open(self, path: Path, *, create: bool = False) -> int:
        self._enter("create" if create else "open", path.name)
        descriptor = super().open(path, create=create)
        self._names[descriptor] = path.name
        if not create and path.name not in self._durable:
            self._durable[path.name] = path.read_bytes()
            self._listed.add(path.name)
        self._durable.setdefault(path.name, b"")
        self._pending.setdefault(path.name, [])
        self._remember()
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        name = self._names[descriptor]
        try:
            self._enter("write", name)
        except OSError:
            self._accept(descriptor, name, bytes(data[: len(data) // 2]))
            raise
        return self._accept(descriptor, name, bytes(data))

    def datasync(self, descriptor: int) -> None:
        name = self._names[descriptor]
        pending, self._pending[name] = self._pending[name], []
        try:
            self._enter("datasync", name)
        except OSError:
            # The size went through, the bytes are gone, and the next sync will not say so.
            self._durable[name] = _apply(self._durable[name], [_blank(step) for step in pending])
            self._remember()
            raise
        self._durable[name] = _apply(self._durable[name], pending)
        self._remember()

    def truncate(self, descriptor: int, size: int) -> None:
        name = self._names[descriptor]
        self._enter("truncate", name)
        super().truncate(descriptor, size)
        self._pending[name].append(size)
        self._remember()

    def rename(self, path: Path, to: Path) -> None:
        self._enter("rename", to.name)
        super().rename(path, to)

    def allocate(self, path: Path, size: int) -> None:
        self._enter("allocate", path.name)
        super().allocate(path, size)

    def sync_dir(self, folder: Path) -> None:
        self._enter("sync_dir", folder.name)
        self._listed.update(path.name for path in folder.iterdir())
        self._remember()

    def _accept(self, descriptor: int, name: str, data: bytes) -> int:
        self._pending[name].append(data)
        count = super().write(descriptor, data) if data else 0
        self._remember()
        return count

    def _enter(self, what: str, name: str) -> None:
        self.calls.append((what, name))
        number = self.refuse(len(self.calls) - 1, what)
        if number is not None:
            raise OSError(number, os.strerror(number))

    def _remember(self) -> None:
        pending = {name: tuple(steps) for name, steps in self._pending.items()}
        acknowledged = tuple(self.acknowledged)
        self.moments.append(Moment(dict(self._durable), pending, frozenset(self._listed), acknowledged))


def power_cuts(moment: Moment, *, every: int = 1) -> Iterator[dict[str, bytes]]:
    """
    Yield the folders that a power cut at *moment* may leave: the last unsynced write torn at each byte.

    Files whose names were not synced are there in one half of the folders and missing in the other.
    """
    unlisted = set(moment.durable) - moment.listed
    synced = {name: data for name, data in moment.durable.items() if name not in unlisted}
    yield synced
    yield dict(moment.durable)
    for name, steps in moment.pending.items():
        for count, step in enumerate(steps):
            before = _apply(moment.durable[name], steps[:count])
            for torn in _tears(step, every):
                yield {**moment.durable, name: _apply(before, [torn])}


def lay_out(files: dict[str, bytes], folder: Path) -> Path:
    """Make *folder* hold exactly *files*, whatever it held before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def _tears(step: bytes | int, every: int) -> Iterator[bytes | int]:
    if isinstance(step, bytes):
        yield from (step[:length] for length in range(every, len(step), every))
    yield step


def _blank(step: bytes | int) -> bytes | int:
    return bytes(len(step)) if isinstance(step, bytes) else step


def _apply(data: bytes, steps: list[bytes | int] | tuple[bytes | int, ...]) -> bytes:
    for step in steps:
        data = data + step if isinstance(step, bytes) else data[:step]
    return data
