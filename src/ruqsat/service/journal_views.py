"""
Who looks at the journal: the patient or a representative, row by row; the privacy office, entry by entry.

Who may look was decided before, and that decision stands in the journal itself.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple, Protocol

import msgspec

from ruqsat.core.access_log import Access, Viewer, access_shown
from ruqsat.core.facts import Facts
from ruqsat.core.instant import Instant
from ruqsat.core.journal_filter import Found, JournalFilter, Spot
from ruqsat.core.journal_proof import Receipt
from ruqsat.core.journaled import Journaled
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.service.page_cursor import PageCursors

MOST_EXPORTED = 50_000
"""How many entries may be exported at once; whoever wants more asks for them month by month."""

_EXPORT_PAGE = 500


class TooMuchError(RequestError):
    """More is asked for than may leave at once."""

    code = "too-much"


class Pages(Protocol):
    """Where the journal is read."""

    async def page(
        self, wanted: JournalFilter, after: Spot | None, limit: int, shown: Callable[[Journaled], Any]
    ) -> tuple[list[tuple[Any, Found]], Spot | None]:
        """Return entries of which *shown* makes something, and where to go on."""
        ...

    async def count(self, wanted: JournalFilter, most: int) -> int:
        """Return how many there are, counting no further than *most*."""
        ...


class Information(Protocol):
    """Where facts are read."""

    async def fetch(self, subject: str | None, patient: str | None) -> Facts:
        """Return usable facts of both."""
        ...


class Receipts(Protocol):
    """Where receipts are made."""

    async def find(self, entry: str, *, without_personal: bool = False) -> tuple[Receipt, Journaled]:
        """Return the receipt of an entry of this sidecar's journal, and what the entry says."""
        ...


class Looking(NamedTuple):
    """
    Who looks, at which page, how much of it there is to be, and how far back.

    ``since`` is the earliest moment where the filter itself states none: it moves with the
    clock, and a cursor is not bound to it.
    """

    caller: str
    cursor: str | None
    limit: int
    since: Instant = 0


class JournalViews:
    """
    The views.

    Args:
        token_key: The store's; cursors are sealed with a key derived from it.
        receipts: Of this sidecar's own journal.
        policy_set: The set in force, for its switches and the titles of laws.
        now: The present moment, its earlier bound.
    """

    def __init__(
        self, pages: Pages, information: Information, token_key: bytes,
        policy_set: Callable[[], PolicySet], now: Callable[[], Instant],
        receipts: Receipts | None = None,
    ) -> None:  # fmt: skip
        self._pages, self._information = pages, information
        self._cursors = PageCursors(token_key)
        self.policy_set, self.now, self.receipts = policy_set, now, receipts

    async def access_log(
        self, wanted: JournalFilter, viewer: Viewer, looking: Looking
    ) -> tuple[list[Access], str | None]:
        """
        Return a page of one patient's log, newest first, and the cursor of the next.

        Raises:
            CursorRefusedError: the cursor is of another caller, patient, time or view.
            StoreUnavailableError: the journal or the patient's facts could not be read.
        """
        patient = (await self._information.fetch(None, wanted.patient)).patient
        switches, now = self.policy_set().vocabulary.switches, self.now()

        def shown(entry: Journaled) -> Access | None:
            return access_shown(entry, viewer, patient, switches, now)

        rows, cursor = await self._page(viewer, msgspec.structs.replace(wanted, sent=True), looking, shown)
        return [row for row, _ in rows], cursor

    async def entries(self, wanted: JournalFilter, looking: Looking) -> tuple[list[Found], str | None]:
        """Return a page of entries as they stand in the journal; errors as of ``access_log``."""
        rows, cursor = await self._page("journal", wanted, looking, _exactly(wanted))
        return [found for _, found in rows], cursor

    async def refuse_too_much(self, wanted: JournalFilter) -> None:
        """
        Refuse an export that would hold too many entries, before anything of it leaves.

        Raises:
            TooMuchError: it would.
            StoreUnavailableError: no answer in time.
        """
        if await self._pages.count(wanted, MOST_EXPORTED + 1) > MOST_EXPORTED:
            raise TooMuchError(f"expected at most {MOST_EXPORTED} entries: ask for less time, or for less of it")

    async def export(self, wanted: JournalFilter) -> AsyncIterator[Found]:
        """
        Yield all entries, newest first; whoever takes them away has all of them, or the error that ended it.

        Raises:
            StoreUnavailableError: the store failed, or more came meanwhile than may leave at once.
        """
        after: Spot | None = None
        for _ in range(MOST_EXPORTED // _EXPORT_PAGE):
            rows, after = await self._pages.page(wanted, after, _EXPORT_PAGE, _exactly(wanted))
            for _, found in rows:
                yield found
            if after is None:
                return
        raise StoreUnavailableError("more entries came meanwhile than may leave at once")

    async def _page(
        self, view: str, wanted: JournalFilter, looking: Looking, shown: Callable[[Journaled], Any]
    ) -> tuple[list[tuple[Any, Found]], str | None]:
        binding = msgspec.json.encode([view, looking.caller, wanted])
        after = None if looking.cursor is None else self._cursors.open(looking.cursor, binding)
        bounded = msgspec.structs.replace(wanted, since=wanted.since or looking.since)
        rows, end = await self._pages.page(bounded, after, looking.limit, shown)
        return rows, None if end is None else self._cursors.seal(end, binding)


def _exactly(wanted: JournalFilter) -> Callable[[Journaled], Journaled | None]:
    """
    Return what lets an entry pass if a document is asked for and is really among its own.

    The database searches the ids of an entry's documents as one text, without regard to case, and so may find too much.
    """

    def shown(entry: Journaled) -> Journaled | None:
        return entry if wanted.grant is None or wanted.grant in entry.applied else None

    return shown
