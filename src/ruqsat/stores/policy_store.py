"""Releases of policy in the database: read by sidecars, written by whoever publishes."""

from functools import partial

from sqlalchemy import Connection

from ruqsat.core.facts import Position
from ruqsat.core.instant import Instant
from ruqsat.core.policy_release import Report, Sidecar, Standing, Step
from ruqsat.stores import sql_policies
from ruqsat.stores.sql import SqlStore

STANDING_SECONDS = 1.0
PACK_SECONDS = 10.0


class PolicyStore:
    """The releases beside the facts of one database."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.token_key = store.token_key

    async def fetch_standing(self, mine: str) -> tuple[Standing, Position]:
        """
        Return what is in force, for whoever decides by the pack at *mine*, and the position it was read at.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._store.run_reading(partial(sql_policies.read_standing, mine=mine), STANDING_SECONDS)

    async def fetch_pack(self, address: str) -> bytes | None:
        """
        Return the bytes kept under *address*, which the caller verifies; None for none.

        Raises:
            StoreUnavailableError: no answer in time.
        """
        return await self._store.run_reading(partial(sql_policies.read_pack, address=address), PACK_SECONDS)

    async def steps(self) -> list[Step]:
        """
        Return the history, oldest first.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._store.run_reading(sql_policies.read_steps, PACK_SECONDS)

    async def reports(self) -> list[Sidecar]:
        """
        Return what each sidecar said last.

        Raises:
            StoreUnavailableError: no answer in time, or one that cannot be trusted.
        """
        return await self._store.run_reading(sql_policies.read_reports, STANDING_SECONDS)

    async def add(self, steps: tuple[Step, ...], texts: dict[str, bytes] | None = None) -> Position:
        """
        Take steps, in one transaction with the pack (if given) that they are about and with the entry of the feed.

        Raises:
            PolicyError: another step came between, or the release is not allowed; nothing was changed.
            StoreUnavailableError: nothing was changed; or, as an ``OutcomeUnknownError``, nobody knows.
        """

        def change(connection: Connection) -> Position:
            if texts is not None:
                sql_policies.add_pack(connection, texts, steps[0].digest)
            return sql_policies.add_steps(connection, steps)

        return await self._store.run_writing(change)

    async def report(self, sidecar: str, at: Instant, report: Report) -> None:
        """
        Replace a sidecar's report.

        Raises:
            StoreUnavailableError: it may not have been replaced.
        """
        await self._store.run_writing(partial(sql_policies.write_report, sidecar=sidecar, at=at, report=report))

    async def leave(self, sidecar: str) -> None:
        """
        Forget a sidecar that stops.

        Raises:
            StoreUnavailableError: it may still stand there.
        """
        await self._store.run_writing(partial(sql_policies.drop_report, sidecar=sidecar))
