"""
Invalid records as data: what is changed in a whole one of a kind, and what must be said of it.

``RECORD_FAILS``: kept, invalid, with this place, item and code.  ``RECORD_REFUSED``: nothing is kept.
"""

from typing import Any, NamedTuple

from tests.registry.corpus import GONE
from tests.registry.documents import OWNER, REPRESENTATIVE


class RecordFails(NamedTuple):
    """A change of the whole record of a kind, and the finding that must come of it."""

    kind: str
    changes: dict[str, Any]
    path: str
    item: str
    code: str


class RecordRefused(NamedTuple):
    """A change of the whole record of a kind, and the place and code that the problem document must name."""

    kind: str
    changes: dict[str, Any]
    path: str
    field: str | None = None


def _gone(kind: str, item: str, *paths: str) -> list[RecordFails]:
    return [RecordFails(kind, {path: GONE}, "/" + path.replace(".", "/"), item, "missing") for path in paths]


def _one(kind: str, path: str, value: Any, item: str, code: str, found: str | None = None, **more: Any) -> RecordFails:
    return RecordFails(kind, {path: value} | more, found or "/" + path.replace(".", "/"), item, code)


_POWER = "representative.authority"
RECORD_FAILS: list[RecordFails] = [
    # Delegations.
    *_gone("delegation", "R12", "id", "consent", "categories", "purposes", "end", "delegate.surname", "delegate.given",
           "delegate.relation"),
    _one("delegation", "delegate", {"surname": "CANARY", "given": "CANARY", "relation": "FRND"}, "R12", "missing"),
    _one("delegation", "delegate.surname", "   ", "R12", "missing"),
    _one("delegation", "delegate.iin", "880808100002", "R12", "check_digit"),
    _one("delegation", "delegate.iin", "٨٨٠٨٠٨١٠٠٠٠١", "R12", "check_digit"),
    _one("delegation", "delegate.subject", "dana", "R12", "same_person"),
    _one("delegation", "delegate.subject", "p-dana", "R12", "same_person"),
    _one("delegation", "consent", "c-of-nobody", "R12", "not_named"),
    _one("delegation", "id", "g-not-named", "R12", "not_named", "/consent"),
    _one("delegation", "id", "g-arman", "R12", "taken"),
    _one("delegation", "categories", ["*"], "R12", "not_listed", "/categories/0"),
    _one("delegation", "categories", ["vitals", "everything"], "R12", "not_listed", "/categories/1"),
    _one("delegation", "labels", ["SECRET"], "R12", "not_listed", "/labels/0"),
    _one("delegation", "purposes", ["TREAT"], "R12", "not_listed", "/purposes/0"),
    _one("delegation", "actions", ["read", "export"], "R12", "not_allowed", "/actions/1"),
    _one("delegation", "actions", ["consent_manage"], "R12", "not_allowed", "/actions/0"),
    _one("delegation", "end", "2026-05-01T00:00:00+05:00", "R12", "reversed"),
    _one("delegation", "end", "2026-06-01T00:00:00+05:00", "R12", "expired"),
    _one("delegation", "end", "2099-05-01T00:00:00+05:00", "R12", "beyond_consent"),
    _one("delegation", "parent", "g-arman", "R12", "too_deep"),
    _one("delegation", "parent", "g-of-nobody", "R12", "not_redelegable"),
    # Representatives' powers.
    *_gone("representation", "R9.2", "subject", "representative.iin", "representative.surname", "representative.given",
           "representative.address", "representative.id_doc.number", "representative.id_doc.issued_on",
           "representative.id_doc.issuer", f"{_POWER}.kind", f"{_POWER}.number", f"{_POWER}.issued_on",
           f"{_POWER}.issuer"),
    *_gone("representation", "R9.1", "owner.iin"),
    _one("representation", "owner.iin", "880808100290", "R9.1", "check_digit"),
    _one("representation", "representative.iin", "880808100209", "R9.2", "check_digit"),
    _one("representation", "representative.iin", OWNER, "R9.2", "same_person"),
    _one("representation", "owner.iin", REPRESENTATIVE, "R9.2", "same_person", "/representative/iin"),
    _one("representation", "subject", "dana", "R9.2", "same_person"),
    _one("representation", "subject", "p-dana", "R9.2", "same_person"),
    _one("representation", f"{_POWER}.issued_on", "2099-01-01", "R9.2", "after_signature"),
    _one("representation", f"{_POWER}.valid_to", "2020-01-01", "R9.2", "reversed"),
    _one("representation", f"{_POWER}.valid_to", "2029-03-02", "R9.2", "too_long"),
    _one("representation", f"{_POWER}.valid_to", "2026-04-01", "R9.2", "expired"),
    _one("representation", f"{_POWER}.valid_to", None, "R9.2", "expired", **{f"{_POWER}.issued_on": "2025-03-01"}),
    # Requests of authorities.
    *_gone("request", "R13", "authority.kind", "authority.name", "official.surname", "official.given",
           "official.position", "request_no", "requested_on", "case_no", "paragraph", "categories", "end",
           "document_ref"),
    _one("request", "case_no", "\t", "R13", "missing"),
    _one("request", "authority.kind", "employer", "R13", "not_allowed"),
    _one("request", "authority.bin", "301240000012", "R13", "check_digit"),
    _one("request", "authority.kind", "special_state_body", "R13", "mismatch", "/paragraph"),
    _one("request", "paragraph", "273(4)(8)", "R13", "mismatch"),
    _one("request", "categories", ["*"], "R13", "not_listed", "/categories/0"),
    _one("request", "requested_on", "2099-01-01", "R13", "in_future"),
    _one("request", "end", "2026-11-19T00:00:00+05:00", "R13", "reversed"),
    _one("request", "end", "2026-11-20T00:00:01+05:00", "R13", "expired"),
    _one("request", "deferred_notice", {"until": "2099-01-01T00:00:00Z"}, "R20", "missing", "/deferred_notice/ground"),
    _one("request", "deferred_notice", {"ground": "CANARY-ground"}, "R20", "missing", "/deferred_notice/until"),
    # Break-glass sessions.
    *_gone("grant", "R4", "reason_code", "reason_text", "acknowledgement.text_version", "acknowledgement.at"),
    _one("grant", "acknowledgement", None, "R4", "missing", "/acknowledgement/text_version"),
    _one("grant", "reason_text", "    ", "R4", "missing"),
    _one("grant", "reason_text", " nine chrs          ", "R4", "too_short"),
    _one("grant", "reason_code", "curiosity", "R4", "not_listed"),
    _one("grant", "acknowledgement.at", "2099-01-01T00:00:00Z", "R4", "in_future"),
    _one("grant", "scope", ["clinical", "demographics"], "R4", "not_confirmed"),
    _one("grant", "scope", ["*"], "R4", "not_listed", "/scope/0", scope_confirmed=True),
]  # fmt: skip

RECORD_REFUSED: list[RecordRefused] = [
    *(RecordRefused(kind, {"CANARY-field": 1}, "", "unknown-field") for kind in (
        "delegation", "representation", "request", "grant",
    )),
    *(RecordRefused(kind, {"patient": OWNER}, "/patient", "value-error") for kind in (
        "delegation", "representation", "request", "grant",
    )),
    RecordRefused("delegation", {"id": OWNER}, "/id", "value-error"),
    RecordRefused("delegation", {"delegate.subject": OWNER}, "/delegate/subject", "value-error"),
    RecordRefused("delegation", {"end": "2026-04-01T09:00:00"}, "/end", "timezone-aware"),
    RecordRefused("delegation", {"may_redelegate": "no"}, "/may_redelegate", "bool-type"),
    RecordRefused("representation", {"subject": OWNER}, "/subject", "value-error"),
    RecordRefused("representation", {"representative.id_doc.image": "CANARY"}, "/representative/id_doc",
                  "id-document-image"),
    RecordRefused("representation", {"representative.authority.kind": "CANARY"}, "/representative/authority/kind",
                  "literal-error"),
    RecordRefused("request", {"paragraph": "273(4)(5)"}, "/paragraph", "literal-error"),
    RecordRefused("request", {"requested_on": "20.11.2026"}, "/requested_on"),
    RecordRefused("grant", {"subject": "dr_aida"}, "", "unknown-field"),
    RecordRefused("grant", {"start": "2026-11-24T09:00:00Z"}, "", "unknown-field"),
    RecordRefused("grant", {"mfa": True}, "", "unknown-field"),
    RecordRefused("grant", {"minutes": 0}, "/minutes", "greater-than-equal"),
    RecordRefused("grant", {"minutes": "60"}, "/minutes", "int-type"),
    RecordRefused("grant", {"reason_text": "CANARY" * 200}, "/reason_text", "string-too-long"),
]  # fmt: skip
