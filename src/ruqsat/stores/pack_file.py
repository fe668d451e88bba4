"""
A whole pack in one file, so that it is read as it was written or not at all.

Format: one line of JSON (``format``, ``version`` of
Ruqsat, ``digest``, ``sha256`` of what follows), then the
files as msgpack.  Written beside its name and renamed; verified at every reading.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from ruqsat import __version__
from ruqsat.core.pack import digest_of
from ruqsat.core.policy_release import decode_texts, encode_texts
from ruqsat.errors import PolicyError

MAX_BYTES = 256 * 1024 * 1024


class Head(Struct, frozen=True):
    """The first line of a pack file."""

    format: int
    version: str
    digest: str
    sha256: str


def write_pack_file(path: Path, texts: Mapping[str, bytes]) -> str:
    """Write *texts* to *path*, durably and in one step; return the SHA-256 of their bytes."""
    body = encode_texts(texts)
    sha256 = hashlib.sha256(body).hexdigest()
    head = msgspec.json.encode(Head(1, __version__, digest_of(texts), sha256))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(head + b"\n" + body)
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)
    sync_folder(path.parent)
    return sha256


def read_pack_file(path: Path) -> tuple[Head, dict[str, bytes]]:
    """
    Read a pack file.

    Raises:
        PolicyError: it is missing, cut short, or not what was written.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise PolicyError(f"`{path}` is larger than {MAX_BYTES >> 20} MiB")
        first, _, body = path.read_bytes().partition(b"\n")
        head = msgspec.json.decode(first, type=Head)
        texts = decode_texts(body)
    except OSError as error:
        raise PolicyError(f"`{path}` cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise PolicyError(f"`{path}` is damaged: it is no pack file") from error
    if head.format != 1 or hashlib.sha256(body).hexdigest() != head.sha256 or digest_of(texts) != head.digest:
        raise PolicyError(f"`{path}` is damaged: its content is not what was written")
    return head, texts


def sync_folder(folder: Path) -> None:
    """Make names in *folder* durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
