"""
The registries of delegations, representatives' powers, requests of authorities and break-glass sessions.

The same promises as of consents: who may is the policy's business, settled before; every
change is one transaction of the record, what decisions see of it, and the feed; once a call
returns, no check in this process is answered from before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ruqsat.core.consent_items import catalogue_of
from ruqsat.core.consent_record import Change, Receipt
from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import Instant
from ruqsat.core.registered import GRANT, Kind, RecordRow, ended, moved, told_event, with_record
from ruqsat.core.registered_items import Scene
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.service.consent_changes import Call, Caller, current_row, new_id, repeated
from ruqsat.service.record_changes import (
    answer_of,
    describe,
    new_record,
    person_named,
    refuse_own,
    refuse_stranger,
    unsealed,
    verified,
)
from ruqsat.service.record_seal import RecordSeal, required

RecordChange = Callable[[PatientFacts, dict[str, Any], Receipt | None], Change]


class RecordStore(Protocol):
    """What the registries read."""

    async def find_registered(self, kind: str, id_: str) -> Any:
        """Return one full record of a kind, None for none."""
        ...

    async def list_registered(self, kind: str, patient: str, org: str | None, after: str, limit: int) -> list[Any]:
        """Return a page of a patient's records of a kind."""
        ...

    async def find_document(self, kind: str, document: str) -> str | None:
        """Return whose document this is, full record or not."""
        ...


class Changes(Protocol):
    """The way in for changes, and to facts: the information point."""

    async def change_records(
        self, patient: str, wanted: tuple[str, ...], key: bytes | None, change: RecordChange, kind: str
    ) -> Change:
        """Change records and facts together, or neither."""
        ...

    async def change_patient(self, patient: str, change: Callable[[PatientFacts], PatientFacts]) -> Position:
        """Replace a patient's facts by what *change* makes of them."""
        ...

    async def fetch(self, subject: str | None, patient: str | None) -> Facts:
        """Return usable facts of both."""
        ...


@dataclass(frozen=True)
class RecordRegistry:
    """
    The use cases of one kind.

    Attributes:
        seal: None where no key is set: then only ending works, which must never wait for a key.
        vocabulary: The words and switches in force at this moment.
        token: The consistency token of what is known now.
        now: The present moment, its earlier bound.
    """

    kind: Kind
    store: RecordStore
    changes: Changes
    seal: RecordSeal | None
    vocabulary: Callable[[], Vocabulary]
    token: Callable[[], str]
    now: Callable[[], Instant]

    async def find(self, id_: str) -> tuple[str | None, RecordRow | None]:
        """Return whose record it is, None for nobody's, and the full record, if there is one."""
        row: RecordRow | None = await self.store.find_registered(self.kind.name, id_)
        return (await self.store.find_document(self.kind.name, id_) if row is None else row.patient), row

    async def office_of(self, patient: str, consent: str | None) -> str | None:
        """Return the organisation that a patient's consent is given to; its desk keeps what the consent names."""
        row = None if consent is None else await self.store.find_registered("consent", consent)
        return row.org if row is not None and row.patient == patient else None

    async def keeper_of(self, patient: str, id_: str) -> str | None:
        """
        Return whose desk keeps a document that has no full record here; None if no organisation is known for it.

        A delegation belongs to the organisation of the consent that names it; of anything else none is known.
        """
        facts = (await self.changes.fetch(None, patient)).patient
        delegations = () if facts is None or self.kind.name != "delegation" else facts.delegations
        consent = next((each.consent for each in delegations if each.id == id_), None)
        return await self.office_of(patient, consent)

    async def create(
        self, caller: Caller, data: Mapping[str, Any], call: Call, org: str | None = None
    ) -> dict[str, Any]:
        """
        Write a record down; one that fails an item is kept, invalid, and opens nothing.

        A session is opened by ``BreakGlass`` alone, which counts them.

        Returns:
            Id, status, version, failing items, token.

        Raises:
            RegistryError: it is refused, and why; nothing was changed.
            NotConfiguredError: there is no key.
        """
        if self.kind is GRANT:
            raise ValueError("a session is opened where openings are counted")
        kind, seal, patient = self.kind, required(self.seal), data["patient"]
        named = person_named(kind, data)
        names_owner = await self._is_owner(patient, named)
        if not names_owner:
            refuse_own(caller, named)
        now, vocabulary = self.now(), self.vocabulary()
        made_id = new_id(now)
        fingerprint = seal.tag("content", kind.name.encode(), call.content)
        chosen = (kind.name.encode(), caller.subject.encode(), (call.key or "").encode())
        key = None if call.key is None else seal.tag("key", *chosen)
        wanted = (data["id"],) if data.get("id") else ()

        def change(facts: PatientFacts, rows: dict[str, Any], receipt: Receipt | None) -> Change:
            if receipt is not None:
                return repeated(receipt, fingerprint)
            words, switches = catalogue_of(vocabulary), vocabulary.switches
            scene = Scene(now, words, switches, facts, caller.subject, names_owner, org, taken=bool(rows))
            row = new_record(kind, made_id, data, scene, seal, strict=call.strict)
            answer = answer_of(row)
            kept = None if key is None else Receipt(key, fingerprint, answer, now)
            return Change(answer, (row,), self._seen(facts, row), kept)

        return self._told(await self.changes.change_records(patient, wanted, key, change, kind.name))

    async def verify(self, caller: Caller, row: RecordRow, version: int, check: Mapping[str, Any]) -> dict[str, Any]:
        """
        Write down what was verified: who the delegate is, a power (§11), that a request is the authority's (§13).

        Raises:
            RegistryError: another version or status, the check itself lacks something, or it lets the caller act.
            NotConfiguredError: there is no key.
        """
        refuse_own(caller, row.body.said.get("subject"), row.body.said.get("delegate"), check.get("subject"))
        seal, names_owner = required(self.seal), await self._is_owner(row.patient, check.get("subject"))

        def changed(now: Instant, before: RecordRow) -> RecordRow:
            return verified(self.kind, before, check, names_owner, caller, now, seal)

        return await self._change(row, version, "verify", changed)

    async def end(
        self, caller: Caller, id_: str, patient: str, row: RecordRow | None, version: int | None, event: str
    ) -> dict[str, Any]:
        """
        End a record, full or not; what has ended keeps its instant.

        Raises:
            RegistryError: not the caller's to end, another version, or there is nothing to end any more.
        """
        if row is None:
            # On record only as decisions see it: from before there were full records, or imported.
            now = self.now()

            def change(facts: PatientFacts) -> PatientFacts:
                for each in getattr(facts, self.kind.facts):
                    if each.id == id_:
                        refuse_stranger(self.kind, msgspec.structs.asdict(each), event, caller)
                return ended(self.kind, facts, id_, now)

            await self.changes.change_patient(patient, change)
            return {"id": id_, "token": self.token()}
        refuse_stranger(self.kind, row.body.said, event, caller)
        return await self._change(
            row, version, event, lambda now, before: moved(self.kind, before, event, caller.subject, now, {})
        )

    async def _change(
        self, row: RecordRow, version: int | None, event: str, changed: Callable[[Instant, RecordRow], RecordRow]
    ) -> dict[str, Any]:
        kind, now = self.kind, self.now()

        def change(facts: PatientFacts, rows: dict[str, Any], _: Receipt | None) -> Change:
            before: RecordRow = current_row(rows, row.id, version, told_event(event), kind.events)
            if kind.moves[event][before.status] == before.status and event in kind.marks:
                return Change(answer_of(before))
            after = changed(now, before)
            return Change(answer_of(after), (after,), self._seen(facts, after))

        return self._told(await self.changes.change_records(row.patient, (row.id,), None, change, kind.name))

    def _seen(self, facts: PatientFacts, row: RecordRow) -> PatientFacts | None:
        """Return the facts with the record as it is now, None where decisions see no difference."""
        after = with_record(self.kind, facts, row)
        return None if after == facts else after

    async def page(self, patient: str, org: str | None, after: str, limit: int) -> list[dict[str, Any]]:
        """Return a page of a patient's records without what names people; *org* narrows to one organisation's."""
        rows = await self.store.list_registered(self.kind.name, patient, org, after, limit)
        return [self.describe(row) for row in rows]

    def describe(self, row: RecordRow) -> dict[str, Any]:
        """Return a record without what names people."""
        return describe(row, self.vocabulary().switches.btg.review_within_hours)

    def open(self, row: RecordRow) -> dict[str, Any]:
        """
        Return the document as it was handed in, with what was verified and found.

        Raises:
            RecordUnreadableError: the sealed part does not open.
            NotConfiguredError: there is no key.
        """
        return unsealed(row, required(self.seal))

    async def _is_owner(self, patient: str, subject: str | None) -> bool:
        """Tell whether a subject is the patient, as the directory says."""
        if subject is None or subject == patient:
            return subject is not None
        known = (await self.changes.fetch(subject, None)).subject
        return known is not None and known.patient_id == patient

    def _told(self, made: Change) -> dict[str, Any]:
        return {**msgspec.json.decode(made.answer), "token": self.token()}
