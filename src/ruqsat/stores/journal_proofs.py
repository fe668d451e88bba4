"""Making proofs from a journal on disk.  Reads only; may be run beside a serving process."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from ruqsat.core.checkpoint import Checkpoint, leaf_of, read_checkpoint
from ruqsat.core.journal_proof import ConsistencyProof, Crossing, Inclusion, LineProof, Receipt, Step
from ruqsat.core.journaled import NOT_SENT
from ruqsat.core.line import hash_of, read_line
from ruqsat.core.merkle import prove_consistency, prove_inclusion, prove_inclusions
from ruqsat.core.outcomes import OUTCOME
from ruqsat.core.personal import erased
from ruqsat.core.signed_note import split_note
from ruqsat.errors import JournalError
from ruqsat.stores.journal_folder import checkpoint_path, list_checkpoints, list_segments, segment_path

FOLLOWS = frozenset({NOT_SENT, OUTCOME})
"""What follows a decision under its id, perhaps in a later segment."""


class NoReceiptError(JournalError):
    """There is no receipt; ``code``: no such entry (``unknown-entry``), or none yet (``not-signed-yet``)."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class _Id(Struct):
    id: str = ""
    kind: str = ""


def newest_note(folder: Path, segment: int | None = None) -> str:
    """
    Return the newest checkpoint of *folder*, or of one of its segments, as it was signed.

    Raises:
        JournalError: there is none, or it cannot be read.
    """
    try:
        found = [each.path for each in list_checkpoints(folder) if segment in (None, each.number)]
        if found:
            return found[-1].read_text()
    except OSError as problem:
        raise JournalError(f"`{folder}` cannot be read: {problem.strerror}") from problem
    raise JournalError("the journal has no checkpoint: is a key set?")


def make_receipt(folder: Path, entry: str, *, without_personal: bool = False) -> Receipt:
    """
    Return the receipt of the entry with this id.

    Raises:
        NoReceiptError: there is no such entry, or no checkpoint vouches for it yet.
        JournalError: the folder cannot be read.
    """
    named, follows = msgspec.json.encode(entry), None
    try:
        for segment in reversed(list_segments(folder)):
            if named not in segment.path.read_bytes():
                continue
            lines = _lines(segment.path)
            index = _find(lines, entry)
            if index is None:
                continue
            if _says(lines[index]).kind not in FOLLOWS:
                return _receipt(folder, segment.number, lines, index, without_personal)
            follows = segment.number, lines, index
        if follows is not None:  # what it follows is not here any more
            return _receipt(folder, *follows, without_personal)
    except OSError as problem:
        raise JournalError(f"`{folder}` cannot be read: {problem.strerror}") from problem
    raise NoReceiptError("unknown-entry", f"the journal has no entry `{entry}`")


def prove_lines(folders: Sequence[Path], lines: Sequence[bytes]) -> Inclusion:
    """
    Return the proofs that *lines* are in the signed journals of *folders*; a line that is not signed yet has none.

    Raises:
        JournalError: a folder or a checkpoint cannot be read.
    """
    wanted = {hash_of(line): number for number, line in enumerate(lines, 1)}
    notes, proofs = list[str](), list[LineProof]()
    for folder in folders:
        try:
            for segment in list_segments(folder):
                if checkpoint_path(folder, segment.number).exists():
                    note = newest_note(folder, segment.number)
                    found = _proofs(_lines(segment.path), note, wanted, len(notes))
                    proofs += found
                    notes += [note] if found else []
        except (OSError, ValueError) as problem:
            raise JournalError(f"`{folder}` proves nothing: {problem}") from problem
    return Inclusion(tuple(notes), tuple(sorted(proofs, key=lambda proof: proof.line)))


def _proofs(lines: list[bytes], note: str, wanted: Mapping[bytes, int], number: int) -> list[LineProof]:
    signed = lines[: read_checkpoint(split_note(note)[0]).size]
    places = [place for place, line in enumerate(signed) if hash_of(line) in wanted]
    paths = prove_inclusions(_leaves(signed), places)
    return [
        LineProof(wanted[hash_of(signed[place])], place, _hexed(path), number)
        for place, path in zip(places, paths, strict=True)
    ]


def prove_growth(folder: Path, kept: Checkpoint) -> ConsistencyProof:
    """
    Return the proof that the journal only grew since *kept*.

    Raises:
        JournalError: it cannot be proved: lines are missing, or a segment is not signed to its end.
    """
    try:
        steps, at = [], kept
        for segment in list_segments(folder):
            if segment.number < kept.segment or not segment.path.stat().st_size:
                continue
            note = newest_note(folder, segment.number)
            following, lines = read_checkpoint(split_note(note)[0]), _lines(segment.path)
            steps.append(_step(folder, at, following, note, lines))
            at = following
    except (OSError, ValueError) as problem:
        raise JournalError(f"`{folder}` proves nothing: {problem}") from problem
    if not steps or at.segment < kept.segment:
        raise JournalError(f"segment {kept.segment} is missing")
    return ConsistencyProof(tuple(steps))


def _step(folder: Path, at: Checkpoint, following: Checkpoint, note: str, lines: list[bytes]) -> Step:
    leaves = _leaves(lines[: following.size])
    if following.segment == at.segment:
        return Step(note, _hexed(prove_consistency(leaves, at.size)))
    before = _lines(segment_path(folder, at.segment))[: at.size]
    crossing = Crossing(
        hash_of(before[-1]).decode(),
        _hexed(prove_inclusion(_leaves(before), at.size - 1)),
        lines[0].decode().removesuffix("\n"),
        _hexed(prove_inclusion(leaves, 0)),
    )
    return Step(note, crossing=crossing)


def _receipt(folder: Path, segment: int, lines: list[bytes], index: int, without_personal: bool) -> Receipt:
    if not checkpoint_path(folder, segment).exists():
        raise NoReceiptError("not-signed-yet", "no checkpoint vouches for this entry yet: is a key set?")
    note = newest_note(folder, segment)
    checkpoint = read_checkpoint(split_note(note)[0])
    if checkpoint.size <= index:
        sentence = "no checkpoint vouches for this entry yet: try again after the next one"
        raise NoReceiptError("not-signed-yet", sentence)
    line = without_parts(lines[index]) if without_personal else lines[index]
    path = prove_inclusion(_leaves(lines[: checkpoint.size]), index)
    return Receipt(line.decode().removesuffix("\n"), index, _hexed(path), note)


def without_parts(line: bytes) -> bytes:
    """Return *line* as it would read with every personal part erased."""
    found = read_line(line)
    for part in found.parts if found is not None else ():
        line = line.replace(part, erased(part))
    return line


def _find(lines: list[bytes], entry: str) -> int | None:
    """Return where the entry stands; of several with one id the decision, and not what follows it."""
    named = msgspec.json.encode(entry)
    found = [at for at, line in enumerate(lines) if named in line and _says(line).id == entry]
    found = [at for at in found if _says(lines[at]).kind != "change"]
    decisions = [at for at in found if _says(lines[at]).kind not in FOLLOWS]
    return next(iter(decisions or found), None)


def _says(line: bytes) -> _Id:
    try:
        return msgspec.json.decode(line, type=_Id)
    except msgspec.DecodeError:
        return _Id()


def _lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _leaves(lines: Sequence[bytes]) -> list[bytes]:
    return [leaf_of(hash_of(line)) for line in lines]


def _hexed(path: Sequence[bytes]) -> tuple[str, ...]:
    return tuple([each.hex() for each in path])
