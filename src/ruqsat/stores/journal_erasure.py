"""
Erasing a patient from the journal: the parts that name the patient are written over, the chain stays.

First the act is journaled, with every part that it takes; then the copies in the database are
erased, and the parts are written over where they stand, in the folder and in its archive.  A
crash in between leaves parts that an act names and that are still there: erasing again
finds them.  A part that is erased and that no act names is a
finding of the verification.

Facts go with the last entry that was decided by them: a line that tells of a clinician and
stands before an erased entry would tell who asked.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from ruqsat.core.chain import ErasureEntry, part_name
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.journaled import GonePart, Place
from ruqsat.core.journaled import read_line as read_journaled
from ruqsat.core.kept_facts import digests_in, read_facts_line
from ruqsat.core.line import Line, read_line
from ruqsat.core.personal import erased, is_erased, parts_to_erase
from ruqsat.core.signed_note import SigningKey
from ruqsat.errors import JournalError
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_folder import list_segments, read_lines
from ruqsat.stores.journal_segment import DurableJournal

PARTS_OF_AN_ENTRY = 1000


class Erased(NamedTuple):
    """How much was erased here; and in the database, if there is one, what its ``erase`` says."""

    lines: int
    parts: int
    copies: object = None


class Copies(Protocol):
    """Where lines of journals are shipped to."""

    async def erase(self, patients: Collection[str], parts: Collection[GonePart], act: str, now: Instant) -> object:
        """Erase patients from every line there, and *parts* wherever they are; these are never to come back."""
        ...


class Elsewhere(NamedTuple):
    """
    Where else lines of a journal are.

    Attributes:
        archive: The folder of segments that were archived.
        copies: The database that lines are shipped to; it is erased in before any file is.
    """

    archive: Path | None = None
    copies: Copies | None = None


NOWHERE = Elsewhere()


class _Span(NamedTuple):
    """Bytes of a file, in the line of that number, that are to be written over."""

    path: Path
    line: int
    offset: int
    text: bytes


class _Piece(NamedTuple):
    span: _Span
    name: str
    gone: GonePart


async def erase_patients(
    folder: Path,
    patients: Collection[str],
    act: str,
    at: str,
    *,
    key: SigningKey | None = None,
    disk: Disk | None = None,
    elsewhere: Elsewhere = NOWHERE,
) -> Erased:
    """
    Write over every personal part that names one of *patients*, by the act of destruction called *act*.

    It takes over the folder for that time: the sidecar that writes there must be stopped.

    Args:
        act: How the operator files the act (order §24); it stands in the journal for good and must name nobody.
        at: When, for people.
        key: Signs the segment of the act at once; without, the next start of the sidecar does.
        elsewhere: Where else lines of this journal are.

    Raises:
        StoreLockedError: another writer has the folder.
        JournalError: it cannot be read or written; erasing again goes on from there.
        StoreUnavailableError: the database did not answer; no file was written over, but for what was half
            written over before, and erasing again goes on.
    """
    disk = disk or Disk()
    places = [place for place in (folder, elsewhere.archive) if place is not None]
    journal = DurableJournal.open(folder, key=key, disk=disk)
    try:
        torn = list(_half_erased(places))
        _write_over(torn, disk)  # first, for nobody can read what else their lines say
        pieces = [each for place in places for each in _find(place, frozenset(patients))]
        for start in range(0, len(pieces), PARTS_OF_AN_ENTRY):
            await journal.append(msgspec.json.encode(_entry(at, act, pieces[start : start + PARTS_OF_AN_ENTRY])))
        told = None
        if elsewhere.copies is not None:
            told = await elsewhere.copies.erase(frozenset(patients), [each.gone for each in pieces], act, _moment(at))
        _write_over([each.span for each in pieces], disk)
    except OSError as problem:
        raise JournalError(f"`{folder}` cannot be erased in: {problem.strerror}") from problem
    finally:
        await journal.aclose()
    spans = [*torn, *[each.span for each in pieces]]
    return Erased(len({(each.path, each.line) for each in spans}), len(spans), told)


def _entry(at: str, act: str, pieces: Sequence[_Piece]) -> ErasureEntry:
    names = tuple([each.name for each in pieces])
    return ErasureEntry(at, act, names, tuple([(each.span.offset, len(each.span.text)) for each in pieces]))


def _write_over(spans: Sequence[_Span], disk: Disk) -> None:
    for path in dict.fromkeys(each.path for each in spans):
        disk.overwrite(path, [(each.offset, erased(each.text)) for each in spans if each.path == path])


def _moment(at: str) -> Instant:
    return int(datetime.fromisoformat(at).timestamp()) * SECOND


def _half_erased(places: Sequence[Path]) -> Iterator[_Span]:
    """Yield the parts that an act names, and that are not erased, of lines whose parts are not as they were written."""
    acts = _places_in_acts(places)
    for segment in [each for place in places for each in list_segments(place) if each.number in acts]:
        begins = 0
        for number, line in enumerate(segment.path.read_bytes().splitlines(keepends=True)):
            found = read_line(line)
            if found is not None and found.holds and found.flaw is not None:
                for offset, length in acts[segment.number]:
                    start, end = offset - begins, offset - begins + length
                    is_here = found.parts_at <= start < end <= len(line) - len(b"]}\n")
                    if is_here and not is_erased(line[start:end]):
                        yield _Span(segment.path, number, offset, line[start:end])
            begins += len(line)


def _places_in_acts(places: Sequence[Path]) -> dict[int, set[tuple[int, int]]]:
    """Return by segment where the parts stand that acts name, and how many bytes they are."""
    found: dict[int, set[tuple[int, int]]] = {}
    for line in [line for place in places for line in read_lines(place) if b'"kind":"erasure"' in line]:
        with suppress(msgspec.MsgspecError, ValueError):  # the verification tells of an act that cannot be read
            act = msgspec.json.decode(line, type=ErasureEntry)
            for name, place in zip(act.parts, act.places, strict=False):
                found.setdefault(int(name.partition(":")[0]), set()).add(place)
    return found


def _find(folder: Path, patients: frozenset[str]) -> Iterator[_Piece]:
    in_use = _facts_in_use(folder, patients)
    for segment in list_segments(folder):
        if not segment.path.is_file():
            continue
        begins, writer = 0, ""
        for number, line in enumerate(segment.path.read_bytes().splitlines(keepends=True)):
            found = read_line(line)
            if number == 0:
                writer = said.writer if (said := read_journaled(line)) is not None else ""
            if found is not None and found.parts:
                offsets = _offsets(found.parts, begins + found.parts_at)
                for part in _going(line, found, patients, in_use):
                    name = part_name(segment.number, found.number, part)
                    gone = GonePart(writer, Place(segment.number, found.number), found.parts[part])
                    yield _Piece(_Span(segment.path, number, offsets[part], gone.text), name, gone)
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
