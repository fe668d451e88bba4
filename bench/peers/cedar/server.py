"""Cedar behind the same raw ASGI server as our no-op: nothing is between the bytes and the engine but msgspec."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from bench.peers.cedar.translate import Policies
from bench.peers.common.rules import Rules
from bench.peers.common.world import World

from ruqsat.core.request import EvaluationRequest

_decode = msgspec.json.Decoder(EvaluationRequest).decode
ANSWERS = {allowed: msgspec.json.encode({"decision": allowed}) for allowed in (True, False)}


def build_app(world: World, rules: Rules) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application; policies and entities are parsed once and kept in memory."""
    policies = Policies(world, rules)

    async def app(_scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        asked = _decode(body)
        about, context, now = asked.resource.properties, asked.context, int(time.time())
        patient, purpose = about.patient or "", str(context.purpose)  # type: ignore[union-attr]
        answer = ANSWERS[
            policies.allows(asked.subject.id, asked.action.name, patient, asked.resource.id, about.data_class or "",  # type: ignore[union-attr]
                            purpose, now)
        ]  # fmt: skip
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app
