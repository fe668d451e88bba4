"""What every world of the benches is: a pack, people, questions, and the right answers."""

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, PatientFacts, SubjectFacts
from ruqsat.core.facts_lines import render_line
from ruqsat.core.instant import Instant, at, parse_instant
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.settings import BLOCKING_DUTIES

ROOT = Path(__file__).resolve().parents[1]
MOMENT = parse_instant("2026-06-01T04:00:00Z")
CAPABLE = frozenset(BLOCKING_DUTIES)
EMERGENCIES, DELEGATIONS = 0.05, 0.01
"""Shares of the questions."""

Person = SubjectFacts | PatientFacts


class Question(msgspec.Struct, frozen=True):
    """
    One AuthZEN evaluation.

    Attributes:
        body: As a caller sends it.
        kind: What sort of question it is; the mix of kinds is the world's.
        subject: Who asks.
        patient: Whom it is about, if anybody.
    """

    body: bytes
    kind: str
    subject: str
    patient: str | None = None

    @property
    def request(self) -> dict[str, Any]:
        """The body, read."""
        read: dict[str, Any] = json.loads(self.body)
        return read


class Withdrawal(NamedTuple):
    """A consent that is withdrawn so many seconds after the beginning of a run."""

    after: float
    patient: str
    consent: str


class World(Protocol):
    """What every world has."""

    texts: Mapping[str, bytes]
    policy_set: PolicySet

    def people(self) -> Iterator[Person]:
        """Yield everybody, subjects first."""
        ...

    def facts_of(self, question: Question) -> Facts:
        """Return what the store knows of those in a question."""
        ...

    def questions(self, count: int, stream: str = "") -> Iterator[Question]:
        """Yield questions; the same for the same stream."""
        ...

    def right(self, question: Question, now: Instant | None = None) -> Decision:
        """Return the right answer at a moment."""
        ...


class Written:
    """How a world is written down; the parts that worlds share."""

    texts: Mapping[str, bytes]
    moment: Instant

    @cached_property
    def policy_set(self) -> PolicySet:
        """The pack, compiled."""
        found, findings = load_pack(self.texts)
        assert found is not None, findings[:5]
        return found

    def right(self, question: Question, now: Instant | None = None) -> Decision:
        """Return the right answer at a moment, the world's own if none is given."""
        request = msgspec.json.decode(question.body, type=self.policy_set.request_type)
        return self.decide(request, self.facts_of(question), now)

    def decide(self, request: EvaluationRequest, facts: Facts, now: Instant | None = None) -> Decision:
        """Return what the product decides, for a caller that can carry out every duty."""
        return evaluate(self.policy_set, request, facts, at(self.moment if now is None else now), CAPABLE)

    def facts_of(self, question: Question) -> Facts:
        raise NotImplementedError

    def people(self) -> Iterator[Person]:
        raise NotImplementedError

    def questions(self, count: int, stream: str = "") -> Iterator[Question]:
        raise NotImplementedError

    def write_pack(self, folder: Path) -> None:
        """Write the pack into a folder."""
        for name, text in self.texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text)

    def write_facts(self, path: Path) -> tuple[int, int]:
        """Write everybody into a file for ``ruqsat facts import``; return how many subjects and patients there are."""
        subjects = patients = 0
        with path.open("wb") as file:
            file.write(b'{"ruqsat_facts":1}\n')
            for each in self.people():
                file.write(render_line(each))
                patients += isinstance(each, PatientFacts)
                subjects += isinstance(each, SubjectFacts)
        return subjects, patients
