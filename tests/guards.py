"""
Guards of the product's code, each taken away once: a function's code is exchanged while it lives.

A guard is the test of an ``if`` or of a conditional expression, one operand of an
``and`` or ``or``, the filter of a comprehension, one argument of ``min`` or ``max``, or
a comparison.  Whoever imported the function sees the exchange, since the function
object stays the same.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

Function = ast.FunctionDef
OTHER_BOUND: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


class Mutant(NamedTuple):
    """One guard taken away; ``code`` is None if it stands where no function's code holds it."""

    module: ModuleType
    function: str
    change: str
    code: CodeType | None

    @property
    def name(self) -> str:
        """What the table of survivors calls it."""
        return f"{self.module.__name__.rpartition('.')[2]}.{self.function}: {self.change}"


class _Without(ast.NodeTransformer):
    """Takes away the guard of a number, counting from 0; ``change`` tells which that was."""

    def __init__(self, wanted: int) -> None:
        self._wanted, self._seen, self._covered = wanted, -1, set[int]()
        self.change = ""

    def _is(self, change: str) -> bool:
        self._seen += 1
        if self._seen == self._wanted:
            self.change = change
        return self._seen == self._wanted

    def _test(self, node: Any) -> None:
        self._covered.add(id(node.test))
        told, test = ast.unparse(node.test), node.test
        if self._is(f"never `if {told}`"):
            test = ast.Constant(False)
        if isinstance(node, ast.IfExp) and self._is(f"always `if {told}`"):
            test = ast.Constant(True)
        self.generic_visit(node)
        if isinstance(test, ast.Constant):
            node.test = test

    def visit_If(self, node: ast.If) -> ast.AST:
        self._test(node)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self._test(node)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self._covered.update(map(id, node.values))
        left = [each for each in node.values if not self._is(f"without `{ast.unparse(each)}`")]
        self.generic_visit(node)
        return node if len(left) == len(node.values) else left[0] if len(left) == 1 else ast.BoolOp(node.op, left)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self._covered.update(map(id, node.ifs))
        told = ast.unparse(node.target)
        left = [each for each in node.ifs if not self._is(f"every {told}, not only `if {ast.unparse(each)}`")]
        self.generic_visit(node)
        if len(left) < len(node.ifs):
            node.ifs = left
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        left = list(node.args)
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max") and len(node.args) > 1:
            left = [each for each in node.args if not self._is(f"without `{ast.unparse(each)}`")]
        self.generic_visit(node)
        return node if len(left) == len(node.args) else left[0]

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        told, covered = ast.unparse(node), id(node) in self._covered
        ops = list(node.ops)
        for place, op in enumerate(node.ops):
            other = OTHER_BOUND.get(type(op)) or (None if covered else OPPOSITE.get(type(op)))
            if other is not None and self._is(f"`{told}` with `{_sign(other)}`"):
                ops[place] = other()
        self.generic_visit(node)
        node.ops = ops
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        return node  # defaults and annotations are no part of the code


def _sign(op: type[ast.cmpop]) -> str:
    return ast.unparse(ast.Compare(ast.Name("a"), [op()], [ast.Name("b")]))[2:-2]


def mutants_of(module: ModuleType) -> Iterator[Mutant]:
    """Yield every guard of a module taken away, one at a time."""
    tree = ast.parse(inspect.getsource(module))
    names: Counter[str] = Counter()
    for prefix, node in _functions(tree):
        number = 0
        while True:
            editor, copy = _Without(number), deepcopy(node)
            copy.body = [editor.visit(statement) for statement in copy.body]
            if not editor.change:
                break
            names[editor.change + prefix] += 1
            times = names[editor.change + prefix]
            change = editor.change + (f" ({times})" if times > 1 else "")
            yield Mutant(module, prefix, change, _code_of(copy, module))
            number += 1
    yield from _elsewhere(tree, module)


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.ClassDef):
            yield from _functions(each, f"{prefix}{each.name}.")
        elif isinstance(each, ast.FunctionDef):
            yield prefix + each.name, each


def _elsewhere(tree: ast.Module, module: ModuleType) -> Iterator[Mutant]:
    """Guards in the bodies of module and classes, and in defaults; imports for the type checker alone are none."""
    bodies = [tree.body, *(each.body for each in ast.walk(tree) if isinstance(each, ast.ClassDef))]
    for statement in (each for body in bodies for each in body):
        if isinstance(statement, ast.ClassDef) or ast.unparse(statement).startswith("if TYPE_CHECKING"):
            continue
        looked: list[Any] = [statement]
        if isinstance(statement, ast.FunctionDef):
            looked = [*statement.args.defaults, *filter(None, statement.args.kw_defaults), *statement.decorator_list]
        for each in looked:
            editor = _Without(0)
            editor.visit(deepcopy(each))
            if editor.change:
                yield Mutant(module, "(body)", editor.change, None)


def _code_of(node: Function, module: ModuleType) -> CodeType:
    node.decorator_list = []
    tree = ast.fix_missing_locations(ast.Module([node], []))
    made = compile(tree, module.__file__ or "", "exec")
    return next(each for each in made.co_consts if isinstance(each, CodeType) and each.co_name == node.name)


def live(module: ModuleType, name: str) -> FunctionType:
    """Return the function of that name whose code is run."""
    thing: Any = module
    for part in name.split("."):
        thing = vars(thing)[part]
    match thing:
        case property(fget=inner) | cached_property(func=inner):
            thing = inner
        case classmethod() | staticmethod():
            thing = thing.__func__
    function = inspect.unwrap(thing)
    assert isinstance(function, FunctionType), name
    return function


@contextmanager
def without(mutant: Mutant) -> Iterator[None]:
    """Run with the guard taken away; what the module keeps of earlier answers is forgotten before and after."""
    assert mutant.code is not None
    function = live(mutant.module, mutant.function)
    right = function.__code__
    try:
        function.__code__ = mutant.code
        forget(mutant.module)
        yield
    finally:
        function.__code__ = right
        forget(mutant.module)


def forget(module: ModuleType) -> None:
    """Empty the caches of a module's functions."""
    for thing in vars(module).values():
        clear: Callable[[], None] | None = getattr(thing, "cache_clear", None)
        if clear is not None and getattr(thing, "__module__", "") == module.__name__:
            clear()
