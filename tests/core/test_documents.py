"""What documents say when the present is uncertain, threads are tied, and switches stand otherwise."""

from datetime import date
from typing import Any

import msgspec
import pytest

from ruqsat.core.case import Case
from ruqsat.core.consent import ConsentAnswer, consent_answer, onward_answer
from ruqsat.core.covers import Cover, Covers
from ruqsat.core.delegation import delegation_answer
from ruqsat.core.emergency import break_glass_answer
from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Facts,
    Grantee,
    PatientFacts,
    Position,
    Provision,
    Representation,
    SubjectFacts,
)
from ruqsat.core.instant import DAY, Now, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.representation import representation_answer
from ruqsat.core.request import Action, EvaluationRequest, RequestContext, Resource, ResourceProperties, Subject
from ruqsat.core.vocabulary import AdolescentShield, BreakGlass, Switches

BEGIN = parse_instant("2026-11-24T00:00:00+05:00")
WHO = SubjectFacts("s1", org="h1")
SURE, UNSURE = Now(BEGIN, BEGIN), Now(BEGIN - 1, BEGIN)
ADULT, CHILD = date(1940, 1, 1), date(2020, 1, 1)
SIXTEEN, EIGHTEEN = date(2010, 11, 24), date(2008, 11, 24)
BIRTHDAY = parse_instant("2024-11-24T00:00:00+05:00")
"""The sixteenth of who is eighteen."""


def permit(**changes: Any) -> Provision:
    """Return a provision that lets h1 read results for treatment."""
    said = {"grantees": (Grantee(org="h1"),), "purposes": ("TREAT", "FAMRQT"), "categories": ("labs",)} | changes
    return Provision("permit", **said)


def document(name: str = "c1", root: Provision | None = None, **changes: Any) -> Consent:
    """Return a document of a thread of its own, signed long ago."""
    return Consent(
        **({"id": name, "thread": name, "status": "active", "granted_at": 0, "root": root or permit()} | changes)
    )


def case(whom: PatientFacts, now: Now = SURE, purpose: str = "TREAT", who: SubjectFacts = WHO, **said: Any) -> Case:
    """Return the case of s1 of h1, reading a result."""
    said = {"patient": "p1", "data_class": "labs", "labels": ()} | said
    request = EvaluationRequest(
        Subject("user", "s1"), Action("read"), Resource("Record", "o1", ResourceProperties(**said)),
        RequestContext(purpose, recipient="h2", btg_session="b1"),
    )  # fmt: skip
    return Case.of(request, Facts(who, whom, Position("test", 0)), now)


def weighed(
    policy_set: PolicySet, *documents: Consent, now: Now = SURE, switches: Switches | None = None, **whom: Any
) -> ConsentAnswer:
    """Return what the documents of a patient say."""
    patient = PatientFacts("p1", **({"birth_date": ADULT, "consents": documents} | whom))
    return consent_answer(case(patient, now), policy_set.covers, switches or policy_set.vocabulary.switches)


def test_an_exception_inside_a_refusal_is_no_consent(policy_set: PolicySet) -> None:
    """It narrows the refusal; whoever it lets through still needs a consent."""
    refusal = document(root=Provision("deny", exceptions=(permit(),)))

    assert weighed(policy_set, refusal) == ConsentAnswer(missed_by=("c1",))
    assert weighed(policy_set, document(root=Provision("deny"))).denials == ("c1",)


@pytest.mark.parametrize("row", [
    ({}, "deny"), ({"purposes": ("TREAT",)}, ""), ({"grantees": (Grantee(org="h1"),)}, ""), ({"grantees": (Grantee(org="h9"),)}, "deny"),
    ({"categories": ("labs",)}, ""), ({"categories": ("documents",)}, "deny"), ({"purposes": ("COC",)}, "deny"),
    ({"categories": ("labs",), "actions": ("create",)}, "deny"), ({"categories": ("labs",), "end": BEGIN}, "deny"),
    ({"categories": ("labs",), "exceptions": (Provision("deny"),)}, "deny"), ({"labels": ("PSY",)}, "deny"),
])  # fmt: skip
def test_an_exception_to_a_refusal_is_about_whatever_it_leaves_out(policy_set: PolicySet, row: Any) -> None:
    """As the refusal is; what it states bounds it, it opens nothing by itself, and one that says nothing is none."""
    stated, effect = row
    refusal = document("c2", root=Provision("deny", exceptions=(Provision("permit", **stated),)))

    assert weighed(policy_set, document(), refusal).denials == (("c2",) if effect else ())
    assert weighed(policy_set, refusal).permits == ()


def test_an_exception_to_an_exception_is_no_wider_than_what_stands_above(policy_set: PolicySet) -> None:
    """A permit in a refusal in a consent: the consent's own terms bound all of it."""
    back = Provision("deny", exceptions=(Provision("permit", categories=("labs",)),))
    for narrower in ({"categories": ("documents",)}, {"purposes": ("COC",)}, {"grantees": (Grantee(org="h9"),)}):
        assert weighed(policy_set, document(root=permit(exceptions=(back,), **narrower))).permits == ()
    assert weighed(policy_set, document(root=permit(exceptions=(back,)))).permits == ("c1",)


def test_when_unsure_a_refusal_has_begun_and_a_permit_has_not(policy_set: PolicySet) -> None:
    """While the clock is unsure, a refusal counts as begun and a permit does not: closed at both ends."""
    late = {"start": BEGIN}
    early, miss = weighed(policy_set, document(root=permit(**late)), now=UNSURE), "consent.not_yet_valid"

    assert (early.permits, early.miss) == ((), miss)
    assert weighed(policy_set, document(root=permit(**late))).permits == ("c1",)
    assert weighed(policy_set, document(root=Provision("deny", start=BEGIN)), now=UNSURE).denials == ("c1",)


def test_when_unsure_a_permit_is_withdrawn_and_a_refusal_is_not(policy_set: PolicySet) -> None:
    """From the instant of the withdrawal on, and not before; a permit from when that is known, for a clock may be ahead."""
    gone, early = {"status": "revoked", "revoked_at": BEGIN}, Now(BEGIN - 1, BEGIN - 1)
    both = (document("c1", **gone), document("c2", Provision("deny"), **gone))

    assert [weighed(policy_set, each, now=UNSURE).miss for each in both] == ["consent.revoked", "consent.none"]
    assert weighed(policy_set, *both, now=UNSURE).denials == ("c2",)
    assert weighed(policy_set, *both, now=SURE).denials == ()
    assert weighed(policy_set, document("c2", Provision("deny"), **gone), now=early).denials == ("c2",)
    assert weighed(policy_set, document("c1", **gone), now=early).miss == "consent.revoked"
    assert weighed(policy_set, document("c1", revoked_at=BEGIN), now=early).permits == ("c1",)
    assert [weighed(policy_set, document("c1", revoked_at=BEGIN), now=now).miss for now in (SURE, UNSURE)] == [
        "consent.revoked",
        "consent.revoked",
    ]


def test_when_unsure_an_older_document_governs_if_it_refuses(policy_set: PolicySet) -> None:
    """A newer permit that may not have begun supersedes nothing; a newer refusal that may have does."""
    old = document("c1", thread="t")
    newer = {"thread": "t", "granted_at": 5}
    refusal = document("c2", Provision("deny", start=BEGIN), **newer)

    assert weighed(policy_set, old, document("c2", permit(start=BEGIN), **newer), now=UNSURE).permits == ("c1",)
    assert weighed(policy_set, old, refusal, now=UNSURE).denials == ("c2",)
    assert weighed(policy_set, old, refusal, now=Now(BEGIN - 1, BEGIN - 1)).permits == ("c1",)


def test_of_one_instant_a_living_refusal_governs_and_a_withdrawn_one_does_not(policy_set: PolicySet) -> None:
    """Then the greater id, so that the order in which they came never matters."""
    refusal, consent = document("c1", Provision("deny"), thread="t"), document("c2", thread="t")
    withdrawn = document("c1", Provision("deny"), thread="t", revoked_at=BEGIN - 1)

    assert weighed(policy_set, refusal, consent).denials == ("c1",)
    assert weighed(policy_set, withdrawn, consent).permits == ("c2",)


def test_what_governs_nothing_is_told_of_nobody(policy_set: PolicySet) -> None:
    """The nearest miss names its document, and none where there is none."""
    assert weighed(policy_set) == ConsentAnswer()
    assert weighed(policy_set, document(root=permit(end=BEGIN))) == ConsentAnswer(
        miss="consent.expired", missed_by=("c1",)
    )


@pytest.mark.parametrize("row", [
    ({"status": "superseded"}, "none"), ({"status": "revoked"}, "revoked"), ({"status": "draft"}, "none"),
    ({"defect": "signature"}, "signature"), ({"kind": "marketing"}, "none"),
])  # fmt: skip
def test_only_an_active_document_permits(policy_set: PolicySet, row: Any) -> None:
    """One without a defect, and about access."""
    changes, miss = row
    answer = weighed(policy_set, document(**changes))

    assert (answer.permits, answer.miss) == ((), f"consent.{miss}")


def test_a_refusal_of_an_unknown_kind_is_unread_unless_it_was_never_in_force(policy_set: PolicySet) -> None:
    """A document of an unknown kind may be a refusal that nobody understood; a draft of one refuses nothing."""
    strange = {"root": Provision("deny"), "kind": "unheard-of"}

    assert weighed(policy_set, document(**strange)).unread == ("c1",)
    assert weighed(policy_set, document(**strange, status="draft")).unread == ()
    assert weighed(policy_set, document(kind="unheard-of")).unread == ()


@pytest.mark.parametrize("row", [
    (date(2010, 11, 24), 0, BEGIN, "consent.minor"), (date(2010, 11, 24), BEGIN, BEGIN, "permits"),
    (date(2010, 11, 24), BEGIN - 1, BEGIN, "consent.minor"), (date(2010, 11, 24), BEGIN, BEGIN - 1, "consent.minor"),
    (date(2008, 11, 24), BEGIN - 1, BEGIN - 1, "permits"), (date(1980, 1, 1), BEGIN, BEGIN, "permits"),
])  # fmt: skip
def test_who_consents_alone_was_sixteen_when_signing_and_is_now(policy_set: PolicySet, row: Any) -> None:
    """Code 78(2), to the microsecond of local midnight."""
    born, granted, now, outcome = row
    answer = weighed(policy_set, document(granted_at=granted), now=Now(now, now), birth_date=born)

    assert answer.permits == (("c1",) if outcome == "permits" else ())
    assert answer.miss == (outcome if outcome != "permits" else "consent.none")


@pytest.mark.parametrize("row", [
    (CHILD, SURE, {}, "labs", "minor"), (CHILD, SURE, {"cosigned": True}, "labs", ""),
    (SIXTEEN, SURE, {}, "labs", ""), (SIXTEEN, SURE, {}, "conditions", "minor_scope"),
    (SIXTEEN, SURE, {"cosigned": True}, "conditions", ""), (EIGHTEEN, SURE, {}, "conditions", ""),
    (EIGHTEEN, UNSURE, {}, "conditions", "minor_scope"), (None, SURE, {}, "conditions", ""),
])  # fmt: skip
def test_what_a_minor_consents_to_alone(policy_set: PolicySet, row: Any) -> None:
    """Code 78(2): preventive and diagnostic care from sixteen on, unless a representative signed too."""
    born, now, changes, data_class, defect = row
    signed = document(
        granted_at=BEGIN - 1 if born == EIGHTEEN else BEGIN, root=permit(categories=("clinical",)), **changes
    )
    patient = PatientFacts("p1", birth_date=born, consents=(signed,))
    asked = case(patient, now, data_class=data_class)
    answer = consent_answer(asked, policy_set.covers, policy_set.vocabulary.switches)

    assert answer.permits == (() if defect else ("c1",))
    assert answer.miss == (f"consent.{defect}" if defect else "consent.none")


@pytest.mark.parametrize("row", [
    (BIRTHDAY - 1, BEGIN - 1, 0, ""), (BIRTHDAY - 1, BEGIN, 0, "rep_majority"), (BIRTHDAY, BEGIN, 0, ""),
    (BIRTHDAY - 1, BEGIN + 20 * DAY - 1, 20, ""), (BIRTHDAY - 1, BEGIN + 20 * DAY, 20, "rep_majority"),
])  # fmt: skip
def test_what_a_child_signed_under_a_representatives_signature_ends_at_majority(
    policy_set: PolicySet, row: Any
) -> None:
    """As the representative's own consent does; what was signed at sixteen or later does not."""
    granted, moment, grace, defect = row
    signed = document(granted_at=granted, cosigned=True)
    patient = PatientFacts("p1", birth_date=EIGHTEEN, consents=(signed,))
    switches = msgspec.structs.replace(policy_set.vocabulary.switches, rep_consent_grace_days=grace)
    answer = consent_answer(case(patient, Now(moment, moment)), policy_set.covers, switches)

    assert answer.permits == (() if defect else ("c1",))
    assert answer.miss == (f"consent.{defect}" if defect else "consent.none")


def test_who_is_incapacitated_consents_with_a_representative_and_not_alone(policy_set: PolicySet) -> None:
    """A consent of somebody incapacitated counts if a representative signed too, and else does not (order §3, §11)."""
    signed = {"incapacitated": True, "birth_date": ADULT}

    assert weighed(policy_set, document(granted_at=BEGIN - 1), **signed).miss == "consent.incapacity"
    assert weighed(policy_set, document(granted_at=BEGIN - 1, cosigned=True), **signed).permits == ("c1",)


def test_an_attorneys_consent_does_not_end_at_majority(policy_set: PolicySet) -> None:
    """A parent's consent ends at majority, and that of an attorney does not."""
    given = {"given_by": "legal_rep", "giver": "s9"}

    assert weighed(policy_set, document(**given, giver_kind="poa")).permits == ("c1",)
    assert weighed(policy_set, document(**given, giver_kind="parent")).miss == "consent.rep_majority"


@pytest.mark.parametrize("row", [
    ("guardian", ADULT, ""), ("guardian", None, ""), ("parent", ADULT, "rep_majority"), ("adoptive", ADULT, "rep_majority"),
    ("parent", CHILD, ""), (None, ADULT, "rep_majority"), ("poa", ADULT, "rep_ended"), ("poa", None, "rep_ended"),
])  # fmt: skip
def test_whose_consent_stands_for_who_is_incapacitated(policy_set: PolicySet, row: Any) -> None:
    """A guardian's; a parent's ends at majority all the same, an attorney's with the giver's capacity (Civil Code 170)."""
    kind, born, defect = row
    given = document(given_by="legal_rep", giver="s9", giver_kind=kind)
    answer = weighed(policy_set, given, birth_date=born, incapacitated=True)

    assert (answer.permits, answer.miss) == (((), f"consent.{defect}") if defect else (("c1",), "consent.none"))


@pytest.mark.parametrize("row", [
    ({"end": BEGIN}, "rep_ended"), ({"end": BEGIN + 1}, ""), ({"revoked_at": BEGIN}, "rep_ended"),
    ({"revoked_at": BEGIN + 1}, ""), ({"subject": "s8", "end": BEGIN}, ""), ({}, ""),
])  # fmt: skip
def test_a_parents_consent_ends_with_the_parents_power(policy_set: PolicySet, row: Any) -> None:
    """Order §11; where no power of the giver is on file, none has ended."""
    changes, defect = row
    powers = (Representation(**({"id": "r1", "subject": "s9", "kind": "parent"} | changes)),)
    given = document(given_by="legal_rep", giver="s9", giver_kind="parent")
    answer = weighed(policy_set, given, birth_date=CHILD, representations=powers)

    assert answer.permits == (() if defect else ("c1",))
    assert answer.miss == (f"consent.{defect}" if defect else "consent.none")


def test_nobody_receives_what_names_nobody(policy_set: PolicySet) -> None:
    """A disclosure without a recipient is covered by no document."""
    patient = PatientFacts("p1", birth_date=ADULT, consents=(document(root=permit(grantees=(Grantee(org="h2"),))),))
    asked = case(patient)
    assert onward_answer(asked, policy_set.covers, policy_set.vocabulary.switches).holds

    nobody = Case.of(
        EvaluationRequest(Subject("user", "s1"), Action("read"), Resource("Record", "o1", ResourceProperties("p1", "labs", ())),
                          RequestContext("TREAT")), asked.facts, SURE,
    )  # fmt: skip
    assert not onward_answer(nobody, policy_set.covers, policy_set.vocabulary.switches).holds


def test_a_document_that_does_not_permit_releases_nothing_abroad(policy_set: PolicySet) -> None:
    """Only a permit that names the country does."""
    permits = document("c1", cross_border=("DE",))
    other = document("c2", permit(grantees=(Grantee(org="h9"),)), cross_border=("DE",))
    asked = case(PatientFacts("p1", birth_date=ADULT, consents=(permits, other)))
    asked.ctx.destination_country = "DE"

    assert consent_answer(asked, policy_set.covers, policy_set.vocabulary.switches).abroad == ("c1",)


OTHERS = Grantee(org="h9")


def test_many_documents_are_weighed_like_few(policy_set: PolicySet) -> None:
    """However many name others: no refusal, no permit and no nearest miss is lost, in whatever order they come."""
    far = [document(f"f{number}", permit(grantees=(OTHERS,))) for number in range(9)]
    near = [document("n2"), document("n1", permit(grantees=(OTHERS, Grantee(subject="s1"))))]
    refusals = [
        document("d2", Provision("deny")),
        document("d1", permit(grantees=(OTHERS,), exceptions=(Provision("deny"),))),
    ]
    over = document("o1", permit(end=BEGIN))

    for others in ([], far):
        every = weighed(policy_set, *others, *refusals, *near)
        assert (every.permits, every.denials) == (("n1", "n2"), ("d1", "d2"))
        assert weighed(policy_set, *others, near[0]).permits == ("n2",)
        assert weighed(policy_set, *others, near[1]).permits == ("n1",)
    assert weighed(policy_set, *far, over) == ConsentAnswer(miss="consent.recipient", missed_by=("f8",))


def test_a_model_that_asks_for_no_names_is_taken_at_its_word(policy_set: PolicySet) -> None:
    """A document that names others is set aside only where the model's criterion would miss it."""
    anybody = Covers({"2": Cover(lambda *_: 0, ("",), 0)})
    asked = case(
        PatientFacts("p1", birth_date=ADULT, consents=(document(root=permit(grantees=(OTHERS,))), document("c2")))
    )

    assert consent_answer(asked, anybody, Switches()).permits == ("c1", "c2")
    assert consent_answer(asked, policy_set.covers, Switches()).permits == ("c2",)
    assert policy_set.covers.of("2").asks_names and not policy_set.covers.of("3").asks_names


@pytest.mark.parametrize("row", [
    ({"purposes": ("HRESCH",)}, "consent.purpose"), ({"end": BEGIN}, "consent.expired"),
    ({"start": BEGIN + 1}, "consent.not_yet_valid"),
])  # fmt: skip
def test_term_and_purpose_bind_what_hangs_beneath(policy_set: PolicySet, row: Any) -> None:
    """An exception reaches no further than the document; where it does reach, it refuses."""
    changes, miss = row
    closed = document(root=permit(**changes, exceptions=(Provision("deny"),)))

    assert weighed(policy_set, closed) == ConsentAnswer(miss=miss, missed_by=("c1",))
    assert weighed(policy_set, document(root=permit(exceptions=(Provision("deny"),)))).denials == ("c1",)


@pytest.mark.parametrize("row", [
    ({"birth_date": date(2008, 11, 24)}, SURE, 0, "rep_majority"),
    ({"birth_date": date(2008, 11, 24)}, Now(BEGIN - 1, BEGIN - 1), 0, ""),
    ({"birth_date": date(2008, 11, 24)}, SURE, 20, ""), ({"birth_date": date(2008, 11, 4)}, SURE, 20, "rep_majority"),
    ({"birth_date": ADULT, "incapacitated": True}, SURE, 0, ""), ({"birth_date": None}, SURE, 0, "rep_age_unknown"),
    ({"birth_date": None, "incapacitated": True}, SURE, 0, ""),
])  # fmt: skip
def test_a_parents_consent_ends_at_majority(policy_set: PolicySet, row: Any) -> None:
    """Or when counsel's grace is over; that for who is incapacitated does not."""
    whom, now, grace, defect = row
    given = document(given_by="legal_rep", giver="s9", giver_kind="guardian")
    answer = weighed(policy_set, given, now=now, switches=Switches(rep_consent_grace_days=grace), **whom)

    assert answer.permits == (() if defect else ("c1",))
    assert answer.miss == (f"consent.{defect}" if defect else "consent.none")


# ---- delegations ---------------------------------------------------------------------------------------------

FAMILY = {"categories": ("labs",), "purposes": ("FAMRQT",), "end": BEGIN + 9}
DEEP = Switches(delegation_max_depth=3)


def link(name: str, **changes: Any) -> Delegation:
    """Return a link to s1 under the consent c1."""
    return Delegation(**({"id": name, "consent": "c1", "delegate": "s1"} | FAMILY | changes))


def delegated(
    policy_set: PolicySet,
    *links: Delegation,
    now: Now = SURE,
    switches: Switches = DEEP,
    consents: Any = (),
    **whom: Any,
) -> str:
    """Return what is wrong with s1's chain; nothing if it holds."""
    consents = consents or (document(delegations=("d0",)),)
    patient = PatientFacts("p1", **({"birth_date": ADULT, "consents": consents, "delegations": links} | whom))
    answer = delegation_answer(case(patient, now, "FAMRQT"), policy_set.covers, switches)
    assert answer.holds is (not answer.miss)
    return answer.miss.removeprefix("delegation.")


def delegation_documents(policy_set: PolicySet, *links: Delegation, consents: Any) -> tuple[str, ...]:
    """Return the documents by which s1's chain holds."""
    patient = PatientFacts("p1", birth_date=ADULT, consents=consents, delegations=links)
    return delegation_answer(case(patient, SURE, "FAMRQT"), policy_set.covers, DEEP).applied


ABOVE = link("d0", delegate="s2", may_redelegate=True)
BELOW = {"parent": "d0", "delegator": "s2"}


@pytest.mark.parametrize("row", [
    ((ABOVE, link("d1", **BELOW)), ""), ((ABOVE, link("d1", parent="d0")), ""),
    ((ABOVE, link("d1", **BELOW | {"delegator": "s7"})), "broken_chain"),
    ((ABOVE, link("d1", **BELOW | {"parent": "d9"})), "broken_chain"),
    ((ABOVE, link("d1", **BELOW, consent="c2")), "broken_chain"),
    ((link("d0", delegate="s2"), link("d1", **BELOW)), "redelegation"),
    ((link("d0", delegate="s2", may_redelegate=True, parent="d1"), link("d1", **BELOW)), "cycle"),
    ((link("d0", by="other"),), "delegator"), ((link("d0", by="legal_rep"),), "delegator"), ((), "none"),
])  # fmt: skip
def test_a_chain_holds_link_by_link(policy_set: PolicySet, row: Any) -> None:
    """Each link was given by whom the one above names, who was allowed to, under one consent."""
    links, miss = row

    assert delegated(policy_set, *links) == miss


def test_how_deep_a_chain_is_and_who_may_begin_it_is_the_operators_to_say(policy_set: PolicySet) -> None:
    """The depth of a chain and whether a representative may begin one are switches, tried in both positions."""
    chain = (ABOVE, link("d1", **BELOW))

    assert delegated(policy_set, *chain, switches=Switches(delegation_max_depth=2)) == ""
    assert delegated(policy_set, *chain, switches=Switches(delegation_max_depth=1)) == "depth"
    assert delegated(policy_set, link("d0", by="legal_rep"), switches=Switches(rep_may_delegate=True)) == ""


@pytest.mark.parametrize("row", [
    ({"grantees": (Grantee(subject="s2"),)}, "redelegation"), ({"grantees": (Grantee(role="delegate"),)}, "redelegation"),
    ({"grantees": (Grantee(subject="s2"),), "categories": ("labs",)}, "redelegation"),
    ({"grantees": (Grantee(subject="s2"),), "categories": ("documents",)}, ""),
    ({"grantees": (Grantee(subject="s2"),), "purposes": ("TREAT",)}, ""),
    ({"grantees": (Grantee(subject="s2"),), "end": BEGIN}, ""), ({"grantees": (Grantee(subject="s4"),)}, ""),
])  # fmt: skip
def test_whom_the_patient_refuses_has_nothing_to_hand_on(policy_set: PolicySet, row: Any) -> None:
    """As far as the refusal goes, and as long as it holds; however many links lie between; what a link misses is told first."""
    refused, miss = row
    named, refusal = document(delegations=("d0",)), document("c9", Provision("deny", **refused), kind="dissent")
    last, third = link("d1", **BELOW), link("d1", delegate="s3", may_redelegate=True, **BELOW)
    longer = (ABOVE, third, link("d2", parent="d1", delegator="s3"))
    withdrawn = msgspec.structs.replace(refusal, revoked_at=BEGIN, status="revoked")

    assert delegated(policy_set, ABOVE, last, consents=(named, refusal)) == miss
    assert delegated(policy_set, *longer, consents=(named, refusal)) == miss
    assert delegated(policy_set, ABOVE, last, consents=(named, withdrawn)) == ""
    assert delegated(policy_set, ABOVE, link("d1", **BELOW, revoked_at=BEGIN), consents=(named, refusal)) == "revoked"


@pytest.mark.parametrize("row", [
    ({"start": BEGIN}, SURE, ""), ({"start": BEGIN}, UNSURE, "not_yet_valid"), ({"end": BEGIN}, SURE, "expired"),
    ({"start": 0, "end": BEGIN}, SURE, "expired"), ({"start": BEGIN, "end": BEGIN}, SURE, "expired"), ({"end": BEGIN + 1}, SURE, ""),
    ({"purposes": ("SUPNWK",), "start": BEGIN + 1}, SURE, "not_yet_valid"),
    ({"purposes": ("SUPNWK",)}, SURE, "purpose"), ({"revoked_at": BEGIN}, UNSURE, "revoked"),
    ({"revoked_at": BEGIN + 1}, SURE, ""), ({"end": BEGIN + 5, "start": BEGIN + 2}, SURE, "not_yet_valid"),
])  # fmt: skip
def test_a_link_lives_within_its_term(policy_set: PolicySet, row: Any) -> None:
    """And tells whether it is over or has not begun."""
    changes, now, miss = row

    assert delegated(policy_set, link("d0", **changes), now=now) == miss


def test_a_delegation_ends_with_the_patient_and_needs_one_who_could_give_it(policy_set: PolicySet) -> None:
    """To the microsecond; a child's own consent carries none."""
    assert delegated(policy_set, link("d0"), deceased_at=BEGIN) == "subject_deceased"
    assert delegated(policy_set, link("d0"), deceased_at=BEGIN + 1) == ""
    assert delegated(policy_set, link("d0"), birth_date=CHILD) == "consent_invalid"


def test_of_several_chains_the_one_that_came_furthest_is_told(policy_set: PolicySet) -> None:
    """Of two that came equally far, the first; and one that holds is enough."""
    early, late, later = link("d1", by="other"), link("d0", purposes=("SUPNWK",)), link("d0", categories=("documents",))

    assert delegated(policy_set, early, late) == delegated(policy_set, late, early) == "purpose"
    assert (delegated(policy_set, late, later), delegated(policy_set, later, late)) == ("purpose", "category")
    assert delegated(policy_set, early, link("d0")) == ""


NAMING = {"delegations": ("d0",)}
LATER = {"thread": "c1", "granted_at": 5, **NAMING}


@pytest.mark.parametrize("row", [
    ((document(**NAMING),), ""), ((document(),), "not_in_consent"), ((document("c9", **NAMING),), "not_in_consent"),
    ((document(**NAMING, root=Provision("deny")),), "not_in_consent"),
    ((document(**NAMING, status="revoked"),), "consent_revoked"),
    ((document(**NAMING, revoked_at=BEGIN),), "consent_revoked"), ((document(**NAMING, revoked_at=BEGIN + 1),), ""),
    ((document(**NAMING, status="superseded"),), "consent_revoked"),
    ((document(**NAMING, defect="signature"),), "consent_invalid"),
    ((document(**NAMING, root=permit(end=BEGIN)),), "consent_expired"),
    ((document(**NAMING, root=permit(end=BEGIN + 1)),), ""),
    ((document(**NAMING, root=permit(start=BEGIN)),), ""),
    ((document(**NAMING, root=permit(start=BEGIN + 1)),), "not_yet_valid"),
    ((document(**NAMING, kind="marketing"),), "consent_superseded"),
    ((document(**NAMING), document("c2", **LATER)), ""),
    ((document(**NAMING), document("c2", **LATER, revoked_at=BEGIN)), "consent_revoked"),
    ((document(**NAMING), document("c2", **LATER, revoked_at=BEGIN + 1)), ""),
    ((document(**NAMING), document("c2", **LATER | {"delegations": ()})), "consent_superseded"),
    ((document(**NAMING), document("c2", Provision("deny"), **LATER)), "consent_superseded"),
    ((document(**NAMING, revoked_at=BEGIN), document("c2", **LATER)), "consent_revoked"),
])  # fmt: skip
def test_a_delegation_lives_with_the_consent_that_names_it(policy_set: PolicySet, row: Any) -> None:
    """Withdrawn, expired, defective, superseded without renewal: the delegation is over; renewed, it lives on."""
    consents, miss = row

    assert delegated(policy_set, link("d0"), consents=consents) == miss


def test_a_renewed_delegation_is_told_with_the_consent_that_renewed_it(policy_set: PolicySet) -> None:
    """The patient's view must name the document that let the delegate in, not the one that it replaced."""
    both = (document(**NAMING), document("c2", **LATER))

    assert delegation_documents(policy_set, link("d0"), consents=both[:1]) == ("c1", "d0")
    assert delegation_documents(policy_set, link("d0"), consents=both) == ("c2", "d0")


# ---- representatives and sessions ----------------------------------------------------------------------------

SHIELD = Switches(adolescent_shield=AdolescentShield(True))


@pytest.mark.parametrize("row", [
    ("parent", {"birth_date": CHILD}, ""), ("parent", {"birth_date": ADULT}, "majority"), ("parent", {}, "age_unknown"),
    ("guardian", {"birth_date": ADULT}, "majority"), ("guardian", {"birth_date": ADULT, "incapacitated": True}, ""),
    ("parent", {"birth_date": ADULT, "incapacitated": True}, "majority"), ("poa", {"birth_date": ADULT}, ""),
    ("poa", {}, ""), ("poa", {"birth_date": ADULT, "incapacitated": True}, "expired"),
    ("poa", {"incapacitated": True}, "expired"), ("guardian", {"incapacitated": True}, ""), ("guardian", {}, "age_unknown"),
    ("parent", {"birth_date": CHILD, "deceased_at": BEGIN}, "subject_deceased"),
    ("parent", {"birth_date": CHILD, "deceased_at": BEGIN + 1}, ""),
])  # fmt: skip
def test_whom_a_power_is_for(policy_set: PolicySet, row: Any) -> None:
    """A parent for a minor, a guardian also for who is incapacitated, an attorney for whoever gave the power."""
    kind, whom, miss = row
    power = Representation("r1", "s1", kind, True, start=0)
    answer = representation_answer(case(PatientFacts("p1", representations=(power,), **whom)), policy_set.vocabulary)

    assert (answer.holds, answer.miss) == (not miss, miss and f"rep.{miss}")


@pytest.mark.parametrize("row", [
    ({"start": BEGIN}, ""), ({"start": BEGIN + 1}, "not_yet_valid"), ({"end": BEGIN}, "expired"), ({"end": BEGIN + 1}, ""),
    ({"revoked_at": BEGIN}, "revoked"), ({"revoked_at": BEGIN + 1}, ""), ({"verified": False}, "unverified"),
    ({"subject": "s2"}, "none"), ({"kind": "poa"}, "undated"),
])  # fmt: skip
def test_a_power_lives_within_its_term(policy_set: PolicySet, row: Any) -> None:
    """Verified, begun, not ended; an attorney's needs its date."""
    changes, miss = row
    power = Representation(**({"id": "r1", "subject": "s1", "kind": "parent", "verified": True} | changes))
    whom = PatientFacts("p1", birth_date=CHILD, representations=(power,))
    answer = representation_answer(case(whom), policy_set.vocabulary)

    assert (answer.holds, answer.miss) == (not miss, miss and f"rep.{miss}")


@pytest.mark.parametrize("row", [
    (SIXTEEN, SURE, Switches(), {"self_consented": True}, False), (SIXTEEN, SURE, Switches(), {}, True),
    (SIXTEEN, Now(BEGIN - 1, BEGIN - 1), Switches(), {"self_consented": True}, True),
    (SIXTEEN, SURE, SHIELD, {"labels": ("SEX",)}, False), (SIXTEEN, SURE, SHIELD, {"labels": None}, False),
    (SIXTEEN, SURE, SHIELD, {"labels": ("XYZ",)}, False), (SIXTEEN, SURE, SHIELD, {"labels": ("INFDIS", "XYZ")}, False),
    (SIXTEEN, SURE, Switches(), {"labels": ("XYZ",)}, True), (SIXTEEN, SURE, SHIELD, {"labels": ("INFDIS",)}, True), (SIXTEEN, SURE, Switches(), {"labels": ("SEX",)}, True),
    (SIXTEEN, Now(BEGIN - 1, BEGIN - 1), SHIELD, {"labels": ("SEX",)}, True),
])  # fmt: skip
def test_what_is_kept_from_an_adolescents_parents(policy_set: PolicySet, row: Any) -> None:
    """From sixteen on a visit consented to alone, and labels where counsel decided so."""
    born, now, switches, said, holds = row
    power = Representation("r1", "s1", "parent", True)
    whom = PatientFacts("p1", birth_date=born, representations=(power,))
    words = msgspec.structs.replace(policy_set.vocabulary, switches=switches)

    assert representation_answer(case(whom, now, **said), words).holds is holds


@pytest.mark.parametrize("row", [(SIXTEEN, SURE, "adolescent_shield"), (ADULT, SURE, ""), (None, SURE, "")])
def test_an_attorney_is_kept_from_an_adolescents_record_alone(policy_set: PolicySet, row: Any) -> None:
    """A grown patient gave the power in person."""
    born, now, miss = row
    power = Representation("r1", "s1", "poa", True, start=0)
    whom = PatientFacts("p1", birth_date=born, representations=(power,))
    words = msgspec.structs.replace(policy_set.vocabulary, switches=SHIELD)

    assert representation_answer(case(whom, now, labels=("SEX",)), words).miss == (miss and f"rep.{miss}")


@pytest.mark.parametrize("row", [
    ({}, {}, ""), ({"mfa": False}, {}, "mfa"), ({"mfa": False}, {"mfa": False}, ""), ({"revoked_at": BEGIN}, {}, "revoked"),
    ({"revoked_at": BEGIN + 1}, {}, ""), ({"reason_code": "curiosity"}, {}, "reason"), ({"reason_length": 9}, {}, "reason"),
    ({"reason_length": 10}, {}, ""), ({}, {"require_episode": True}, "no_episode"),
    ({"end": BEGIN}, {}, "expired"), ({"end": BEGIN + 1}, {}, ""), ({"subject": "s2"}, {}, "subject_mismatch"),
    ({"start": BEGIN + 1}, {}, "expired"), ({"categories": ("imaging",)}, {}, "category"),
])  # fmt: skip
def test_what_a_session_must_be(policy_set: PolicySet, row: Any) -> None:
    """Open, with a reason, a second factor and an episode, where the operator asks for them."""
    changes, limits, miss = row
    said = {"id": "b1", "subject": "s1", "start": BEGIN - 9, "end": BEGIN + 9, "reason_code": "unconscious",
            "reason_length": 40, "mfa": True, "categories": ("labs",)} | changes  # fmt: skip
    switches = Switches(btg=BreakGlass(**({"reasons": ("unconscious",), "require_episode": False} | limits)))
    whom = PatientFacts("p1", grants=(EmergencyGrant("b0", "s1", 0, BEGIN + 9, "x", 0), EmergencyGrant(**said)))
    answer = break_glass_answer(case(whom, SURE, "BTG"), policy_set.covers, switches)

    assert (answer.holds, answer.miss, answer.applied) == (not miss, miss and f"btg.{miss}", ("b1",))


@pytest.mark.parametrize("row", [
    ({}, ""), ({"btg_suspended": True}, "suspended"), ({"btg_today": 10}, ""), ({"btg_today": 11}, "rate_limited"),
])  # fmt: skip
def test_who_may_break_the_glass(policy_set: PolicySet, row: Any) -> None:
    """Whose right is not suspended, and not more often a day than the operator lets."""
    changes, miss = row
    session = EmergencyGrant("b1", "s1", BEGIN - 9, BEGIN + 9, "unconscious", 40, True, None, ("labs",))
    switches = Switches(btg=BreakGlass(reasons=("unconscious",), require_episode=False, daily_limit=10))
    asked = case(PatientFacts("p1", grants=(session,)), SURE, "BTG", msgspec.structs.replace(WHO, **changes))

    assert break_glass_answer(asked, policy_set.covers, switches).miss == (miss and f"btg.{miss}")
