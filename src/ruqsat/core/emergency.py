"""
Break-glass: one person, one patient, a reason, a short life (order §4 with operator policy).

A session is a row of section ``p4``; ``m4`` says whether it covers the case.
What lies in the session's history and the operator's limits stands here.  A
session opens data only inside an emergency or urgent episode of the caller's
own organisation: order §4 and §13 are closed lists.
"""

from collections.abc import Iterable

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.covers import Covers
from ruqsat.core.facts import EmergencyGrant
from ruqsat.core.instant import HOUR, Instant, local_midnight
from ruqsat.core.vocabulary import Switches


class BreakGlassAnswer(Struct, frozen=True):
    """Whether an open session covers the case; else why not."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = "btg.no_session"


_NO_SESSION = BreakGlassAnswer(False)


class SessionRow(Struct, frozen=True):
    """A session as a row of ``p4``: its term already cut to the operator's limit."""

    grant: str
    subject: str
    since: Instant
    until: Instant
    acts: tuple[str, ...]
    classes: tuple[str, ...]


def break_glass_answer(case: Case, covers: Covers, switches: Switches) -> BreakGlassAnswer:
    """Tell whether the session named in the request lets the subject see this patient's data now."""
    patient = case.facts.patient
    wanted = case.ctx.btg_session
    grant = next((g for g in patient.grants if g.id == wanted), None) if patient is not None else None
    if grant is None:
        # Told apart for the clinician at the wrong bed: the session is the own one, for somebody else.
        return BreakGlassAnswer(False, (), "btg.patient_mismatch") if wanted in case.sub.sessions else _NO_SESSION
    miss = _miss(grant, case, covers, switches)
    return BreakGlassAnswer(not miss, (grant.id,), miss and f"btg.{miss}")


def session_row(grant: EmergencyGrant, switches: Switches) -> SessionRow:
    """Return the session as the matcher sees it."""
    until = min(grant.end, grant.start + switches.btg.max_hours * HOUR)
    return SessionRow(grant.id, grant.subject, grant.start, until, switches.btg.actions, grant.categories)


def opened_today(opened: Iterable[Instant], counted: int, now: Instant, switches: Switches) -> int:
    """Return how many sessions somebody has opened on the local day of *now*, by the registry or by a file of facts."""
    midnight = local_midnight(now, switches.home_utc_offset_hours)
    return max(counted, sum(moment >= midnight for moment in opened))


def _miss(grant: EmergencyGrant, case: Case, covers: Covers, switches: Switches) -> str:
    limits = switches.btg
    miss, _ = covers.test("4", case, session_row(grant, switches))
    if miss in ("subject_mismatch", "expired"):
        return miss
    if grant.revoked_at is not None and grant.revoked_at <= case.now.hi:
        return "revoked"
    if grant.reason_code not in limits.reasons or grant.reason_length < limits.min_text:
        return "reason"
    if limits.mfa and not grant.mfa:
        return "mfa"
    if case.sub.btg_suspended:
        return "suspended"
    if opened_today(case.sub.btg_opened, case.sub.btg_today, case.now.lo, switches) > limits.daily_limit:
        return "rate_limited"
    if miss:
        return miss
    return "no_episode" if limits.require_episode and not case.ctx.emergency else ""
