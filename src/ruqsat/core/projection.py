"""
From records to facts: what decisions are made by, of what was written down.

The formal defects of a consent are settled on the way (order §8–11, Law 94-V art. 8 and 12).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ruqsat.core.dates import years_after
from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Episode,
    Organisation,
    PatientFacts,
    Provision,
    RecordStatus,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
    entry_id,
)
from ruqsat.core.instant import Instant, parse_instant
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import (
    HOME_COUNTRY,
    ConsentRecord,
    DelegationRecord,
    Node,
    PatientRecord,
    RepresentationRecord,
    SessionRecord,
    SubjectRecord,
    World,
)

_PERSON = frozenset({"patient_eds", "rep_eds"})
_ORGANISATION = frozenset({"paper_scanned_org_eds", "org_eds"})
_SIGNED_AS = {"written": _ORGANISATION, "e_document": _PERSON, "egov_cabinet": _PERSON | {"state_service_proof"}}
"""The forms of order §8, and by what each is signed (§9, §10); a code sent to a telephone is no signature."""


def project_world(world: World, switches: Switches) -> tuple[tuple[SubjectFacts, ...], tuple[PatientFacts, ...]]:
    """Return the facts of everybody in the world; organisations, and resources of nobody, stand among the subjects."""
    subjects = tuple(_subject(name, who, world) for name, who in world.subjects.items())
    organisations = tuple(
        SubjectFacts(name, roles=(), organisation=_organisation(name, world)) for name in world.organisations
    )
    resources = tuple(
        SubjectFacts(
            entry_id(entry.type, name), active=False, roles=(), properties=entry.properties, resource_type=entry.type
        )
        for name, entry in world.resources.items()
    )
    patients = tuple(_patient(name, who, world, switches) for name, who in world.patients.items())
    return subjects + organisations + resources, patients


def _subject(name: str, who: SubjectRecord, world: World) -> SubjectFacts:
    return SubjectFacts(
        id=name,
        **msgspec.structs.asdict(who),
        organisation=_organisation(who.org, world),
        sessions=tuple(key for key, session in world.btg.items() if session.subject == name),
    )


def _organisation(name: str | None, world: World) -> Organisation | None:
    record = world.organisations.get(name) if name is not None else None
    return None if record is None else Organisation(record.category, record.undertaking)


def _patient(name: str, who: PatientRecord, world: World, switches: Switches) -> PatientFacts:
    def of(things: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return [(key, thing) for key, thing in things.items() if thing.patient == name]

    representatives = {record.subject for _, record in of(world.reps)}
    owners = {name, *(key for key, subject in world.subjects.items() if subject.patient_id == name)}
    return PatientFacts(
        id=name,
        birth_date=who.birth_date,
        deceased_at=_instant(who.deceased_at),
        incapacitated=who.incapacitated,
        egov=who.egov,
        unable=who.unable,
        consents=tuple(project_consent(key, record, switches) for key, record in of(world.consents)),
        delegations=tuple(_delegation(key, record, owners, representatives) for key, record in of(world.delegations)),
        representations=tuple(project_representation(key, record) for key, record in of(world.reps)),
        grants=tuple(_grant(key, record) for key, record in of(world.btg)),
        episodes=tuple(
            Episode(key, e.org, e.form_of_care, parse_instant(e.opened_at), _instant(e.closed_at), e.care_consent)
            for key, e in of(world.episodes)
        ),
        relationships=tuple(Relationship(r.kind, r.subject, r.org) for _, r in of(world.relationships)),
        records=tuple(
            RecordStatus(key, r.data_class, r.labels, r.conf, r.blocked, r.destroyed, None, kind)
            for key, r in of(world.records)
            for kind in r.types
        ),
        requests=tuple(
            StatutoryRequest(
                key,
                r.authority,
                r.categories,
                parse_instant(r.end),
                _instant(r.start),
                r.verified,
                _instant(r.closed_at),
                _instant(r.deferred_until),
            )
            for key, r in of(world.requests)
        ),
    )


def project_consent(name: str, record: ConsentRecord, switches: Switches) -> Consent:
    """Return the decision projection of one document; an unreadable status counts as quarantined."""
    known = ("draft", "active", "revoked", "superseded", "rejected", "entered-in-error", "quarantined")
    status: Any = record.status if record.status in known else "quarantined"
    return Consent(
        id=name,
        thread=record.thread or f"{record.patient}||{name}",
        status=status,
        granted_at=parse_instant(record.granted_at),
        root=_provision(_since_entered(_own_recipients(record))),
        kind=record.kind,
        revoked_at=_instant(record.revoked_at),
        defect=formal_defect(record, switches),
        given_by=record.given_by.type,
        giver=record.given_by.id,
        giver_kind=record.given_by.kind,
        cosigned=record.cosigned_by_rep,
        delegations=record.delegations,
        cross_border=record.cross_border,
    )


def _own_recipients(record: ConsentRecord) -> ConsentRecord:
    """
    Leave out the recipients that a permit may not reach: it says that third persons get nothing (Law 94-V art. 8(4)).

    A refusal keeps whomever it names.
    """
    if record.effect == "deny" or record.operator is None or record.third_party_transfer is not False:
        return record
    own = tuple(grantee for grantee in record.grantees if grantee.org == record.operator)
    return msgspec.structs.replace(record, grantees=own)


def _since_entered(record: ConsentRecord) -> ConsentRecord:
    """Let a permit on paper begin no sooner than it was entered (order §10)."""
    entered, start = record.entered_in_mis_at, record.start
    if record.effect == "deny" or record.form != "written" or entered is None or start is None:
        return record
    later = max(start, entered, key=parse_instant)
    return msgspec.structs.replace(record, start=later)


def formal_defect(record: ConsentRecord, switches: Switches) -> str | None:
    """
    Return why a permit may not be used, or None.

    An item of order §9 is missing, a copy of an identity document hangs on it (Code
    60(1-1)), the form is none of §8's, a paper is not entered under the organisation's
    signature (§10), the signature is not verified or not of the form, a
    representative's powers were not checked (§11), the database lies abroad (Law 94-V
    art. 12(2)), or a state operator's consent did not come through the state service
    (art. 8(1)).
    """
    if record.missing or record.start is None or record.end is None:
        return "incomplete"
    if record.id_document_image:
        return "id_document_image"
    if record.form not in _SIGNED_AS:
        return "channel"
    if record.form == "written" and (record.entered_in_mis_at is None or record.signature.kind not in _ORGANISATION):
        return "not_entered"
    if not record.signature.verified or record.signature.kind not in _SIGNED_AS[record.form]:
        return "signature"
    if record.given_by.type == "legal_rep" and not record.given_by.verified:
        return "rep_unverified"
    if record.database_country != HOME_COUNTRY:
        return "database_location"
    if record.controller_is_state and switches.state_controller_needs_state_service:
        return None if record.form == "egov_cabinet" and record.state_service_ref else "channel"
    return None


def _provision(node: Node) -> Provision:
    def refs(meaning: str) -> tuple[str, ...]:
        return tuple(reference.ref for reference in node.data if reference.meaning == meaning)

    return Provision(
        effect=node.effect,
        grantees=node.grantees,
        purposes=node.purposes,
        actions=node.actions,
        categories=node.categories,
        labels=node.labels,
        start=_instant(node.start),
        end=_instant(node.end),
        data_records=refs("instance"),
        data_authors=refs("authoredby"),
        data_encounters=refs("related"),
        data_from=node.data_period.start,
        data_until=node.data_period.end,
        exceptions=tuple(_provision(_within(node, exception)) for exception in node.exceptions),
        data_codes=node.codes,
        conf=node.conf,
    )


def _within(parent: Node, child: Node) -> Node:
    """
    Hand down what an exception leaves out: a permit is never wider than the nodes above it.

    A denial keeps its silence, which reads as "all"; what it inherits is only
    passed on, so that a permit beneath it is bounded too.
    """
    scope = {name: getattr(child, name) or getattr(parent, name) for name in ("grantees", "purposes", "categories")}
    if child.effect == "permit":
        return msgspec.structs.replace(child, **scope)
    handed_down = tuple(
        msgspec.structs.replace(e, **{n: getattr(e, n) or scope[n] for n in scope}) if e.effect == "permit" else e
        for e in child.exceptions
    )
    return msgspec.structs.replace(child, exceptions=handed_down)


def _delegation(name: str, record: DelegationRecord, owners: set[str], representatives: set[str]) -> Delegation:
    return Delegation(
        id=name,
        consent=record.consent,
        delegate=record.delegate,
        end=parse_instant(record.end),
        categories=record.categories,
        purposes=record.purposes,
        actions=record.actions,
        labels=record.labels,
        start=_instant(record.start),
        parent=record.parent,
        may_redelegate=record.may_redelegate,
        delegator=record.delegator,
        by="legal_rep" if record.delegator in representatives else "patient" if record.delegator in owners else "other",
        revoked_at=_instant(record.revoked_at),
    )


def project_representation(name: str, record: RepresentationRecord) -> Representation:
    """Return the decision projection of a power; one of attorney ends as the Civil Code has it."""
    start, end = _instant(record.valid_from), _instant(record.valid_to)
    if record.kind == "poa" and start is not None:
        # Civil Code 168: at most three years; one, if it says no term.
        end = years_after(start, 1) if end is None else min(end, years_after(start, 3))
    return Representation(
        id=name,
        subject=record.subject,
        kind=record.kind,
        verified=record.verified,
        start=start,
        end=end,
        revoked_at=_instant(record.revoked_at),
    )


def _grant(name: str, record: SessionRecord) -> EmergencyGrant:
    return EmergencyGrant(
        id=name,
        subject=record.subject,
        start=parse_instant(record.started_at),
        end=parse_instant(record.expires_at),
        reason_code=record.reason_code,
        reason_length=len(record.reason_text.strip()),
        mfa=record.mfa,
        revoked_at=_instant(record.revoked_at),
        categories=record.categories,
    )


def _instant(text: str | None) -> Instant | None:
    return None if text is None else parse_instant(text)
