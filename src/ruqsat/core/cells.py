"""Cells of a rule file: several words in one, divided by blanks; ``-`` is none, ``*`` any."""

from functools import lru_cache

Cell = str | tuple[str, ...]
"""As it stands in a file, or its words."""


@lru_cache(maxsize=4096)
def split(text: str) -> tuple[str, ...]:
    """Return the words of a text."""
    return () if text in ("-", "") else tuple(text.split())


def words(cell: Cell) -> tuple[str, ...]:
    """
    Return the words of a cell.

    Examples:
        >>> words("read search"), words("-"), words(("a",))
        (('read', 'search'), (), ('a',))
    """
    return split(cell) if isinstance(cell, str) else cell
