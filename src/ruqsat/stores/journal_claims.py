"""
What checkpoints claim of a journal, and whether its lines bear that out.

The checkpoints in the folder show whatever was changed behind the back of the key.
One that was kept elsewhere shows more: that the folder as a whole was put back, cut or
written anew, whoever did it.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from ruqsat.core.checkpoint import Checkpoint, leaf_of, open_checkpoint, read_checkpoint
from ruqsat.core.merkle import Frontier
from ruqsat.core.signed_note import VerifierKey, split_note
from ruqsat.stores.journal_folder import as_text, checkpoint_path, list_checkpoints

UNREADABLE_CHECKPOINT = "unreadable-checkpoint"
BAD_SIGNATURE = "bad-signature"
CONTRADICTED = "checkpoint-contradicted"
ROLLED_BACK = "rolled-back"
UNSIGNED_SEGMENT = "unsigned-segment"

_YOUNG, _PATIENCE, _PAUSE = 10.0, 1.0, 0.05
"""In seconds: a segment that ended this lately may be signed in a moment; how long that is waited for; how often."""


class FolderFinding(Struct, frozen=True):
    """
    One thing wrong in a folder.

    Attributes:
        file: A name in the folder; empty if it is about the folder itself.
        line: From 1; None if it is about a whole file.
        offset: Of the first byte of the line; None if it is about a whole file.
        code: Stable, kebab-case.
        sentence: For the operator.
    """

    file: str
    line: int | None
    offset: int | None
    code: str
    sentence: str


def about(file: str, code: str, sentence: str) -> FolderFinding:
    """Return a finding about a whole file."""
    return FolderFinding(file, None, None, code, sentence)


class Trust(NamedTuple):
    """
    What a verification holds a journal against.

    Attributes:
        keys: Whose checkpoints are believed, each of the journal of its name; with none, signatures are not looked at.
        kept: Checkpoints that were kept elsewhere, already opened, each under the name it is told by.
        signed_from: With keys, every segment from this one on must be signed to its end, except the last.
        stopped: The last one too: the journal was closed, and nothing writes there.  Otherwise lines after
            the newest checkpoint are taken for what will be signed in a moment, whoever wrote them.
    """

    keys: tuple[VerifierKey, ...] = ()
    kept: tuple[tuple[str, Checkpoint], ...] = ()
    signed_from: int = 1
    stopped: bool = False


NO_TRUST = Trust()


class Tally:
    """The tree of a segment as its lines are read, and its root at the sizes that somebody claims."""

    def __init__(self, sizes: Iterable[int]) -> None:
        self._sizes = frozenset(sizes)
        self._tree = Frontier()
        self.roots = {0: self._tree.root()}

    @property
    def size(self) -> int:
        """How many lines were read."""
        return self._tree.size

    def add(self, digest: bytes) -> None:
        """Take the next line, by its hash."""
        self._tree.add(leaf_of(digest))
        if self._tree.size in self._sizes:
            self.roots[self._tree.size] = self._tree.root()

    def whole(self) -> bytes:
        """Return the root over every line that was read."""
        return self._tree.root()


class Claims:
    """The checkpoints of a folder and those kept elsewhere, by segment."""

    def __init__(self, folder: Path, trust: Trust, archive: Path | None = None) -> None:
        """
        Read the checkpoints of *folder* and its *archive*; those that cannot be believed become findings.

        Raises:
            OSError: the folder cannot be listed.
        """
        self.findings: list[FolderFinding] = []
        self._patience = _PATIENCE
        self._folder, self._keys, self._signed_from = folder, trust.keys, trust.signed_from
        self._stopped = trust.stopped
        self._claims: dict[int, list[tuple[str, Checkpoint]]] = defaultdict(list)
        self._archive = archive
        for segment in [*(list_checkpoints(archive) if archive is not None else ()), *list_checkpoints(folder)]:
            found = self._read(segment.path, segment.number)
            if isinstance(found, Checkpoint):
                self._claims[segment.number].append((segment.path.name, found))
            else:
                self.findings.append(found)
        for name, checkpoint in trust.kept:
            self._claims[checkpoint.segment].append((as_text(name), checkpoint))

    def segments(self) -> list[int]:
        """Return the segments that somebody claims something of."""
        return sorted(self._claims)

    def tally(self, segment: int) -> Tally:
        """Return what takes the lines of *segment*."""
        return Tally(checkpoint.size for _, checkpoint in self._claims.get(segment, ()))

    def judge(self, file: str, segment: int, tally: Tally, *, last: bool) -> tuple[list[FolderFinding], bool]:
        """Return what the lines of *segment* contradict, and whether it is signed to its end."""
        claims = self._claims.get(segment, [])
        found = [finding for source, claim in claims if (finding := _contradiction(file, source, claim, tally))]
        if not self._keys or found:
            return found, False
        signed = self._is_signed(segment, tally)
        may_be_open = last and not self._stopped
        while not signed and not may_be_open and self._is_young(file):
            self._patience -= _PAUSE
            time.sleep(_PAUSE)
            signed = self._is_signed(segment, tally)
        if tally.size and not signed and not may_be_open and segment >= self._signed_from:
            found.append(about(file, UNSIGNED_SEGMENT, "no checkpoint vouches for this segment to its end"))
        return found, signed

    def _is_signed(self, segment: int, tally: Tally) -> bool:
        path = checkpoint_path(self._folder, segment)
        if self._archive is not None and not path.exists():
            path = checkpoint_path(self._archive, segment)
        newest = self._read(path, segment) if tally.size else None
        return isinstance(newest, Checkpoint) and (newest.size, newest.root) == (tally.size, tally.whole())

    def _is_young(self, file: str) -> bool:
        """Tell whether the segment may have ended only now, and be signed in a moment."""
        return self._patience > 0 and time.time() - (self._folder / file).stat().st_mtime < _YOUNG

    def missing(self, segment: int) -> list[FolderFinding]:
        """Return what is claimed of a segment that is not there."""
        return [
            about("", ROLLED_BACK, f"`{source}` vouches for {claim.size} lines of segment {segment}, which is missing")
            for source, claim in self._claims[segment]
            if claim.size
        ]

    def _read(self, path: Path, segment: int) -> Checkpoint | FolderFinding:
        try:
            note = path.read_bytes().decode()
            checkpoint = read_checkpoint(split_note(note)[0])
        except (OSError, ValueError) as problem:
            return about(path.name, UNREADABLE_CHECKPOINT, f"this is no checkpoint: {_plain(problem)}")
        try:
            if self._keys:
                open_checkpoint(note, self._keys)
        except ValueError as problem:
            return about(path.name, BAD_SIGNATURE, as_text(str(problem)))
        if checkpoint.segment != segment:
            return about(path.name, BAD_SIGNATURE, f"this is the checkpoint of `{as_text(checkpoint.origin)}`")
        return checkpoint


def read_kept(path: Path, keys: Sequence[VerifierKey]) -> Checkpoint:
    """
    Read a checkpoint that was kept elsewhere; with *keys* it must be signed by that of its journal.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no checkpoint, or that key has not signed it.
    """
    note = path.read_bytes().decode()
    return open_checkpoint(note, keys) if keys else read_checkpoint(split_note(note)[0])


def claim_in(path: Path) -> Checkpoint | None:
    """Return what a checkpoint file claims, whoever signed it: it is only held against the lines."""
    try:
        return read_checkpoint(split_note(path.read_bytes().decode())[0])
    except (OSError, ValueError):
        return None


def _contradiction(file: str, source: str, claim: Checkpoint, tally: Tally) -> FolderFinding | None:
    if claim.size > tally.size:
        sentence = f"`{source}` vouches for {claim.size} lines, {tally.size} are left: lines were dropped or altered"
        return about(file, ROLLED_BACK, sentence)
    if tally.roots[claim.size] != claim.root:
        sentence = f"the first {claim.size} lines are not those that `{source}` vouches for: the history was rewritten"
        return about(file, CONTRADICTED, sentence)
    return None


def _plain(problem: OSError | ValueError) -> str:
    if isinstance(problem, OSError):
        return problem.strerror or "it cannot be read"
    return "it is not text" if isinstance(problem, UnicodeDecodeError) else str(problem)
