"""Blocks on the control API: the privacy office stops the use of a record, lifts it, or notes its destruction."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ruqsat.core.registered import RecordRow
from ruqsat.service.block_registry import BlockRegistry, describe
from ruqsat.web.calls import answered, body_of, content_of, problems
from ruqsat.web.care import STATUS
from ruqsat.web.care_models import BlockIn, DestroyIn, LiftIn, PathId
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import read_model
from ruqsat.web.gate import Asked, Gate
from ruqsat.web.problems import Refusal

_ENDS: dict[str, tuple[str, type[BaseModel]]] = {"lift": ("block", LiftIn), "destroy": ("delete", DestroyIn)}
"""What may become of a block: the action that it needs, and what is said of it."""


class BlockWritten(BaseModel):
    """What became of a record; a check that carries the token sees at least this."""

    id: str
    version: int
    status: str
    token: str


def build_blocks(registry: BlockRegistry, gate: Gate) -> APIRouter:
    """Build the routes."""
    router = APIRouter(prefix="/v1/blocks", tags=["blocks"], responses=problems(400, 401, 403, 404, 409, 413, 422, 503))

    async def reads(request: Request, identity: Identity, patient: str | None, id_: str) -> None:
        asked = Asked("search", "search", patient, f"Block/{id_}", type="Block", data_class=STATUS)
        if (await gate.admit(request, identity, asked)).basis != "operator_duty":
            # That somebody complained of a record is not for everyone who may see its labels.
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")

    @router.post(
        "", response_model=BlockWritten, openapi_extra=body_of(BlockIn), summary="Stop the use of a record, at once."
    )
    async def block(request: Request) -> Response:
        identity = await gate.identify(request)
        said = read_model(BlockIn, await content_of(request))
        patient, record = said.pop("patient"), said.pop("record")
        stated, known = said.pop("data_class"), await registry.class_of(patient, record)
        what = known or stated
        asked = Asked("block", "block", patient, record, type="Record", data_class=what or "unknown")
        await gate.admit(request, identity, asked)
        return answered(await registry.change(patient, record, what or "", "block", said, identity.subject.id))

    @router.get("", summary="List the blocks of a patient's records, lifted ones among them.")
    async def page(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=256)],
        cursor: Annotated[str, Query(max_length=256)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Response:
        await reads(request, await gate.identify(request), patient, "all")
        rows = await registry.page(patient, cursor, limit + 1)
        more = rows[limit - 1]["id"] if len(rows) > limit else None
        return answered({"blocks": rows[:limit], "next": more, "token": registry.care.token()})

    @router.get("/{id_}", summary="Read a block: who, when, on which ground.")
    async def read(request: Request, id_: PathId) -> Response:
        identity = await gate.identify(request)
        row = await registry.find(id_)
        await reads(request, identity, None if row is None else row.patient, id_)
        return answered(describe(_found(row)) | {"token": registry.care.token()})

    for event in _ENDS:
        _add_end(router, registry, gate, event)
    return router


def _add_end(router: APIRouter, registry: BlockRegistry, gate: Gate, event: str) -> None:
    action, model = _ENDS[event]

    @router.post(
        f"/{{id_}}/{event}", response_model=BlockWritten, openapi_extra=body_of(model), name=event,
        summary={"lift": "Let the record be used again.", "destroy": "The record was destroyed."}[event],
    )  # fmt: skip
    async def end(request: Request, id_: PathId) -> Response:
        identity = await gate.identify(request)
        row = await registry.find(id_)
        patient, record = (None, "none") if row is None else (row.patient, row.body.said["record"])
        what = None if patient is None else await registry.class_of(patient, record)
        asked = Asked(
            action, action, patient, record, type="Record", data_class=what or "unknown", demanded=event == "destroy"
        )
        await gate.admit(request, identity, asked)
        said = read_model(model, await content_of(request))
        who = identity.subject.id
        return answered(await registry.change(_found(row).patient, record, what or "", event, said, who))


def _found(row: RecordRow | None) -> RecordRow:
    if row is None:
        raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
    return row
