"""What holds of every decision, whatever the people, documents and requests (design properties P1–P12)."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Consent, Facts, Provision
from ruqsat.core.instant import HOUR, Now
from ruqsat.core.policy_set import PolicySet
from tests.core.strategies import LABELS, NOW, PURPOSES, Maker, consents, refusals, worlds

ALL = frozenset({"redact", "deidentify", "pseudonymize", "require_eds", "suppress_total"})
many = settings(max_examples=300, deadline=None)


def decide(policy_set: PolicySet, situation: tuple[Any, Facts, Now]) -> Decision:
    """Decide for an enforcement point that can carry out everything."""
    return evaluate(policy_set, *situation, ALL)


def changed(situation: tuple[Any, Facts, Now], **patient: Any) -> tuple[Any, Facts, Now]:
    """The same situation with other facts of the patient."""
    request, facts, now = situation
    return request, msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient, **patient)), now


def test_the_situations_are_worth_asking(policy_set: PolicySet) -> None:
    """The random situations reach every ground and most reasons: a property that is never tested proves nothing."""
    decisions = [decide(policy_set, Maker(seed).situation()) for seed in range(4000)]
    bases = {decision.basis for decision in decisions}

    assert bases >= {"consent", "delegation", "self", "legal_rep", "emergency_default", "emergency_override"}
    assert len({decision.reason for decision in decisions}) > 40
    assert sum(decision.allowed for decision in decisions) > 200
    assert sum(decision.basis == "consent" for decision in decisions) > 30


@many
@given(worlds, refusals)
def test_a_new_refusal_never_turns_a_denial_into_a_permit(
    policy_set: PolicySet, situation: Any, refusal: Provision
) -> None:
    """Adding a living refusal to a patient's documents opens nothing."""
    refusal = msgspec.structs.replace(refusal, start=None)
    document = Consent("new", "own-new", "active", NOW - HOUR, refusal, "dissent")

    before = decide(policy_set, situation)
    after = decide(policy_set, changed(situation, consents=(*situation[1].patient.consents, document)))

    assert before.allowed or not after.allowed


@many
@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_documents_is_irrelevant(policy_set: PolicySet, situation: Any, random: Any) -> None:
    """Documents, links and grants may be stored in any order."""
    shuffled = list(situation[1].patient.consents)
    random.shuffle(shuffled)

    assert decide(policy_set, changed(situation, consents=tuple(shuffled))) == decide(policy_set, situation)


@many
@given(worlds)
def test_without_documents_there_is_no_access_by_consent(policy_set: PolicySet, situation: Any) -> None:
    """No document, no permit that rests on one."""
    decision = decide(policy_set, changed(situation, consents=()))

    assert decision.basis not in ("consent", "delegation")


@many
@given(worlds)
def test_withdrawing_every_document_ends_access_by_consent(policy_set: PolicySet, situation: Any) -> None:
    """Once everything is withdrawn nothing rests on it."""
    ended = tuple(
        msgspec.structs.replace(document, status="revoked", revoked_at=NOW - 1)
        for document in situation[1].patient.consents
    )

    assert decide(policy_set, changed(situation, consents=ended)).basis not in ("consent", "delegation")


@many
@given(worlds)
def test_an_inactive_account_gets_nothing(policy_set: PolicySet, situation: Any) -> None:
    """Whoever is not active in the directory is denied before any rule is asked."""
    request, facts, now = situation
    facts = msgspec.structs.replace(facts, subject=msgspec.structs.replace(facts.subject, active=False))

    assert decide(policy_set, (request, facts, now)).reason == "deny.subject.inactive"


@many
@given(worlds)
def test_a_caller_that_the_directory_does_not_know_gets_nothing(policy_set: PolicySet, situation: Any) -> None:
    """A subject nobody registered is not active."""
    request, facts, now = situation

    assert not decide(policy_set, (request, msgspec.structs.replace(facts, subject=None), now)).allowed


@many
@given(worlds, st.sampled_from(LABELS))
def test_another_label_never_turns_a_denial_into_a_permit(policy_set: PolicySet, situation: Any, label: str) -> None:
    """A record that is more sensitive is open to nobody new."""
    request, facts, now = situation
    properties = request.resource.properties
    if properties.labels is None:
        return
    labelled = msgspec.structs.replace(properties, labels=(*properties.labels, label))
    resource = msgspec.structs.replace(request.resource, properties=labelled)

    before = decide(policy_set, situation)
    after = decide(policy_set, (msgspec.structs.replace(request, resource=resource), facts, now))

    assert before.allowed or not after.allowed


@many
@given(worlds, st.sampled_from(PURPOSES))
def test_another_purpose_never_widens(policy_set: PolicySet, situation: Any, purpose: str) -> None:
    """A request that states one purpose more is allowed only if the shorter one is."""
    request, facts, now = situation
    if not request.context.purpose:
        return
    context = msgspec.structs.replace(request.context, purpose=(*request.context.purpose, purpose))

    after = decide(policy_set, (msgspec.structs.replace(request, context=context), facts, now))

    assert not after.allowed or decide(policy_set, situation).allowed


@many
@given(worlds)
def test_a_broken_glass_opens_reading_only(policy_set: PolicySet, situation: Any) -> None:
    """No permit by break-glass is for anything but looking."""
    decision = decide(policy_set, situation)

    assert decision.basis != "emergency_override" or situation[0].action.name in ("read", "search")


@many
@given(worlds)
def test_no_purpose_opens_no_data_but_the_own(policy_set: PolicySet, situation: Any) -> None:
    """Without a stated purpose only the own record and what concerns nobody is open."""
    request, facts, now = situation
    silent = msgspec.structs.replace(request, context=msgspec.structs.replace(request.context, purpose=()))

    assert decide(policy_set, (silent, facts, now)).basis in (None, "self", "public")


@many
@given(worlds)
def test_facts_of_another_patient_open_nothing(policy_set: PolicySet, situation: Any) -> None:
    """A consent of one person never opens the record of another."""
    decision = decide(policy_set, changed(situation, id="p2"))

    assert decision.basis in (None, "public", "self")
    assert decision.basis != "self" or situation[1].subject.patient_id == "p1"


@many
@given(worlds, st.integers(1, 8000))
def test_everything_expires(policy_set: PolicySet, situation: Any, hours: int) -> None:
    """With a term on every document, nothing that rests on one outlives it."""
    request, facts, _ = situation
    dated = tuple(
        msgspec.structs.replace(d, root=msgspec.structs.replace(d.root, end=NOW + hours * HOUR))
        for d in facts.patient.consents
    )
    end = Now(NOW + hours * HOUR, NOW + hours * HOUR)

    decision = decide(policy_set, changed((request, facts, end), consents=dated))

    assert decision.basis not in ("consent", "delegation")


@many
@given(worlds, st.integers(0, 10 * HOUR), st.integers(0, 10 * HOUR))
def test_an_uncertain_clock_never_helps(policy_set: PolicySet, situation: Any, before: int, after: int) -> None:
    """What is allowed at an uncertain moment is allowed at every moment inside it."""
    request, facts, _ = situation
    uncertain = decide(policy_set, (request, facts, Now(NOW - before, NOW + after)))
    if uncertain.allowed:
        for moment in (NOW - before, NOW, NOW + after):
            assert decide(policy_set, (request, facts, Now(moment, moment))).allowed


@many
@given(worlds)
def test_the_same_question_has_the_same_answer(policy_set: PolicySet, situation: Any) -> None:
    """A decision is a function of its arguments."""
    assert decide(policy_set, situation) == decide(policy_set, situation)


@many
@given(worlds, st.frozensets(st.sampled_from(sorted(ALL))))
def test_a_permit_never_carries_a_duty_that_cannot_be_done(
    policy_set: PolicySet, situation: Any, capabilities: frozenset[str]
) -> None:
    """What the enforcement point cannot carry out turns a permit into a denial."""
    decision = evaluate(policy_set, *situation, capabilities)
    blocking = {name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking}

    assert not decision.allowed or set(decision.duties) & blocking <= capabilities


@many
@given(worlds)
def test_every_decision_tells_its_reason(policy_set: PolicySet, situation: Any) -> None:
    """A permit names its basis, rule and law; a denial its reason; the client learns a coarse one from a closed list."""
    decision = decide(policy_set, situation)

    assert decision.reason.startswith("allow." if decision.allowed else "deny.")
    assert not decision.allowed or (decision.basis and decision.rule and decision.law)
    assert (policy_set.coarse(decision.reason) == "permitted") == decision.allowed


@many
@given(worlds, consents)
def test_a_defective_consent_opens_nothing(policy_set: PolicySet, situation: Any, document: Consent) -> None:
    """A permit with a formal defect is as good as none: it neither opens nor supersedes."""
    defective = msgspec.structs.replace(
        document, status="active", defect="incomplete", root=msgspec.structs.replace(document.root, effect="permit")
    )
    without = decide(policy_set, situation)
    beside = decide(policy_set, changed(situation, consents=(*situation[1].patient.consents, defective)))

    assert without.allowed or not beside.allowed
