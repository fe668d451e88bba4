"""
Policy CSV text → :class:`Row`, each cell with its place.

The format is Casbin's: cells divided by commas that stand outside brackets,
blanks around cells ignored, whole-line comments with ``#``.  What Casbin drops
or bends in silence is a finding here: a byte order mark, an unknown kind of
row, a row with too few or too many cells, a comment behind a rule, quotes around
a cell, unbalanced brackets, an empty file.
"""

import re

import msgspec
from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, Span, nearest
from ruqsat.core.spreadsheet import read_text, recognise_habits

MAX_CELL = 2_000
MAX_LINES = 250_000
_TOKENS = re.compile(r"[,\[\]()]")


class Cell(Struct, frozen=True):
    """The text of one cell, without surrounding blanks, and where it stands."""

    text: str
    span: Span


class Row(Struct, frozen=True):
    """One row: its kind (``p``, ``p5``, ``g2``), its cells by column name, and its source line."""

    kind: str
    cells: dict[str, Cell]
    span: Span
    source: str

    def text(self, column: str) -> str:
        """Return the text of a cell."""
        return self.cells[column].text

    def finding(self, column: str, code: str, message: str, hint: str = "") -> Diagnostic:
        """Return a finding about one cell of this row."""
        return Diagnostic(self.cells[column].span, code, message, hint, source=self.source)


def parse_rows(data: bytes, file: str, kinds: dict[str, tuple[str, ...]]) -> tuple[list[Row], list[Diagnostic]]:
    """
    Read one CSV file.

    Args:
        data: The file's bytes.
        file: Its name, for findings.
        kinds: Columns by kind of row, such as ``{"p": ("priority", "id", …), "g": ("member", "group")}``.
    """
    text, findings = read_text(data, file)
    if text is None:
        return [], findings
    lines = text.split("\n")
    habits = recognise_habits(lines, file)
    if habits or len(lines) > MAX_LINES:
        return [], [*findings, *habits, *([_too_many(lines, file)] if len(lines) > MAX_LINES else [])]
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")  # noqa: PLW2901
        if not line.strip() or line.lstrip().startswith("#"):
            if line.strip() and not line.startswith("#"):
                findings.append(
                    Diagnostic(
                        Span(file, number, 1),
                        "indented-comment",
                        "a comment starts behind blanks",
                        "start it in the first column",
                        source=line,
                    )
                )
            continue
        row = _row(line, Span(file, number, 1, len(line.rstrip())), kinds, findings)
        if row is not None:
            rows.append(row)
    if not rows and not findings:
        findings.append(
            Diagnostic(
                Span(file),
                "empty-policy",
                "the file holds no row",
                "a file without rows is a lost layer: add its rules or remove the file",
            )
        )
    return rows, findings


def split_cells(line: str) -> list[str] | None:
    """Return the cells of one row, its kind first; None if its brackets do not balance."""
    cells = _split(line, Span(""), [])
    return None if cells is None else [cell.text for cell in cells]


def _too_many(lines: list[str], file: str) -> Diagnostic:
    return Diagnostic(
        Span(file, MAX_LINES + 1, 1), "too-many-rows", f"the file has {len(lines)} lines, at most {MAX_LINES} are read",
        "a policy of this size is generated: let a role or a class stand for many",
    )  # fmt: skip


def _row(line: str, span: Span, kinds: dict[str, tuple[str, ...]], findings: list[Diagnostic]) -> Row | None:
    cells = _split(line, span, findings)
    if cells is None:
        return None
    kind, *rest = cells
    if kind.text not in kinds:
        findings.append(
            Diagnostic(
                kind.span,
                "unknown-row-kind",
                f"row starts with `{kind.text}`; no such kind of row",
                nearest(kind.text, kinds)
                or "rows start with "
                + ", ".join(f"`{k}`" for k in sorted(kinds))
                + "; cells are divided by commas, and a comment starts with `#`",
                source=line,
            )
        )
        return None
    columns = kinds[kind.text]
    found = len(findings)
    _check_cells(line, rest, findings)
    if len(rest) != len(columns):
        findings.append(
            Diagnostic(
                span,
                "wrong-column-count",
                f"expected {len(columns) + 1} cells, found {len(cells)}",
                "cells are: " + ", ".join((kind.text, *columns)),
                source=line,
            )
        )
    if len(findings) > found:
        return None
    return Row(kind.text, dict(zip(columns, rest, strict=True)), span, line)


def _split(line: str, span: Span, findings: list[Diagnostic]) -> list[Cell] | None:
    """Split at top-level commas, as pycasbin does; None if the brackets do not balance."""
    cells, start, stack = [], 0, ""
    for token in _TOKENS.finditer(line):
        mark = token.group()
        if mark in "([":
            stack += ")" if mark == "(" else "]"
        elif mark in ")]":
            if not stack or stack[-1] != mark:
                findings.append(
                    Diagnostic(
                        Span(span.file, span.line, token.start() + 1),
                        "unbalanced-bracket",
                        f"`{mark}` closes nothing",
                        "balance the brackets",
                        source=line,
                    )
                )
                return None
            stack = stack[:-1]
        elif not stack:
            cells.append(_cell(line, start, token.start(), span))
            start = token.end()
    if stack:
        findings.append(
            Diagnostic(span, "unbalanced-bracket", f"`{stack[-1]}` is missing", "balance the brackets", source=line)
        )
        return None
    cells.append(_cell(line, start, len(line), span))
    return cells


def _cell(line: str, start: int, end: int, span: Span) -> Cell:
    raw = line[start:end]
    text = raw.strip()
    column = start + len(raw) - len(raw.lstrip()) + 1
    return Cell(text, Span(span.file, span.line, column, max(1, len(text))))


def _check_cells(line: str, cells: list[Cell], findings: list[Diagnostic]) -> None:
    for cell in cells:
        if cell.text[:1] in ('"', "“", "«"):
            findings.append(
                Diagnostic(
                    cell.span,
                    "quoted-cell",
                    f"cell {cell.text} is quoted; Casbin keeps the quotes",
                    "write the cell without quotes, and lists divided by blanks",
                    source=line,
                )
            )
        elif "#" in cell.text:
            findings.append(
                Diagnostic(
                    cell.span,
                    "comment-after-rule",
                    "text after `#` would become part of the cell",
                    "comments stand on a line of their own, above the rule",
                    source=line,
                )
            )
        elif len(cell.text) > MAX_CELL:
            findings.append(
                Diagnostic(
                    msgspec.structs.replace(cell.span, width=1),
                    "cell-too-long",
                    f"the cell has {len(cell.text)} characters, at most {MAX_CELL} are read",
                    "let a group stand for many words, or split the rule",
                )
            )
        elif cell.text == "":
            findings.append(
                Diagnostic(cell.span, "empty-cell", "the cell is empty", "write `*` for any, `-` for none", source=line)
            )
