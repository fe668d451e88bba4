"""Labels, confidentiality and authors of a resource: what is there counts, what is not there says nothing."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from ruqsat.core.fhir.bodies import at
from ruqsat.core.fhir.meaning import NOBODY_KNOWN, Authors, Refused
from ruqsat.core.fhir.references import id_of_reference
from ruqsat.core.fhir.words import FhirWords

MAX_LABELS = 32
MAX_LABEL = 64

BESIDE_META: Mapping[str, str] = {"DocumentReference": "securityLabel", "Composition": "confidentiality"}
"""Where types say their labels besides ``meta.security``: a list of concepts (R4, R5), and one code (R4)."""

_CONFIDENTIALITY = frozenset(
    {"http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "http://hl7.org/fhir/v3/Confidentiality"}
)
_UP_TO_NORMAL = frozenset("ULMN")


class Marks(Struct, frozen=True):
    """
    What a resource says of itself.

    Attributes:
        labels: It has at least these.
        conf: ``R`` or ``V``; None for anything less, and where nothing is said.
    """

    labels: tuple[str, ...] = ()
    conf: Literal["R", "V"] | None = None

    def covers(self, other: "Marks") -> bool:
        """Tell whether nothing of the other is missing here."""
        return {*other.labels} <= {*self.labels} and (other.conf or "") <= (self.conf or "")


def marks_of(resource: Mapping[str, Any], kind: str, words: FhirWords) -> Marks:
    """
    Return the labels and the confidentiality that a resource carries.

    Raises:
        Refused: they cannot be read.
    """
    meta = resource.get("meta", {})
    if not isinstance(meta, dict):
        raise Refused("unreadable_labels")
    labels: set[str] = set()
    conf: Literal["R", "V"] | None = None
    for system, code in _codings(resource, meta, kind):
        if system not in _CONFIDENTIALITY:
            labels.add(words.labels.get(code, code))
        elif code not in _UP_TO_NORMAL:
            # Less than normal would open more than saying nothing; what is no level is the highest.
            conf = (conf or "R") if code == "R" else "V"
    if len(labels) > MAX_LABELS:
        raise Refused("unreadable_labels")
    return Marks(tuple(sorted(labels)), conf)


def highest(marks: Iterable[Marks]) -> Marks:
    """
    Return the marks of what holds all of these: every label, and the highest confidentiality.

    Raises:
        Refused: there are too many labels.
    """
    told = list(marks)
    labels = {label for each in told for label in each.labels}
    if len(labels) > MAX_LABELS:
        raise Refused("unreadable_labels")
    return Marks(tuple(sorted(labels)), max((each.conf for each in told if each.conf is not None), default=None))


def authors_of(resource: Mapping[str, Any], kind: str, words: FhirWords) -> Authors:
    """
    Return who wrote a resource: the one practitioner, and the one organisation, that its elements name.

    None where they name several, or somebody who is neither, or cannot be read.
    """
    entry = words.types[kind]
    if not words.shared_staff:
        return NOBODY_KNOWN
    people: set[str | None] = set()
    places: set[str | None] = set()
    try:
        for path in (*entry.author, *entry.org):
            for reference in at(resource, path.split(".")):
                of, name = id_of_reference(reference, words)
                if of == "Organization":
                    places.add(name)
                else:
                    # Whoever acts in a role, a device or a relative: somebody, and nobody knows who in the directory.
                    people.add(name if of == "Practitioner" and path in entry.author else None)
    except Refused:
        return NOBODY_KNOWN
    return Authors(*(next(iter(found)) if len(found) == 1 else None for found in (people, places)))


def agreed(authors: Iterable[Authors]) -> Authors:
    """Return the person and the organisation that all of them name, None for each in which they differ."""
    told = list(authors)
    people, places = {each.person for each in told}, {each.org for each in told}
    return Authors(*(next(iter(found)) if len(found) == 1 else None for found in (people, places)))


def _codings(resource: Mapping[str, Any], meta: Mapping[str, Any], kind: str) -> Iterable[tuple[Any, str]]:
    codings = _list(meta.get("security", []))
    beside = resource.get(BESIDE_META[kind], []) if kind in BESIDE_META else []
    if isinstance(beside, str):
        codings.append({"system": next(iter(_CONFIDENTIALITY)), "code": beside})
    else:
        for concept in _list(beside):
            codings += _list(concept.get("coding") if isinstance(concept, dict) else None)
    for coding in codings:
        code = coding.get("code") if isinstance(coding, dict) else None
        if not isinstance(code, str) or not 0 < len(code) <= MAX_LABEL or not code.isprintable():
            raise Refused("unreadable_labels")
        yield coding.get("system"), code


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Refused("unreadable_labels")
    return list(value)
