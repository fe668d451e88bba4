"""Where in a TOML file a table or a key stands: the reader of TOML itself does not tell."""

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, Span

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w$.-]+)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|[\w-]+)\s*=")

Path = tuple[str | int, ...]
Entry = TypeVar("Entry", bound=Struct)
Value = TypeVar("Value")


class Places:
    """
    The places of a file, by path; an entry of a list of tables is found by its number.

    Examples:
        >>> Places('[[route]]\\nid = "a"\\n', "routes.toml").at("route", 0, "id").line
        2
    """

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.split("\n")
        self._found: dict[Path, Span] = {}
        table: Path = ()
        counts: dict[str, int] = {}
        for number, line in enumerate(self._lines, 1):
            header, key = _HEADER.fullmatch(line), _KEY.match(line)
            if header is not None:
                name = header.group(2)
                table = tuple(name.split("."))
                if header.group(1) == "[[":
                    counts[name] = counts.get(name, -1) + 1
                    table = (*table, counts[name])
                self._found.setdefault(table, self._span(number, line, line.strip()))
            elif key is not None:
                word = key.group(1)
                self._found.setdefault((*table, word.strip("\"'")), self._span(number, line, word))

    def at(self, *path: str | int) -> Span:
        """Return the place of *path*, or of the nearest thing around it that has one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._found:
                return self._found[path[:length]]
        return Span(self._file)

    def finding(self, path: Path, code: str, message: str, hint: str) -> Diagnostic:
        """Return a finding at the place of *path*."""
        span = self.at(*path)
        return Diagnostic(span, code, message, hint, source=self._lines[span.line - 1] if span.line else "")

    def _span(self, number: int, line: str, word: str) -> Span:
        return Span(self._file, number, line.index(word) + 1, len(word))


def convert_each(
    raw: Any, kind: type[Entry], path: Path, places: Places, noun: str, findings: list[Diagnostic]
) -> dict[str | int, Entry]:
    """Return the entries of a table, or of a list of tables, that have the shape; findings tell of the others."""
    if raw is None:
        return {}
    if not isinstance(raw, dict | list):
        findings.append(places.finding(path, "bad-route", f"{noun} is no table", "see the comments of the file"))
        return {}
    entries: dict[str | int, Entry] = {}
    for key, value in raw.items() if isinstance(raw, dict) else enumerate(raw):
        try:
            entries[key] = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            name = value.get("id") or value.get("name") if isinstance(value, dict) else None
            label = key if isinstance(key, str) else name if isinstance(name, str) else key + 1
            message = str(error)
            findings.append(
                places.finding((*path, key, *_field(message)), "bad-route",
                               f"{noun} `{label}`: {message[:1].lower()}{message[1:]}", "see the comments of the file")
            )  # fmt: skip
    return entries


def convert_mapping(
    raw: Any, kind: type[Value], noun: str, path: Path, places: Places, findings: list[Diagnostic]
) -> dict[str, Value]:
    """Return a table of plain values; a finding, and nothing, if one of them is not *noun*."""
    try:
        return msgspec.convert(raw if raw is not None else {}, dict[str, kind])  # type: ignore[valid-type]
    except msgspec.ValidationError:
        message = f"an entry of `{path[-1]}` is not {noun}"
        findings.append(places.finding(path, "bad-route", message, "compare it with the others"))
        return {}


def named(entries: dict[str | int, Entry]) -> dict[str, Entry]:
    """Return the entries of a table by their names."""
    return {str(key): entry for key, entry in entries.items()}


def _field(message: str) -> tuple[str, ...]:
    """Return the field that a sentence of the validation names, if it names one."""
    named = re.search(r"`\$\.(\w+)", message) or re.search(r"unknown field `([^`]+)`", message)
    return (named.group(1),) if named is not None else ()
