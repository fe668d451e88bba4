"""
Conformance scenarios: facts, a request and the answer that must come of it, as data.

A file holds ``fixtures`` (people, patients, documents), ``defaults`` (the moment, the
circumstances) and ``scenarios``; what a scenario states of circumstances that only
the store may know becomes facts.
"""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import Now, at, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest, RequestContext
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import parse_world

_DOCUMENTS = ("consents", "delegations", "reps", "btg")
_LONG_AGO = "2020-01-01T00:00:00Z"
_CATEGORIES = {
    "pharmacist": "provider_pharma", "insurer": "reimbursement_fund", "quality_expert": "control_medical",
    "epidemiologist": "control_sanepid", "analyst": "authorized_body", "researcher": "research_organisation",
}  # fmt: skip
"""
A scenario says nothing of employers: each is what its staff's role belongs to, and undertook to comply.

Whoever holds a role of care besides works for a provider.
"""


class Expected(Struct, frozen=True):
    """The answer of a scenario; ``applied`` is compared only if it is stated."""

    decision: str
    reason: str
    basis: str | None = None
    obligations: tuple[str, ...] = ()
    applied: tuple[str, ...] | None = None


class Scenario(Struct, frozen=True):
    """One scenario, with the parts of its file that it needs."""

    id: str
    title: str
    request: dict[str, Any]
    expect: Expected
    given: dict[str, Any] = {}
    policy: dict[str, Any] = {}


class ScenarioFile(Struct, frozen=True):
    """A file of scenarios."""

    fixtures: dict[str, dict[str, Any]]
    defaults: dict[str, Any]
    scenarios: tuple[Scenario, ...]


class Outcome(Struct, frozen=True):
    """
    What came of one scenario.

    Attributes:
        decision: The answer, or the first that differs; None if it cannot be run.
        differences: What is not as expected, in words; empty if it is met.
        differed: Which of several askings were not as expected, where it was asked several times.
    """

    id: str
    title: str
    decision: Decision | None
    differences: tuple[str, ...]
    differed: tuple[str, ...] = ()


def run_scenarios(
    file: ScenarioFile, policy_set: PolicySet, variant: Callable[[Mapping[str, Any]], PolicySet]
) -> list[Outcome]:
    """
    Decide every scenario, and compare.

    Args:
        variant: The same rules under other switches, for scenarios that state some.
    """
    return [_run(file, scenario, policy_set, variant) for scenario in file.scenarios]


def _run(
    file: ScenarioFile, scenario: Scenario, policy_set: PolicySet, variant: Callable[[Mapping[str, Any]], PolicySet]
) -> Outcome:
    try:
        decision = decide_scenario(file, scenario, variant(scenario.policy) if scenario.policy else policy_set)
    except Exception as error:  # noqa: BLE001 - whatever one scenario holds, the others are run
        return cannot_be_run(scenario, error)
    return Outcome(scenario.id, scenario.title, decision, differences(decision, scenario.expect))


def cannot_be_run(scenario: Scenario, error: Exception) -> Outcome:
    """Return the outcome of a scenario that holds something that cannot be read."""
    why = f"`{error.args[0]}` is not in the file" if isinstance(error, KeyError) else str(error) or repr(error)
    return Outcome(scenario.id, scenario.title, None, (f"cannot be run: {why[:1].lower() + why[1:]}",))


def shuffled(scenario: Scenario, dice: Random) -> Scenario:
    """Return the scenario with its documents in another order, which must not matter."""
    given = {
        kind: dice.sample(names, len(names)) if isinstance(names, list) else names
        for kind, names in scenario.given.items()
    }
    return msgspec.structs.replace(scenario, given=given)


def decide_scenario(file: ScenarioFile, scenario: Scenario, policy_set: PolicySet) -> Decision:
    """Decide one scenario."""
    request, facts, now = situation_of(file, scenario, policy_set.vocabulary.switches)
    capabilities = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    if request.context is not None and request.context.pep_capabilities is not None:
        capabilities &= frozenset(request.context.pep_capabilities)
    return evaluate(policy_set, request, facts, now, capabilities)


def differences(decision: Decision, expect: Expected) -> tuple[str, ...]:
    """Return what differs from the expected answer, in words."""
    pairs: list[tuple[str, object, object]] = [
        ("decision", "permit" if decision.allowed else "deny", expect.decision),
        ("reason", decision.reason, expect.reason),
        ("basis", decision.basis, expect.basis),
        ("obligations", sorted(decision.duties), sorted(expect.obligations)),
    ]
    if expect.applied is not None:
        pairs.append(("applied", sorted(decision.applied), sorted(expect.applied)))
    return tuple(f"{name}: expected {wanted!r}, got {got!r}" for name, got, wanted in pairs if got != wanted)


def situation_of(file: ScenarioFile, scenario: Scenario, switches: Switches) -> tuple[EvaluationRequest, Facts, Now]:
    """
    Return the request, the facts and the moment of a scenario.

    Raises:
        msgspec.ValidationError: the scenario's data are of a wrong kind.
    """
    asked = scenario.request
    context = {**file.defaults.get("context", {}), **asked.get("context", {})}
    moment = asked.get("now", file.defaults["now"])
    return _request(file, asked, context), _facts(file, scenario, context, switches), at(parse_instant(str(moment)))


def _request(file: ScenarioFile, asked: Mapping[str, Any], context: Mapping[str, Any]) -> EvaluationRequest:
    who = file.fixtures["subjects"].get(asked["subject"], {})
    properties = {"labels": [], **asked["resource"]}
    properties |= {name: asked[name] for name in ("parts", "atomic") if name in asked}
    stated = set(RequestContext.__struct_fields__)
    wire = {
        "subject": {
            "type": "user",
            "id": asked["subject"],
            "properties": {name: who[name] for name in ("roles", "org") if name in who},
        },
        "action": {"name": asked["action"]},
        "resource": {
            "type": properties.pop("type", "Record"),
            "id": properties.pop("id", "record"),
            "properties": properties,
        },
        "context": {"purpose": asked["purpose"]} | {name: said for name, said in context.items() if name in stated},
    }
    return msgspec.json.decode(msgspec.json.encode(wire), type=EvaluationRequest)


def _facts(file: ScenarioFile, scenario: Scenario, context: Mapping[str, Any], switches: Switches) -> Facts:
    fixtures, given, asked = file.fixtures, scenario.given, scenario.request
    subject, patient = asked["subject"], asked["resource"].get("patient")
    world: dict[str, Any] = {
        kind: {name: fixtures[kind][name] for name in given.get(kind, [])} for kind in _DOCUMENTS if kind in fixtures
    }
    world |= {"subjects": fixtures["subjects"], "patients": fixtures["patients"]}
    who_asks = fixtures["subjects"].get(subject, {})
    org = who_asks.get("org")
    if org:
        categories = [_CATEGORIES.get(role) for role in who_asks.get("roles", ())]
        category = categories[0] if categories and None not in categories else None
        world["organisations"] = {org: {"category": category or "provider_medical", "undertaking": True}}
    named = {each for each in (patient, *(part.get("patient") for part in asked.get("parts", ()))) if each}
    if org:
        world["episodes"] = {key: each for name in named for key, each in _episodes(name, org, context).items()}
    if context.get("relationship") not in (None, "none"):
        tie = {"kind": context["relationship"], "subject": subject}
        world["relationships"] = {name: {"patient": name, **tie} for name in named}
    subjects, patients = project_world(parse_world(world), switches)
    who = next((each for each in subjects if each.id == subject), None)
    if who is not None:
        counted = {name: context[name] for name in ("btg_today", "supervised_by") if name in context}
        who = msgspec.structs.replace(who, **counted)
    whom = next((each for each in patients if each.id == patient), None)
    if whom is not None and context.get("capacity") == "unable":
        whom = msgspec.structs.replace(whom, unable=True)
    return Facts(
        who,
        whom,
        Position("scenario", 0),
        not given.get("store_down", False),
        patients,
        next((each for each in subjects if each.id == context.get("recipient")), None),
    )


def _episodes(patient: str, org: str, context: Mapping[str, Any]) -> dict[str, Any]:
    common = {"patient": patient, "org": org, "opened_at": _LONG_AGO}
    episodes: dict[str, Any] = {}
    if context.get("emergency"):
        episodes[f"{patient}-emergency"] = {**common, "form_of_care": "emergency"}
    if context.get("own_episode"):
        consented = bool(context.get("care_consent"))
        episodes[f"{patient}-own"] = {**common, "form_of_care": "planned", "care_consent": consented}
    return episodes
