"""What the routes of every registry share: reading a call, and answering a change."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from ruqsat.core.other_representatives import shown_to_representative
from ruqsat.service.consent_changes import Call, Caller, RegistryError, told_items
from ruqsat.web.gate import Admitted
from ruqsat.web.problems import PROBLEM_JSON, Problem, Refusal

MAX_BODY = 256 * 1024

_STATUS = {
    "version-conflict": 412, "wrong-status": 409, "idempotency-key-reused": 409, "identity-conflict": 409,
    "refusal-stands": 409, "other-thread": 409, "successor-not-in-force": 409, "successor-not-newer": 409,
    "no-full-record": 404, "unknown-patient": 404, "not-the-giver": 403, "not-yours-to-verify": 403,
    "consent-incomplete": 422, "verification-incomplete": 422, "record-incomplete": 422, "too-much-said": 422,
    "not-yours": 403, "unknown-report": 404, "unknown-entry": 404, "not_permitted": 403, "reversed": 422,
    "second-person-needed": 403,
    "break-glass-suspended": 403, "break-glass-rate-limited": 429,
}  # fmt: skip
_ETAG = re.compile(r'"([1-9][0-9]{0,8})"')
_KEY = re.compile(r"[!-~]{8,128}")


Row = TypeVar("Row")


_COMPONENT = "#/components/schemas/{model}"
_described: dict[str, type[BaseModel]] = {}
"""What descriptions refer to; its schema is made when somebody asks for the description, not at each start."""


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problem documents of these statuses."""
    return {code: {"content": {PROBLEM_JSON: {"schema": _schema_of(Problem)}}} for code in codes}


def described_parts() -> dict[str, Any]:
    """Return what :func:`problems` and :func:`body_of` refer to, for the components of OpenAPI."""
    found: dict[str, Any] = {}
    for name, model in _described.items():
        schema = model.model_json_schema(ref_template=_COMPONENT)
        found |= schema.pop("$defs", {}) | {name: schema}
    return found


def _schema_of(model: type[BaseModel]) -> dict[str, Any]:
    if _described.setdefault(model.__name__, model) is not model:
        raise ValueError(f"two models are called {model.__name__}")
    return {"$ref": _COMPONENT.format(model=model.__name__)}


def caller_of(admitted: Admitted) -> Caller:
    """Return who acts, as the registries know it."""
    return Caller(admitted.identity.subject.id, admitted.desk, admitted.basis)


def full(row: Row | None) -> Row:
    """
    Return a full record.

    Raises:
        Refusal: there is none (404).
    """
    if row is None:
        raise Refusal(404, "no-full-record", "there is no full record by this id")
    return row


def opened(admitted: Admitted, content: dict[str, Any]) -> dict[str, Any]:
    """Return what names people in a record, as far as the caller may read it."""
    return shown_to_representative(content, admitted.identity.subject.id) if admitted.basis == "legal_rep" else content


def refuse_unlisted(places: Iterable[str]) -> None:
    """
    Refuse words that stand in no list of the vocabulary.

    Raises:
        Refusal: there are such *places* (422).
    """
    errors = [{"path": place, "code": "not-listed"} for place in places]
    if errors:
        raise Refusal(422, "malformed-document", "a word stands in no list of the vocabulary", errors=errors)


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body that is read by hand, so that no value of it can come back in an error."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema_of(model)}}}}


def refusal_of(error: RegistryError) -> Refusal:
    """Return the problem document of what the registry refuses."""
    return Refusal(
        _STATUS.get(error.code, 409), error.code, str(error),
        errors=told_items(error.findings), allowed=error.allowed,
    )  # fmt: skip


def version_of(if_match: str | None) -> int:
    """
    Return the version that a caller has read.

    Raises:
        Refusal: If-Match is missing (428) or holds no version (412).
    """
    if if_match is None:
        raise Refusal(428, "version-required", "say in If-Match which version you read")
    tag = _ETAG.fullmatch(if_match.strip())
    if tag is None:
        raise Refusal(412, "version-conflict", "If-Match holds no version of this record")
    return int(tag[1])


async def call_of(request: Request, key: str | None, prefer: str | None) -> Call:
    """
    Read a call that creates something.

    Raises:
        Refusal: the key is malformed (400), the body too large (413).
    """
    if key is not None and _KEY.fullmatch(key) is None:
        raise Refusal(400, "idempotency-key-malformed", "expected 8 to 128 printable characters without spaces")
    strict = prefer is not None and "handling=strict" in prefer.replace(" ", "").lower()
    return Call(key, await content_of(request), strict)


async def content_of(request: Request, most: int = MAX_BODY) -> bytes:
    """
    Read the body, of at most *most* bytes.

    Raises:
        Refusal: it is too large (413).
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise Refusal(413, "too-large", f"expected at most {most} bytes")
    return bytes(content)


def answered(said: Mapping[str, Any], status: int = 200) -> Response:
    """Answer with what nobody may keep."""
    return JSONResponse(dict(said), status, headers={"Cache-Control": "no-store"})


def written(told: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer a change with what *told* says of it, its version as ETag."""
    tag = {"ETag": f'"{told["version"]}"'} if "version" in told else {}
    return JSONResponse(dict(told), status, headers={**(headers or {}), **tag, "Cache-Control": "no-store"})
