"""What must hold of the day, as functions of plain values: each says what is wrong, and a planted bug shows that it does."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import holidays
from examples.demo_day.day import Asked

EMERGENCIES = ("emergency_default", "emergency_override")


def log_differs(asked: Iterable[Asked], patient: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Return how an access log differs from what was done: who, when, action, class, purpose, result, emergency.

    Args:
        asked: All that the script did, before the log was asked for, in order.
        rows: The log, newest first; that it shows its own look, too, is fine.
    """
    expected = [each for each in asked if each.patient == patient and each.shown]
    shown = list(reversed(rows))
    if len(shown) == len(expected) + 1 and shown[-1]["action"]["code"] == "journal_read":
        shown.pop()
    found = [f"row {at}: {_told(row)}, done {want}" for at, (row, want) in enumerate(zip(shown, expected, strict=False))
             if not _is(row, want)]  # fmt: skip
    return found + ([] if len(shown) == len(expected) else [f"{len(shown)} rows of {len(expected)} deeds"])


def _is(row: Mapping[str, Any], want: Asked) -> bool:
    at = datetime.fromisoformat(row["at"]).timestamp()  # to the second
    return (
        int(want.before) <= at <= want.after
        and _told(row) == (want.who, want.action, want.data_class, [want.purpose], want.allowed, want.result)
        and row["emergency"] == (want.result in EMERGENCIES)
        and all(row[name]["text"] for name in ("action", "class", "reason"))
    )


def _told(row: Mapping[str, Any]) -> tuple[Any, ...]:
    result = row["ground"]["code"] if row["allowed"] else row["reason"]["code"]
    purposes = [each["code"] for each in row["purposes"]]
    return row["who"]["person"], row["action"]["code"], row["class"]["code"], purposes, row["allowed"], result


def untold(notices: Iterable[Mapping[str, Any]], patient: str, permitted_at: str) -> set[tuple[str, str]]:
    """Return which of the two who must be told of an opened session were not on record as told before the first permit."""
    told = {
        (each["audience"], each["kind"]) for each in notices
        if each["patient"] == patient and each["created_at"] < permitted_at and each["state"] != "skipped"
    }  # fmt: skip
    return {("privacy_officer", "alert"), ("patient", "supplement")} - told


def reached_wrongly(seen: Iterable[Mapping[str, Any]], forwarded: Collection[str]) -> list[str]:
    """Return what reached the records server and was not let through, and what was and did not."""
    targets = [each["target"] for each in seen]
    return (
        [] if targets == list(forwarded) else sorted({*targets} ^ {*forwarded}) or ["another order, or another count"]
    )


def last_day(received: date, days: int) -> date:
    """Return the last of so many working days after a day, counted one by one by the national calendar."""
    calendar, at = holidays.country_holidays("KZ"), received
    while days:
        at += timedelta(days=1)
        days -= at.weekday() < 5 and at not in calendar
    return at
