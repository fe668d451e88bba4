"""
What a verified signature means for a consent: who had to sign it, and what becomes of its items (order §9(10), §10).

A finding is about bytes and a certificate.  That these bytes say what the fields
say is for whoever shows them to the signer; the hash on record lets it be shown.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.consent_items import Data, Failing, at
from ruqsat.core.consent_record import Attested
from ruqsat.core.instant import SECOND, Instant, parse_instant, render_instant
from ruqsat.core.signature_finding import CLOCK_TOLERANCE, Finding, same_serial

NOTHING_STATED: Data = {"signature": None, "representative": None, "entry": None}
_ELECTRONIC = ("patient_eds", "rep_eds")


class Examined(Struct, frozen=True):
    """What the verifier found of the signatures that came along, None for those that did not."""

    signature: Finding | None = None
    entry: Finding | None = None


def failing_signature(data: Data, finding: Finding | None) -> tuple[Failing, ...]:
    """Return what fails of the signature of a permit: its own finding, another signer, another time or certificate."""
    if finding is None or data["effect"] == "deny":
        return ()
    if at(data, "signature.kind") not in (None, *_ELECTRONIC):
        return (Failing("/signature/kind", "R9.10", "not_allowed"),)
    code = finding.failure or _not_by(finding, data) or _not_as_stated(finding, data["signature"] or {}, "cert_serial")
    return () if code is None else (Failing("/signature/cms", "R9.10", code),)


def failing_signatures(data: Data, verification: Data, examined: Examined) -> tuple[Failing, ...]:
    """Return what fails of the signatures that a verification stands on: the consent's, and that of a paper's entry."""
    found = failing_signature(data, examined.signature)
    finding, entry = examined.entry, verification["entry"]
    if finding is None or entry is None:
        return found
    code = finding.failure or _not_by_operator(finding, data) or _not_as_stated(finding, entry, "eds_serial")
    return found if code is None else (*found, Failing("/entry/cms", "R10", code))


def _not_by(finding: Finding, data: Data) -> str | None:
    signer = at(data, "representative.iin" if at(data, "given_by.type") == "legal_rep" else "owner.iin")
    # With a certificate of an organisation its holder signs for the organisation.
    own = finding.iin is not None and finding.iin == signer and finding.bin is None
    return None if own else "wrong_signer"


def _not_by_operator(finding: Finding, data: Data) -> str | None:
    if at(data, "operator.kind") == "individual":
        own = finding.iin is not None and finding.iin == at(data, "operator.iin")
    else:
        own = finding.bin is not None and finding.bin == at(data, "operator.bin")
    return None if own else "wrong_signer"


def _not_as_stated(finding: Finding, stated: Data, serial: str) -> str | None:
    moment = stated.get("at")
    if moment is not None and abs(parse_instant(moment) - (finding.signed_at or 0)) > CLOCK_TOLERANCE:
        return "other_time"
    if stated.get(serial) and not same_serial(stated[serial], finding.serial):
        return "certificate_differs"
    for name, certified in (("cert_valid_from", finding.valid_from), ("cert_valid_to", finding.valid_to)):
        if stated.get(name) is not None and parse_instant(stated[name]) // SECOND != (certified or 0) // SECOND:
            return "certificate_differs"
    return None


def with_certificate(data: Data, finding: Finding | None) -> Data:
    """Return the document with what its verified certificate says, where it says nothing itself."""
    signature = data["signature"]
    if finding is None or finding.failure is not None or signature is None:
        return data
    certified = {
        "at": finding.signed_at, "cert_serial": finding.serial, "cert_iin": finding.iin, "hash": finding.digest,
        "cert_valid_from": finding.valid_from, "cert_valid_to": finding.valid_to,
    }  # fmt: skip
    return {**data, "signature": _completed(signature, certified)}


def with_findings(verification: Data, examined: Examined, wrong: tuple[Failing, ...]) -> dict[str, Any]:
    """Return the verification with what the verifier found; what the desk says against it stays."""
    told = dict(verification)
    if (finding := examined.signature) is not None:
        stated = told["signature"] or {}
        told["signature"] = {
            **stated,
            "ok": stated.get("ok") is not False and not any(each.item == "R9.10" for each in wrong),
            "method": stated.get("method") or "cms",
            "document_ref": stated.get("document_ref") or finding.digest,
            "finding": msgspec.to_builtins(finding),
        }
    if (finding := examined.entry) is not None and told["entry"] is not None:
        certified = {
            "at": finding.signed_at, "eds_serial": finding.serial, "bin": finding.bin, "scan_hash": finding.digest,
        }  # fmt: skip
        told["entry"] = {**_completed(told["entry"], certified), "finding": msgspec.to_builtins(finding)}
    return told


def _completed(stated: Data, certified: Mapping[str, Any]) -> dict[str, Any]:
    rendered = {
        name: render_instant(value) if isinstance(value, Instant) else value for name, value in certified.items()
    }
    return {**stated, **{name: value for name, value in rendered.items() if not stated.get(name)}}


def attested(stated: Data, examined: Examined, subject: str, now: Instant) -> tuple[Attested, ...]:
    """Return who found that these parts hold."""
    verifier = {"signature": examined.signature, "entry": examined.entry}
    return tuple(
        Attested(part, "desk", now, subject) if verifier.get(part) is None else Attested(part, "verifier", now)  # type: ignore[arg-type]
        for part in stated
    )


def unverified_document(data: Data, told: tuple[Attested, ...]) -> Data:
    """
    Return a document without its signature, if that was verified before.

    It held when it was handed in: that its certificate ends later takes nothing from it.
    """
    if data["signature"] is None or not any(each.part == "signature" and each.by == "verifier" for each in told):
        return data
    return {**data, "signature": {**data["signature"], "cms": None}}


def without_documents(data: Data) -> dict[str, Any]:
    """Return a document without the bytes that were signed: their hash is kept, they are not."""
    kept = dict(data)
    if kept.get("signature") is not None:
        kept["signature"] = {**kept["signature"], "document": None}
    if kept.get("verification") is not None:
        parts = kept["verification"]
        kept["verification"] = {
            name: part if name == "representative" or part is None else {**part, "document": None}
            for name, part in parts.items()
        }
    return kept
