"""Records in which every personal field holds a marker of its own, and a look at everything that must not hold one."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ruqsat.core.identification import control_digit
from tests.registry.corpus import BY_REPRESENTATIVE, changed
from tests.registry.documents import CHECKED, OTHER, verified

Found = dict[str, list[str]]
"""Places, and the fields whose markers were met there."""


class Marked(NamedTuple):
    """A document, and the marker of each of its personal fields by its path."""

    document: dict[str, Any]
    markers: dict[str, str]


class Registry(NamedTuple):
    """
    Records of one kind.

    Attributes:
        name: What they are.
        path: Where they are recorded.
        document: A whole one with every personal field that there is, before markers are put into it.
        keeps: Names of fields whose texts are codes, moments, or ids of the directory: they name nobody.
    """

    name: str
    path: str
    document: Callable[[], dict[str, Any]]
    keeps: frozenset[str]


def by_representative() -> dict[str, Any]:
    """Return a consent that a representative gives, with the powers that were verified."""
    return changed(BY_REPRESENTATIVE | {"verification.representative": dict(CHECKED)}, verified())


def to_third_person() -> dict[str, Any]:
    """Return a consent that lets in a third person, with what identifies that person."""
    third = {"subject": "arman", "iin": OTHER, "name": "?", "relation": "?"}
    return verified(grantees=[{"org": "h1"}, third], third_party_transfer=True, state_service_ref="?")


_KEPT_OF_CONSENTS = frozenset(
    [
        "patient",
        "org",
        "subject",
        "effect",
        "kind",
        "type",
        "given_by.id",
        "start",
        "end",
        "purposes",
        "categories",
        "actions",
        "labels",
        "form",
        "at",
        "valid_to",
        "cert_valid_from",
        "cert_valid_to",
        "hash",
        "country",
        "language",
        "role",
    ]
)

REGISTRIES = (
    Registry("consents by a representative", "/v1/consents", by_representative, _KEPT_OF_CONSENTS),
    Registry("consents to a third person", "/v1/consents", to_third_person, _KEPT_OF_CONSENTS),
)
"""One line for each kind of record that keeps personal fields."""

_NUMBERS = frozenset({"iin", "bin", "cert_iin"})
_DAYS = "issued_on"
STEM = "-canary"
"""How every marker that is a word ends."""

_numbers: dict[str, str] = {}


def marked(registry: Registry) -> Marked:
    """Return a document with a marker in every personal field; numbers that are equal, in any document, stay equal."""
    document = json.loads(json.dumps(registry.document()))
    markers: dict[str, str] = {}
    kind = REGISTRIES.index(registry)
    for place in list(_texts(document, ())):
        names = [str(each) for each in place.path if not isinstance(each, int)]
        path = ".".join(map(str, place.path))
        if names[-1] in registry.keeps or ".".join(names[-2:]) in registry.keeps:
            continue
        if names[-1] in _NUMBERS:
            marker = _numbers.setdefault(place.text, _number(len(_numbers)))
        elif names[-1] == _DAYS:
            marker = f"19{31 + kind}-03-{1 + sum(each.startswith('19') for each in markers.values()):02d}"
        else:
            marker = f"Qx{kind}{len(markers):03d}{STEM}"
        place.holder[place.path[-1]] = markers[path] = marker
    return Marked(document, markers)


class _Text(NamedTuple):
    path: tuple[str | int, ...]
    holder: Any
    text: str


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[_Text]:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for name, part in items:
        if isinstance(part, str):
            yield _Text((*path, name), value, part)
        yield from _texts(part, (*path, name))


def _number(count: int) -> str:
    stems = (f"7709304{count:02d}{free:02d}" for free in range(20))
    return next(stem + str(digit) for stem in stems if (digit := control_digit(stem)) is not None)


def met(markers: Mapping[str, str], places: Mapping[str, bytes]) -> Found:
    """Return where which markers stand: in clear, in UTF-16, or as hexadecimal digits."""
    found, words = {}, {marker for marker in markers.values() if marker.endswith(STEM)}
    for place, content in places.items():
        lowered = content.lower()
        # Most places hold none: one look for what all words have in common spares many.
        looked_for = set(markers.values()) - (set() if _stands(STEM, lowered) else words)
        there = {marker for marker in looked_for if _stands(marker, lowered)}
        if there:
            found[place] = sorted(path for path, marker in markers.items() if marker in there)
    return found


def _stands(marker: str, lowered: bytes) -> bool:
    return any(form in lowered for form in _forms(marker))


def _forms(marker: str) -> tuple[bytes, ...]:
    return marker.encode().lower(), marker.encode("utf-16-le").lower(), marker.encode().hex().encode()
