"""Envoy's gRPC dialect: to Envoy an empty answer is permission, so there is none."""

import asyncio
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.auth.v3.external_auth_pb2_grpc import AuthorizationStub
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ruqsat.errors import SettingsError
from ruqsat.web.enforcement_points import Door
from ruqsat.web.ext_authz import SERVICE, ExtAuthz, GrpcListener, build_response, read_original
from ruqsat.web.forward_auth.shared import BadPepRequest
from ruqsat.web.forward_auth.verdict import Verdict
from ruqsat.web.listeners import Listen
from tests.sidecar import Sidecar, running_sidecar

O1 = "/patients/p-dana/labs/o1"


class Judge:
    """In the place of the forward-auth core: remembers what it was asked, answers or fails as it is told."""

    def __init__(self, verdict: Any = None) -> None:
        self.verdict = verdict
        self.asked: list[tuple[Any, ...]] = []

    async def judge(self, dialect: str, read: Callable[[], Any], *rest: Any) -> Verdict:
        """Answer."""
        self.asked.append((dialect, read(), *rest))
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict


class Context:
    """A call without a certificate and without metadata."""

    def auth_context(self) -> dict[str, Any]:
        """Prove nothing."""
        return {}

    def invocation_metadata(self) -> None:
        """Say nothing."""


def request(**http: Any) -> CheckRequest:
    """A question about GET of a record, with what *http* says instead."""
    asked = CheckRequest()
    usual = {"method": "GET", "path": O1, "host": "records.example"}
    asked.attributes.request.http.CopyFrom(AttributeContext.HttpRequest(**usual | http))
    return asked


def check(verdict: Any, asked: CheckRequest | None = None) -> CheckResponse:
    """The service's answer."""
    answered: Awaitable[CheckResponse] = ExtAuthz(Judge(verdict), Door.opened()).Check(asked or request(), Context())  # type: ignore[arg-type]
    return asyncio.run(answered)  # type: ignore[arg-type]


def is_denial(answer: CheckResponse) -> bool:
    """Tell whether Envoy refuses the request on this answer."""
    return bool(answer.status.code in (7, 16) and answer.WhichOneof("http_response") == "denied_response")


@pytest.mark.parametrize("verdict", [
    Verdict(), Verdict(403, "d-1", "not_permitted"), Verdict(401, challenge="invalid_token"), Verdict(204), Verdict(0),
    Verdict(302), Verdict(500, subject="dr_aida"), Verdict(True), Verdict(2000), RuntimeError("x"), MemoryError(), None,
    "allow",
])  # fmt: skip
def test_whatever_is_not_200_is_a_denial(verdict: Any) -> None:
    """Never an empty message, never status 0, whatever fails."""
    answer = check(verdict)

    assert is_denial(answer) and answer.denied_response.status.code in (401, 403)
    assert "x-ruqsat-subject" not in str(answer)


def test_200_names_the_subject_over_what_the_client_sent() -> None:
    """Overwritten, never appended; the coarse reason does not reach the backend."""
    answer = MessageToDict(build_response(Verdict(200, "d-1", "permitted", "dr_aida")))

    told = {
        each["header"]["key"]: (each["header"]["value"], each["appendAction"])
        for each in answer["okResponse"]["headers"]
    }
    assert told == {
        "x-ruqsat-subject": ("dr_aida", "OVERWRITE_IF_EXISTS_OR_ADD"),
        "x-ruqsat-decision": ("d-1", "OVERWRITE_IF_EXISTS_OR_ADD"),
    }
    assert answer["okResponse"]["headersToRemove"] == ["x-ruqsat-reason"]
    assert answer["status"] == {}


@pytest.mark.parametrize("http", [
    {"path": ""}, {"host": ""}, {"method": ""}, {"fragment": "x"}, {"query": "a=1"}, {"method": "get"}, {"host": "a,b"},
    {"path": "/\u0416"}, {"host": "\u0416"}, {"method": "\u0416"},
])  # fmt: skip
def test_attributes_that_make_no_sense_are_denied(http: dict[str, str]) -> None:
    """A question that nobody can read is never allowed, even where everything is."""
    with pytest.raises(BadPepRequest):
        read_original(request(**http).attributes.request.http)
    assert is_denial(check(Verdict(200, "d", "permitted", "dr_aida"), request(**http)))


def test_every_authorization_is_told() -> None:
    """In either form of headers: two stay two, so that they are refused where one is meant."""
    raw = request()
    for value in (b"Bearer a", b"Bearer b"):
        raw.attributes.request.http.header_map.headers.add(key="Authorization", raw_value=value)
    judge = Judge(Verdict())
    asyncio.run(ExtAuthz(judge, Door.opened()).Check(raw, Context()))  # type: ignore[arg-type]
    asyncio.run(ExtAuthz(judge, Door.opened()).Check(request(headers={"authorization": "Bearer c"}), Context()))  # type: ignore[arg-type]

    told = [[value for name, value in each[2] if name == b"authorization"] for each in judge.asked]
    assert told == [[b"Bearer a", b"Bearer b"], [b"Bearer c"]]


async def ask(port: int, asked: CheckRequest) -> CheckResponse:
    """Ask a running listener."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return await AuthorizationStub(channel).Check(asked, timeout=10)


def test_the_real_listener_decides(sidecar: Sidecar) -> None:
    """By the token alone: allowed, denied, nobody; and an empty question is a denial."""

    def of(person: str, **http: Any) -> CheckResponse:
        return asyncio.run(ask(sidecar.ports["grpc"], request(
            headers={"authorization": f"Bearer {sidecar.token(person)}"}, **http)))  # fmt: skip

    assert of("dr_aida").status.code == 0
    assert is_denial(of("dr_erlan"))
    assert is_denial(of("dr_aida", path="/patients/p-dana/labs/o2"))
    assert asyncio.run(ask(sidecar.ports["grpc"], request())).denied_response.status.code == 401
    assert is_denial(asyncio.run(ask(sidecar.ports["grpc"], CheckRequest())))


def test_health_is_told(sidecar: Sidecar) -> None:
    """Of the service by name, as Envoy's health checks ask."""

    async def health() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{sidecar.ports['grpc']}") as channel:
            asked = health_pb2.HealthCheckRequest(service=SERVICE)
            return int((await health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)).status)

    assert asyncio.run(health()) == health_pb2.HealthCheckResponse.SERVING


def test_an_address_that_is_taken_is_an_error_of_the_settings(sidecar: Sidecar) -> None:
    """Two listeners never share a port in silence."""

    async def start() -> None:
        await GrpcListener(Listen("127.0.0.1", sidecar.ports["grpc"]), Judge(), Door.opened()).start()  # type: ignore[arg-type]

    with pytest.raises(SettingsError, match="grpc listener"):
        asyncio.run(start())


def test_a_unix_socket_is_for_owner_and_group_and_nobody_else_can_take_its_place(tmp_path: Path) -> None:
    """As every listener's: 0660 whatever the umask, a stale one is replaced, one that is served stays its server's."""
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    settings = {"grpc_listen": f"unix:{path}", "json_listen": "off", "auth_listen": "off"}

    with running_sidecar(tmp_path / "one", **settings):
        served = path.stat()
        assert (stat.S_ISSOCK(served.st_mode), stat.S_IMODE(served.st_mode)) == (True, 0o660)
        with pytest.raises(AssertionError, match="served already"), running_sidecar(tmp_path / "two", **settings):
            pass
        assert path.stat().st_ino == served.st_ino
