"""Blocks of records: who stopped the use of what, on which ground, and what became of it (order §24)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ruqsat.core.block import BLOCK, block_id, moved, seen
from ruqsat.core.care import CareRefusedError
from ruqsat.core.consent_record import Change, Receipt
from ruqsat.core.facts import PatientFacts
from ruqsat.core.proceeding import ProceedingRow
from ruqsat.core.registered import RecordRow
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.consent_changes import RegistryError
from ruqsat.service.proceeding_changes import holders
from ruqsat.service.record_registry import Changes, RecordStore


class Demands(Protocol):
    """Where demands of destruction are kept."""

    async def find(self, id_: str) -> ProceedingRow | None:
        """Return one, None for none."""
        ...


@dataclass(frozen=True)
class BlockRegistry:
    """
    The use cases; each is in force once it returns, and needs no key.

    Attributes:
        store: What is read of the rows.
        changes: The way in for changes: the information point.
        care: Where the facts, the moment and the token come from.
        demands: Where demands of destruction are kept; a block that one of them still holds does not end beside it.
    """

    store: RecordStore
    changes: Changes
    care: CareRegistry
    demands: Demands

    async def find(self, id_: str) -> RecordRow | None:
        """Return the row of a record, None for none."""
        row: RecordRow | None = await self.store.find_registered(BLOCK, id_)
        return row

    async def class_of(self, patient: str, record: str) -> str | None:
        """Return the data class of a record that is on record; None if nobody knows which."""
        facts = await self.care.find_patient(patient)
        return None if facts is None else facts.class_of_record(record)

    async def page(self, patient: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return a page of a patient's rows."""
        return [describe(row) for row in await self.store.list_registered(BLOCK, patient, None, after, limit)]

    async def change(
        self, patient: str, record: str, data_class: str, event: str, said: Mapping[str, Any], by: str
    ) -> dict[str, Any]:
        """
        Let ``block``, ``lift`` or ``destroy`` happen to a record; a repeat leaves things as they are.

        Raises:
            RegistryError: it cannot happen to this record, a demand that is not over holds it, whoever would destroy it
                has blocked it, or nobody is on record by that patient id.
        """
        id_, now = block_id(patient, record), self.care.now()
        if event != "block":
            await self._refuse_held(id_)

        def change(facts: PatientFacts, rows: dict[str, Any], _: Receipt | None) -> Change:
            before: RecordRow | None = rows.get(id_)
            if event == "destroy" and before is not None and before.status != "destroyed" and _blocked_by(before) == by:
                raise RegistryError("second-person-needed", "what cannot be undone is done by another than blocked it")
            try:
                row = moved(before, facts, record, event, said, by, now)
                after = seen(facts, record, data_class, row.status)
            except CareRefusedError as error:
                raise RegistryError(error.code, str(error)) from None
            same = before is not None and before.status == row.status
            kept = () if same else (row,)
            told = before if same and before is not None else row
            return Change(_answer(told), kept, None if after == facts else after)

        made = await self.changes.change_records(patient, (id_,), None, change, BLOCK)
        return {**msgspec.json.decode(made.answer), "token": self.care.token()}

    async def _refuse_held(self, id_: str) -> None:
        """
        Refuse to end the block of what a demand holds as long as it is not decided (Law 94-V art. 25(2)(8)).

        Raises:
            RegistryError: this is it.
        """
        row = await self.find(id_)
        for holder in holders(row) if row is not None else ():
            demand = await self.demands.find(holder)
            if demand is not None and demand.is_open:
                raise RegistryError("held-by-demand", "a demand of destruction holds it: decide that first")


def describe(row: RecordRow) -> dict[str, Any]:
    """Return a row as it is told."""
    return {"id": row.id, "patient": row.patient, "version": row.version, "status": row.status} | row.body.said


def _blocked_by(row: RecordRow) -> str | None:
    """Return who blocked a record the last time."""
    return next((step.by for step in reversed(row.body.steps) if step.event == "block"), None)


def _answer(row: RecordRow) -> bytes:
    return msgspec.json.encode({"id": row.id, "version": row.version, "status": row.status})
