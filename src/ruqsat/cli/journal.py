"""
``ruqsat journal``: what an operator or an auditor asks a journal on disk.

Reads only.  It may be run beside a serving process and by anyone who may read the folder.
"""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from ruqsat.cli import journal_prune
from ruqsat.stores.journal_folder import MISSING_FOLDER, FolderFinding, FolderReport, as_text, verify_folder

INTACT, ALTERED, USAGE = 0, 1, 2

app = typer.Typer(no_args_is_help=True, help="Verify the journal of decisions.")


@app.callback()
def journal() -> None:
    """Verify the journal of decisions."""


app.command("prune")(journal_prune.prune)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of one journal.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """
    Tell an intact journal from an altered one.

    Exit 0: every line is as it was written.  Exit 1: something is not, each place is listed.
    Exit 2: there is no such folder, or it cannot be read.
    """
    try:
        report = verify_folder(folder)
    except OSError as problem:
        typer.echo(f"error[unreadable-folder]: `{folder}` cannot be read: {problem.strerror}", err=True)
        raise typer.Exit(USAGE) from None
    if as_json:
        typer.echo(_as_json(folder, report))
    else:
        _print_report(folder, report)
    raise typer.Exit(_exit_code(report))


def _exit_code(report: FolderReport) -> int:
    if any(finding.code == MISSING_FOLDER for finding in report.findings):
        return USAGE
    return INTACT if report.intact else ALTERED


def _as_json(folder: Path, report: FolderReport) -> bytes:
    name = as_text(str(folder))
    return msgspec.json.encode({"folder": name, "intact": report.intact, **msgspec.structs.asdict(report)})


def _print_report(folder: Path, report: FolderReport) -> None:
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for finding in report.findings:
        console.print(_render(folder, finding))
    console.print(f"{_count(report.segments, 'segment')}, {_count(report.entries, 'entry')} verified")
    if report.intact:
        console.print("intact: every line is as it was written and follows the one before it", style="green")
        console.print("(lines dropped from the very end show only against a signed checkpoint)", style="dim")
    else:
        console.print(f"not intact: {_count(len(report.findings), 'finding')}", style="bold red")


def _render(folder: Path, finding: FolderFinding) -> str:
    place = as_text(str(folder / finding.file))
    if finding.line is not None:
        place = f"{place}:{finding.line}"
    where = "" if finding.offset is None else f" (byte {finding.offset})"
    return f"{place}: error[{finding.code}]: {finding.sentence}{where}"


def _count(number: int, what: str) -> str:
    if number == 1:
        return f"1 {what}"
    return f"{number} {what[:-1]}ies" if what.endswith("y") else f"{number} {what}s"
