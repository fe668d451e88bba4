"""
The policy decision point: gather facts, ask the core, make the journal durable, answer.

An allow leaves this module only after a complete evaluation under one policy
set, on facts that are still usable at the last moment, with its journal entry
on stable storage.  Every other event is a denial with a reason.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count
from typing import TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.admission import Changes
from ruqsat.core.boundaries import next_turn
from ruqsat.core.decision import Decision, deny
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import SECOND, Instant, Now, render_instant
from ruqsat.core.policy_release import Released
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import JournalError, StoreUnavailableError
from ruqsat.service.answer import DIGEST_SHOWN, Answer, obligation_of
from ruqsat.service.degraded import UNAVAILABLE, is_degraded, is_young, narrowed
from ruqsat.service.drafts import Drafts, org_of
from ruqsat.service.entries import ChangeEntry, Draft, Entry, Named, PolicyEntry, ReleasedBy, personal_parts
from ruqsat.service.facts_beside import NOTHING, Reading, asks_for_more, joined, named_beside
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin, capabilities_of
from ruqsat.service.ports import Clock, Information, Journal, Tokens

GivenT = TypeVar("GivenT")
MadeT = TypeVar("MadeT")

Decide = Callable[[PolicySet, EvaluationRequest, Facts, Now, frozenset[str]], Decision]
"""What decides: a policy set, a request, the facts, the moment, what the enforcement point can do."""

_Told = tuple[bytes, tuple[bytes, ...]]
"""An entry, and the parts of it that name people."""

SETS_IN_HAND = 8
"""How many sets may come in force while one request is in hand; once one of them must apply, no older one sends."""

PRESENT_LASTS: Instant = SECOND
"""How long after it was decided a permit may be sent, where rules read the present for more than terms of documents."""


class Evaluated(Struct, frozen=True):
    """
    A decision, and what it was made by.

    Attributes:
        facts: Those of the subject and the patient; None where they could not be had, and no rule was asked.
        beside: Those of others, each tested for itself before a permit is sent.
        whole: All of them, as the rules saw them.
        now: The moment that the rules saw.
    """

    decision: Decision
    facts: Facts | None
    beside: tuple[Reading, ...]
    whole: Facts | None
    now: Now


class Ready(Struct, frozen=True):
    """A question that is decided without waiting: its facts are in memory, and no more is asked for."""

    request: EvaluationRequest
    origin: Origin
    asked: PolicySet | None
    facts: Facts
    came: float


class _Made(Struct, frozen=True):
    """A decision that nobody was told of; the rest is as in ``Begun``."""

    request: EvaluationRequest
    origin: Origin
    asked: PolicySet | None
    ruled: PolicySet
    evaluated: Evaluated
    began: float


class _Drawn(Struct, frozen=True):
    """A decision, its answer, and the entry that is to be handed over."""

    made: _Made
    answer: Answer
    draft: Draft
    entry: bytes


class Begun(Struct, frozen=True):
    """
    A decision whose entry is on its way to stable storage.

    Attributes:
        written: Done once the entry lasts; fails if it cannot be made to.
        asked: The set whose routes read the request, if any did; ``ruled`` is the one that decided.
        began: When, in seconds of the performance counter.
    """

    answer: Answer
    facts: Facts | None
    written: Awaitable[None]
    asked: PolicySet | None
    ruled: PolicySet
    began: float


class Weighed(Struct, frozen=True):
    """A decision that was not answered; ``is_usable`` tells whether the facts that it rests on still hold."""

    decision: Decision
    is_usable: Callable[[], bool]


class DecisionPoint:
    """
    Decides requests; one instance serves every listener of the process.

    Args:
        decide: What decides; anything but ``evaluate`` is for tests.
        replayable: The journal keeps each question whole, and the facts, so that a decision can be made again.
    """

    def __init__(  # noqa: PLR0913 - the ports of the centre
        self,
        policy_set: PolicySet,
        information: Information,
        tokens: Tokens,
        journal: Journal,
        clock: Clock,
        metrics: Metrics,
        decide: Decide = evaluate,
        *,
        replayable: bool = False,
    ) -> None:
        self.policy_set = policy_set
        self._tokens = tokens
        self._information = information
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._decide = decide
        self._process = secrets.token_hex(6)
        self._drafts = Drafts(replayable=replayable)
        self._numbers = count(1)
        self._since_must_apply: tuple[PolicySet, ...] | None = None
        self._encode = msgspec.json.Encoder().encode
        self._policy_told: _Told | None = None
        self._untold: _Told | None = None
        self.on_permit: Callable[[str, Origin, str | None], None] | None = None
        self._telling: asyncio.Future[None] | None = None

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet | None = None) -> Answer:
        """
        Decide one request and journal it.

        Args:
            policy_set: The set whose routes read the request, if any did: one request is
                read and decided under one set.  Left out, the set in force decides.

        Returns:
            The answer; a failure of the store or the journal is a denial.

        Raises:
            RequestError: the request carries a consistency token that was not issued here.
        """
        ready = self.ready(request, origin, policy_set)
        if ready is None:
            return await self._decide_from_store(request, origin, policy_set)
        begun = self._handed_over(self._drawn_up(self._made(self._clock.now(), ready)))
        return await self._end(request, origin, begun)

    async def decide_all(
        self, requests: Sequence[EvaluationRequest], origin: Origin, policy_set: PolicySet
    ) -> list[Answer | BaseException]:
        """
        Decide several requests, each as ``decide`` would, and in its place what that would raise.

        Those whose facts are in memory are begun together and share the wait for the journal.
        """
        looked = _each(lambda request: self.ready(request, origin, policy_set), requests)
        begun = iter(self.begin_all([each for each in looked if isinstance(each, Ready)]))
        others = [request for request, each in zip(requests, looked, strict=True) if each is None]
        reading = asyncio.gather(
            *[self._decide_from_store(request, origin, policy_set) for request in others], return_exceptions=True
        )
        found: list[Answer | BaseException | None] = []
        try:
            for request, each in zip(requests, looked, strict=True):
                found.append(await self._ended(request, origin, next(begun)) if isinstance(each, Ready) else each)
            read = iter(await reading)
        finally:
            reading.cancel()
        return [next(read) if each is None else each for each in found]

    async def _ended(
        self, request: EvaluationRequest, origin: Origin, begun: Begun | BaseException
    ) -> Answer | BaseException:
        if isinstance(begun, BaseException):
            return begun
        try:
            return await self._end(request, origin, begun)
        except Exception as error:  # noqa: BLE001 - of one question; the others get their answers
            return error

    def ready(self, request: EvaluationRequest, origin: Origin, asked: PolicySet | None) -> Ready | None:
        """Return a question that can be decided by facts in memory, with these; None where the store must be asked."""
        came, policy_set = time.perf_counter(), asked or self.policy_set
        facts = self._information.facts_now(request.subject.id, _patient_of(request))
        if facts is None or request.resource.type in policy_set.vocabulary.types or asks_for_more(request):
            return None
        return Ready(request, origin, asked, facts, came)

    def begin_all(self, questions: Sequence[Ready]) -> list[Begun | BaseException]:
        """
        Decide questions and hand their entries over, without waiting; what goes wrong with one stands in its place.

        Step by step, and not one question after the other, by one moment: a whole decision is more code than the
        processor keeps at hand, one step is not, and what it has just run for one question it runs faster for the next.

        Whoever begins ends: once ``written`` is done, by ``end``, or by ``end_unwritten`` if it failed.
        """
        made = _each(partial(self._made, self._clock.now()), questions)
        return _each(self._handed_over, _each(self._drawn_up, made))

    def _made(self, now: Now, ready: Ready) -> _Made:
        request, origin, facts = ready.request, ready.origin, ready.facts
        policy_set = ready.asked or self.policy_set
        decision = self._decide(policy_set, request, facts, now, capabilities_of(request, origin))
        evaluated = Evaluated(decision, facts, NOTHING, facts, now)
        return _Made(request, origin, ready.asked, policy_set, evaluated, ready.came)

    async def _decide_from_store(
        self, request: EvaluationRequest, origin: Origin, asked: PolicySet | None
    ) -> Answer:  # fmt: skip
        began, policy_set = time.perf_counter(), asked or self.policy_set
        evaluated = await self._evaluate(policy_set, request, origin)
        made = _Made(request, origin, asked, policy_set, evaluated, began)
        return await self._end(request, origin, self._handed_over(self._drawn_up(made)))

    def _drawn_up(self, made: _Made) -> _Drawn:
        request, origin, evaluated = made.request, made.origin, made.evaluated
        answer = self._answer(evaluated.decision, made.ruled, None, evaluated)
        draft = self._drafts.draft(answer, request, origin, evaluated.facts, evaluated.whole, evaluated.now.hi)
        return _Drawn(made, answer, draft, _entry("decision", answer, draft, evaluated.now))

    def _handed_over(self, drawn: _Drawn) -> Begun:
        made, draft = drawn.made, drawn.draft
        if self._untold is not None:
            self._tell(self._untold)
        try:
            written = self._keep(draft, drawn.entry)
        except JournalError as error:
            written = _refused(error)
        return Begun(drawn.answer, made.evaluated.facts, written, made.asked, made.ruled, made.began)

    async def _end(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer:
        """Wait until the entry lasts, and return what may be sent then."""
        try:
            await begun.written
        except JournalError:
            return self.end_unwritten(request, origin, begun)
        return self.end(request, origin, begun) or await self.end_anew(request, origin, begun)

    def end(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer | None:
        """
        Return what may be sent at this very moment, now that the entry lasts.

        None where something changed meanwhile, or lease, term or token ended: then ``end_anew`` must be asked.
        """
        if not self._may_end(request, origin, begun.answer):
            return None
        return self._noted(request, origin, begun, begun.answer)

    def end_unwritten(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer:
        """Return the denial that is sent, now that the entry will never last."""
        return self._unwritten(request, origin, begun, begun.answer.id)

    async def end_anew(self, request: EvaluationRequest, origin: Origin, begun: Begun) -> Answer:
        """Decide once more, since what was decided may not be sent; return what may."""
        try:
            answer = await self._again(begun.asked, request, origin, begun.answer)
        except JournalError:
            return self._unwritten(request, origin, begun)  # by another id: under this one a permit stands for good
        return self._noted(request, origin, begun, answer)

    def _unwritten(
        self, request: EvaluationRequest, origin: Origin, begun: Begun, number: str | None = None
    ) -> Answer:  # fmt: skip
        self._untold = self._policy_told
        denied = self._answer(deny("deny.audit_unavailable"), begun.ruled, number)
        return self._noted(request, origin, begun, denied)

    def _noted(self, request: EvaluationRequest, origin: Origin, begun: Begun, answer: Answer) -> Answer:
        if self.on_permit is not None and answer.decision.allowed:
            self.on_permit(answer.id, origin, org_of(request, begun.facts))
        self._metrics.decided(origin.listener, answer.decision.reason, time.perf_counter() - begun.began)
        return answer

    def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
        """
        Tell whether an answer to *request* may be sent at this very moment: a denial always.

        ``decide`` has asked it last; whoever holds answers back, as a batch does, asks again before they leave.
        """
        if not answer.decision.allowed:
            return True
        if answer.rests_on is None:
            return False
        policy_set, facts, beside, moment = answer.rests_on
        return self._may_answer(policy_set) and self._still_stands(policy_set, request, facts, beside, moment)

    def _may_end(self, request: EvaluationRequest, origin: Origin, answer: Answer) -> bool:
        """Tell whether it may be sent, to whoever's token may have ended while its entry was written."""
        return (not answer.decision.allowed or time.time() < origin.good_until) and self.may_send(request, answer)

    async def take_back(
        self, request: EvaluationRequest, origin: Origin, unsent: Answer, reason: str = "stale"
    ) -> Answer:
        """Journal that a permit was never sent, or let nothing happen, and return the denial in its place."""
        answer, now = self._answer(deny(f"deny.{reason}"), self.policy_set), self._clock.now()
        try:
            await self._append("not_sent", unsent, request, origin, None, now)
            await self._append("decision", answer, request, origin, None, now)
        except JournalError:
            self._metrics.unjournaled += 1
        return answer

    async def weigh(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet) -> Weighed:
        """
        Decide one request for a search, which is journaled as a whole; a failure of the store is a denial.

        In degraded mode everything is denied: a permit then owes a review, which a page of results brings to nobody.

        Raises:
            RequestError: the request carries a consistency token that was not issued here.
        """
        evaluated = await self._evaluate(policy_set, request, origin)
        decision, facts, beside = evaluated.decision, evaluated.facts, evaluated.beside
        if is_degraded(facts):
            decision = UNAVAILABLE
        resting = policy_set, request, facts, beside, evaluated.now.hi
        return Weighed(decision, lambda: self._may_answer(policy_set) and self._still_stands(*resting))

    async def record(self, entry: Struct, named: Named) -> None:
        """Append an entry that is no decision; raises JournalError if it is not on stable storage."""
        if self._untold is not None:
            self._tell(self._untold)
        await self._journal.append(self._encode(entry), personal_parts(self._encode, named))

    def stamped(self, change: ChangeEntry) -> ChangeEntry:
        """Return the entry of a change with its moment, the policy, and a position that reflects it."""
        moment, policy = render_instant(self._clock.now().hi), self.policy_set.digest[:DIGEST_SHOWN]
        return msgspec.structs.replace(change, at=moment, policy=policy, as_of=self._information.position)

    def put_in_force(
        self, policy_set: PolicySet, changes: Changes, *, must_apply: bool = False, release: Released | None = None
    ) -> None:
        """
        Decide by *policy_set* from now on; the journal tells it before the first decision under it.

        With *must_apply* nothing that an earlier set allows is sent any more, however far it has come, and
        whoever still asks by an earlier one (the rest of a batch, a request whose token took time) is denied.
        """
        if must_apply:
            self._since_must_apply = (policy_set,)
        elif self._since_must_apply is not None:
            self._since_must_apply = (*self._since_must_apply[-SETS_IN_HAND:], policy_set)
        self._tell(self._policy_entry(self.policy_set.digest, policy_set, changes, release))
        self.policy_set = policy_set
        self._drafts.forget()

    def begin(self, release: Released | None = None) -> None:
        """Let the journal tell which policy is in force as the process begins; needs the running loop."""
        self._tell(self._policy_entry("", self.policy_set, Changes(), release))

    def _policy_entry(self, before: str, policy_set: PolicySet, changes: Changes, release: Released | None) -> _Told:
        switches = msgspec.to_builtins(policy_set.vocabulary.switches)
        entry = PolicyEntry(
            "policy", render_instant(self._clock.now().hi), before, policy_set.digest, switches,
            changes.added, changes.removed, changes.changed, besides=changes.besides,
        )  # fmt: skip
        if release is None:
            return self._encode(entry), ()
        by = ReleasedBy(release.author, release.approval, release.why)
        return self._encode(msgspec.structs.replace(entry, generation=release.generation)), (self._encode(by),)

    def _tell(self, entry: _Told) -> None:
        """Append an entry about the policy; if the journal fails, it is appended again before the next decision."""
        self._policy_told, self._untold = entry, None
        self._telling = asyncio.ensure_future(self._confirm(self._journal.append(*entry), entry))

    async def _confirm(self, written: Awaitable[None], entry: _Told) -> None:
        try:
            await written
        except JournalError:
            self._untold = entry

    def _may_answer(self, policy_set: PolicySet) -> bool:
        """Tell whether no set that must apply has come since this one was in force."""
        since = self._since_must_apply
        return since is None or any(policy_set is each for each in since)

    async def record_refusal(self, reason: str, origin: Origin, subject: str | None = None) -> str:
        """
        Journal a refusal that was settled before any evaluation; return its id.

        The refusal stands whether or not its entry could be written.
        """
        answer = self._answer(deny(f"deny.{reason}"), self.policy_set)
        entry = Entry(
            "refusal", answer.id, render_instant(self._clock.now().hi), origin.listener, False,
            answer.decision.reason, answer.policy, point=origin.point,
        )  # fmt: skip
        named = Named(subject, origin.actors, origin.traceparent, jti=origin.jti)
        self._metrics.decided(origin.listener, answer.decision.reason, 0.0)
        try:
            await self._journal.append(self._encode(entry), personal_parts(self._encode, named))
        except JournalError:
            self._metrics.unjournaled += 1
        return answer.id

    async def _evaluate(self, policy_set: PolicySet, request: EvaluationRequest, origin: Origin) -> Evaluated:
        subject, patient, context = request.subject.id, _patient_of(request), request.context
        token = None
        if context is not None and context.consistency_token is not None:
            token = self._tokens.read_token(context.consistency_token)
        try:
            facts = await self._read(subject, patient, token)
            types = policy_set.vocabulary.types
            named = named_beside(request, types)
            beside = tuple([(who, whom, await self._read(who, whom, token)) for who, whom in named])
        except StoreUnavailableError:
            if token is not None:
                return Evaluated(deny("deny.not_fresh"), None, NOTHING, None, self._clock.now())
            return self._evaluate_last_known(policy_set, request, origin)
        whole, now = joined(request, facts, beside), self._clock.now()
        decision = self._decide(policy_set, request, whole, now, capabilities_of(request, origin))
        return Evaluated(decision, facts, beside, whole, now)

    def _evaluate_last_known(self, policy_set: PolicySet, request: EvaluationRequest, origin: Origin) -> Evaluated:
        """Decide without the store, as far as that may be done; facts of others beside are not known then."""
        now, facts = self._clock.now(), None
        if next(named_beside(request, policy_set.vocabulary.types), None) is None:
            facts = self._information.last_known(
                request.subject.id, _patient_of(request), presumed=is_young(origin.issued_at, now)
            )
        if facts is None:
            return Evaluated(UNAVAILABLE, None, NOTHING, None, now)
        decision = self._decide(policy_set, request, facts, now, capabilities_of(request, origin))
        decision = narrowed(decision, policy_set.vocabulary)
        self._metrics.degraded[decision.allowed] += 1
        return Evaluated(decision, facts, NOTHING, facts, now)

    async def _read(self, subject: str | None, patient: str | None, token: Position | None) -> Facts:
        facts = self._information.facts_now(subject, patient)
        if facts is None or (token is not None and not self._information.usable(facts, subject, patient, token)):
            facts = await self._information.fetch(subject, patient, token)
        return facts

    def _still_stands(
        self, policy_set: PolicySet, request: EvaluationRequest, facts: Facts | None, beside: tuple[Reading, ...],
        moment: Instant,
    ) -> bool:  # fmt: skip
        """
        Tell whether a permit may still be sent: nothing changed while its entry was written, and the lease holds.

        Nor has a term ended since *moment*, however long the disk or the rest of a batch took.  It is the last test.
        """
        usable = self._information.usable
        if facts is None or self._clock.now().hi >= _until(policy_set, facts, beside, moment):
            return False
        if is_degraded(facts):
            return self._information.is_last_known(facts, request.subject.id, _patient_of(request))
        return usable(facts, request.subject.id, _patient_of(request)) and all(
            usable(known, who, whom) for who, whom, known in beside
        )

    async def _again(
        self, asked: PolicySet | None, request: EvaluationRequest, origin: Origin, unsent: Answer
    ) -> Answer:
        """
        Decide once more, or deny, where something changed while the entry was written; the first answer is never sent.

        A request that was read by the routes of one policy set is decided by no other, so it may end as a denial.
        """
        policy_set = asked or self.policy_set
        evaluated = await self._evaluate(policy_set, request, origin)
        facts, now = evaluated.facts, evaluated.now
        answer = self._answer(evaluated.decision, policy_set, None, evaluated)
        await self._append("not_sent", unsent, request, origin, None, now)
        await self._append("decision", answer, request, origin, facts, now, evaluated.whole)
        if not self._may_end(request, origin, answer):
            await self._append("not_sent", answer, request, origin, None, now)
            answer = self._answer(deny("deny.stale"), policy_set)
            await self._append("decision", answer, request, origin, facts, now)
        return answer

    def _answer(
        self, decision: Decision, policy_set: PolicySet, number: str | None = None, by: Evaluated | None = None
    ) -> Answer:  # fmt: skip
        identifier = number or f"{self._process}-{next(self._numbers):x}"
        return Answer(
            identifier,
            decision,
            policy_set.coarse(decision.reason),
            tuple([obligation_of(identifier, n, duty) for n, duty in enumerate(decision.duties, 1)]),
            policy_set.digest[:DIGEST_SHOWN],
            self._tokens.issue_token(self._information.position),
            by is not None and is_degraded(by.facts),
            (policy_set, None, NOTHING, 0) if by is None else (policy_set, by.facts, by.beside, by.now.hi),
        )

    def _append(
        self, kind: str, answer: Answer, request: EvaluationRequest, origin: Origin, facts: Facts | None, now: Now,
        whole: Facts | None = None,
    ) -> Awaitable[None]:  # fmt: skip
        """
        Append what is told of a decision; what an emergency rests on may go into the reserve.

        Where rules decided, *whole* is what they knew: with it the entry can be decided again.
        """
        draft = self._drafts.draft(answer, request, origin, facts, whole, now.hi)
        return self._keep(draft, _entry(kind, answer, draft, now))

    def _keep(self, draft: Draft, entry: bytes) -> Awaitable[None]:
        if not draft.known:
            return self._journal.append(entry, draft.parts, emergency=draft.is_emergency)
        return self._journal.append(entry, draft.parts, emergency=draft.is_emergency, facts=draft.known)


def _entry(kind: str, answer: Answer, draft: Draft, now: Now) -> bytes:
    return draft.entry(kind, answer.id, render_instant(now.hi), now.hi - now.lo)


def _each(step: Callable[[GivenT], MadeT], given: Sequence[GivenT | BaseException]) -> list[MadeT | BaseException]:
    """Take a step for each; what goes wrong with one stands in its place, and is not tried further."""
    made: list[MadeT | BaseException] = []
    for each in given:
        if isinstance(each, BaseException):
            made.append(each)
            continue
        try:
            made.append(step(each))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - of one; the others get their answers
            made.append(error)
    return made


async def _refused(error: JournalError) -> None:
    raise error


def _until(policy_set: PolicySet, facts: Facts, beside: tuple[Reading, ...], moment: Instant) -> Instant:
    """Return the first moment after *moment* at which what was decided for it may be decided otherwise."""
    switches = policy_set.vocabulary.switches
    until = next_turn(facts.patient, moment, switches)
    if beside:
        until = min(until, *[next_turn(known.patient, moment, switches) for _, _, known in beside])
    return min(until, moment + PRESENT_LASTS) if policy_set.reads_present else until


def _patient_of(request: EvaluationRequest) -> str | None:
    properties = request.resource.properties
    return properties.patient if properties is not None else None
