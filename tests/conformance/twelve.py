"""The twelve properties of the design, each as a check of one situation: what must hold, or what may not widen."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ruqsat.core.decision import Decision
from ruqsat.core.facts import Consent, Facts, Grantee, PatientFacts, Provision
from ruqsat.core.instant import HOUR, Now, at
from ruqsat.core.request import EvaluationRequest

Decider = Callable[[EvaluationRequest, Facts, Now], Decision]
Situation = tuple[EvaluationRequest, Facts, Now]

BY_DOCUMENT = ("consent", "delegation", "research_consent")
REFUSALS = (
    Provision("deny"), Provision("deny", (Grantee(org="h1"),), (), (), ("labs",)), Provision("deny", labels=("HIV",)),
)  # fmt: skip


def check_all(decide: Decider, situation: Situation, label: str, purpose: str, after_all: int) -> None:
    """
    Check every property of one situation; an AssertionError names the one that does not hold.

    Args:
        label: One more label that the record may bear (P8).
        purpose: One more purpose that the request may state (P11).
        after_all: A moment after every end in the world (P4).
    """
    request, facts, now = situation
    decision = decide(*situation)
    assert decide(*situation) == decision, "P12: the same question has the same answer"
    assert decision.basis != "emergency_override" or request.action.name in ("read", "search"), "P9: reading only"
    subject = facts.subject and replace(facts.subject, active=False)
    assert decide(request, replace(facts, subject=subject), now).reason == "deny.subject.inactive", "P7: inactive"
    _check_request(decide, situation, decision, label, purpose)
    if facts.patient is not None:
        _check_documents(decide, situation, decision)
        assert decide(request, facts, at(after_all)).basis not in BY_DOCUMENT, "P4: everything expires"


def _check_request(decide: Decider, situation: Situation, decision: Decision, label: str, purpose: str) -> None:
    request, facts, now = situation
    said, context = request.resource.properties, request.context
    assert said is not None
    assert context is not None
    if said.labels is not None:
        labelled = replace(request.resource, properties=replace(said, labels=(*said.labels, label)))
        after = decide(replace(request, resource=labelled), facts, now)
        # By design (2.5, G03) the label of notifiable diseases is what lets surveillance in; nothing else may.
        surveillance = label == "INFDIS" and after.basis == "kz273_4_2"
        assert decision.allowed or not after.allowed or surveillance, "P8: another label opens nothing"
    silent = decide(replace(request, context=replace(context, purpose=())), facts, now)
    assert silent.basis in (None, "self", "public"), "P10: no purpose, no clinical data"
    if context.purpose:
        more = replace(request, context=replace(context, purpose=(*context.purpose, purpose)))
        assert decision.allowed or not decide(more, facts, now).allowed, "P11: another purpose opens nothing"


def _check_documents(decide: Decider, situation: Situation, decision: Decision) -> None:
    request, facts, now = situation
    patient: Any = facts.patient

    def under(**changes: Any) -> Decision:
        return decide(request, replace(facts, patient=replace(patient, **changes)), now)

    for number, refusal in enumerate(REFUSALS):
        refused = Consent("zz", f"own-{number}", "active", now.lo - HOUR, refusal, "dissent")
        after = under(consents=(*patient.consents, refused))
        assert decision.allowed or not after.allowed, "P1: another refusal opens nothing"
    if len(patient.consents) > 1:
        assert under(consents=patient.consents[::-1]) == decision, "P2: the order of documents is irrelevant"
        turned = (*patient.consents[1:], patient.consents[0])
        assert under(consents=turned) == decision, "P2: the order of documents is irrelevant"
    orders = {name: getattr(patient, name)[::-1] for name in ("delegations", "representations", "grants", "records")}
    other = under(**orders)
    assert (other.allowed, other.basis) == (decision.allowed, decision.basis), "P2: nor that of the other records"
    assert under(consents=()).basis not in BY_DOCUMENT, "P3: no documents, no permit by one"
    assert under(**withdrawn(patient, now.lo)).basis not in (*BY_DOCUMENT, "legal_rep", "emergency_override"), (
        "P6: withdrawing everything ends access"
    )
    stranger = under(id="p-stranger")
    assert stranger.basis in (None, "public", "self"), "P5: documents of one patient cover no other"


def withdrawn(patient: PatientFacts, now: int) -> dict[str, Any]:
    """Return everything that somebody was given, withdrawn; refusals stay."""
    return {
        "consents": tuple(
            each if each.root.effect == "deny" else replace(each, status="revoked", revoked_at=now)
            for each in patient.consents
        ),
        **{
            name: tuple(replace(each, revoked_at=now) for each in getattr(patient, name))
            for name in ("delegations", "representations", "grants")
        },
    }
