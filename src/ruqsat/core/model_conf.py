"""
``model.conf`` text → :class:`Model`: sections of requests, rows, hierarchies, effects and matchers.

The reader is stricter than Casbin's: a section without a matcher, an effect of
another shape, an unknown section or key, or a bracket left open is a finding
here and not a surprise at the first request.
"""

import re

from msgspec import Struct

from ruqsat.core.diagnostics import Diagnostic, Span, nearest
from ruqsat.core.expression import ENTITIES, Expression, ExpressionError, parse_expression
from ruqsat.core.spreadsheet import unseen

SECTIONS = {
    "request_definition": "r",
    "policy_definition": "p",
    "role_definition": "g",
    "policy_effect": "e",
    "matchers": "m",
}
FIRST_MATCH = "priority(p.eft) || deny"
"""The one effect of section ``p``: in order of priority the first matching row decides; silence denies."""

_NEEDED = {
    "p": ("priority", "id", "role", "act", "class", "purpose", "when", "eft", "basis", "duties", "law"),
    "p5": ("role", "purpose", "act", "class", "eft", "law"),
}
"""What rows in files must say; of rows of facts any may be left out that the matcher does not ask for."""

_KEY = re.compile(r"([rpgem])(\d*)")


class Section(Struct, frozen=True):
    """One kind of row: its columns and its matcher."""

    suffix: str
    columns: tuple[str, ...]
    matcher: Expression
    text: str


class Model(Struct, frozen=True):
    """A checked model; ``sections[""]`` holds the rules, the others the covering tests."""

    sections: dict[str, Section]
    hierarchies: tuple[str, ...]


class _Entry(Struct, frozen=True):
    key: str
    value: str
    span: Span
    source: str


def parse_model(text: str, file: str = "model.conf") -> tuple[Model | None, list[Diagnostic]]:
    """Read a model; returns None with at least one finding if it cannot be used."""
    entries, findings = _entries(text, file)
    columns = {k[1:]: _columns(e, findings) for k, e in entries.items() if k[0] == "p"}
    _check_requests(entries, columns, file, findings)
    _check_effects(entries, columns, file, findings)
    _check_links(entries, findings)
    sections = {}
    for suffix, names in columns.items():
        matcher = entries.get("m" + suffix)
        if matcher is None:
            findings.append(_missing(file, "m" + suffix, "matchers"))
            continue
        expression = _expression(matcher, suffix, findings)
        if expression is not None:
            sections[suffix] = Section(suffix, names, expression, matcher.value)
    if "" not in columns:
        findings.append(_missing(file, "p", "policy_definition"))
    if findings:
        return None, findings
    return Model(sections, tuple(sorted(k for k in entries if k[0] == "g"))), findings


def _entries(text: str, file: str) -> tuple[dict[str, _Entry], list[Diagnostic]]:
    entries: dict[str, _Entry] = {}
    lines = text.split("\n")
    findings = list(unseen(lines, file))
    section, pending, start = "", "", 0
    for number, line in enumerate((each.removesuffix("\r") for each in lines), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped[0] == "[" and stripped[-1] == "]":
            section = stripped[1:-1]
            if section not in SECTIONS:
                findings.append(
                    Diagnostic(
                        Span(file, number, 1, len(line)),
                        "unknown-section",
                        f"section `{section}` is not one of Casbin's",
                        nearest(section, SECTIONS) or "sections are: " + ", ".join(SECTIONS),
                        source=line,
                    )
                )
            continue
        start = start or number
        pending += stripped.removesuffix("\\").strip() + " "
        if stripped.endswith("\\"):
            continue
        _take(
            pending.strip(),
            section,
            Span(file, start, 1, len(line)),
            line if start == number else "",
            entries,
            findings,
        )
        pending, start = "", 0
    if pending:
        findings.append(Diagnostic(Span(file, start, 1), "unfinished-line", "the last line ends in `\\`", "finish it"))
    return entries, findings


def _take(
    text: str, section: str, span: Span, source: str, entries: dict[str, _Entry], findings: list[Diagnostic]
) -> None:
    key, equals, value = (part.strip() for part in text.partition("="))
    known = _KEY.fullmatch(key)
    if not equals or known is None or known.group(1) != SECTIONS.get(section):
        findings.append(
            Diagnostic(
                span,
                "unknown-key",
                f"`{key}` is not a key of section `{section}`",
                f"keys here look like `{SECTIONS.get(section, 'p')}` or `{SECTIONS.get(section, 'p')}2`",
                source=source,
            )
        )
    elif key in entries:
        findings.append(Diagnostic(span, "key-given-twice", f"`{key}` is given twice", "keep one", source=source))
    else:
        entries[key] = _Entry(key, value, span, source)


def _columns(entry: _Entry, findings: list[Diagnostic]) -> tuple[str, ...]:
    names = tuple(name.strip() for name in entry.value.split(","))
    needed = _NEEDED.get(entry.key, ("eft",))
    for name in needed:
        if name not in names:
            findings.append(
                Diagnostic(
                    entry.span,
                    "missing-column",
                    f"`{entry.key}` has no column `{name}`",
                    "its columns are: " + ", ".join(needed),
                    source=entry.source,
                )
            )
    return names


def _check_requests(
    entries: dict[str, _Entry], columns: dict[str, tuple[str, ...]], file: str, findings: list[Diagnostic]
) -> None:
    for suffix in columns:
        entry = entries.get("r" + suffix)
        if entry is None:
            findings.append(_missing(file, "r" + suffix, "request_definition"))
        elif tuple(part.strip() for part in entry.value.split(",")) != ENTITIES:
            findings.append(
                Diagnostic(
                    entry.span,
                    "unknown-request-shape",
                    f"`{entry.key}` is `{entry.value}`",
                    f"a request is `{', '.join(ENTITIES)}`",
                    source=entry.source,
                )
            )


def _check_effects(
    entries: dict[str, _Entry], columns: dict[str, tuple[str, ...]], file: str, findings: list[Diagnostic]
) -> None:
    for suffix in columns:
        entry = entries.get("e" + suffix)
        wanted = FIRST_MATCH if suffix == "" else f"some(where (p{suffix}.eft == allow))"
        if entry is None:
            findings.append(_missing(file, "e" + suffix, "policy_effect"))
        elif entry.value != wanted:
            findings.append(
                Diagnostic(
                    entry.span,
                    "unsupported-effect",
                    f"effect `{entry.value}` is not supported here",
                    f"write `{wanted}`"
                    + (f"; Casbin applies `e` to every section, whatever `e{suffix}` says" if suffix else ""),
                    source=entry.source,
                )
            )


def _check_links(entries: dict[str, _Entry], findings: list[Diagnostic]) -> None:
    for entry in entries.values():
        shape = [part.strip() for part in entry.value.partition("#")[0].split(",")]
        if entry.key[0] == "g" and shape != ["_", "_"]:
            findings.append(
                Diagnostic(
                    entry.span, "wrong-column-count", f"`{entry.key}` is `{entry.value}`",
                    "a link is a member and a group: `_, _`", source=entry.source,
                )
            )  # fmt: skip


def _expression(entry: _Entry, suffix: str, findings: list[Diagnostic]) -> Expression | None:
    try:
        return parse_expression(entry.value, suffix)
    except ExpressionError as error:
        findings.append(
            Diagnostic(entry.span, error.code, f"`{entry.key}`: {error.message}", error.hint, source=entry.source)
        )
        return None


def _missing(file: str, key: str, section: str) -> Diagnostic:
    return Diagnostic(Span(file), "missing-section", f"`{key}` is missing", f"add it under `[{section}]`")
