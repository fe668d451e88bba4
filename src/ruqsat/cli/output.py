"""What every command prints: for people, for machines, for a code host's annotations."""

import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from ruqsat.core.diagnostics import Diagnostic, Severity, render


class Format(StrEnum):
    """How findings are written."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


AsFormat = Annotated[Format, typer.Option("--format", help="How findings are written; github annotates a review.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


def console() -> Console:
    """Return a console that prints what it is given, as it is given."""
    return Console(highlight=False, markup=False, soft_wrap=True, emoji=False)


def print_json(value: object) -> None:
    """Print one JSON document and a line's end."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def print_findings(findings: list[Diagnostic], form: Format) -> None:
    """Print findings for people or as annotations."""
    out = console()
    for finding in findings:
        out.print(*([annotation(finding)] if form is Format.GITHUB else [render(finding), ""]), sep="\n")


def annotation(finding: Diagnostic) -> str:
    """
    Write a finding as a GitHub workflow command; a review shows it at its line.

    Examples:
        >>> from ruqsat.core.diagnostics import Span
        >>> annotation(Diagnostic(Span("policies/a.csv", 3, 5), "unknown-role", "`x` is not known", "did you mean"))
        '::error file=policies/a.csv,line=3,col=5,title=unknown-role::`x` is not known%0Ahint: did you mean'
    """
    span = finding.span
    kind = "error" if finding.severity is Severity.ERROR else "warning"
    place = f"file={_property(span.file)}" + (f",line={span.line}" if span.line else "")
    place += f",col={span.column}" if span.column else ""
    text = finding.message + (f"\nhint: {finding.hint}" if finding.hint else "")
    return f"::{kind} {place},title={finding.code}::{_data(text)}"


def plural(count: int, word: str) -> str:
    """Return a count with its word."""
    return f"{count} {word if count == 1 else word + 's'}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
