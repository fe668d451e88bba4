"""
Stock pycasbin as the oracle of our compiler: the same model, the same files, its own engine.

The functions are those of the compiled set, so that only the compiling is compared,
and quickly; a whole decision that shares none of it is `ruqsat.casbin.decider`'s.
"""

from collections.abc import Mapping

from ruqsat.casbin.stock import Stock
from ruqsat.core.case import Case
from ruqsat.core.policy_set import PolicySet


class Oracle:
    """
    Stock pycasbin over one pack.

    Args:
        texts: The pack's files, as the compiler saw them.
        policy_set: The compiled set, for the functions that rules call.
    """

    def __init__(self, texts: Mapping[str, bytes], policy_set: PolicySet) -> None:
        self._stock = Stock(texts)
        self._stock.register({name: function.call for name, function in policy_set.functions.items()})
        self._stock.register(policy_set.section_functions)

    def decide(self, case: Case) -> tuple[bool, str | None]:
        """Return pycasbin's answer to section ``p`` and the id of the rule that settled it."""
        allowed, row = self._stock.first_rule(case)
        return allowed, row.get("id")

    def covers(self, suffix: str, case: Case, row: list[str]) -> bool:
        """Ask pycasbin whether one row of section ``p`` + *suffix* covers the case."""
        return self._stock.covers(suffix, (case.sub, case.act, case.res, case.ctx), row)

    def has_link(self, key: str, member: str, group: str) -> bool:
        """Tell whether pycasbin's role manager *key* links the two words."""
        return self._stock.has_link(key, member, group)
