"""
Work of many small pieces on a thread, beside a thread that decides.

A thread that computes keeps the interpreter for five milliseconds from whoever waits for
it, and the processor for as long where both have but one.  Whoever is not in a hurry lets
go by itself, after a few pieces.
"""

from collections.abc import Iterable, Iterator
from time import sleep
from typing import TypeVar

T = TypeVar("T")

AT_A_TIME = 8
"""So many pieces, of 5 to 20 µs each, are done before others have their turn."""

_PAUSE_SECONDS = 1e-5
"""Long enough that the thread really sleeps: one that only lets go takes the interpreter again before others wake."""


def in_turns(pieces: Iterable[T]) -> Iterator[T]:
    """Yield *pieces*, with a pause after every few in which others have the interpreter; never on a loop's thread."""
    for number, each in enumerate(pieces, 1):
        yield each
        if not number % AT_A_TIME:
            sleep(_PAUSE_SECONDS)
