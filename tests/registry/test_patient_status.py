"""Death, incapacity and inability as rows and facts: each statement is kept, and none slips in unstated."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ruqsat.core.consent_record import Change
from ruqsat.core.fact_changes import Found
from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import Instant
from ruqsat.core.patient_status import Statement, with_statement
from ruqsat.core.registered import RecordRow
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.consent_changes import RegistryError
from ruqsat.service.status_registry import StatusRegistry

NOW: Instant = 1_000_000
PATIENT = PatientFacts("p1", egov=True)
SAID = {"birth_date": None, "deceased_at": None, "incapacitated": False, "unable": False, "egov": True}


class Store:
    """One patient and the patient's row, in memory."""

    def __init__(self, facts: PatientFacts) -> None:
        self.facts, self.rows = facts, dict[str, RecordRow]()

    async def fetch(self, _subject: str | None, _patient: str | None) -> Facts:
        """Return the patient."""
        return Facts(None, self.facts, Position("e", 1))

    async def change_facts(self, _wanted: Any, change: Callable[[Found], Any]) -> Position:
        """Change the patient."""
        for each in change(Found({}, {"p1": self.facts}))[1]:
            self.facts = each
        return Position("e", 2)

    async def change_records(
        self, _patient: str, _wanted: Any, _key: None, change: Callable[..., Change], _kind: str
    ) -> Change:
        """Change the row and the patient together."""
        made = change(self.facts, self.rows, None)
        self.rows |= {row.id: row for row in made.rows}
        self.facts = made.facts or self.facts
        return made

    async def find_registered(self, _kind: str, id_: str) -> RecordRow | None:
        """Return the row."""
        return self.rows.get(id_)


def registry_of(store: Any) -> StatusRegistry:
    """Return a registry over a store in memory."""
    return StatusRegistry(store, store, CareRegistry(store, Vocabulary, lambda: "t", lambda: NOW))


def test_each_statement_is_kept_with_its_ground_and_the_last_stands() -> None:
    """Stated, taken back: two entries of one row, in order, and the facts are as the last has it."""
    store = Store(PATIENT)
    registry = registry_of(store)
    for number, unable in enumerate((True, False)):
        statement = Statement(("unable",), f"d-{number}", "h1", "reg1")
        asyncio.run(registry.put("p1", SAID | {"unable": unable}, statement))
        assert store.facts == replace(PATIENT, unable=unable)
    grounds = asyncio.run(registry.grounds("p1"))
    assert [(each["value"], each["document_ref"], each["by"]) for each in grounds] == [
        (True, "d-0", "reg1"), (False, "d-1", "reg1"),
    ]  # fmt: skip
    assert (store.rows["p1"].version, store.rows["p1"].status) == (2, "stated")


def test_what_was_changed_meanwhile_is_neither_undone_nor_stated() -> None:
    """Read as not unable, stated by somebody since: whoever says nothing of it, or of something else, is refused."""
    meanwhile = replace(PATIENT, unable=True)
    for statement in (None, Statement(("incapacitated",), "d-1", "h1", "reg1")):
        store = Store(meanwhile)
        said = SAID | {"incapacitated": statement is not None}
        with pytest.raises(RegistryError, match="meanwhile"):
            asyncio.run(registry_of(store).put("p1", said, statement))
        assert (store.facts, store.rows) == (meanwhile, {})


def test_a_death_is_kept_as_a_moment_that_people_can_read() -> None:
    """The value of the entry is the moment as it is written, and only what was stated has an entry."""
    statement = Statement(("deceased_at",), "act-1", "h1", "reg1")
    (entry,) = with_statement(None, "p1", SAID | {"deceased_at": 0}, statement, NOW).body.said["grounds"]
    assert (entry["fact"], entry["value"], entry["org"]) == ("deceased_at", "1970-01-01T00:00:00.000000Z", "h1")
