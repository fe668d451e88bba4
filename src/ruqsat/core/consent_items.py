"""
The items that a consent must hold, each with its law: what of a document handed in fails which.

Order ҚР ДСМ-54 §8–12, Law 94-V art. 8(4) and 12(2).  The document is plain data whose
types were checked; every name is there, with None for what was not said.  A
finding names a place and an item and never repeats a value.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat.core.dates import years_after
from ruqsat.core.identification import is_identification_number
from ruqsat.core.instant import HOUR, Instant, parse_instant
from ruqsat.core.signature_finding import FAILURES
from ruqsat.core.vocabulary import Vocabulary

HOME_COUNTRY = "KZ"
FORMS = ("written", "e_document", "egov_cabinet")

LAWS = {
    "R8": "order §8; Law 94-V art. 8(1)",
    "R9": "order §9; Law 94-V art. 8(4)",
    "R9.1": "order §9(1)",
    "R9.2": "order §9(2); Civil Code art. 168",
    "R9.3": "order §9(3); Law 94-V art. 8(4)(1)",
    "R9.4": "order §9(4)",
    "R9.5": "order §9(5)",
    "R9.6": "order §9(6); Law 94-V art. 7(8)",
    "R9.7": "order §9(7); Law 94-V art. 7(9)",
    "R9.8": "order §9(8)",
    "R9.9": "order §9(9)",
    "R9.10": "order §9(10)",
    "R9.11": "order §9(11); Law 94-V art. 12(2)",
    "R9.x1": "Law 94-V art. 8(4): third persons",
    "R9.x2": "Law 94-V art. 8(4): transfer abroad",
    "R9.x3": "Law 94-V art. 8(4): public sources",
    "R10": "order §10",
    "R11": "order §11",
    "R12": "order §12",
    "R4": "order §4; Code art. 61(2)",
    "R13": "order §13; Code art. 273(4)",
    "R20": "order §20",
    "R6": "order §6",
    "R17": "order §17",
    "R18": "order §18",
    "R19": "order §19",
    "R23": "order §23; Law 94-V art. 25(2)",
    "R24": "order §24; Law 94-V art. 18, 25(2)(8)",
    "R31": "order §31; Law 94-V art. 25(2)(8)",
    "L6": "Law 94-V art. 6",
    "L8.7": "Law 94-V art. 8(2), 8(7)",
    "L19.1": "Law 94-V art. 19",
    "L19-1": "Law 94-V art. 19-1",
    "L25.2.8": "Law 94-V art. 25(2)(8)",
}

FIXES = {
    "missing": "state it",
    "check_digit": "twelve digits, the last of which is the control digit of the others",
    "after_signature": "a date not after the signature, or the day of recording",
    "in_future": "a moment that has come",
    "reversed": "an end after the beginning",
    "too_long": "a term of three years at most",
    "expired": "a term that has not run out by the signature, or the day of recording",
    "same_person": "another person than the owner",
    "wrong_signer": "the signature of the one who gives the document",
    "certificate_not_valid": "a certificate that was valid when it signed",
    "not_allowed": "one of the kinds that the law names",
    "not_listed": "a word of the vocabulary; a wildcard is none",
    "state_service": "the cabinet of e-government, with the reference of the state service",
    "abroad": f"a database in {HOME_COUNTRY}",
    "not_abroad": f"another country than {HOME_COUNTRY}",
    "contradiction": "an answer that agrees with the recipients named",
    "too_many": "one person, or two",
    "unexpected": "nothing, for the owner gives the document",
    "mismatch": "the same kind in both places",
    "not_by_representative": "no third person: only the owner shares",
    "not_named": "a consent in force of the same patient that names this delegation by its id",
    "taken": "an id of its own: what has ended does not come back",
    "beyond_consent": "an end not after the consent's",
    "too_deep": "no link so far from the patient: the operator's limit",
    "not_redelegable": "a link in force that may be handed on, and was given to you",
    "too_short": "a reason that a reviewer can judge",
    "not_confirmed": "the emergency set alone, or a second confirmation",
}


class Failing(Struct, frozen=True):
    """One item that a document fails: where, which, and how; never what was found there."""

    path: str
    item: str
    code: str

    @property
    def law(self) -> str:
        """The provision that asks for the item."""
        return LAWS[self.item]

    @property
    def fix(self) -> str:
        """What to write."""
        return FIXES.get(self.code) or FAILURES[self.code]


class Catalogue(Struct, frozen=True):
    """The closed lists that a document's words come from."""

    purposes: frozenset[str]
    actions: frozenset[str]
    categories: frozenset[str]
    labels: frozenset[str]
    roles: frozenset[str]
    state_service: bool = True
    home_utc_offset_hours: int = 5


def catalogue_of(vocabulary: Vocabulary) -> Catalogue:
    """Return the lists of the vocabulary in force."""
    switches = vocabulary.switches
    return Catalogue(
        frozenset(vocabulary.purposes),
        frozenset(vocabulary.actions),
        frozenset(vocabulary.classes) | frozenset(vocabulary.class_groups),
        frozenset(vocabulary.labels),
        frozenset(vocabulary.roles),
        switches.state_controller_needs_state_service,
        switches.home_utc_offset_hours,
    )


Data = Mapping[str, Any]
Findings = Iterator[Failing]


def failing_items(data: Data, now: Instant, catalogue: Catalogue) -> tuple[Failing, ...]:
    """Return the items that a permit fails, in the order of the order; a refusal needs none (§14)."""
    if data["effect"] == "deny":
        return ()
    return tuple(finding for check in _CHECKS for finding in check(data, _Moments(data, now, catalogue), catalogue))


class _Moments:
    """The dates that others are measured against."""

    def __init__(self, data: Data, now: Instant, catalogue: Catalogue) -> None:
        self.now = now
        text = at(data, "signature.at")
        self.signed = None if text is None else parse_instant(text)
        offset = catalogue.home_utc_offset_hours * HOUR
        self.signed_on = local_date((now if self.signed is None else self.signed) + offset)


def local_date(shifted: Instant) -> date:
    """Return the date of a moment that was shifted to local time."""
    return date.fromordinal(date(1970, 1, 1).toordinal() + shifted // (24 * HOUR))


def at(data: Data, path: str) -> Any:
    """
    Return what stands at a dotted path, None for nothing.

    Examples:
        >>> at({"a": {"b": 1}}, "a.b"), at({"a": None}, "a.b")
        (1, None)
    """
    found: Any = data
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _pointer(path: str) -> str:
    return "/" + path.replace(".", "/")


def _is_blank(value: Any) -> bool:
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, list | tuple) and (not value or any(_is_blank(each) for each in value)))


def needed(data: Data, item: str, base: str, *names: str) -> Findings:
    """Return which of these places are missing or blank."""
    for name in names:
        path = f"{base}.{name}" if base else name
        if _is_blank(at(data, path)):
            yield Failing(_pointer(path), item, "missing")


def number(data: Data, item: str, path: str) -> Findings:
    """Return whether an identification number is missing or mistyped."""
    number = at(data, path)
    if _is_blank(number):
        yield Failing(_pointer(path), item, "missing")
    elif not is_identification_number(number):
        yield Failing(_pointer(path), item, "check_digit")


def person(data: Data, item: str, base: str, signed_on: date) -> Findings:
    """Return what of a person's details is missing or contradictory (order §9(1))."""
    yield from number(data, item, f"{base}.iin")
    yield from needed(data, item, base, "surname", "given", "address", "id_doc.number", "id_doc.issuer")
    yield from _day(data, item, f"{base}.id_doc.issued_on", signed_on)


def _day(data: Data, item: str, path: str, signed_on: date) -> Findings:
    text = at(data, path)
    if text is None:
        yield Failing(_pointer(path), item, "missing")
    elif date.fromisoformat(text) > signed_on:
        yield Failing(_pointer(path), item, "after_signature")


def _check_form(data: Data, _moments: _Moments, catalogue: Catalogue) -> Findings:
    form = data["form"]
    if _is_blank(form):
        yield Failing("/form", "R8", "missing")
    elif form not in FORMS:
        yield Failing("/form", "R8", "not_allowed")
    elif at(data, "operator.is_state") and catalogue.state_service and form != "egov_cabinet":
        yield Failing("/form", "R8", "state_service")
    needs_reference = at(data, "operator.is_state") and catalogue.state_service
    if form == "egov_cabinet" and (needs_reference or at(data, "signature.kind") == "state_service_proof"):
        yield from needed(data, "R8", "", "state_service_ref")


def _check_owner(data: Data, moments: _Moments, _: Catalogue) -> Findings:
    yield from person(data, "R9.1", "owner", moments.signed_on)


def _check_giver(data: Data, moments: _Moments, _: Catalogue) -> Findings:
    giver = at(data, "given_by.type")
    if giver is None:
        yield Failing("/given_by/type", "R9.10", "missing")
    elif giver == "patient" and data["representative"] is not None:
        yield Failing("/representative", "R9.2", "unexpected")
    elif giver == "legal_rep":
        yield from needed(data, "R9.2", "given_by", "id", "kind")
        yield from person(data, "R9.2", "representative", moments.signed_on)
        number = at(data, "representative.iin")
        if number is not None and number == at(data, "owner.iin"):
            yield Failing("/representative/iin", "R9.2", "same_person")
        yield from authority(data, moments.signed_on)


def authority(data: Data, signed_on: date) -> Findings:
    """Return what fails of the document that a representative acts by, as it stood on that day (order §9(2))."""
    base = "representative.authority"
    yield from needed(data, "R9.2", base, "kind", "number", "issuer")
    yield from _day(data, "R9.2", f"{base}.issued_on", signed_on)
    kind, issued, until = (at(data, f"{base}.{name}") for name in ("kind", "issued_on", "valid_to"))
    if kind is not None and at(data, "given_by.kind") not in (None, kind):
        yield Failing(_pointer(f"{base}.kind"), "R9.2", "mismatch")
    if issued is None:
        return
    first, last = date.fromisoformat(issued), None if until is None else date.fromisoformat(until)
    if last is not None and last <= first:
        yield Failing(_pointer(f"{base}.valid_to"), "R9.2", "reversed")
    elif kind == "poa" and last is not None and last > _years_after(first, 3):
        yield Failing(_pointer(f"{base}.valid_to"), "R9.2", "too_long")
    ends = _years_after(first, 1) if last is None and kind == "poa" else last
    if ends is not None and first < ends <= signed_on:
        yield Failing(_pointer(f"{base}.valid_to"), "R9.2", "expired")


def _years_after(first: date, years: int) -> date:
    return local_date(years_after(parse_instant(f"{first.isoformat()}T00:00:00+00:00"), years))


def _check_operator(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    kind = at(data, "operator.kind")
    yield from needed(data, "R9.3", "operator", "org", "kind", "address", "phones", "postal")
    if kind == "individual":
        yield from number(data, "R9.3", "operator.iin")
        yield from needed(data, "R9.3", "operator", "surname", "given")
    elif kind is not None:
        yield from needed(data, "R9.3", "operator", "name")
        yield from number(data, "R9.3", "operator.bin")


def _check_responsible(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    people = data["responsible"]
    if not people:
        yield Failing("/responsible", "R9.4", "missing")
    if len(people) > 2:
        yield Failing("/responsible", "R9.4", "too_many")
    for index, person in enumerate(people[:2]):
        for finding in (
            *number(person, "R9.4", "iin"),
            *needed(person, "R9.4", "", "surname", "given", "address", "phones", "postal"),
        ):
            yield msgspec.structs.replace(finding, path=f"/responsible/{index}{finding.path}")


def _check_scope(data: Data, _moments: _Moments, catalogue: Catalogue) -> Findings:
    yield from needed(data, "R9.5", "", "start")
    yield from needed(data, "R9.6", "", "purposes")
    yield from needed(data, "R9.7", "", "categories")
    yield from needed(data, "R9.8", "", "actions", "methods_text")
    yield from unknown_words(data, catalogue)


def unknown_words(data: Data, catalogue: Catalogue, base: str = "") -> Findings:
    """Return the words of a document, its exceptions included, that the vocabulary does not have."""
    lists = (
        ("purposes", "R9.6", catalogue.purposes), ("categories", "R9.7", catalogue.categories),
        ("labels", "R9.7", catalogue.labels), ("actions", "R9.8", catalogue.actions),
    )  # fmt: skip
    for name, item, known in lists:
        for index, word in enumerate(data[name]):
            if word not in known:
                yield Failing(f"{base}/{name}/{index}", item, "not_listed")
    for index, grantee in enumerate(data["grantees"]):
        if grantee["role"] is not None and grantee["role"] not in catalogue.roles:
            yield Failing(f"{base}/grantees/{index}/role", "R12", "not_listed")
    for index, exception in enumerate(data["exceptions"]):
        yield from unknown_words(exception, catalogue, f"{base}/exceptions/{index}")


def _check_term(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    yield from needed(data, "R9.9", "", "end", "withdrawal_methods")
    yield from reversed_terms(data, None if data["start"] is None else parse_instant(data["start"]))


def reversed_terms(data: Data, start: Instant | None, base: str = "") -> Findings:
    """Return the terms and the periods of data, those of exceptions included, that are over before they begin."""
    if start is not None and data["end"] is not None and parse_instant(data["end"]) <= start:
        yield Failing(f"{base}/end", "R9.9", "reversed")
    first, last = at(data, "data_period.start"), at(data, "data_period.end")
    if first is not None and last is not None and date.fromisoformat(last) < date.fromisoformat(first):
        yield Failing(f"{base}/data_period/end", "R9.7", "reversed")
    for index, exception in enumerate(data["exceptions"]):
        begins = None if exception["start"] is None else parse_instant(exception["start"])
        yield from reversed_terms(exception, begins, f"{base}/exceptions/{index}")


def _check_signature(data: Data, moments: _Moments, _: Catalogue) -> Findings:
    yield from needed(data, "R9.10", "signature", "kind", "at")
    if moments.signed is not None and moments.signed > moments.now:
        yield Failing("/signature/at", "R9.10", "in_future")
    kind, own = at(data, "signature.kind"), _own_signature(data)
    if kind in ("patient_eds", "rep_eds"):
        if kind != own:
            yield Failing("/signature/kind", "R9.10", "wrong_signer")
        yield from _certificate(data, moments)
    allowed: dict[Any, tuple[str, ...]] = {
        "written": ("handwritten",), "e_document": ("patient_eds", "rep_eds"),
        "egov_cabinet": ("patient_eds", "rep_eds", "state_service_proof"),
    }  # fmt: skip
    if kind is not None and kind not in allowed.get(data["form"], ("patient_eds", "rep_eds", "handwritten")):
        yield Failing("/signature/kind", "R9.10", "not_allowed")


def _own_signature(data: Data) -> str:
    return "rep_eds" if at(data, "given_by.type") == "legal_rep" else "patient_eds"


def _certificate(data: Data, moments: _Moments) -> Findings:
    yield from needed(data, "R9.10", "signature", "cert_serial", "cert_valid_from", "cert_valid_to", "hash")
    yield from number(data, "R9.10", "signature.cert_iin")
    signer = at(data, "representative.iin" if at(data, "given_by.type") == "legal_rep" else "owner.iin")
    certified = at(data, "signature.cert_iin")
    if certified is not None and signer is not None and certified != signer:
        yield Failing("/signature/cert_iin", "R9.10", "wrong_signer")
    since, until = at(data, "signature.cert_valid_from"), at(data, "signature.cert_valid_to")
    if since is None or until is None or moments.signed is None:
        return
    if not parse_instant(since) <= moments.signed < parse_instant(until):
        yield Failing("/signature/at", "R9.10", "certificate_not_valid")


def _check_databases(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    if not data["databases"]:
        yield Failing("/databases", "R9.11", "missing")
    for index, database in enumerate(data["databases"]):
        for finding in needed(database, "R9.11", "", "id", "country", "address"):
            yield msgspec.structs.replace(finding, path=f"/databases/{index}{finding.path}")
        if database["country"] not in (None, HOME_COUNTRY):
            yield Failing(f"/databases/{index}/country", "R9.11", "abroad")


def _check_law(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    third = [each for each in data["grantees"] if each["org"] != at(data, "operator.org")]
    stated = data["third_party_transfer"]
    if stated is None:
        yield Failing("/third_party_transfer", "R9.x1", "missing")
    elif stated != bool(third):
        yield Failing("/third_party_transfer", "R9.x1", "contradiction")
    if data["cross_border"] is None:
        yield Failing("/cross_border", "R9.x2", "missing")
    elif HOME_COUNTRY in data["cross_border"]:
        yield Failing("/cross_border", "R9.x2", "not_abroad")
    if data["public_dissemination"] is None:
        yield Failing("/public_dissemination", "R9.x3", "missing")
    yield from needed(data, "R9", "", "text_version", "language")


def _check_grantees(data: Data, _moments: _Moments, __: Catalogue) -> Findings:
    for index, grantee in enumerate(data["grantees"]):
        for name in ("iin", "bin"):
            if grantee[name] is not None and not is_identification_number(grantee[name]):
                yield Failing(f"/grantees/{index}/{name}", "R12", "check_digit")
        if not any(grantee[name] for name in ("org", "subject", "role", "group")):
            yield Failing(f"/grantees/{index}", "R12", "missing")
        if grantee["subject"] is not None and at(data, "given_by.type") == "legal_rep":
            yield Failing(f"/grantees/{index}/subject", "R12", "not_by_representative")


_CHECKS: tuple[Callable[[Data, _Moments, Catalogue], Findings], ...] = (
    _check_form, _check_owner, _check_giver, _check_operator, _check_responsible, _check_scope, _check_term,
    _check_signature, _check_databases, _check_law, _check_grantees,
)  # fmt: skip


def failing_verification(data: Data, verification: Data, now: Instant) -> tuple[Failing, ...]:
    """Return what a verification fails: a paper's entry under the operator's signature (§10), or a check (§11)."""
    entry = verification["entry"]
    found: list[Failing] = []
    if entry is not None:
        found += needed(entry, "R10", "", "at", "eds_serial", "scan_hash")
        found += number(entry, "R10", "bin")
        own = at(data, "operator.bin") or at(data, "operator.iin")
        if entry["bin"] is not None and entry["bin"] != own:
            found.append(Failing("/bin", "R10", "wrong_signer"))
        if entry["at"] is not None and parse_instant(entry["at"]) > now:
            found.append(Failing("/at", "R10", "in_future"))
    findings = [msgspec.structs.replace(finding, path=f"/entry{finding.path}") for finding in found]
    for part, item in (("signature", "R9.10"), ("representative", "R11")):
        if verification[part] is not None:
            if verification[part]["ok"] is None:
                findings.append(Failing(f"/{part}/ok", item, "missing"))
            findings += needed(verification, item, part, "method", "document_ref")
    return tuple(findings)
