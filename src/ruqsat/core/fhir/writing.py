"""Creating, changing, patching and deleting: the body, the stored version, and whose they are."""

from ruqsat.core.fhir.bodies import classes_of_body, patch_problem, resource_of, whose_body
from ruqsat.core.fhir.call import Call, answered, json_of, whose_record
from ruqsat.core.fhir.meaning import INVALID, NEW_PATIENT, Lookup, Meaning, Refused, Whose
from ruqsat.core.fhir.search import read_search, unexpected_parameters
from ruqsat.core.fhir.words import FhirWords, Interaction
from ruqsat.core.target import TargetRejected, parse_relative


def read_write_at_type(words: FhirWords, call: Call, kind: str) -> Meaning:
    """Return what a create means, or a conditional form, which is refused: the server finds out which records."""
    if call.method == "POST":
        return _create(words, call, kind)
    interaction: Interaction = "delete" if call.method == "DELETE" else "update"
    whose = read_search(words, kind, call.parameters).whose if interaction == "delete" else Whose("body")
    meaning = Meaning(
        _name(call), words.action(kind, interaction), classes=words.classes_of.get(kind, ()), types=(kind,)
    )
    return answered(words, meaning, whose, {"conditional", words.refusal(kind, interaction)})


def _create(words: FhirWords, call: Call, kind: str) -> Meaning:
    classes, whose, problems = _judged_body(words, call, kind, None)
    problems |= {*unexpected_parameters(words, call.parameters, words.parameters.write), words.refusal(kind, "create")}
    also: tuple[str, ...] = ()
    if "if-none-exist" in call.headers:
        also = (words.action(kind, "search") or "search",)
        problems.add(_conditional(words, kind, call.headers["if-none-exist"], whose))
    meaning = Meaning(
        "create", words.action(kind, "create"), classes=classes, types=(kind,), also=also,
        diverted=kind in words.types and words.types[kind].diverted,
    )  # fmt: skip
    return answered(words, meaning, whose, problems)


def read_write(words: FhirWords, call: Call, kind: str, name: str) -> Meaning:
    """Return what an update, a patch or a delete of one record means."""
    interaction: Interaction | None = {"PUT": "update", "PATCH": "update", "DELETE": "delete"}.get(call.method)  # type: ignore[assignment]
    if interaction is None:
        return INVALID
    classes, whose, problems = words.classes_of.get(kind, ()), whose_record(words, kind, name), set[str]()
    if call.method == "PUT":
        classes, whose, problems = _judged_body(words, call, kind, name)
    elif call.method == "PATCH":
        problems = {_patch_problem(words, call, kind)}
    problems |= {
        *unexpected_parameters(words, call.parameters, words.parameters.write),
        words.refusal(kind, interaction),
    }
    meaning = Meaning(
        _name(call), words.action(kind, interaction), classes=classes, types=(kind,), id=name,
        filtered=interaction == "update", stored=Lookup(kind, name) if interaction == "update" else None,
        diverted=kind in words.types and words.types[kind].diverted,
    )  # fmt: skip
    return answered(words, meaning, whose, problems)


def _judged_body(words: FhirWords, call: Call, kind: str, name: str | None) -> tuple[tuple[str, ...], Whose, set[str]]:
    """Return the classes of a body, whose it is, and what is wrong with it; *name* is the id that it must carry."""
    entry = words.types.get(kind)
    if entry is None:
        return (), Whose("body"), set()
    new = NEW_PATIENT if call.local is None else call.local.get(call.urn or "", NEW_PATIENT)
    own = Whose("named", (name,)) if name is not None else Whose("body", (new,))
    try:
        resource = resource_of(json_of(call), kind)
    except Refused as refusal:
        return words.in_order(entry.classes), own if entry.own else Whose(), {refusal.reason}
    problems = {"body_of_another_record"} if name is not None and resource.get("id") != name else set()
    whose = own if entry.own else whose_body(resource, entry, words, call.local)
    return classes_of_body(resource, kind, words), whose, problems


def _patch_problem(words: FhirWords, call: Call, kind: str) -> str:
    try:
        return patch_problem(json_of(call), words.types[kind]) if kind in words.types else ""
    except Refused as refusal:
        return refusal.reason


def _conditional(words: FhirWords, kind: str, criteria: str, whose: Whose) -> str:
    """Say why a conditional create is refused: what it asks must be a search of the same patient's data."""
    try:
        asked = read_search(words, kind, parse_relative("?" + criteria, words.parameters.repeat).query)
    except TargetRejected:
        return "conditional"
    same = asked.whose.source == "named" and asked.whose.patients == whose.patients
    return "" if same and not asked.problems else "conditional"


def _name(call: Call) -> str:
    return {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}[call.method]
