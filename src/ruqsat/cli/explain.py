"""``ruqsat explain``: why a request is decided as it is, on a world written down in a file."""

import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.output import AsJson, console, print_json
from ruqsat.core.authoring.counterfactual import smallest_changes
from ruqsat.core.authoring.tracing import Trace, Tracer
from ruqsat.core.case import Case
from ruqsat.core.cases import read_world
from ruqsat.core.decision import Decision
from ruqsat.core.diagnostics import has_errors
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position, entry_id
from ruqsat.core.instant import at, parse_instant
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.validity import refuse_invalid
from ruqsat.core.world import World, parse_world
from ruqsat.errors import PolicyError, RequestError
from ruqsat.messages import LANGUAGES, Language, text_of
from ruqsat.stores.policy_folder import find_pack, load_texts
from ruqsat.web.wire import decode_evaluation


def explain(
    request: Annotated[Path, typer.Argument(help="An AuthZEN evaluation request; `-` reads standard input.")],
    pack: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    world: Annotated[Path | None, typer.Option(help="World file (default: the pack's fixtures/world.toml).")] = None,
    moment: Annotated[str | None, typer.Option("--at", help="RFC 3339 instant (default: now).")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every rule, with what it fails at.")] = False,
    language: Annotated[str, typer.Option("--lang", help="Language of the reason: kk, ru or en.")] = "en",
    as_json: AsJson = False,
) -> None:
    """
    Decide one request on a written world, and show why.  Exit 0 allowed, 1 denied.

    Each rule that was asked is shown with what it fails at; a denial with the
    smallest changes that would turn it.
    """
    texts = load_texts(find_pack(pack))
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    asked = decode_evaluation(_read(request), policy_set.request_type)
    facts = _facts(policy_set, _world(texts, world), asked)
    now = at(_moment(moment))
    capabilities = frozenset(name for name, duty in policy_set.vocabulary.duties.items() if duty.blocking)
    decision = evaluate(policy_set, asked, facts, now, capabilities)
    case = Case.of(asked, facts, now)
    traces = [] if refuse_invalid(case, policy_set.vocabulary) else _considered(policy_set, case, every=every)
    changes = () if decision.allowed else smallest_changes(policy_set, (asked, facts, now), capabilities)
    if as_json:
        rows = [
            {"rule": t.rule.id, "effect": _effect(t), "matched": t.matched, "failed": t.failed, "steps": t.steps,
             "condition": t.rule.condition} for t in traces
        ]  # fmt: skip
        print_json({"decision": decision.allowed, "explain": decision, "asked": rows, "would_allow": changes})
    else:
        _print(decision, policy_set, traces, changes, _language(language))
    raise typer.Exit(0 if decision.allowed else 1)


def _considered(policy_set: PolicySet, case: Case, *, every: bool) -> list[Trace]:
    """Return the traces of the rules that were asked, in order, up to the one that settled it; or of all rules."""
    tracer = Tracer(policy_set)
    if every:
        return [tracer.trace(rule, case) for rule in policy_set.rules]
    could_match = {rule.id for rule in policy_set.candidates_for(case).rules}
    return [trace for trace in tracer.settled_by(case) if trace.rule.id in could_match]


def _print(
    decision: Decision,
    policy_set: PolicySet,
    traces: list[Trace],
    changes: tuple[tuple[str, ...], ...],
    language: Language,
) -> None:
    out = console()
    out.print(("ALLOWED  " if decision.allowed else "DENIED  ") + decision.reason)
    out.print(f"  meaning  {text_of(decision.reason, language) or 'not in the catalogue'}")
    out.print(f"  by       {decision.rule or 'silence: no rule allows it (order §14)'}")
    for label, words in (("basis", [decision.basis or ""]), ("duties", decision.duties), ("applied", decision.applied)):
        if any(words):
            out.print(f"  {label:<8} {' '.join(words)}")
    for key in decision.law:
        law = policy_set.laws.get(key)
        out.print(f"  law      {key}" + (f"  {getattr(law.title, language)}" if law is not None else ""))
    out.print(f"  client   sees `{policy_set.coarse(decision.reason)}`")
    if traces:
        out.print("rules considered, in order:")
    for trace in traces:
        because = "matches" if trace.matched else f"fails at {trace.failed}"
        out.print(f"  {'->' if trace.matched else '  '} {trace.rule.id} ({_effect(trace)}): {because}")
        if trace.matched:
            out.print(f"       {trace.rule.condition}")
    if not decision.allowed:
        out.print("it would be allowed if:" if changes else "no one or two changes of request or facts would allow it")
    for change in changes:
        out.print("  - " + ", and ".join(change))


def _language(word: str) -> Language:
    for language in LANGUAGES:
        if word == language:
            return language
    raise RequestError(f"--lang: `{word}` is not one of {', '.join(LANGUAGES)}")


def _effect(trace: Trace) -> str:
    return "allow" if trace.rule.allows else "deny"


def _facts(policy_set: PolicySet, world: World, asked: EvaluationRequest) -> Facts:
    subjects, patients = project_world(world, policy_set.vocabulary.switches)
    properties = asked.resource.properties
    patient = properties.patient if properties is not None else None
    recipient = asked.context.recipient if asked.context is not None else None
    return Facts(
        next((who for who in subjects if who.id == asked.subject.id), None),
        next((who for who in patients if who.id == patient), None),
        Position("world", 0),
        others=patients,
        recipient=next((each for each in subjects if each.id == recipient), None),
        resource=next((each for each in subjects if each.id == entry_id(asked.resource.type, asked.resource.id)), None),
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
