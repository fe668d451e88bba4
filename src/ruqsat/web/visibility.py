"""
``?wait=visible``: a change of any registry is answered once it is in force in every process.

The header ``Ruqsat-Visible`` says by whose word: ``by=acknowledged`` (every
process has said so) or ``by=lease`` (whoever has not heard of it can no longer
answer), and how many seconds that took.  Only changes that were made wait.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from ruqsat.service.barrier import Barrier, HistoryChangedError
from ruqsat.web.problems import Refusal, answer_refusal

HEADER = "Ruqsat-Visible"
_REGISTRIES = "/v1/"
_CHANGES = ("post", "put", "patch", "delete")

_PARAMETER = {
    "name": "wait", "in": "query", "required": False, "schema": {"type": "string", "enum": ["visible"]},
    "description": f"Answer once the change is in force in every process; the header {HEADER} says by whose word.",
}  # fmt: skip


def wait_when_asked(app: FastAPI, barrier: Barrier) -> None:
    """Let every change of a registry of *app* take ``wait=visible``."""

    @app.middleware("http")
    async def wait(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        asked = request.query_params.getlist("wait")
        if not asked or request.method.lower() not in _CHANGES or not request.url.path.startswith(_REGISTRIES):
            return await call_next(request)
        if asked != ["visible"]:
            # Before anything is changed: whoever misspells it must not believe in a wait that never was.
            return answer_refusal(request, Refusal(422, "malformed-request", "`wait` is `visible`, or is left out"))
        response = await call_next(request)
        return await _visible(request, response, barrier) if response.status_code < 300 else response


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
