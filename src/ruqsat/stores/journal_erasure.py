"""
Erasing a patient from the journal: the parts that name the patient are written over, the chain stays.

First the act is journaled, with every part that it takes; then they are written over
where they stand.  A crash between the two leaves parts that an act names and that are
still there: erasing again finds them.  A part that is erased and that no act names is a
finding of the verification.

Facts go with the last entry that was decided by them: a line that tells of a clinician and
stands before an erased entry would tell who asked.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from ruqsat.core.chain import ErasureEntry, part_name
from ruqsat.core.kept_facts import digests_in, read_facts_line
from ruqsat.core.line import Line, read_line
from ruqsat.core.personal import erased, parts_to_erase
from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import list_segments, read_lines
from ruqsat.stores.journal_segment import DurableJournal

PARTS_OF_AN_ENTRY = 1000


class Erased(NamedTuple):
    """How much was erased."""

    lines: int
    parts: int


class _Piece(NamedTuple):
    path: Path
    line: int
    name: str
    offset: int
    text: bytes


async def erase_patients(
    folder: Path,
    patients: Collection[str],
    act: str,
    at: str,
    *,
    key: SigningKey | None = None,
    disk: Disk | None = None,
) -> Erased:
    """
    Write over every personal part that names one of *patients*, by the act of destruction called *act*.

    It takes over the folder for that time: the sidecar that writes there must be stopped.

    Args:
        act: How the operator files the act (order §24); it stands in the journal for good and must name nobody.
        at: When, for people.
        key: Signs the segment of the act at once; without, the next start of the sidecar does.

    Raises:
        StoreLockedError: another writer has the folder.
        JournalError: it cannot be read or written; erasing again goes on from there.
    """
    disk = disk or Disk()
    journal = DurableJournal.open(folder, key=key, disk=disk)
    try:
        pieces = list(_find(folder, frozenset(patients)))
        names = [each.name for each in pieces]
        for start in range(0, len(names), PARTS_OF_AN_ENTRY):
            entry = ErasureEntry(at, act, tuple(names[start : start + PARTS_OF_AN_ENTRY]))
            await journal.append(msgspec.json.encode(entry))
        for path in dict.fromkeys(each.path for each in pieces):
            disk.overwrite(path, [(each.offset, erased(each.text)) for each in pieces if each.path == path])
    except OSError as problem:
        raise JournalError(f"`{folder}` cannot be erased in: {problem.strerror}") from problem
    finally:
        await journal.aclose()
    return Erased(len({(each.path, each.line) for each in pieces}), len(pieces))


def _find(folder: Path, patients: frozenset[str]) -> Iterator[_Piece]:
    in_use = _facts_in_use(folder, patients)
    for segment in list_segments(folder):
        if not segment.path.is_file():
            continue
        begins = 0
        for number, line in enumerate(segment.path.read_bytes().splitlines(keepends=True)):
            found = read_line(line)
            if found is not None and found.parts:
                offsets = _offsets(found.parts, begins + found.parts_at)
                for part in _going(line, found, patients, in_use):
                    name = part_name(segment.number, found.number, part)
                    yield _Piece(segment.path, number, name, offsets[part], found.parts[part])
            begins += len(line)


def _going(line: bytes, found: Line, patients: frozenset[str], in_use: frozenset[str]) -> list[int]:
    kept = read_facts_line(line)
    if kept is not None and kept.digest is not None and kept.digest not in in_use:
        return [0]
    return parts_to_erase(found.parts, patients)


def _facts_in_use(folder: Path, patients: frozenset[str]) -> frozenset[str]:
    """Return the digests of facts that some entry still names when *patients* are erased."""
    staying = set[str]()
    for line in read_lines(folder):
        if b'"knew":[' not in line or (found := read_line(line)) is None:
            continue
        going = parts_to_erase(found.parts, patients)
        for number, part in enumerate(found.parts):
            if number not in going:
                staying |= digests_in(part)
    return frozenset(staying)


def _offsets(parts: tuple[bytes, ...], first: int) -> list[int]:
    offsets = []
    for part in parts:
        offsets.append(first)
        first += len(part) + 1
    return offsets
