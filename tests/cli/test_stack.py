"""No depth of the stack makes calls dear: counted in pages that the kernel hands out, not in time."""

from collections.abc import Callable
from resource import RUSAGE_THREAD, getrusage

from ruqsat.cli.stack import with_room

DEPTHS, CALLS = 300, 100


def three_deep(left: int = 3) -> int:
    """Call on, as anything does."""
    return three_deep(left - 1) if left else 0


def pages_at(depth: int) -> int:
    """Return how many pages a hundred calls took from the kernel, so many frames down."""
    if depth:
        return pages_at(depth - 1)
    three_deep()
    before = getrusage(RUSAGE_THREAD).ru_minflt
    for _ in range(CALLS):
        three_deep()
    return getrusage(RUSAGE_THREAD).ru_minflt - before


def dear_depths(run: Callable[[Callable[[], list[int]]], list[int]]) -> list[int]:
    """Return the depths at which a page is handed out for every second call, or more."""
    return [depth for depth, pages in enumerate(run(lambda: [pages_at(depth) for depth in range(DEPTHS)]))
            if pages >= CALLS / 2]  # fmt: skip


def test_no_call_of_a_decision_takes_memory_from_the_kernel_each_time() -> None:
    """However deep it is; without the room some depths do, or this would show nothing."""
    assert dear_depths(with_room) == []
    assert dear_depths(lambda work: work()) != []
