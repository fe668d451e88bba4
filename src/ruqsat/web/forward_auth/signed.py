"""
Records that come signed (order §29): the signature in a header, over the very bytes of the body.

``X-Ruqsat-Signature`` holds a detached CMS in base64, ``X-Provenance`` a Provenance of FHIR with one signature; one of
the two.  A write that brings one passes only if it is verified here: a proxy carries out no duty, so Ruqsat does.
"""

import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.record_signature import failing_of
from ruqsat.core.signature_finding import SignedContent
from ruqsat.errors import RequestError
from ruqsat.service.entries import SignedBy
from ruqsat.service.verifications import Verifications
from ruqsat.web.claims import Identity
from ruqsat.web.forward_auth.shared import Headers, Receive, Refused
from ruqsat.web.wire import refuse_repeated_members

SIGNATURE, PROVENANCE = b"x-ruqsat-signature", b"x-provenance"
Mark = tuple[bytes, bytes]
ENVOY: Mark = (b"x-envoy-auth-partial-body", b"false")
MARKS = {"envoy": ENVOY, "haproxy": (b"x-ruqsat-body", b"whole")}
"""By which header a proxy says that it shows a body, and the whole of it; no client's header of that name arrives."""

METHODS = frozenset({"POST", "PUT", "PATCH"})
MAX_BODY_BYTES = 64 * 1024 - 1
"""
One less than Envoy is told to hold back.

Told to hand on a part of what is larger (``allow_partial_message``), it calls a buffer that is exactly full the whole.
"""

ReadBody = Callable[[], Awaitable[bytes]]
"""Returns the whole body as the client sent it; raises Refused where that is not sure."""

_FORMAT = re.compile(rb"application/(?:fhir\+|json-patch\+)?json\s*(?:;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)


class _Signature(Struct, frozen=True):
    data: str | None = None


class _Provenance(Struct, frozen=True):
    resource_type: Literal["Provenance"] = msgspec.field(name="resourceType")
    signature: tuple[_Signature, ...] = ()
    target: Any = None


class Signed(Struct, frozen=True):
    """What a write brings: a signature of nobody knows whom yet, and the body."""

    cms: bytes
    body: bytes


async def read_signed(method: str, headers: Headers, read_body: ReadBody | None) -> Signed | None:
    """
    Return the signature of a write and the body that it should be of; None where none came along.

    Args:
        read_body: None where the proxy shows no body: what it lets through could be anything.

    Raises:
        Refused: the signature is none, there are two, or the body is not sure to be whole, or no JSON.
    """
    cms = _signature_in(headers) if method in METHODS else None
    if cms is None:
        return None
    if read_body is None:
        raise Refused("signature.body_unseen")
    if not _is_json(headers):
        raise Refused("signature.body_format")
    body = await read_body()
    if not body:
        raise Refused("signature.body_unseen")
    return Signed(cms, body)


async def read_shown(method: str, headers: Headers, read_body: ReadBody | None) -> bytes | None:
    """
    Return the body of a write without a signature, where the proxy shows the whole of it and it is JSON.

    None for anything else: it counts as unseen, and what depends on it is refused.
    """
    if method not in METHODS or read_body is None or not _is_json(headers):
        return None
    try:
        return await read_body()
    except Refused:
        return None


def _is_json(headers: Headers) -> bool:
    """
    Tell whether it is said, and said once: else the proxy hands on no headers that change what is meant.

    What comes in a coding is none: whoever decodes it reads other bytes than those that are here.
    """
    formats = [value for name, value in headers if name == b"content-type"]
    is_coded = any(name.replace(b"_", b"-") == b"content-encoding" for name, _ in headers)
    return not is_coded and len(formats) == 1 and _FORMAT.fullmatch(formats[0]) is not None


def _signature_in(headers: Headers) -> bytes | None:
    found = [(name, value) for name, value in headers if name in (SIGNATURE, PROVENANCE)]
    if len(found) > 1:
        raise Refused("signature.header_twice")
    if not found:
        return None
    name, value = found[0]
    text = value if name == SIGNATURE else _in_provenance(value)
    if text is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("signature.malformed") from None


def _in_provenance(value: bytes) -> str | None:
    """Return the one signature of a Provenance; one without says who entered a record, which decides nothing here."""
    try:
        refuse_repeated_members(value)
        told = msgspec.json.decode(value, type=_Provenance)
    except (RequestError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Refused("signature.malformed") from None
    if told.target is not None:
        # A server puts there what is written; whatever else it names would get a signature that is none of it.
        raise Refused("signature.malformed")
    if len(told.signature) > 1:
        raise Refused("signature.several_signers")
    return told.signature[0].data or "" if told.signature else None


def refuse_part(headers: Headers, mark: Mark) -> None:
    """
    Let pass what the proxy says is the whole body.

    Raises:
        Refused: it says that it is a part, or does not say it once.
    """
    said = [value for name, value in headers if name == mark[0]]
    if said != [mark[1]]:
        raise Refused("signature.body_partial" if said else "signature.body_unseen")


async def read_arriving(receive: Receive, headers: Headers, mark: Mark) -> bytes:
    """Return the body of a question over HTTP, as ``ReadBody``."""
    refuse_part(headers, mark)
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("signature.body_partial")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise Refused("signature.body_too_large")
    return bytes(body)


class Signatures:
    """
    Says who signed a record, and that it is the one who enters it.

    Args:
        verifications: None where no trust store is configured: nothing is verified, so no signature counts.
        now: The moment of receipt.
    """

    def __init__(self, verifications: Verifications | None, now: Callable[[], Instant]) -> None:
        self._verifications, self._now = verifications, now

    async def verify(self, signed: Signed, who: Identity) -> SignedBy:
        """
        Return what the journal keeps of a good signature by the subject of the token itself.

        Raises:
            Refused: it is not good, not by this person or not of this moment, or cannot be verified.
        """
        if self._verifications is None:
            raise Refused("signature.not_verified_here")
        if who.subject.type != "user" or who.iin is None:
            raise Refused("signature.signer_unknown")
        now = self._now()
        finding = await self._verifications.find(signed.cms, SignedContent(signed.body), now)
        failing = failing_of(finding, who.iin, now)
        if failing is not None or finding.signed_at is None:
            raise Refused(f"signature.{failing}")
        return SignedBy(sha256(signed.cms).hexdigest(), finding.serial or "", render_instant(finding.signed_at))
