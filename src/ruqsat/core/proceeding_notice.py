"""What somebody must be told of a proceeding: functions of values, and no personal data in what they return."""

from msgspec.structs import replace

from ruqsat.core.addressee import Told
from ruqsat.core.instant import Instant
from ruqsat.core.notice import Audience, Notice, addressed, notice_key, stand_in_for
from ruqsat.core.proceeding import CLOCK, ProceedingRow
from ruqsat.core.proceeding_kinds import AUTHORITY, CONSENT_REQUEST
from ruqsat.core.vocabulary import Switches

_KIND = "proceeding."


def events_of(
    row: ProceedingRow, *, by_applicant: bool = False, signals: tuple[str, ...] = (), now: Instant | None = None
) -> tuple[Notice, ...]:
    """
    Return whom to tell of the newest event of a proceeding, or of what the clock says of it.

    Whoever did something is not told of it: what an applicant does concerns the office, what the office does
    concerns the patient.  Of the dealings with the authority the patient hears from the authority.

    Args:
        by_applicant: The newest event was the applicant's.
        signals: What the clock says; then nothing else happened.
        now: When the clock says it; an event was when the row says.
    """
    if signals:
        at = row.updated_at if now is None else now
        return tuple(_notice(row, each, each.partition(":")[2], "office", at) for each in signals)
    step = row.body.steps[-1]
    event, key = step.event, f"{row.version}/{step.event}"
    if by_applicant:
        return (_notice(row, key, event, "office"),)
    if event == "assign" or row.patient is None or row.kind == AUTHORITY.name:
        return ()
    if step.by == CLOCK and row.kind == CONSENT_REQUEST.name:
        return (_notice(row, key, event, "office"),)
    return (_notice(row, key, event, "patient"),)


def for_whom(notice: Notice, patient: Told | None, switches: Switches) -> tuple[Notice, ...]:
    """
    Return a notice of a change as it goes out: to who stands for a child or ward in its place (order §20).

    That of a break-glass session goes to whom the decision that let it be opened has told, and under the same keys.
    """
    if patient is None or notice.audience != "patient":
        return (notice,)
    if not notice.kind.startswith(_KIND):
        return tuple(addressed(notice, patient, switches))
    theirs = stand_in_for(patient, notice.due, switches)
    return tuple(
        replace(notice, key=notice_key(notice.key, who), audience="representatives", recipient=who) for who in theirs
    ) or (notice,)


def _notice(row: ProceedingRow, key: str, event: str, audience: Audience, at: Instant | None = None) -> Notice:
    facts = {"proceeding": row.id, "proceeding_kind": row.kind, "status": row.status, "event": event}
    if row.is_open and row.calendar:
        facts["due"] = row.due  # the last day of the term that runs now
    due = row.updated_at if at is None else at
    named = notice_key("proceeding", row.id, key)
    return Notice(named, row.id, f"{_KIND}{event}", audience, row.patient, None, row.org, facts, due)
