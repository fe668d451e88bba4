"""The index finds every rule that a full scan finds, and planted bugs of the compiler are noticed."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from bench.micro.worlds import compiled, pack_of
from hypothesis import given, settings

from ruqsat.casbin.oracle import Oracle
from ruqsat.core import compile as compiling
from ruqsat.core import functions
from ruqsat.core.case import Case
from ruqsat.core.cases import parse_cases, situation
from ruqsat.core.policy_set import PolicySet, Rule
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World
from tests.core.strategies import worlds

SHAPES = ("roles", "organisations")


@pytest.fixture(scope="module", params=SHAPES)
def large_set(request: pytest.FixtureRequest) -> PolicySet:
    """The pack with the rules of ten hospitals beside its own."""
    return compiled(pack_of(330, request.param))


def scanned(policy_set: PolicySet, case: Case) -> list[str]:
    """Every rule that can match, found without the index."""
    return [rule.id for rule in policy_set.rules if policy_set._can_match(rule, case)]


@settings(max_examples=200, deadline=None)
@given(worlds)
def test_the_index_finds_what_a_full_scan_finds(policy_set: PolicySet, situation: Any) -> None:
    """For random requests the candidates are those of a scan over all rules, in the same order."""
    case = Case.of(*situation)
    assert [rule.id for rule in policy_set.candidates_for(case).rules] == scanned(policy_set, case)


@settings(max_examples=150, deadline=None)
@given(worlds)
def test_a_large_index_finds_what_a_full_scan_finds(large_set: PolicySet, situation: Any) -> None:
    """So it is with hundreds of rules that differ in a role, or in the organisation that their condition names."""
    case = Case.of(*situation)
    drawn = random.Random(str(situation[0]))
    if drawn.random() < 0.5:
        case.sub.org = drawn.choice(["h1", "hospital3", "hospital9", "nowhere"])
        case.sub.roles = (*case.sub.roles, drawn.choice(["g0", "g3", "care_staff"]))
    assert [rule.id for rule in large_set.candidates_for(case).rules] == scanned(large_set, case)


def test_what_many_rules_compare_becomes_part_of_the_key() -> None:
    """The organisation guards 330 rules that name one; alone in a pack such a rule is an ordinary condition."""
    assert [(guard.entity, guard.name) for guard in compiled(pack_of(330, "organisations")).guards] == [("sub", "org")]
    assert compiled(pack_of(10, "organisations")).guards == ()


def disagreements(texts: dict[str, bytes], world: World) -> Iterator[str]:
    """The policy cases that a freshly compiled pack answers otherwise than stock pycasbin."""
    policy_set = compiled(texts)
    oracle = Oracle(texts, policy_set)
    for name in texts:
        for policy_case in parse_cases(texts[name].decode(), name)[0] if name.endswith(".test.toml") else ():
            case = Case.of(*situation(policy_set, world, policy_case))
            if refuse_invalid(case, policy_set.vocabulary) is None:
                rule = policy_set.candidates_for(case).first(case)
                answer = (rule.allows, rule.id) if rule is not None else (False, None)
                if oracle.decide(case) != answer:
                    yield policy_case.name


@pytest.mark.slow
def test_a_wrong_index_key_is_noticed(
    pack_texts: dict[str, bytes], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: roles reach only themselves and not their groups."""
    original = functions.build_functions

    def planted(*args: Any) -> dict[str, functions.Function]:
        made = original(*args)
        holds = made["holds"]
        return made | {"holds": functions.Function(holds.call, 2, "role", reach=lambda held: held)}

    assert list(disagreements(pack_texts, world)) == []
    monkeypatch.setattr("ruqsat.core.pack.build_functions", planted)
    assert next(disagreements(pack_texts, world), None)


def test_a_lost_residue_is_noticed(pack_texts: dict[str, bytes], world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the last conjunct of each condition is lost."""
    original = compiling._RuleBuilder._make_condition

    def planted(self: Any, cells: dict[str, str]) -> Any:
        made = original(self, cells)
        return compiling._Condition(made.settled, made.residue[:-1] or (compiling.Const(True),), made.asks)

    monkeypatch.setattr(compiling._RuleBuilder, "_make_condition", planted)
    assert next(disagreements(pack_texts, world), None)


def test_a_swapped_effect_is_noticed(
    pack_texts: dict[str, bytes], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: one rule answers the other way round."""
    original = compiling._RuleBuilder._rule

    def planted(self: Any, row: Any) -> Rule:
        rule = original(self, row)
        if rule.id != "consent-01":
            return rule
        values = {name: getattr(rule, name) for name in rule.__struct_fields__}
        return Rule(**{**values, "allows": not rule.allows})

    monkeypatch.setattr(compiling._RuleBuilder, "_rule", planted)
    assert next(disagreements(pack_texts, world), None)
