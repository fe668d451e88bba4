"""The page that prints: escaped, whole, in three languages, and closed to everything but its style."""

import base64
import re
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from ruqsat.core.access_log import Access, access_shown
from ruqsat.core.facts import PatientFacts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.vocabulary import Switches
from ruqsat.messages import LANGUAGES, Language
from ruqsat.web.access_page import HEADERS, Sheet, render_page
from ruqsat.web.access_text import place_of, told_access
from tests.views.ground import NOW, entry

CANARY = "\"'><script>alert(1)</script>&amp;"
VOID = {"meta", "br"}
ELEMENTS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "dl", "dt", "dd", "p", "nav", "a", "table",
            "caption", "thead", "tbody", "tr", "th", "td", "time", "br", "span", "strong"}  # fmt: skip


def row(**said: Any) -> Access:
    """Return a row."""
    found = access_shown(entry(**said), "self", PatientFacts("p-anna"), Switches(), NOW)
    assert found is not None
    return found


ROWS = (
    row(), row(basis="emergency_override", law=["R4", "H61.2"], degraded=True), row(held=True),
    row(allowed=False, reason="deny.consent.none", basis=None, law=["R14"], purpose=None, roles=None),
)  # fmt: skip


def page(policy_set: PolicySet, rows: tuple[Access, ...] = ROWS, language: Language = "en", **changes: Any) -> str:
    """Return the page of these rows."""
    sheet = Sheet("p-anna", language, NOW, {}, False, 5)._replace(**changes)
    return render_page(sheet, rows, "next-page", policy_set.laws)


class Balanced(HTMLParser):
    """Reads a page; fails where an element is not closed in its turn, or is none that is expected."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        assert tag in ELEMENTS, tag
        self.open += [] if tag in VOID else [tag]
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Close it."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Take a text."""
        self.texts.append(data)


def read(text: str) -> Balanced:
    """Read a page to its end."""
    parser = Balanced()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_is_whole_in_each_language(policy_set: PolicySet, language: Language) -> None:
    """Its language is said; every column has its head, every row a cell for it, and nothing is left in another language."""
    text = page(policy_set, language=language)
    parser = read(text)

    assert ("html", "lang", language) in parser.attributes
    assert text.count('<th scope="col">') == 6 and text.count('<th scope="row">') == len(ROWS)
    assert text.count("<td data-label=") == 5 * (len(ROWS) - 1) and 'colspan="5"' in text
    shown = " ".join(parser.texts[parser.texts.index("\n") :])
    foreign = {"kk": "physician", "ru": "physician", "en": "врач"}[language]
    assert foreign not in shown and {"kk": "дәрігер", "ru": "врач", "en": "physician"}[language] in shown
    assert str(place_of("R4", language)) in shown and getattr(policy_set.laws["R4"].title, language) in shown
    assert "2026-11-24 15:00:00" in shown and 'datetime="2026-11-24T15:00:00+05:00"' in text


@pytest.mark.parametrize("name", ["person", "organisation", "data_class", "action", "reason", "basis"])
def test_every_value_is_escaped(policy_set: PolicySet, name: str) -> None:
    """A canary in each field, in the patient's id, the query and the law stays a text."""
    bad = msgspec.structs.replace(ROWS[0], **{name: CANARY}, roles=(CANARY,), purposes=(CANARY,), law=(CANARY,))
    text = page(policy_set, (bad,), patient=CANARY, query={"from": CANARY})

    assert "<script" not in text
    assert CANARY in "".join(read(text).texts)


def test_a_withheld_row_shows_its_moment_and_its_law_alone(policy_set: PolicySet) -> None:
    """Nothing of who and what, in words or in codes, on the page or in JSON."""
    text = page(policy_set, (row(held=True),))
    told = told_access(row(held=True), "en", policy_set.laws, 5)

    assert set(told) == {"id", "at", "law", "withheld"}
    for canary in ("dr-aliya", "physician", "h1</", "labs", "laboratory", "treatment", "consent"):
        assert canary not in text.split("<tbody>")[1], canary
        assert canary not in repr(told), canary


def test_emergencies_are_marked_by_words(policy_set: PolicySet) -> None:
    """Not by a colour, which a printer and a screen reader lose."""
    assert page(policy_set).count('<strong class="mark">Emergency</strong>') == 1
    assert "Emergency" not in page(policy_set, ROWS[:1])


def test_on_a_telephone_nothing_stands_beside_anything_else(policy_set: PolicySet) -> None:
    """Neither rows nor the head above them; which language it is can be seen.  Nor on a tablet: Russian needs 62 rem."""
    (style,) = re.findall(r"<style>(.*?)</style>", page(policy_set), re.DOTALL)
    ((wide, narrow),) = re.findall(r"@media screen and \(max-width: (\d+)rem\) \{(.*?)\n\}", style, re.DOTALL)
    assert int(wide) > 62, "whether it was allowed stands in the last column, out of sight"

    (stacked,) = re.findall(r"\n  ([a-z, ]+) \{ display: block; \}", narrow)
    assert {"dl", "table", "tr", "th", "td"} <= set(stacked.split(", "))
    assert "a[aria-current]" in style


def test_the_page_lets_nothing_in(policy_set: PolicySet) -> None:
    """No script, no link to elsewhere; the style sheet is the one whose digest the policy of the page names."""
    text, policy = page(policy_set), HEADERS["Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)

    assert f"style-src 'sha256-{base64.b64encode(sha256(style.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script|<img|<iframe|<object|<form|<link| on\w+=|style=|javascript:|url\(|@import", text)
    assert all(href.startswith("?") for href in re.findall(r'href="([^"]*)"', text))
    assert "@media print" in style


def test_nothing_to_show_is_said(policy_set: PolicySet) -> None:
    """In words, and without an empty table."""
    text = page(policy_set, ())

    assert "There is nothing in this time." in text and "<table" not in text
