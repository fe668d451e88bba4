"""A policy set: checked, compiled, immutable; what an evaluation runs on."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.coder import ENTITY_ARGUMENTS, Coder
from ruqsat.core.covers import Covers
from ruqsat.core.entitlement import MatrixRow
from ruqsat.core.expression import All, Expression
from ruqsat.core.function import Function
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.laws import Law
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.rule_index import RuleIndex
from ruqsat.core.vocabulary import Vocabulary

FirstHit = Callable[[Any, Any, Any, Any], int]
"""Given the four entities: the number of the first rule that matches (the first is 1), 0 if none does."""

RuleTest = Callable[[Any, Any, Any, Any], bool]


CANDIDATES_KEPT = 4096
"""Combinations of roles, action, class and purposes kept; real traffic has some dozens."""


class Guard(Struct, frozen=True):
    """An attribute that many rules compare with a text, and these texts; rules are found by it, too."""

    entity: str
    name: str
    constants: frozenset[str]


class Rule(Struct, frozen=True):
    """
    One compiled row of ``p``.

    Attributes:
        ground: On a permit the legal basis; on a denial the reason without its
            ``deny.``, or ``topic.*`` where a section tells the reason itself.
        blocking: Those of the duties that the enforcement point itself must carry out.
        asks: The section functions that the condition calls, for the explanation.
        role, act, data_class, purpose: The row's cells.
        settled: What of the condition reads nothing but the index's key; tested
            once for each combination.
        residue: The rest of the condition, conjunct by conjunct.
    """

    priority: int
    id: str
    allows: bool
    ground: str
    duties: tuple[str, ...]
    blocking: frozenset[str]
    law: tuple[str, ...]
    asks: tuple[str, ...]
    role: str
    act: str
    data_class: str
    purpose: str
    settled: RuleTest
    residue: tuple[Expression, ...]
    condition: str


class Candidates(Struct, frozen=True):
    """The rules that can match one combination of the index's key, and one test that finds the first that does."""

    rules: tuple[Rule, ...]
    first_hit: FirstHit
    test_of: Callable[[Rule], RuleTest]

    def first(self, case: Case) -> Rule | None:
        """Return the first rule that matches; one that fails while being tested never helps the request."""
        try:
            number = self.first_hit(case.sub, case.act, case.res, case.ctx)
        except Exception:  # noqa: BLE001 - then each rule alone, so that the one that fails is known
            return self._first_alone(case)
        return self.rules[number - 1] if number else None

    def _first_alone(self, case: Case) -> Rule | None:
        return next((rule for rule in self.rules if matches(rule, self.test_of(rule), case)), None)


class PolicySet(Struct, frozen=True):
    """
    Everything that decides, under one digest; swapped whole, never edited.

    ``gate_tests`` is ``gate`` column by column, for explanations; ``request_type`` is what
    a request looks like, with the words that the pack itself declares as stated.

    ``index`` finds the rules whose cells a case can reach and ``gate`` says of
    each exactly; what remains of them for one combination of the key (roles,
    action, class, purposes, guarded attributes) is kept in ``candidates``.

    Unless it ``reads_present`` otherwise than against the term of a fact, what it decides
    changes at boundaries of the facts and at local midnights only.
    """

    digest: str
    vocabulary: Vocabulary
    laws: dict[str, Law]
    rules: tuple[Rule, ...]
    index: RuleIndex
    gate: Callable[..., bool]
    gate_tests: tuple[tuple[str, Callable[..., bool]], ...]
    guards: tuple[Guard, ...]
    covers: Covers
    matrix: tuple[MatrixRow, ...]
    hierarchies: Hierarchies
    functions: dict[str, Function]
    answers: dict[str, Callable[[Case], Any]]
    section_functions: dict[str, Callable[..., bool]]
    callables: dict[str, Callable[..., Any]]
    request_type: type[EvaluationRequest] = EvaluationRequest
    candidates: dict[tuple[object, ...], Candidates] = {}
    first_hits: dict[tuple[tuple[Expression, ...], ...], FirstHit] = {}
    tests: dict[tuple[Expression, ...], RuleTest] = {}
    coarse_reasons: dict[str, str] = {}
    reads_present: bool = True

    def __repr__(self) -> str:
        return f"<PolicySet {self.digest[:16]}: {len(self.rules)} rules>"

    def candidates_for(self, case: Case) -> Candidates:
        """Return the rules that can match this case, in order of priority."""
        key: tuple[object, ...] = (case.sub.roles, case.act.name, case.res.data_class, case.ctx.purpose)
        for guard in self.guards:
            key += (_guarded(guard, case),)
        known = self.candidates.get(key)
        if known is None:
            if len(self.candidates) >= CANDIDATES_KEPT:
                self.candidates.clear()
            known = self.candidates[key] = self._find_candidates(case)
        return known

    def _find_candidates(self, case: Case) -> Candidates:
        found = map(self.rules.__getitem__, self.index.find(case))
        rules = tuple(rule for rule in found if self._can_match(rule, case))
        return Candidates(rules, self._first_hit(rules), self.test_of)

    def _first_hit(self, rules: tuple[Rule, ...]) -> FirstHit:
        """Return the test for the first rule that matches; thousands of combinations share some hundreds of them."""
        residues = tuple([rule.residue for rule in rules])
        known = self.first_hits.get(residues)
        if known is None:
            if len(self.first_hits) >= CANDIDATES_KEPT:
                self.first_hits.clear()
            made = Coder(self.callables, {}).first_hit([All(residue) for residue in residues], ENTITY_ARGUMENTS)
            known = self.first_hits[residues] = made
        return known

    def _can_match(self, rule: Rule, case: Case) -> bool:
        try:
            return self.gate(case.sub, case.act, case.res, case.ctx, rule) and matches(rule, rule.settled, case)
        except Exception:  # noqa: BLE001 - last resort, as in `matches`
            return not rule.allows

    def test_of(self, rule: Rule) -> RuleTest:
        """Return the test of a rule's residue alone."""
        known = self.tests.get(rule.residue)
        if known is None:
            if len(self.tests) >= CANDIDATES_KEPT:
                self.tests.clear()
            made = Coder(self.callables, {}).function(All(rule.residue), ENTITY_ARGUMENTS)
            known = self.tests[rule.residue] = made
        return known

    def coarse(self, reason: str) -> str:
        """
        Return what a client may learn of an exact reason code.

        The longest entry of the vocabulary's ``[reasons]`` that begins the code
        answers; a denial that none begins is ``not_permitted``.
        """
        known = self.coarse_reasons.get(reason)
        if known is None:
            known = self.coarse_reasons[reason] = self._coarse(reason)
        return known

    def _coarse(self, reason: str) -> str:
        prefix = reason
        while prefix:
            if prefix in self.vocabulary.reasons:
                return self.vocabulary.reasons[prefix]
            prefix = prefix.rpartition(".")[0]
        return "not_permitted"


def _guarded(guard: Guard, case: Case) -> str | None:
    """Return the attribute's value if a rule compares it with just that; None for all others, alike to every rule."""
    value = getattr(getattr(case, guard.entity), guard.name, None)
    return value if isinstance(value, str) and value in guard.constants else None


def matches(rule: Rule, test: RuleTest, case: Case) -> bool:
    """Run one test of a rule; an error never helps: a failed permit is absent, a failed denial matches."""
    try:
        return test(case.sub, case.act, case.res, case.ctx)
    except Exception:  # noqa: BLE001 - last resort: whatever went wrong, it must not help the request
        return not rule.allows
