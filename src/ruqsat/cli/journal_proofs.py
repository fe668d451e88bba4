"""``ruqsat journal`` key, checkpoint, receipt, consistency and erase: what is signed, proved and destroyed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import console, plural, print_json
from ruqsat.stores.journal_claims import read_kept
from ruqsat.stores.journal_erasure import erase_patients
from ruqsat.stores.journal_key import load_signing_key, make_signing_key
from ruqsat.stores.journal_proofs import make_receipt, newest_note, prove_growth

USAGE = 2

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of one journal.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (key, checkpoint, receipt, consistency, erase):
        app.command()(command)


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The private key, PEM; made if there is none.")],
    *,
    name: Annotated[str, typer.Option(help="The journal's name, such as `clinic.example/sidecar-1`.")],
) -> None:
    """Make the key that signs checkpoints, unless there is one, and print the verifier key to publish."""
    found = load_signing_key(file, name) if file.exists() else make_signing_key(file, name)
    typer.echo(str(found.verifier))


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
) -> None:
    """
    Write over what names a patient (order §24); the chain, the checkpoints and the proofs stay whole.

    The sidecar that writes this journal must be stopped for it.
    """
    signing, at = load_signing_key(key_file, name) if key_file else None, datetime.now(UTC)
    done = asyncio.run(erase_patients(folder, patient, act, at.isoformat(timespec="seconds"), key=signing))
    console().print(f"{plural(done.parts, 'personal part')} erased in {plural(done.lines, 'line')}")
