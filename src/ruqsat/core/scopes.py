"""SMART scopes: what an application's token lets it ask for.  A scope narrows; it never gives a right of its own."""

import re
from functools import lru_cache

from ruqsat.core.request import Name

_SCOPE = re.compile(
    r"(patient|user|system)/(\*|[A-Z][A-Za-z]*)\.(c?r?u?d?s?|read|write|\*)(?:\?category=([\w.:/|-]+))?"
)
_CATEGORIES = {
    "laboratory": "labs", "LAB": "labs", "vital-signs": "vitals", "imaging": "imaging", "RAD": "imaging",
    "social-history": "social", "sdoh": "social", "activity": "social",
}  # fmt: skip
"""FHIR's categories of observations and reports, as data classes."""

_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
_LETTER = {
    "read": "r", "search": "s", "create": "c", "update": "u", "delete": "d", "export": "s", "disclose": "r",
    "journal_read": "s", "block": "u",
}  # fmt: skip


@lru_cache(maxsize=4096)
def is_in_scope(
    scopes: tuple[str, ...], resource_type: Name, data_class: str | None, action: Name, is_launched: bool
) -> bool:
    """
    Tell whether one of the scopes names the type and the interaction; what is not understood grants nothing.

    Letters stand in the order ``cruds`` (SMART 2), or are the words of SMART 1.  Of search
    parameters one is understood, ``category``, which is a data class here; a scope with any
    other narrows to what only the server knows, so it grants nothing.
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
        >>> is_in_scope(("user/Observation.rs?category=laboratory",), "Observation", "labs", "search", False)
        True
        >>> is_in_scope(("user/Observation.rs?category=laboratory",), "Observation", "vitals", "search", False)
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
        if category is not None and _CATEGORIES.get(category.rpartition("|")[2]) != data_class:
            continue
        if known.group(2) in ("*", resource_type) and letter in letters:
            return True
    return False
