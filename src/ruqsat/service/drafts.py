"""
The entry of a decision in the journal, all of it but its id and its moment.

Beside the question and the answer it says which roles and which organisation the decision went by, who must not learn
of it yet, and whether it may be written into the emergency reserve.  That is worked out here.
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
"""How many drafts a generation holds (``Lately``), for questions that are asked again."""

_NOTHING_SAID = SubjectProperties()


class _Standing(NamedTuple):
    """The roles and the organisation that a decision went by, and the stated ones where they differ."""

    roles: tuple[str, ...] | None
    org: str | None
    stated_roles: tuple[str, ...] | None
    stated_org: str | None


class Drafts:
    """
    Makes drafts of entries, and keeps them for questions that are asked again.

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
        """Return the draft of an entry: a kept one if the very same question, facts and decision were there before."""
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
    """Tell whether a permit is on a legal basis whose entries may go into the reserve when the disk is full."""
    if not answer.decision.allowed or answer.decision.basis is None or answer.rests_on is None:
        return False
    basis = answer.rests_on[0].vocabulary.bases.get(answer.decision.basis)
    return basis is not None and basis.in_reserve


@lru_cache(maxsize=256)
def _in_order(capabilities: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(capabilities))


def org_of(request: EvaluationRequest, facts: Facts | None) -> str | None:
    """Return the organisation that the decision took the subject to act for; without its entry, the stated one."""
    said = request.subject.properties or _NOTHING_SAID
    return said.org if facts is None or facts.subject is None else believed_org(said, facts.subject)


def _standing(request: EvaluationRequest, facts: Facts | None) -> _Standing:
    """Return the roles and the organisation that the decision went by; without an entry, the stated ones."""
    said, org = request.subject.properties or _NOTHING_SAID, org_of(request, facts)
    if facts is None or facts.subject is None:
        return _Standing(said.roles, org, None, None)
    roles = believed_roles(said, facts.subject)
    other_roles = said.roles if said.roles != roles else None
    return _Standing(roles or None, org, other_roles, said.org if said.org != org else None)


def _may_recur(origin: Origin, facts: Facts) -> bool:
    """Tell whether a draft is worth keeping: the question may come as the same object, and facts are not degraded."""
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
    Tell whether representatives must not learn of a decision (Code 78(2)), and whether the patient must not yet.

    The third value names the parts that the patient must not learn of (``held_among``), if parts are asked for.
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
