"""Files of facts on disk: read from any place on, plain or gzip, a line at a time; and written whole or not at all."""

import gzip
import hashlib
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from ruqsat.errors import SettingsError

LONGEST_LINE = 8 * 1024 * 1024


class RawLine(NamedTuple):
    """
    One line as it stands in the file.

    Attributes:
        end: Where its text ends, counted in bytes of text (of what is packed, where it is).
    """

    number: int
    end: int
    text: bytes


class FileEndedEarlyError(Exception):
    """The file is damaged after the last line that was read; the message says how."""


class FactsFile:
    """
    A file of facts that does not change while it is read; ``digest`` tells it from any other.

    ``size`` and ``done`` count bytes of the file itself, for a progress bar.
    """

    def __init__(self, path: Path) -> None:
        """
        Open the file and read it once for its digest.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            self._raw = path.open("rb")
            self.size = os.fstat(self._raw.fileno()).st_size
            self.digest = hashlib.file_digest(self._raw, "sha256").digest()
            self._raw.seek(0)
        except OSError as error:
            raise SettingsError(f"`{path}` cannot be read: {error.strerror}") from error
        packed = path.suffix == ".gz"
        self._text = cast(IO[bytes], gzip.GzipFile(fileobj=self._raw)) if packed else self._raw

    @property
    def done(self) -> int:
        """How many bytes of the file have been read."""
        return self._raw.tell()

    def lines(self, number: int = 0, place: int = 0) -> Iterator[RawLine]:
        """
        Yield the lines after line *number*, which ends at *place*.

        Raises:
            FileEndedEarlyError: the packing is damaged or cut off, or a line is longer than 8 MiB.
        """
        try:
            self._text.seek(place)
            while text := self._text.readline(LONGEST_LINE + 1):
                if len(text) > LONGEST_LINE:
                    raise FileEndedEarlyError("the line is longer than 8 MiB")
                number, place = number + 1, place + len(text)
                yield RawLine(number, place, text)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileEndedEarlyError("the file is no gzip, damaged, or cut off") from error

    def close(self) -> None:
        """Close it."""
        self._text.close()
        self._raw.close()


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """
    Write *path*, packed if its name ends in ``.gz``; ``-`` is the standard output.

    Only our user may read it, and it is there under its name only when it is whole.

    Raises:
        SettingsError: it cannot be written.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        return
    try:
        # New, of a name that nobody could prepare, no link, and with mode 0600 from its first moment.
        handle, name = tempfile.mkstemp(".part", path.name + ".", path.parent)
    except OSError as error:
        raise SettingsError(f"`{path}` cannot be written: {error.strerror}") from error
    raw, part = os.fdopen(handle, "wb"), Path(name)
    try:
        with raw:
            if path.suffix == ".gz":
                # Neither time nor name inside: the same facts are the same bytes.
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    yield cast(IO[bytes], packed)
            else:
                yield raw
            raw.flush()
            os.fsync(raw.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SettingsError(f"`{path}` cannot be written: {error.strerror}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
