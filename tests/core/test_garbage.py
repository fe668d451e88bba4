"""A decision leaves nothing that only the collector could find: its pauses would be paid by whoever asks next."""

import gc

import pytest

from ruqsat.core.cases import parse_cases, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World


@pytest.mark.slow
def test_a_decision_leaves_no_reference_cycle(
    pack_texts: dict[str, bytes], policy_set: PolicySet, world: World
) -> None:
    """After every policy case, permit and denial alike, the collector finds nothing to free."""
    asked = [
        situation(policy_set, world, case)
        for name in pack_texts
        if name.endswith(".test.toml")
        for case in parse_cases(pack_texts[name].decode(), name)[0]
    ]
    for each in asked:  # once before: what is worked out once may leave what it likes
        evaluate(policy_set, *each)
    gc.collect()
    gc.disable()
    try:
        for each in asked:
            evaluate(policy_set, *each)
        assert gc.collect() == 0
    finally:
        gc.enable()
    assert len(asked) > 40
