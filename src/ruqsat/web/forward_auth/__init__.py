"""
The forward-auth listener: proxies ask, 200 lets through, 401 and 403 do not.

The answer is built in one place whose default is a denial.  The application
never answers anything but 200, 401 and 403: a proxy reads any other 2xx as
permission, and 5xx as a reason to use its failure mode.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from ruqsat.core.admission import Pack
from ruqsat.core.fhir.reading import READ_HEADERS, read_target
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Action as AskedAction
from ruqsat.core.request import EvaluationRequest, RequestContext, Resource, ResourceProperties
from ruqsat.core.routes import Mapped, RouteTable, mapped_of
from ruqsat.core.target import TargetRejected, parse_target
from ruqsat.errors import RequestError
from ruqsat.service.decision_point import Answer, Origin
from ruqsat.web.claims import Identity
from ruqsat.web.enforcement_points import Door, EnforcementPoint
from ruqsat.web.forward_auth import caddy, envoy, haproxy, nginx, traefik
from ruqsat.web.forward_auth.shared import BadPepRequest, Dialect, Headers, Original, Scope
from ruqsat.web.identity import TokenVerifier, Unauthenticated
from ruqsat.web.load import Load
from ruqsat.web.protocol import TARGET

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_MAX_TRACEPARENT = 64
_log = logging.getLogger("ruqsat.auth")


class Decides(Protocol):
    """The decision point, as this listener needs it."""

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet | None = None) -> Answer:
        """Decide one request."""
        ...

    async def record_refusal(self, reason: str, origin: Origin, subject: str | None = None) -> str:
        """Journal a refusal that was settled before any evaluation; return its id."""
        ...


class _Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """Refused before any evaluation."""

    def __init__(self, reason: str, status: int = 403, challenge: str = "", subject: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.challenge, self.subject = reason, status, challenge, subject


class Verdict(Struct, frozen=True):
    """
    What a proxy is told: 200 lets the request through, 401 and 403 do not.

    ``subject`` is whom the backend may take the request for; empty unless it is let through.
    """

    status: int = 403
    decision: str = ""
    reason: str = "try_later"
    subject: str = ""
    challenge: str = ""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers of the answer; always all, even empty: one that is absent may let a client's forged one through."""
        told = [
            ("x-ruqsat-decision", self.decision), ("x-ruqsat-reason", self.reason), ("x-ruqsat-subject", self.subject),
        ]  # fmt: skip
        if self.status == 401:
            told.append(("www-authenticate", f'Bearer realm="ruqsat", error="{self.challenge}"'))
        return told


class ForwardAuth:
    """
    What every dialect asks, and the ASGI application of the forward-auth listener.

    A caller through a proxy asserts nothing but its token, method, path and
    query; a proxy can carry out no duty.
    """

    def __init__(
        self, decision_point: Decides, verifier: TokenVerifier, routes: RouteTable,
        policy_set: PolicySet | None = None, door: Door | None = None, load: Load | None = None,
    ) -> None:  # fmt: skip
        self._decision_point = decision_point
        self._verifier = verifier
        self._door = door or Door.opened()
        self._load = load or Load()
        self._in_force = (routes, policy_set)

    def put_in_force(self, pack: Pack) -> None:
        """Read requests by the routes of *pack* from now on, and have them decided by its rules."""
        self._in_force = (pack.routes, pack.policy_set)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request of a proxy."""
        try:
            if scope["type"] != "http":
                return
            dialect, read_original = _dialect_of(scope[TARGET])
            read = partial(read_original, scope) if read_original is not None else _of_no_dialect
            head = _head(await self.judge(dialect, read, scope["headers"], lambda: self._door.enter(scope)))
        except Exception:  # noqa: BLE001 - 500 would be a proxy's reason to use its failure mode
            _log.exception("forward_auth_failed")
            head = _REFUSAL
        except asyncio.CancelledError:
            head = _REFUSAL
        await send(head)
        await send({"type": "http.response.body", "body": b""})

    async def judge(
        self, dialect: str, read_original: Callable[[], Original], headers: Headers,
        enter: Callable[[], EnforcementPoint | None],
    ) -> Verdict:  # fmt: skip
        """
        Decide; the only way to 200 is an allowed decision, and whatever goes wrong stays 403.

        Args:
            read_original: Returns the request that a client sent to the proxy; raises BadPepRequest.
            headers: Its headers, names in lower case; the token, the trace and what a FHIR server would read are read.
            enter: Returns who asks; None for nobody that is registered here.
        """
        origin = Origin(dialect)
        try:
            if self._load.turns_away():
                return Verdict(reason="overloaded")
            point = enter()
            origin = Origin(dialect, traceparent=_traceparent(headers), point="" if point is None else point.name)
            if point is None:
                raise _Refused("bad_pep_request")
            asked, who = await self._read(read_original, headers)
            if who.actors or who.issued_at is not None:
                origin = replace(origin, actors=who.actors, issued_at=who.issued_at)
            routes, policy_set = self._in_force
            return await self._decided(_question(who, _map(asked, who, routes, headers)), origin, policy_set)
        except _Refused as refusal:
            decision = await self._recorded(refusal, origin)
            return Verdict(refusal.status, decision, "not_permitted", challenge=refusal.challenge)
        except RequestError:
            return Verdict(reason="not_permitted")
        except asyncio.CancelledError:
            # The process stops and waits no longer: what is undecided is refused, like anything else.
            _log.warning("forward_auth_cut_short")
        except Exception:  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            _log.exception("forward_auth_failed")
        return Verdict()

    async def _decided(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet | None) -> Verdict:
        # Under way from here on: whoever waits for a key of the issuer's takes nobody's place.
        if not self._load.enter():
            return Verdict(reason="overloaded")
        try:
            answer = await self._decision_point.decide(request, origin, policy_set)
        finally:
            self._load.leave()
        if answer.decision.allowed is True:
            return Verdict(200, answer.id, answer.reason, request.subject.id)
        return Verdict(403, answer.id, answer.reason)

    async def _read(self, read_original: Callable[[], Original], headers: Headers) -> tuple[Original, Identity]:
        """Return the request that a client sent to the proxy, and who asks; raises _Refused."""
        try:
            asked = read_original()
            return asked, await self._verifier.identify([value for name, value in headers if name == b"authorization"])
        except BadPepRequest:
            raise _Refused("bad_pep_request") from None
        except Unauthenticated as error:
            raise _Refused("unauthenticated", 401, error.code) from None

    async def _recorded(self, refusal: _Refused, origin: Origin) -> str:
        try:
            return await self._decision_point.record_refusal(refusal.reason, origin, refusal.subject)
        except asyncio.CancelledError:
            # The process stops and waits no longer: the refusal stands.
            return ""
        except Exception:  # noqa: BLE001 - the refusal stands whether or not it could be recorded
            _log.exception("refusal_not_recorded")
            return ""


_DIALECTS: dict[bytes, tuple[str, Dialect]] = {
    b"/authz/nginx": ("nginx", nginx.read_original),
    b"/authz/caddy": ("caddy", caddy.read_original),
    b"/authz/traefik": ("traefik", traefik.read_original),
    b"/authz/haproxy": ("haproxy", haproxy.read_original),
}


def _head(verdict: Verdict) -> dict[str, Any]:
    told = [(name.encode("ascii"), value.encode("utf-8")) for name, value in verdict.headers]
    return {"type": "http.response.start", "status": verdict.status, "headers": [(b"content-length", b"0"), *told]}


_REFUSAL = _head(Verdict())
"""Made beforehand: what is sent where not even an answer could be made."""


def _dialect_of(target: bytes) -> tuple[str, Dialect | None]:
    """Return the dialect of a path.  Caddy appends the original query to it, which means nothing here."""
    if target.startswith(envoy.PREFIX + b"/"):
        return "envoy", envoy.read_original
    return _DIALECTS.get(target.partition(b"?")[0], ("unknown", None))


def _of_no_dialect() -> Original:
    raise BadPepRequest


def _map(asked: Original, who: Identity, routes: RouteTable, headers: Headers) -> Mapped:
    try:
        target = parse_target(asked.target, None)
    except TargetRejected:
        raise _Refused("bad_target", subject=who.subject.id) from None
    reason = "unmapped.route"
    if routes.fhir is not None and routes.fhir.server_of(target.segments) is not None:
        # No proxy shows its client's body here, none can filter an answer: what needs either is refused.
        meaning = read_target(asked.method, target, _fhir_headers(headers), None, routes.fhir)
        mapped, reason = mapped_of(meaning), f"fhir.{meaning.reason or 'answer_unfiltered'}"
    else:
        mapped = routes.match(asked.method, target.segments, target.query)
    if mapped is None:
        raise _Refused(reason, subject=who.subject.id)
    return mapped


def _fhir_headers(headers: Headers) -> list[tuple[str, str]]:
    """Return the client's headers that change what a FHIR request means, as far as the proxy hands them on."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name.replace(b"_", b"-").decode("latin-1") in READ_HEADERS
    ]


def _question(who: Identity, mapped: Mapped) -> EvaluationRequest:
    properties = ResourceProperties(patient=mapped.patient, data_class=mapped.data_class)
    return EvaluationRequest(
        who.subject,
        AskedAction(mapped.action),
        Resource(mapped.resource_type, mapped.resource_id, properties),
        RequestContext(
            purpose=who.purpose if who.purpose is not None else mapped.purpose,
            smart_scopes=who.smart_scopes,
            launch_patient=who.launch_patient,
        ),
    )


def _traceparent(headers: Headers) -> str | None:
    found = next((value for name, value in headers if name == b"traceparent"), None)
    return None if found is None else found[:_MAX_TRACEPARENT].decode("latin-1")
