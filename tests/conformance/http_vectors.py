"""The vectors of http_mapping.yaml as requests: their bodies are shorthand, and are written out here as FHIR has them."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from ruqsat.core.fhir.meaning import Meaning
from ruqsat.core.fhir.words import FhirWords
from tests.fhir_ground import FhirRequest

HERE = Path(__file__).parent


def _vectors(name: str) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in yaml.load((HERE / name).read_text(), Loader=yaml.CSafeLoader)["vectors"]}


VECTORS, MORE = _vectors("http_mapping.yaml"), _vectors("http_mapping_more.yaml")
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_ENTRY = re.compile(r"([A-Z]+) (\S+)(?: \((subject|fullUrl) (\S+)\))?")
_REFERENCE = re.compile(r"(https?://\S+/)?[A-Z][A-Za-z]+[/?]|urn:")


def request_of(vector: dict[str, Any]) -> FhirRequest:
    """Return the request of a vector."""
    headers = [(name, str(value)) for name, value in vector.get("headers", {}).items()]
    body = vector.get("body")
    if isinstance(body, dict) and vector["url"].partition("?")[0].endswith("/_search"):
        body = urlencode(body, quote_via=quote)
    if isinstance(body, str):
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
        return FhirRequest(vector["method"], vector["url"].encode(), tuple(headers), body.encode())
    written = written_out(body)
    data = None if written is None else json.dumps(written).encode()
    return FhirRequest(vector["method"], vector["url"].encode(), tuple(headers), data)


def written_out(body: Any) -> Any:
    """Return a body in FHIR's own words."""
    if not isinstance(body, dict):
        return body
    if "type" in body and "resourceType" not in body:
        entries = [_entry(line) for line in body.get("entry", ())]
        if body["type"] == "document":
            subject = {"reference": "Patient/p1"}
            entries = [{"fullUrl": "urn:uuid:c", "resource": {"resourceType": "Composition", "subject": subject}}]
        return {"resourceType": "Bundle", "type": body["type"], "entry": entries}
    return {key: _element(key, value) for key, value in body.items()}


def _element(key: str, value: Any) -> Any:
    if key in ("subject", "patient") and isinstance(value, str):
        return {"reference": value}
    if key not in ("id", "criteria") and isinstance(value, str) and _REFERENCE.match(value):
        return {"reference": value}
    if key == "category" and isinstance(value, str):
        return [{"coding": [{"system": CATEGORY, "code": value}]}]
    return value


def _entry(line: str) -> dict[str, Any]:
    """Write out an entry such as ``POST Observation (subject urn:uuid:1)``; its class is the vector's, a laboratory's."""
    match = _ENTRY.fullmatch(line)
    assert match is not None, line
    method, url, what, value = match.groups()
    entry: dict[str, Any] = {"request": {"method": method, "url": url}}
    if method in ("POST", "PUT"):
        kind, _, name = url.partition("/")
        entry["resource"] = {"resourceType": kind} | ({"id": name} if name else {})
        if what == "fullUrl":
            entry["fullUrl"] = value
        elif what == "subject":
            entry["resource"] |= {"subject": _element("subject", value), "category": _element("category", "laboratory")}
    return entry


def shown(meaning: Meaning, words: FhirWords) -> dict[str, Any]:
    """Return a meaning in the words of the vectors."""
    every = set(meaning.classes) == set(words.every)
    return {
        "interaction": meaning.interaction, "action": meaning.action, "prefilter": meaning.answer,
        "postfilter": meaning.filtered, "patient": meaning.whose, "classes": {"*"} if every else set(meaning.classes),
    }  # fmt: skip


def expected(vector: dict[str, Any]) -> dict[str, Any]:
    """Return what a vector promises, in the shape of :func:`shown`."""
    return {key: set(vector[key]) if key == "classes" else vector[key] for key in shown(Meaning("x"), _NOTHING)}


_NOTHING = FhirWords((), {}, {}, {}, None, {}, (), ())  # type: ignore[arg-type]
