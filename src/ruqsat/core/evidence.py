"""
The evidence package for the authority (order §23), as named files: what it holds, and whether it still does.

A manifest lists every file with its digest; lines of the journal carry their own hash as well, acts of destruction
their digest.  Nothing but the package is needed to see whether it was altered.  That a line of the journal is one
of a journal that was signed, the proofs in ``journal/inclusion.json`` show; that none was left out, nothing in it can.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.journal_proof import Inclusion, false_proofs
from ruqsat.core.line import read_line
from ruqsat.core.proceeding import digest_of
from ruqsat.core.signed_note import VerifierKey

FORMAT = 1
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
ENTRIES, INCLUSION = "journal/entries.jsonl", "journal/inclusion.json"
CONSENTS, RECORDS, PROCEEDINGS = "consents.jsonl", "records.jsonl", "proceedings.jsonl"
NOTICES = "notices.jsonl"
OF_THE_PATIENT = (CONSENTS, RECORDS, PROCEEDINGS)
POLICY_LINE = b'"kind":"policy"'
UNTOLD_BASIS = "kz273_4_9"
"""What was done for special state bodies is no part of a package (Code 273(4)(9)); how much was left out is told."""


class ListedFile(Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a package: digest and size."""

    sha256: str
    bytes: int


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What a package says of itself; ``left_out`` counts what must not be handed on."""

    format: int
    patient: str
    since: str
    until: str
    made_at: str
    personal: bool
    left_out: int
    files: dict[str, ListedFile]


def manifest_of(files: Mapping[str, bytes], about: Mapping[str, Any]) -> bytes:
    """Return the manifest of these files."""
    listed = {name: ListedFile(hashlib.sha256(text).hexdigest(), len(text)) for name, text in sorted(files.items())}
    manifest = Manifest(format=FORMAT, files=listed, **about)
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)


def read_manifest(text: bytes) -> Manifest | None:
    """Return a manifest, None for what is none of this format."""
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return manifest if manifest.format == FORMAT else None


def faults_of(files: Mapping[str, bytes], keys: Sequence[VerifierKey] = ()) -> Iterator[str]:
    """
    Say, a sentence each, what of a package is not as it was made; nothing if all of it is.

    Args:
        keys: Of the journals, which must have signed every line of them; with none that is not looked at.
    """
    manifest = read_manifest(files.get(MANIFEST, b""))
    if manifest is None:
        yield f"`{MANIFEST}` is missing or cannot be read"
        return
    there = {name for name in files if name not in (MANIFEST, SIGNATURE)}
    for name in sorted(there - manifest.files.keys()):
        yield f"`{name}` is not in the manifest: it was put here later"
    for name, listed in manifest.files.items():
        if name not in there:
            yield f"`{name}` is missing"
        elif hashlib.sha256(files[name]).hexdigest() != listed.sha256 or len(files[name]) != listed.bytes:
            yield f"`{name}` was altered"
    seen: set[bytes] = set()
    for number, line in enumerate(files.get(ENTRIES, b"").splitlines(keepends=True), 1):
        if (read := read_line(line)) is None or read.flaw is not None:
            yield f"`{ENTRIES}`, line {number}: the line and its hash disagree"
        elif read.hash in seen:
            yield f"`{ENTRIES}`, line {number}: it stands here before, and was written once"
        else:
            seen.add(read.hash)
    yield from _faults_of_acts(files.get(PROCEEDINGS, b""))
    yield from _faults_of_proofs(files, keys)


def tells_nothing(files: Mapping[str, bytes]) -> bool:
    """Tell whether a package holds nothing of its patient: the steps of the policy are nobody's."""
    entries = files.get(ENTRIES, b"").splitlines()
    return not any(files.get(name) for name in OF_THE_PATIENT) and all(POLICY_LINE in line for line in entries)


def proved_lines(files: Mapping[str, bytes]) -> tuple[int, int]:
    """Return how many lines of the journal a package proves, and how many it holds."""
    inclusion = _inclusion_of(files)
    proved = {proof.line for proof in inclusion.proofs} if inclusion is not None else set()
    return len(proved), files.get(ENTRIES, b"").count(b"\n")


def _faults_of_proofs(files: Mapping[str, bytes], keys: Sequence[VerifierKey]) -> Iterator[str]:
    inclusion = _inclusion_of(files)
    if inclusion is None:
        yield f"`{INCLUSION}` cannot be read"
        return
    lines = files.get(ENTRIES, b"").splitlines(keepends=True)
    yield from (f"`{INCLUSION}`, {said}" for said in false_proofs(inclusion, lines, keys))
    proved, held = proved_lines(files)
    if keys and proved < held:
        yield f"`{INCLUSION}` proves {proved} of {held} lines: nobody whose key was named signed the others"


def _inclusion_of(files: Mapping[str, bytes]) -> Inclusion | None:
    if INCLUSION not in files:
        return Inclusion()
    try:
        return msgspec.json.decode(files[INCLUSION], type=Inclusion)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _faults_of_acts(text: bytes) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        try:
            act = msgspec.json.decode(line).get("act")
            if act is not None and digest_of({k: v for k, v in act.items() if k != "digest"}) != act["digest"]:
                yield f"`{PROCEEDINGS}`, line {number}: the act of destruction was altered"
        except (msgspec.MsgspecError, UnicodeError, RecursionError, AttributeError, KeyError, TypeError):
            yield f"`{PROCEEDINGS}`, line {number}: cannot be read"
