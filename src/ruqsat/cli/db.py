"""``ruqsat db``: the tables of the database, and whether its history is the one that is known."""

import asyncio
from typing import Annotated

import typer

from ruqsat.cli.output import console
from ruqsat.settings import load_settings
from ruqsat.stores.migrations import HEAD
from ruqsat.stores.sql_database import current_revision, renew_epoch, upgrade_database

app = typer.Typer(no_args_is_help=True)

Url = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        help="`postgresql://…` or `sqlite:///file` (default: RUQSAT_DATABASE_URL, the place for a password).",
    ),
]


@app.command()
def upgrade(database_url: Url = None) -> None:
    """Bring the tables to the revision that this version serves with; do it before starting a new version."""
    revision = asyncio.run(upgrade_database(_url(database_url)))
    console().print(f"the database is at revision {revision}")


@app.command()
def current(database_url: Url = None) -> None:
    """Tell at which revision the tables are; exit 1 if it is not the one that this version serves with."""
    revision = asyncio.run(current_revision(_url(database_url)))
    at = "has no tables yet" if revision is None else f"is at revision {revision}"
    if revision == HEAD:
        console().print(f"the database {at}")
    else:
        console().print(f"the database {at}, this version serves with {HEAD}: run `ruqsat db upgrade`")
        raise typer.Exit(1)


@app.command()
def restored(database_url: Url = None) -> None:
    """Say that the database was restored from a backup: what sidecars and tokens know of it is no longer compared."""
    epoch = asyncio.run(renew_epoch(_url(database_url)))
    console().print(f"the database is in the new epoch {epoch}")


def _url(given: str | None) -> str:
    return load_settings(auth_listen="off", database_url=given).database_url.get_secret_value()
