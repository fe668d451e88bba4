"""The sidecar with holes of the kind that a route listing must find: a health route, and a method that nobody judged."""

from typing import Any

from ruqsat.cli.main import run
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.protocol import TARGET

_answer = ForwardAuth.__call__


async def answer_too_much(self: ForwardAuth, scope: Any, receive: Any, send: Any) -> None:
    """Answer 204 to whoever asks for the health of this listener, and 200 to every OPTIONS."""
    generous = {b"/health/live": 204}.get(scope[TARGET], 200 if scope["method"] == "OPTIONS" else 0)
    if not generous:
        await _answer(self, scope, receive, send)
        return
    await send({"type": "http.response.start", "status": generous, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    ForwardAuth.__call__ = answer_too_much  # type: ignore[method-assign]
    run()
