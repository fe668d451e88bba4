"""``ruqsat journal outcomes``: what came of the decisions, and of which permits nobody has said."""

import time
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.instant import MINUTE
from ruqsat.core.outcomes import count_outcomes, missing_outcomes
from ruqsat.stores.journal_folder import read_lines, refuse_empty


def outcomes(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of journals, one of each sidecar.")],
    *,
    missing: Annotated[bool, typer.Option("--missing", help="List permits of which no outcome was reported.")] = False,
    after: Annotated[int, typer.Option(min=0, metavar="MINUTES", help="Only permits that are older.")] = 15,
    point: Annotated[str | None, typer.Option(help="Only those that this enforcement point asked for.")] = None,
    as_json: AsJson = False,
) -> None:
    """
    Count what enforcement points reported, or list what they owe.

    A report may stand in another sidecar's journal than the decision: name all their folders.
    Exit 1 with --missing if something is missing.
    """
    for folder in folders:
        refuse_empty(folder)
    lines = chain.from_iterable(map(read_lines, folders))
    if not missing:
        counts = count_outcomes(lines)
        if as_json:
            print_json(counts)
        else:
            console().print("\n".join(f"{count} {word}" for word, count in counts.items()) or "no outcome was reported")
        return
    found = missing_outcomes(lines, time.time_ns() // 1000 - after * MINUTE, point)
    if as_json:
        print_json(found)
    else:
        for each in found:
            console().print(f"{each.id} ({each.at}) {each.listener} {each.point}".rstrip())
        console().print(f"{plural(len(found), 'permit')} without an outcome after {plural(after, 'minute')}")
    raise typer.Exit(1 if found else 0)
