"""``ruqsat policy releases|stage|activate|status``, and publishing to the database that sidecars share."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, TypeVar

import msgspec
import typer

from ruqsat.cli.journal_database import existing_url
from ruqsat.cli.output import AsJson, console, plural, print_json
from ruqsat.core.admission import Changes, Pack, build_pack, changes_of
from ruqsat.core.instant import SECOND, Instant, render_instant
from ruqsat.core.policy_release import POLICY, Kind, Sidecar, Standing, Step, address_of, encode_texts, open_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.verdict import Verdict
from ruqsat.errors import PolicyError
from ruqsat.settings import Settings, load_settings
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.sql import SqlStore

SILENT: Instant = 90 * SECOND
"""A sidecar renews its report every 30 s; one that has not for so long is gone, or cannot."""

T = TypeVar("T")

Why = Annotated[str, typer.Option("--why", "--reason", help="The reason, for the history: a ticket, a decision.")]
Who = Annotated[
    str | None, typer.Option("--who", "--author", help="Who decided it (default: the account that runs this).")
]
Approval = Annotated[str | None, typer.Option("--approved-by", help="Who else agreed to it; not the author.")]
MustApply = Annotated[
    bool,
    typer.Option("--must-apply", help="It takes access away: a sidecar that cannot put it in force allows nothing."),
]
Url = Annotated[
    str | None,
    typer.Option("--database-url", help="`postgresql://…` or `sqlite:///file` (default: RUQSAT_DATABASE_URL)."),
]
Wanted = Annotated[str, typer.Argument(metavar="DIGEST", help="The beginning of a digest that `releases` shows.")]


class Terms(NamedTuple):
    """What the history keeps of a step."""

    author: str | None
    reason: str
    approval: str | None = None
    must_apply: bool = False


def activate(
    wanted: Wanted, why: Why, who: Who = None, approval: Approval = None, must_apply: MustApply = False,
    database_url: Url = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Put a release of the database in force everywhere; an older one too, which is how to go back."""
    terms = Terms(who, why, approval, must_apply)
    _print_steps(_step_to(_settings(database_url), wanted, "activate", terms), as_json=as_json)


def stage(wanted: Wanted, why: Why, who: Who = None, database_url: Url = None, as_json: AsJson = False) -> None:
    """Let every sidecar make an earlier release of the database ready."""
    _print_steps(_step_to(_settings(database_url), wanted, "stage", Terms(who, why)), as_json=as_json)


def releases(database_url: Url = None, as_json: AsJson = False) -> None:
    """List what was staged and activated in the database, newest first."""

    async def work(store: PolicyStore) -> tuple[list[Step], Standing]:
        return await store.steps(), (await store.fetch_standing(""))[0]

    steps, standing = _with_store(_settings(database_url), work)
    if as_json:
        print_json(steps)
        return
    out = console()
    for step in reversed(steps):
        staged = step is steps[-1] and step.kind == "stage"
        mark = "in force" if step.generation == standing.generation else "staged" if staged else ""
        flags = ("  must apply" if step.must_apply else "") + (
            f"  approved by {step.approval}" if step.approval else ""
        )
        out.print(
            f"{step.generation:>4}  {mark:<8}  {render_instant(step.at)}  {step.kind:<8}  {step.digest[:16]}  "
            f"{step.author}{flags}"
        )
        out.print(f"      {step.reason}")
        _print_changes(step.changes)
    if not steps:
        out.print("no release yet: `ruqsat policy publish --activate` makes the first")


def status(database_url: Url = None, as_json: AsJson = False) -> None:
    """Tell what is in force and staged, and how each sidecar stands to it; exit 1 if one is not as it should be."""

    async def work(store: PolicyStore) -> tuple[Standing, list[Sidecar]]:
        return (await store.fetch_standing(""))[0], await store.reports()

    standing, sidecars = _with_store(_settings(database_url), work)
    now = _now()
    if as_json:
        print_json({"standing": standing, "sidecars": sidecars})
    else:
        out = console()
        out.print(f"generation {standing.generation}: policy set {standing.digest or 'none'} is in force")
        if standing.staged:
            out.print(f"staged: policy set {standing.staged_digest}")
        for each in sidecars:
            out.print(f"  {each.name}  {_said(each, now)}")
            for reason in each.report.reasons:
                out.print(f"      {reason}")
        if not sidecars:
            out.print("no sidecar has reported")
    raise typer.Exit(0 if all(_is_well(each, standing) for each in sidecars if not _is_silent(each, now)) else 1)


def publish_to_database(
    settings: Settings, texts: dict[str, bytes], admitted: tuple[Pack, Verdict], terms: Terms, *, activates: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """
    Stage a pack that was examined, or activate it at once.

    Raises:
        PolicyError: another step came between, or the terms are not allowed; nothing was changed.
        StoreUnavailableError: the database failed.
    """
    pack, verdict = admitted
    address = address_of(encode_texts(texts))

    async def work(store: PolicyStore) -> tuple[Step, ...]:
        past = await store.steps()
        changes = await _changes_by(store, texts, pack.policy_set)
        kinds: list[Kind] = ["stage", "activate"] if activates else ["stage"]
        steps = tuple(
            _step(len(past) + number, kind, address, verdict.digest, terms, changes)
            for number, kind in enumerate(kinds, 1)
        )
        await _add(settings, store, steps, texts)
        return steps

    steps = _with_store(settings, work)
    _print_steps(steps, as_json=as_json)
    if not as_json:
        compared = f"{verdict.compared} answers compared with stock pycasbin"
        console().print(f"  {plural(verdict.cases, 'case')} as promised, {compared}")


def _step_to(settings: Settings, wanted: str, kind: Kind, terms: Terms) -> tuple[Step, ...]:
    async def work(store: PolicyStore) -> tuple[Step, ...]:
        past = await store.steps()
        found = _find(past, wanted)
        marked = any(step.must_apply for step in past if step.address == found.address and step.kind == "stage")
        terms_here = terms._replace(must_apply=terms.must_apply or marked)
        texts, policy_set = await _pack_of(store, found.address, found.digest)
        if policy_set is None:
            raise PolicyError("the release cannot be compiled by this version")
        changes = await _changes_by(store, texts, policy_set)
        step = _step(len(past) + 1, kind, found.address, found.digest, terms_here, changes)
        await _add(settings, store, (step,), None)
        return (step,)

    return _with_store(settings, work)


def _find(past: list[Step], wanted: str) -> Step:
    """Return the newest step to the release meant."""
    found = [step for step in past if wanted and (step.digest.startswith(wanted) or step.address.startswith(wanted))]
    if len({step.digest for step in found}) != 1:
        raise PolicyError(f"{'several releases begin' if found else 'no release begins'} with `{wanted}`")
    return found[-1]


def _step(generation: int, kind: Kind, address: str, digest: str, terms: Terms, changes: Changes) -> Step:
    if not terms.reason.strip():
        raise PolicyError("--why is empty: the history needs a reason")
    author = terms.author or getpass.getuser()
    approval = terms.approval if kind == "activate" else None
    return Step(
        generation, kind, address, digest, author, terms.reason.strip(), approval, _now(), terms.must_apply, changes
    )


async def _add(settings: Settings, store: PolicyStore, steps: tuple[Step, ...], texts: dict[str, bytes] | None) -> None:
    position = await store.add(steps, texts)
    if settings.redis_url is None:
        return
    from ruqsat.stores.redis import send_hint  # noqa: PLC0415 - not where there is no Redis

    # The sidecars hear of it early; what is lost, their probes bring.
    url, space = settings.redis_url.get_secret_value(), settings.redis_namespace
    await send_hint(url, space, store.token_key, position, (POLICY,), encrypt=settings.redis_encrypt)


async def _changes_by(store: PolicyStore, texts: dict[str, bytes], policy_set: PolicySet) -> Changes:
    """Return by what a pack differs from the one in force; nothing for the first."""
    standing, _ = await store.fetch_standing("")
    if not standing.active:
        return Changes()
    try:
        before = await _pack_of(store, standing.active, standing.digest)
    except PolicyError as problem:
        # Another set must be able to take the place of one that nobody can read.
        typer.echo(f"the set in force cannot be compared, every rule counts as new: {problem}", err=True)
        before = {}, None
    return changes_of(before, (texts, policy_set))


async def _pack_of(store: PolicyStore, address: str, digest: str) -> tuple[dict[str, bytes], PolicySet | None]:
    body = await store.fetch_pack(address)
    if body is None:
        raise PolicyError(f"the database holds no pack `{address[:16]}`")
    texts = open_pack(address, digest, body)
    pack, _ = build_pack(texts)
    return texts, pack.policy_set if pack is not None else None


def _with_store(settings: Settings, work: Callable[[PolicyStore], Awaitable[T]]) -> T:
    async def run() -> T:
        store = await SqlStore.open(settings.database_url.get_secret_value(), read_timeout_seconds=10.0)
        try:
            return await work(PolicyStore(store))
        finally:
            await store.aclose()

    return asyncio.run(run())


def _is_silent(sidecar: Sidecar, now: Instant) -> bool:
    return sidecar.at < now - SILENT


def _is_well(sidecar: Sidecar, standing: Standing) -> bool:
    report = sidecar.report
    return report.reached == standing.generation and report.result in ("", "ready") and not report.denies


def _said(sidecar: Sidecar, now: Instant) -> str:
    report = sidecar.report
    about = f"  {report.result} {report.wanted[:16]}" if report.wanted != report.in_force else ""
    silent = f"  silent for {(now - sidecar.at) // SECOND} s" if _is_silent(sidecar, now) else ""
    return f"{report.in_force[:16]}  generation {report.reached}{about}{'  DENIES' if report.denies else ''}{silent}"


def _print_steps(steps: tuple[Step, ...], *, as_json: bool) -> None:
    step = steps[-1]
    if as_json:
        print_json(msgspec.to_builtins(step))
        return
    what = "is in force" if step.kind == "activate" else "is staged: `ruqsat policy status`, then `activate`"
    console().print(f"generation {step.generation}: policy set {step.digest} {what}")
    _print_changes(step.changes)


def _print_changes(changes: Changes) -> None:
    for name, told in named(changes):
        console().print(f"      {name:<8} {' '.join(told)}")


def named(changes: Changes) -> list[tuple[str, tuple[str, ...]]]:
    """Return what there is to tell of changes, each kind under its name."""
    return [(name, told) for name in changes.__struct_fields__ if (told := getattr(changes, name))]


def _settings(database_url: str | None) -> Settings:
    settings = load_settings(auth_listen="off", database_url=database_url)
    existing_url(settings)
    return settings


def _now() -> Instant:
    return int(datetime.now(UTC).timestamp() * SECOND)
