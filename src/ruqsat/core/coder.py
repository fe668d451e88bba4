"""
Expressions → functions.

Code is generated from our own typed tree, never from text, and the values of a
row are constants bound by name or read from it: a value never becomes code.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from ruqsat.core.expression import All, Attribute, Call, Column, Compare, Const, Entity, Expression, Not
from ruqsat.core.expression import Any as Either
from ruqsat.core.function import Asking

ENTITY_ARGUMENTS = ("sub", "act", "res", "ctx")


class _Place(TypedDict):
    lineno: int
    col_offset: int


_AT: _Place = {"lineno": 1, "col_offset": 0}
"""Python asks of every node where it stands; told at once, for looking for those without is half of the work."""

_LOAD, _NOT, _AND, _OR = ast.Load(), ast.Not(), ast.And(), ast.Or()

_COMPARISONS: dict[str, ast.cmpop] = {
    "==": ast.Eq(),
    "!=": ast.NotEq(),
    "<": ast.Lt(),
    "<=": ast.LtE(),
    ">": ast.Gt(),
    ">=": ast.GtE(),
    "in": ast.In(),
}


class Coder:
    """
    Generates one function from one or more expressions.

    Args:
        callables: The registered functions by name.
        attributes: By column, the attribute of the row that is handed in as ``row``.
    """

    def __init__(self, callables: Mapping[str, Callable[..., Any]], attributes: Mapping[str, str]) -> None:
        self._attributes = attributes
        self._callables = callables
        self._bound: dict[str, object] = {}

    def function(self, expression: Expression, arguments: Sequence[str]) -> Callable[..., bool]:
        """Return a function that answers the expression."""
        return self._make([ast.Return(_not(_not(self._node(expression))), **_AT)], arguments)

    def first_miss(self, criteria: Sequence[Expression], arguments: Sequence[str]) -> Callable[..., int]:
        """Return a function that answers the number of the first criterion that fails, 0 if none does."""
        return self._make(self._numbered(criteria, negate=True), arguments)

    def first_hit(self, tests: Sequence[Expression], arguments: Sequence[str]) -> Callable[..., int]:
        """Return a function that answers the number of the first test that holds, 0 if none does."""
        return self._make(self._numbered(tests, negate=False), arguments)

    def _numbered(self, tests: Sequence[Expression], *, negate: bool) -> list[ast.stmt]:
        body: list[ast.stmt] = []
        for number, test in enumerate(tests, 1):
            node = self._node(test)
            body.append(ast.If(_not(node) if negate else node, [_return(number)], [], **_AT))
        return [*body, _return(0)]

    def _make(self, body: list[ast.stmt], arguments: Sequence[str]) -> Callable[..., Any]:
        parameters = ast.arguments([], [ast.arg(name, **_AT) for name in arguments], None, [], [], None, [])
        module = ast.Module([ast.FunctionDef("policy", parameters, body, [], None, None, **_AT)], [])
        if "type_params" in ast.FunctionDef._fields:  # from Python 3.12 on
            module.body[0].type_params = []  # type: ignore[attr-defined]
        names: dict[str, Any] = {"__builtins__": {}, **self._bound}
        # The tree was built from our own whitelisted nodes; no text of a policy reaches the compiler.
        exec(compile(module, "<policy>", "exec"), names)  # noqa: S102
        made: Callable[..., Any] = names["policy"]
        return made

    def _node(self, expression: Expression) -> ast.expr:  # noqa: PLR0911 - one line a kind
        match expression:
            case Const(value=value):
                return self._constant(value)
            case Entity(name=name):
                return _name(name)
            case Attribute(entity=entity, name=name):
                return ast.Attribute(_name(entity), name, _LOAD, **_AT)
            case Column(name=name):
                return ast.Attribute(_name("row"), self._attributes[name], _LOAD, **_AT)
            case Not(operand=operand):
                return _not(self._node(operand))
            case All(operands=(only,)):
                return self._node(only)
            case All(operands=operands):
                return ast.BoolOp(_AND, [self._node(part) for part in operands], **_AT)
            case Either(operands=operands):
                return ast.BoolOp(_OR, [self._node(part) for part in operands], **_AT)
            case Compare(op=op, left=left, right=right):
                return ast.Compare(self._node(left), [_COMPARISONS[op]], [self._node(right)], **_AT)
            case Call(function=name, arguments=arguments):
                function, nodes = self._callables[name], [self._node(a) for a in arguments]
                if isinstance(function, Asking):
                    return self._asked(function, nodes)
                self._bound["f_" + name] = function
                return ast.Call(_name("f_" + name), nodes, [], **_AT)
            case _:
                raise TypeError(f"{type(expression).__name__} is inlined before code is made")

    def _asked(self, function: Asking, entities: list[ast.expr]) -> ast.expr:
        """Write out what `Asking.__call__` does: most answers are there already, and then no call is made."""
        self._bound["w_" + function.kept] = function.work_out
        known = ast.Attribute(ast.Attribute(_name("ctx"), "worked_out", _LOAD, **_AT), "get", _LOAD, **_AT)
        kept = ast.Call(known, [ast.Constant(function.kept, **_AT)], [], **_AT)
        worked_out = ast.Call(_name("w_" + function.kept), entities, [], **_AT)
        return ast.Attribute(ast.BoolOp(_OR, [kept, worked_out], **_AT), function.part, _LOAD, **_AT)

    def _constant(self, value: object) -> ast.expr:
        name = f"c_{len(self._bound)}"
        self._bound[name] = value
        return _name(name)


def _return(number: int) -> ast.stmt:
    return ast.Return(ast.Constant(number, **_AT), **_AT)


def _name(name: str) -> ast.expr:
    return ast.Name(name, _LOAD, **_AT)


def _not(node: ast.expr) -> ast.expr:
    return ast.UnaryOp(_NOT, node, **_AT)
