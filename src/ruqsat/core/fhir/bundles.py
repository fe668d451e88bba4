"""Batches, transactions and documents: each entry is a request of its own."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ruqsat.core.fhir.bodies import resource_of, whose_body
from ruqsat.core.fhir.call import Call, answered
from ruqsat.core.fhir.marks import highest, marks_of
from ruqsat.core.fhir.meaning import INVALID, Meaning, Refused, Source, Whose, refused
from ruqsat.core.fhir.references import is_id
from ruqsat.core.fhir.words import FhirWords
from ruqsat.core.target import TargetRejected, parse_relative

MAX_ENTRIES = 100

ReadCall = Callable[[Call], Meaning]

_BY_WEIGHT = ("read", "search", "create", "update", "delete", "disclose", "export")
_REQUEST = {"method", "url", "ifNoneMatch", "ifModifiedSince", "ifMatch", "ifNoneExist"}
_URNS = ("urn:uuid:", "urn:oid:")


def read_bundle(words: FhirWords, value: Any, read: ReadCall) -> Meaning:
    """
    Return what a Bundle sent to the base means; *read* reads one entry.

    A batch is refused only if every entry is, a transaction if any is; other Bundles are refused, but documents.
    """
    try:
        bundle = resource_of({**value, "entry": []} if isinstance(value, dict) else value, "Bundle")
        kind, entries = bundle.get("type"), value.get("entry")
        if kind == "document":
            return _document(words, bundle, entries)
        if kind not in ("batch", "transaction"):
            return refused(Meaning("bundle"), "bundle_type")
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ENTRIES:
            return refused(Meaning(kind), "entries")
        local = _local_patients(entries) if kind == "transaction" else {}
    except Refused as refusal:
        return refused(Meaning("bundle"), refusal.reason)
    return _together(words, kind, tuple(_entry(entry, kind, local, words, read) for entry in entries))


def _entry(entry: Any, kind: str, local: Mapping[str, str], words: FhirWords, read: ReadCall) -> Meaning:
    asked = entry.get("request") if isinstance(entry, dict) else None
    if (
        not isinstance(asked, dict)
        or not asked.keys() <= _REQUEST
        or not all(isinstance(v, str) for v in asked.values())
    ):
        return refused(INVALID, "entry_shape")
    try:
        target = parse_relative(asked.get("url", ""), None)
    except TargetRejected:
        return refused(INVALID, "bad_target")
    resource, full = entry.get("resource"), entry.get("fullUrl")
    method = asked.get("method", "")
    headers = {"if-none-exist": asked["ifNoneExist"]} if "ifNoneExist" in asked else {}
    call = Call(
        "GET" if method == "HEAD" else method, target.segments, target.query, headers,
        resource if resource is not None else b"", local, full if isinstance(full, str) else None,
    )  # fmt: skip
    meaning = read(call)
    if resource is not None and (call.method in ("GET", "DELETE") or call.path[-1:] == ("_search",)):
        # Of a search, it could say otherwise than the address.
        return refused(meaning, "unexpected_body")
    if kind == "transaction" and not _is_plain_name(words, full, resource, call):
        # The server would write another id into every reference that looks like this address.
        return refused(meaning, "entry_name")
    return meaning


def _is_plain_name(words: FhirWords, full: Any, resource: Any, call: Call) -> bool:
    if call.method == "POST" and isinstance(resource, dict) and "id" in resource:
        return False
    if full is None or (isinstance(full, str) and full.startswith(_URNS)):
        return True
    own = "/".join(call.path)
    names = {own, *(f"{url}/{own}" for server in words.servers for url in server.urls)}
    return call.method in ("GET", "PUT") and isinstance(full, str) and full in names


def _local_patients(entries: list[Any]) -> dict[str, str]:
    """
    Return the patients of a transaction by their ``urn``: a new one is known by it, another by its id.

    One that is created only if there is none may turn out to be somebody else; that entry is refused by itself.

    Raises:
        Refused: a ``urn`` stands twice.
    """
    local: dict[str, str] = {}
    seen: set[str] = set()
    for entry in entries:
        urn = entry.get("fullUrl") if isinstance(entry, dict) else None
        if not isinstance(urn, str) or not urn.startswith(_URNS):
            continue
        if urn in seen:
            raise Refused("entry_name")
        seen.add(urn)
        resource, asked = entry.get("resource"), entry.get("request")
        if not isinstance(resource, dict) or resource.get("resourceType") != "Patient" or not isinstance(asked, dict):
            continue
        place, _, name = str(asked.get("url", "")).partition("/")
        if asked.get("method") == "POST" and place == "Patient" and not name:
            local[urn] = urn
        elif asked.get("method") == "PUT" and place == "Patient" and is_id(name):
            local[urn] = name
    return local


def _together(words: FhirWords, kind: str, entries: tuple[Meaning, ...]) -> Meaning:
    standing = [entry for entry in entries if entry.answer != "deny"]
    if not standing or (kind == "transaction" and len(standing) < len(entries)):
        return refused(Meaning(kind, _heaviest(entries)), "entry_refused")
    patients = tuple(sorted({patient for entry in standing for patient in entry.patients}))
    return Meaning(
        kind, _heaviest(standing),
        "defer" if any(entry.answer == "defer" for entry in standing)
        else "public" if all(entry.answer == "public" for entry in standing) else "decide",
        words.in_order({each for entry in standing for each in entry.classes}),
        tuple(sorted({each for entry in standing for each in entry.types})),
        source=_source(standing), patients=patients,
        lookups=tuple(sorted({lookup for entry in standing for lookup in entry.lookups})),
        filtered=any(entry.filtered for entry in standing), entries=entries,
        diverted=any(entry.diverted for entry in standing),
        reason="lookup" if any(entry.answer == "defer" for entry in standing) else "",
    )  # fmt: skip


def _source(entries: list[Meaning]) -> Source:
    """Return how sure it is whose data a whole Bundle concerns: as sure as of the entry of which least is known."""
    found = {entry.source for entry in entries}
    order: tuple[Source, ...] = ("many", "lookup", "body", "named")
    return next((source for source in order if source in found), "none")


def _heaviest(entries: tuple[Meaning, ...] | list[Meaning]) -> str | None:
    actions = {entry.action for entry in entries if entry.action is not None}
    return max(
        actions,
        key=lambda action: (_BY_WEIGHT.index(action) if action in _BY_WEIGHT else len(_BY_WEIGHT), action),
        default=None,
    )


def _document(words: FhirWords, bundle: dict[str, Any], entries: Any) -> Meaning:
    """
    Return what a document means: its Composition says whose it is, and nothing in it is of anybody else.

    It bears every label of its parts, and the highest confidentiality among them.
    """
    composition = words.types.get("Composition")
    if composition is None:
        return refused(Meaning("document"), "unmapped_type")
    meaning = Meaning("document", "create", classes=words.in_order(composition.classes), types=("Bundle",))
    try:
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_ENTRIES:
            raise Refused("entries")
        resources = [entry.get("resource") if isinstance(entry, dict) else None for entry in entries]
        first = resource_of(resources[0], "Composition")
        whose = whose_body(first, composition, words)
        parts = [first, *(_of_the_same(words, resource, whose) for resource in resources[1:])]
        marks = highest(marks_of(part, part["resourceType"], words) for part in (bundle, *parts))
    except Refused as refusal:
        return refused(meaning, refusal.reason)
    return answered(words, msgspec.structs.replace(meaning, labels=marks.labels, conf=marks.conf), whose)


def _of_the_same(words: FhirWords, resource: Any, whose: Whose) -> dict[str, Any]:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    entry = words.types.get(kind) if isinstance(kind, str) else None
    if entry is None or not isinstance(kind, str):
        raise Refused("unmapped_type")
    part = resource_of(resource, kind)
    if words.is_impersonal(entry.classes):
        return part
    named = whose_body(part, entry, words)
    if entry.own:
        named = Whose("body", (str(part.get("id")),))
    if named.problem or named.patients != whose.patients:
        raise Refused(named.problem or "patients_disagree")
    return part
