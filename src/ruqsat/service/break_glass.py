"""
The life of break-glass sessions: opening, review queue, what time brings, and the right to open them.

Who may is the policy's business, settled and journaled before.  Each use case is one transaction of the
session, what decisions see of it and of its clinician, the feed, and the notices: none is there without the others.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from ruqsat.core.break_glass import (
    Found,
    Made,
    Opening,
    RightEvent,
    SessionChange,
    Wanted,
    anomaly_of,
    overdue,
    refusal,
    settled,
    ward_of,
    with_opening,
    with_right,
    works_for,
)
from ruqsat.core.break_glass import describe as describe_waiting
from ruqsat.core.consent_items import catalogue_of
from ruqsat.core.consent_record import Receipt, Step
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Instant, local_midnight, render_instant
from ruqsat.core.registered import GRANT, RecordRow, told_event, with_record
from ruqsat.core.registered_items import Scene
from ruqsat.core.session_notice import About, of_opening, to_office
from ruqsat.core.vocabulary import Vocabulary
from ruqsat.errors import JournalError, StoreUnavailableError
from ruqsat.service.consent_changes import Call, Caller, RegistryError, current_row, repeated
from ruqsat.service.entries import Named
from ruqsat.service.record_changes import answer_of, describe, new_record, refuse_stranger, reinstated, reviewed
from ruqsat.service.record_seal import RecordSeal, required

LOOK_SECONDS = 30.0
PAGE = 100

_log = logging.getLogger(__name__)

_DETAILS = {
    "suspended": "the right to break the glass is suspended",
    "no_episode": "no emergency or urgent episode of the own organisation is open for this patient",
    "rate_limited": "too many sessions were opened today",
    "second_person": "a further session for this patient is confirmed by a second person of the organisation",
}


class Waiting(Protocol):
    """What is read of sessions that wait for a review."""

    async def list_waiting(
        self, org: str, due_before: Instant | None, after: tuple[Instant, str], limit: int
    ) -> list[tuple[Opening, Any]]:
        """Return an organisation's, with their records, as they are due."""
        ...

    async def list_unfound(self, due_before: Instant, after: tuple[Instant, str], limit: int) -> list[Opening]:
        """Return everybody's that were not found overdue before, as they are due."""
        ...


class Changes(Protocol):
    """The way in for changes, and to facts: the information point."""

    async def change_session(self, wanted: Wanted, change: SessionChange) -> Made:
        """Change a session with its patient, clinician and notices, or nothing."""
        ...

    async def fetch(self, subject: str | None, patient: str | None) -> Facts:
        """Return usable facts of both."""
        ...


class SessionEntry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: what time or a review brought; whose session, and by whom, stands beside the chain."""

    kind: str
    at: str
    event: str
    org: str | None = None


class Ask(Struct, frozen=True):
    """
    How a session is opened.

    Attributes:
        id: The session's, which the journal's entry names already.
        entry: Id of the decision that let it be opened.
        org: What the token says of the organisation.
        second: Who confirms it beside the clinician, and was let in as one who may; whose its token says that it is.
    """

    id: str
    entry: str
    org: str | None
    mfa: bool = False
    second: tuple[str, str | None] | None = None


@dataclass(frozen=True)
class BreakGlass:
    """
    The use cases.

    Attributes:
        seal: None where no key is set: then sessions are closed and revoked, and none is opened.
        vocabulary: The words and switches in force at this moment.
        token: The consistency token of what is known now.
        now: The present moment, its earlier bound.
        tell: Puts an entry into the journal, and beside it whom it names.
    """

    store: Waiting
    changes: Changes
    seal: RecordSeal | None
    vocabulary: Callable[[], Vocabulary]
    token: Callable[[], str]
    now: Callable[[], Instant]
    tell: Callable[[Struct, Named], Awaitable[None]]

    async def open(self, caller: Caller, data: Mapping[str, Any], call: Call, ask: Ask) -> dict[str, Any]:
        """
        Open a session; what fails an item is kept, invalid, and opens nothing.

        Raises:
            RegistryError: it is refused, and why; nothing was changed.
            NotConfiguredError: there is no key.
        """
        seal, vocabulary, now = required(self.seal), self.vocabulary(), self.now()
        second = None if ask.second is None else ask.second[0]
        known = (await self.changes.fetch(caller.subject, None)).subject
        org = works_for(known, ask.org)
        fingerprint = seal.tag("content", GRANT.name.encode(), call.content)
        chosen = (GRANT.name.encode(), caller.subject.encode(), (call.key or "").encode())
        ward, switches = ward_of(known, org), vocabulary.switches
        wanted = Wanted(
            caller.subject, data["patient"], None, org, second, ward,
            local_midnight(now, switches.home_utc_offset_hours),
            None if call.key is None else seal.tag("key", *chosen),
        )  # fmt: skip

        def change(found: Found) -> Made:
            if found.receipt is not None:
                return Made(repeated(found.receipt, fingerprint).answer)
            scene = Scene(now, catalogue_of(vocabulary), switches, found.facts, caller.subject, False, org, ask.mfa)
            row = _confirmed(new_record(GRANT, ask.id, data, scene, seal, strict=call.strict), second, now)
            answer = answer_of(row)
            receipt = None if wanted.key is None else Receipt(wanted.key, fingerprint, answer, now)
            if row.status != "open":
                return Made(answer, row, receipt=receipt)
            why = refusal(found, org, ask.second, now, switches)
            if why or found.subject is None:
                raise RegistryError(f"break-glass-{why.replace('_', '-')}", _DETAILS[why])
            anomaly = anomaly_of(found.rates, switches)
            opening = Opening(
                row.id, caller.subject, row.patient, org, ward, now, row.body.said["review_due"], anomaly
            )  # fmt: skip
            return Made(
                answer, row, with_record(GRANT, found.facts, row), with_opening(found.subject, row.id, now, switches),
                opening, None, of_opening(_about(opening), ask.entry, anomaly, now), receipt,
            )  # fmt: skip

        return self._told(await self.changes.change_session(wanted, change))

    async def review(
        self, caller: Caller, row: RecordRow, version: int, review: Mapping[str, Any], org: str | None = None
    ) -> dict[str, Any]:
        """
        Write down what somebody else found of a session; misuse suspends its clinician's right in the same transaction.

        Args:
            org: What the caller's token says of the organisation.

        Raises:
            RegistryError: the own one, one of another organisation, one that the reviewer has had a hand in or that
                still runs, another version or status.
            NotConfiguredError: there is no key.
        """
        seal, now = required(self.seal), self.now()
        await self._refuse_outsider(caller, row, "review", org)
        clinician: str = row.body.said["subject"]

        about = About(row.id, clinician, row.patient, row.org)

        def change(found: Found) -> Made:
            before = _current(found, row.id, version, review["verdict"])
            after = reviewed(before, review, caller, now, seal)
            late = self._late(found, about, now)  # time makes it so, whether or not anybody has looked
            opening = settled(late.opening or found.opening, review["verdict"], now) or late.opening
            made = msgspec.structs.replace(late, answer=answer_of(after), row=after, opening=opening)
            if review["verdict"] != "misuse":
                return made
            return msgspec.structs.replace(
                made, subject=with_right(found.subject, suspended=True),
                right=_right(about, now, "suspended", "misuse", caller.subject),
                notices=(*late.notices[:1], to_office(about, "suspended", now)),
            )  # fmt: skip

        made = await self.changes.change_session(Wanted(clinician, row.patient, row.id), change)
        await self._tell_made(made, about, now)
        return self._told(made)

    async def reinstate(
        self, caller: Caller, row: RecordRow, version: int, note: str, org: str | None = None
    ) -> dict[str, Any]:
        """
        Lift the suspension of a session's clinician, with the reason for it; never the own one.

        Args:
            org: What the caller's token says of the organisation.

        Raises:
            RegistryError: the own, another organisation's, another version, or the right is not suspended.
            NotConfiguredError: there is no key.
        """
        seal, now = required(self.seal), self.now()
        await self._refuse_outsider(caller, row, "reinstate", org)
        clinician: str = row.body.said["subject"]
        about = About(row.id, clinician, row.patient, row.org)

        def change(found: Found) -> Made:
            before = _of_version(found, version)
            subject = with_right(found.subject, suspended=False)
            if subject is None:
                raise RegistryError("wrong-status", "the right of this clinician is not suspended")
            after = reinstated(before, note, caller, now, seal)
            return Made(
                answer_of(after), after, subject=subject, right=_right(about, now, "lifted", "office", caller.subject),
                notices=(to_office(about, "lifted", now),),
            )  # fmt: skip

        made = await self.changes.change_session(Wanted(clinician, row.patient, row.id), change)
        await self._tell_made(made, about, now)
        return self._told(made)

    async def queue(
        self, org: str, due_before: Instant | None, after: tuple[Instant, str], limit: int
    ) -> list[tuple[Opening, dict[str, Any]]]:
        """Return a page of an organisation's sessions that wait for a review, overdue or not, as they are due."""
        hours, now = self.vocabulary().switches.btg.review_within_hours, self.now()
        found = await self.store.list_waiting(org, due_before, after, limit)
        return [(each, describe_waiting(each, describe(row, hours), now)) for each, row in found]

    async def look(self, now: Instant) -> int:
        """
        Find the sessions whose review is overdue at *now*; return how many nobody had found before.

        Each is told of once, however many processes look; as many of one clinician's as ``overdue_suspends``
        says suspend the right.  One that cannot be read is passed by, and logged.
        """
        count, after = 0, (0, "")
        while page := await self.store.list_unfound(now + 1, after, PAGE):
            after = (page[-1].due, page[-1].id)
            for opening in page:
                try:
                    count += await self._find_overdue(opening, now)
                except Exception:  # noqa: BLE001 - nothing is told of this one; the next may be fine
                    _log.exception("overdue_review_not_found session=%s", opening.id)
        return count

    async def look_forever(self) -> None:
        """Look again and again; what the store or a policy refuses is looked at the next time."""
        while True:
            try:
                await self.look(self.now())
            except StoreUnavailableError:
                _log.warning("overdue_reviews_not_looked_for")
            except Exception:  # noqa: BLE001 - a look that fails must not be the last one
                _log.exception("overdue_reviews_not_looked_for")
            await asyncio.sleep(LOOK_SECONDS)

    async def _find_overdue(self, opening: Opening, now: Instant) -> bool:
        about = _about(opening)
        made = await self.changes.change_session(
            Wanted(opening.subject, opening.patient, opening.id), lambda found: self._late(found, about, now)
        )
        await self._tell_made(made, about, now)
        return made.opening is not None

    def _late(self, found: Found, about: About, now: Instant) -> Made:
        """Return what comes of a review that is found overdue at *now*: nothing, if it is not, or was before."""
        late = overdue(found.opening, now)
        if late is None:
            return Made()
        notices = (to_office(about, "review_overdue", now),)
        most = self.vocabulary().switches.btg.rates.overdue_suspends
        subject = with_right(found.subject, suspended=True) if found.overdue + 1 >= most else None
        if subject is None:
            return Made(opening=late, notices=notices)
        right = _right(about, now, "suspended", "overdue", None)
        return Made(
            subject=subject, opening=late, right=right, notices=(*notices, to_office(about, "suspended", now))
        )  # fmt: skip

    async def office_of(self, caller: str, claimed: str | None) -> str | None:
        """Return the organisation of an officer, as the directory says; None where the token claims another."""
        known = (await self.changes.fetch(caller, None)).subject
        return None if known is None else works_for(known, claimed)

    async def _refuse_outsider(self, caller: Caller, row: RecordRow, event: str, org: str | None) -> None:
        refuse_stranger(GRANT, row.body.said, event, caller)
        if row.org is not None and await self.office_of(caller.subject, org) != row.org:
            raise RegistryError("not-yours", "a session is judged by the privacy office of its own organisation")

    async def _tell_made(self, made: Made, about: About, now: Instant) -> None:
        if made.opening is not None and made.opening.overdue_at == now:
            await self._tell_entry("review_overdue", now, about)
        if made.right is not None:
            await self._tell_entry(made.right.event, now, about, made.right.by)

    async def _tell_entry(self, event: str, now: Instant, about: About, by: str | None = None) -> None:
        entry = SessionEntry("break_glass", render_instant(now), event, about.org)
        named = Named(about.subject, () if by is None else (by,), resource=about.session)
        try:
            await self.tell(entry, named)
        except JournalError:
            _log.warning("break_glass_not_journaled event=%s", event)  # the tables hold it

    def _told(self, made: Made) -> dict[str, Any]:
        return {**msgspec.json.decode(made.answer), "token": self.token()}


def _about(opening: Opening) -> About:
    return About(opening.id, opening.subject, opening.patient, opening.org)


def _right(about: About, now: Instant, event: str, cause: str, by: str | None) -> RightEvent:
    return RightEvent(f"{about.session}|{event}|{cause}|{now}", about.subject, now, event, cause, about.session, by)


def _confirmed(row: RecordRow, second: str | None, now: Instant) -> RecordRow:
    if second is None:
        return row
    steps = (*row.body.steps, Step("confirm", now, second))
    return msgspec.structs.replace(row, body=msgspec.structs.replace(row.body, steps=steps))


def _current(found: Found, id_: str, version: int, verdict: str) -> RecordRow:
    rows = {} if found.row is None else {id_: found.row}
    return current_row(rows, id_, version, told_event(verdict), GRANT.events)


def _of_version(found: Found, version: int) -> RecordRow:
    if found.row is None:
        raise RegistryError("no-full-record", "there is no full record by this id")
    if found.row.version != version:
        raise RegistryError("version-conflict", "the record was changed since it was read: read it again")
    return found.row
