"""``policy coverage``: which rules the cases decide by, and which parts of conditions they have seen true and false."""

from collections.abc import Iterable

from msgspec import Struct

from ruqsat.core.authoring.tracing import Tracer, leaves
from ruqsat.core.case import Case
from ruqsat.core.entitlement import MatrixRow
from ruqsat.core.expression import parse_expression
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.sampling import Situation
from ruqsat.core.validity import refuse_invalid


class RuleCoverage(Struct, frozen=True):
    """
    One rule.

    Attributes:
        decided: How many cases it settled.
        branches: How much there is to see: each outcome of each part of its condition, and that it decides.
        missing: What no case has shown, in words.
    """

    rule: str
    decided: int
    branches: int
    missing: tuple[str, ...]


class Coverage(Struct, frozen=True):
    """All rules, and the rows of the role matrix that no case needed."""

    rules: tuple[RuleCoverage, ...]
    matrix_rows: int
    matrix_unused: tuple[str, ...]

    @property
    def percent(self) -> float:
        """Return the share of branches that the cases have shown, in percent, rounded down to a tenth."""
        there = sum(rule.branches for rule in self.rules) + self.matrix_rows
        missing = sum(len(rule.missing) for rule in self.rules) + len(self.matrix_unused)
        return int(1000 * (there - missing) / there) / 10 if there else 0.0


def measure_coverage(policy_set: PolicySet, cases: Iterable[tuple[PolicySet, Situation]]) -> Coverage:
    """
    Decide every case slowly, and count what was seen.

    Args:
        policy_set: The pack's rules.
        cases: Each with the set that decides it: the same rules, perhaps under other switches.
    """
    decided: dict[str, int] = {rule.id: 0 for rule in policy_set.rules}
    seen: dict[str, set[tuple[str, bool]]] = {rule.id: set() for rule in policy_set.rules}
    used: set[MatrixRow] = set()
    for deciding, each in cases:
        case, tracer = Case.of(*each), Tracer(deciding)
        if refuse_invalid(case, deciding.vocabulary) is not None:
            continue
        traces = list(tracer.settled_by(case))
        if any("entitled" in trace.rule.asks for trace in traces):  # what is denied before asks no row
            used.update(row for row in policy_set.matrix if not deciding.covers.test("5", case, row)[0])
        for trace in traces:
            seen[trace.rule.id].update((step.test, step.held) for step in trace.steps)
            decided[trace.rule.id] += trace.matched
    rules = []
    for rule in policy_set.rules:
        tests = tuple(dict.fromkeys(leaves(parse_expression(rule.condition))))
        missing: tuple[str, ...] = () if decided[rule.id] else ("it decided no case",)
        missing += tuple(
            f"`{test}` was never {'true' if outcome else 'false'}"
            for test in tests
            for outcome in (True, False)
            if (test, outcome) not in seen[rule.id]
        )
        rules.append(RuleCoverage(rule.id, decided[rule.id], 1 + 2 * len(tests), missing))
    unused = tuple(
        f"{row.role}: {row.act} {row.class_} for {row.purpose}" for row in policy_set.matrix if row not in used
    )
    return Coverage(tuple(rules), len(policy_set.matrix), unused)
