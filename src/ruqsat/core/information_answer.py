"""
What is on record of one person, as order §18 asks for it: existence, purposes, sources, methods, a list, terms.

The answer names classes and counts, never what is in a record.  It is for the person: what a clinician withholds for
a time (Code 134(4)) and what must not be told yet (order §20, Code 273(4)(9)) is left out as if it were not there.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ruqsat.core.access_log import shown_id
from ruqsat.core.care import shown_to_patient
from ruqsat.core.consent_items import at
from ruqsat.core.facts import NEVER_IN_FORCE, Consent, PatientFacts, StatutoryRequest
from ruqsat.core.instant import Instant, render_instant

CARE = "TREAT"
SECRET_AUTHORITIES = frozenset({"special_state_body"})
"""Nobody is told that these asked (Code 273(4)(9))."""


def information_answer(
    patient: str, facts: PatientFacts | None, documents: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any],
    now: Instant,
) -> dict[str, Any]:  # fmt: skip
    """
    Return the answer as plain data.

    Args:
        documents: Consents as they were handed in, by id, of those that have a full record.
        said: What the office says that no store knows: ``sources``, ``methods``, ``storage_terms``.
    """
    facts = facts or PatientFacts(patient)
    consents = [_consent(each, documents.get(each.id), now) for each in facts.consents]
    classes = _classes(facts)
    return {
        "patient": patient,
        "made_at": render_instant(now),
        "exists": bool(classes or consents or facts.episodes),
        "classes": classes,
        "purposes": _words(facts.consents, "purposes", [CARE] if facts.episodes else []),
        "purpose_texts": _texts(documents, "purpose_text"),
        "sources": list(said.get("sources") or ()),
        "methods": [*(said.get("methods") or ()), *_texts(documents, "methods_text")],
        "actions": _words(facts.consents, "actions", []),
        "consents": consents,
        "recipients": list(_recipients(facts, documents, now)),
        "storage_terms": said.get("storage_terms"),
    }


def _classes(facts: PatientFacts) -> list[dict[str, Any]]:
    """Return how many records of each class are on record here; destroyed ones are not there any more."""
    there = [record for record in shown_to_patient(facts.records) if not record.destroyed]
    blocked = Counter(record.data_class for record in there if record.blocked)
    counted = Counter(record.data_class for record in there)
    return [{"class": name, "records": counted[name], "blocked": blocked[name]} for name in sorted(counted)]


def _consent(consent: Consent, document: Mapping[str, Any] | None, now: Instant) -> dict[str, Any]:
    root = consent.root
    in_term = (root.start is None or root.start <= now) and (root.end is None or now < root.end)
    return {
        "id": consent.id,
        "effect": root.effect,
        "status": consent.status,
        "in_force": consent.status == "active" and in_term and (consent.defect is None or root.effect == "deny"),
        "granted_at": render_instant(consent.granted_at),
        "withdrawn_at": _moment(consent.revoked_at),
        "start": _moment(root.start),
        "end": _moment(root.end),
        "purposes": list(root.purposes),
        "classes": list(root.categories),
        "actions": list(root.actions),
        "operator": None if document is None else at(document, "operator.name"),
    }


def _recipients(
    facts: PatientFacts, documents: Mapping[str, Mapping[str, Any]], now: Instant
) -> Iterable[dict[str, Any]]:
    """Return who was let in: by consent, delegation, power, an authority's request, in an emergency."""
    for consent in facts.consents:
        if consent.status in NEVER_IN_FORCE or consent.defect is not None:
            continue  # it lets nobody in
        name = at(documents.get(consent.id, {}), "operator.name")
        for grantee in consent.root.grantees if consent.root.effect == "permit" else ():
            who = grantee.org or shown_id(grantee.subject) or grantee.role or grantee.group
            told = name if grantee.org is not None and name is not None else who
            until = consent.revoked_at or consent.root.end
            yield _recipient("consent", told, consent.root.categories, consent.root.start, until)
    for delegation in facts.delegations:
        yield _recipient(
            "delegation", shown_id(delegation.delegate), delegation.categories, delegation.start,
            delegation.revoked_at or delegation.end,
        )  # fmt: skip
    for power in facts.representations:
        if power.verified:  # else it lets nobody in (order §11)
            yield _recipient("representation", shown_id(power.subject), (), power.start, power.revoked_at or power.end)
    for request in facts.requests:
        if may_be_told(request, now):
            yield _recipient(
                "request", request.authority, request.categories, request.start, request.revoked_at or request.end
            )
    for grant in facts.grants:
        yield _recipient("grant", shown_id(grant.subject), grant.categories, grant.start, grant.revoked_at or grant.end)


def may_be_told(request: StatutoryRequest, now: Instant) -> bool:
    """Tell whether the person may learn of a request now: neither secret nor deferred on a written ground."""
    deferred = request.deferred_until is not None and now < request.deferred_until
    return request.authority not in SECRET_AUTHORITIES and not deferred


def _recipient(
    ground: str, who: str | None, classes: Iterable[str], since: Instant | None, until: Instant | None
) -> dict[str, Any]:
    return {
        "ground": ground, "who": who, "classes": list(classes), "since": _moment(since), "until": _moment(until)
    }  # fmt: skip


def _words(consents: Iterable[Consent], name: str, more: list[str]) -> list[str]:
    return sorted(
        {word for each in consents if each.root.effect == "permit" for word in getattr(each.root, name)} | {*more}
    )


def _texts(documents: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    return sorted({text for each in documents.values() if (text := each.get(name))})


def _moment(instant: Instant | None) -> str | None:
    return None if instant is None else render_instant(instant)
