"""Bodies: strict JSON, and whose record of which class a body is."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from ruqsat.core.fhir.meaning import Refused, Whose
from ruqsat.core.fhir.references import lookup_of_identifier, patient_of_reference
from ruqsat.core.fhir.words import FhirWords, TypeEntry

MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 32


def read_json(body: bytes, most: int = MAX_BODY_BYTES) -> dict[str, Any] | list[Any]:
    """
    Read a body of at most *most* bytes.

    Raises:
        Refused: it is no JSON object or array of UTF-8, is too large or too deep, or has a key twice in whatever case;
            then two readers could read two things.  Numbers are kept as they are written.
    """
    if len(body) > most:
        raise Refused("body_too_large")
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_int=str, parse_float=str
        )  # fmt: skip
    except (ValueError, RecursionError):
        raise Refused("unreadable_body") from None
    if not isinstance(value, dict | list):
        raise Refused("unreadable_body")
    for depth, each in walk(value):
        if depth > MAX_DEPTH:
            raise Refused("body_too_deep")
        if isinstance(each, str) and not _is_text(each):
            raise Refused("unreadable_body")
    return value


def resource_of(value: Any, kind: str) -> dict[str, Any]:
    """
    Return the resource of that type.

    Raises:
        Refused: it is none, of another type, or refers to a record by a search anywhere in it.
    """
    if not isinstance(value, dict) or value.get("resourceType") != kind:
        raise Refused("body_of_another_type")
    for _, each in walk(value):
        if isinstance(each, dict) and "?" in str(each.get("reference", "")):
            raise Refused("conditional_reference")
    return value


def whose_body(
    resource: Mapping[str, Any], entry: TypeEntry, words: FhirWords, local: Mapping[str, str] | None = None
) -> Whose:
    """
    Return whose record a body is, by the elements that name the patient, and they must agree.

    Where such an element is a list of participants, those who are no patients do not count.
    """
    patients: set[str] = set()
    lookups = set()
    try:
        for path in entry.subject:
            among = "." in path
            for reference in at(resource, path.split(".")):
                if not isinstance(reference, dict):
                    raise Refused("unreadable_reference")
                text, identifier = reference.get("reference"), reference.get("identifier")
                if text is None and isinstance(identifier, dict):
                    lookups.add(
                        lookup_of_identifier("Patient", f"{identifier.get('system', '')}|{identifier.get('value', '')}")
                    )
                    continue
                if not isinstance(text, str) or (reference.get("type", "Patient") != "Patient" and not among):
                    raise Refused("unreadable_reference")
                patient = patient_of_reference(text, words, local)
                if patient is not None:
                    patients.add(patient)
                elif not among:
                    raise Refused("not_a_patient")
    except Refused as refusal:
        return Whose(problem=refusal.reason)
    if len(patients) > 1 or (patients and lookups) or len(lookups) > 1:
        return Whose(problem="patients_disagree")
    if lookups:
        return Whose("lookup", (), tuple(lookups))
    return Whose("body", tuple(patients)) if patients else Whose()


def classes_of_body(resource: Mapping[str, Any], kind: str, words: FhirWords) -> tuple[str, ...]:
    """Return the classes of a body: those that its categories tell, or all of its type if one tells none."""
    entry, category = words.types[kind], words.categories.get(kind)
    if category is None:
        return words.in_order(entry.classes)
    stated = resource.get(category.element)
    concepts = stated if isinstance(stated, list) else [] if stated is None else [stated]
    found: set[str] = set()
    for concept in concepts:
        codings = concept.get("coding") if isinstance(concept, dict) else None
        told = {
            category.codes[coding["code"]]
            for coding in (codings if isinstance(codings, list) else ())
            if isinstance(coding, dict) and coding.get("system") in category.systems
            and isinstance(coding.get("code"), str) and coding["code"] in category.codes
        }  # fmt: skip
        if not told:
            return words.in_order(entry.classes)
        found |= told
    return words.in_order(found or entry.classes)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.lower() for key, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_constant(_: str) -> NoReturn:
    raise ValueError("no number")


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text if letter > "\ud7ff")


def walk(value: Any) -> Iterator[tuple[int, Any]]:
    """Go through a value, keys included, without recursion."""
    waiting = [(1, value)]
    while waiting:
        depth, each = waiting.pop()
        yield depth, each
        if isinstance(each, dict):
            waiting += [(depth + 1, inner) for pair in each.items() for inner in pair]
        elif isinstance(each, list):
            waiting += [(depth + 1, inner) for inner in each]


def at(value: Any, path: list[str]) -> Iterator[Any]:
    """Return what stands at a path of elements, each of a list by itself."""
    if isinstance(value, list):
        for each in value:
            yield from at(each, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from at(value[path[0]], path[1:])
