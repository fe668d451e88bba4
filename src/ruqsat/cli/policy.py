"""``ruqsat policy``: check the rules and run their cases."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.lazy import lazily
from ruqsat.cli.output import AsFormat, AsJson, Format, console, plural, print_findings, print_json
from ruqsat.core.admission import WORLD, Pack, build_pack, read_cases
from ruqsat.core.authoring.advice import advise
from ruqsat.core.authoring.law_trace import OUT_OF_REACH, read_out_of_reach
from ruqsat.core.cases import CaseResult, read_world, run_cases
from ruqsat.core.diagnostics import Diagnostic, Severity, Span, has_errors, in_order
from ruqsat.core.pack import compile_parts, read_parts, variants_of
from ruqsat.errors import PolicyError
from ruqsat.stores.policy_folder import find_pack, load_texts

_ELSEWHERE = {
    "fmt": "policy_author:fmt", "coverage": "policy_author:coverage", "mutate": "policy_author:mutate",
    "schema": "policy_author:schema", "read": "policy_read:read", "diff": "policy_compare:diff",
    "trace-law": "policy_compare:trace", "publish": "policy_release:publish", "rollback": "policy_release:rollback",
    "history": "policy_release:history", "releases": "policy_database:releases", "stage": "policy_database:stage",
    "activate": "policy_database:activate", "status": "policy_database:status",
}  # fmt: skip

app = typer.Typer(cls=lazily(_ELSEWHERE), no_args_is_help=True, help="Check and test the rules.")

Folder = Annotated[Path | None, typer.Argument(help="Folder with model.conf and policies/ (default: the pack in use).")]


@app.command("check")
def check(
    folder: Folder = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on warnings too.")] = False,
    today: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day that reviews are due by.")] = None,
    form: AsFormat = Format.TEXT,
    as_json: AsJson = False,
) -> None:
    """Read the pack as the sidecar would; print every finding with its place and a hint.  Exit 1 on an error."""
    texts = load_texts(find_pack(folder))
    findings, pack = findings_of_pack(texts, (today or datetime.now(UTC)).date())
    digest = pack.policy_set.digest if pack is not None else None
    if as_json or form is Format.JSON:
        print_json({"digest": digest, "findings": findings})
    else:
        print_findings(findings, form)
        if form is Format.TEXT:
            _print_summary(findings, pack)
    raise typer.Exit(1 if has_errors(findings) or (strict and findings) else 0)


@app.command("test")
def test(folder: Folder = None, form: AsFormat = Format.TEXT, as_json: AsJson = False) -> None:
    """Decide every case beside the rules, and compare answer, rule and duties."""
    texts = load_texts(find_pack(folder))
    parts, findings = read_parts(texts)
    files, found = read_cases(texts)
    if parts is None or has_errors([*findings, *found]):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    policy_set = compile_parts(parts)
    try:
        results = run_cases(policy_set, read_world(texts, WORLD), files, variants_of(parts))
    except (ValueError, msgspec.ValidationError) as error:
        raise PolicyError(f"the cases cannot be run: {error}") from None
    failed = [result for result in results if result.problem]
    if as_json or form is Format.JSON:
        rows = [
            {"file": r.file, "name": r.case.name, "passed": not r.problem, "problem": r.problem,
             "reason": r.decision.reason, "rule": r.decision.rule} for r in results
        ]  # fmt: skip
        print_json({"digest": policy_set.digest, "cases": rows})
    elif form is Format.GITHUB:
        print_findings(
            [Diagnostic(Span(r.file), "case-failed", f"{r.case.name}: {r.problem}") for r in failed], Format.GITHUB
        )
    else:
        _print_results(results, failed)
    raise typer.Exit(1 if failed or not results else 0)


def findings_of_pack(texts: dict[str, bytes], today: date) -> tuple[list[Diagnostic], Pack | None]:
    """Return every finding about a pack, and the pack itself if none is an error."""
    parts, _ = read_parts(texts)
    pack, findings = build_pack(texts)
    cases, found = read_cases(texts)
    findings = [*findings, *found, *_world_findings(texts)]
    if OUT_OF_REACH in texts:
        findings += read_out_of_reach(texts[OUT_OF_REACH].decode(errors="replace"))[1]
    if parts is not None and not has_errors(findings):
        findings += advise(parts, texts, cases, today)
    return in_order(findings), None if has_errors(findings) else pack


def _world_findings(texts: dict[str, bytes]) -> list[Diagnostic]:
    if not any(name.endswith(".test.toml") for name in texts):
        return []
    try:
        read_world(texts, WORLD)
    except (ValueError, msgspec.ValidationError) as error:
        return [Diagnostic(Span(WORLD), "bad-world", str(error), "see the comments of the file")]
    return []


def _print_summary(findings: list[Diagnostic], pack: Pack | None) -> None:
    warnings = [finding for finding in findings if finding.severity is Severity.WARNING]
    errors = len(findings) - len(warnings)
    said = f", {plural(len(warnings), 'warning')}" if warnings else ""
    if pack is not None:
        rules = plural(len(pack.policy_set.rules), "rule")
        console().print(f"{rules}, no errors{said}; policy set {pack.policy_set.digest}")
    else:
        files = len({finding.span.file for finding in findings if finding.severity is Severity.ERROR})
        console().print(f"{plural(errors, 'error')} in {plural(files, 'file')}{said}; the set is refused")


def _print_results(results: list[CaseResult], failed: list[CaseResult]) -> None:
    out = console()
    for result in results:
        mark = "FAIL" if result.problem else "ok  "
        out.print(f"{mark} {result.file.removeprefix('policies/')}: {result.case.name}")
        if result.problem:
            out.print(f"     {result.problem}")
            out.print(f"     law: {' '.join(result.decision.law) or 'none'}")
    out.print(f"{len(results) - len(failed)} of {len(results)} cases are as promised")
