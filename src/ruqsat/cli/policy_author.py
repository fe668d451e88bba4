"""``ruqsat policy fmt|coverage|mutate|schema``: what helps to write rules and their cases."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.admission import WORLD, read_cases
from ruqsat.core.authoring.coverage import measure_coverage
from ruqsat.core.authoring.formatting import format_rules
from ruqsat.core.authoring.law_trace import OutOfReach
from ruqsat.core.authoring.mutation import mutants, survives
from ruqsat.core.cases import CaseFile, PolicyCase, Stage, read_world, run_cases, set_for, situation
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.laws import Law
from ruqsat.core.pack import Parts, compile_parts, read_parts, variants_of
from ruqsat.core.vocabulary import WrittenVocabulary
from ruqsat.core.world import World
from ruqsat.errors import PolicyError
from ruqsat.stores.policy_folder import find_pack, load_texts

Folder = Annotated[Path | None, typer.Argument(help="Folder with model.conf and policies/ (default: the pack in use).")]

SCHEMAS = {"vocabulary": WrittenVocabulary, "laws": dict[str, Law], "cases": CaseFile, "out-of-reach": OutOfReach}
"""The TOML files of a pack, by what their JSON Schema is called."""


def fmt(
    folder: Folder = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a file would change.")] = False,
) -> None:
    """Write the rule files in one form: a blank after each comma, an empty line between groups; comments stay."""
    pack = find_pack(folder)
    changed = []
    for name, data in load_texts(pack).items():
        if not name.endswith(".csv"):
            continue
        try:
            formatted = format_rules(data.decode("utf-8")).encode()
        except UnicodeDecodeError:
            raise PolicyError(f"`{name}` is not UTF-8; `ruqsat policy check` says more") from None
        if formatted != data:
            changed.append(name)
            if not check:
                (pack / name).write_bytes(formatted)
    for name in changed:
        console().print(f"{'would change' if check else 'changed'}  {name}")
    if not changed:
        console().print("every rule file is in its form")
    raise typer.Exit(1 if check and changed else 0)


def coverage(
    folder: Folder = None,
    fail_under: Annotated[float, typer.Option(min=0, max=100, help="Exit 1 below this percentage.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Show which rules the cases decide by, and which parts of conditions they never saw true or false."""
    parts, world, cases = _tested(folder)
    policy_set = compile_parts(parts)
    variant = variants_of(parts)
    sets = ((set_for(each, policy_set, variant), each) for group in cases.values() for each in group)
    stage = Stage(world)
    asked = ((deciding, situation(deciding, stage, each)) for deciding, each in sets)
    measured = measure_coverage(policy_set, asked)
    if as_json:
        print_json({"percent": measured.percent, "coverage": measured})
    else:
        out = console()
        for rule in measured.rules:
            out.print(f"{rule.rule:<28} decided {plural(rule.decided, 'case')}")
            for gap in rule.missing:
                out.print(f"    {gap}")
        for row in measured.matrix_unused:
            out.print(f"role-matrix: no case needs the row {row}")
        out.print(f"{measured.percent} % of rules, branches and matrix rows are exercised")
    raise typer.Exit(1 if measured.percent < fail_under else 0)


def mutate(
    folder: Folder = None,
    file: Annotated[str, typer.Option(help="Only this rule file, such as consent.csv.")] = "",
    fail_under: Annotated[float, typer.Option(min=0, max=100, help="Exit 1 if fewer percent are noticed.")] = 100.0,
    as_json: AsJson = False,
) -> None:
    """Spoil each rule in turn and run the cases; list what no case notices, nor `check`.  Exit 1 if anything is."""
    parts, world, cases = _tested(folder)
    tried, survivors, stage = 0, [], Stage(world)
    for mutant in mutants(parts, file):
        tried += 1
        if survives(mutant, parts, stage, cases):
            survivors.append(mutant)
    if not tried:
        raise PolicyError(f"no rule stands in `{file}`" if file else "the pack holds no rule")
    noticed = int(1000 * (tried - len(survivors)) / tried) / 10
    if as_json:
        rows = [{"place": m.place, "name": m.name, "change": m.change} for m in survivors]
        print_json({"tried": tried, "percent": noticed, "survivors": rows})
    else:
        out = console()
        for each in survivors:
            out.print(f"{each.place.file}:{each.place.line}: {each.name}: {each.change}; no case notices")
        out.print(f"{tried - len(survivors)} of {tried} mutants are noticed ({noticed} %)")
    raise typer.Exit(1 if noticed < fail_under else 0)


def schema(name: Annotated[str, typer.Argument(help="One of: " + ", ".join(SCHEMAS))]) -> None:
    """Print the JSON Schema of one of the TOML files, for an editor."""
    if name not in SCHEMAS:
        raise PolicyError(f"`{name}` has no schema: {', '.join(SCHEMAS)} have")
    console().print_json(msgspec.json.encode(schema_of(name)).decode(), highlight=False)


def schema_of(name: str) -> dict[str, object]:
    """Return the JSON Schema of one of the TOML files of a pack."""
    made = msgspec.json.schema(SCHEMAS[name])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"{name}.toml of a policy pack", **made}


def _tested(folder: Path | None) -> tuple[Parts, World, dict[str, tuple[PolicyCase, ...]]]:
    texts = load_texts(find_pack(folder))
    parts, findings = read_parts(texts)
    cases, found = read_cases(texts)
    if parts is None or has_errors([*findings, *found]):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    if not any(cases.values()):
        raise PolicyError("the pack has no cases")
    world = read_world(texts, WORLD)
    if any(result.problem for result in run_cases(compile_parts(parts), world, cases, variants_of(parts))):
        raise PolicyError("the cases fail already; `ruqsat policy test` lists them")
    return parts, world, cases
