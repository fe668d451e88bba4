"""
The outbox: notices wait here from the transaction that made them until somebody was told, or why not is on record.

As in ``sql_facts``, each function takes a Connection inside a transaction and neither
begins nor ends one: whoever changes something adds its notices in the same transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Row, bindparam, func, select, true, update

from ruqsat.core.addressee import Told
from ruqsat.core.instant import Instant
from ruqsat.core.notice import Notice
from ruqsat.core.outgoing import (
    DEAD,
    DELIVERED,
    IN_HAND,
    NOT_SENT,
    PENDING,
    RETRIABLE,
    SKIPPED,
    Attempt,
    Claimed,
    Listed,
    Outcome,
    Standing,
)
from ruqsat.stores.sql_facts import read_addressees
from ruqsat.stores.sql_rows import among, insert_rows
from ruqsat.stores.sql_schema import indexed, outbox, patient_channel
from ruqsat.stores.turns import in_turns

Close = Callable[[Notice], bytes]
"""Makes the body of a notice: its facts, sealed where there is a key."""

AddNotices = Callable[[Connection, Sequence[Notice]], object]
"""Keeps notices in the transaction of the change that they tell of; what it raises undoes the change."""

Represents = Callable[[Told, str, Instant], bool]
"""Tells whether somebody stands for a patient at a moment."""

Ended = Callable[[Claimed], Attempt | None]
"""Says of a notice in hand how it ended without being sent; None if it is to be sent."""

PAGE = 100

_END: dict[str, dict[str, Any]] = {
    "delivered": {"state": DELIVERED, "body": b""}, "retry": {}, "skipped": {"state": SKIPPED}, "dead": {"state": DEAD},
}  # fmt: skip

_LISTED = [outbox.c[name] for name in Listed.__struct_fields__]
_OF_CLAIM = ("claim", "channel", "egov")
_CLAIMED = [outbox.c[name] for name in Claimed.__struct_fields__ if name not in _OF_CLAIM]
_STATE = outbox.c.state.concat("")
"""No word that an index begins with: SQLite would look through all that is open, rather than go by the keys."""
_IS_OPEN = _STATE == PENDING

_DUE = (
    select(*_CLAIMED)
    .where(outbox.c.state == PENDING, outbox.c.next_at <= bindparam("now"))
    .order_by(outbox.c.next_at)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_TAKE = (
    update(outbox)
    .where(among(outbox.c.key, "taken"))
    .values(claim=bindparam("by"), attempts=outbox.c.attempts + 1, next_at=bindparam("until"))
)
_MEANT_FOR_PATIENT = update(outbox).where(among(outbox.c.key, "moved")).values(audience="patient", recipient=None)
_CHANNELS = select(patient_channel.c.patient, patient_channel.c.channel).where(
    among(patient_channel.c.patient, "whose")
)


def add_notices(
    connection: Connection, notices: Sequence[Notice], close: Close, now: Instant, *, settle: Instant = 0
) -> int:
    """
    Add notices, unless they are there already; return how many were not.

    Args:
        close: Makes the body of each.
        settle: How long after *now* none is delivered, whenever it is due.
    """
    rows = [_row(notice, close, now, settle) for notice in in_turns(notices)]
    return insert_rows(connection, outbox, rows, unless_there="key")


def withdraw_notices(connection: Connection, entries: Collection[str], now: Instant) -> int:
    """Leave out what is to be told of decisions that were never sent; return how many it was not too late for."""
    if not entries:
        return 0
    untold = among(outbox.c.entry, "entries") & (_IS_OPEN | _may_be_tried_again(_STATE))
    question = update(outbox).where(untold).values(state=SKIPPED, reason=NOT_SENT, settled_at=now)
    return connection.execute(question, {"entries": entries}).rowcount


def claim_notices(
    connection: Connection, now: Instant, limit: int, lease: Instant, claim: str, represents: Represents,
    ended: Ended = lambda notice: None,
) -> list[Claimed]:  # fmt: skip
    """
    Take the notices in hand that are due longest: nobody else takes them until *lease* is over.

    Each time counts as an attempt, so that one whose deliverer always dies ends as well.
    What was meant for somebody who stands for the patient no longer is the patient's.

    Args:
        limit: How many are looked at; no more than ``IN_HAND`` of those that are to be sent are taken.
        ended: Says of a notice that there is nothing to do but to write down how it ended; so it is, at once.

    Returns:
        What is in hand now, and what ended.
    """
    rows = connection.execute(_DUE, {"now": now, "most": limit}).all()
    if not rows:
        return []
    named = {row.patient for row in rows if row.patient is not None}
    channels, known = _channels(connection, named), read_addressees(connection, named)
    gone = {row.key for row in rows if row.recipient is not None and not _still_represents(row, known, represents, now)}
    found = [_claimed(row, claim, channels, known, is_gone=row.key in gone) for row in rows]
    ends = [attempt for each in found if (attempt := ended(each)) is not None]
    over = {attempt.notice.key for attempt in ends}
    taken = [each for each in found if each.key not in over][:IN_HAND]
    if taken:
        connection.execute(_TAKE, {"taken": [each.key for each in taken], "by": claim, "until": now + lease})
    _write_ends(connection, ends, now, {"attempts": outbox.c.attempts + 1})
    taken += [attempt.notice for attempt in ends]
    if moved := [each.key for each in taken if each.key in gone]:
        connection.execute(_MEANT_FOR_PATIENT, {"moved": moved})
    return taken


def settle_notices(connection: Connection, attempts: Sequence[Attempt], now: Instant) -> None:
    """
    Write down how attempts ended, those that ended alike by one statement.

    That it was delivered is true whoever has it in hand by now; anything else is only
    written by whoever still has.  The facts of what was delivered are forgotten.
    """
    _write_ends(connection, attempts, now, None)


def _write_ends(
    connection: Connection, attempts: Sequence[Attempt], now: Instant, at_hand: dict[str, Any] | None
) -> None:
    """Write ends; *at_hand* is what else is said of notices that nobody but this transaction can have in hand."""
    alike: dict[tuple[str, Outcome, str | None, Instant | None], list[str]] = {}
    for each in attempts:
        until = each.next_at if each.outcome.result == "retry" else None
        alike.setdefault((each.notice.claim, each.outcome, each.channel, until), []).append(each.notice.key)
    for (claim, outcome, channel, until), keys in alike.items():
        said = {"channel": channel, "reason": outcome.reason, "claim": None} | _END[outcome.result] | (at_hand or {})
        said |= {"settled_at": now} if until is None else {"next_at": until}
        mine = outbox.c.claim == claim if at_hand is None else true()
        where = _IS_OPEN | mine if outcome.result == "delivered" else _IS_OPEN & mine
        connection.execute(update(outbox).where(among(outbox.c.key, "ended"), where).values(**said), {"ended": keys})


def read_standing(connection: Connection) -> Standing:
    """Return how many wait and how many were given up."""
    question = select(outbox.c.state, func.count(), func.min(outbox.c.due)).where(outbox.c.state.in_((PENDING, DEAD)))
    found = {state: (count, due) for state, count, due in connection.execute(question.group_by(outbox.c.state))}
    waiting, oldest = found.get(PENDING, (0, None))
    return Standing(waiting, found.get(DEAD, (0, None))[0], oldest)


def list_notices(
    connection: Connection, states: Collection[str], patient: str | None, after: tuple[Instant, str],
    limit: int = PAGE, org: str | None = None,
) -> list[Listed]:  # fmt: skip
    """Return a page of notices in the order they were made, those after *after* (instant and key); None is any."""
    made, key = outbox.c.created_at, outbox.c.key
    question = select(*_LISTED).where((made > after[0]) | ((made == after[0]) & (key > after[1])))
    if states:
        question = question.where(outbox.c.state.in_(states))
    if patient is not None:
        question = question.where(outbox.c.patient == patient)
    if org is not None:
        question = question.where(outbox.c.org == org)
    rows = connection.execute(question.order_by(made, key).limit(limit)).mappings()
    return [Listed(**dict(row)) for row in rows]


def retry_notices(connection: Connection, keys: Collection[str] | None, reason: str | None, now: Instant) -> int:
    """
    Have notices tried again that were given up, or skipped for a reason that may have passed; return how many.

    Args:
        keys: These; None is all of them.
        reason: Only those that ended for it; None is any.
    """
    question = update(outbox).where(_may_be_tried_again(outbox.c.state))
    if keys is not None:
        question = question.where(outbox.c.key.in_(keys))
    if reason is not None:
        question = question.where(outbox.c.reason == reason)
    later = func.coalesce(outbox.c.deferred_until, 0)
    when = func.greatest(later, now) if connection.dialect.name == "postgresql" else func.max(later, now)
    return connection.execute(
        question.values(state=PENDING, attempts=0, next_at=when, claim=None, settled_at=None)
    ).rowcount


def set_channel(connection: Connection, patient: str, channel: str | None, now: Instant) -> None:
    """Have a patient told by *channel* from now on; None is the usual one."""
    connection.execute(patient_channel.delete().where(patient_channel.c.patient == patient))
    if channel is not None:
        connection.execute(
            patient_channel.insert(), {"patient": patient, "channel": channel, "changed_at": now}
        )  # fmt: skip


def _may_be_tried_again(state: ColumnElement[str]) -> ColumnElement[bool]:
    return (state == DEAD) | ((state == SKIPPED) & outbox.c.reason.in_(RETRIABLE))


def _row(notice: Notice, close: Close, now: Instant, settle: Instant) -> dict[str, Any]:
    is_over = notice.skipped is not None
    # Before its body is closed, which is bound to the patient that stands in the row.
    patient, org = indexed(notice.patient), indexed(notice.org)
    if patient != notice.patient or org != notice.org:
        notice = replace(notice, patient=patient, org=org)
    return {
        "key": notice.key, "state": SKIPPED if is_over else PENDING, "kind": notice.kind, "audience": notice.audience,
        "patient": notice.patient, "recipient": notice.recipient, "org": notice.org, "entry": notice.entry,
        "channel": None, "reason": notice.skipped, "legal_ground": notice.ground, "due": notice.due,
        "deferred_until": notice.deferred_until, "attempts": 0, "next_at": max(notice.due, now + settle),
        "claim": None, "created_at": now, "settled_at": now if is_over else None,
        "body": b"" if is_over else close(notice),
    }  # fmt: skip


def _channels(connection: Connection, patients: Collection[str]) -> dict[str, str]:
    return {row.patient: row.channel for row in connection.execute(_CHANNELS, {"whose": patients})}


def _still_represents(row: Row[Any], known: Mapping[str, Told], represents: Represents, now: Instant) -> bool:
    facts = known.get(row.patient)
    return row.audience != "representatives" or (facts is not None and represents(facts, row.recipient, now))


def _claimed(
    row: Sequence[Any], claim: str, channels: Mapping[str, str], known: Mapping[str, Told], *, is_gone: bool
) -> Claimed:
    key, kind, audience, patient, recipient, org, entry, attempts, created_at, body = row
    if is_gone:
        audience, recipient = "patient", None
    channel, egov = None, None
    if audience == "patient" and patient is not None:
        channel, egov = channels.get(patient), patient in known and known[patient].egov
    return Claimed(
        key, kind, audience, patient, recipient, org, entry, attempts + 1, created_at, claim, body, channel, egov
    )  # fmt: skip
