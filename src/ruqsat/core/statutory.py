"""Access that the Code orders without consent (order §13): what a request or an act of inspection covers."""

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.hierarchy import Hierarchies

CASE_AUTHORITIES = frozenset({"inquiry", "investigation", "prosecutor", "advocate", "court"})
"""Bodies that ask in connection with an investigation or a court case, and so name its number (Code 273(4)(3))."""

AUTHORITIES = CASE_AUTHORITIES | {"prosecution_inspection", "special_state_body"}


class StatutoryAnswer(Struct, frozen=True):
    """Whether the ground covers the case; ``applied`` is the act, ``miss`` what is wrong with it."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = ""


_COVERED = StatutoryAnswer(True)
_NO_REQUEST = StatutoryAnswer(False, (), "statutory.no_request")
_OUT_OF_SCOPE = StatutoryAnswer(False, (), "statutory.scope")


def request_answer(case: Case, hierarchies: Hierarchies) -> StatutoryAnswer:
    """
    Tell whether a verified request of an authority names this patient and this class.

    A request in a case without the case's number, or that nobody verified, is none.
    """
    said = case.ctx.said().legal_request
    if said is None or not said.verified or not said.ref or said.authority not in AUTHORITIES:
        return _NO_REQUEST
    if said.authority in CASE_AUTHORITIES and not said.case_no:
        return _NO_REQUEST
    return _COVERED if _covers(case, (said.patient,), said.categories, hierarchies) else _OUT_OF_SCOPE


def inspection_answer(case: Case, hierarchies: Hierarchies) -> StatutoryAnswer:
    """Tell whether the act of inspection names this patient and this class."""
    said = case.ctx.said().inspection
    if said is None or not said.act_no:
        return StatutoryAnswer(False, (), "statutory.no_act")
    if not _covers(case, said.patients, said.categories, hierarchies):
        return _OUT_OF_SCOPE
    return StatutoryAnswer(True, (said.act_no,))


def _covers(case: Case, patients: tuple[str, ...], categories: tuple[str, ...], hierarchies: Hierarchies) -> bool:
    patient, data_class = case.res.patient, case.res.data_class
    return patient in patients and data_class is not None and hierarchies.classes.meets(data_class, categories)
