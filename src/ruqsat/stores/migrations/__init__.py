"""
How the tables came to be as they are: one revision after another, the same on SQLite and PostgreSQL.

A revision, once released, is never edited.  There is no way back: whoever needs
the tables of an earlier version restores a backup.
"""

import logging
from pathlib import Path

from sqlalchemy import Connection

from ruqsat.errors import SettingsError
from ruqsat.stores.sql_schema import REVISION_TABLE

HEAD = "0013"


def way_on(found: str | None) -> str:
    """
    Return what leads on from tables at the revision *found* (None: there are none), which is not ours.

    Examples:
        >>> way_on("0001")
        'run `ruqsat db upgrade`'
        >>> way_on("9999")
        'a later version made them, serve with that one'
    """
    is_later = found is not None and found > HEAD
    return "a later version made them, serve with that one" if is_later else "run `ruqsat db upgrade`"


def upgrade(connection: Connection) -> None:
    """
    Bring the tables to the newest revision, inside the transaction of *connection*.

    Raises:
        SettingsError: they are at a revision that this version does not know.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # before it is loaded: it tells of each part of itself
    # Alembic takes a while to load, and a database that is up to date does not need it.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    scripts = ScriptDirectory(str(Path(__file__).parent))
    connection.exec_driver_sql("SELECT 1")  # Alembic leaves the transaction to whoever has begun one
    try:
        with EnvironmentContext(Config(), scripts, fn=lambda found, _: scripts._upgrade_revs(HEAD, found)) as run:
            run.configure(connection=connection, version_table=REVISION_TABLE)
            run.run_migrations()
    except CommandError as error:
        raise SettingsError(
            f"the database is at a revision that this version does not know, expected `{HEAD}`"
        ) from error
