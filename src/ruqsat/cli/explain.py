"""``ruqsat explain``: why a request is decided as it is, on a world written down in a file."""

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from ruqsat.core.case import Case
from ruqsat.core.cases import read_world
from ruqsat.core.decision import Decision
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import at, parse_instant
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet, matches
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World, parse_world, project_world
from ruqsat.errors import PolicyError, RequestError
from ruqsat.stores.policy_folder import load_texts
from ruqsat.web.wire import decode_evaluation
from ruqsat.wiring import find_pack


def explain(
    request: Annotated[Path, typer.Argument(help="An AuthZEN evaluation request; `-` reads standard input.")],
    pack: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    world: Annotated[Path | None, typer.Option(help="World file (default: the pack's fixtures/world.toml).")] = None,
    moment: Annotated[str | None, typer.Option("--at", help="RFC 3339 instant (default: now).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")] = False,
) -> None:
    """Decide one request on a written world and show every rule that was asked.  Exit 0 allowed, 1 denied."""
    texts = load_texts(find_pack(pack))
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    asked = decode_evaluation(_read(request))
    facts = _facts(policy_set, _world(texts, world), asked)
    now = at(_moment(moment))
    capabilities = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    decision = evaluate(policy_set, asked, facts, now, capabilities)
    rules = [] if refuse_invalid(case := Case(asked, facts, now), policy_set.vocabulary) else _asked(policy_set, case)
    if as_json:
        answer = {"decision": decision.allowed, "explain": decision, "asked": rules}
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    else:
        _print(decision, policy_set, rules)
    raise typer.Exit(0 if decision.allowed else 1)


def _asked(policy_set: PolicySet, case: Case) -> list[dict[str, object]]:
    """List the rules that were asked, in order, up to the one that settled it."""
    rows: list[dict[str, object]] = []
    for rule in policy_set.candidates_for(case).rules:
        matched = matches(rule, policy_set.test_of(rule), case)
        effect = "allow" if rule.allows else "deny"
        rows.append({"rule": rule.id, "effect": effect, "matched": matched, "condition": rule.condition})
        if matched:
            break
    return rows


def _print(decision: Decision, policy_set: PolicySet, rules: list[dict[str, object]]) -> None:
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.print(("ALLOWED  " if decision.allowed else "DENIED  ") + decision.reason)
    out.print(f"  by       {decision.rule or 'silence: no rule allows it (order §14)'}")
    for label, words in (("basis", [decision.basis or ""]), ("duties", decision.duties), ("applied", decision.applied)):
        if any(words):
            out.print(f"  {label:<8} {' '.join(words)}")
    for key in decision.law:
        law = policy_set.laws.get(key)
        out.print(f"  law      {key}" + (f"  {law.title.en}" if law is not None else ""))
    out.print(f"  client   sees `{policy_set.coarse(decision.reason)}`")
    if rules:
        out.print("rules asked, in order:")
    for row in rules:
        out.print(f"  {'->' if row['matched'] else '  '} {row['rule']} ({row['effect']}): {row['condition']}")


def _facts(policy_set: PolicySet, world: World, asked: EvaluationRequest) -> Facts:
    subjects, patients = project_world(world, policy_set.vocabulary.switches)
    properties = asked.resource.properties
    patient = properties.patient if properties is not None else None
    return Facts(
        next((who for who in subjects if who.id == asked.subject.id), None),
        next((who for who in patients if who.id == patient), None),
        Position("world", 0),
    )


def _world(texts: dict[str, bytes], file: Path | None) -> World:
    try:
        if file is None:
            return read_world(texts, "policies/fixtures/world.toml")
        return parse_world(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, msgspec.ValidationError) as error:
        raise PolicyError(f"the world cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _moment(text: str | None) -> int:
    if text is None:
        return parse_instant(datetime.now(UTC).isoformat())
    try:
        return parse_instant(text)
    except ValueError as error:
        raise RequestError(f"--at: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise RequestError(f"`{path}` cannot be read: {error.strerror}") from error
