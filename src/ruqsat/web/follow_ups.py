"""
What an enforcement point may say and ask of its own decisions afterwards, on the JSON listener.

``POST /v1/outcomes`` tells what came of one; ``GET /v1/journal/entries/{id}/receipt`` returns
the proof that it is in the signed journal, to points that may see exact reasons: the line
of the journal holds them, and nothing can be left out of it without breaking the proof.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from ruqsat.core.instant import Instant, render_instant
from ruqsat.core.journal_proof import Receipt
from ruqsat.core.journaled import DECISION, Journaled
from ruqsat.core.outcomes import Outcome
from ruqsat.errors import JournalError, StoreUnavailableError
from ruqsat.service.entries import Named
from ruqsat.service.outcomes import OutcomeRefusedError, Outcomes
from ruqsat.web.enforcement_points import EnforcementPoint
from ruqsat.web.wire import refuse_repeated_members, sentence_of

OUTCOMES = "/v1/outcomes"
ENTRIES, RECEIPT = "/v1/journal/entries/", "/receipt"

STATUS = {"unknown-decision": 404, "not-yours": 403, "not-permitted": 409, "key-reused": 409, "malformed": 400,
          "unknown-entry": 404, "not-signed-yet": 409}  # fmt: skip

Said = tuple[int, bytes | str]
"""Status, and a body of JSON or a sentence."""


class ReceiptEntry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: a receipt of entry ``of`` was handed out."""

    kind: str
    at: str
    listener: str
    of: str
    point: str = ""


class Receipts(Protocol):
    """The receipts of this process's journal."""

    async def find(self, entry: str) -> tuple[Receipt, Journaled]:
        """Return the receipt of an entry, and what it says; raises NoReceiptError."""
        ...


class Record(Protocol):
    """Appends an entry that is no decision, such as that a receipt was handed out."""

    def __call__(self, entry: Struct, named: Named) -> Awaitable[None]:
        """Append an entry; raises JournalError."""
        ...


class FollowUps:
    """Answers both; needs who asks, as the listener knows it."""

    def __init__(
        self, outcomes: Outcomes, receipts: Receipts, record: Record, now: Callable[[], Instant]
    ) -> None:  # fmt: skip
        self._outcomes, self._receipts, self._record, self._now = outcomes, receipts, record, now

    async def report(self, body: bytes, point: EnforcementPoint) -> Said:
        """Take a report: 201 with it, 200 if it had been made before, or why not."""
        try:
            outcome = msgspec.json.decode(body, type=Outcome)
            refuse_repeated_members(body)
        except msgspec.ValidationError as error:
            return 400, sentence_of(error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return 400, "the body is not JSON: expected an object with decision and outcome"
        try:
            is_new = await self._outcomes.report(outcome, point.name)
        except OutcomeRefusedError as error:
            return STATUS[error.code], f"{error.code}: {error}"
        except (JournalError, StoreUnavailableError):
            return 503, "try_later: the outcome could not be recorded now; send it again"
        return 201 if is_new else 200, msgspec.json.encode(outcome)

    async def receipt(self, path: str, point: EnforcementPoint) -> Said:
        """Return the receipt of a decision that *point* asked for, or why there is none."""
        entry = path.removeprefix(ENTRIES).removesuffix(RECEIPT)
        if not point.explain:
            return 403, "not_permitted: a receipt shows the exact reason, which this point is not registered to see"
        try:
            receipt, said = await self._receipts.find(entry)
            is_own = said.point == point.name and (said.listener == "json" or point.name != "")
            if said.kind != DECISION or said.listener == "control" or not is_own:
                return 404, "unknown-entry: the journal of this sidecar has no such decision of this point"
            at = render_instant(self._now())
            await self._record(ReceiptEntry("receipt", at, "json", entry, point.name), Named())
        except JournalError as error:
            if error.code in STATUS:
                return STATUS[error.code], f"{error.code}: {error}"
            return 503, "try_later: the receipt could not be made or recorded now"
        return 200, msgspec.json.encode(receipt)
