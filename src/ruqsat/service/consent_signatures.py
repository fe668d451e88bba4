"""Has the verifier look at the signatures that come with a consent or its verification."""

import asyncio
import base64
import binascii
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ruqsat.core.consent_signature import Examined
from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import Finding, SignedContent
from ruqsat.service.signatures import SignatureVerifier

_log = logging.getLogger(__name__)

SECONDS = 10.0
"""How long a verifier may take; ours needs milliseconds, a plug-in may ask somebody."""

_THREADS = ThreadPoolExecutor(4, thread_name_prefix="ruqsat-signature")
"""Of verifiers alone: one that hangs keeps its thread, and must not take those of other work."""


async def examine(
    verifier: SignatureVerifier | None, data: Mapping[str, Any], verification: Mapping[str, Any] | None, now: Instant
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


async def _found(
    verifier: SignatureVerifier, cms: str, document: str | None, digest: str | None, now: Instant
) -> Finding:
    content = SignedContent(None if document is None else _bytes(document), None if digest is None else _hash(digest))
    signature = cms.encode("ascii", "replace") if cms.lstrip().startswith("-----") else _bytes(cms)
    try:
        work = asyncio.get_running_loop().run_in_executor(_THREADS, verifier.verify, signature, content, now)
        return await asyncio.wait_for(work, SECONDS)
    except TimeoutError:
        _log.warning("signature_verifier_failed error=no finding in time")
        return Finding("verifier_failed")


def _bytes(text: str) -> bytes:
    """What is no base64 is no signature and no document."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
