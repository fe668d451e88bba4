"""The status facts of patients, and on which ground those were stated that open or close access."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ruqsat.core.care import with_status
from ruqsat.core.consent_record import Change, Receipt
from ruqsat.core.facts import PatientFacts
from ruqsat.core.patient_status import NOTHING_STATED, STATUS, Statement, stated_anew, with_statement
from ruqsat.core.registered import RecordRow
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.consent_changes import RegistryError
from ruqsat.service.record_registry import Changes, RecordStore


@dataclass(frozen=True)
class StatusRegistry:
    """
    The use cases; who may state what is the policy's business, settled before.

    Attributes:
        store: What is read of the rows.
        changes: The way in for changes: the information point.
        care: Where the facts, the moment and the token come from.
    """

    store: RecordStore
    changes: Changes
    care: CareRegistry

    async def put(
        self, patient: str, said: Mapping[str, Any], statement: Statement | None
    ) -> tuple[bool, dict[str, Any]]:
        """
        Write the status facts of a patient, new or not; return whether it is new, and what the caller is told.

        Those that need a ground change as the *statement* has it, and its row is written in the same transaction.

        Raises:
            RegistryError: one that the statement does not name was changed meanwhile; nothing was changed.
        """
        if statement is None:
            return await self.care.put_patient(patient, lambda facts: _status(facts, said, ()))
        harmless = {**said, **NOTHING_STATED}
        created = False
        if await self.care.find_patient(patient) is None:
            created, _ = await self.care.put_patient(patient, lambda facts: _status(facts, harmless, ()))
        now = self.care.now()

        def change(facts: PatientFacts, rows: dict[str, Any], _: Receipt | None) -> Change:
            before: RecordRow | None = rows.get(patient)
            after = _status(facts, said, statement.names)
            row = with_statement(before, patient, said, statement, now)
            return Change(b"", (row,), after if after != facts else None)

        await self.changes.change_records(patient, (patient,), None, change, STATUS)
        return created, {"id": patient, "token": self.care.token()}

    async def grounds(self, patient: str) -> list[dict[str, Any]]:
        """Return every statement about a patient, the oldest first."""
        row: RecordRow | None = await self.store.find_registered(STATUS, patient)
        return [] if row is None else list(row.body.said["grounds"])


def _status(facts: PatientFacts, said: Mapping[str, Any], names: Collection[str]) -> PatientFacts:
    if not set(names).issuperset(stated_anew(facts, said)):
        raise RegistryError("status-changed", "a fact that needs a ground was changed meanwhile: read it again")
    return with_status(facts, said)
