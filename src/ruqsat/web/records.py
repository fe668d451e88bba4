"""
The registries beside the consents on the control API: one set of routes, built for each kind.

Create, read, list, verify, end, review; what a kind does not know has no route.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from msgspec import Struct
from pydantic import BaseModel

from ruqsat.core.consent_items import at
from ruqsat.core.registered import RecordRow
from ruqsat.service.break_glass import BreakGlass
from ruqsat.service.consent_changes import OWN_BASES, WHOLE_BASES
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.web.break_glass import add_sessions
from ruqsat.web.calls import (
    body_of,
    call_of,
    caller_of,
    content_of,
    full,
    opened,
    problems,
    version_of,
    written,
)
from ruqsat.web.consent_models import Checked, read_model
from ruqsat.web.gate import Admitted, Asked, Gate, is_desk, own_org
from ruqsat.web.record_models import (
    CheckedPerson,
    DelegationIn,
    RecordPage,
    RecordWritten,
    RepresentationIn,
    RequestIn,
    SessionIn,
)

Id = Annotated[str, Path(min_length=1, max_length=256)]


class Shape(Struct, frozen=True):
    """
    How a kind stands on the API.

    Attributes:
        path, resource, data_class: In the address, and in what the policy is asked.
        model, check: The body of a new record, and of a verification, if there is one.
        create, change: The action that a caller on an own right needs; a desk's are ``create`` and ``update``.
        ends: Events that end a record, each with its route.
    """

    path: str
    resource: str
    data_class: str
    model: type[BaseModel]
    check: type[BaseModel] | None
    create: str
    change: str
    ends: tuple[str, ...]
    is_reviewed: bool = False


SHAPES: Mapping[str, Shape] = {
    "delegation": Shape(
        "delegations", "Delegation", "consent", DelegationIn, CheckedPerson, "delegate", "delegate", ("revoke",)
    ),
    "representation": Shape(
        "representations", "Representation", "consent", RepresentationIn, Checked, "create", "consent_manage", ("end",)
    ),
    "request": Shape(
        "statutory-requests", "StatutoryRequest", "request", RequestIn, Checked, "create", "update", ("close",)
    ),
    "grant": Shape(
        "emergency-grants", "EmergencyGrant", "session", SessionIn, None, "create", "update", ("close", "revoke"), True
    ),
}  # fmt: skip


def build_records(registry: RecordRegistry, gate: Gate, sessions: BreakGlass) -> APIRouter:
    """Build the routes of one registry; of break-glass *sessions* those of their life, too."""
    shape = SHAPES[registry.kind.name]
    router = APIRouter(
        prefix=f"/v1/{shape.path}",
        tags=[shape.path],
        responses=problems(400, 401, 403, 404, 409, 412, 413, 422, 428, 503),
    )

    def asked(owner: str, desk: str, patient: str | None, id_: str, org: str | None) -> Asked:
        # Whom an adolescent lets in is the adolescent's own affair (Code 78(2)), and nobody else lets anybody in.
        alone = shape.resource == "Delegation" and owner in ("read", "search")
        return Asked(owner, desk, patient, id_, org, shape.resource, shape.data_class, alone=alone)

    async def found(
        request: Request, id_: str, owner: str, desk: str, *, ends: bool = False
    ) -> tuple[Admitted, RecordRow | None]:
        identity = await gate.identify(request)
        patient, row = await registry.find(id_)
        org = row.org if row is not None else None
        if row is None and patient is not None and ends:
            # What no organisation keeps is ended by any whose duty such records are: that can only close.
            org = await registry.keeper_of(patient, id_) or own_org(identity)
        return await gate.admit(request, identity, asked(owner, desk, patient, id_, org)), row

    async def create(
        request: Request,
        idempotency_key: Annotated[str | None, Header()] = None,
        prefer: Annotated[str | None, Header()] = None,
    ) -> Response:
        identity = await gate.identify(request)
        call = await call_of(request, idempotency_key, prefer)
        data = read_model(shape.model, call.content)
        org = own_org(identity)
        if shape.resource == "Delegation":
            org = await registry.office_of(data["patient"], data["consent"])
        question = asked(shape.create, "create", data["patient"], at(data, "parent") or "new", org)
        admitted = await gate.admit(request, identity, question)
        told = await registry.create(caller_of(admitted), data, call, org)
        return written(told, 201, {"Location": f"/v1/{shape.path}/{told['id']}"})

    async def page(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=256)],
        cursor: Annotated[str, Query(max_length=256)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> RecordPage:
        identity = await gate.identify(request)
        org = own_org(identity) if is_desk(identity) or identity.purpose in ("HLEGAL", ("HLEGAL",)) else None
        await gate.admit(request, identity, asked("search", "search", patient, "all", org))
        rows = await registry.page(patient, org, cursor, limit + 1)
        return RecordPage(records=rows[:limit], next=rows[limit - 1]["id"] if len(rows) > limit else None)

    if shape.is_reviewed:
        add_sessions(router, sessions, gate, page, found)
    else:
        router.post(
            "", status_code=201, response_model=RecordWritten, openapi_extra=body_of(shape.model),
            summary="Write one down.",
        )(create)  # fmt: skip
        router.get("", response_model=RecordPage, response_model_exclude_none=True, summary="List a patient's.")(page)

    @router.get("/{id_}", summary="Read one.")
    async def read(request: Request, id_: Id) -> Response:
        admitted, row = await found(request, id_, "read", "read")
        row = full(row)
        told = registry.describe(row)
        if _reads_whole(admitted, shape):
            told |= opened(admitted, registry.open(row))
        return JSONResponse(told, headers={"ETag": f'"{row.version}"', "Cache-Control": "no-store"})

    if shape.check is not None:
        _add_verify(router, registry, shape, found)
    for event in shape.ends:
        _add_end(router, registry, shape, event, found)
    return router


def _add_verify(router: APIRouter, registry: RecordRegistry, shape: Shape, found: Any) -> None:
    model: Any = shape.check

    @router.post(
        "/{id_}/verify", response_model=RecordWritten, openapi_extra=body_of(model), summary="Write down a check."
    )
    async def verify(request: Request, id_: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, row = await found(request, id_, "update", "update")
        check = read_model(model, await content_of(request))
        return written(await registry.verify(caller_of(admitted), full(row), version_of(if_match), check))


def _add_end(router: APIRouter, registry: RecordRegistry, shape: Shape, event: str, found: Any) -> None:
    @router.post(f"/{{id_}}/{event}", response_model=RecordWritten, summary="End it at once.", name=event)
    async def end(request: Request, id_: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, row = await found(request, id_, shape.change, "update", ends=True)
        # An end need not name a version: nothing that happened meanwhile makes it wrong.
        version = None if if_match is None else version_of(if_match)
        what = "renounce" if event == "revoke" and admitted.basis == "delegation" else event
        return written(await registry.end(caller_of(admitted), id_, admitted.patient, row, version, what))


def _reads_whole(admitted: Admitted, shape: Shape) -> bool:
    """Tell whether a caller reads what names people; of a session the patient reads no free text of the clinician's."""
    own = admitted.basis in OWN_BASES and shape.resource == "EmergencyGrant"
    return admitted.basis in WHOLE_BASES and not own
