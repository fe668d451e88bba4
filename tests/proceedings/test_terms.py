"""Every row of the table of deadlines on every date of the table of dates, to the day; and what the clock says of them."""

from datetime import date, timedelta
from typing import NamedTuple

import pytest

from ruqsat.core.instant import HOUR, SECOND
from ruqsat.core.proceeding import (
    NO_TERM,
    Hour,
    ProceedingBody,
    ProceedingRow,
    advanced,
    is_overdue,
    signals,
    terms_of,
)
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS, RECEIVED
from ruqsat.core.working_days import WorkingDays, read_overrides

OFFSET = 5

WORKING: dict[str, list[str]] = {
    # The working days after each date, written out by hand from the law on holidays and the Government's
    # substitutions: the day itself does not count.
    "2026-03-20": [
        "2026-03-26", "2026-03-27", "2026-03-30", "2026-03-31", "2026-04-01", "2026-04-02", "2026-04-03", "2026-04-06",
        "2026-04-07", "2026-04-08", "2026-04-09", "2026-04-10", "2026-04-13", "2026-04-14", "2026-04-15",
    ],
    "2026-05-06": [
        "2026-05-08", "2026-05-12", "2026-05-13", "2026-05-14", "2026-05-15", "2026-05-18", "2026-05-19", "2026-05-20",
        "2026-05-21", "2026-05-22", "2026-05-25", "2026-05-26", "2026-05-28", "2026-05-29", "2026-06-01",
    ],
    "2025-01-02": [
        "2025-01-05", "2025-01-06", "2025-01-08", "2025-01-09", "2025-01-10", "2025-01-13", "2025-01-14", "2025-01-15",
        "2025-01-16", "2025-01-17", "2025-01-20", "2025-01-21", "2025-01-22", "2025-01-23", "2025-01-24",
    ],
    "2024-05-02": [
        # 8 May was taken off for Saturday the 4th, between the holidays of the 7th and the 9th.
        "2024-05-03", "2024-05-04", "2024-05-06", "2024-05-10", "2024-05-13", "2024-05-14", "2024-05-15", "2024-05-16",
        "2024-05-17", "2024-05-20", "2024-05-21", "2024-05-22", "2024-05-23", "2024-05-24", "2024-05-27",
    ],
    "2026-10-22": [
        "2026-10-23", "2026-10-27", "2026-10-28", "2026-10-29", "2026-10-30", "2026-11-02", "2026-11-03", "2026-11-04",
        "2026-11-05", "2026-11-06", "2026-11-09", "2026-11-10", "2026-11-11", "2026-11-12", "2026-11-13",
    ],
    "2027-03-11": [
        # Nauryz is the 21st to the 23rd; the 21st is a Sunday, so the 24th is off.
        "2027-03-12", "2027-03-16", "2027-03-17", "2027-03-18", "2027-03-19", "2027-03-25", "2027-03-26", "2027-03-29",
        "2027-03-30", "2027-03-31", "2027-04-01", "2027-04-02", "2027-04-05", "2027-04-06", "2027-04-07",
    ],
}  # fmt: skip


class Row(NamedTuple):
    """A row of the table of deadlines: which status of which kind, how many working days, the outer limit, the warning."""

    kind: str
    status: str
    days: int
    warn: int
    outer: int | None = None


ROWS = {
    "answer on own data, or a reasoned refusal: 3": Row("information", RECEIVED, 3, 2),
    "change on documents: the law's 1, the order's 3": Row("correction", RECEIVED, 1, 1, 3),
    "block on information of a violation: 1": Row("destruction", RECEIVED, 1, 1),
    "destroy on confirmation: 1": Row("destruction", "confirmed", 1, 1),
    "unblock if not confirmed: 1": Row("destruction", "dismissed", 1, 1),
    "stop processing after a withdrawal, or a reasoned refusal: 15": Row("withdrawal", RECEIVED, 15, 12),
    "objection to automated processing: 3": Row("objection", RECEIVED, 3, 2),
    "notice of a transfer: 10": Row("transfer_notice", RECEIVED, 10, 8),
    "notice of a breach to the authority, from its discovery: 1": Row("breach_notice", RECEIVED, 1, 1),
    "removal from public sources: 1": Row("publication", RECEIVED, 1, 1),
}


@pytest.mark.parametrize("received", WORKING)
@pytest.mark.parametrize("name", ROWS)
def test_every_deadline_falls_on_its_day(name: str, received: str) -> None:
    """Due, warned and, where two provisions differ, at the end of the laxer one: the days written out by hand."""
    row, days = ROWS[name], WORKING[received]
    terms = terms_of(PROCEEDING_KINDS[row.kind], row.status, date.fromisoformat(received), WorkingDays(), None)

    assert terms.due == days[row.days - 1]
    assert terms.warn_on == days[row.warn - 1]
    assert terms.outer_due == (NO_TERM if row.outer is None else days[row.outer - 1])
    assert terms.calendar == WorkingDays().version


def test_no_kind_has_a_term_that_the_table_of_deadlines_lacks() -> None:
    """And none that stands there is missing."""
    written = {(row.kind, row.status) for row in ROWS.values()}
    assert written == {(kind.name, status) for kind in PROCEEDING_KINDS.values() for status in kind.terms}


def instant(day: str, hour: int = 12) -> int:
    """Return a moment of a day at home."""
    days = (date.fromisoformat(day) - date(1970, 1, 1)).days
    return (days * 24 + hour - OFFSET) * HOUR


def hour(day: str, hour: int = 12, calendar: WorkingDays | None = None) -> Hour:
    """Return what a use case knows of that moment."""
    return Hour(instant(day, hour), calendar or WorkingDays(), OFFSET)


def proceeding(kind: str, received: str, status: str = RECEIVED) -> ProceedingRow:
    """Return a proceeding as it stands after its opening."""
    terms = terms_of(PROCEEDING_KINDS[kind], status, date.fromisoformat(received), WorkingDays(), None)
    return ProceedingRow(
        "x1", kind, "p1", "h1", None, 1, status, 1, True, received, terms.due, terms.warn_on, terms.outer_due,
        terms.calendar, 0, 0, ProceedingBody({}), b"", 1,
    )  # fmt: skip


@pytest.mark.parametrize("received", WORKING)
@pytest.mark.parametrize("name", ROWS)
def test_the_clock_warns_once_and_is_never_early(name: str, received: str) -> None:
    """Day by day: a warning from its day on, overdue the day after the last, the outer limit the day after it."""
    row, days = ROWS[name], WORKING[received]
    found = proceeding(row.kind, received, row.status)
    for step in range(40):
        today = date.fromisoformat(received) + timedelta(days=step)
        expected = []
        if today.isoformat() >= days[row.warn - 1]:
            expected.append("1:warning")
        if today.isoformat() > days[row.days - 1]:
            expected.append("1:overdue")
        if row.outer is not None and today.isoformat() > days[row.outer - 1]:
            expected.append("1:outer_overdue")
        assert signals(found, today) == tuple(expected), today
        assert is_overdue(found, today) == ("1:overdue" in expected)


def test_a_term_ends_at_midnight_at_home() -> None:
    """23:59 of the last day is on time, a second after midnight is not; whatever the day is in UTC."""
    kind, row = PROCEEDING_KINDS["information"], proceeding("information", "2026-03-20")
    last = Hour(instant("2026-03-31", 0) - SECOND, WorkingDays(), OFFSET)
    after = Hour(instant("2026-03-31", 0), WorkingDays(), OFFSET)

    assert last.today == date(2026, 3, 30)
    assert not advanced(kind, row, "refuse", "dpo", last, {}).body.steps[-1].late
    assert advanced(kind, row, "refuse", "dpo", after, {}).body.steps[-1].late


def test_each_status_begins_its_own_term_on_the_day_that_it_begins() -> None:
    """Blocked in time; while it is looked into nothing runs; confirmed on a Friday before a holiday: due the next working day."""
    kind = PROCEEDING_KINDS["destruction"]
    blocked = advanced(kind, proceeding("destruction", "2026-03-16"), "block", "dpo", hour("2026-03-17"), {})
    assert (blocked.due, blocked.is_open, signals(blocked, date(2027, 1, 1))) == (NO_TERM, True, ())
    confirmed = advanced(kind, blocked, "confirm", "dpo", hour("2026-03-20"), {})
    assert (confirmed.due, confirmed.stage) == ("2026-03-26", 3)
    assert signals(confirmed, date(2026, 3, 27)) == ("3:warning", "3:overdue")
    destroyed = advanced(kind, confirmed, "destroy", "dpo2", hour("2026-03-27"), {})
    assert (destroyed.is_open, destroyed.body.steps[-1].late, destroyed.due) == (False, True, "2026-03-26")
    assert signals(destroyed, date(2027, 1, 1)) == ()


def test_a_reviewed_override_counts_and_is_named_in_the_version() -> None:
    """A day off that the Government added moves a new term; the term that was told before stays as it was."""
    text = b"extra_off = [2026-03-30]\nextra_work = [2026-03-28]\n"
    calendar = read_overrides(text)
    kind, since = PROCEEDING_KINDS["information"], date(2026, 3, 20)
    terms = terms_of(kind, RECEIVED, since, calendar, None)

    assert terms.due == "2026-03-28"  # a Saturday that was made a working day
    assert terms.calendar == calendar.version != WorkingDays().version
    assert read_overrides(text + b"# reviewed\n").version != calendar.version
    row = proceeding("information", "2026-03-20")
    assert advanced(kind, row, "refuse", "dpo", hour("2026-03-30", calendar=calendar), {}).due == "2026-03-30"


@pytest.mark.parametrize(
    "text",
    [b"extra_of = [2026-01-01]", b"extra_off = ['soon']", b"extra_off = [2026-01-01]\nextra_work = [2026-01-01]",
     b"\xff", b"extra_off = 3", b"extra_off = [2026-01-01"],
)  # fmt: skip
def test_overrides_that_cannot_be_read_are_refused(text: bytes) -> None:
    """A misspelt name, what is no date, a day in both lists, no TOML."""
    with pytest.raises(ValueError):
        read_overrides(text)


def test_a_stated_day_warns_the_working_day_before() -> None:
    """The authority's letter names the day; an offer of a consent that runs out lapses and is never overdue."""
    monday = date(2026, 3, 30)
    terms = terms_of(PROCEEDING_KINDS["authority"], RECEIVED, date(2026, 3, 20), WorkingDays(), monday)
    assert (terms.due, terms.warn_on) == ("2026-03-30", "2026-03-27")
    assert terms_of(PROCEEDING_KINDS["authority"], RECEIVED, date(2026, 3, 20), WorkingDays(), None).due == NO_TERM
    offer = proceeding("consent_request", "2026-03-20")
    assert signals(offer, date(2027, 1, 1)) == ()
