"""
Who is told of a break-glass session: the privacy office at once, the patient (order §20); of what is late, the office.

A notice holds codes and opaque ids; no reason and nothing clinical (the alert may be read anywhere).
"""

from msgspec import Struct

from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.notice import Notice, notice_key


class About(Struct, frozen=True):
    """The session that a notice tells of."""

    session: str
    subject: str
    patient: str
    org: str | None


def of_opening(about: About, entry: str, anomaly: tuple[str, ...], now: Instant) -> tuple[Notice, ...]:
    """
    Return the alert and the patient's notice of an opening.

    They bear the keys of the notices that come of the decision itself, so that nobody is told twice.
    """
    said = {"at": render_instant(now), "action": "create", "by": about.subject, "session": about.session}
    flags = {"anomaly": " ".join(anomaly)} if anomaly else {}
    return (
        Notice(
            notice_key(entry, "alert_privacy_officer"), entry, "alert", "privacy_officer", about.patient, None,
            about.org, said | {"event": "opened"} | flags, now,
        ),
        Notice(
            notice_key(entry, "supplement", "patient", about.patient, ""), entry, "supplement", "patient",
            about.patient, None, about.org, said, now,
        ),
    )  # fmt: skip


def to_office(about: About, event: str, now: Instant) -> Notice:
    """Return what the privacy office is told of ``review_overdue``, ``suspended`` or ``lifted``."""
    said = {"at": render_instant(now), "by": about.subject, "session": about.session, "event": event}
    times = () if event == "review_overdue" else (render_instant(now),)  # late it is found once
    return Notice(
        notice_key(about.session, event, *times), about.session, "alert",
        "privacy_officer", about.patient, None, about.org, said, now,
    )  # fmt: skip
