"""
An entry of the journal as a FHIR R4 AuditEvent, for repositories of ATNA and BALP.

A decision that rests on consents follows the profile AuthZconsent of IHE BALP 1.1.4
("Consent Authorized Decision"), which demands at least one of them and allows no other
entity; every other decision has the same form under the subtype AuthZ-Role, and claims no
profile.  What is not known says so (data-absent-reason); nothing clinical is in it.
Ids are logical references: opaque ids need not be ids of FHIR.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from ruqsat.core.journal_filter import Found
from ruqsat.core.journaled import Journaled

BALP = "https://profiles.ihe.net/ITI/BALP"
PROFILE = f"{BALP}/StructureDefinition/IHE.BasicAudit.AuthZconsent"
_SUBTYPES = f"{BALP}/CodeSystem/AuthZsubType"
_TERMS = "http://terminology.hl7.org/CodeSystem"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TYPES = "http://hl7.org/fhir/resource-types"
_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

PERMIT, DENIAL, FAILURE = "0", "8", "12"
"""Outcomes: success, serious failure, major failure."""

_CONSENT_BASES = frozenset({"consent", "research_consent"})
_CONSENT_DENIALS = ("deny.consent.", "deny.sensitivity.")
_FAILURES = ("deny.store.", "deny.error.", "deny.stale", "deny.not_fresh", "deny.audit_unavailable")
_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_DETAILS = ("action", "data_class", "basis", "rule", "law", "duties", "policy", "hash")

Json = dict[str, Any]


def audit_event(found: Found, system: str) -> Json:
    """
    Return the AuditEvent of a decision.

    Args:
        system: The operator's URI of identifiers; each kind has one below it.
    """
    entry = found.entry
    consents, observer = _consents(entry), _who(entry, "Device", f"{system}/sidecar", found.spot.writer)
    event: Json = {
        "resourceType": "AuditEvent",
        "type": _coding(_DCM, "110113", "Security Alert"),
        "subtype": [_coding(_SUBTYPES, "AuthZ-Consent" if consents else "AuthZ-Role")],
        "action": "E",
        "recorded": entry.at,
        "outcome": _outcome(entry),
        "outcomeDesc": entry.reason or "unknown",
        "agent": list(_agents(entry, system, observer)),
        "source": {
            "observer": observer,  # who has authorised: the profile's invariant val-audit-source
            "type": [_coding(f"{_TERMS}/security-source-type", "6", "Security Server")],
        },
        "entity": list(_entities(entry, system, consents)),
    }
    if entry.purposes:
        event["purposeOfEvent"] = _purposes(entry)
    if _ID.fullmatch(entry.id):
        event["id"] = entry.id
    if consents and entry.patient is not None:
        event["meta"] = {"profile": [PROFILE]}
    return event


def _agents(entry: Journaled, system: str, observer: Json) -> Iterator[Json]:
    yield {
        "type": _concept(_DCM, "110150", "Application"), "requestor": False,
        "who": _who(entry, "Device", f"{system}/point", entry.point or entry.listener), "network": _absent("unknown"),
    }  # fmt: skip
    user: Json = {
        "type": _concept(f"{_TERMS}/v3-ParticipationType", "IRCP", "information recipient"), "requestor": True,
        "who": _who(entry, None, f"{system}/subject", entry.subject),
    }  # fmt: skip
    if entry.roles:
        user["role"] = [_concept(f"{system}/role", role) for role in entry.roles]
    if entry.purposes:
        user["purposeOfUse"] = _purposes(entry)
    yield user
    yield {
        "type": _concept(f"{_TERMS}/v3-RoleClass", "PROV", "healthcare provider"), "requestor": False,
        "who": _who(entry, "Organization", f"{system}/organisation", entry.org),
    }  # fmt: skip
    yield {
        "type": _concept(f"{_TERMS}/extra-security-role-type", "authserver", "authorization server"),
        "requestor": False, "who": observer,
    }  # fmt: skip


def _entities(entry: Journaled, system: str, consents: Sequence[str]) -> Iterator[Json]:
    details = [{"type": name, "valueString": text} for name in _DETAILS if (text := _text(getattr(entry, name)))]
    yield {
        "type": _coding(f"{_TERMS}/audit-entity-type", "1", "Person"),
        "role": _coding(f"{_TERMS}/object-role", "1", "Patient"),
        "what": _who(entry, "Patient", f"{system}/patient", entry.patient), "detail": details,
    }  # fmt: skip
    for consent in consents:
        yield {"type": _coding(_TYPES, "Consent"), "what": _who(entry, "Consent", f"{system}/document", consent)}
    for other in () if consents else entry.applied:
        yield {
            "type": _coding(f"{_TERMS}/audit-entity-type", "2", "System Object"),
            "role": _coding(f"{_TERMS}/object-role", "13", "Security Resource"),
            "what": _who(entry, None, f"{system}/document", other),
        }


def _consents(entry: Journaled) -> tuple[str, ...]:
    by_consent = entry.basis in _CONSENT_BASES or (entry.reason or "").startswith(_CONSENT_DENIALS)
    return entry.applied if by_consent else ()


def _outcome(entry: Journaled) -> str:
    if entry.allowed:
        return PERMIT
    return FAILURE if (entry.reason or "").startswith(_FAILURES) else DENIAL


def _who(entry: Journaled, kind: str | None, system: str, value: str | None) -> Json:
    """Return a logical reference; a missing value is ``masked`` if the entry was erased, else ``unknown``."""
    said: Json = {} if kind is None else {"type": kind}
    if value is None:
        return said | _absent("masked" if entry.erased else "unknown")
    return said | {"identifier": {"system": system, "value": value}}


def _absent(why: str) -> Json:
    return {"extension": [{"url": _ABSENT, "valueCode": why}]}


def _purposes(entry: Journaled) -> list[Json]:
    return [_concept(f"{_TERMS}/v3-ActReason", purpose) for purpose in entry.purposes]


def _concept(system: str, code: str, display: str | None = None) -> Json:
    return {"coding": [_coding(system, code, display)]}


def _coding(system: str, code: str, display: str | None = None) -> Json:
    return {"system": system, "code": code} | ({} if display is None else {"display": display})


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value or "")
