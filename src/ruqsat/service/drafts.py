"""
What the journal is told of a decision, but for its id and its moment.

As whom the decision took somebody, who must not learn of it yet, whether it is an emergency's: what stands in an entry
beside the question and the answer is worked out here.
"""

from functools import lru_cache
from operator import is_
from typing import Any, NamedTuple

import msgspec

from ruqsat.core.care import held_among, is_held
from ruqsat.core.case import believed_org, believed_roles
from ruqsat.core.facts import Facts, PatientFacts
from ruqsat.core.instant import Instant
from ruqsat.core.kept_facts import known_in
from ruqsat.core.notice import is_shielded
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest, SubjectProperties
from ruqsat.service.answer import Answer
from ruqsat.service.degraded import is_degraded
from ruqsat.service.entries import Draft, Entry, Named, draft_of, names_others, personal_parts
from ruqsat.service.facts_beside import NOTHING, patients_beside
from ruqsat.service.lately import Lately
from ruqsat.service.origin import Origin, capabilities_of

DRAFTS_KEPT = 1024
"""What is told of so many decisions is kept, and of as many again, for the same question asked again."""

_NOTHING_SAID = SubjectProperties()


class _Standing(NamedTuple):
    """Roles and organisation that a decision went by; what was stated, where it was something else."""

    roles: tuple[str, ...] | None
    org: str | None
    stated_roles: tuple[str, ...] | None
    stated_org: str | None


class Drafts:
    """
    Drafts of entries; of a question that comes again the draft is kept.

    Args:
        replayable: The journal keeps each question whole, and the facts, so that a decision can be made again.
    """

    def __init__(self, *, replayable: bool) -> None:
        self._replayable = replayable
        self._kept = Lately[int, tuple[Draft, tuple[Any, ...]]](DRAFTS_KEPT)
        self._encode = msgspec.json.Encoder().encode

    def forget(self) -> None:
        """Keep nothing of what is there."""
        self._kept.forget()

    def draft(
        self, answer: Answer, request: EvaluationRequest, origin: Origin, facts: Facts | None, whole: Facts | None,
        now: Instant,
    ) -> Draft:  # fmt: skip
        """Return what is told of a decision; of one that was recalled it may be made already."""
        if facts is None or whole is not facts or answer.rests_on is None or not _may_recur(origin, facts):
            return self._draft_anew(answer, request, origin, facts, whole)
        by = (request, answer.decision, answer.rests_on[0], origin, facts.subject, facts.patient, facts.position)
        kept = self._kept[id(request)]
        if kept is not None and all(map(is_, kept[1], by)):
            return kept[0]
        draft = self._draft_anew(answer, request, origin, facts, whole)
        if len(self._encode(request)) <= SHORT_BYTES:
            self._kept.keep(id(request), (draft, by), now)
        return draft

    def _draft_anew(
        self, answer: Answer, request: EvaluationRequest, origin: Origin, facts: Facts | None, whole: Facts | None
    ) -> Draft:  # fmt: skip
        decision, stands = answer.decision, _standing(request, facts)
        known = known_in(whole) if whole is not None and self._replayable else None
        resource, context = request.resource.properties, request.context
        shielded, held, held_parts = _marks(answer, request, facts)
        entry = Entry(
            "",
            "",
            "",
            origin.listener,
            decision.allowed,
            decision.reason,
            answer.policy,
            stands.roles,
            stands.org,
            request.action.name,
            context.purpose if context is not None else None,
            request.resource.type,
            resource.data_class if resource is not None else None,
            decision.basis,
            decision.rule,
            decision.law,
            decision.duties,
            facts.position if facts is not None else None,
            origin.point,
            is_degraded(facts),
            decision.untold,
            shielded,
            held,
            stands.stated_roles,
            stands.stated_org,
            0,
            () if known is None else _in_order(capabilities_of(request, origin)),
        )
        named = Named(
            request.subject.id,
            origin.actors,
            origin.traceparent,
            resource.patient if resource is not None else None,
            request.resource.id,
            decision.applied,
            patients_beside(request),
            origin.signature,
            origin.jti,
            asked=self._encode(request).decode() if known is not None else None,
            knew=tuple(["" if each is None else each.digest for each in known]) if known is not None else (),
            held_parts=held_parts,
        )
        parts = personal_parts(self._encode, named, apart=known is not None and names_others(request))
        return draft_of(self._encode, entry, parts, known or (), is_emergency=_is_emergency(answer))


def _is_emergency(answer: Answer) -> bool:
    """Tell whether a permit is of those that are still given when only the reserve is left of the disk."""
    if not answer.decision.allowed or answer.decision.basis is None or answer.rests_on is None:
        return False
    basis = answer.rests_on[0].vocabulary.bases.get(answer.decision.basis)
    return basis is not None and basis.in_reserve


@lru_cache(maxsize=256)
def _in_order(capabilities: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(capabilities))


def org_of(request: EvaluationRequest, facts: Facts | None) -> str | None:
    """Return the organisation that the decision took somebody to ask for; without facts nothing contradicts a word."""
    said = request.subject.properties or _NOTHING_SAID
    return said.org if facts is None or facts.subject is None else believed_org(said, facts.subject)


def _standing(request: EvaluationRequest, facts: Facts | None) -> _Standing:
    """Return as whom the decision took somebody; as for ``org_of``."""
    said, org = request.subject.properties or _NOTHING_SAID, org_of(request, facts)
    if facts is None or facts.subject is None:
        return _Standing(said.roles, org, None, None)
    roles = believed_roles(said, facts.subject)
    other_roles = said.roles if said.roles != roles else None
    return _Standing(roles or None, org, other_roles, said.org if said.org != org else None)


def _may_recur(origin: Origin, facts: Facts) -> bool:
    """Tell whether the same object may come again, about facts that are the store's own."""
    return origin.recurs and facts.consents_known


def _patients_known(answer: Answer, facts: Facts | None) -> list[PatientFacts]:
    """Return what is known of those whom a request is about, alone or in its parts."""
    beside = answer.rests_on[2] if answer.rests_on is not None else NOTHING
    alone = facts.patient if facts is not None else None
    known = [alone] if alone is not None else []
    if beside:
        known += [each.patient for _, _, each in beside if each.patient is not None]
    return known


def _marks(answer: Answer, request: EvaluationRequest, facts: Facts | None) -> tuple[bool, bool, tuple[str, ...]]:
    """
    Tell whether representatives, and the patient, must not learn of it yet: for whoever tells or shows them.

    Where parts are asked for, also which of them the patient must not learn of.
    """
    resource, record = request.resource.properties, request.resource.id
    if resource is None:
        return False, False, ()
    patients = _patients_known(answer, facts)
    is_withheld = is_held(resource, record, patients)
    among = held_among(resource, record, patients) if is_withheld and resource.parts else ()
    if answer.rests_on is None:
        return False, is_withheld, among
    vocabulary = answer.rests_on[0].vocabulary
    # What is on file is not known then: it may bear a label that is kept from representatives.
    may_bear = facts is None and vocabulary.switches.adolescent_shield.enabled
    return may_bear or is_shielded(resource, record, patients, vocabulary), is_withheld, among
