"""
The probe: how this process finds out, about once a second, what has changed.

Only an answer to a probe renews the lease, and it counts from when the probe
was SENT: an answer that lay in a buffer while the machine slept proves nothing
about the present.
"""

import asyncio
import logging
from collections.abc import Callable
from random import SystemRandom
from typing import Protocol, get_args

from ruqsat.core.facts import Position
from ruqsat.core.instant import SECOND, Instant
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.flight import land, launch, outcome
from ruqsat.service.freshness import Freshness, ProbeNews
from ruqsat.service.ports import Clock

PROBE_PERIOD: Instant = SECOND
AGAIN: Instant = SECOND // 10

_HURRY = 0.05

Changes = tuple[tuple[int, str], ...]

_log = logging.getLogger(__name__)
_dice = SystemRandom()


class Feed(Protocol):
    """The changes of the truth, in the order of their commits."""

    async def fetch_changes(self, since: Position) -> tuple[Position, tuple[tuple[int, str], ...]]:
        """
        Return the newest position, and ``(seq, key)`` of each change after *since*, oldest first.

        Raises:
            StoreUnavailableError: no answer.
        """
        ...


class Probe:
    """
    Asks the feed and tells ``Freshness``; *on_news* runs in the same step, before anyone else does.

    ``failures`` counts probes without an answer, ``is_failing`` says that the last one had none;
    ``answers`` counts the others by what they told.
    """

    def __init__(
        self, feed: Feed, freshness: Freshness, clock: Clock, on_news: Callable[[ProbeNews, Changes], None]
    ) -> None:
        """Ask nothing yet."""
        self.failures = 0
        self.is_failing = False
        self.answers: dict[ProbeNews, int] = dict.fromkeys(get_args(ProbeNews), 0)
        self._feed = feed
        self._freshness = freshness
        self._boottime = clock.boottime
        self._on_news = on_news
        self._under_way: asyncio.Task[None] | None = None
        self._begun_at: Instant = -(1 << 62)

    def begin(self) -> None:
        """Probe now without waiting, unless one is under way or was begun a moment ago: the store may be back."""
        now = self._boottime()
        if now - self._begun_at >= AGAIN and (self._under_way is None or self._under_way.done()):
            self._begun_at = now
            self._under_way = launch(self._send(0.8 * PROBE_PERIOD / SECOND))

    async def once(self, period: Instant = PROBE_PERIOD) -> None:
        """
        Probe now, or share the probe that is under way.

        Raises:
            StoreUnavailableError: no answer within 0.8 of *period* (microseconds); the lease runs on.
        """
        if self._under_way is None or self._under_way.done():
            self._under_way = launch(self._send(0.8 * period / SECOND))
        await outcome(self._under_way)

    async def _send(self, timeout_seconds: float) -> None:
        asked = self._freshness.ask()
        sent_at = self._boottime()
        try:
            async with asyncio.timeout(timeout_seconds):
                head, changes = await self._feed.fetch_changes(asked.since)
        except TimeoutError as error:
            self._failed()
            raise StoreUnavailableError(f"no answer to a probe within {timeout_seconds:g} s") from error
        except StoreUnavailableError:
            self._failed()
            raise
        self.is_failing = False
        news = self._freshness.observe_probe(head, changes, sent_at, asked)
        self.answers[news] += 1
        self._on_news(news, changes)
        if news == "went-back":
            _log.error("history_went_back epoch=%s seen=%d found=%d", head.epoch, asked.since.seq, head.seq)
        elif news == "forgot" and asked.since.epoch:
            _log.warning("everything_forgotten epoch=%s found=%d", head.epoch, head.seq)

    def _failed(self) -> None:
        self.failures += 1
        self.is_failing = True

    async def forever(self, period: Instant = PROBE_PERIOD) -> None:
        """
        Probe about every *period* (microseconds, ± 10 %) until cancelled; failures are survived.

        One that has learned something is soon followed by another, which tells others so.
        """
        loop = asyncio.get_running_loop()
        failing, has_hurried = False, False
        while True:
            began, known = loop.time(), self._freshness.position
            try:
                await self.once(period)
            except StoreUnavailableError as error:
                if not failing:
                    _log.warning("probe_failed reason=%s", error)
                failing = True
            except Exception:  # noqa: BLE001 - whatever it was: without probes nobody would ever be told anything again
                _log.exception("probe_failed")
                self.is_failing = failing = True
            else:
                if failing:
                    _log.warning("probe_recovered")
                failing = False
            has_hurried = not has_hurried and self._freshness.position != known
            pause = period / SECOND * (_HURRY if has_hurried else _dice.uniform(0.9, 1.1))
            await asyncio.sleep(max(0.0, began + pause - loop.time()))

    async def aclose(self) -> None:
        """Stop the probe that is under way, if there is one."""
        if self._under_way is not None:
            self._under_way.cancel()
            await land([self._under_way])
