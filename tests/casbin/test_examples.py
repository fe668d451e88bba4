"""Every example of Casbin's documentation works through the compiled enforcer, and says how it is answered."""

from pathlib import Path
from typing import Any

import pytest
from casbin.util import key_match2, key_match2_func, key_match_func

import casbin
from ruqsat import CompiledEnforcer
from tests.casbin.examples import EXAMPLES, Example
from tests.casbin.generator import outcome


def loaded(kind: Any, example: Example, folder: Path) -> Any:
    """Return an enforcer of the kind over the example's files."""
    (folder / "model.conf").write_text(example.model())
    (folder / "policy.csv").write_text(example.policy)
    return kind(str(folder / "model.conf"), str(folder / "policy.csv"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_of_the_documentation_gets_the_documented_answers(example: Example, tmp_path: Path) -> None:
    """The same as the documentation says and as pycasbin answers, row and all."""
    ours, stock = loaded(CompiledEnforcer, example, tmp_path), loaded(casbin.Enforcer, example, tmp_path)

    for request, documented in example.asks:
        assert outcome(ours, request) == outcome(stock, request)
        assert ours.enforce(*request) is documented
    assert ours.batch_enforce([request for request, _ in example.asks]) == [answer for _, answer in example.asks]
    report = ours.compilation_report()[0]
    how = "interpreted" if not report.compiled else "looked up" if report.keys else "every row"
    assert how == example.how, str(report)
    assert bool(report.reason) is (how != "looked up")


RBAC, IN_DOMAINS = (next(each for each in EXAMPLES if each.name == name) for name in ("rbac", "rbac with domains"))


def test_the_rbac_api_changes_the_answer_of_the_next_question(tmp_path: Path) -> None:
    """Roles and permissions come and go through the inherited API."""
    enforcer = loaded(CompiledEnforcer, RBAC, tmp_path)
    enforcer.enable_auto_save(False)
    ask = ("bob", "data2", "read")

    steps = [
        (lambda: enforcer.add_role_for_user("bob", "data2_admin"), True),
        (lambda: enforcer.delete_role_for_user("bob", "data2_admin"), False),
        (lambda: enforcer.add_permission_for_user("bob", "data2", "read"), True),
        (lambda: enforcer.delete_permission_for_user("bob", "data2", "read"), False),
        (lambda: enforcer.add_policies([["bob", "data2", "read"], ["bob", "data3", "read"]]), True),
        (lambda: enforcer.update_policy(["bob", "data2", "read"], ["bob", "data4", "read"]), False),
        (lambda: enforcer.add_grouping_policies([["bob", "x"], ["x", "data2_admin"]]), True),
        (lambda: enforcer.remove_filtered_grouping_policy(0, "x"), False),
        (lambda: enforcer.enable_enforce(False), True),
        (lambda: enforcer.enable_enforce(True), False),
        (enforcer.load_policy, False),
    ]
    for change, expected in steps:
        change()
        assert enforcer.enforce(*ask) is expected
    assert enforcer.get_roles_for_user("alice") == ["data2_admin"]


def test_a_model_edited_by_hand_counts_after_invalidate(tmp_path: Path) -> None:
    """The model is shared, not copied: whoever edits it behind the enforcer's back says so."""
    enforcer = loaded(CompiledEnforcer, RBAC, tmp_path)
    assert enforcer.enforce("bob", "data1", "read") is False

    enforcer.get_model().add_policy("p", "p", ["bob", "data1", "read"])
    enforcer.invalidate()

    assert enforcer.enforce("bob", "data1", "read") is True


def test_roles_and_domains_matched_by_patterns_are_interpreted_and_reported(tmp_path: Path) -> None:
    """With matching functions the answers stay pycasbin's, and the report says why nothing is compiled."""
    results = []
    for kind in (CompiledEnforcer, casbin.Enforcer):
        roles, domains = loaded(kind, RBAC, tmp_path), loaded(kind, IN_DOMAINS, tmp_path)
        roles.enable_auto_save(False)
        domains.enable_auto_save(False)
        roles.add_named_matching_func("g", key_match2)
        domains.add_named_domain_matching_func("g", key_match_func)
        roles.add_grouping_policy("/user/:id", "data2_admin")
        domains.add_grouping_policy("carol", "admin", "*")
        results.append(
            (roles.enforce("/user/7", "data2", "read"), domains.enforce("carol", "domain1", "data1", "read"))
        )
        if kind is CompiledEnforcer:
            assert ["by patterns" in each.compilation_report()[0].reason for each in (roles, domains)] == [True, True]

    assert results == [(True, True), (True, True)]


def test_a_custom_function_is_called_and_may_shadow_a_built_in_one(tmp_path: Path) -> None:
    """What is registered under a name is what the matcher calls."""
    example = next(each for each in EXAMPLES if each.name == "restful")
    for kind in (CompiledEnforcer, casbin.Enforcer):
        enforcer = loaded(kind, example, tmp_path)
        assert enforcer.enforce("alice", "/alice_data/:x", "GET") is True
        enforcer.add_function("keyMatch", lambda one, other: len(one) == len(other))
        assert enforcer.enforce("alice", "/blice_data/*", "GET") is True
        enforcer.add_function("keyMatch", key_match2_func)
        assert enforcer.enforce("alice", "/blice_data/*", "GET") is False
