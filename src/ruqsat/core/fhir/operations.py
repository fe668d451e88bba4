"""Operations: those that the file describes; every other is refused."""

import msgspec

from ruqsat.core.fhir.call import Call, answered, whose_record
from ruqsat.core.fhir.meaning import EVERYTHING, Lookup, Meaning, Refused, Whose
from ruqsat.core.fhir.references import patients_of_parameter
from ruqsat.core.fhir.search import classes_of, classes_of_types, shape_problem, types_of_list
from ruqsat.core.fhir.words import FhirWords, Operation, Server, segments_of


def read_operation(words: FhirWords, call: Call, kind: str | None, name: str | None, operation: str) -> Meaning:
    """Return what an operation means, on the whole server, on a type, or on a record."""
    place = "/" + "/".join(part for part in (kind, "{id}" if name is not None else None) if part)
    known = words.operation_at.get((place, operation))
    meaning = Meaning(
        "operation", _action(words, known, operation),
        classes=words.in_order(known.classes if known is not None else (EVERYTHING,)),
        types=(EVERYTHING if kind is None else kind,), id=name or EVERYTHING,
        filtered=known is not None and known.filtered,
    )  # fmt: skip
    if known is None or known.patient == "refused":
        whose = Whose() if kind is None or name is None else whose_record(words, kind, name)
        return answered(words, meaning, whose, {"unknown_operation" if known is None else "refused_operation"})
    if "category" in known.parameters and kind in words.types:
        meaning = _told(words, meaning, kind, call)
    problems = _problems(known, call)
    listed = [value for parameter, value in call.parameters if parameter == "_type"]
    if listed and "_type" in known.parameters:
        types, problem = types_of_list(words, listed[0])
        problems |= problem
        meaning = _narrowed(words, meaning, types)
        if known.patient != "nobody" and meaning.classes and words.is_impersonal(meaning.classes):
            # What an operation finds about a patient is the patient's, whatever type it has.
            problems.add("compartment")
    return answered(words, meaning, _whose(words, known, call, kind, name), problems)


def _action(words: FhirWords, known: Operation | None, operation: str) -> str:
    """Return the action of an operation; if it is not described here, that of one by the same name elsewhere."""
    if known is not None:
        return known.action
    return next((each.action for each in words.operations if each.name == operation), "search")


def read_job(words: FhirWords, server: Server, call: Call) -> Meaning | None:
    """Return what asking for the state of an export means, or None if the path is none of those."""
    for job in server.jobs:
        parts = segments_of(job)
        if len(parts) == len(call.path) and parts[:-1] == call.path[:-1] and call.method in ("GET", "DELETE"):
            meaning = Meaning("operation", "export", classes=words.every, types=(EVERYTHING,), id=call.path[-1])
            asked = Whose("lookup", (), (Lookup("$job", call.path[-1]),))
            return answered(words, meaning, asked, {"unexpected_parameter"} if call.parameters else ())
    return None


def _problems(known: Operation, call: Call) -> set[str]:
    problems = {shape_problem(name, value) for name, value in call.parameters}
    problems |= {"unexpected_parameter" for name, _ in call.parameters if name not in known.parameters}
    if call.method not in known.methods:
        problems.add("method")
    if call.method == "POST" and not known.body:
        # A body could say otherwise than the address.
        problems.add("body_needed" if call.body is None else "unexpected_body" if call.body else "")
    return problems


def _whose(words: FhirWords, known: Operation, call: Call, kind: str | None, name: str | None) -> Whose:
    if known.patient in ("path", "lookup") and kind is not None and name is not None:
        return whose_record(words, kind, name)
    if known.patient == "many":
        return Whose("many")
    if known.patient == "parameter":
        for parameter, value in call.parameters:
            if parameter == "patient":
                try:
                    return Whose("named", patients_of_parameter(value, words))
                except Refused as refusal:
                    return Whose(problem=refusal.reason)
    return Whose()


def _told(words: FhirWords, meaning: Meaning, kind: str, call: Call) -> Meaning:
    """Return the meaning without those classes of the type that a ``category`` among the parameters rules out."""
    left_out = {*words.types[kind].classes} - {*classes_of(words, kind, call.parameters)}
    return msgspec.structs.replace(meaning, classes=tuple(each for each in meaning.classes if each not in left_out))


def _narrowed(words: FhirWords, meaning: Meaning, types: set[str]) -> Meaning:
    classes = tuple(
        each for each in classes_of_types(words, types) if each in meaning.classes or each in words.impersonal
    )
    return msgspec.structs.replace(meaning, classes=classes, types=tuple(sorted(types)))
