"""
``ruqsat journal``: what an operator, an auditor or a witness asks a journal on disk.

``verify`` reads only.  It may be run beside a serving process and by anyone who may read
the folder; proofs are verified without the journal.
"""

from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from ruqsat.cli import journal_archive, journal_outcomes, journal_proofs, journal_prune, journal_replay
from ruqsat.cli.output import console, plural
from ruqsat.core.checkpoint import Checkpoint
from ruqsat.core.journal_proof import Receipt, read_proof, verify_growth, verify_receipt
from ruqsat.core.signed_note import VerifierKey
from ruqsat.errors import SettingsError
from ruqsat.stores.journal_claims import FolderFinding, Trust, read_kept
from ruqsat.stores.journal_folder import as_text
from ruqsat.stores.journal_key import read_verifier_key
from ruqsat.stores.journal_verification import MISSING_FOLDER, FolderReport, verify_folder

INTACT, ALTERED, USAGE = 0, 1, 2

Keys = Annotated[list[str] | None, typer.Option("--key", help="Verifier key, or its file; may be repeated.")]
Kept = Annotated[list[Path] | None, typer.Option("--kept", help="A checkpoint kept elsewhere; may be repeated.")]

app = typer.Typer(no_args_is_help=True, help="Verify, sign and prove the journal of decisions.")
journal_proofs.add_to(app)
journal_archive.add_to(app)


@app.callback()
def journal() -> None:
    """Verify, sign and prove the journal of decisions."""


app.command("prune")(journal_prune.prune)
app.command("replay")(journal_replay.replay)
app.command("outcomes")(journal_outcomes.outcomes)


@app.command()
def verify(
    target: Annotated[Path, typer.Argument(metavar="DIR|PROOF", help="The folder of one journal, or a proof of one.")],
    *,
    key: Keys = None,
    kept: Kept = None,
    segments: Annotated[str, typer.Option(help="Only these: `3`, `3-5` or `3-`.")] = "",
    signed_from: Annotated[int, typer.Option(help="With a key: the first segment that must be signed.")] = 1,
    stopped: Annotated[bool, typer.Option("--stopped", help="With a key: the last one too, it was closed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    archive: Annotated[Path | None, typer.Option(help="Where earlier segments were archived: both as one.")] = None,
) -> None:
    """
    Tell an intact journal, or a true proof, from an altered one.

    Exit 0: everything is as it was written.  Exit 1: something is not, each place is listed.
    Exit 2: there is no such folder or file, it cannot be read, or an option cannot be used,
    or what it prints cannot be written.
    """
    try:
        keys = tuple([read_verifier_key(each) for each in key or ()])
        first, final = _range(segments)
        checkpoints = [(str(each), read_kept(each, keys)) for each in kept or ()]
    except (SettingsError, ValueError) as problem:
        _fail("unusable-option", str(problem))
    except OSError as problem:
        _fail("unreadable-file", f"`{problem.filename}` cannot be read: {problem.strerror}")
    if target.is_file():
        _verify_proof(target, keys, [each for _, each in checkpoints])
        return
    try:
        trust = Trust(keys, tuple(checkpoints), signed_from, stopped)
        report = verify_folder(target, trust, first=first, final=final, archive=archive)
    except OSError as problem:
        _fail("unreadable-folder", f"`{target}` cannot be read: {problem.strerror}")
    if as_json:
        typer.echo(_as_json(target, report))
    else:
        _print_report(target, report, keys, checkpoints)
    raise typer.Exit(_exit_code(report))


def _verify_proof(path: Path, keys: tuple[VerifierKey, ...], kept: list[Checkpoint]) -> None:
    if not keys:
        _fail("unusable-option", "a proof proves nothing without the journal's verifier key: expected --key")
    out = console()
    try:
        content = path.read_bytes()
    except OSError as problem:
        _fail("unreadable-file", f"`{path}` cannot be read: {problem.strerror}")
    try:
        proof = read_proof(content)
        if isinstance(proof, Receipt):
            entry, checkpoint = verify_receipt(proof, keys)
            out.print(msgspec.json.encode(entry).decode())
            out.print(f"true: line {proof.index} of `{checkpoint.origin}`, of which {checkpoint.size} are signed")
            return
        if len(kept) != 1:
            _fail("unusable-option", "a proof of consistency is held against one checkpoint: expected --kept")
        newest = verify_growth(kept[0], proof, keys)
    except ValueError as problem:
        typer.echo(f"error[false-proof]: {problem}", err=True)
        raise typer.Exit(ALTERED) from None
    out.print(f"true: the journal only grew, from {_told(kept[0])} to {_told(newest)}")


def _told(checkpoint: Checkpoint) -> str:
    return f"{plural(checkpoint.size, 'line')} of `{checkpoint.origin}`"


def _range(segments: str) -> tuple[int, int | None]:
    first, dash, final = segments.partition("-")
    if not segments:
        return 1, None
    if not first.isdecimal() or not (final.isdecimal() or not final) or int(first) < 1:
        raise ValueError(f"`{segments}` names no segments: expected `3`, `3-5` or `3-`")
    return int(first), int(final) if final else None if dash else int(first)


def _fail(code: str, sentence: str) -> NoReturn:
    typer.echo(f"error[{code}]: {sentence}", err=True)
    raise typer.Exit(USAGE)


def _exit_code(report: FolderReport) -> int:
    if any(finding.code == MISSING_FOLDER for finding in report.findings):
        return USAGE
    return INTACT if report.intact else ALTERED


def _as_json(folder: Path, report: FolderReport) -> bytes:
    name = as_text(str(folder))
    return msgspec.json.encode({"folder": name, "intact": report.intact, **msgspec.structs.asdict(report)})


def _print_report(
    folder: Path, report: FolderReport, keys: tuple[VerifierKey, ...], kept: list[tuple[str, Checkpoint]]
) -> None:  # fmt: skip
    out = console()
    for finding in report.findings:
        out.print(_render(folder, finding))
    entries = f"{report.entries} {'entry' if report.entries == 1 else 'entries'}"
    out.print(f"{plural(report.segments, 'segment')}, {entries} verified")
    if report.erased:
        out.print(f"{plural(report.erased, 'personal part')} erased, by acts that stand in the journal")
    if keys:
        out.print(f"{plural(report.signed, 'segment')} signed to the end")
    if report.intact:
        out.print("intact: every line is as it was written and follows the one before it", style="green")
        _print_limits(out, keys, kept)
    else:
        out.print(f"not intact: {plural(len(report.findings), 'finding')}", style="bold red")


def _print_limits(out: Console, keys: tuple[VerifierKey, ...], kept: list[tuple[str, Checkpoint]]) -> None:
    if kept:
        out.print(f"and holds whatever {plural(len(kept), 'kept checkpoint')} vouched for", style="green")
    elif keys:
        out.print("(a journal put back as a whole shows only against a checkpoint kept elsewhere)", style="dim")
    else:
        out.print("(lines dropped from the very end show only against a signed checkpoint)", style="dim")


def _render(folder: Path, finding: FolderFinding) -> str:
    place = as_text(str(folder / finding.file))
    if finding.line is not None:
        place = f"{place}:{finding.line}"
    where = "" if finding.offset is None else f" (byte {finding.offset})"
    return f"{place}: error[{finding.code}]: {finding.sentence}{where}"
