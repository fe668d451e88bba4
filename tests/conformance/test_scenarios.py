"""The decision scenarios of order ҚР ДСМ-54: every one that the rules reach is met, and none is ever opened by mistake."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from tests.conformance.runner import BY_ID, HERE, SCENARIOS, decide


def with_switches(policy_set: PolicySet, texts: dict[str, bytes], switches: dict[str, Any]) -> PolicySet:
    """The pack with other positions of its switches, compiled anew."""
    if not switches:
        return policy_set
    lines = texts["policies/vocabulary.toml"].decode()
    for name, value in _flat(switches):
        line = next((line for line in lines.splitlines() if line.split(" ")[0] == name), None)
        if line is not None:
            lines = lines.replace(line, f"{name} = {json.dumps(value)}")
    compiled, findings = load_pack(texts | {"policies/vocabulary.toml": lines.encode()})
    assert compiled is not None, findings
    return compiled


def _flat(switches: dict[str, Any]) -> list[tuple[str, Any]]:
    """Switches of a group by their own names; no name stands in two groups."""
    return [
        pair
        for name, value in switches.items()
        for pair in (value.items() if isinstance(value, dict) else [(name, value)])
    ]


@pytest.fixture(scope="session")
def decided(policy_set: PolicySet, pack_texts: dict[str, bytes]) -> dict[str, Any]:
    """Every scenario, decided."""
    return {
        key: decide(scenario, with_switches(policy_set, pack_texts, scenario.get("policy", {})))
        for key, scenario in BY_ID.items()
    }


def test_the_scenarios_are_of_their_own_schema() -> None:
    """The data are what they say they are."""
    Draft202012Validator(json.loads((HERE / "scenarios.schema.json").read_text())).validate(SCENARIOS)


@pytest.mark.parametrize("key", BY_ID)
def test_no_scenario_is_ever_opened_by_mistake(key: str, decided: dict[str, Any]) -> None:
    """What a scenario denies is denied, whether its rule is written already or not."""
    if BY_ID[key]["expect"]["decision"] == "deny":
        assert not decided[key].allowed
    else:
        assert decided[key].basis in (None, BY_ID[key]["expect"]["basis"])


@pytest.mark.parametrize("key", BY_ID)
def test_the_scenario_is_met(key: str, decided: dict[str, Any]) -> None:
    """Decision, exact reason, basis, duties and documents are those of the scenario."""
    decision, expect = decided[key], BY_ID[key]["expect"]

    assert decision.reason == expect["reason"]
    assert decision.allowed == (expect["decision"] == "permit")
    assert decision.basis == expect["basis"]
    assert set(decision.duties) == set(expect["obligations"])
    if "applied" in expect:
        assert set(decision.applied) == set(expect["applied"])
