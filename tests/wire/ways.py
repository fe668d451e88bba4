"""How each listener of a running sidecar is asked: by the bytes of a request, or over gRPC."""

import asyncio
import json
from contextlib import suppress
from typing import NamedTuple

import grpc
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

DIALECTS = {
    "envoy": (), "nginx": ("Original", "URI"), "haproxy": ("Original", "URI"), "traefik": ("Forwarded", "Uri"),
    "caddy": ("Forwarded", "Uri"),
}  # fmt: skip
RECORD = "/patients/p-dana/labs/o1"
EVALUATION = "/access/v1/evaluation"
PATIENCE = 30
CHECK = "/envoy.service.auth.v3.Authorization/Check"


class Told(NamedTuple):
    """What came back on a connection, and whether the server closed it."""

    raw: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        """The status of every answer, but for an interim one."""
        found = [part[:3] for part in self.raw.split(b"HTTP/1.1 ")[1:]]
        return [int(each) for each in found if each != b"100"]

    @property
    def status(self) -> int:
        """The one status; 0 where the connection was closed without a word."""
        assert len(self.statuses) <= 1, self.raw
        return self.statuses[0] if self.statuses else 0

    @property
    def allows(self) -> bool:
        """Tell whether any caller would take it for a permit: a proxy any 2xx, an application `true`."""
        return any(200 <= each < 300 for each in self.statuses) and not self.is_denial_in_json

    @property
    def is_denial_in_json(self) -> bool:
        """Tell whether it says of itself that it is AuthZEN's denial, or holds no decision that allows."""
        return b"application/json" in self.raw and b'"decision":true' not in self.raw.replace(b" ", b"")


def request(method: str, target: bytes | str, *lines: bytes | str, body: bytes = b"", host: bool = True) -> bytes:
    """Return the bytes of a request."""
    written = [each if isinstance(each, bytes) else each.encode() for each in lines]
    first = method.encode() + b" " + (target if isinstance(target, bytes) else target.encode()) + b" HTTP/1.1"
    told = [b"Host: records.example"] if host else []
    length = [b"Content-Length: %d" % len(body)] if body or method not in ("GET", "HEAD") else []
    return b"\r\n".join([first, *told, *written, *length, b"", body])


def proxied(dialect: str, target: bytes | str, *lines: bytes | str, method: str = "GET") -> bytes:
    """Return what a proxy of that dialect sends to ask about *target*."""
    raw = target if isinstance(target, bytes) else target.encode()
    if dialect == "envoy":
        return request(method, b"/authz/envoy" + raw, *lines)
    kind, uri = DIALECTS[dialect]
    truth = (f"X-{kind}-Method: {method}", f"X-{kind}-{uri}: ".encode() + raw, f"X-{kind}-Host: records.example")
    return request("GET", f"/authz/{dialect}", *truth, *lines)


def posted(path: str, body: bytes, *lines: bytes | str, kind: str = "application/json") -> bytes:
    """Return a request with a JSON body."""
    return request("POST", path, f"Content-Type: {kind}", *lines, body=body)


async def opened(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to ``host:port`` or ``unix:/path``."""
    if address.startswith("unix:"):
        return await asyncio.open_unix_connection(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def told(address: str, sent: bytes, *, to_the_end: bool = False) -> Told:
    """
    Send bytes and return what comes back: one answer, or with *to_the_end* all until the server closes.

    The server must close what it did not read as one whole request; a wait beyond all patience is the test's failure.
    """
    reader, writer = await opened(address)
    received, closed = b"", False
    try:
        with suppress(ConnectionError):
            writer.write(sent)
            await writer.drain()
            async with asyncio.timeout(PATIENCE):
                while to_the_end or not is_whole(received):
                    part = await reader.read(65_536)
                    closed = not part
                    received += part
                    if closed:
                        break
            return Told(received, closed)
        return Told(received, True)
    finally:
        writer.transport.abort()


def is_whole(received: bytes) -> bool:
    """Tell whether the bytes are one whole answer, after which the connection stays open."""
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    if not lengths:
        return received.endswith(b"0\r\n\r\n")
    closes = b"connection: close" in head.lower()
    return len(body) >= int(lengths[0].partition(b":")[2]) and not closes


def question(**parts: str) -> dict[str, str]:
    """Return the parts of an allowed question as JSON, some replaced."""
    return {
        "subject": '{"type":"user","id":"dr_aida"}', "action": '{"name":"read"}',
        "resource": '{"type":"Record","id":"o1","properties":{"patient":"p-dana","class":"labs"}}',
        "context": '{"purpose":"TREAT"}',
    } | parts  # fmt: skip


def asked(**parts: str) -> bytes:
    """Return an allowed question as a body, some parts replaced."""
    return json.dumps({name: json.loads(text) for name, text in question(**parts).items()}).encode()


def checked(target: bytes | str, authorization: list[bytes], method: str = "GET", **http: str) -> CheckRequest:
    """Return Envoy's question about *target*; bytes that are no UTF-8 cannot be told over gRPC and come as Latin-1."""
    message = CheckRequest()
    path = target if isinstance(target, str) else target.decode("latin-1")
    message.attributes.request.http.CopyFrom(
        AttributeContext.HttpRequest(method=method, path=path, host="records.example", **http)
    )
    for each in authorization:
        message.attributes.request.http.header_map.headers.add(key="authorization", raw_value=each)
    return message


async def check(address: str, messages: list[bytes]) -> list[CheckResponse | grpc.StatusCode]:
    """Send messages as they are, in calls of one connection, and return each answer or what the call ended with."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(CHECK, request_serializer=bytes, response_deserializer=CheckResponse.FromString)

        async def one(message: bytes) -> CheckResponse | grpc.StatusCode:
            try:
                answer: CheckResponse = await call(message, timeout=PATIENCE)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return answer

        return [await each for each in [asyncio.ensure_future(one(message)) for message in messages]]


def lets_through(answer: CheckResponse | grpc.StatusCode) -> bool:
    """Tell whether Envoy would forward the request: an empty answer is permission, too."""
    return isinstance(answer, CheckResponse) and (
        answer.status.code == 0 or answer.WhichOneof("http_response") != "denied_response"
    )
