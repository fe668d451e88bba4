"""
A small town that changes: its people and records as written down, its moment, and questions about them.

Small lists to choose from, so that what is signed and what is asked meet often.
Nobody here exists.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from ruqsat.core.facts import Facts, Grantee, Position
from ruqsat.core.instant import HOUR, Instant, Now, at, parse_instant, render_instant
from ruqsat.core.projection import project_world
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource, ResourceProperties, Subject
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import (
    ConsentRecord,
    DataReference,
    Giver,
    Node,
    OrganisationRecord,
    PatientRecord,
    RecordRecord,
    RelationshipRecord,
    Signature,
    SubjectRecord,
    World,
)

BEGIN = parse_instant("2026-11-24T10:00:00+05:00")
DAY = 24 * HOUR
ADULT, CHILD = "p-dana", "p-child"
PATIENTS = (ADULT, CHILD)
PEOPLE = {
    "dr_aida": SubjectRecord(("physician",), "h1"), "dr_erlan": SubjectRecord(("physician",), "h2"),
    "nurse_gulnar": SubjectRecord(("nurse",), "h1"), "ed_bolat": SubjectRecord(("emergency_clinician",), "h1"),
    "pharm_laura": SubjectRecord(("pharmacist",), "pharmacy"), "epi_aliya": SubjectRecord(("epidemiologist",), "ses"),
    "dpo_assel": SubjectRecord(("privacy_officer",), "h1"), "dana": SubjectRecord(("patient",), patient_id=ADULT),
    "child": SubjectRecord(("patient",), patient_id=CHILD), "saule": SubjectRecord(("legal_representative",)),
    "arman": SubjectRecord(("delegate",)), "friend": SubjectRecord(("delegate",)),
}  # fmt: skip
STAFF = ("dr_aida", "dr_erlan", "nurse_gulnar", "ed_bolat")
BIRTHS = (date(2015, 6, 10), date(2008, 11, 25), date(2010, 11, 25), None)
"""The child is a child, comes of age or turns sixteen within a day, or is of an age that nobody knows."""

KEPT = ("labs", "documents", "medications")
LOOKING = (*("read",) * 4, "search")
_CARE = (("TREAT", "TREAT", "ETREAT", "BTG", "BTG"), (*LOOKING, "create"), (*KEPT, "demographics"))
USUAL: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(STAFF, _CARE), "ed_bolat": (("ETREAT", "ERTREAT", "BTG"), *_CARE[1:]),
    "pharm_laura": (("TREAT",), LOOKING, ("medications",)), "epi_aliya": (("PUBHLTH",), ("read",), ("labs",)),
    "dpo_assel": (("HCOMPL",), ("read", "block", "delete"), ("labs", "consent")),
    "dana": (("PATRQT",), (*LOOKING, "delegate"), (*KEPT, "consent")), "child": (("PATRQT",), LOOKING, KEPT),
    "saule": (("PWATRNY",), (*LOOKING, "export"), KEPT), "arman": (("FAMRQT",), LOOKING, ("labs", "documents")),
    "friend": (("FAMRQT",), LOOKING, ("labs", "documents")),
}  # fmt: skip
"""What people usually ask for: purpose, action, class."""

PURPOSES = ("TREAT", "ETREAT", "ERTREAT", "BTG", "PATRQT", "FAMRQT", "HCOMPL", "HRESCH", "HPAYMT", "PUBHLTH")
CLASSES = (*KEPT, "demographics", "consent", "journal", "financial")
ACTIONS = ("read", "search", "create", "update", "export", "disclose", "journal_read", "consent_manage", "delegate")
LABELS = ("HIV", "PSY", "PSYTHPN", "VIP", "INFDIS", "TBOO")

_OPERATOR = (Grantee(org="h1"),)
_GRANTEES = (*(_OPERATOR,) * 4, (Grantee(org="h2"),), (Grantee(org="h1"), Grantee(org="h2")), (Grantee(org="pharmacy"),),
             (Grantee(org="h1", role="nurse"),), (Grantee(subject="dr_aida"),), (Grantee(role="physician"),), (Grantee(),), ())  # fmt: skip
_FOR = (*(("TREAT",),) * 5, ("TREAT", "HPAYMT"), ("ETREAT",), ("FAMRQT",), ("BTG",), ())
_DOING = ((), ("read", "search"), ("read", "search", "create", "update", "disclose"))
_ABOUT = (*(("clinical", "demographics"),) * 3, ("labs",), ("documents", "medications"), ())
_NAMING = ((), (), ("HIV",), ("PSY",), ("HIV", "PSY", "VIP"))
_LISTED = (DataReference("instance", f"{ADULT}-labs"), DataReference("authoredby", "dr_aida"))
_DATA = (*((),) * 8, _LISTED[:1], _LISTED[1:], _LISTED)
_CONF = (*(None,) * 8, "N", "R")
_FROM = (*(0,) * 6, -DAY, -HOUR, HOUR, DAY)
_FOR_LONG = (HOUR, DAY, 30 * DAY, 30 * DAY, 400 * DAY, None)


def nodes(effects: tuple[str, ...], beneath: int) -> st.SearchStrategy[dict[str, Any]]:
    """Provisions as keyword arguments, with exceptions *beneath* levels deep; their term is the document's."""
    exceptions: Any = st.just(())
    if beneath:
        inner = nodes(("permit", "deny"), beneath - 1)
        exceptions = st.lists(inner, max_size=2).map(lambda found: tuple(Node(**each) for each in found))
    return st.fixed_dictionaries({
        "effect": st.sampled_from(effects), "grantees": st.sampled_from(_GRANTEES), "purposes": st.sampled_from(_FOR),
        "actions": st.sampled_from(_DOING), "categories": st.sampled_from(_ABOUT), "labels": st.sampled_from(_NAMING),
        "data": st.sampled_from(_DATA), "conf": st.sampled_from(_CONF), "exceptions": exceptions,
    })  # fmt: skip


permits = nodes(("permit",), 2)
refusals = st.one_of(st.just({"effect": "deny"}), nodes(("deny",), 0), nodes(("deny",), 2))
terms = st.tuples(st.sampled_from(_FROM), st.sampled_from(_FOR_LONG))
"""When a document begins, from now, and for how long it holds."""


class Question(NamedTuple):
    """
    Who asks to do what to which data of whom; and what one more label and one more purpose would be.

    The session ``own`` is the newest of whoever asks.
    """

    who: str
    purposes: tuple[str, ...]
    action: str
    data_class: str
    patient: str
    session: str | None
    stated: tuple[str, ...] | None
    self_consented: bool
    author: str | None
    country: str | None
    is_store_up: bool
    label: str
    purpose: str


_ASKING = (*USUAL, "arman", "saule", "dr_aida", "", "")
"""Mostly somebody who asks for what is usual; else anybody for anything."""

_circumstances = st.tuples(
    st.sampled_from((ADULT, ADULT, CHILD)), st.sampled_from(("own", "own", "own", "s1", "s2", None)),
    st.sampled_from((*((),) * 7, None, ("PSY",))), st.sampled_from((False, False, False, True)),
    st.sampled_from((None, None, "dr_aida", "dr_erlan")), st.sampled_from((*(None,) * 30, "KZ", "DE")),
    st.sampled_from((*(True,) * 29, False)), st.sampled_from(LABELS), st.sampled_from(PURPOSES),
)  # fmt: skip


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """Draw a question."""
    who = draw(st.sampled_from(_ASKING))
    if who:
        purposes, actions, classes = USUAL[who]
        asked: Any = (who, (draw(st.sampled_from(purposes)),))
    else:
        actions, classes = ACTIONS, CLASSES
        stated = st.lists(st.sampled_from(PURPOSES), max_size=2)
        asked = (draw(st.sampled_from((*PEOPLE, "nobody"))), tuple(draw(stated)))
    return Question(*asked, draw(st.sampled_from(actions)), draw(st.sampled_from(classes)), *draw(_circumstances))


def beginning(born: date | None) -> World:
    """Return the town before anybody signed anything."""
    return World(
        organisations={
            "h1": OrganisationRecord("provider_medical", True), "h2": OrganisationRecord("provider_medical", True),
            "pharmacy": OrganisationRecord("provider_pharma", True), "ses": OrganisationRecord("control_sanepid", True),
        },
        subjects=dict(PEOPLE),
        patients={ADULT: PatientRecord(date(1880, 3, 2), egov=True), CHILD: PatientRecord(born)},
        relationships={
            f"{patient}-{org}": RelationshipRecord(patient=patient, kind="encounter", org=org)
            for patient, org in ((ADULT, "h1"), (ADULT, "h2"), (ADULT, "pharmacy"), (CHILD, "h1"))
        },
        records={
            f"{patient}-{kept}": RecordRecord(patient=patient, data_class=kept, labels=())
            for patient in PATIENTS for kept in KEPT
        },
    )  # fmt: skip


def document(
    patient: str, thread: str, now: Instant, term: tuple[int, int | None], said: Mapping[str, Any], **more: Any
) -> ConsentRecord:
    """Return a document signed now; a paper waits to be entered."""
    begins, holds = term
    usual = {
        "kind": "processing", "form": "e_document", "signature": Signature("patient_eds", True),
        "given_by": Giver("patient", patient),
    }  # fmt: skip
    return ConsentRecord(
        patient=patient, status="active", thread=f"{patient}|{thread}", granted_at=render_instant(now),
        start=render_instant(now + begins), end=None if holds is None else render_instant(now + begins + holds),
        **{**usual, **said, **more},
    )  # fmt: skip


def with_record(world: World, kind: str, name: str, record: object) -> World:
    """Return the world with one record written, or written anew."""
    return msgspec.structs.replace(world, **{kind: {**getattr(world, kind), name: record}})


DOCUMENTS = ("consents", "delegations", "reps", "btg", "episodes", "relationships", "records")


def without_others(world: World, patient: str) -> World:
    """Return the world in which nothing was ever written down of any other patient."""
    kept = {
        kind: {name: each for name, each in getattr(world, kind).items() if each.patient == patient}
        for kind in DOCUMENTS
    }
    return msgspec.structs.replace(world, **kept)


class Town(NamedTuple):
    """The facts of everybody, worked out."""

    subjects: Mapping[str, Any]
    patients: Mapping[str, Any]

    @classmethod
    def of(cls, world: World, switches: Switches) -> "Town":
        """Work the facts out."""
        subjects, patients = project_world(world, switches)
        return cls({each.id: each for each in subjects}, {each.id: each for each in patients})

    def situation(self, question: Question, now: Instant) -> tuple[EvaluationRequest, Facts, Now]:
        """Return the request, the facts and the moment of a question."""
        recipient = "h2" if question.action == "disclose" else None
        who, named = self.subjects.get(question.who), question.session
        if named == "own":
            named = who.sessions[-1] if who is not None and who.sessions else "s1"
        properties = ResourceProperties(
            patient=question.patient, data_class=question.data_class, labels=question.stated, author=question.author,
            self_consented=question.self_consented,
        )  # fmt: skip
        context = RequestContext(
            purpose=question.purposes, btg_session=named, destination_country=question.country,
            recipient=recipient,
        )  # fmt: skip
        request = EvaluationRequest(
            Subject("user", question.who), Action(question.action),
            Resource("Record", f"{question.patient}-{question.data_class}", properties), context,
        )  # fmt: skip
        facts = Facts(
            who, self.patients.get(question.patient), Position("town", 0),
            question.is_store_up, (), self.subjects.get(recipient) if recipient else None,
        )  # fmt: skip
        return request, facts, at(now)
