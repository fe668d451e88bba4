"""
``evaluate(policy_set, request, facts, now)``: one decision, pure.

The answer is a denial before the first rule is read.  In order of priority the
first rule that matches decides; silence denies, with the nearest miss as its
reason.  A rule that fails while being evaluated never helps the request: a failed
permit counts as absent, a failed denial as matched.
"""

import msgspec

from ruqsat.core.boundaries import moments, stands_still
from ruqsat.core.case import Case
from ruqsat.core.check_row import TOPICS
from ruqsat.core.compile import answer_of, applied_by
from ruqsat.core.consent import ConsentAnswer
from ruqsat.core.decision import Decision, deny
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Now, at
from ruqsat.core.parts import decide_parts
from ruqsat.core.policy_set import PolicySet, Rule
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.validity import refuse_invalid

HOME = "KZ"
NOTHING: frozenset[str] = frozenset()
NOTICES = frozenset({"notify_subject", "notify_subject_deferred"})
NO_DUTIES: tuple[str, ...] = ()


def evaluate(
    policy_set: PolicySet,
    request: EvaluationRequest,
    facts: Facts,
    now: Now,
    capabilities: frozenset[str] = NOTHING,
) -> Decision:
    """
    Decide one request.

    Args:
        policy_set: The rules in force.
        request: What the caller asks.
        facts: What the store knows of the subject and the patient.
        now: The present moment, as an interval: a permit must hold at every moment of it, and
            carries the duties of every moment.
        capabilities: Blocking duties that the enforcement point can carry out.

    Returns:
        A decision; never raises for anything that a request or a fact holds.
    """
    properties = request.resource.properties
    if properties is not None and properties.parts is not None:
        return _evaluate_parts(policy_set, request, facts, now, capabilities)
    if now.lo == now.hi:
        return _evaluate_at(policy_set, request, facts, now, capabilities)
    if not policy_set.reads_present and stands_still(facts, now, policy_set.vocabulary.switches):
        return _evaluate_at(policy_set, request, facts, at(now.hi), capabilities)
    return _evaluate_throughout(policy_set, request, facts, now, capabilities)


def _evaluate_parts(
    policy_set: PolicySet, request: EvaluationRequest, facts: Facts, now: Now, capabilities: frozenset[str]
) -> Decision:
    """Decide each part over the whole interval: what is cut out at any moment of it is cut out."""

    def decide(one: EvaluationRequest, known: Facts) -> Decision:
        return evaluate(policy_set, one, known, now, capabilities)

    return decide_parts(request, facts, capabilities, decide)


def _evaluate_throughout(
    policy_set: PolicySet, request: EvaluationRequest, facts: Facts, now: Now, capabilities: frozenset[str]
) -> Decision:
    """Decide at every moment at which the answer could be another one."""
    decision = deny("deny.error.time")
    duties, untold = NO_DUTIES, NO_DUTIES
    for moment in moments(facts, now, policy_set.vocabulary.switches):
        decision = _evaluate_at(policy_set, request, facts, at(moment), capabilities)
        if not decision.allowed:
            return decision
        duties = tuple(dict.fromkeys((*duties, *decision.duties)))
        untold = tuple(dict.fromkeys((*untold, *decision.untold)))
    return msgspec.structs.replace(decision, duties=duties, untold=untold)


def _evaluate_at(
    policy_set: PolicySet, request: EvaluationRequest, facts: Facts, now: Now, capabilities: frozenset[str]
) -> Decision:
    case = Case.of(request, facts, now, policy_set.request_type is not EvaluationRequest)
    refusal = refuse_invalid(case, policy_set.vocabulary)
    if refusal is not None:
        return refusal
    rule = policy_set.candidates_for(case).first(case)
    if rule is not None:
        return _settle(rule, case, policy_set, capabilities)
    return _silence(case, policy_set)


def _settle(rule: Rule, case: Case, policy_set: PolicySet, capabilities: frozenset[str]) -> Decision:
    applied = _applied(rule, case, policy_set)
    if not rule.allows:
        return Decision(False, _denial(rule, case, policy_set), None, rule.id, rule.law, (), applied)
    duties, untold = _duties(rule, case)
    if not rule.blocking <= capabilities:
        return Decision(False, "deny.obligation.unsupported", None, rule.id, rule.law, (), applied)
    return Decision(True, _permit(rule, case, policy_set), rule.ground, rule.id, rule.law, duties, applied, untold)


def _applied(rule: Rule, case: Case, policy_set: PolicySet) -> tuple[str, ...]:
    if len(rule.asks) == 1:
        return applied_by(rule.asks[0], case, policy_set.answers)
    found: set[str] = set()
    for name in rule.asks:
        found.update(applied_by(name, case, policy_set.answers))
    return tuple(sorted(found))


def _permit(rule: Rule, case: Case, policy_set: PolicySet) -> str:
    if rule.ground == "public":
        return f"allow.{case.res.data_class}"
    return policy_set.vocabulary.bases[rule.ground].reason


def _denial(rule: Rule, case: Case, policy_set: PolicySet) -> str:
    topic, _, rest = rule.ground.partition(".")
    if rest != "*":
        return f"deny.{rule.ground}"
    miss = answer_of(TOPICS[topic], case, policy_set.answers).miss
    return f"deny.{miss or topic + '.none'}"


def _duties(rule: Rule, case: Case) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """
    Return the rule's duties for this case, and those that it would have if the patient could be told.

    A patient without a cabinet cannot be told there (order §20); what leaves the country
    travels encrypted (§26, §27).
    """
    duties, untold, patient = rule.duties, NO_DUTIES, case.facts.patient
    if patient is None or not patient.egov:
        untold = tuple([duty for duty in duties if duty in NOTICES])
        duties = tuple([duty for duty in duties if duty not in NOTICES]) if untold else duties
    if case.ctx.destination_country not in (None, HOME):
        duties = (*duties, "encrypt_transit")
    return duties, untold


def _silence(case: Case, policy_set: PolicySet) -> Decision:
    """Return the denial where no rule matched (order §14: silence is no consent); the nearest miss is its reason."""
    answer: ConsentAnswer = answer_of("granted", case, policy_set.answers)
    if answer.permits:
        cared_for = policy_set.functions["is_cared_for"].call(case.ctx)
        return deny("deny.default" if cared_for else "deny.relationship.none", law=("R14",))
    asked_for_emergency = "ETREAT" in case.ctx.purpose or "ERTREAT" in case.ctx.purpose
    if answer.miss == "consent.none" and asked_for_emergency and not case.ctx.emergency:
        return deny("deny.emergency.no_context", law=("R4",))
    return Decision(False, f"deny.{answer.miss}", None, None, ("R14",), (), answer.missed_by)
