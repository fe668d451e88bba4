"""
On millions of random steps nothing is sent that is out of date; and without any one guard, something is.

The state of a sidecar is the product's own.  `RUQSAT_TEST_LONGER` multiplies
the steps, `RUQSAT_TEST_SEED` repeats a run.
"""

import os
import random

import pytest

from ruqsat.core.facts import Position
from ruqsat.service.freshness import Freshness
from tests.freshness.mistakes import IN_BARRIERS, MISTAKES, RARE
from tests.freshness.model import Shape, check
from tests.freshness.sidecar import LEASE, TOKEN_KEY

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**32))))
STEPS = 2_000_000 if LONGER == 1 else 5_000_000 * LONGER

ENOUGH = 5_000_000
"""Steps within which a mistake is found; most need a few thousand."""

RARELY = 10_000_000

USUAL = Shape(2, 2)
COMINGS = Shape(3, 2, comings=True)


@pytest.mark.slow
@pytest.mark.timeout(180 * LONGER)
@pytest.mark.parametrize("shape", [USUAL, Shape(3, 3)], ids=["two sidecars, two keys", "three sidecars, three keys"])
def test_nothing_out_of_date_is_ever_sent(shape: Shape) -> None:
    """Millions of steps of each shape, and one decision in eight is answered: it is not silence that keeps it safe."""
    outcome = check(SEED, STEPS, shape)
    print(f"RUQSAT_TEST_SEED={SEED} {outcome}")

    assert outcome.violation == ""
    assert outcome.steps == STEPS
    assert outcome.served > outcome.begun / 8 > STEPS / 100


@pytest.mark.parametrize("name", MISTAKES)
def test_without_any_one_guard_something_out_of_date_is_sent(name: str) -> None:
    """Each guard of the protocol is needed, and the model notices when it is missing."""
    outcome = MISTAKES[name].check(1, ENOUGH, USUAL)
    print(f"{name}: {outcome}")

    assert outcome.violation


@pytest.mark.slow
@pytest.mark.timeout(180 * LONGER)
def test_what_a_barrier_declared_visible_is_never_missed() -> None:
    """While sidecars come, go and are gone, and failovers lose their rows; and barriers do end before a lease."""
    outcome = check(SEED, STEPS, COMINGS)
    print(f"RUQSAT_TEST_SEED={SEED} {outcome}")

    assert outcome.violation == ""
    assert outcome.acknowledged > STEPS / 2_000
    assert outcome.served > outcome.begun / 8


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_BARRIERS)
def test_without_any_one_guard_a_barrier_lies(name: str) -> None:
    """Rows that come too late or go too early, and a wait that is too short, let something be sent that was promised away."""
    outcome = IN_BARRIERS[name].check(1, ENOUGH, Shape(2, 2, comings=True))
    print(f"{name}: {outcome}")

    assert "promised" in outcome.violation


@pytest.mark.slow
def test_even_a_rare_mistake_is_met_at_random() -> None:
    """The model meets those too that take millions of steps: one of them for every change, all in a soak."""
    for name in RARE if LONGER > 1 else random.sample([*RARE], 1):
        outcome = RARE[name].check(1, RARELY, USUAL)
        print(f"{name}: {outcome}")

        assert outcome.violation


def left_behind(kind: type[Freshness]) -> bool:
    """
    Let a hint of change 5 outlive the failover that undid it, before another change 5; tell whether that one is missed.

    Were the hint believed, its hearer would think that it knows 5, and no probe would ask for it.
    """
    state = kind(TOKEN_KEY, lease_for=LEASE)
    state.observe_probe(Position("2", 4), (), 0, state.ask())
    state.hint(5, "patient:p0", 0)
    feed = ((5, "subject:s0"),)
    for now in range(LEASE // 2, 3 * LEASE, LEASE // 2):
        since = state.position.seq
        state.observe_probe(Position("2", 5), feed[since - 4 :], now, state.ask())
    return state.usable(Position("2", 4), ("subject:s0",), now)


def test_a_hint_hides_no_change() -> None:
    """Not even one that outlived a failover hides the change that got its number."""
    assert not left_behind(Freshness)
    assert left_behind(RARE["hint taken for knowledge"].parts.freshness)
