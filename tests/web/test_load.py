"""What is too much is turned away at once, and what was taken in is answered."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from ruqsat.core.decision import Decision
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.service.answer import Answer
from ruqsat.web.authzen import EVALUATION, EVALUATIONS, AuthZen
from ruqsat.web.enforcement_points import Door
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.load import Load
from ruqsat.web.protocol import TARGET
from tests.process.starter import Sidecar, question, serving
from tests.web.test_forward_auth import TOKEN, VERIFIER, routes, truth
from tests.wire.ways import CHECK, opened

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

    async def decide_all(self, requests: Sequence[EvaluationRequest], *_: Any) -> list[Answer | BaseException]:
        """Wait, then allow or fail all."""
        return await asyncio.gather(*[self.decide() for _ in requests], return_exceptions=True)

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


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with every listener and room for all, two of them on Unix sockets, whose buffers do not grow."""
    folder = tmp_path_factory.mktemp("roomy")
    unix = {f"{name}_listen": f"unix:{folder}/{name}.sock" for name in ("json", "auth")}
    with serving(folder, grpc_listen="127.0.0.1:0", **unix) as process:
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
DRIPS = {
    "blank lines": (b"", b"\r\n"),
    "a head": (LORIS["half a head"], b"X: y\r\n"),
    "a body": (LORIS["half a body"], b" "),
    "chunks": (b"POST /v1/consents HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}
"""Begun like the first, and then the second again and again, so that the connection is never silent."""

ASKED_ALOUD = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
PATIENCE = 60


async def held(address: str, begun: bytes, drip: bytes = b"") -> None:
    """Hold a connection until the server ends it; dripping, or without another word."""
    reader, writer = await opened(address)
    writer.write(begun)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        if not await reader.read(4096):
                            return
                writer.write(drip)
                await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.transport.abort()


async def unread(address: str) -> None:
    """Ask for more than fits into any buffer and read none of it until the server has cut the connection."""
    is_unix, (host, _, port) = address.startswith("unix:"), address.rpartition(":")
    connection = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(connection, port if is_unix else (host, int(port)))
        async with asyncio.timeout(PATIENCE):
            while True:
                await loop.sock_sendall(connection, ASKED_ALOUD)
                await asyncio.sleep(0.002)
    except ConnectionError:
        return
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["json", "auth", "control"])
def test_whoever_is_slow_is_closed(roomy: Sidecar, listener: str) -> None:
    """At once with the others: silent, cut short, a byte now and then in head or body, and one who never reads."""
    address = roomy.addresses[listener]

    async def all_at_once() -> None:
        async with asyncio.TaskGroup() as group:
            for begun in LORIS.values():
                group.create_task(held(address, begun))
            for begun, drip in DRIPS.values():
                group.create_task(held(address, begun, drip))
            group.create_task(unread(address))

    asyncio.run(all_at_once())
    assert roomy.evaluate().json()["decision"] is True


@pytest.mark.slow
def test_requests_are_not_kept_in_memory_for_whoever_sends_them_ahead(roomy: Sidecar) -> None:
    """A few ahead of their answers are answered in their order; whoever goes on sending without waiting is closed."""

    one = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"

    async def sent(counts: list[int]) -> int:
        reader, writer = await opened(roomy.addresses["json"])
        answers = 0
        with suppress(ConnectionError, TimeoutError):
            for count in counts:
                writer.write(one * count)
                await writer.drain()
                await asyncio.sleep(0)
            async with asyncio.timeout(5):
                while part := await reader.read(65_536):
                    answers += part.count(b"HTTP/1.1 404")
        writer.transport.abort()
        return answers

    assert asyncio.run(sent([10])) == 10
    assert asyncio.run(sent([100] * 50)) < 5_000


def test_a_reader_who_takes_its_time_is_waited_for(roomy: Sidecar) -> None:
    """Only who reads nothing is cut: an answer that fills every buffer arrives whole where it is read slowly."""
    host, port = roomy.addresses["control"].rsplit(":", 1)
    whole = roomy.call("control", "GET", "/openapi.json").content
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        connection.settimeout(PATIENCE)
        connection.sendall(ASKED_ALOUD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = b""
        while part := connection.recv(4096):
            received += part
            time.sleep(0.002)

    assert received.endswith(whole)


@pytest.mark.slow
def test_a_call_that_asks_nothing_is_answered_over_grpc(roomy: Sidecar) -> None:
    """Silent, half a greeting: closed; a call whose question does not come, or comes by the byte: denied, and over."""
    settings = _h2(4, 0, 0, b"")
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": CHECK,
        ":authority": "h",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    block = b"".join(b"\x00" + bytes((len(n),)) + n.encode() + bytes((len(v),)) + v.encode() for n, v in fields.items())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    call = preface + settings + _h2(1, 4, 1, block)

    async def all_at_once() -> tuple[bytes, ...]:
        address = roomy.addresses["grpc"]
        silent = asyncio.gather(*(held(address, begun) for begun in (b"", preface[:9], preface)))
        drip = _h2(0, 0, 1, b"\x00")
        answered = await asyncio.gather(until_trailers(address, call, b""), until_trailers(address, call, drip))
        await silent
        return tuple(answered)

    assert all(asyncio.run(all_at_once()))


def _h2(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


async def until_trailers(address: str, begun: bytes, drip: bytes) -> bytes:
    """Return what came until the server ended the first stream, by trailers or a reset."""
    reader, writer = await opened(address)
    writer.write(begun)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        head = await reader.readexactly(9)
                        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
                        of_call = int.from_bytes(head[5:], "big") == 1
                        if of_call and (head[3] == 3 or (head[3] == 1 and head[4] & 1)):
                            return head + payload
                        continue
                writer.write(drip)
    finally:
        writer.transport.abort()
