"""
Stock pycasbin over a pack: it reads ``model.conf`` and the CSV files itself, and decides by its own engine.

Only the functions that conditions call are handed to it.  Rows of ``p2``… are
asked one at a time, because pycasbin names only the first row that matches, and a
section without rows answers True to an empty row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from casbin.core_enforcer import EnforceContext
from casbin.persist.adapter import load_policy_line

import casbin
from ruqsat.core.case import Case


class Stock:
    """
    Two enforcers of one model: one with the pack's rows, one that is handed a row at each question.

    Not for threads: a question puts its row into the model.

    Args:
        texts: The pack's files.
    """

    def __init__(self, texts: Mapping[str, bytes]) -> None:
        self._rules, self._one_row = _enforcer(texts), _enforcer(texts)
        for name in sorted(texts):
            if name.endswith(".csv"):
                for line in texts[name].decode().splitlines():
                    load_policy_line(line.strip(), self._rules.get_model())
        self._rules.get_model().sort_policies_by_priority()
        self._rules.build_role_links()

    def register(self, functions: Mapping[str, Callable[..., bool]]) -> None:
        """Make functions known to matchers and conditions."""
        for enforcer in (self._rules, self._one_row):
            for name, function in functions.items():
                enforcer.add_function(name, function)

    def first_rule(self, case: Case) -> tuple[bool, dict[str, str]]:
        """Return pycasbin's answer to section ``p`` and the row that settled it, by column; no row if silence did."""
        allowed, row = self._rules.enforce_ex(case.sub, case.act, case.res, case.ctx)
        return bool(allowed), self._by_column("p", row)

    def covers(self, suffix: str, entities: tuple[Any, Any, Any, Any], row: list[str], matcher: str = "") -> bool:
        """Ask pycasbin whether one row of section ``p`` + *suffix* matches, by ``m`` + *suffix* or another matcher."""
        self._one_row.get_model().model["p"]["p" + suffix].policy = [row]
        request, policy, effect = (letter + suffix for letter in "rpe")
        context = EnforceContext(request, policy, effect, matcher or "m" + suffix)
        return bool(self._one_row.enforce(context, *entities))

    def rows(self, kind: str) -> list[dict[str, str]]:
        """Return the rows of a policy definition as pycasbin read them, by column."""
        return [self._by_column(kind, row) for row in self._rules.get_model().model["p"][kind].policy]

    def links(self) -> dict[str, list[tuple[str, str]]]:
        """Return the links of every hierarchy as pycasbin read them."""
        sections = self._rules.get_model().model["g"].items()
        return {key: [(member, group) for member, group in section.policy] for key, section in sections}

    def has_link(self, key: str, member: str, group: str) -> bool:
        """Tell whether pycasbin's role manager *key* links the two words."""
        return bool(self._rules.rm_map[key].has_link(member, group))

    def matcher(self, suffix: str) -> str:
        """Return the text of ``m`` + *suffix* as pycasbin evaluates it."""
        text: str = self._rules.get_model().model["m"]["m" + suffix].value
        return text

    def add_matcher(self, name: str, text: str) -> None:
        """Give the model one more matcher, to be named when asking."""
        self._one_row.get_model().add_def("m", name, text)

    def _by_column(self, kind: str, row: list[str]) -> dict[str, str]:
        columns = [token.removeprefix(kind + "_") for token in self._rules.get_model().model["p"][kind].tokens]
        return dict(zip(columns, row, strict=True)) if row else {}


def _enforcer(texts: Mapping[str, bytes]) -> Any:
    return casbin.Enforcer(casbin.Enforcer.new_model(text=texts["model.conf"].decode()))
