"""
Invalid consents as data: what is changed in the whole one, and what must be said of it.

``FAILS``: the record is kept, invalid, with this place, item and code.  ``REFUSED``: nothing is kept.
"""

import copy
from typing import Any, NamedTuple

from tests.registry.documents import BIN, OTHER, OWNER, REPRESENTATIVE, consent, person

GONE: Any = "(gone)"
AUTHORITY = {
    "kind": "parent", "number": "CANARY-authority", "issued_on": "2021-01-02", "valid_to": None,
    "issuer": "CANARY-registry",
}  # fmt: skip
BY_REPRESENTATIVE: dict[str, Any] = {
    "given_by": {"type": "legal_rep", "id": "saule", "kind": "parent"},
    "representative": person(REPRESENTATIVE) | {"authority": AUTHORITY},
    "signature.kind": "rep_eds",
    "signature.cert_iin": REPRESENTATIVE,
}
"""What makes the whole consent one of a representative's."""


class Fails(NamedTuple):
    """A change of the whole consent, and the finding that must come of it."""

    changes: dict[str, Any]
    path: str
    item: str
    code: str


class Refused(NamedTuple):
    """A change of the whole consent, and the problem document that must come of it."""

    changes: dict[str, Any]
    status: int
    code: str
    path: str | None = None
    field: str | None = None


def changed(changes: dict[str, Any], whole: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the consent with these places (dotted, indexes as numbers) set or gone."""
    document = consent() if whole is None else copy.deepcopy(whole)
    for path, value in copy.deepcopy(list(changes.items())):
        *way, last = path.split(".")
        place: Any = document
        for name in way:
            place = place[int(name)] if isinstance(place, list) else place[name]
        if value == GONE:
            place.pop(last)
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return document


def _one(path: str, value: Any, item: str, code: str, **more: Any) -> Fails:
    return Fails({path: value} | more, "/" + path.replace(".", "/"), item, code)


def _rep(path: str, value: Any, code: str = "missing", **more: Any) -> Fails:
    return Fails({**BY_REPRESENTATIVE, path: value} | more, "/" + path.replace(".", "/"), "R9.2", code)


_MISSING = {
    "R8": ("form",),
    "R9.1": (
        "owner.iin", "owner.surname", "owner.given", "owner.address", "owner.id_doc.number", "owner.id_doc.issued_on",
        "owner.id_doc.issuer",
    ),
    "R9.3": ("operator.org", "operator.kind", "operator.name", "operator.bin", "operator.address", "operator.phones",
             "operator.postal"),
    "R9.4": (
        "responsible", "responsible.0.iin", "responsible.0.surname", "responsible.0.given", "responsible.0.address",
        "responsible.0.phones", "responsible.0.postal",
    ),
    "R9.5": ("start",),
    "R9.6": ("purposes",),
    "R9.7": ("categories",),
    "R9.8": ("actions", "methods_text"),
    "R9.9": ("end", "withdrawal_methods"),
    "R9.10": (
        "given_by.type", "signature.kind", "signature.at", "signature.cert_serial", "signature.cert_iin",
        "signature.cert_valid_from", "signature.cert_valid_to", "signature.hash",
    ),
    "R9.11": ("databases", "databases.0.id", "databases.0.country", "databases.0.address"),
    "R9.x1": ("third_party_transfer",),
    "R9.x2": ("cross_border",),
    "R9.x3": ("public_dissemination",),
    "R9": ("text_version", "language"),
}  # fmt: skip

_POA = {
    "given_by.kind": "poa", "representative.authority.kind": "poa", "representative.authority.issued_on": "2026-03-01",
}  # fmt: skip

EXCLUDED = {"effect": "deny", "categories": ["labs"]}
REVERSED = {"start": "2026-01-02", "end": "2026-01-01"}

FAILS: list[Fails] = [
    *(_one(path, GONE, item, "missing") for item, paths in _MISSING.items() for path in paths),
    *(_rep(path, GONE) for path in (
        "given_by.id", "given_by.kind", "representative.iin", "representative.surname", "representative.given",
        "representative.address", "representative.id_doc.number", "representative.id_doc.issued_on",
        "representative.id_doc.issuer", "representative.authority.kind", "representative.authority.number",
        "representative.authority.issued_on", "representative.authority.issuer",
    )),
    # Blank is missing.
    _one("owner.surname", "   ", "R9.1", "missing"),
    _one("methods_text", "\t", "R9.8", "missing"),
    _one("operator.phones", [], "R9.3", "missing"),
    _one("operator.postal", [" "], "R9.3", "missing"),
    _one("withdrawal_methods", [""], "R9.9", "missing"),
    Fails({"owner": None}, "/owner/iin", "R9.1", "missing"),
    Fails({"operator": None}, "/operator/org", "R9.3", "missing"),
    Fails({"signature": None}, "/signature/at", "R9.10", "missing"),
    Fails({"given_by": None}, "/given_by/type", "R9.10", "missing"),
    Fails({"operator.kind": "individual"}, "/operator/iin", "R9.3", "missing"),
    # Identification numbers.
    *(_one("owner.iin", number, "R9.1", "check_digit") for number in (
        "880808100002", "88080810000", "8808081000011", "88080810000A", "8808 0810 0001", "٨٨٠٨٠٨١٠٠٠٠١", "880808100290",
    )),
    _one("operator.bin", BIN[:-1] + "2", "R9.3", "check_digit"),
    _one("operator.iin", "880808100002", "R9.3", "check_digit", **{"operator.kind": "individual"}),
    _one("responsible.0.iin", "123", "R9.4", "check_digit"),
    _one("signature.cert_iin", "880808100002", "R9.10", "check_digit"),
    _rep("representative.iin", "880808100209", "check_digit"),
    Fails({"grantees": [{"org": "h1"}, {"subject": "arman", "iin": "1"}], "third_party_transfer": True},
          "/grantees/1/iin", "R12", "check_digit"),
    # Who signed.
    _one("signature.cert_iin", OTHER, "R9.10", "wrong_signer"),
    _one("signature.kind", "rep_eds", "R9.10", "wrong_signer"),
    _rep("representative.iin", OWNER, "same_person", **{"signature.cert_iin": OWNER}),
    Fails(BY_REPRESENTATIVE | {"signature.cert_iin": OWNER}, "/signature/cert_iin", "R9.10", "wrong_signer"),
    Fails({"representative": person(REPRESENTATIVE)}, "/representative", "R9.2", "unexpected"),
    _one("signature.kind", "handwritten", "R9.10", "not_allowed"),
    _one("signature.kind", "sms", "R9.10", "not_allowed"),
    _one("signature.kind", "state_service_proof", "R9.10", "not_allowed"),
    # Dates.
    _one("owner.id_doc.issued_on", "2026-04-02", "R9.1", "after_signature"),
    _rep("representative.id_doc.issued_on", "2026-04-02", "after_signature"),
    _rep("representative.authority.issued_on", "2026-04-02", "after_signature"),
    _rep("representative.authority.valid_to", "2020-01-02", "reversed"),
    _rep("representative.authority.valid_to", "2029-03-02", "too_long", **_POA),
    Fails(BY_REPRESENTATIVE | _POA | {"representative.authority.issued_on": "2025-03-01"},
          "/representative/authority/valid_to", "R9.2", "expired"),
    _rep("representative.authority.valid_to", "2026-04-01", "expired"),
    _rep("representative.authority.kind", "guardian", "mismatch"),
    _one("signature.at", "2099-01-01T00:00:00Z", "R9.10", "in_future"),
    Fails({"signature.cert_valid_to": "2026-04-01T04:00:00Z"}, "/signature/at", "R9.10", "certificate_not_valid"),
    Fails({"signature.cert_valid_from": "2026-04-01T04:00:01Z"}, "/signature/at", "R9.10", "certificate_not_valid"),
    _one("end", "2026-04-01T09:00:00+05:00", "R9.9", "reversed"),
    _one("end", "2026-04-01T08:59:59+05:00", "R9.9", "reversed"),
    _one("end", "2026-04-01T05:00:00+01:00", "R9.9", "reversed"),
    Fails({"exceptions": [EXCLUDED | {"start": "2030-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}]},
          "/exceptions/0/end", "R9.9", "reversed"),
    Fails({"exceptions": [EXCLUDED | {"exceptions": [EXCLUDED | {"data_period": REVERSED}]}]},
          "/exceptions/0/exceptions/0/data_period/end", "R9.7", "reversed"),
    Fails({"data_period": REVERSED}, "/data_period/end", "R9.7", "reversed"),
    # Closed lists.
    *(Fails({name: [word]}, f"/{name}/0", item, "not_listed") for name, item, word in (
        ("purposes", "R9.6", "*"), ("purposes", "R9.6", "ANY"), ("purposes", "R9.6", "treat"),
        ("categories", "R9.7", "*"), ("categories", "R9.7", "Observation"), ("actions", "R9.8", "*"),
        ("actions", "R9.8", "write"), ("labels", "R9.7", "SECRET"),
    )),
    Fails({"exceptions": [{"effect": "deny", "purposes": ["*"]}]}, "/exceptions/0/purposes/0", "R9.6", "not_listed"),
    Fails({"exceptions": [{"effect": "deny", "grantees": [{"org": "h1"}, {"role": "doctor"}]}]},
          "/exceptions/0/grantees/1/role", "R12", "not_listed"),
    # Form, place, transfers.
    _one("form", "telephone", "R8", "not_allowed"),
    _one("form", "sms", "R8", "not_allowed"),
    Fails({"operator.is_state": True}, "/form", "R8", "state_service"),
    Fails({"form": "egov_cabinet", "operator.is_state": True}, "/state_service_ref", "R8", "missing"),
    Fails({"form": "egov_cabinet", "signature": {"kind": "state_service_proof", "at": "2026-04-01T04:00:00Z"}},
          "/state_service_ref", "R8", "missing"),
    _one("databases.0.country", "DE", "R9.11", "abroad"),
    Fails({"databases": [{"id": "a", "country": "KZ", "address": "b"}, {"id": "c", "country": "RU", "address": "d"}]},
          "/databases/1/country", "R9.11", "abroad"),
    Fails({"cross_border": ["KZ"]}, "/cross_border", "R9.x2", "not_abroad"),
    _one("third_party_transfer", True, "R9.x1", "contradiction"),
    Fails({"grantees": [{"org": "h2"}]}, "/third_party_transfer", "R9.x1", "contradiction"),
    Fails(BY_REPRESENTATIVE | {"grantees": [{"subject": "arman"}], "third_party_transfer": True},
          "/grantees/0/subject", "R12", "not_by_representative"),
    Fails({"grantees": [{}], "third_party_transfer": True}, "/grantees/0", "R12", "missing"),
    Fails({"responsible": [{}] * 3}, "/responsible", "R9.4", "too_many"),
]  # fmt: skip

_SHAPE = "malformed-document"
REFUSED: list[Refused] = [
    *(Refused({f"owner.id_doc.{name}": "CANARY-image"}, 422, "id-document-image", "/owner/id_doc", "id-document-image")
      for name in ("image", "copy", "scan", "photo", "attachment")),
    Refused(BY_REPRESENTATIVE | {"representative.id_doc.image": "CANARY-image"}, 422, "id-document-image",
            "/representative/id_doc", "id-document-image"),
    Refused({"id_document_image": True}, 422, "id-document-image", "", "id-document-image"),
    Refused({"CANARY-field": 1}, 422, _SHAPE, "", "unknown-field"),
    Refused({"owner.CANARY-field": 1}, 422, _SHAPE, "/owner", "unknown-field"),
    Refused({"owner.iin": 880808100001}, 422, _SHAPE, "/owner/iin", "string-type"),
    Refused({"owner": "CANARY-owner"}, 422, _SHAPE, "/owner"),
    Refused({"owner": ["CANARY-owner"]}, 422, _SHAPE, "/owner"),
    Refused({"effect": "CANARY-effect"}, 422, _SHAPE, "/effect", "literal-error"),
    Refused({"effect": GONE}, 422, _SHAPE, "/effect", "missing"),
    Refused({"patient": GONE}, 422, _SHAPE, "/patient", "missing"),
    Refused({"patient": OWNER}, 422, _SHAPE, "/patient", "value-error"),
    Refused({"start": "1795000000"}, 422, _SHAPE, "/start", "value-error"),
    Refused({"patient": "p|dana"}, 422, _SHAPE, "/patient", "string-pattern-mismatch"),
    Refused({"given_by.id": OWNER}, 422, _SHAPE, "/given_by/id", "value-error"),
    Refused({"start": "CANARY-start"}, 422, _SHAPE, "/start"),
    Refused({"start": "2026-04-01T09:00:00"}, 422, _SHAPE, "/start", "timezone-aware"),
    Refused({"start": 1775016000}, 422, _SHAPE, "/start"),
    Refused({"start": "1066-10-14T00:00:00Z"}, 422, _SHAPE, "/start", "value-error"),
    Refused({"signature.at": "2026-02-30T00:00:00Z"}, 422, _SHAPE, "/signature/at"),
    Refused({"owner.id_doc.issued_on": "03.02.2020"}, 422, _SHAPE, "/owner/id_doc/issued_on"),
    Refused({"purposes": "TREAT"}, 422, _SHAPE, "/purposes", "list-type"),
    Refused({"purposes": [1]}, 422, _SHAPE, "/purposes/0", "string-type"),
    Refused({"third_party_transfer": "no"}, 422, _SHAPE, "/third_party_transfer", "bool-type"),
    Refused({"cross_border": ["Germany"]}, 422, _SHAPE, "/cross_border/0", "string-pattern-mismatch"),
    Refused({"databases.0.country": "kz"}, 422, _SHAPE, "/databases/0/country", "string-pattern-mismatch"),
    Refused({"signature.hash": "CANARY-hash"}, 422, _SHAPE, "/signature/hash", "string-pattern-mismatch"),
    Refused({"purposes": ["TREAT"] * 101}, 422, _SHAPE, "/purposes", "too-long"),
    Refused({"owner.surname": "CANARY" * 200}, 422, _SHAPE, "/owner/surname", "string-too-long"),
    Refused({"codes": [OWNER]}, 422, _SHAPE, "/codes/0", "value-error"),
    Refused({"kind": "CANARY-kind"}, 422, _SHAPE, "/kind", "literal-error"),
    Refused({"conf": "X"}, 422, _SHAPE, "/conf", "literal-error"),
]  # fmt: skip
