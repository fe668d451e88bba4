"""
Delivering notices (order §20): what is due is taken from the outbox, sent by its channel, and its end written down.

It is far from decisions: it has a connection of its own to the database, waits for
nobody's request, and nothing waits for it.  Several sidecars may deliver from one outbox.

A notice is delivered once the receiver has said so and at no other time.  Whoever dies in
between leaves it to be sent again, under the same key, by which the receiver drops it.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from ruqsat.core.access_log import shown_id
from ruqsat.core.instant import HOUR, SECOND, Instant
from ruqsat.core.outgoing import (
    EGOV,
    EGOV_NOT_CONFIGURED,
    IN_HAND,
    NO_CHANNEL,
    NOT_REGISTERED,
    Attempt,
    Claimed,
    Outcome,
    Standing,
)
from ruqsat.errors import RuqsatError, StoreUnavailableError
from ruqsat.service.notice_bodies import NoticeBodies

AT_ONCE = 8
SEND_SECONDS = 5.0
"""A claim lasts a minute: all that is in hand is sent well within it, eight at a time."""

LOOKED_AT = 4 * IN_HAND
"""How many notices are settled at a time where none is sent: what has no way to go takes the database's time alone."""

REST = 2
"""How many times as long as a handful took delivery then rests: whoever decides goes first."""

FIRST_RETRY: Instant = 5 * SECOND
LAST_RETRY: Instant = HOUR
ATTEMPTS = 100
"""About four days of an hour each, after which a person has to look."""

POLL_SECONDS = 1.0
AWAY_SECONDS = 5.0
STANDING_SECONDS = 15.0

_log = logging.getLogger(__name__)


class Message(Struct, frozen=True):
    """
    What a receiver is given: codes and opaque ids, of which it makes a text in the addressee's language.

    ``id`` is the same each time the same notice is sent.
    """

    id: str
    kind: str
    audience: str
    patient: str | None
    recipient: str | None
    org: str | None
    facts: dict[str, str]


class Channel(Protocol):
    """A way to people."""

    async def send(self, message: Message) -> Outcome:
        """Hand *message* over; ``delivered`` only if the other side has acknowledged it."""
        ...


class Outbox(Protocol):
    """Where notices wait."""

    async def claim(
        self, now: Instant, limit: int, claim: str, ended: Callable[[Claimed], Attempt | None]
    ) -> list[Claimed]:
        """Take notices in hand that are due, and settle those of which *ended* says so in the same transaction."""
        ...

    async def settle(self, attempts: Sequence[Attempt], now: Instant) -> None:
        """Write down how attempts ended, in one transaction."""
        ...

    async def standing(self) -> Standing:
        """Return how many wait."""
        ...


def backoff(attempts: int, draw: float) -> Instant:
    """
    Return how long to wait after so many attempts: twice as long each time, up to an hour, less up to half of it.

    Args:
        draw: Between 0 and 1; by chance, so that what failed together does not come back together.

    Examples:
        >>> [backoff(attempts, 0.0) // SECOND for attempts in (1, 2, 5, 50)], backoff(1, 1.0) / SECOND
        ([5, 10, 80, 3600], 2.5)
    """
    longest = min(FIRST_RETRY << min(attempts - 1, 20), LAST_RETRY)
    return longest - int(longest * draw) // 2


class Ways(Struct, frozen=True):
    """
    The channels there are.

    Attributes:
        channels: By their names; one that is missing is a reason to skip, on record.
        usual: The one of patients and representatives for whom nobody chose another.
        office: The one of the privacy office and of authorities.
    """

    channels: Mapping[str, Channel]
    usual: str
    office: str


class Delivery:
    """
    Takes, sends and settles.

    Attributes:
        standing: What waited when last looked.
        outcomes: How attempts ended, by result, since the start.
        unsettled: How often an end could not be written down: the notice will be sent again.
    """

    def __init__(
        self, outbox: Outbox, bodies: NoticeBodies, ways: Ways, now: Callable[[], Instant], *,
        attempts: int = ATTEMPTS, draw: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """
        Begin nothing yet.

        Args:
            attempts: After so many a notice is dead.
            draw: Chance, between 0 and 1.
        """
        self.standing = Standing()
        self.outcomes = {"delivered": 0, "skipped": 0, "retry": 0, "dead": 0}
        self.unsettled = 0
        self._outbox, self._bodies, self._ways, self._now = outbox, bodies, ways, now
        self._attempts, self._draw = attempts, draw
        self._look = IN_HAND

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest notice that is due has waited."""
        due = self.standing.oldest_due
        return 0.0 if due is None else max(0.0, (self._now() - due) / SECOND)

    async def forever(self) -> None:
        """Deliver until cancelled; while the database is away, look again every few seconds."""
        looked_at = float("-inf")
        loop = asyncio.get_running_loop()
        while True:
            try:
                began = loop.time()
                taken = await self.deliver_some()
                if loop.time() - looked_at > STANDING_SECONDS:
                    self.standing, looked_at = await self._outbox.standing(), loop.time()
                rest = REST * (loop.time() - began)
                await asyncio.sleep(rest if taken >= IN_HAND else max(rest, POLL_SECONDS))
            except StoreUnavailableError:
                await asyncio.sleep(AWAY_SECONDS)
            except Exception:  # noqa: BLE001 - a mistake of ours must not end the telling
                _log.exception("notices_not_delivered")
                await asyncio.sleep(AWAY_SECONDS)

    async def deliver_some(self) -> int:
        """
        Deliver what is due, a handful of it; return how many were taken in hand.

        Raises:
            StoreUnavailableError: the outbox could not be read.
        """
        taken = await self._outbox.claim(self._now(), self._look, secrets.token_hex(8), self._unsent)
        gate, sending = asyncio.Semaphore(AT_ONCE), []
        for notice in taken:
            if (over := self._unsent(notice)) is None:
                sending.append(self._deliver(notice, gate))
            else:
                self._count(over)
        self._look = IN_HAND if sending else LOOKED_AT
        attempts = await asyncio.gather(*sending)
        if attempts:
            try:
                await self._outbox.settle(attempts, self._now())
            except StoreUnavailableError:
                self.unsettled += len(attempts)
        return len(taken)

    async def _deliver(self, notice: Claimed, gate: asyncio.Semaphore) -> Attempt:
        name = self._channel_of(notice)
        async with gate:
            outcome = await self._send(notice, name)
        if outcome.result == "retry" and notice.attempts >= self._attempts:
            outcome = Outcome("dead", outcome.reason)
        attempt = Attempt(notice, outcome, name, self._now() + backoff(notice.attempts, self._draw()))
        self._count(attempt)
        return attempt

    def _count(self, attempt: Attempt) -> None:
        key, outcome = attempt.notice.key, attempt.outcome
        if outcome.result in ("dead", "skipped"):
            level = logging.WARNING if outcome.result == "dead" else logging.DEBUG  # a reason is on record either way
            _log.log(level, "notice_%s key=%s reason=%s", outcome.result, key, outcome.reason)
        self.outcomes[outcome.result] += 1

    def _unsent(self, notice: Claimed) -> Attempt | None:
        """Return how a notice ends that has no way to go; None for one that is sent.  Called on another thread."""
        name = self._channel_of(notice)
        if name == EGOV and notice.egov is False:
            return Attempt(notice, Outcome("skipped", NOT_REGISTERED), name, 0)
        if name not in self._ways.channels:
            return Attempt(notice, Outcome("skipped", EGOV_NOT_CONFIGURED if name == EGOV else NO_CHANNEL), name, 0)
        return None

    def _channel_of(self, notice: Claimed) -> str:
        if notice.audience in ("patient", "representatives"):
            return notice.channel or self._ways.usual
        return self._ways.office

    async def _send(self, notice: Claimed, name: str) -> Outcome:
        try:
            message = _message(notice, self._bodies.open(notice))
            async with asyncio.timeout(SEND_SECONDS):
                outcome = await self._ways.channels[name].send(message)
        except TimeoutError:
            return Outcome("retry", "timeout")
        except RuqsatError as error:
            return Outcome("retry", error.code)
        except (Exception, asyncio.CancelledError) as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # it is we who are to end
            _log.warning("notice_channel_failed channel=%s error=%s", name, type(error).__name__)
            return Outcome("retry", "channel_failed")
        is_one = isinstance(outcome, Outcome) and outcome.result in self.outcomes
        return outcome if is_one else Outcome("retry", "channel_failed")


def _message(notice: Claimed, facts: dict[str, str]) -> Message:
    if shown_id(facts.get("by")) is None:  # an id that holds an identification number, as in the access log
        facts = {name: value for name, value in facts.items() if name != "by"}
    return Message(
        notice.key, notice.kind, notice.audience, notice.patient, notice.recipient, notice.org, facts
    )  # fmt: skip
