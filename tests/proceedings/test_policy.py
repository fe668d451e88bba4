"""Who may open, read and decide which proceeding: the rules against a second decider, and what must never be allowed."""

from itertools import product

import pytest

from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import at, parse_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.proceeding_kinds import PROCEEDING_KINDS
from ruqsat.core.projection import project_world
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.core.world import World
from tests.conformance import reference

NOW = parse_instant("2026-11-24T10:00:00+05:00")
PEOPLE = {
    "dana": "PATRQT", "kamal": "PATRQT", "saule": "PWATRNY", "arman": "FAMRQT", "dpo_assel": "HCOMPL",
    "rec_marzhan": "PATRQT", "reg_saltanat": "PATADMIN", "dr_aida": "TREAT", "admin_timur": "HSYSADMIN",
}  # fmt: skip
TYPES = [kind.resource for kind in PROCEEDING_KINDS.values()]
ACTIONS = ("read", "search", "create", "update", "delete", "export")


def asked(
    who: str, sort: str, roles: tuple[str, ...], action: str, kind: str, properties: ResourceProperties
) -> EvaluationRequest:
    """Return a question about a proceeding."""
    org = "h1" if "_" in who else None
    return EvaluationRequest(
        Subject(sort, who, SubjectProperties(roles, org)), Action(action), Resource(kind, "x1", properties),
        RequestContext(purpose=PEOPLE[who]),
    )  # fmt: skip


@pytest.mark.parametrize("who", PEOPLE)
def test_the_rules_decide_as_the_second_decider(who: str, policy_set: PolicySet, world: World) -> None:
    """Every kind, action, organisation, class and sort of caller: allowed or not, reason, basis and duties alike."""
    subjects, patients = project_world(world, policy_set.vocabulary.switches)
    known = next(each for each in subjects if each.id == who)
    met = set()
    for sort, action, kind, org, patient in product(
        ("user", "service"), ACTIONS, (*TYPES, "Record"), ("h1", "h2", None), ("p-dana", "p-child", None)
    ):
        facts = Facts(known, next((p for p in patients if p.id == patient), None), Position("t", 0))
        data_class = "queue" if patient is None else "proceeding"
        properties = ResourceProperties(patient=patient, data_class=data_class, labels=(), author_org=org)
        request = asked(who, sort, tuple(known.roles or ()), action, kind, properties)
        decision = evaluate(policy_set, request, facts, at(NOW))
        expected = reference.decide(request, facts, NOW)
        found = (decision.allowed, decision.reason, decision.basis, frozenset(decision.duties))
        assert found == expected, (sort, action, kind, org, patient)
        if decision.allowed:
            met.add((sort, action, kind, org, patient))
    if who in ("kamal", "arman", "admin_timur"):
        assert met == set()
    else:
        assert met
    assert not any(action in ("delete", "export") for _, action, *_ in met)
    if who in ("dpo_assel", "rec_marzhan"):
        assert not any(sort == "service" and action in ("create", "update") for sort, action, *_ in met)


def test_nobody_decides_in_the_own_matter(policy_set: PolicySet, world: World) -> None:
    """An officer who is a patient here is not the one who answers."""
    subjects, patients = project_world(world, policy_set.vocabulary.switches)
    dana = next(each for each in patients if each.id == "p-dana")
    for who in ("dpo_assel", "rec_marzhan"):
        known = next(each for each in subjects if each.id == who)
        properties = ResourceProperties(patient="p-dana", data_class="proceeding", labels=(), author_org="h1")
        request = asked(who, "user", tuple(known.roles or ()), "update", "InformationRequest", properties)
        of_another = evaluate(policy_set, request, Facts(known, dana, Position("t", 0)), at(NOW))
        own = known.__class__(**{f: getattr(known, f) for f in known.__struct_fields__} | {"patient_id": "p-dana"})
        of_the_own = evaluate(policy_set, request, Facts(own, dana, Position("t", 0)), at(NOW))
        assert (of_another.allowed, of_the_own.allowed) == (True, False), who
