"""The database that a journal is shipped to, for commands that change what it holds of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ruqsat.errors import SettingsError
from ruqsat.settings import Settings
from ruqsat.stores.sql_database import UPGRADE_SECONDS, is_postgres, open_database
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sqlite_file import parse_url

T = TypeVar("T")


async def with_copies(settings: Settings, work: Callable[[SqlDuties], Awaitable[T]]) -> T:
    """
    Return what *work* makes of the database; nothing that it wrote over or deleted is left in an SQLite file.

    Raises:
        SettingsError: there is no such database, or it is not ours at our revision.
        StoreUnavailableError: it failed.
    """
    url = settings.database_url.get_secret_value()
    if not is_postgres(url) and not parse_url(url).is_file():
        raise SettingsError("there is no database where RUQSAT_DATABASE_URL says, expected the one that was shipped to")
    database = open_database(url)
    lane = database.writer()
    try:
        await lane.run(database.prepare, UPGRADE_SECONDS, commit=True)
        done = await work(SqlDuties(lane))
        await lane.aclose()
        database.scrub()
        return done
    finally:
        await lane.aclose()
        database.release()
