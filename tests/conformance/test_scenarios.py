"""Every decision scenario of order ҚР ДСМ-54 is met: decision, reason, basis, duties and documents."""

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator

from ruqsat.casbin.comparison import _differences
from ruqsat.casbin.oracle import Oracle
from ruqsat.cli.conformance import read_scenarios
from ruqsat.core.case import Case
from ruqsat.core.conformance import decide_scenario, differences, situation_of
from ruqsat.core.pack import read_parts, variants_of
from ruqsat.core.validity import refuse_invalid
from tests.process.starter import run_cli

HERE = Path(__file__).parent
FILE, MORE = read_scenarios(HERE / "scenarios.yaml"), read_scenarios(HERE / "scenarios_more.yaml")
SCENARIOS = {scenario.id: scenario for scenario in FILE.scenarios}
EVERY = {scenario.id: (file, scenario) for file in (FILE, MORE) for scenario in file.scenarios}


def test_the_scenarios_are_of_their_own_schema() -> None:
    """The data are what they say they are."""
    schema = json.loads((HERE / "scenarios.schema.json").read_text())

    Draft202012Validator(schema).validate(yaml.load((HERE / "scenarios.yaml").read_text(), Loader=yaml.CSafeLoader))


def test_no_scenario_hides_another() -> None:
    """Each has an id of its own, in both files."""
    assert len(EVERY) == len(FILE.scenarios) + len(MORE.scenarios) > len(FILE.scenarios) + 30


@pytest.mark.parametrize("key", EVERY)
def test_a_scenario_is_met_in_whatever_order_its_documents_come(key: str, variant: Any) -> None:
    """As written, and with the documents shuffled five times."""
    file, scenario = EVERY[key]
    policy_set = variant(scenario.policy)

    assert differences(decide_scenario(file, scenario, policy_set), scenario.expect) == ()
    for seed in range(5):
        dice = random.Random(seed)
        given = {
            kind: dice.sample(names, len(names)) if isinstance(names, list) else names
            for kind, names in scenario.given.items()
        }
        shuffled = msgspec.structs.replace(scenario, given=given)
        assert differences(decide_scenario(file, shuffled, policy_set), scenario.expect) == ()


@pytest.mark.slow
def test_stock_pycasbin_agrees_on_every_scenario(pack_texts: dict[str, bytes], variant: Any) -> None:
    """The rule that settles it, and each row of consents and delegations, under the scenario's switches."""
    compared = 0
    for number, (file, scenario) in enumerate(EVERY.values()):
        policy_set = variant(scenario.policy)
        case = Case.of(*situation_of(file, scenario, policy_set.vocabulary.switches))
        if refuse_invalid(case, policy_set.vocabulary) is None:
            compared += 1
            assert list(_differences(number, case, policy_set, Oracle(pack_texts, policy_set))) == [], scenario.id
    assert compared > 190


def test_a_rule_taken_away_fails_a_scenario(pack_texts: dict[str, bytes]) -> None:
    """Planted, so that "all scenarios are met" is known to mean something."""
    spoilt = pack_texts["policies/statutory.csv"].replace(b"p, 800, statutory-01,", b"# p, 800, statutory-01,")
    parts, _ = read_parts(pack_texts | {"policies/statutory.csv": spoilt})
    assert parts is not None
    policy_set = variants_of(parts)({})

    failed = [
        key for key, each in SCENARIOS.items() if differences(decide_scenario(FILE, each, policy_set), each.expect)
    ]

    assert "G05" in failed


def test_the_command_runs_files_and_shows_what_differs(tmp_path: Path) -> None:
    """Exit 0 when all are met; exit 1 with expected and got; exit 2 for a file that holds no scenarios."""
    text = (HERE / "scenarios.yaml").read_text()
    wrong, none = tmp_path / "wrong.yaml", tmp_path / "none.yaml"
    wrong.write_text(text.replace("reason: allow.care_consent", "reason: allow.consent"))
    none.write_text("a: 1\n")

    good = run_cli(tmp_path, "conformance", str(HERE / "scenarios.yaml"))
    bad = run_cli(tmp_path, "conformance", str(wrong), "--json")

    assert (good.returncode, bad.returncode) == (0, 1)
    assert f"{len(SCENARIOS)} of {len(SCENARIOS)} scenarios are met" in good.stdout
    failed = [each for each in json.loads(bad.stdout)["scenarios"] if each["differences"]]
    assert failed[0]["differences"] == ["reason: expected 'allow.consent', got 'allow.care_consent'"]
    assert run_cli(tmp_path, "conformance", str(none)).returncode == 2
