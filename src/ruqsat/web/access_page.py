"""
The access log as a page that can be printed: plain HTML of one language, without scripts.

Every value is escaped; the policy of the page lets nothing in but its own style sheet,
by its digest, so that nothing that slipped through could run or be fetched (CSP level 2).
"""

import base64
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any, NamedTuple
from urllib.parse import urlencode

from ruqsat.core.access_log import Access
from ruqsat.core.instant import Instant
from ruqsat.core.laws import Law
from ruqsat.messages import LANGUAGES, Language, page_text
from ruqsat.web.access_text import local_time, told_access

_STYLE = """
:root { color-scheme: light; }
body { font: 1rem/1.4 system-ui, sans-serif; color: #111; background: #fff; margin: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 1rem; }
dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .3rem 0; }
th, td { border: 1px solid #767676; padding: .35rem .5rem; text-align: left; vertical-align: top; }
td { overflow-wrap: break-word; }
thead th { background: #eee; }
tbody th { font-weight: normal; white-space: nowrap; }
strong.mark { display: inline-block; border: 2px solid #111; padding: 0 .25rem; }
.law { font-size: .9em; color: #333; }
.id { display: inline-block; max-width: 100%; overflow-wrap: anywhere; }
nav { margin: .8rem 0; }
a { color: #003d99; }
a[aria-current] { color: #111; font-weight: bold; text-decoration: none; }
@media screen and (max-width: 64rem) {
  dl, table, caption, tbody, tr, th, td { display: block; }
  dd { margin: 0 0 .3rem; }
  thead { display: none; }
  tr { border: 1px solid #767676; margin: 0 0 .8rem; }
  th, td { border: 0; padding: .15rem .5rem; }
  tbody th { background: #eee; font-weight: bold; }
  td::before { content: attr(data-label); display: block; font-size: .8em; color: #333; }
}
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  body { margin: 0; font-size: 9pt; }
  nav { display: none; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
}
"""
_DIGEST = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip
"""What goes with the page, besides its language."""

_COLUMNS = ("when", "who", "what", "purpose", "ground", "result")


class Sheet(NamedTuple):
    """
    What stands above the rows.

    Attributes:
        made: The moment of the page.
        query: What was asked for, but for the language and the page.
        is_ward: Somebody else looks than the patient.
    """

    patient: str
    language: Language
    made: Instant
    query: Mapping[str, str]
    is_ward: bool
    offset_hours: int


def render_page(sheet: Sheet, rows: Sequence[Access], older: str | None, laws: Mapping[str, Law]) -> str:
    """Return the page; *older* is the cursor of the next, if there is one."""
    language = sheet.language
    title = escape(page_text("title-ward" if sheet.is_ward else "title", language))
    return (
        f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f"{_head(sheet)}{_languages(sheet)}{_table(sheet, rows, laws)}{_older(sheet, older)}</main>\n</body>\n</html>\n"
    )


def _head(sheet: Sheet) -> str:
    made = local_time(sheet.made, sheet.offset_hours)
    told = [("patient", sheet.patient), ("made", made.isoformat(" ", "minutes"))]
    told += [(name, sheet.query[key]) for name, key in (("since", "from"), ("until", "to")) if key in sheet.query]
    items = "".join(f"<dt>{_text(name, sheet)}</dt><dd>{escape(value)}</dd>\n" for name, value in told)
    return f"<dl>\n{items}</dl>\n<p>{_text('law', sheet)}</p>\n"


def _languages(sheet: Sheet) -> str:
    links = " · ".join(
        f'<a href="?{escape(urlencode({**sheet.query, "lang": each}))}" lang="{each}" hreflang="{each}"'
        + (' aria-current="true"' if each == sheet.language else "")
        + f">{_NAMES[each]}</a>"
        for each in LANGUAGES
    )
    return f'<nav aria-label="{_text("languages", sheet)}">{links}</nav>\n'


def _table(sheet: Sheet, rows: Sequence[Access], laws: Mapping[str, Law]) -> str:
    if not rows:
        return f"<p>{_text('none', sheet)}</p>\n"
    head = "".join(f'<th scope="col">{_text(name, sheet)}</th>' for name in _COLUMNS)
    body = "\n".join(_row(told_access(row, sheet.language, laws, sheet.offset_hours), sheet) for row in rows)
    caption = f"<caption>{_text('newest', sheet)}</caption>"
    return f"<table>\n{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"


def _row(told: Mapping[str, Any], sheet: Sheet) -> str:
    when = escape(str(told["at"])[:19].replace("T", " "))  # the head of the page says by which clock
    first = f'<tr><th scope="row"><time datetime="{escape(told["at"])}">{when}</time></th>'
    law = "".join(f'<br><span class="law">{escape(_law(each))}</span>' for each in told["law"])
    if "withheld" in told:
        return f'{first}<td colspan="{len(_COLUMNS) - 1}">{escape(told["withheld"])}{law}</td></tr>'
    cells = (
        _who(told, sheet),
        "; ".join(_word(told[name], sheet) for name in ("action", "class")),
        "; ".join(_word(each, sheet) for each in told["purposes"]) or _text("unknown", sheet),
        (_word(told["ground"], sheet) if told["ground"] else "—") + law,
        _result(told, sheet),
    )
    labelled = zip(_COLUMNS[1:], cells, strict=True)
    return first + "".join(f'<td data-label="{_text(name, sheet)}">{cell}</td>' for name, cell in labelled) + "</tr>"


def _who(told: Mapping[str, Any], sheet: Sheet) -> str:
    who = told["who"]
    said = ["; ".join(_word(role, sheet) for role in who["roles"]) or _text("unknown", sheet)]
    # Who acts for no organisation, such as the patient, is no employee.
    person = "person" if who["organisation"] else "account"
    named = [(name, value) for name, value in (("organisation", who["organisation"]), (person, who["person"])) if value]
    said += [f'{_text(name, sheet)} <span class="id">{escape(value)}</span>' for name, value in named]
    said += [_text("erased", sheet)] if told["erased"] else []
    return "<br>".join(said)


def _result(told: Mapping[str, Any], sheet: Sheet) -> str:
    said = [_text("allowed", sheet) if told["allowed"] else f"<strong>{_text('denied', sheet)}</strong>"]
    said += [escape(told["reason"]["text"] or told["reason"]["code"])] if told["reason"] else []
    marks = [name for name in ("emergency", "degraded") if told[name]]
    return "<br>".join(said + [f'<strong class="mark">{_text(name, sheet)}</strong>' for name in marks])


def _older(sheet: Sheet, cursor: str | None) -> str:
    if cursor is None:
        return ""
    query = urlencode({**sheet.query, "lang": sheet.language, "cursor": cursor})
    return f'<nav><a rel="next" href="?{escape(query)}">{_text("older", sheet)}</a></nav>\n'


def _law(each: Mapping[str, Any]) -> str:
    return " — ".join(each[name] for name in ("place", "title") if each.get(name)) or str(each["key"])


def _word(told: Mapping[str, Any] | None, sheet: Sheet) -> str:
    return _text("unknown", sheet) if told is None else escape(told["text"])


def _text(name: str, sheet: Sheet) -> str:
    return escape(page_text(name, sheet.language))


_NAMES: Mapping[Language, str] = {"kk": "Қазақша", "ru": "Русский", "en": "English"}
