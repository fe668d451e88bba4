"""
Stock pycasbin as the oracle: the same model, the same files, the same functions, its own engine.

pycasbin reads ``model.conf`` and the CSV files itself; only the functions that
conditions call are ours.  Rows of ``p2``–``p4`` are one person's facts: each is
asked alone, because pycasbin names only the first row that matches, and a section
without rows answers True to an empty row.
"""

from collections.abc import Mapping
from typing import Any

from casbin.core_enforcer import EnforceContext
from casbin.persist.adapter import load_policy_line

import casbin
from ruqsat.core.case import Case
from ruqsat.core.emergency import SessionRow
from ruqsat.core.facts import Delegation, Provision
from ruqsat.core.functions import write_grantees
from ruqsat.core.policy_set import PolicySet

_NONE = "-"


class Oracle:
    """
    Stock pycasbin over one pack.

    Args:
        texts: The pack's files, as the compiler saw them.
        policy_set: The compiled set, for the functions that rules call.
    """

    def __init__(self, texts: Mapping[str, bytes], policy_set: PolicySet) -> None:
        self._texts = texts
        self._policy_set = policy_set
        self._rules = self._enforcer()
        self._one_row = self._enforcer()
        for name in sorted(texts):
            if name.endswith(".csv"):
                for line in texts[name].decode().splitlines():
                    load_policy_line(line.strip(), self._rules.get_model())
        self._rules.get_model().sort_policies_by_priority()
        self._rules.build_role_links()

    def decide(self, case: Case) -> tuple[bool, str | None]:
        """Return pycasbin's answer to section ``p`` and the id of the rule that settled it."""
        allowed, row = self._rules.enforce_ex(case.sub, case.act, case.res, case.ctx)
        return bool(allowed), row[1] if row else None

    def covers(self, suffix: str, case: Case, row: list[str]) -> bool:
        """Ask pycasbin whether one row of section ``p`` + *suffix* covers the case."""
        self._one_row.get_model().model["p"]["p" + suffix].policy = [row]
        names = [letter + suffix for letter in "rpem"]
        return bool(self._one_row.enforce(EnforceContext(*names), case.sub, case.act, case.res, case.ctx))

    def has_link(self, key: str, member: str, group: str) -> bool:
        """Tell whether pycasbin's role manager *key* links the two words."""
        return bool(self._rules.rm_map[key].has_link(member, group))

    def _enforcer(self) -> Any:
        model = casbin.Enforcer.new_model(text=self._texts["model.conf"].decode())
        enforcer = casbin.Enforcer(model)
        for name, function in self._policy_set.functions.items():
            enforcer.add_function(name, function.call)
        for name, ask in self._policy_set.section_functions.items():
            enforcer.add_function(name, ask)
        return enforcer


def provision_row(document: str, node: Provision) -> list[str]:
    """Write a provision as a row of ``p2``."""
    return [
        document, node.effect, _cell(node.start), _cell(node.end), _cell(node.purposes), write_grantees(node.grantees),
        _cell(node.actions), _cell(node.categories), _cell(node.data_records), _cell(node.data_authors),
        _cell(node.data_encounters), _cell(node.data_codes), _cell(node.data_from), _cell(node.data_until),
        node.conf or _NONE, _cell(node.labels), "allow",
    ]  # fmt: skip


def delegation_row(link: Delegation) -> list[str]:
    """Write a link of a delegation as a row of ``p3``."""
    return [
        link.id, _cell(link.start), _cell(link.end), _cell(link.purposes), _cell(link.actions),
        _cell(link.categories), _cell(link.labels), "allow",
    ]  # fmt: skip


def session_cells(row: SessionRow) -> list[str]:
    """Write a break-glass session as a row of ``p4``."""
    return [row.grant, row.subject, _cell(row.since), _cell(row.until), _cell(row.acts), _cell(row.classes), "allow"]


def _cell(value: object) -> str:
    if value is None or value == ():
        return _NONE
    return " ".join(value) if isinstance(value, tuple) else str(value)
