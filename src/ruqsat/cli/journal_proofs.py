"""``ruqsat journal`` key, sign, checkpoint, receipt, consistency and erase: what is signed, proved and destroyed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.journal_database import with_copies
from ruqsat.cli.output import console, plural, print_json
from ruqsat.core.checkpoint import worker_name
from ruqsat.settings import load_settings
from ruqsat.stores.journal_checkpoints import sign_segment
from ruqsat.stores.journal_claims import read_kept
from ruqsat.stores.journal_erasure import Elsewhere, Erased, erase_patients
from ruqsat.stores.journal_folder import writers_of
from ruqsat.stores.journal_key import load_signing_key, make_signing_key
from ruqsat.stores.journal_proofs import make_receipt, newest_note, prove_growth
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_erasure import ErasedRows

USAGE = 2

Archive = Annotated[Path | None, typer.Option(help="Of this journal. Default: RUQSAT_JOURNAL_ARCHIVE_DIR.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of one journal.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (key, sign, checkpoint, receipt, consistency, erase):
        app.command()(command)


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key, PEM; made if there is none.")],
    *,
    name: Annotated[str, typer.Option(help="The journal's name, such as `clinic.example/sidecar-1`.")],
    workers: Annotated[
        int,
        typer.Option(min=1, help="Of so many workers (RUQSAT_WORKERS): one for each, which signs as NAME/worker-N."),
    ] = 1,
) -> None:
    """Make the key that signs checkpoints, unless there is one, and print the verifier key to publish."""
    if not file.exists():
        make_signing_key(file, name)
    for each in [worker_name(name, number) for number in range(workers)] if workers > 1 else [name]:
        typer.echo(str(load_signing_key(file, each).verifier))


def sign(
    folder: Folder,
    segment: Annotated[int, typer.Argument(metavar="SEGMENT", help="Its number.")],
    *,
    key_file: Annotated[Path, typer.Option(help="The private key.")],
    name: Annotated[str, typer.Option(help="The journal's name.")],
) -> None:
    """
    Sign a segment that `verify` calls unsigned and that no start signs; make sure first that it is the true one.

    The last segment is not signed so: whoever writes the journal does that.
    """
    signed = sign_segment(folder, segment, load_signing_key(key_file, name))
    console().print(f"signed: {plural(signed.size, 'line')} of `{signed.origin}`")


def checkpoint(
    folder: Folder, *, segment: Annotated[int | None, typer.Option(help="Of this segment, not the newest.")] = None
) -> None:  # fmt: skip
    """Print the newest signed checkpoint, for a witness outside: whoever keeps it can tell a rewritten journal."""
    typer.echo(newest_note(folder, segment), nl=False)


def receipt(
    folder: Folder,
    entry: Annotated[str, typer.Argument(metavar="ID", help="The id of a decision, as its answer bore it.")],
    *,
    without_personal: Annotated[bool, typer.Option(help="Leave out what names people; the proof holds.")] = False,
) -> None:
    """Print the receipt of a decision: its line, and the proof that it is in the signed journal."""
    print_json(make_receipt(folder, entry, without_personal=without_personal))


def consistency(
    folder: Folder,
    kept: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A checkpoint that was kept elsewhere.")],
) -> None:
    """Print the proof that the journal only grew since a kept checkpoint."""
    try:
        found = read_kept(kept, ())
    except (OSError, ValueError) as problem:
        typer.echo(f"error[unusable-checkpoint]: `{kept}`: {problem}", err=True)
        raise typer.Exit(USAGE) from None
    print_json(prove_growth(folder, found))


def erase(
    folder: Folder,
    *,
    patient: Annotated[list[str], typer.Option(help="Whose personal parts are written over; may be repeated.")],
    act: Annotated[str, typer.Option(help="How the act of destruction is filed; stays for good, names nobody.")],
    key_file: Annotated[Path | None, typer.Option(help="Sign the act at once, with this private key.")] = None,
    name: Annotated[str, typer.Option(help="The journal's name, with a key.")] = "",
    archive: Archive = None,
    database_url: Annotated[str | None, typer.Option("--database-url", help="Default: RUQSAT_DATABASE_URL.")] = None,
    files_only: Annotated[bool, typer.Option("--files-only", help="It was never shipped into a database.")] = False,
) -> None:
    """
    Write over what names a patient (order §24); the chain, the checkpoints and the proofs stay whole.

    In the folder, in its archive, and in the database, with the notices there.  The sidecar
    that writes this journal must be stopped for it.
    """
    signing, at = load_signing_key(key_file, name) if key_file else None, datetime.now(UTC)
    settings = load_settings(auth_listen="off", database_url=database_url, journal_archive_dir=archive)
    moment = at.isoformat(timespec="seconds")

    async def work(copies: SqlDuties | None) -> Erased:
        place = settings.journal_archive_dir
        return await erase_patients(folder, patient, act, moment, key=signing, elsewhere=Elsewhere(place, copies))

    done = asyncio.run(work(None) if files_only else with_copies(settings, work))
    console().print(f"{plural(done.parts, 'personal part')} erased in {plural(done.lines, 'line')}")
    if isinstance(done.copies, ErasedRows):
        here = {each for place in (folder, settings.journal_archive_dir) if place for each in writers_of(place)}
        _print_copies(done.copies, done.copies.writers <= here)


def _print_copies(done: ErasedRows, are_own: bool) -> None:
    out = console()
    out.print(f"in the database: {plural(done.lines, 'line')}, {plural(done.notices, 'notice')}")
    if not are_own:
        out.print("(some of these lines are not in this folder: erase in the folder of each sidecar, too)")
    if done.unerasable:
        out.print(f"{plural(done.unerasable, 'line')} of the format before cannot be erased", style="bold red")
