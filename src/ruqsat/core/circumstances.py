"""
Functions over whole entities: what the labels, the switches and the pack's lists say of a case.

They take the subject, the resource or the context as rules hand them over, and
answer yes or no.  What is not known never helps the request.
"""

from typing import TYPE_CHECKING, Any

from ruqsat.core.cells import Cell, words
from ruqsat.core.dates import days_of
from ruqsat.core.function import Function
from ruqsat.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ruqsat.core.case import ContextView, ResourceView, SubjectView

CONFIDENTIALITY = "ULMNRV"


def harmless_labels(vocabulary: Vocabulary) -> frozenset[str]:
    """Return the labels that pass unnamed: known, and harmless; one that nobody knows counts as sensitive."""
    return frozenset(name for name, label in vocabulary.labels.items() if label.conf not in "RV")


def build_circumstances(vocabulary: Vocabulary) -> dict[str, Function]:
    """Return the functions over whole entities, bound to the pack's words and switches."""
    return _about_records(vocabulary) | _about_subjects(vocabulary) | _about_contexts(vocabulary)


def _about_records(vocabulary: Vocabulary) -> dict[str, Function]:
    """Return the functions about a record: its labels, its confidentiality, and which data a provision names."""
    switches, harmless = vocabulary.switches, harmless_labels(vocabulary)

    def level(res: "ResourceView", usual: str) -> str:
        implied = [vocabulary.labels[label].conf if label in vocabulary.labels else "V" for label in res.labels or ()]
        return max([res.conf or usual, *implied], key=CONFIDENTIALITY.index)

    def is_sensitive(res: "ResourceView") -> bool:
        return res.labels is None or any(label not in harmless for label in res.labels) or (res.conf or "N") in "RV"

    def needs_broken_glass(res: "ResourceView") -> bool:
        return level(res, "U") in switches.btg_required_conf or "VIP" in (res.labels or ())

    def within_confidentiality(res: "ResourceView", cell: str | None, effect: str) -> bool:
        if cell is None or cell in ("-", ""):
            return True
        if res.labels is None:
            # Labels imply a level: while nobody knows them, whatever level is stated may be too low.
            return effect == "deny"
        over = CONFIDENTIALITY.index(level(res, "N")) - CONFIDENTIALITY.index(cell)
        return over >= 0 if effect == "deny" else over <= 0

    def within_data(
        res: "ResourceView",
        records: Cell,
        authors: Cell,
        encounters: Cell,
        data_from: Any,
        data_until: Any,
        effect: str,
    ) -> bool:
        if not (records or authors or encounters or data_from or data_until):
            return True
        wide, meets = effect == "deny", []
        known_by = ((records, (res.id,)), (authors, (res.author, res.author_org)), (encounters, (res.encounter,)))
        for cell, stated in known_by:
            if listed := words(cell):
                meets.append(any(one in listed for one in stated) if any(stated) else wide)
        if meets and not (any(meets) if wide else all(meets)):
            return False
        first, last = (None if cell in ("-", "", None) else str(cell) for cell in (data_from, data_until))
        if first is None and last is None:
            return True
        days = days_of(res.created, switches.home_utc_offset_hours)
        if days is None:
            return wide
        begin, end = (days[1], days[0]) if wide else days
        return (first is None or first <= begin.isoformat()) and (last is None or end.isoformat() <= last)

    def coded(stated: tuple[str, ...] | None, cell: Cell, effect: str) -> bool:
        listed = words(cell)
        return not listed or (any(code in listed for code in stated) if stated is not None else effect == "deny")

    return {
        "within_data": Function(within_data, 7, "data_scope", idle=True),
        "coded": Function(coded, 3, "data_scope", idle=True),
        "within_confidentiality": Function(within_confidentiality, 3, "confidentiality", idle=True),
        "is_sensitive": Function(is_sensitive, 1, takes=("res",)),
        "needs_broken_glass": Function(needs_broken_glass, 1, takes=("res",)),
    }


def _about_subjects(vocabulary: Vocabulary) -> dict[str, Function]:
    """Return the functions about the subject: its clearance, its organisation, and what names it."""
    switches = vocabulary.switches

    known = frozenset(name for name, label in vocabulary.labels.items() if label.conf != "V")

    def needs_clearance(sub: "SubjectView", res: "ResourceView") -> bool:
        labels = res.labels
        is_very_restricted = res.conf == "V" or (labels and not known.issuperset(labels))  # or a word that nobody knows
        return bool(is_very_restricted) and not any(role in switches.very_restricted_roles for role in sub.roles)

    nothing: frozenset[str] = frozenset()
    served = {name: frozenset(category.purposes) for name, category in vocabulary.organisation_categories.items()}

    def within_function(sub: "SubjectView", ctx: "ContextView") -> bool:
        category = sub.org_category
        return category is not None and served.get(category, nothing).issuperset(ctx.purpose)

    def is_outside_contingent(sub: "SubjectView", ctx: "ContextView") -> bool:
        return sub.org_category == "military_medical" and ctx.relationship is None

    def is_named_in(sub: "SubjectView", res: "ResourceView", ctx: "ContextView") -> bool:
        patient = ctx.facts.patient
        if patient is None:
            return False
        if res.data_class == "consent":
            return any(link.id == res.id and link.delegate == sub.id for link in patient.delegations)
        own = any(grant.id == res.id and grant.subject == sub.id for grant in patient.grants)
        return own and res.data_class == "session"

    return {
        "is_named_in": Function(is_named_in, 3, takes=("sub", "res", "ctx")),
        "is_outside_contingent": Function(is_outside_contingent, 2, takes=("sub", "ctx")),
        "needs_clearance": Function(needs_clearance, 2, takes=("sub", "res")),
        "within_function": Function(within_function, 2, takes=("sub", "ctx")),
    }


def _about_contexts(vocabulary: Vocabulary) -> dict[str, Function]:
    """Return the functions about the circumstances, as the switches have them."""
    switches = vocabulary.switches

    def leaves_the_country(ctx: "ContextView") -> bool:
        there = ctx.destination_country
        if there is None or there in switches.adequate_countries:
            return False
        return ctx.art16_3 not in switches.art16_grounds

    def is_cared_for(ctx: "ContextView") -> bool:
        return ctx.relationship is not None or not switches.require_care_relationship

    def opens_when_blocked(ctx: "ContextView") -> bool:
        return switches.blocked_emergency_read and ctx.btg_session is not None and "BTG" in ctx.purpose

    def is_small_cohort(ctx: "ContextView") -> bool:
        return ctx.cohort_size is not None and ctx.cohort_size < switches.small_cell_min

    def may_identify(ctx: "ContextView") -> bool:
        del ctx
        return switches.research_identifiable_with_consent

    def patients_may_report(ctx: "ContextView") -> bool:
        del ctx
        return switches.patient_reported_write

    def is_listed_source(ctx: "ContextView") -> bool:
        return ctx.source is None or ctx.source in vocabulary.sources

    return {
        "leaves_the_country": Function(leaves_the_country, 1, takes=("ctx",)),
        "is_cared_for": Function(is_cared_for, 1, takes=("ctx",)),
        "is_small_cohort": Function(is_small_cohort, 1, takes=("ctx",)),
        "may_identify": Function(may_identify, 1, takes=("ctx",)),
        "patients_may_report": Function(patients_may_report, 1, takes=("ctx",)),
        "opens_when_blocked": Function(opens_when_blocked, 1, takes=("ctx",)),
        "is_listed_source": Function(is_listed_source, 1, takes=("ctx",)),
    }
