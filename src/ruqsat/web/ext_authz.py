"""
Envoy's ``ext_authz`` over gRPC (``envoy.service.auth.v3``): the listener and its one answer.

To Envoy an empty answer is permission (status 0 is OK), so the answer is built in
one function that begins with a denial; only the verdict 200 makes another of it.
Whatever fails on the way is a denial, too; an answer that never comes is Envoy's
to refuse (``failure_mode_allow: false``).
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from envoy.config.core.v3.base_pb2 import HeaderValue, HeaderValueOption
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse
from envoy.type.v3.http_status_pb2 import HttpStatus
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from ruqsat.errors import SettingsError
from ruqsat.web.enforcement_points import SECRET, Door, Peer
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.forward_auth.shared import BadPepRequest, Headers, Original, Refused, original
from ruqsat.web.forward_auth.signed import ENVOY, MAX_BODY_BYTES, refuse_part
from ruqsat.web.forward_auth.verdict import Verdict
from ruqsat.web.listeners import KEEP_ALIVE_SECONDS, Listen, Tls, remove_stale
from ruqsat.web.protocol import READ_SECONDS

SERVICE = "envoy.service.auth.v3.Authorization"
MAX_MESSAGE_BYTES = 128 * 1024
"""The body of a signed record, which is held to 64 KiB elsewhere, and what comes with it."""
MAX_AT_ONCE = 1024
PERMISSION_DENIED, UNAUTHENTICATED = 7, 16
UPSTREAM = ("x-ruqsat-subject", "x-ruqsat-decision")
"""What the backend gets, over whatever the client sent; what else is ours is taken away."""

_log = logging.getLogger("ruqsat.grpc")


class ExtAuthz:
    """The service: reads the attributes that Envoy itself sets, and nothing that a client could."""

    def __init__(self, forward_auth: ForwardAuth, door: Door) -> None:
        self._forward_auth = forward_auth
        self._door = door

    async def check_first(self, requests: AsyncIterator[CheckRequest], context: Any) -> CheckResponse:
        """
        Answer the one question of a call; one that does not come in time is denied.

        To gRPC this is a call with any number of questions, for of those it tells us before their first has come.
        """
        try:
            async with asyncio.timeout(READ_SECONDS):
                request = await anext(requests)
            return await self.Check(request, context)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - late, unreadable, or none at all
            return _REFUSAL

    async def Check(self, request: CheckRequest, context: Any) -> CheckResponse:  # noqa: N802 - gRPC's name
        """Answer one question."""
        try:
            http = request.attributes.request.http
            verdict = await self._forward_auth.judge(
                "envoy-grpc",
                lambda: read_original(http),
                _headers(http),
                lambda: self._door.find(*_proofs(context)),
                partial(_body, http),
            )
            return build_response(verdict)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            # A call that its caller cancels is answered to nobody; one that the process cuts short is denied.
            _log.exception("ext_authz_failed")
            return _REFUSAL


def read_original(http: AttributeContext.HttpRequest) -> Original:
    """
    Return the original request.

    Raises:
        BadPepRequest: an attribute is missing or makes no sense, there is a fragment, or a query beside the path:
            Envoy tells it within.
    """
    if not http.path or not http.host or http.fragment or http.query:
        raise BadPepRequest
    try:
        return original(http.method.encode("ascii"), http.path.encode("latin-1"), http.host.encode("ascii"))
    except UnicodeEncodeError:
        raise BadPepRequest from None


def _headers(http: AttributeContext.HttpRequest) -> Headers:
    """Return the headers, in whichever of the two forms Envoy was told to send them."""
    listed = [(each.key, each.raw_value or each.value.encode()) for each in http.header_map.headers]
    joined = [(name, value.encode()) for name, value in http.headers.items()]
    return [(name.lower().encode(), value) for name, value in (*listed, *joined)]


async def _body(http: AttributeContext.HttpRequest) -> bytes:
    """Return the body, in whichever of the two forms Envoy was told to send it, as ``ReadBody``."""
    refuse_part(_headers(http), ENVOY)
    if http.body and http.raw_body:
        raise Refused("signature.body_partial")
    body: bytes = http.raw_body or http.body.encode()
    if len(body) > MAX_BODY_BYTES:
        raise Refused("signature.body_too_large")
    return body


def _proofs(context: Any) -> tuple[Peer, list[bytes]]:
    """Return what the connection and the call prove of who asks."""
    auth = context.auth_context()
    names = [name.decode() for name in auth.get("x509_subject_alternative_name", ())]
    # gRPC tells the names without their kinds; only URIs say by themselves what they are.
    known = tuple(f"uri:{name}" if "://" in name else f"dns:{name}" for name in names)
    sent = context.invocation_metadata() or ()
    return Peer(known), [str(value).encode() for name, value in sent if name == SECRET.decode()]


def build_response(verdict: Verdict) -> CheckResponse:
    """Return the answer: a denial, unless the verdict is 200."""
    headers = [_over(name, value) for name, value in verdict.headers]
    code = UNAUTHENTICATED if verdict.status == 401 else PERMISSION_DENIED
    response = CheckResponse(
        status=Status(code=code),
        denied_response=DeniedHttpResponse(
            status=HttpStatus(code=401 if verdict.status == 401 else 403),
            headers=[header for header in headers if header.header.key != "x-ruqsat-subject"],
        ),
    )
    if verdict.status == 200:
        response = CheckResponse(
            status=Status(code=0),
            ok_response=OkHttpResponse(
                headers=[header for header in headers if header.header.key in UPSTREAM],
                headers_to_remove=["x-ruqsat-reason"],
                response_headers_to_add=[header for header in headers if header.header.key == "x-ruqsat-decision"],
            ),
        )
    return response


def _over(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        keep_empty_value=True,
    )


_REFUSAL = build_response(Verdict())
"""Made beforehand: what is sent where not even an answer could be made."""


class GrpcListener:
    """The listener: bound when it starts, drained when it stops."""

    name = "grpc"

    def __init__(
        self, listen: Listen, forward_auth: ForwardAuth, door: Door, tls: Tls | None = None, *, is_shared: bool = False
    ) -> None:
        self._listen, self._is_shared = listen, is_shared
        self._service = ExtAuthz(forward_auth, door)
        self._tls = tls
        self._health = health.HealthServicer()

    async def start(self) -> str:
        """
        Bind and serve; return the address.

        Raises:
            SettingsError: the address cannot be bound.
        """
        self._make_room()
        options = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.so_reuseport", int(self._is_shared)),
            ("grpc.server_handshake_timeout_ms", int(READ_SECONDS * 1000)),
            ("grpc.max_connection_idle_ms", KEEP_ALIVE_SECONDS * 1000),
        ]  # fmt: skip
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_AT_ONCE)
        check = grpc.stream_unary_rpc_method_handler(
            self._service.check_first, CheckRequest.FromString, CheckResponse.SerializeToString
        )
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in ("", SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        try:
            port = self._bind(str(self._listen))
        except RuntimeError as error:
            raise SettingsError(f"the grpc listener cannot be bound to `{self._listen}`") from error
        await self._server.start()
        return str(self._listen) if self._listen.path else str(Listen(self._listen.host, port))

    def _make_room(self) -> None:
        """Refuse a Unix socket that somebody serves: the library would take its place."""
        try:
            if self._listen.path:
                remove_stale(Path(self._listen.path))
        except OSError as error:
            raise SettingsError(
                f"the grpc listener cannot be bound to `{self._listen}`: {error.strerror or error}"
            ) from error

    def _bind(self, address: str) -> int:
        if self._listen.path:
            port = int(self._server.add_insecure_port(address))
            Path(self._listen.path).chmod(0o660)
            return port
        if self._tls is None:
            return int(self._server.add_insecure_port(address))
        tls, trusted = self._tls, None if self._tls.client_ca is None else self._tls.client_ca.read_bytes()

        def read() -> Any:
            pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
            return grpc.ssl_server_certificate_configuration([pair], trusted)

        renewed: deque[Any] = deque(maxlen=1)
        tls.on_renewal.append(lambda: renewed.append(read()))
        credentials = grpc.dynamic_ssl_server_credentials(
            read(), lambda: renewed.pop() if renewed else None, require_client_authentication=trusted is not None
        )
        return int(self._server.add_secure_port(address, credentials))

    async def stop(self, drain_seconds: float) -> None:
        """Accept nothing new; answer what is in flight within *drain_seconds*."""
        await self._health.enter_graceful_shutdown()
        await asyncio.shield(self._server.stop(drain_seconds))
