"""What is too much is turned away at once, and what was taken in is answered."""

import asyncio
import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ruqsat.core.decision import Decision
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.service.decision_point import Answer
from ruqsat.web.authzen import EVALUATION, EVALUATIONS, AuthZen
from ruqsat.web.enforcement_points import Door
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.load import Load
from ruqsat.web.protocol import TARGET
from tests.process.starter import Sidecar, question, serving
from tests.web.test_forward_auth import TOKEN, VERIFIER, routes, truth

__all__ = ["routes"]

ALLOW = Decision(True, "allow.consent", "consent", "care-01", ("R3",))


class Slow:
    """A decision point that answers when it is told, or fails."""

    policy_set = SimpleNamespace(request_type=EvaluationRequest)

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.fails = False

    async def decide(self, *_: Any) -> Answer:
        """Wait, then allow or fail."""
        await self.go_on.wait()
        if self.fails:
            raise RuntimeError("x")
        return Answer("d-1", ALLOW, "permitted", (), "p", "t")

    def may_send(self, *_: Any) -> bool:
        """Whatever was decided holds."""
        return True

    async def record_refusal(self, *_: Any) -> str:
        """Never reached here."""
        raise AssertionError


async def proxied(app: ForwardAuth) -> tuple[int, dict[bytes, bytes]]:
    """Ask as nginx would."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"h"), (b"authorization", TOKEN), *truth("nginx")]
    await app({"type": "http", "method": "GET", TARGET: b"/authz/nginx", "headers": headers}, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"])


async def posted(app: AuthZen, path: str, body: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask as an application would."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(body).encode()}

    scope = {"type": "http", "method": "POST", "path": path, "headers": [(b"content-type", b"application/json")]}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


@pytest.mark.parametrize("fails", [False, True])
def test_more_than_the_limit_is_turned_away_and_places_come_free(fails: bool, routes: RouteTable) -> None:
    """All listeners share one limit; every request is answered; after the burst everything is as before."""

    async def burst() -> None:
        point, load = Slow(), Load(3)
        point.fails = fails
        auth = ForwardAuth(point, VERIFIER, routes, load=load)  # type: ignore[arg-type]
        authzen = AuthZen(point, Door.opened(), load=load)
        first = [asyncio.create_task(each) for each in (
            proxied(auth), posted(authzen, EVALUATION, question()), posted(authzen, EVALUATIONS, question() | {"evaluations": [{}]}),
        )]  # fmt: skip
        for _ in range(100):
            await asyncio.sleep(0)
        assert load.now == 3

        status, headers = await proxied(auth)
        assert (status, headers[b"x-ruqsat-reason"], headers[b"x-ruqsat-subject"]) == (403, b"overloaded", b"")
        for path in (EVALUATION, EVALUATIONS):
            status, headers, body = await posted(authzen, path, question())
            assert (status, headers[b"retry-after"]) == (503, b"1")
            assert b"true" not in body
        assert load.shed == 3

        point.go_on.set()
        answered = await asyncio.gather(*first)
        assert load.now == 0
        assert [each[0] for each in answered] == ([403, 500, 200] if fails else [200, 200, 200])
        assert (await proxied(auth))[0] == (403 if fails else 200)

    asyncio.run(burst())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar that holds few connections."""
    with serving(tmp_path_factory.mktemp("small"), max_connections="5") as process:
        yield process


def is_closed(connection: socket.socket) -> bool:
    """Tell whether the other end has closed it."""
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_connections_beyond_the_limit_are_closed_and_the_others_served(small: Sidecar) -> None:
    """The listeners have a limit each; once one has left, the next is let in."""
    host, port = small.addresses["json"].rsplit(":", 1)
    held = [socket.create_connection((host, int(port))) for _ in range(5)]
    for connection in held:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert connection.recv(12).startswith(b"HTTP/1.1 404")
    late = socket.create_connection((host, int(port)))

    assert is_closed(late)
    assert small.call("control", "GET", "/health/ready").status_code == 200
    for connection in (*held, late):
        connection.close()
    assert small.evaluate().json()["decision"] is True


@pytest.mark.parametrize("upgrade", [
    b"GET /access/v1/evaluation HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
])  # fmt: skip
def test_no_other_protocol_is_spoken(small: Sidecar, upgrade: bytes) -> None:
    """An upgrade is not taken up, and HTTP/2 is no request."""
    host, port = small.addresses["json"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(upgrade)
        answer = connection.recv(64)

    assert not answer.startswith((b"HTTP/1.1 101", b"HTTP/1.1 2", b"\x00"))


LORIS = {
    "says nothing": b"", "half a line": b"GET / HT", "half a head": b"POST /access/v1/evaluation HTTP/1.1\r\nHost: h\r\n",
    "half a body": b"POST /access/v1/evaluation HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                   b"Content-Length: 100\r\n\r\n{",
}  # fmt: skip


@pytest.mark.parametrize("listener", ["json", "auth", "control"])
def test_whoever_is_slow_is_closed(small: Sidecar, listener: str) -> None:
    """At once with the others: idle, half a line, half a head, half a body, a byte now and then."""
    host, port = small.addresses[listener].rsplit(":", 1)
    slow = []
    for begun in LORIS.values():
        connection = socket.create_connection((host, int(port)))
        connection.sendall(begun)
        slow.append(connection)

    for connection in slow:
        connection.settimeout(30)
        while connection.recv(4096):
            pass  # a listener may say why before it closes
        connection.close()
