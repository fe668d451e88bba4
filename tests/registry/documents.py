"""One whole consent to start from, and what a desk says of it; nobody in it exists, and each name in it is a canary."""

import copy
from typing import Any

OWNER, REPRESENTATIVE, WORKER, OTHER = "880808100001", "880808100203", "880808100309", "010101700016"
BIN = "301240000011"
HASH = "9f" * 32

_CONTACT = {"address": "CANARY-address", "phones": ["CANARY-phone"], "postal": ["CANARY-postal"]}


def person(iin: str) -> dict[str, Any]:
    """Return a person with the details that order §9(1) asks for."""
    return {
        "iin": iin, "surname": "CANARY-surname", "given": "CANARY-given", "patronymic": "CANARY-patronymic",
        "address": "CANARY-home",
        "id_doc": {"number": "CANARY-document", "issued_on": "2020-02-03", "issuer": "CANARY-issuer"},
    }  # fmt: skip


def consent(**changes: Any) -> dict[str, Any]:
    """Return a whole consent of p-dana to h1, signed electronically; *changes* replace its fields."""
    whole = {
        "patient": "p-dana",
        "effect": "permit",
        "kind": "processing",
        "owner": person(OWNER),
        "given_by": {"type": "patient", "id": "p-dana"},
        "operator": {"org": "h1", "kind": "legal_entity", "name": "CANARY-hospital", "bin": BIN, **_CONTACT},
        "responsible": [{"iin": WORKER, "surname": "CANARY-worker", "given": "CANARY-works", **_CONTACT}],
        "start": "2026-04-01T09:00:00+05:00",
        "end": "2099-04-01T09:00:00+05:00",
        "purposes": ["TREAT"],
        "purpose_text": "CANARY-purpose",
        "categories": ["demographics", "clinical"],
        "actions": ["read", "search"],
        "methods_text": "CANARY-methods",
        "withdrawal_methods": ["CANARY-withdrawal"],
        "form": "e_document",
        "signature": {
            "kind": "patient_eds", "at": "2026-04-01T09:00:00+05:00", "cert_serial": "CANARY-serial", "cert_iin": OWNER,
            "cert_valid_from": "2025-12-01T00:00:00+05:00", "cert_valid_to": "2026-12-01T00:00:00+05:00", "hash": HASH,
        },
        "databases": [{"id": "CANARY-database", "country": "KZ", "address": "CANARY-datacentre"}],
        "third_party_transfer": False,
        "cross_border": [],
        "public_dissemination": False,
        "text_version": "CANARY-version",
        "language": "kk",
        "verification": None,
    }  # fmt: skip
    return copy.deepcopy(whole | changes)


CHECKED = {"ok": True, "method": "CANARY-method", "document_ref": "CANARY-reference"}


def verified(**changes: Any) -> dict[str, Any]:
    """Return the consent as a desk hands it in, its signature checked."""
    return consent(verification={"signature": dict(CHECKED)}) | changes
