"""
A second decider, slow and plain, written from the design's text alone.

It shares the data types of requests and facts with the product and nothing that
decides: no rule file, no matcher, no function of the core.  Words and the role
matrix are those of the design's own vocabulary, not the pack's; only the table of
organisations (which purposes a category of Code 61(1) serves) is the operator's own
and read from the pack.  Where it and the product differ, one of them is wrong.
"""

import tomllib
from collections.abc import Iterator
from copy import copy
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from msgspec import structs

from ruqsat.core.facts import Grantee

VOCABULARY: dict[str, Any] = yaml.load((Path(__file__).parent / "vocabulary.yaml").read_text(), Loader=yaml.CSafeLoader)
PACK = Path(__file__).parents[2] / "policies" / "vocabulary.toml"
FUNCTIONS = {
    name: set(word["purposes"]) for name, word in tomllib.loads(PACK.read_text())["organisation_categories"].items()
}
SWITCHES = VOCABULARY["policy_defaults"] | {"requests_must_be_registered": False}
CLASSES = set(VOCABULARY["classes"]) if "classes" in VOCABULARY else set(VOCABULARY["categories"])
# The registries' own: sessions, requests of authorities, facts of care, of persons, proceedings and their queue, journals.
CLASSES |= {"session", "request", "status", "capacity", "civil_status", "proceeding", "queue", "audit"}
GROUPS = VOCABULARY["class_groups"]
LABELS = VOCABULARY["labels"]
ROLES = VOCABULARY["roles"]
REGISTRIES = {
    "physician": {"create,read,update": ["session"], "create,read": ["proceeding"]},
    "nurse": {"create,read,update": ["session"], "create,read": ["proceeding"]},
    "emergency_clinician": {"create,read,update": ["session"], "create,read": ["proceeding"]},
    "pharmacist": {"create,read": ["proceeding"]},
    "lab_diagnostic": {"create,read": ["proceeding"]},
    "registrar": {"read,search,create,update": ["proceeding"], "update": ["capacity", "civil_status"]},
    "records_officer": {"read,search,create,update": ["request", "proceeding", "queue"]},
    "privacy_officer": {
        "read,search": ["session", "request", "status"],
        "update": ["session"],
        "read,search,create,update": ["proceeding", "queue"],
        "journal_read": ["audit"],
    },
    "sysadmin": {"create,update": ["directory"]},
}
"""What the roles of those who keep the registries grant beside the design's own list."""
OWN_PROCEEDINGS = {
    "InformationRequest", "Correction", "DestructionDemand", "WithdrawalFollowUp", "Objection", "PublicationRemoval",
}  # fmt: skip
"""What a patient or a representative begins."""
ORDER = "ULMNRV"
SECONDARY = {"HPRGRP", "HQUALIMP", "HRESCH", "CLINTRCH"}
PERMIT_COVERS = {"TREAT": {"COC", "ETREAT", "ERTREAT", "BTG"}, "ETREAT": {"ERTREAT", "BTG"}}
DENIAL_CLOSES = {
    **PERMIT_COVERS,
    "HOPERAT": {"PATADMIN", "HQUALIMP", "HPRGRP", "HCOMPL", "HLEGAL", "HSYSADMIN", "TRAIN"},
    "PUBHLTH": {"THREAT"}, "HRESCH": {"CLINTRCH"}, "PATRQT": {"FAMRQT", "PWATRNY", "SUPNWK"},
}  # fmt: skip
HOUR = 3_600_000_000
BASIC = {"emergency_clinician", "nurse", "physician"}
CARE = {*BASIC, "pharmacist", "lab_diagnostic"}
ACCESS = ("processing", "dissent", "delegation", "research", "cross_border")
OTHER = ("treatment", "advance_directive", "biometric", "marketing")
FORMALITIES = {"none": 0, "not_yet_valid": 1, "revoked": 3, "expired": 4, "purpose": 5, "recipient": 6, "action": 7,
               "category": 8, "data_scope": 9, "confidentiality": 10, "sensitivity": 11}  # fmt: skip


class Denied(Exception):
    """The answer is a denial, for this reason."""


class Case:
    """A request with its facts at one instant."""

    def __init__(self, request: Any, facts: Any, now: int) -> None:
        self.facts, self.now = facts, now
        self.who, self.whom = _narrowed(facts.subject, request.subject.properties), facts.patient
        self.action = request.action.name
        said, context = request.resource.properties, request.context
        self.said, self.context = said, context
        self.patient, self.id = said.patient, request.resource.id
        self.type, self.sort = request.resource.type, request.subject.type
        self.data_class, self.labels, self.conf, self.blocked = said.data_class, said.labels, said.conf, said.blocked
        self.destroyed = False
        named = [record for record in (self.whom.records if self.whom else ()) if record.id == self.id]
        exact, vague = ([record for record in named if record.type == kind] for kind in (self.type, None))
        classes = {record.data_class for record in exact or vague} | {self.data_class}
        for record in exact:
            if record.labels is not None and (record.org is None or said.author_org in (None, record.org)):
                self.labels = (*(self.labels or ()), *record.labels)
        for record in (*exact, *vague):
            if self.labels is None and record.labels:
                classes.add(None)  # it has these, and nobody knows which besides
            elif self.labels is not None:
                self.labels = tuple({*self.labels, *(record.labels or ())})
            self.blocked, self.destroyed = self.blocked or record.blocked, self.destroyed or record.destroyed
            self.conf = max((c for c in (self.conf, record.conf) if c), key=ORDER.index, default=None)
        self.data_class = self.data_class if len(classes) == 1 else None
        purpose = context.purpose
        self.purposes = (purpose,) if isinstance(purpose, str) else tuple(purpose or ())
        self.roles = set(self.who.roles or ()) if self.who else set()
        self.is_self = bool(self.who and self.who.patient_id and self.who.patient_id == self.patient)

    def is_in(self, *groups: str) -> bool:
        """Tell whether the record's class is one of these, or of these groups."""
        return any(self.data_class == name or self.data_class in GROUPS.get(name, ()) for name in groups)

    def all_for(self, *wanted: str) -> bool:
        """Tell whether a permit for these purposes covers all that are stated."""
        return bool(self.purposes) and all(
            any(stated == name or stated in PERMIT_COVERS.get(name, ()) for name in wanted) for stated in self.purposes
        )


def _narrowed(who: Any, said: Any) -> Any:
    """Roles and employer come from the token and are checked against the register (2.1): what only one has is not there."""
    if who is None or said is None:
        return who
    roles = who.roles if said.roles is None else [r for r in said.roles if who.roles is None or r in who.roles]
    moved = said.org is not None and said.org != who.org
    return structs.replace(who, roles=tuple(roles or ()), org=None if moved else who.org)


def decide(request: Any, facts: Any, now: int) -> tuple[bool, str, str | None, frozenset[str]]:
    """Return whether it is allowed, the reason, the basis and the duties, for a caller that can do everything."""
    case = Case(request, facts, now)
    try:
        reason, basis, duties = _layers(case)
    except Denied as denial:
        return False, f"deny.{denial}", None, frozenset()
    found = set(duties.split())
    if not (case.whom and case.whom.egov):
        found -= {"notify_subject", "notify_subject_deferred"}
    if case.context.destination_country not in (None, "KZ"):
        found.add("encrypt_transit")
    return True, f"allow.{reason}", basis, frozenset(found)


def _layers(case: Case) -> tuple[str, str, str]:  # noqa: PLR0912 - the layers, one after the other
    public = _validity(case)
    if public:
        return public
    _hard_denies(case)
    if _is_dead(case) and case.all_for("ETREAT", "ERTREAT", "BTG"):
        raise Denied("emergency.subject_deceased")
    for layer in (_self, _representative, _delegate):
        answer = layer(case)
        if answer:
            return answer
    _matrix(case)
    employer = case.who.organisation if case.who.org is not None else None
    if employer is None or not set(case.purposes) <= FUNCTIONS.get(employer.category, set()):
        raise Denied("organisation.function")
    for layer in (_operator, _secondary, _statutory, _emergency, _incapable):
        answer = layer(case)
        if answer:
            return answer
    if "trainee" in case.roles and case.who.supervised_by is None:
        beside = "TREAT" in case.purposes and "TRAIN" in case.purposes and case.all_for("TREAT", "TRAIN")
        if case.all_for("TREAT") or (beside and consents(case)[0]):
            raise Denied("role.unsupervised")
    if not case.facts.consents_known:
        raise Denied("store.unavailable")
    permits, denials, unread, miss = consents(case)
    if denials:
        raise Denied("consent.deny")
    if unread:
        raise Denied("consent.quarantined")
    if permits and _is_very_restricted(case) and "physician" not in case.roles:
        raise Denied("sensitivity.very_restricted")
    if permits:
        _recipients(case)
    if permits and _is_cared_for(case):
        answer = _by_consent(case)
        if answer:
            return answer
    if permits:
        raise Denied("default" if _is_cared_for(case) else "relationship.none")
    emergency = {"ETREAT", "ERTREAT"} & set(case.purposes)
    if miss == "consent.none" and emergency and not _emergency_open(case):
        raise Denied("emergency.no_context")
    raise Denied(miss)


def _recipients(case: Case) -> None:
    """Order §25, Law 94-V art. 10(1): whoever receives data undertook to comply, and the patient let them in."""
    employer, recipient = case.who.organisation, case.facts.recipient
    if not employer.undertaking:
        raise Denied("recipient.no_undertaking")
    if case.action == "disclose":
        if case.context.recipient is None:
            raise Denied("consent.recipient")
        permits, denials, _, _ = consents(case, _Organisation(case.context.recipient))
        if denials or not permits:
            raise Denied("consent.recipient")
        listed = recipient is not None and recipient.active and recipient.id == case.context.recipient
        if not (listed and recipient.organisation is not None and recipient.organisation.undertaking):
            raise Denied("recipient.no_undertaking")
    if employer.category == "military_medical" and not _is_cared_for(case):
        raise Denied("relationship.none")


class _Organisation:
    """An organisation in the place of the person who asks."""

    groups: tuple[str, ...] = ()

    def __init__(self, name: str) -> None:
        self.id = self.org = name


def _validity(case: Case) -> tuple[str, str, str] | None:
    if case.who is None or not case.who.active:
        raise Denied("subject.inactive")
    if case.action not in VOCABULARY["actions"]:
        raise Denied("unmapped.action")
    if case.data_class not in CLASSES:
        raise Denied("unmapped.category")
    if case.data_class in ("public", "directory", "queue", "audit") and case.patient is not None:
        raise Denied("unmapped.category")
    if case.data_class == "public":
        return ("public", "public", "") if case.action in ("read", "search") else None
    if not case.purposes and "patient" in case.roles and case.is_self:
        case.purposes = ("PATRQT",)
    if not case.purposes:
        raise Denied("purpose.missing")
    if not set(case.purposes) <= set(VOCABULARY["purposes"]):
        raise Denied("purpose.unknown")
    if case.data_class == "directory":
        return ("directory", "public", "") if case.action in ("read", "search") else None
    if case.data_class in ("queue", "audit"):
        return None
    if case.patient is None and not (case.said.deidentified and set(case.purposes) <= SECONDARY):
        raise Denied("patient.unresolved")
    return None


def _hard_denies(case: Case) -> None:
    context = case.context
    if context.relink:
        raise Denied("research.relink")
    country = context.destination_country
    if country is not None and country not in SWITCHES["adequate_countries"]:
        named = case.facts.consents_known and any(
            country in d.cross_border for d in (case.whom.consents if case.whom else ()) if d.id in consents(case)[0]
        )
        if context.art16_3 not in ("treaty", "law", "rights") and not named:
            raise Denied("crossborder.inadequate")
    glass = SWITCHES["blocked_emergency_read"] and context.btg_session is not None and "BTG" in case.purposes
    office = "HCOMPL" in case.purposes or ("HLEGAL" in case.purposes and context.legal_request is not None)
    if case.blocked and not (glass or office):
        raise Denied("resource.blocked")
    if case.said.id_document_copy and not case.said.immigrant and case.action in ("create", "update"):
        raise Denied("collect.id_document")
    if context.links_databases:
        raise Denied("linking.forbidden")
    if context.harmful:
        raise Denied("purpose.harmful")
    allowed = ("owner_statement", "lr_statement", "presented_document", "medical_documentation")
    if case.action == "create" and context.source is not None and context.source not in allowed:
        raise Denied("collect.source")
    if case.said.state_secret:
        raise Denied("resource.state_secret")
    if case.destroyed:
        raise Denied("resource.destroyed")
    if case.action in ("create", "update") and case.said.database_country not in (None, "KZ"):
        raise Denied("database.abroad")


def _self(case: Case) -> tuple[str, str, str] | None:
    if not (case.is_self and "patient" in case.roles and case.all_for("PATRQT")):
        return None
    if _is_dead(case):
        raise Denied("self.subject_deceased")
    looks = case.action in ("read", "search")
    takes = case.is_in("demographics", "clinical", "financial") and (looks or case.action == "export")
    if takes and "TBOO" in (case.labels or ()):
        raise Denied("self.therapeutic_hold")
    if (
        takes
        or (case.is_in("journal", "session", "status") and (looks or case.action == "journal_read"))
        or (case.is_in("consent") and (looks or case.action in ("consent_manage", "delegate")))
    ):
        return "self", "self", ""
    if case.is_in("proceeding") and (looks or case.action == "update"):
        return "self", "self", ""
    if case.is_in("proceeding") and case.action == "create" and case.type in OWN_PROCEEDINGS:
        return "self", "self", "provenance"
    raise Denied("self.action")


def _representative(case: Case) -> tuple[str, str, str] | None:
    if "legal_representative" not in case.roles or not case.all_for("PWATRNY", "PATRQT"):
        return None
    miss = "rep.none"
    for power in sorted(case.whom.representations if case.whom else (), key=lambda power: power.id):
        if power.subject == case.who.id:
            miss = _power_miss(power, case)
            if not miss:
                break
            miss = "rep." + miss
    if miss:
        raise Denied(miss)
    looks = case.action in ("read", "search")
    if (
        (case.is_in("demographics", "clinical", "financial") and (looks or case.action == "export"))
        or (case.is_in("journal", "session", "status") and (looks or case.action == "journal_read"))
        or (case.is_in("consent") and (looks or case.action == "consent_manage"))
    ):
        return "legal_rep", "legal_rep", "notify_subject"
    if case.is_in("proceeding") and (looks or case.action == "update"):
        return "legal_rep", "legal_rep", "notify_subject"
    if case.is_in("proceeding") and case.action == "create" and case.type in OWN_PROCEEDINGS:
        return "legal_rep", "legal_rep", "notify_subject provenance"
    raise Denied("rep.action")


def _power_miss(power: Any, case: Case) -> str:
    whom, now = case.whom, case.now
    checks = [
        (whom.deceased_at is not None and whom.deceased_at <= now, "subject_deceased"),
        (power.revoked_at is not None and power.revoked_at <= now, "revoked"),
        (power.end is not None and power.end <= now, "expired"),
        (power.start is not None and now < power.start, "not_yet_valid"),
        (not power.verified, "unverified"),
    ]
    for failed, word in checks:
        if failed:
            return word
    of_age = whom.birth_date is not None and now >= _birthday(whom.birth_date, SWITCHES["rep_access_ends_at"])
    if power.kind == "poa":
        if power.start is None:
            return "undated"
        if whom.incapacitated:
            return "expired"
        if whom.birth_date is None or of_age:
            return ""
    elif power.kind == "guardian" and whom.incapacitated:
        return ""
    if whom.birth_date is None:
        return "age_unknown"
    if of_age:
        return "majority"
    if case.said.self_consented and now >= _birthday(whom.birth_date, SWITCHES["minor_self_from_age"]):
        return "adolescent_shield"
    return ""


def _birthday(born: date, age: int) -> int:
    try:
        day = born.replace(year=born.year + age)
    except ValueError:
        day = date(born.year + age, 3, 1)
    local = datetime(day.year, day.month, day.day, tzinfo=timezone(timedelta(hours=5)))
    return int((local - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _delegate(case: Case) -> tuple[str, str, str] | None:
    if "delegate" not in case.roles or not case.all_for("FAMRQT", "SUPNWK"):
        return None
    if not case.facts.consents_known:
        raise Denied("store.unavailable")
    own = any(
        link.id == case.id and link.delegate == case.who.id for link in (case.whom.delegations if case.whom else ())
    )
    if own and case.is_in("consent") and case.action in ("read", "delegate"):
        return "delegation", "delegation", "notify_subject"
    best, told = -1, "delegation.none"
    for leaf in sorted(case.whom.delegations if case.whom else (), key=lambda link: link.id):
        if leaf.delegate != case.who.id:
            continue
        step, miss = _chain_miss(leaf, case)
        if not miss:
            break
        if step > best:
            best, told = step, "delegation." + miss
    else:
        raise Denied(told)
    _, denials, unread, _ = consents(case)
    if denials:
        raise Denied("consent.deny")
    if unread:
        raise Denied("consent.quarantined")
    if case.action in ("read", "search") and case.is_in("demographics", "clinical", "financial"):
        return "delegation", "delegation", "notify_subject"
    raise Denied("delegation.action")


def _chain_miss(leaf: Any, case: Case) -> tuple[int, str]:  # noqa: PLR0911, PLR0912 - one line a reason
    links = {link.id: link for link in case.whom.delegations}
    chain = [leaf]
    while chain[-1].parent is not None:
        above = links.get(chain[-1].parent)
        if above is None:
            return 0, "broken_chain"
        if above in chain:
            return 0, "cycle"
        chain.append(above)
    for child, parent in pairwise(chain):
        if child.delegator is not None and child.delegator != parent.delegate:
            return 0, "broken_chain"
    if chain[-1].by != "patient":
        return 0, "delegator"
    if len(chain) > SWITCHES["delegation_max_depth"]:
        return 0, "depth"
    miss = _root_miss(chain[-1], case)
    if miss:
        return 1, miss
    for link in chain:
        if link.revoked_at is not None and link.revoked_at <= case.now:
            return 2, "revoked"
    for link in chain:
        if link.start is not None and case.now < link.start:
            return 3, "not_yet_valid"
        if link.end <= case.now:
            return 3, "expired"
        if not (link.purposes and case.all_for(*link.purposes)):
            return 3, "purpose"
        if case.action not in link.actions:
            return 3, "action"
        if not case.is_in(*link.categories):
            return 3, "category"
        if not _names_labels(case, link.labels):
            return 3, "sensitivity"
    return 4, ""


def _root_miss(root: Any, case: Case) -> str:
    now = case.now
    if _is_dead(case):
        return "subject_deceased"
    document = next((d for d in case.whom.consents if d.id == root.consent), None)
    if document is None or document.root.effect == "deny":
        return "not_in_consent"
    if document.revoked_at is not None and document.revoked_at <= now:
        return "consent_revoked"
    governor = next((each for each in governors(case) if each.thread == document.thread), None)
    if governor is not document:
        if governor is None or governor.root.effect == "deny" or root.id not in governor.delegations:
            return "consent_superseded"
        document = governor  # signed anew, and the delegation with it
        if document.revoked_at is not None and document.revoked_at <= now:
            return "consent_revoked"
    if document.status != "active":
        return "consent_revoked"
    if document.defect is not None or _age_defect(document, case):
        return "consent_invalid"
    if document.root.end is not None and document.root.end <= now:
        return "consent_expired"
    if document.root.start is not None and now < document.root.start:
        return "not_yet_valid"
    return "" if root.id in document.delegations else "not_in_consent"


def _matrix(case: Case) -> None:
    found = "role.purpose"
    for role in case.roles:
        entry = ROLES.get(role, {})
        if not case.purposes or not set(case.purposes) <= set(entry.get("purposes", ())):
            continue
        found = "role.action"
        for actions, names in (*entry.get("grants", {}).items(), *REGISTRIES.get(role, {}).items()):
            if case.action in actions.split(",") and case.is_in(*names):
                return
    if "system_mis" in case.roles and case.all_for("PATADMIN"):
        found = "role.action"
        if case.is_in("status") and case.action in ("read", "search", "create", "update"):
            return
    raise Denied(found)


def _operator(case: Case) -> tuple[str, str, str] | None:  # noqa: PLR0911, PLR0912 - one register after the other
    if "registrar" in case.roles and case.all_for("PATADMIN") and case.is_in("demographics"):
        if case.action in ("read", "search"):
            return "role_admin", "role_admin", "notify_subject"
        if case.action in ("create", "update"):
            return "role_admin", "role_admin", "notify_subject provenance"
    if "registrar" in case.roles and case.all_for("PATADMIN") and case.action == "update":
        there = any(
            e.org == case.who.org and e.start <= case.now and (e.end is None or case.now < e.end)
            for e in (case.whom.episodes if case.whom else ())
        )
        if (case.is_in("capacity") and there) or (case.is_in("civil_status") and (there or _is_cared_for(case))):
            return "role_admin", "role_admin", "notify_subject provenance"
    desk = "registrar" in case.roles and case.all_for("PATADMIN") and case.is_in("consent")
    own = case.said.author_org is not None and case.said.author_org == case.who.org
    if desk and own and case.action in ("read", "search", "create", "update"):
        return "operator_duty", "operator_duty", "notify_subject provenance"
    office = "records_officer" in case.roles and case.all_for("HLEGAL") and case.is_in("request")
    if office and own and case.action in ("read", "search", "create", "update"):
        return "operator_duty", "operator_duty", "provenance"
    answer = _proceedings(case, own)
    if answer:
        return answer
    machine = "system_mis" in case.roles and case.all_for("PATADMIN") and case.is_in("status")
    if machine and own and case.action in ("read", "search", "create", "update"):
        return "operator_duty", "operator_duty", "provenance"
    keeps = "sysadmin" in case.roles and case.all_for("HSYSADMIN") and case.is_in("directory")
    if keeps and case.action in ("create", "update") and case.id != case.who.id:
        return "operator_duty", "operator_duty", "provenance"
    opened = any(g.id == case.id and g.subject == case.who.id for g in (case.whom.grants if case.whom else ()))
    if BASIC & case.roles and case.all_for("BTG") and case.is_in("session"):
        if case.action == "create" and case.who.btg_suspended:
            raise Denied("btg.suspended")
        if case.action == "create":
            return "operator_duty", "operator_duty", "alert_privacy_officer notify_subject provenance"
        if case.action in ("read", "update") and opened:
            return "operator_duty", "operator_duty", "provenance"
    if "privacy_officer" in case.roles and case.all_for("HCOMPL"):
        if case.action == "journal_read" and case.is_in("audit") and own:
            return "operator_duty", "operator_duty", ""
        if case.action == "update" and case.is_in("session") and not opened:
            return "operator_duty", "operator_duty", "provenance"
        return _office(case)
    return None


def _office(case: Case) -> tuple[str, str, str] | None:
    """Nobody in the own matter."""
    if case.action == "journal_read" and case.is_in("journal") and not case.is_self:
        return "operator_duty", "operator_duty", ""
    looks = case.action in ("read", "search") and not case.is_self
    if looks and case.is_in("consent", "demographics", "session", "request", "status"):
        return "operator_duty", "operator_duty", ""
    if case.is_in("demographics", "clinical", "financial"):
        lawful = case.action == "block" or (case.action == "delete" and case.context.subject_demand)
        if lawful and not case.is_self:
            return "operator_duty", "operator_duty", "notify_subject provenance"
        if case.action == "delete":
            raise Denied("destroy.no_ground")
    return None


def _proceedings(case: Case, own: bool) -> tuple[str, str, str] | None:
    looks, writes = case.action in ("read", "search"), case.action in ("create", "update")
    decides = writes and case.sort == "user" and not case.is_self
    kept = ("operator_duty", "operator_duty", "provenance")
    if "privacy_officer" in case.roles and case.all_for("HCOMPL") and case.is_in("proceeding", "queue"):
        if looks:
            return "operator_duty", "operator_duty", ""
        if decides:
            return kept
    if "records_officer" in case.roles and case.all_for("PATRQT") and case.is_in("proceeding", "queue"):
        person = case.sort == "user" and not case.is_self
        if person and own and (looks or writes) and case.type not in ("DestructionDemand", "BreachNotice"):
            return kept
    if not case.is_in("proceeding") or not own:
        return None
    desk = looks or case.action == "create" or (case.action == "update" and case.type == "ConsentRequest")
    if "registrar" in case.roles and case.all_for("PATADMIN") and desk:
        return kept
    if CARE & case.roles and case.all_for("TREAT") and case.type == "ConsentRequest":
        return kept if case.action in ("create", "read") else None
    return None


def _secondary(case: Case) -> tuple[str, str, str] | None:
    if not ({"analyst", "researcher"} & case.roles and case.all_for(*SECONDARY)):
        return None
    if not case.data_class or not case.purposes:
        return None
    cohort, able = case.context.cohort_size, case.context.pep_capabilities or ()
    if cohort is not None and cohort < SWITCHES["small_cell_min"]:
        raise Denied("research.small_cell")
    fits = case.action in ("read", "search", "export", "deidentify") and case.is_in(
        "demographics", "clinical", "financial"
    )
    kept = "no_relink no_redisclose no_reuse"
    if fits and case.said.deidentified and case.patient is None:
        return "deidentified", "deidentified", kept
    if fits and "deidentify" in able:
        return (
            "deidentified",
            "deidentified",
            "deidentify " + ("minimum_necessary " if case.action == "export" else "") + kept,
        )
    raise Denied("research.identifiable")


def _statutory(case: Case) -> tuple[str, str, str] | None:  # noqa: PLR0911, PLR0912 - as the Code lists them
    context, roles = case.context, case.roles
    care = "human_approval minimum_necessary no_redisclose"
    asked = context.legal_request
    later = context.defer_notice or (asked is not None and asked.defer_notice)
    told = f"{care} " + ("notify_subject_deferred" if later else "notify_subject")
    if "epidemiologist" in roles and case.all_for("PUBHLTH"):
        fits = case.action in ("read", "search") and case.is_in(
            "demographics", "conditions", "labs", "immunizations", "encounters"
        )
        if fits and "INFDIS" in (case.labels or ()):
            return "statutory", "kz273_4_2", "minimum_necessary notify_subject"
    if "records_officer" in roles and case.all_for("HLEGAL") and not _request_miss(case):
        fits = case.action in ("read", "search", "disclose", "export") and case.is_in(
            "demographics", "clinical", "financial"
        )
        if fits:
            authority = context.legal_request.authority
            if authority == "special_state_body":
                return "statutory", "kz273_4_9", care
            return "statutory", "kz273_4_8" if authority == "prosecution_inspection" else "kz273_4_3", told
    if "physician" in roles and case.all_for("THREAT") and case.action == "disclose" and case.is_in("clinical"):
        if context.recipient == "law_enforcement" and context.suspected_crime:
            return "statutory", "kz273_4_5", told
        if context.recipient == "law_enforcement" and context.mental_deviation and context.sexual_violence_inclination:
            return "statutory", "kz273_4_6", told
    act = context.inspection
    inspects = "quality_expert" in roles and case.all_for("HQUALIMP")
    covered = (
        act is not None
        and bool((act.act_no or "").strip())
        and case.patient in act.patients
        and case.is_in(*act.categories)
    )
    looks = case.action in ("read", "search")
    if inspects and covered and looks and case.is_in("demographics", "clinical", "financial"):
        return "statutory", "kz273_4_7", "minimum_necessary notify_subject"
    if (
        "system_mis" in roles and case.all_for("TREAT") and case.action == "disclose"
        and case.is_in("demographics", "clinical", "financial") and context.recipient in ("nehp", "authorized_body")
    ):  # fmt: skip
        return "statutory", "statutory_transfer", "minimum_necessary no_redisclose notify_subject"
    hands_on = case.action == "disclose" and case.all_for("TREAT")
    if hands_on and (CARE | {"system_mis"}) & roles and case.is_in("demographics", "clinical") and _goes_to_care(case):
        return "statutory", "statutory_transfer", "minimum_necessary no_redisclose notify_subject"
    if (
        hands_on and "system_mis" in roles and context.recipient == "backup_platform"
        and case.is_in("demographics", "clinical", "financial")
    ):  # fmt: skip
        return "statutory", "statutory_transfer", "no_redisclose"
    own = any(e.care_consent for e in _open_episodes(case))
    if CARE & roles and case.all_for("TREAT") and case.action == "create" and case.is_in("clinical") and own:
        return "care_consent", "care_consent", "notify_subject provenance require_eds"
    if "epidemiologist" in roles and case.all_for("PUBHLTH") and not consents(case)[0]:
        raise Denied("statutory.scope")
    if "records_officer" in roles and case.all_for("HLEGAL") and _request_miss(case):
        raise Denied("statutory." + _request_miss(case))
    if "physician" in roles and case.all_for("THREAT") and case.action == "disclose":
        raise Denied("statutory.scope")
    if inspects and act is not None and not covered:
        raise Denied("statutory.scope")
    return None


def _goes_to_care(case: Case) -> bool:
    """Code 60(4)(1): to another healthcare entity, on a ground of Code 137(1)."""
    grounds = ("shock_coma", "dangerous_disease", "severe_mental_disorder", "dangerous_mental_disorder")
    entry = case.facts.recipient
    listed = (
        entry is not None and entry.active and entry.id == case.context.recipient and entry.organisation is not None
    )
    return (
        case.context.art137_1 in grounds
        and not _is_dead(case)
        and listed
        and entry.organisation.category == "provider_medical"
        and entry.organisation.undertaking
    )


def _request_miss(case: Case) -> str:
    asked = case.context.legal_request
    cases = ("inquiry", "investigation", "prosecutor", "advocate", "court")
    if asked is None or not asked.verified or not (asked.ref or "").strip():
        return "no_request"
    if asked.authority not in (*cases, "prosecution_inspection", "special_state_body"):
        return "no_request"
    if asked.authority in cases and not (asked.case_no or "").strip():
        return "no_request"
    if asked.patient != case.patient or not case.is_in(*asked.categories):
        return "scope"
    kept = next((each for each in (case.whom.requests if case.whom else ()) if each.id == asked.ref), None)
    if kept is None:
        return "no_request" if SWITCHES["requests_must_be_registered"] else ""
    open_ = kept.verified and (kept.revoked_at is None or case.now < kept.revoked_at)
    in_term = (kept.start is None or kept.start <= case.now) and case.now < kept.end
    later = (case.context.defer_notice or asked.defer_notice) is not None
    may_wait = kept.deferred_until is not None and case.now < kept.deferred_until
    if not open_ or not in_term or kept.authority != asked.authority or (later and not may_wait):
        return "no_request"
    return "" if case.is_in(*kept.categories) else "scope"


def _open_episodes(case: Case) -> list[Any]:
    org = case.who.org
    return [
        e for e in (case.whom.episodes if case.whom else ())
        if org is not None and e.org == org and e.start <= case.now and (e.end is None or case.now < e.end)
    ]  # fmt: skip


def _emergency_open(case: Case) -> bool:
    return any(e.form_of_care in ("emergency", "urgent") for e in _open_episodes(case))


def _emergency(case: Case) -> tuple[str, str, str] | None:
    staff, looks = bool(BASIC & case.roles), case.action in ("read", "search")
    if "BTG" in case.purposes:
        if not case.facts.consents_known:
            raise Denied("store.unavailable")
        miss = _session_miss(case)
        if not miss and staff and looks and case.all_for("BTG") and case.is_in("demographics", "clinical"):
            return (
                "emergency.override",
                "emergency_override",
                f"alert_privacy_officer notify_subject review:{SWITCHES['btg']['review_within_hours']}",
            )
        raise Denied("btg." + (miss or "action"))
    if not (staff and _emergency_open(case)):
        return None
    _, denials, unread, _ = consents(case)
    shut = bool(denials) or _needs_broken_glass(case)
    if case.all_for("ETREAT") and not shut:
        if looks and case.is_in("demographics", "clinical"):
            sensitive = _is_sensitive(case) or bool(unread) or not case.facts.consents_known
            return "emergency.default", "emergency_default", "notify_subject" + (" review_sampled" if sensitive else "")
        if case.action == "create" and case.is_in("clinical"):
            blind = bool(unread) or not case.facts.consents_known
            duties = "notify_subject provenance require_eds" + (" review_sampled" if blind else "")
            return "emergency.default", "emergency_default", duties
    if (
        {"ETREAT", "ERTREAT"} & set(case.purposes)
        and case.is_in("demographics", "clinical")
        and shut
        and (looks or case.action == "create")
    ):
        raise Denied("emergency.btg_required")
    return None


def _session_miss(case: Case) -> str:  # noqa: PLR0911 - one line a reason
    limits, now = SWITCHES["btg"], case.now
    grant = next((g for g in (case.whom.grants if case.whom else ()) if g.id == case.context.btg_session), None)
    if grant is None:
        return "patient_mismatch" if case.context.btg_session in case.who.sessions else "no_session"
    if grant.subject != case.who.id:
        return "subject_mismatch"
    if not grant.start <= now < min(grant.end, grant.start + limits["max_hours"] * HOUR):
        return "expired"
    if grant.revoked_at is not None and grant.revoked_at <= now:
        return "revoked"
    if grant.reason_code not in limits["reasons"] or grant.reason_length < limits["min_text"]:
        return "reason"
    if not grant.mfa:
        return "mfa"
    if case.who.btg_suspended:
        return "suspended"
    today = (now + 5 * HOUR) // (24 * HOUR)
    opened = [each for each in case.who.btg_opened if (each + 5 * HOUR) // (24 * HOUR) >= today]
    if max(case.who.btg_today, len(opened)) > limits["daily_limit"]:
        return "rate_limited"
    if case.action not in limits["actions"]:
        return "action"
    if not case.is_in(*grant.categories):
        return "category"
    return "" if _emergency_open(case) else "no_episode"


def _incapable(case: Case) -> tuple[str, str, str] | None:
    if not (case.whom and case.whom.unable and CARE & case.roles and case.all_for("TREAT") and _is_cared_for(case)):
        return None
    represented = any(
        (p.end is None or case.now < p.end) and (p.revoked_at is None or case.now < p.revoked_at)
        for p in case.whom.representations
    )
    if (
        _is_dead(case)
        or represented
        or case.action not in ("read", "search")
        or not case.is_in("demographics", "clinical")
    ):
        return None
    return "statutory", "kz273_4_1", "notify_subject"


def _is_cared_for(case: Case) -> bool:
    for tie in case.whom.relationships if case.whom else ():
        named = tie.subject is not None or tie.org is not None
        person = tie.subject is None or tie.subject == case.who.id
        place = tie.org is None or tie.org == case.who.org
        began = tie.start is None or tie.start <= case.now
        if named and person and place and began and (tie.end is None or case.now < tie.end):
            return True
    return False


def _by_consent(case: Case) -> tuple[str, str, str] | None:
    roles, looks, writes = case.roles, case.action in ("read", "search"), case.action in ("create", "update")
    everything = ("demographics", "clinical", "financial")
    payers = roles & {"insurer", "pharmacist", "system_mis"}
    rows = [
        (CARE & roles, "TREAT", looks, ("demographics", "clinical", "consent"), "notify_subject"),
        (CARE & roles, "TREAT", writes, ("clinical",), "notify_subject provenance require_eds"),
        (roles & {"pharmacist", "system_mis"}, "TREAT HPAYMT", writes, ("clinical",),
         "notify_subject provenance require_eds"),
        (payers, "TREAT HPAYMT", looks, everything, "notify_subject"),
        (payers, "TREAT HPAYMT", writes, ("demographics", "financial"), "notify_subject provenance"),
        (roles & {"quality_expert"}, "HQUALIMP", looks, everything, "notify_subject"),
        (roles & {"trainee"}, "TRAIN TREAT", looks, ("clinical",), "notify_subject supervise"),
        (roles & {"registrar"}, "PATADMIN", looks, ("consent", "encounters"), "notify_subject"),
        (roles & {"registrar"}, "PATADMIN", writes, ("consent",), "notify_subject provenance"),
        (roles & (CARE | {"system_mis"}), "TREAT HPAYMT", case.action == "disclose", everything,
         "notify_subject no_redisclose"),
        (roles & {"epidemiologist"}, "PUBHLTH", looks,
         ("demographics", "conditions", "labs", "immunizations", "encounters"), "notify_subject minimum_necessary"),
        (roles & {"records_officer"}, "PATRQT", looks or case.action == "export", everything, "notify_subject"),
    ]  # fmt: skip
    for who, purpose, does, names, duties in rows:
        if who and does and case.all_for(*purpose.split()) and case.is_in(*names):
            return "consent", "consent", duties
    return None


# ---- labels ------------------------------------------------------------------------------------------------


def _label_conf(label: str) -> str:
    return LABELS[label].get("conf", "R") if label in LABELS else "V"


def _is_or_under(label: str, wanted: str) -> bool:
    while label is not None:
        if label == wanted:
            return True
        label = LABELS.get(label, {}).get("parent")
    return False


def _is_sensitive(case: Case) -> bool:
    return case.labels is None or any(_label_conf(each) in "RV" for each in case.labels) or (case.conf or "N") in "RV"


def _needs_broken_glass(case: Case) -> bool:
    implied = [_label_conf(label) for label in case.labels or ()]
    highest = max([*implied, *([case.conf] if case.conf else [])], key=ORDER.index, default=None)
    return highest in SWITCHES["btg_required_conf"] or "VIP" in (case.labels or ())


def _is_very_restricted(case: Case) -> bool:
    return case.conf == "V" or any(_label_conf(label) == "V" for label in case.labels or ())


def _names_labels(case: Case, named: tuple[str, ...]) -> bool:
    """A permit names every sensitive label, and says nothing of a record that nobody checked."""
    if case.labels is None:
        return False
    return all(
        _label_conf(label) not in "RV" or any(_is_or_under(label, each) for each in named) for label in case.labels
    )


# ---- consents ----------------------------------------------------------------------------------------------


def consents(case: Case, onward: Any = None) -> tuple[list[str], list[str], list[str], str]:
    """
    Return the documents that permit, that refuse, that nobody could read, and the nearest miss.

    With *onward*: as if that organisation asked.
    """
    if onward is not None:
        case = copy(case)
        case.who, case.roles = onward, set()
    if case.whom is None:
        return [], [], [], "consent.none"
    unread = [d.id for d in case.whom.consents if d.status == "quarantined" or _is_strange_refusal(d)]
    if _is_dead(case):
        refusals = [d.id for d in governors(case) if _weigh(d, case)[0] == "deny"]
        return [], refusals, unread, "consent.subject_deceased"
    permits, denials, misses = [], [], []
    for document in governors(case):
        effect, miss = _weigh(document, case)
        if effect == "permit":
            permits.append(document.id)
        elif effect == "deny":
            denials.append(document.id)
        else:
            misses.append((FORMALITIES.get(miss, 2), miss))
    _, miss = max(misses, default=(0, "none"))
    return permits, denials, unread, "sensitivity.not_covered" if miss == "sensitivity" else f"consent.{miss}"


def _is_dead(case: Case) -> bool:
    return bool(case.whom and case.whom.deceased_at is not None and case.whom.deceased_at <= case.now)


def _is_strange_refusal(document: Any) -> bool:
    """A refusal of a kind that nobody knows may be about access."""
    never = document.status in ("draft", "rejected", "entered-in-error")
    return document.root.effect == "deny" and document.kind not in (*ACCESS, *OTHER) and not never


def governors(case: Case) -> Iterator[Any]:
    """Yield, of each thread, the newest document that was ever in force."""
    threads: dict[str, list[Any]] = {}
    for document in case.whom.consents:
        if document.kind in ACCESS and document.status not in ("draft", "rejected", "entered-in-error", "quarantined"):
            threads.setdefault(document.thread, []).append(document)
    for documents in threads.values():
        in_force = [d for d in documents if _was_in_force(d, case.now)]
        latest = max(d.granted_at for d in in_force or documents)
        newest = [d for d in in_force or documents if d.granted_at == latest]
        living = [d for d in newest if d.root.effect == "deny" and not _is_revoked(d, case.now)]
        yield max(living or newest, key=lambda d: d.id)


def _was_in_force(document: Any, now: int) -> bool:
    begun = document.root.start is None or document.root.start <= now
    return begun and (document.root.effect == "deny" or document.defect is None)


def _is_revoked(document: Any, now: int) -> bool:
    """A permit that is known to be withdrawn is, though the instant may be written by a clock that was ahead."""
    if document.revoked_at is None or (document.root.effect == "permit" and document.status == "revoked"):
        return bool(document.status == "revoked")
    return bool(document.revoked_at <= now)


def _weigh(document: Any, case: Case) -> tuple[str | None, str]:
    denial = document.root.effect == "deny"
    if _is_revoked(document, case.now):
        return None, "none" if denial else "revoked"
    if document.status == "superseded":
        return None, "none"
    if not denial:
        defect = document.defect or _age_defect(document, case)
        if defect:
            return None, defect
    effect, miss = _apply(document.root, case)
    if miss == "expired" and document.root.start is not None and case.now < document.root.start:
        miss = "not_yet_valid"
    if denial:
        return ("deny", "none") if effect == "deny" else (None, "none")
    return effect, miss


def _age_defect(document: Any, case: Case) -> str:  # noqa: PLR0911 - a line for each who may give it
    whom, now = case.whom, case.now
    if document.given_by == "legal_rep":
        powers = [p for p in whom.representations if p.subject == document.giver]
        living = [p for p in powers if (p.end is None or now < p.end) and (p.revoked_at is None or now < p.revoked_at)]
        if powers and not living:
            return "rep_ended"
        if document.giver_kind == "poa":
            return "rep_ended" if whom.incapacitated else ""
        if document.giver_kind == "guardian" and whom.incapacitated:
            return ""
        if whom.birth_date is None:
            return "rep_age_unknown"
        return "rep_majority" if now >= _birthday(whom.birth_date, SWITCHES["rep_access_ends_at"]) else ""
    if whom.incapacitated and not document.cosigned:
        return "incapacity"
    if whom.birth_date is None:
        return ""
    majority = _birthday(whom.birth_date, SWITCHES["rep_access_ends_at"])
    if min(now, document.granted_at) < _birthday(whom.birth_date, SWITCHES["minor_self_from_age"]):
        if not document.cosigned:
            return "minor"
        return "rep_majority" if now >= majority else ""
    if document.cosigned or now >= majority:
        return ""
    return "" if case.data_class in SWITCHES["minor_self_classes"] else "minor_scope"


def _apply(node: Any, case: Case) -> tuple[str | None, str]:
    """The deepest node that matches wins, among siblings a denial; term and purpose shut the whole subtree."""
    miss = _node_miss(node, case)
    if miss in ("expired", "purpose"):
        return None, miss
    below = [_apply(_spoken(each, node, case), case)[0] for each in node.exceptions]
    if "deny" in below:
        return "deny", ""
    if miss:
        return None, miss
    return ("permit", "") if "permit" in below else (node.effect, "")


def _spoken(exception: Any, parent: Any, case: Case) -> Any:
    """An exception to a refusal that states something; of the rest it is about all that the refusal is about."""
    said = exception.purposes or exception.grantees or exception.categories
    if parent.effect == "permit" or exception.effect == "deny" or not said:
        return exception
    return structs.replace(
        exception,
        purposes=exception.purposes or tuple(case.purposes),
        grantees=exception.grantees or (Grantee(subject=case.who.id),),
        categories=exception.categories or ((case.data_class,) if case.data_class else ()),
    )


def _node_miss(node: Any, case: Case) -> str:
    wide = node.effect == "deny"
    if not ((node.start is None or node.start <= case.now) and (node.end is None or case.now < node.end)):
        return "expired"
    if wide:
        closed = [p for p in case.purposes if any(p == n or p in DENIAL_CLOSES.get(n, ()) for n in node.purposes)]
        if node.purposes and not closed and set(node.purposes) <= set(VOCABULARY["purposes"]):
            return "purpose"
    elif not (node.purposes and case.all_for(*node.purposes)):
        return "purpose"
    if not any(_is_named(each, case, wide) for each in node.grantees) and not (wide and not node.grantees):
        return "recipient"
    anything = wide and not set(node.actions) <= set(VOCABULARY["actions"])
    if not anything and case.action not in (node.actions or (("read", "search") if not wide else (case.action,))):
        return "action"
    anything = not node.categories or case.data_class is None or not set(node.categories) <= CLASSES | set(GROUPS)
    if not ((wide and anything) or case.is_in(*node.categories)):
        return "category"
    if not _in_data_scope(node, case, wide):
        return "data_scope"
    if node.conf is not None and not _within_confidentiality(node.conf, case, wide):
        return "confidentiality"
    if wide:
        meets = not node.labels or case.labels is None or not set(node.labels) <= set(LABELS) or any(
            label not in LABELS or _is_or_under(label, each) for label in case.labels for each in node.labels
        )  # fmt: skip
        return "" if meets else "sensitivity"
    return "" if _names_labels(case, node.labels) else "sensitivity"


def _within_confidentiality(limit: str, case: Case, wide: bool) -> bool:
    """A ceiling on a permit, a floor on a denial; what nobody knows meets a denial only."""
    if case.labels is None:
        return wide
    level = max([case.conf or "N", *map(_label_conf, case.labels or ())], key=ORDER.index)
    return level == limit or (ORDER.index(level) > ORDER.index(limit)) == wide


def _is_named(grantee: Any, case: Case, wide: bool) -> bool:
    who = case.who
    stated = [
        (grantee.org, grantee.org == who.org), (grantee.subject, grantee.subject == who.id),
        (grantee.role, grantee.role in case.roles or (wide and grantee.role not in ROLES)),
        (grantee.group, grantee.group in who.groups),
    ]  # fmt: skip
    if all(value is None for value, _ in stated):
        return wide
    return all(met for value, met in stated if value is not None)


def _in_data_scope(node: Any, case: Case, wide: bool) -> bool:
    said = case.said
    written_by = [value for value in (said.author, said.author_org) if value is not None]
    named_data = (
        (node.data_records, [case.id]),
        (node.data_authors, written_by),
        (node.data_encounters, [] if said.encounter is None else [said.encounter]),
    )
    met = [bool(set(values) & set(named)) if values else wide for named, values in named_data if named]
    if met and not (any(met) if wide else all(met)):
        return False
    if node.data_codes and not (wide if said.codes is None else set(said.codes) & set(node.data_codes)):
        return False
    if node.data_from is not None or node.data_until is not None:
        days = _days(said.created)
        if not days:
            return wide
        inside = [
            (node.data_from is None or node.data_from <= day) and (node.data_until is None or day <= node.data_until)
            for day in days
        ]
        return any(inside) if wide else all(inside)
    return True


def _days(text: str | None) -> list[date]:
    """Every day that a date may mean, at home."""
    try:
        if text is None:
            return []
        if "T" in text:
            return [datetime.fromisoformat(text).astimezone(timezone(timedelta(hours=5))).date()]
        if len(text) == 10:
            return [date.fromisoformat(text)]
        first = date.fromisoformat((text + "-01-01")[:10])
    except ValueError:
        return []
    unit = len(text.split("-"))
    return [
        day for n in range(366)
        if (day := first + timedelta(days=n)).year == first.year and (unit == 1 or day.month == first.month)
    ]  # fmt: skip
