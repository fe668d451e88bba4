"""
``?wait=visible``: a change of any registry is answered once it is in force in every process.

The header ``Ruqsat-Visible`` says by whose word: ``by=acknowledged`` (every
process has said so) or ``by=lease`` (whoever has not heard of it can no longer
answer), and how many seconds that took.  Only changes that were made wait.
"""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from ruqsat.service.barrier import Barrier, HistoryChangedError
from ruqsat.web.problems import Refusal, answer_refusal

HEADER = "Ruqsat-Visible"
_REGISTRIES = "/v1/"
_CHANGES = ("post", "put", "patch", "delete")

_PARAMETER = {
    "name": "wait", "in": "query", "required": False, "schema": {"type": "string", "enum": ["visible"]},
    "description": f"Answer once the change is in force in every process; the header {HEADER} says by whose word.",
}  # fmt: skip


class _Waiting(BaseHTTPMiddleware):
    """Lets the answer to a change wait; whatever asks for no wait passes as if this were not here."""

    def __init__(self, app: ASGIApp, barrier: Barrier) -> None:
        super().__init__(app)
        self._barrier = barrier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _asked(Request(scope)):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if _asked(request) != ["visible"]:
            # Before anything is changed: whoever misspells it must not believe in a wait that never was.
            return answer_refusal(request, Refusal(422, "malformed-request", "`wait` is `visible`, or is left out"))
        response = await call_next(request)
        return await _visible(request, response, self._barrier) if response.status_code < 300 else response


def wait_when_asked(app: FastAPI, barrier: Barrier) -> None:
    """Let every change of a registry of *app* take ``wait=visible``."""
    app.add_middleware(_Waiting, barrier=barrier)


def _asked(request: Request) -> list[str]:
    """Return what a change of a registry says of waiting; nothing for every other call."""
    is_change = request.method.lower() in _CHANGES and request.url.path.startswith(_REGISTRIES)
    return request.query_params.getlist("wait") if is_change else []


async def _visible(request: Request, response: Response, barrier: Barrier) -> Response:
    try:
        by, seconds = await barrier.pass_through()
    except HistoryChangedError:
        detail = "the change was made, but the database has begun another history since, which may lack it: read it"
        return answer_refusal(request, Refusal(503, HistoryChangedError.code, detail))
    response.headers[HEADER] = f"by={by}, seconds={seconds:.3f}"
    return response


def describe_waiting(schema: dict[str, Any]) -> None:
    """Let the description of the API tell of it."""
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if path.startswith(_REGISTRIES) and method in _CHANGES:
                operation["parameters"] = [*operation.get("parameters", ()), _PARAMETER]
