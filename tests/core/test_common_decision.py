"""What the common decision does not pay for."""

import sys
from types import FrameType

from ruqsat.core.cases import PolicyCase, World, situation
from ruqsat.core.evaluate import evaluate
from ruqsat.core.policy_set import PolicySet


def test_no_variable_of_the_common_decision_is_shared_with_a_comprehension(policy_set: PolicySet, world: World) -> None:
    """Before Python 3.12 such a variable is made a cell, at every call and on the way to every use of it."""
    asked = situation(policy_set, world, PolicyCase("", "dr_aida read o1 TREAT", "allow.consent"))
    called, shared = set[str](), dict[str, tuple[str, ...]]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_name)
            if frame.f_code.co_cellvars:
                shared[frame.f_code.co_qualname] = frame.f_code.co_cellvars

    assert evaluate(policy_set, *asked).allowed  # what is worked out of facts once is no part of it
    sys.setprofile(note)
    try:
        evaluate(policy_set, *asked)
    finally:
        sys.setprofile(None)

    assert {"evaluate", "refuse_invalid", "consent_answer", "first"} <= called
    assert shared == {}
