"""
The directory of people, machines and organisations, written where decisions find it.

What an organisation is stands with each of its people, so that a decision reads one entry: a change of it
is a change of theirs, in the same transaction.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ruqsat.core.directory import (
    is_organisation,
    people_of,
    with_organisation,
    with_subject,
    without_activity,
)
from ruqsat.core.fact_changes import FactChange, Found, Made, Wanted
from ruqsat.core.facts import SubjectFacts
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.consent_changes import RegistryError

Change = Callable[[Found, SubjectFacts], SubjectFacts]


async def put_subject(registry: CareRegistry, id_: str, said: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """
    Write the entry of a person or machine; return whether it is new, and what the caller is told.

    Raises:
        RegistryError: it is an organisation's; nothing was changed.
    """
    org = said["org"]

    def changed(found: Found, before: SubjectFacts) -> SubjectFacts:
        if not found.created and is_organisation(before):
            raise RegistryError("another-kind", "this entry of the directory is an organisation's")
        return with_subject(before, said, None if org is None else found.subjects.get(org))

    # The employer's entry is held first: whoever changes it waits for us, or we for them.
    wanted = (id_,) if org in (None, id_) else (org, id_)
    return await _write(registry, id_, Wanted(subjects=wanted, create=id_), changed)


async def put_organisation(registry: CareRegistry, id_: str, said: Mapping[str, Any]) -> tuple[bool, dict[str, Any]]:
    """
    Write the entry of an organisation, and what its people take from it; returns and raises as ``put_subject``.

    Raises:
        RegistryError: it is a person's or a machine's; nothing was changed.
    """

    def changed(found: Found, before: SubjectFacts) -> SubjectFacts:
        if not found.created:
            _refuse_person(before)
        return with_organisation(before, said)

    return await _write(registry, id_, Wanted(subjects=(id_,), staff_of=id_, create=id_), changed)


async def deactivate(registry: CareRegistry, id_: str, *, organisation: bool) -> dict[str, Any]:
    """
    Take an entry out of activity; decisions from the answer on find it so, and of an organisation all its people.

    Raises:
        RegistryError: there is no such entry, or it is of the other kind.
    """

    def changed(_: Found, before: SubjectFacts) -> SubjectFacts:
        if organisation:
            _refuse_person(before)
        elif is_organisation(before):
            raise RegistryError("another-kind", "this entry of the directory is an organisation's")
        return without_activity(before)

    wanted = Wanted(subjects=(id_,), staff_of=id_ if organisation else None)
    return (await _write(registry, id_, wanted, changed))[1]


async def find_entry(registry: CareRegistry, id_: str) -> SubjectFacts | None:
    """Return an entry of the directory, None for none."""
    return (await registry.changes.fetch(id_, None)).subject


async def _write(registry: CareRegistry, id_: str, wanted: Wanted, changed: Change) -> tuple[bool, dict[str, Any]]:
    created: list[bool] = []

    def change(found: Found) -> Made:
        created[:] = [found.created]
        before = found.subjects.get(id_)
        if before is None:
            raise RegistryError("unknown-entry", "there is nothing by this id in the directory")
        after = changed(found, before)
        people = people_of(after, found.subjects.values()) if wanted.staff_of is not None else []
        return ([after] if found.created or after != before else []) + people, ()

    turn: FactChange = change
    await registry.changes.change_facts(wanted, turn)
    return created[0], {"id": id_, "token": registry.token()}


def _refuse_person(entry: SubjectFacts) -> None:
    if not is_organisation(entry):
        raise RegistryError("another-kind", "this entry of the directory is a person's or a machine's")
