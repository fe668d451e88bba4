"""
Episodes and care relationships on the control API, reported by information systems: one set of routes for both.

A report is known by the system's own id, so that a repeat is harmless; of a call of many, each has its own result.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from msgspec import Struct
from pydantic import BaseModel

from ruqsat.core.care import with_episode, with_relationship, without_episode, without_relationship
from ruqsat.core.facts import Episode, PatientFacts, Relationship
from ruqsat.core.instant import Instant, parse_instant
from ruqsat.service.care_registry import CareRegistry, Report
from ruqsat.web.calls import answered, body_of, content_of, problems
from ruqsat.web.care_models import (
    CloseIn,
    EpisodeIn,
    EpisodeItem,
    PathId,
    RelationshipIn,
    RelationshipItem,
)
from ruqsat.web.claims import Identity
from ruqsat.web.consent_models import read_model
from ruqsat.web.encounter import read_encounter
from ruqsat.web.gate import Asked, Gate, note_written
from ruqsat.web.problems import FieldProblem, Refusal

MOST_ITEMS = 1_000
MAX_BULK = 4 * 1024 * 1024
_AT_ONCE = 50
FORBIDDEN = 403

STATUS = "status"
"""The data class of what decisions know of a patient's care."""


class Shape(Struct, frozen=True):
    """How a kind stands on the API, and what a report of it makes of the facts."""

    path: str
    resource: str
    model: type[BaseModel]
    item: type[BaseModel]
    made: Callable[[dict[str, Any]], Any]
    report: Callable[[PatientFacts, Any, Instant], PatientFacts]
    close: Callable[[PatientFacts, str, str, Instant], PatientFacts]


def _moment(text: str | None) -> Instant | None:
    return None if text is None else parse_instant(text)


def _episode(said: dict[str, Any]) -> Episode:
    return Episode(
        said["id"], said["org"], said["form_of_care"], parse_instant(said["start"]), _moment(said["end"]),
        said["care_consent"],
    )  # fmt: skip


def _relationship(said: dict[str, Any]) -> Relationship:
    return Relationship(
        said["kind"], said["subject"], said["org"], _moment(said["start"]), _moment(said["end"]), said["id"]
    )


SHAPES = (
    Shape("episodes", "Episode", EpisodeIn, EpisodeItem, _episode, with_episode, without_episode),
    Shape(
        "relationships", "Relationship", RelationshipIn, RelationshipItem, _relationship,
        with_relationship, without_relationship,
    ),
)  # fmt: skip


class Reported(BaseModel):
    """What became of a report; a check that carries the token sees at least this."""

    id: str
    result: str
    token: str


class ItemResult(BaseModel):
    """What became of one item of a call of many: written, unchanged, or the code of why it was refused."""

    index: int
    result: str
    errors: list[FieldProblem] = []


class BulkReported(BaseModel):
    """What became of each item; what was refused stopped no other."""

    written: int
    unchanged: int
    refused: int
    items: list[ItemResult]
    token: str


def build_care(registry: CareRegistry, gate: Gate, shape: Shape) -> APIRouter:
    """Build the routes of episodes or of relationships."""
    router = APIRouter(
        prefix=f"/v1/{shape.path}", tags=[shape.path], responses=problems(400, 401, 403, 404, 413, 422, 503)
    )

    async def admit(request: Request, identity: Identity, said: Mapping[str, Any], id_: str) -> None:
        asked = Asked(
            "update", "update", said["patient"], f"{shape.resource}/{id_}", said["org"],
            type=shape.resource, data_class=STATUS,
        )  # fmt: skip
        await gate.admit(request, identity, asked)

    async def report(request: Request, identity: Identity, said: dict[str, Any]) -> Response:
        await admit(request, identity, said, said["id"])
        return answered({"id": said["id"]} | await registry.report_one(_report(shape, said, registry.now())))

    @router.put(
        "/{id_}", response_model=Reported, openapi_extra=body_of(shape.model), summary="Report one, new or not."
    )
    async def put(request: Request, id_: PathId) -> Response:
        identity = await gate.identify(request)
        said = _read(shape, shape.model, await content_of(request), registry.now())
        if said.setdefault("id", id_) != id_:
            raise Refusal(
                422, "malformed-document", "the id is not that of the address",
                errors=[{"path": "/id", "code": "another-id"}],
            )  # fmt: skip
        return await report(request, identity, said)

    @router.post("", response_model=Reported, openapi_extra=body_of(shape.item), summary="Report one, new or not.")
    async def post(request: Request) -> Response:
        identity = await gate.identify(request)
        return await report(
            request, identity, _read(shape, shape.item, await content_of(request), registry.now())
        )  # fmt: skip

    @router.post("/{id_}/close", response_model=Reported, openapi_extra=body_of(CloseIn), summary="It is over.")
    async def close(request: Request, id_: PathId) -> Response:
        identity = await gate.identify(request)
        said = read_model(CloseIn, await content_of(request))
        await admit(request, identity, said, id_)
        now = registry.now()
        at = min(now, _moment(said["end"]) or now)
        done = Report(said["patient"], lambda facts: shape.close(facts, said["org"], id_, at))
        return answered({"id": id_} | await registry.report_one(done))

    @router.post("/bulk", response_model=BulkReported, summary="Report up to 1,000: one transaction.")
    async def bulk(request: Request) -> Response:
        identity = await gate.identify(request)
        items = _items(await content_of(request, MAX_BULK))
        now = registry.now()
        results = [_try(shape, index, item, now) for index, item in enumerate(items)]
        read = [(index, said) for index, (said, _) in enumerate(results) if said is not None]
        allowed = await _allowed([said for _, said in read], lambda said: admit(request, identity, said, "bulk"))
        mine = [(index, said) for index, said in read if (said["patient"], said["org"]) in allowed]
        done = await registry.report([_report(shape, said, now) for _, said in mine])
        told = {index: result for (index, _), result in zip(mine, done, strict=True)}
        _note(request, [said for index, said in mine if told[index] == "written"])
        return answered(_summary([(told.get(i, "not_permitted"), why) for i, (_, why) in enumerate(results)], registry))

    return router


def _report(shape: Shape, said: dict[str, Any], now: Instant) -> Report:
    return Report(said["patient"], lambda facts: shape.report(facts, shape.made(said), now))


def _read(shape: Shape, model: type[BaseModel], content: bytes, now: Instant) -> dict[str, Any]:
    if shape.resource == "Episode" and _is_resource(content):
        return read_encounter(content, now)
    return read_model(model, content)


def _is_resource(content: bytes) -> bool:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "resourceType" in found


def _items(content: bytes) -> list[msgspec.Raw]:
    """
    Return the items of a call of many, unread.

    Raises:
        Refusal: it is no JSON (400), or no list of 1 to 1,000 items (422).
    """

    try:
        items = msgspec.json.decode(content, type=_Bulk).items
    except msgspec.ValidationError:
        items = []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(400, "malformed-json", "the body is no JSON") from None
    if not 1 <= len(items) <= MOST_ITEMS:
        raise Refusal(
            422, "malformed-document", f"expected `items`, a list of 1 to {MOST_ITEMS}, and nothing else",
            errors=[{"path": "/items", "code": "not-listed"}],
        )  # fmt: skip
    return items


class _Bulk(Struct, forbid_unknown_fields=True):
    items: list[msgspec.Raw]


def _try(
    shape: Shape, index: int, item: msgspec.Raw, now: Instant
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Return an item as it was read, or what is wrong with it, by its places in the whole call."""
    try:
        return _read(shape, shape.item, bytes(item), now), []
    except Refusal as refusal:
        whole = [{"path": "", "code": refusal.code}]
        return None, [each | {"path": f"/items/{index}{each['path']}"} for each in refusal.errors or whole]


async def _allowed(said: Iterable[Mapping[str, Any]], ask: Callable[[Mapping[str, Any]], Any]) -> set[tuple[str, str]]:
    """Return for which patients and organisations the caller may report: one decision each."""
    pairs = list({(each["patient"], each["org"]): each for each in said}.items())
    allowed: set[tuple[str, str]] = set()

    async def one(pair: tuple[str, str], each: Mapping[str, Any]) -> None:
        try:
            await ask(each)
        except Refusal as refusal:
            if refusal.status != FORBIDDEN:
                raise
        else:
            allowed.add(pair)

    for first in range(0, len(pairs), _AT_ONCE):
        await asyncio.gather(*(one(*pair) for pair in pairs[first : first + _AT_ONCE]))
    return allowed


def _note(request: Request, written: Iterable[Mapping[str, Any]]) -> None:
    """Note, for the journal, what was written of whom: the gate may have admitted more."""
    records: dict[str, list[str]] = {}
    for said in written:
        records.setdefault(said["patient"], []).append(said["id"])
    note_written(request, {patient: tuple(ids) for patient, ids in records.items()})


def _summary(results: list[tuple[str, list[dict[str, Any]]]], registry: CareRegistry) -> dict[str, Any]:
    told = [
        {"index": index, "result": "malformed-document" if why else result, "errors": why}
        for index, (result, why) in enumerate(results)
    ]
    counts = {name: sum(each["result"] == name for each in told) for name in ("written", "unchanged")}
    return counts | {"refused": len(told) - sum(counts.values()), "items": told, "token": registry.token()}
