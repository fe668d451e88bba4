"""The registry of consents on the control API: record, read, list, verify, withdraw, supersede."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat.core.consent_items import at
from ruqsat.core.consent_record import ConsentRow
from ruqsat.service.consent_changes import WHOLE_BASES, describe
from ruqsat.service.consent_registry import ConsentRegistry
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
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import ConsentIn, Verification, read_model
from ruqsat.web.gate import Admitted, Asked, Gate, is_desk, own_org
from ruqsat.web.problems import FieldProblem, Refusal

Id = Annotated[str, Path(min_length=1, max_length=256)]


class Recorded(BaseModel):
    """What was recorded, or became of a record; a check that carries the token sees at least this."""

    consent: str
    patient: str | None = None
    version: int | None = None
    status: str | None = None
    items: list[FieldProblem] = []
    token: str


class Page(BaseModel):
    """A page of records without what names people; ``next`` is the cursor of the one after, if there is one."""

    consents: list[dict[str, Any]]
    next: str | None = None


def build_consents(registry: ConsentRegistry, gate: Gate) -> APIRouter:
    """Build the routes."""
    router = APIRouter(
        prefix="/v1/consents", tags=["consents"], responses=problems(400, 401, 403, 404, 409, 412, 413, 422, 428, 503)
    )

    async def found(request: Request, consent: str, owner: str, desk: str) -> tuple[Admitted, str, ConsentRow | None]:
        identity = await gate.identify(request)
        patient, row = await registry.find(consent)
        by = "patient" if row is None else row.body.record.given_by.type
        org = row.org if row is not None else None
        admitted = await gate.admit(request, identity, _asked(identity, owner, desk, (patient, consent, org), by))
        return admitted, admitted.patient, row

    @router.post(
        "", status_code=201, response_model=Recorded, openapi_extra=body_of(ConsentIn), summary="Record a consent."
    )
    async def create(
        request: Request,
        idempotency_key: Annotated[str | None, Header()] = None,
        prefer: Annotated[str | None, Header()] = None,
    ) -> Response:
        identity = await gate.identify(request)
        call = await call_of(request, idempotency_key, prefer)
        data = read_model(ConsentIn, call.content)
        about = (data["patient"], "new", at(data, "operator.org"))
        asked = _asked(identity, "consent_manage", "create", about, at(data, "given_by.type"))
        admitted = await gate.admit(request, identity, asked)
        told = await registry.create(caller_of(admitted), data, call)
        return written(told, 201, {"Location": f"/v1/consents/{told['consent']}"})

    @router.get("", response_model=Page, response_model_exclude_none=True, summary="List a patient's consents.")
    async def page(
        request: Request,
        patient: Annotated[str, Query(min_length=1, max_length=256)],
        cursor: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> Page:
        identity = await gate.identify(request)
        org = own_org(identity) if is_desk(identity) else None
        await gate.admit(request, identity, Asked("search", "search", patient, "all", org, alone=True))
        rows = await registry.page(patient, org, cursor, limit + 1)
        return Page(consents=rows[:limit], next=rows[limit - 1]["consent"] if len(rows) > limit else None)

    @router.get("/{consent}", summary="Read a consent.")
    async def read(request: Request, consent: Id) -> Response:
        admitted, _, row = await found(request, consent, "read", "read")
        row = full(row)
        said = describe(row)
        if admitted.basis in WHOLE_BASES:
            said |= opened(admitted, registry.open(row))
        return JSONResponse(said, headers={"ETag": f'"{row.version}"', "Cache-Control": "no-store"})

    @router.post(
        "/{consent}/verify", response_model=Recorded, openapi_extra=body_of(Verification),
        summary="Write down what was verified: signature, powers, entry of a paper.",
    )  # fmt: skip
    async def verify(request: Request, consent: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, _, row = await found(request, consent, "update", "update")
        verification = read_model(Verification, await content_of(request))
        return written(await registry.verify(caller_of(admitted), full(row), version_of(if_match), verification))

    @router.post("/{consent}/withdraw", response_model=Recorded, summary="Withdraw a consent.")
    async def withdraw(request: Request, consent: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, patient, _ = await found(request, consent, "consent_manage", "update")
        # A withdrawal need not name a version: nothing that happened meanwhile makes it wrong.
        version = None if if_match is None else version_of(if_match)
        return written(await registry.withdraw(caller_of(admitted), consent, patient, version))

    @router.post(
        "/{consent}/supersede", status_code=201, response_model=Recorded, openapi_extra=body_of(ConsentIn),
        summary="Put a newer document in the place of this one.",
    )  # fmt: skip
    async def supersede(
        request: Request,
        consent: Id,
        if_match: Annotated[str | None, Header()] = None,
        idempotency_key: Annotated[str | None, Header()] = None,
        prefer: Annotated[str | None, Header()] = None,
    ) -> Response:
        admitted, patient, row = await found(request, consent, "consent_manage", "update")
        call = await call_of(request, idempotency_key, prefer)
        data = read_model(ConsentIn, call.content)
        if data["patient"] != patient:
            raise Refusal(409, "other-thread", "the newer document is of another patient, operator or kind")
        if admitted.desk and at(data, "operator.org") != full(row).org:
            raise Refusal(409, "other-thread", "the newer document is of another patient, operator or kind")
        told = await registry.supersede(caller_of(admitted), full(row), version_of(if_match), data, call)
        return written(told, 201, {"Location": f"/v1/consents/{told['consent']}"})

    @router.post(
        "/{consent}/enter-in-error", response_model=Recorded, summary="Mark a permit as written down by mistake."
    )
    async def enter_in_error(
        request: Request, consent: Id, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        admitted, _, row = await found(request, consent, "update", "update")
        return written(await registry.enter_in_error(caller_of(admitted), full(row), version_of(if_match)))

    return router


def _asked(
    identity: Identity, owner: str, desk: str, about: tuple[str | None, str, str | None], by: str | None
) -> Asked:
    """
    Return what the policy is asked of a document, by whom it was given.

    A parent of an adolescent neither reads what the adolescent gave alone, nor is told that a desk wrote it down
    (Code 78(2)): it says where the adolescent seeks care, and what for.
    """
    alone = by != "legal_rep" and (owner != "consent_manage" or is_desk(identity))
    return Asked(owner, desk, *about, alone=alone)
