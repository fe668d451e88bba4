"""``ruqsat policy read``: how a request is read, by the routes of a pack."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ruqsat.cli.output import AsJson, Format, console, print_findings, print_json
from ruqsat.core.admission import load_routes
from ruqsat.core.fhir.meaning import Meaning
from ruqsat.core.fhir.reading import read_target
from ruqsat.core.fhir.records import lookups_of
from ruqsat.core.pack import load_pack
from ruqsat.core.routes import Mapped, RouteTable, mapped_of
from ruqsat.core.target import TargetRejected, parse_target
from ruqsat.stores.policy_folder import find_pack, load_texts


def read(
    method: Annotated[str, typer.Argument(help="GET, POST, ….")],
    target: Annotated[str, typer.Argument(help="Path and query, as they are sent: /fhir/Observation?patient=p1.")],
    body: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="File with the body; without it the body counts as unseen."),
    ] = None,
    header: Annotated[list[str] | None, typer.Option(help="`Name: value`, as often as needed.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how a request is read: action, classes, patient, what must be looked up or filtered.  Exit 1 if refused."""
    texts = load_texts(find_pack(folder))
    policy_set, findings = load_pack(texts)
    routes, found = load_routes(texts, policy_set) if policy_set is not None else (None, [])
    if routes is None:
        print_findings([*findings, *found], Format.TEXT)
        raise typer.Exit(1)
    headers = [(name.strip(), value.strip()) for name, _, value in (each.partition(":") for each in header or ())]
    meaning = _read(routes, method, target.encode(), headers, body.read_bytes() if body is not None else None)
    shown = {"refused": meaning} if isinstance(meaning, str) else msgspec.to_builtins(meaning)
    if as_json:
        print_json(shown)
    else:
        _print(shown, "")
    if isinstance(meaning, Meaning):
        proxy = "asked" if mapped_of(meaning, by_body=body is not None) is not None else "refused"
        if lookups_of(meaning):
            proxy = "asked, once its server has said whose it is (RUQSAT_FHIR_SERVERS)"
        if body is not None and proxy != "refused":
            proxy += "; where the proxy shows bodies"
        if not as_json:
            console().print(f"behind a proxy: {proxy}", highlight=False)
        raise typer.Exit(1 if meaning.answer == "deny" else 0)
    raise typer.Exit(1 if isinstance(meaning, str) else 0)


def _read(
    routes: RouteTable, method: str, raw: bytes, headers: list[tuple[str, str]], body: bytes | None
) -> Meaning | Mapped | str:
    try:
        target = parse_target(raw, None)
    except TargetRejected as refusal:
        return f"bad_target ({refusal.code})"
    if routes.fhir is not None and routes.fhir.server_of(target.segments) is not None:
        return read_target(method, target, headers, body, routes.fhir)
    return routes.match(method, target.segments, target.query) or "unmapped.route"


def _print(shown: dict[str, object], indent: str) -> None:
    for name, value in shown.items():
        if isinstance(value, list | tuple) and name == "entries":
            for number, entry in enumerate(value, 1):
                console().print(f"{indent}entry {number}", highlight=False)
                _print(entry, indent + "  ")
        elif value not in (None, "", False, [], (), "*"):
            if isinstance(value, dict):
                value = [f"{key} {each}" for key, each in value.items() if each is not None]  # noqa: PLW2901
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            if text:
                console().print(f"{indent}{name:<13} {text}", highlight=False)
