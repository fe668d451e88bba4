"""An HTTP/1.1 client that sends exactly the bytes it is given: nothing is escaped, tidied or refused on the way."""

import http.client
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

TIMEOUT_SECONDS = 30
"""HAProxy 2.6 asks a sidecar that does not accept three times more, five seconds each, before it gives up."""


class Reply(NamedTuple):
    """What came back; status 0 is a connection that was closed without an answer."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Connection:
    """One connection to loopback; closed at the end of the block."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read(self, method: str = "GET") -> Reply:
        """Read one answer to a request of that method."""
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
            body = response.read()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        except (http.client.HTTPException, ConnectionError):
            return Reply(0)
        finally:
            response.close()

    def ask(self, method: str, target: str | bytes, *headers: str, body: bytes = b"") -> Reply:
        """Send one request and read its answer; *headers* are whole lines."""
        try:
            self.send(request(method, target, *headers, body=body))
        except ConnectionError:
            return Reply(0)
        return self.read(method)


def request(method: str, target: str | bytes, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request; a host is added unless one is among the headers."""
    line = target if isinstance(target, bytes) else target.encode("utf-8")
    has_host = any(header.lower().startswith("host:") for header in headers)
    lines = [*([] if has_host else ["Host: records.example"]), *headers]
    head = "".join(f"{header}\r\n" for header in lines).encode("latin-1")
    return method.encode("ascii") + b" " + line + b" HTTP/1.1\r\n" + head + b"\r\n" + body


def ask(port: int, method: str, target: str | bytes, *headers: str, body: bytes = b"") -> Reply:
    """Send one request on a connection of its own."""
    with Connection(port) as connection:
        return connection.ask(method, target, *headers, body=body)


def bearer(token: str) -> str:
    """Return the header line of a token."""
    return f"Authorization: Bearer {token}"
