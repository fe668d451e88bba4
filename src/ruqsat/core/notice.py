"""
Who is told of what: from a decision in the journal to its notices (order §20).

The duties of a decision say that somebody is to be told; the facts of the patient say
who that is.  Telling is the rule.  It waits only on a ground that lets it wait, and it is
left out only on the one ground that the law on personal data does not reach (Law 94-V
art. 3(3)(4): counter-intelligence, Code 273(4)(9)); what is left out is a notice too,
with its reason, so that nothing is left out in silence.

A notice says who, when, what and on which ground; it holds nothing of the record.
"""

from collections.abc import Collection, Mapping
from datetime import date
from hashlib import sha256
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from ruqsat.core.addressee import Told
from ruqsat.core.care import labels_of
from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import HOUR, Instant, render_instant
from ruqsat.core.journaled import DECISION, Journaled
from ruqsat.core.representation import birthday
from ruqsat.core.request import ResourceProperties
from ruqsat.core.vocabulary import Switches, Vocabulary

Audience = Literal["patient", "representatives", "privacy_officer", "authority", "office"]

DEFERRABLE = frozenset({"kz273_4_3", "kz273_4_5", "kz273_4_6", "kz273_4_8", "kz273_4_9"})
"""Legal bases of Code 273(4) on which the patient may be told later, if there is a written ground (reading A-16)."""

SUPPRESSIBLE = frozenset({"kz273_4_9"})
"""The legal basis on which the patient is not told at all."""

DEFERRED_HOURS = 30 * 24
"""How long a notice waits when nobody has said until when."""

SAMPLED_ONE_IN = 10
"""Of accesses whose duty is ``review_sampled``, one in so many is handed to the privacy office."""

_KINDS = {
    "create": "supplement",
    "update": "change",
    "consent_manage": "change",
    "delegate": "change",
    "delete": "destroy",
    "block": "block",
    "disclose": "transfer",
    "export": "transfer",
}
_OFFICE = {
    "alert_privacy_officer": "alert",
    "review": "review",
    "review_sampled": "review",
    "human_approval": "approval",
}


class Notice(Struct, frozen=True, gc=False):
    """
    One thing that one addressee is told.

    Attributes:
        key: The same for the same notice, whenever it is made; receivers drop what they had.
        entry: Id of the decision that it tells of; of what time brings, and of proceedings, the document's.
        kind: ``use``, ``change``, ``supplement``, ``transfer``, ``block``, ``destroy`` for patients;
            ``alert``, ``review``, ``approval`` for the privacy office; ``proceeding.`` and its event for the
            patient and for ``office``, whoever of the organisation owes the answer.
        recipient: Who of the audience, if it is not the patient and not an office.
        org: Whose act it tells of.
        facts: What the text needs; codes and opaque ids, nothing clinical.
        due: Not to be delivered before.
        deferred_until: Until when the addressee is not told, on *ground*.
        ground: Provision that lets it wait, or be left out.
        skipped: Why it is not delivered at all; None if it is.
    """

    key: str
    entry: str
    kind: str
    audience: Audience
    patient: str | None
    recipient: str | None
    org: str | None
    facts: dict[str, str]
    due: Instant
    deferred_until: Instant | None = None
    ground: str | None = None
    skipped: str | None = None


class Wait(NamedTuple):
    """Until when somebody is not told, and the provision that lets it be so."""

    until: Instant | None
    ground: str | None


AT_ONCE = Wait(None, None)


def notices_of(entry: Journaled, patients: Mapping[str, Told], switches: Switches) -> tuple[Notice, ...]:
    """
    Return what is to be told of a journaled decision, to whom.

    Args:
        entry: A line of the journal; only decisions oblige, others give nothing.
        patients: Facts of those whom it names; whoever is not there is told alone.
        switches: Ages, hours and the shield of adolescents.
    """
    if entry.kind != DECISION:
        return ()
    told = [notice for duty in dict.fromkeys(entry.duties) if (notice := _to_office(entry, duty)) is not None]
    if entry.allowed:
        told += _to_patients(entry, patients, switches)
    return tuple(told)


def told_from(entry: Journaled, patient: Told | None) -> Instant | None:
    """Return from when on the patient may learn of an access that was allowed; None is never (reading A-16)."""
    if entry.basis in SUPPRESSIBLE:
        return None
    return max(entry.moment, deferral(entry, patient).until or 0)


def is_shielded(
    properties: ResourceProperties | None, record: str, patients: Collection[PatientFacts], vocabulary: Vocabulary
) -> bool:
    """
    Tell whether representatives of an adolescent must not learn of a use of this record.

    A visit that the adolescent consented to alone (Code 78(2)); what bears certain
    labels, or may, as by a word that nobody knows, where the operator's counsel decided
    so.  The age is not asked here.
    """
    if properties is None:
        return False
    if properties.self_consented or (properties.parts and any(part.get("self_consented") for part in properties.parts)):
        return True
    shield = vocabulary.switches.adolescent_shield
    if not shield.enabled:
        return False
    stated, on_file = labels_of(properties, record, patients)
    borne = {label for labels in stated if labels is not None for label in labels} | on_file
    return None in stated or not (borne.isdisjoint(shield.labels) and borne <= vocabulary.labels.keys())


def notice_key(*parts: str) -> str:
    """
    Return the key of the notice that these parts name; it tells nothing of them.

    Examples:
        >>> notice_key("a", "bc") == notice_key("ab", "c")
        False
    """
    texts = [part.encode() for part in parts]
    return sha256(b"".join([len(text).to_bytes(4, "big") + text for text in texts])).hexdigest()[:40]


def _to_patients(entry: Journaled, patients: Mapping[str, Told], switches: Switches) -> list[Notice]:
    duties = {*entry.duties, *entry.untold}
    if not duties.isdisjoint(("notify_subject", "notify_subject_deferred")):
        told: list[Notice] = []
        for who in entry.patients:
            facts = patients.get(who)
            notice = _notice(entry, "patient", who, None, deferral(entry, facts))
            told += addressed(notice, facts, switches, shielded=entry.shielded)
        return told or [_notice(entry, "patient", None, skipped="nobody_named")]
    if entry.basis in SUPPRESSIBLE:
        left_out = Wait(None, _provision(entry))
        return [_notice(entry, "patient", who, None, left_out, "suppressed") for who in entry.patients or (None,)]
    return []


def deferral(entry: Journaled, patient: Told | None) -> Wait:
    """
    Return until when the patient is not told of a use, and on which ground; without a ground at once.

    A deferral on record of the authority's request counts, whether or not the caller mentioned it.
    """
    if entry.basis not in DEFERRABLE:
        return AT_ONCE
    stated = [
        request.deferred_until
        for request in (patient.requests if patient is not None else ())
        if request.id in entry.applied and request.deferred_until is not None
    ]
    duties = {*entry.duties, *entry.untold}
    is_said = "notify_subject_deferred" in duties and "notify_subject" not in duties
    if not is_said and max(stated, default=0) <= entry.moment:
        return AT_ONCE
    return Wait(max(stated, default=entry.moment + DEFERRED_HOURS * HOUR), _provision(entry))


def addressed(notice: Notice, facts: Told | None, switches: Switches, *, shielded: bool = False) -> list[Notice]:
    """Return a patient's notice of a use as it goes out: to the patient, or to who stands for a child or ward (§20)."""
    if facts is None:
        return [notice]
    if facts.deceased_at is not None and facts.deceased_at <= notice.due:
        return [replace(notice, skipped="deceased")]
    own, theirs = _audiences(facts, notice.due, switches, shielded=shielded)
    told = [notice] if own else []
    for each in theirs:
        skipped = "own_act" if each == notice.facts.get("by") else None
        key = _key(notice.entry, notice.kind, "representatives", notice.patient, each)
        told.append(replace(notice, key=key, audience="representatives", recipient=each, skipped=skipped))
    return told


def represents(facts: Told, who: str, moment: Instant, switches: Switches) -> bool:
    """Tell whether somebody is to be told as a representative of a patient at *moment*; the dead have none."""
    is_dead = facts.deceased_at is not None and facts.deceased_at <= moment
    return not is_dead and who in _representatives(facts, moment, switches, is_kept=False)


def stand_in_for(facts: Told, moment: Instant, switches: Switches) -> list[str]:
    """Return who is told in the patient's place: for a child too young to be heard and for a ward, representatives."""
    is_heard = _has_come(facts.birth_date, switches.minor_self_from_age, moment, switches)
    return [] if is_heard and not facts.incapacitated else _representatives(facts, moment, switches, is_kept=False)


def _audiences(facts: Told, moment: Instant, switches: Switches, *, shielded: bool) -> tuple[bool, list[str]]:
    """
    Tell whether the patient is told, and which representatives are, as things stand at the moment of telling.

    An adult who can decide is told alone, and so is whoever's age is not known.  A child's
    representatives are told in its place; from the age at which the law hears a minor, both,
    save for what is kept from the representatives: then the patient alone.
    """
    if not facts.representations:
        return True, []
    born, shield = facts.birth_date, switches.adolescent_shield
    is_heard = _has_come(born, switches.minor_self_from_age, moment, switches)
    is_kept = shielded and (is_heard or (shield.enabled and _has_come(born, shield.from_age, moment, switches)))
    theirs = _representatives(facts, moment, switches, is_kept=is_kept)
    return not theirs or (is_heard and not facts.incapacitated), theirs


def _representatives(facts: Told, moment: Instant, switches: Switches, *, is_kept: bool) -> list[str]:
    """
    Return who represents, by verified powers in force; a power of attorney is no reason to be told.

    As in decisions, a parent's power ends at majority, and a guardian's does not while the ward cannot decide.
    """
    of_age = _has_come(facts.birth_date, switches.rep_access_ends_at, moment, switches)
    found = {
        power.subject
        for power in facts.representations
        if power.verified
        and power.kind != "poa"
        and ((power.kind == "guardian" and facts.incapacitated) or not (of_age or is_kept))
        and (power.start is None or power.start <= moment)
        and (power.end is None or moment < power.end)
        and (power.revoked_at is None or moment < power.revoked_at)
    }
    return sorted(found)


def _has_come(born: date | None, age: int, moment: Instant, switches: Switches) -> bool:
    """Tell whether somebody has reached an age; with an unknown birth date, yes."""
    return born is None or birthday(born, age, switches.home_utc_offset_hours) <= moment


def _to_office(entry: Journaled, duty: str) -> Notice | None:
    """Return what a duty has the privacy office told of: whom it concerns, and by when something is to be done."""
    name, _, hours = duty.partition(":")
    kind = _OFFICE.get(name)
    if kind is None or (name == "review_sampled" and not _is_drawn(entry.id)):
        return None
    notice = _notice(entry, "privacy_officer", entry.patient)
    facts = notice.facts | {"duty": name}
    if name == "review" and hours.isdecimal():
        facts["before"] = render_instant(entry.moment + int(hours) * HOUR)
    return replace(notice, kind=kind, key=notice_key(entry.id, duty), facts=facts)


def _is_drawn(entry: str) -> bool:
    """Draw for a sampled review: by the id alone, so that nobody can choose, and the same each time."""
    return int.from_bytes(sha256(b"review " + entry.encode()).digest()[:4], "big") % SAMPLED_ONE_IN == 0


def _provision(entry: Journaled) -> str:
    """Return the provision of Code 273(4) that a basis names, ``H273.4.3`` for ``kz273_4_3``."""
    return (entry.basis or "").replace("kz", "H").replace("_", ".")


def _key(entry: str, kind: str, audience: Audience, patient: str | None, recipient: str | None = None) -> str:
    return notice_key(entry, kind, audience, patient or "", recipient or "")


def _notice(
    entry: Journaled, audience: Audience, patient: str | None, recipient: str | None = None,
    wait: Wait = AT_ONCE, skipped: str | None = None,
) -> Notice:  # fmt: skip
    kind = _KINDS.get(entry.action or "", "use")
    key = _key(entry.id, kind, audience, patient, recipient)
    said = {
        "at": entry.at, "action": entry.action, "by": entry.subject, "role": " ".join(entry.roles or ()),
        "basis": entry.basis, "law": " ".join(entry.law),
    }  # fmt: skip
    facts = {name: value for name, value in said.items() if value}
    due = max(entry.moment, wait.until or 0)
    return Notice(
        key, entry.id, kind, audience, patient, recipient, entry.org, facts, due, wait.until, wait.ground, skipped
    )
