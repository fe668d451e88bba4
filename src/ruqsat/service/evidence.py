"""
The evidence package for the authority (order §23; Law 94-V art. 25(2)): put together, signed, verified.

Everything is a value here; whoever calls reads the store, the journal and the archive.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from msgspec import Struct

from ruqsat.core.consent_record import ConsentRow
from ruqsat.core.evidence import (
    CONSENTS,
    ENTRIES,
    INCLUSION,
    MANIFEST,
    NOTICES,
    PROCEEDINGS,
    RECORDS,
    SIGNATURE,
    UNTOLD_BASIS,
    faults_of,
    manifest_of,
)
from ruqsat.core.information_answer import SECRET_AUTHORITIES
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.journal_proof import Inclusion
from ruqsat.core.kept_facts import FACTS
from ruqsat.core.outgoing import Listed
from ruqsat.core.outgoing import describe as describe_notice
from ruqsat.core.personal import lifted, of_one
from ruqsat.core.policy_release import Step
from ruqsat.core.proceeding import Hour, ProceedingRow
from ruqsat.core.proceeding_kinds import OFFICE
from ruqsat.core.registered import RecordRow
from ruqsat.core.signed_note import VerifierKey
from ruqsat.errors import JournalError, SettingsError
from ruqsat.service import consent_changes, proceeding_changes, record_changes
from ruqsat.service.record_seal import RecordSeal

Clock = Mapping[str, list[tuple[str, str, Instant]]]
Prove = Callable[[Sequence[bytes]], Inclusion]


class Found(Struct, frozen=True):
    """What the store holds of one person, and what the clock said of each proceeding."""

    consents: tuple[ConsentRow, ...]
    records: tuple[RecordRow, ...]
    proceedings: tuple[ProceedingRow, ...]
    clock: Clock
    releases: tuple[Step, ...]
    notices: tuple[Listed, ...] = ()


class _Signature(Struct, frozen=True, forbid_unknown_fields=True):
    algorithm: Literal["Ed25519"]
    public_key: bytes
    signature: bytes


class Extent(Struct, frozen=True):
    """Of whom, and from when to when: ``[since, until)``."""

    patient: str
    since: Instant
    until: Instant


def build_package(
    found: Found, journal: Iterable[bytes], extent: Extent, hour: Hour, seal: RecordSeal | None,
    prove: Prove = lambda lines: Inclusion(),
) -> dict[str, bytes]:  # fmt: skip
    """
    Return the files of a package, its manifest among them.

    Args:
        journal: Lines as they were written, of everybody; those of the person are taken as they are.
        seal: Opens what names people; None leaves it out.
        prove: Proves that lines are in signed journals.

    Raises:
        RecordUnreadableError: what is to be opened does not open: nothing is put together by halves.
    """
    told = [row for row in found.records if not _is_secret(row)]
    begun = [row for row in found.proceedings if row.created_at < extent.until and row.updated_at >= extent.since]
    lines, shown, secret = _entries(journal, extent, frozenset(row.id for row in found.records if _is_secret(row)))
    shown |= {row.id for row in told if row.created_at < extent.until} | {row.id for row in begun}
    files = {
        CONSENTS: _lines(_consent(row, seal) for row in found.consents if row.created_at < extent.until),
        RECORDS: _lines(_record(row, seal) for row in told if row.created_at < extent.until),
        PROCEEDINGS: _lines(_proceeding(row, found.clock.get(row.id, []), hour, seal) for row in begun),
        # Who was told of what is in the package, and of nothing else: a notice would give away what is left out.
        NOTICES: _lines(describe_notice(each) for each in found.notices if each.entry in shown),
        "policy.jsonl": _lines(msgspec.to_builtins(step) for step in found.releases if step.at < extent.until),
        ENTRIES: b"".join(lines),
        INCLUSION: msgspec.json.encode(prove(lines)),
    }
    about = {
        "patient": extent.patient, "since": render_instant(extent.since), "until": render_instant(extent.until),
        "made_at": render_instant(hour.now), "personal": seal is not None,
        "left_out": secret + len(found.records) - len(told),
    }  # fmt: skip
    return files | {MANIFEST: manifest_of(files, about)}


def _entries(journal: Iterable[bytes], extent: Extent, untold: frozenset[str]) -> tuple[list[bytes], set[str], int]:
    """
    Return the lines about the person, and those that say which policy decided; the ids of these entries; and how many
    must not be handed on.

    Raises:
        JournalError: a line cannot be read: part of a journal is no evidence.
    """
    lines, ids, secret, sign = [], set(), 0, msgspec.json.encode(extent.patient)
    for line in journal:
        if sign not in line and b'"kind":"policy"' not in line:
            continue
        try:
            entry = lifted(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, AttributeError) as error:
            raise JournalError("a line of the journal cannot be read: see `ruqsat journal verify`") from error
        if entry.get("kind") == FACTS:
            continue  # what was known of the person, secret requests too; the registries' own records are handed on
        if entry.get("kind") != "policy":
            if not _is_about(entry, extent):
                continue
            if entry.get("basis") == UNTOLD_BASIS or untold & {entry.get("resource"), *entry.get("applied", ())}:
                secret += 1
                continue
        lines.append(of_one(line, extent.patient))
        ids.add(str(entry.get("id")))
    return lines, ids, secret


def _is_about(entry: Mapping[str, Any], extent: Extent) -> bool:
    whose = (entry.get("patient"), *entry.get("patients_beside", ()))
    return extent.patient in whose and extent.since <= parse_instant(entry["at"]) < extent.until


def _is_secret(row: RecordRow) -> bool:
    return row.kind == "request" and row.body.said.get("authority") in SECRET_AUTHORITIES


def _consent(row: ConsentRow, seal: RecordSeal | None) -> dict[str, Any]:
    told = consent_changes.describe(row) | {"facts": msgspec.to_builtins(row.body.record)}
    return told if seal is None else told | consent_changes.unsealed(row, seal)


def _record(row: RecordRow, seal: RecordSeal | None) -> dict[str, Any]:
    told = {"kind": row.kind} | record_changes.describe(row, 0)
    return told if seal is None or not row.sealed else told | record_changes.unsealed(row, seal)


def _proceeding(
    row: ProceedingRow, clock: list[tuple[str, str, Instant]], hour: Hour, seal: RecordSeal | None
) -> dict[str, Any]:
    said = [{"event": event, "due": due, "at": render_instant(at)} for event, due, at in clock]
    told = proceeding_changes.describe(row, hour, OFFICE) | {"clock": said}
    return told if seal is None else told | proceeding_changes.unsealed(row, seal)


def _lines(values: Iterable[Any]) -> bytes:
    return b"".join(msgspec.json.encode(value) + b"\n" for value in values)


def sign(files: Mapping[str, bytes], pem: bytes) -> bytes:
    """
    Return the signature over the manifest of a package, with the public key.

    Raises:
        SettingsError: the key is no private key of Ed25519 in PEM.
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError("the signing key is no unencrypted Ed25519 private key in PEM")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return msgspec.json.encode(_Signature("Ed25519", public, key.sign(files[MANIFEST])))


def faults(
    files: Mapping[str, bytes], trusted: bytes | None, journal_keys: Sequence[VerifierKey] = ()
) -> Iterator[str]:  # fmt: skip
    """
    Say what of a package is not as it was made, or not signed as it should be.

    Args:
        trusted: The public key in PEM that must have signed it; None takes the package's own, which shows only that
            nothing was altered by whoever lacks that key.
        journal_keys: Those that sign the journals' checkpoints.

    Raises:
        SettingsError: the trusted key is no public key of Ed25519 in PEM.
    """
    yield from faults_of(files, journal_keys)
    expected = None if trusted is None else _public(trusted)
    if SIGNATURE not in files:
        if expected is not None:
            yield "the package is not signed"
        return
    try:
        parts = msgspec.json.decode(files[SIGNATURE], type=_Signature)
        Ed25519PublicKey.from_public_bytes(parts.public_key).verify(parts.signature, files.get(MANIFEST, b""))
    except (msgspec.MsgspecError, InvalidSignature, ValueError):
        yield "the signature does not hold"
        return
    if expected is not None and parts.public_key != expected:
        yield "the package is signed by another key"


def signer_of(files: Mapping[str, bytes]) -> str | None:
    """Return the public key that a package says it is signed by, in base64; None for an unsigned one."""
    if SIGNATURE not in files:
        return None
    return base64.b64encode(msgspec.json.decode(files[SIGNATURE], type=_Signature).public_key).decode()


def _public(pem: bytes) -> bytes:
    try:
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError("the trusted key is no Ed25519 public key in PEM")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
