"""``ruqsat policy diff|trace-law``: which decisions a change changes, and which rules keep which paragraph."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.admission import WORLD, read_cases
from ruqsat.core.authoring.decision_diff import Asked, Comparison, compare_decisions, lattice, recorded, sampled
from ruqsat.core.authoring.law_trace import OUT_OF_REACH, read_out_of_reach, trace_law
from ruqsat.core.cases import read_world, situation
from ruqsat.core.diagnostics import has_errors, render
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import PolicyError
from ruqsat.stores.journal_folder import read_entries
from ruqsat.stores.policy_folder import load_texts
from ruqsat.wiring import find_pack

_MARKS = {"gained": "GAINED", "lost": "lost  ", "moved": "moved "}


def diff(
    old: Annotated[Path, typer.Argument(help="The pack as it is.")],
    new: Annotated[Path, typer.Argument(help="The pack as it would be.")],
    sample: Annotated[int, typer.Option(min=0, help="How many made-up situations to ask besides.")] = 3000,
    seed: Annotated[int, typer.Option(help="Of the made-up situations.")] = 1,
    journal: Annotated[Path | None, typer.Option(help="A journal: ask what was really asked, too.")] = None,
    accept: Annotated[list[str] | None, typer.Option(help="Rule that may allow more; may be given again.")] = None,
    as_json: AsJson = False,
) -> None:
    """
    Show which decisions change: gained, lost, or decided by another rule.  Exit 1 on a new allow not accepted.

    Asked are the cases of both packs, every kind of request in six circumstances,
    made-up situations, and what a journal recorded.
    """
    before, after = (_loaded(folder) for folder in (old, new))
    asked = _asked((before, after), sample, seed, journal)
    compared = compare_decisions(before[1], after[1], asked)
    refused = [each for each in compared.of("gained") if each.after[1] not in (accept or [])]
    if as_json:
        print_json({"asked": compared.asked, "differences": compared.differences, "refused": len(refused)})
    else:
        _print(compared, accept or [])
    raise typer.Exit(1 if refused else 0)


def trace(
    folder: Annotated[Path | None, typer.Argument(help="Folder with model.conf and policies/.")] = None,
    complete: Annotated[bool, typer.Option("--complete", help="What is kept later counts as missing too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the rules and cases that keep each paragraph of the order.  Exit 1 if one has none and no reason."""
    texts, policy_set = _loaded(find_pack(folder))
    exempt, findings = read_out_of_reach(texts.get(OUT_OF_REACH, b"").decode())
    if findings:
        raise PolicyError("\n".join(map(render, findings)))
    paragraphs = trace_law(policy_set, read_cases(texts)[0], exempt)
    bad = {"missing", "later"} if complete else {"missing"}
    if as_json:
        print_json({"paragraphs": paragraphs})
    else:
        out = console()
        for each in paragraphs:
            out.print(f"§{each.key[1:]:<3} {each.standing:<8} {each.title}")
            if each.rules:
                out.print(f"     rules {' '.join(each.rules)}")
                out.print(f"     cases {len(each.cases)}")
            if each.reason:
                out.print(f"     {each.reason}")
        counts = Counter(each.standing for each in paragraphs)
        out.print(", ".join(f"{count} {standing}" for standing, count in counts.most_common()))
    raise typer.Exit(1 if any(each.standing in bad for each in paragraphs) else 0)


Loaded = tuple[dict[str, bytes], PolicySet]


def _asked(packs: tuple[Loaded, Loaded], sample: int, seed: int, journal: Path | None) -> Iterator[Asked]:
    for texts, policy_set in packs:
        cases, _ = read_cases(texts)
        if any(cases.values()):
            world = read_world(texts, WORLD)
            for group in cases.values():
                for case in (case for case in group if not case.switches):
                    yield Asked(f"case `{case.name}`", situation(policy_set, world, case))
    yield from lattice(packs[0][1], packs[1][1])
    for _, policy_set in packs:
        yield from sampled(policy_set, seed, sample // 2)
    if journal is not None:
        yield from recorded(packs[1][1], read_entries(journal))


def _loaded(folder: Path) -> Loaded:
    texts = load_texts(folder)
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError(f"`{folder}` has errors; `ruqsat policy check {folder}` lists them")
    return texts, policy_set


def _print(compared: Comparison, accepted: list[str]) -> None:
    out = console()
    for each in compared.differences:
        mark = "(accepted) " if each.kind == "gained" and each.after[1] in accepted else ""
        out.print(f"{_MARKS[each.kind]} {mark}{each.role}: {each.action} {each.data_class}  ({each.count} ×)")
        out.print(f"    was  {each.before[0]} by {each.before[1]}")
        out.print(f"    is   {each.after[0]} by {each.after[1]}")
        out.print(f"    as in {each.example}; {each.source}")
    counts = {kind: sum(each.count for each in compared.of(kind)) for kind in _MARKS}
    out.print(
        f"{plural(compared.asked, 'situation')} asked: {counts['gained']} gained, {counts['lost']} lost, "
        f"{counts['moved']} moved to another rule or reason"
    )
