"""Every scenario and every policy case as a question that any decider can be asked, and what was promised of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from ruqsat.core.admission import read_cases
from ruqsat.core.cases import Stage, problem_with, situation
from ruqsat.core.conformance import differences, situation_of
from ruqsat.core.decision import Decision
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.world import World
from tests.conformance.test_scenarios import EVERY

Variant = Callable[[Mapping[str, Any]], PolicySet]
"""The pack's rules under other switches."""


class Asked(NamedTuple):
    """One question, under which switches it is asked, and what is wrong with an answer (nothing, if none was promised)."""

    name: str
    request: EvaluationRequest
    facts: Facts
    now: Now
    capabilities: frozenset[str]
    switches: Mapping[str, Any] = {}
    wrong: Callable[[Decision], object] = lambda decision: ""


def blocking(policy_set: PolicySet) -> frozenset[str]:
    """Everything that an enforcement point may have to carry out."""
    return frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)


def scenarios(variant: Variant) -> Iterator[Asked]:
    """Every conformance scenario."""
    for file, scenario in EVERY.values():
        policy_set = variant(scenario.policy)
        request, facts, now = situation_of(file, scenario, policy_set.vocabulary.switches)
        able = blocking(policy_set)
        if request.context is not None and request.context.pep_capabilities is not None:
            able &= frozenset(request.context.pep_capabilities)

        def wrong(decision: Decision, expect: Any = scenario.expect) -> object:
            return differences(decision, expect)

        yield Asked(scenario.id, request, facts, now, able, scenario.policy, wrong)


def policy_cases(texts: dict[str, bytes], world: World, variant: Variant) -> Iterator[Asked]:
    """Every case beside the rules."""
    stage = Stage(world)
    for file, cases in read_cases(texts)[0].items():
        for case in cases:
            policy_set = variant(case.switches)

            def wrong(decision: Decision, case: Any = case) -> object:
                return problem_with(case, decision)

            name, able = f"{file}: {case.name}", blocking(policy_set)
            yield Asked(name, *situation(policy_set, stage, case), able, case.switches, wrong)
