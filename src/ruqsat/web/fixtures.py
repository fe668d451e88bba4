"""
Test fixtures: a caller of the JSON listener sets the facts, the moment and the switches of what it asks next.

Imported only when the process was started with ``--test-fixtures``.  Facts go
the way of every change (store, feed, memory), so that what is tested is what
serves; the moment, the switches and the failure of the consent store are staged
around the function that decides.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from ruqsat.core.decision import Decision
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.core.instant import Instant, Now, at, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.vocabulary import Switches
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.service.decision_point import Decide
from ruqsat.service.ports import Clock
from ruqsat.web.authzen import JSON, Receive, Scope, Send, read_on, reply, say

FIXTURES = "/test/fixtures"
MAX_BODY_BYTES = 16 * 1024 * 1024


class Fixtures(Struct, frozen=True, forbid_unknown_fields=True):
    """
    What the next decisions are about; what is left out is as in a process that was just started.

    Attributes:
        now: The moment of the decisions, as an instant or in RFC 3339; left out, the machine's clock.
        policy: Positions of switches that differ from the pack's.
        store_down: The consent store cannot be read.
        forget: Drop what is in memory, so that the store is read.
    """

    subjects: tuple[SubjectFacts, ...] = ()
    patients: tuple[PatientFacts, ...] = ()
    now: Instant | str | None = None
    policy: dict[str, Any] = {}
    store_down: bool = False
    forget: bool = False


class Loaded(Struct, frozen=True):
    """The answer: a check with the token sees at least these facts; and the rules and switches that decide."""

    token: str
    policy: str
    switches: Switches


class Decider(Struct, frozen=True):
    """What decides under certain positions of the switches."""

    policy: str
    switches: Switches
    decide: Decide


class Information(Protocol):
    """The policy information point, as fixtures need it."""

    async def record(
        self, subjects: tuple[SubjectFacts, ...] = (), patients: tuple[PatientFacts, ...] = ()
    ) -> Position:
        """Replace facts; known to every decision once this returns."""
        ...

    def forget(self) -> None:
        """Drop what is in memory."""
        ...


class Stage:
    """What surrounds a decision: a clock, and a function that decides; both as the last fixture set them."""

    def __init__(self, clock: Clock, decide: Decide) -> None:
        """Begin with the machine's clock."""
        self._clock, self._decide = clock, decide
        self._now: Now | None = None
        self._store_down = False

    def now(self) -> Now:
        """Return the moment of decisions."""
        return self._now or self._clock.now()

    def boottime(self) -> Instant:
        """Return the machine's time since boot."""
        return self._clock.boottime()

    def decide(
        self,
        policy_set: PolicySet,
        request: EvaluationRequest,
        facts: Facts,
        now: Now,
        capabilities: frozenset[str],
    ) -> Decision:
        """Decide one request, on the stage."""
        if self._store_down:
            facts = msgspec.structs.replace(facts, consents_known=False)
        return self._decide(policy_set, request, facts, now, capabilities)

    def set(self, decide: Decide, now: Now | None, store_down: bool) -> None:
        """Set the stage for what is asked from now on."""
        self._decide, self._now, self._store_down = decide, now, store_down


class FixtureLoader:
    """
    The JSON listener with one endpoint more.

    Args:
        inner: The listener's own application, for every other path.
        decider: What decides under given positions of switches; it may take a while, and raises
            ``msgspec.ValidationError`` for positions that do not exist.
        token: Returns the consistency token of a position.
    """

    def __init__(
        self,
        inner: Callable[[Scope, Receive, Send], Awaitable[None]],
        stage: Stage,
        information: Information,
        decider: Callable[[Mapping[str, Any]], Decider],
        token: Callable[[Position], str],
    ) -> None:
        self._inner, self._stage, self._information = inner, stage, information
        self._decider, self._token = decider, token
        self._subjects: frozenset[str] = frozenset()
        self._patients: frozenset[str] = frozenset()
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != FIXTURES:
            await self._inner(scope, receive, send)
            return
        types = [value.split(b";", 1)[0].strip().lower() for name, value in scope["headers"] if name == b"content-type"]
        if scope["method"] != "POST":
            await say(send, 405, "expected POST", [(b"allow", b"POST")])
        elif types != [JSON]:
            # A page in a browser on this machine cannot say so without asking first.
            await say(send, 400, "expected `Content-Type: application/json`", [])
        else:
            await self._answer(receive, send)

    async def _answer(self, receive: Receive, send: Send) -> None:
        try:
            body = await read_on(await receive(), receive, MAX_BODY_BYTES)
            async with self._one_at_a_time:
                loaded = await self._load(msgspec.json.decode(body, type=Fixtures))
        except (RequestError, msgspec.MsgspecError, ValueError) as error:
            await say(send, 400, str(error), [])
        except StoreUnavailableError as error:
            await say(send, 503, str(error), [])
        else:
            await reply(send, 200, JSON, msgspec.json.encode(loaded), [])

    async def _load(self, fixtures: Fixtures) -> Loaded:
        now = fixtures.now
        moment = None if now is None else at(parse_instant(now) if isinstance(now, str) else now)
        decider = await asyncio.to_thread(self._decider, fixtures.policy)
        position = await self._record(fixtures)
        self._stage.set(decider.decide, moment, fixtures.store_down)
        if fixtures.forget:
            self._information.forget()
        return Loaded(self._token(position), decider.policy, decider.switches)

    async def _record(self, fixtures: Fixtures) -> Position:
        """Record these facts instead of those before; who is gone is to every decision like nobody by that id."""
        subjects = frozenset(subject.id for subject in fixtures.subjects)
        patients = frozenset(patient.id for patient in fixtures.patients)
        position = await self._information.record(
            fixtures.subjects + tuple(map(nobody, sorted(self._subjects - subjects))),
            fixtures.patients + tuple(map(unknown, sorted(self._patients - patients))),
        )
        self._subjects, self._patients = subjects, patients
        return position


def nobody(subject: str) -> SubjectFacts:
    """Return facts that decide as if the directory did not know the subject."""
    return SubjectFacts(subject, active=False)


def unknown(patient: str) -> PatientFacts:
    """Return facts that decide as if nobody were on record by this id."""
    return PatientFacts(patient)
