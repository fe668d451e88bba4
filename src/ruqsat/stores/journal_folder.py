"""
The folder of a journal: which files belong there, and how they are read.

A folder holds ``segment-00000001.jsonl`` and on, ``segment-00000001.checkpoint`` for
those that were signed, ``journal.reserve`` and ``journal.lock``; nothing else.
A segment of no bytes is one that was created and never begun (a crash or a full disk
came between): it says nothing, and the chain passes it by.

Nothing here changes a file.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ruqsat.core.chain import SegmentScan, ignore, scan_segment
from ruqsat.core.facts import Position
from ruqsat.core.journaled import SEGMENT, position_in, read_line
from ruqsat.core.personal import lifted
from ruqsat.errors import JournalError, SettingsError

LOCK_NAME = "journal.lock"
RESERVE_NAME = "journal.reserve"
UNFINISHED = ".new"
"""What ends the name of a file that is about to replace another."""

_LONGEST_HEADER = 1024 * 1024
_NAME = re.compile(r"segment-([0-9]{8})\.(jsonl|checkpoint)", re.ASCII)


class SegmentPath(NamedTuple):
    """One segment: its number, and where it lies."""

    number: int
    path: Path


def as_text(name: str) -> str:
    """
    Return *name* with everything escaped that a terminal or a JSON reader would stumble over.

    Examples:
        >>> as_text("журнал/segment\\x1b[2J")
        'журнал/segment\\\\x1b[2J'
    """
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)


def segment_path(folder: Path, number: int) -> Path:
    """Return where segment *number* of *folder* lies."""
    return folder / f"segment-{number:08d}.jsonl"


def _lifted(line: bytes) -> bytes:
    try:
        return msgspec.json.encode(lifted(line))
    except msgspec.DecodeError:
        return line


def checkpoint_path(folder: Path, number: int) -> Path:
    """Return where the newest checkpoint of segment *number* lies."""
    return folder / f"segment-{number:08d}.checkpoint"


def list_segments(folder: Path) -> list[SegmentPath]:
    """
    Return the segments of *folder* in order.

    Raises:
        OSError: the folder cannot be read.
    """
    return _numbered(folder, "jsonl")


def last_begun(segments: list[SegmentPath]) -> SegmentPath | None:
    """
    Return the last of *segments* that has a byte, which is the only one whose end may be torn.

    Raises:
        OSError: a file has gone meanwhile.
    """
    return next((each for each in reversed(segments) if each.path.stat().st_size), None)


def finished(segments: list[SegmentPath]) -> list[SegmentPath]:
    """
    Return those of *segments* that lie before the last that was begun: the journal has done with them.

    What lies behind it is no end: the journal may still be writing to the last that was begun.

    Raises:
        OSError: a file has gone meanwhile.
    """
    last = last_begun(segments)
    return [each for each in segments if last is not None and each.number < last.number]


def list_checkpoints(folder: Path) -> list[SegmentPath]:
    """
    Return the checkpoints of *folder* in the order of their segments.

    Raises:
        OSError: the folder cannot be read.
    """
    return _numbered(folder, "checkpoint")


def _numbered(folder: Path, kind: str) -> list[SegmentPath]:
    names = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(SegmentPath(int(name[1]), path) for name, path in names if name and name[2] == kind)


def list_strangers(folder: Path) -> list[str]:
    """
    Return the names in *folder* that do not belong to a journal, in order.

    Raises:
        OSError: the folder cannot be read.
    """
    names = [path.name for path in folder.iterdir()]
    known = {LOCK_NAME, RESERVE_NAME, RESERVE_NAME + UNFINISHED}
    return sorted(name for name in names if name not in known and not _belongs(name))


def _belongs(name: str) -> bool:
    whole = name.removesuffix(UNFINISHED)
    found = _NAME.fullmatch(whole)
    return found is not None and (whole == name or found[2] == "checkpoint")


def writers_of(folder: Path) -> set[str]:
    """
    Return who wrote the segments of *folder*.

    Raises:
        OSError: the folder or a file of it cannot be read.
    """
    return {writer for each in list_segments(folder) if (writer := writer_of(each.path))}


def writer_of(path: Path) -> str:
    """Return who wrote a segment; empty if its first line does not say; raises OSError."""
    with path.open("rb") as file:
        said = read_line(file.readline(_LONGEST_HEADER))
    return said.writer if said is not None and said.kind == SEGMENT else ""


def read_segment(
    segment: SegmentPath, *, prev: bytes | None, last: bool, each: Callable[[bytes], object] = ignore
) -> SegmentScan | None:  # fmt: skip
    """Scan the file of *segment* (see ``scan_segment``); return None if it cannot be read."""
    try:
        with segment.path.open("rb") as lines:
            return scan_segment(lines, segment=segment.number, prev=prev, last=last, each=each)
    except OSError:
        return None


def refuse_empty(folder: Path) -> None:
    """
    Refuse a folder that holds no line of a journal, such as that above the folders of several workers.

    Raises:
        JournalError: there is none, or the folder cannot be read.
    """
    if next(read_lines(folder), None) is None:
        raise JournalError(
            f"`{folder}` holds no line of a journal: expected the folder of each sidecar, or each worker"
        )


def refuse_lost_changes(folder: Path, head: Position) -> None:
    """
    Refuse a database that ends before what the journal in *folder* knew of it: it was restored, and nobody has said so.

    Read is the last segment that tells any position: a process knows more, the later it writes.

    Raises:
        SettingsError: changes are missing, withdrawals of consents perhaps among them.
        JournalError: the folder cannot be read.
    """
    try:
        for segment in reversed(list_segments(folder)):
            with segment.path.open("rb") as lines:
                told = [position for line in lines if (position := position_in(line)) is not None]
            newest = max((each.seq for each in told if each.epoch == head.epoch), default=0)
            if newest > head.seq:
                raise SettingsError(
                    f"it ends at position {head.seq}, and the journal at `{folder}` knew it up to {newest}: restored "
                    "without its last changes, perhaps withdrawals; see `ruqsat db restored` in docs/operations.md"
                )
            if told:
                return
    except OSError as error:
        raise JournalError(f"`{folder}` cannot be read: {error.strerror}") from error


def read_entries(folder: Path) -> Iterator[bytes]:
    """
    Yield every whole line of a journal, oldest first, with what its personal parts say, without verifying it.

    Raises:
        JournalError: the folder cannot be read.
    """
    return map(_lifted, read_lines(folder))


def read_lines(folder: Path) -> Iterator[bytes]:
    """
    Yield every whole line of a journal as it was written, oldest first, without verifying it.

    Raises:
        JournalError: the folder cannot be read.
    """
    try:
        for segment in list_segments(folder):
            with segment.path.open("rb") as lines:
                yield from (line for line in lines if line.endswith(b"\n"))
    except OSError as error:
        raise JournalError(f"`{folder}` cannot be read: {error.strerror}") from error
