"""The role matrix: what a role may do for a purpose before any consent is looked at (order §5)."""

from msgspec import Struct

from ruqsat.core.case import Case
from ruqsat.core.covers import Covers

_FURTHER = {"role": 0, "purpose": 1, "action": 2, "": 3}


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
_MISSES = {
    "role": EntitlementAnswer(False),
    "purpose": EntitlementAnswer(False),
    "action": EntitlementAnswer(False, (), "role.action"),
}


def entitlement_answer(case: Case, covers: Covers, matrix: tuple[MatrixRow, ...]) -> EntitlementAnswer:
    """Tell whether a row of the matrix covers the case; the miss is the furthest criterion reached."""
    furthest = "role"
    for row in matrix:
        miss, _ = covers.test("5", case, row)
        if not miss:
            return ENTITLED
        if _FURTHER[miss] > _FURTHER[furthest]:
            furthest = miss
    return _MISSES[furthest]
