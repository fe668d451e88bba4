"""The role matrix: what a role may do for a purpose before any consent is looked at (order §5)."""

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.covers import Covers

_REACHED = {"role": 0, "purpose": 1}
"""How far a row got, by the criterion that it missed; every other one stands behind these."""


class MatrixRow(Struct, frozen=True):
    """A row of ``p5``: one role, the purposes it may state together, the actions and the classes."""

    role: str
    purpose: str
    act: str
    class_: str


class EntitlementAnswer(Struct, frozen=True):
    """Whether one role covers all stated purposes, the action and the class; roles are never mixed."""

    holds: bool
    applied: tuple[str, ...] = ()
    miss: str = "role.purpose"


ENTITLED = EntitlementAnswer(True, (), "")
_MISSES = (EntitlementAnswer(False), EntitlementAnswer(False), EntitlementAnswer(False, (), "role.action"))


def entitlement_answer(case: Case, covers: Covers, matrix: tuple[MatrixRow, ...]) -> EntitlementAnswer:
    """Tell whether a row of the matrix covers the case; the miss is the furthest criterion reached."""
    furthest = 0
    for row in matrix:
        miss, _ = covers.test("5", case, row)
        if not miss:
            return ENTITLED
        furthest = max(furthest, _REACHED.get(miss, 2))
    return _MISSES[furthest]
