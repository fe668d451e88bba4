"""Records that come signed, for the tests of every way in."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.signatures.trust import Trust
from tests.signatures.pki import Cms, Holder, authority, person, rsa_key

ALWAYS: dict[str, Any] = {"since": datetime(2000, 1, 1, tzinfo=UTC), "until": datetime(2200, 1, 1, tzinfo=UTC)}
DOCTOR, NURSE = "880808100203", "880808100309"
"""Numbers of a doctor and of somebody else; nobody has them."""

RECORD = json.dumps({"patient": "p-dana", "class": "labs", "id": "o1", "value": "7.1"}).encode()


@cache
def root() -> Holder:
    """The root that is trusted."""
    return authority("records-root", **ALWAYS)


@cache
def medic(iin: str = DOCTOR) -> Holder:
    """A person's certificate under it."""
    return person(iin, issuer=root(), key=rsa_key(f"medic-{iin}"), **ALWAYS)


def verifier() -> CmsVerifier:
    """Return a verifier that trusts it."""
    return CmsVerifier(Trust((root().certificate,), ()))


def signature(document: bytes = RECORD, by: Holder | None = None, ago: float = 1, **parts: Any) -> str:
    """Return a signature as a header holds it, made so many seconds ago; *parts* are those of ``Cms``."""
    holder = by or medic()
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=ago)
    parts = {"certificates": [holder.der]} | parts
    return b64encode(Cms(by=holder, at=at, document=document, **parts).der()).decode()


def provenance(*signatures: str) -> str:
    """Return a Provenance of FHIR with these signatures, as its header holds it."""
    told = [{"sigFormat": "application/pkcs7-signature", "data": each} for each in signatures]
    return json.dumps({"resourceType": "Provenance", **({"signature": told} if told else {})})
