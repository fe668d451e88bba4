"""A receiver of notices on loopback: it verifies what it is sent, drops what it had, and can misbehave."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

Misbehave = Callable[[int], bytes | None]
"""Given how many requests came before, what is answered instead; empty hangs up, None is the proper answer."""


class Receiver:
    """What was told here, each notice once, and every request that came."""

    def __init__(self, secret: bytes, misbehave: Misbehave) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.forged = 0
        self.url = ""
        self._secret, self._misbehave = secret, misbehave

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")[1:]
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers["content-length"]))
                instead = self._misbehave(len(self.requests))
                self.requests.append((headers, body))
                if instead == b"":
                    break
                if instead is None:
                    self._take(headers, body)
                writer.write(instead or b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _take(self, headers: dict[str, str], body: bytes) -> None:
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.digest(self._secret, signed, "sha256")).decode()
        self.forged += headers["webhook-signature"] != f"v1,{mac}"
        self.told.setdefault(headers["idempotency-key"], json.loads(body))


@asynccontextmanager
async def receiving(secret: bytes, misbehave: Misbehave = lambda number: None) -> AsyncIterator[Receiver]:
    """Run a receiver on a free port."""
    receiver = Receiver(secret, misbehave)
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/notices"
    try:
        yield receiver
    finally:
        server.close()
