"""What every dialect shares: what a proxy must tell of the original request, and when it has not told it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from msgspec import Struct

Scope = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_METHOD = 16
_NO_HOST = frozenset(b" ,/@\t")


class Original(Struct, frozen=True):
    """The request that a client sent to the proxy: method, raw target, host."""

    method: str
    target: bytes
    host: str


class BadPepRequest(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The enforcement point did not say, or said twice, what the original request was."""


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """Refused before any evaluation; the reason is for the journal."""

    def __init__(self, reason: str, status: int = 403, challenge: str = "") -> None:
        super().__init__(reason)
        self.reason, self.status, self.challenge = reason, status, challenge


Dialect = Callable[[Scope], Original]


def single(headers: Headers, name: bytes) -> bytes:
    """
    Return the value of the one header of that name.

    Raises:
        BadPepRequest: it is missing, empty, or there twice.
    """
    values = [value for key, value in headers if key == name]
    if len(values) != 1 or not values[0]:
        raise BadPepRequest
    return values[0]


def original(method: bytes, target: bytes, host: bytes) -> Original:
    """
    Return the original request.

    Raises:
        BadPepRequest: the method is no method, or the host no single host.
    """
    if not method.isalpha() or not method.isascii() or not method.isupper() or len(method) > MAX_METHOD:
        raise BadPepRequest
    if not host.isascii() or not _NO_HOST.isdisjoint(host):
        raise BadPepRequest
    return Original(method.decode("ascii"), target, host.decode("ascii"))


def from_headers(scope: Scope, method: bytes, target: bytes, host: bytes) -> Original:
    """
    Return the original request as three headers tell it.

    Raises:
        BadPepRequest: one of the three is missing, empty or doubled, or makes no sense.
    """
    headers = scope["headers"]
    return original(single(headers, method), single(headers, target), single(headers, host))
