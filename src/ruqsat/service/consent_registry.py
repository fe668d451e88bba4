"""
The registry of consents and refusals: what may be done with a record, and what it then is.

Who may do it is the policy's business, settled before anything here is called.
Every change is one transaction: the record, what decisions see of it, and the
entry of the feed.  Once a call returns, no check in this process is answered
from before it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ruqsat.core.consent_items import catalogue_of
from ruqsat.core.consent_record import Change, ConsentRow, Receipt, allowed_events, with_rows
from ruqsat.core.consent_signature import Examined, unverified_document, without_documents
from ruqsat.core.facts import PatientFacts, Position
from ruqsat.core.instant import Instant
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.consent_changes import (
    Call,
    Caller,
    Circumstances,
    RegistryError,
    answer_of,
    current_row,
    describe,
    in_place_of,
    moved,
    new_id,
    new_row,
    owner_tags,
    refuse_other_giver,
    refuse_own_giver,
    refuse_parent,
    refuse_without_room,
    repeated,
    unsealed,
    verified,
    withdrawn,
)
from ruqsat.service.consent_signatures import examine
from ruqsat.service.record_seal import RecordSeal, required
from ruqsat.service.verifications import Verifications


class RecordStore(Protocol):
    """What the registry reads."""

    async def find_record(self, id_: str) -> ConsentRow | None:
        """Return one full record, None for none."""
        ...

    async def list_records(self, patient: str, org: str | None, after: str, limit: int) -> list[ConsentRow]:
        """Return a page of a patient's records."""
        ...

    async def is_somebody_else(self, patient: str, tags: tuple[bytes, ...]) -> bool:
        """Tell whether verified records tie the number of these tags to another patient, or this patient to another."""
        ...

    async def find_consent(self, consent: str) -> str | None:
        """Return whose document this is, full record or not."""
        ...


RecordChange = Callable[[PatientFacts, dict[str, ConsentRow], Receipt | None], Change]


class Changes(Protocol):
    """The way in for changes: the information point."""

    async def change_records(
        self, patient: str, wanted: tuple[str, ...], key: bytes | None, change: RecordChange
    ) -> Change:
        """Change records and facts together, or neither."""
        ...

    def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Awaitable[Position]:
        """Replace a patient's facts by what *change* makes of them."""
        ...


@dataclass(frozen=True)
class ConsentRegistry:
    """
    The use cases.

    Attributes:
        seal: None where no key is set: then only withdrawing works, which must never wait for a key.
        vocabulary: The words and switches in force at this moment.
        token: The consistency token of what is known now.
        now: The present moment, its later bound.
        signatures: None where none are verified: then the desk attests what it verified elsewhere.
    """

    store: RecordStore
    changes: Changes
    seal: RecordSeal | None
    vocabulary: Callable[[], Vocabulary]
    token: Callable[[], str]
    now: Callable[[], Instant]
    signatures: Verifications | None = None

    async def find(self, id_: str) -> tuple[str | None, ConsentRow | None]:
        """Return whose consent it is, None for nobody's, and its full record, if there is one."""
        row = await self.store.find_record(id_)
        return (await self.store.find_consent(id_) if row is None else row.patient), row

    async def create(self, caller: Caller, data: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """
        Record a document: a refusal is in force with that, a permit once it is verified.

        Returns:
            Id, status, version, failing items, token.

        Raises:
            RegistryError: it is refused, and why; nothing was changed.
            NotConfiguredError: there is no key.
        """
        return await self._record(caller, data, call, None, None)

    async def supersede(
        self, caller: Caller, row: ConsentRow, version: int, data: Mapping[str, Any], call: Call
    ) -> dict[str, Any]:
        """
        Put a newer document of the same thread in the place of one; promises as ``create``.

        The newer one must be in force with that: a permit without its verification leaves the older as it is.
        """
        return await self._record(caller, data, call, row, version)

    async def _record(
        self, caller: Caller, data: Mapping[str, Any], call: Call, old: ConsentRow | None, version: int | None
    ) -> dict[str, Any]:
        seal = required(self.seal)
        refuse_other_giver(caller, data)
        await self._refuse_somebody_else(caller, data["patient"], owner_tags(data, seal))
        examined = await examine(self.signatures, data, data["verification"], self.now())
        data = without_documents(data)
        about = self._circumstances(caller, seal, examined)
        id_ = new_id(about.now)
        fingerprint = seal.tag("content", (old.id if old else "").encode(), call.content)
        key = None if call.key is None else seal.tag("key", caller.subject.encode(), call.key.encode())

        def change(facts: PatientFacts, rows: dict[str, ConsentRow], receipt: Receipt | None) -> Change:
            if receipt is not None:
                return repeated(receipt, fingerprint)
            row = new_row(id_, data, call.strict, about)
            for lifted in (row.thread, *(() if old is None else (old.id,))):
                refuse_parent(row.body.record.given_by.type, lifted, facts, about.now, about.switches)
            changed: tuple[ConsentRow, ...] = (row,)
            if old is not None:
                changed = in_place_of(current_row(rows, old.id, version, "supersede", allowed_events), row, about)
                row = changed[1]
            after = with_rows(facts, changed, about.switches)
            refuse_without_room(after, row.id)
            kept = None if key is None else Receipt(key, fingerprint, answer_of(row), about.now)
            return Change(answer_of(row), changed, after, kept)

        made = await self.changes.change_records(data["patient"], (old.id,) if old else (), key, change)
        return self._told(made)

    async def verify(
        self, caller: Caller, row: ConsentRow, version: int, verification: Mapping[str, Any]
    ) -> dict[str, Any]:
        """
        Write down what was verified: a signature, a representative's powers, the entry of a paper (order §9–11).

        A permit opens once all that its form asks for is verified; one finding against it rejects it.

        Raises:
            RegistryError: not a draft, another version, or the verification itself lacks something.
            NotConfiguredError: there is no key.
        """
        seal = required(self.seal)
        document = unverified_document(unsealed(row, seal)["document"], row.body.attested)
        refuse_own_giver(caller, document)
        await self._refuse_somebody_else(caller, row.patient, owner_tags(document, seal))
        examined = await examine(self.signatures, document, verification, self.now())
        verification = without_documents({"verification": verification})["verification"]
        about = self._circumstances(caller, seal, examined)

        def change(facts: PatientFacts, rows: dict[str, ConsentRow], _: Receipt | None) -> Change:
            changed = verified(current_row(rows, row.id, version, "verify", allowed_events), verification, about)
            return Change(answer_of(changed), (changed,), with_rows(facts, (changed,), about.switches))

        return self._told(await self.changes.change_records(row.patient, (row.id,), None, change))

    async def withdraw(self, caller: Caller, id_: str, patient: str, version: int | None = None) -> dict[str, Any]:
        """
        Withdraw a document, full record or not; one that is withdrawn keeps its instant.

        The desk withdraws permits; a refusal is lifted by the patient or the representative alone, and that of an
        adolescent by no parent.

        Raises:
            RegistryError: another version than *version*, or there is nothing to withdraw any more.
        """
        return await self._end(caller, id_, patient, version, "withdraw")

    async def enter_in_error(self, caller: Caller, row: ConsentRow, version: int) -> dict[str, Any]:
        """
        Mark a permit as written down by mistake, as if it had never been; a refusal cannot be.

        Raises:
            RegistryError: another version, or it cannot be from this status.
        """
        return await self._end(caller, row.id, row.patient, version, "enter-in-error")

    async def _end(self, caller: Caller, id_: str, patient: str, version: int | None, event: str) -> dict[str, Any]:
        now, switches = self.now(), self.vocabulary().switches

        def change(facts: PatientFacts, rows: dict[str, ConsentRow], _: Receipt | None) -> Change:
            current = current_row(rows, id_, version, event, allowed_events)
            if current.effect == "deny" and (caller.desk or event == "enter-in-error"):
                raise RegistryError("refusal-stands", "a refusal is lifted by the patient or the representative alone")
            refuse_parent(caller.basis, id_, facts, now, switches)
            if current.status == "revoked":
                return Change(answer_of(current))
            changed = moved(current, event, caller, now)
            return Change(answer_of(changed), (changed,), with_rows(facts, (changed,), switches))

        if await self.store.find_record(id_) is not None:
            return self._told(await self.changes.change_records(patient, (id_,), None, change))
        # On record only as decisions see it: from before there were full records, or imported.

        def ended(facts: PatientFacts) -> PatientFacts:
            refuse_parent(caller.basis, id_, facts, now, switches)
            return withdrawn(facts, id_, now)

        await self.changes.change_patient(patient, ended)
        return {"consent": id_, "token": self.token()}

    async def page(self, patient: str, org: str | None, after: str, limit: int) -> list[dict[str, Any]]:
        """Return a page of a patient's records without what names people; *org* narrows to one organisation's."""
        return [describe(row) for row in await self.store.list_records(patient, org, after, limit)]

    def open(self, row: ConsentRow) -> dict[str, Any]:
        """
        Return the whole document as it was handed in, with what was verified.

        Raises:
            RecordUnreadableError: the sealed part does not open.
            NotConfiguredError: there is no key.
        """
        return unsealed(row, required(self.seal))

    async def _refuse_somebody_else(self, caller: Caller, patient: str, tags: tuple[bytes, ...]) -> None:
        """
        Refuse to tie a patient to a second identification number, or a number to a second patient.

        Only the desk is told: anybody else would learn who is on record here.  What they
        hand in opens nothing until the desk verifies it.
        """
        if caller.desk and tags and await self.store.is_somebody_else(patient, tags):
            raise RegistryError("identity-conflict", "verified records tie this patient or this number to another")

    def _circumstances(self, caller: Caller, seal: RecordSeal, examined: Examined) -> Circumstances:
        vocabulary = self.vocabulary()
        return Circumstances(caller, self.now(), catalogue_of(vocabulary), vocabulary.switches, seal, examined)

    def _told(self, made: Change) -> dict[str, Any]:
        return {**msgspec.json.decode(made.answer), "token": self.token()}
