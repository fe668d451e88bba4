"""The answer on what is on record, as a page to print: plain, escaped, without scripts, in the reader's language."""

import base64
import hashlib
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from ruqsat.core.instant import Instant, parse_instant
from ruqsat.messages import Language, text_of
from ruqsat.web.access_text import local_time

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}"
    "time{white-space:nowrap}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:1.8rem}table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #555;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "th,td{overflow-wrap:break-word;hyphens:auto}@media(max-width:40rem){table{display:block;overflow-x:auto}}"
    "@media print{body{margin:0;max-width:none}}"
)
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def wants_page(form: str | None, accept: str) -> bool:
    """Tell whether a page is asked for: by name, or by an Accept that begins with HTML."""
    return form == "html" if form is not None else re.match(r"\s*text/html\s*(;|,|$)", accept) is not None


def write_page(answer: dict[str, Any], language: Language, offset_hours: int) -> str:
    """
    Return an answer as HTML; each word of a list in the reader's language, each text of a person's as it stands.

    Days are those at home, *offset_hours* ahead of UTC; an end is told by the last day before it.
    """

    def label(name: str) -> str:
        return escape(text_of(f"page.{name}", language) or name)

    def word(group: str, code: str) -> str:
        return escape(text_of(f"{group}.{code}", language) or code)

    def effect(consent: dict[str, Any]) -> str:
        if consent["effect"] == "permit" and consent["withdrawn_at"]:
            return "withdrawn"
        # An answer of an older version does not say it.
        return str(consent["effect"]) if consent.get("in_force", True) else f"{consent['effect']}_not_in_force"

    def words(group: str, codes: Iterable[str]) -> str:
        return ", ".join(word(group, code) for code in codes) or "—"

    def listed(texts: Iterable[str]) -> str:
        return "".join(f"<li>{text}</li>" for text in texts) or f"<li>{label('none')}</li>"

    def day(moment: str | None, before: Instant = 0) -> str:
        if moment is None:
            return "—"
        return f"<time>{local_time(parse_instant(moment) - before, offset_hours).date().isoformat()}</time>"

    def last_day(end: str | None) -> str:
        return day(end, before=1)  # an end is the first moment that does not count any more

    def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
        head = "".join(f'<th scope="col">{label(each)}</th>' for each in heads)
        body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if body else f"<p>{label('none')}</p>"
        )

    classes = table(
        ("class", "records", "blocked"),
        ((word("class", each["class"]), str(each["records"]), str(each["blocked"])) for each in answer["classes"]),
    )
    consents = table(
        ("operator", "effect", "class", "purpose", "since", "until"),
        (
            (
                escape(each["operator"] or each["id"]), word("effect", effect(each)), words("class", each["classes"]),
                words("purpose", each["purposes"]), day(each["start"] or each["granted_at"]),
                last_day(each["withdrawn_at"] or each["end"]),
            )
            for each in answer["consents"]
        ),
    )  # fmt: skip
    recipients = table(
        ("who", "ground", "class", "since", "until"),
        (
            (
                escape(each["who"] or "—"), word("ground", each["ground"]), words("class", each["classes"]),
                day(each["since"]), last_day(each["until"]),
            )
            for each in answer["recipients"]
        ),
    )  # fmt: skip
    purposes = listed([*(word("purpose", code) for code in answer["purposes"]), *map(escape, answer["purpose_texts"])])
    methods = listed([*(word("action", code) for code in answer["actions"]), *map(escape, answer["methods"])])
    sources = listed(word("source", code) for code in answer["sources"])
    draft = f"<p><strong>{label('draft')}</strong></p>" if answer.get("draft") else ""
    exists = label("exists" if answer["exists"] else "exists_not")
    sections = (
        ("existence", f"<p>{exists}</p>"), ("classes", classes), ("purposes", f"<ul>{purposes}</ul>"),
        ("sources", f"<ul>{sources}</ul>"), ("methods", f"<ul>{methods}</ul>"), ("consents", consents),
        ("recipients", recipients), ("terms", f"<p>{escape(answer['storage_terms'] or '—')}</p>"),
    )  # fmt: skip
    body = "".join(f"<section><h2>{label(name)}</h2>{text}</section>" for name, text in sections)
    return (
        f'<!doctype html><html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{label('title')}</title><style>{_STYLE}</style></head><body><main><h1>{label('title')}</h1>{draft}"
        f"<p>{label('patient')}: {escape(answer['patient'])}<br>{label('made_at')}: {day(answer['made_at'])}</p>"
        f"{body}</main></body></html>"
    )
