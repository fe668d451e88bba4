"""From an HTTP request at a FHIR server to what it means."""

from collections.abc import Iterable

from msgspec import Struct

from ruqsat.core.fhir.bodies import classes_of_body, patch_problem, resource_of, whose_body
from ruqsat.core.fhir.bundles import read_bundle
from ruqsat.core.fhir.call import Call, answered, json_of, whose_record
from ruqsat.core.fhir.meaning import (
    EVERYTHING,
    INVALID,
    NEW_PATIENT,
    Lookup,
    Meaning,
    Refused,
    Whose,
    refused,
)
from ruqsat.core.fhir.operations import read_job, read_operation
from ruqsat.core.fhir.references import is_id, is_type_name
from ruqsat.core.fhir.search import read_search, refused_parameters, rewritten, shape_problem
from ruqsat.core.fhir.words import FhirWords, Interaction, Server
from ruqsat.core.target import Parameters, Target, TargetRejected, merged, parse_form, parse_relative, parse_target

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
READ_HEADERS = OVERRIDES | {"content-type", "if-none-exist", "prefer"}
"""Headers that change what a FHIR request means; an enforcement point hands them over, however they are spelt."""

_CAPABILITIES = frozenset({("metadata",), (".well-known", "smart-configuration")})
_FORM = "application/x-www-form-urlencoded"


class FhirRequest(Struct, frozen=True):
    """
    A request as it arrived.

    Attributes:
        headers: At least those of ``READ_HEADERS`` that were there.
        body: None where it cannot be seen: what depends on it is refused then.
    """

    method: str
    target: bytes
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def read_request(request: FhirRequest, words: FhirWords) -> Meaning:
    """
    Return what a request at a FHIR server means; never raises, whatever the request holds.

    HEAD means what GET means: it tells whether something is there.
    """
    try:
        target = parse_target(request.target, None)
    except TargetRejected:
        return refused(INVALID, "bad_target")
    return read_target(request.method, target, request.headers, request.body, words)


def read_target(
    method: str, target: Target, headers: Iterable[tuple[str, str]], body: bytes | None, words: FhirWords
) -> Meaning:
    """Return what a request means whose target is read already, with any parameter repeated."""
    server = words.server_of(target.segments)
    if server is None:
        return refused(INVALID, "no_server")
    try:
        known = _headers(headers)
        call = _call("GET" if method == "HEAD" else method, target, server, known, body)
    except TargetRejected:
        return refused(INVALID, "bad_target")
    except Refused as refusal:
        return refused(INVALID, refusal.reason)
    meaning = read_call(words, server, call)
    if "respond-async" in known.get("prefer", "") and meaning.action != "export" and meaning.answer != "deny":
        # The answer would lie somewhere else, where nobody filters it.
        return refused(meaning, "answer_elsewhere")
    return meaning


def read_call(words: FhirWords, server: Server, call: Call) -> Meaning:
    """Return what one interaction below the base means."""
    meaning = _read_call(words, server, call)
    names = [name for name, _ in call.parameters]
    if meaning.answer != "deny" and any(names.count(name) > 1 for name in names if name not in words.parameters.repeat):
        # Some servers take the first, some the last, some both.
        return refused(meaning, "parameter_twice")
    return meaning


def _read_call(words: FhirWords, server: Server, call: Call) -> Meaning:
    if call.method not in METHODS:
        return refused(INVALID, "method")
    job = read_job(words, server, call)
    if job is not None:
        return job
    match call.path:
        case _ if call.path in _CAPABILITIES and call.method == "GET":
            return _capabilities(words, call)
        case ():
            return _at_base(words, server, call)
        case ("_search",) if call.method == "POST":
            return _search(words, call, None)
        case ("_history",) if call.method == "GET":
            return _history(words, call, None)
        case (operation,) if operation.startswith("$"):
            return read_operation(words, call, None, None, operation)
        case (kind, *rest) if _is_type(words, kind):
            return _at_type(words, call, kind, tuple(rest))
    return INVALID


def _at_base(words: FhirWords, server: Server, call: Call) -> Meaning:
    if call.method == "GET":
        return _page(words, call) if _has(call.parameters, "_getpages") else _search(words, call, None)
    if call.method != "POST" or call.local is not None:
        return INVALID
    try:
        if call.parameters:
            raise Refused("unexpected_parameter")
        bundle = json_of(call)
    except Refused as refusal:
        return refused(Meaning("bundle"), refusal.reason)
    return read_bundle(words, bundle, lambda entry: read_call(words, server, entry))


def _at_type(words: FhirWords, call: Call, kind: str, rest: tuple[str, ...]) -> Meaning:  # noqa: PLR0911 - a line a shape
    match rest:
        case ():
            return _search(words, call, kind) if call.method == "GET" else _write_at_type(words, call, kind)
        case ("_search",) if call.method == "POST":
            return _search(words, call, kind)
        case ("_history",) if call.method == "GET":
            return _history(words, call, kind)
        case (operation,) if operation.startswith("$"):
            return read_operation(words, call, kind, None, operation)
        case (name, *_) if not is_id(name):
            return INVALID
        case (name,):
            return _read(words, call, kind, name, "read") if call.method == "GET" else _write(words, call, kind, name)
        case (name, "_history") if call.method == "GET":
            return _read(words, call, kind, name, "history-instance")
        case (name, "_history", version) if call.method == "GET" and is_id(version):
            return _read(words, call, kind, name, "vread")
        case (name, operation) if operation.startswith("$"):
            return read_operation(words, call, kind, name, operation)
        case (name, part) if call.method == "GET" and (part == "*" or _is_type(words, part)):
            return _compartment(words, call, kind, name, part)
        case (name, part, "_search") if call.method == "POST" and (part == "*" or _is_type(words, part)):
            return _compartment(words, call, kind, name, part)
    return INVALID


def _read(words: FhirWords, call: Call, kind: str, name: str, interaction: str) -> Meaning:
    history = interaction == "history-instance"
    accepted = words.parameters.history if history else words.parameters.read
    strip, put = rewritten(words, call.parameters, (kind,))
    meaning = Meaning(
        interaction, _action(words, kind, "read"), classes=_classes(words, kind), types=(kind,), id=name,
        filtered=history or not _is_own(words, kind), strip=strip, put=put,
    )  # fmt: skip
    problems = {*_unexpected(words, call.parameters, accepted), _refused_type(words, kind, "read")}
    return answered(words, meaning, whose_record(words, kind, name), problems)


def _history(words: FhirWords, call: Call, kind: str | None) -> Meaning:
    """Return what the history of a type or of everything means: nobody's in particular, so only of what is nobody's."""
    meaning = Meaning(
        "history-system" if kind is None else "history-type", _action(words, kind, "search"),
        classes=words.every if kind is None else _classes(words, kind), types=(kind or EVERYTHING,), filtered=True,
    )  # fmt: skip
    problems = {*_unexpected(words, call.parameters, words.parameters.history), _refused_type(words, kind, "search")}
    return answered(words, meaning, Whose(), problems)


def _search(words: FhirWords, call: Call, kind: str | None) -> Meaning:
    asked = read_search(words, kind, call.parameters)
    meaning = Meaning(
        "search-system" if kind is None else "search-type", _action(words, kind, "search"), classes=asked.classes,
        types=asked.types or (kind or EVERYTHING,), filtered=True, strip=asked.strip, put=asked.put,
    )  # fmt: skip
    return answered(words, meaning, asked.whose, {*asked.problems, _refused_type(words, kind, "search")})


def _compartment(words: FhirWords, call: Call, kind: str, name: str, part: str) -> Meaning:
    asked = read_search(words, None if part == EVERYTHING else part, call.parameters)
    meaning = Meaning(
        "search-compartment", _action(words, part, "search"), classes=asked.classes, types=asked.types or (part,),
        filtered=True, strip=asked.strip, put=asked.put,
    )  # fmt: skip
    whose = whose_record(words, kind, name)
    problems = {*asked.problems, asked.whose.problem}
    if part != EVERYTHING:
        problems.add(_refused_type(words, part, "search"))
    nobodys = asked.classes and words.is_impersonal(asked.classes)
    if nobodys or (not _is_own(words, kind) and kind != "Encounter"):
        # What concerns nobody is in no patient's compartment, and other compartments are of many patients.
        problems.add("compartment")
    if asked.whose.source == "named" and asked.whose.patients != whose.patients:
        problems.add("patients_disagree")
    return answered(words, meaning, whose, problems)


def _page(words: FhirWords, call: Call) -> Meaning:
    """Return what a page means: its token says neither type nor patient, so it is bound to the first decision."""
    allowed = {"_getpages", *words.parameters.page}
    problems = {shape_problem(name, value) for name, value in call.parameters}
    problems |= {"unexpected_parameter" for name, _ in call.parameters if name not in allowed}
    meaning = Meaning("paging", "search", classes=words.every, types=(EVERYTHING,), filtered=True)
    return answered(words, meaning, Whose("lookup"), problems)


def _write_at_type(words: FhirWords, call: Call, kind: str) -> Meaning:
    if call.method == "POST":
        return _create(words, call, kind)
    interaction: Interaction = "delete" if call.method == "DELETE" else "update"
    whose = read_search(words, kind, call.parameters).whose if interaction == "delete" else Whose("body")
    meaning = Meaning(_name(call), _action(words, kind, interaction), classes=_classes(words, kind), types=(kind,))
    return answered(words, meaning, whose, {"conditional", _refused_type(words, kind, interaction)})


def _create(words: FhirWords, call: Call, kind: str) -> Meaning:
    classes, whose, problems = _judged_body(words, call, kind, None)
    problems |= {*_unexpected(words, call.parameters, words.parameters.write), _refused_type(words, kind, "create")}
    also: tuple[str, ...] = ()
    if "if-none-exist" in call.headers:
        also = (_action(words, kind, "search") or "search",)
        problems.add(_conditional(words, kind, call.headers["if-none-exist"], whose))
    meaning = Meaning(
        "create", _action(words, kind, "create"), classes=classes, types=(kind,), also=also,
        diverted=_is_diverted(words, kind),
    )  # fmt: skip
    return answered(words, meaning, whose, problems)


def _write(words: FhirWords, call: Call, kind: str, name: str) -> Meaning:
    interaction: Interaction | None = {"PUT": "update", "PATCH": "update", "DELETE": "delete"}.get(call.method)  # type: ignore[assignment]
    if interaction is None:
        return INVALID
    classes, whose, problems = _classes(words, kind), whose_record(words, kind, name), set[str]()
    if call.method == "PUT":
        classes, whose, problems = _judged_body(words, call, kind, name)
    elif call.method == "PATCH":
        problems = {_patch_problem(words, call, kind)}
    problems |= {*_unexpected(words, call.parameters, words.parameters.write), _refused_type(words, kind, interaction)}
    meaning = Meaning(
        _name(call), _action(words, kind, interaction), classes=classes, types=(kind,), id=name,
        filtered=interaction == "update", stored=Lookup(kind, name) if interaction == "update" else None,
        diverted=_is_diverted(words, kind),
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


def _capabilities(words: FhirWords, call: Call) -> Meaning:
    meaning = Meaning("capabilities", "read", classes=("public",), types=("CapabilityStatement",))
    return answered(words, meaning, Whose(), _unexpected(words, call.parameters, (*words.parameters.read, "mode")))


def _unexpected(words: FhirWords, parameters: Parameters, accepted: Iterable[str]) -> set[str]:
    """Return what is wrong with the parameters of a request that is no search."""
    allowed = set(accepted)
    problems = refused_parameters(words, parameters, allowed) | {shape_problem(*pair) for pair in parameters}
    return problems | {"unexpected_parameter" for name, _ in parameters if name not in allowed}


def _call(method: str, target: Target, server: Server, headers: dict[str, str], body: bytes | None) -> Call:
    path = target.segments[len(server.root) :]
    if path[-1:] == ("_search",):
        return Call(method, path, _form(target.query, method, headers, body), headers, b"")
    if body and method in ("GET", "DELETE"):
        raise Refused("unexpected_body")
    return Call(method, path, target.query, headers, body)


def _form(parameters: Parameters, method: str, headers: dict[str, str], body: bytes | None) -> Parameters:
    """Return the parameters of a search by POST: those of the address and those of the form, as one query."""
    if method != "POST":
        return parameters
    if body is None:
        raise Refused("body_needed")
    if body and headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused("body_format")
    return merged(parameters, parse_form(body, None), None)


def _headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name; servers do not tell ``-`` from ``_``, so a twin is the same header given twice."""
    found: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower().replace("_", "-")
        if key in OVERRIDES:
            raise Refused("method_override")
        if key in READ_HEADERS and key in found:
            raise Refused("header_twice")
        found[key] = value.lower() if key != "if-none-exist" else value
    return found


def _is_type(words: FhirWords, name: str) -> bool:
    """Tell whether *name* is a type's name, mapped or not; another spelling of a known one is none."""
    return is_type_name(name) and words.lower_case.get(name.lower(), name) == name


def _name(call: Call) -> str:
    return {"PUT": "update", "PATCH": "patch", "DELETE": "delete"}[call.method]


def _action(words: FhirWords, kind: str | None, interaction: Interaction) -> str:
    entry = words.types.get(kind) if kind is not None else None
    return entry.actions.get(interaction, interaction) if entry is not None else interaction


def _classes(words: FhirWords, kind: str) -> tuple[str, ...]:
    return words.classes_of.get(kind, ())


def _refused_type(words: FhirWords, kind: str | None, interaction: Interaction) -> str:
    """Say why the type is refused to this interaction, if it is."""
    if kind is None or kind == EVERYTHING:
        return ""
    entry = words.types.get(kind)
    return "unmapped_type" if entry is None else "refused_interaction" if interaction in entry.refused else ""


def _is_own(words: FhirWords, kind: str) -> bool:
    entry = words.types.get(kind)
    return entry is not None and entry.own


def _is_diverted(words: FhirWords, kind: str) -> bool:
    entry = words.types.get(kind)
    return entry is not None and entry.diverted


def _has(parameters: Parameters, name: str) -> bool:
    return any(other == name for other, _ in parameters)
