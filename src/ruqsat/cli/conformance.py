"""``ruqsat conformance``: decide files of scenarios, and tell every difference."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Annotated

import httpx
import msgspec
import typer

from ruqsat.cli.client import open_client
from ruqsat.cli.conformance_http import SidecarClient, SidecarError, run_over_http
from ruqsat.cli.output import AsJson, console, print_json
from ruqsat.core.conformance import Outcome, ScenarioFile, run_scenarios, shuffled
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.pack import compile_parts, read_parts, variants_of
from ruqsat.errors import PolicyError, SettingsError
from ruqsat.stores.policy_folder import find_pack, load_texts

TIMEOUT_SECONDS = 60.0
"""For one answer: stock pycasbin may decide at the other end."""


def conformance(
    files: Annotated[list[Path], typer.Argument(help="Files of scenarios (YAML).")],
    pack: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    http: Annotated[
        str | None, typer.Option(help="Ask a sidecar started with `serve --test-fixtures`: URL of its JSON listener.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the order of documents; printed.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Decide the scenarios of each file, in process or over HTTP; exit 1 if one is not as it expects."""
    if http is not None and pack is not None:
        raise SettingsError("--pack and --http: the sidecar has its own pack")
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    dice, scenarios = Random(seed), [read_scenarios(file) for file in files]  # noqa: S311 - an order, no secret
    policy, outcomes = _in_process(pack, scenarios, dice) if http is None else _over_http(http, scenarios, dice)
    failed = sum(bool(outcome.differences) for outcome in outcomes)
    if as_json:
        print_json({"policy": policy, "http": http, "seed": seed, "scenarios": outcomes, "failed": failed})
    else:
        _print_table(outcomes)
        asked = "" if http is None else f", each asked stale, warm and cold at {http}"
        console().print(f"{len(outcomes) - failed} of {len(outcomes)} scenarios are met{asked} (seed {seed})")
    raise typer.Exit(1 if failed or not outcomes else 0)


def _in_process(pack: Path | None, files: Sequence[ScenarioFile], dice: Random) -> tuple[str, list[Outcome]]:
    parts, findings = read_parts(load_texts(find_pack(pack)))
    if parts is None or has_errors(findings):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    policy_set, variant = compile_parts(parts), variants_of(parts)
    outcomes: list[Outcome] = []
    for file in files:
        mixed = msgspec.structs.replace(file, scenarios=tuple(shuffled(each, dice) for each in file.scenarios))
        outcomes += run_scenarios(mixed, policy_set, variant)
    return policy_set.digest, outcomes


def _over_http(url: str, files: Sequence[ScenarioFile], dice: Random) -> tuple[str, list[Outcome]]:
    try:
        client = open_client(url, timeout=TIMEOUT_SECONDS)
    except httpx.InvalidURL as error:
        raise SidecarError(f"`{url}` is no URL: {error}") from None
    with client:
        sidecar = SidecarClient(client)
        policy = sidecar.rules({}).policy
        return policy, [outcome for file in files for outcome in run_over_http(sidecar, file, dice)]


def _print_table(outcomes: Sequence[Outcome]) -> None:
    out = console()
    width = max((len(_reason(outcome)) for outcome in outcomes), default=0)
    for outcome in outcomes:
        mark = "FAIL" if outcome.differences else "ok  "
        out.print(f"{mark} {outcome.id:<5} {_reason(outcome):<{width}}  {outcome.title}")
        for difference in outcome.differences:
            out.print(f"       {difference}")


def _reason(outcome: Outcome) -> str:
    return outcome.decision.reason if outcome.decision is not None else "-"


def read_scenarios(file: Path) -> ScenarioFile:
    """
    Read a file of scenarios; dates and instants may be texts or YAML's own.

    Raises:
        PolicyError: it cannot be read, or is no file of scenarios.
    """
    try:
        plain = msgspec.to_builtins(msgspec.yaml.decode(file.read_bytes()))
        return msgspec.convert(plain, ScenarioFile)
    except OSError as error:
        raise PolicyError(f"`{file}` cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        raise PolicyError(f"`{file}` is no file of scenarios: {error}") from error
