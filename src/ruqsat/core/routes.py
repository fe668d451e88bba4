"""
``policies/routes.toml``: what an HTTP request means, as data.

Under the base of a FHIR server a request is read as FHIR (``core/fhir``).
Elsewhere a route ties methods and a path to an action, a data class and a
patient.  A request that no route describes exactly, its query included, means nothing and
is denied by the caller of this module.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, nearest
from ruqsat.core.fhir.check import Finding, parse_fhir
from ruqsat.core.fhir.meaning import NEW_PATIENT, NOBODY_KNOWN, Authors, Meaning
from ruqsat.core.fhir.words import FhirWords, segments_of
from ruqsat.core.places import Path, Places, convert_each
from ruqsat.core.request import ResourceProperties
from ruqsat.core.validity import IMPERSONAL
from ruqsat.core.vocabulary import Vocabulary, parse_toml

PLACEHOLDERS = ("patient", "class", "id")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_is_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}").fullmatch
_LITERAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_~$-]*")


class Route(Struct, frozen=True, forbid_unknown_fields=True, rename={"data_class": "class", "resource_type": "type"}):
    """
    One route as written down.

    Attributes:
        path: Literal segments and the placeholders ``{patient}``, ``{class}``, ``{id}``.
        data_class: The class, where the path has no ``{class}``.
        query: Parameters that may be there, besides those in ``patient_in``.
        purpose: The purpose of such a request, where the caller's token states none.
    """

    id: str
    methods: tuple[str, ...]
    path: str
    action: str
    resource_type: str
    data_class: str | None = None
    query: tuple[str, ...] = ()
    purpose: str | None = None


class Mapped(Struct, frozen=True):
    """
    What a request means.

    Attributes:
        beside: Further classes of the record; each must be permitted as well.
        labels: Labels that were seen on it: it has at least these.
        conf: Its confidentiality, if more than normal was seen.
        authors: Who wrote it, as far as that is sure.
        also: Actions that must be permitted besides.
    """

    route: str
    action: str
    resource_type: str
    resource_id: str
    data_class: str
    patient: str | None
    purpose: str | None
    beside: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    conf: Literal["R", "V"] | None = None
    authors: Authors = NOBODY_KNOWN
    also: tuple[str, ...] = ()

    def properties(self) -> ResourceProperties:
        """
        Return what is said of the resource.

        Where it takes several answers, they are parts of which all must be permitted: one for each class, and, since
        labels that were seen are never known to be all, one with them and one without.
        """
        person, org = self.authors.person, self.authors.org
        if not self.beside and not self.labels:
            return ResourceProperties(self.patient, self.data_class, conf=self.conf, author=person, author_org=org)
        parts = tuple(
            {"id": self.resource_id, "class": name, "labels": labels}
            for name in (self.data_class, *self.beside)
            for labels in ((None, self.labels) if self.labels else (None,))
        )
        alone = None if self.beside else self.data_class
        return ResourceProperties(
            self.patient, alone, conf=self.conf, author=person, author_org=org, parts=parts, atomic=True
        )


class _Described(NamedTuple):
    """A route, its segments (a literal, or None and the placeholder's name), and the classes its path may name."""

    route: Route
    literals: list[str | None]
    parts: tuple[tuple[str | None, str], ...]
    classes: frozenset[str]


class RouteTable:
    """Checked routes; literal segments win over placeholders.  ``fhir`` is what FHIR servers' words mean."""

    __slots__ = ("_by_length", "fhir")

    def __init__(self, routes: Iterable[Route], classes: frozenset[str], fhir: FhirWords | None = None) -> None:
        self.fhir = fhir
        self._by_length: dict[int, tuple[_Described, ...]] = {}
        for route in sorted(routes, key=lambda route: [part.startswith("{") for part in segments_of(route.path)]):
            segments = segments_of(route.path)
            parts = tuple([(None, part[1:-1]) if part.startswith("{") else (part, "") for part in segments])
            # A path that names a patient speaks of that patient's data: its sender must not get to call them public.
            named = classes - IMPERSONAL if "{patient}" in segments else classes
            described = _Described(route, [literal for literal, _ in parts], parts, named)
            self._by_length[len(segments)] = (*self._by_length.get(len(segments), ()), described)

    def match(self, method: str, segments: tuple[str, ...], query: tuple[tuple[str, str], ...]) -> Mapped | None:
        """Return what the request means; None if no route describes it exactly, or a parameter is given twice."""
        if query and len({name for name, _ in query}) < len(query):
            return None
        won: list[str | None] | None = None
        for route, literals, parts, classes in self._by_length.get(len(segments), ()):
            if literals != won:
                if won is not None or not _is_at(literals, segments):
                    continue
                # By whatever method, whatever stands beside it, a literal stays one in this path: it is nobody's id.
                won = literals
            found = _read(parts, classes, segments)
            if found is None:
                continue
            if method not in route.methods:
                continue
            if query and not all(name in route.query for name, _ in query):
                return None
            return Mapped(
                route.id, route.action, route.resource_type, found.get("id") or "*",
                found.get("class") or route.data_class or "", found.get("patient"), route.purpose,
            )  # fmt: skip
        return None


def _is_at(literals: list[str | None], segments: tuple[str, ...]) -> bool:
    for literal, segment in zip(literals, segments, strict=True):
        if literal is not None and literal != segment:
            return False
    return True


def _read(
    parts: tuple[tuple[str | None, str], ...], classes: frozenset[str], segments: tuple[str, ...]
) -> dict[str, str] | None:  # fmt: skip
    found: dict[str, str] = {}
    for (literal, name), segment in zip(parts, segments, strict=True):
        if literal is not None:
            continue
        if segment not in classes if name == "class" else not _is_id(segment):
            return None
        found[name] = segment
    return found


def mapped_of(meaning: Meaning, *, by_body: bool = False) -> Mapped | None:
    """
    Return the one question that a FHIR request comes to, for an enforcement point that can only let it pass or not.

    None where it takes more: a look-up, the body, the stored version, a rewritten request, a filtered answer, several
    questions, or a patient whom nobody knows yet.  A change also asks for the permission to read.

    Args:
        by_body: The body was seen whole; what it creates may say whose it is.
    """
    searched = meaning.also if meaning.interaction == "create" else ()
    more = (meaning.filtered, meaning.strip, meaning.put, searched, meaning.stored, meaning.diverted, meaning.entries)
    sources = ("none", "named", "body") if by_body and meaning.action == "create" else ("none", "named")
    known = meaning.answer in ("public", "decide") and meaning.source in sources
    if not known or meaning.action is None or any(more) or len(meaning.patients) > 1:
        return None
    if NEW_PATIENT in meaning.patients:
        return None
    if not meaning.classes or len(meaning.types) != 1:
        return None
    return Mapped(
        f"fhir {meaning.interaction}", meaning.action, meaning.types[0], meaning.id, meaning.classes[0],
        meaning.patients[0] if meaning.patients else None, None, meaning.classes[1:], meaning.labels, meaning.conf,
        meaning.authors, meaning.also,
    )  # fmt: skip


def parse_routes(text: str, file: str, vocabulary: Vocabulary) -> tuple[RouteTable | None, list[Diagnostic]]:
    """Read the routes and what FHIR servers' words mean; None with findings if anything is wrong."""
    data, findings = parse_toml(text, file)
    if data is None:
        return None, findings
    places = Places(text, file)
    for odd in sorted(data.keys() - {"route", "fhir"}):
        findings.append(
            places.finding((odd,), "bad-route", f"`{odd}` is no part of this file", "write [[route]] or [fhir]")
        )
    routes = tuple(convert_each(data.get("route"), Route, ("route",), places, "route", findings).values())
    fhir, found = parse_fhir(data.get("fhir"), places, vocabulary)
    findings += found
    if not findings:
        findings = [places.finding(*each) for each in _findings(routes, fhir, vocabulary)]
    return (None if findings else RouteTable(routes, frozenset(vocabulary.classes), fhir)), findings


def _findings(routes: tuple[Route, ...], fhir: FhirWords | None, vocabulary: Vocabulary) -> Iterator[Finding]:
    shapes: dict[tuple[str, tuple[str, ...]], str] = {}
    for number, route in enumerate(routes):
        path: Path = ("route", number)
        for key, code, message, hint in _check(route, vocabulary):
            yield (*path, key), code, f"route `{route.id}`: {message}", hint
        shape = tuple("{}" if part.startswith("{") else part for part in segments_of(route.path))
        for method in route.methods:
            other = shapes.setdefault((method, shape), route.id)
            if other != route.id:
                yield (
                    path,
                    "route-given-twice",
                    f"routes `{other}` and `{route.id}` describe the same requests",
                    "keep one",
                )
        for server in fhir.servers if fhir is not None else ():
            # A longer path begins with the base; a shorter one could only be a part of it, which is read as a route.
            over = list(zip(segments_of(route.path), server.root, strict=False))
            if len(over) == len(server.root) and all(part == root or part.startswith("{") for part, root in over):
                yield (
                    (*path, "path"), "route-under-fhir",
                    f"route `{route.id}`: its path may be one of the FHIR server `{server.base}`",
                    "what is under a base is read as FHIR; give the route another path",
                )  # fmt: skip


def _check(route: Route, vocabulary: Vocabulary) -> Iterator[tuple[str, str, str, str]]:
    parts = segments_of(route.path)
    holders = [part[1:-1] for part in parts if part.startswith("{")]
    if not route.path.startswith("/") or any(not _is_part(part) for part in parts):
        yield (
            "path", "bad-path", f"path `{route.path}` is not `/` and segments",
            "a segment is letters and digits, or " + ", ".join("{" + p + "}" for p in PLACEHOLDERS),
        )  # fmt: skip
    if len(set(holders)) != len(holders):
        yield "path", "placeholder-twice", "a placeholder stands twice in the path", "name each once"
    if ("class" in holders) == (route.data_class is not None):
        yield (
            "path", "class-unclear", "a route has `{class}` in its path, or a `class`; not both, not neither",
            "give one",
        )  # fmt: skip
    for what, word, known in (
        ("action", route.action, vocabulary.actions),
        ("class", route.data_class, vocabulary.classes),
        ("purpose", route.purpose, vocabulary.purposes),
    ):
        if word is not None and word not in known:
            yield (
                what, f"unknown-{what}", f"{what} `{word}` is not in vocabulary.toml",
                nearest(word, known) or "add the word first",
            )  # fmt: skip
    for method in route.methods or ("",):
        if method not in METHODS:
            yield (
                "methods", "unknown-method", f"method `{method}` is not one of {', '.join(METHODS)}",
                nearest(method.upper(), METHODS) or "write it in capitals",
            )  # fmt: skip


def _is_part(part: str) -> bool:
    return _LITERAL.fullmatch(part) is not None or part in {"{" + name + "}" for name in PLACEHOLDERS}
