"""
Python's own parser, one thread at a time.

CPython 3.11 counts the depth of the tree that it builds in one place for all threads: where the collector lets another
thread parse meanwhile, a good text ends with a SystemError, and a good policy pack would be refused for it.
"""

import ast
from threading import RLock

TRIES = 1_000
"""Others in this process (pycasbin, the application around a CompiledEnforcer) parse without asking for the lock."""

_LOCK = RLock()


def parse_python(text: str) -> ast.expr:
    """
    Return the tree of one expression of Python; for any number of threads.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as of `ast.parse`.

    Examples:
        >>> ast.dump(parse_python("a"))
        "Name(id='a', ctx=Load())"
    """
    with _LOCK:
        for _ in range(TRIES - 1):
            try:
                return ast.parse(text, mode="eval").body
            except SystemError:
                continue
        return ast.parse(text, mode="eval").body
