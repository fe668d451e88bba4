"""
What a delegation, a power, a request of an authority or a break-glass session must hold, each item with its law.

As in ``consent_items``: plain data whose types were checked, every name there, None for what
was not said.  A finding names a place and an item and never repeats a value.
"""

from collections.abc import Callable, Mapping

from msgspec import Struct

from ruqsat.core.consent_items import (
    Catalogue,
    Data,
    Failing,
    Findings,
    at,
    authority,
    local_date,
    needed,
    number,
    person,
)
from ruqsat.core.facts import Consent, Delegation, PatientFacts
from ruqsat.core.identification import is_identification_number
from ruqsat.core.instant import HOUR, Instant, parse_instant
from ruqsat.core.statutory import AUTHORITIES, CASE_AUTHORITIES
from ruqsat.core.vocabulary import Switches

DELEGATED_ACTIONS = ("read", "search")
DELEGATED_PURPOSES = ("FAMRQT", "SUPNWK")
EMERGENCY_SET = ["emergency_set"]


class Scene(Struct, frozen=True):
    """
    What a document is held against.

    Attributes:
        facts: What decisions know of the patient.
        by: Who hands it in; for a link below another that is the delegate above.
        names_owner: The person that the document names is the patient, as the directory says.
        org: Organisation whose desk or office keeps it.
        mfa: Whoever hands it in has just proved by several factors who it is.
        taken: Something is on record by the id that it is handed in under, be it rejected.
    """

    now: Instant
    catalogue: Catalogue
    switches: Switches
    facts: PatientFacts
    by: str
    names_owner: bool = False
    org: str | None = None
    mfa: bool = False
    taken: bool = False


def failing_delegation(data: Data, scene: Scene) -> Findings:
    """Return what a delegation fails (order §12)."""
    own = () if data["parent"] else ("id",)
    yield from needed(data, "R12", "", *own, "consent", "categories", "purposes", "end")
    yield from _delegate(data, scene)
    yield from _listed(data, "R12", "categories", scene.catalogue.categories)
    yield from _listed(data, "R12", "labels", scene.catalogue.labels)
    yield from _listed(data, "R12", "purposes", DELEGATED_PURPOSES)
    yield from _listed(data, "R12", "actions", DELEGATED_ACTIONS, "not_allowed")
    yield from _term(data, "R12", scene.now)
    document = naming_consent(data, scene.facts)
    if data["consent"] and (data["id"] or data["parent"]) and document is None:
        yield Failing("/consent", "R12", "not_named")
    last = None if document is None else document.root.end
    if data["end"] and last is not None and parse_instant(data["end"]) > last:
        yield Failing("/end", "R12", "beyond_consent")
    if scene.taken or any(link.id == data["id"] for link in scene.facts.delegations):
        yield Failing("/id", "R12", "taken")
    if data["parent"]:
        yield from _link_above(data, scene)


def naming_consent(data: Data, facts: PatientFacts) -> Consent | None:
    """Return the consent in force that a delegation cites, and which names it unless it has a parent."""
    return next(
        (
            each for each in facts.consents
            if each.id == data["consent"] and (data["parent"] or data["id"] in each.delegations)
            and each.status == "active" and each.root.effect == "permit" and each.defect is None
        ), None,
    )  # fmt: skip


def _delegate(data: Data, scene: Scene) -> Findings:
    yield from needed(data, "R12", "delegate", "surname", "given", "relation")
    if not at(data, "delegate.subject") and at(data, "delegate.iin") is None:
        yield Failing("/delegate", "R12", "missing")
    elif at(data, "delegate.iin") is not None:
        yield from number(data, "R12", "delegate.iin")
    if scene.names_owner:
        yield Failing("/delegate/subject", "R12", "same_person")


def _link_above(data: Data, scene: Scene) -> Findings:
    links = {link.id: link for link in scene.facts.delegations}
    above = links.get(data["parent"])
    if above is None or not _may_hand_on(above, scene) or above.consent != data["consent"]:
        yield Failing("/parent", "R12", "not_redelegable")
    depth = 1
    while above is not None and depth <= scene.switches.delegation_max_depth:
        above, depth = links.get(above.parent or ""), depth + 1
    if depth > scene.switches.delegation_max_depth:
        yield Failing("/parent", "R12", "too_deep")


def _may_hand_on(above: Delegation, scene: Scene) -> bool:
    is_over = above.revoked_at is not None or above.end <= scene.now
    return above.may_redelegate and above.delegate == scene.by and not is_over


def failing_representation(data: Data, scene: Scene) -> Findings:
    """Return what a representative's power fails (order §3, §9(2), §11)."""
    today = local_date(scene.now + scene.catalogue.home_utc_offset_hours * HOUR)
    yield from needed(data, "R9.2", "", "subject")
    yield from number(data, "R9.1", "owner.iin")
    yield from person(data, "R9.2", "representative", today)
    yield from authority(data, today)
    theirs = at(data, "representative.iin")
    if theirs is not None and theirs == at(data, "owner.iin"):
        yield Failing("/representative/iin", "R9.2", "same_person")
    if scene.names_owner:
        yield Failing("/subject", "R9.2", "same_person")


PARAGRAPHS = {"prosecution_inspection": "273(4)(8)", "special_state_body": "273(4)(9)"}


def failing_request(data: Data, scene: Scene) -> Findings:
    """Return what a request of an authority fails (order §13, Code 273(4)(3), (8), (9))."""
    yield from needed(data, "R13", "", "request_no", "requested_on", "paragraph", "categories", "end", "document_ref")
    yield from needed(data, "R13", "authority", "kind", "name")
    yield from needed(data, "R13", "official", "surname", "given", "position")
    kind, bin_ = at(data, "authority.kind"), at(data, "authority.bin")
    if kind is not None and kind not in AUTHORITIES:
        yield Failing("/authority/kind", "R13", "not_allowed")
    elif kind is not None and data["paragraph"] not in (None, PARAGRAPHS.get(kind, "273(4)(3)")):
        yield Failing("/paragraph", "R13", "mismatch")
    if kind in CASE_AUTHORITIES:
        yield from needed(data, "R13", "", "case_no")
    if bin_ is not None and not is_identification_number(bin_):
        yield Failing("/authority/bin", "R13", "check_digit")
    yield from _listed(data, "R13", "categories", scene.catalogue.categories)
    if data["requested_on"] is not None and parse_instant(data["requested_on"] + "T00:00:00+00:00") > scene.now:
        yield Failing("/requested_on", "R13", "in_future")
    yield from _term(data, "R13", scene.now)
    if data["deferred_notice"] is not None:
        # Whoever is told later is told so on a written ground, and not for ever (order §20).
        yield from needed(data, "R20", "deferred_notice", "ground", "until")


def failing_grant(data: Data, scene: Scene) -> Findings:
    """Return what the opening of a break-glass session fails (order §4 with operator policy)."""
    limits = scene.switches.btg
    yield from needed(data, "R4", "", "reason_code", "reason_text")
    yield from needed(data, "R4", "acknowledgement", "text_version", "at")
    if data["reason_code"] is not None and data["reason_code"] not in limits.reasons:
        yield Failing("/reason_code", "R4", "not_listed")
    length = len((data["reason_text"] or "").strip())
    if 0 < length < limits.min_text:
        yield Failing("/reason_text", "R4", "too_short")
    seen_at = at(data, "acknowledgement.at")
    if seen_at is not None and parse_instant(seen_at) > scene.now:
        yield Failing("/acknowledgement/at", "R4", "in_future")
    yield from _listed(data, "R4", "scope", scene.catalogue.categories)
    if data["scope"] not in ([], EMERGENCY_SET) and not data["scope_confirmed"]:
        yield Failing("/scope", "R4", "not_confirmed")


def _listed(
    data: Data, item: str, name: str, known: frozenset[str] | tuple[str, ...], code: str = "not_listed"
) -> Findings:
    for index, word in enumerate(data[name]):
        if word not in known:
            yield Failing(f"/{name}/{index}", item, code)


def _term(data: Data, item: str, now: Instant) -> Findings:
    if data["end"] is None:
        return
    start, end = data["start"], parse_instant(data["end"])
    if start is not None and end <= parse_instant(start):
        yield Failing("/end", item, "reversed")
    elif end <= now:
        yield Failing("/end", item, "expired")


CHECKS: Mapping[str, Callable[[Data, Scene], Findings]] = {
    "delegation": failing_delegation, "representation": failing_representation,
    "request": failing_request, "grant": failing_grant,
}  # fmt: skip
