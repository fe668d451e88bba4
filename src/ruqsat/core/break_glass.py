"""
The life of a break-glass session beside what decisions read of it: opening, rates, review, the clinician's right.

Order §4 with operator policy.  Values in, values out; what is counted was counted in the transaction
that keeps what is made of it.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.case import believed_org, open_emergency
from ruqsat.core.consent_record import Receipt
from ruqsat.core.emergency import opened_today
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import Instant, at, local_midnight
from ruqsat.core.notice import Notice
from ruqsat.core.registered import RecordRow
from ruqsat.core.request import SubjectProperties
from ruqsat.core.vocabulary import Switches

WARD = "ward:"
"""A group of the directory so named is the ward of its members."""

SESSIONS_KNOWN = 50
"""How many of a clinician's sessions decisions know by their ids, to tell the wrong patient from no session."""


class Opening(Struct, frozen=True):
    """
    A session as the rates and the queue know it.

    Attributes:
        ward: Where its clinician works; the organisation, if no ward is known.
        due: Until when it is to be reviewed.
        anomaly: Which rates it was flagged by: ``clinician``, ``ward``, ``patient``.
        overdue_at: When it was found not to be reviewed in time.
        settled_at: When a review came to an end: justified or misuse.
    """

    id: str
    subject: str
    patient: str
    org: str | None
    ward: str | None
    opened_at: Instant
    due: Instant
    anomaly: tuple[str, ...] = ()
    overdue_at: Instant | None = None
    settled_at: Instant | None = None


class Rates(Struct, frozen=True):
    """Sessions opened since local midnight: by the clinician, in the ward, for the patient, by one for the other."""

    clinician: int = 0
    ward: int = 0
    patient: int = 0
    pair: int = 0


class RightEvent(Struct, frozen=True):
    """
    What became of a clinician's right to break the glass: ``suspended`` or ``lifted``.

    Attributes:
        cause: ``overdue``, ``misuse`` or ``office``.
        by: Who; None where nobody did, but time.
        session: The session that it is about.
    """

    id: str
    subject: str
    at: Instant
    event: str
    cause: str
    session: str
    by: str | None = None


class Wanted(Struct, frozen=True):
    """
    What a change of a break-glass session reads.  Three rows are locked until the change is over, in this order.

    Attributes:
        org: Organisation whose row is locked first, so that openings in its wards are counted one after the other.
        subject: The clinician, whose row is locked second, so that no two of its openings are counted at once.
        patient: The patient, whose row is locked third.
        session: Id of a session that is there already.
        beside: Another person, such as one who confirms; read, not locked.
        ward: Where the clinician's openings count.
        since: Openings count from this instant on; 0 counts none.
        key: Idempotency key whose receipt is read.
    """

    subject: str
    patient: str
    session: str | None = None
    org: str | None = None
    beside: str | None = None
    ward: str | None = None
    since: Instant = 0
    key: bytes | None = None


class Found(Struct, frozen=True):
    """What was read; ``overdue`` counts the clinician's sessions found overdue since a suspension was last lifted."""

    facts: PatientFacts
    subject: SubjectFacts | None = None
    beside: SubjectFacts | None = None
    row: RecordRow | None = None
    opening: Opening | None = None
    rates: Rates = Rates()
    overdue: int = 0
    receipt: Receipt | None = None


class Made(Struct, frozen=True):
    """What a change makes of what was read; None leaves that part as it is."""

    answer: bytes = b""
    row: RecordRow | None = None
    facts: PatientFacts | None = None
    subject: SubjectFacts | None = None
    opening: Opening | None = None
    right: RightEvent | None = None
    notices: tuple[Notice, ...] = ()
    receipt: Receipt | None = None


SessionChange = Callable[[Found], Made]
"""What a use case makes of what is found: pure, for it runs inside the transaction."""


def ward_of(subject: SubjectFacts | None, org: str | None) -> str | None:
    """Return where somebody works: the first ward among the groups of the directory, or else the organisation."""
    groups = () if subject is None else subject.groups
    return next((group for group in groups if group.startswith(WARD)), org)


def works_for(person: SubjectFacts | None, claimed: str | None) -> str | None:
    """Return the organisation that somebody works for, as decisions take it (``believed_org``); None for a stranger."""
    return None if person is None else believed_org(SubjectProperties(org=claimed), person)


def refusal(
    found: Found, org: str | None, second: tuple[str, str | None] | None, now: Instant, switches: Switches
) -> str:
    """
    Return why a session must not be opened now, empty if it may.

    Args:
        org: Whose episode must be open.
        second: Who confirms it beside the clinician, and whose its token says that it is.
    """
    limits, rates, subject = switches.btg, found.rates, found.subject
    if subject is None or not subject.active or subject.btg_suspended:
        return "suspended"
    if limits.require_episode and not open_emergency(found.facts, org, at(now)):
        return "no_episode"
    today = max(rates.clinician, opened_today(subject.btg_opened, subject.btg_today, now, switches))
    if today >= limits.daily_limit or rates.ward >= limits.rates.limit_ward:
        return "rate_limited"
    if rates.patient >= limits.rates.limit_patient:
        return "rate_limited"
    if rates.pair >= limits.rates.alone and not _confirms(found.beside, second, subject, org):
        return "second_person"
    return ""


def _confirms(
    person: SubjectFacts | None, second: tuple[str, str | None] | None, subject: SubjectFacts, org: str | None
) -> bool:
    if person is None or second is None or org is None:
        return False
    is_another = second[0] == person.id != subject.id
    return is_another and person.active and not person.btg_suspended and works_for(person, second[1]) == org


def anomaly_of(rates: Rates, switches: Switches) -> tuple[str, ...]:
    """Return which rates a further session is above."""
    soft = switches.btg.rates
    bounds = {"clinician": soft.flag_clinician, "ward": soft.flag_ward, "patient": soft.flag_patient}
    return tuple(name for name, bound in bounds.items() if getattr(rates, name) >= bound)


def with_opening(subject: SubjectFacts, id_: str, now: Instant, switches: Switches) -> SubjectFacts:
    """Return a clinician's facts with a session opened now; those of days before are no longer counted."""
    midnight = local_midnight(now, switches.home_utc_offset_hours)
    recent = tuple(moment for moment in subject.btg_opened if moment >= midnight)
    return msgspec.structs.replace(
        subject, btg_opened=(*recent, now), sessions=(*subject.sessions, id_)[-SESSIONS_KNOWN:]
    )


def with_right(subject: SubjectFacts | None, *, suspended: bool) -> SubjectFacts | None:
    """Return a clinician's facts with the right suspended or not; None where nothing changes, or nobody is known."""
    if subject is None or subject.btg_suspended == suspended:
        return None
    return msgspec.structs.replace(subject, btg_suspended=suspended)


def overdue(opening: Opening | None, now: Instant) -> Opening | None:
    """Return a session found overdue now, None if it is not, or was found so before."""
    if opening is None or opening.settled_at is not None or opening.overdue_at is not None or now < opening.due:
        return None
    return msgspec.structs.replace(opening, overdue_at=now)


def settled(opening: Opening | None, verdict: str, now: Instant) -> Opening | None:
    """Return a session whose review is over; None after an ``unclear`` one: another person reviews by the same term."""
    if opening is None or verdict == "unclear":
        return None
    return msgspec.structs.replace(opening, settled_at=now)


def already_had_a_hand(row: RecordRow, person: str) -> bool:
    """Tell whether somebody had a hand in a session: opened, confirmed, closed, revoked or reviewed it before."""
    return any(step.by == person for step in row.body.steps)


def describe(opening: Opening, row: dict[str, Any], now: Instant) -> dict[str, Any]:
    """Return an entry of the queue: the record without what names people, what flagged it, whether it is late."""
    return row | {
        "anomaly": list(opening.anomaly), "ward": opening.ward,
        "overdue": opening.overdue_at is not None or opening.due <= now,
    }  # fmt: skip
