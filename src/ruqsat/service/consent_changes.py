"""
What becomes of a record in each use case: functions of the record, the caller and the moment.

They run inside the transaction that keeps what they return.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.consent_items import Catalogue, Failing, at, failing_items, failing_verification
from ruqsat.core.consent_record import (
    MOST_SAID,
    MOST_TOGETHER,
    TRANSITIONS,
    VERIFY,
    Change,
    ConsentRow,
    Receipt,
    RecordBody,
    Step,
    first_status,
    has_room,
    may_be_adolescent,
    read_document,
    thread_of,
    with_verification,
)
from ruqsat.core.consent_signature import (
    NOTHING_STATED,
    Examined,
    attested,
    failing_signature,
    failing_signatures,
    with_certificate,
    with_findings,
)
from ruqsat.core.facts import Consent, PatientFacts
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.projection import formal_defect
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import RequestError
from ruqsat.service.record_seal import RecordSeal

OWN_BASES = ("self", "legal_rep")
WHOLE_BASES = (*OWN_BASES, "operator_duty")
"""On these grounds a caller reads what names people; on any other, what the document lets happen."""


class RegistryError(RequestError):
    """A call that the registry refuses; ``findings`` say where, ``allowed`` what else may be done."""

    def __init__(
        self, code: str, detail: str, findings: tuple[Failing, ...] = (), allowed: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(detail)
        self.code, self.findings, self.allowed = code, findings, allowed


class Caller(Struct, frozen=True):
    """Who acts, on which ground; ``desk`` is the registration desk of an organisation."""

    subject: str
    desk: bool = False
    basis: str | None = None


class Call(Struct, frozen=True):
    """What makes two calls the same: the key that the caller chose, and the bytes that it sent."""

    key: str | None = None
    content: bytes = b""
    strict: bool = False


class Circumstances(Struct, frozen=True):
    """Who changes a record, when, under which words and switches, the seal, and what was found of signatures."""

    caller: Caller
    now: Instant
    catalogue: Catalogue
    switches: Switches
    seal: RecordSeal
    examined: Examined = Examined()


def describe(row: ConsentRow) -> dict[str, Any]:
    """Return a record without what names people."""
    record = row.body.record
    return {
        "consent": row.id,
        "patient": row.patient,
        "version": row.version,
        "status": row.status,
        "effect": row.effect,
        "kind": record.kind,
        "thread": row.thread,
        "operator": row.org,
        "granted_at": record.granted_at,
        "start": record.start,
        "end": record.end,
        "purposes": record.purposes,
        "categories": record.categories,
        "actions": record.actions,
        "labels": record.labels,
        "items": told_items(row.body.items),
        "history": [{"event": s.event, "at": render_instant(s.at), "by": s.by} for s in row.body.steps],
        "superseded_by": row.body.superseded_by,
        "verified": [
            {"part": a.part, "by": a.by, "subject": a.subject, "at": render_instant(a.at)} for a in row.body.attested
        ],
        "created_at": render_instant(row.created_at),
        "updated_at": render_instant(row.updated_at),
    }


def told_items(items: tuple[Failing, ...]) -> list[dict[str, str]]:
    """Return failing items as callers read them."""
    return [
        {"path": each.path, "item": each.item, "code": each.code, "law": each.law, "do": each.fix} for each in items
    ]


def answer_of(row: ConsentRow) -> bytes:
    """Return what the caller of a change is told."""
    told = {
        "consent": row.id, "patient": row.patient, "version": row.version, "status": row.status,
        "items": told_items(row.body.items),
    }  # fmt: skip
    return msgspec.json.encode(told)


def new_id(now: Instant) -> str:
    """Return an id for a new record: ids sort by when they were made, and cannot be guessed."""
    return f"{now // 1000:012x}{secrets.token_hex(12)}"


def refuse_other_giver(caller: Caller, data: Mapping[str, Any]) -> None:
    """
    Refuse a document in another's name, and any verification, of a caller who acts on the own right.

    A desk writes down and verifies what others gave, but not what it gives itself (``refuse_own_giver``).

    Raises:
        RegistryError: the document says otherwise.
    """
    if caller.desk:
        refuse_own_giver(caller, data)
        return
    expected = "legal_rep" if caller.basis == "legal_rep" else "patient"
    stated, id_ = at(data, "given_by.type"), at(data, "given_by.id")
    if stated is not None and (stated != expected or (expected == "legal_rep" and id_ != caller.subject)):
        raise RegistryError("not-the-giver", "this document says that somebody else than the caller gives it")
    if data["verification"] is not None:
        raise RegistryError("not-yours-to-verify", "nobody verifies the own document: leave `verification` out")


def refuse_own_giver(caller: Caller, data: Mapping[str, Any]) -> None:
    """
    Refuse that a desk writes down or verifies what its own registrar gives as a representative (order §11).

    Raises:
        RegistryError: the caller is the representative.
    """
    if at(data, "given_by.type") == "legal_rep" and at(data, "given_by.id") == caller.subject:
        raise RegistryError("not-yours-to-verify", "what you give as a representative is verified by somebody else")


def refuse_parent(by: str | None, stands: str, facts: PatientFacts, now: Instant, switches: Switches) -> None:
    """
    Let no parent lift what an adolescent refused: where the two disagree the refusal wins (Code 78(2), reading A-2).

    Args:
        by: On which ground somebody acts, or who gives the newer document.
        stands: Id or thread of what would be lifted.

    Raises:
        RegistryError: this is it.
    """
    if by != "legal_rep" or not may_be_adolescent(facts.birth_date, now, switches):
        return
    touched = (each for each in facts.consents if stands in (each.id, each.thread) and each.status == "active")
    if any(each.root.effect == "deny" and each.given_by == "patient" for each in touched):
        raise RegistryError("refusal-stands", "what an adolescent refused is lifted by the adolescent alone")


def refuse_without_room(facts: PatientFacts, id_: str) -> None:
    """
    Let no document make a patient's facts more than decisions can read in time.

    Raises:
        RegistryError: the document of this id does.
    """
    if not has_room(facts, id_):
        raise RegistryError(
            "too-much-said",
            f"decisions read {MOST_SAID} bytes of a document at most, and {MOST_TOGETHER} of all that a patient has: "
            "say it in fewer exceptions and words; to a refusal without exceptions the first bound alone applies",
        )


def repeated(receipt: Receipt, fingerprint: bytes) -> Change:
    """
    Return the answer that was given before to the same call.

    Raises:
        RegistryError: the key came with another content before.
    """
    if receipt.fingerprint != fingerprint:
        raise RegistryError("idempotency-key-reused", "this idempotency key came with another content before")
    return Change(receipt.answer)


def new_row(id_: str, data: Mapping[str, Any], strict: bool, about: Circumstances) -> ConsentRow:
    """
    Return the first version of a document handed in.

    Raises:
        RegistryError: *strict*, and it fails items; or the verification that came along lacks something.
    """
    data = with_certificate(data, about.examined.signature)
    items = failing_items(data, about.now, about.catalogue) + failing_signature(data, about.examined.signature)
    patient = data["patient"]
    if strict and items:
        raise RegistryError("consent-incomplete", "the consent fails items that the law demands", items)
    content = {"document": {**data, "verification": None}, "verification": {}}
    row = ConsentRow(
        id=id_,
        patient=patient,
        version=1,
        status=first_status(data, items, about.now, about.catalogue),
        effect=data["effect"],
        thread=thread_of(id_, data),
        org=at(data, "operator.org"),
        owner_tag=next(iter(owner_tags(data, about.seal)), None),
        created_at=about.now,
        updated_at=about.now,
        body=RecordBody(
            read_document(id_, data, items, about.now), items, (Step("create", about.now, about.caller.subject),)
        ),
        sealed=about.seal.close(msgspec.json.encode(content), patient, id_, 1),
        sealed_at=1,
    )
    if row.status != "draft" or (data["verification"] is None and about.examined.signature is None):
        return row
    # Verified as it is written down: still the first version.
    return verified(row, data["verification"] or NOTHING_STATED, about, version=1)


def owner_tags(data: Mapping[str, Any], seal: RecordSeal) -> tuple[bytes, ...]:
    """Return the tags of the owner's identification number under each key, the newest first; none for no number."""
    iin = at(data, "owner.iin")
    return seal.tags("owner", iin.encode()) if iin else ()


def resealed(row: ConsentRow, seal: RecordSeal) -> ConsentRow | None:
    """
    Return a record sealed and tagged under the newest key, the same in all else; None if it is already.

    Raises:
        RecordUnreadableError: the sealed part opens under no key.
    """
    if seal.is_current(row.sealed):
        return None
    content = unsealed(row, seal)
    return msgspec.structs.replace(
        row,
        owner_tag=next(iter(owner_tags(content["document"], seal)), None),
        sealed=seal.close(msgspec.json.encode(content), row.patient, row.id, row.sealed_at),
    )


def unsealed(row: ConsentRow, seal: RecordSeal) -> dict[str, Any]:
    """
    Return the whole document as it was handed in, and what was verified.

    Raises:
        RecordUnreadableError: the sealed part does not open.
    """
    content: dict[str, Any] = msgspec.json.decode(seal.open(row.sealed, row.patient, row.id, row.sealed_at))
    return content


def verified(
    row: ConsentRow, verification: Mapping[str, Any], about: Circumstances, version: int | None = None
) -> ConsentRow:
    """
    Return a draft with these things verified.

    It is in force once no formal defect is left, and a desk has had its hands on it: a
    signature proves a person, not which patient that is.  One finding against it rejects it.

    Raises:
        RegistryError: the verification lacks something.
        RecordUnreadableError: the sealed part does not open.
    """
    content = unsealed(row, about.seal)
    wrong = failing_signatures(content["document"], verification, about.examined)
    verification = with_findings(verification, about.examined, wrong)
    if not wrong and (findings := failing_verification(content["document"], verification, about.now)):
        raise RegistryError("verification-incomplete", "the verification lacks something", findings)
    stated = {name: part for name, part in verification.items() if part is not None}
    content["verification"] |= stated
    record = row.body.record if wrong else with_verification(row.body.record, content["verification"])
    against = wrong or any(part.get("ok") is False for part in stated.values())
    whole = about.caller.desk and formal_defect(record, about.switches) is None
    event = "reject" if against else "activate" if whole else "confirm"
    changed = moved(row, event, about.caller, about.now)
    told = () if against else attested(stated, about.examined, about.caller.subject, about.now)
    body = msgspec.structs.replace(
        changed.body, record=record, items=changed.body.items + wrong, attested=changed.body.attested + told
    )
    version = changed.version if version is None else version
    return msgspec.structs.replace(
        changed,
        version=version,
        body=body,
        sealed=about.seal.close(msgspec.json.encode(content), row.patient, row.id, version),
        sealed_at=version,
    )


class _Versioned(Protocol):
    """A row of any registry."""

    @property
    def version(self) -> int: ...

    @property
    def status(self) -> Any: ...


Row = TypeVar("Row", bound=_Versioned)


def current_row(
    rows: Mapping[str, Row], id_: str, version: int | None, event: str, events: Callable[[Any], tuple[str, ...]]
) -> Row:
    """
    Return the record as it is now, if *event* is one of the *events* of its status, in the words of callers.

    Raises:
        RegistryError: it is gone, of another version than *version*, or in a status that knows no such event.
    """
    row = rows.get(id_)
    if row is None:
        raise RegistryError("no-full-record", "there is no full record by this id")
    if version is not None and row.version != version:
        raise RegistryError("version-conflict", "the record was changed since it was read: read it again")
    allowed = events(row.status)
    if event not in allowed:
        raise RegistryError("wrong-status", "this cannot happen to a record of this status", allowed=allowed)
    return row


def moved(row: ConsentRow, event: str, caller: Caller, now: Instant) -> ConsentRow:
    """Return the next version of a record, in the status that *event* leads to."""
    status = TRANSITIONS[event][row.status]
    body = row.body
    if status == "revoked":
        body = msgspec.structs.replace(
            body, record=msgspec.structs.replace(body.record, revoked_at=render_instant(now))
        )
    told = "verify" if event in VERIFY else event
    body = msgspec.structs.replace(body, steps=(*body.steps, Step(told, now, caller.subject)))
    return msgspec.structs.replace(row, version=row.version + 1, status=status, updated_at=now, body=body)


def in_place_of(old: ConsentRow, new: ConsentRow, about: Circumstances) -> tuple[ConsentRow, ConsentRow]:
    """
    Return the older record superseded, and the newer one in its thread.

    Raises:
        RegistryError: they are of different patients or threads, the newer is not in force, or not newer.
    """
    if old.patient != new.patient or new.thread not in (old.thread, f"{new.patient}|restriction|{new.id}"):
        raise RegistryError("other-thread", "the newer document is of another patient, operator or kind")
    if new.thread != old.thread and not old.thread.startswith(f"{old.patient}|restriction|"):
        raise RegistryError("other-thread", "the newer document is of another patient, operator or kind")
    if new.status != "active":
        raise RegistryError("successor-not-in-force", "the newer document is not in force", new.body.items)
    if parse_instant(new.body.record.granted_at) <= parse_instant(old.body.record.granted_at):
        raise RegistryError("successor-not-newer", "the newer document was given before the one that it replaces")
    replaced = moved(old, "supersede", about.caller, about.now)
    replaced = msgspec.structs.replace(replaced, body=msgspec.structs.replace(replaced.body, superseded_by=new.id))
    record = msgspec.structs.replace(new.body.record, thread=old.thread)
    body = msgspec.structs.replace(new.body, record=record)
    return replaced, msgspec.structs.replace(new, thread=old.thread, body=body)


def withdrawn(facts: PatientFacts, consent: str, now: Instant) -> PatientFacts:
    """Return the facts with one document withdrawn; a withdrawal that stands already keeps its instant."""

    def changed(document: Consent) -> Consent:
        if document.id != consent or document.status == "revoked":
            return document
        return msgspec.structs.replace(document, status="revoked", revoked_at=now)

    return msgspec.structs.replace(facts, consents=tuple(changed(document) for document in facts.consents))
