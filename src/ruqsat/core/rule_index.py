"""
Which rules can match a case, at a cost that does not grow with the number of rules.

Each rule is posted under the words of ONE of its cells: the column whose words
are the rarest in the whole set.  A request reaches a word if it states it, or
something that is a kind of it; ``*`` is reached by all.  What is found so is a
superset, and the rule's gate then says exactly.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from ruqsat.core.case import Case

ANY = "*"


class IndexColumn(Struct, frozen=True):
    """
    One thing that rules are found by.

    Attributes:
        words_of: Given a rule, the words of which at least one must be reached, or
            else it cannot match; None if the rule can match whatever is reached.
        reach: Given a case, every word that it reaches, besides ``*``.
    """

    words_of: Callable[[Any], tuple[str, ...] | None]
    reach: Callable[[Case], Iterable[str]]


class RuleIndex:
    """The postings; built once, never changed."""

    __slots__ = ("_everywhere", "_postings", "_reaches")

    def __init__(self, rules: Sequence[Any], columns: Sequence[IndexColumn]) -> None:
        """Post *rules*, which stand in their order of precedence."""
        self._reaches = tuple(column.reach for column in columns)
        self._postings: tuple[dict[str, list[int]], ...] = tuple({} for _ in columns)
        self._everywhere: list[int] = []
        counts = [Counter(word for rule in rules for word in column.words_of(rule) or ()) for column in columns]
        for number, rule in enumerate(rules):
            self._post(number, [column.words_of(rule) for column in columns], counts)

    def _post(self, number: int, cells: list[tuple[str, ...] | None], counts: list[Counter[str]]) -> None:
        best: tuple[int, int, tuple[str, ...]] | None = None
        for place, words in enumerate(cells):
            if words is not None:
                cost = sum(counts[place][word] for word in words)
                if best is None or cost < best[0]:
                    best = cost, place, words
        if best is None:
            self._everywhere.append(number)
            return
        _, place, words = best
        for word in set(words):
            self._postings[place].setdefault(word, []).append(number)

    def find(self, case: Case) -> list[int]:
        """Return the numbers of all rules that can match *case*, and perhaps of others, in order."""
        found = set(self._everywhere)
        for reach, posted in zip(self._reaches, self._postings, strict=True):
            if posted:
                for word in (ANY, *reach(case)):
                    found.update(posted.get(word, ()))
        return sorted(found)
