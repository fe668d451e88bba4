"""``ruqsat journal replay``: the decisions of a journal are made again, and every difference is told."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.decision import Decision
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.instant import Instant, parse_instant
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import PolicyError, RequestError
from ruqsat.service.replay import DIFFERENT, ERASED, MEANINGS, NO_RULES, SAME, Replayed, Replayer
from ruqsat.settings import load_settings
from ruqsat.stores.journal_folder import read_lines
from ruqsat.stores.journal_verification import verify_folder
from ruqsat.stores.policy_folder import find_pack
from ruqsat.stores.policy_shelf import PolicyShelf, Texts, find_released

LAWFUL = frozenset({SAME, ERASED, NO_RULES})
"""What `--strict` accepts: the same answer, and what nobody could make again."""

SHOWN = 100
"""How many differences are printed; all are counted."""


def replay(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of one journal.")],
    *,
    policies: Annotated[
        list[Path] | None,
        typer.Option(help="A pack's folder, a `.pack` file, or a folder of them; may be repeated."),
    ] = None,
    database: Annotated[str | None, typer.Option(help="Database whose releases are searched as well.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 instant: decisions from then on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 instant: decisions before it.")] = None,
    any_version: Annotated[
        bool, typer.Option("--any-version", help="Try what another version of the product decided, too.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leave with 1, too, if a policy set or facts that should be there are not.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """
    Make the decisions of a journal again, each at its own moment, and tell every difference.

    The chain is verified first.  Without --policies and --database: the pack in use and what RUQSAT_POLICY_DIR holds.
    Exit 0: every answer that could be made again is the same.  Exit 1: one is not, or the journal is not intact.
    """
    report = verify_folder(folder)
    if not report.intact:
        typer.echo("error[not-intact]: nothing is made again: see `ruqsat journal verify`", err=True)
        raise typer.Exit(1)
    replayer = Replayer(
        _finder(policies or [], database), any_version=any_version,
        since=_moment("--from", since) or 0, until=_moment("--to", until),
    )  # fmt: skip
    different = [found for line in read_lines(folder) if (found := replayer.take(line)) and found.result == DIFFERENT]
    if as_json:
        print_json({"counts": replayer.counts, "different": different[:SHOWN]})
    else:
        _print(different, replayer.counts)
    unmade = strict and not LAWFUL.issuperset(replayer.counts)
    raise typer.Exit(1 if different or unmade else 0)


def _finder(places: list[Path], database: str | None) -> Callable[[str], PolicySet | None]:
    if not places and database is None:
        settings = load_settings(auth_listen="off")
        kept = settings.policy_dir
        places = [find_pack(settings.pack), *([kept] if any(kept.rglob("*.pack")) else [])]
    shelf, known = PolicyShelf(places), dict[str, PolicySet | None]()

    def find(beginning: str) -> PolicySet | None:
        if beginning not in known:
            texts = shelf.find(beginning)
            if texts is None and database is not None:
                texts = asyncio.run(find_released(database, beginning))
            known[beginning] = None if texts is None else _compiled(texts)
        return known[beginning]

    return find


def _compiled(texts: Texts) -> PolicySet:
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError("a pack that was in force has errors for this version: `ruqsat policy check` lists them")
    return policy_set


def _moment(option: str, text: str | None) -> Instant | None:
    try:
        return None if text is None else parse_instant(text)
    except ValueError as error:
        raise RequestError(f"{option}: {error}") from error


def _print(different: list[Replayed], counts: dict[str, int]) -> None:
    out = console()
    for each in different[:SHOWN]:
        out.print(f"{each.id} ({each.place}, {each.at}): error[different]: {each.because or 'another answer'}")
        for name, answer in (("journal", each.told), ("now", each.again)):
            if answer is not None:
                out.print(f"  {name:<8} {_said(answer)}")
    out.print(f"{plural(counts.get(SAME, 0), 'decision')} made again, with the same answer")
    if different:
        out.print(f"{len(different)} with another answer", style="bold red")
    for result, count in sorted(counts.items()):
        if result not in (SAME, DIFFERENT):
            out.print(f"{count} not made again: {result}: {MEANINGS[result]}")


def _said(answer: Decision) -> str:
    """Write an answer on one line: what was decided, why, by which rule and documents, with which duties."""
    words = [answer.reason, f"rule={answer.rule or '-'}", f"basis={answer.basis or '-'}"]
    for name, values in (("applied", answer.applied), ("duties", answer.duties), ("law", answer.law)):
        words += [f"{name}={','.join(values)}"] if values else []
    return ("ALLOWED " if answer.allowed else "DENIED ") + " ".join(words)
