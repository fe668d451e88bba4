"""The parameters of a search: whose data, of which classes, and what of it is refused."""

from collections.abc import Iterable

from msgspec import Struct

from ruqsat.core.fhir.marks import BESIDE_META
from ruqsat.core.fhir.meaning import EVERYTHING, Lookup, Refused, Whose
from ruqsat.core.fhir.references import is_id, lookup_of_identifier, patients_of_parameter
from ruqsat.core.fhir.words import UNREADABLE, FhirWords, is_type_name
from ruqsat.core.target import Parameters

_INCLUDES = frozenset({"_include", "_revinclude"})
_ITERATED = frozenset({"", "iterate", "recurse"})
_WHOLE_SUMMARIES = frozenset({"false", "data"})
_SHORT_SUMMARIES = frozenset({"true", "text"})
MAX_COUNT = 10_000


class Asked(Struct, frozen=True):
    """What a search asks for."""

    whose: Whose
    classes: tuple[str, ...]
    types: tuple[str, ...]
    problems: frozenset[str]
    strip: tuple[str, ...] = ()
    put: tuple[tuple[str, str], ...] = ()


def read_search(words: FhirWords, kind: str | None, parameters: Parameters) -> Asked:
    """
    Read the parameters of a search of one type, or of the whole server (*kind* is None).

    The order of the parameters changes nothing.
    """
    types, problems = _types_asked(words, kind, parameters)
    accepted = set(words.parameters.search) - ({"_type"} if kind is not None else set())
    problems |= refused_parameters(words, parameters, accepted)
    problems |= _shape_problems(parameters)
    # A server that does not know `subject` for this type would look past it, and answer about everybody.
    elsewhere = words.naming - _naming(words, types)
    problems |= {"unknown_parameter" for name, _ in parameters if name.partition(":")[0] in elsewhere}
    included: set[str] = set()
    for name, value in parameters:
        if name.partition(":")[0] in _INCLUDES:
            brought, problem = _included(words, name, value)
            included |= brought
            problems |= problem
    classes = {each for name in types for each in classes_of(words, name, parameters)}
    classes |= {each for name in included for each in words.types[name].classes}
    strip, put = rewritten(words, parameters, {*types, *included})
    whose = _whose(words, types, kind, parameters)
    return Asked(whose, words.in_order(classes), tuple(sorted(types | included)), frozenset(problems), strip, put)


def refused_parameters(words: FhirWords, parameters: Parameters, accepted: Iterable[str]) -> set[str]:
    """
    Return what is wrong with the names of parameters.

    A name with an underscore must be accepted; another is a criterion, of plain
    letters, with a modifier that is known.  A dot is a chain, which asks about other records.
    """
    allowed, problems = set(accepted), set()
    for name, _ in parameters:
        bare, _, modifier = name.partition(":")
        if bare in UNREADABLE or bare in words.parameters.refused or name in words.parameters.refused:
            problems.add("refused_parameter")
        elif "." in name:
            problems.add("chained_parameter")
        elif bare.startswith("_") and bare not in allowed:
            problems.add("unknown_parameter")
        elif bare in _INCLUDES:
            problems |= set() if modifier in _ITERATED else {"unknown_modifier"}
        elif bare.startswith("_") and modifier:
            # `_id:not`, `_lastUpdated:missing`: what they mean is not the same for every server.
            problems.add("unknown_modifier")
        elif not bare.startswith("_") and not _is_criterion(bare):
            problems.add("unknown_parameter")
        elif modifier and modifier not in words.parameters.modifiers and modifier not in words.types:
            problems.add("unknown_modifier")
    return problems


def unexpected_parameters(words: FhirWords, parameters: Parameters, accepted: Iterable[str]) -> set[str]:
    """Return what is wrong with the parameters of a request that is no search."""
    allowed = set(accepted)
    problems = refused_parameters(words, parameters, allowed) | _shape_problems(parameters)
    return problems | {"unexpected_parameter" for name, _ in parameters if name not in allowed}


def rewritten(
    words: FhirWords, parameters: Parameters, types: Iterable[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return which parameters are taken out, and which are set so that the answer can be filtered."""
    strip = {name for name, _ in parameters if name in words.parameters.strip}
    put: tuple[tuple[str, str], ...] = ()
    for name, value in parameters:
        if name == "_summary" and value in _SHORT_SUMMARIES:
            strip.add(name)
        if name == "_elements" and all(part.isascii() and part.isalpha() for part in value.split(",")):
            put = ((name, ",".join(sorted({*value.split(","), *elements_needed(words, types)}))),)
    return tuple(sorted(strip)), put


def shape_problem(name: str, value: str) -> str:
    """Say what is wrong with the value of one of FHIR's own parameters, if anything is."""
    if name == "_summary" and value not in _WHOLE_SUMMARIES | _SHORT_SUMMARIES:
        return "count" if value == "count" else "unknown_value"
    if name == "_count":
        # FHIR: a count of 0 asks for the total alone.
        plain = value.isascii() and value.isdigit() and len(value) <= len(str(MAX_COUNT))
        return "unknown_value" if not plain else "count" if int(value) == 0 else ""
    if name == "_elements" and not all(part.isascii() and part.isalpha() for part in value.split(",")):
        return "unknown_value"
    if name == "_sort" and "." in value:
        return "chained_parameter"
    if name == "_format" and not value.replace("/", "").replace("+", "").replace("-", "").isalnum():
        return "unknown_value"
    return ""


def _shape_problems(parameters: Parameters) -> set[str]:
    return {problem for name, value in parameters if (problem := shape_problem(name, value))}


def types_of_list(words: FhirWords, value: str) -> tuple[set[str], set[str]]:
    """Return the types of a list such as ``Observation,Condition``, and what is wrong with it."""
    names = set(value.split(","))
    known = {name for name in names if name in words.types and "search" not in words.types[name].refused}
    return known, (set() if known == names else {"unmapped_type"})


def classes_of_types(words: FhirWords, types: Iterable[str]) -> tuple[str, ...]:
    """Return every class of these types."""
    return words.in_order({each for name in types for each in words.types[name].classes})


def _types_asked(words: FhirWords, kind: str | None, parameters: Parameters) -> tuple[set[str], set[str]]:
    if kind is not None:
        return {kind} if kind in words.types else set(), set()
    listed = [value for name, value in parameters if name == "_type"]
    return types_of_list(words, listed[0]) if listed else ({EVERYTHING}, set())


def classes_of(words: FhirWords, kind: str, parameters: Parameters) -> Iterable[str]:
    """Return the classes of a type, narrowed by a category that tells which."""
    if kind == EVERYTHING:
        return (EVERYTHING,)
    entry, category = words.types[kind], words.categories.get(kind)
    if category is None:
        return entry.classes
    # `category:not` and its like say what is *not* asked for: nothing is narrowed by them.
    named = [value for name, value in parameters if name == category.parameter]
    if len(named) != 1:
        return entry.classes
    found = set()
    for part in named[0].split(","):
        system, bar, code = part.rpartition("|")
        if code not in category.codes or (bar and system not in category.systems):
            return entry.classes
        found.add(category.codes[code])
    return found


def _whose(words: FhirWords, types: set[str], kind: str | None, parameters: Parameters) -> Whose:
    """Return whose data are asked for: as each parameter that names the patient says, and they must agree."""
    naming = _naming(words, types)
    named: set[tuple[str, ...]] = set()
    lookups: set[Lookup] = set()
    problem = ""
    own = kind is not None and kind in words.types and words.types[kind].own
    for name, value in parameters:
        bare, _, modifier = name.partition(":")
        try:
            if bare in naming and modifier == "identifier":
                lookups.add(lookup_of_identifier("Patient", value))
            elif bare in naming and modifier and not (modifier in words.types and words.types[modifier].own):
                raise Refused("unknown_modifier")
            elif bare in naming:
                named.add(patients_of_parameter(value, words))
            elif own and name == "identifier":
                lookups.add(lookup_of_identifier("Patient", value))
        except Refused as refusal:
            problem = max(problem, refusal.reason)
    if problem or len(named) > 1:
        return Whose(problem=problem or "patients_disagree")
    if named:
        # A further identifier only narrows what is asked of a patient who is named.
        return Whose("named", named.pop())
    if lookups:
        return Whose("lookup", (), tuple(sorted(lookups)))
    return _unnamed(kind, own, parameters)


def _unnamed(kind: str | None, own: bool, parameters: Parameters) -> Whose:
    ids = [part for name, value in parameters if name == "_id" for part in value.split(",")]
    if kind is not None and ids and not own:
        if not all(map(is_id, ids)):
            return Whose(problem="unreadable_reference")
        return Whose("lookup", (), tuple(sorted({Lookup(kind, part) for part in ids})))
    # Looking for a person needs something to look for: a list of everybody is none, nor is a chain.
    said = any(value and not name.startswith("_") and "." not in name for name, value in parameters)
    return Whose("many" if own and said else "none")


def _naming(words: FhirWords, types: set[str]) -> set[str]:
    """Return the parameters that name the patient for all these types."""
    if EVERYTHING in types:
        return {"patient"}
    each = [set(words.types[name].by) for name in types]
    return set.intersection(*each) if each else {"patient", "subject"}


def _included(words: FhirWords, name: str, value: str) -> tuple[set[str], set[str]]:
    """Return the types that an include brings, and what is wrong with it."""
    source, _, rest = value.partition(":")
    parameter, colon, target = rest.partition(":")
    if "*" in value:
        return set(), {"include_everything"}
    if source not in words.types or not _is_criterion(parameter) or (colon and target not in words.types):
        return set(), {"unknown_include"}
    if name.startswith("_revinclude"):
        brought = {source}
    elif colon:
        brought = {target}
    else:
        brought = set(words.includes.get(f"{source}:{parameter}", words.includes.get(parameter, ())))
    if not brought:
        return set(), {"unknown_include"}
    if any(
        words.types[each].actions.keys() & {"read", "search"} or words.types[each].refused.keys() & {"read", "search"}
        for each in brought
    ):
        # What is read by another action is not brought along.
        return brought, {"unknown_include"}
    return brought, set()


def elements_needed(words: FhirWords, types: Iterable[str]) -> set[str]:
    """Return the elements without which a record cannot be judged: labels, patient, category."""
    needed = {"meta"}
    asked = set(types)
    for name in words.types if EVERYTHING in asked else asked:
        if name in words.types:
            needed |= {path.partition(".")[0] for path in words.types[name].subject}
        if name in words.categories:
            needed.add(words.categories[name].element)
        if name in BESIDE_META:
            needed.add(BESIDE_META[name])
    return needed


def _is_criterion(name: str) -> bool:
    """Tell whether *name* is written as search parameters are: ``code``, ``onset-date``."""
    plain = name.replace("-", "")
    return (
        plain.isascii() and plain.isalnum() and plain == plain.lower() and name[:1].isalpha() and not is_type_name(name)
    )
