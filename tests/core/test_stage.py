"""A world that is made once for many cases tells each what it would be told alone."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ruqsat.core.cases import PolicyCase, Stage, situation
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.world import World

OF_THE_STATE = "c-of-the-state"


def test_each_case_is_told_its_own_documents_under_its_own_switches(
    world: World, variant: Callable[[Mapping[str, Any]], PolicySet]
) -> None:
    """Whichever case was asked before: without some documents, and where a switch says what a defect is."""
    some = next(name for name, record in world.consents.items() if record.patient == "p-dana")
    state = msgspec.structs.replace(world.consents[some], controller_is_state=True, state_service_ref=None)
    world = msgspec.structs.replace(world, consents={**world.consents, OF_THE_STATE: state})
    stage, seen = Stage(world), set()

    for positions in ({}, {"state_controller_needs_state_service": False}, {}):
        policy_set = variant(positions)
        for without in ((), (some,), (some, OF_THE_STATE), ()):
            case = PolicyCase("", "dr_aida read o1 TREAT", "", without=without)
            told = situation(policy_set, stage, case)
            assert told == situation(policy_set, world, case)
            assert told[1].patient is not None
            seen.add(tuple((each.id, each.defect) for each in told[1].patient.consents))

    assert len(seen) == 5, "the documents or the switches made no difference"
