"""
A record as its server shows it, and what a request for it means then.

Pure.  What is seen only ever narrows: a label that is there counts, one that is not
says nothing; a category that tells no class leaves every class of the type.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from ruqsat.core.fhir.bodies import classes_of_body, read_json, resource_of, whose_body
from ruqsat.core.fhir.marks import Marks, agreed, authors_of, marks_of
from ruqsat.core.fhir.meaning import NOBODY_KNOWN, Authors, Lookup, Meaning, Refused, refused
from ruqsat.core.fhir.search import elements_needed
from ruqsat.core.fhir.words import FhirWords

MAX_RECORD_BYTES = 256 * 1024

_ONE_RECORD = frozenset({"read", "vread", "update", "patch", "delete"})


class Seen(Struct, frozen=True):
    """
    What a look-up found of one record.

    Attributes:
        classes: Those that its category tells, or all of its type.
        labels: It has at least these.
        conf: ``R`` or ``V``; None for anything less, and where nothing is said.
        authors: Who wrote it, as far as that is sure.
    """

    type: str
    id: str
    patient: str
    classes: tuple[str, ...]
    labels: tuple[str, ...] = ()
    conf: Literal["R", "V"] | None = None
    authors: Authors = NOBODY_KNOWN


def elements_of(kind: str, words: FhirWords) -> tuple[str, ...]:
    """Return the elements that a look-up needs; nothing else of a record need leave its server."""
    entry = words.types.get(kind)
    wrote = (*entry.author, *entry.org) if entry is not None and words.shared_staff else ()
    return tuple(sorted({"id", *elements_needed(words, (kind,)), *(path.partition(".")[0] for path in wrote)}))


def read_record(body: bytes, asked: Lookup, words: FhirWords) -> Seen:
    """
    Read a server's answer.

    Raises:
        Refused: it is no strict JSON, another record or version than was asked for, of a type that means nothing or
            concerns nobody, of no patient or several, or refers to the patient otherwise than by an id of this
            server; or its labels cannot be read.
    """
    entry = words.types.get(asked.type)
    if entry is None or words.is_impersonal(entry.classes):
        raise Refused("unmapped_type")
    resource = resource_of(read_json(body, MAX_RECORD_BYTES), asked.type)
    meta = resource.get("meta", {})
    if not isinstance(meta, dict) or resource.get("id") != asked.value:
        raise Refused("body_of_another_record")
    if asked.version and meta.get("versionId") != asked.version:
        raise Refused("body_of_another_record")
    whose = whose_body(resource, entry, words)
    patients = (asked.value,) if entry.own else whose.patients
    if whose.problem or len(patients) != 1:
        raise Refused(whose.problem or "no_patient")
    marks, classes = marks_of(resource, asked.type, words), classes_of_body(resource, asked.type, words)
    authors = authors_of(resource, asked.type, words)
    return Seen(asked.type, asked.value, patients[0], classes, marks.labels, marks.conf, authors)


def lookups_of(meaning: Meaning) -> tuple[Lookup, ...]:
    """
    Return what must be looked up before a request for one record can be decided.

    Nothing where no look-up is needed, or where look-ups alone would not do.

    Examples:
        >>> asked = Meaning("read", "read", "defer", ("labs",), source="lookup", lookups=(Lookup("Observation", "o1"),))
        >>> [each.value for each in lookups_of(asked)]
        ['o1']
    """
    more = (meaning.strip, meaning.put, meaning.also, meaning.diverted, meaning.entries)
    if meaning.interaction not in _ONE_RECORD or meaning.answer not in ("decide", "defer") or any(more):
        return ()
    asked = {*meaning.lookups, *(() if meaning.stored is None else (meaning.stored,))}
    return tuple(sorted(asked)) if all(each.by == "id" for each in asked) else ()


def with_records(meaning: Meaning, found: Mapping[Lookup, Seen | None]) -> Meaning:
    """
    Return what a request for one record means, once the record was seen.

    All that was seen, and the body if one was sent, must be of the same patient; a body that would take a label away is
    refused.  A record that was seen need not be filtered out of the answer any more.  What a change is answered with is
    the record: whoever changes it must be permitted to read it as well.
    """
    asked = lookups_of(meaning)
    seen = [found.get(each) for each in asked]
    records = [each for each in seen if each is not None]
    if not records or len(records) < len(seen):
        return refused(meaning, "unresolved")
    patients = {each.patient for each in records} | set(meaning.patients)
    if len(patients) != 1 or any((each.type, each.id) != (meaning.types[0], meaning.id) for each in records):
        return refused(meaning, "patients_disagree")
    own = Marks(meaning.labels, meaning.conf)
    if meaning.interaction == "update" and not all(own.covers(Marks(each.labels, each.conf)) for each in records):
        return refused(meaning, "labels_change")
    classes = {name for each in records for name in each.classes}
    if meaning.interaction == "update" or meaning.reclassifies:
        classes |= set(meaning.classes)
    authors = agreed([each.authors for each in records] + ([meaning.authors] if meaning.restates else []))
    return msgspec.structs.replace(
        meaning, answer="decide", reason="", source="named", patients=tuple(patients), lookups=(), stored=None,
        classes=tuple(name for name in _in_order(records, meaning) if name in classes),
        labels=tuple(sorted({*meaning.labels, *(label for each in records for label in each.labels)})),
        conf=max((conf for conf in (meaning.conf, *(each.conf for each in records)) if conf is not None), default=None),
        authors=authors, filtered=False,
        also=("read",) if meaning.interaction in ("update", "patch") else (),
    )  # fmt: skip


def _in_order(records: Iterable[Seen], meaning: Meaning) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*meaning.classes, *(name for each in records for name in each.classes)]))
