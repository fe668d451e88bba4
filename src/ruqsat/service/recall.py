"""
Recalling a decision when the same question is asked again and nothing has changed.

``evaluate`` is pure: the same policy, question and facts, with no boundary of the facts in between, make the same
decision.  So the last decisions are kept, each with what it was made by.  Facts are compared as objects: any new
reading or change makes new ones, so nothing is recalled by outdated facts.  Whether facts may be used at all, and
whether a permit may still be sent, is tested for every request as before, and every request is journaled.

No decision is recalled for longer than ``LASTS``: what went wrong in one evaluation must not stay for the day.
"""

from typing import NamedTuple

import msgspec

from ruqsat.core.boundaries import next_turn
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import NOTHING, evaluate
from ruqsat.core.facts import Facts, PatientFacts, SubjectFacts
from ruqsat.core.instant import Instant, Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest
from ruqsat.service.lately import LASTS, Lately

MOST = 1024
"""How many decisions a generation holds (``Lately``)."""

_Key = tuple[bytes, frozenset[str]]
"""The question as the journal writes it, and what the enforcement point can do."""

_encode = msgspec.json.Encoder().encode


class _Made(NamedTuple):
    """A decision, what it was made by, and when it holds: from ``since``, to before ``until``."""

    decision: Decision
    subject: SubjectFacts | None
    patient: PatientFacts | None
    since: Instant
    until: Instant


class Recall:
    """Decides as ``evaluate`` does, and recalls recent decisions of the policy set that it was asked under last."""

    def __init__(self, most: int = MOST) -> None:
        self._made = Lately[_Key, _Made](most)
        self._policy_set: PolicySet | None = None

    def __call__(
        self, policy_set: PolicySet, request: EvaluationRequest, facts: Facts, now: Now,
        capabilities: frozenset[str] = NOTHING,
    ) -> Decision:  # fmt: skip
        """Decide one request; see ``evaluate``."""
        if policy_set is not self._policy_set:
            self._made.forget()
            self._policy_set = policy_set
        if not _is_plain(policy_set, request, facts):
            return evaluate(policy_set, request, facts, now, capabilities)
        key = _encode(request), capabilities
        made = self._made[key]
        if (
            made is not None
            and made.subject is facts.subject
            and made.patient is facts.patient
            and made.since <= now.lo
            and now.hi < made.until
        ):
            return made.decision
        decision = evaluate(policy_set, request, facts, now, capabilities)
        until = min(next_turn(facts.patient, now.lo, policy_set.vocabulary.switches), now.lo + LASTS)
        if now.hi < until and len(key[0]) <= SHORT_BYTES:
            self._made.keep(key, _Made(decision, facts.subject, facts.patient, now.lo, until), now.hi)
        return decision


def _is_plain(policy_set: PolicySet, request: EvaluationRequest, facts: Facts) -> bool:
    """
    Tell whether a decision depends on nothing but the policy, the question, and the facts of subject and patient.

    Not so where a pack reads the present itself, where facts of others count, whose boundaries are not looked at,
    where the request has parts, and in degraded mode, which narrows the decision.
    """
    properties = request.resource.properties
    return (
        not policy_set.reads_present
        and facts.consents_known
        and not (facts.others or facts.recipient or facts.resource)
        and (properties is None or properties.parts is None)
    )
