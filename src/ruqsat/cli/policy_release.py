"""
``ruqsat policy publish|rollback|history``: what is in force, from when, by whom and why.

``rollback`` and ``history`` are of releases in a folder; those in the database have ``cli.policy_database``.
"""

import asyncio
import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from ruqsat.cli.output import AsJson, console, print_json
from ruqsat.cli.policy_database import Approval, MustApply, Terms, Url, Who, Why, named, publish_to_database
from ruqsat.core.admission import Pack, build_pack, changes_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.verdict import Verdict
from ruqsat.errors import PolicyError
from ruqsat.service.administration_point import RefusedError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.policy_folder import find_pack, load_texts
from ruqsat.stores.policy_releases import Release, Releases
from ruqsat.wiring import examine, releases_of

Where = Annotated[Path | None, typer.Option("--dir", help="Folder of policy state (default: RUQSAT_POLICY_DIR).")]


def publish(
    folder: Annotated[Path | None, typer.Argument(help="The pack to publish (default: the pack in use).")] = None,
    *,
    why: Why,
    who: Who = None,
    where: Where = None,
    database_url: Url = None,
    activate: Annotated[bool, typer.Option("--activate", help="Database: in force at once, not staged first.")] = False,
    must_apply: MustApply = False,
    approval: Approval = None,
    as_json: AsJson = False,
) -> None:
    """
    Examine a pack, and put it in force for every sidecar with the same source of it.

    RUQSAT_POLICY_SOURCE=store: in force at once, where RUQSAT_POLICY_DIR is the same.
    `database` (or --database-url): staged, and in force with `ruqsat policy activate`.
    """
    settings = _settings(where, database_url)
    texts = load_texts(find_pack(folder))
    if settings.policy_source != "database" and database_url is None:
        if activate or must_apply or approval is not None:
            raise PolicyError("--activate, --must-apply and --approved-by are of releases in the database")
        _release("publish", settings, texts, who, why, as_json=as_json)
        return
    try:
        admitted = _examined(settings, texts)
    except RefusedError as error:
        console().print(str(error))
        raise typer.Exit(1) from None
    terms = Terms(who, why, approval, must_apply)
    publish_to_database(settings, texts, admitted, terms, activates=activate, as_json=as_json)


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
        print_json(past)
        return
    out = console()
    for release in reversed(past):
        mark = "in force" if release is past[-1] else "        "
        out.print(f"{release.number:>4}  {mark}  {release.at}  {release.kind:<8}  {release.digest[:16]}  {release.who}")
        out.print(f"      {release.why}")
        for name, told in named(release.changes):
            out.print(f"      {name:<8} {' '.join(told)}")
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
        console().print(str(error))
        raise typer.Exit(1) from None
    changes = changes_of(_pack_of(releases, past), (texts, pack.policy_set))
    release = Release(
        number=len(past) + 1, at=datetime.now(UTC).isoformat(timespec="seconds"), kind=kind,
        who=who or getpass.getuser(), why=why.strip(), digest=verdict.digest, file="",
        compared=verdict.compared, changes=changes,
    )  # fmt: skip
    release = releases.add(release, texts)
    if as_json:
        print_json(release)
        return
    out = console()
    out.print(f"release {release.number} is in force: policy set {release.digest}")
    if settings.policy_source != "store":
        out.print("  for sidecars with RUQSAT_POLICY_SOURCE=store, which is not set here; others go on as they were")
    out.print(f"  {verdict.cases} cases as promised, {verdict.compared} answers compared with stock pycasbin")
    for name, told in named(changes):
        out.print(f"  {name:<8} {' '.join(told)}")


def _examined(settings: Settings, texts: Mapping[str, bytes]) -> tuple[Pack, Verdict]:
    verdict = asyncio.run(examine(settings, texts))
    pack, _ = build_pack(texts) if verdict.admitted else (None, [])
    if pack is None or pack.policy_set.digest != verdict.digest:
        raise RefusedError(verdict)
    return pack, verdict


def _pack_of(releases: Releases, past: list[Release]) -> tuple[dict[str, bytes], PolicySet | None]:
    if not past:
        return {}, None
    texts = releases.texts_of(past[-1])
    pack, _ = build_pack(texts)
    return texts, pack.policy_set if pack is not None else None


def _settings(where: Path | None, database_url: str | None = None) -> Settings:
    return load_settings(auth_listen="off", policy_dir=where, database_url=database_url)
