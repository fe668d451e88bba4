"""``ruqsat proxy``: a configuration for a proxy, and a test of one that runs."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.errors import SettingsError, StoreUnavailableError
from ruqsat.proxies.configuration import KINDS, read_address, render
from ruqsat.proxies.exchange import read_front
from ruqsat.proxies.matrix import Finding, Subject, run

app = typer.Typer(no_args_is_help=True, help="Configure and test proxies.")
_MANUAL = "docs/operations.md, Enforcement points"
ProxyKind = StrEnum("ProxyKind", {kind.upper().replace("-", "_"): kind for kind in KINDS})  # type: ignore[misc]


@app.callback()
def proxies() -> None:
    """Configure and test proxies."""


@app.command("config")
def config(
    kind: Annotated[ProxyKind, typer.Argument(help="The proxy.")],
    front: Annotated[str, typer.Option(help="Where the proxy listens.")] = "127.0.0.1:8080",
    sidecar: Annotated[
        str | None, typer.Option(help="The sidecar's forward-auth listener (envoy-grpc: its gRPC listener).")
    ] = None,
    upstream: Annotated[str, typer.Option(help="What is behind the proxy.")] = "127.0.0.1:9000",
    into: Annotated[Path | None, typer.Option(help="Write the files into this folder; none is replaced.")] = None,
) -> None:
    """Print a configuration that asks the sidecar: the file that the project's tests run, with your addresses."""
    asks = read_address(sidecar or f"127.0.0.1:{KINDS[kind.value].asks}")
    files = render(kind.value, read_address(front), asks, read_address(upstream))
    if not asks.host.startswith("127."):
        typer.echo(f"note: tokens go to {asks} in plain text, and no secret with them; see {_MANUAL}", err=True)
    if into is None:
        if len(files) > 1:
            raise SettingsError(f"{kind.value} needs {plural(len(files), 'file')}: give --into FOLDER")
        typer.echo(next(iter(files.values())), nl=False)
        return
    _write(files, into)
    if KINDS[kind.value].start:
        _say(f"start it with: cd {into} && {KINDS[kind.value].start}")
    _say(f"then: BEARER=… ruqsat proxy test --front http://{front}")


def _write(files: dict[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(text)
            _say(f"wrote {folder / name}")
    except FileExistsError as error:
        raise SettingsError(f"`{error.filename}` is there already: nothing is replaced") from None
    except OSError as error:
        raise SettingsError(f"`{error.filename}` cannot be written: {error.strerror}") from None


@app.command("test")
def test(
    front: Annotated[str, typer.Option(help="URL of the proxy.")] = "http://127.0.0.1:8080",
    token: Annotated[
        str | None, typer.Option(help="Bearer token of a test person (default: $BEARER).", show_default=False)
    ] = None,
    allowed: Annotated[str, typer.Option(help="A path that this person may read.")] = "/patients/p-dana/labs/o1",
    denied: Annotated[str, typer.Option(help="A path that this person may not read.")] = "/patients/p-dana/labs/o2",
    as_json: AsJson = False,
) -> None:
    """Test a running proxy with its sidecar: statuses, forged headers, confusing paths; exit 1 if something passes."""
    bearer = token or os.environ.get("BEARER", "")
    if not bearer or not bearer.isascii() or not bearer.isprintable() or " " in bearer:
        raise SettingsError("a bearer token is needed: --token or $BEARER")
    for path in (allowed, denied):
        if (
            not path.startswith("/")
            or len(path) < 2
            or not path[-1].isalnum()
            or not path.isascii()
            or not _plain(path)
        ):
            raise SettingsError("--allowed and --denied are plain paths, such as /patients/p-dana/labs/o1")
    try:
        findings = run(read_front(front), Subject(bearer, allowed, denied))
    except OSError as error:
        raise StoreUnavailableError(f"no answer from the proxy: {error.__class__.__name__}") from None
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)


def _plain(path: str) -> bool:
    return path.isprintable() and not set(path) & set(" ?#%;\\") and "//" not in path


def _print(findings: list[Finding]) -> None:
    for finding in findings:
        mark = {True: "good", False: "BAD", None: "unseen"}[finding.good]
        told = "" if finding.good else f": expected {finding.expected}, seen {finding.seen}"
        _say(f"{mark:<6} {finding.group}: {finding.name}{told}")
    bad = sum(finding.good is False for finding in findings)
    unseen = sum(finding.good is None for finding in findings)
    _say(f"{plural(len(findings), 'check')}, {bad} bad" + (f", {unseen} not seen" if unseen else ""))
    if unseen:
        _say("What arrives behind the proxy is seen where examples/records_server.py stands there.")


def _say(line: str) -> None:
    console().print(line, highlight=False, soft_wrap=True, markup=False)
