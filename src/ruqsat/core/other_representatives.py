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


def proceeding_shown_to_representative(content: Mapping[str, Any], by: str, subject: str) -> dict[str, Any]:
    """
    Return what is opened of a proceeding, less what is personal to a representative who applied and is not *subject*.

    Args:
        by: Who opened it; of what a desk opened nobody knows whose it is, so each representative reads the name.

    Examples:
        >>> applicant = {"kind": "legal_representative", "iin": "1", "surname": "A", "reply_to": "C"}
        >>> said = [{"event": "answer", "identity": {"method": "D"}, "storage_terms": "E"}]
        >>> content = {"opened": {"applicant": applicant, "statement": "F"}, "said": said}
        >>> proceeding_shown_to_representative(content, "saule", "saule") == content
        True
        >>> shown = proceeding_shown_to_representative(content, "saule", "timur")
        >>> shown["opened"]["applicant"], shown["said"]
        ({'kind': 'legal_representative', 'surname': 'A'}, [{'event': 'answer', 'storage_terms': 'E'}])
    """
    opened, applicant = content["opened"], at(content, "opened.applicant")
    if applicant is None or applicant["kind"] == "patient" or by == subject:
        return dict(content)
    named = {name: applicant[name] for name in ("kind", *_NAME) if name in applicant}
    said = [{name: value for name, value in each.items() if name != "identity"} for each in content["said"]]
    return {"opened": {**opened, "applicant": named}, "said": said}
