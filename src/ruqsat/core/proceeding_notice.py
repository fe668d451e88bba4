"""What somebody must be told of a proceeding: one function of values, and no personal data in what it returns."""

from msgspec import Struct

from ruqsat.core.proceeding import CLOCK, ProceedingRow
from ruqsat.core.proceeding_kinds import AUTHORITY, CONSENT_REQUEST


class ProceedingNotice(Struct, frozen=True):
    """
    One notice to be delivered.

    Attributes:
        key: The same for the same event, whoever makes it and however often.
        audience: ``patient``, through the cabinet (order §20); ``office``, whoever owes the answer.
        facts: Words and ids, for a text in the reader's language.
        due: The last day of the term that runs now, if one does.
    """

    key: str
    kind: str
    patient: str | None
    audience: str
    org: str | None
    facts: dict[str, str]
    due: str | None


def events_of(
    row: ProceedingRow, *, by_applicant: bool = False, signals: tuple[str, ...] = ()
) -> tuple[ProceedingNotice, ...]:
    """
    Return whom to tell of the newest event of a proceeding, or of what the clock says of it.

    Whoever did something is not told of it: what an applicant does concerns the office, what the office does
    concerns the patient.  Of the dealings with the authority the patient hears from the authority.

    Args:
        by_applicant: The newest event was the applicant's.
        signals: What the clock says; then nothing else happened.
    """
    if signals:
        return tuple(_notice(row, f"{row.id}/{each}", each.partition(":")[2], "office") for each in signals)
    step = row.body.steps[-1]
    event, key = step.event, f"{row.id}/{row.version}/{step.event}"
    if by_applicant:
        return (_notice(row, key, event, "office"),)
    if event == "assign" or row.patient is None or row.kind == AUTHORITY.name:
        return ()
    if step.by == CLOCK and row.kind == CONSENT_REQUEST.name:
        return (_notice(row, key, event, "office"),)
    return (_notice(row, key, event, "patient"),)


def _notice(row: ProceedingRow, key: str, event: str, audience: str) -> ProceedingNotice:
    facts = {"proceeding": row.id, "proceeding_kind": row.kind, "status": row.status, "event": event}
    due = row.due if row.is_open and row.calendar else None
    return ProceedingNotice(f"proceeding/{key}", f"proceeding.{event}", row.patient, audience, row.org, facts, due)
