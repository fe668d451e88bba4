"""
What becomes of a delegation, a power, a request or a session in each use case: functions of values.

They run inside the transaction that keeps what they return.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from ruqsat.core.block import BLOCK
from ruqsat.core.break_glass import already_had_a_hand
from ruqsat.core.consent_items import Failing, at, needed
from ruqsat.core.consent_record import Step
from ruqsat.core.instant import HOUR, Instant, parse_instant, render_instant
from ruqsat.core.patient_status import STATUS
from ruqsat.core.projection import project_representation
from ruqsat.core.registered import GRANT, Body, Kind, RecordRow, moved
from ruqsat.core.registered_items import CHECKS, DELEGATED_ACTIONS, EMERGENCY_SET, Scene
from ruqsat.core.world import RepresentationRecord
from ruqsat.service.consent_changes import Caller, RegistryError, told_items
from ruqsat.service.record_seal import RecordSeal

_MINUTE: Instant = HOUR // 60
_MOMENTS = frozenset({"start", "end", "revoked_at", "deferred_until", "review_due"})
_FIRST = {"representation": "recorded", "request": "received", "grant": "open"}


def describe(row: RecordRow, review_within_hours: int) -> dict[str, Any]:
    """Return a record without what names people."""
    said = {
        name: render_instant(value) if name in _MOMENTS and value is not None else value
        for name, value in row.body.said.items()
    }
    due = {}
    if row.kind == GRANT.name and "review_due" not in said:
        due = {"review_due": render_instant(row.created_at + review_within_hours * HOUR)}
    return said | due | {
        "id": row.id,

        "patient": row.patient,
        "version": row.version,
        "status": row.status,
        "items": told_items(row.body.items),
        "history": [{"event": s.event, "at": render_instant(s.at), "by": s.by} for s in row.body.steps],
        "created_at": render_instant(row.created_at),
        "updated_at": render_instant(row.updated_at),
    }  # fmt: skip


def answer_of(row: RecordRow) -> bytes:
    """Return what the caller of a change is told."""
    told = {
        "id": row.id, "patient": row.patient, "version": row.version, "status": row.status,
        "items": told_items(row.body.items),
    }  # fmt: skip
    return msgspec.json.encode(told)


def person_named(kind: Kind, data: Mapping[str, Any]) -> str | None:
    """Return the subject of the directory that a document lets act, None where it names none."""
    found: str | None = at(data, "delegate.subject" if kind.name == "delegation" else "subject")
    return found


def refuse_own(caller: Caller, *named: str | None) -> None:
    """
    Let nobody write down or verify what lets the caller act: whoever gains by it, and whoever says so, are two.

    Raises:
        RegistryError: one of those *named* is the caller.
    """
    if caller.subject in named:
        raise RegistryError("not-yours", "what lets you act yourself is written down and verified by somebody else")


def new_record(
    kind: Kind, new_id: str, data: Mapping[str, Any], scene: Scene, seal: RecordSeal, *, strict: bool
) -> RecordRow:
    """
    Return the first version of a record: invalid, with its list, if it fails an item.

    A delegation that its consent names is known by the id that the consent gives it.

    Raises:
        RegistryError: it fails an item, and the caller would rather have nothing kept.
    """
    items = tuple(CHECKS[kind.name](data, scene))
    if items and strict:
        raise RegistryError("record-incomplete", "the record fails what the law or the operator asks for", items)
    id_ = data["id"] if kind.name == "delegation" and not items and not data["parent"] else new_id
    # Of an invalid record nothing is repeated in the open: a word that no list knows may be anything.
    said = {} if items else _said(kind, id_, data, scene)
    patient, content = scene.facts.id, {"document": data, "verification": [], "review": []}
    return RecordRow(
        kind=kind.name,
        id=id_,
        patient=patient,
        version=1,
        status="invalid" if items else _first_status(kind, data),
        org=scene.org,
        created_at=scene.now,
        updated_at=scene.now,
        body=Body(said, items, (Step("create", scene.now, scene.by),)),
        sealed=seal.close(msgspec.json.encode(content), patient, _sealed_as(kind.name, id_), 1),
        sealed_at=1,
    )


def _first_status(kind: Kind, data: Mapping[str, Any]) -> str:
    if kind.name == "delegation":
        return "active" if person_named(kind, data) else "draft"
    return _FIRST[kind.name]


def _said(kind: Kind, id_: str, data: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    if kind.name == "delegation":
        return _delegation(id_, data, scene)
    if kind.name == "representation":
        return _representation(id_, data, scene)
    if kind.name == "request":
        return _request(id_, data)
    return _session(id_, data, scene)


def _delegation(id_: str, data: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    same = ("consent", "categories", "purposes", "labels", "parent", "may_redelegate")
    return {name: data[name] for name in same} | {
        "id": id_,
        "delegate": at(data, "delegate.subject"),
        "actions": data["actions"] or list(DELEGATED_ACTIONS),
        "start": _moment(data["start"]),
        "end": _moment(data["end"]),
        "delegator": scene.by if data["parent"] else scene.facts.id,
        "by": "other" if data["parent"] else "patient",
    }


def _representation(id_: str, data: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    papers, offset = data["representative"]["authority"], scene.switches.home_utc_offset_hours
    record = RepresentationRecord(
        subject=data["subject"], patient=scene.facts.id, kind=papers["kind"], verified=False,
        valid_from=_midnight(papers["issued_on"], offset), valid_to=_midnight(papers["valid_to"], offset),
    )  # fmt: skip
    said: dict[str, Any] = msgspec.to_builtins(project_representation(id_, record))
    return said


def _request(id_: str, data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": id_,
        "authority": data["authority"]["kind"],
        "paragraph": data["paragraph"],
        "categories": data["categories"],
        "start": _moment(data["start"]),
        "end": _moment(data["end"]),
        "deferred_until": _moment(at(data, "deferred_notice.until")),
    }


def _session(id_: str, data: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    longest = scene.switches.btg.max_hours * HOUR
    wanted = longest if data["minutes"] is None else data["minutes"] * _MINUTE
    return {
        "id": id_,
        "subject": scene.by,
        "start": scene.now,
        "end": scene.now + min(wanted, longest),
        "reason_code": data["reason_code"],
        "reason_length": len(data["reason_text"].strip()),
        "mfa": scene.mfa,
        "categories": data["scope"] or EMERGENCY_SET,
        "review_due": scene.now + scene.switches.btg.review_within_hours * HOUR,
    }


def _moment(text: str | None) -> Instant | None:
    return None if text is None else parse_instant(text)


def _midnight(day: str | None, offset_hours: int) -> str | None:
    return None if day is None else render_instant(parse_instant(f"{day}T00:00:00+00:00") - offset_hours * HOUR)


def _sealed_as(kind: str, id_: str) -> str:
    return f"{kind}|{id_}"


def unsealed(row: RecordRow, seal: RecordSeal) -> dict[str, Any]:
    """
    Return the document as it was handed in, and what was verified and found since.

    Raises:
        RecordUnreadableError: the sealed part does not open.
    """
    box = seal.open(row.sealed, row.patient, _sealed_as(row.kind, row.id), row.sealed_at)
    content: dict[str, Any] = msgspec.json.decode(box)
    return content


def resealed(row: RecordRow, seal: RecordSeal) -> RecordRow | None:
    """
    Return a record sealed under the newest key, the same in all else; None if it is already, or seals nothing.

    Raises:
        RecordUnreadableError: the sealed part opens under no key.
    """
    if row.kind in (BLOCK, STATUS) or seal.is_current(row.sealed):
        return None  # of a block or a statement nothing names anybody
    content = msgspec.json.encode(unsealed(row, seal))
    box = seal.close(content, row.patient, _sealed_as(row.kind, row.id), row.sealed_at)
    return msgspec.structs.replace(row, sealed=box)


def verified(
    kind: Kind, row: RecordRow, check: Mapping[str, Any], names_owner: bool, caller: Caller, now: Instant,
    seal: RecordSeal,
) -> RecordRow:  # fmt: skip
    """
    Return a record with this check of it: what held puts it in force, what did not rejects it.

    Raises:
        RegistryError: the check does not say how, by which document, or who the person is.
        RecordUnreadableError: the sealed part does not open.
    """
    item = "R13" if kind.name == "request" else "R11"
    findings = [*needed(check, item, "", "method", "document_ref")]
    said: dict[str, Any] = {"verified": True}
    if kind.name == "delegation":
        said = {"delegate": check["subject"]}
        if check["ok"]:
            findings += needed(check, "R12", "", "subject")
        if names_owner:
            findings.append(Failing("/subject", "R12", "same_person"))
    if findings:
        raise RegistryError("verification-incomplete", "the verification lacks something", tuple(findings))
    changed = moved(kind, row, "verify" if check["ok"] else "reject", caller.subject, now, said if check["ok"] else {})
    return _resealed(changed, "verification", check, seal)


def reviewed(row: RecordRow, review: Mapping[str, Any], caller: Caller, now: Instant, seal: RecordSeal) -> RecordRow:
    """
    Return a session with what a review of it found.

    Raises:
        RegistryError: it still runs, or the reviewer has had a hand in it: whoever judges it is another each time.
        RecordUnreadableError: the sealed part does not open.
    """
    if already_had_a_hand(row, caller.subject):
        raise RegistryError("not-yours", "a session is reviewed by somebody who has had no hand in it before")
    if row.status == "open" and now < row.body.said["end"]:
        raise RegistryError("still-open", "the session still runs: it is closed or revoked first", (), ("revoke",))
    changed = moved(GRANT, row, review["verdict"], caller.subject, now, {"verdict": review["verdict"]})
    return _resealed(changed, "review", review, seal)


def reinstated(row: RecordRow, note: str, caller: Caller, now: Instant, seal: RecordSeal) -> RecordRow:
    """
    Return a session with the reason why its clinician may break the glass again.

    Raises:
        RecordUnreadableError: the sealed part does not open.
    """
    body = msgspec.structs.replace(row.body, steps=(*row.body.steps, Step("reinstate", now, caller.subject)))
    changed = msgspec.structs.replace(row, version=row.version + 1, updated_at=now, body=body)
    return _resealed(changed, "review", {"reinstate": note}, seal)


def _resealed(row: RecordRow, part: str, added: Mapping[str, Any], seal: RecordSeal) -> RecordRow:
    content = unsealed(row, seal)
    content[part].append(dict(added))
    box = seal.close(msgspec.json.encode(content), row.patient, _sealed_as(row.kind, row.id), row.version)
    return msgspec.structs.replace(row, sealed=box, sealed_at=row.version)


def refuse_stranger(kind: Kind, said: Mapping[str, Any], event: str, caller: Caller) -> None:
    """
    Refuse an end that is not the caller's to bring about, of a session or of a representative's power.

    A session is closed by its own clinician, and revoked or reviewed by another.  A power is ended by a desk, by the
    representative whose own it is, and a power of attorney by its giver, too.

    The policy has decided already who may touch such records at all; *said* is what decisions may see of this one.

    Raises:
        RegistryError: it is not the caller's.
    """
    own = said.get("subject") == caller.subject
    if kind is GRANT and own != (event == "close"):
        raise RegistryError("not-yours", "a session is closed by its own clinician, revoked and reviewed by another")
    if kind.name == "representation" and not caller.desk:
        mine = own if caller.basis == "legal_rep" else said.get("kind") == "poa"
        if not mine:
            raise RegistryError("not-yours", "only a desk ends this power; a power of attorney ends by its giver, too")
