"""
The smallest change that would turn a denial into a permit: of the request first, then of what is known.

For officers and authors; a client never learns it.
"""

from collections.abc import Callable, Iterator
from itertools import combinations

import msgspec

from ruqsat.core.authoring.decision_diff import permit_of_all
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Consent, EmergencyGrant, Episode, Grantee, Relationship
from ruqsat.core.instant import HOUR
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import RequestContext
from ruqsat.core.sampling import Situation

Change = tuple[str, Callable[[Situation], Situation | None]]
_OFFERED = 5
_SESSION = "session-that-would-be-opened"


def smallest_changes(
    policy_set: PolicySet, situation: Situation, capabilities: frozenset[str]
) -> tuple[tuple[str, ...], ...]:
    """
    Return the smallest sets of changes, each in words, that would allow a denied situation; at most five.

    Single changes are tried first; only if none suffices, pairs; empty if no pair does.
    """
    changes = list(_changes(policy_set, situation))
    for size in (1, 2):
        found = []
        for chosen in combinations(changes, size):
            changed: Situation | None = situation
            for _, change in chosen:
                changed = change(changed) if changed is not None else None
            if changed is not None and evaluate(policy_set, *changed, capabilities).allowed:
                found.append(tuple(words for words, _ in chosen))
                if len(found) == _OFFERED:
                    break
        if found:
            return tuple(found)
    return ()


def _changes(policy_set: PolicySet, situation: Situation) -> Iterator[Change]:
    request, facts, now = situation
    vocabulary = policy_set.vocabulary
    for purpose in vocabulary.purposes:
        yield f"state the purpose `{purpose}`", _on_context(purpose=(purpose,))
    for action in vocabulary.actions:
        if action != request.action.name:
            yield f"ask to `{action}`", _asking(action)
    subject = facts.subject
    if subject is not None:
        if not subject.active:
            yield "the account is active", _on_subject(active=True)
        for role in vocabulary.roles:
            yield f"the subject has the role `{role}`", _with_role(role)
    if facts.patient is None:
        return
    patient, org = facts.patient, subject.org if subject is not None else None
    since, until = now.lo - HOUR, now.hi + HOUR
    permit = permit_of_all(policy_set, Grantee(subject=request.subject.id))
    permit = msgspec.structs.replace(permit, labels=tuple(vocabulary.labels))
    would_be = Consent("would-be", "would-be", "active", since, permit)
    yield "the patient consents to it", _on_patient(consents=(*patient.consents, would_be))
    for consent in patient.consents:
        yield (
            f"document `{consent.id}` does not exist",
            _on_patient(consents=tuple(each for each in patient.consents if each.id != consent.id)),
        )
    if org is not None:
        yield (
            "the subject's organisation takes part in the patient's care",
            _on_patient(relationships=(*patient.relationships, Relationship("encounter", None, org))),
        )
        yield (
            "an emergency episode is open at the subject's organisation",
            _on_patient(episodes=(*patient.episodes, Episode("would-be", org, "emergency", since, until))),
        )
    yield "the subject breaks the glass, with a reason", _breaking_glass(policy_set, since, until)
    for record in patient.records:
        if record.id == request.resource.id and record.blocked:
            kept = tuple(
                msgspec.structs.replace(each, blocked=False) if each.id == record.id else each
                for each in patient.records
            )
            yield f"record `{record.id}` is not blocked", _on_patient(records=kept)
            break
    if not facts.consents_known:
        yield "the consent store can be reached", _with_consents


def _with_consents(situation: Situation) -> Situation:
    request, facts, now = situation
    return request, msgspec.structs.replace(facts, consents_known=True), now


def _on_context(**fields: object) -> Callable[[Situation], Situation]:
    def change(situation: Situation) -> Situation:
        request, facts, now = situation
        context = msgspec.structs.replace(request.context or RequestContext(), **fields)
        return msgspec.structs.replace(request, context=context), facts, now

    return change


def _asking(action: str) -> Callable[[Situation], Situation]:
    def change(situation: Situation) -> Situation:
        request, facts, now = situation
        return msgspec.structs.replace(request, action=msgspec.structs.replace(request.action, name=action)), facts, now

    return change


def _on_subject(**fields: object) -> Callable[[Situation], Situation | None]:
    def change(situation: Situation) -> Situation | None:
        request, facts, now = situation
        if facts.subject is None:
            return None
        return request, msgspec.structs.replace(facts, subject=msgspec.structs.replace(facts.subject, **fields)), now

    return change


def _with_role(role: str) -> Callable[[Situation], Situation | None]:
    def change(situation: Situation) -> Situation | None:
        request, facts, now = situation
        if facts.subject is None:
            return None
        said = request.subject.properties
        if said is not None and said.roles is not None:
            properties = msgspec.structs.replace(said, roles=(role,))
            request = msgspec.structs.replace(
                request, subject=msgspec.structs.replace(request.subject, properties=properties)
            )
        return _on_subject(roles=(role,))((request, facts, now))

    return change


def _on_patient(**fields: object) -> Callable[[Situation], Situation | None]:
    def change(situation: Situation) -> Situation | None:
        request, facts, now = situation
        if facts.patient is None:
            return None
        return request, msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient, **fields)), now

    return change


def _breaking_glass(policy_set: PolicySet, since: int, until: int) -> Callable[[Situation], Situation | None]:
    limits = policy_set.vocabulary.switches.btg

    def change(situation: Situation) -> Situation | None:
        request, facts, now = situation
        if facts.patient is None:
            return None
        grant = EmergencyGrant(
            _SESSION, request.subject.id, since, until, (limits.reasons or ("unconscious",))[0], limits.min_text, True
        )
        request, facts, now = _on_context(purpose=("BTG",), btg_session=_SESSION)(situation)
        return _on_patient(grants=(*facts.patient.grants, grant))((request, facts, now)) if facts.patient else None

    return change
