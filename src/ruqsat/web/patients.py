"""Patients on the control API: their status facts, and what is on record of their care."""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ruqsat.core.break_glass import works_for
from ruqsat.core.care import STATUS_FACTS, shown_to_patient, with_record
from ruqsat.core.facts import PatientFacts, RecordStatus
from ruqsat.core.instant import parse_instant, render_instant
from ruqsat.core.patient_status import Statement, stated_anew
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.care_registry import CareRegistry, Report
from ruqsat.service.directory_registry import find_entry
from ruqsat.service.status_registry import StatusRegistry
from ruqsat.web.calls import answered, body_of, content_of, problems, refuse_unlisted
from ruqsat.web.care import STATUS
from ruqsat.web.care_models import PathId, PatientIn, RecordIn
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import read_model
from ruqsat.web.gate import Admitted, Asked, Gate, is_desk, own_org
from ruqsat.web.problems import Refusal

_CLASSES = {"deceased_at": "civil_status", "incapacitated": "civil_status", "unable": "capacity"}
"""By which data class the policy decides who may state a fact that needs a ground."""

_MOMENTS = frozenset({"start", "end", "deceased_at"})
_LISTS = {"episodes": "Episode", "relationships": "Relationship", "records": "RecordStatus"}


class Written(BaseModel):
    """Who was written down; a check that carries the token sees at least this."""

    id: str
    token: str


def build_patients(status: StatusRegistry, gate: Gate) -> APIRouter:
    """Build the routes of patients and of what is known of their records."""
    router = APIRouter(tags=["patients"], responses=problems(400, 401, 403, 404, 409, 413, 422, 503))
    registry = status.care

    async def admit(request: Request, action: str, patient: str) -> Admitted:
        asked = Asked(action, action, patient, f"Patient/{patient}", type="Patient", data_class="demographics")
        return await gate.admit(request, await gate.identify(request), asked)

    @router.put(
        "/v1/patients/{id_}", response_model=Written, responses={201: {"model": Written}},
        openapi_extra=body_of(PatientIn),
        summary="Write the status facts of a patient down, and nothing else.",
    )  # fmt: skip
    async def put(request: Request, id_: PathId) -> Response:
        admitted = await admit(request, "update", id_)
        if admitted.basis != "role_admin":
            # A consent to change demographic data is none to change what decisions rest on.
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        said = read_model(PatientIn, await content_of(request))
        if said["deceased_at"] is not None:
            said["deceased_at"] = parse_instant(said["deceased_at"])
        statement = await _statement(request, gate, status, admitted, id_, said)
        created, told = await status.put(id_, said, statement)
        return answered(told, 201 if created else 200)

    @router.get("/v1/patients/{id_}", summary="Read the status facts of a patient.")
    async def read(request: Request, id_: PathId) -> Response:
        admitted = await admit(request, "read", id_)
        facts = await registry.find_patient(id_)
        if facts is None:
            raise Refusal(404, "unknown-patient", "nobody is on record by this patient id")
        said = {name: msgspec.to_builtins(getattr(facts, name)) for name in STATUS_FACTS}
        grounds = await _grounds(status, admitted, id_)
        return answered(_plain(said) | {"grounds": grounds, "id": id_, "token": registry.token()})

    for name, resource in _LISTS.items():
        _add_list(router, registry, gate, name, resource)
    _add_records(router, registry, gate)
    return router


async def _statement(
    request: Request, gate: Gate, status: StatusRegistry, admitted: Admitted, patient: str, said: dict[str, Any]
) -> Statement | None:
    """
    Return on which ground facts that need one are changed, None if none of those is changed.

    Raises:
        Refusal: there is no ground (422), or the policy leaves this to others (403).
    """
    names = stated_anew(await status.care.find_patient(patient), said)
    if not names:
        return None
    if said["document_ref"] is None:
        raise Refusal(
            422, "malformed-document", "death, incapacity and inability are stated on a document",
            errors=[{"path": "/document_ref", "code": "missing"}],
        )  # fmt: skip
    for data_class in sorted({_CLASSES[name] for name in names if name != "unable" or said["unable"]}):
        # That somebody can express a will again opens nothing, and waits for nobody.
        asked = Asked("update", "update", patient, f"Patient/{patient}", type="Patient", data_class=data_class)
        await gate.admit(request, admitted.identity, asked)
    org = await _employer(status, admitted.identity)
    return Statement(names, said["document_ref"], org, admitted.identity.subject.id)


async def _employer(status: StatusRegistry, identity: Identity) -> str | None:
    return works_for(await find_entry(status.care, identity.subject.id), own_org(identity))


async def _grounds(status: StatusRegistry, admitted: Admitted, patient: str) -> list[dict[str, Any]]:
    """Return who stated what on which ground: all to patient and privacy office, to a desk its organisation's."""
    if admitted.basis not in ("self", "operator_duty", "role_admin"):
        return []
    grounds = await status.grounds(patient)
    if admitted.basis != "role_admin":
        return grounds
    org = await _employer(status, admitted.identity)
    return [each for each in grounds if org is not None and each["org"] == org]


def _add_list(router: APIRouter, registry: CareRegistry, gate: Gate, name: str, resource: str) -> None:
    @router.get(f"/v1/patients/{{id_}}/{name}", summary="List what is on record of a patient.", name=f"list_{name}")
    async def listed(request: Request, id_: PathId) -> Response:
        identity = await gate.identify(request)
        org = own_org(identity) if is_desk(identity) else None
        asked = Asked("search", "search", id_, f"{resource}/all", org, type=resource, data_class=STATUS, tells_all=True)
        admitted = await gate.admit(request, identity, asked)
        facts = await registry.find_patient(id_)
        found = () if facts is None else _of(facts, name, org)
        if admitted.basis == "self" and name == "records":
            found = shown_to_patient(found)
        told = [_plain(msgspec.structs.asdict(each)) for each in found]
        return answered({name: told, "token": registry.token()})


def _of(facts: PatientFacts, name: str, org: str | None) -> tuple[Any, ...]:
    """Return what is on record, of one organisation if *org* is given: a system sees no other's."""
    things: Iterable[Any] = getattr(facts, name)
    return tuple(each for each in things if org is None or each.org == org)


def _add_records(router: APIRouter, registry: CareRegistry, gate: Gate) -> None:
    @router.put(
        "/v1/records/{patient}/{id_}", response_model=Written, openapi_extra=body_of(RecordIn),
        summary="Write class, labels and confidentiality of a record down.",
    )  # fmt: skip
    async def put_record(request: Request, patient: PathId, id_: PathId) -> Response:
        identity = await gate.identify(request)
        said = read_model(RecordIn, await content_of(request))
        asked = Asked(
            "update", "update", patient, f"RecordStatus/{id_}", said["org"], type="RecordStatus", data_class=STATUS
        )
        await gate.admit(request, identity, asked)
        _refuse_unknown_words(registry.vocabulary(), said)
        labels = None if said["labels"] is None else tuple(dict.fromkeys(said["labels"]))
        new = RecordStatus(id_, said["data_class"], labels, said["conf"], org=said["org"], type=said["type"])
        return answered({"id": id_} | await registry.report_one(Report(patient, lambda facts: with_record(facts, new))))

    @router.get("/v1/records/{patient}/{id_}", summary="Read what is known of a record.")
    async def read_record(
        request: Request, patient: PathId, id_: PathId,
        kind: Annotated[str | None, Query(alias="type", min_length=1, max_length=256)] = None,
    ) -> Response:  # fmt: skip
        identity = await gate.identify(request)
        org = own_org(identity) if is_desk(identity) else None
        asked = Asked(
            "read", "read", patient, f"RecordStatus/{id_}", org, type="RecordStatus", data_class=STATUS, tells_all=True
        )
        admitted = await gate.admit(request, identity, asked)
        facts = await registry.find_patient(patient)
        found = [
            each
            for each in (() if facts is None else _of(facts, "records", org))
            if each.id == id_ and kind in (None, each.type)
        ]
        if admitted.basis == "self":
            found = list(shown_to_patient(found))
        if not found:
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        if len(found) > 1:
            raise Refusal(409, "several-types", "records of several types have this id: say which, `?type=`")
        return answered(_plain(msgspec.structs.asdict(found[0])) | {"token": registry.token()})


def _refuse_unknown_words(words: Vocabulary, said: dict[str, Any]) -> None:
    unlisted = [f"/labels/{index}" for index, label in enumerate(said["labels"] or ()) if label not in words.labels]
    refuse_unlisted(unlisted + ["/class"] * (said["data_class"] not in words.classes))


def _plain(said: dict[str, Any]) -> dict[str, Any]:
    told = {name: render_instant(v) if name in _MOMENTS and v is not None else v for name, v in said.items()}
    if "data_class" in told:
        told["class"] = told.pop("data_class")
    return told
