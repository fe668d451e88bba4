"""The covering tests: matchers ``m2``…``m5`` compiled to run against one row of facts."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from ruqsat.core.case import Case

FirstMiss = Callable[[Any, Any, Any, Any, Any], int]
"""Given the four entities and a row: the number of the first criterion that fails, 0 if none does."""


class Cover(Struct, frozen=True):
    """
    One covering test: a matcher ``m2``…``m5``, to be asked about one row.

    Attributes:
        first_miss: Returns the number of the first criterion that fails, from 1; 0 if none does.
        misses: The word of each criterion by its number, empty for 0.
        gates: How many criteria, the first ones, are gates: one that fails shuts what hangs beneath the row.
        asks_names: Whether one criterion is that the row's grantees name the subject.
    """

    first_miss: FirstMiss
    misses: tuple[str, ...]
    gates: int
    asks_names: bool = False


class Covers:
    """The covering tests of a pack, by section suffix."""

    __slots__ = ("_covers",)

    def __init__(self, covers: dict[str, Cover]) -> None:
        self._covers = covers

    def of(self, suffix: str) -> Cover:
        """Return the covering test of section *suffix*."""
        return self._covers[suffix]

    def test(self, suffix: str, case: Case, row: object) -> tuple[str, bool]:
        """
        Test one row: ``("", True)`` if it covers the case.

        Returns:
            The word of the first criterion that failed, and whether every gate held.
        """
        cover = self._covers[suffix]
        number = cover.first_miss(case.sub, case.act, case.res, case.ctx, row)
        return cover.misses[number], number == 0 or number > cover.gates
