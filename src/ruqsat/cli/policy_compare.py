"""``ruqsat policy diff|trace-law``: which decisions a change changes, and which rules keep which paragraph."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.admission import WORLD, read_cases
from ruqsat.core.authoring.decision_diff import (
    Asked,
    Comparison,
    compare_decisions,
    lattice,
    recorded,
    sampled,
    unshown,
)
from ruqsat.core.authoring.law_trace import OUT_OF_REACH, Paragraph, read_out_of_reach, trace_law
from ruqsat.core.cases import PolicyCase, Stage, read_world, run_cases, situation
from ruqsat.core.diagnostics import has_errors, render
from ruqsat.core.pack import ROUTES, Parts, compile_parts, read_parts, variants_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.vocabulary import parse_toml
from ruqsat.errors import PolicyError
from ruqsat.stores.journal_folder import read_entries, refuse_empty
from ruqsat.stores.policy_folder import find_pack, load_texts

_MARKS = {"gained": "GAINED", "eased": "EASED ", "lost": "lost  ", "moved": "moved "}
_STOP = ("gained", "eased")


def diff(
    old: Annotated[Path, typer.Argument(help="The pack as it is.")],
    new: Annotated[Path, typer.Argument(help="The pack as it would be.")],
    sample: Annotated[int, typer.Option(min=0, help="How many made-up situations to ask besides.")] = 3000,
    seed: Annotated[int, typer.Option(help="Of the made-up situations.")] = 1,
    journal: Annotated[Path | None, typer.Option(help="A journal: ask what was really asked, too.")] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="Rule, or whatever else is named, that may allow more; may be given again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    Show which decisions change: gained, eased of a duty, lost, or answered otherwise.

    Asked are the cases of both packs, every kind of request in six circumstances,
    made-up situations, and what a journal recorded.  What is written otherwise and could
    allow more, and no answer shows it, is named.  Exit 1 on any of this that is not accepted,
    losses and moves apart.
    """
    before, after = (_loaded(folder) for folder in (old, new))
    if journal is not None:
        refuse_empty(journal)
    asked = _asked((before, after), sample, seed, journal)
    compared = compare_decisions(before[2], after[2], asked)
    accepted = accept or []
    hidden = unshown(before[1:], after[1:], compared)
    if _routes(before[0]) != _routes(after[0]):
        hidden += ("routes.toml",)
    refused = [each for kind in _STOP for each in compared.of(kind) if each.after[1] not in accepted]
    unseen = [name for name in hidden if name not in accepted]
    if as_json:
        print_json(
            {"asked": compared.asked, "differences": compared.differences, "unshown": hidden,
             "refused": len(refused) + len(unseen)}
        )  # fmt: skip
    else:
        _print(compared, hidden, accepted)
    raise typer.Exit(1 if refused or unseen else 0)


def trace(
    folder: Annotated[Path | None, typer.Argument(help="Folder with model.conf and policies/.")] = None,
    complete: Annotated[bool, typer.Option("--complete", help="What is kept later counts as missing too.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Write it as the page docs/law.md.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Show the rules and cases that keep each paragraph of the order.  Exit 1 if one has none and no reason.

    A case counts if it is as promised.
    """
    texts, parts, policy_set = _loaded(find_pack(folder))
    exempt, findings = read_out_of_reach(texts.get(OUT_OF_REACH, b"").decode())
    if findings:
        raise PolicyError("\n".join(map(render, findings)))
    paragraphs = trace_law(policy_set, _kept(texts, parts, policy_set), exempt)
    bad = {"missing", "later"} if complete else {"missing"}
    if as_json:
        print_json({"paragraphs": paragraphs})
    elif as_markdown:
        sys.stdout.write(law_page(paragraphs, policy_set))
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


def _kept(texts: dict[str, bytes], parts: Parts, policy_set: PolicySet) -> dict[str, list[PolicyCase]]:
    """Return the cases that are as promised, by file."""
    cases, _ = read_cases(texts)
    kept: dict[str, list[PolicyCase]] = {name: [] for name in cases}
    if not any(cases.values()):
        return kept
    try:
        results = run_cases(policy_set, read_world(texts, WORLD), cases, variants_of(parts))
    except (ValueError, msgspec.ValidationError) as error:
        raise PolicyError(f"the cases cannot be run: {error}") from None
    for result in results:
        if not result.problem:
            kept[result.file].append(result.case)
    return kept


def law_page(paragraphs: tuple[Paragraph, ...], policy_set: PolicySet) -> str:
    """Return the map of the law as a page: every paragraph, its rules, the cases that hold them."""
    lines = [
        "# The order, paragraph by paragraph", "",
        "Generated by `ruqsat policy trace-law . --markdown`; a test holds it. Titles are ours, not quotations.", "",
    ]  # fmt: skip
    rules = {rule.id: rule for rule in policy_set.rules}
    for each in paragraphs:
        law = policy_set.laws.get(each.key)
        lines += [f"## §{each.key[1:]} {each.title}", ""]
        if law is not None:
            lines += [
                f"{law.title.kk} · {law.title.ru}",
                "",
                f"Edition of {law.edition}, compared on {law.reviewed_on}.",
                "",
            ]
        lines += [f"**{each.standing}**" + (f": {each.reason}" if each.reason else ""), ""]
        for name in each.rules:
            rule = rules[name]
            effect = f"permits ({rule.ground})" if rule.allows else f"denies ({rule.ground})"
            lines.append(f"- `{name}` {effect}: {rule.role}; {rule.act}; {rule.data_class}; {rule.purpose}")
        if each.cases:
            lines += ["", "Held by " + plural(len(each.cases), "case") + ": " + "; ".join(each.cases) + "."]
        lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


Loaded = tuple[dict[str, bytes], Parts, PolicySet]


def _asked(packs: tuple[Loaded, Loaded], sample: int, seed: int, journal: Path | None) -> Iterator[Asked]:
    for texts, _, policy_set in packs:
        cases, _ = read_cases(texts)
        if any(cases.values()):
            stage = Stage(read_world(texts, WORLD))
            # What a document is worth, the switches of each set say for themselves.
            before, after = (msgspec.structs.replace(policy_set, vocabulary=pack[2].vocabulary) for pack in packs)
            for case in (case for group in cases.values() for case in group):
                asked = situation(before, stage, case)
                yield Asked(f"case `{case.name}`", asked, situation(after, stage, case)[1])
    yield from lattice(packs[0][2], packs[1][2])
    for _, _, policy_set in packs:
        yield from sampled(policy_set, seed, sample // 2)
    if journal is not None:
        yield from recorded(packs[1][2], read_entries(journal))


def _loaded(folder: Path) -> Loaded:
    texts = load_texts(folder)
    parts, findings = read_parts(texts)
    if parts is None or has_errors(findings):
        raise PolicyError(f"`{folder}` has errors; `ruqsat policy check {folder}` lists them")
    return texts, parts, compile_parts(parts)


def _routes(texts: dict[str, bytes]) -> dict[str, object] | None:
    return parse_toml(texts.get(ROUTES, b"").decode(errors="replace"), ROUTES)[0]


def _print(compared: Comparison, hidden: tuple[str, ...], accepted: list[str]) -> None:
    out = console()
    for each in compared.differences:
        mark = "(accepted) " if each.kind in _STOP and each.after[1] in accepted else ""
        out.print(f"{_MARKS[each.kind]} {mark}{each.role}: {each.action} {each.data_class}  ({each.count} ×)")
        out.print(f"    was  {each.before[0]} by {each.before[1]}")
        out.print(f"    is   {each.after[0]} by {each.after[1]}")
        if each.besides:
            out.print(f"    with {each.besides}")
        out.print(f"    as in {each.example}; {each.source}")
    for name in hidden:
        mark = "(accepted) " if name in accepted else ""
        out.print(f"UNSHOWN {mark}{name}: written otherwise, and it may allow what nothing asked here shows")
    counts = {kind: sum(each.count for each in compared.of(kind)) for kind in _MARKS}
    out.print(
        f"{plural(compared.asked, 'situation')} asked: {counts['gained']} gained, {counts['eased']} eased, "
        f"{counts['lost']} lost, {counts['moved']} moved to another rule or reason"
    )
