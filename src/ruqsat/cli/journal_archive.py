"""``ruqsat journal`` archive and expire: where old segments go, and when they go for good."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ruqsat.cli.journal_database import with_copies
from ruqsat.cli.output import console, plural
from ruqsat.core.instant import HOUR, Instant
from ruqsat.errors import JournalError, SettingsError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.journal_archive import Archived, ArchivedRows, archive_journal, remove_archived_rows
from ruqsat.stores.journal_expiry import Expired, Order, expire_archive
from ruqsat.stores.journal_key import load_signing_key
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_months import TidyMonths

T = TypeVar("T")

Folder = Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: RUQSAT_JOURNAL_DIR.")]
To = Annotated[Path | None, typer.Option("--archive", help="Default: RUQSAT_JOURNAL_ARCHIVE_DIR.")]
Url = Annotated[str | None, typer.Option("--database-url", help="Default: RUQSAT_DATABASE_URL.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    app.command()(archive)
    app.command()(expire)


def archive(
    folder: Folder = None,
    to: To = None,
    older_than: Annotated[
        int | None, typer.Option(min=1, metavar="DAYS", help="Default: RUQSAT_JOURNAL_ONLINE_DAYS.")
    ] = None,
    database_url: Url = None,
    *,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="The journal has no key that signs it.")] = False,
) -> None:
    """
    Move segments into the archive that are old, shipped and signed, and remove their rows from the database.

    On PostgreSQL, a past month of which the database holds nothing more is dropped.
    The last segment always stays.  On SQLite, while nothing is served from the database.
    """
    settings, place = _settings(folder, to, database_url)
    before = _ago(older_than or settings.journal_online_days)

    async def work(copies: SqlDuties) -> tuple[Archived, ArchivedRows, TidyMonths]:
        told = await archive_journal(settings.journal_dir, place, copies, before, signed=not unsigned)
        rows = await remove_archived_rows(settings.journal_dir, place, copies)
        return told, rows, await copies.tidy_months(time.time_ns() // 1000)

    told, rows, months = _run(settings, work, place)
    out = console()
    out.print(f"{plural(told.segments, 'segment')} archived; segment {told.first} stays: {told.because}")
    out.print(f"{plural(rows.removed, 'row')} removed from the database")
    if months.dropped:
        out.print(f"{plural(months.dropped, 'empty month')} dropped there")
    if months.kept:
        out.print(f"{plural(months.kept, 'empty month')} kept for now: the next time tries again")
    if rows.kept:
        out.print(f"{plural(rows.kept, 'row')} kept there: not as they were archived", style="bold red")
        raise typer.Exit(1)


def expire(
    folder: Folder = None,
    archive: To = None,
    *,
    act: Annotated[str, typer.Option(help="How the decision is filed; stays for good, names nobody.")],
    older_than: Annotated[
        int | None, typer.Option(min=1, metavar="DAYS", help="Default: RUQSAT_JOURNAL_RETENTION_DAYS.")
    ] = None,
    database_url: Url = None,
    key_file: Annotated[Path | None, typer.Option(help="Sign the entry at once, with this private key.")] = None,
    name: Annotated[str, typer.Option(help="The journal's name, with a key.")] = "",
) -> None:
    """
    Remove archived segments for good whose term is over, and delivered notices; the journal says what was removed.

    The sidecar that writes this journal must be stopped for it.
    """
    settings, place = _settings(folder, archive, database_url)
    signing = load_signing_key(key_file, name) if key_file else None
    days = older_than or settings.journal_retention_days
    order = Order(_ago(days), act, datetime.now(UTC).isoformat(timespec="seconds"))
    if days < settings.journal_retention_days:
        raise SettingsError(
            f"--older-than {days} is less than the term of {settings.journal_retention_days} days that "
            "RUQSAT_JOURNAL_RETENTION_DAYS sets: expected the term itself, or another one set there"
        )

    async def work(copies: SqlDuties) -> Expired:
        return await expire_archive(settings.journal_dir, place, copies, order, key=signing)

    told = _run(settings, work, place)
    out = console()
    out.print(f"{plural(told.segments, 'segment')} and {plural(told.notices, 'notice')} removed for good")
    out.print(f"segment {told.first} stays: {told.because}" if told.first else told.because)


def _settings(folder: Path | None, archive: Path | None, database_url: str | None) -> tuple[Settings, Path]:
    settings = load_settings(
        auth_listen="off", database_url=database_url, journal_dir=folder, journal_archive_dir=archive
    )  # fmt: skip
    if settings.journal_archive_dir is None:
        raise SettingsError("no archive is set, expected --archive or RUQSAT_JOURNAL_ARCHIVE_DIR")
    if settings.journal_archive_dir.resolve() == settings.journal_dir.resolve():
        raise SettingsError("the archive is the journal's own folder, expected another one")
    return settings, settings.journal_archive_dir


def _ago(days: int) -> Instant:
    return time.time_ns() // 1000 - days * 24 * HOUR


def _run(settings: Settings, work: Callable[[SqlDuties], Awaitable[T]], place: Path) -> T:
    try:
        return asyncio.run(with_copies(settings, work))
    except OSError as error:
        where = error.filename or place
        raise JournalError(f"`{where}` cannot be read, written or removed: {error.strerror}") from error
