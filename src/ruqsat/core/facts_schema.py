"""The JSON Schema of the lines of a file of facts, made from the structures themselves."""

from typing import Any

import msgspec

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.facts_lines import INSTANTS, Header


def line_schema() -> dict[str, Any]:
    """Return the schema that each line of a file is valid under; words are checked against the vocabulary."""
    refs, parts = msgspec.json.schema_components([Header, SubjectFacts, PatientFacts], ref_template="#/$defs/{name}")
    for part in parts.values():
        part["additionalProperties"] = False
        for name, field in part["properties"].items():
            if name in INSTANTS:
                part["properties"][name] = _instant(field)
    header, subject, patient = refs
    del parts["Consent"]["properties"]["defect"]["default"]
    # A permit says it, be it null.
    permit = {"properties": {"root": {"properties": {"effect": {"const": "permit"}}}}}
    parts["Consent"] |= {"if": permit, "then": {"required": ["defect"]}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "one line of a file of facts",
        "oneOf": [header, _only("subject", subject), _only("patient", patient)],
        "$defs": parts,
    }


def _only(name: str, inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: inner}, "required": [name], "additionalProperties": False}


def _instant(field: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in field.items() if name == "default"}
    text = {"type": "string", "format": "date-time"}
    return {**kept, "anyOf": [text, {"type": "null"}]} if "anyOf" in field else text
