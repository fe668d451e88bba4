"""
The control listener (FastAPI): health, status, metrics, and the first write of the control API.

Administration has no business on the data path.  Reads here carry no personal
data.  A write is itself a decision: the caller's token says who asks, the policy
says whether, the journal keeps it.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

import msgspec
from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat import __version__
from ruqsat.core.facts import Consent, PatientFacts, Position
from ruqsat.core.instant import Instant
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
)
from ruqsat.errors import OutcomeUnknownError, RuqsatError, StoreUnavailableError
from ruqsat.service.decision_point import DecisionPoint, Origin
from ruqsat.service.metrics import Metrics
from ruqsat.web.identity import TokenVerifier, Unauthenticated

TRY_LATER = "try_later"
"""What a caller may learn of every failure of ours (see the reasons of vocabulary.toml)."""

_MAX_TRACEPARENT = 256


class Registry(Protocol):
    """What the control API needs of the store."""

    async def find_patient_of(self, consent: str) -> str | None:
        """Return the patient whose document this is."""
        ...

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """Change a patient's facts in one transaction; known to every decision once this returns."""
        ...

    def token(self) -> str:
        """Return the consistency token of what is known now."""
        ...


class Withdrawn(BaseModel):
    """A consent that is withdrawn; a check that carries the token sees at least this."""

    consent: str
    token: str


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str
    title: str
    status: int
    detail: str


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The call is refused with this problem document."""

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers


def build_control(
    decision_point: DecisionPoint,
    registry: Registry,
    verifier: TokenVerifier | None,
    metrics: Metrics,
    status: Callable[[], dict[str, Any]],
    readiness: Callable[[], dict[str, Any]],
    clock: Callable[[], Instant],
) -> FastAPI:
    """
    Build the control application.

    Args:
        status: What `/status` shows.
        readiness: What `/health/ready` says; it holds ``reasons`` if the process is not ready.
        clock: The present moment, for the instant of a withdrawal.
    """
    app = FastAPI(title="Ruqsat control API", version=__version__, redoc_url=None)
    app.add_exception_handler(Refusal, _problem)
    app.add_exception_handler(StoreUnavailableError, _unavailable)

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

    problems: dict[int | str, dict[str, Any]] = {code: {"model": Problem} for code in (401, 403, 503)}

    @app.post("/v1/consents/{consent}/withdraw", summary="Withdraw a consent.", responses=problems)
    async def withdraw(
        consent: str, request: Request, traceparent: Annotated[str | None, Header()] = None
    ) -> Withdrawn:
        origin = Origin("control", traceparent=traceparent and traceparent[:_MAX_TRACEPARENT])
        patient = await _authorize(consent, request, origin)

        def withdrawn(facts: PatientFacts) -> PatientFacts:
            return _with_withdrawal(facts, consent, clock())

        await registry.change_patient(patient, withdrawn)
        return Withdrawn(consent=consent, token=registry.token())

    async def _authorize(consent: str, request: Request, origin: Origin) -> str:
        """Return whose consent it is, once the policy lets the caller withdraw it; raise Refusal otherwise."""
        if verifier is None:
            raise Refusal(
                403, "tokens-not-configured", "writes need tokens: set RUQSAT_TOKEN_ISSUER and its companions"
            )
        try:
            values = [value for name, value in request.scope["headers"] if name == b"authorization"]
            who = verifier.verify(values)
        except Unauthenticated as error:
            await decision_point.record_refusal("unauthenticated", origin)
            raise Refusal(
                401, "unauthenticated", "a valid bearer token is needed",
                {"WWW-Authenticate": f'Bearer realm="ruqsat", error="{error.code}"'},
            ) from None  # fmt: skip
        patient = await registry.find_patient_of(consent)
        answer = await decision_point.decide(_question(who.subject, who.purpose, consent, patient), origin)
        if answer.reason == TRY_LATER:
            raise Refusal(503, TRY_LATER, "this cannot be decided and recorded now; nothing was changed")
        if patient is None or not answer.decision.allowed:
            # An unknown consent and a forbidden one read the same, whatever the reason was.
            raise Refusal(403, "not_permitted", "this consent is not yours to withdraw, or there is none by this id")
        return patient

    return app


def _question(subject: Any, purpose: Any, consent: str, patient: str | None) -> EvaluationRequest:
    properties = ResourceProperties(patient=patient, data_class="consent", labels=())
    return EvaluationRequest(
        subject, Action("consent_manage"), Resource("Consent", consent, properties), RequestContext(purpose=purpose)
    )


def _with_withdrawal(facts: PatientFacts, consent: str, now: Instant) -> PatientFacts:
    """Return the facts with one document withdrawn; a withdrawal that stands already keeps its instant."""

    def changed(document: Consent) -> Consent:
        if document.id != consent or document.status == "revoked":
            return document
        return msgspec.structs.replace(document, status="revoked", revoked_at=now)

    return msgspec.structs.replace(facts, consents=tuple(changed(document) for document in facts.consents))


def _problem(_request: Request, error: Exception) -> Awaitable[Response] | Response:
    refusal = error if isinstance(error, Refusal) else Refusal(500, "error", "the call failed")
    body = Problem(
        type=f"urn:ruqsat:problem:{refusal.code}", title=refusal.code, status=refusal.status, detail=refusal.detail
    )
    return JSONResponse(
        body.model_dump(), refusal.status, headers=refusal.headers, media_type="application/problem+json"
    )


def _unavailable(request: Request, error: Exception) -> Awaitable[Response] | Response:
    code = error.code if isinstance(error, RuqsatError) else "store-unavailable"
    unknown = isinstance(error, OutcomeUnknownError)
    outcome = "perhaps the change was made: look, or make it again" if unknown else "nothing was changed"
    return _problem(request, Refusal(503, code, f"the store did not answer; {outcome}"))
