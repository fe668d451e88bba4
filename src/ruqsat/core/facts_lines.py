"""
Facts as lines of a file: how a hospital writes them down, and how they are taken out again.

One JSON object a line (JSON Lines, UTF-8).  The first names the format, each
other one holds a subject or a patient with the fields of ``core.facts``;
instants are RFC 3339 with an offset.  Reading is strict: an unknown or doubled
field, a word that the vocabulary does not have or an instant without an offset
is an error with its path, for a lost field could open a record.  No error
repeats a value.

A permit states its ``defect``, be it null: that somebody looked at the items of
order §9 is nothing that silence says.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, NoReturn, get_args, get_type_hints

import msgspec
from msgspec import Struct

from ruqsat.core.diagnostics import nearest
from ruqsat.core.facts import NEVER_IN_FORCE, Consent, PatientFacts, Provision, SubjectFacts, entry_id
from ruqsat.core.instant import Instant, parse_instant, render_instant
from ruqsat.core.stated import is_of_kind, stated_kinds
from ruqsat.core.vocabulary import Vocabulary

VERSION = 1
INSTANTS = frozenset({"start", "end", "granted_at", "revoked_at", "deceased_at", "deferred_until"})
"""The fields that are instants, whichever structure they stand in."""

KINDS: Mapping[str, type[SubjectFacts] | type[PatientFacts]] = {"subject": SubjectFacts, "patient": PatientFacts}

_SEE_VOCABULARY = "see `policies/vocabulary.toml` of the pack"
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Header(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line; counts that it states must be met, so that a file cut in half is noticed."""

    ruqsat_facts: int
    subjects: int | None = None
    patients: int | None = None


class LineError(Exception):
    """What is wrong at a path of one line, and what to do; neither repeats a value."""

    def __init__(self, path: str, found: str, do: str) -> None:
        super().__init__(f"{path}: {found}" if path else found)
        self.path, self.found, self.do = path, found, do


class Words(Struct, frozen=True):
    """
    The words that a vocabulary lets facts use.

    Attributes:
        types: Of resources that concern nobody.
        of_subjects, of_resources: Words that may be stated of either as properties, each with its kind.
    """

    roles: frozenset[str]
    actions: frozenset[str]
    classes: frozenset[str]
    purposes: frozenset[str]
    labels: frozenset[str]
    organisations: frozenset[str]
    types: frozenset[str] = frozenset()
    of_subjects: Mapping[str, str] = {}
    of_resources: Mapping[str, str] = {}


def words_of(vocabulary: Vocabulary) -> Words:
    """Return the words of the vocabulary in force."""
    return Words(
        frozenset(vocabulary.roles) | frozenset(vocabulary.role_groups),
        frozenset(vocabulary.actions),
        frozenset(vocabulary.classes) | frozenset(vocabulary.class_groups),
        frozenset(vocabulary.purposes),
        frozenset(vocabulary.labels),
        frozenset(vocabulary.organisation_categories),
        frozenset(vocabulary.types),
        stated_kinds(vocabulary, "sub"),
        stated_kinds(vocabulary, "res"),
    )


def parse_header(line: bytes) -> Header:
    """
    Read the first line.

    Raises:
        LineError: it names no format, or one that this version cannot read.

    Examples:
        >>> parse_header(b'{"ruqsat_facts": 1, "patients": 2}')
        Header(ruqsat_facts=1, subjects=None, patients=2)
    """
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.MsgspecError, UnicodeError):
        raise LineError("", "the first line does not name the format", 'write `{"ruqsat_facts": 1}` first') from None
    if header.ruqsat_facts != VERSION:
        raise LineError("ruqsat_facts", "this version of the format is not known", f"version {VERSION} is read here")
    return header


def render_header(subjects: int, patients: int) -> bytes:
    """Write the first line, its end included."""
    return _encode(Header(VERSION, subjects, patients)) + b"\n"


def parse_line(line: bytes, words: Words) -> SubjectFacts | PatientFacts:
    """
    Read one subject or patient.

    Raises:
        LineError: with the path of what is wrong.

    Examples:
        >>> none = Words(*[frozenset()] * 6)
        >>> parse_line(b'{"patient": {"id": "p1", "birth_date": "1980-02-29"}}', none).birth_date
        datetime.date(1980, 2, 29)
        >>> parse_line(b'{"patient": {"id": "p1", "birthdate": "1980-02-29"}}', none)
        Traceback (most recent call last):
        ...
        ruqsat.core.facts_lines.LineError: patient: unknown field `birthdate`
    """
    kind, data = _one_of(_read_json(line))
    _settle(data, KINDS[kind], kind)
    try:
        facts: SubjectFacts | PatientFacts = msgspec.convert(data, KINDS[kind])
    except (msgspec.ValidationError, RecursionError) as error:
        raise LineError(*_place_of(str(error), kind), "see the page of the format") from None
    if isinstance(facts, PatientFacts):
        _check_patient(facts, words)
    else:
        _check_subject(facts, words)
    if not _is_packable(facts):
        raise LineError(kind, "a number has more than 64 bits", "write a smaller one")
    # A resource's id, which was looked at, holds one that separates its type.
    if b"\\" in line and _holds_controls(msgspec.structs.replace(facts, id="")):
        raise LineError(kind, "a text holds a control character", "take it out")
    return facts


def render_line(facts: SubjectFacts | PatientFacts) -> bytes:
    """
    Write one subject or patient, its end included; ``parse_line`` reads the same facts back.

    Examples:
        >>> render_line(PatientFacts("p1", deceased_at=1))
        b'{"patient":{"id":"p1","deceased_at":"1970-01-01T00:00:00.000001Z"}}\\n'
    """
    kind = "patient" if isinstance(facts, PatientFacts) else "subject"
    data = msgspec.to_builtins(facts)
    _unsettle(data, type(facts))
    for consent in data.get("consents", ()):
        consent.setdefault("defect", None)
    return _encode({kind: data}) + b"\n"


def _read_json(line: bytes) -> Any:
    try:
        data = _decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise LineError("", "the line is not JSON in UTF-8", "write one whole object on each line") from None
    # The decoder takes the last of two fields of one name.  A line that is written as we would write it has none.
    if _encode(data) != line.rstrip():
        json.loads(line, object_pairs_hook=_refuse_doubled)
    return data


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise LineError("", "a field is written twice in one object", "leave one of the two out")
    return fields


def _one_of(data: Any) -> tuple[str, Any]:
    if isinstance(data, dict) and len(data) == 1:
        ((kind, inner),) = data.items()
        if kind in KINDS:
            return kind, inner
    raise LineError("", "the line is no subject and no patient", 'write `{"subject": {…}}` or `{"patient": {…}}`')


class _Shape(Struct, frozen=True):
    fields: frozenset[str]
    instants: tuple[str, ...]
    parts: tuple[tuple[str, type[Struct]], ...]


@cache
def _shape(struct: type[Struct]) -> _Shape:
    hints = get_type_hints(struct)
    fields = struct.__struct_fields__
    parts = tuple((name, part) for name in fields if (part := _struct_in(hints[name])) is not None)
    return _Shape(frozenset(fields), tuple(name for name in fields if name in INSTANTS), parts)


def _struct_in(hint: Any) -> type[Struct] | None:
    if isinstance(hint, type) and issubclass(hint, Struct):
        return hint
    return next((found for part in get_args(hint) if (found := _struct_in(part)) is not None), None)


def _settle(data: Any, struct: type[Struct], path: str) -> None:
    """Refuse unknown fields and make instants of their texts, in place and all the way down."""
    if not isinstance(data, dict):
        raise LineError(path, "expected an object", "see the page of the format")
    shape = _shape(struct)
    if not shape.fields.issuperset(data):
        _refuse_unknown(data, shape.fields, path)
    for name in shape.instants:
        if data.get(name) is not None:
            data[name] = _instant(data[name], f"{path}.{name}")
    for name, part in shape.parts:
        inner = data.get(name)
        if isinstance(inner, list):
            for index, item in enumerate(inner):
                _settle(item, part, f"{path}.{name}[{index}]")
        elif inner is not None:
            _settle(inner, part, f"{path}.{name}")
    root = data.get("root")
    if struct is Consent and "defect" not in data and isinstance(root, dict) and root.get("effect") == "permit":
        do = "write null if the items of order §9 are whole and the signature was verified, else what is wrong"
        raise LineError(path, "a permit does not state its `defect`", do)


def _refuse_unknown(data: Mapping[str, Any], known: Iterable[str], path: str) -> NoReturn:
    name = next(name for name in data if name not in known)
    # Whoever writes a value in the place of a name does not see it repeated either.
    shown = re.fullmatch("[a-z_]{1,40}", name)
    said = f"unknown field `{name}`" if shown else "unknown field"
    raise LineError(path, said, (shown and nearest(name, known)) or "see the page of the format")


def _instant(value: Any, path: str) -> Instant:
    try:
        return parse_instant(value)
    except (TypeError, ValueError, OverflowError):
        do = "write an RFC 3339 instant with its offset, such as `2026-11-24T10:00:00+05:00`"
        raise LineError(path, "expected an instant", do) from None


def _unsettle(data: dict[str, Any], struct: type[Struct]) -> None:
    shape = _shape(struct)
    for name in shape.instants:
        if data.get(name) is not None:
            data[name] = render_instant(data[name])
    for name, part in shape.parts:
        inner = data.get(name)
        for item in inner if isinstance(inner, (list, tuple)) else () if inner is None else (inner,):
            _unsettle(item, part)


def _place_of(text: str, kind: str) -> tuple[str, str]:
    """Take apart what msgspec says: its path, and its sentence, which shows a value only for an enum."""
    sentence, _, path = text.partition(" - at `$")
    if sentence.startswith("Invalid enum value"):
        sentence = "expected one of the listed values"
    return kind + path.rstrip("`"), sentence[:1].lower() + sentence[1:]


def _is_packable(facts: SubjectFacts | PatientFacts) -> bool:
    """Tell whether no number is too large to be kept in memory, packed."""
    try:
        return bool(_pack(facts))
    except OverflowError:
        return False


def _holds_controls(facts: SubjectFacts | PatientFacts) -> bool:
    return b"\\" in re.sub(rb'\\["\\]', b"", _encode(facts))


def _check_subject(who: SubjectFacts, words: Words) -> None:
    kinds = words.of_subjects
    if who.resource_type is None:
        _named(who.id, "subject.id")
    else:
        kinds = words.of_resources
        _known((who.resource_type,), words.types, "subject.resource_type")
        # The rest of the id, or nothing where it does not begin with the type.
        prefix = entry_id(who.resource_type, "")
        _named(who.id.removeprefix(prefix) if who.id.startswith(prefix) else "", "subject.id")
    _known(who.roles or (), words.roles, "subject.roles")
    if who.organisation is not None and who.organisation.category is not None:
        _known((who.organisation.category,), words.organisations, "subject.organisation.category")
    _known(who.properties or (), frozenset(kinds), "subject.properties")
    for name, value in (who.properties or {}).items():
        if not is_of_kind(value, kinds[name]):
            raise LineError(f"subject.properties.{name}", f"expected a value of kind {kinds[name]}", _SEE_VOCABULARY)


def _check_patient(who: PatientFacts, words: Words) -> None:
    _named(who.id, "patient.id")
    _check_ids(who)
    for index, consent in enumerate(who.consents):
        # A quarantined refusal closes everything because of its unknown words; what is never in force opens nothing.
        if consent.status != "quarantined" and consent.status not in NEVER_IN_FORCE:
            _check_provision(consent.root, words, f"patient.consents[{index}].root")
    for index, link in enumerate(who.delegations):
        _check_scope(link, words, f"patient.delegations[{index}]")
    for index, grant in enumerate(who.grants):
        _known(grant.categories, words.classes, f"patient.grants[{index}].categories")
    for index, record in enumerate(who.records):
        _known((record.data_class,), words.classes, f"patient.records[{index}].data_class")
        _known(record.labels or (), words.labels, f"patient.records[{index}].labels")
        if record.type is not None:
            _named(record.type, f"patient.records[{index}].type")
    for index, request in enumerate(who.requests):
        _known(request.categories, words.classes, f"patient.requests[{index}].categories")


_DOCUMENTS = ("consents", "delegations", "representations", "grants", "records", "requests")
_TIES = ("episodes", "relationships")


def _check_ids(who: PatientFacts) -> None:
    """Refuse an id that stands twice: ties of care count by organisation and id, records by type and id."""
    for kind in (*_DOCUMENTS, *_TIES):
        items = getattr(who, kind)
        for index, item in enumerate(items):
            if item.id is not None:
                _named(item.id, f"patient.{kind}[{index}].id")
        beside = {**dict.fromkeys(_TIES, "org"), "records": "type"}.get(kind, "")
        ids = [(getattr(item, beside, None), item.id) for item in items if item.id is not None]
        if len(set(ids)) != len(ids):
            raise LineError(f"patient.{kind}", "an id stands twice", "leave one of the two out")


def _check_provision(node: Provision, words: Words, path: str) -> None:
    _check_scope(node, words, path)
    for index, grantee in enumerate(node.grantees):
        if grantee.role is not None:
            _known((grantee.role,), words.roles, f"{path}.grantees[{index}].role")
    for index, exception in enumerate(node.exceptions):
        _check_provision(exception, words, f"{path}.exceptions[{index}]")


def _check_scope(node: Any, words: Words, path: str) -> None:
    _known(node.purposes, words.purposes, path + ".purposes")
    _known(node.actions, words.actions, path + ".actions")
    _known(node.categories, words.classes, path + ".categories")
    _known(node.labels, words.labels, path + ".labels")


def _known(found: Iterable[str], known: frozenset[str], path: str) -> None:
    if not known.issuperset(found):
        raise LineError(path, "a word that the vocabulary does not have", _SEE_VOCABULARY)


def _named(id_: str, path: str) -> None:
    if not id_ or not id_.isprintable():
        raise LineError(path, "expected an id", "write the opaque id of the directory or the record system")
