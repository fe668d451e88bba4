"""What a request must be before any rule is asked, and what an authority's paper covers."""

from itertools import islice
from typing import Any

import msgspec
import pytest

from ruqsat.core.case import Case
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.circumstances import build_circumstances
from ruqsat.core.evaluate import NOTICES, evaluate
from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Facts,
    Grantee,
    Organisation,
    PatientFacts,
    Position,
    Provision,
    Relationship,
    StatutoryRequest,
    SubjectFacts,
)
from ruqsat.core.functions import is_requested_by
from ruqsat.core.instant import Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    Inspection,
    LegalRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
)
from ruqsat.core.sampling import situations
from ruqsat.core.statutory import inspection_answer, request_answer
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World
from ruqsat.settings import BLOCKING_DUTIES

NURSE = SubjectFacts("s1", roles=("nurse",), patient_id="p1")
LEFT = SubjectFacts("s1", active=False, roles=("nurse",))
PATIENT = SubjectFacts("s1", roles=("patient",), patient_id="p1")


def case(who: SubjectFacts | None = NURSE, action: str = "read", whom: str = "p1", **said: Any) -> Case:
    """Return a case of one's record of results, with a purpose unless something else is said."""
    context = RequestContext(**({"purpose": "TREAT"} | said.pop("ctx", {})))
    id_, facts = said.pop("id_", "o1"), said.pop("facts", PatientFacts(whom))
    properties = ResourceProperties(**({"patient": "p1", "data_class": "labs", "labels": ()} | said))
    request = EvaluationRequest(Subject("user", "s1"), Action(action), Resource("Record", id_, properties), context)
    return Case.of(request, Facts(who, facts, Position("test", 0)), Now(5, 5))


@pytest.mark.parametrize("row", [
    ({}, None), ({"who": None}, "subject.inactive"), ({"who": LEFT}, "subject.inactive"),
    ({"action": "dance"}, "unmapped.action"), ({"data_class": "strange"}, "unmapped.category"),
    ({"data_class": None}, "unmapped.category"), ({"parts": ({"id": "o1"},)}, "unmapped.parts"),
    ({"data_class": "public"}, "unmapped.category"), ({"data_class": "directory"}, "unmapped.category"),
    ({"data_class": "public", "patient": None, "ctx": {"purpose": None}}, None),
    ({"data_class": "directory", "patient": None, "ctx": {"purpose": None}}, "purpose.missing"),
    ({"data_class": "directory", "patient": None}, None),
    ({"ctx": {"purpose": None}}, "purpose.missing"), ({"who": PATIENT, "ctx": {"purpose": None}}, None),
    ({"who": PATIENT, "patient": "p2", "whom": "p2", "ctx": {"purpose": None}}, "purpose.missing"),
    ({"ctx": {"purpose": ("TREAT", "FUN")}}, "purpose.unknown"),
    ({"ctx": {"smart_scopes": ("user/*.cud",)}}, "scope"), ({"ctx": {"smart_scopes": ("user/*.rs",)}}, None),
    ({"ctx": {"smart_scopes": ()}}, "scope"),
    ({"who": PATIENT, "ctx": {"smart_scopes": ("patient/*.rs",)}}, None),
    ({"patient": "p2", "whom": "p2", "ctx": {"smart_scopes": ("patient/*.rs",)}}, "scope"),
    ({"ctx": {"smart_scopes": ("patient/*.rs",), "launch_patient": "p1"}}, None),
    ({"ctx": {"smart_scopes": ("patient/*.rs",), "launch_patient": "p2"}}, "scope"),
    ({"who": PATIENT, "ctx": {"smart_scopes": ("patient/*.rs",), "launch_patient": "p2"}}, "scope"),
    ({"patient": None}, "patient.unresolved"), ({"patient": None, "deidentified": True}, "patient.unresolved"),
    ({"patient": None, "deidentified": True, "ctx": {"purpose": "HRESCH"}}, None),
    ({"patient": None, "ctx": {"purpose": "HRESCH"}}, "patient.unresolved"),
    ({"patient": None, "deidentified": True, "ctx": {"purpose": ("HRESCH", "TREAT")}}, "patient.unresolved"),
    ({"whom": "p2"}, "error.facts"),
])  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(policy_set: PolicySet, row: Any) -> None:
    """Each defect by its name, the first one told."""
    said, reason = row
    refusal = refuse_invalid(case(**said), policy_set.vocabulary)

    assert (refusal and refusal.reason) == (reason and f"deny.{reason}")


def test_a_patients_request_without_a_purpose_is_the_patients(policy_set: PolicySet) -> None:
    """Order §28; a purpose that is stated stays what it is."""
    unsaid, said = case(who=PATIENT, ctx={"purpose": None}), case(who=PATIENT)

    assert [refuse_invalid(each, policy_set.vocabulary) for each in (unsaid, said)] == [None, None]
    assert (unsaid.ctx.purpose, said.ctx.purpose) == (("PATRQT",), ("TREAT",))


LEGAL = LegalRequest("r1", "court", "p1", ("labs",), "c-1", True)


@pytest.mark.parametrize("row", [
    ({}, ""), ({"ref": ""}, "no_request"), ({"verified": False}, "no_request"), ({"authority": "employer"}, "no_request"),
    ({"ref": " \t"}, "no_request"), ({"case_no": " "}, "no_request"), ({"case_no": ""}, "no_request"),
    ({"case_no": None}, "no_request"), ({"authority": "special_state_body", "case_no": None}, ""),
    ({"patient": "p2"}, "scope"), ({"categories": ("documents",)}, "scope"), ({"categories": ("clinical",)}, ""),
    ({"categories": ()}, "scope"), ({"ref": None}, "no_request"), ({"authority": None}, "no_request"),
    ({"patient": None}, "scope"),
])  # fmt: skip
def test_what_a_request_of_an_authority_covers(policy_set: PolicySet, row: Any) -> None:
    """Code 273(4)(3): verified, with its case's number where it belongs to a case, for this patient and class."""
    changes, miss = row
    asked = case(ctx={"legal_request": msgspec.structs.replace(LEGAL, **changes)})
    answer = request_answer(asked, policy_set.hierarchies, policy_set.vocabulary.switches)

    assert (answer.holds, answer.miss) == (not miss, miss and f"statutory.{miss}")


KEPT = StatutoryRequest("r1", "court", ("labs",), 9, verified=True)
LATER = {"defer_notice": "secrecy"}


@pytest.mark.parametrize("row", [
    ({}, {}, ""), ({"verified": False}, {}, "no_request"), ({"id": "r2"}, {}, ""),
    ({"authority": "prosecutor"}, {}, "no_request"), ({"categories": ("vitals",)}, {}, "scope"),
    ({"end": 5}, {}, "no_request"), ({"end": 6}, {}, ""), ({"start": 5}, {}, ""), ({"start": 6}, {}, "no_request"),
    ({"revoked_at": 5}, {}, "no_request"), ({"revoked_at": 6}, {}, ""),
    ({}, LATER, "no_request"), ({"deferred_until": 5}, LATER, "no_request"), ({"deferred_until": 6}, LATER, ""),
    ({"deferred_until": 5}, {}, ""),
])  # fmt: skip
def test_a_request_on_record_must_bear_out_what_is_said_of_it(policy_set: PolicySet, row: Any) -> None:
    """Verified, open, in its term to the microsecond, of that authority and class; told later only on a ground on record; it is named."""
    kept, said, miss = row
    facts = PatientFacts("p1", requests=(msgspec.structs.replace(KEPT, **kept),))
    asked = case(ctx={"legal_request": msgspec.structs.replace(LEGAL, **said)}, facts=facts)
    answer = request_answer(asked, policy_set.hierarchies, policy_set.vocabulary.switches)

    assert (answer.holds, answer.miss) == (not miss, miss and f"statutory.{miss}")
    assert answer.applied == (() if miss else ("r1",))


def test_a_request_that_is_not_on_record_opens_nothing_where_it_must_be(policy_set: PolicySet) -> None:
    """The switch; nor where nobody is on record by that patient's id."""
    switches = msgspec.structs.replace(policy_set.vocabulary.switches, requests_must_be_registered=True)
    facts = PatientFacts("p1", requests=(KEPT,))
    for known, holds in ((facts, True), (PatientFacts("p1"), False), (None, False)):
        asked = case(ctx={"legal_request": LEGAL}, facts=known)
        assert request_answer(asked, policy_set.hierarchies, switches).holds is holds


@pytest.mark.parametrize("row", [
    ("consent", "d1", "s1", True), ("consent", "d1", "s2", False), ("consent", "b1", "s1", False),
    ("session", "b1", "s1", True), ("session", "b1", "s2", False), ("session", "d1", "s1", False),
    ("labs", "b1", "s1", False), ("labs", "d1", "s1", False), ("session", "b2", "s1", False), ("consent", "d2", "s1", False),
])  # fmt: skip
def test_who_a_delegation_lets_in_and_whose_a_session_is(policy_set: PolicySet, row: Any) -> None:
    """The one named, by the id of that very document, and by no other class; without facts nobody."""
    data_class, id_, who, named = row
    is_named_in = build_circumstances(policy_set.vocabulary)["is_named_in"].call
    facts = PatientFacts(
        "p1", delegations=(Delegation("d1", "c1", who, 9, ("labs",), ("FAMRQT",)),),
        grants=(EmergencyGrant("b1", who, 0, 9, "unconscious", 20),),
    )  # fmt: skip
    for known, answer in ((facts, named), (None, False)):
        asked = case(data_class=data_class, id_=id_, facts=known)
        assert is_named_in(asked.sub, asked.res, asked.ctx) is answer


@pytest.mark.parametrize("row", [
    (Inspection("a1", ("p1",), ("labs",)), ""), (None, "no_act"), (Inspection("", ("p1",), ("labs",)), "no_act"),
    (Inspection(" ", ("p1",), ("labs",)), "no_act"), (Inspection(None, ("p1",), ("labs",)), "no_act"),
    (Inspection("a1", ("p2",), ("labs",)), "scope"), (Inspection("a1", ("p1",), ("documents",)), "scope"),
])  # fmt: skip
def test_what_an_act_of_inspection_covers(policy_set: PolicySet, row: Any) -> None:
    """Code 273(4)(7): with its number, for the patients and classes that it names."""
    act, miss = row
    answer = inspection_answer(case(ctx={"inspection": act}), policy_set.hierarchies)

    assert (answer.holds, answer.miss) == (not miss, miss and f"statutory.{miss}")


def test_without_a_request_no_authority_asks(policy_set: PolicySet) -> None:
    """Whichever authorities a rule names."""
    assert not is_requested_by(case().ctx, "court employer")
    assert is_requested_by(case(ctx={"legal_request": LEGAL}).ctx, "inquiry court")
    assert request_answer(case(), policy_set.hierarchies, policy_set.vocabulary.switches).miss == "statutory.no_request"


def test_an_enforcement_point_needs_exactly_what_a_duty_asks_of_it(policy_set: PolicySet, world: World) -> None:
    """The blocking duties of the rule, no more and no less."""
    resource = {"patient": "p-dana", "class": "labs", "labels": []}
    asked = situation(policy_set, world, PolicyCase("", "dr_aida create new TREAT", "", resource=resource))

    assert evaluate(policy_set, *asked, frozenset({"require_eds"})).allowed
    assert evaluate(policy_set, *asked, frozenset()).reason == "deny.obligation.unsupported"


def test_what_concerns_nobody_needs_no_purpose(policy_set: PolicySet) -> None:
    """Public things can be read by whoever is active, and written by nobody."""
    properties = ResourceProperties(data_class="public")
    reading = EvaluationRequest(Subject("user", "s1"), Action("read"), Resource("Record", "o1", properties))
    facts, now = Facts(NURSE, None, Position("test", 0)), Now(5, 5)

    assert evaluate(policy_set, reading, facts, now).reason == "allow.public"
    assert not evaluate(policy_set, msgspec.structs.replace(reading, action=Action("update")), facts, now).allowed


@pytest.mark.parametrize("row", [((Relationship("encounter", "s1"),), "deny.default"), ((), "deny.relationship.none")])
def test_a_consent_to_what_no_rule_serves_opens_nothing(policy_set: PolicySet, row: Any) -> None:
    """Silence denies; whether the patient is cared for decides only which reason is told."""
    ties, reason = row
    who = SubjectFacts("s1", roles=("physician",), org="h1", organisation=Organisation("provider_medical", True))
    named = Provision("permit", (Grantee("h1"),), ("THREAT",), ("read",), ("labs",))
    consents = (Consent("c1", "t1", "active", 0, named),)
    request = EvaluationRequest(
        Subject("user", "s1"), Action("read"), Resource("Record", "o1", ResourceProperties("p1", "labs", ())),
        RequestContext("THREAT"),
    )  # fmt: skip
    whom = PatientFacts("p1", consents=consents, relationships=ties)

    assert evaluate(policy_set, request, Facts(who, whom, Position("test", 0)), Now(5, 5)).reason == reason


def test_nobody_is_let_into_the_record_of_a_patient_whom_nobody_knows(policy_set: PolicySet, world: World) -> None:
    """A delegate, and a representative, are told that no chain and no power is on file."""
    for ask, reason in (
        ("arman read x FAMRQT", "deny.delegation.none"),
        ("saule read x PWATRNY", "deny.rep.none"),
    ):
        resource = {"patient": "p-nobody", "class": "labs", "labels": []}
        request, facts, now = situation(policy_set, world, PolicyCase("", ask, "", resource=resource))

        assert facts.patient is None
        assert evaluate(policy_set, request, facts, now).reason == reason


def test_what_is_told_later_are_notices_and_nothing_else(policy_set: PolicySet) -> None:
    """Other duties of a permit stay due at once."""
    found = [
        decision for request, facts, now in islice(situations(policy_set, 0), 20)
        if (decision := evaluate(policy_set, request, facts, now, frozenset(BLOCKING_DUTIES))).untold
    ]  # fmt: skip

    assert any(decision.duties for decision in found)
    assert all({*decision.untold} <= NOTICES and NOTICES.isdisjoint(decision.duties) for decision in found)
