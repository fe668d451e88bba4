"""Creating, changing, patching and deleting: the body, the stored version, and whose they are."""

import msgspec
from msgspec import Struct

from ruqsat.core.fhir.bodies import classes_of_body, resource_of, whose_body
from ruqsat.core.fhir.call import Call, answered, json_of, whose_record
from ruqsat.core.fhir.marks import Marks, authors_of, marks_of
from ruqsat.core.fhir.meaning import INVALID, NEW_PATIENT, NOBODY_KNOWN, Authors, Lookup, Meaning, Refused, Whose
from ruqsat.core.fhir.patches import Patch, read_patch
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
    body = _judged_body(words, call, kind, None)
    problems = {
        *body.problems, *unexpected_parameters(words, call.parameters, words.parameters.write),
        words.refusal(kind, "create"),
    }  # fmt: skip
    also: tuple[str, ...] = ()
    if "if-none-exist" in call.headers:
        also = (words.action(kind, "search") or "search",)
        problems.add(_conditional(words, kind, call.headers["if-none-exist"], body.whose))
    meaning = Meaning(
        "create", words.action(kind, "create"), classes=body.classes, types=(kind,), also=also,
        labels=body.marks.labels, conf=body.marks.conf,
        diverted=kind in words.types and words.types[kind].diverted,
    )  # fmt: skip
    return answered(words, meaning, body.whose, problems)


def read_write(words: FhirWords, call: Call, kind: str, name: str) -> Meaning:
    """Return what an update, a patch or a delete of one record means."""
    interaction: Interaction | None = {"PUT": "update", "PATCH": "update", "DELETE": "delete"}.get(call.method)  # type: ignore[assignment]
    if interaction is None:
        return INVALID
    meaning = Meaning(
        _name(call), words.action(kind, interaction), classes=words.classes_of.get(kind, ()), types=(kind,), id=name,
        filtered=interaction == "update", stored=Lookup(kind, name) if interaction == "update" else None,
        diverted=kind in words.types and words.types[kind].diverted,
    )  # fmt: skip
    whose, problems = whose_record(words, kind, name), set[str]()
    if call.method == "PUT":
        body = _judged_body(words, call, kind, name)
        whose, problems = body.whose, {*body.problems}
        meaning = msgspec.structs.replace(
            meaning, classes=body.classes, labels=body.marks.labels, conf=body.marks.conf, authors=body.authors,
            restates=True,
        )  # fmt: skip
    elif call.method == "PATCH":
        patch, problem = _judged_patch(words, call, kind, name)
        whose, problems = patch.whose if patch.whose.patients else whose, {problem}
        meaning = msgspec.structs.replace(meaning, reclassifies=patch.reclassifies, restates=patch.restates)
    problems |= {
        *unexpected_parameters(words, call.parameters, words.parameters.write),
        words.refusal(kind, interaction),
    }
    return answered(words, meaning, whose, problems)


class _Body(Struct, frozen=True):
    """What a body says: its classes, whose it is, its labels, who wrote it; and what is wrong with it."""

    classes: tuple[str, ...] = ()
    whose: Whose = Whose("body")
    marks: Marks = Marks()
    authors: Authors = NOBODY_KNOWN
    problems: tuple[str, ...] = ()


def _judged_body(words: FhirWords, call: Call, kind: str, name: str | None) -> _Body:
    """Read a body; *name* is the id that it must carry."""
    entry = words.types.get(kind)
    if entry is None:
        return _Body()
    new = NEW_PATIENT if call.local is None else call.local.get(call.urn or "", NEW_PATIENT)
    own = Whose("named", (name,)) if name is not None else Whose("body", (new,))
    try:
        resource = resource_of(json_of(call), kind)
        marks = marks_of(resource, kind, words)
    except Refused as refusal:
        return _Body(words.in_order(entry.classes), own if entry.own else Whose(), problems=(refusal.reason,))
    problems = ("body_of_another_record",) if name is not None and resource.get("id") != name else ()
    whose = own if entry.own else whose_body(resource, entry, words, call.local)
    return _Body(
        classes_of_body(resource, kind, words), whose, marks, authors_of(resource, kind, words), problems
    )  # fmt: skip


def _judged_patch(words: FhirWords, call: Call, kind: str, name: str) -> tuple[Patch, str]:
    try:
        return (read_patch(json_of(call), kind, name, words) if kind in words.types else Patch()), ""
    except Refused as refusal:
        return Patch(), refusal.reason


def _conditional(words: FhirWords, kind: str, criteria: str, whose: Whose) -> str:
    """Say why a conditional create is refused, if it is: its condition must be a search of the same patient's data."""
    try:
        asked = read_search(words, kind, parse_relative("?" + criteria, words.parameters.repeat).query)
    except TargetRejected:
        return "conditional"
    same = asked.whose.source == "named" and asked.whose.patients == whose.patients
    return "" if same and not asked.problems else "conditional"


def _name(call: Call) -> str:
    return {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}[call.method]
