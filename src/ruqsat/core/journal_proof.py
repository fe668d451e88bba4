"""
Proofs that whoever holds the verifier key can check without the journal.

A receipt ties one entry, by its id, to a signed checkpoint.  A proof of consistency
shows that a journal only grew since a checkpoint that somebody kept: within a segment
by the tree, from one segment to the next by the header, which bears the hash of the
line before it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.checkpoint import Checkpoint, leaf_of, open_checkpoint, read_checkpoint
from ruqsat.core.line import read_line
from ruqsat.core.merkle import verify_consistency, verify_inclusion
from ruqsat.core.personal import lifted
from ruqsat.core.signed_note import VerifierKey, split_note

_NOT_SHOWN = "this does not follow from the checkpoint: the proof, or the journal that it is of, was altered"


class Receipt(Struct, frozen=True, tag_field="proof", tag="receipt"):
    """A line, its place in the segment, and the path from it to the root of a signed checkpoint."""

    line: str
    index: int
    path: tuple[str, ...]
    checkpoint: str


class Crossing(Struct, frozen=True):
    """From the end of a segment to the beginning of the next: its last hash, and the header that bears it."""

    last: str
    last_path: tuple[str, ...]
    header: str
    header_path: tuple[str, ...]


class Step(Struct, frozen=True):
    """One signed checkpoint further: of the same segment by *consistency*, of a later one by *crossing*."""

    checkpoint: str
    consistency: tuple[str, ...] = ()
    crossing: Crossing | None = None


class ConsistencyProof(Struct, frozen=True, tag_field="proof", tag="consistency"):
    """The steps from a checkpoint that was kept to the newest one."""

    steps: tuple[Step, ...]


class LineProof(Struct, frozen=True):
    """That a line is in a signed journal: its number in a list (from 1), its place, the path, which checkpoint."""

    line: int
    index: int
    path: tuple[str, ...]
    checkpoint: int


class Inclusion(Struct, frozen=True):
    """Proofs of many lines, and the checkpoints that they lead to."""

    checkpoints: tuple[str, ...] = ()
    proofs: tuple[LineProof, ...] = ()


Proof = Receipt | ConsistencyProof


def read_proof(text: bytes) -> Proof:
    """
    Read a proof.

    Raises:
        ValueError: it is none.
    """
    try:
        proof: Proof = msgspec.json.decode(text, type=Proof)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise ValueError(f"this is no proof of a journal: {problem}") from None
    return proof


def verify_receipt(receipt: Receipt, keys: Sequence[VerifierKey]) -> tuple[dict[str, Any], Checkpoint]:
    """
    Return the entry that a receipt is of, and the checkpoint that vouches for it.

    Raises:
        ValueError: nobody known vouches for this entry; the words say why.
    """
    checkpoint = open_checkpoint(receipt.checkpoint, keys)
    line = read_line(receipt.line.encode() + b"\n")
    if line is None or line.flaw is not None:
        raise ValueError((line.flaw if line is not None else None) or "this is no line of a journal")
    path = _hashes(receipt.path)
    leaf = leaf_of(line.hash)
    if receipt.index != line.number or not verify_inclusion(
        leaf, receipt.index, checkpoint.size, path, checkpoint.root
    ):
        raise ValueError(_NOT_SHOWN)
    return lifted(receipt.line.encode()), checkpoint


def false_proofs(inclusion: Inclusion, lines: Sequence[bytes], keys: Sequence[VerifierKey] = ()) -> list[str]:
    """
    Say, a sentence each, which proofs do not hold for *lines*.

    Args:
        keys: Whose checkpoints are believed; with none, their signatures are not looked at.
    """
    said = []
    for proof in inclusion.proofs:
        try:
            note = inclusion.checkpoints[proof.checkpoint]
            checkpoint = open_checkpoint(note, keys) if keys else read_checkpoint(split_note(note)[0])
            found = read_line(lines[proof.line - 1]) if 0 < proof.line <= len(lines) else None
            holds = found is not None and found.number == proof.index and verify_inclusion(
                leaf_of(found.hash), proof.index, checkpoint.size, _hashes(proof.path), checkpoint.root
            )  # fmt: skip
            said += [] if holds else [f"line {proof.line}: {_NOT_SHOWN}"]
        except (ValueError, IndexError) as problem:
            said.append(f"line {proof.line}: {problem}")
    return said


def verify_growth(kept: Checkpoint, proof: ConsistencyProof, keys: Sequence[VerifierKey]) -> Checkpoint:
    """
    Return the newest checkpoint of a journal that only grew since *kept*.

    Raises:
        ValueError: that is not shown; the words say why.
    """
    if not proof.steps:
        raise ValueError("the proof has no step")
    for step in proof.steps:
        following = open_checkpoint(step.checkpoint, keys)
        if following.name != kept.name:
            raise ValueError(f"this is the journal `{following.name}`, the kept checkpoint is of `{kept.name}`")
        is_shown = _grew(kept, following, step) if step.crossing is None else _crossed(kept, following, step.crossing)
        if not is_shown:
            raise ValueError(_NOT_SHOWN)
        kept = following
    return kept


def _grew(kept: Checkpoint, following: Checkpoint, step: Step) -> bool:
    path = _hashes(step.consistency)
    return following.segment == kept.segment and verify_consistency(
        kept.size, following.size, kept.root, following.root, path
    )


def _crossed(kept: Checkpoint, following: Checkpoint, crossing: Crossing) -> bool:
    """Tell whether the header of *following*'s segment bears the hash of the last line under *kept*."""
    header = read_line(crossing.header.encode() + b"\n")
    if header is None or header.flaw is not None or header.number or header.prev != crossing.last.encode():
        return False
    ends = verify_inclusion(
        leaf_of(header.prev), kept.size - 1, kept.size, _hashes(crossing.last_path), kept.root
    )  # fmt: skip
    begins = verify_inclusion(leaf_of(header.hash), 0, following.size, _hashes(crossing.header_path), following.root)
    return following.segment > kept.segment and ends and begins


def _hashes(path: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(each) for each in path]
