"""
Outcomes: the enforcement point that asked confirms what came of a decision, once, and the journal keeps it.

Whose a decision is, this process remembers for a while; of older ones, and of those of
other sidecars, the journals in the database tell once they are shipped there.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.journal_filter import Found
from ruqsat.core.journaled import DECISION, NOT_SENT
from ruqsat.core.outcomes import OUTCOME, Outcome, OutcomeEntry, read_outcome
from ruqsat.errors import RequestError
from ruqsat.service.entries import Named
from ruqsat.service.origin import Origin

REMEMBERED = 32_768
"""How many permits, and how many reports, are remembered (about 10 MiB); shipping is far less behind."""


class OutcomeRefusedError(RequestError):
    """The report is not taken; ``code`` says why."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Shipped(Protocol):
    """The journals in the database."""

    async def by_id(self, entry: str) -> list[Found]:
        """Return the entries of an id; raises StoreUnavailableError."""
        ...


class Records(Protocol):
    """The decision point, as far as it journals."""

    async def record(self, entry: Struct, named: Named) -> None:
        """Append an entry; raises JournalError if it is not on stable storage."""
        ...


class Whose(Struct, frozen=True):
    """Who asked for a permit, by which listener, and the organisation that it was given to."""

    point: str
    listener: str
    org: str | None = None


@lru_cache(maxsize=1024)
def _shared(point: str, listener: str, org: str | None) -> Whose:
    """Return one and the same value for all permits that are alike in it: many thousands are remembered."""
    return Whose(point, listener, org)


class Outcomes:
    """
    Takes reports.

    Args:
        now: The present moment.
    """

    def __init__(self, records: Records, shipped: Shipped, now: Callable[[], Instant]) -> None:
        self._records, self._shipped, self._now = records, shipped, now
        self._permits: OrderedDict[str, Whose] = OrderedDict()
        self._reports: OrderedDict[tuple[str, str], tuple[Outcome, asyncio.Task[None]]] = OrderedDict()

    def remember(self, decision: str, origin: Origin, org: str | None) -> None:
        """Remember whose permit this is; part of the hot path."""
        permits = self._permits
        permits[decision] = _shared(origin.point, origin.listener, org)
        if len(permits) > REMEMBERED:
            permits.popitem(last=False)

    async def report(self, outcome: Outcome, point: str) -> bool:
        """
        Journal what came of a decision; tell whether that is new.

        The same report may be sent again: it is journaled once.  Only after a restart, while the
        first is not shipped yet, may it be a second time, under the same key.

        Raises:
            OutcomeRefusedError: ``unknown-decision``, ``not-yours``, ``not-permitted`` (there was nothing to carry
                out), ``key-reused`` (another report has this key), ``malformed`` (no instant).
            JournalError: it is not kept.
            StoreUnavailableError: whose decision it is cannot be told now.
        """
        _refuse_no_instant(outcome.at)
        whose, found = self._permits.get(outcome.decision), list[Found]()
        if whose is None:
            found = await self._shipped.by_id(outcome.decision)
            whose = _whose(found)
        if not _is_same(whose, point):
            raise OutcomeRefusedError("not-yours", "another enforcement point asked for this decision")
        known = self._reports.get((outcome.decision, outcome.key))
        told = known[0] if known is not None else _told_before(found, outcome.key)
        if told is not None and told != outcome:
            raise OutcomeRefusedError("key-reused", "another outcome was reported under this key")
        if known is None and told is not None:
            return False
        return await self._journal(outcome, whose, known)

    async def _journal(
        self, outcome: Outcome, whose: Whose, known: tuple[Outcome, "asyncio.Task[None]"] | None
    ) -> bool:
        place = outcome.decision, outcome.key
        if known is None:
            entry = OutcomeEntry(
                OUTCOME, outcome.decision, render_instant(self._now()), whose.listener, outcome.outcome,
                outcome.records, outcome.at, outcome.key, whose.point, whose.org,
            )  # fmt: skip
            writing = asyncio.ensure_future(self._records.record(entry, Named()))
            self._reports[place] = outcome, writing
            if len(self._reports) > REMEMBERED:
                self._reports.popitem(last=False)
        else:
            writing = known[1]
        try:
            await asyncio.shield(writing)  # a caller that goes away does not unsay it
        except asyncio.CancelledError:
            raise
        except Exception:
            if self._reports.get(place, (None, None))[1] is writing:
                del self._reports[place]
            raise
        return known is None


def _is_same(whose: Whose, point: str) -> bool:
    """Tell whether the point that reports is the one that asked; one without a name has none but its listener."""
    return whose.listener != "control" and whose.point == point and (point != "" or whose.listener == "json")


def _whose(found: Iterable[Found]) -> Whose:
    """Return whose permit the journals tell of."""
    entries = [each.entry for each in found]
    decision = next((each for each in entries if each.kind == DECISION), None)
    if decision is None or any(each.kind == NOT_SENT for each in entries):
        raise OutcomeRefusedError("unknown-decision", "no such decision is known here, or not yet")
    if not decision.allowed:
        raise OutcomeRefusedError("not-permitted", "nothing was permitted that could have an outcome")
    return Whose(decision.point or "", decision.listener or "", decision.org)


def _told_before(found: Iterable[Found], key: str) -> Outcome | None:
    outcomes = (read_outcome(each.line) for each in found)
    return next((each.report for each in outcomes if each is not None and each.key == key), None)


def _refuse_no_instant(text: str | None) -> None:
    try:
        _ = text is None or parse_instant(text)
    except ValueError:
        raise OutcomeRefusedError("malformed", "expected `at` as an RFC 3339 instant with an offset") from None
