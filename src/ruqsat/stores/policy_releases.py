"""
Releases of policy: which pack was in force from when, by whom and why.

A folder with a file a release, named by the SHA-256 of its content, and
``history.jsonl``, a line a change, oldest first; the last line says what is in force.
One publisher at a time holds the lock; a line is written whole and synced, or cut
off again before the next.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from ruqsat.core.admission import Changes
from ruqsat.errors import PolicyError
from ruqsat.stores.pack_file import read_pack_file, sync_folder, write_pack_file


class Release(Struct, frozen=True):
    """
    One line of the history.

    Attributes:
        number: 1 for the first.
        at: RFC 3339, UTC.
        digest: Of the policy set.
        file: SHA-256 that names the pack file.
        compared: How many answers the examination compared with stock pycasbin's.
        changes: By what it differs from the release before.
    """

    number: int
    at: str
    kind: Literal["publish", "rollback"]
    who: str
    why: str
    digest: str
    file: str
    compared: int
    changes: Changes


class Releases:
    """The releases in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._history = folder / "history.jsonl"

    def history(self) -> list[Release]:
        """
        Return every release, oldest first; a last line that was cut short never happened.

        Raises:
            PolicyError: the history cannot be read.
        """
        try:
            lines = self._history.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PolicyError(f"`{self._history}` cannot be read: {error.strerror}") from error
        try:
            return [msgspec.json.decode(line, type=Release) for line in lines]
        except msgspec.MsgspecError as error:
            raise PolicyError(f"`{self._history}` is damaged: {error}") from error

    def current(self) -> Release:
        """Return the release in force; raises PolicyError if there is none."""
        history = self.history()
        if not history:
            raise PolicyError(f"`{self._folder}` holds no release: `ruqsat policy publish` makes the first")
        return history[-1]

    def texts_of(self, release: Release) -> dict[str, bytes]:
        """
        Return the pack of a release.

        Raises:
            PolicyError: its file is missing or not what was published.
        """
        head, texts = read_pack_file(self._path(release.file))
        if head.sha256 != release.file or head.digest != release.digest:
            raise PolicyError(f"the file of release {release.number} is not what was published")
        return texts

    def add(self, release: Release, texts: Mapping[str, bytes]) -> Release:
        """
        Put *release* in force; its ``number`` says what it follows, its ``file`` is worked out here.

        Raises:
            PolicyError: another release came between, or the folder cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if len(self.history()) != release.number - 1:
                    raise PolicyError("another release came between: look at the history and try again")
                pending = self._folder / ".pending"
                file = write_pack_file(pending, texts)
                pending.rename(self._path(file))
                sync_folder(self._folder)
                whole = msgspec.structs.replace(release, file=file)
                self._append(msgspec.json.encode(whole) + b"\n")
        except OSError as error:
            raise PolicyError(f"`{self._folder}` cannot be written: {error.strerror}") from error
        return whole

    def _append(self, line: bytes) -> None:
        whole = self._history.read_bytes().rfind(b"\n") + 1 if self._history.exists() else 0
        descriptor = os.open(self._history, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.ftruncate(descriptor, whole)
            os.pwrite(descriptor, line, whole)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self._folder)

    def _path(self, file: str) -> Path:
        return self._folder / f"{file}.pack"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
