"""
The file behind an SQLite store: what its URL means, and who may open it.

One process per file.  A second one would commit changes that the first never
learns of in time, so it is refused before SQLite is asked anything.
"""

import fcntl
import os
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from ruqsat.errors import SettingsError, StoreLockedError

_MAGIC = b"SQLite format 3\x00"
_HINT = "expected `sqlite:///file`"


def parse_url(text: str) -> Path:
    """
    Return the file that a database URL names, with links resolved.

    Raises:
        SettingsError: not an SQLite URL, or one with a driver, a host or parameters; what
            was written is not repeated, since such URLs may hold a password.

    Examples:
        >>> parse_url("sqlite:////var/lib/ruqsat/truth.db")
        PosixPath('/var/lib/ruqsat/truth.db')
        >>> parse_url("sqlite://")
        Traceback (most recent call last):
        ...
        ruqsat.errors.SettingsError: the database URL names no file, expected `sqlite:///file`
    """
    try:
        url = make_url(text)
    except ArgumentError:
        raise SettingsError(f"the database URL cannot be read, {_HINT}") from None
    if url.drivername != "sqlite":
        raise SettingsError(f"the database URL asks for something other than SQLite, {_HINT}")
    if url.host or url.query:
        raise SettingsError(f"the database URL has a host or parameters, {_HINT}")
    if not url.database or url.database == ":memory:":
        raise SettingsError(f"the database URL names no file, {_HINT}")
    return Path(url.database).resolve()


def make_file(path: Path) -> None:
    """
    Make an empty database file that only our user may read, unless there is one.

    Call it under the lock and before SQLite opens the file: closing a second
    handle on it would drop SQLite's own locks.

    Raises:
        SettingsError: the file cannot be opened, or is not a database.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be opened for reading and writing: {error.strerror}") from error
    if start not in (b"", _MAGIC):
        raise SettingsError(f"`{path}` is not an SQLite database")


class FileLock:
    """The right to be the only process on *path*, held from construction to ``release``."""

    def __init__(self, path: Path) -> None:
        """
        Take the lock at once, without waiting.

        Raises:
            StoreLockedError: another process, or another store of this one, holds it.
            SettingsError: the folder does not exist or is not writable.
        """
        name = path.with_name(path.name + ".lock")
        try:
            self._file = os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        except OSError as error:
            raise SettingsError(f"`{name}` cannot be made: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._file.read(20).strip() or "unknown"
            self._file.close()
            raise StoreLockedError(
                f"`{path}` is in use by process {owner}, expected to be the only one on this file"
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let another process have the file; the lock's own file stays, so that nobody locks a stale one."""
        self._file.close()
