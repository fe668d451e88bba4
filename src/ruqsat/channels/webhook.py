"""
A webhook: each notice is POSTed to one address of the operator's, which tells people as it can.

Signed as Standard Webhooks 1.0 has it: HMAC-SHA256 over id, timestamp and body, so that
receivers verify with a library, and refuse what is old.  The id is the key of the notice:
whoever has had it acknowledges again and does nothing.
"""

import base64
import binascii
import hmac
import time
from collections.abc import Callable
from hashlib import sha256

import httpx
import msgspec

from ruqsat.core.outgoing import Outcome
from ruqsat.errors import SettingsError
from ruqsat.service.delivery import Message

SECONDS = 4.5
MAX_REPLY_BYTES = 16 * 1024
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64

_PREFIX = "whsec_"


def read_secret(text: bytes) -> bytes:
    """
    Read a secret: ``whsec_`` and 24 to 64 bytes in base64.

    Raises:
        SettingsError: it is none; what was found is not repeated.
    """
    try:
        secret = base64.b64decode(text.decode().strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise SettingsError(
            "expected `whsec_` and 24 to 64 random bytes in base64, as `openssl rand -base64 32` prints"
        )
    return secret


def sign(secret: bytes, id_: str, timestamp: int, body: bytes) -> str:
    """
    Return the signature of a notice.

    Examples:
        >>> sign(bytes(24), "k", 1, b"{}")[:9]
        'v1,i2y14l'
    """
    signed = hmac.new(secret, f"{id_}.{timestamp}.".encode() + body, sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


class Webhook:
    """Sends to one address; nothing is followed, and of a reply only the status counts."""

    def __init__(self, url: str, secret: bytes, *, seconds: Callable[[], float] = time.time) -> None:
        self._url, self._secret, self._seconds = url, secret, seconds
        self._client = httpx.AsyncClient(
            timeout=SECONDS, follow_redirects=False, trust_env=False, limits=httpx.Limits(max_connections=8),
            headers={"User-Agent": "ruqsat", "Content-Type": "application/json", "Accept-Encoding": "identity"},
        )  # fmt: skip

    async def send(self, message: Message) -> Outcome:
        """POST *message*; only a status of 200 to 299 acknowledges it."""
        body, timestamp = msgspec.json.encode(message), int(self._seconds())
        headers = {
            "Idempotency-Key": message.id, "Webhook-Id": message.id, "Webhook-Timestamp": str(timestamp),
            "Webhook-Signature": sign(self._secret, message.id, timestamp, body),
        }  # fmt: skip
        try:
            async with self._client.stream("POST", self._url, content=body, headers=headers) as reply:
                await _read_some(reply)
                return _outcome(reply.status_code)
        except httpx.TimeoutException:
            return Outcome("retry", "timeout")
        except (httpx.HTTPError, httpx.StreamError):
            return Outcome("retry", "unreachable")

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


async def _read_some(reply: httpx.Response) -> None:
    """Read a short reply, so that the connection can be used again; a long one is left unread."""
    size = 0
    async for part in reply.aiter_raw():
        size += len(part)
        if size > MAX_REPLY_BYTES:
            return


def _outcome(status: int) -> Outcome:
    return Outcome("delivered") if 200 <= status <= 299 else Outcome("retry", f"http_{status}")
