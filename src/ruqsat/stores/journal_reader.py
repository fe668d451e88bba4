"""
Reading a journal on disk on, from where its lines are shipped to up to where they last.

It never waits for a lock and never writes; a serving journal may go on growing beneath
it.  What is no line of a journal is passed by and counted: its number is then missing
where the others are shipped to, and verification tells of it here.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from ruqsat.core.journaled import BEGINNING, SEGMENT, Journaled, Lines, Place, read_line
from ruqsat.stores.journal_folder import SegmentPath, list_segments
from ruqsat.stores.turns import in_turns

MOST_LINES = 200
MOST_BYTES = 1024 * 1024

_log = logging.getLogger("ruqsat.journal")


class JournalReader:
    """
    One reading of a folder; belongs to one thread at a time.

    Attributes:
        unreadable: How many lines were passed by, or whole segments without a header.
    """

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self.unreadable = 0
        self._folder = folder
        self._places: dict[str, Place] = {}
        self._segment = 0
        self._offset = self._read_to = 0
        self._lines = self._lines_read = 0

    def writers(self) -> set[str]:
        """
        Return who wrote the segments of the folder.

        Raises:
            OSError: the folder or a file of it cannot be read.
        """
        return {header.writer for each in list_segments(self._folder) if (header := _header_of(each.path)) is not None}

    def resume(self, places: Mapping[str, Place]) -> None:
        """
        Go on after these places, and from the beginning with whoever has none.

        Raises:
            OSError: the folder or a file of it cannot be read.
        """
        self._places = dict(places)
        self._segment, self._offset, self._lines = 0, 0, 0
        for each in list_segments(self._folder):
            self._segment, header = each.number, _header_of(each.path)
            if header is None or places.get(header.writer, BEGINNING).segment <= each.number:
                return

    def read_on(self, until: Place) -> Lines | None:
        """
        Return the next lines, all of one segment; the same again until they are accepted.

        Args:
            until: The segment that still grows, and how many lines of it last; earlier segments are read whole.

        Returns:
            None once everything that lasts was returned and accepted.

        Raises:
            OSError: a file cannot be read.
        """
        for segment in self._segments_ahead():
            if segment.number > until.segment:
                return None
            if segment.number != self._segment:
                self._segment, self._offset, self._lines = segment.number, 0, 0
            lasting = until.number if segment.number == until.segment else None
            lines = self._read_segment(segment, lasting)
            if lines is not None:
                return lines
        return None

    def accept(self, lines: Lines) -> None:
        """Go on after *lines*, which ``read_on`` has returned last."""
        self._places[lines.writer] = lines.end
        self._offset, self._lines = self._read_to, self._lines_read

    def _segments_ahead(self) -> list[SegmentPath]:
        return [each for each in list_segments(self._folder) if each.number >= self._segment and each.number > 0]

    def _read_segment(self, segment: SegmentPath, lasting: int | None) -> Lines | None:
        header = _header_of(segment.path)
        if header is None:
            if lasting is None and segment.path.stat().st_size:
                self._miss(segment, "no header")
            return None
        after = self._places.get(header.writer, BEGINNING)
        if after.segment > segment.number:
            return None
        known = after.number if after.segment == segment.number else -1
        found: list[tuple[Place, Journaled, bytes]] = []
        with segment.path.open("rb") as file:
            for line in self._lines_of(file):
                if self._lines_read == lasting:
                    break  # readable or not: it may be cut off yet, and another one stand in its place
                said = read_line(line)
                self._read_to += len(line)
                self._lines_read += 1
                if said is None or said.number <= (found[-1][0].number if found else -1):
                    self._miss(segment, "no line")
                elif said.number > known:
                    found.append((Place(segment.number, said.number), said, line))
                if len(found) == MOST_LINES or (found and self._read_to - self._offset > MOST_BYTES):
                    break
        if not found:
            self._offset, self._lines = self._read_to, self._lines_read
            return None
        return Lines(header.writer, after, tuple(found))

    def _lines_of(self, file: BinaryIO) -> Iterator[bytes]:
        file.seek(self._offset)
        self._read_to, self._lines_read = self._offset, self._lines
        return (line for line in in_turns(file) if line.endswith(b"\n"))

    def _miss(self, segment: SegmentPath, what: str) -> None:
        self.unreadable += 1
        _log.error("journal_not_shipped file=%s reason=%r", segment.path.name, what)


def _header_of(path: Path) -> Journaled | None:
    with path.open("rb") as file:
        said = read_line(file.readline(MOST_BYTES))
    return said if said is not None and said.kind == SEGMENT and said.number == 0 and said.writer else None
