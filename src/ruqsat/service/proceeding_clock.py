"""The clock of the proceedings: warnings, terms that are over, offers that lapse, withdrawals that are followed up."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.proceeding import Hour
from ruqsat.errors import StoreUnavailableError

PERIOD: Instant = 60 * SECOND
_log = logging.getLogger(__name__)


class Ticking(Protocol):
    """Where the proceedings are kept."""

    async def tick(self, hour: Hour) -> int:
        """Do what the passing of time does; return how much there was to do."""
        ...


class ProceedingClock:
    """Looks again and again; several processes may, since each thing is written down once."""

    def __init__(self, store: Ticking, hour: Callable[[], Hour], *, enough: int) -> None:
        """Look at *store*; after a look that found *enough* things or more, the next one follows at once."""
        self._store, self._hour, self._enough = store, hour, enough

    async def look(self) -> int:
        """
        Look until nothing is left to say; return how much there was.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        done = 0
        while True:
            found = await self._store.tick(self._hour())
            done += found
            if found < self._enough:
                return done

    async def forever(self, period: Instant = PERIOD) -> None:
        """Look, and wait, until cancelled; failures are logged and survived."""
        while True:
            try:
                await self.look()
            except StoreUnavailableError as error:
                _log.warning("proceedings_not_looked_at code=%s", error.code)
            except Exception:  # noqa: BLE001 - a look that fails must not be the last one
                _log.exception("proceedings_not_looked_at")
            await asyncio.sleep(period / SECOND)
