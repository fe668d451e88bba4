"""``[fhir]`` of ``policies/routes.toml``: what the types, parameters and operations of FHIR servers mean."""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from ruqsat.core.fhir.meaning import EVERYTHING

UNREADABLE = frozenset(
    {"_has", "_filter", "_query", "_text", "_content", "_contained", "_containedType", "_graph", "_list", "_in",
     "_method", "_getpages", "_cascade"}
)  # fmt: skip
"""
Parameters whose meaning cannot be read from the request: they ask about other records, delete them too, or
change the method.  No file can make them accepted; ``_getpages`` is read where it stands for a page.
"""

Interaction = Literal["read", "search", "create", "update", "delete"]


MAX_TYPE_NAME = 64


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """A FHIR server: where it is mounted, under which absolute URLs clients know it, where its jobs are polled."""

    base: str
    urls: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()

    @property
    def root(self) -> tuple[str, ...]:
        """Return the segments of its base."""
        return segments_of(self.base)


class TypeEntry(Struct, frozen=True, forbid_unknown_fields=True, rename={"own": "self"}):
    """
    One FHIR type.

    Attributes:
        classes: Its data classes; several if only its category tells which.
        subject: Elements that name the patient it is about, R4's and R5's.
        by: Search parameters that do.
        author: Elements that name who wrote it, R4's and R5's; those that name an organisation name whose it is.
        org: Elements that name the organisation whose it is.
        own: The record is the patient.
        actions: Where the action is another than FHIR's interaction says.
        refused: Interactions that are refused, and why.
        diverted: Writings go to a service of ours, not to the FHIR server.
    """

    classes: tuple[str, ...]
    subject: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    author: tuple[str, ...] = ()
    org: tuple[str, ...] = ()
    own: bool = False
    actions: dict[Interaction, str] = {}
    refused: dict[Interaction, str] = {}
    diverted: bool = False


class Category(Struct, frozen=True, forbid_unknown_fields=True):
    """How the class of a type is told from its category; what is not listed tells nothing."""

    codes: dict[str, str]
    systems: tuple[str, ...] = ()
    parameter: str = "category"
    element: str = "category"


class ParameterWords(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Search parameters that begin with ``_``, and modifiers; others are criteria, refused only if listed as such.

    Attributes:
        search: Accepted in a search, besides criteria.
        read: Accepted when a record is read.
        history: Accepted when versions are read.
        write: Accepted when a record is written.
        page: Accepted beside a token of a page.
        repeat: May be given more than once.
        strip: Taken out before the request goes on.
        modifiers: Accepted after a parameter's name and a colon.
        refused: Never accepted, and why.
    """

    search: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    page: tuple[str, ...] = ()
    repeat: frozenset[str] = frozenset()
    strip: frozenset[str] = frozenset()
    modifiers: frozenset[str] = frozenset()
    refused: dict[str, str] = {}


class Operation(Struct, frozen=True, forbid_unknown_fields=True):
    """
    An operation that is understood; every other is refused.

    Attributes:
        on: ``/`` for the whole server, ``/Patient`` for a type, ``/Patient/{id}`` for a record.
        patient: ``path``: the record is the patient; ``parameter``: the parameter ``patient`` names the patient;
            ``lookup``: the record's patient is looked up; ``many``: nobody can say before the answer;
            ``nobody``: it concerns none; ``refused``: it is refused, and ``why``.
        body: The body may be sent unread.
        filtered: The answer must be filtered.
    """

    name: str
    on: tuple[str, ...]
    action: str
    classes: tuple[str, ...]
    patient: Literal["path", "parameter", "lookup", "many", "nobody", "refused"]
    methods: tuple[str, ...] = ("GET",)
    parameters: tuple[str, ...] = ()
    body: bool = False
    filtered: bool = True
    why: str = ""


class FhirWords(Struct, frozen=True, dict=True):
    """
    All of it, checked.

    Attributes:
        labels: Codes of labels that the vocabulary calls otherwise.
        shared_patients: An id names the same patient at every server.
        shared_staff: Ids of practitioners and organisations at the servers are those of tokens and directory.
    """

    servers: tuple[Server, ...]
    types: dict[str, TypeEntry]
    unmapped: dict[str, str]
    categories: dict[str, Category]
    parameters: ParameterWords
    includes: dict[str, tuple[str, ...]]
    operations: tuple[Operation, ...]
    class_order: tuple[str, ...]
    impersonal: frozenset[str] = field(default_factory=frozenset)
    labels: dict[str, str] = {}
    shared_patients: bool = False
    shared_staff: bool = False

    def server_of(self, segments: tuple[str, ...]) -> Server | None:
        """Return the server whose base the path begins with."""
        for root, server in self._roots:
            if segments[: len(root)] == root:
                return server
        return None

    def with_url(self, url: str) -> "FhirWords":
        """Return these words, by which *url* is one more address of the first server; patients' ids are one space."""
        first = self.servers[0]
        return replace(self, servers=(replace(first, urls=(*first.urls, url)), *self.servers[1:]))

    @cached_property
    def _roots(self) -> tuple[tuple[tuple[str, ...], Server], ...]:
        return tuple((server.root, server) for server in self.servers)

    @cached_property
    def classes_of(self) -> dict[str, tuple[str, ...]]:
        """Every class of each type, in the order of the vocabulary."""
        return {name: self.in_order(entry.classes) for name, entry in self.types.items()}

    def in_order(self, classes: Iterable[str]) -> tuple[str, ...]:
        """Return the classes, each once, in the order of the vocabulary; ``*`` is every class of a patient."""
        wanted = set(classes)
        if EVERYTHING in wanted:
            wanted.update(self.every)
        return tuple(name for name in self.class_order if name in wanted)

    @cached_property
    def every(self) -> tuple[str, ...]:
        """Every class that is about a patient and that some type has."""
        of_types = {name for entry in self.types.values() for name in entry.classes} - self.impersonal
        return tuple(name for name in self.class_order if name in of_types)

    @cached_property
    def naming(self) -> frozenset[str]:
        """Parameters that name the patient for some type; of another type a server might take them for the same."""
        return frozenset(name for entry in self.types.values() for name in entry.by if not name.startswith("_"))

    @cached_property
    def operation_at(self) -> dict[tuple[str, str], Operation]:
        """Operations by place and name."""
        return {(place, operation.name): operation for operation in self.operations for place in operation.on}

    @cached_property
    def lower_case(self) -> dict[str, str]:
        """Type names by their lower-case spelling, to tell a type that is not mapped from one that is misspelt."""
        return {name.lower(): name for name in (*self.types, *self.unmapped)}

    def is_type(self, name: str) -> bool:
        """Tell whether *name* is a type's name, mapped or not; another spelling of a known one is none."""
        return is_type_name(name) and self.lower_case.get(name.lower(), name) == name

    def action(self, kind: str | None, interaction: Interaction) -> str:
        """Return the action of an interaction with that type."""
        entry = self.types.get(kind) if kind is not None else None
        return entry.actions.get(interaction, interaction) if entry is not None else interaction

    def refusal(self, kind: str | None, interaction: Interaction) -> str:
        """Say why the type is refused to this interaction, if it is."""
        if kind is None or kind == EVERYTHING:
            return ""
        entry = self.types.get(kind)
        return "unmapped_type" if entry is None else "refused_interaction" if interaction in entry.refused else ""

    def is_own(self, kind: str) -> bool:
        """Tell whether records of that type are the patient."""
        entry = self.types.get(kind)
        return entry is not None and entry.own

    def is_impersonal(self, classes: Iterable[str]) -> bool:
        """Tell whether all classes concern nobody."""
        return self.impersonal.issuperset(classes)


def segments_of(path: str) -> tuple[str, ...]:
    """Return the segments of a path that is written down in a file."""
    return tuple(path.strip("/").split("/")) if path.strip("/") else ()


def is_type_name(text: str) -> bool:
    """Tell whether *text* is written as names of types are."""
    return text.isascii() and text.isalpha() and text[0].isupper() and len(text) <= MAX_TYPE_NAME
