"""One interaction with a FHIR server, below its base: what every reader of it needs."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.fhir.bodies import read_json
from ruqsat.core.fhir.meaning import Lookup, Meaning, Refused, Whose, impersonal, settled
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.target import Parameters

_FHIR_JSON = "application/fhir+json"
_JSON = frozenset({"application/json", _FHIR_JSON, "application/json-patch+json", "text/json"})


class Call(Struct, frozen=True):
    """
    One interaction.

    Attributes:
        path: Segments below the base.
        headers: By lower-case name.
        body: The body in bytes, or a resource of a Bundle; None where it was not seen.
        local: Patients of the Bundle that this is an entry of, by their ``urn``; None outside of one.
        urn: This entry's own.
    """

    method: str
    path: tuple[str, ...]
    parameters: Parameters = ()
    headers: Mapping[str, str] = {}
    body: Any = None
    local: Mapping[str, str] | None = None
    urn: str | None = None


def json_of(call: Call) -> Any:
    """
    Return the body.

    Raises:
        Refused: it was not seen, is empty, or is no JSON.
    """
    if call.body is None:
        raise Refused("body_needed")
    if not isinstance(call.body, bytes):
        return call.body
    if not call.body:
        raise Refused("body_needed")
    kind = call.headers.get("content-type", "application/json").partition(";")[0].strip()
    # To a server, what comes to Binary and is not said to be FHIR is the document itself, whatever stands in it.
    is_document = call.path[:1] == ("Binary",) and call.method != "PATCH" and kind != _FHIR_JSON
    if kind not in _JSON or is_document:
        raise Refused("body_format")
    return read_json(call.body)


def whose_record(words: FhirWords, kind: str, name: str) -> Whose:
    """Return whose record it is: the record is the patient, or somebody must look."""
    entry = words.types.get(kind)
    return Whose("named", (name,)) if entry is not None and entry.own else Whose("lookup", (), (Lookup(kind, name),))


def answered(words: FhirWords, meaning: Meaning, whose: Whose, problems: Iterable[str] = ()) -> Meaning:
    """Return *meaning* with whose data it concerns, and its answer."""
    found = {*problems, whose.problem}
    if meaning.classes and words.is_impersonal(meaning.classes):
        return impersonal(meaning, meaning.classes == ("public",) and meaning.action in ("read", "search"), found)
    known = msgspec.structs.replace(meaning, source=whose.source, patients=whose.patients, lookups=whose.lookups)
    return settled(known, found)
