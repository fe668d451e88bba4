"""What the decision point answers: the decision, what a client may learn of it, and the duties that come with it."""

from functools import lru_cache

from msgspec import Struct

from ruqsat.core.decision import Decision
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.service.facts_beside import Reading

DIGEST_SHOWN = 16
"""Hexadecimal digits of the policy digest in answers and entries; the whole one stands in the policy's own entry."""


class Obligation(Struct, frozen=True):
    """A duty of the enforcement point, as the AuthZEN obligations draft writes it."""

    id: str
    type: str
    properties: dict[str, int | list[str]]


class Answer(Struct, frozen=True):
    """
    The decision point's answer.

    ``reason`` is what a client may learn; the exact reason stands in ``decision``.  ``rests_on``
    is what a permit rests on, for whoever cannot send it at once (``may_send``): the set, the facts,
    and the latest moment that it was decided for.
    """

    id: str
    decision: Decision
    reason: str
    obligations: tuple[Obligation, ...]
    policy: str
    token: str
    degraded: bool = False
    rests_on: "tuple[PolicySet, Facts | None, tuple[Reading, ...], Instant] | None" = None


def obligation_of(decision: str, number: int, duty: str) -> Obligation:
    """
    Write a duty as an obligation.

    Examples:
        >>> obligation_of("a-1", 2, "review:72")
        Obligation(id='a-1.2', type='review', properties={'within_hours': 72})
    """
    kind, properties = _read_duty(duty)
    return Obligation(f"{decision}.{number}", kind, properties)


@lru_cache(maxsize=1024)
def _read_duty(duty: str) -> tuple[str, dict[str, int | list[str]]]:
    """Return a duty's kind and its properties, which obligations share and nobody changes."""
    kind, _, parameter = duty.partition(":")
    if kind == "review":
        return kind, {"within_hours": int(parameter)}
    return kind, {"parts": [parameter]} if parameter else {}
