"""JSON Patches (RFC 6902): what one may change, and of which record it says that it is."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ruqsat.core.fhir.bodies import walk
from ruqsat.core.fhir.marks import BESIDE_META
from ruqsat.core.fhir.meaning import Refused, Whose
from ruqsat.core.fhir.references import patient_of_reference
from ruqsat.core.fhir.words import FhirWords, TypeEntry, is_type_name

_PROTECTED = frozenset({"", "id", "resourcetype", "implicitrules", "contained", "language"})
_CHANGES = frozenset({"add", "remove", "replace", "move", "copy"})


class Patch(Struct, frozen=True):
    """
    What a patch says besides what it changes.

    Attributes:
        whose: The patient whom its tests name; of nobody, if it has none.
        reclassifies: It touches the category.
        restates: It touches who wrote the record.
    """

    whose: Whose = Whose()
    reclassifies: bool = False
    restates: bool = False


def read_patch(steps: Any, kind: str, name: str, words: FhirWords) -> Patch:
    """
    Read a patch of one record of a type that is mapped.

    It may not move the record to another patient, touch its labels or its identity, or ask (``test``) what is written
    in it.  Three tests are no question, since each is what is known already or the patch is denied: of
    ``/resourceType``, of ``/id`` and, unless the record is the patient, of ``/subject/reference``.  They stand
    together, and make the patch say of which record it is: so can it be signed.

    Raises:
        Refused: it is none, or does what it may not.
    """
    if not isinstance(steps, list) or not steps:
        raise Refused("unreadable_patch")
    entry, said, touched = words.types[kind], dict[str, Any](), set[str]()
    for step in steps:
        if not isinstance(step, dict):
            raise Refused("unreadable_patch")
        if any(isinstance(e, str) and is_type_name(e.partition("?")[0]) and "?" in e for _, e in walk(step)):
            raise Refused("conditional_reference")
        if step.get("op") == "test":
            _test(step, said)
        elif step.get("op") in _CHANGES:
            touched |= {_touched(pointer, entry, kind) for pointer in (step.get("path"), step.get("from", "/-"))}
        else:
            raise Refused("unreadable_patch")
    category = words.categories.get(kind)
    return Patch(
        _named(said, kind, name, words) if said else Whose(),
        category is not None and category.element.lower() in touched,
        any(path.partition(".")[0].lower() in touched for path in (*entry.author, *entry.org)),
    )


def _test(step: Mapping[str, Any], said: dict[str, Any]) -> None:
    pointer, value = step.get("path"), step.get("value")
    if not isinstance(pointer, str) or not isinstance(value, str) or said.setdefault(pointer, value) != value:
        raise Refused("unreadable_patch")


def _named(said: dict[str, Any], kind: str, name: str, words: FhirWords) -> Whose:
    """Return the patient whom the tests name; they are the three, and true of the record at this address."""
    entry, subjects = words.types[kind], dict(said)
    if (subjects.pop("/resourceType", None), subjects.pop("/id", None)) != (kind, name):
        raise Refused("unreadable_patch" if not {"/resourceType", "/id"} <= said.keys() else "body_of_another_record")
    if entry.own and not subjects:
        return Whose("body", (name,))
    known = {f"/{path}/reference" for path in entry.subject if "." not in path}
    if len(subjects) != 1 or not subjects.keys() <= known:
        raise Refused("unreadable_patch")
    patient = patient_of_reference(next(iter(subjects.values())), words)
    if patient is None:
        raise Refused("not_a_patient")
    return Whose("body", (patient,))


def _touched(pointer: Any, entry: TypeEntry, kind: str) -> str:
    """Return the element that a pointer touches, in lower case; raises Refused if none may."""
    if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
        raise Refused("unreadable_patch")
    first = pointer[1:].partition("/")[0].replace("~1", "/").replace("~0", "~").lower()
    if first in {path.partition(".")[0].lower() for path in entry.subject}:
        raise Refused("patient_changes")
    if first == "meta" or first == BESIDE_META.get(kind, "meta").lower():
        raise Refused("labels_change")
    if first in _PROTECTED:
        raise Refused("identity_changes")
    return first
