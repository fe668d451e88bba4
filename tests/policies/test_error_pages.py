"""Every code of a finding has a page, and what the page shows is what happens."""

import ast

import pytest

from ruqsat.core.diagnostics import render
from tests.conftest import ROOT
from tests.policies.error_pages import PAGES, findings_of, spoilt

CODES = sorted(path.stem for path in PAGES.glob("*.md") if path.stem != "README")
NO_CODES = {
    "enter-in-error",
    "social-history",
    "vital-signs",
    "utf-8",
    "yes-no",
    "entered-in-error",
    "would-be",
    "session-that-would-be-opened",
    "date-time",
    "too-many",
    "unknown-report",
}
"""Texts of the source that look like a code: events, statuses, categories, encodings, refusals of reports, a format."""


def codes_of_source() -> set[str]:
    """Return every text of the core that is written as codes are; for `unknown-{…}` each kind of word."""
    found = {f"unknown-{word}" for word in ("role", "action", "class", "purpose")}
    folder = ROOT / "src/ruqsat/core"
    for path in folder.rglob("*.py"):
        of_fhir = path.parent.name == "fhir" and path.stem != "check"  # interactions and headers are written so, too
        if path.stem in ("chain", "sampling", "facts") or of_fhir:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and is_code(node.value):
                found.add(node.value)
    return found - NO_CODES


def is_code(text: str) -> bool:
    """Tell whether a text is lower-case words joined by dashes."""
    words = text.split("-")
    return len(words) > 1 and all(word.isascii() and word.isalnum() and word == word.lower() for word in words)


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    """A new finding without a page fails here, and a page whose finding is gone."""
    one_word = {"cp1251", "cycle"}
    in_source = codes_of_source() | one_word | {"utf-16"}

    assert in_source - set(CODES) == set()
    assert set(CODES) - in_source == set()


@pytest.mark.parametrize("code", CODES)
def test_a_page_shows_what_check_says(code: str) -> None:
    """The pack, spoilt as the page says, earns this finding, word for word; and an error refuses it."""
    page = (PAGES / f"{code}.md").read_text()
    shown = page.split("```text\n")[1].split("\n```")[0].splitlines()

    found = [finding for finding in findings_of(spoilt(page)) if finding.code == code]

    assert found
    said = render(found[0]).splitlines()
    assert [line for line in shown if line not in said] == []
    assert page.startswith(f"# `{code}`\n")
    assert ("An **error**" in page) is (found[0].severity.value == "error")
    assert found[0].hint
