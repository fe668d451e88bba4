"""
The registry of proceedings with terms: opened, owned, decided, answered on time.

Who may is the policy's business, settled before anything here is called.  Every change is one transaction of the
proceeding, of the blocks that it brings about, of what decisions see of them, and of the notices that follow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ruqsat.core.block import BLOCK, block_id
from ruqsat.core.consent_record import Change, Receipt
from ruqsat.core.facts import PatientFacts
from ruqsat.core.information_answer import information_answer
from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.proceeding import Hour, ProceedingChange, ProceedingRow, Wanted
from ruqsat.core.proceeding_kinds import APPLICANT, PROCEEDING_KINDS
from ruqsat.core.proceeding_notice import events_of
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.core.working_days import WorkingDays
from ruqsat.errors import RequestError
from ruqsat.service import consent_changes
from ruqsat.service.consent_changes import Call, Caller, RegistryError, new_id, repeated
from ruqsat.service.proceeding_changes import (
    answer_of,
    assigned,
    blocks_after,
    current,
    describe,
    moved,
    opened,
    records_of,
    refuse_unknown_sources,
    unsealed,
)
from ruqsat.service.record_registry import Changes, RecordStore
from ruqsat.service.record_seal import RecordSeal, required

PAGE = 100

ProceedingMade = Callable[[ProceedingRow | None, Receipt | None], ProceedingChange]


class Proceedings(Protocol):
    """Where proceedings are kept."""

    async def find(self, id_: str) -> ProceedingRow | None:
        """Return one, None for none."""
        ...

    async def queue(self, wanted: Wanted) -> list[ProceedingRow]:
        """Return a page, the first due first."""
        ...

    async def events(self, id_: str) -> list[tuple[str, str, Instant]]:
        """Return what the clock said of one."""
        ...

    async def change(self, id_: str, key: bytes | None, change: ProceedingMade) -> ProceedingChange:
        """Make one change, or none."""
        ...


@dataclass(frozen=True)
class ProceedingRegistry:
    """
    The use cases.

    Attributes:
        records: What is read of the other registries.
        changes: The way in for changes of what decisions see: the information point.
        seal: None where no key is set: then nothing is written down here, and the clock goes on.
        calendar: The working days that new terms are counted by.
    """

    store: Proceedings
    records: RecordStore
    changes: Changes
    seal: RecordSeal | None
    calendar: WorkingDays
    vocabulary: Callable[[], Vocabulary]
    token: Callable[[], str]
    now: Callable[[], Instant]

    def hour(self) -> Hour:
        """Return the present, and what its days are counted by."""
        return Hour(self.now(), self.calendar, self.vocabulary().switches.home_utc_offset_hours)

    async def open(self, caller: Caller, data: Mapping[str, Any], call: Call, org: str | None) -> dict[str, Any]:
        """
        Begin a proceeding; its term is counted at once and does not move any more.

        Raises:
            RegistryError: it lacks what its kind asks for; nothing was kept.
            RequestError: nobody is on record by the patient id.
            NotConfiguredError: there is no key.
        """
        seal, hour = required(self.seal), self.hour()
        id_ = new_id(hour.now)
        fingerprint = seal.tag("content|proceeding", call.content)
        key = None
        if call.key is not None:
            key = seal.tag("key|proceeding", caller.subject.encode(), call.key.encode())

        def change(_: ProceedingRow | None, receipt: Receipt | None) -> ProceedingChange:
            if receipt is not None:
                return ProceedingChange(repeated(receipt, fingerprint).answer)
            row = opened(id_, data, caller, org, hour, seal)
            kept = None if key is None else Receipt(key, fingerprint, answer_of(row), hour.now)
            notices = events_of(row, by_applicant=row.body.said["by"] == APPLICANT)
            return ProceedingChange(answer_of(row), row, notices, kept)

        return self._told((await self.store.change(id_, key, change)).answer)

    async def move(
        self, caller: Caller, side: str, row: ProceedingRow, version: int, event: str, said: Mapping[str, Any]
    ) -> dict[str, Any]:
        """
        Let an event happen; what it does to the records named is in force with the answer.

        Raises:
            RegistryError: another version, a status that knows no such event, a ground that is not on the closed list,
                or what cannot be undone by the one who confirmed it.
            NotConfiguredError: there is no key.
        """
        seal, hour = required(self.seal), self.hour()
        current(row, version, event, side, hour)
        if event == "grant" and said.get("consent"):
            await self._refuse_strange_consent(row, said["consent"])
        if event == "answer":
            refuse_unknown_sources(said["sources"], self.vocabulary())
            said = {**said, "answer": await self.information(row, said)}

        def change(found: ProceedingRow | None, _: Receipt | None) -> ProceedingChange:
            after = moved(current(found, version, event, side, hour), event, said, caller, hour, seal)
            return ProceedingChange(answer_of(after), after, events_of(after, by_applicant=side == APPLICANT))

        act = PROCEEDING_KINDS[row.kind].moves[event].act
        if act is not None:
            wanted = tuple(block_id(row.patient or "", each["id"]) for each in records_of(row, said))
            return await self._act(act, change, row, wanted, caller, hour)
        return self._told((await self.store.change(row.id, None, change)).answer)

    async def _act(
        self, act: str, change: ProceedingMade, row: ProceedingRow, wanted: tuple[str, ...], caller: Caller, hour: Hour
    ) -> dict[str, Any]:
        """Change the proceeding, the blocks of its records and what decisions see of them, together or not at all."""

        def together(facts: PatientFacts, rows: dict[str, Any], _: Receipt | None) -> Change:
            # The version that was read is the one that is replaced: otherwise the store refuses all of it.
            made = change(row, None)
            if made.row is None:
                return Change(made.answer)
            blocks, seen = blocks_after(act, made.row, facts, rows, caller.subject, hour.now)
            return Change(made.answer, (*blocks, made.row), None if seen == facts else seen, notices=made.notices)

        try:
            made = await self.changes.change_records(row.patient or "", wanted, None, together, BLOCK)
        except RequestError as error:
            if isinstance(error, RegistryError) or error.code != "version-conflict":
                raise
            raise RegistryError(error.code, str(error)) from None
        return self._told(made.answer)

    async def information(self, row: ProceedingRow, said: Mapping[str, Any]) -> dict[str, Any]:
        """
        Return what is on record of the patient (order §18), with what the office says of it that no store knows.

        Raises:
            StoreUnavailableError: not all of it could be read, so nothing is told.
        """
        patient = row.patient or ""
        facts = (await self.changes.fetch(None, patient)).patient
        seal, after = required(self.seal), ""
        documents: dict[str, Any] = {}
        while rows := await self.records.list_registered("consent", patient, None, after, PAGE):
            documents |= {each.id: consent_changes.unsealed(each, seal)["document"] for each in rows}
            after = rows[-1].id
        return information_answer(patient, facts, documents, said, self.now())

    def answered(self, row: ProceedingRow) -> dict[str, Any] | None:
        """Return the answer as it was given, None for none."""
        given = [said["answer"] for said in self.unseal(row)["said"] if "answer" in said]
        return given[-1] if given else None

    async def assign(self, caller: Caller, row: ProceedingRow, version: int, owner: str | None) -> dict[str, Any]:
        """
        Say who takes care of a proceeding.

        Raises:
            RegistryError: another version.
        """
        hour = self.hour()

        def change(found: ProceedingRow | None, _: Receipt | None) -> ProceedingChange:
            after = assigned(current(found, version, "assign", "", hour), owner, caller, hour)
            return ProceedingChange(answer_of(after), after)

        return self._told((await self.store.change(row.id, None, change)).answer)

    async def find(self, id_: str) -> ProceedingRow | None:
        """Return one proceeding, None for none."""
        return await self.store.find(id_)

    async def queue(self, wanted: Wanted, side: str) -> list[dict[str, Any]]:
        """Return a page without what names people, the first due first."""
        hour = self.hour()
        return [describe(row, hour, side) for row in await self.store.queue(wanted)]

    async def classes_of(self, patient: str) -> dict[str, str]:
        """Return the data classes of a patient's records that are on record, by record."""
        facts = (await self.changes.fetch(None, patient)).patient
        told = {} if facts is None else {id_: facts.class_of_record(id_) for id_ in facts.records_by_id}
        return {id_: data_class for id_, data_class in told.items() if data_class is not None}

    async def tell(self, row: ProceedingRow, side: str) -> dict[str, Any]:
        """Return a proceeding without what names people, with what the clock said of it."""
        events = await self.store.events(row.id)
        told = [{"event": event, "due": due, "at": render_instant(at)} for event, due, at in events]
        return describe(row, self.hour(), side) | {"clock": told}

    def unseal(self, row: ProceedingRow) -> dict[str, Any]:
        """
        Return what was handed in, and what was said since.

        Raises:
            RecordUnreadableError: the sealed part does not open.
            NotConfiguredError: there is no key.
        """
        return unsealed(row, required(self.seal)) if row.sealed else {"opened": {}, "said": []}

    async def _refuse_strange_consent(self, row: ProceedingRow, consent: str) -> None:
        """
        Let a request be granted by a consent of the same patient that is on record, and by no other.

        Raises:
            RegistryError: it is another patient's, or nobody's.
        """
        if await self.records.find_document("consent", consent) != row.patient:
            raise RegistryError("other-thread", "the consent named is none of this patient's: write it down first")

    def _told(self, answer: bytes) -> dict[str, Any]:
        return {**msgspec.json.decode(answer), "token": self.token()}
