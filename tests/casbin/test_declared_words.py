"""Words that a pack declares: both engines read them alike, and a pack without any is read as before."""

import random
from collections import Counter
from itertools import islice

import msgspec
import pytest

from ruqsat.casbin.decider import OracleDecider
from ruqsat.core.admission import try_cases
from ruqsat.core.case import Case
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position, SubjectFacts, entry_id
from ruqsat.core.instant import at
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.sampling import situations
from ruqsat.stores.policy_folder import load_texts
from tests.conftest import ROOT

EXAMPLE = ROOT / "examples" / "authzen-certification"


@pytest.fixture(scope="module")
def declared() -> tuple[PolicySet, OracleDecider]:
    """The certification pack, compiled, and under stock pycasbin."""
    texts = load_texts(EXAMPLE)
    compiled, _ = load_pack(texts)
    assert compiled is not None
    return compiled, OracleDecider(texts)


def test_both_engines_decide_alike_by_declared_words(declared: tuple[PolicySet, OracleDecider]) -> None:
    """Stated, stored, both and neither: 500 made-up requests, or more until each rule is among the answers."""
    (policy_set, oracle), seed = declared, random.randrange(1 << 30)
    print(f"seed {seed}")
    rules, by = {rule.id for rule in policy_set.rules}, Counter[str | None]()
    for number, (request, facts, now) in enumerate(islice(situations(policy_set, seed), 10_000)):
        if number >= 500 and rules <= by.keys():
            break
        ours = evaluate(policy_set, request, facts, now)
        assert oracle.decide(request, facts, now) == ours
        by[ours.rule] += 1
    assert rules <= by.keys(), by


def test_a_pack_that_declares_nothing_reads_plain_requests(policy_set: PolicySet) -> None:
    """The shipped pack's requests are read by the plain structures: no word, no type, nothing beside."""
    assert policy_set.request_type is EvaluationRequest
    assert policy_set.vocabulary.types == {}


@pytest.mark.parametrize(("stated", "stored", "read"), [
    (None, None, None), ("a", None, "a"), (None, "a", "a"), ("a", "a", "a"), ("a", "b", None), ("", "a", None), ("1", 1, None),
])  # fmt: skip
def test_stated_and_stored_join_to_the_narrower_side(
    declared: tuple[PolicySet, OracleDecider], stated: object, stored: object, read: object
) -> None:
    """One of them counts; two that differ are no value at all; of subject and resource alike."""
    said = {} if stated is None else {"status": stated}
    role = {} if stated is None else {"role": stated}
    request = msgspec.convert(
        {"subject": {"type": "user", "id": "s", "properties": role}, "action": {"name": "read"},
         "resource": {"type": "record", "id": "r", "properties": said}},
        declared[0].request_type,
    )  # fmt: skip
    kept = None if stored is None else {"status": stored, "role": stored}
    entry = SubjectFacts(entry_id("record", "r"), False, properties=kept, resource_type="record")  # type: ignore[arg-type]
    who = SubjectFacts("s", properties=kept)  # type: ignore[arg-type]
    case = Case.of(request, Facts(who, None, Position("e", 1), resource=entry), at(0))

    assert (case.res.status, case.sub.role) == (read, read)
    with pytest.raises(AttributeError):
        _ = case.res._unheard


def test_the_entry_of_another_resource_says_nothing(declared: tuple[PolicySet, OracleDecider]) -> None:
    """A resource is not what its neighbour is, and a resource is nobody who may ask."""
    request = msgspec.convert(
        {"subject": {"type": "user", "id": "s"}, "action": {"name": "read"}, "resource": {"type": "record", "id": "r"}},
        declared[0].request_type,
    )
    other = SubjectFacts(entry_id("record", "q"), False, properties={"status": "active"}, resource_type="record")
    case = Case.of(request, Facts(other, None, Position("e", 1), resource=other), at(0))

    assert case.res.status is None
    assert not case.sub.active


@pytest.mark.parametrize(("old", "new"), [
    ('role = "admin"', "role = 7"), ('role = "admin"', 'rule = "admin"'), ('status = "active"', "status = true"),
    ('status = "active"', 'state = "active"'), ('type       = "record"', 'type = "invoice"'),
])  # fmt: skip
def test_a_world_that_stores_what_nobody_declared_is_refused(old: str, new: str) -> None:
    """A misspelt word or a value of another kind would be lost without a word; so is a resource of no known type."""
    texts = load_texts(EXAMPLE)
    world = texts["policies/fixtures/world.toml"].decode()
    assert old in world
    compiled, _ = load_pack(texts)
    assert compiled is not None
    assert not has_errors(try_cases(texts, compiled)[1])

    findings = try_cases(texts | {"policies/fixtures/world.toml": world.replace(old, new, 1).encode()}, compiled)[1]

    assert [finding.code for finding in findings] == ["bad-world"]
