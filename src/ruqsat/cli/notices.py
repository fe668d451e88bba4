"""
``ruqsat notices``: who was told of what, what was given up, and trying it again.

It asks the database itself; on SQLite, whose file has one owner, while nothing is served from it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import msgspec
import typer

from ruqsat.cli.journal_database import existing_url
from ruqsat.cli.output import console
from ruqsat.core.instant import render_instant
from ruqsat.core.outgoing import CHANNELS, DEAD, STATES, Listed
from ruqsat.settings import load_settings
from ruqsat.stores.sql_database import UPGRADE_SECONDS, open_database
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_outbox import PAGE

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="List notices, try them again.")

Url = Annotated[
    str | None, typer.Option("--database-url", help="Default: RUQSAT_DATABASE_URL, the place for a password.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")]
USUAL = "usual"


@app.command("list")
def list_(
    *,
    state: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(STATES)}; may be repeated.")] = None,
    patient: Annotated[str | None, typer.Option(help="Only those about this patient.")] = None,
    as_json: AsJson = False,
    database_url: Url = None,
) -> None:
    """List notices in the order they were made."""
    unknown = set(state or ()) - {*STATES}
    if unknown:
        raise typer.BadParameter(f"expected one of {', '.join(STATES)}", param_hint="--state")
    _print_all(tuple(state or ()), patient, as_json, database_url)


@app.command()
def dead(*, as_json: AsJson = False, database_url: Url = None) -> None:
    """List what was given up; exit 1 if there is any."""
    if _print_all((DEAD,), None, as_json, database_url):
        raise typer.Exit(1)


@app.command()
def retry(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys of notices.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Whatever may be tried again.")] = False,
    reason: Annotated[str | None, typer.Option(help="Only what ended for it, such as `not_registered`.")] = None,
    database_url: Url = None,
) -> None:
    """
    Have notices tried again that were given up, or skipped for a reason that may have passed.

    What was left out on a legal ground stays so, and what waits on one waits on.
    """
    if not keys and not every and reason is None:
        raise typer.BadParameter("name keys, or say --all or --reason")
    chosen = tuple(keys) if keys else None
    count = _asking(database_url, lambda work: work.retry(chosen, reason, _now()))
    console().print(f"{count} will be tried again")


@app.command()
def channel(
    patient: Annotated[str, typer.Argument(help="Whose.")],
    name: Annotated[str, typer.Argument(metavar="CHANNEL", help=f"{', '.join(CHANNELS)}, or `{USUAL}`.")],
    database_url: Url = None,
) -> None:
    """Choose how a patient is told from now on."""
    if name not in (*CHANNELS, USUAL):
        raise typer.BadParameter(f"expected one of {', '.join((*CHANNELS, USUAL))}")
    chosen = None if name == USUAL else name
    _asking(database_url, lambda work: work.set_channel(patient, chosen, _now()))


def _print_all(states: tuple[str, ...], patient: str | None, as_json: bool, url: str | None) -> int:
    async def read(work: SqlDuties) -> int:
        count, after = 0, (-1, "")
        while page := await work.list_notices(states, patient, after, PAGE):
            for each in page:
                console().print(msgspec.json.encode(each).decode() if as_json else _line(each), soft_wrap=True)
            count, after = count + len(page), (page[-1].created_at, page[-1].key)
        return count

    count = _asking(url, read)
    if not as_json:
        console().print(f"{count} notice{'' if count == 1 else 's'}")
    return count


def _line(notice: Listed) -> str:
    whom = notice.recipient or notice.patient or "-"
    why = " ".join(filter(None, (notice.reason, notice.legal_ground)))
    until = f" until {render_instant(notice.deferred_until)}" if notice.deferred_until is not None else ""
    made = render_instant(notice.created_at)[:19]
    return f"{notice.key} {made} {notice.state:9} {notice.kind:10} {notice.audience} {whom} {why}{until}".rstrip()


def _asking(url: str | None, work: Callable[[SqlDuties], Awaitable[T]]) -> T:
    async def run() -> T:
        database = open_database(existing_url(load_settings(auth_listen="off", database_url=url)))
        lane = database.writer()
        try:
            await lane.run(database.prepare, UPGRADE_SECONDS, commit=True)
            return await work(SqlDuties(lane))
        finally:
            await lane.aclose()
            database.release()

    return asyncio.run(run())


def _now() -> int:
    return time.time_ns() // 1000
