"""``ruqsat journal prune``: old segments that the database has are deleted here."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.journal_database import existing_url
from ruqsat.cli.output import console
from ruqsat.core.instant import HOUR
from ruqsat.errors import JournalError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.journal_prune import Pruned, prune_journal
from ruqsat.stores.sql_database import UPGRADE_SECONDS, open_database
from ruqsat.stores.sql_duties import SqlDuties


def prune(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: RUQSAT_JOURNAL_DIR.")] = None,
    older_than: Annotated[
        int | None, typer.Option(min=1, metavar="DAYS", help="Default: RUQSAT_JOURNAL_KEEP_DAYS.")
    ] = None,
    database_url: Annotated[str | None, typer.Option("--database-url", help="Default: RUQSAT_DATABASE_URL.")] = None,
) -> None:
    """
    Delete segments of a journal that are old, and in the database line by line.

    The last segment always stays.  On SQLite, while nothing is served from the database.
    """
    settings = load_settings(auth_listen="off", database_url=database_url, journal_dir=folder)
    told = asyncio.run(_prune(settings, older_than or settings.journal_keep_days))
    console().print(f"{told.segments} deleted; segment {told.first} stays: {told.because}")


async def _prune(settings: Settings, days: int) -> Pruned:
    database = open_database(existing_url(settings))
    lane = database.writer()
    before = time.time_ns() // 1000 - days * 24 * HOUR
    try:
        await lane.run(database.prepare, UPGRADE_SECONDS, commit=True)
        return await prune_journal(settings.journal_dir, SqlDuties(lane), before)
    except OSError as error:
        raise JournalError(f"`{settings.journal_dir}` cannot be pruned: {error.strerror}") from error
    finally:
        await lane.aclose()
        database.release()
