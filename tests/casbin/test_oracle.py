"""The compiled pack and stock pycasbin give the same answers."""

from typing import Any

import pytest
from hypothesis import given, settings

from ruqsat.casbin.fact_rows import delegation_row, matrix_cells, provision_row, session_cells
from ruqsat.casbin.oracle import Oracle
from ruqsat.core.admission import build_pack
from ruqsat.core.case import Case
from ruqsat.core.cases import parse_cases, situation
from ruqsat.core.emergency import session_row
from ruqsat.core.facts import Provision
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import situations
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World
from tests.core.strategies import worlds


@pytest.fixture(scope="module")
def oracle(pack_texts: dict[str, bytes], policy_set: PolicySet) -> Oracle:
    """Stock pycasbin over the pack of this checkout."""
    return Oracle(pack_texts, policy_set)


def first_match(policy_set: PolicySet, case: Case) -> tuple[bool, str | None]:
    """The compiled set's answer in pycasbin's terms."""
    rule = policy_set.candidates_for(case).first(case)
    return (rule.allows, rule.id) if rule is not None else (False, None)


@pytest.mark.slow
def test_stock_pycasbin_agrees_on_every_policy_case(
    pack_texts: dict[str, bytes], policy_set: PolicySet, world: World, oracle: Oracle
) -> None:
    """Each case beside the rules is answered by the same rule in both engines."""
    asked = 0
    for name in pack_texts:
        for policy_case in parse_cases(pack_texts[name].decode(), name)[0] if name.endswith(".test.toml") else ():
            case = Case.of(*situation(policy_set, world, policy_case))
            if refuse_invalid(case, policy_set.vocabulary) is None:
                assert oracle.decide(case) == first_match(policy_set, case), policy_case.name
                asked += 1
    assert asked > 40


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(worlds)
def test_stock_pycasbin_agrees_on_random_requests(oracle: Oracle, policy_set: PolicySet, situation: Any) -> None:
    """Random people, documents and requests are answered by the same rule in both engines."""
    case = Case.of(*situation)
    if refuse_invalid(case, policy_set.vocabulary) is None:
        assert oracle.decide(case) == first_match(policy_set, case)


@settings(max_examples=300, deadline=None)
@given(worlds)
def test_stock_pycasbin_agrees_on_every_row_of_facts(oracle: Oracle, policy_set: PolicySet, situation: Any) -> None:
    """Each provision, link and session covers the request in both engines or in neither."""
    case, patient = Case.of(*situation), situation[1].patient
    rows = [("2", node, provision_row("c", node)) for document in patient.consents for node in nodes(document.root)]
    rows += [("3", link, delegation_row(link)) for link in patient.delegations]
    for grant in patient.grants:
        row = session_row(grant, policy_set.vocabulary.switches)
        rows.append(("4", row, session_cells(row)))
    for suffix, row, cells in rows:
        assert (policy_set.covers.test(suffix, case, row)[0] == "") == oracle.covers(suffix, case, cells), (suffix, row)


STATED = (
    "coded(r2.res.codes, 'ICD|B20', p2.type)", "within_confidentiality(r2.res, 'R', p2.type)",
    "within_data(r2.res, 'o1', p2.authors, p2.encounters, p2.data_from, p2.data_until, p2.type)",
)  # fmt: skip


@pytest.mark.parametrize("stated", STATED)
def test_what_the_matcher_itself_states_narrows_a_row_that_states_nothing(
    stated: str, pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """A criterion is passed over where all that it asks for is left out, and not where the model says a part of it."""
    model = pack_texts["model.conf"].replace(b"&& labelled(r2", f"&& {stated} && labelled(r2".encode())
    pack, findings = build_pack(pack_texts | {"model.conf": model})
    assert pack is not None, findings
    narrower, read = pack.policy_set.covers, Oracle(pack_texts | {"model.conf": model}, policy_set)
    covering = 0
    for _, each in zip(range(150), situations(policy_set, 7), strict=False):
        case = Case.of(*each)
        for node in (d.root for d in case.facts.patient.consents) if case.facts.patient is not None else ():
            covers = narrower.test("2", case, node)[0] == ""
            assert covers == read.covers("2", case, provision_row("c", node))
            covering += policy_set.covers.test("2", case, node)[0] == "" and not covers
    assert covering


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_stock_pycasbin_agrees_on_the_role_matrix(oracle: Oracle, policy_set: PolicySet, situation: Any) -> None:
    """Each row of the role matrix covers the request in both engines or in neither."""
    case = Case.of(*situation)
    for row in policy_set.matrix:
        assert (policy_set.covers.test("5", case, row)[0] == "") == oracle.covers("5", case, matrix_cells(row))


def test_hierarchies_are_those_of_pycasbins_role_managers(oracle: Oracle, policy_set: PolicySet) -> None:
    """Every pair of words is linked in both, or in neither."""
    vocabulary = policy_set.vocabulary
    words = {
        "g": [*vocabulary.roles, *vocabulary.role_groups],
        "g2": [*vocabulary.classes, *vocabulary.class_groups],
        "g3": list(vocabulary.purposes),
        "g4": list(vocabulary.purposes),
        "g5": list(vocabulary.labels),
    }
    for key, names in words.items():
        hierarchy = policy_set.hierarchies.by_key[key]
        for member in names:
            for group in names:
                assert (group in hierarchy.above(member)) == oracle.has_link(key, member, group), (key, member, group)


def nodes(node: Provision) -> list[Provision]:
    """A provision and everything beneath it."""
    return [node, *(below for exception in node.exceptions for below in nodes(exception))]
