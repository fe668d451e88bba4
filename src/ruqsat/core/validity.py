"""
Layer 0: what must be settled before any rule is asked.

Nothing here can allow; it refuses what cannot be evaluated, and reads a patient's
own request without a stated purpose as the patient's request (PATRQT), and a
resource of a type that concerns nobody without a stated class as of the type's class.
"""

from ruqsat.core.case import Case, ResourceView
from ruqsat.core.decision import Decision, deny
from ruqsat.core.functions import is_self
from ruqsat.core.scopes import is_in_scope
from ruqsat.core.vocabulary import Vocabulary

IMPERSONAL = frozenset({"public", "directory", "queue", "audit"})
"""Classes that concern no patient, or no single one."""

SECONDARY = frozenset({"HPRGRP", "HQUALIMP", "HRESCH", "CLINTRCH"})
"""Purposes of statistics and science."""

_INACTIVE = deny("deny.subject.inactive")
_UNMAPPED_ACTION = deny("deny.unmapped.action")
_UNMAPPED_CATEGORY = deny("deny.unmapped.category")
_NO_PURPOSE = deny("deny.purpose.missing")
_UNKNOWN_PURPOSE = deny("deny.purpose.unknown")
_SCOPE = deny("deny.scope")
_PARTS = deny("deny.unmapped.parts")
_UNRESOLVED = deny("deny.patient.unresolved")
_OTHER_PATIENT = deny("deny.error.facts")


def refuse_invalid(case: Case, vocabulary: Vocabulary) -> Decision | None:  # noqa: PLR0911 - one line a reason
    """Return the denial of a request that cannot be evaluated, or None to go on."""
    sub, res, ctx = case.sub, case.res, case.ctx
    res.data_class = _class_of(res, vocabulary) if res.data_class is None else res.data_class
    if not sub.active:
        return _INACTIVE
    if case.act.name not in vocabulary.actions:
        return _UNMAPPED_ACTION
    if res.data_class not in vocabulary.classes:
        return _UNMAPPED_CATEGORY
    if res.parts is not None:
        # Each part is decided by itself before this; to ignore the parts would open them unseen.
        return _PARTS
    is_impersonal = res.data_class in IMPERSONAL
    if is_impersonal and res.patient is not None:
        # What concerns nobody names nobody: a patient's record is not opened by calling it public.
        return _UNMAPPED_CATEGORY
    if res.data_class == "public":
        return None
    if not ctx.purpose and "patient" in sub.roles and is_self(sub, res):
        ctx.purpose = ("PATRQT",)
    if not ctx.purpose:
        return _NO_PURPOSE
    for purpose in ctx.purpose:
        if purpose not in vocabulary.purposes:
            return _UNKNOWN_PURPOSE
    if ctx.smart_scopes is not None and not is_in_scope(
        ctx.smart_scopes, res.type, res.data_class, case.act.name, _is_launched_for(case), vocabulary.coded
    ):
        return _SCOPE
    if is_impersonal:
        return None
    if res.patient is None:
        # Data that say nothing of anybody are asked for without a patient, for statistics and science only (§21).
        return None if res.deidentified and SECONDARY.issuperset(ctx.purpose) else _UNRESOLVED
    if case.facts.patient is not None and case.facts.patient.id != res.patient:
        # Facts of somebody else: a defect of ours, never a reason to allow.
        return _OTHER_PATIENT
    return None


def _class_of(res: ResourceView, vocabulary: Vocabulary) -> str | None:
    return vocabulary.types.get(res.type) if res.patient is None else None


def _is_launched_for(case: Case) -> bool:
    """Tell whether the record is the patient's whom a SMART application was started for: told, or else the subject."""
    launched = case.ctx.said().launch_patient
    return is_self(case.sub, case.res) if launched is None else launched == case.res.patient
