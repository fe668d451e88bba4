"""The verdict itself: what it must find, and what it must not blame on anybody."""

import pytest

from tests.chaos.verdict import (
    Check,
    Outage,
    Pause,
    Span,
    Write,
    count_alive,
    count_violations,
    earliest_sent,
    outages,
)  # fmt: skip

DELTA = 2.0
WITHDRAWN = Write("p", "withdraw", "a", 10.0, 10.1)
GRANTED = Write("p", "grant", "a", 20.0, 20.1)
EARLIER = Write("p", "grant", "a", 5.0, 5.1)
STOOD = Pause("b", 10.5, 10.55, 15.0)


def check(sent: float, received: float, sidecar: str = "b", *, allowed: bool = True) -> Check:
    """A check of the patient."""
    return Check(sidecar, "p", sent, received, allowed)


@pytest.mark.parametrize(("asked", "is_found"), [
    (check(12.0, 12.01), False),  # within Δ
    (check(12.2, 12.21), True),
    (check(12.2, 12.21, allowed=False), False),
    (check(12.0, 12.3), False),  # it may have been sent within Δ
    (check(10.05, 10.12, "a"), False),  # its request came before the acknowledgement
    (check(10.11, 10.12, "a"), True),  # whoever acknowledged it knows it
    (check(19.9, 20.05), False),  # the next grant had begun when the answer came
    (check(19.8, 19.99), True),
    (check(20.5, 20.6), False),
    (check(1.0, 1.1), False),
])  # fmt: skip
def test_an_allow_counts_from_delta_after_the_acknowledgement(asked: Check, is_found: bool) -> None:
    """From then until the next grant begins; elsewhere nothing is said."""
    assert bool(count_violations([GRANTED, WITHDRAWN, EARLIER], [asked], [], DELTA).violations) is is_found


@pytest.mark.parametrize(("asked", "is_found"), [
    (check(10.2, 15.01), True),  # it lay in the socket of a sidecar that stood, and was answered when it went on
    (check(10.2, 10.52), False),  # answered before it stood, read by us a little later
    (check(11.0, 15.01), True),
    (check(10.2, 15.01, allowed=False), False),
    (check(10.2, 15.01, "c"), False),  # another one stood
])  # fmt: skip
def test_a_sidecar_that_stands_sends_nothing(asked: Check, is_found: bool) -> None:
    """An answer that was not there when all was read is of after the pause; one that was is of before it."""
    assert bool(count_violations([WITHDRAWN], [asked], [STOOD], DELTA).violations) is is_found


def test_the_earliest_moment_is_that_of_the_last_pause() -> None:
    """Several pauses while a request waits: the answer is of after the last that it was not there in."""
    pauses = [Pause("b", 1, 1.1, 2), Pause("b", 3, 3.1, 4), Pause("b", 6, 6.1, 7)]
    assert [earliest_sent(check(0.5, received), pauses) for received in (0.9, 2.5, 5, 9)] == [0.5, 2, 4, 7]


def test_checks_that_could_not_fail_are_not_counted_as_tested() -> None:
    """A run that never asks about a withdrawn consent has tested nothing."""
    asked = [check(11.0, 11.01), check(12.2, 12.21, allowed=False), check(12.3, 12.31, allowed=False)]
    assert count_violations([WITHDRAWN], asked, [], DELTA) == (2, ())
    assert count_violations([], asked, [], DELTA) == (0, ())


def test_liveness_is_counted_where_all_was_well_alone() -> None:
    """Inside the spans of that sidecar, of patients whom nobody touched; a denial there counts against it."""
    spans = [Span("b", 0, 5), Span("b", 8, 9), Span("a", 5, 8)]
    asked = [check(1, 2), check(4, 6), check(6, 7), check(8, 9, allowed=False), Check("b", "q", 1, 2, True)]
    alive = count_alive(asked, spans, frozenset("p"))
    assert (alive.asked, alive.allowed) == (2, 1)


def test_an_outage_is_a_row_of_denials_within_a_span() -> None:
    """An allow ends it, and so does the span; the longest row comes first."""
    spans = [Span("b", 0, 10), Span("b", 20, 30)]
    denied = [1, 2, 5, 21, 22, 23, 31]
    asked = [check(at, at + 0.5, allowed=at not in denied) for at in (0, 1, 2, 3, 5, 6, 21, 22, 23, 31)]
    assert outages(asked, spans, frozenset("p")) == [
        Outage("b", 1, 2.5, 3), Outage("b", 1, 1.5, 2), Outage("b", 5, 0.5, 1),
    ]  # fmt: skip
