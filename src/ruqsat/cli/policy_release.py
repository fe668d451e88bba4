"""``ruqsat policy publish|rollback|history``: what is in force, from when, by whom and why."""

import asyncio
import getpass
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console

from ruqsat.core.admission import Changes, Pack, build_pack, changes_between
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.verdict import Verdict
from ruqsat.errors import PolicyError
from ruqsat.service.administration_point import RefusedError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.policy_releases import Release, Releases
from ruqsat.wiring import examine, find_pack, releases_of

Why = Annotated[str, typer.Option("--why", help="The reason, for the history: a ticket, a decision.")]
Who = Annotated[str | None, typer.Option("--who", help="Who decided it (default: the account that runs this).")]
Where = Annotated[Path | None, typer.Option("--dir", help="Folder of policy state (default: RUQSAT_POLICY_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def publish(
    why: Why,
    folder: Annotated[Path | None, typer.Argument(help="The pack to publish (default: the pack in use).")] = None,
    who: Who = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Examine a pack and put it in force for every sidecar that runs with RUQSAT_POLICY_SOURCE=store."""
    settings = _settings(where)
    _release("publish", settings, load_texts(find_pack(folder)), who, why, as_json=as_json)


def rollback(
    why: Why,
    number: Annotated[int | None, typer.Argument(help="The release to go back to (default: the one before).")] = None,
    who: Who = None,
    where: Where = None,
    as_json: AsJson = False,
) -> None:
    """Examine an earlier release again and put it back in force."""
    settings = _settings(where)
    releases = releases_of(settings)
    history = releases.history()
    wanted = number if number is not None else len(history) - 1
    if not 1 <= wanted <= len(history):
        raise PolicyError(f"there is no release {wanted}: `ruqsat policy history` lists {len(history)}")
    _release("rollback", settings, releases.texts_of(history[wanted - 1]), who, why, as_json=as_json)


def history(where: Where = None, as_json: AsJson = False) -> None:
    """List the releases, newest first; the first is in force."""
    past = releases_of(_settings(where)).history()
    if as_json:
        _print_json(past)
        return
    out = _console()
    for release in reversed(past):
        mark = "in force" if release is past[-1] else "        "
        out.print(f"{release.number:>4}  {mark}  {release.at}  {release.kind:<8}  {release.digest[:16]}  {release.who}")
        out.print(f"      {release.why}")
        for name, ids in _named(release.changes):
            out.print(f"      {name:<8} {' '.join(ids)}")
    if not past:
        out.print("no release yet: `ruqsat policy publish` makes the first")


def _release(
    kind: Literal["publish", "rollback"], settings: Settings, texts: dict[str, bytes], who: str | None, why: str, *,
    as_json: bool,
) -> None:  # fmt: skip
    if not why.strip():
        raise PolicyError("--why is empty: the history needs a reason")
    releases = releases_of(settings)
    past = releases.history()
    try:
        pack, verdict = _examined(settings, texts)
    except RefusedError as error:
        _console().print(str(error))
        raise typer.Exit(1) from None
    changes = changes_between(_set_of(releases, past), pack.policy_set)
    release = Release(
        number=len(past) + 1, at=datetime.now(UTC).isoformat(timespec="seconds"), kind=kind,
        who=who or getpass.getuser(), why=why.strip(), digest=verdict.digest, file="",
        compared=verdict.compared, changes=changes,
    )  # fmt: skip
    release = releases.add(release, texts)
    if as_json:
        _print_json(release)
        return
    out = _console()
    out.print(f"release {release.number} is in force: policy set {release.digest}")
    out.print(f"  {verdict.cases} cases as promised, {verdict.compared} answers compared with stock pycasbin")
    for name, ids in _named(changes):
        out.print(f"  {name:<8} {' '.join(ids)}")


def _examined(settings: Settings, texts: Mapping[str, bytes]) -> tuple[Pack, Verdict]:
    verdict = asyncio.run(examine(settings, texts))
    pack, _ = build_pack(texts) if verdict.admitted else (None, [])
    if pack is None or pack.policy_set.digest != verdict.digest:
        raise RefusedError(verdict)
    return pack, verdict


def _set_of(releases: Releases, past: list[Release]) -> PolicySet | None:
    if not past:
        return None
    pack, _ = build_pack(releases.texts_of(past[-1]))
    return pack.policy_set if pack is not None else None


def _named(changes: Changes) -> list[tuple[str, tuple[str, ...]]]:
    named = [("added", changes.added), ("removed", changes.removed), ("changed", changes.changed)]
    return [(name, ids) for name, ids in named if ids]


def _settings(where: Path | None) -> Settings:
    return load_settings(auth_listen="off", policy_dir=where)


def _console() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def _print_json(value: object) -> None:
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
