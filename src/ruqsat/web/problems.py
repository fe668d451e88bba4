"""RFC 9457 problem documents: what a caller of the control API learns of a refusal, and never a value of its own."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat.errors import RuqsatError

PROBLEM_JSON = "application/problem+json"

TRY_LATER = "try_later"
"""What a caller may learn of every failure of ours (see the reasons of vocabulary.toml)."""


class FieldProblem(BaseModel):
    """What is wrong at one place of a document: a JSON pointer, a code, the provision, what to write."""

    path: str
    code: str
    item: str | None = None
    law: str | None = None
    do: str | None = None


class Problem(BaseModel):
    """A problem document; ``errors`` name places, ``allowed`` what may be done instead."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None
    allowed: list[str] | None = None


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of ours
    """The call is refused with this problem document."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: dict[str, str] | None = None,
        errors: Sequence[dict[str, Any]] = (),
        allowed: Sequence[str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, headers
        self.errors, self.allowed = errors, allowed


def answer_refusal(_request: Request, error: Exception) -> Response:
    """Write a refusal down."""
    refusal = error if isinstance(error, Refusal) else Refusal(500, "error", "the call failed")
    body = Problem(
        type=f"urn:ruqsat:problem:{refusal.code}",
        title=refusal.code,
        status=refusal.status,
        detail=refusal.detail,
        errors=[FieldProblem(**each) for each in refusal.errors] or None,
        allowed=None if refusal.allowed is None else list(refusal.allowed),
    )
    return JSONResponse(
        body.model_dump(exclude_none=True),
        refusal.status,
        headers=refusal.headers,
        media_type=PROBLEM_JSON,
    )


def answer_unavailable(request: Request, error: Exception) -> Response:
    """Say that the store did not answer."""
    code = error.code if isinstance(error, RuqsatError) else "store-unavailable"
    detail = "the store did not answer; nothing was changed"
    if code == "outcome-unknown":
        detail = "the store did not say whether the change was made: ask again, with the same idempotency key"
    elif code == "record-unreadable":
        detail = "the record cannot be opened; nothing was changed"
    return answer_refusal(request, Refusal(503, code, detail))
