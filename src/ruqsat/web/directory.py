"""The directory on the control API: people, machines and organisations, and taking them out of activity."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from ruqsat.core.directory import SUBJECT_FACTS, is_organisation
from ruqsat.core.facts import SubjectFacts
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.directory_registry import deactivate, find_entry, put_organisation, put_subject
from ruqsat.web.calls import answered, body_of, content_of, problems, refuse_unlisted
from ruqsat.web.care_models import OrganisationIn, PathId, SubjectIn
from ruqsat.web.consent_models import read_model
from ruqsat.web.gate import DIRECTORY, Asked, Gate
from ruqsat.web.patients import Written
from ruqsat.web.problems import Refusal

_MODELS: dict[str, tuple[str, type[BaseModel]]] = {
    "subjects": ("Practitioner", SubjectIn), "organisations": ("Organization", OrganisationIn),
}  # fmt: skip


def build_directory(registry: CareRegistry, gate: Gate, path: str) -> APIRouter:
    """Build the routes of ``subjects`` or of ``organisations``."""
    resource, model = _MODELS[path]
    router = APIRouter(prefix=f"/v1/{path}", tags=[path], responses=problems(400, 401, 403, 404, 409, 413, 422, 503))

    async def admit(request: Request, id_: str) -> None:
        # Everybody may look somebody up, but whose record a person may call the own is for those who keep it.
        asked = Asked("update", "update", None, id_, type=resource, data_class=DIRECTORY)
        await gate.admit(request, await gate.identify(request), asked)

    @router.put(
        "/{id_}", response_model=Written, responses={201: {"model": Written}}, openapi_extra=body_of(model),
        summary="Write an entry down.",
    )  # fmt: skip
    async def put(request: Request, id_: PathId) -> Response:
        await admit(request, id_)
        said = read_model(model, await content_of(request))
        _refuse_unknown_words(registry.vocabulary(), said)
        if path == "organisations":
            created, told = await put_organisation(registry, id_, said)
        else:
            created, told = await put_subject(registry, id_, said)
        return answered(told, 201 if created else 200)

    @router.get("/{id_}", summary="Read an entry.")
    async def read(request: Request, id_: PathId) -> Response:
        await admit(request, id_)
        entry = await find_entry(registry, id_)
        if entry is None or is_organisation(entry) != (path == "organisations"):
            raise Refusal(404, "unknown-entry", "there is nothing by this id in the directory")
        return answered(_described(entry) | {"id": id_, "token": registry.token()})

    @router.post("/{id_}/deactivate", response_model=Written, summary="Take an entry out of activity, at once.")
    async def stop(request: Request, id_: PathId) -> Response:
        await admit(request, id_)
        return answered(await deactivate(registry, id_, organisation=path == "organisations"))

    return router


def _described(entry: SubjectFacts) -> dict[str, Any]:
    if entry.organisation is not None and is_organisation(entry):
        return msgspec.structs.asdict(entry.organisation) | {"active": entry.active}
    return {name: getattr(entry, name) for name in SUBJECT_FACTS}


def _refuse_unknown_words(words: Vocabulary, said: dict[str, Any]) -> None:
    unlisted = [f"/roles/{index}" for index, role in enumerate(said.get("roles", ())) if role not in words.roles]
    is_unknown = "category" in said and said["category"] not in words.organisation_categories
    refuse_unlisted(unlisted + ["/category"] * is_unknown)
