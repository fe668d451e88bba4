"""From an HTTP request at a FHIR server to what it means."""

from collections.abc import Iterable

from ruqsat.core.fhir.bundles import read_bundle
from ruqsat.core.fhir.call import Call, answered, json_of, whose_record
from ruqsat.core.fhir.meaning import (
    EVERYTHING,
    INVALID,
    Lookup,
    Meaning,
    Refused,
    Whose,
    refused,
)
from ruqsat.core.fhir.operations import read_job, read_operation
from ruqsat.core.fhir.references import is_id
from ruqsat.core.fhir.search import read_search, rewritten, shape_problem, unexpected_parameters
from ruqsat.core.fhir.words import FhirWords, Server
from ruqsat.core.fhir.writing import read_write, read_write_at_type
from ruqsat.core.target import Parameters, Target, TargetRejected, merged, parse_form

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
REFUSED_HEADERS = frozenset(
    {"x-cascade", "x-fhir-dsid", "x-fhir-tenant-id", "x-meta-snapshot-mode", "x-provenance", "x-request-partition-ids",
     "x-rewrite-history", "x-security-context"}
)  # fmt: skip
"""
Headers by which servers do more than the request says: delete what refers to a record (as ``_cascade`` does), take
labels away, store a second record (``Provenance``), write over versions; or do it elsewhere: in the store of another
tenant, where an id is somebody else's, or as a document of another patient (``Binary``).
"""

READ_HEADERS = OVERRIDES | REFUSED_HEADERS | {"content-encoding", "content-type", "if-none-exist", "prefer"}
"""Headers that change what a FHIR request means; an enforcement point hands them over, however they are spelt."""

_CAPABILITIES = frozenset({("metadata",), (".well-known", "smart-configuration")})
_FORM = "application/x-www-form-urlencoded"


def read_target(
    method: str, target: Target, headers: Iterable[tuple[str, str]], body: bytes | None, words: FhirWords
) -> Meaning:
    """
    Return what a request at a FHIR server means; never raises, whatever the request holds.

    HEAD means what GET means: it tells whether something is there.

    Args:
        target: As ``parse_target`` reads it where any parameter may be repeated.
        headers: At least those of ``READ_HEADERS`` that were there.
        body: None where it cannot be seen: what depends on it is refused then.
    """
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
        case (kind, *rest) if words.is_type(kind):
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
            return _search(words, call, kind) if call.method == "GET" else read_write_at_type(words, call, kind)
        case ("_search",) if call.method == "POST":
            return _search(words, call, kind)
        case ("_history",) if call.method == "GET":
            return _history(words, call, kind)
        case (operation,) if operation.startswith("$"):
            return read_operation(words, call, kind, None, operation)
        case (name, *_) if not is_id(name):
            return INVALID
        case (name,):
            return (
                _read(words, call, kind, name, "read") if call.method == "GET" else read_write(words, call, kind, name)
            )
        case (name, "_history") if call.method == "GET":
            return _read(words, call, kind, name, "history-instance")
        case (name, "_history", version) if call.method == "GET" and is_id(version):
            return _read(words, call, kind, name, "vread", version)
        case (name, operation) if operation.startswith("$"):
            return read_operation(words, call, kind, name, operation)
        case (name, part) if call.method == "GET" and (part == "*" or words.is_type(part)):
            return _compartment(words, call, kind, name, part)
        case (name, part, "_search") if call.method == "POST" and (part == "*" or words.is_type(part)):
            return _compartment(words, call, kind, name, part)
    return INVALID


def _read(words: FhirWords, call: Call, kind: str, name: str, interaction: str, version: str = "") -> Meaning:
    history = interaction == "history-instance"
    accepted = words.parameters.history if history else words.parameters.read
    strip, put = rewritten(words, call.parameters, (kind,))
    meaning = Meaning(
        interaction, words.action(kind, "read"), classes=words.classes_of.get(kind, ()), types=(kind,), id=name,
        filtered=history or not words.is_own(kind), strip=strip, put=put,
    )  # fmt: skip
    problems = {*unexpected_parameters(words, call.parameters, accepted), words.refusal(kind, "read")}
    whose = whose_record(words, kind, name)
    if version and whose.lookups:
        # A version may be another patient's than the record is now: both are asked for.
        whose = Whose("lookup", (), (*whose.lookups, Lookup(kind, name, version=version)))
    return answered(words, meaning, whose, problems)


def _history(words: FhirWords, call: Call, kind: str | None) -> Meaning:
    """Return what a history of a type or of everything means: it names no patient, so only impersonal data pass."""
    meaning = Meaning(
        "history-system" if kind is None else "history-type", words.action(kind, "search"),
        classes=words.every if kind is None else words.classes_of.get(kind, ()), types=(kind or EVERYTHING,),
        filtered=True,
    )  # fmt: skip
    problems = {*unexpected_parameters(words, call.parameters, words.parameters.history), words.refusal(kind, "search")}
    return answered(words, meaning, Whose(), problems)


def _search(words: FhirWords, call: Call, kind: str | None) -> Meaning:
    asked = read_search(words, kind, call.parameters)
    meaning = Meaning(
        "search-system" if kind is None else "search-type", words.action(kind, "search"), classes=asked.classes,
        types=asked.types or (kind or EVERYTHING,), filtered=True, strip=asked.strip, put=asked.put,
    )  # fmt: skip
    return answered(words, meaning, asked.whose, {*asked.problems, words.refusal(kind, "search")})


def _compartment(words: FhirWords, call: Call, kind: str, name: str, part: str) -> Meaning:
    asked = read_search(words, None if part == EVERYTHING else part, call.parameters)
    meaning = Meaning(
        "search-compartment", words.action(part, "search"), classes=asked.classes, types=asked.types or (part,),
        filtered=True, strip=asked.strip, put=asked.put,
    )  # fmt: skip
    whose = whose_record(words, kind, name)
    problems = {*asked.problems, asked.whose.problem}
    if part != EVERYTHING:
        problems.add(words.refusal(part, "search"))
    nobodys = asked.classes and words.is_impersonal(asked.classes)
    if nobodys or (not words.is_own(kind) and kind != "Encounter"):
        # What concerns nobody is in no patient's compartment, and other compartments are of many patients.
        problems.add("compartment")
    if asked.whose.source == "named" and asked.whose.patients != whose.patients:
        problems.add("patients_disagree")
    return answered(words, meaning, whose, problems)


def _page(words: FhirWords, call: Call) -> Meaning:
    """Return what asking for a further page means: its token tells neither type nor patient, so it is deferred."""
    allowed = {"_getpages", *words.parameters.page}
    problems = {shape_problem(name, value) for name, value in call.parameters}
    problems |= {"unexpected_parameter" for name, _ in call.parameters if name not in allowed}
    meaning = Meaning("paging", "search", classes=words.every, types=(EVERYTHING,), filtered=True)
    return answered(words, meaning, Whose("lookup"), problems)


def _capabilities(words: FhirWords, call: Call) -> Meaning:
    meaning = Meaning("capabilities", "read", classes=("public",), types=("CapabilityStatement",))
    return answered(
        words, meaning, Whose(), unexpected_parameters(words, call.parameters, (*words.parameters.read, "mode"))
    )


def _call(method: str, target: Target, server: Server, headers: dict[str, str], body: bytes | None) -> Call:
    if body and "content-encoding" in headers:
        raise Refused("body_format")  # the server decodes it first, and reads something else
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
        if key in REFUSED_HEADERS:
            raise Refused("refused_header")
        if key in READ_HEADERS and key in found:
            raise Refused("header_twice")
        found[key] = value.lower() if key != "if-none-exist" else value
    return found


def _has(parameters: Parameters, name: str) -> bool:
    return any(other == name for other, _ in parameters)
