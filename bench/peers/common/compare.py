"""Answers before speed: whoever answers another question than we do is not compared."""

from collections.abc import Sequence

from bench.peers.common.world import Question, World


class DisagreementError(Exception):
    """A peer answered otherwise; the text shows the question and all that bears on it."""


def compare(
    name: str, world: World, questions: Sequence[Question], ours: Sequence[bool], theirs: Sequence[bool]
) -> None:
    """
    Hold the answers against each other.

    Raises:
        DisagreementError: one differs, or one is missing.
    """
    for question, own, other in zip(questions, ours, theirs, strict=True):
        if own is not other:
            raise DisagreementError(
                f"{name} says {_word(other)} where we say {_word(own)}:\n  {question}\n"
                f"  asked by {world.people[question.who]}\n  about {world.patients[question.patient]}"
            )


def _word(allowed: bool) -> str:
    return "allow" if allowed else "deny"
