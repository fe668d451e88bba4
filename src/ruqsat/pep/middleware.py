"""
An ASGI middleware that asks before a request reaches the application.

A permit of a part (``redact``, ``suppress_total``) is carried out on the
application's answer: it is held back until it is whole, and released only as a
FHIR Bundle in JSON with the parts cut out.  Any other answer is a denial then.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from ruqsat.pep.answers import Decision
from ruqsat.pep.bundles import DUTIES, CannotRedact, asked_parts, carry_out, must_change
from ruqsat.pep.client import AsyncClient

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Ask = Callable[[Scope], Mapping[str, Any] | None]

DECISION = "ruqsat.decision"
"""Key of the scope under which the application finds the decision."""

MAX_BUNDLE_BYTES = 16 * 1024 * 1024
_KINDS = (b"application/fhir+json", b"application/json")
_CONDITIONS = (b"accept-encoding", b"range", b"if-range", b"if-none-match", b"if-modified-since")
_POSTED = ("read", "search")
"""What may be asked for by POST and yet be nothing but a reading."""

_log = logging.getLogger("ruqsat.pep")


class Middleware:
    """
    Asks the sidecar about each request; nothing that is not permitted reaches the application.

    WebSockets are refused: what is said on them is not asked about.

    Args:
        app: The application.
        client: Asks; the duties that it declares must be ones carried out here (``redact``, ``suppress_total``).
        question: Returns what a request's scope asks (its ``parts`` are what a Bundle may hold of a part), or None
            for a request that means nothing, which is refused.  It says who asks: from a verified token, never
            from a header that a client can set.

    Raises:
        ValueError: the client declares a duty that is not carried out here.
    """

    def __init__(self, app: App, *, client: AsyncClient, question: Ask) -> None:
        if not client.duties <= DUTIES:
            raise ValueError(f"the middleware carries out {', '.join(sorted(DUTIES))} only")
        self._app, self._client, self._question = app, client, question

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        question = self._asked(scope)
        decision = Decision(False, "unmapped") if question is None else await self._client.evaluate(question)
        if question is None or not decision.allowed:
            await _refuse(send, decision)
        elif not must_change(decision):
            await self._app({**scope, DECISION: decision}, receive, send)
        elif not _is_reading(scope, question):
            await _refuse(send, decision)
        else:
            held = _Held(send, decision, asked_parts(question))
            await self._app(_plain(scope, decision), receive, held)
            await held.finish()

    def _asked(self, scope: Scope) -> Mapping[str, Any] | None:
        try:
            question = self._question(scope)
            if question is not None:
                # Read now: a question whose parts cannot be told is none.
                asked_parts(question)
        except Exception as error:  # noqa: BLE001 - a request that cannot be understood is refused
            _log.warning("a request could not be turned into a question: %s", type(error).__name__)
            return None
        return question


class _Held:
    """Takes the application's answer, and sends it once it is whole and the parts are cut out."""

    def __init__(self, send: Send, decision: Decision, asked: Mapping[str, str]) -> None:
        self._send, self._decision, self._asked = send, decision, asked
        self._head: Message | None = None
        self._body = bytearray()
        self._settled = False

    async def __call__(self, message: Message) -> None:
        if self._settled:
            return
        if message["type"] == "http.response.start" and self._head is None:
            self._head = message
        elif message["type"] == "http.response.body" and self._head is not None:
            self._body += message.get("body", b"")
            if len(self._body) > MAX_BUNDLE_BYTES:
                await self._settle(None, "too large")
            elif not message.get("more_body", False):
                await self._release()
        else:
            await self._settle(None, "an odd message")

    async def finish(self) -> None:
        """Refuse what the application left unfinished."""
        if not self._settled:
            await self._settle(None, "unfinished")

    async def _release(self) -> None:
        head: Message = self._head or {}
        kinds = [value for name, value in head.get("headers", ()) if name.lower() == b"content-type"]
        coded = any(name.lower() == b"content-encoding" for name, _ in head.get("headers", ()))
        kind = kinds[0].partition(b";")[0].strip().lower() if len(kinds) == 1 else b""
        if head.get("status") != 200 or coded or kind not in _KINDS:
            await self._settle(None, "no answer of 200 in JSON")
            return
        try:
            await self._settle(carry_out(bytes(self._body), self._decision, self._asked), "", kinds[0])
        except CannotRedact as error:
            await self._settle(None, str(error))

    async def _settle(self, body: bytes | None, why: str, kind: bytes = b"") -> None:
        self._settled = True
        if body is None:
            _log.warning("an answer of which parts must be cut out is not released: %s", why)
            await _refuse(self._send, Decision(False, "duty_unsupported", self._decision.id))
            return
        # No other header: counts, tags and dates of the whole would tell of what was cut out.
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _is_reading(scope: Scope, question: Mapping[str, Any]) -> bool:
    """Tell whether the answer is all that comes of a request: what else it does, it does with every part."""
    action = question.get("action") or {}
    return scope["method"] == "GET" or (scope["method"] == "POST" and action.get("name") in _POSTED)


def _plain(scope: Scope, decision: Decision) -> Scope:
    """Return a scope that asks for the whole answer, readable, with none of the server's short cuts."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in _CONDITIONS]
    headers.append((b"accept-encoding", b"identity"))
    return {**scope, "headers": headers, "extensions": {}, DECISION: decision}


async def _refuse(send: Send, decision: Decision) -> None:
    reason = decision.reason if decision.reason.isascii() and decision.reason.isprintable() else "not_permitted"
    reason = "not_permitted" if decision.allowed else reason
    headers = [(b"content-length", b"0"), (b"cache-control", b"no-store"), (b"x-ruqsat-reason", reason.encode("ascii"))]
    if decision.id.isascii() and decision.id.isprintable():
        headers.append((b"x-ruqsat-decision", decision.id.encode("ascii")))
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
