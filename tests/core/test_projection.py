"""What people write down becomes what a decision reads: forms, signatures, terms, powers, silence."""

from datetime import date
from typing import Any

import pytest

from ruqsat.core.facts import Consent, Grantee, PatientFacts, Representation
from ruqsat.core.instant import parse_instant
from ruqsat.core.projection import project_consent, project_world
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import parse_world

BEGIN, END = "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"
CONSENT: dict[str, Any] = {
    "effect": "permit", "patient": "p1", "status": "active", "granted_at": BEGIN, "start": BEGIN, "end": END,
    "form": "e_document", "signature": {"kind": "patient_eds", "verified": True},
    "given_by": {"type": "patient", "id": "p1"}, "grantees": [{"org": "h1"}, {"org": "h2"}],
    "purposes": ["TREAT"], "categories": ["labs"],
}  # fmt: skip
PAPER = {"form": "written", "signature": {"kind": "org_eds", "verified": True}, "entered_in_mis_at": BEGIN}
STATE = {"controller_is_state": True, "form": "egov_cabinet", "state_service_ref": "s-1"}
REPRESENTED = {"type": "legal_rep", "id": "s1", "kind": "parent"}


def consent(switches: Switches | None = None, **changes: Any) -> Consent:
    """Return the projection of a document that is in order but for the changes."""
    record = parse_world({"consents": {"c1": CONSENT | changes}}).consents["c1"]
    return project_consent("c1", record, switches or Switches())


def patient(**documents: Any) -> PatientFacts:
    """Return the patient of a world that holds these documents."""
    others = {"p1": {"birth_date": date(1980, 1, 1)}, "p2": {}}
    _, (known, _) = project_world(parse_world({"patients": others, **documents}), Switches())
    return known


@pytest.mark.parametrize("changes", [
    {}, PAPER, PAPER | {"signature": {"kind": "paper_scanned_org_eds", "verified": True}}, STATE,
    {"given_by": REPRESENTED | {"verified": True}}, {"form": "egov_cabinet"}, {"state_service_ref": "s-1"},
])  # fmt: skip
def test_a_consent_in_order_has_no_defect(changes: dict[str, Any]) -> None:
    """Each form of order §8, signed as §9 and §10 say."""
    assert consent(**changes).defect is None


@pytest.mark.parametrize("case", [
    ({"missing": ["p9.purpose"]}, "incomplete"), ({"start": None}, "incomplete"), ({"end": None}, "incomplete"),
    (PAPER | {"start": None}, "incomplete"), ({"id_document_image": True}, "id_document_image"), ({"form": "sms"}, "channel"),
    (PAPER | {"entered_in_mis_at": None}, "not_entered"),
    (PAPER | {"signature": {"kind": "patient_eds", "verified": True}}, "not_entered"),
    (PAPER | {"signature": {"kind": "org_eds", "verified": False}}, "signature"),
    ({"signature": {"kind": "patient_eds", "verified": False}}, "signature"),
    ({"signature": {"kind": "org_eds", "verified": True}}, "signature"),
    ({"given_by": REPRESENTED}, "rep_unverified"), ({"database_country": "DE"}, "database_location"),
    (STATE | {"state_service_ref": None}, "channel"), (STATE | {"form": "e_document"}, "channel"),
    (STATE | {"form": "e_document", "state_service_ref": None}, "channel"),
])  # fmt: skip
def test_each_defect_of_form_is_told(case: tuple[dict[str, Any], str]) -> None:
    """One thing wrong, one word for it."""
    changes, defect = case

    assert consent(**changes).defect == defect


def test_a_permit_on_paper_begins_no_sooner_than_it_was_entered() -> None:
    """Order §10; what is no paper, and a refusal, begin as they say."""
    entered, later = "2026-03-01T00:00:00Z", {"entered_in_mis_at": "2026-03-01T00:00:00Z"}

    assert consent(**PAPER | later).root.start == parse_instant(entered)
    assert consent(**PAPER | later | {"start": END}).root.start == parse_instant(END)
    for changes in (later, PAPER | later | {"effect": "deny"}):
        assert consent(**changes).root.start == parse_instant(BEGIN)


def test_a_state_operator_needs_the_state_service_where_counsel_says_so() -> None:
    """Whether a state operator's consent must come through the state service is a switch, tried in both positions."""
    switches = Switches(state_controller_needs_state_service=False)

    assert consent(switches, controller_is_state=True).defect is None
    assert consent(controller_is_state=True).defect == "channel"


def test_a_permit_that_excludes_third_persons_reaches_its_operator_alone() -> None:
    """Law 94-V art. 8(4); a refusal keeps whomever it names, and silence excludes nobody."""
    closed = {"operator": "h1", "third_party_transfer": False}
    own, both = (Grantee(org="h1"),), (Grantee(org="h1"), Grantee(org="h2"))

    assert consent(**closed).root.grantees == own
    assert consent(**closed, effect="deny").root.grantees == both
    assert consent(third_party_transfer=False).root.grantees == both
    assert consent(operator="h1").root.grantees == both
    assert consent(operator="h1", third_party_transfer=True).root.grantees == both


def test_what_an_exception_leaves_out_is_handed_down_to_permits_alone() -> None:
    """A refusal's silence means all; a permit beneath it is bounded by what stands above."""
    permit: dict[str, Any] = {"effect": "permit", "purposes": ["COC"]}
    deny: dict[str, Any] = {"effect": "deny", "categories": ["vitals"]}
    root = consent(exceptions=[permit, deny | {"exceptions": [permit, {"effect": "deny"}]}]).root
    inner, refusal = root.exceptions
    narrowed, silent = refusal.exceptions

    assert (inner.grantees, inner.purposes, inner.categories) == (root.grantees, ("COC",), ("labs",))
    assert (refusal.grantees, refusal.purposes, refusal.categories) == ((), (), ("vitals",))
    assert (narrowed.grantees, narrowed.purposes, narrowed.categories) == (root.grantees, ("COC",), ("vitals",))
    assert (silent.grantees, silent.purposes, silent.categories) == ((), (), ())


def test_a_document_without_a_thread_stands_alone_and_a_strange_status_is_unread() -> None:
    """So it supersedes nothing, and nothing that nobody understands counts as read."""
    assert consent().thread == "p1||c1"
    assert consent(thread="t1").thread == "t1"
    assert [consent(status=word).status for word in ("draft", "lost")] == ["draft", "quarantined"]


def power(**changes: Any) -> Representation:
    """Return the projection of a representative's power."""
    record = {"subject": "s1", "patient": "p1", "kind": "poa", "verified": True, "valid_from": BEGIN} | changes
    (known,) = patient(reps={"r1": record}).representations
    return known


def test_a_power_of_attorney_lasts_a_year_unsaid_and_three_at_most() -> None:
    """Civil Code 168; other powers end when they say, and one without a date cannot be counted."""
    long = {"valid_to": "2036-01-01T00:00:00Z"}
    ends = [power(), power(valid_to=END.replace("01-01", "02-01")), power(**long), power(**long, kind="guardian"),
            power(**long, valid_from=None), power(kind="guardian")]  # fmt: skip

    assert [each.end and (each.end - parse_instant(BEGIN)) // 86_400_000_000 for each in ends] == [
        365, 396, 1096, 3652, 3652, None,
    ]  # fmt: skip


def test_who_delegates_is_told_apart() -> None:
    """The patient, also by the own account; a representative; anybody else."""
    link = {"patient": "p1", "consent": "c1", "delegate": "s9", "end": END, "categories": [], "purposes": []}
    known = patient(
        subjects={"ann": {"roles": [], "patient_id": "p1"}, "bob": {"roles": [], "patient_id": "p2"}},
        reps={"r1": {"subject": "eve", "patient": "p1", "kind": "parent", "verified": True}},
        delegations={who: link | {"delegator": who} for who in ("p1", "ann", "eve", "bob")},
    )

    assert {each.id: each.by for each in known.delegations} == {
        "p1": "patient", "ann": "patient", "eve": "legal_rep", "bob": "other",
    }  # fmt: skip


def test_nobody_gets_what_is_somebody_elses() -> None:
    """Sessions, employers and documents go to whom they name."""
    session = {"patient": "p1", "reason_code": "unconscious", "reason_text": " word ", "mfa": True,
               "started_at": BEGIN, "expires_at": END}  # fmt: skip
    world = parse_world({
        "organisations": {"h1": {"category": "provider_medical"}},
        "subjects": {"ann": {"roles": [], "org": "h1"}, "bob": {"roles": []}, "eve": {"roles": [], "org": "h7"}},
        "patients": {"p1": {}, "p2": {}}, "consents": {"c1": CONSENT},
        "btg": {"b1": session | {"subject": "ann"}, "b2": session | {"subject": "bob"}},
    })  # fmt: skip
    (ann, bob, eve, _), (one, other) = project_world(world, Switches())

    assert (ann.sessions, bob.sessions) == (("b1",), ("b2",))
    assert [each.organisation and each.organisation.category for each in (ann, bob, eve)] == [
        "provider_medical", None, None,
    ]  # fmt: skip
    assert [len(each.consents) for each in (one, other)] == [1, 0]
    assert one.grants[0].reason_length == 4
