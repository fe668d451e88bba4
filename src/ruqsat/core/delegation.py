"""
Third persons whom the patient lets in (order §12): chains of delegation.

Every link must cover the case (``m3``), so the effective right is the
intersection along the chain, and whom the patient refuses has nothing to hand
on.  Nothing is written when a consent ends: the cascade is worked out here, at
each decision.
"""

from itertools import pairwise
from operator import attrgetter

from msgspec import Struct

from ruqsat.core.case import Case, SubjectView
from ruqsat.core.consent import age_defect, consent_answer, governing
from ruqsat.core.covers import Covers
from ruqsat.core.facts import Consent, Delegation, PatientFacts
from ruqsat.core.vocabulary import Switches

_ID = attrgetter("id")


class DelegationAnswer(Struct, frozen=True):
    """Whether a chain from the patient to the subject covers the case; else the nearest miss."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = "delegation.none"


def delegation_answer(case: Case, covers: Covers, switches: Switches) -> DelegationAnswer:
    """Tell whether any chain holds; of several misses, the one that came furthest is told (or the first by id)."""
    patient = case.facts.patient
    if patient is None:
        return DelegationAnswer(False)
    by_id = {link.id: link for link in patient.delegations}
    best = (-1, DelegationAnswer(False))
    for leaf in sorted(patient.delegations, key=_ID):
        if leaf.delegate != case.sub.id:
            continue
        chain, miss = _chain(leaf, by_id, switches)
        document, unlived = _document_of(chain[-1], patient, case, switches)
        step, miss = (0, miss) if miss else (1, unlived) if unlived else _weigh(chain, case, covers)
        refusals = () if miss else _refusals(chain, case, covers, switches)
        if refusals:
            miss = "redelegation"
        if not miss:
            applied = tuple(sorted({document, *(link.id for link in chain)}))
            return DelegationAnswer(True, applied, "")
        if step > best[0]:
            best = (step, DelegationAnswer(False, (leaf.id, *refusals), f"delegation.{miss}"))
    return best[1]


def _chain(leaf: Delegation, by_id: dict[str, Delegation], switches: Switches) -> tuple[list[Delegation], str]:
    """Walk from the leaf to the link that the patient gave; a cycle, a gap or too many links ends it."""
    chain = [leaf]
    while (above := chain[-1].parent) is not None:
        parent = by_id.get(above)
        if parent is None:
            return chain, "broken_chain"
        if parent in chain:
            return chain, "cycle"
        chain.append(parent)
    if any(child.delegator not in (None, parent.delegate) for child, parent in pairwise(chain)):
        return chain, "broken_chain"
    if chain[-1].by == "other" or (chain[-1].by == "legal_rep" and not switches.rep_may_delegate):
        return chain, "delegator"
    if len(chain) > switches.delegation_max_depth:
        return chain, "depth"
    if any(not parent.may_redelegate for parent in chain[1:]):
        return chain, "redelegation"
    if any(child.consent != chain[-1].consent for child in chain):
        return chain, "broken_chain"
    return chain, ""


def _weigh(chain: list[Delegation], case: Case, covers: Covers) -> tuple[int, str]:
    for link in chain:
        if link.revoked_at is not None and link.revoked_at <= case.now.hi:
            return 2, "revoked"
    for link in chain:
        miss, _ = covers.test("3", case, link)
        if miss == "expired" and link.start is not None and case.now.lo < link.start:
            miss = "not_yet_valid"
        if miss:
            return 3, miss
    return 4, ""


def _refusals(chain: list[Delegation], case: Case, covers: Covers, switches: Switches) -> tuple[str, ...]:
    """
    Return the patient's refusals of any delegate above the last; about the last one the rules themselves ask.

    A refusal beats a delegation (order §14), and nobody hands on what is not theirs.
    """
    found: set[str] = set()
    for link in chain[1:]:
        handing_on = Case(SubjectView.of_delegate(link.delegate), case.act, case.res, case.ctx, case.facts, case.now)
        found.update(consent_answer(handing_on, covers, switches).denials)
    return tuple(sorted(found))


def _document_of(root: Delegation, patient: PatientFacts, case: Case, switches: Switches) -> tuple[str, str]:
    """
    Return the id of the living consent by which the patient lets the delegate in, and what it misses.

    A delegation lives only while the patient does, and a living consent that
    governs its thread names it: the one that it was given with, or a newer one
    by which the patient signed anew and renewed it.
    """
    if patient.deceased_at is not None and patient.deceased_at <= case.now.hi:
        return root.consent, "subject_deceased"
    document = next((d for d in patient.consents if d.id == root.consent), None)
    if document is None or document.root.effect == "deny":
        return root.consent, "not_in_consent"
    if document.revoked_at is not None and document.revoked_at <= case.now.hi:
        return document.id, "consent_revoked"
    governor = next((each for each in governing(patient, case.now) if each.thread == document.thread), None)
    if governor is None or governor.id != document.id:
        if governor is None or governor.root.effect == "deny" or root.id not in governor.delegations:
            return document.id, "consent_superseded"
        document = governor
    return document.id, _document_miss(document, root, patient, case, switches)


def _document_miss(document: Consent, root: Delegation, patient: PatientFacts, case: Case, switches: Switches) -> str:
    if document.status != "active" or (document.revoked_at is not None and document.revoked_at <= case.now.hi):
        return "consent_revoked"
    if document.defect is not None or age_defect(document, patient, case, switches):
        return "consent_invalid"
    if document.root.end is not None and document.root.end <= case.now.hi:
        return "consent_expired"
    if document.root.start is not None and case.now.lo < document.root.start:
        return "not_yet_valid"
    return "" if root.id in document.delegations else "not_in_consent"
