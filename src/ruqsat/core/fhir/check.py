"""Reading and checking ``[fhir]`` of ``policies/routes.toml``: strictly, all findings at once, each with its line."""

from collections.abc import Iterator
from typing import Any

from ruqsat.core.diagnostics import Diagnostic, nearest
from ruqsat.core.fhir.meaning import EVERYTHING
from ruqsat.core.fhir.words import (
    UNREADABLE,
    Category,
    FhirWords,
    Operation,
    ParameterWords,
    Server,
    TypeEntry,
    segments_of,
)
from ruqsat.core.places import Path, Places, convert_each, convert_mapping, named
from ruqsat.core.validity import IMPERSONAL
from ruqsat.core.vocabulary import Vocabulary

_SHARED = ("shared_patients", "shared_staff")
_PARTS = {*_SHARED, "server", "types", "unmapped", "categories", "labels", "parameters", "includes", "operation"}
_METHODS = ("GET", "POST", "PUT", "DELETE")
Finding = tuple[Path, str, str, str]


def parse_fhir(raw: Any, places: Places, vocabulary: Vocabulary) -> tuple[FhirWords | None, list[Diagnostic]]:
    """Read the table ``fhir``; None with findings if anything of it is wrong, None without if it is not there."""
    if raw is None:
        return None, []
    findings: list[Diagnostic] = []
    if not isinstance(raw, dict) or not raw.keys() <= _PARTS:
        odd = sorted(raw.keys() - _PARTS) if isinstance(raw, dict) else []
        return None, [
            places.finding(("fhir", *odd[:1]), "bad-route", f"`fhir` holds {_listed(odd) or 'no table'}",
                           "its parts are " + _listed(sorted(_PARTS)))
        ]  # fmt: skip
    words = FhirWords(
        tuple(convert_each(raw.get("server"), Server, ("fhir", "server"), places, "server", findings).values()),
        named(convert_each(raw.get("types"), TypeEntry, ("fhir", "types"), places, "type", findings)),
        convert_mapping(raw.get("unmapped"), str, "a reason", ("fhir", "unmapped"), places, findings),
        named(convert_each(raw.get("categories"), Category, ("fhir", "categories"), places, "category", findings)),
        convert_each({"parameters": raw.get("parameters", {})}, ParameterWords, ("fhir",), places, "table", findings)
        .get("parameters", ParameterWords()),
        convert_mapping(
            raw.get("includes"), tuple[str, ...], "a list of types", ("fhir", "includes"), places, findings
        ),
        tuple(
            convert_each(raw.get("operation"), Operation, ("fhir", "operation"), places, "operation", findings).values()
        ),
        tuple(vocabulary.classes), IMPERSONAL,
        convert_mapping(raw.get("labels"), str, "a label", ("fhir", "labels"), places, findings),
        *(raw.get(name, False) for name in _SHARED),
    )  # fmt: skip
    for name in _SHARED:
        if not isinstance(raw.get(name, False), bool):
            findings.append(places.finding(("fhir", name), "bad-route", f"`{name}` is a yes or a no",
                                           f"write `{name} = true`, or leave it out"))  # fmt: skip
    if not findings:
        findings = [places.finding(*found) for check in _CHECKS for found in check(words, vocabulary)]
    return (None if findings else words), findings


def _servers(words: FhirWords, _: Vocabulary) -> Iterator[Finding]:
    for number, server in enumerate(words.servers):
        path: Path = ("fhir", "server", number)
        if not server.base.startswith("/") or not all(_is_plain(part) for part in server.root):
            yield (
                (*path, "base"), "bad-path", f"base `{server.base}` is not `/` and plain segments",
                "a segment is letters, digits, `-`, `_`",
            )  # fmt: skip
        for other in words.servers[:number]:
            if server.root[: len(other.root)] == other.root or other.root[: len(server.root)] == server.root:
                yield (
                    (*path, "base"), "route-under-fhir",
                    f"bases `{other.base}` and `{server.base}` hold the same paths",
                    "mount them beside each other",
                )  # fmt: skip
        for job in server.jobs:
            parts = segments_of(job)
            if not job.startswith("/") or parts[-1:] != ("{id}",) or not all(_is_plain(part) for part in parts[:-1]):
                yield (
                    (*path, "jobs"),
                    "bad-path",
                    f"job `{job}` is not plain segments and `{{id}}`",
                    'such as "/jobs/{id}"',
                )
        for url in server.urls:
            if not url.startswith(("https://", "http://")) or url.endswith("/") or "?" in url or "#" in url:
                yield (
                    (*path, "urls"),
                    "bad-path",
                    f"`{url}` is no absolute URL of a base",
                    "such as `https://host/fhir`",
                )


def _shared(words: FhirWords, _: Vocabulary) -> Iterator[Finding]:
    if len(words.servers) > 1 and not words.shared_patients:
        yield (
            ("fhir", "server", 1), "patient-unclear",
            "several servers, and nothing says that an id names the same patient at each of them",
            "write `shared_patients = true` under [fhir] if one register gives out their ids; if not, give each server "
            "a sidecar of its own",
        )  # fmt: skip


def _types(words: FhirWords, vocabulary: Vocabulary) -> Iterator[Finding]:
    for name, entry in words.types.items():
        path: Path = ("fhir", "types", name)
        if not _is_type(name):
            yield path, "unknown-type", f"`{name}` is no name of a type", "a type begins with a capital"
        if name in words.unmapped:
            yield path, "unknown-type", f"type `{name}` stands in `types` and in `unmapped`", "keep one"
        yield from _classes(path, entry.classes, vocabulary, EVERYTHING in entry.classes)
        for action in entry.actions.values():
            yield from _word(path, "action", action, vocabulary.actions)
        nobodys = [each for each in entry.classes if each in IMPERSONAL]
        if nobodys and (len(nobodys) < len(entry.classes) or entry.own or entry.by or entry.subject):
            yield (
                path, "patient-unclear", f"type `{name}` has a class that is about nobody, and names a patient",
                "give it other classes, or no `subject`, `by` and `self`",
            )  # fmt: skip
        if name in vocabulary.types and (entry.own or entry.by or entry.subject):
            yield (
                path, "patient-unclear", f"`[types]` of vocabulary.toml says that type `{name}` is about nobody",
                "take it out there: a question that names no patient would be about public data",
            )  # fmt: skip
        if len(entry.classes) > 1 and name not in words.categories:
            yield (
                path, "class-unclear", f"type `{name}` has several classes and no category that tells which",
                f"add [fhir.categories.{name}]",
            )  # fmt: skip
    for name in words.unmapped:
        if not _is_type(name):
            yield (
                ("fhir", "unmapped", name),
                "unknown-type",
                f"`{name}` is no name of a type",
                "a type begins with a capital",
            )


def _categories(words: FhirWords, _: Vocabulary) -> Iterator[Finding]:
    for name, category in words.categories.items():
        path: Path = ("fhir", "categories", name)
        entry = words.types.get(name)
        if entry is None:
            yield (
                path,
                "unknown-type",
                f"type `{name}` is not in `fhir.types`",
                nearest(name, words.types) or "add it first",
            )
            continue
        for code, data_class in category.codes.items():
            if data_class not in entry.classes:
                yield (
                    (*path, "codes"), "class-outside-type",
                    f"category `{code}` is of class `{data_class}`, which `{name}` has not",
                    nearest(data_class, entry.classes) or "add the class to the type",
                )  # fmt: skip


def _labels(words: FhirWords, vocabulary: Vocabulary) -> Iterator[Finding]:
    for code, label in words.labels.items():
        if label not in vocabulary.labels:
            yield (
                ("fhir", "labels", code), "bad-route", f"`{label}` is no label of the vocabulary",
                nearest(label, vocabulary.labels) or "add it to `[labels]` first",
            )  # fmt: skip
        elif code in vocabulary.labels:
            yield (
                ("fhir", "labels", code), "bad-route", f"`{code}` is a label itself, and would be read as another",
                "leave the line out",
            )  # fmt: skip


def _parameters(words: FhirWords, _: Vocabulary) -> Iterator[Finding]:
    parameters = words.parameters
    lists = {"search": parameters.search, "read": parameters.read, "history": parameters.history,
             "write": parameters.write, "page": parameters.page}  # fmt: skip
    for kind, names in lists.items():
        for name in names:
            if name in UNREADABLE:
                yield (
                    ("fhir", "parameters", kind), "parameter-unclear", f"`{name}` cannot be accepted",
                    "what it asks for cannot be read from the request; take it out",
                )  # fmt: skip
            if name in parameters.refused:
                yield ("fhir", "parameters", kind), "parameter-unclear", f"`{name}` is accepted and refused", "keep one"
    for name in sorted(parameters.repeat & {"_id", *words.naming}):
        yield (
            ("fhir", "parameters", "repeat"), "parameter-unclear", f"`{name}` names the patient and may be given twice",
            "two would mean both at once; take it out",
        )  # fmt: skip


def _includes(words: FhirWords, _: Vocabulary) -> Iterator[Finding]:
    for name, types in words.includes.items():
        source, colon, _parameter = name.partition(":")
        for each in (*types, *((source,) if colon else ())):
            if each not in words.types:
                yield (
                    ("fhir", "includes", name), "unknown-type", f"type `{each}` is not in `fhir.types`",
                    nearest(each, words.types) or "add it first",
                )  # fmt: skip


def _operations(words: FhirWords, vocabulary: Vocabulary) -> Iterator[Finding]:
    seen: dict[tuple[str, str], int] = {}
    for number, operation in enumerate(words.operations):
        path: Path = ("fhir", "operation", number)
        label = f"operation `{operation.name}`"
        if not operation.name.startswith("$") or not all(_is_place(place) for place in operation.on):
            yield (
                path, "bad-path", f"{label} on {_listed(operation.on)} is at no place",
                'a name begins with `$`; a place is "/", "/Type" or "/Type/{id}"',
            )  # fmt: skip
        for place in operation.on:
            if seen.setdefault((place, operation.name), number) != number:
                yield (*path, "on"), "route-given-twice", f"{label} on `{place}` is described twice", "keep one"
            of_type = segments_of(place)[:1]
            if of_type and of_type[0] not in words.types and of_type[0] not in words.unmapped:
                yield (
                    (*path, "on"),
                    "unknown-type",
                    f"type `{of_type[0]}` is not known",
                    nearest(of_type[0], words.types) or "add it first",
                )
        for method in operation.methods:
            if method not in _METHODS:
                yield (
                    (*path, "methods"), "unknown-method",
                    f"{label}: method `{method}` is not one of {', '.join(_METHODS)}",
                    "HEAD is read as GET",
                )  # fmt: skip
        yield from _classes((*path, "classes"), operation.classes, vocabulary, True)
        yield from _word((*path, "action"), "action", operation.action, vocabulary.actions)
        problem = _whose(operation, words)
        if problem:
            yield (*path, "patient"), "patient-unclear", f"{label}: {problem}", "see the comments of the file"


def _whose(operation: Operation, words: FhirWords) -> str:
    records = [segments_of(place) for place in operation.on]
    nobody = words.is_impersonal(operation.classes)
    if (operation.patient == "nobody") != nobody and operation.patient != "refused":
        return "`nobody` goes with classes that are about nobody, and only with them"
    if operation.patient == "path" and not all(
        len(place) == 2 and place[0] in words.types and words.types[place[0]].own for place in records
    ):
        return "`path` is for records that are the patient"
    if operation.patient == "lookup" and not all(len(place) == 2 for place in records):
        return "`lookup` is for records"
    if operation.patient == "parameter" and "patient" not in operation.parameters:
        return "`parameter` needs `patient` among its parameters"
    if operation.patient != "nobody" and not operation.filtered and operation.patient != "refused":
        return "an answer about patients must be filtered"
    if (operation.patient == "refused") != bool(operation.why):
        return "`refused` goes with `why`"
    return ""


_CHECKS = (_servers, _shared, _types, _categories, _labels, _parameters, _includes, _operations)


def _classes(path: Path, classes: tuple[str, ...], vocabulary: Vocabulary, with_all: bool) -> Iterator[Finding]:
    for each in classes:
        if each != EVERYTHING or not with_all:
            yield from _word(path, "class", each, vocabulary.classes)
    if not classes or (EVERYTHING in classes and len(classes) > 1):
        yield path, "class-unclear", "`*` stands alone, and one class at least is named", "name the classes"


def _word(path: Path, what: str, word: str, known: dict[str, str]) -> Iterator[Finding]:
    if word not in known:
        yield (
            path, f"unknown-{what}", f"{what} `{word}` is not in vocabulary.toml",
            nearest(word, known) or "add the word first",
        )  # fmt: skip


def _is_plain(part: str) -> bool:
    return part != "" and part.isascii() and part.replace("-", "").replace("_", "").isalnum()


def _is_type(name: str) -> bool:
    return name.isascii() and name.isalpha() and name[:1].isupper()


def _is_place(place: str) -> bool:
    parts = segments_of(place)
    return place.startswith("/") and len(parts) <= 2 and all(map(_is_type, parts[:1])) and parts[1:] in ((), ("{id}",))


def _listed(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)
