"""SMART scopes: what an application's token lets it ask for.  A scope narrows; it never gives a right of its own."""

import re
from functools import lru_cache

import msgspec

from ruqsat.core.fhir.words import Category
from ruqsat.core.request import Name
from ruqsat.core.vocabulary import parse_toml

_SCOPE = re.compile(
    r"(patient|user|system)/(\*|[A-Z][A-Za-z]*)\.(c?r?u?d?s?|read|write|\*)(?:\?category=([\w.:/|-]+))?"
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
_LETTER = {
    "read": "r", "search": "s", "create": "c", "update": "u", "delete": "d", "export": "s", "disclose": "r",
    "journal_read": "s", "block": "u",
}  # fmt: skip


Coded = frozenset[tuple[str, str, str]]
"""Type of resource, category (``code`` or ``system|code``), data class."""


class _Fhir(msgspec.Struct):
    categories: dict[str, Category] = {}


class _Routes(msgspec.Struct):
    fhir: _Fhir = msgspec.field(default_factory=_Fhir)


def read_coded(routes: str) -> Coded:
    """
    Return the categories that ``[fhir.categories]`` of ``routes.toml`` gives a class; none if it cannot be read.

    Examples:
        >>> sorted(read_coded('[fhir.categories.Observation]\\nsystems = ["s"]\\ncodes = { a = "labs" }'))
        [('Observation', 'a', 'labs'), ('Observation', 's|a', 'labs')]
    """
    data, _ = parse_toml(routes, "")
    try:
        known = msgspec.convert(data, _Routes).fhir.categories
    except msgspec.ValidationError:
        # Whoever reads the routes says what is wrong with them; until then no category is one.
        return frozenset()
    return frozenset(
        (kind, front + code, data_class)
        for kind, category in known.items()
        for code, data_class in category.codes.items()
        for front in ("", *(f"{system}|" for system in category.systems))
    )


@lru_cache(maxsize=4096)
def is_in_scope(
    scopes: tuple[str, ...], resource_type: Name, data_class: str | None, action: Name, is_launched: bool,
    coded: Coded = frozenset(),
) -> bool:  # fmt: skip
    """
    Tell whether one of the scopes names the type and the interaction; what is not understood grants nothing.

    Letters stand in the order ``cruds`` (SMART 2), or are the words of SMART 1.  Of search
    parameters one is understood, ``category``, where *coded* says which data class of that type it is; a scope with
    any other narrows to what only the server knows, so it grants nothing.
    ``patient/`` counts for the one patient that the application was started for (*is_launched*).

    Examples:
        >>> is_in_scope(("patient/Observation.rs",), "Observation", "labs", "search", True)
        True
        >>> is_in_scope(("patient/Observation.rs",), "Observation", "labs", "search", False)
        False
        >>> is_in_scope(("patient/Observation.dus", "openid"), "Observation", "labs", "search", True)
        False
        >>> is_in_scope(("user/*.read",), "Condition", "conditions", "search", False)
        True
        >>> is_in_scope(("user/Observation.rs",), "Condition", "conditions", "search", False)
        False
        >>> is_in_scope(("user/*.read",), "Condition", "conditions", "update", False)
        False
        >>> is_in_scope(("user/*.cruds",), "Consent", "consent", "consent_manage", False)
        False
        >>> narrow = "user/Observation.rs?category=laboratory"
        >>> coded = frozenset({("Observation", "laboratory", "labs")})
        >>> is_in_scope((narrow,), "Observation", "labs", "search", False, coded)
        True
        >>> is_in_scope((narrow,), "Observation", "vitals", "search", False, coded)
        False
        >>> is_in_scope((narrow,), "Observation", "labs", "search", False)
        False
    """
    letter = _LETTER.get(action)
    if letter is None:
        return False
    for scope in scopes:
        known = _SCOPE.fullmatch(scope)
        if known is None:
            continue
        letters = _VERSION_1.get(known.group(3), known.group(3))
        if known.group(1) == "patient" and not is_launched:
            continue
        category = known.group(4)
        if category is not None and (resource_type, category, data_class) not in coded:
            continue
        if known.group(2) in ("*", resource_type) and letter in letters:
            return True
    return False
