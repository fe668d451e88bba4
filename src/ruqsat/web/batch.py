"""
AuthZEN evaluations: several questions in one call.

What a question does not say itself, the call says for all, each entity whole and
never field by field.  A question that cannot be read is answered by an error in
its own place, which is no permit.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from functools import lru_cache
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest
from ruqsat.core.stated import entity_types
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer
from ruqsat.service.origin import Origin
from ruqsat.web.wire import (
    decode_evaluation,
    decoder_of,
    encode_answer,
    may_hide,
    refuse_repeated_members,
    refuse_unprintable,
    sentence_of,
)  # fmt: skip

MAX_BATCH_BYTES = 1024 * 1024
MAX_BATCH = 1000
AT_ONCE = 50
"""How many questions are decided together; between one lot and the next others have their turn."""

Semantic = Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"]
Question = EvaluationRequest | RequestError
Found = Answer | BaseException

_log = logging.getLogger("ruqsat.json")


class Said(Struct, frozen=True):
    """The entities as they were written; what is left out is not null."""

    subject: Raw | UnsetType = UNSET
    action: Raw | UnsetType = UNSET
    resource: Raw | UnsetType = UNSET
    context: Raw | UnsetType = UNSET


class _Options(Struct, frozen=True):
    evaluations_semantic: Semantic = "execute_all"


class _Call(Said, frozen=True):
    evaluations: tuple[Raw, ...] | None = None
    options: _Options | None = None


class Batch(Struct, frozen=True):
    """A call: its questions in order, each read or found unreadable, and when to stop."""

    questions: tuple[Question, ...]
    semantic: Semantic


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_said = msgspec.json.Decoder(Said).decode


def read_batch(body: bytes, kind: type[EvaluationRequest] = EvaluationRequest) -> Batch | EvaluationRequest:
    """
    Read a call; without questions of its own it is a single one, of the *kind* that the policy set reads.

    Raises:
        RequestError: the call, or what it says for all its questions, cannot be read; no value is repeated.
    """
    try:
        call = _decode_call(body)
    except msgspec.ValidationError as error:
        raise RequestError(sentence_of(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError("the body is not JSON: expected an object with evaluations") from None
    if not call.evaluations:
        return decode_evaluation(body, kind)
    if len(call.evaluations) > MAX_BATCH:
        raise RequestError(f"expected at most {MAX_BATCH} evaluations in one call")
    refuse_repeated_members(body)
    of_all = read_entities(call, kind)
    return Batch(
        tuple([_question(raw, of_all, kind) for raw in call.evaluations]),
        call.options.evaluations_semantic if call.options is not None else "execute_all",
    )


def read_entities(said: Said, kind: type[EvaluationRequest]) -> dict[str, Any]:
    """
    Read the entities that are there, each whole.

    Raises:
        RequestError: one cannot be read; no value is repeated.
    """
    found = {}
    for name, wanted in entity_types(kind).items():
        raw = getattr(said, name)
        if raw is not UNSET:
            try:
                found[name] = decoder_of(wanted)(raw)
            except msgspec.ValidationError as error:
                raise RequestError(f"`{name}`: {sentence_of(error)}") from None
    return found


def _question(raw: Raw, of_all: dict[str, Any], kind: type[EvaluationRequest]) -> Question:
    try:
        said = bytes(raw)
        whole = None if of_all else _whole_short(said, kind) if len(said) <= SHORT_BYTES else _whole(said, kind)
        if whole is not None:
            return whole
        entities = of_all | read_entities(_decode_said(raw), kind)
        missing = [name for name in ("subject", "action", "resource") if name not in entities]
        if missing:
            return RequestError(f"missing: {', '.join(missing)}")
        request = kind(**entities)
        refuse_unprintable(request)
    except msgspec.ValidationError as error:
        return RequestError(sentence_of(error))
    except RequestError as error:
        return error
    return request


def _whole(raw: bytes, kind: type[EvaluationRequest]) -> EvaluationRequest | None:
    """Read a question that says everything itself in one go; None where the longer way must say what is wrong."""
    try:
        request: EvaluationRequest = decoder_of(kind)(raw)
    except msgspec.ValidationError:
        return None
    if may_hide(raw):
        refuse_unprintable(request)
    return request


_whole_short = lru_cache(maxsize=1024)(_whole)


class Decides(Protocol):
    """What a batch needs of the decision point."""

    async def decide_all(
        self, requests: Sequence[EvaluationRequest], origin: Origin, policy_set: PolicySet
    ) -> list[Found]:
        """Decide questions, each by itself; what went wrong with one stands in its place."""
        ...

    def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
        """Tell whether an answer may be sent at this very moment."""
        ...

    async def take_back(self, request: EvaluationRequest, origin: Origin, unsent: Answer) -> Answer:
        """Return the denial in the place of a permit that was never sent."""
        ...


async def answer_batch(batch: Batch, point: Decides, origin: Origin, policy_set: PolicySet) -> bytes:
    """
    Answer the questions in their order, as far as the call wants them answered.

    The first permits wait for the last question; so each is tested once more, after every
    wait: what has been taken away meanwhile is denied, as to whoever asks it alone now.
    What then stands behind the answer that the call ends with is not sent, and is taken back, too.
    """

    answers = [each async for each in _answers(batch, point, origin, policy_set)]
    while gone := _gone(batch, answers, point):
        for number, question, answer in gone:
            answers[number] = await point.take_back(question, origin, answer)
    kept = _as_far_as_asked(batch.semantic, answers)
    said = [encode_answer(each, origin.explain) if isinstance(each, Answer) else _error(each) for each in kept]
    return b'{"evaluations":[' + b",".join(said) + b"]}"


def _gone(batch: Batch, answers: Sequence[Found], point: Decides) -> list[tuple[int, EvaluationRequest, Answer]]:
    """Return the permits that may not be sent any more, or are behind one with which the call ends."""
    found, is_over = list[tuple[int, EvaluationRequest, Answer]](), False
    for number, (question, answer) in enumerate(zip(batch.questions, answers, strict=False)):
        if isinstance(answer, Answer) and isinstance(question, EvaluationRequest):
            is_behind = is_over and answer.decision.allowed
            if is_behind or not point.may_send(question, answer):
                found.append((number, question, answer))
        is_over = is_over or _ends(batch.semantic, answer)
    return found


def _ends(semantic: Semantic, answer: Found) -> bool:
    allowed = isinstance(answer, Answer) and answer.decision.allowed
    return semantic == ("permit_on_first_permit" if allowed else "deny_on_first_deny")


def _as_far_as_asked(semantic: Semantic, answers: Sequence[Found]) -> Sequence[Found]:
    last = next((number for number, each in enumerate(answers) if _ends(semantic, each)), len(answers))
    return answers[: last + 1]


async def _answers(
    batch: Batch, point: Decides, origin: Origin, policy_set: PolicySet
) -> AsyncIterator[Found]:  # fmt: skip
    at_once = AT_ONCE if batch.semantic == "execute_all" else 1
    for first in range(0, len(batch.questions), at_once):
        lot = batch.questions[first : first + at_once]
        readable = [each for each in lot if isinstance(each, EvaluationRequest)]
        if first:
            await asyncio.sleep(0)  # deciding waits for nobody where facts are in memory and the journal may lose
        decided = iter(await point.decide_all(readable, origin, policy_set))
        for question in lot:
            answer = _told(next(decided)) if isinstance(question, EvaluationRequest) else question
            yield answer
            if _ends(batch.semantic, answer):
                return


def _told(found: Found) -> Found:
    """Return what was found, and log it if it is a failure of ours: the other questions get their answers."""
    if not isinstance(found, Answer | RequestError):
        _log.error("evaluation_failed", exc_info=found)
    return found


def _error(error: BaseException) -> bytes:
    status, message = (400, str(error)) if isinstance(error, RequestError) else (500, "the decision point failed")
    return msgspec.json.encode({"decision": False, "context": {"error": {"status": status, "message": message}}})
