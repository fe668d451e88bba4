"""
AuthZEN search: bytes ↔ questions and pages.

The searched entity carries its type alone; an id in it is ignored, as the standard
has it.  Every other entity is whole, as in an evaluation.
"""

from hashlib import blake2b
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct

from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import RequestError
from ruqsat.service.search import Page, Question, Target
from ruqsat.web.batch import Said, read_entities
from ruqsat.web.wire import refuse_repeated_members, refuse_unprintable, sentence_of

SEARCH = "/access/v1/search/"
SEARCHES: dict[str, Target] = {
    SEARCH + "subject": "subject", SEARCH + "resource": "resource", SEARCH + "action": "action",
}  # fmt: skip
_ANY = "*"


class _Paging(Struct, frozen=True):
    token: Annotated[str, Meta(max_length=4096)] | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None


class _Call(Said, frozen=True):
    page: _Paging | None = None


_decode_call = msgspec.json.Decoder(_Call).decode


def read_search(target: Target, body: bytes, kind: type[EvaluationRequest]) -> Question:
    """
    Read a search of the *kind* of requests that the policy set reads.

    Raises:
        RequestError: with a sentence that repeats no value.
    """
    try:
        call = _decode_call(body)
        said = {
            name: msgspec.json.decode(raw)
            for name in Said.__struct_fields__
            if (raw := getattr(call, name)) is not UNSET
        }
    except msgspec.ValidationError as error:
        raise RequestError(sentence_of(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError("the body is not JSON: expected an object with the entities of a search") from None
    refuse_repeated_members(body)
    said[target] = _without_id(target, said)
    entities = read_entities(Said(**{name: Raw(msgspec.json.encode(each)) for name, each in said.items()}), kind)
    missing = [name for name in ("subject", "action", "resource") if name not in entities]
    if missing:
        raise RequestError(f"missing: {', '.join(missing)}")
    request = kind(**entities)
    refuse_unprintable(request)
    if request.resource.properties is not None and request.resource.properties.parts is not None:
        raise RequestError("a search is about one resource: leave `parts` out")
    page = call.page or _Paging()
    binding = blake2b(target.encode() + msgspec.json.encode(said, order="sorted"), digest_size=32).digest()
    return Question(target, request, binding, page.limit, page.token)


def _without_id(target: Target, said: dict[str, Any]) -> dict[str, Any]:
    """Return the searched entity with any id in the place of one; an action is not stated at all."""
    if target == "action":
        return {"name": _ANY}
    searched = said.get(target)
    if not isinstance(searched, dict):
        raise RequestError(f"expected `{target}`, an object with the type that is searched")
    return searched | {"id": _ANY}


def write_page(question: Question, page: Page) -> bytes:
    """Write an answer; its page comes first, as the standard recommends."""
    kind = {"subject": question.request.subject.type, "resource": question.request.resource.type}.get(question.target)
    results = [{"name": name} if kind is None else {"type": kind, "id": name} for name in page.results]
    return msgspec.json.encode({"page": {"next_token": page.next_token, "count": len(results)}, "results": results})
