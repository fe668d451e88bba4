"""
Whichever guard of the code is taken away, a promise notices; what notices nothing is argued below.

The modules are those between records and an answer: what is projected to facts
(``world``, ``projection``, ``facts``, ``dates``), what the facts say of a case (``case`` to ``functions``),
how the sections combine (``consent`` to ``statutory``), and what holds them together
(``evaluate``, ``validity``, ``parts``, ``boundaries``, ``scopes``).  Rules, rows and criteria of
the model are deleted in ``test_deletions``; the compiler is held by comparison with stock
pycasbin.

Each guard is asked, the cheapest first, until an answer is not what it was:
promises (the scenarios, the policy cases, the sentences of ``tests/core`` about parts and
guards, the examples in the module's own docstrings), then the second decider, at last
situations of which nothing is promised.
"""

import doctest
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, islice
from time import process_time
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from ruqsat.core import consent, functions, projection
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.pack import Parts, variants_of
from ruqsat.core.sampling import situations
from ruqsat.core.world import World
from tests.conformance.questions import Asked, Variant, blocking, policy_cases, scenarios
from tests.conformance.reference import decide
from tests.conformance.strange import strange
from tests.core import (
    test_break_glass,
    test_care,
    test_documents,
    test_entities,
    test_grounds,
    test_moments,
    test_parts,
    test_projection,
    test_stated_words,
    test_still_moments,
    test_word_functions,
)
from tests.guards import Mutant, live, mutants_of, without

MODULES = (
    "world", "projection", "facts", "dates", "case", "circumstances", "functions", "consent", "delegation", "representation",
    "emergency", "statutory", "entitlement", "validity", "scopes", "boundaries", "parts", "evaluate",
)  # fmt: skip
PROJECTING = {"world", "projection", "dates"}
"""What makes facts of records: under their mutants the facts are made anew."""

COMPILED = {"functions", "circumstances", "entitlement"}
"""What a policy set is bound to: under their mutants it is compiled anew."""

SEED = int(os.environ.get("RUQSAT_TEST_SEED", "12"))
"""Always the same unless told: whether a guard is missed must not hang on the day's chance."""

SITUATIONS, STRANGE = 16_000, 8_000
"""So many are made of each kind; asked are those of an outcome that is not yet there `ALIKE` times."""

ALIKE = 25
PATIENCE = 2.0
"""Seconds of processor time after which an answer counts as lost: the loop that a guard ended has no end now."""

ARGUED: dict[str, tuple[str, ...]] = {
    "a shortcut: the longer way beside it gives the same answer": (
        "boundaries.next_turn: `known[1] <= moment < known[2]` with `<=`",
        "boundaries.next_turn: `known[1] <= moment < known[2]` with `<`",
        "boundaries._gather: never `if value is None or value == ()`",
        "boundaries._gather: without `value == ()`",
        "boundaries._gather: without `value is None`",
        "boundaries._fields_that_turn: every field, not only `if turns(field.type)`",
        "boundaries._fields_that_turn: never `if isinstance(annotation, type) and issubclass(annotation, Struct)`",
        "boundaries._fields_that_turn: never `if annotation in _WORDS or get_origin(annotation) is Literal`",
        "boundaries._fields_that_turn: without `annotation in _WORDS`",
        "boundaries._fields_that_turn: without `get_origin(annotation) is Literal`",
        "boundaries._fields_that_turn: never `if parts`",
        "boundaries.moments: `now.lo < now.hi <= next_turn(facts.patient, now.lo, switches)` with `<`",
        "boundaries.moments: never `if now.lo < now.hi <= next_turn(facts.patient, now.lo, switches)`",
        "case.ResourceView.of: without `patient.records`",
        "case.believed_roles: without `said.roles == known.roles`",
        "circumstances._about_records: never `if not (records or authors or encounters or data_from or data_until)`",
        "consent.consent_answer: never `if cover.asks_names and _names_others(document.root, sub)`",
        "consent._names_others: without `grantee.org is None or grantee.org == sub.org`",
        "consent._names_others: without `grantee.subject is None or grantee.subject == sub.id`",
        "consent._abroad: never `if country is None`",
        "consent._sorted: `len(ids) > 1` with `>=`",
        "consent._apply: without `not node.exceptions`",
        "consent.governing: always `if patient.sole is None`",
        "consent._governing: never `if len(thread) == 1`",
        "evaluate._duties: always `if untold`",
        "evaluate.evaluate: never `if now.lo == now.hi`",
        "evaluate.evaluate: never `if not policy_set.reads_present and stands_still(facts, now, policy_set.vocabulary.switches)`",
        "evaluate._applied: never `if len(rule.asks) == 1`",
        "facts.PatientFacts._put_together: never `if own`",
        "facts.PatientFacts.known_record: without `known is None`",
        "facts.PatientFacts.sole: never `if max(map(len, threads), default=1) == 1`",
        "functions.in_force: always `if isinstance(since, str)`",
        "functions.in_force: always `if isinstance(until, str)`",
        "functions.naming: without `grantee.org is not None`",
    ),
    "no pack here reads the clock but against facts; `tests/core/test_still_moments.py` changes it until it does": (
        "evaluate.evaluate: without `not policy_set.reads_present`",
    ),
    "of two that are equal either is right": (
        "dates.days_of: `local < _ONE_TIME` with `<=`",
        "facts.higher: `'ULMNRV'.index(one) >= 'ULMNRV'.index(other)` with `>`",
    ),
    "for the type checker: nothing is found under no name, or it was made sure of before": (
        "case.(body): never `if not TYPE_CHECKING`",
        "consent.onward_answer: never `if recipient is None`",
        "consent._spoken: without `''`",
        "evaluate.evaluate: without `properties is not None`",
        "functions.build_functions: without `data_class is not None`",
        "functions.build_functions: without `data_class is not None` (2)",
        "parts.decide_parts: always `if properties is not None`",
        "parts.decide_parts: without `properties is None`",
        "parts._facts_of: never `if properties is None`",
        "representation._age_miss: without `born is not None` (2)",
        "statutory._covers: without `data_class is not None`",
        "projection._organisation: always `if name is not None`",
    ),
    "m2 and m3 test the term first: what has not begun has missed by its term": (
        "consent._weigh: without `miss == 'expired'`",
        "delegation._weigh: without `miss == 'expired'`",
    ),
    "no organisation of an unknown category serves a purpose, and no purpose was refused before": (
        "circumstances._about_subjects: without `category is not None`",
    ),
    "a reason for a pack whose rule tells a section's miss where the section holds; here none does": (
        "evaluate._denial: without `topic + '.none'`",
    ),
}
"""Guards that no promise misses, by the reason why none can or need."""


class Known(NamedTuple):
    """A question of which the answer is known."""

    asked: Asked
    decision: Decision
    promised: tuple[Any, ...] | None


class Lost(BaseException):
    """No answer came; not even a handler of every exception may keep it."""


@contextmanager
def patience() -> Iterator[None]:
    """End a loop without end: each question has so much processor time; that others use the machine does not matter."""

    def give_up(*_: object) -> None:
        raise Lost

    before = signal.signal(signal.SIGVTALRM, give_up)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def told(decision: Decision) -> tuple[Any, ...]:
    """What the second decider tells of a decision."""
    return decision.allowed, decision.reason, decision.basis, frozenset(decision.duties)


class Court:
    """Everything that is asked of a mutant, prepared once."""

    def __init__(self, parts: Parts, texts: dict[str, bytes], world: World) -> None:
        self._parts, self._texts, self._world = parts, texts, world
        self._variant = variants_of(parts)
        # Those under other switches come after the others: under them the rules are compiled once more.
        self._promises = sorted(self._prepare(self._variant), key=lambda asked: bool(asked.switches))
        policy_set = self._variant({})
        able = blocking(policy_set)
        made = islice(situations(policy_set, SEED), SITUATIONS)
        self._known = [
            known._replace(promised=decide(known.asked.request, known.asked.facts, known.asked.now.lo))
            for known in self._varied(Asked(f"random {n}", *one, able) for n, one in enumerate(made))
        ]
        self._strange = [*self._varied(strange(policy_set, SEED, STRANGE))]
        self._worked_out = [*self._caches()]
        self._sentences = sorted(SENTENCES, key=self._cost)

    def _varied(self, questions: Iterable[Asked]) -> Iterator[Known]:
        """Yield questions with their answers, not too many of one outcome."""
        met: Counter[object] = Counter()
        for asked in questions:
            decision = self._ask(asked)
            outcome = decision.reason, decision.rule, bool(asked.switches), asked.now.lo < asked.now.hi
            met[outcome] += 1
            if met[outcome] <= ALIKE:
                yield Known(asked, decision, None)

    def _prepare(self, variant: Variant) -> Iterator[Asked]:
        return chain(scenarios(variant), policy_cases(self._texts, self._world, variant))

    def _ask(self, asked: Asked, variant: Variant | None = None) -> Decision:
        policy_set = (variant or self._variant)(asked.switches)
        signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
        try:
            return evaluate(policy_set, *asked[1:5])
        finally:
            # Whoever comes after must not be ended by what is left of it.
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

    def broken(self) -> list[str]:
        """Promises that the product itself breaks: then the verdicts mean nothing."""
        asked = [each.name for each in self._promises if each.wrong(self._ask(each))]
        return asked + [each.asked.name for each in self._known if told(each.decision) != each.promised]

    def verdict(self, mutant: Mutant) -> str:
        """Return who noticed the mutant: the first broken promise, ``only …`` for an answer of which none is promised."""
        with patience(), without(mutant):
            try:
                return self._verdict(mutant)
            except Lost:
                return "no answer"
            except Exception as error:  # noqa: BLE001 - whatever a mutant does wrong is noticed by that
                return f"{type(error).__name__}"
            finally:
                self._forget()

    def _verdict(self, mutant: Mutant) -> str:
        module = mutant.module.__name__.rpartition(".")[2]
        variant = variants_of(self._parts) if module in COMPILED else self._variant
        promises = self._prepare(variant) if module in PROJECTING else self._promises
        if module == "facts":
            self._forget()
        for each in promises:
            if each.wrong(self._ask(each, variant)):
                return each.name
        name = self._sentence(mutant.module, variant)
        if name:
            return name
        changed = ""
        for known in chain(self._known, self._strange):
            decision = self._ask(known.asked, variant)
            if decision == known.decision:
                continue
            if known.promised is None:
                return changed or f"only {known.asked.name}"
            if told(decision) != known.promised:
                return known.asked.name
            changed = changed or f"only {known.asked.name}"
        return changed

    def _sentence(self, module: ModuleType, variant: Variant) -> str:
        """The first sentence, or example of the module's own, that does not hold."""
        fixtures = self._fixtures(variant)
        for sentence in self._sentences:
            try:
                sentence(fixtures)
            except (AssertionError, pytest.fail.Exception):
                return sentence.__name__
        runner = doctest.DocTestRunner(verbose=False)
        for example in doctest.DocTestFinder().find(module):
            with open(os.devnull, "w") as nowhere:
                runner.run(example, out=nowhere.write)
        return f"the examples of {module.__name__}" if runner.failures else ""

    def _fixtures(self, variant: Variant) -> dict[str, Any]:
        policy_set = variant({})
        asked = test_parts.asking(policy_set, self._world)
        return {"policy_set": policy_set, "world": self._world, "variant": variant, "asked": asked}

    def _cost(self, sentence: Callable[[Mapping[str, Any]], None]) -> float:
        """Return the seconds of processor time that a sentence takes, of which each must hold."""
        fixtures, began = self._fixtures(self._variant), process_time()
        sentence(fixtures)
        return process_time() - began

    def _caches(self) -> Iterator[dict[str, object]]:
        """Yield where each patient of the questions keeps what was worked out from facts."""
        everything = chain(self._promises, (k.asked for k in self._known), (k.asked for k in self._strange))
        found = {id(patient): patient for asked in everything for patient in (asked.facts.patient, *asked.facts.others)}
        yield from (vars(patient) for patient in found.values() if patient is not None)

    def _forget(self) -> None:
        """Drop what was worked out from facts alone."""
        for kept in self._worked_out:
            kept.clear()


def sentences(*modules: ModuleType | SimpleNamespace) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield the test functions of modules, one for each set of their parameters, to be called with fixtures by name."""
    for function in (f for module in modules for name, f in vars(module).items() if name.startswith("test_")):
        marks = [mark for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
        given: list[dict[str, Any]] = [{}]
        for mark in marks:
            given = [one | {mark.args[0]: value} for one in given for value in mark.args[1]]
        wanted = function.__code__.co_varnames[: function.__code__.co_argcount]
        for parameters in given:

            def sentence(
                fixtures: Mapping[str, Any],
                function: Any = function,
                parameters: Any = parameters,
                wanted: Any = wanted,
            ) -> None:
                function(**{name: parameters[name] if name in parameters else fixtures[name] for name in wanted})

            sentence.__name__ = function.__name__
            yield sentence


SENTENCES = [
    *sentences(
        test_parts, test_projection, test_moments, test_word_functions, test_entities, test_documents, test_grounds,
        test_stated_words,
        SimpleNamespace(
            test_what_a_clinician_opened_is_counted_by_local_days=test_break_glass.test_what_a_clinician_opened_is_counted_by_local_days,
            test_records_of_two_types_with_one_id_are_two=test_care.test_records_of_two_types_with_one_id_are_two,
            test_the_last_session_of_a_day=test_still_moments.test_the_last_session_of_a_day_opens_nothing_at_its_uncertain_end,
        ),
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def mutants() -> list[Mutant]:
    """Every guard of the modules, taken away."""
    return [mutant for name in MODULES for mutant in mutants_of(import_module(f"ruqsat.core.{name}"))]


@pytest.fixture(scope="module")
def court(parts: Parts, pack_texts: dict[str, bytes], world: World) -> Court:
    """What every mutant is asked."""
    print(f"RUQSAT_TEST_SEED={SEED}")
    return Court(parts, pack_texts, world)


def only(mutants: list[Mutant], name: str) -> Mutant:
    """The mutant of a name."""
    (found,) = [each for each in mutants if each.name == name]
    return found


@pytest.mark.slow
def test_the_product_itself_keeps_every_promise(court: Court) -> None:
    """Otherwise the verdicts would show nothing; code exchanged for itself is not noticed."""
    assert court.broken() == []
    for module, name in ((consent, "_weigh"), (functions, "build_functions"), (projection, "formal_defect")):
        assert court.verdict(Mutant(module, name, "nothing", live(module, name).__code__)) == ""


@pytest.mark.slow
def test_a_planted_hole_is_noticed_and_the_right_code_comes_back(court: Court, mutants: list[Mutant]) -> None:
    """Of the projection, of a function that rules are bound to, and of the way documents combine."""
    for name in (
        "projection.formal_defect: never `if record.database_country != HOME_COUNTRY`",
        "circumstances._about_subjects: without `served.get(category, nothing).issuperset(ctx.purpose)`",
        "consent._weigh: never `if _revoked(document, case.now)`",
    ):
        mutant = only(mutants, name)
        right = live(mutant.module, mutant.function).__code__

        assert court.verdict(mutant) != ""
        assert live(mutant.module, mutant.function).__code__ is right


@pytest.mark.slow
def test_a_loop_without_end_is_cut(court: Court, mutants: list[Mutant]) -> None:
    """A cycle of delegations that nobody stops at gives no answer, and that is noticed."""
    assert court.verdict(only(mutants, "delegation._chain: never `if parent in chain`")) == "no answer"


def test_no_argument_is_about_a_guard_that_is_not_there(mutants: list[Mutant]) -> None:
    """Names change with the code, and each guard has one name."""
    names = [mutant.name for mutant in mutants]
    argued = [name for group in ARGUED.values() for name in group]

    assert len({*names}) == len(names)
    assert len({*argued}) == len(argued)
    assert {*argued} <= {*names}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whichever_guard_is_taken_away_is_missed(court: Court, mutants: list[Mutant]) -> None:
    """By a promise, or it is argued above; no argument is about a guard that a promise misses."""
    assert court.broken() == [], "then the verdicts would mean nothing"
    verdicts = {each.name: court.verdict(each) if each.code is not None else "" for each in mutants}
    unpromised = {name: verdict for name, verdict in verdicts.items() if not verdict or verdict.startswith("only ")}
    argued = {name for group in ARGUED.values() for name in group}
    changing = [name for name, verdict in unpromised.items() if verdict]
    print(f"{len(mutants)} guards; no promise misses {len(unpromised)}, of which "
          f"{len(changing)} change an answer: {changing}")  # fmt: skip

    new = {f"{name}   {verdict}" for name, verdict in unpromised.items() if name not in argued}
    assert not new, "no promise misses these guards:\n" + "\n".join(sorted(new))
    assert not argued - unpromised.keys(), f"missed now; take off the list: {sorted(argued - unpromised.keys())}"
