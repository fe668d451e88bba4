"""A row of the access log in words: codes beside texts of one language, times of the operator's place."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ruqsat.core.access_log import Access
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.laws import Law
from ruqsat.messages import LANGUAGES, Kind, Language, page_text, text_of, word_of

FIRST: Language = "kk"
"""The state language: whoever asks for none of ours reads it."""

_KEY = re.compile(r"([RHL])([0-9]+(?:-[0-9]+)?)((?:\.[0-9]+(?:-[0-9]+)?)*)")
_RANGE = re.compile(r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,35})?\s*(?:;\s*q=([01](?:\.[0-9]{1,3})?)\s*)?")


def language_of(accepted: str | None) -> Language:
    """
    Return the language that an ``Accept-Language`` prefers among ours (RFC 9110 §12.5.4).

    Examples:
        >>> language_of("en-GB;q=0.5, ru, *;q=0.1"), language_of("de, en;q=0"), language_of(None)
        ('ru', 'kk', 'kk')
    """
    best: tuple[float, Language] = (0.0, FIRST)
    for part in (accepted or "")[:1000].split(","):
        found = _RANGE.fullmatch(part)
        weight = float(found[2] or 1) if found else 0.0
        for language in LANGUAGES:
            if found and found[1].lower() == language and weight > best[0]:
                best = (weight, language)
    return best[1]


def local_time(instant: Instant, offset_hours: int) -> datetime:
    """Return a moment by the clock of the operator's place, to the second; it knows its offset."""
    return datetime.fromtimestamp(instant // SECOND, timezone(timedelta(hours=offset_hours)))


def told_access(row: Access, language: Language, laws: Mapping[str, Law], offset_hours: int) -> dict[str, Any]:
    """Return a row for the API; a withheld one has nothing but its id, its moment and the law."""
    said: dict[str, Any] = {
        "id": row.id, "at": local_time(row.at, offset_hours).isoformat(),
        "law": [told_law(key, language, laws) for key in row.law],
    }  # fmt: skip
    if row.withheld:
        return said | {"withheld": page_text("withheld", language)}
    return said | {
        "who": {
            "person": row.person, "roles": [_told("role", role, language) for role in row.roles],
            "organisation": row.organisation,
        },
        "class": _told("class", row.data_class, language),
        "action": _told("action", row.action, language),
        "purposes": [_told("purpose", purpose, language) for purpose in row.purposes],
        "allowed": row.allowed,
        "reason": None if row.reason is None else {"code": row.reason, "text": text_of(row.reason, language)},
        "ground": _told("basis", row.basis, language),
        "emergency": row.emergency,
        "degraded": row.degraded,
        "erased": row.erased,
    }  # fmt: skip


def told_law(key: str, language: Language, laws: Mapping[str, Law]) -> dict[str, Any]:
    """Return a provision with its place and title in a language, as far as the register of laws knows it."""
    law = laws.get(key)
    if law is None:
        return {"key": key}
    return {"key": key, "place": place_of(key, language) or law.link, "title": getattr(law.title, language)}


def place_of(key: str, language: Language) -> str | None:
    """
    Return where a provision stands, in words; None for a key of another form than the register's.

    Examples:
        >>> place_of("R28", "en"), place_of("H273.4.1", "en"), place_of("H60.1-1", "ru"), place_of("X1", "en")
        ('Order ҚР ДСМ-54, § 28', 'Health Code, art. 273(4)(1)', 'Кодекс о здоровье народа, статья 60(1-1)', None)
    """
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    number = found[2] + "".join(f"({part})" for part in found[3].split(".")[1:])
    return page_text(f"place-{found[1]}", language, n=number)


def _told(kind: Kind, word: str | None, language: Language) -> dict[str, str] | None:
    return None if word is None else {"code": word, "text": word_of(kind, word, language)}
