"""How a rule's condition came to its value: which cell or conjunct held, and which did not."""

from collections.abc import Iterator

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.coder import ENTITY_ARGUMENTS, Coder
from ruqsat.core.expression import (
    All,
    Attribute,
    Call,
    Column,
    Compare,
    Const,
    Entity,
    EvalCell,
    Expression,
    Not,
    parse_expression,
)
from ruqsat.core.expression import Any as Either
from ruqsat.core.policy_set import PolicySet, Rule


class Step(Struct, frozen=True):
    """One test of a rule that was made: a cell of the row, or a part of its condition."""

    test: str
    held: bool


class Trace(Struct, frozen=True):
    """
    What was asked of one rule.

    Attributes:
        rule: The rule.
        matched: Whether it settles the case if no rule before it does.
        steps: Every test that was made, in order; the last one decided.
        failed: The cell or the conjunct that failed; empty when the rule matched.
    """

    rule: Rule
    matched: bool
    steps: tuple[Step, ...]
    failed: str


class Tracer:
    """Asks rules of one policy set slowly, test by test."""

    def __init__(self, policy_set: PolicySet) -> None:
        self._policy_set = policy_set
        self._tests: dict[Expression, object] = {}

    def trace(self, rule: Rule, case: Case) -> Trace:
        """Ask one rule; a test that raises counts against the request, as everywhere."""
        steps: list[Step] = []
        for column, test in self._policy_set.gate_tests:
            held = bool(test(case.sub, case.act, case.res, case.ctx, rule))
            steps.append(Step(f"{column} `{_cell(rule, column)}`", held))
            if not held:
                return Trace(rule, False, tuple(steps), steps[-1].test)
        failed = ""
        for part in _conjuncts(parse_expression(rule.condition)):
            try:
                held = self._value(part, case, steps)
            except Exception:  # noqa: BLE001 - as in the evaluator: what fails never helps the request
                held = not rule.allows
                steps.append(Step(f"{written(part)} (it failed)", held))
            if not held:
                failed = written(part)
                break
        return Trace(rule, not failed, tuple(steps), failed)

    def settled_by(self, case: Case) -> Iterator[Trace]:
        """Yield the trace of every rule in order of precedence, up to the one that settles the case."""
        for rule in self._policy_set.rules:
            trace = self.trace(rule, case)
            yield trace
            if trace.matched:
                return

    def _value(self, part: Expression, case: Case, steps: list[Step]) -> bool:
        match part:
            case Not(operand=operand):
                return not self._value(operand, case, steps)
            case All(operands=operands):
                return all(self._value(operand, case, steps) for operand in operands)
            case Either(operands=operands):
                return any(self._value(operand, case, steps) for operand in operands)
            case _:
                test = self._tests.get(part)
                if test is None:
                    test = self._tests[part] = Coder(self._policy_set.callables, {}).function(part, ENTITY_ARGUMENTS)
                held = bool(test(case.sub, case.act, case.res, case.ctx))  # type: ignore[operator]
                if not isinstance(part, Const):
                    steps.append(Step(written(part), held))
                return held


def leaves(part: Expression) -> Iterator[str]:
    """Yield what of a condition is tested by itself."""
    match part:
        case Not(operand=operand):
            yield from leaves(operand)
        case All(operands=operands) | Either(operands=operands):
            for operand in operands:
                yield from leaves(operand)
        case Const():
            return
        case _:
            yield written(part)


def written(part: Expression) -> str:
    """
    Write an expression as an author would.

    Examples:
        >>> written(parse_expression("r.sub.active&&!(r.res.blocked || r.res.conf=='V')"))
        "r.sub.active && !(r.res.blocked || r.res.conf == 'V')"
    """
    match part:
        case Const(value=value):
            return repr(value)
        case Entity(name=name):
            return f"r.{name}"
        case Attribute(entity=entity, name=name):
            return f"r.{entity}.{name}"
        case Column(name=name):
            return f"p.{name}"
        case EvalCell(column=column):
            return f"eval(p.{column})"
        case Compare(op=op, left=left, right=right):
            return f"{written(left)} {op} {written(right)}"
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(map(written, arguments))})"
        case _:
            return _joined(part)


def _joined(part: Expression) -> str:
    match part:
        case Not(operand=All() | Either() | Compare() as operand):
            return f"!({written(operand)})"
        case Not(operand=operand):
            return f"!{written(operand)}"
        case All(operands=operands):
            return " && ".join(_enclosed(each) if isinstance(each, Either) else written(each) for each in operands)
        case Either(operands=operands):
            return " || ".join(_enclosed(each) if isinstance(each, All) else written(each) for each in operands)
        case _:
            raise TypeError(f"{type(part).__name__} is not written")


def _enclosed(part: Expression) -> str:
    return f"({written(part)})"


def _conjuncts(part: Expression) -> tuple[Expression, ...]:
    return part.operands if isinstance(part, All) else (part,)


def _cell(rule: Rule, column: str) -> str:
    return {"role": rule.role, "act": rule.act, "class": rule.data_class, "purpose": rule.purpose}[column]
