"""One HTTP/1.1 request, in exactly the bytes that are wanted: nothing is escaped, tidied or refused on the way."""

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from ruqsat.errors import SettingsError

_MAX_BODY = 1024 * 1024
TIMEOUT_SECONDS = 30.0


class Front(Struct, frozen=True):
    """Where a proxy listens."""

    host: str
    port: int
    tls: bool

    @property
    def authority(self) -> str:
        """What a browser would send as ``Host``."""
        return f"{self.host}:{self.port}"


class Reply(Struct, frozen=True):
    """What came back; status 0 is a connection that was closed without an answer."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""


def read_front(url: str) -> Front:
    """
    Read the URL of a proxy.

    Raises:
        SettingsError: it is no URL of an HTTP server, or names more than one.

    Examples:
        >>> read_front("http://127.0.0.1:8080")
        Front(host='127.0.0.1', port=8080, tls=False)
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SettingsError("--front is no URL") from None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.path not in ("", "/")
        or "@" in parts.netloc
    ):
        raise SettingsError("--front is no URL of a proxy: expected http://HOST:PORT or https://HOST[:PORT]")
    tls = parts.scheme == "https"
    return Front(parts.hostname, port or (443 if tls else 80), tls)


def ask(front: Front, method: str, target: str, lines: tuple[str, ...]) -> Reply:
    """
    Send one request on a connection of its own.

    Args:
        lines: Whole header lines besides ``Host``, and ``Connection: close`` where they say nothing of it.

    Raises:
        OSError: nobody accepts there, or not with a certificate that can be believed.
    """
    close = () if any(line.startswith("Connection:") for line in lines) else ("Connection: close",)
    head = [f"{method} {target} HTTP/1.1", f"Host: {front.authority}", *close, *lines, "", ""]
    with socket.create_connection((front.host, front.port), timeout=TIMEOUT_SECONDS) as plain:
        if not front.tls:
            return _exchange(plain, method, "\r\n".join(head).encode("utf-8"))
        with ssl.create_default_context().wrap_socket(plain, server_hostname=front.host) as secured:
            return _exchange(secured, method, "\r\n".join(head).encode("utf-8"))


def _exchange(connection: socket.socket, method: str, request: bytes) -> Reply:
    response = http.client.HTTPResponse(connection, method=method)
    try:
        connection.sendall(request)
        response.begin()
        body = response.read(_MAX_BODY)
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    except (http.client.HTTPException, ConnectionError, TimeoutError):
        return Reply(0)
    finally:
        response.close()
