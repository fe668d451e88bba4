"""
What becomes of a proceeding in each use case: functions of values.

They run inside the transaction that keeps what they return.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import msgspec

from ruqsat.core import block
from ruqsat.core.block import block_id
from ruqsat.core.care import CareRefusedError
from ruqsat.core.consent_items import Failing
from ruqsat.core.consent_record import Step
from ruqsat.core.facts import PatientFacts
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.proceeding import (
    NO_TERM,
    Hour,
    Opening,
    ProceedingRow,
    ProceedingStep,
    act_of,
    advanced,
    failing_move,
    failing_opening,
    first_row,
    has_lapsed,
    is_overdue,
)
from ruqsat.core.proceeding_kinds import APPLICANT, OFFICE, PROCEEDING_KINDS, RECEIVED
from ruqsat.core.registered import Body, RecordRow
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.consent_changes import OWN_BASES, Caller, RegistryError
from ruqsat.service.record_seal import RecordSeal

OPEN_WORDS = ("channel", "form", "records", "consent", "categories", "purposes", "decision", "text_version")
"""What an opening says in the open; all else of it is sealed."""

OPEN_OF_MOVE = ("ground", "consent")
PLACES = (*OPEN_OF_MOVE, "records")
PERSONAL = "proceeding"


def opened(
    id_: str, data: Mapping[str, Any], caller: Caller, org: str | None, hour: Hour, seal: RecordSeal
) -> ProceedingRow:
    """
    Return the first version of a proceeding.

    Raises:
        RegistryError: it lacks what its kind asks for; a free form lacks nothing (order §17).
    """
    kind = PROCEEDING_KINDS[data["kind"]]
    findings = failing_opening(kind, data, hour)
    if caller.basis in OWN_BASES and data["received_at"] is not None:
        findings += (Failing("/received_at", kind.law[0], "not_allowed"),)  # what is handed in here came in now
    if findings:
        raise RegistryError("record-incomplete", "the opening lacks what the law asks for", findings)
    said = {name: data[name] for name in OPEN_WORDS if data[name]}
    said["by"] = APPLICANT if caller.basis in OWN_BASES else OFFICE
    personal = {name: value for name, value in data.items() if name not in OPEN_WORDS and value not in (None, [])}
    received = hour.now if data["received_at"] is None else parse_instant(data["received_at"])
    stated = None if data["due_on"] is None else date.fromisoformat(data["due_on"])
    box = close(seal, {"opened": personal, "said": []}, data["patient"], id_, 1)
    opening = Opening(id_, kind, data["patient"], org, received, said, caller.subject, stated, box)
    return first_row(opening, hour)


def moved(
    row: ProceedingRow, event: str, said: Mapping[str, Any], caller: Caller, hour: Hour, seal: RecordSeal
) -> ProceedingRow:
    """
    Return the next version of a proceeding.

    Raises:
        RegistryError: the event lacks what it needs, its ground is not on the closed list, or takes another person.
        RecordUnreadableError: the sealed part does not open.
    """
    kind = PROCEEDING_KINDS[row.kind]
    said = {**said, "records": records_of(row, said)} if event == "block" else said
    findings = failing_move(kind, event, said)
    if findings:
        raise RegistryError("record-incomplete", "the event lacks what the law asks for", findings)
    before = kind.moves[event].not_after
    if before is not None and any(step.event == before and step.by == caller.subject for step in row.body.steps):
        raise RegistryError("second-person-needed", "what cannot be undone is done by another person than confirmed it")
    in_the_open = {name: said[name] for name in OPEN_OF_MOVE if said.get(name)}
    if event == "block":
        in_the_open["records"] = said["records"]
    if event == "destroy":
        in_the_open["act"] = act_of(row, caller.subject, hour.now, said["method"])
    after = advanced(kind, row, event, caller.subject, hour, in_the_open)
    if event == "destroy":
        # The act is kept, what was handed in is not: nobody is named in it any more.
        return msgspec.structs.replace(after, sealed=b"", sealed_at=after.version)
    content = unsealed(row, seal)
    personal = {name: value for name, value in said.items() if name not in PLACES and value not in (None, [])}
    content["said"].append({"event": event, "at": render_instant(hour.now), **personal})
    box = close(seal, content, row.patient, row.id, after.version)
    return msgspec.structs.replace(after, sealed=box, sealed_at=after.version)


def refuse_unknown_sources(sources: list[str], vocabulary: Vocabulary) -> None:
    """
    Let data come from the closed list of order §7 alone.

    Raises:
        RegistryError: a source is not on it.
    """
    found = [
        Failing(f"/sources/{i}", "R18", "not_listed")
        for i, name in enumerate(sources)
        if name not in vocabulary.sources
    ]
    if found:
        raise RegistryError("record-incomplete", "the event lacks what the law asks for", tuple(found))


def assigned(row: ProceedingRow, owner: str | None, caller: Caller, hour: Hour) -> ProceedingRow:
    """Return the next version of a proceeding that this subject takes care of from now on; no term moves."""
    step = ProceedingStep("assign", hour.now, caller.subject)
    body = msgspec.structs.replace(row.body, steps=(*row.body.steps, step))
    return msgspec.structs.replace(row, version=row.version + 1, owner=owner, updated_at=hour.now, body=body)


def current(row: ProceedingRow | None, version: int, event: str, side: str, hour: Hour) -> ProceedingRow:
    """
    Return a proceeding as it is now, if this side may let *event* happen to it.

    Raises:
        RegistryError: it is gone, of another version, over, or in a status that knows no such event.
    """
    if row is None:
        raise RegistryError("no-full-record", "there is no proceeding by this id")
    if row.version != version:
        raise RegistryError("version-conflict", "the proceeding was changed since it was read: read it again")
    kind = PROCEEDING_KINDS[row.kind]
    allowed = () if has_lapsed(row, hour.today) else kind.events(row.status, side)
    if event != "assign" and event not in allowed:
        raise RegistryError("wrong-status", "this cannot happen to a proceeding of this status", allowed=allowed)
    return row


def blocks_after(
    act: str, row: ProceedingRow, facts: PatientFacts, rows: Mapping[str, RecordRow], by: str, now: Instant
) -> tuple[tuple[RecordRow, ...], PatientFacts]:
    """
    Return the blocks of the records that a demand names, and what decisions see of them, after *act*.

    A record that another demand holds as well stays blocked when this one lets go of it.

    Raises:
        RegistryError: it cannot happen to a record any more, or not yet.
    """
    kept = []
    for each in row.body.said["records"]:
        record, before = each["id"], rows.get(block_id(facts.id, each["id"]))
        if act == "lift":
            if before is None or before.status != "blocked":
                continue
            if holders(before) - {row.id}:
                kept.append(_let_go(before, row.id, by, now))
                continue
        said = {"ground": "order_24", "document_ref": row.id}
        try:
            after = block.moved(before, facts, record, act, said, by, now)
        except CareRefusedError as error:
            raise RegistryError(error.code, str(error)) from None
        kept.append(after)
        facts = block.seen(facts, record, facts.class_of_record(record) or each["class"], after.status)
    return tuple(kept), facts


def holders(row: RecordRow) -> set[str]:
    """Return who holds a block: the documents that asked for it since it was lifted last."""
    held: set[str] = set()
    for entry in row.body.said["grounds"]:
        name = str(entry.get("document_ref") or entry["at"])
        if entry["event"] == "block":
            held.add(name)
        elif entry["event"] == "let_go":
            held.discard(name)
        else:
            held.clear()
    return held


def _let_go(row: RecordRow, demand: str, by: str, now: Instant) -> RecordRow:
    entry = {"event": "let_go", "document_ref": demand, "at": render_instant(now), "by": by}
    said = {**row.body.said, "grounds": [*row.body.said["grounds"], entry]}
    body = Body(said, (), (*row.body.steps, Step("let_go", now, by)))
    return msgspec.structs.replace(row, version=row.version + 1, updated_at=now, body=body)


def records_of(row: ProceedingRow, said: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the records that a demand is about: those named as it is blocked, or else those of the demand itself."""
    named: list[dict[str, str]] = (said.get("records") if row.status == RECEIVED else None) or row.body.said.get(
        "records", []
    )
    return named


def describe(row: ProceedingRow, hour: Hour, side: str) -> dict[str, Any]:
    """Return a proceeding without what names people."""
    kind, lapsed = PROCEEDING_KINDS[row.kind], has_lapsed(row, hour.today)
    days = {
        name: None if value == NO_TERM else value
        for name, value in (("due", row.due), ("warn_on", row.warn_on), ("outer_due", row.outer_due))
    }
    return row.body.said | days | {
        "id": row.id,
        "kind": row.kind,
        "law": list(kind.law),
        "patient": row.patient,
        "org": row.org,
        "owner": row.owner,
        "version": row.version,
        "status": "lapsed" if lapsed else row.status,
        "open": row.is_open and not lapsed,
        "overdue": is_overdue(row, hour.today),
        "received_on": row.received_on,
        "calendar": row.calendar or None,
        "allowed": [] if lapsed else list(kind.events(row.status, side)),
        "history": [_told_step(step) for step in row.body.steps],
        "created_at": render_instant(row.created_at),
        "updated_at": render_instant(row.updated_at),
    }  # fmt: skip


def _told_step(step: ProceedingStep) -> dict[str, Any]:
    told: dict[str, Any] = {"event": step.event, "at": render_instant(step.at), "by": step.by}
    return told if step.due is None else told | {"due": step.due, "late": step.late, "calendar": step.calendar}


def answer_of(row: ProceedingRow) -> bytes:
    """Return what the caller of a change is told."""
    told = {
        "id": row.id, "patient": row.patient, "version": row.version, "status": row.status,
        "due": None if row.due == NO_TERM else row.due, "calendar": row.calendar or None,
    }  # fmt: skip
    return msgspec.json.encode(told)


def close(seal: RecordSeal, content: Any, patient: str | None, id_: str, version: int) -> bytes:
    """Return the sealed part of a proceeding."""
    return seal.close(msgspec.json.encode(content), patient or "", f"{PERSONAL}|{id_}", version)


def unsealed(row: ProceedingRow, seal: RecordSeal) -> dict[str, Any]:
    """
    Return what was handed in and what was said since; nothing of what the clock began or a destruction left.

    Raises:
        RecordUnreadableError: the sealed part does not open.
    """
    if not row.sealed:
        return {"opened": {}, "said": []}
    box = seal.open(row.sealed, row.patient or "", f"{PERSONAL}|{row.id}", row.sealed_at)
    content: dict[str, Any] = msgspec.json.decode(box)
    return content


def resealed(row: ProceedingRow, seal: RecordSeal) -> ProceedingRow | None:
    """
    Return a proceeding sealed under the newest key, the same in all else; None if it is already, or seals nothing.

    Raises:
        RecordUnreadableError: the sealed part opens under no key.
    """
    if not row.sealed or seal.is_current(row.sealed):
        return None
    box = close(seal, unsealed(row, seal), row.patient, row.id, row.sealed_at)
    return msgspec.structs.replace(row, sealed=box)
