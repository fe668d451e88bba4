"""A policy set: checked, compiled, immutable; what an evaluation runs on."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.covers import Covers
from ruqsat.core.entitlement import MatrixRow
from ruqsat.core.expression import Expression
from ruqsat.core.functions import Function
from ruqsat.core.hierarchy import Hierarchies
from ruqsat.core.laws import Law
from ruqsat.core.vocabulary import Vocabulary

FirstHit = Callable[[Any, Any, Any, Any], int]
"""Given the four entities: the number of the first rule that matches (the first is 1), 0 if none does."""

RuleTest = Callable[[Any, Any, Any, Any], bool]


CANDIDATES_KEPT = 4096
"""Combinations of roles, action, class and purposes kept; real traffic has some dozens."""


class Rule(Struct, frozen=True):
    """
    One compiled row of ``p``.

    Attributes:
        ground: On a permit the legal basis; on a denial the reason without its
            ``deny.``, or ``topic.*`` where a section tells the reason itself.
        blocking: Those of the duties that the enforcement point itself must carry out.
        asks: The section functions that the condition calls, for the explanation.
        gate: What of the condition reads nothing but the index's key (roles,
            action, class, purposes); settled once for each combination.
        test: The rest of the condition; ``residue`` is what it was made from.
    """

    priority: int
    id: str
    allows: bool
    ground: str
    duties: tuple[str, ...]
    blocking: frozenset[str]
    law: tuple[str, ...]
    asks: tuple[str, ...]
    gate: RuleTest
    test: RuleTest
    residue: Expression
    condition: str


class Candidates(Struct, frozen=True):
    """The rules that can match one combination of the index's key, and one test that finds the first that does."""

    rules: tuple[Rule, ...]
    first_hit: FirstHit

    def first(self, case: Case) -> Rule | None:
        """Return the first rule that matches; one that fails while being tested never helps the request."""
        try:
            number = self.first_hit(case.sub, case.act, case.res, case.ctx)
        except Exception:  # noqa: BLE001 - then each rule alone, so that the one that fails is known
            return next((rule for rule in self.rules if matches(rule, rule.test, case)), None)
        return self.rules[number - 1] if number else None


class PolicySet(Struct, frozen=True):
    """
    Everything that decides, under one digest; swapped whole, never edited.

    ``index`` gives, for an action and a class, the rules that can match, in
    order of priority; ``candidates`` keeps what remains of them for one
    X
    """

    digest: str
    vocabulary: Vocabulary
    laws: dict[str, Law]
    rules: tuple[Rule, ...]
    index: dict[tuple[str, str], tuple[Rule, ...]]
    covers: Covers
    matrix: tuple[MatrixRow, ...]
    hierarchies: Hierarchies
    functions: dict[str, Function]
    answers: dict[str, Callable[[Case], Any]]
    section_functions: dict[str, Callable[..., bool]]
    candidates: dict[tuple[object, ...], Candidates]
    fuse: Callable[[tuple[Rule, ...]], FirstHit]
    coarse_reasons: dict[str, str]

    def __repr__(self) -> str:
        return f"<PolicySet {self.digest[:16]}: {len(self.rules)} rules>"

    def candidates_for(self, case: Case) -> Candidates:
        """Return the rules that can match this case, in order of priority."""
        key = (case.sub.roles, case.act.name, case.res.data_class, case.ctx.purpose)
        known = self.candidates.get(key)
        if known is None:
            if len(self.candidates) >= CANDIDATES_KEPT:
                self.candidates.clear()
            bucket = self.index.get((case.act.name, case.res.data_class or ""), ())
            rules = tuple(rule for rule in bucket if matches(rule, rule.gate, case))
            known = self.candidates[key] = Candidates(rules, self.fuse(rules))
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


def matches(rule: Rule, test: RuleTest, case: Case) -> bool:
    """Run one test of a rule; an error never helps: a failed permit is absent, a failed denial matches."""
    try:
        return test(case.sub, case.act, case.res, case.ctx)
    except Exception:  # noqa: BLE001 - last resort: whatever went wrong, it must not help the request
        return not rule.allows
