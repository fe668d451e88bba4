"""
The language of matchers and conditions: text → a typed, whitelisted tree.

The grammar is Casbin's: ``&&``, ``||``, ``!``, comparison, ``in``, attributes of
the request's entities (``r.sub.roles``), columns of the row (``p.role``),
literals, and calls of registered functions.  Nothing else exists here: no
arithmetic, no subscript, no attribute that starts with ``_``.  What pycasbin
would rewrite in silence (an operator, a prefix or a ``#`` inside a literal) is
refused, so that both read the same text the same way.
"""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

from ruqsat.syntax import parse_python

MAX_NODES = 200
"""The static bound on the size of one expression; evaluation visits each node at most once."""

KEPT = 1024
"""How many trees are kept; a pack has some hundred conditions, and under other switches they read the same."""

ENTITIES = ("sub", "act", "res", "ctx")


class Const(Struct, frozen=True, tag=True):
    """A literal: text, whole number, True, False or None."""

    value: str | int | bool | None


class Entity(Struct, frozen=True, tag=True):
    """One of the four entities of the request, handed to a function as a whole."""

    name: str


class Attribute(Struct, frozen=True, tag=True):
    """An attribute of an entity: ``r.sub.roles``."""

    entity: str
    name: str


class Column(Struct, frozen=True, tag=True):
    """A cell of the row under test: ``p.role``."""

    name: str


class EvalCell(Struct, frozen=True, tag=True):
    """``eval(p.when)``: the condition written in that cell."""

    column: str


class Not(Struct, frozen=True, tag=True):
    """Negation."""

    operand: "Expression"


class All(Struct, frozen=True, tag=True):
    """``&&`` over two or more operands, tested left to right."""

    operands: tuple["Expression", ...]


class Any(Struct, frozen=True, tag=True):
    """``||`` over two or more operands, tested left to right."""

    operands: tuple["Expression", ...]


class Compare(Struct, frozen=True, tag=True):
    """One comparison; ``op`` is ``==``, ``!=``, ``<``, ``<=``, ``>``, ``>=`` or ``in``."""

    op: str
    left: "Expression"
    right: "Expression"


class Call(Struct, frozen=True, tag=True):
    """A call of a registered function."""

    function: str
    arguments: tuple["Expression", ...]


Expression = Const | Entity | Attribute | Column | EvalCell | Not | All | Any | Compare | Call


class ExpressionError(Exception):
    """The text is no expression of this language; ``offset`` counts from its first character."""

    def __init__(self, code: str, message: str, offset: int = 0, width: int = 1, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.offset, self.width, self.hint = code, message, offset, width, hint


_LITERAL = re.compile(r"'[^'\\]*'|\"[^\"\\]*\"")
_TRIPLE = re.compile(r"'''|\"\"\"")
_PREFIX = re.compile(r"\b([rp]\d*)\.(?=[A-Za-z_])")
_IN_LITERAL = (
    ("operator-in-literal", re.compile(r"&&|\|\||!"), "an operator"),
    ("prefix-in-literal", re.compile(r"\b[rp]\d*\."), "a request or policy prefix"),
    ("hash-in-literal", re.compile("#"), "a `#`"),
    ("bracket-in-literal", re.compile(r"[()\[\],]"), "a bracket or comma"),
)
_OPS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
}


@lru_cache(KEPT)
def parse_expression(text: str, suffix: str = "") -> Expression:
    """
    Read one matcher or condition; of the latest the trees are kept, since checker and compiler read the same texts.

    Args:
        text: The expression; one line.
        suffix: The section's number: ``"2"`` reads ``r2.…`` and ``p2.…``, ``""`` reads ``r.…`` and ``p.…``.

    Raises:
        ExpressionError: with a code, the offset and a hint.

    Examples:
        >>> parse_expression("r.act.name == p.act")
        Compare(op='==', left=Attribute(entity='act', name='name'), right=Column(name='act'))
        >>> parse_expression("2 ** 9")
        Traceback (most recent call last):
        ...
        ruqsat.core.expression.ExpressionError: `2 ** 9` is not part of the language of conditions
    """
    if "\\" in text:
        raise ExpressionError(
            "backslash-in-condition",
            "a backslash stands in the condition, where the two engines could read it differently",
            text.index("\\"),
            hint="move the value into the vocabulary and compare by its name",
        )
    refuse_rewritten_literals(text)
    python = _to_python(text)
    if not python.strip():
        raise ExpressionError("empty-condition", "the condition is empty", hint="write `True` for a rule without one")
    try:
        tree = parse_python(python.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        offset = (getattr(error, "offset", 1) or 1) - 1
        raise ExpressionError(
            "unreadable-condition",
            "the condition cannot be read",
            offset,
            hint=f"near here: {error.__class__.__name__}",
        ) from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES * 2:
        raise ExpressionError(
            "condition-too-large", f"the condition has more than {MAX_NODES} parts",
            hint="split the rule, or let a group stand for many words",
        )  # fmt: skip
    return _Reader(suffix).read(tree)


def refuse_rewritten_literals(text: str) -> None:
    """
    Refuse literals that pycasbin would rewrite or split before it evaluates them.

    Raises:
        ExpressionError: the first such literal.
    """
    if triple := _TRIPLE.search(text):
        raise ExpressionError(
            "refused-construct",
            f"a text in {triple.group()} is not part of the language of conditions",
            triple.start(),
            3,
            "write the text in one pair of quotation marks",
        )
    for literal in _LITERAL.finditer(text):
        inside = literal.group()[1:-1]
        for code, pattern, what in _IN_LITERAL:
            if pattern.search(inside):
                raise ExpressionError(
                    code,
                    f"{what} stands inside the literal {literal.group()}, where Casbin would rewrite it",
                    literal.start(),
                    len(literal.group()),
                    "move the value into the vocabulary and compare by its name",
                )
    if "#" in _LITERAL.sub("", text):
        raise ExpressionError(
            "comment-after-rule",
            "text after `#` would become part of the condition",
            text.index("#"),
            hint="comments stand on a line of their own, above the rule",
        )


def _to_python(text: str) -> str:
    """Rewrite operators and prefixes outside literals, as pycasbin does everywhere."""
    parts: list[str] = []
    end = 0
    for literal in _LITERAL.finditer(text):
        parts += (_rewrite(text[end : literal.start()]), literal.group())
        end = literal.end()
    parts.append(_rewrite(text[end:]))
    return "".join(parts)


def _rewrite(code: str) -> str:
    code = code.replace("&&", " and ").replace("||", " or ")
    code = re.sub(r"!(?!=)", " not ", code)
    return _PREFIX.sub(r"\1_", code)


class _Reader:
    """Turns Python's tree into ours, node kind by node kind; what is not listed does not exist."""

    def __init__(self, suffix: str) -> None:
        self._request, self._policy = f"r{suffix}_", f"p{suffix}_"

    def read(self, node: ast.expr) -> Expression:
        match node:
            case ast.BoolOp(op=ast.And(), values=values):
                return All(tuple(_flatten(All, map(self.read, values))))
            case ast.BoolOp(op=ast.Or(), values=values):
                return Any(tuple(_flatten(Any, map(self.read, values))))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return Not(self.read(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPS:
                return Compare(_OPS[type(op)], self.read(left), self.read(right))
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
                return self._call(name, args, node)
            case ast.Attribute(value=ast.Name(id=entity), attr=attr) if not attr.startswith("_"):
                return Attribute(self._entity(entity, node), attr)
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.Constant(value=str() | bool() | None as value):
                return Const(value)
            case ast.Constant(value=int() as value):
                return Const(value)
            case _:
                raise _refused(node)

    def _call(self, name: str, args: list[ast.expr], node: ast.expr) -> Expression:
        if name != "eval":
            return Call(name, tuple(map(self.read, args)))
        match [self.read(arg) for arg in args]:
            case [Column(name=column)]:
                return EvalCell(column)
            case _:
                raise _refused(node)

    def _name(self, name: str, node: ast.expr) -> Expression:
        if name.startswith(self._policy):
            return Column(name.removeprefix(self._policy))
        return Entity(self._entity(name, node))

    def _entity(self, name: str, node: ast.expr) -> str:
        entity = name.removeprefix(self._request)
        if name == self._request + entity and entity in ENTITIES:
            return entity
        raise ExpressionError(
            "unknown-name",
            f"`{_restore(name)}` is no name of this section",
            node.col_offset,
            len(name),
            "names are " + ", ".join(f"`{self._request[:-1]}.{e}`" for e in ENTITIES) + " and the section's columns",
        )


def _refused(node: ast.expr) -> ExpressionError:
    text = _restore(ast.unparse(node))
    return ExpressionError(
        "refused-construct",
        f"`{text}` is not part of the language of conditions",
        node.col_offset,
        len(text),
        "use comparison, `in`, `&&`, `||`, `!`, attributes, literals and registered functions",
    )


def _restore(name: str) -> str:
    return re.sub(r"\b([rp]\d*)_(?=[a-z])", r"\1.", name)


def _flatten(kind: type[All] | type[Any], operands: Iterator[Expression]) -> Iterator[Expression]:
    for operand in operands:
        if isinstance(operand, kind):
            yield from operand.operands
        else:
            yield operand


def constants_of(expression: Expression, entity: str, name: str) -> list[object]:
    """Return what an expression compares an attribute with, where it is written there."""
    sides = [(node.left, node.right) for node in walk(expression) if isinstance(node, Compare)]
    return [
        other.value
        for left, right in sides
        for one, other in ((left, right), (right, left))
        if one == Attribute(entity, name) and isinstance(other, Const)
    ]


def conjuncts(expression: Expression) -> tuple[Expression, ...]:
    """Return the operands of a top-level ``&&``, or the expression alone."""
    return expression.operands if isinstance(expression, All) else (expression,)


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the direct parts of an expression."""
    match expression:
        case Not(operand=operand):
            return (operand,)
        case All(operands=parts) | Any(operands=parts) | Call(arguments=parts):
            return parts
        case Compare(left=left, right=right):
            return (left, right)
        case _:
            return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield the expression and everything inside it, outermost first."""
    yield expression
    for part in children(expression):
        yield from walk(part)
