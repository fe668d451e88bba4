"""What shippers and deliverers ask of the database, on a lane where nobody else waits."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from time import thread_time

from sqlalchemy import Connection

from ruqsat.core.addressee import Told
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.journaled import GonePart, Lines, Place, Shipped, read_line
from ruqsat.core.notice import represents
from ruqsat.core.outgoing import Attempt, Claimed, Listed, Standing
from ruqsat.core.vocabulary import Switches
from ruqsat.stores import sql_journal, sql_outbox, sql_retention
from ruqsat.stores.sql_journal import MakeNotices
from ruqsat.stores.sql_journal_erasure import (
    AT_ONCE,
    BEFORE_ALL,
    ErasedRows,
    LineKey,
    by_line,
    erase_named,
    erase_parts,
    erase_some,
    mark_erased,
)
from ruqsat.stores.sql_journal_months import KeptMonths, TidyMonths, tidy_months
from ruqsat.stores.sql_lane import Lane
from ruqsat.stores.sql_outbox import Close, Ended

LEASE: Instant = 60 * SECOND
"""How long a notice stays in one hand; a deliverer has a deadline well within it."""

_SECONDS = 5.0
_MANY_SECONDS = 60.0


class SqlDuties:
    """
    The journal and the outbox of a database; every call is one transaction.

    Any call raises StoreUnavailableError: nothing was changed, or, as an
    ``OutcomeUnknownError``, nobody knows; asking again is always safe.
    """

    def __init__(self, lane: Lane, switches: Callable[[], Switches] = Switches) -> None:
        """Work on *lane*, which stays its owner's to close; *switches* are those in force."""
        self._lane, self._switches, self._months = lane, switches, KeptMonths(lane)

    async def ship(self, lines: Lines, make_notices: MakeNotices, close: Close, now: Instant) -> Shipped:
        """Take in lines with their notices; see ``ship_lines``."""

        def work(connection: Connection) -> Shipped:
            began = thread_time()
            shipped = sql_journal.ship_lines(connection, lines, make_notices, close, now)
            return shipped._replace(cpu_seconds=thread_time() - began)

        await self._months.keep_for(lines, now)
        return await self._lane.run(work, _SECONDS, commit=True)

    async def places(self, writers: Collection[str]) -> dict[str, Place]:
        """Return how far the journals of these writers are shipped."""
        return await self._lane.run(lambda connection: sql_journal.read_places(connection, writers), _SECONDS)

    async def count_lines(self, writer: str, segment: int) -> int:
        """Return how many lines of a segment are here."""
        return await self._lane.run(lambda connection: sql_journal.count_lines(connection, writer, segment), _SECONDS)

    async def writers_about(self, patient: str, since: Instant, until: Instant) -> frozenset[str]:
        """Return who wrote the lines about a patient of this time that are here."""
        return await self._lane.run(
            lambda connection: sql_journal.writers_about(connection, patient, since, until), _MANY_SECONDS
        )

    async def first_unlike(self, writer: str, segment: int, lines: Sequence[bytes]) -> tuple[int, bytes] | None:
        """
        Return which of the *lines* of a segment, counted from 0, is the first that is not here byte for byte.

        And what is here in its place, empty for nothing; None if all of them are here.
        """
        for first in range(0, len(lines), sql_retention.AT_ONCE):
            some = lines[first : first + sql_retention.AT_ONCE]
            read = [read_line(line) for line in some]
            rows = await self._lane.run(
                partial(
                    sql_retention.read_rows, writer=writer, segment=segment,
                    numbers=[said.number for said in read if said], moments=[said.moment for said in read if said],
                ),
                _MANY_SECONDS,
            )  # fmt: skip
            for at, (said, line) in enumerate(zip(read, some, strict=True), first):
                there = rows.get(said.number, b"") if said else b""
                if there != line:
                    return at, there
        return None

    async def erase(self, patients: Collection[str], parts: Collection[GonePart], act: str, now: Instant) -> ErasedRows:
        """
        Erase patients from every line and notice here, and *parts* wherever they stand; remember them as erased.

        Many transactions: whoever stops it has erased some, and asking again goes on from there.
        """
        texts = [each.text for each in parts]
        await self._lane.run(lambda connection: mark_erased(connection, texts, act, now), _MANY_SECONDS, commit=True)
        whole = ErasedRows()
        while True:
            some = await self._lane.run(
                lambda connection: erase_some(connection, patients, act, now), _MANY_SECONDS, commit=True
            )
            if not some.writers and not some.notices:
                break
            whole = whole.and_also(some)
        after: LineKey | None = BEFORE_ALL
        while after is not None:
            some, after = await self._lane.run(
                partial(erase_named, patients=patients, act=act, now=now, after=after), _MANY_SECONDS, commit=True
            )
            whole = whole.and_also(some)
        lines = by_line(parts)
        for at in range(0, len(lines), AT_ONCE):
            some = await self._lane.run(
                partial(erase_parts, lines=lines[at : at + AT_ONCE]), _MANY_SECONDS, commit=True
            )
            whole = whole.and_also(some)
        return whole

    async def remove_lines(self, writer: str, segment: int, archived: Sequence[bytes]) -> int:
        """Remove the lines of a segment that are byte for byte those *archived*, many transactions; return how many."""
        read = [(said, line) for line in archived if (said := read_line(line)) is not None]
        numbered, moments = {said.number: line for said, line in read}, {said.number: said.moment for said, _ in read}
        removed, numbers = 0, sorted(numbered)
        for at in range(0, len(numbers), sql_retention.AT_ONCE):
            some = {number: numbered[number] for number in numbers[at : at + sql_retention.AT_ONCE]}
            removed += await self._lane.run(
                partial(
                    sql_retention.remove_lines, writer=writer, segment=segment, archived=some,
                    moments=[moments[number] for number in some],
                ),
                _MANY_SECONDS, commit=True,
            )  # fmt: skip
        return removed

    async def tidy_months(self, now: Instant) -> TidyMonths:
        """Drop the months of the past that hold nothing; see ``tidy_months`` of ``sql_journal_months``."""
        return await tidy_months(self._lane, now)

    async def count_delivered(self, before: Instant) -> int:
        """Return how many delivered notices were settled before an instant."""
        return await self._lane.run(lambda connection: sql_retention.count_delivered(connection, before), _MANY_SECONDS)

    async def remove_delivered(self, before: Instant) -> int:
        """Remove them, many transactions; return how many."""
        removed, some = 0, 1
        while some:
            some = await self._lane.run(
                lambda connection: sql_retention.remove_delivered(connection, before), _MANY_SECONDS, commit=True
            )
            removed += some
        return removed

    async def claim(self, now: Instant, limit: int, claim: str, ended: Ended = lambda notice: None) -> list[Claimed]:
        """Take notices in hand for a minute, those that are due longest first; see ``claim_notices``."""
        switches = self._switches()

        def stands(facts: Told, who: str, moment: Instant) -> bool:
            return represents(facts, who, moment, switches)

        def work(connection: Connection) -> list[Claimed]:
            return sql_outbox.claim_notices(connection, now, limit, LEASE, claim, stands, ended)

        return await self._lane.run(work, _SECONDS, commit=True)

    async def settle(self, attempts: Sequence[Attempt], now: Instant) -> None:
        """Write down how attempts ended."""

        def work(connection: Connection) -> None:
            sql_outbox.settle_notices(connection, attempts, now)

        await self._lane.run(work, _SECONDS, commit=True)

    async def standing(self) -> Standing:
        """Return how many notices wait and how many were given up."""
        return await self._lane.run(sql_outbox.read_standing, _SECONDS)

    async def list_notices(
        self, states: Collection[str], patient: str | None, after: tuple[Instant, str], limit: int,
        org: str | None = None,
    ) -> list[Listed]:  # fmt: skip
        """Return a page of notices in the order they were made."""
        return await self._lane.run(
            lambda connection: sql_outbox.list_notices(connection, states, patient, after, limit, org), _SECONDS
        )

    async def retry(self, keys: Collection[str] | None, reason: str | None, now: Instant) -> int:
        """Have notices tried again; return how many."""

        def work(connection: Connection) -> int:
            return sql_outbox.retry_notices(connection, keys, reason, now)

        return await self._lane.run(work, _SECONDS, commit=True)

    async def set_channel(self, patient: str, channel: str | None, now: Instant) -> None:
        """Have a patient told by *channel* from now on; None is the usual one."""

        def work(connection: Connection) -> None:
            sql_outbox.set_channel(connection, patient, channel, now)

        await self._lane.run(work, _SECONDS, commit=True)
