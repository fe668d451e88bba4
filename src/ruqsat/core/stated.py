"""
Properties that a pack declares: what an enforcement point may state beyond what the product itself knows.

A word of ``[attributes.sub|act|res]`` with ``stated = true`` becomes a field of
the wire structures, so that decoding and validation stay one step and a value of
a wrong kind is an error of the request.  A pack that declares none is read by
the plain structures.
"""

from functools import lru_cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ruqsat.core.request import (
    Action,
    ActionProperties,
    EvaluationRequest,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.core.world import World

KINDS: dict[str, Any] = {"text": Annotated[str, Meta(max_length=256)], "yes-no": bool, "number": int | float}
"""How the kinds of stated words are written in JSON."""

_WIRE: dict[str, tuple[str, Any, Any]] = {
    "sub": ("subject", Subject, SubjectProperties),
    "act": ("action", Action, ActionProperties),
    "res": ("resource", Resource, ResourceProperties),
}

Words = tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
"""By entity the stated words, each with its kind."""


def request_type(vocabulary: Vocabulary) -> type[EvaluationRequest]:
    """Return what a request looks like under this vocabulary; vocabularies of the same stated words share it."""
    words: Words = tuple(
        (entity, tuple(sorted((name, word.kind) for name, word in vocabulary.attributes.get(entity, {}).items()
                              if word.stated)))
        for entity in ("sub", "act", "res")
    )  # fmt: skip
    return _request_type(tuple(each for each in words if each[1]))


@lru_cache(maxsize=64)
def _request_type(words: Words) -> type[EvaluationRequest]:
    if not words:
        return EvaluationRequest
    fields = []
    for entity, stated in words:
        name, whole, plain = _WIRE[entity]
        properties = msgspec.defstruct(
            plain.__name__, [(word, KINDS[kind] | None, None) for word, kind in stated],
            bases=(plain,), module=__name__, frozen=True, kw_only=True,
        )  # fmt: skip
        field = ("properties", properties | None, None)
        fields.append(
            (
                name,
                msgspec.defstruct(whole.__name__, [field], bases=(whole,), module=__name__, frozen=True, kw_only=True),
            )
        )
    made: Any = msgspec.defstruct(
        "EvaluationRequest", fields, bases=(EvaluationRequest,), module=__name__, frozen=True, kw_only=True
    )
    kind: type[EvaluationRequest] = made
    return kind


def stated_kinds(vocabulary: Vocabulary, entity: str) -> dict[str, str]:
    """Return the stated words of an entity, each with its kind."""
    words: dict[str, Any] = dict(vocabulary.attributes.get(entity, {}))  # type: ignore[call-overload]
    return {name: word.kind for name, word in words.items() if word.stated}


def is_of_kind(value: object, kind: str) -> bool:
    """
    Tell whether a value of JSON is of a kind of stated words.

    Examples:
        >>> is_of_kind(False, "yes-no"), is_of_kind("no", "yes-no")
        (True, False)
    """
    try:
        msgspec.convert(value, KINDS[kind])
    except msgspec.ValidationError:
        return False
    return True


def check_stored(world: World, vocabulary: Vocabulary) -> None:
    """
    See to it that what a world stores are words of the vocabulary, each of its kind.

    Raises:
        ValueError: the first that is not, and where it stands.
    """
    stored = [("sub", f"subjects.{name}", who.properties) for name, who in world.subjects.items()]
    stored += [("res", f"resources.{name}", thing.properties) for name, thing in world.resources.items()]
    for entity, where, properties in stored:
        kinds = stated_kinds(vocabulary, entity)
        for name, value in (properties or {}).items():
            if name not in kinds:
                raise ValueError(f"`{where}.properties.{name}` is no word that the vocabulary declares as stated")
            if not is_of_kind(value, kinds[name]):
                raise ValueError(f"`{where}.properties.{name}` is no {kinds[name]}")
    for name, thing in world.resources.items():
        if thing.type not in vocabulary.types:
            raise ValueError(f"`resources.{name}` is of no type that concerns nobody: `[types]` lists them")


@lru_cache(maxsize=64)
def entity_types(request: type[EvaluationRequest]) -> dict[str, Any]:
    """Return the types of subject, action, resource and context of a kind of request; not to be changed."""
    return {field.name: field.type for field in msgspec.structs.fields(request)}
