"""
A question that is answered without the messages of ASGI, and without a task.

Much of what a decision costs beside itself is the way there and back: a task, an event,
coroutines, messages.  A question that has arrived whole, on a connection where nothing
else is under way, is handed over in one call; if its facts are in memory it is decided
as soon as the loop turns, with all that came in the same turn, and answered as soon as
its entry lasts.  Whatever is not that plain goes the way of ASGI, which is the one that
can do everything and the only one that refuses with an explanation.
"""

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import JournalError
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import Begun, Ready
from ruqsat.service.origin import Origin
from ruqsat.web.load import Load

TOGETHER = 32
"""How many questions are decided together at most: the first one's entry is handed over when the last is decided."""

_log = logging.getLogger("ruqsat.at_once")


class Told(Struct, frozen=True):
    """An answer in bytes: its status line and headers, each with its line's end but no blank line, and its body."""

    head: bytes
    body: bytes = b""


class Connection(Protocol):
    """What sends an answer."""

    def answer(self, exchange: "Exchange", told: Told) -> None:
        """Send it, as a whole; never raises."""
        ...


class _Nobody:
    """In the place of uvicorn's message event: no application waits for messages here."""

    def set(self) -> None:
        """Do nothing."""


class Exchange:
    """
    One such question and its answer.

    It stands where uvicorn keeps its own request cycle, so that what comes after it on the same connection waits for
    it; hence it has the attributes that uvicorn reads and writes there.
    """

    __slots__ = ("_connection", "disconnected", "keep_alive", "refusal", "response_complete")

    message_event = _Nobody()

    def __init__(self, connection: Connection, refusal: Told) -> None:
        """Begin; *refusal* is what is said where nothing else can be."""
        self._connection, self.refusal = connection, refusal
        self.keep_alive = True
        self.disconnected = self.response_complete = False

    def answer(self, told: Told) -> None:
        """Send the answer; there is only one."""
        if not self.response_complete:
            self.response_complete = True
            self._connection.answer(self, told)

    def refuse(self) -> None:
        """Send that nothing was allowed, if there is no answer yet."""
        self.answer(self.refusal)


@runtime_checkable
class AnswersAtOnce(Protocol):
    """
    An application that answers plain questions at once.

    Attributes:
        method: That of such a question.
        most_bytes: How long its body may be.
        refusal: What is said where nothing else can be.
    """

    method: bytes
    most_bytes: int
    refusal: Told

    def is_plain(self, target: bytes) -> bool:
        """Tell whether a question to this target may be plain."""
        ...

    def answer_at_once(self, scope: MutableMapping[str, Any], body: bytes, exchange: Exchange) -> bool:
        """
        Answer a question that has arrived whole, now or once its entry lasts; never raises.

        False, with nothing done or kept, if it is not that plain: then the application is to be called.

        Args:
            scope: As ASGI's, of which there are the method, the headers and what the protocol knows beside.
        """
        ...


class Asked(Struct, frozen=True):
    """A plain question, and how its answer is written."""

    question: EvaluationRequest
    origin: Origin
    policy_set: PolicySet
    write: Callable[[Answer], Told]


class Decides(Protocol):
    """The decision point, as a plain question needs it."""

    def ready(self, request: EvaluationRequest, origin: Origin, asked: PolicySet | None) -> Ready | None:
        """Return a question with its facts, if these are in memory; None where the store must be asked."""
        ...

    def begin_all(self, questions: Sequence[Ready]) -> list[Begun | BaseException]:
        """Decide questions and hand their entries over; what goes wrong with one stands in its place."""
        ...

    def end(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer | None:
        """Return what may be sent, now that the entry lasts; None where it must be decided anew."""
        ...

    def end_unwritten(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer:
        """Return the denial that is sent, now that the entry never will last."""
        ...

    async def end_anew(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer:
        """Decide once more; return what may be sent."""
        ...


class _Waits(Struct, frozen=True):
    """A question that was taken, and who waits for its answer."""

    asked: Asked
    ready: Ready
    exchange: Exchange


class AtOnce:
    """Decides plain questions by *decision_point*, each a part of *load* until it is answered."""

    def __init__(self, decision_point: Decides, load: Load) -> None:
        self._decision_point, self._load = decision_point, load
        self._taken: list[_Waits] = []
        self._anew: set[asyncio.Task[None]] = set()

    def decide(self, asked: Asked, exchange: Exchange) -> bool:
        """
        Decide a question whose facts are in memory, and answer it once its entry lasts; never raises.

        It is decided as soon as the loop turns, together with those that are taken in the same turn.

        False, with nothing done, where the store must be asked or too much is under way.
        """
        if not self._load.enter():
            return False
        try:
            ready = self._decision_point.ready(asked.question, asked.origin, asked.policy_set)
            if ready is None:
                self._load.leave()
                return False
            if not self._taken:
                asyncio.get_running_loop().call_soon(self._decide_taken)
            self._taken.append(_Waits(asked, ready, exchange))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the edge of the hot path: no permit
            self._fail(exchange, error)
        return True

    def _decide_taken(self) -> None:
        taken, self._taken = self._taken, []
        for first in range(0, len(taken), TOGETHER):
            self._begin(taken[first : first + TOGETHER])

    def _begin(self, together: list[_Waits]) -> None:
        try:
            begun = self._decision_point.begin_all([each.ready for each in together])
            each_begun = list(zip(together, begun, strict=True))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            each_begun = [(waits, error) for waits in together]
        for waits, each in each_begun:
            try:
                if isinstance(each, BaseException):
                    raise each
                written = asyncio.ensure_future(each.written)
                end = partial(self._end, waits.asked, each, waits.exchange)
                if written.done():
                    end(written)
                else:
                    written.add_done_callback(end)
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
                self._fail(waits.exchange, error)

    def _end(self, asked: Asked, begun: Begun, exchange: Exchange, written: asyncio.Future[None]) -> None:
        try:
            answer = self._ended(asked, begun, written)
            if answer is None:
                work = asyncio.ensure_future(self._end_anew(asked, begun, exchange))
                self._anew.add(work)
                work.add_done_callback(self._anew.discard)
                return
            self._answer(asked, answer, exchange)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            self._fail(exchange, error)

    def _ended(self, asked: Asked, begun: Begun, written: asyncio.Future[None]) -> Answer | None:
        try:
            written.result()
        except (JournalError, asyncio.CancelledError):
            return self._decision_point.end_unwritten(asked.question, asked.origin, begun)
        return self._decision_point.end(asked.question, asked.origin, begun)

    async def _end_anew(self, asked: Asked, begun: Begun, exchange: Exchange) -> None:
        try:
            answer = await self._decision_point.end_anew(asked.question, asked.origin, begun)
            self._answer(asked, answer, exchange)
        except BaseException as error:  # whoever is cut short has allowed nothing
            self._fail(exchange, error)
            if not isinstance(error, Exception):
                raise

    def _answer(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        exchange.answer(asked.write(answer))
        self._load.leave()  # last: what fails above leaves by ``_fail``, and a place is given back once

    def _fail(self, exchange: Exchange, error: BaseException) -> None:
        _log.error("question_failed", exc_info=error)
        self._load.leave()
        exchange.refuse()
