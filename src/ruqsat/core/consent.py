"""
What a patient's documents say about one case (order §3, §5, §8–9, §14).

Provisions are rows of section ``p2``; the matcher ``m2`` says whether one covers
the case.  How provisions of a document and documents of a patient combine
stands here, because no list of priorities can say it:

* in a thread the newest document that was ever in force governs, and nothing
  older revives after it;
* inside a document the deepest provision that applies wins, among siblings a denial;
* across threads any living denial beats any permit;
* a denial binds on receipt, a permit only without a formal defect.
"""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from ruqsat.core.case import Case, SubjectView
from ruqsat.core.covers import Cover, Covers
from ruqsat.core.facts import Consent, Grantee, PatientFacts, Provision
from ruqsat.core.instant import HOUR, Instant, Now
from ruqsat.core.representation import birthday, birthdays
from ruqsat.core.vocabulary import Switches

_RANK = {
    word: rank
    for rank, word in enumerate(
        (
            *("none", "not_yet_valid", "formality", "revoked", "expired", "purpose", "recipient", "action"),
            *("category", "data_scope", "confidentiality", "sensitivity"),
        )
    )
}
"""How near a miss came: formalities first, then the criteria in the order in which ``m2`` tests them."""

_FORMALITY = _RANK["formality"]
_MISS_CODES = {"sensitivity": "sensitivity.not_covered"}


class ConsentAnswer(Struct, frozen=True):
    """
    The documents that permit, refuse, or may refuse (unread), and the nearest miss.

    ``abroad`` are the permits that name the country of destination.

    ``miss`` is a reason without its ``deny.`` (``consent.expired``); ``missed_by``
    names the document, if one came near.  Both are told only where nothing permits.
    """

    permits: tuple[str, ...] = ()
    denials: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    abroad: tuple[str, ...] = ()
    miss: str = "consent.none"
    missed_by: tuple[str, ...] = ()


def consent_answer(case: Case, covers: Covers, switches: Switches) -> ConsentAnswer:
    """Combine every document of the patient for this case; pure, and independent of their order."""
    patient = case.facts.patient
    if patient is None:
        return ConsentAnswer()
    unread = patient.unread
    if patient.deceased_at is not None and patient.deceased_at <= case.now.hi:
        return _after_death(patient, case, covers.of("2"), switches)
    permits: list[str] = []
    denials: list[str] = []
    missed: list[tuple[str, str]] = []
    far: list[Consent] = []
    cover, sub = covers.of("2"), case.sub
    for document in governing(patient, case.now):
        # Whom a permit names is the cheapest thing to see; others' are weighed only for the nearest miss.
        if cover.asks_names and _names_others(document.root, sub):
            far.append(document)
            continue
        effect, miss = _weigh(document, patient, case, cover, switches)
        if effect == "permit":
            permits.append(document.id)
        elif effect == "deny":
            denials.append(document.id)
        else:
            missed.append((miss, document.id))
    if permits:
        return ConsentAnswer(_sorted(permits), _sorted(denials), unread, _abroad(permits, patient, case))
    for document in far:
        missed.append((_weigh(document, patient, case, cover, switches)[1], document.id))
    return ConsentAnswer((), _sorted(denials), unread, (), *_nearest(missed))


def _nearest(missed: list[tuple[str, str]]) -> tuple[str, tuple[str, ...]]:
    """Return the code of the nearest miss and whose it is; of equally near ones, that of the greater word, then id."""
    if not missed:
        return "consent.none", ()
    miss, missed_by = max(missed, key=lambda each: (_RANK.get(each[0], _FORMALITY), *each))
    return _MISS_CODES.get(miss) or f"consent.{miss}", (missed_by,)


def _after_death(patient: PatientFacts, case: Case, cover: Cover, switches: Switches) -> ConsentAnswer:
    """Return the answer for a patient who died: consents have ended; refusals hold on, for secrecy has no end (§22)."""
    documents = governing(patient, case.now)
    refused = [each.id for each in documents if _weigh(each, patient, case, cover, switches)[0] == "deny"]
    ended = _sorted([each.id for each in documents])
    return ConsentAnswer((), _sorted(refused), patient.unread, (), "consent.subject_deceased", ended)


def _names_others(root: Provision, sub: SubjectView) -> bool:
    """Tell at a glance whether a permit without exceptions names only others: it then neither permits nor refuses."""
    if root.effect == "deny" or root.exceptions:
        return False
    for grantee in root.grantees:
        if (grantee.org is None or grantee.org == sub.org) and (grantee.subject is None or grantee.subject == sub.id):
            return False
    return True


def _abroad(permits: list[str], patient: PatientFacts, case: Case) -> tuple[str, ...]:
    """Return the permits that name the country that the data would go to (Law 94-V art. 16(3)(1))."""
    country = case.ctx.destination_country
    return () if country is None else _naming(country, permits, patient)


def _naming(country: str, permits: list[str], patient: PatientFacts) -> tuple[str, ...]:
    return tuple(sorted(d.id for d in patient.consents if d.id in permits and country in d.cross_border))


class OnwardAnswer(Struct, frozen=True):
    """Whether the patient lets in the organisation that data would be handed to, and by which documents."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = "consent.recipient"


def onward_answer(case: Case, covers: Covers, switches: Switches) -> OnwardAnswer:
    """
    Tell whether the recipient of a disclosure is one that the patient lets in (order §12, §22, §25).

    The same documents are weighed, with the recipient in the subject's place: what names
    the sender alone does not let the sender hand on, and a refusal of the recipient holds.
    """
    recipient = case.ctx.recipient
    if recipient is None:
        return OnwardAnswer(False)
    onward = Case(SubjectView.of_organisation(recipient), case.act, case.res, case.ctx, case.facts, case.now)
    answer = consent_answer(onward, covers, switches)
    return OnwardAnswer(bool(answer.permits) and not answer.denials, answer.permits)


def _sorted(ids: list[str]) -> tuple[str, ...]:
    if len(ids) > 1:
        ids.sort()
    return tuple(ids)


def governing(patient: PatientFacts, now: Now) -> Sequence[Consent]:
    """
    Return the governor of each thread: the newest document that was ever in force.

    At the same instant a living denial governs, then the greater id, so that the
    order in which documents were stored never matters.  A defective permit never
    supersedes; it governs only a thread that holds nothing better.
    """
    return _governing(patient.threads, now) if patient.sole is None else patient.sole


def _governing(threads: tuple[tuple[Consent, ...], ...], now: Now) -> list[Consent]:
    return [
        thread[0] if len(thread) == 1 else max(thread, key=lambda document: _standing(document, now))
        for thread in threads
    ]


def _standing(document: Consent, now: Now) -> tuple[bool, int, bool, str]:
    denial = document.root.effect == "deny"
    was_in_force = _began(document, now) and (denial or document.defect is None)
    return was_in_force, document.granted_at, denial and not _revoked(document, now), document.id


def _weigh(
    document: Consent, patient: PatientFacts, case: Case, cover: Cover, switches: Switches
) -> tuple[str | None, str]:
    """Return the document's effect on this case, or None with the word of what it missed."""
    denial = document.root.effect == "deny"
    if document.status != "active" or document.revoked_at is not None:
        if _revoked(document, case.now):
            return None, "none" if denial else "revoked"
        if document.status == "superseded":
            return None, "none"
    if not denial and (defect := document.defect or age_defect(document, patient, case, switches)):
        return None, defect
    effect, miss = _apply(document.root, case, cover)
    if miss == "expired" and not _began(document, case.now):
        miss = "not_yet_valid"
    if denial:
        # An exception inside a refusal narrows the refusal; it is no consent of its own.
        return (effect if effect == "deny" else None), "none"
    return effect, miss


def age_defect(document: Consent, patient: PatientFacts, case: Case, switches: Switches) -> str:
    """
    Say why the giver's age or powers take a permit away: Code 78(2), order §3, §11.

    A parent's consent ends at majority, whatever the child's capacity, and with the
    parent's power; an attorney's with the capacity of who gave the power (Civil Code
    168, 170); a child's own begins at sixteen, for preventive and diagnostic care unless
    a representative signed too.  What a child signed before stands by that other signature
    alone, and ends at majority as well.  Who is incapacitated gives none alone.
    """
    if document.given_by == "legal_rep":
        return _power_defect(document, patient, case, switches)
    if patient.incapacitated and not document.cosigned:
        return "incapacity"
    born, now = patient.birth_date, case.now
    if born is None:
        return ""
    own, of_age = birthdays(
        born, switches.minor_self_from_age, switches.rep_access_ends_at, switches.home_utc_offset_hours
    )
    if now.lo < own or document.granted_at < own:
        return _majority_defect(of_age, case.now, switches) if document.cosigned else "minor"
    if document.cosigned or of_age <= now.lo or case.res.data_class in switches.minor_self_classes:
        return ""
    return "minor_scope"


def _power_defect(document: Consent, patient: PatientFacts, case: Case, switches: Switches) -> str:
    if _power_has_ended(document, patient, case.now):
        return "rep_ended"
    if document.giver_kind == "poa":
        return "rep_ended" if patient.incapacitated else ""
    if document.giver_kind == "guardian" and patient.incapacitated:
        return ""
    if patient.birth_date is None:
        return "rep_age_unknown"
    of_age = birthday(patient.birth_date, switches.rep_access_ends_at, switches.home_utc_offset_hours)
    return _majority_defect(of_age, case.now, switches)


def _majority_defect(of_age: Instant, now: Now, switches: Switches) -> str:
    return "rep_majority" if of_age + switches.rep_consent_grace_days * 24 * HOUR <= now.hi else ""


def _power_has_ended(document: Consent, patient: PatientFacts, now: Now) -> bool:
    """Tell whether all powers of the giver on file have ended, or may have (order §11); no if there is none."""
    powers = [power for power in patient.representations if power.subject == document.giver]
    return bool(powers) and all(
        (power.end is not None and power.end <= now.hi) or (power.revoked_at is not None and power.revoked_at <= now.hi)
        for power in powers
    )


def _apply(node: Provision, case: Case, cover: Cover) -> tuple[str | None, str]:
    """
    Return a node's effect on the case, or None, and the word of what it missed.

    The deepest node that matches wins, among siblings a denial; a gate that fails shuts the whole subtree.
    """
    number = cover.first_miss(case.sub, case.act, case.res, case.ctx, node)
    miss = cover.misses[number]
    if not node.exceptions or 0 < number <= cover.gates:
        return (None if number else node.effect), miss
    below = set()
    for exception in node.exceptions:
        below.add(_apply(_spoken(exception, case), case, cover)[0])
    if "deny" in below:
        return "deny", ""
    if miss:
        # The node itself does not apply: an exception beneath may narrow, never widen.
        return None, miss
    return ("permit" if "permit" in below else node.effect), ""


def _spoken(exception: Provision, case: Case) -> Provision:
    """
    Return an exception with its silence filled in: purposes, grantees or categories left out are those asked for.

    One that leaves out all three stays as it is: a refusal with the exception "everybody" stays a refusal.
    """
    if not (exception.purposes or exception.grantees or exception.categories):
        return exception
    return msgspec.structs.replace(
        exception,
        purposes=exception.purposes or case.ctx.purpose,
        grantees=exception.grantees or (Grantee(subject=case.sub.id),),
        categories=exception.categories or (case.res.data_class or "",),
    )


def _began(document: Consent, now: Now) -> bool:
    start = document.root.start
    return start is None or start <= (now.hi if document.root.effect == "deny" else now.lo)


def _revoked(document: Consent, now: Now) -> bool:
    """
    Tell whether a document is withdrawn now; if the time is unsure, a permit counts as withdrawn and a denial not.

    A permit whose status says so is withdrawn, whatever instant stands there: the clock by which that was written may
    have been ahead.
    """
    is_denial, is_revoked = document.root.effect == "deny", document.status == "revoked"
    if document.revoked_at is None or (is_revoked and not is_denial):
        return is_revoked
    return document.revoked_at <= (now.lo if is_denial else now.hi)
