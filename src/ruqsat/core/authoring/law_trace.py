"""``policy trace-law``: each paragraph of the order → the rules that cite it → the cases that hold them."""

import re
from collections.abc import Iterable, Mapping

import msgspec
from msgspec import Struct

from ruqsat.core.cases import PolicyCase
from ruqsat.core.diagnostics import Diagnostic, Span
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.vocabulary import parse_toml

PARAGRAPHS = tuple(f"R{number}" for number in range(1, 32))
"""The paragraphs of the rules that order ҚР ДСМ-54 approves."""

OUT_OF_REACH = "policies/out-of-reach.toml"

DEFINING = frozenset({"R1", "R2"})
"""Paragraphs that say what words mean and which other law holds."""

BEYOND_REACH = frozenset(
    {"R6", "R7", "R8", "R9", "R10", "R11", "R13", "R15", "R19", "R20", "R21", "R22", "R23", "R24", "R25", "R29"}
)
"""Paragraphs of which a part, at least, no decision can settle: people, registers and infrastructure do."""

_CITED = re.compile(r"R([0-9]+)(\.[0-9]+)*")


class OutOfReach(Struct, frozen=True, forbid_unknown_fields=True):
    """
    Why a paragraph has no rule or no case.

    Attributes:
        defines: It defines words or refers to other law, and asks for nothing by itself; only for `DEFINING`.
        outside: No decision of the sidecar settles it; only for paragraphs of `BEYOND_REACH`.
        later: It will be kept by something that is not built yet.
    """

    defines: dict[str, str] = {}
    outside: dict[str, str] = {}
    later: dict[str, str] = {}


class Paragraph(Struct, frozen=True):
    """One paragraph; ``standing`` is ``traced``, ``defines``, ``outside``, ``later`` or ``missing``."""

    key: str
    title: str
    rules: tuple[str, ...]
    cases: tuple[str, ...]
    standing: str
    reason: str = ""


def trace_law(
    policy_set: PolicySet, cases: Mapping[str, Iterable[PolicyCase]], exempt: OutOfReach
) -> tuple[Paragraph, ...]:
    """
    Return all paragraphs; one without a rule, or whose rules no case names, and that is not exempt, is missing.

    Args:
        policy_set: The rules.
        cases: Those that are as promised: others hold nothing.
        exempt: What needs no rule or no case.
    """
    by_rule: dict[str, list[str]] = {}
    for each in cases.values():
        for case in each:
            if case.because:
                by_rule.setdefault(case.because, []).append(case.name)
    return tuple(_paragraph(key, policy_set, by_rule, exempt) for key in PARAGRAPHS)


def read_out_of_reach(text: str) -> tuple[OutOfReach, list[Diagnostic]]:
    """Read ``out-of-reach.toml``; a paragraph that a decision can settle is no exemption."""
    data, findings = parse_toml(text, OUT_OF_REACH)
    if data is None:
        return OutOfReach(), findings
    try:
        exempt = msgspec.convert(data, OutOfReach)
    except msgspec.ValidationError as error:
        return OutOfReach(), [
            Diagnostic(Span(OUT_OF_REACH), "bad-exemption", str(error), "sections are [defines], [outside], [later]")
        ]
    for section in (exempt.defines, exempt.outside, exempt.later):
        findings += [
            Diagnostic(
                Span(OUT_OF_REACH), "bad-exemption", f"`{key}` is no paragraph of the order", "paragraphs are R1 to R31"
            )
            for key in section
            if key not in PARAGRAPHS
        ]
    findings += [
        Diagnostic(
            Span(OUT_OF_REACH), "bad-exemption", f"`{key}` can be settled by decisions", "write the rule and its cases"
        )
        for section, allowed in ((exempt.defines, DEFINING), (exempt.outside, BEYOND_REACH))
        for key in section
        if key in PARAGRAPHS and key not in allowed
    ]
    return exempt, findings


def _paragraph(key: str, policy_set: PolicySet, by_rule: dict[str, list[str]], exempt: OutOfReach) -> Paragraph:
    rules = tuple(rule.id for rule in policy_set.rules if any(_paragraph_of(law) == key for law in rule.law))
    cases = tuple(dict.fromkeys(name for rule in rules for name in by_rule.get(rule, ())))
    law = policy_set.laws.get(key)
    title = law.title.en if law is not None else ""
    if rules and cases:
        return Paragraph(key, title, rules, cases, "traced", exempt.outside.get(key, exempt.later.get(key, "")))
    for standing, section in (("defines", exempt.defines), ("outside", exempt.outside), ("later", exempt.later)):
        if key in section:
            return Paragraph(key, title, rules, cases, standing, section[key])
    reason = "its rules are named by no case" if rules else "no rule cites it"
    return Paragraph(key, title, rules, cases, "missing", reason)


def _paragraph_of(law: str) -> str:
    cited = _CITED.fullmatch(law)
    return f"R{cited.group(1)}" if cited else ""
