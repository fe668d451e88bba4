"""``policy fmt``: one way to write a rule file, so that a difference between two versions is a difference in rules."""

import re

from ruqsat.core.rows import split_cells

_BLANKS = re.compile(r"\s+")


def format_rules(text: str) -> str:
    """
    Return the file as it should be written; formatting twice changes nothing more.

    Cells are divided by a comma and a blank, words within a cell by one blank,
    groups of rows by one empty line.  Comments and the order of rows are kept.  A
    line that cannot be split is kept as it is, for the checker to tell about.

    Examples:
        >>> print(format_rules("# Care  \\n\\n\\np,10 , a-01,nurse,read   search\\n"), end="")
        # Care
        <BLANKLINE>
        p, 10, a-01, nurse, read search
    """
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        written = _line(line)
        if written or (lines and lines[-1]):
            lines.append(written)
    return "\n".join(lines).rstrip("\n") + "\n" if any(lines) else ""


def _line(line: str) -> str:
    if not line.strip() or line.lstrip().startswith("#"):
        return line.rstrip() if line.startswith("#") else line.strip()
    cells = split_cells(line)
    if cells is None:
        return line.rstrip()
    return ", ".join(cell if _has_literal(cell) else _BLANKS.sub(" ", cell) for cell in cells)


def _has_literal(cell: str) -> bool:
    """Tell whether a cell holds a literal, inside of which blanks mean something."""
    return "'" in cell or '"' in cell
