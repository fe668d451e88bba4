"""``ruqsat db``: the tables of the database, and whether its history is the one that is known."""

import asyncio
from functools import partial
from typing import Annotated

import typer

from ruqsat.cli.journal_database import existing_url
from ruqsat.cli.output import console
from ruqsat.core.consent_record import ConsentRow
from ruqsat.core.proceeding import ProceedingRow
from ruqsat.core.registered import RecordRow
from ruqsat.errors import SettingsError
from ruqsat.service import consent_changes, proceeding_changes, record_changes
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal
from ruqsat.settings import load_settings
from ruqsat.stores.migrations import HEAD, way_on
from ruqsat.stores.sql_database import current_revision, renew_epoch, upgrade_database
from ruqsat.stores.sql_reseal import reseal_notices, reseal_records

app = typer.Typer(no_args_is_help=True, help="Upgrade the tables of the database.")

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
    revision = asyncio.run(current_revision(_existing(database_url)))
    at = "has no tables yet" if revision is None else f"is at revision {revision}"
    if revision == HEAD:
        console().print(f"the database {at}")
    else:
        console().print(f"the database {at}, this version serves with {HEAD}: {way_on(revision)}")
        raise typer.Exit(1)


@app.command()
def restored(database_url: Url = None) -> None:
    """Say that the database was restored from a backup: what sidecars and tokens know of it is no longer compared."""
    epoch = asyncio.run(renew_epoch(_existing(database_url)))
    console().print(f"the database is in the new epoch {epoch}")


@app.command()
def reseal(
    database_url: Url = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Records a transaction.")] = 200,
) -> None:
    """Seal what is under RUQSAT_RECORD_KEY_PREVIOUS under RUQSAT_RECORD_KEY; safe to stop and to run again."""
    from ruqsat.wiring import record_seal  # noqa: PLC0415 - the other commands need no process

    settings = load_settings(auth_listen="off", database_url=database_url)
    seal = record_seal(settings)
    if seal is None:
        raise SettingsError("records are sealed under a key: set RUQSAT_RECORD_KEY or RUQSAT_RECORD_KEY_FILE")
    url = existing_url(settings)
    records = asyncio.run(reseal_records(url, partial(_resealed, seal=seal), batch))
    notices = asyncio.run(reseal_notices(url, NoticeBodies(seal).resealed, batch))
    for what, told in (("records", records), ("notices", notices)):
        console().print(
            f"{told.resealed} {what} sealed under the new key, {told.current} were already; "
            f"{told.changed} changed meanwhile, {told.unreadable} open under no key"
        )
    if any(told.changed or told.unreadable for told in (records, notices)):
        console().print("keep the key before, and run this again")
        raise typer.Exit(1)


def _resealed(
    row: ConsentRow | RecordRow | ProceedingRow, seal: RecordSeal
) -> ConsentRow | RecordRow | ProceedingRow | None:
    if isinstance(row, ProceedingRow):
        return proceeding_changes.resealed(row, seal)
    return consent_changes.resealed(row, seal) if isinstance(row, ConsentRow) else record_changes.resealed(row, seal)


def _url(given: str | None) -> str:
    return load_settings(auth_listen="off", database_url=given).database_url.get_secret_value()


def _existing(given: str | None) -> str:
    return existing_url(load_settings(auth_listen="off", database_url=given))
