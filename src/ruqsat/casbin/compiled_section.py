"""One policy definition with one matcher, compiled; and the decision over it."""

import ast
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from casbin.effect import AllowAndDenyEffector, AllowOverrideEffector, DenyOverrideEffector, PriorityEffector

from casbin import util
from ruqsat.casbin.matcher_code import REMEMBERED, Matcher, MatcherCode, Untranslatable, parse
from ruqsat.casbin.row_index import Posting, Reader, post

ALLOW, OTHER, DENY = 0, 1, 2
_EFFECTS = {"allow": ALLOW, "deny": DENY}
# By kind of effect: what settles a decision at once.
_SETTLES: dict[type, frozenset[int]] = {
    AllowOverrideEffector: frozenset({ALLOW}),
    DenyOverrideEffector: frozenset({DENY}),
    AllowAndDenyEffector: frozenset({DENY}),
    PriorityEffector: frozenset({ALLOW, DENY}),
}
_EVAL = "eval"


@dataclass(frozen=True, slots=True)
class Source:
    """
    What a section is made of, copied from the model and never changed after.

    Attributes:
        policy: Name of the policy definition, ``p`` or ``p2``.
        request_tokens: Fields of the request, as the model names them.
        row_tokens: Fields of a row.
        matcher: The matcher's text.
        rows: The rows, in their order; each is the very list that the model holds.
        effector: The kind of effect.
        functions: What a matcher may call; ``g`` and its like are `RoleLinks.has_link`.
    """

    policy: str
    request_tokens: tuple[str, ...]
    row_tokens: tuple[str, ...]
    matcher: str
    rows: tuple[list[str], ...]
    effector: type
    functions: Mapping[str, Callable[..., Any]]


class CompiledSection:
    """
    Answers requests over one source.

    Args:
        source: What to compile.

    Raises:
        Untranslatable: This section is left to pycasbin; the message says why.
    """

    def __init__(self, source: Source) -> None:
        _refuse(source)
        self._rows = source.rows
        self._size = len(source.request_tokens)
        self._settles = _SETTLES[source.effector]
        self._deny_by_default = source.effector is not DenyOverrideEffector
        self._effects = _effects_of(source)
        request = {token: place for place, token in enumerate(source.request_tokens)}
        columns = {token: place for place, token in enumerate(source.row_tokens)}
        code = MatcherCode(request, columns, source.functions)
        tree = parse(source.matcher)
        names = _texts_asked(source.matcher, tree, columns)
        self._rules = _RuleTexts(code, [columns[name] for name in names]) if names else None
        found = Reader(request, columns, source.functions).alternatives(tree)
        if self._rules is not None and not self._rules.are_sound(source.rows):
            found = None  # pycasbin raises at the first row whose text it cannot parse, matched or not
        self._postings: tuple[Posting, ...] = ()
        self._before: Matcher | None = None
        self._texts: tuple[int, ...] = ()
        self._every: Matcher = self._rules.function(tree) if self._rules is not None else code.function(tree)
        self._rest: Matcher | None = self._every
        if found is not None:
            self._texts = tuple(sorted(frozenset().union(*(each.texts for each in found))))
            self._postings = tuple(post(each, source.rows, code) for each in found if each.cells or len(found) > 1)
            if len(found) == 1:
                self._before = None if found[0].before is None else code.function(found[0].before)
                self._rest = self._rest_of(found[0].rest, code)
        self.keys = tuple(tuple(cell.token for cell in posting.cells) for posting in self._postings)

    def _rest_of(self, rest: ast.expr | None, code: MatcherCode) -> Matcher | None:
        if rest is None:
            return None
        return self._rules.function(rest) if self._rules is not None else code.function(rest)

    def decide(self, values: Sequence[Any]) -> tuple[bool, list[str]]:
        """
        Return pycasbin's answer and the row that it names.

        Raises:
            Exception: Whatever a matcher raises, and ``TypeError`` for values that only pycasbin can judge: the
                caller then asks pycasbin, which answers or raises as it always did.
        """
        if len(values) != self._size:
            raise TypeError("invalid request size")
        for place in self._texts:
            if type(values[place]) is not str:
                raise TypeError("only texts are looked up")
        candidates, matcher = self._candidates(values)
        rows, effects, settles = self._rows, self._effects, self._settles
        allowed, last = False, -1
        for number in candidates:
            if matcher is not None:
                worth = matcher(values, rows[number])
                if worth is not True and not _is_match(worth):
                    continue
            effect = effects[number]
            last = number
            if effect in settles:
                return effect == ALLOW, rows[number]
            allowed = allowed or effect == ALLOW
        # Nothing settled it: allow-and-deny asks for an allow, deny-override for the lack of a deny.
        return allowed or not self._deny_by_default, rows[last] if last >= 0 else []

    def _candidates(self, values: Sequence[Any]) -> tuple[Sequence[int], Matcher | None]:
        every = range(len(self._rows))
        if self._before is not None:
            worth = self._before(values, ())
            if not worth or (self._rest is None and not self._postings):
                return every if _is_match(worth) else (), None
        if not self._postings:
            return every, self._rest
        if len(self._postings) == 1:
            found = self._postings[0].found(values)
            return (every, self._every) if found is None else (found, self._rest)
        numbers: set[int] = set()
        for posting in self._postings:
            if posting.before is not None and not posting.before(values, ()):
                continue
            found = posting.found(values) if posting.cells else None
            if found is None:
                return every, self._every
            numbers.update(found)
        return sorted(numbers), self._every


class _RuleTexts:
    """
    Conditions that rows carry as text (``eval(p.when)``), each compiled when it is first asked.

    pycasbin pastes the text of a row into the matcher; here its tree takes the place of the
    call.  The two mean the same only if the text is one whole expression, so a section with
    any other text is left to pycasbin.
    """

    def __init__(self, code: MatcherCode, columns: Sequence[int]) -> None:
        self._code = code
        self._columns = columns

    def are_sound(self, rows: Sequence[Sequence[str]]) -> bool:
        """Tell whether every text in the rows is one expression."""
        try:
            for text in {row[column] for row in rows for column in self._columns}:
                _tree_of(text)
        except Untranslatable:
            return False
        return True

    def function(self, tree: ast.expr) -> Matcher:
        """Return a function like any matcher's, whose code depends on the row's texts."""
        known: dict[tuple[str, ...], Matcher] = {}

        def ask(values: Sequence[Any], row: Sequence[str]) -> Any:
            texts = tuple([row[column] for column in self._columns])
            matcher = known.get(texts)
            if matcher is None:
                if len(known) >= REMEMBERED:
                    known.clear()
                matcher = known[texts] = self._code.function(_Replaced(self._code, row).visit(deepcopy(tree)))
            return matcher(values, row)

        return ask


class _Replaced(ast.NodeTransformer):
    def __init__(self, code: MatcherCode, row: Sequence[str]) -> None:
        self._code = code
        self._row = row

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="eval"), args=[ast.Name(id=name)], keywords=[]):
                return _tree_of(self._row[self._code.column(name)])
            case _:
                return self.generic_visit(node)


def _texts_asked(matcher: str, tree: ast.expr, columns: Mapping[str, int]) -> list[str]:
    """
    Return the names of the columns that the matcher hands to ``eval``.

    Raises:
        Untranslatable: pycasbin, which searches the text and so finds calls inside literals
            too, would find others than the tree has, or one that is no column of the policy.
    """
    names: list[str] = util.get_eval_value(matcher)
    called = [
        node.args[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == _EVAL
        and len(node.args) == 1 and isinstance(node.args[0], ast.Name)
    ]  # fmt: skip
    if sorted(names) != sorted(called) or not columns.keys() >= set(names):
        raise Untranslatable("it hands `eval` something else than a field of the policy")
    return names


def _tree_of(text: str) -> ast.expr:
    text = util.escape_assertion(text)
    if "#" in text:
        raise Untranslatable("a rule's text has a comment")
    return parse(text)


def _is_match(worth: Any) -> bool:
    """Judge what a matcher is worth as pycasbin does: True, False or a number with a point, nothing else."""
    if isinstance(worth, bool | float):
        return bool(worth)
    raise RuntimeError("matcher result should be bool, int or float")


def _refuse(source: Source) -> None:
    if source.effector not in _SETTLES:
        raise Untranslatable("its effect is not one of pycasbin's own")
    if not source.rows:
        raise Untranslatable("it has no rows")
    width = len(source.row_tokens)
    for row in source.rows:
        if len(row) != width:
            raise Untranslatable(f"a row has {len(row)} cells instead of {width}")
        for cell in row:
            if type(cell) is not str:
                raise Untranslatable("a cell is not a text")


def _effects_of(source: Source) -> bytes:
    name = source.policy + "_eft"
    if name not in source.row_tokens:
        return bytes([ALLOW]) * len(source.rows)
    column = len(source.row_tokens) - 1 - source.row_tokens[::-1].index(name)
    return bytes(_EFFECTS.get(row[column], OTHER) for row in source.rows)
