"""
Findings about a policy pack: place, code, sentence, hint.

Texts follow one style: lower case, one line, no full stop, the author's own
words in backticks; what was found, then what was expected.  The hint is an
action.  Findings are collected and shown together, sorted by place.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

from msgspec import Struct


class Severity(StrEnum):
    """An error refuses the policy set; a warning does not."""

    ERROR = "error"
    WARNING = "warning"


class Span(Struct, frozen=True, order=True):
    """A place in a file: 1-based line and column; ``width`` characters are meant."""

    file: str
    line: int = 0
    column: int = 0
    width: int = 1


class Diagnostic(Struct, frozen=True):
    """One finding; ``code`` is stable and kebab-case."""

    span: Span
    code: str
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    source: str = ""


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Return a hint that names the known word nearest to *word*, or an empty text.

    Examples:
        >>> nearest("dney", ["allow", "deny"])
        'did you mean `deny`?'
        >>> nearest("qqq", ["allow", "deny"])
        ''
    """
    close = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def has_errors(findings: Iterable[Diagnostic]) -> bool:
    """Tell whether any finding refuses the policy set."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def in_order(findings: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Return the findings sorted by place, each said once."""
    return sorted(set(findings), key=lambda f: (f.span, f.code, f.message))


def render(finding: Diagnostic) -> str:
    """
    Write one finding for a person.

    Examples:
        >>> where = Span("policies/consent.csv", 3, 5, 4)
        >>> print(render(Diagnostic(where, "unknown-effect", "effect `Deny` is not `allow` or `deny`",
        ...     "did you mean `deny`?", source="p, 1, Deny")))
        policies/consent.csv:3:5: error[unknown-effect]: effect `Deny` is not `allow` or `deny`
          3 | p, 1, Deny
            |     ^^^^
          hint: did you mean `deny`?
    """
    span = finding.span
    place = span.file + "".join(f":{n}" for n in (span.line, span.column) if n)
    lines = [f"{place}: {finding.severity.value}[{finding.code}]: {finding.message}"]
    if finding.source and span.line:
        gutter = f"  {span.line} | "
        lines.append(gutter + finding.source)
        lines.append(" " * (len(gutter) - 2) + "| " + " " * (span.column - 1) + "^" * max(1, span.width))
    if finding.hint:
        lines.append(f"  hint: {finding.hint}")
    return "\n".join(lines)
