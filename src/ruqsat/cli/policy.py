"""``ruqsat policy``: check the rules and run their cases."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from ruqsat.cli import policy_release
from ruqsat.core.admission import load_routes
from ruqsat.core.cases import CaseResult, parse_cases, read_world, run_cases
from ruqsat.core.diagnostics import Diagnostic, Severity, Span, has_errors, render
from ruqsat.core.pack import load_pack
from ruqsat.errors import PolicyError
from ruqsat.stores.policy_folder import load_texts
from ruqsat.wiring import find_pack

app = typer.Typer(no_args_is_help=True)
for command in (policy_release.publish, policy_release.rollback, policy_release.history):
    app.command()(command)
WORLD = "policies/fixtures/world.toml"

Folder = Annotated[Path | None, typer.Argument(help="Folder with model.conf and policies/ (default: the pack in use).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]


@app.command("check")
def check(folder: Folder = None, as_json: AsJson = False) -> None:
    """Read the pack as the sidecar would, and print every finding with its place and a hint."""
    texts = load_texts(find_pack(folder))
    policy_set, findings = load_pack(texts)
    if policy_set is not None:
        findings += load_routes(texts, policy_set)[1]
    findings = sorted([*findings, *_case_findings(texts)], key=lambda finding: finding.span)
    digest = policy_set.digest if policy_set is not None and not has_errors(findings) else None
    if as_json:
        _print_json({"digest": digest, "findings": findings})
    else:
        out = _console()
        for finding in findings:
            out.print(render(finding), "", sep="\n")
        errors = sum(finding.severity is Severity.ERROR for finding in findings)
        files = len({finding.span.file for finding in findings})
        out.print(
            f"{len(policy_set.rules)} rules, no errors; policy set {digest}"
            if policy_set is not None and digest is not None
            else f"{errors} {_plural(errors, 'error')} in {files} {_plural(files, 'file')}; the set is refused"
        )
    raise typer.Exit(1 if findings else 0)


@app.command("test")
def test(folder: Folder = None, as_json: AsJson = False) -> None:
    """Decide every case beside the rules, and compare answer, rule and duties."""
    texts = load_texts(find_pack(folder))
    policy_set, findings = load_pack(texts)
    findings += _case_findings(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError("the pack has errors; `ruqsat policy check` lists them")
    files = {name: parse_cases(texts[name].decode(), name)[0] for name in _case_files(texts)}
    results = run_cases(policy_set, read_world(texts, WORLD), files)
    failed = [result for result in results if result.problem]
    if as_json:
        rows = [
            {"file": r.file, "name": r.case.name, "passed": not r.problem, "problem": r.problem,
             "reason": r.decision.reason, "rule": r.decision.rule} for r in results
        ]  # fmt: skip
        _print_json({"digest": policy_set.digest, "cases": rows})
    else:
        _print_results(results, failed)
    raise typer.Exit(1 if failed or not results else 0)


def _print_results(results: list[CaseResult], failed: list[CaseResult]) -> None:
    out = _console()
    for result in results:
        mark = "FAIL" if result.problem else "ok  "
        out.print(f"{mark} {result.file.removeprefix('policies/')}: {result.case.name}")
        if result.problem:
            out.print(f"     {result.problem}")
            out.print(f"     law: {' '.join(result.decision.law) or 'none'}")
    out.print(f"{len(results) - len(failed)} of {len(results)} cases are as promised")


def _case_files(texts: dict[str, bytes]) -> list[str]:
    return [name for name in sorted(texts) if name.endswith(".test.toml")]


def _case_findings(texts: dict[str, bytes]) -> list[Diagnostic]:
    findings = []
    for name in _case_files(texts):
        try:
            findings += parse_cases(texts[name].decode(), name)[1]
        except UnicodeDecodeError:
            findings.append(Diagnostic(Span(name), "not-utf-8", "the file is not UTF-8", "save it as UTF-8"))
    if _case_files(texts):
        try:
            read_world(texts, WORLD)
        except (ValueError, msgspec.ValidationError) as error:
            findings.append(Diagnostic(Span(WORLD), "bad-world", str(error), "see the comments of the file"))
    return findings


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")


def _plural(count: int, word: str) -> str:
    return word if count == 1 else word + "s"
