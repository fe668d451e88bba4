"""A small cache of what was worked out a moment ago, for whoever asks the same again."""

from collections.abc import Hashable
from typing import TypeVar

from ruqsat.core.instant import SECOND, Instant

LASTS: Instant = 10 * SECOND
"""How long a generation of kept values lasts, and the longest that any decision is recalled."""

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Lately(dict[KeyT, ValueT | None]):
    """
    A dictionary that forgets: it holds two generations of values, and drops the older one when a new one begins.

    A generation ends once it holds *most* values or is ``LASTS`` old, but only as a value is
    added: a map that nobody adds to stays as it is.

    A key that is not there reads as None.  A lookup in the present generation costs what one in a dictionary does.

    Examples:
        >>> lately = Lately[str, int](2)
        >>> for name in "abc":
        ...     lately.keep(name, ord(name), now=0)
        >>> lately["a"], lately["c"]
        (97, 99)
        >>> lately.keep("d", 100, now=0), lately.keep("e", 101, now=0), lately["a"], lately["d"]
        (None, None, None, 100)
        >>> lately.keep("f", 102, now=LASTS), lately.keep("g", 103, now=2 * LASTS), lately["d"], lately["f"]
        (None, None, None, 102)
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._since: Instant = 0
        self._before: dict[KeyT, ValueT | None] = {}

    def __missing__(self, key: KeyT) -> ValueT | None:
        return self._before.get(key)

    def keep(self, key: KeyT, value: ValueT, now: Instant) -> None:
        """Add a value at *now*, and begin a new generation first if the present one is full or over."""
        if len(self) >= self._most or not self._since <= now < self._since + LASTS:
            self._before, self._since = self.copy(), now
            self.clear()
        self[key] = value

    def forget(self) -> None:
        """Drop everything."""
        self.clear()
        self._before = {}
