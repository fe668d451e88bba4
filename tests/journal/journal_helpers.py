"""What the tests of the journal share: entries, and a plain reading of a folder."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ruqsat.core.signed_note import SigningKey
from ruqsat.stores.journal_folder import list_segments


def decision(number: int) -> bytes:
    """Return the entry of decision *number*."""
    return b'{"kind":"decision","id":%d}' % number


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """Return every line of the journal in *folder*, headers included."""
    texts = [segment.path.read_bytes() for segment in list_segments(folder)]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def headers_in(folder: Path) -> list[dict[str, Any]]:
    """Return the header of every segment in *folder*."""
    return [line for line in lines_in(folder) if line["kind"] == "segment"]


def ids_in(folder: Path) -> list[int]:
    """Return the ids of the decisions in *folder*, in order."""
    return [line["id"] for line in lines_in(folder) if line["kind"] == "decision"]


def story_of(folder: Path) -> list[str | int]:
    """Return, in order, why each segment was begun and which decisions it holds."""
    return [line["because"] if line["kind"] == "segment" else line["id"] for line in lines_in(folder)]


def on_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *main* on a loop of its own."""
    asyncio.run(main())


def signing_key(name: str = "clinic.example/a", seed: int = 1) -> SigningKey:
    """Return a key that is the same in each run."""
    return SigningKey(name, Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def about_patient(number: int, *patients: str) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the entry of decision *number*, and its personal parts: one for each of *patients*."""
    parts = [b'{"subject":"dr-%d","patient":"%b","resource":"r%d"}' % (number, patients[0].encode(), number)]
    if len(patients) > 1:
        parts = [b'{"subject":"dr-%d"}' % number, b'{"patient":"%b","resource":"r%d"}' % (patients[0].encode(), number)]
        parts += [b'{"patients_beside":["%b"]}' % each.encode() for each in patients[1:]]
    return b'{"kind":"decision","id":"d-%d","allowed":true,"rule":"consent-01"}' % number, tuple(parts)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return every file of the journal in *folder* but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != "journal.lock"}
