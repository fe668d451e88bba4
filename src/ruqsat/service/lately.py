"""What was made lately, kept for whoever asks again."""

from collections.abc import Hashable
from typing import TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class Lately(dict[KeyT, ValueT | None]):
    """
    A map that forgets: it keeps the last *most* values, and of those before them as many, until they are too old.

    What is not there reads as None; a lookup of what is costs no more than that of a dictionary.

    Examples:
        >>> lately = Lately[str, int](2)
        >>> for name in "abc":
        ...     lately.keep(name, ord(name))
        >>> lately["a"], lately["c"]
        (97, 99)
        >>> lately.keep("d", 100), lately.keep("e", 101), lately["a"]
        (None, None, None)
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._before: dict[KeyT, ValueT | None] = {}

    def __missing__(self, key: KeyT) -> ValueT | None:
        return self._before.get(key)

    def keep(self, key: KeyT, value: ValueT) -> None:
        """Keep a value."""
        if len(self) >= self._most:
            self._before = self.copy()
            self.clear()
        self[key] = value

    def forget(self) -> None:
        """Keep nothing of what is there."""
        self.clear()
        self._before = {}
