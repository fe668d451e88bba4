"""The time of decisions is the database server's, known as an interval that never goes back."""

import logging
import time
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruqsat.core.instant import HOUR, SECOND, Instant
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.clock import ServerClock, SystemClock
from ruqsat.stores import sql_lane
from ruqsat.web.token_keys import PublishedKeys, fetch_document

MINUTE = 60 * SECOND
START = 1_700_000_000 * SECOND


class Tuned(ServerClock):
    """A server's clock in a process whose time since boot the test sets."""

    boot: Instant = 0

    def boottime(self) -> Instant:
        """Return what the test has set."""
        return self.boot


def test_before_the_first_reading_there_is_no_time() -> None:
    """Nothing is decided by a clock that was never read."""
    with pytest.raises(StoreUnavailableError):
        Tuned().now()


@given(
    probes=st.lists(
        st.tuples(st.integers(0, SECOND), st.integers(0, SECOND), st.integers(0, 5 * SECOND)), min_size=1, max_size=20
    ),
    drift=st.integers(-900, 900),
)
def test_the_true_time_is_always_within_the_interval(probes: list[tuple[int, int, int]], drift: int) -> None:
    """However slow a probe is on either way, and however the host's clock drifts within its bound."""
    clock, boot = Tuned(), 0

    def true_at(boot: Instant) -> Instant:
        return START + boot + boot * drift // 1_000_000

    before = (0, 0)
    for there, back, pause in probes:
        clock.observe(true_at(boot + there), boot, boot + there + back)
        boot += there + back
        for clock.boot in (boot, boot + pause):
            now = clock.now()
            assert now.lo - 1 <= true_at(clock.boot) <= now.hi + 1
            assert now.lo >= before[0] and now.hi >= before[1]
            before = (now.lo, now.hi)
        boot += pause


def test_a_clock_turned_back_is_told_and_not_followed(caplog: pytest.LogCaptureFixture) -> None:
    """An hour back: one line in the log, and time goes on from where it was; an hour forward is followed."""
    clock = Tuned()
    clock.observe(START, 0, 100)
    clock.boot = MINUTE
    before = clock.now()

    with caplog.at_level(logging.ERROR):
        for second in range(3):
            clock.observe(START + MINUTE - HOUR, MINUTE + second, MINUTE + second + 100)

    assert [record.getMessage().split()[0] for record in caplog.records] == ["database_clock_went_back"]
    clock.boot = 2 * MINUTE
    assert clock.now().lo > before.hi + 59 * SECOND
    assert clock.stamp() < START + 3 * MINUTE - HOUR  # a process that starts now must not take it for the future

    clock.observe(START + HOUR, 2 * MINUTE, 2 * MINUTE)
    assert clock.now().lo == START + HOUR


def test_a_clock_that_is_adjusted_by_less_than_a_second_warns(caplog: pytest.LogCaptureFixture) -> None:
    """One warning for a step as time servers make them; if it becomes a second, it is told as the error that it is."""
    clock = Tuned()
    clock.observe(START, 0, 100)

    with caplog.at_level(logging.WARNING):
        for back in (8_000, 9_000, SECOND, 2 * SECOND):
            clock.observe(START + MINUTE - back, MINUTE, MINUTE + 100)

    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]


def test_neither_end_goes_back_by_a_reading_that_took_long() -> None:
    """One that may be of a little earlier than what is known already, and one that tells the present more exactly."""
    clock = Tuned()
    clock.observe(START, 0, 1_000)
    clock.boot = SECOND
    before = clock.now()
    assert before.lo < before.hi

    clock.observe(before.lo - 100, SECOND - 1_000, SECOND)
    assert clock.now().lo == before.lo
    clock.observe(before.lo + 1, SECOND, SECOND)
    assert (clock.now().lo, clock.now().hi) == (before.lo + 1, before.hi)


@given(
    one=st.tuples(st.integers(0, SECOND), st.integers(0, SECOND)),
    other=st.tuples(st.integers(0, SECOND), st.integers(0, SECOND)),
)
def test_what_one_process_records_is_the_past_for_every_other(one: tuple[int, int], other: tuple[int, int]) -> None:
    """A withdrawal is in force at another process from the moment it is read, however slow the probes of either were."""
    clocks = []
    for there, back in (one, other):
        clock = Tuned()
        clock.observe(START - back, 2 * SECOND - back - there - 1, 2 * SECOND)
        clock.boot = 2 * SECOND
        clocks.append(clock)

    assert clocks[0].stamp() <= clocks[1].now().hi


def test_the_hosts_own_clock_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose wall clock is a day off decides by the same time as the others."""
    monkeypatch.setattr("ruqsat.service.clock.time_ns", lambda: (START + 24 * HOUR) * 1000)
    clock = Tuned()
    clock.observe(START, 0, 0)

    assert clock.now().hi <= START + 1


def test_leases_go_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    """They, readings of the server's clock and the age of an issuer's keys are counted by the time since boot."""
    boot = {time.CLOCK_BOOTTIME: 7_000}
    monkeypatch.setattr("ruqsat.service.clock.clock_gettime_ns", boot.__getitem__)
    monkeypatch.setattr(sql_lane, "clock_gettime_ns", boot.__getitem__)

    assert (SystemClock().boottime(), ServerClock().boottime(), sql_lane.boottime()) == (7, 7, 7)
    since_boot = PublishedKeys(fetch_document)._clock
    assert isinstance(since_boot, partial) and (since_boot.func, *since_boot.args) == (
        time.clock_gettime, time.CLOCK_BOOTTIME,
    )  # fmt: skip
