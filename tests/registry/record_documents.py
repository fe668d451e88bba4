"""One whole record of each kind to start from; nobody in them exists, and each name in them is a canary."""

import copy
from typing import Any

from tests.registry.corpus import AUTHORITY
from tests.registry.documents import BIN, OTHER, OWNER, REPRESENTATIVE, person, verified

CHECK = {"ok": True, "method": "CANARY-method", "document_ref": "CANARY-reference"}
REVIEW = {"verdict": "justified", "note": "CANARY-note of a reviewer"}

_WHOLE: dict[str, dict[str, Any]] = {
    "delegation": {
        "patient": "p-dana", "id": "g-new", "consent": "c-family",
        "delegate": {
            "subject": "arman", "iin": OTHER, "surname": "CANARY-surname", "given": "CANARY-given",
            "patronymic": "CANARY-patronymic", "relation": "CANARY-relation",
        },
        "categories": ["vitals"], "purposes": ["FAMRQT"], "start": "2026-05-01T00:00:00+05:00",
        "end": "2098-02-01T00:00:00+05:00",
    },
    "representation": {
        "patient": "p-dana", "subject": "saule", "owner": {"iin": OWNER},
        "representative": person(REPRESENTATIVE) | {
            "authority": AUTHORITY | {"kind": "poa", "issued_on": "2026-03-01", "valid_to": "2028-03-01"}
        },
    },
    "request": {
        "patient": "p-dana",
        "authority": {"kind": "court", "name": "CANARY-court", "bin": BIN, "address": "CANARY-address"},
        "official": {"surname": "CANARY-judge", "given": "CANARY-given", "patronymic": None, "position": "CANARY-post"},
        "request_no": "CANARY-number", "requested_on": "2026-11-20", "case_no": "CANARY-case",
        "paragraph": "273(4)(3)", "categories": ["labs"], "start": "2026-11-20T00:00:00+05:00",
        "end": "2099-12-01T00:00:00+05:00", "document_ref": "CANARY-document",
    },
    "grant": {
        "patient": "p-marat", "reason_code": "unconscious", "reason_text": "CANARY-reason of a clinician",
        "acknowledgement": {"text_version": "CANARY-warning", "at": "2026-11-24T09:00:00+05:00"},
        "workstation": "CANARY-workstation",
    },
}  # fmt: skip
PATHS = {
    "delegation": "delegations", "representation": "representations", "request": "statutory-requests",
    "grant": "emergency-grants",
}  # fmt: skip


def whole(kind: str, **changes: Any) -> dict[str, Any]:
    """Return a whole record of a kind; *changes* replace its fields."""
    return copy.deepcopy(_WHOLE[kind]) | changes


def family_consent(*delegations: str, **changes: Any) -> dict[str, Any]:
    """Return a verified consent of p-dana, given to h1, that names these delegations."""
    return verified(
        kind="delegation", delegations=list(delegations), grantees=[{"subject": "arman"}], third_party_transfer=True,
        purposes=["FAMRQT"], categories=["vitals"], actions=["read", "search"],
    ) | changes  # fmt: skip
