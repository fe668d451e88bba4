"""
One proceeding as a value: its status, its terms, its history, and what the passing of time says of it.

What names a person travels sealed.  A term is counted once, when it begins, and kept with the version of the
calendar that counted it: a later calendar moves no day that somebody was told.
"""

import hashlib
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.consent_items import Failing, at
from ruqsat.core.consent_record import Receipt
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS, RECEIVED, WITHDRAWAL, ProceedingKind
from ruqsat.core.working_days import WorkingDays, home_day

NO_TERM = date.max.isoformat()
"""The last day of what has no term: it comes last in every queue."""

CLOCK = "clock"
"""Who does what the passing of time does."""

WARNING, OVERDUE, OUTER_OVERDUE = "warning", "overdue", "outer_overdue"


class ProceedingStep(Struct, frozen=True, omit_defaults=True):
    """One event: what, when, by which subject; the last day of the term that it ended, and whether it was late."""

    event: str
    at: Instant
    by: str
    due: str | None = None
    late: bool = False
    calendar: str | None = None


class ProceedingBody(Struct, frozen=True, omit_defaults=True):
    """What a proceeding says without naming anybody."""

    said: dict[str, Any]
    steps: tuple[ProceedingStep, ...] = ()


class Terms(Struct, frozen=True):
    """The days of one term, as dates are written, and the calendar that they were counted by."""

    due: str = NO_TERM
    warn_on: str = NO_TERM
    outer_due: str = NO_TERM
    calendar: str = ""


class ProceedingRow(Struct, frozen=True):
    """
    One proceeding as it is kept.

    Attributes:
        patient: Whom it is about; None for a breach, which may be about many.
        org: Organisation that owes it.
        owner: Subject that takes care of it.
        stage: How many terms have begun; the clock's signals bear this number, so that each comes once a term.
        received_on: The day at home on which it came in, or the event happened.
        is_open: Something may still happen to it.
        sealed: What was handed in and answered, encrypted.
        sealed_at: The version that ``sealed`` was written at.
    """

    id: str
    kind: str
    patient: str | None
    org: str | None
    owner: str | None
    version: int
    status: str
    stage: int
    is_open: bool
    received_on: str
    due: str
    warn_on: str
    outer_due: str
    calendar: str
    created_at: Instant
    updated_at: Instant
    body: ProceedingBody
    sealed: bytes
    sealed_at: int


class Wanted(Struct, frozen=True):
    """
    Which proceedings are asked for; None is any.

    Attributes:
        state: ``open``, ``closed`` or a status.
        due_before: Those whose last day lies before this day.
        after: Last day and id of the last one of the page before.
    """

    patient: str | None = None
    org: str | None = None
    owner: str | None = None
    kind: str | None = None
    state: str | None = None
    due_before: str | None = None
    after: tuple[str, str] | None = None
    limit: int = 50


class ProceedingChange(Struct, frozen=True):
    """What a use case makes of a proceeding: nothing at all, if there is no row."""

    answer: bytes
    row: ProceedingRow | None = None
    notices: tuple[Any, ...] = ()
    receipt: Receipt | None = None


class Hour(Struct, frozen=True):
    """The present, the calendar, and the hours between home and UTC."""

    now: Instant
    calendar: WorkingDays
    utc_offset_hours: int

    @property
    def today(self) -> date:
        """The present day at home."""
        return home_day(self.now, self.utc_offset_hours)


def terms_of(kind: ProceedingKind, status: str, since: date, calendar: WorkingDays, stated: date | None) -> Terms:
    """
    Return the term that a status begins with.

    Args:
        since: The day of the event; the term begins the day after (Civil Code art. 173).
        stated: The last day, for a kind whose opener states it.
    """
    term = kind.terms.get(status)
    if term is not None:
        outer = NO_TERM if term.outer is None else calendar.due(since, term.outer).isoformat()
        return Terms(
            calendar.due(since, term.days).isoformat(), calendar.due(since, term.warn).isoformat(), outer,
            calendar.version,
        )  # fmt: skip
    if kind.states_due and stated is not None and status == RECEIVED:
        before = stated - timedelta(days=1)
        while not calendar.is_working(before):
            before -= timedelta(days=1)
        return Terms(stated.isoformat(), before.isoformat(), calendar=calendar.version)
    return Terms()


def failing_opening(kind: ProceedingKind, data: Mapping[str, Any], hour: Hour) -> tuple[Failing, ...]:
    """Return what an opening lacks; a free form lacks nothing (order §17)."""
    law = kind.law[0]
    found = [Failing(f"/{name}", law, "missing") for name in kind.needs if not _is_said(data.get(name))]
    if data["patient"] is None and not kind.is_anybodys:
        found.append(Failing("/patient", law, "missing"))
    if data["received_at"] is not None and parse_instant(data["received_at"]) > hour.now:
        found.append(Failing("/received_at", law, "in_future"))
    if data["due_on"] is not None:
        if not kind.states_due:
            found.append(Failing("/due_on", law, "not_allowed"))
        elif date.fromisoformat(data["due_on"]) < hour.today:
            found.append(Failing("/due_on", law, "expired"))
    return tuple(found)


def failing_move(kind: ProceedingKind, event: str, said: Mapping[str, Any]) -> tuple[Failing, ...]:
    """Return what is missing of an event; a ground outside the closed list is none."""
    move = kind.moves[event]
    found = [Failing(f"/{name}", move.law, "missing") for name in move.needs if not _is_said(said.get(name))]
    if move.grounds and said.get("ground") is not None and said["ground"] not in move.grounds:
        found.append(Failing("/ground", move.law, "not_allowed"))
    if (
        "identity" in move.needs
        and at(said, "identity.method") is not None
        and not _is_said(said["identity"]["method"])
    ):
        found.append(Failing("/identity/method", move.law, "missing"))
    return tuple(found)


def _is_said(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list):
        return bool(value) and all(_is_said(each) for each in value)
    return value is not None


def advanced(
    kind: ProceedingKind, row: ProceedingRow, event: str, by: str, hour: Hour, said: Mapping[str, Any]
) -> ProceedingRow:
    """Return the next version of a proceeding, in the status that *event* leads to, with *said* of it in the open."""
    status = "lapsed" if event == "lapse" else kind.moves[event].to[row.status]
    had_term = row.due != NO_TERM
    step = ProceedingStep(
        event, hour.now, by, row.due if had_term else None, had_term and hour.today.isoformat() > row.due,
        row.calendar or None,
    )  # fmt: skip
    terms = terms_of(kind, status, hour.today, hour.calendar, None)
    is_open = kind.is_open(status)
    kept = msgspec.structs.asdict(terms) if is_open else {}  # of what is over the last term stays to be seen
    return msgspec.structs.replace(
        row,
        version=row.version + 1,
        status=status,
        stage=row.stage + 1,
        is_open=is_open,
        updated_at=hour.now,
        body=ProceedingBody({**row.body.said, **said}, (*row.body.steps, step)),
        **kept,
    )


def followed_up_as(consent: str) -> str:
    """Return the id of the follow-up of a consent's withdrawal: the same whoever begins it."""
    return f"w-{consent}"


def followed_up(consent: str, patient: str, org: str | None, withdrawn_at: Instant, hour: Hour) -> ProceedingRow:
    """Return the proceeding that a withdrawal begins by itself (Law 94-V art. 8(7)); it seals nothing."""
    said = {"consent": consent, "channel": "registry"}
    return first_row(Opening(followed_up_as(consent), WITHDRAWAL, patient, org, withdrawn_at, said, CLOCK), hour)


class Opening(Struct, frozen=True):
    """What a proceeding begins with: when it came in, what is said in the open, the last day if its opener says it."""

    id: str
    kind: ProceedingKind
    patient: str | None
    org: str | None
    received_at: Instant
    said: dict[str, Any]
    by: str
    stated: date | None = None
    sealed: bytes = b""


def first_row(opening: Opening, hour: Hour) -> ProceedingRow:
    """Return the first version of a proceeding; its term counts from the day on which it came in."""
    day = home_day(opening.received_at, hour.utc_offset_hours)
    terms = terms_of(opening.kind, RECEIVED, day, hour.calendar, opening.stated)
    return ProceedingRow(
        id=opening.id,
        kind=opening.kind.name,
        patient=opening.patient,
        org=opening.org,
        owner=None,
        version=1,
        status=RECEIVED,
        stage=1,
        is_open=True,
        received_on=day.isoformat(),
        created_at=hour.now,
        updated_at=hour.now,
        body=ProceedingBody(opening.said, (ProceedingStep("open", hour.now, opening.by),)),
        sealed=opening.sealed,
        sealed_at=1,
        **msgspec.structs.asdict(terms),
    )


def has_lapsed(row: ProceedingRow, today: date) -> bool:
    """Tell whether an offer has run out, whether or not anybody wrote it down yet."""
    return row.is_open and PROCEEDING_KINDS[row.kind].lapses and today.isoformat() > row.due


def is_overdue(row: ProceedingRow, today: date) -> bool:
    """
    Tell whether the term has run out and something is still owed.

    A term ends with its last day (Civil Code art. 176): on that day nothing is overdue.
    """
    return row.is_open and not PROCEEDING_KINDS[row.kind].lapses and today.isoformat() > row.due


def signals(row: ProceedingRow, today: date) -> tuple[str, ...]:
    """Return what the passing of time says of an open proceeding, each once a term."""
    if not row.is_open or PROCEEDING_KINDS[row.kind].lapses:
        return ()
    day = today.isoformat()
    passed = ((WARNING, day >= row.warn_on), (OVERDUE, day > row.due), (OUTER_OVERDUE, day > row.outer_due))
    return tuple(f"{row.stage}:{name}" for name, has_come in passed if has_come)


def act_of(row: ProceedingRow, by: str, now: Instant, method: str) -> dict[str, Any]:
    """
    Return the act of a destruction (order §24): what, on which ground, confirmed and carried out by whom, when, how.

    It names records by their ids and holds nothing of what was in them; its digest shows whether it was altered.
    """
    confirmed = next(step for step in reversed(row.body.steps) if step.event == "confirm")
    act = {
        "demand": row.id,
        "patient": row.patient,
        "records": [each["id"] for each in row.body.said["records"]],
        "ground": row.body.said["ground"],
        "confirmed_by": confirmed.by,
        "confirmed_at": render_instant(confirmed.at),
        "destroyed_by": by,
        "destroyed_at": render_instant(now),
        "method": method,
    }
    return {**act, "digest": digest_of(act)}


def digest_of(value: Any) -> str:
    """
    Return the SHA-256 of a value as JSON with sorted keys.

    Examples:
        >>> digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
        True
    """
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
