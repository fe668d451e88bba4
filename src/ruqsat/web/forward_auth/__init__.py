"""
The forward-auth listener: proxies ask, 200 lets through, 401 and 403 do not.

The answer is built in one place whose default is a denial.  The application
never answers anything but 200, 401 and 403: a proxy reads any other 2xx as
permission, and 5xx as a reason to use its failure mode.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from ruqsat.core.admission import Pack
from ruqsat.core.instant import Instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import Action as AskedAction
from ruqsat.core.request import EvaluationRequest, RequestContext, Resource, ResourceProperties
from ruqsat.core.routes import Mapped, RouteTable
from ruqsat.errors import RequestError
from ruqsat.service.decision_point import Answer, Origin
from ruqsat.web.forward_auth import caddy, envoy, nginx
from ruqsat.web.forward_auth.shared import BadPepRequest, Dialect, Original, Scope
from ruqsat.web.identity import Identity, TokenVerifier, Unauthenticated
from ruqsat.web.protocol import TARGET
from ruqsat.web.target import TargetRejected, parse_target

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


class ForwardAuth:
    """
    The ASGI application of the forward-auth listener.

    A caller through a proxy asserts nothing but its token, method, path and
    query; a proxy can carry out no duty.
    """

    def __init__(
        self, decision_point: Decides, verifier: TokenVerifier, routes: RouteTable, policy_set: PolicySet | None = None
    ) -> None:
        self._decision_point = decision_point
        self._verifier = verifier
        self._in_force = (routes, policy_set)

    def put_in_force(self, pack: Pack) -> None:
        """Read requests by the routes of *pack* from now on, and have them decided by its rules."""
        self._in_force = (pack.routes, pack.policy_set)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request of a proxy."""
        if scope["type"] != "http":
            return
        status, headers = await self._answer(scope)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Decide; the only way to 200 is an allowed decision, and whatever goes wrong stays 403."""
        status, decision, reason, subject, challenge = 403, "", "try_later", "", ""
        dialect, read_original = _dialect_of(scope[TARGET])
        origin = Origin(dialect, traceparent=_traceparent(scope))
        try:
            routes, policy_set = self._in_force
            request, issued_at = self._read(scope, read_original, routes)
            if issued_at is not None:
                origin = Origin(dialect, traceparent=origin.traceparent, issued_at=issued_at)
            answer = await self._decision_point.decide(request, origin, policy_set)
            decision, reason = answer.id, answer.reason
            if answer.decision.allowed is True:
                status, subject = 200, request.subject.id
        except _Refused as refusal:
            status, reason, challenge = refusal.status, "not_permitted", refusal.challenge
            decision = await self._recorded(refusal, origin)
        except RequestError:
            reason = "not_permitted"
        except asyncio.CancelledError:
            # The process stops and waits no longer: what is undecided is refused, like anything else.
            _log.warning("forward_auth_cut_short")
        except Exception:  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            _log.exception("forward_auth_failed")
        headers = [
            (b"content-length", b"0"),
            (b"x-ruqsat-decision", decision.encode("ascii")),
            (b"x-ruqsat-reason", reason.encode("ascii")),
            # Always sent, even empty: a header that is absent here may let a client's forged one through.
            (b"x-ruqsat-subject", subject.encode("utf-8") if status == 200 else b""),
        ]
        if status == 401:
            headers.append((b"www-authenticate", f'Bearer realm="ruqsat", error="{challenge}"'.encode("ascii")))
        return status, headers

    def _read(
        self, scope: Scope, read_original: Dialect | None, routes: RouteTable
    ) -> tuple[EvaluationRequest, Instant | None]:
        """Return the question behind a proxy's call, and when its token was issued; raises _Refused."""
        if read_original is None:
            raise _Refused("bad_pep_request")
        try:
            asked = read_original(scope)
            who = self._verifier.verify([value for name, value in scope["headers"] if name == b"authorization"])
            return _question(who, _map(asked, who, routes)), who.issued_at
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
}


def _dialect_of(target: bytes) -> tuple[str, Dialect | None]:
    """Return the dialect of a path.  Caddy appends the original query to it, which means nothing here."""
    if target.startswith(envoy.PREFIX + b"/"):
        return "envoy", envoy.read_original
    return _DIALECTS.get(target.partition(b"?")[0], ("unknown", None))


def _map(asked: Original, who: Identity, routes: RouteTable) -> Mapped:
    try:
        target = parse_target(asked.target)
    except TargetRejected:
        raise _Refused("bad_target", subject=who.subject.id) from None
    mapped = routes.match(asked.method, target.segments, target.query)
    if mapped is None:
        raise _Refused("unmapped.route", subject=who.subject.id)
    return mapped


def _question(who: Identity, mapped: Mapped) -> EvaluationRequest:
    properties = ResourceProperties(patient=mapped.patient, data_class=mapped.data_class)
    return EvaluationRequest(
        who.subject,
        AskedAction(mapped.action),
        Resource(mapped.resource_type, mapped.resource_id, properties),
        RequestContext(purpose=who.purpose if who.purpose is not None else mapped.purpose),
    )


def _traceparent(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return bytes(value[:_MAX_TRACEPARENT]).decode("latin-1")
    return None
