"""The database that a journal is shipped to, for commands that change what it holds of it."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ruqsat.errors import SettingsError
from ruqsat.settings import Settings
from ruqsat.stores.sql_database import UPGRADE_SECONDS, is_postgres, open_database
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sqlite_file import parse_url

T = TypeVar("T")


def existing_url(settings: Settings) -> str:
    """
    Return the URL of the database; an SQLite file is not made where it is only asked, for an empty one would answer.

    Raises:
        SettingsError: there is no such file.
    """
    url = settings.database_url.get_secret_value()
    if not is_postgres(url) and not (file := parse_url(url)).is_file():
        raise SettingsError(f"RUQSAT_DATABASE_URL: there is no database `{file}`, expected the one that is served from")
    return url


async def with_copies(settings: Settings, work: Callable[[SqlDuties], Awaitable[T]]) -> T:
    """
    Return what *work* makes of the database; nothing that it wrote over or deleted is left in an SQLite file.

    Raises:
        SettingsError: there is no such database, or it is not ours at our revision.
        StoreUnavailableError: it failed.
    """
    database = open_database(existing_url(settings))
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
