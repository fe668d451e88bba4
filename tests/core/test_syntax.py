"""Conditions are read in any number of threads."""

import ast
import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ruqsat.syntax import parse_python

TEXT = " and ".join(f"(r.sub.x{n} == 'a{n}' or (r.res.y == {n} and not f(r.act, {n})))" for n in range(20))
TIMES, THREADS = 150, 4


class Litter:
    """Garbage in a circle, whose collection runs Python, and so lets other threads run."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        for _ in range(20):
            pass


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can, and the collector runs all the time."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


def failures(*parsers: Callable[[], object]) -> list[int]:
    """Let each parser parse many times, all at once; return how often each failed."""

    def run(parse: Callable[[], object]) -> int:
        failed = 0
        for _ in range(TIMES):
            Litter()
            try:
                parse()
            except SystemError:
                failed += 1
        return failed

    with ThreadPoolExecutor(len(parsers)) as pool:
        return list(pool.map(run, parsers))


def bare() -> object:
    """Parse as everybody does."""
    return ast.parse(TEXT, mode="eval")


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_threads_that_parse_at_once_all_succeed() -> None:
    """Not with one another, and not beside others of the process that parse on their own."""
    ours = [lambda: parse_python(TEXT)] * THREADS
    assert sum(failures(*ours)) == 0
    assert sum(failures(*ours, bare, bare)[:THREADS]) == 0
    assert ast.dump(parse_python(TEXT)) == ast.dump(ast.parse(TEXT, mode="eval").body)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the defect is that of CPython 3.11")
@pytest.mark.usefixtures("restless")
def test_without_the_lock_some_would_fail() -> None:
    """Planted: the bare parser, by which the test above is known to be one that can fail."""
    assert any(sum(failures(*[bare] * THREADS)) for _ in range(20))


def test_what_cannot_be_parsed_still_fails() -> None:
    """Text that is no Python still fails as it does in Python's own parser."""
    with pytest.raises(SyntaxError):
        parse_python("a ==")
