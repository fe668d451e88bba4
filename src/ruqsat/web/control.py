"""
The control listener (FastAPI): health, status, metrics, and the registries behind the control API.

Administration has no business on the data path.  What watches the process carries
no personal data.  A call of a registry is itself a decision: the caller's token says
who asks, the policy says whether, the journal keeps it.
"""

from collections.abc import Callable
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from msgspec import Struct
from starlette.exceptions import HTTPException

from ruqsat import __version__
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.service.barrier import Barrier
from ruqsat.service.block_registry import BlockRegistry
from ruqsat.service.break_glass import BreakGlass
from ruqsat.service.consent_changes import RegistryError
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.journal_views import JournalViews
from ruqsat.service.metrics import Metrics
from ruqsat.service.proceeding_registry import ProceedingRegistry
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.service.record_seal import NotConfiguredError
from ruqsat.web.access_log import build_access_log
from ruqsat.web.calls import described_parts, refusal_of
from ruqsat.web.care_routes import build_facts
from ruqsat.web.consents import build_consents
from ruqsat.web.gate import Gate
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.journal import build_journal
from ruqsat.web.journaled_changes import journal_changes
from ruqsat.web.notices import Notices, build_notices
from ruqsat.web.plain_targets import PlainTargets
from ruqsat.web.problems import Refusal, answer_refusal, answer_unavailable
from ruqsat.web.proceedings import build_proceedings
from ruqsat.web.records import build_records
from ruqsat.web.visibility import describe_waiting, wait_when_asked


class Registries(Struct, frozen=True):
    """
    What the control API keeps, and what a change waits for with ``wait=visible``.

    ``blocks``: the blocks of records, and behind them what is reported of patients, of their care and of the directory.
    ``views``: the journal, for those whom it tells of and for the privacy office.
    """

    consents: ConsentRegistry
    records: tuple[RecordRegistry, ...]
    sessions: BreakGlass
    blocks: BlockRegistry
    proceedings: ProceedingRegistry
    barrier: Barrier
    views: JournalViews
    notices: Notices


def build_control(
    decision_point: DecisionPoint,
    registries: Registries,
    verifier: TokenVerifier | None,
    metrics: Metrics,
    status: Callable[[], dict[str, Any]],
    readiness: Callable[[], dict[str, Any]],
) -> FastAPI:
    """
    Build the control application.

    Args:
        status: What `/status` shows.
        readiness: What `/health/ready` says; it holds ``reasons`` if the process is not ready.
    """
    # No redirect: its address would be made of the caller's own Host.
    app = FastAPI(title="Ruqsat control API", version=__version__, redoc_url=None, redirect_slashes=False)
    app.add_exception_handler(Refusal, answer_refusal)
    app.add_exception_handler(StoreUnavailableError, answer_unavailable)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(NotConfiguredError, _not_configured)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _not_here)
    journal_changes(app, decision_point)
    wait_when_asked(app, registries.barrier)
    app.add_middleware(PlainTargets)

    @app.get("/health/live", summary="The event loop turns.")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready", summary="Decisions can be made and journaled.", responses={503: {}})
    async def is_ready() -> Response:
        body = readiness()
        return JSONResponse(body, 503 if "reasons" in body else 200)

    @app.get("/status", summary="What is in force, and how fresh it is.")
    async def show_status() -> dict[str, Any]:
        return status()

    @app.get("/metrics", summary="Prometheus metrics.", response_class=Response)
    async def show_metrics() -> Response:
        return Response(metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    gate = Gate(decision_point, verifier)
    app.include_router(build_consents(registries.consents, gate))
    for each in registries.records:
        app.include_router(build_records(each, gate, registries.sessions))
    app.include_router(build_notices(registries.notices, gate))
    for router in (
        *build_facts(registries.blocks, gate),
        build_access_log(registries.views, gate),
        build_journal(registries.views, gate),
    ):
        app.include_router(router)
    app.include_router(build_proceedings(registries.proceedings, gate))
    _describe_bodies(app)
    return app


def _describe_bodies(app: FastAPI) -> None:
    usual = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        whole = usual()
        describe_waiting(whole)
        whole.setdefault("components", {}).setdefault("schemas", {}).update(described_parts())
        return whole

    app.openapi = described  # type: ignore[method-assign]


def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, RegistryError):
        return answer_refusal(request, refusal_of(error))
    code = error.code if isinstance(error, RequestError) else "error"
    if code == "unknown-patient":
        return answer_refusal(request, Refusal(404, code, "nobody is on record by this patient id"))
    return answer_refusal(request, Refusal(409, code, "the store refuses the change; nothing was changed"))


def _not_here(request: Request, error: Exception) -> Response:
    """Say in a problem document, too, that there is no such resource or method."""
    found = cast(HTTPException, error)
    code = {404: "not-found", 405: "method-not-allowed"}.get(found.status_code, "error")
    headers = dict(found.headers) if found.headers is not None else None
    return answer_refusal(
        request, Refusal(found.status_code, code, "there is no such resource or method here", headers)
    )


def _not_configured(request: Request, error: Exception) -> Response:
    return answer_refusal(request, Refusal(503, NotConfiguredError.code, str(error)))


def _malformed(request: Request, error: Exception) -> Response:
    """Name the parameter that is wrong; FastAPI's own answer would repeat what was found there."""
    found = cast(RequestValidationError, error).errors()
    errors = [
        {"path": "".join(f"/{part}" for part in each["loc"]), "code": str(each["type"]).replace("_", "-")}
        for each in found
    ]
    return answer_refusal(request, Refusal(422, "malformed-request", "a parameter is not as expected", errors=errors))
