"""
Finds the few rows that a request can match, instead of asking all of them.

A matcher is read as alternatives of conjuncts.  Conjuncts that compare one column
with the request by equality, wildcard-or-equality or ``g`` become the key of a
dictionary over the rows; what is left is evaluated on the rows found.  A conjunct
is passed over only when pycasbin, who evaluates from left to right, could not have
raised before: what raises there must raise here.
"""

import ast
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from casbin import util
from ruqsat.casbin.matcher_code import Matcher, MatcherCode
from ruqsat.casbin.role_links import RoleLinks

# More keys than this for one request, and walking all rows is no slower.
_KEYS_AT_MOST = 4096


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of the key: which values of it a request accepts."""

    token: str
    column: int
    constants: tuple[str, ...]
    equals: tuple[int, ...]
    links: tuple[tuple[RoleLinks, int, int | None], ...]
    present: frozenset[str] = frozenset()

    def accepted(self, values: Sequence[str]) -> Iterable[str]:
        """Return the values of the column that this request matches, each once."""
        if not self.links and not self.constants and len(self.equals) == 1:
            return (values[self.equals[0]],)
        accepted = {*self.constants, *(values[place] for place in self.equals)}
        for links, name, domain in self.links:
            accepted |= links.reach(values[name], "" if domain is None else values[domain])
        return accepted & self.present


@dataclass(frozen=True, slots=True)
class Alternative:
    """
    One alternative of a matcher.

    Attributes:
        cells: The key, in the matcher's order; empty when every row is a candidate.
        before: Asked once a request, without a row; None when there is nothing to ask.
        texts: Places of the request's values that must be texts, or the request is left to pycasbin.
        rest: What is asked of each row found; None when the key says everything.
    """

    cells: tuple[Cell, ...]
    before: ast.expr | None
    texts: frozenset[int]
    rest: ast.expr | None


@dataclass(frozen=True, slots=True)
class Posting:
    """An alternative with the rows under each key."""

    cells: tuple[Cell, ...]
    before: Matcher | None
    rows: "Mapping[Any, array[int]]" = field(repr=False)

    def found(self, values: Sequence[Any]) -> Sequence[int] | None:
        """Return the numbers of the rows found, ascending; None for "every row"."""
        if len(self.cells) == 1:
            hits = [self.rows[key] for key in self.cells[0].accepted(values) if key in self.rows]
        else:
            accepted = [tuple(cell.accepted(values)) for cell in self.cells]
            size = 1
            for each in accepted:
                size *= len(each)
            if size > _KEYS_AT_MOST:
                return None
            hits = [self.rows[key] for key in product(*accepted) if key in self.rows]
        if not hits:
            return ()
        return hits[0] if len(hits) == 1 else sorted(number for hit in hits for number in hit)


class Reader:
    """
    Reads a matcher's tree for what can be looked up.

    Args:
        request: By token, its place among a request's values.
        row: By token, its place among a row's cells.
        functions: By name, what the matcher may call.
    """

    def __init__(
        self, request: Mapping[str, int], row: Mapping[str, int], functions: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._request = request
        self._row = row
        self._functions = functions

    def alternatives(self, tree: ast.expr) -> list[Alternative] | None:
        """Return the alternatives of a matcher, or None when only every row can be asked."""
        if not (isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.Or)):
            only = self._alternative(_parts(tree, ast.And))
            return [only] if only.cells or only.before else None
        found = [self._alternative(_parts(each, ast.And)) for each in _parts(tree, ast.Or)]
        for each in found:
            sure = each.before is None or self._is_safe(each.before)
            if not sure or not (each.cells or (each.before is not None and each.rest is None)):
                return None
        return found

    def _alternative(self, conjuncts: list[ast.expr]) -> Alternative:
        cells: list[Cell] = []
        before: list[ast.expr] = []
        rest: list[ast.expr] = []
        texts: set[int] = set()
        sound = True
        for part in conjuncts:
            cell = self._cell(part) if sound else None
            if cell is not None:
                cells.append(cell)
                texts |= self._texts_of(part)
            elif not cells and not rest and not self._names(part) & self._row.keys() and self._names(part):
                before.append(part)
            else:
                rest.append(part)
                sound = sound and self._is_safe(part)
                if sound:
                    texts |= self._texts_of(part)
        return Alternative(tuple(cells), _joined(before), frozenset(texts), _joined(rest))

    def _cell(self, part: ast.expr) -> Cell | None:
        """Return what a conjunct accepts of one column, None if it says anything else."""
        column = None
        constants: list[str] = []
        equals: list[int] = []
        links: list[tuple[RoleLinks, int, int | None]] = []
        for test in _parts(part, ast.Or):
            match test:
                case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
                    token, other = (left, right) if self._is_column(left) else (right, left)
                    match other:
                        case ast.Constant(value=str(text)):
                            constants.append(text)
                        case ast.Name(id=name) if name in self._request:
                            equals.append(self._request[name])
                        case _:
                            return None
                case ast.Call(func=ast.Name(id=called), args=[ast.Name(id=name), token, *domain], keywords=[]):
                    role_links = getattr(self._functions.get(called), "__self__", None)
                    if not isinstance(role_links, RoleLinks) or name not in self._request:
                        return None
                    match domain:
                        case []:
                            links.append((role_links, self._request[name], None))
                        case [ast.Name(id=where)] if where in self._request:
                            links.append((role_links, self._request[name], self._request[where]))
                        case _:
                            return None
                case _:
                    return None
            if not isinstance(token, ast.Name) or not self._is_column(token) or column not in (None, token.id):
                return None
            column = token.id
        if column is None or not (equals or links):
            return None
        return Cell(column, self._row[column], tuple(constants), tuple(equals), tuple(links))

    def _is_column(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in self._row

    def _names(self, node: ast.AST) -> set[str]:
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}

    def _texts_of(self, node: ast.AST) -> set[int]:
        return {self._request[name] for name in self._names(node) if name in self._request}

    def _is_safe(self, node: ast.expr) -> bool:
        """Tell whether the expression is True or False for any texts, and cannot raise."""
        match node:
            case ast.BoolOp(values=values):
                return all(self._is_safe(value) for value in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self._is_safe(operand)
            case ast.Compare(left=left, ops=[ast.Eq() | ast.NotEq()], comparators=[right]):
                return self._is_text(left) and self._is_text(right)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if len(arguments) in (2, 3):
                function = self._functions.get(name)
                known = function is util.key_match_func or isinstance(getattr(function, "__self__", None), RoleLinks)
                return known and all(self._is_text(each) for each in arguments)
            case _:
                return False

    def _is_text(self, node: ast.expr) -> bool:
        match node:
            case ast.Constant(value=str()):
                return True
            case ast.Name(id=name):
                return name in self._row or name in self._request
            case _:
                return False


def post(alternative: Alternative, rows: Sequence[Sequence[str]], code: MatcherCode) -> Posting:
    """Return the alternative with every row under its key."""
    columns = [cell.column for cell in alternative.cells]
    cells = tuple(
        replace(cell, present=frozenset([row[cell.column] for row in rows])) if cell.links or cell.constants else cell
        for cell in alternative.cells
    )
    posted: dict[Any, Any] = {}
    only = columns[0] if len(columns) == 1 else None
    for number, row in enumerate(rows if columns else ()):
        key = row[only] if only is not None else tuple([row[column] for column in columns])
        there = posted.get(key)
        if there is None:
            posted[key] = array("L", (number,))
        else:
            there.append(number)
    before = None if alternative.before is None else code.function(alternative.before)
    return Posting(cells, before, posted)


def _parts(node: ast.expr, operator: type[ast.boolop]) -> list[ast.expr]:
    if isinstance(node, ast.BoolOp) and isinstance(node.op, operator):
        return [part for value in node.values for part in _parts(value, operator)]
    return [node]


def _joined(parts: list[ast.expr]) -> ast.expr | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return ast.BoolOp(ast.And(), parts)
