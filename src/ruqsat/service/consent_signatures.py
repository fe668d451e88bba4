"""Has the verifier look at the signatures that come with a consent or its verification."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ruqsat.core.consent_signature import Examined
from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import Finding, SignedContent
from ruqsat.service.verifications import Verifications

SECONDS = 10.0
"""How long the verifier of a registry may take; ours needs milliseconds, a plug-in may ask somebody."""


async def examine(
    verifier: Verifications | None, data: Mapping[str, Any], verification: Mapping[str, Any] | None, now: Instant
) -> Examined:
    """
    Return what is found of the signatures at hand: the document's own, those of a verification.

    Where the document brought one and the verification brings another, both must hold, and be of one signer.
    """
    if verifier is None or data["effect"] == "deny":
        return Examined()
    stated = verification or {}
    own, later, entry = data["signature"] or {}, stated.get("signature") or {}, stated.get("entry") or {}
    found = [
        await _found(verifier, each["cms"], each.get("document"), own.get("hash"), now)
        for each in (own, later)
        if each.get("cms") is not None
    ]
    against = [each for each in found if each.failure is not None]
    if len({(each.iin, each.bin) for each in found}) > 1:
        against.append(Finding("wrong_signer"))
    paper = entry.get("cms")
    return Examined(
        next(iter(against or found), None),
        None if paper is None else await _found(verifier, paper, entry.get("document"), entry.get("scan_hash"), now),
    )


async def _found(verifier: Verifications, cms: str, document: str | None, digest: str | None, now: Instant) -> Finding:
    content = SignedContent(None if document is None else _bytes(document), None if digest is None else _hash(digest))
    signature = cms.encode("ascii", "replace") if cms.lstrip().startswith("-----") else _bytes(cms)
    return await verifier.find(signature, content, now)


def _bytes(text: str) -> bytes:
    """Decode base64; what is none becomes empty, which no signature and no document is."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
