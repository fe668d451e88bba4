"""
Work in many small pieces on a thread, beside the thread that decides.

A thread that computes holds the interpreter until it is made to let go (``cli.serve`` sets
after how long), and no decision is made meanwhile; where there is one processor it holds
that as well.  So work that is in no hurry pauses by itself, after every millisecond.
"""

from collections.abc import Iterable, Iterator
from time import sleep, thread_time
from typing import TypeVar

T = TypeVar("T")

AT_A_TIME_SECONDS = 1e-3
"""How long is worked before others have their turn: each pause may last as long as theirs does."""

_PAUSE_SECONDS = 1e-5
"""Long enough that the thread really sleeps: one that only lets go takes the interpreter again before others wake."""


def in_turns(pieces: Iterable[T]) -> Iterator[T]:
    """Yield *pieces*, with a pause after each millisecond of work for others; never on the thread of a loop."""
    began = thread_time()
    for each in pieces:
        yield each
        if thread_time() - began > AT_A_TIME_SECONDS:
            sleep(_PAUSE_SECONDS)
            began = thread_time()
