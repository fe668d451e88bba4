"""The directory of people, machines and organisations as changes of the facts: functions of values."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ruqsat.core.facts import Organisation, SubjectFacts

SUBJECT_FACTS = ("roles", "org", "active", "groups", "patient_id", "supervised_by")
"""What the directory says of a person or machine; what breaking the glass left there is not the directory's."""


def is_organisation(entry: SubjectFacts) -> bool:
    """Tell whether an entry is an organisation's: of a person or machine it names the employer."""
    return entry.org is None and entry.organisation is not None


def as_employer(entry: SubjectFacts | None) -> Organisation | None:
    """Return what an organisation's people take from its entry: nothing of one that is not active, or none."""
    return entry.organisation if entry is not None and entry.active and is_organisation(entry) else None


def with_subject(before: SubjectFacts, said: Mapping[str, Any], employer: SubjectFacts | None) -> SubjectFacts:
    """Return an entry as it is said, with what its employer's entry says."""
    lists = {name: tuple(dict.fromkeys(said[name])) for name in ("roles", "groups")}
    return msgspec.structs.replace(
        before, **{name: said[name] for name in SUBJECT_FACTS} | lists, organisation=as_employer(employer)
    )  # fmt: skip


def with_organisation(before: SubjectFacts, said: Mapping[str, Any]) -> SubjectFacts:
    """Return an organisation's entry as it is said."""
    return msgspec.structs.replace(
        before, roles=(), active=said["active"], organisation=Organisation(said["category"], said["undertaking"])
    )  # fmt: skip


def without_activity(before: SubjectFacts) -> SubjectFacts:
    """Return an entry that is no longer active, whoever it is."""
    return msgspec.structs.replace(before, active=False)


def people_of(entry: SubjectFacts, known: Iterable[SubjectFacts]) -> list[SubjectFacts]:
    """Return the entries that are different now that their employer's is *entry*."""
    told = as_employer(entry)
    return [
        msgspec.structs.replace(each, organisation=told)
        for each in known if each.id != entry.id and each.org == entry.id and each.organisation != told
    ]  # fmt: skip
