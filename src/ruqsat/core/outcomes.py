"""
What really happened after a decision, as the enforcement point confirms it (order §16: facts of access, not leave).

A decision says what may be done.  Whether it was done, only whoever carried it out can say;
the journal keeps both, tied by the decision's id.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from ruqsat.core.instant import Instant, parse_instant
from ruqsat.core.journaled import DECISION, NOT_SENT

OUTCOME = "outcome"


class Outcome(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """
    A report, as it arrives.

    Attributes:
        decision: The id that the answer bore.
        outcome: ``done``, ``not_done`` (nobody tried), ``failed`` (tried, without effect) or ``partially``.
        records: How many records were returned or changed.
        at: When it happened, RFC 3339.
        key: Tells reports of one decision apart; the same one sent again is the same report.
    """

    decision: Annotated[str, Meta(min_length=1, max_length=64)]
    outcome: Literal["done", "not_done", "failed", "partially"]
    records: Annotated[int, Meta(ge=0, lt=1 << 31)] | None = None
    at: Annotated[str, Meta(max_length=64)] | None = None
    key: Annotated[str, Meta(max_length=128)] = ""


class OutcomeEntry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: what came of decision ``id``, told at ``at`` by the point that had asked."""

    kind: str
    id: str
    at: str
    listener: str
    outcome: str
    records: int | None = None
    happened: str | None = None
    key: str = ""
    point: str = ""
    org: str | None = None

    @property
    def report(self) -> Outcome:
        """What was reported."""
        return Outcome(self.id, self.outcome, self.records, self.happened, self.key)  # type: ignore[arg-type]


class Permit(Struct, frozen=True):
    """A permit of which nothing was heard."""

    id: str
    at: str
    point: str
    listener: str


class _Told(Struct, frozen=True):
    kind: str
    id: str = ""
    at: str = ""
    allowed: bool = False
    point: str = ""
    listener: str = ""
    outcome: str = ""


def read_outcome(line: bytes) -> OutcomeEntry | None:
    """
    Return the outcome that a line of the journal tells; None for any other line.

    Examples:
        >>> read_outcome(b'{"kind":"outcome","id":"a-1","at":"","listener":"json","outcome":"done"}').report.outcome
        'done'
        >>> read_outcome(b'{"kind":"decision","id":"a-1"}')
    """
    if b'"kind":"outcome"' not in line:
        return None
    try:
        found = msgspec.json.decode(line, type=OutcomeEntry)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found if found.kind == OUTCOME else None


def missing_outcomes(lines: Iterable[bytes], before: Instant, point: str | None = None) -> list[Permit]:
    """
    Return the permits older than *before* of which no outcome is in the journal, oldest first.

    Calls of the control API need none: the registries themselves do what was permitted.

    Args:
        point: Only those that this enforcement point asked for.
    """
    permits: dict[str, Permit] = {}
    settled: set[str] = set()  # a report may be read before its decision: another sidecar took it
    for told in _told_in(lines):
        if told.kind == DECISION and told.allowed and told.listener != "control":
            if (point is None or told.point == point) and parse_instant(told.at) < before:
                permits[told.id] = Permit(told.id, told.at, told.point, told.listener)
        elif told.kind in (NOT_SENT, OUTCOME):
            settled.add(told.id)
    return sorted((each for each in permits.values() if each.id not in settled), key=lambda each: each.at)


def count_outcomes(lines: Iterable[bytes]) -> dict[str, int]:
    """Return how many decisions came to which outcome; the last report of a decision counts."""
    last = {told.id: told.outcome for told in _told_in(lines) if told.kind == OUTCOME}
    return {word: list(last.values()).count(word) for word in sorted(set(last.values()))}


def _told_in(lines: Iterable[bytes]) -> Iterator[_Told]:
    for line in lines:
        try:
            yield msgspec.json.decode(line, type=_Told)
        except (msgspec.MsgspecError, RecursionError):
            continue  # what is no line of a journal, its verification tells
