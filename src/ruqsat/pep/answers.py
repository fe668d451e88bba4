"""
What the sidecar answered, as an enforcement point may take it.

Pure.  An answer that is not exactly what AuthZEN 1.0 (section 5) and the obligations
draft describe is no answer, and a permit whose blocking duty nobody here carries
out is a denial.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Struct

MAX_ANSWER_BYTES = 2 * 1024 * 1024
NOT_BLOCKING = frozenset(
    {
        "notify_subject", "notify_subject_deferred", "no_relink", "no_redisclose", "no_reuse", "minimum_necessary",
        "alert_privacy_officer", "review", "human_approval", "encrypt_transit", "provenance", "supervise",
        "review_sampled",
    }
)  # fmt: skip
"""Duties of the shipped vocabulary that the sidecar queues; any other that a client does not know is taken to block."""


class Duty(Struct, frozen=True):
    """A duty that comes with an answer."""

    type: str
    properties: dict[str, Any] = {}


class Decision(Struct, frozen=True):
    """
    What the sidecar decided; true in a condition only if it allowed.

    Attributes:
        allowed: True only if the sidecar permitted and every blocking duty can be carried out here.
        reason: What a client may learn: the sidecar's word, or ``unavailable``, ``odd_answer``, ``duty_unsupported``.
        id: The decision's id in the journal; empty where the sidecar gave none.
        token: Consistency token of what was seen; a later question that carries it is answered no staler.
        duties: What comes with the answer.  Whoever declared a blocking one must carry it out, or release nothing.

    Examples:
        >>> bool(Decision(True, "permitted")), bool(Decision(False, "not_permitted"))
        (True, False)
    """

    allowed: bool
    reason: str
    id: str = ""
    token: str | None = None
    duties: tuple[Duty, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether it is allowed, so that a condition cannot take a denial for something."""
        return self.allowed


UNAVAILABLE = Decision(False, "unavailable")
ODD = Decision(False, "odd_answer")


class _Context(Struct, frozen=True):
    id: str
    reason: str
    token: str | None = None
    obligations: tuple[Duty, ...] = ()


class _Answer(Struct, frozen=True):
    decision: bool
    context: _Context


def strict_json(body: bytes) -> Any:
    """
    Read JSON that every reader reads alike, numbers with all their digits.

    Raises:
        ValueError: it is no JSON in UTF-8, or has a member twice, or a number that is none.
        RecursionError: it is nested too deeply.
    """
    return json.loads(
        body.decode("utf-8"), object_pairs_hook=_members, parse_float=Decimal, parse_constant=_no_constant
    )


def read_decision(body: bytes, able: frozenset[str]) -> Decision:
    """
    Read the answer to one question; what is no answer is a denial.

    Args:
        able: Blocking duties that the asker carries out.
    """
    try:
        return _taken(strict_json(body), able)
    except (ValueError, RecursionError):
        return ODD


def read_decisions(body: bytes, count: int, able: frozenset[str]) -> list[Decision]:
    """Read the answers to *count* questions, in their order; all are denied if there are not just as many."""
    try:
        said = strict_json(body)
    except (ValueError, RecursionError):
        return [ODD] * count
    answers = said.get("evaluations") if isinstance(said, dict) else None
    if not isinstance(answers, list) or len(answers) != count:
        return [ODD] * count
    return [_taken(answer, able) for answer in answers]


def _taken(said: Any, able: frozenset[str]) -> Decision:
    try:
        answer = msgspec.convert(said, _Answer)
    except (msgspec.ValidationError, RecursionError):
        return ODD
    context = answer.context
    if answer.decision and not all(_can_be_done(duty, able) for duty in context.obligations):
        return Decision(False, "duty_unsupported", context.id, context.token)
    return Decision(answer.decision, context.reason, context.id, context.token, context.obligations)


def _can_be_done(duty: Duty, able: frozenset[str]) -> bool:
    return duty.type in NOT_BLOCKING or (duty.type in able and (duty.type != "redact" or bool(parts_of(duty))))


def parts_of(duty: Duty) -> frozenset[str]:
    """
    Return the parts that a duty names; none if it names them in no way that can be followed.

    Examples:
        >>> sorted(parts_of(Duty("redact", {"parts": ["o2", "o3"]}))), parts_of(Duty("redact", {"parts": "o2"}))
        (['o2', 'o3'], frozenset())
    """
    parts = duty.properties.get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, str) and part for part in parts):
        return frozenset()
    return frozenset(parts)


def _members(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a member stands there twice")
    return read


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
