"""JSON bytes ↔ core values, for AuthZEN callers.  What is sent of an answer is decided here and nowhere else."""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.decision import Decision
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer, Obligation

MAX_BODY_BYTES = 64 * 1024
_decode = msgspec.json.Decoder(EvaluationRequest).decode
_encode = msgspec.json.Encoder().encode
_decode_anything = msgspec.json.Decoder().decode
_BLANKS = b" \t\r\n"


class Explain(Struct, frozen=True):
    """The exact reason, for an enforcement point registered to see it."""

    reason: str
    basis: str | None
    rule: str | None
    law: tuple[str, ...]
    applied: tuple[str, ...]


class AnswerContext(Struct, frozen=True, omit_defaults=True):
    """AuthZEN's ``context`` of an answer."""

    id: str
    reason: str
    policy: str
    token: str
    obligations: tuple[Obligation, ...] = ()
    degraded: bool = False
    explain: Explain | None = None


class EvaluationResponse(Struct, frozen=True):
    """AuthZEN's answer: a denial has the same shape as a permit."""

    decision: bool
    context: AnswerContext


_decode_answer = msgspec.json.Decoder(EvaluationResponse).decode


@lru_cache(maxsize=256)
def decoder_of(kind: Any) -> Callable[[bytes], Any]:
    """Return what reads JSON as *kind*, made once."""
    return msgspec.json.Decoder(kind).decode


def decode_evaluation(body: bytes, kind: type[EvaluationRequest] = EvaluationRequest) -> EvaluationRequest:
    """
    Read an evaluation request of the *kind* that the policy set in force reads; a short one asked again is known.

    Raises:
        RequestError: with a sentence and the path of the first wrong field; it never repeats a value.
    """
    return _read_short(body, kind) if len(body) <= SHORT_BYTES else _read(body, kind)


def _read(body: bytes, kind: type[EvaluationRequest]) -> EvaluationRequest:
    try:
        request = _decode(body) if kind is EvaluationRequest else decoder_of(kind)(body)
    except msgspec.ValidationError as error:
        raise RequestError(sentence_of(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError("the body is not JSON: expected an object with subject, action and resource") from None
    if may_hide(body):
        refuse_unprintable(request)
    refuse_repeated_members(body)
    return request


_read_short = lru_cache(maxsize=1024)(_read)


def may_hide(body: bytes) -> bool:
    r"""
    Tell whether texts in JSON may hold what cannot be printed: in ASCII that takes an escape, or a DEL.

    Examples:
        >>> [may_hide(body) for body in (b'"a"', rb'"\u0000"', b'"\x7f"', b'"\xc2\x9b"')]
        [False, True, True, True]
    """
    return b"\\" in body or b"\x7f" in body or not body.isascii()


def refuse_unprintable(request: EvaluationRequest) -> None:
    """
    Refuse control characters in ids and names.

    Raises:
        RequestError: there are some.
    """
    resource = request.resource.properties
    patient = resource.patient if resource is not None else None
    named = (request.subject.type, request.subject.id, request.action.name, request.resource.type, request.resource.id)
    if not all(text.isprintable() for text in (*named, patient or "")):
        raise RequestError("expected ids and names without control characters")


def refuse_repeated_members(body: bytes) -> None:
    """
    Refuse an object that has a member twice: whoever reads the first and whoever reads the last would differ.

    Raises:
        RequestError: it has, or it is no JSON.
    """
    try:
        # What was read and written again lacks what was repeated; most callers write as we do, with or without blanks.
        again = _encode(_decode_anything(body))
        if again == body or again.translate(None, _BLANKS) == body.translate(None, _BLANKS):
            return
        json.loads(body, object_pairs_hook=_members)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise RequestError("the body is not JSON that is read one way only: a member may stand there twice") from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError
    return read


def encode_answer(answer: Answer, explain: bool) -> bytes:
    """Write an answer; the exact reason only where the caller may see it."""
    decision = answer.decision
    detail = None
    if explain:
        detail = Explain(decision.reason, decision.basis, decision.rule, decision.law, decision.applied)
    context = AnswerContext(
        answer.id, answer.reason, answer.policy, answer.token, answer.obligations, answer.degraded, detail
    )
    return _encode(EvaluationResponse(decision.allowed, context))


def decode_answer(body: bytes) -> Decision:
    """
    Read an answer back, as a caller that is shown the exact reason.

    Raises:
        RequestError: it is no answer of ours, or does not explain itself.
    """
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"expected an AuthZEN answer: {sentence_of(error)}") from None
    told = answer.context.explain
    if told is None:
        raise RequestError("the answer shows no exact reason: its caller is not registered to see one")
    duties = tuple(duty for obligation in answer.context.obligations for duty in _duties(obligation))
    return Decision(answer.decision, told.reason, told.basis, told.rule, told.law, duties, told.applied)


def _duties(obligation: Obligation) -> list[str]:
    """
    Write an obligation as duties.

    Examples:
        >>> _duties(Obligation("a-1.1", "redact", {"parts": ["o2", "o3"]}))
        ['redact:o2', 'redact:o3']
        >>> _duties(Obligation("a-1.2", "review", {"within_hours": 72}))
        ['review:72']
    """
    parts = [
        part for value in obligation.properties.values() for part in (value if isinstance(value, list) else [value])
    ]
    return [f"{obligation.type}:{part}" for part in parts] or [obligation.type]


def sentence_of(error: Exception) -> str:
    """Say what msgspec found: types and paths, and never a value."""
    text = str(error)
    if text.startswith("Invalid enum value"):
        text = "Expected one of the listed values" + text[text.rfind(" - at") :] if " - at" in text else text[:18]
    return text[:1].lower() + text[1:]
