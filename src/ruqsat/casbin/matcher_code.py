"""
A matcher's text → one Python function, with the meaning that pycasbin's evaluator gives it.

The text is parsed exactly as pycasbin parses it.  Only the nodes listed here are
translated, values become arguments or constants bound by name, and whatever the
evaluator checks at run time (attributes, forbidden functions, long literals) is
checked by calling the evaluator's own code.  Everything else is `Untranslatable`
and left to pycasbin.
"""

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import getitem
from typing import Any

import simpleeval

from casbin import util
from ruqsat.casbin.role_links import RoleLinks
from ruqsat.syntax import parse_python

Matcher = Callable[[Sequence[Any], Sequence[str]], Any]
"""Takes a request's values and a row's cells; returns what the matcher's expression is worth."""

REMEMBERED = 20_000
"""How many patterns, or rules' texts, a section keeps in compiled form."""

_MISSING = object()
_NOT = re.compile(r"!(?!=)")
_EVALUATOR = simpleeval.SimpleEval(functions={})
_OPERATORS = simpleeval.DEFAULT_OPERATORS
_NATIVE = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot)


class Untranslatable(Exception):  # noqa: N818 - it is no fault: pycasbin evaluates the text instead
    """The text uses something that is left to pycasbin; the message says what."""


def parse(text: str) -> ast.expr:
    """
    Return the tree that pycasbin would evaluate for a matcher.

    Raises:
        Untranslatable: pycasbin itself cannot parse the text, or would drop a part of it.
    """
    # As in CoreEnforcer._get_expression; in "eval" mode what is more than one expression is an error.
    text = _NOT.sub("not ", text.replace("&&", "and").replace("||", "or"))
    try:
        return parse_python(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Untranslatable(f"it cannot be parsed ({type(error).__name__})") from None


class MatcherCode:
    """
    Translates the trees of one section.

    Args:
        request: By token, its place among a request's values.
        row: By token, its place among a row's cells.
        functions: By name, what a matcher may call.
    """

    def __init__(
        self, request: Mapping[str, int], row: Mapping[str, int], functions: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._request = request
        self._row = row
        self._functions = functions

    def column(self, token: str) -> int:
        """Return the place of a field among a row's cells."""
        return self._row[token]

    def function(self, tree: ast.expr) -> Matcher:
        """Return a function of ``(request values, cells)`` that is worth what the tree is worth."""
        bound: dict[str, Any] = {"__builtins__": {}}
        body = _Translator(self._request, self._row, self._functions, bound).visit(tree)
        arguments = ast.arguments([], [ast.arg("r"), ast.arg("p")], None, [], [], None, [])
        module = ast.Expression(ast.Lambda(arguments, body))
        try:
            # The tree was built node by node from the whitelist above; no text reaches the compiler.
            made: Matcher = eval(compile(ast.fix_missing_locations(module), "<matcher>", "eval"), bound)  # noqa: S307
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise Untranslatable(f"it is too deep or too long ({type(error).__name__})") from None
        return made


class _Translator(ast.NodeVisitor):
    def __init__(
        self,
        request: Mapping[str, int],
        row: Mapping[str, int],
        functions: Mapping[str, Callable[..., Any]],
        bound: dict[str, Any],
    ) -> None:
        self._request = request
        self._row = row
        self._functions = functions
        self._bound = bound

    def visit(self, node: ast.AST) -> ast.expr:
        try:
            translated: ast.expr = super().visit(node)
        except RecursionError:
            raise Untranslatable("it is nested too deeply") from None
        return translated

    def generic_visit(self, node: ast.AST) -> ast.expr:
        raise Untranslatable(f"{type(node).__name__} is left to pycasbin")

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        return ast.BoolOp(node.op, [self.visit(value) for value in node.values])

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Not):
            return ast.UnaryOp(node.op, self.visit(node.operand))
        return self._call(_OPERATORS[type(node.op)], [self.visit(node.operand)])

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        if type(node.op) not in _OPERATORS:
            raise Untranslatable(f"{type(node.op).__name__} is left to pycasbin")
        return self._call(_OPERATORS[type(node.op)], [self.visit(node.left), self.visit(node.right)], check=True)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        if not all(isinstance(each, _NATIVE) for each in node.ops):
            raise Untranslatable("a comparison is left to pycasbin")
        return ast.Compare(self.visit(node.left), node.ops, [self.visit(each) for each in node.comparators])

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        return ast.IfExp(self.visit(node.test), self.visit(node.body), self.visit(node.orelse))

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        return ast.Tuple([self.visit(each) for each in node.elts], ast.Load())

    def visit_List(self, node: ast.List) -> ast.expr:
        return ast.List([self.visit(each) for each in node.elts], ast.Load())

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return self._call(getitem, [self.visit(node.value), self.visit(node.slice)], check=True)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str | bytes) and len(node.value) > simpleeval.MAX_STRING_LENGTH:
            raise Untranslatable("a text is too long")
        return ast.Constant(node.value)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        for tokens, argument in ((self._row, "p"), (self._request, "r")):
            if node.id in tokens:
                return ast.Subscript(ast.Name(argument, ast.Load()), ast.Constant(tokens[node.id]), ast.Load())
        raise Untranslatable(f"`{node.id}` is no field of this request or policy")

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        name = node.attr
        if name.startswith(tuple(simpleeval.DISALLOW_PREFIXES)) or name in simpleeval.DISALLOW_METHODS:
            raise Untranslatable(f"`.{name}` is not allowed")
        return self._call(_attribute, [self.visit(node.value), ast.Constant(name)])

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if node.keywords or any(isinstance(each, ast.Starred) for each in node.args):
            raise Untranslatable("a call with names or stars is left to pycasbin")
        arguments = [self.visit(each) for each in node.args]
        if isinstance(node.func, ast.Attribute):
            method = self.visit(node.func)
            return self._call(_checked, [ast.Call(method, arguments, [])])
        if not isinstance(node.func, ast.Name) or node.func.id not in self._functions:
            raise Untranslatable("it calls something that is no function of this enforcer")
        function = self._functions[node.func.id]
        from_row = len(node.args) == 2 and isinstance(node.args[1], ast.Name) and node.args[1].id in self._row
        if from_row and function in _PATTERNS:
            return self._call(_by_pattern(_PATTERNS[function]), arguments)
        trusted = function in _TRUSTED or getattr(function, "__func__", None) is RoleLinks.has_link
        return self._call(function, arguments, check=not trusted)

    def _call(self, function: Callable[..., Any], arguments: list[ast.expr], *, check: bool = False) -> ast.expr:
        name = f"f{len(self._bound)}"
        self._bound[name] = function
        call: ast.expr = ast.Call(ast.Name(name, ast.Load()), arguments, [])
        return self._call(_checked, [call]) if check else call


def _checked(value: Any) -> Any:
    """Return the value if the evaluator lets it pass; it raises for modules and forbidden functions."""
    _EVALUATOR._check_disallowed_items(value)
    return value


def _attribute(holder: Any, name: str) -> Any:
    """Read an attribute, or the entry of that name, as the evaluator does."""
    value = getattr(holder, name, _MISSING)
    if value is _MISSING:
        value = holder[name]
    return _checked(value)


def _by_pattern(make: Callable[[str], Callable[[str], Any]]) -> Callable[[str, str], bool]:
    """Return a function of ``(text, pattern)`` that works each pattern out once; patterns come from rows only."""
    known = lru_cache(REMEMBERED)(make)
    return lambda text, pattern: known(pattern)(text) is not None


def _key2(pattern: str) -> Callable[[str], Any]:
    pattern = util.KEY_MATCH2_PATTERN.sub(r"\g<1>[^\/]+\g<2>", pattern.replace("/*", "/.*"), 0)
    return re.compile("^" + ("(.*)" if pattern == "*" else pattern) + "$").match


def _key3(pattern: str) -> Callable[[str], Any]:
    pattern = util.KEY_MATCH3_PATTERN.sub(r"\g<1>[^\/]+\g<2>", pattern.replace("/*", "/.*"), 0)
    return re.compile("^" + pattern + "$").match


def _regex(pattern: str) -> Callable[[str], Any]:
    return re.compile(pattern).match


# pycasbin derives the regular expression anew for every row and request; here each pattern is derived once.
_PATTERNS: dict[Callable[..., Any], Callable[[str], Callable[[str], Any]]] = {
    util.key_match2_func: _key2,
    util.key_match3_func: _key3,
    util.regex_match_func: _regex,
}
# Functions of pycasbin's that answer True or False: what they return need not be checked.
_TRUSTED = frozenset(
    {
        util.key_match_func, util.key_match2_func, util.key_match3_func, util.key_match4_func, util.key_match5_func,
        util.regex_match_func, util.ip_match_func, util.glob_match_func, util.time_match_func,
    }
)  # fmt: skip
