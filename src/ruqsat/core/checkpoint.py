"""
Checkpoints of the journal (C2SP ``tlog-checkpoint``): so many lines, with this root.

Each segment is a tree of its own, and its origin is the journal's name and the
segment's number.  The leaf of a line is the line's hash as it is written, which covers
the line before it: so a root holds its segment, and whatever stood before it.
"""

import base64
import binascii
import re
from collections.abc import Sequence

from msgspec import Struct

from ruqsat.core.merkle import leaf_hash
from ruqsat.core.signed_note import VerifierKey, open_note, split_note

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_ORIGIN = re.compile(r"(\S+)/([0-9]{8})", re.ASCII)
_ROOT_BYTES = 32


class Checkpoint(Struct, frozen=True):
    """
    What a journal vouches for: the first *size* lines of a segment, its header among them, have this root.

    Examples:
        >>> point = Checkpoint(origin_of("clinic.example/sidecar-1", 3), 0, bytes(32))
        >>> print(point.text(), end="")
        clinic.example/sidecar-1/00000003
        0
        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
        >>> read_checkpoint(point.text()) == point, point.name, point.segment
        (True, 'clinic.example/sidecar-1', 3)
    """

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @property
    def name(self) -> str:
        """The journal's name, which its key bears too."""
        return _place(self.origin)[0]

    @property
    def segment(self) -> int:
        """The segment's number."""
        return _place(self.origin)[1]


def origin_of(name: str, segment: int) -> str:
    """Return the origin of *segment* in the journal of this *name*."""
    return f"{name}/{segment:08d}"


def worker_name(name: str, number: int) -> str:
    """
    Return the name under which worker *number* signs, of a sidecar whose journals have this *name*.

    Examples:
        >>> worker_name("clinic.example/sidecar-1", 0)
        'clinic.example/sidecar-1/worker-0'
    """
    return f"{name}/worker-{number}"


def read_checkpoint(text: str) -> Checkpoint:
    """
    Read the text of a checkpoint; lines after the third are not ours, and are passed by.

    Raises:
        ValueError: it is none of a journal's.
    """
    lines = text.split("\n")
    if len(lines) < 4 or "" in lines[:-1] or lines[-1] or not _SIZE.fullmatch(lines[1]):
        raise ValueError("expected a checkpoint: origin, size and root, a line each")
    _place(lines[0])
    try:
        root = base64.b64decode(lines[2], validate=True)
    except (binascii.Error, ValueError):
        root = b""
    if len(root) != _ROOT_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise ValueError("the root of a checkpoint is 32 bytes in base64")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    """
    Read a checkpoint that the key of its own journal has signed: the one of *keys* that bears the journal's name.

    Raises:
        ValueError: it is none, or that key is not known or has not signed it.
    """
    found = read_checkpoint(split_note(note)[0])
    own = [key for key in keys if key.name == found.name]
    if not own:
        raise ValueError(f"the key is not that of the journal `{found.name}`")
    open_note(note, own)
    return found


def leaf_of(digest: bytes) -> bytes:
    """Return the leaf of the line whose hash is *digest*, 64 hexadecimal digits."""
    return leaf_hash(digest)


def _place(origin: str) -> tuple[str, int]:
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError("the origin of a journal's checkpoint is its name and the segment's number, `<name>/00000001`")
    return found[1], int(found[2])
