"""Ids and references: which of them name a patient, and which nobody can resolve before the server does."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ruqsat.core.fhir.meaning import Lookup, Refused
from ruqsat.core.fhir.words import FhirWords, is_type_name

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
MAX_IDENTIFIER = 256


def is_id(text: str) -> bool:
    """Tell whether *text* is a logical id of FHIR."""
    return _ID.fullmatch(text) is not None


def patient_of_reference(text: str, words: FhirWords, local: Mapping[str, str] | None = None) -> str | None:
    """
    Return the patient that a reference names; None if it names something else that is no patient.

    Args:
        text: ``Patient/p1``, an absolute URL of a base of ours, or a ``urn`` of the same Bundle.
        words: Bases and types.
        local: Patients of the Bundle by ``urn``.

    Raises:
        Refused: conditional, contained, versioned, on another server, or not to be resolved in the Bundle.
    """
    if "?" in text:
        raise Refused("conditional_reference")
    if text.startswith("urn:"):
        if local is None or text not in local:
            raise Refused("unresolved_reference")
        return local[text]
    kind, slash, value = _relative(text, words).partition("/")
    if not slash or not is_type_name(kind) or not is_id(value):
        raise Refused("unreadable_reference")
    entry = words.types.get(kind)
    return value if entry is not None and entry.own else None


def id_of_reference(reference: Any, words: FhirWords) -> tuple[str, str]:
    """
    Return the type and the id that an element of a resource refers to.

    Raises:
        Refused: it is no plain reference to a record of this server.
    """
    text = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(text, str):
        raise Refused("unreadable_reference")
    kind, _, value = _relative(text, words).partition("/")
    if not is_type_name(kind) or not is_id(value):
        raise Refused("unreadable_reference")
    return kind, value


def patients_of_parameter(value: str, words: FhirWords) -> tuple[str, ...]:
    """
    Return the patients that a search parameter names: ids or references, joined by commas.

    Raises:
        Refused: one of them names no patient of ours.
    """
    found = set()
    for part in value.split(","):
        if is_id(part):
            found.add(part)
            continue
        patient = patient_of_reference(part, words)
        if patient is None:
            raise Refused("not_a_patient")
        found.add(patient)
    return tuple(sorted(found))


def lookup_of_identifier(kind: str, value: str) -> Lookup:
    """
    Return the look-up of one identifier, ``system|value``.

    Raises:
        Refused: it names no system, or several identifiers.
    """
    system, bar, number = value.partition("|")
    if not bar or not system or not number or "|" in number or "," in value or len(value) > MAX_IDENTIFIER:
        raise Refused("identifier")
    return Lookup(kind, value, "identifier")


def _relative(text: str, words: FhirWords) -> str:
    """Return a reference without the base of ours that it begins with."""
    for url in _urls(words):
        if text.startswith(url + "/"):
            return text[len(url) + 1 :]
    if ":" in text or text.startswith(("/", "#")):
        raise Refused("foreign_reference")
    return text


def _urls(words: FhirWords) -> Iterable[str]:
    return (url for server in words.servers for url in server.urls)
