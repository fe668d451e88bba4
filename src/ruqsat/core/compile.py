"""
Checked rows → a :class:`PolicySet`.

Each matcher is partially evaluated against every row: what depends on the action
or the class alone is settled now, for every word of the vocabulary, and becomes
the index; the rest becomes one generated function.  Code is generated from our
own typed tree, never from text, and the values of a row are bound by name: a
value never becomes code.
"""

import ast
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ruqsat.core.case import ActionView, Case, ContextView, ResourceView, SubjectView
from ruqsat.core.consent import ConsentAnswer, consent_answer
from ruqsat.core.covers import Cover, Covers
from ruqsat.core.delegation import delegation_answer
from ruqsat.core.emergency import break_glass_answer
from ruqsat.core.entitlement import MatrixRow, entitlement_answer
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
    conjuncts,
    parse_expression,
    walk,
)
from ruqsat.core.expression import Any as Either
from ruqsat.core.functions import Function, words
from ruqsat.core.laws import Law
from ruqsat.core.model_conf import Model, Section
from ruqsat.core.policy_set import PolicySet, Rule
from ruqsat.core.representation import representation_answer
from ruqsat.core.rows import Row
from ruqsat.core.vocabulary import Vocabulary

SECTION_FUNCTIONS = ("entitled", "granted", "refused", "held_back", "represents", "delegated", "break_glass")
"""Functions that ask another section of the model; each takes the four entities."""

ROW_ATTRIBUTES = {
    "2": {
        "document": "id",
        "type": "effect",
        "since": "start",
        "until": "end",
        "purposes": "purposes",
        "grantees": "grantees",
        "acts": "actions",
        "classes": "categories",
        "records": "data_records",
        "authors": "data_authors",
        "encounters": "data_encounters",
        "data_from": "data_from",
        "data_until": "data_until",
        "labels": "labels",
    },
    "3": {
        "delegation": "id",
        "since": "start",
        "until": "end",
        "purposes": "purposes",
        "acts": "actions",
        "classes": "categories",
        "labels": "labels",
    },
    "4": {"grant": "grant", "subject": "subject", "since": "since", "until": "until", "acts": "acts"},
    "5": {"role": "role", "purpose": "purpose", "act": "act", "class": "class_"},
}
"""For each covering section: the attribute of a fact that a column reads."""

_ENTITY_ARGUMENTS = ("sub", "act", "res", "ctx")
KEY = {("sub", "roles"), ("act", "name"), ("res", "data_class"), ("ctx", "purpose")}
"""What the index is made of: conditions that read these alone are settled once for each combination."""


def compile_policy_set(
    digest: str,
    model: Model,
    rows: Iterable[Row],
    vocabulary: Vocabulary,
    laws: dict[str, Law],
    functions: dict[str, Function],
    hierarchies: Any,
) -> PolicySet:
    """Compile rows that :func:`ruqsat.core.check.check_pack` found no error in."""
    rows = tuple(rows)
    matrix = tuple(
        MatrixRow(row.text("role"), row.text("purpose"), row.text("act"), row.text("class"))
        for row in rows
        if row.kind == "p5"
    )
    covers = Covers({suffix: _cover(model.sections[suffix], functions) for suffix in ROW_ATTRIBUTES})
    answers = _answers(covers, matrix, vocabulary)
    callables = {name: function.call for name, function in functions.items()}
    asking = {name: _asking(name, answer) for name, answer in answers.items()}
    callables |= asking
    rules, index = _index(model.sections[""], [row for row in rows if row.kind == "p"], vocabulary, callables)

    def fuse(candidates: tuple[Rule, ...]) -> Callable[..., int]:
        return _Coder(callables, {}, {}).first_hit([rule.residue for rule in candidates], _ENTITY_ARGUMENTS)

    return PolicySet(
        digest, vocabulary, laws, rules, index, covers, matrix, hierarchies, functions, answers, asking, {}, fuse, {}
    )


def _answers(covers: Covers, matrix: tuple[MatrixRow, ...], vocabulary: Vocabulary) -> dict[str, Callable[[Case], Any]]:
    switches = vocabulary.switches

    def consent(case: Case) -> ConsentAnswer:
        return consent_answer(case, covers, switches)

    return {
        "entitled": lambda case: entitlement_answer(case, covers, matrix),
        "granted": consent,
        "refused": consent,
        "held_back": consent,
        "represents": lambda case: representation_answer(case, switches),
        "delegated": lambda case: delegation_answer(case, covers, switches),
        "break_glass": lambda case: break_glass_answer(case, covers, switches),
    }


_CONSENT_SIDE = {"granted": "permits", "refused": "denials", "held_back": "unread"}


def answer_of(name: str, case: Case, answers: Mapping[str, Callable[[Case], Any]]) -> Any:
    """Return the section's answer for this case, worked out once."""
    kept = "consent" if name in _CONSENT_SIDE else name
    answer = case.ctx.worked_out.get(kept)
    if answer is None:
        answer = case.ctx.worked_out[kept] = answers[name](case)
    return answer


def applied_by(name: str, case: Case, answers: Mapping[str, Callable[[Case], Any]]) -> tuple[str, ...]:
    """Return the ids of the documents by which a section answered."""
    answer = answer_of(name, case, answers)
    applied: tuple[str, ...] = getattr(answer, _CONSENT_SIDE.get(name, "applied"))
    return applied


def _asking(name: str, answer: Callable[[Case], Any]) -> Callable[..., bool]:
    """Return the function that rules call: the section's yes or no, worked out once a case."""
    kept, side = ("consent", _CONSENT_SIDE[name]) if name in _CONSENT_SIDE else (name, "holds")

    def ask(sub: SubjectView, act: ActionView, res: ResourceView, ctx: ContextView) -> bool:
        known = ctx.worked_out.get(kept)
        if known is None:
            known = ctx.worked_out[kept] = answer(Case.of(sub, act, res, ctx))
        return bool(getattr(known, side))

    return ask


def _cover(section: Section, functions: dict[str, Function]) -> Cover:
    """Compile a covering matcher; the checker has seen to it that every criterion is a call, gates first."""
    criteria = [part for part in conjuncts(section.matcher) if isinstance(part, Call)]
    known = [functions[part.function] for part in criteria]
    coder = _Coder({name: f.call for name, f in functions.items()}, {}, ROW_ATTRIBUTES[section.suffix])
    return Cover(
        coder.first_miss(criteria, (*_ENTITY_ARGUMENTS, "row")),
        ("", *(function.miss for function in known)),
        sum(function.gate for function in known),
    )


def _index(
    section: Section, rows: list[Row], vocabulary: Vocabulary, callables: Mapping[str, Callable[..., Any]]
) -> tuple[tuple[Rule, ...], dict[tuple[str, str], tuple[Rule, ...]]]:
    buckets: dict[tuple[str, str], list[Rule]] = {}
    rules = []
    for row in sorted(rows, key=lambda row: (int(row.text("priority")), row.text("id"))):
        rule, actions, classes = _rule(section, row, vocabulary, callables)
        rules.append(rule)
        for action in actions:
            for data_class in classes:
                buckets.setdefault((action, data_class), []).append(rule)
    return tuple(rules), {key: tuple(bucket) for key, bucket in buckets.items()}


def _rule(
    section: Section, row: Row, vocabulary: Vocabulary, callables: Mapping[str, Callable[..., Any]]
) -> tuple[Rule, list[str], list[str]]:
    actions, classes = list(vocabulary.actions), list(vocabulary.classes)
    cells = {name: cell.text for name, cell in row.cells.items()}
    inlined = inline(section.matcher, cells)
    gate, residue = [], []
    for conjunct in conjuncts(inlined):
        reads = _reads(conjunct)
        if reads == {("act", "name")}:
            actions = _accepted(conjunct, "act", "name", actions, cells, callables)
        elif reads == {("res", "data_class")}:
            classes = _accepted(conjunct, "res", "data_class", classes, cells, callables)
        elif reads <= KEY:
            gate.append(conjunct)
        else:
            residue.append(conjunct)
    rule = Rule(
        priority=int(cells["priority"]),
        id=cells["id"],
        allows=cells["eft"] == "allow",
        ground=cells["basis"],
        duties=(duties := words(cells["duties"])),
        blocking=frozenset(duty for duty in duties if vocabulary.duties[duty.partition(":")[0]].blocking),
        law=words(cells["law"]),
        asks=tuple(n.function for n in walk(inlined) if isinstance(n, Call) and n.function in SECTION_FUNCTIONS),
        gate=_Coder(callables, cells, {}).function(_all(gate), _ENTITY_ARGUMENTS),
        test=_Coder(callables, cells, {}).function(_all(residue), _ENTITY_ARGUMENTS),
        residue=_all(residue),
        condition=cells["when"],
    )
    return rule, actions, classes


def _all(parts: list[Expression]) -> Expression:
    return All(tuple(parts)) if parts else Const(True)


def inline(expression: Expression, cells: Mapping[str, str]) -> Expression:
    """Put the row's cells in the place of its columns and of ``eval(p.when)`` the condition; flatten ``&&``."""
    match expression:
        case EvalCell(column=column):
            return parse_expression(cells[column])
        case Column(name=name):
            return Const(cells[name])
        case All(operands=operands):
            return All(tuple(part for operand in operands for part in conjuncts(inline(operand, cells))))
        case Either(operands=operands):
            return Either(tuple(inline(operand, cells) for operand in operands))
        case Not(operand=operand):
            return Not(inline(operand, cells))
        case Compare(op=op, left=left, right=right):
            return Compare(op, inline(left, cells), inline(right, cells))
        case Call(function=function, arguments=arguments):
            return Call(function, tuple(inline(argument, cells) for argument in arguments))
        case _:
            return expression


def _reads(expression: Expression) -> set[tuple[str, str]]:
    """
    Return what of the request an expression reads; a whole entity counts as ``(entity, "*")``.

    The role matrix reads the index's own key and nothing else, which the checker holds.
    """
    reads: set[tuple[str, str]] = set()
    if isinstance(expression, Not):
        return _reads(expression.operand)
    if isinstance(expression, Call) and expression.function == "entitled":
        return KEY
    for node in walk(expression):
        if isinstance(node, Attribute):
            reads.add((node.entity, node.name))
        elif isinstance(node, Entity):
            reads.add((node.name, "*"))
    return reads


def _accepted(
    expression: Expression,
    entity: str,
    name: str,
    candidates: list[str],
    cells: Mapping[str, str],
    callables: Mapping[str, Callable[..., Any]],
) -> list[str]:
    test = _Coder(callables, cells, {}).function(expression, (entity,))
    return [word for word in candidates if test(SimpleNamespace(**{name: word}))]


_COMPARISONS: dict[str, ast.cmpop] = {
    "==": ast.Eq(),
    "!=": ast.NotEq(),
    "<": ast.Lt(),
    "<=": ast.LtE(),
    ">": ast.Gt(),
    ">=": ast.GtE(),
    "in": ast.In(),
}


class _Coder:
    """
    Generates one function from one expression.

    Columns are constants of a static row (*cells*) or attributes of the row
    that is handed in (*attributes*).
    """

    def __init__(
        self, callables: Mapping[str, Callable[..., Any]], cells: Mapping[str, str], attributes: Mapping[str, str]
    ) -> None:
        self._cells, self._attributes = cells, attributes
        self._callables = callables
        self._bound: dict[str, object] = {}

    def function(self, expression: Expression, arguments: tuple[str, ...]) -> Callable[..., bool]:
        """Return a function that answers the expression."""
        return self._make(self._node(expression), arguments)

    def first_miss(self, criteria: list[Call], arguments: tuple[str, ...]) -> Callable[..., int]:
        """Return a function that answers the number of the first criterion that fails, 0 if none does."""
        body: ast.expr = ast.Constant(0)
        for number, criterion in reversed(list(enumerate(criteria, 1))):
            body = ast.IfExp(self._node(criterion), body, ast.Constant(number))
        return self._make(body, arguments)

    def first_hit(self, tests: list[Expression], arguments: tuple[str, ...]) -> Callable[..., int]:
        """Return a function that answers the number of the first test that holds, 0 if none does."""
        body: ast.expr = ast.Constant(0)
        for number, test in reversed(list(enumerate(tests, 1))):
            body = ast.IfExp(self._node(test), ast.Constant(number), body)
        return self._make(body, arguments)

    def _make(self, body: ast.expr, arguments: tuple[str, ...]) -> Callable[..., Any]:
        parameters = ast.arguments([], [ast.arg(name) for name in arguments], None, [], [], None, [])
        tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(parameters, body)))
        code = compile(tree, "<policy>", "eval")
        # The tree was built above from our own whitelisted nodes; no text of a policy reaches the compiler.
        made: Callable[..., Any] = eval(code, {"__builtins__": {}, **self._bound})  # noqa: S307
        return made

    def _node(self, expression: Expression) -> ast.expr:  # noqa: PLR0911 - one line a kind of node
        match expression:
            case Const(value=value):
                return self._constant(value)
            case Entity(name=name):
                return ast.Name(name, ast.Load())
            case Attribute(entity=entity, name=name):
                return ast.Attribute(ast.Name(entity, ast.Load()), name, ast.Load())
            case Column(name=name) if name in self._cells:
                return self._constant(self._cells[name])
            case Column(name=name):
                return ast.Attribute(ast.Name("row", ast.Load()), self._attributes[name], ast.Load())
            case Not(operand=operand):
                return ast.UnaryOp(ast.Not(), self._node(operand))
            case All(operands=(only,)):
                return self._node(only)
            case All(operands=operands):
                return ast.BoolOp(ast.And(), [self._node(part) for part in operands])
            case Either(operands=operands):
                return ast.BoolOp(ast.Or(), [self._node(part) for part in operands])
            case Compare(op=op, left=left, right=right):
                return ast.Compare(self._node(left), [_COMPARISONS[op]], [self._node(right)])
            case Call(function=name, arguments=arguments):
                self._bound["f_" + name] = self._callables[name]
                return ast.Call(ast.Name("f_" + name, ast.Load()), [self._node(a) for a in arguments], [])
            case _:
                raise TypeError(f"{type(expression).__name__} is inlined before code is made")

    def _constant(self, value: object) -> ast.expr:
        name = f"c{len(self._bound)}"
        self._bound[name] = value
        return ast.Name(name, ast.Load())
