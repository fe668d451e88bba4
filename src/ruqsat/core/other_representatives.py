"""What a representative reads of another representative of the same patient: the name, and not the person's data."""

from collections.abc import Mapping
from typing import Any

from ruqsat.core.consent_items import at

_NAME = ("surname", "given", "patronymic")


def shown_to_representative(content: Mapping[str, Any], subject: str) -> dict[str, Any]:
    """
    Return what is opened of a power or a consent, less what is personal to a representative who is not *subject*.

    Examples:
        >>> person = {"iin": "1", "surname": "A", "given": "B", "patronymic": None, "address": "C"}
        >>> content = {"document": {"subject": "saule", "representative": person}, "verification": []}
        >>> shown_to_representative(content, "saule") == content
        True
        >>> shown_to_representative(content, "timur")["document"]["representative"]
        {'surname': 'A', 'given': 'B', 'patronymic': None}
    """
    document = content["document"]
    person, acts = document.get("representative"), at(document, "given_by.id" if "given_by" in document else "subject")
    if person is None or acts == subject:
        return dict(content)
    shown = {**document, "representative": {name: person[name] for name in _NAME}}
    if (signature := document.get("signature")) is not None:
        shown["signature"] = {name: signature[name] for name in ("kind", "at")}
    return {"document": shown}


def application_shown(content: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what is opened of a proceeding that a representative reads and did not begin.

    Examples:
        >>> applicant = {"kind": "legal_representative", "iin": "1", "surname": "A", "reply_to": "C"}
        >>> said = [{"event": "answer", "identity": {"method": "seen", "document_ref": "D"}}]
        >>> application_shown({"opened": {"applicant": applicant}, "said": said})
        {'opened': {'applicant': {'kind': 'legal_representative', 'surname': 'A'}}, 'said': [{'event': 'answer'}]}
    """
    opened, said = dict(content["opened"]), content["said"]
    if (applicant := opened.get("applicant")) is not None:
        opened["applicant"] = {name: applicant[name] for name in ("kind", *_NAME) if name in applicant}
    return {"opened": opened, "said": [{k: v for k, v in each.items() if k != "identity"} for each in said]}
