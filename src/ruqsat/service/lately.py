"""What was made lately, kept for whoever asks again."""

from collections.abc import Hashable
from typing import TypeVar

from ruqsat.core.instant import SECOND, Instant

LASTS: Instant = 10 * SECOND
"""Nothing is recalled for longer; what is kept goes with what is kept after the next turn of as long."""

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Lately(dict[KeyT, ValueT | None]):
    """
    A map that forgets: it keeps the last *most* values of a turn of ``LASTS``, and those of the turn before.

    Turns end as something is kept: a map that nobody adds to stays as it is.

    What is not there reads as None; a lookup of what is costs no more than that of a dictionary.

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
        """Keep a value from *now* on."""
        if len(self) >= self._most or not self._since <= now < self._since + LASTS:
            self._before, self._since = self.copy(), now
            self.clear()
        self[key] = value

    def forget(self) -> None:
        """Keep nothing of what is there."""
        self.clear()
        self._before = {}
