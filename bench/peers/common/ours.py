"""The world as our own facts and requests, and what we answer."""

import json
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from bench.peers.common.rules import ROOT
from bench.peers.common.world import DAY, FUND, Document, Link, Patient, Question, World

from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Grantee, PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import SECOND, at
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.world import (
    ConsentRecord,
    DelegationRecord,
    EpisodeRecord,
    Giver,
    OrganisationRecord,
    PatientRecord,
    RecordRecord,
    RelationshipRecord,
    Signature,
    SubjectRecord,
)
from ruqsat.core.world import World as OwnWorld
from ruqsat.settings import BLOCKING_DUTIES
from ruqsat.stores.policy_folder import load_texts
from ruqsat.web.wire import decode_evaluation

KINDS = ("consents", "delegations", "episodes", "relationships", "records")


class Reference(NamedTuple):
    """Our own decider with the facts of the world."""

    policy_set: PolicySet
    subjects: tuple[SubjectFacts, ...]
    patients: tuple[PatientFacts, ...]
    now: int

    def answers(self, questions: list[Question]) -> list[bool]:
        """Return what we answer: allowed or not."""
        who = {each.id: each for each in self.subjects}
        whom = {each.id: each for each in self.patients}
        able, moment = frozenset(BLOCKING_DUTIES), at(self.now * SECOND)
        return [
            evaluate(
                self.policy_set, decode_evaluation(body_of(each)),
                Facts(who.get(each.who), whom.get(each.patient), Position("bench", 1)), moment, able,
            ).allowed
            for each in questions
        ]  # fmt: skip


def reference(world: World) -> Reference:
    """Return the shipped pack, compiled, beside the world's facts."""
    policy_set, findings = load_pack(load_texts(ROOT))
    if policy_set is None:
        raise ValueError(findings[0].message)
    return Reference(policy_set, *project_world(own_world(world), policy_set.vocabulary.switches), world.now)


def body_of(question: Question) -> bytes:
    """Return the AuthZEN request: what is asked; everything else stands in our own store."""
    return json.dumps({
        "subject": {"type": "user", "id": question.who},
        "action": {"name": question.action},
        "resource": {"type": "Record", "id": question.record.id, "properties": {
            "patient": question.patient, "class": question.record.data_class,
        }},
        "context": {"purpose": question.purpose},
    }, separators=(",", ":")).encode()  # fmt: skip


def own_world(world: World) -> OwnWorld:
    """Return the world as our files write one."""
    orgs = {person.org for person in world.people.values() if person.org}
    written: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
    for patient in world.patients.values():
        for kind, found in _written(patient, world.now).items():
            written[kind] |= found
    return OwnWorld(
        organisations={
            org: OrganisationRecord("reimbursement_fund" if org == FUND else "provider_medical", undertaking=True)
            for org in orgs
        },
        subjects={
            each.id: SubjectRecord((each.role,), each.org or None, patient_id=each.patient or None)
            for each in world.people.values()
        },
        patients={each: PatientRecord(date(1980, 1, 1), egov=True) for each in world.patients},
        **written,
    )  # fmt: skip


def _written(patient: Patient, now: int) -> dict[str, dict[str, Any]]:
    own, ids = patient.id, tuple(each.id for each in patient.links)
    return {
        "consents": {each.id: _consent(each, own, now) for each in patient.documents}
        | {f"{each.id}-consent": _letting_in(each, own, now) for each in patient.links},
        "delegations": {
            each.id: DelegationRecord(
                patient=own, consent=f"{each.id}-consent", delegator=own, delegate=each.delegate,
                start=_moment(each.since), end=_moment(each.until), categories=each.classes, purposes=each.purposes,
                actions=each.actions, labels=each.labels,
            )
            for each in patient.links if each.id in ids
        },
        "episodes": {
            f"{own}-e{n}": EpisodeRecord(
                patient=own, org=each.org, form_of_care="emergency", opened_at=_moment(each.since),
                closed_at=_moment(each.until),
            )
            for n, each in enumerate(patient.episodes)
        },
        "relationships": {
            f"{own}-{org}": RelationshipRecord(patient=own, kind="encounter", org=org) for org in patient.cared_for_at
        },
        "records": {
            each.id: RecordRecord(patient=own, data_class=each.data_class, labels=each.labels)
            for each in patient.records
        },
    }  # fmt: skip


def _consent(document: Document, patient: str, now: int) -> ConsentRecord:
    named = Grantee(org=document.org or None, role=document.role or None)
    return _signed(
        patient, document.id, document.since, document.until, now,
        kind="dissent" if document.refuses else "processing", effect="deny" if document.refuses else "permit",
        grantees=(named,) if document.org or document.role else (), purposes=document.purposes,
        actions=document.actions, categories=document.classes, labels=document.labels,
    )  # fmt: skip


def _letting_in(link: Link, patient: str, now: int) -> ConsentRecord:
    """Return the consent by which a patient lets a third person in; what it opens stands in the delegation."""
    return _signed(
        patient, f"{link.id}-consent", link.since, link.until, now, kind="delegation", effect="permit",
        grantees=(Grantee(subject=link.delegate),), purposes=link.purposes, actions=link.actions,
        categories=link.classes, labels=link.labels, delegations=(link.id,),
    )  # fmt: skip


def _signed(patient: str, name: str, since: int, until: int, now: int, **said: Any) -> ConsentRecord:
    return ConsentRecord(
        patient=patient, status="active", thread=f"{patient}|{name}", granted_at=_moment(min(since, now - DAY)),
        start=_moment(since), end=_moment(until) if until else None, form="egov_cabinet",
        signature=Signature("patient_eds", verified=True), given_by=Giver("patient", patient), **said,
    )  # fmt: skip


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
