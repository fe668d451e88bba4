"""
The covering tests ``m2``…``m5``, each answer from stock pycasbin through ``EnforceContext``.

A denial tells which criterion failed, and pycasbin says only yes or no.  So a
matcher is asked piece by piece: cut after its first criterion, after its second,
and so on; the first piece that fails ends at the criterion that was missed.  The
last piece is the section's own matcher, whole.
"""

import re
from collections.abc import Mapping
from typing import Any

from ruqsat.casbin.fact_rows import ROWS
from ruqsat.casbin.stock import Stock
from ruqsat.core.covers import Cover, Covers, FirstMiss
from ruqsat.core.function import Function

_LAST_CALL = re.compile(r".*(?:&&|^)\s*(\w+)\(", re.DOTALL)


def stock_covers(stock: Stock, functions: Mapping[str, Function]) -> Covers:
    """Return a pack's covering tests, each of which asks pycasbin."""
    return Covers({suffix: _cover(stock, suffix, functions) for suffix in ROWS})


def pieces(matcher: str) -> list[str]:
    """
    Return a matcher cut after each ``&&`` operand that stands in no bracket, the whole of it last.

    Examples:
        >>> pieces("a(x) && (b(x) && c(x)) && d(x)")
        ['a(x)', 'a(x) && (b(x) && c(x))', 'a(x) && (b(x) && c(x)) && d(x)']
    """
    found, depth = [], 0
    for place, mark in enumerate(matcher):
        depth += (mark in "([") - (mark in ")]")
        if depth == 0 and matcher.startswith("&&", place):
            found.append(matcher[:place].strip())
    return [*found, matcher]


def _cover(stock: Stock, suffix: str, functions: Mapping[str, Function]) -> Cover:
    matcher = stock.matcher(suffix)
    cut = pieces(matcher)
    known = [functions[_called(piece)] for piece in cut]
    names = [f"m{suffix}_{number}" for number in range(1, len(cut))]
    for name, piece in zip(names, cut, strict=False):
        stock.add_matcher(name, piece)
    return Cover(
        _first_miss(stock, suffix, [*names, "m" + suffix]),
        ("", *(function.miss for function in known)),
        sum(function.gate for function in known),
    )


def _first_miss(stock: Stock, suffix: str, matchers: list[str]) -> FirstMiss:
    write = ROWS[suffix]

    def first_miss(sub: Any, act: Any, res: Any, ctx: Any, row: Any) -> int:
        entities, cells = (sub, act, res, ctx), write(row)
        for number, matcher in enumerate(matchers, 1):
            if not stock.covers(suffix, entities, cells, matcher):
                return number
        return 0

    return first_miss


def _called(piece: str) -> str:
    """Return the function of a piece's last criterion; the checker has seen to it that each criterion is a call."""
    call = _LAST_CALL.match(piece)
    if call is None:
        raise ValueError(f"`{piece}` does not end in a call of a function")
    return call.group(1)
