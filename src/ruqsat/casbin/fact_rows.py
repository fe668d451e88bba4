"""Facts as rows of the sections ``p2``–``p5``, in the text that pycasbin reads."""

from collections.abc import Callable
from typing import Any

from ruqsat.core.emergency import SessionRow
from ruqsat.core.entitlement import MatrixRow
from ruqsat.core.facts import Delegation, Provision
from ruqsat.core.functions import write_grantees

NONE = "-"


def provision_row(document: str, node: Provision) -> list[str]:
    """Write a provision as a row of ``p2``."""
    return [
        document, node.effect, _cell(node.start), _cell(node.end), _cell(node.purposes), write_grantees(node.grantees),
        _cell(node.actions), _cell(node.categories), _cell(node.data_records), _cell(node.data_authors),
        _cell(node.data_encounters), _cell(node.data_codes), _cell(node.data_from), _cell(node.data_until),
        node.conf or NONE, _cell(node.labels), "allow",
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


def matrix_cells(row: MatrixRow) -> list[str]:
    """Write a row of the role matrix as a row of ``p5``; what it cites covers nothing."""
    return [row.role, row.purpose, row.act, row.class_, "allow", NONE]


ROWS: dict[str, Callable[[Any], list[str]]] = {
    "2": lambda node: provision_row(NONE, node),
    "3": delegation_row,
    "4": session_cells,
    "5": matrix_cells,
}
"""By section: how one fact is written; no matcher reads which document a provision stands in."""


def _cell(value: object) -> str:
    if value is None or value == ():
        return NONE
    return " ".join(value) if isinstance(value, tuple) else str(value)
