"""A barrier ends when every process has the change, or none without it can answer; never before."""

import asyncio
from collections.abc import Collection

import pytest

from ruqsat.core.facts import Position
from ruqsat.core.instant import SECOND, Instant
from ruqsat.errors import StoreUnavailableError
from ruqsat.service import barrier
from ruqsat.service.barrier import Barrier, HistoryChangedError, Row, Wait
from tests.clocks import FixedClock
from tests.mutants import plant

LEASE = 5 * SECOND
COMMITTED = 100 * SECOND
LONG_AGO: Instant = 0
CHANGE = Position("e2", 40)
OVER = COMMITTED + LEASE + LEASE // 50 + 1


def row(epoch: str = "e2", seq: int = 40, *, id_: str = "other", lease: Instant = LEASE, beat: int = 7) -> Row:
    """A row of another process; as it stands it has the change."""
    return (id_, Position(epoch, seq), lease, beat)


def looks(kind: type[Wait], *rows: Row, epoch: str = "e2", known_since: Instant = LONG_AGO) -> bool:
    """Whether a first look at these rows lets the change be visible."""
    return kind(CHANGE, COMMITTED, LEASE, known_since).look(epoch, rows, COMMITTED + 1, COMMITTED + 2)


def test_it_ends_when_everyone_has_the_change() -> None:
    """Rows at the change or beyond it, or no rows at all, end it at once."""
    assert looks(Wait)
    assert looks(Wait, row(), row(seq=99, id_="third"))


@pytest.mark.parametrize("behind", [row(seq=39), row("e1", 90), row("", 0)], ids=["older", "other epoch", "new"])
def test_it_waits_for_whoever_does_not_have_it(behind: Row) -> None:
    """One row behind is enough, and a number of another epoch says nothing."""
    assert not looks(Wait, row(), behind)


def test_a_number_of_another_epoch_compared_is_noticed() -> None:
    """Planted: only the numbers are compared; a process that has not heard of the failover would pass."""
    careless = plant(barrier, "known.epoch == self._position.epoch and ", "").Wait
    assert looks(careless, row("e1", 90))
    assert not looks(Wait, row("e1", 90))


def test_after_a_failover_nobody_believes_the_table_for_a_lease() -> None:
    """It may have lost rows; the epoch that it is of must be the change's, too."""
    assert not looks(Wait, known_since=COMMITTED - LEASE)
    assert not looks(Wait, epoch="e3")

    hasty = plant(barrier, "began_at - self._known_since > self._lease + self._margin", "True").Wait
    assert looks(hasty, known_since=COMMITTED - LEASE)
    blind = plant(barrier, "epoch != self._position.epoch or ", "").Wait
    assert looks(blind, epoch="e3")


def test_after_a_lease_nobody_is_waited_for() -> None:
    """The longest lease of all counts, and a margin for two clocks."""
    wait = Wait(CHANGE, COMMITTED, LEASE, LONG_AGO)
    assert not wait.is_over(OVER - 1)
    assert wait.is_over(OVER)

    wait.look("e2", (row(seq=1, lease=2 * LEASE),), COMMITTED, COMMITTED)
    assert not wait.is_over(OVER)
    assert wait.is_over(COMMITTED + 2 * LEASE + LEASE // 25 + 1)


def test_only_a_row_that_kept_silent_for_a_lease_is_taken_away() -> None:
    """Not one that was written again, has the change, was not there at first, or was first seen too lately."""
    wait = Wait(CHANGE, COMMITTED, LEASE, LONG_AGO)
    wait.look("e2", (row(seq=1), row(seq=1, id_="slow"), row(id_="has it")), COMMITTED, COMMITTED + 1)
    last = (row(seq=1), row(seq=1, id_="slow", beat=8), row(id_="has it"), row(seq=1, id_="came"))
    wait.look("e2", last, OVER - 2, OVER - 1)

    assert wait.silent(OVER) == [("other", 7)]
    assert wait.silent(COMMITTED + LEASE) == []


class Table:
    """A table of processes that changes with each look."""

    def __init__(self, *looks: tuple[str, tuple[Row, ...]] | None) -> None:
        """*looks*: what each look finds, None is a failure; the last one stays."""
        self.looks, self.dropped = list(looks), list[tuple[str, int]]()

    async def fetch_others(self) -> tuple[str, tuple[Row, ...]]:
        """Answer the next look."""
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if found is None:
            raise StoreUnavailableError("away")
        return found

    async def drop_silent(self, silent: Collection[tuple[str, int]]) -> None:
        """Take down who is dropped."""
        self.dropped += silent


def through(table: Table, *, is_alone: bool = False, positions: tuple[Position, ...] = (CHANGE,)) -> barrier.Visible:
    """Go through a barrier whose clock runs ten times as fast as ours; *positions* are known one after the other."""
    known = list(positions)

    async def run() -> barrier.Visible:
        loop = asyncio.get_running_loop()
        gate = Barrier(
            table, is_alone=is_alone, lease=LEASE, known_since=lambda: LONG_AGO,
            boottime=lambda: COMMITTED + int(loop.time() * 10 * SECOND),
            position=lambda: known.pop(0) if len(known) > 1 else known[0],
        )  # fmt: skip
        visible = await gate.pass_through()
        assert (gate.acknowledged, gate.by_lease) == (int(visible.by == "acknowledged"), int(visible.by == "lease"))
        return visible

    return asyncio.run(run())


def test_the_last_to_acknowledge_opens_it() -> None:
    """A failed look and a process behind are waited for; the answer says who opened it."""
    table = Table(None, ("e2", (row(seq=39),)), ("e2", (row(),)))
    assert through(table).by == "acknowledged"
    assert table.dropped == []


def test_a_process_that_is_gone_holds_up_one_barrier_for_a_lease() -> None:
    """Its row is then taken away, so that the next one does not wait for it."""
    table = Table(("e2", (row(seq=39),)))
    visible = through(table)
    assert visible.by == "lease"
    assert visible.seconds > LEASE / SECOND
    assert table.dropped == [("other", 7)]


def test_without_the_store_the_lease_opens_it() -> None:
    """What has passed is the same, whoever can be asked."""
    assert through(Table(None)).by == "lease"


def test_a_look_that_was_long_under_way_is_as_old_as_its_beginning() -> None:
    """Begun within a lease of a failover, it may lack whoever the failover made lose its row, however late it is read."""
    clock = FixedClock(boot=LEASE)

    class Slow(Table):
        async def fetch_others(self) -> tuple[str, tuple[Row, ...]]:
            found = await super().fetch_others()
            clock.advance(2 * LEASE)
            return found

    gate = Barrier(
        Slow(("e2", ())), is_alone=False, lease=LEASE, known_since=lambda: 0, boottime=clock.boottime,
        position=lambda: CHANGE,
    )  # fmt: skip

    assert asyncio.run(gate.pass_through()).by == "lease"


def test_a_process_alone_waits_for_nobody() -> None:
    """On a file of its own a change is in force everywhere once it is known."""
    assert through(Table(None), is_alone=True).by == "acknowledged"


@pytest.mark.parametrize("later", [Position("e3", 50), Position("e2", 12)], ids=["another epoch", "went back"])
def test_a_history_that_was_lost_meanwhile_is_told(later: Position) -> None:
    """Nobody is told that a change is visible which the database may not have any more."""
    with pytest.raises(HistoryChangedError):
        through(Table(("e2", ())), positions=(CHANGE, later))
