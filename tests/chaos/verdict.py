"""
The verdict over a recorded run: pure functions of what was written, asked, answered and broken, and when.

All times are seconds of CLOCK_BOOTTIME, read by the one process that recorded
them.  The promise is about when an answer was SENT, and a caller does not see
that; so each check is counted by the earliest moment at which its answer can
have been sent:

* not before its request was sent;
* while a sidecar stands still under SIGSTOP it sends nothing.  An answer that it
  had sent before is in our socket by then, for loopback hands over at once: we
  wait a moment after all its threads have stopped and let our loop read what is
  there (``polled``).  What comes after that was sent after it went on.

A withdrawal counts from when its acknowledgement had been received, which is
after its commit.  Both roundings are in the sidecar's favour: what is reported is
a broken promise for certain.

A grant counts from when it was first attempted, until a later withdrawal is
acknowledged.  A writer repeats an attempt of unknown outcome under the same
idempotency key until it has an answer, so that no attempt of before can land after.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Literal, NamedTuple


class Write(NamedTuple):
    """A grant or a withdrawal of one patient's consent; ``via`` is the sidecar that acknowledged it."""

    patient: str
    kind: Literal["grant", "withdraw"]
    via: str
    begun: float
    acked: float


class Check(NamedTuple):
    """One question and its answer; ``received`` is when its first byte was there."""

    sidecar: str
    patient: str
    sent: float
    received: float
    allowed: bool
    reason: str = ""


class Pause(NamedTuple):
    """A sidecar stood still from ``stopped`` to ``continued``; by ``polled`` we had read all that it sent before."""

    sidecar: str
    stopped: float
    polled: float
    continued: float


class Span(NamedTuple):
    """SQL answered and this sidecar ran, from ``begun`` to ``ended``."""

    sidecar: str
    begun: float
    ended: float


class Violation(NamedTuple):
    """An allow that was sent too long after a withdrawal."""

    check: Check
    withdrawal: Write
    late: float


class Counted(NamedTuple):
    """How many checks were about a consent that had been withdrawn for Δ, and which of them were allowed."""

    tested: int
    violations: tuple[Violation, ...]


def earliest_sent(check: Check, pauses: Iterable[Pause]) -> float:
    """Return the earliest moment at which the answer can have been sent; *pauses* are those of its sidecar."""
    earliest = check.sent
    for pause in pauses:
        if check.sent <= pause.continued and check.received > pause.polled:
            earliest = max(earliest, pause.continued)
    return earliest


def count_violations(
    writes: Iterable[Write], checks: Iterable[Check], pauses: Iterable[Pause], delta: float
) -> Counted:
    """
    Return what was allowed *delta* after the acknowledgement of its withdrawal, and how many checks could have been.

    A sidecar that acknowledged the withdrawal itself knows it from then on: there *delta* is nothing.
    """
    of_patient: dict[str, list[Write]] = defaultdict(list)
    for write in sorted(writes, key=lambda each: each.begun):
        of_patient[write.patient].append(write)
    begun = {patient: [write.begun for write in known] for patient, known in of_patient.items()}
    of_sidecar: dict[str, list[Pause]] = defaultdict(list)
    for pause in pauses:
        of_sidecar[pause.sidecar].append(pause)
    tested, found = 0, []
    for check in checks:
        known = of_patient.get(check.patient, [])
        # The newest write that had begun when the answer was there; a grant among the later ones excuses nothing.
        newest = bisect_right(begun.get(check.patient, []), check.received) - 1
        if newest < 0 or known[newest].kind == "grant":
            continue
        withdrawal = known[newest]
        due = withdrawal.acked + (0.0 if withdrawal.via == check.sidecar else delta)
        earliest = earliest_sent(check, of_sidecar[check.sidecar])
        if earliest >= due:
            tested += 1
            if check.allowed:
                found.append(Violation(check, withdrawal, earliest - due))
    return Counted(tested, tuple(found))


class Alive(NamedTuple):
    """How many checks were about untouched consents while all was well, and how many of them were allowed."""

    asked: int
    allowed: int
    reasons: Mapping[str, int]


class Outage(NamedTuple):
    """Denials of untouched consents, one after the other, while all was well: how long after that began, and until when."""

    sidecar: str
    after: float
    lasted: float
    denied: int


def outages(checks: Iterable[Check], spans: Sequence[Span], untouched: frozenset[str]) -> list[Outage]:
    """Return the outages in *spans*, the one with the most denials first; an allow ends one."""
    found = []
    told: dict[str, list[Check]] = defaultdict(list)
    for check in sorted(checks, key=lambda each: each.sent):
        if check.patient in untouched:
            told[check.sidecar].append(check)
    for span in spans:
        known = told[span.sidecar]
        first = bisect_left(known, span.begun, key=lambda each: each.sent)
        last = bisect_right(known, span.ended, key=lambda each: each.sent)
        inside = [each for each in known[first:last] if each.received <= span.ended]
        for allowed, run in groupby(inside, key=lambda each: each.allowed):
            denied = () if allowed else tuple(run)
            if denied:
                lasted = denied[-1].received - denied[0].sent
                found.append(Outage(span.sidecar, denied[0].sent - span.begun, lasted, len(denied)))
    return sorted(found, key=lambda each: -each.denied)


def count_alive(checks: Iterable[Check], spans: Sequence[Span], untouched: frozenset[str]) -> Alive:
    """Count the checks of *untouched* patients that began and ended within one of *spans*."""
    of_sidecar: dict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda each: each.begun):
        of_sidecar[span.sidecar].append(span)
    asked = allowed = 0
    reasons: dict[str, int] = defaultdict(int)
    for check in checks:
        if check.patient not in untouched:
            continue
        if any(span.begun <= check.sent and check.received <= span.ended for span in of_sidecar[check.sidecar]):
            asked += 1
            allowed += check.allowed
            reasons[check.reason] += 1
    return Alive(asked, allowed, dict(reasons))
