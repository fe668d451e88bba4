"""
A registered consent or refusal as a value: its states, its history, and what decisions see of it.

What names a person is no part of these structures: it travels sealed, as bytes
that only the registry can open.
"""

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, Literal

import msgspec
from msgspec import Struct

from ruqsat.core.consent_items import Catalogue, Failing, at, reversed_terms, unknown_words
from ruqsat.core.facts import Consent, PatientFacts
from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.projection import project_consent
from ruqsat.core.representation import birthday
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import ConsentRecord, Giver, Signature

Status = Literal[
    "draft", "active", "invalid", "quarantined", "revoked", "superseded", "rejected", "entered-in-error"
]  # fmt: skip

TRANSITIONS: Mapping[str, Mapping[Status, Status]] = {
    "confirm": {"draft": "draft"},
    "activate": {"draft": "active"},
    "reject": {"draft": "rejected"},
    "withdraw": {
        "draft": "rejected", "invalid": "rejected", "active": "revoked", "quarantined": "revoked", "revoked": "revoked",
    },
    "supersede": {"active": "superseded", "quarantined": "superseded"},
    "enter-in-error": {"draft": "entered-in-error", "invalid": "entered-in-error", "active": "entered-in-error"},
}  # fmt: skip
"""
Which event leads from which status to which.

``draft`` is whole, but nobody has verified it yet; ``invalid`` fails an item of the order
and stays so; ``quarantined`` is a refusal in words that nobody knows, or over before it
begins, which closes everything.  What was withdrawn before it was in force is ``rejected``: it governs nothing.
"""

_encode = msgspec.json.Encoder().encode

MOST_SAID, MOST_TOGETHER = 32 * 1024, 1024 * 1024
"""How many bytes one document may have as decisions read it, and all of a patient's: each decision reads them all."""

VERIFY = frozenset({"confirm", "activate", "reject"})
"""The events that a verification may be; what callers know of them is the one word."""


class Step(Struct, frozen=True, omit_defaults=True):
    """One event of a record's life: what, when, by which subject."""

    event: str
    at: Instant
    by: str


class Attested(Struct, frozen=True, omit_defaults=True):
    """Who found that a part of a document holds: the verifier of signatures, or a subject of the desk."""

    part: Literal["signature", "representative", "entry"]
    by: Literal["verifier", "desk"]
    at: Instant
    subject: str | None = None


class RecordBody(Struct, frozen=True, omit_defaults=True):
    """What a record says without naming anybody."""

    record: ConsentRecord
    items: tuple[Failing, ...] = ()
    steps: tuple[Step, ...] = ()
    superseded_by: str | None = None
    attested: tuple[Attested, ...] = ()


class ConsentRow(Struct, frozen=True):
    """
    One record as it is kept.

    Attributes:
        org: Organisation that the consent is given to, as the directory knows it.
        owner_tag: A keyed tag of the owner's identification number; never the number.
        sealed: The whole document as it was handed in, encrypted.
        sealed_at: The version that ``sealed`` was written at.
    """

    id: str
    patient: str
    version: int
    status: Status
    effect: Literal["permit", "deny"]
    thread: str
    org: str | None
    owner_tag: bytes | None
    created_at: Instant
    updated_at: Instant
    body: RecordBody
    sealed: bytes
    sealed_at: int


class Receipt(Struct, frozen=True):
    """What was answered to a call under an idempotency key, and to which content."""

    key: bytes
    fingerprint: bytes
    answer: bytes
    at: Instant


class Change(Struct, frozen=True):
    """What a use case makes of a patient's records, of consents or others: nothing at all, if there are no rows."""

    answer: bytes
    rows: tuple[Any, ...] = ()
    facts: PatientFacts | None = None
    receipt: Receipt | None = None
    notices: tuple[Any, ...] = ()


def allowed_events(status: Status) -> tuple[str, ...]:
    """
    Return what may happen to a record of this status, in the words of callers.

    Examples:
        >>> allowed_events("draft"), allowed_events("rejected")
        (('enter-in-error', 'verify', 'withdraw'), ())
    """
    events = {event for event, moves in TRANSITIONS.items() if status in moves}
    return tuple(sorted({"verify" if event in VERIFY else event for event in events}))


def read_document(id_: str, data: Mapping[str, Any], items: Iterable[Failing], now: Instant) -> ConsentRecord:
    """
    Return a document handed in as decisions read it, not verified yet.

    A refusal binds on receipt: its date is the receipt's, and it waits for no
    beginning (order §14).  A permit that names nobody is for its operator.
    """
    deny = data["effect"] == "deny"
    org, signed = at(data, "operator.org"), at(data, "signature.at")
    grantees = [{name: each.get(name) for name in ("org", "subject", "role", "group")} for each in data["grantees"]]
    if not grantees and not deny and org:
        grantees = [{"org": org}]
    countries = [each.get("country") for each in data["databases"]]
    return msgspec.convert(
        {
            "patient": data["patient"],
            "status": "draft",
            "effect": data["effect"],
            "thread": thread_of(id_, data),
            "granted_at": render_instant(now) if deny or signed is None else signed,
            "kind": data["kind"],
            "form": data["form"] or "",
            "start": None if deny else data["start"],
            "end": data["end"],
            "grantees": grantees,
            **{name: data[name] for name in _PLAIN},
            "data_period": data["data_period"] or {},
            "cross_border": data["cross_border"] or (),
            "missing": () if deny else sorted({each.item for each in items}),
            "controller_is_state": bool(at(data, "operator.is_state")),
            "state_service_ref": "sealed" if data["state_service_ref"] else None,
            "database_country": next((each for each in countries if each != "KZ"), "KZ") or "",
            "third_party_transfer": data["third_party_transfer"],
            "operator": org,
            "signature": Signature(at(data, "signature.kind") or "none", False),
            "given_by": Giver(
                at(data, "given_by.type") or "patient",
                at(data, "given_by.id") or data["patient"],
                at(data, "given_by.kind"),
            ),
        },
        ConsentRecord,
        strict=False,
    )


_PLAIN = ("purposes", "actions", "categories", "labels", "data", "codes", "conf", "exceptions", "delegations")


def thread_of(id_: str, data: Mapping[str, Any]) -> str:
    """
    Return the thread of a document: patient, operator and kind; a restriction has one of its own.

    Examples:
        >>> thread_of("c1", {"patient": "p1", "kind": "processing", "operator": {"org": "h1"}, "restriction": None})
        'p1|h1|processing'
        >>> thread_of("c1", {"patient": "p1", "kind": "dissent", "operator": None, "restriction": "psy"})
        'p1|restriction|psy'
    """
    org = at(data, "operator.org")
    if data["kind"] == "dissent" or not org:
        return f"{data['patient']}|restriction|{data['restriction'] or id_}"
    return f"{data['patient']}|{org}|{data['kind']}"


def first_status(data: Mapping[str, Any], items: tuple[Failing, ...], now: Instant, catalogue: Catalogue) -> Status:
    """
    Return the status of a document on receipt, before anybody verified it.

    A refusal begins with its receipt, whatever beginning it states.
    """
    if data["effect"] == "deny":
        is_unclear = any(unknown_words(data, catalogue)) or any(reversed_terms(data, now))
        return "quarantined" if is_unclear else "active"
    return "invalid" if items else "draft"


def with_verification(record: ConsentRecord, verification: Mapping[str, Any]) -> ConsentRecord:
    """Return the document as it reads once these things were verified (order §9–11)."""
    signature, entry = verification.get("signature"), verification.get("entry")
    if record.form == "written" and entry:
        changed = msgspec.structs.replace(
            record, entered_in_mis_at=entry["at"], signature=Signature("paper_scanned_org_eds", True)
        )
    elif record.form != "written" and signature and signature["ok"]:
        changed = msgspec.structs.replace(record, signature=Signature(record.signature.kind, True))
    else:
        changed = record
    representative = verification.get("representative")
    verified = bool(representative and representative["ok"])
    return msgspec.structs.replace(changed, given_by=msgspec.structs.replace(changed.given_by, verified=verified))


def project(row: ConsentRow, switches: Switches) -> Consent:
    """Return what decisions see of a record; an invalid one is there, and its defect keeps it from use."""
    record = row.body.record
    status = "active" if row.status == "invalid" else row.status
    items = tuple(sorted({each.item for each in row.body.items})) if row.status == "invalid" else record.missing
    return project_consent(row.id, msgspec.structs.replace(record, status=status, missing=items), switches)


def with_rows(facts: PatientFacts, rows: Iterable[ConsentRow], switches: Switches) -> PatientFacts:
    """Return a patient's facts with these records as they are now."""
    projected = {row.id: project(row, switches) for row in rows}
    kept = tuple(document for document in facts.consents if document.id not in projected)
    return msgspec.structs.replace(facts, consents=kept + tuple(projected.values()))


def has_room(facts: PatientFacts, id_: str) -> bool:
    """
    Tell whether the document of this id may be kept: decisions can read only so much of a patient in time.

    What counts is the document as decisions see it, each exception with all that it inherits, so that a
    short one may be long.  A plain refusal need only be short itself: to leave it out would permit something.
    """
    document = next(each for each in facts.consents if each.id == id_)
    if len(_encode(document)) > MOST_SAID:
        return False
    is_plain = document.root.effect == "deny" and not document.root.exceptions
    return is_plain or len(_encode(facts.consents)) <= MOST_TOGETHER


def may_be_adolescent(born: date | None, now: Instant, switches: Switches) -> bool:
    """Tell whether somebody may be a minor who decides alone in part (Code 78(2)); of unknown age anybody may be."""
    if born is None:
        return True
    offset = switches.home_utc_offset_hours
    of_age = birthday(born, switches.rep_access_ends_at, offset)
    return birthday(born, switches.minor_self_from_age, offset) <= now < of_age
