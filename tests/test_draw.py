"""Of the slow tests of a file one half is run in CI, drawn anew each time; every quick one is run, and without a draw all."""

from typing import Any

from tests.conftest import left_out


class Item:
    """A test, as far as it is looked at."""

    def __init__(self, file: str, number: int, is_slow: bool) -> None:
        self.nodeid, self._is_slow = f"tests/{file}.py::test_{number}", is_slow

    def get_closest_marker(self, name: str) -> bool | None:
        """Return its mark of that name."""
        return (name == "slow" and self._is_slow) or None


def suite() -> list[Any]:
    """Files of four, one and no slow test."""
    named = (
        [("a", n, n < 4) for n in range(6)] + [("b", n, n < 1) for n in range(3)] + [("c", n, False) for n in range(3)]
    )
    return [Item(*each) for each in named]


def test_no_quick_test_is_left_out_and_at_most_the_half_of_the_slow_ones() -> None:
    """A file whose only slow test there is runs it every time."""
    for draw in map(str, range(20)):
        gone = [each.nodeid for each in left_out(suite(), draw)]

        assert len(gone) == 2
        assert set(gone) < {f"tests/a.py::test_{n}" for n in range(4)}


def test_every_worker_draws_the_same_and_another_day_something_else() -> None:
    """In whichever order they are collected; and each is run on some day."""
    tests = suite()

    def names(items: list[Any], draw: str) -> frozenset[str]:
        return frozenset(each.nodeid for each in left_out(items, draw))

    assert all(names(tests, str(draw)) == names(suite()[::-1], str(draw)) for draw in range(5))
    assert len({names(tests, str(draw)) for draw in range(20)}) > 3
    assert not frozenset.intersection(*(names(tests, str(draw)) for draw in range(20)))


def test_what_asks_for_the_promises_themselves_is_never_left_out() -> None:
    """A change that breaks one is seen on the same day."""
    kept = [Item(f"{folder}/test_d", n, True) for folder in ("conformance", "meta") for n in range(4)]

    assert not left_out(kept, "1")
    assert left_out([Item("conforming/test_d", n, True) for n in range(4)], "1")
