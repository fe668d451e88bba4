"""
The words that policies and requests may use, and the switches of the pack.

A word that is not here is a typo until proven otherwise: the checker refuses it
in a rule, the evaluator refuses it in a request.
"""

import re
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from ruqsat.core.diagnostics import Diagnostic, Span
from ruqsat.core.hierarchy import Hierarchy

BLOCKING_DUTIES = ("redact", "deidentify", "pseudonymize", "require_eds", "suppress_total")
"""What an enforcement point itself must carry out: without that, a permit opens more than it says."""

Count = Annotated[int, Meta(ge=0)]
Age = Annotated[int, Meta(ge=0, le=21)]


class AttributeWord(Struct, frozen=True, forbid_unknown_fields=True):
    """
    An attribute of an entity; an optional one may be absent and needs ``is_known``.

    ``stated``: an enforcement point may state it in ``properties``, and the directory may hold it.
    """

    means: str
    optional: bool = False
    kind: Literal["text", "list", "yes-no", "number", "moment"] = "text"
    stated: bool = False

    def __post_init__(self) -> None:
        if self.stated and not self.optional:
            raise ValueError("what is stated may be left out: say `optional = true` too")
        if self.stated and self.kind not in ("text", "yes-no", "number"):
            raise ValueError("what is stated is a text, a yes-no or a number")


class LabelWord(Struct, frozen=True, forbid_unknown_fields=True):
    """A sensitivity label and the confidentiality that it implies."""

    means: str
    conf: Literal["U", "L", "M", "N", "R", "V"] = "R"


class BasisWord(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A legal basis of a permit, and the reason code that a permit on it carries.

    ``without_store``: a permit on it may be given by last known facts, while the store is away.
    ``in_reserve``: while the disk is full, its entry may go into what the journal holds in reserve.
    """

    means: str
    reason: Annotated[str, Meta(pattern="^allow\\.")]
    without_store: bool = False
    in_reserve: bool = False


class CategoryWord(Struct, frozen=True, forbid_unknown_fields=True):
    """
    A category of organisations (Code art. 61(1)): the article, its functions, and the purposes that they serve.

    A consent never widens the function (order §5).
    """

    means: str
    law: str
    functions: tuple[str, ...]
    purposes: tuple[str, ...]


class DutyWord(Struct, frozen=True, forbid_unknown_fields=True):
    """An obligation; a *blocking* one must be carried out by the enforcement point itself."""

    means: str
    blocking: bool = False


class BreakGlassRates(Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the registry of sessions asks beside the limits that decisions read: openings of one local day.

    Attributes:
        flag_clinician, flag_ward, flag_patient: After so many the next one is flagged as an anomaly.
        limit_ward, limit_patient: After so many no further one opens; a clinician's limit is ``daily_limit``.
        alone: So many a clinician opens for one patient without a second person.
        overdue_suspends: So many overdue reviews suspend the clinician's right.
    """

    flag_clinician: Count = 5
    flag_ward: Count = 20
    flag_patient: Count = 3
    limit_ward: Count = 200
    limit_patient: Count = 30
    alone: Count = 2
    overdue_suspends: Count = 2


class BreakGlass(Struct, frozen=True, forbid_unknown_fields=True):
    """Operator's limits of break-glass."""

    max_hours: Annotated[int, Meta(ge=1, le=24)] = 4
    min_text: Count = 10
    mfa: bool = True
    require_episode: bool = True
    daily_limit: Count = 10
    reasons: tuple[str, ...] = ()
    actions: tuple[str, ...] = ("read", "search")
    review_within_hours: Annotated[int, Meta(ge=1, le=720)] = 72
    rates: BreakGlassRates = field(default_factory=BreakGlassRates)


class AdolescentShield(Struct, frozen=True, forbid_unknown_fields=True):
    """Whether representatives of adolescents see records with these labels."""

    enabled: bool = False
    from_age: Age = 16
    labels: tuple[str, ...] = ("SEX", "STD", "PSY", "SUD")


class Switches(Struct, frozen=True, forbid_unknown_fields=True):
    """Readings of the law that an operator's counsel may decide otherwise."""

    require_care_relationship: bool = True
    sensitive_requires_explicit: bool = True
    delegation_max_depth: Count = 1
    rep_may_delegate: bool = False
    patient_reported_write: bool = False
    small_cell_min: Count = 5
    research_identifiable_with_consent: bool = False
    rep_consent_grace_days: Annotated[int, Meta(ge=0, le=366)] = 0
    very_restricted_roles: tuple[str, ...] = ("physician",)
    blocked_emergency_read: bool = True
    rep_access_ends_at: Age = 18
    minor_self_from_age: Age = 16
    minor_self_classes: tuple[str, ...] = ("encounters", "labs", "imaging", "vitals", "immunizations")
    state_controller_needs_state_service: bool = True
    btg_required_conf: tuple[Literal["U", "L", "M", "N", "R", "V"], ...] = ("V",)
    adequate_countries: tuple[Annotated[str, Meta(pattern="^[A-Z]{2}$")], ...] = ("KZ",)
    art16_grounds: tuple[str, ...] = ("treaty", "law", "rights")
    home_utc_offset_hours: Annotated[int, Meta(ge=-12, le=14)] = 5
    requests_must_be_registered: bool = False
    adolescent_shield: AdolescentShield = field(default_factory=AdolescentShield)
    btg: BreakGlass = field(default_factory=BreakGlass)


class WrittenVocabulary(Struct, frozen=True, forbid_unknown_fields=True):
    """
    All words of ``vocabulary.toml``, by kind.

    ``reserved`` names those that stand by on purpose and that no rule uses; ``types`` are
    the types of resources that concern nobody, and the class of each, which need not be stated.
    """

    roles: dict[str, str]
    role_groups: dict[str, str]
    actions: dict[str, str]
    classes: dict[str, str]
    class_groups: dict[str, str]
    purposes: dict[str, str]
    labels: dict[str, LabelWord]
    bases: dict[str, BasisWord]
    duties: dict[str, DutyWord]
    reasons: dict[str, Literal["permitted", "not_permitted", "consent_required", "break_glass_available", "try_later"]]
    attributes: dict[Literal["sub", "act", "res", "ctx"], dict[str, AttributeWord]]
    types: dict[str, str] = {}
    organisation_categories: dict[str, CategoryWord] = {}
    sources: dict[str, str] = {}
    switches: Switches = field(default_factory=Switches)
    reserved: tuple[str, ...] = ()


class Vocabulary(WrittenVocabulary, frozen=True, forbid_unknown_fields=True):
    """
    All words that decisions know.

    ``coded`` are the categories that SMART scopes may name, read from ``routes.toml``: a type of resource, the
    category's code with its system or without, and the data class.
    """

    coded: frozenset[tuple[str, str, str]] = frozenset()


def parse_vocabulary(text: str, file: str) -> tuple[Vocabulary | None, list[Diagnostic]]:
    """Read ``vocabulary.toml``; None with findings if it cannot be used."""
    data, findings = parse_toml(text, file)
    if data is None:
        return None, findings
    try:
        written = msgspec.convert(data, WrittenVocabulary)
        return Vocabulary(**{name: getattr(written, name) for name in written.__struct_fields__}), []
    except msgspec.ValidationError as error:
        return None, [Diagnostic(Span(file), "bad-vocabulary", _sentence(error), "see the comments of the file")]


def with_switches(vocabulary: Vocabulary, switches: Mapping[str, Any]) -> Vocabulary:
    """
    Return the vocabulary under other positions of *switches*; those not named stay.

    Raises:
        msgspec.ValidationError: a switch does not exist, or its position is of the wrong kind.
    """
    positions = _merged(msgspec.to_builtins(vocabulary.switches), switches)
    return msgspec.structs.replace(vocabulary, switches=msgspec.convert(positions, Switches))


def with_kinds(vocabulary: Vocabulary, labels: Hierarchy) -> Vocabulary:
    """Return the vocabulary whose adolescent shield names the kinds of its labels too (with SUD, ETHUD)."""
    shield = vocabulary.switches.adolescent_shield
    kinds = (name for name in vocabulary.labels if labels.meets(name, shield.labels))
    closed = msgspec.structs.replace(shield, labels=tuple(dict.fromkeys((*shield.labels, *kinds))))
    switches = msgspec.structs.replace(vocabulary.switches, adolescent_shield=closed)
    return msgspec.structs.replace(vocabulary, switches=switches)


def _merged(base: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in other.items():
        known = base.get(name)
        merged[name] = _merged(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return merged


def parse_toml(text: str, file: str) -> tuple[dict[str, object] | None, list[Diagnostic]]:
    """Read TOML; None with a finding if it is none."""
    try:
        return tomllib.loads(text), []
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        place = Span(file, int(found[1]), int(found[2])) if found is not None else Span(file)
        message = _sentence(error).removesuffix(found[0] if found is not None else "")
        source = text.splitlines()[place.line - 1] if 0 < place.line <= len(text.splitlines()) else ""
        hint = 'TOML: `name = "value"`, texts in straight quotes, dates as 2026-03-01'
        return None, [Diagnostic(place, "unreadable-toml", message, hint, source=source)]


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
