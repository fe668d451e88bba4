"""``ruqsat conformance``: decide files of scenarios, and tell every difference."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.output import AsJson, console, print_json
from ruqsat.core.conformance import Outcome, ScenarioFile, run_scenarios
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.pack import compile_parts, read_parts, variants_of
from ruqsat.errors import PolicyError
from ruqsat.stores.policy_folder import load_texts
from ruqsat.wiring import find_pack


def conformance(
    files: Annotated[list[Path], typer.Argument(help="Files of scenarios (YAML).")],
    pack: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide the scenarios of each file with the pack; exit 1 if one is not as it expects."""
    parts, findings = read_parts(load_texts(find_pack(pack)))
    if parts is None or has_errors(findings):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    policy_set, variant = compile_parts(parts), variants_of(parts)
    outcomes: list[Outcome] = []
    for file in files:
        try:
            outcomes += run_scenarios(read_scenarios(file), policy_set, variant)
        except (msgspec.ValidationError, KeyError, ValueError) as error:
            raise PolicyError(f"`{file}` is no file of scenarios: {error}") from None
    failed = [outcome for outcome in outcomes if outcome.differences]
    if as_json:
        print_json({"policy": policy_set.digest, "scenarios": outcomes, "failed": len(failed)})
    else:
        out = console()
        for outcome in outcomes:
            out.print(f"{'FAIL' if outcome.differences else 'ok  '} {outcome.id:<5} {outcome.title}")
            for difference in outcome.differences:
                out.print(f"       {difference}")
        out.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} scenarios are met")
    raise typer.Exit(1 if failed or not outcomes else 0)


def read_scenarios(file: Path) -> ScenarioFile:
    """
    Read a file of scenarios.

    Raises:
        PolicyError: it cannot be read, or is no file of scenarios.
    """
    try:
        return msgspec.yaml.decode(file.read_bytes(), type=ScenarioFile)
    except OSError as error:
        raise PolicyError(f"`{file}` cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise PolicyError(f"`{file}` is no file of scenarios: {error}") from error
