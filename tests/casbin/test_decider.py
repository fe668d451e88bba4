"""Casbin decides, provably: stock pycasbin as a whole decider agrees with the product on every decision."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import pytest

from ruqsat.casbin.decider import OracleDecider
from ruqsat.casbin.stock_covers import pieces
from ruqsat.core import compile as compiler
from ruqsat.core import evaluate as evaluator
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.expression import All, conjuncts
from ruqsat.core.facts import Facts
from ruqsat.core.instant import HOUR, Now
from ruqsat.core.model_conf import parse_model
from ruqsat.core.pack import Parts, compile_parts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.sampling import situations
from ruqsat.core.world import World
from tests.conformance.questions import Asked, Variant, blocking, policy_cases, scenarios
from tests.conftest import ROOT

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
DECISIONS = 1_000 if LONGER == 1 else 2_000 * LONGER
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(1_000_000))))


class Oracles:
    """Stock pycasbin over one pack, once for each position of the switches."""

    def __init__(self, texts: dict[str, bytes]) -> None:
        self._texts = texts
        self._known: dict[str, OracleDecider] = {}
        self._decided: dict[tuple[str, bytes, frozenset[str]], Decision] = {}

    def decide(self, asked: Asked) -> Decision:
        """What pycasbin decides; the same question is asked once, for that takes some twenty milliseconds."""
        key = repr(sorted(asked.switches.items()))
        question = key, msgspec.json.encode(asked[1:4]), asked.capabilities
        if question not in self._decided:
            if key not in self._known:
                self._known[key] = OracleDecider(self._texts, asked.switches)
            self._decided[question] = self._known[key].decide(*asked[1:5])
        return self._decided[question]


@pytest.fixture(scope="module")
def oracles(pack_texts: dict[str, bytes]) -> Oracles:
    """Stock pycasbin over the pack of this checkout."""
    return Oracles(pack_texts)


def random_questions(policy_set: PolicySet, variant: Variant, seed: int) -> Iterator[Asked]:
    """Made-up situations and crossed scenarios; a caller in five can do nothing, and a clock in ten is unsure."""
    crossed = crossed_scenarios(variant, random.Random(seed))
    for number, made_up in enumerate(situations(policy_set, seed)):
        request, facts, now = made_up if number % 2 else next(crossed)
        able = frozenset[str]() if number % 5 == 0 else blocking(policy_set)
        unsure = Now(now.lo - HOUR, now.hi + HOUR) if number % 10 > 8 else now
        yield Asked(f"seed {seed}, question {number}", request, facts, unsure, able)


def crossed_scenarios(variant: Variant, dice: random.Random) -> Iterator[tuple[EvaluationRequest, Facts, Now]]:
    """Scenarios whose subject, action, resource, circumstances, facts or moment are mostly one's own, or another's."""
    known = [each for each in scenarios(variant) if not each.switches]
    while True:
        one, other = dice.choice(known), dice.choice(known)
        resource, patient = dice.choice(((one.request.resource, one.facts), (other.request.resource, other.facts)))
        who = dice.choice((one, one, other))
        mixed = EvaluationRequest(
            who.request.subject, dice.choice((one, one, other)).request.action, resource,
            dice.choice((one, one, other)).request.context,
        )  # fmt: skip
        facts = msgspec.structs.replace(dice.choice((one.facts, patient)), subject=who.facts.subject)
        yield mixed, facts, dice.choice((one, one, other)).now


def spread(asked: Iterable[Asked], policy_set: PolicySet) -> Iterator[tuple[Asked, Decision]]:
    """Questions and our answers, without most of the commonest: no reason may be more than every 80th answer."""
    met: Counter[str] = Counter()
    for each in asked:
        ours = evaluate(policy_set, *each[1:5])
        if met[ours.reason] <= met.total() / 80:
            met[ours.reason] += 1
            yield each, ours


def with_an_unsure_clock(asked: Iterable[Asked]) -> Iterator[Asked]:
    """The same questions an hour and another around the moment: a permit has to hold all the time."""
    for each in asked:
        yield each._replace(name=f"{each.name}, unsure clock", now=Now(each.now.lo - HOUR, each.now.hi + HOUR))


def disagreements(asked: Iterable[Asked], oracles: Oracles, variant: Variant) -> list[str]:
    """Where the two differ, in words; every field of a decision counts."""
    return [
        f"{each.name}: ours {ours}, pycasbin {theirs}"
        for each in asked
        if (ours := evaluate(variant(each.switches), *each[1:5])) != (theirs := oracles.decide(each))
    ]


@pytest.mark.slow
def test_pycasbin_decides_every_scenario_as_the_product_does(oracles: Oracles, variant: Variant) -> None:
    """Answer, reason, basis, rule, law, duties and documents, under the scenario's switches, by any clock."""
    asked = list(scenarios(variant))

    assert disagreements(asked, oracles, variant) == []
    assert disagreements(with_an_unsure_clock(asked), oracles, variant) == []
    assert len(asked) > 170


@pytest.mark.slow
def test_pycasbin_decides_every_policy_case_as_the_product_does(
    pack_texts: dict[str, bytes], world: World, oracles: Oracles, variant: Variant
) -> None:
    """The same of the cases beside the rules."""
    asked = list(policy_cases(pack_texts, world, variant))

    assert disagreements(asked, oracles, variant) == []
    assert len(asked) > 100


@pytest.mark.slow
def test_pycasbin_decides_random_questions_as_the_product_does(
    policy_set: PolicySet, oracles: Oracles, variant: Variant
) -> None:
    """The seed is printed; no kind of answer takes more than its share."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    met: Counter[str] = Counter()
    for each, ours in islice(spread(random_questions(policy_set, variant, SEED), policy_set), DECISIONS):
        assert oracles.decide(each) == ours, each
        met[ours.reason] += 1

    print(met)
    assert len(met) > 70
    for reason in ("consent", "self", "statutory", "deidentified", "emergency.default"):
        assert met[f"allow.{reason}"] > 0, reason


def test_the_decider_never_loads_the_compiler_or_the_evaluator() -> None:
    """Neither itself nor through anything that it imports, in a process of its own; the check could see it."""
    shared_none_of = ("compile", "evaluate", "policy_set", "coder", "rule_index", "pack")
    program = "import sys, ruqsat.{0}; print(*[m for m in sys.modules if m.startswith('ruqsat.core.')])"

    def loaded(module: str) -> set[str]:
        run = subprocess.run([sys.executable, "-c", program.format(module)], capture_output=True, text=True, check=True)
        return {name.removeprefix("ruqsat.core.") for name in run.stdout.split()}

    assert loaded("casbin.decider").isdisjoint(shared_none_of)
    assert loaded("core.evaluate") >= {"compile", "evaluate", "policy_set", "coder", "rule_index"}


class Corpus(NamedTuple):
    """Questions, and what pycasbin decided of each."""

    questions: list[tuple[Asked, Decision]]

    def sees(self, product: PolicySet) -> bool:
        """Tell whether any question tells this product from pycasbin."""
        return any(evaluate(product, *asked[1:5]) != theirs for asked, theirs in self.questions)


@pytest.fixture(scope="module")
def corpus(
    pack_texts: dict[str, bytes], world: World, oracles: Oracles, policy_set: PolicySet, variant: Variant
) -> Corpus:
    """Scenarios and cases of the default switches, and some random questions, always the same."""
    asked = [*scenarios(variant), *policy_cases(pack_texts, world, variant)]
    asked = [each for each in asked if not each.switches]
    sampled = islice(spread(random_questions(policy_set, variant, 1), policy_set), 500)
    asked += [*with_an_unsure_clock(asked if LONGER > 1 else asked[::6]), *(each for each, _ in sampled)]
    return Corpus([(each, oracles.decide(each)) for each in asked])


@pytest.mark.slow
def test_the_product_itself_is_told_from_nothing(corpus: Corpus, policy_set: PolicySet) -> None:
    """Otherwise what follows would show nothing."""
    assert not corpus.sees(policy_set)


MODEL, _ = parse_model((ROOT / "model.conf").read_text())
CRITERIA = [
    (suffix, place)
    for suffix, section in (MODEL.sections.items() if MODEL is not None else ())
    for place in range(len(conjuncts(section.matcher)))
]


@pytest.mark.parametrize(("suffix", "place"), CRITERIA)
def test_a_criterion_that_the_compiler_loses_is_seen(suffix: str, place: int, parts: Parts, corpus: Corpus) -> None:
    """Planted: a product whose matcher lacks one conjunct, while pycasbin reads the whole."""
    sections = parts.model.sections
    kept = tuple(part for number, part in enumerate(conjuncts(sections[suffix].matcher)) if number != place)
    shorter = msgspec.structs.replace(sections[suffix], matcher=All(kept))
    model = msgspec.structs.replace(parts.model, sections=sections | {suffix: shorter})

    assert corpus.sees(compile_parts(msgspec.structs.replace(parts, model=model)))


@pytest.mark.parametrize("field", ["allows", "ground", "duties", "law", "priority"])
def test_a_rule_that_is_compiled_wrongly_is_seen(field: str, policy_set: PolicySet, corpus: Corpus) -> None:
    """Planted: one permit turned into a denial, given another basis, or robbed of its duties or its citation."""
    wrong: dict[str, Any] = {"allows": False, "ground": "public", "duties": (), "law": ()}

    def bent(rule: Any) -> Any:
        return msgspec.structs.replace(rule, **{field: wrong[field]}) if rule.id == "consent-01" else rule

    rules = policy_set.rules
    bad = tuple(reversed(rules)) if field == "priority" else tuple(map(bent, rules))

    assert corpus.sees(msgspec.structs.replace(policy_set, rules=bad, candidates={}, tests={}))


SWAPPED = [("2", "since", "until"), ("2", "acts", "classes"), ("3", "classes", "purposes"), ("4", "since", "until")]


@pytest.mark.parametrize(("suffix", "one", "other"), SWAPPED)
def test_a_column_that_reads_the_wrong_fact_is_seen(
    suffix: str, one: str, other: str, parts: Parts, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: a compiler that takes two columns of a section for each other."""
    known = compiler.ROW_ATTRIBUTES[suffix]
    monkeypatch.setitem(compiler.ROW_ATTRIBUTES, suffix, {**known, one: known[other], other: known[one]})

    assert corpus.sees(compile_parts(parts))


MISTAKES: dict[str, Any] = {
    "_duties": lambda rule, case: (rule.duties, ()),
    "_denial": lambda rule, case, policy_set: f"deny.{rule.ground}",
    "_permit": lambda rule, case, policy_set: f"allow.{rule.ground}",
    "_applied": lambda rule, case, policy_set: (),
    "_silence": lambda case, policy_set: Decision(False, "deny.default", None, None, ("R14",)),
    "moments": lambda facts, now, switches: [now.lo],
    "refuse_invalid": lambda case, vocabulary: None,
    "decide_parts": lambda request, facts, capabilities, decide: Decision(False, "deny.unmapped.parts"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_the_evaluator_is_seen(
    name: str, policy_set: PolicySet, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: each thing that the evaluator makes of a settled rule, or of none, done wrongly."""
    monkeypatch.setattr(evaluator, name, MISTAKES[name])

    assert corpus.sees(policy_set)


def test_a_caller_that_can_do_nothing_is_not_given_what_blocks(policy_set: PolicySet, corpus: Corpus) -> None:
    """Planted: a product that forgets which duties the caller itself must carry out."""
    able = blocking(policy_set)

    assert any(
        evaluate(policy_set, *asked[1:4], able) != theirs
        for asked, theirs in corpus.questions
        if not asked.capabilities
    )


def test_what_pycasbin_cannot_answer_is_never_a_permit(pack_texts: dict[str, bytes], corpus: Corpus) -> None:
    """A condition that raises, raises out of the decider: there is no answer that anybody could take for one."""
    broken = b"p, 40, broken-01, *, *, *, *, nobody_knows(r.sub), deny, nobody.knows, -, R14"
    decider = OracleDecider(pack_texts | {"policies/broken.csv": broken})
    asked = next(asked for asked, theirs in corpus.questions if theirs.reason == "allow.consent")

    with pytest.raises(Exception, match="nobody_knows"):
        decider.decide(*asked[1:5])


def test_a_switch_that_does_not_exist_is_refused(pack_texts: dict[str, bytes]) -> None:
    """A misspelt switch would decide as if it had not been turned."""
    with pytest.raises(msgspec.ValidationError):
        OracleDecider(pack_texts, {"require_care_relation": False})


def test_a_vocabulary_that_cannot_be_read_is_refused(pack_texts: dict[str, bytes]) -> None:
    """Without words there is nothing to decide by."""
    with pytest.raises(ValueError, match="object"):
        OracleDecider(pack_texts | {"policies/vocabulary.toml": b"roles = 1"})


def test_a_matcher_is_cut_at_its_own_operands_only() -> None:
    """What stands in brackets belongs to one criterion; the last piece is the whole."""
    assert pieces("a(x)") == ["a(x)"]
    assert pieces("a(b(x) && c[1]) && d(x)") == ["a(b(x) && c[1])", "a(b(x) && c[1]) && d(x)"]
