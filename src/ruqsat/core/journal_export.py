"""An entry of the journal as others take it away: a member of JSON Lines, a row of CSV."""

import csv
import io
import re
from typing import Any

import msgspec

from ruqsat.core.journal_filter import Found

_LINE = frozenset({"n", "segment", "writer"})
_FORMULA = re.compile(r"^(?=\s*?[=+\-@\t\r\n])|(?<=[;,|\t\r\n])(?=[^\S\t\r\n]*[=+\-@])")
"""Where a formula would begin: at the start of a cell, or where a reader by other separators sees a cell start."""

COLUMNS = (
    "at", "kind", "event", "id", "subject", "roles", "org", "action", "data_class", "purpose", "patient",
    "patients_beside", "resource_type", "resource", "allowed", "reason", "rule", "basis", "law", "duties", "applied",
    "actors", "degraded", "erased", "policy", "listener", "point", "hash", "operation", "version", "status", "records",
    "content", "generation", "approval", "why", "stated_roles", "stated_org",
    "outcome",
)  # fmt: skip
"""Of a CSV file, in this order."""


def told_entry(found: Found) -> dict[str, Any]:
    """
    Return what an entry says, without what it leaves open, and where its line stands.

    Nothing that the line names people by is added; what was erased is told as ``erased``.
    """
    said = msgspec.to_builtins(found.entry)
    told = {name: value for name, value in said.items() if name not in _LINE and _is_said(value)}
    if found.entry.allowed is not None:
        told["allowed"] = found.entry.allowed
    return told | {"writer": found.spot.writer, "segment": found.spot.segment, "number": found.spot.number}


def csv_head() -> str:
    """Return the first row, with its line end."""
    return _row(COLUMNS)


def csv_row(found: Found) -> str:
    """Return an entry as a row, with its line end; a spreadsheet finds no formula in it (CWE-1236)."""
    said = told_entry(found)
    return _row([safe_cell(said.get(name)) for name in COLUMNS])


def safe_cell(value: object) -> str:
    """
    Return a value as a cell that no spreadsheet takes for a formula.

    Where the comma stands in decimals, as in Kazakhstan, a spreadsheet splits the row at semicolons,
    quoted or not.

    Examples:
        >>> safe_cell("=HYPERLINK(1)"), safe_cell(["a", "b"]), safe_cell(True), safe_cell(None), safe_cell(" +1")
        ("'=HYPERLINK(1)", 'a b', 'true', '', "' +1")
        >>> safe_cell("o1;=HYPERLINK(1)"), safe_cell("a;b")
        ("o1;'=HYPERLINK(1)", 'a;b')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return _FORMULA.sub("'", text)  # some programs look for the sign behind blanks, too


def _is_said(value: object) -> bool:
    return value not in (None, [], "", 0)


def _row(cells: Any) -> str:
    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow(cells)
    return written.getvalue()
