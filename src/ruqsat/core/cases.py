"""
Policy cases: what the rules promise, as data beside the rules.

A case says who asks what (``ask``), which answer is expected and which rule must
give it; an allow for the wrong reason fails.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.decision import Decision
from ruqsat.core.diagnostics import Diagnostic, Span
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts, entry_id
from ruqsat.core.instant import Now, at, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.spreadsheet import read_text
from ruqsat.core.vocabulary import Switches, parse_toml
from ruqsat.core.world import World, parse_world

Named = TypeVar("Named", SubjectFacts, PatientFacts)

NOON = datetime.fromisoformat("2026-11-24T10:00:00+05:00")
"""When a case happens that does not say."""


class PolicyCase(Struct, frozen=True, forbid_unknown_fields=True):
    """
    One case.

    Attributes:
        ask: ``subject action record [purposes…]``.
        expect: The exact reason.
        because: The rule that must settle it; left out, none may (silence, or an unreadable request).
        duties: The exact duties; left out, they are not compared.
        subject, action: Properties that are stated of them.
        type: The resource's.
        without: Documents of the world that this case leaves away.
        switches: Positions of switches of the vocabulary that differ in this case.
    """

    name: str
    ask: str
    expect: str
    because: str | None = None
    duties: tuple[str, ...] | None = None
    resource: dict[str, Any] = {}
    context: dict[str, Any] = {}
    subject: dict[str, Any] = {}
    action: dict[str, Any] = {}
    type: str = "Record"
    at: datetime = NOON
    without: tuple[str, ...] = ()
    switches: dict[str, Any] = {}
    store_down: bool = False


class CaseFile(Struct, frozen=True, forbid_unknown_fields=True):
    """All cases of one file."""

    case: tuple[PolicyCase, ...]


class CaseResult(Struct, frozen=True):
    """What came of one case; ``problem`` is empty if it is as promised."""

    file: str
    case: PolicyCase
    decision: Decision
    problem: str


def parse_cases(text: str, file: str) -> tuple[tuple[PolicyCase, ...], list[Diagnostic]]:
    """Read a ``*.test.toml``; the findings say what is wrong with it."""
    data, findings = parse_toml(text, file)
    if data is None:
        return (), findings
    try:
        return msgspec.convert(data, CaseFile).case, []
    except msgspec.ValidationError as error:
        return (), [Diagnostic(Span(file), "bad-case", _lower(error), "see the other case files for the fields")]


Variant = Callable[[Mapping[str, Any]], PolicySet]
"""Given positions of switches: the same rules under them."""


class Stage:
    """A world for many cases: its facts are made once for each choice of documents and of switches."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._made: dict[tuple[tuple[str, ...], Switches], _Projected] = {}

    def facts(self, without: tuple[str, ...], switches: Switches) -> "_Projected":
        """Return the facts of everybody in the world, without these documents."""
        key = without, switches
        if key not in self._made:
            kept = {name: document for name, document in self.world.consents.items() if name not in without}
            subjects, patients = project_world(msgspec.structs.replace(self.world, consents=kept), switches)
            self._made[key] = _Projected(_by_name(subjects), _by_name(patients), patients)
        return self._made[key]


class _Projected(NamedTuple):
    subjects: dict[str, SubjectFacts]
    patients: dict[str, PatientFacts]
    everybody: tuple[PatientFacts, ...]


def run_cases(
    policy_set: PolicySet, world: World, files: Mapping[str, Iterable[PolicyCase]], variant: Variant
) -> list[CaseResult]:
    """Decide every case, and compare."""
    stage = Stage(world)
    return [run_case(policy_set, stage, file, case, variant) for file, cases in files.items() for case in cases]


def run_case(policy_set: PolicySet, world: World | Stage, file: str, case: PolicyCase, variant: Variant) -> CaseResult:
    """Decide one case, and compare reason, rule and duties."""
    policy_set = set_for(case, policy_set, variant)
    request, facts, now = situation(policy_set, world, case)
    capabilities = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    decision = evaluate(policy_set, request, facts, now, capabilities)
    return CaseResult(file, case, decision, problem_with(case, decision))


def set_for(case: PolicyCase, policy_set: PolicySet, variant: Variant) -> PolicySet:
    """Return the set that decides a case: the pack's own, or that with the case's switches."""
    return variant(case.switches) if case.switches else policy_set


def situation(policy_set: PolicySet, world: World | Stage, case: PolicyCase) -> tuple[EvaluationRequest, Facts, Now]:
    """
    Return the request, the facts and the moment of a case; who asks many of one world, hands it in as a stage.

    Raises:
        msgspec.ValidationError: a field of the case's resource or context has a wrong type.
        ValueError: ``ask`` is not `subject action record [purposes…]`.
    """
    stage = world if isinstance(world, Stage) else Stage(world)
    world = stage.world
    subject, action, record, *purposes = case.ask.split()
    who, known = world.subjects.get(subject), world.records.get(record)
    resource = dict(case.resource)
    if known is not None and not resource:
        resource = {"patient": known.patient, "class": known.data_class}
    said = {"roles": list(who.roles), "org": who.org} if who is not None else {}
    request = msgspec.convert(
        {
            "subject": {"type": "user", "id": subject, "properties": said | case.subject},
            "action": {"name": action, "properties": case.action},
            "resource": {"type": case.type, "id": record, "properties": resource},
            "context": {"purpose": purposes} | case.context,
        },
        policy_set.request_type,
    )
    projected = stage.facts(case.without, policy_set.vocabulary.switches)
    facts = Facts(
        projected.subjects.get(subject),
        _named(projected.patients, resource.get("patient")),
        Position("cases", 0),
        not case.store_down,
        projected.everybody,
        _named(projected.subjects, case.context.get("recipient")),
        projected.subjects.get(entry_id(case.type, record)),
    )
    return request, facts, at(parse_instant(case.at.isoformat()))


def read_world(texts: Mapping[str, bytes], file: str) -> World:
    """
    Read a world file.

    Raises:
        ValueError: it is missing, or not a world; the message says where.
    """
    if file not in texts:
        raise ValueError(f"`{file}` is missing")
    text, findings = read_text(texts[file], file)
    data, found = parse_toml(text or "", file)
    findings += found
    if data is None or findings:
        raise ValueError(findings[0].message)
    return parse_world(data)


def problem_with(case: PolicyCase, decision: Decision) -> str:
    """Say how a decision differs from what the case promises; empty if it does not."""
    if decision.reason != case.expect:
        return f"expected `{case.expect}`, got `{decision.reason}` by `{decision.rule or 'no rule'}`"
    if decision.rule != case.because:
        return f"expected it by `{case.because or 'no rule'}`, got it by `{decision.rule or 'no rule'}`"
    if case.duties is not None and set(case.duties) != set(decision.duties):
        return f"expected the duties `{' '.join(case.duties)}`, got `{' '.join(decision.duties)}`"
    return ""


def _by_name(things: Iterable[Named]) -> dict[str, Named]:
    """Return things by name; of two of one name the first."""
    named: dict[str, Named] = {}
    for thing in things:
        named.setdefault(thing.id, thing)
    return named


def _named(things: Mapping[str, Named], name: object) -> Named | None:
    return things.get(name) if isinstance(name, str) else None


def _lower(error: Exception) -> str:
    return str(error)[:1].lower() + str(error)[1:]
