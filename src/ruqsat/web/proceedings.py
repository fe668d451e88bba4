"""
Proceedings with terms on the control API: opened, listed by what is due first, owned, decided.

Who may do which is the policy's to say: it is asked about the kind of proceeding and, where an event stops the use of
records or destroys them, about each of these records as well.
"""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat.core.other_representatives import application_shown
from ruqsat.core.proceeding import NO_TERM, ProceedingRow, Wanted
from ruqsat.core.proceeding_kinds import APPLICANT, OFFICE, PROCEEDING_KINDS, RECEIVED
from ruqsat.messages import Language
from ruqsat.service.consent_changes import OWN_BASES
from ruqsat.service.proceeding_changes import records_of
from ruqsat.service.proceeding_registry import ProceedingRegistry
from ruqsat.web.access_text import language_of
from ruqsat.web.calls import body_of, call_of, caller_of, content_of, problems, version_of, written
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import read_model
from ruqsat.web.gate import QUEUE, Admitted, Asked, Gate, is_desk, own_org
from ruqsat.web.information_page import PAGE_HEADERS, wants_page, write_page
from ruqsat.web.problems import Refusal
from ruqsat.web.proceeding_models import AssignIn, Kind, MoveIn, ProceedingIn

PROCEEDING, INFORMATION = "proceeding", "information"
Id = Annotated[str, Path(min_length=1, max_length=256)]
Name = Annotated[str, Path(pattern=r"^[a-z_]{1,32}$")]
EVENTS = frozenset(event for kind in PROCEEDING_KINDS.values() for event in kind.moves)
STATES = frozenset({"open", "closed", RECEIVED}) | {
    status for kind in PROCEEDING_KINDS.values() for move in kind.moves.values() for status in move.to.values()
}
_ACTS = {"block": "block", "lift": "block", "destroy": "delete"}
"""What the policy is asked of a record, by what happens to it."""


class ProceedingWritten(BaseModel):
    """What became of a proceeding, and the last day of the term that runs now."""

    id: str
    patient: str | None = None
    version: int
    status: str
    due: str | None = None
    calendar: str | None = None
    token: str


class ProceedingPage(BaseModel):
    """A page, the first due first, without what names people; ``next`` is the cursor of the one after."""

    proceedings: list[dict[str, Any]]
    next: str | None = None


def build_proceedings(registry: ProceedingRegistry, gate: Gate) -> APIRouter:
    """Build the routes."""
    codes = (400, 401, 403, 404, 409, 412, 413, 422, 428, 503)
    router = APIRouter(prefix="/v1/proceedings", tags=["proceedings"], responses=problems(*codes))

    async def found(request: Request, id_: str, action: str) -> tuple[Admitted, ProceedingRow]:
        identity = await gate.identify(request)
        row = await registry.find(id_)
        if row is None:
            await gate.admit(
                request, identity, Asked(action, action, None, id_, None, type="Proceeding", data_class=PROCEEDING)
            )
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        asked = _asked(row.kind, action, row.patient, id_, row.org, is_own=row.body.steps[0].by == identity.subject.id)
        return await gate.admit(request, identity, asked), row

    @router.post(
        "", status_code=201, response_model=ProceedingWritten, openapi_extra=body_of(ProceedingIn), summary="Begin one."
    )
    async def begin(request: Request, idempotency_key: Annotated[str | None, Header()] = None) -> Response:
        identity = await gate.identify(request)
        call = await call_of(request, idempotency_key, None)
        data = read_model(ProceedingIn, call.content)
        for record in data["records"]:
            record["class"] = record.pop("data_class")
        org = data["org"] or own_org(identity)
        asked = _asked(data["kind"], "create", data["patient"], "new", org, is_own=True)
        admitted = await gate.admit(request, identity, asked)
        told = await registry.open(caller_of(admitted), _handed_in(data, admitted), call, org)
        return written(told, 201, {"Location": f"/v1/proceedings/{told['id']}"})

    @router.get(
        "", response_model=ProceedingPage, response_model_exclude_none=True, summary="What is due, the first due first."
    )
    async def page(  # noqa: PLR0913, PLR0917 - each is a parameter of the query
        request: Request,
        patient: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        kind: Annotated[Kind | None, Query()] = None,
        state: Annotated[str | None, Query(max_length=32)] = None,
        owner: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        due_before: Annotated[date | None, Query()] = None,
        cursor: Annotated[str, Query(max_length=300, pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2}\|.+)?$")] = "",
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> ProceedingPage:
        identity = await gate.identify(request)
        if state is not None and state not in STATES:
            raise Refusal(422, "malformed-request", "a parameter is not as expected", errors=[_place("/query/state")])
        org = _office_of(identity)
        asked = Asked(
            "search", "search", patient, "all" if patient else QUEUE, org, type="Proceeding",
            data_class=PROCEEDING if patient else QUEUE, tells_all=patient is not None,
        )  # fmt: skip
        admitted = await gate.admit(request, identity, asked)
        own = admitted.basis in OWN_BASES
        wanted = Wanted(
            patient, None if own else org, owner, kind, state, None if due_before is None else due_before.isoformat(),
            _after(cursor), limit + 1,
        )  # fmt: skip
        rows = await registry.queue(wanted, APPLICANT if own else OFFICE)
        more = f"{rows[limit - 1]['due'] or NO_TERM}|{rows[limit - 1]['id']}" if len(rows) > limit else None
        return ProceedingPage(proceedings=rows[:limit], next=more)

    @router.get("/{id_}", summary="Read one, with what the clock said of it.")
    async def read(request: Request, id_: Id) -> Response:
        admitted, row = await found(request, id_, "read")
        content = registry.unseal(row)
        if admitted.basis == "legal_rep" and row.body.steps[0].by != admitted.identity.subject.id:
            content = application_shown(content)
        told = await registry.tell(row, _side(admitted)) | content
        return JSONResponse(told, headers={"ETag": f'"{row.version}"', "Cache-Control": "no-store"})

    _add_answer(router, registry, found)

    @router.post(
        "/{id_}/assign", response_model=ProceedingWritten, openapi_extra=body_of(AssignIn), summary="Say who owns it."
    )
    async def assign(request: Request, id_: Id, if_match: Annotated[str | None, Header()] = None) -> Response:
        admitted, row = await found(request, id_, "update")
        owner = read_model(AssignIn, await content_of(request))["owner"]
        if _side(admitted) != OFFICE:
            raise Refusal(403, "not_permitted", "this is not yours to do, or there is nothing by this id")
        return written(await registry.assign(caller_of(admitted), row, version_of(if_match), owner))

    @router.post(
        "/{id_}/{event}",
        response_model=ProceedingWritten,
        openapi_extra=body_of(MoveIn),
        summary="Let an event happen.",
    )
    async def move(
        request: Request, id_: Id, event: Name, if_match: Annotated[str | None, Header()] = None
    ) -> Response:
        admitted, row = await found(request, id_, "update")
        if event not in EVENTS:
            raise Refusal(404, "not-found", "there is no such event")
        said = read_model(MoveIn, await content_of(request) or b"{}")
        for record in said["records"]:
            record["class"] = record.pop("data_class")
        await _admit_records(registry, gate, request, admitted.identity, row, event, said)
        side = _side(admitted)
        return written(await registry.move(caller_of(admitted), side, row, version_of(if_match), event, said))

    return router


def _add_answer(router: APIRouter, registry: ProceedingRegistry, found: Any) -> None:
    @router.get("/{id_}/answer", summary="The answer on what is on record (order §18), as JSON or as a page to print.")
    async def answer(
        request: Request,
        id_: Id,
        lang: Language | None = None,
        form: Annotated[str | None, Query(alias="format", pattern="^(json|html)$")] = None,
    ) -> Response:
        admitted, row = await found(request, id_, "read")
        told = registry.answered(row) if row.kind == INFORMATION else None
        if told is None:
            if _side(admitted) == APPLICANT or row.kind != INFORMATION or not row.is_open:
                raise Refusal(404, "no-answer", "there is no answer yet, or it was another one")
            told = await registry.information(row, {}) | {"draft": True}
        if wants_page(form, request.headers.get("accept", "")):
            language: Language = lang or language_of(request.headers.get("accept-language"))
            varies = {"Content-Language": language, "Vary": "Accept, Accept-Language, Authorization"}
            page = write_page(told, language, registry.hour().utc_offset_hours)
            return Response(page, media_type="text/html; charset=utf-8", headers=PAGE_HEADERS | varies)
        return JSONResponse(told, headers={"Cache-Control": "no-store"})


async def _admit_records(
    registry: ProceedingRegistry, gate: Gate, request: Request, identity: Identity, row: ProceedingRow, event: str,
    said: Mapping[str, Any],
) -> None:  # fmt: skip
    """Ask the policy about each record that the event stops the use of, or destroys."""
    known = PROCEEDING_KINDS[row.kind].moves.get(event)
    if known is None or known.act is None or row.patient is None:
        return
    classes = await registry.classes_of(row.patient)
    for each in records_of(row, said):
        asked = Asked(
            _ACTS[known.act], _ACTS[known.act], row.patient, each["id"], type="Record",
            data_class=classes.get(each["id"], each["class"]), demanded=known.act == "destroy",
        )  # fmt: skip
        await gate.admit(request, identity, asked)


def _asked(kind: str, action: str, patient: str | None, id_: str, org: str | None, *, is_own: bool) -> Asked:
    """
    Return what the policy is asked.

    A parent of an adolescent neither reads what the adolescent handed in, or ends it, nor has an answer on
    everything that is on record (Code 78(2)): only what the parent handed in is the parent's.
    """
    known = PROCEEDING_KINDS[kind]
    data_class = QUEUE if known.is_anybodys and patient is None else PROCEEDING
    tells_all = patient is not None and (kind == INFORMATION or not is_own)
    return Asked(action, action, patient, id_, org, known.resource, data_class, tells_all=tells_all)


def _handed_in(data: dict[str, Any], admitted: Admitted) -> dict[str, Any]:
    """Return an opening; where patient or representative hands it in, with channel, form and applicant filled in."""
    if admitted.basis not in OWN_BASES:
        return data
    as_what = "patient" if admitted.basis == "self" else "legal_representative"
    applicant = data["applicant"] or {"kind": as_what}
    return data | {
        "channel": "electronic", "form": "electronic_document", "applicant": applicant | {"kind": as_what}
    }  # fmt: skip


def _side(admitted: Admitted) -> str:
    return APPLICANT if admitted.basis in OWN_BASES else OFFICE


def _office_of(identity: Identity) -> str | None:
    """Return whose proceedings an office or a desk sees; the privacy office sees all."""
    return own_org(identity) if is_desk(identity) or identity.purpose in ("PATRQT", ("PATRQT",)) else None


def _after(cursor: str) -> tuple[str, str] | None:
    due, _, id_ = cursor.partition("|")
    return (due, id_) if id_ else None


def _place(path: str) -> dict[str, Any]:
    return {"path": path, "code": "not-listed"}
