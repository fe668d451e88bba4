"""
What spreadsheet programs in a Russian or Kazakh locale make of a policy file.

Each is recognised as what it is and told once, with how to save the file right,
instead of a flood of findings about what follows from it.
"""

import re
import unicodedata
from collections.abc import Iterator

from ruqsat.core.diagnostics import Diagnostic, Span

SAVE_RIGHT = (
    "save it as CSV, UTF-8 without BOM, divided by commas, or edit the file as plain text: "
    "in LibreOffice `Save as`, `Edit filter settings`, character set UTF-8, field delimiter `,`, no text delimiter"
)
_SHOWN = 3
_CURLY = re.compile("[\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb]")
_DATE = re.compile(r"(?<![\w.])\d{1,2}\.\d{1,2}\.(?:\d{4}|\d{2})(?![\w.])")
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)?E\+\d+(?!\w)|^(p\d*, *)\d+[.,]00?(?=,)")
_UNSEEN = ("Cc", "Cf", "Co", "Cn", "Cs", "Zl", "Zp")
_CYRILLIC = re.compile("[\u0400-\u04ff]")
_MIXED = re.compile(r"[A-Za-z]-?[\u0400-\u04ff]|[\u0400-\u04ff]-?[A-Za-z]|^[\u0400-\u04ff]\w?(?=\s*,)")
_WORD_ENDS, _WORD_BEGINS = re.compile(r"\w{0,40}$"), re.compile(r"\w{0,40}")


def read_text(data: bytes, file: str) -> tuple[str | None, list[Diagnostic]]:
    """Return the text of a file, None if it is not UTF-8; and what is wrong with its bytes."""
    findings = []
    if data.startswith(b"\xef\xbb\xbf"):
        data = data[3:]
        findings.append(
            Diagnostic(
                Span(file, 1, 1), "byte-order-mark", "the file starts with a byte order mark",
                "save it as UTF-8 without BOM (in a spreadsheet: not `CSV UTF-8`)",
            )
        )  # fmt: skip
    encoding = _recognise_encoding(data, file)
    return (data.decode(), findings) if encoding is None else (None, [*findings, encoding])


def _recognise_encoding(data: bytes, file: str) -> Diagnostic | None:
    save_right = SAVE_RIGHT if file.endswith(".csv") else "save it as plain text, UTF-8 without BOM"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (data[:400].count(0) > len(data[:400]) // 4):
        return Diagnostic(
            Span(file, 1, 1), "utf-16", "the file is UTF-16, as a spreadsheet saves `Unicode text`", save_right
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        as_russian = data.decode("cp1251", errors="replace")
        foreign = [character for character in as_russian if ord(character) > 127]
        if len(_CYRILLIC.findall(as_russian)) > len(foreign) // 2:
            return Diagnostic(
                Span(file, line, 1), "cp1251",
                "the file is CP1251, as spreadsheets in a Russian locale save CSV", save_right,
            )  # fmt: skip
        return Diagnostic(Span(file, line, 1), "not-utf-8", "the file is not UTF-8", "save it as UTF-8")
    return None


def recognise_habits(lines: list[str], file: str) -> list[Diagnostic]:
    """Return what a spreadsheet did to the rows of a file; if anything, nothing else about it is worth saying."""
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    semicolons = [(number, line) for number, line in rows if line.count(";") > line.count(",")]
    if semicolons and len(semicolons) * 2 > len(rows):
        number, line = semicolons[0]
        message = "cells are divided by semicolons, as spreadsheets in a Russian locale divide them"
        return [
            Diagnostic(Span(file, number, line.find(";") + 1), "semicolon-separated", message, SAVE_RIGHT, source=line)
        ]
    return [*unseen(lines, file), *_curly_quotes(rows, file), *_mixed(rows, file), *_changed(rows, file)]


def _mixed(rows: list[tuple[int, str]], file: str) -> Iterator[Diagnostic]:
    """Find Cyrillic letters that look like Latin ones in words of rules: two words then read alike and differ."""
    for number, line in _first(rows, _MIXED):
        found = _MIXED.search(line)
        if found is not None:
            start, end = found.span()
            place = next(place for place in range(start, end) if _CYRILLIC.match(line[place]))
            ends, begins = _WORD_ENDS.search(line[max(0, start - 40) : start]), _WORD_BEGINS.match(line, end)
            word = (ends[0] if ends else "") + found[0] + (begins[0] if begins else "")
            yield Diagnostic(
                Span(file, number, place + 1), "mixed-alphabets",
                f"`{line[place]}` of `{word}` is a Cyrillic letter that looks like a Latin one",
                "type the word anew with the Latin keyboard", source=line,
            )  # fmt: skip


def _curly_quotes(rows: list[tuple[int, str]], file: str) -> Iterator[Diagnostic]:
    for number, line in _first(rows, _CURLY):
        found = _CURLY.search(line)
        if found is not None:
            yield Diagnostic(
                Span(file, number, found.start() + 1), "curly-quote", f"`{found[0]}` is a typographic quote",
                "write texts in conditions as 'text', with straight quotes: a word processor or spreadsheet curls them",
                source=line,
            )  # fmt: skip


def unseen(lines: list[str], file: str) -> Iterator[Diagnostic]:
    """Find what a reader cannot see, or sees as something else; in comments too, whose order it could turn round."""
    told = 0
    for number, whole in enumerate(lines, 1):
        line = whole.removesuffix("\r")
        if line.isascii() and (line.isprintable() or not line):
            continue
        column = next((place for place, mark in enumerate(line, 1) if _is_unseen(mark)), 0)
        if column:
            mark = line[column - 1]
            yield Diagnostic(
                Span(file, number, column), "invisible-character",
                f"U+{ord(mark):04X} ({unicodedata.name(mark, 'a control character').lower()}) cannot be seen",
                "type the line anew",
            )  # fmt: skip
        elif not unicodedata.is_normalized("NFC", line):
            yield Diagnostic(
                Span(file, number, 1), "not-nfc", "a letter is written as letter and mark, so like texts differ",
                "type the line anew, or save the file in Unicode form NFC",
            )  # fmt: skip
        else:
            continue
        told += 1
        if told == _SHOWN:
            return


def _is_unseen(mark: str) -> bool:
    return mark == "\u00a0" or (mark != "\t" and unicodedata.category(mark) in _UNSEEN)


def _changed(rows: list[tuple[int, str]], file: str) -> Iterator[Diagnostic]:
    for pattern, code, what, hint in (
        (_DATE, "changed-date", "a date as a spreadsheet writes it",
         "write dates as 2026-03-01, and mark the column as text"),
        (_NUMBER, "changed-number", "a number as a spreadsheet writes it",
         "write whole numbers in digits alone, such as 1300, and mark the column as text"),
    ):  # fmt: skip
        for number, line in _first(rows, pattern):
            found = pattern.search(line)
            if found is not None:
                yield Diagnostic(
                    Span(file, number, found.start() + 1), code, f"`{found[0].strip()}` is {what}", hint, source=line
                )


def _first(rows: list[tuple[int, str]], pattern: re.Pattern[str]) -> list[tuple[int, str]]:
    """Return the first rows that hold the pattern: a few tell enough."""
    return [(number, line) for number, line in rows if pattern.search(line)][:_SHOWN]
