"""Access that the Code orders without consent (order §13): what a request or an act of inspection covers."""

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.facts import StatutoryRequest
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.vocabulary import Switches

CASE_AUTHORITIES = frozenset({"inquiry", "investigation", "prosecutor", "advocate", "court"})
"""Bodies that ask in connection with an investigation or a court case, and so name its number (Code 273(4)(3))."""

AUTHORITIES = CASE_AUTHORITIES | {"prosecution_inspection", "special_state_body"}


class StatutoryAnswer(Struct, frozen=True):
    """Whether the ground covers the case; ``applied`` is the request or the act, ``miss`` what is wrong with it."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = ""


_NO_REQUEST = StatutoryAnswer(False, (), "statutory.no_request")
_OUT_OF_SCOPE = StatutoryAnswer(False, (), "statutory.scope")


def request_answer(case: Case, hierarchies: Hierarchies, switches: Switches) -> StatutoryAnswer:
    """
    Tell whether a verified request of an authority names this patient and this class.

    A request in a case without the case's number, or that nobody verified, is none.  Where the
    reference is that of a request on record, the record must bear out what the caller says.
    """
    said = case.ctx.said().legal_request
    if said is None or not said.verified or said.authority not in AUTHORITIES:
        return _NO_REQUEST
    if said.ref is None or not said.ref.strip():
        return _NO_REQUEST
    if said.authority in CASE_AUTHORITIES and not (said.case_no or "").strip():
        return _NO_REQUEST
    if not _covers(case, (said.patient,), said.categories, hierarchies):
        return _OUT_OF_SCOPE
    patient = case.facts.patient
    on_record = next((each for each in patient.requests if each.id == said.ref), None) if patient is not None else None
    if on_record is None:
        return _NO_REQUEST if switches.requests_must_be_registered else StatutoryAnswer(True, (said.ref,))
    if said.authority != on_record.authority or not _is_in_force(on_record, case):
        return _NO_REQUEST
    covered = _covers(case, (said.patient,), on_record.categories, hierarchies)
    return StatutoryAnswer(True, (on_record.id,)) if covered else _OUT_OF_SCOPE


def _is_in_force(request: StatutoryRequest, case: Case) -> bool:
    """Tell whether a request on record is verified, open and in its term, and may be told of later if it is."""
    now = case.now
    if not request.verified or (request.revoked_at is not None and request.revoked_at <= now.hi):
        return False
    if request.end <= now.hi or (request.start is not None and now.lo < request.start):
        return False
    waits = request.deferred_until is not None and now.hi < request.deferred_until
    return waits or case.ctx.defer_notice is None


def inspection_answer(case: Case, hierarchies: Hierarchies) -> StatutoryAnswer:
    """Tell whether the act of inspection names this patient and this class."""
    said = case.ctx.said().inspection
    if said is None or said.act_no is None or not said.act_no.strip():
        return StatutoryAnswer(False, (), "statutory.no_act")
    if not _covers(case, said.patients, said.categories, hierarchies):
        return _OUT_OF_SCOPE
    return StatutoryAnswer(True, (said.act_no,))


def _covers(
    case: Case, patients: tuple[str | None, ...], categories: tuple[str, ...], hierarchies: Hierarchies
) -> bool:
    patient, data_class = case.res.patient, case.res.data_class
    return patient in patients and data_class is not None and hierarchies.classes.meets(data_class, categories)
