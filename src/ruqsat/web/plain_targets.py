"""What the control API takes for the name of anything: text without control characters, in paths and in queries."""

from urllib.parse import unquote_to_bytes

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from ruqsat.web.problems import Refusal, answer_refusal


class PlainTargets:
    """
    Answers 404 where a path or a query holds, decoded, what nothing is named by.

    A database may take such bytes for no text at all (PostgreSQL: NUL), which is not a store that is away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http" or _is_plain(scope):
            await self._app(scope, receive, send)
            return
        refusal = answer_refusal(Request(scope), Refusal(404, "not-found", "there is no such resource or method here"))
        await refusal(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    try:
        query = unquote_to_bytes(scope.get("query_string", b"")).decode("utf-8")
    except UnicodeDecodeError:
        return False
    path: str = scope["path"]
    return (path + query).isprintable()
