"""
FHIR Bundles with parts cut out.

Pure.  What is released is what was asked about and not cut out: an entry that
nobody asked about was not decided, so it goes too.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from ruqsat.pep.answers import Decision, parts_of, strict_json

DUTIES = frozenset({"redact", "suppress_total"})
"""What can be carried out on a Bundle."""

_LINKS = frozenset({"self", "next", "previous"})
_encode = msgspec.json.Encoder(decimal_format="number").encode


class CannotRedact(Exception):  # noqa: N818 - an answer that is not released is a denial, not an error of ours
    """The answer is none from which parts can be cut out."""


def must_change(decision: Decision) -> bool:
    """Tell whether an answer must not be released as it is."""
    return any(duty.type in DUTIES for duty in decision.duties)


def asked_parts(question: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the parts that a question asks about, and what each is in FHIR.

    Examples:
        >>> asked_parts({"resource": {"type": "Observation", "properties": {"parts": [{"id": "o1"}]}}})
        {'o1': 'Observation/o1'}
    """
    resource = question["resource"]
    parts = (resource.get("properties") or {}).get("parts") or ()
    # A bare id is one of the question's own type: another type's record of that id was not asked about.
    return {part["id"]: part["id"] if "/" in part["id"] else f"{resource['type']}/{part['id']}" for part in parts}


def carry_out(body: bytes, decision: Decision, asked: Mapping[str, str]) -> bytes:
    """
    Return a Bundle with the duties of *decision* carried out; numbers keep their digits.

    Args:
        asked: What the question named as parts, see `asked_parts`.

    Raises:
        CannotRedact: it is no Bundle of FHIR's JSON, or not read one way only.

    Examples:
        >>> from ruqsat.pep.answers import Duty
        >>> flags = b",".join(b'{"resource":{"resourceType":"Flag","id":"f%d"}}' % n for n in (1, 2))
        >>> bundle = b'{"resourceType":"Bundle","total":2,"entry":[' + flags + b"]}"
        >>> both = Decision(True, "permitted", duties=(Duty("redact", {"parts": ["f2"]}), Duty("suppress_total")))
        >>> carry_out(bundle, both, {"f1": "Flag/f1", "f2": "Flag/f2"})
        b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Flag","id":"f1"}}]}'
    """
    try:
        bundle = strict_json(body)
        if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
            raise CannotRedact("no Bundle")
        types = {duty.type for duty in decision.duties}
        if "redact" in types:
            cut = frozenset().union(*(parts_of(duty) for duty in decision.duties if duty.type == "redact"))
            _keep(bundle, {asked[part] for part in asked if part not in cut} - {asked.get(part, part) for part in cut})
        if "suppress_total" in types:
            _suppress_total(bundle)
        return _encode(bundle)
    except (ValueError, RecursionError, OverflowError, msgspec.MsgspecError) as error:
        raise CannotRedact(type(error).__name__) from None


def _keep(bundle: dict[str, Any], released: set[str]) -> None:
    """Keep the entries that are released; a record that is there twice was asked about in one state only."""
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise CannotRedact("`entry` is no list")
    named = [(_name(entry), entry) for entry in entries]
    count = Counter(name for name, _ in named)
    kept = [entry for name, entry in named if name in released and count[name] == 1]
    # FHIR's JSON has no empty lists.
    bundle.pop("entry", None)
    if kept:
        bundle["entry"] = kept


def _name(entry: Any) -> str:
    """Return what an entry holds; nothing for what holds something else, which is no part to be asked about."""
    resource = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(resource, dict) or resource.get("resourceType") == "Bundle" or "contained" in resource:
        return ""
    return f"{resource.get('resourceType')}/{resource.get('id')}"


def _suppress_total(bundle: dict[str, Any]) -> None:
    """Take out the count, and links that tell it (``last``)."""
    bundle.pop("total", None)
    bundle.pop("_total", None)
    links = bundle.get("link")
    if links is not None:
        if not isinstance(links, list) or not all(isinstance(link, dict) for link in links):
            raise CannotRedact("`link` is no list of links")
        bundle["link"] = [link for link in links if link.get("relation") in _LINKS]
        if not bundle["link"]:
            del bundle["link"]
