"""``ruqsat serve``: the sidecar."""

import asyncio
import secrets
import signal
import sys
from pathlib import Path
from time import time
from typing import Annotated, Any

import jwt
import typer
import uvloop
from rich.console import Console

from ruqsat.cli.stack import with_room
from ruqsat.core.vocabulary import BLOCKING_DUTIES
from ruqsat.errors import SettingsError
from ruqsat.rehearsal import TEST_FIXTURES, Rehearsal
from ruqsat.settings import Settings, load_settings
from ruqsat.supervision import Share, end_with_keeper, read_share, supervise
from ruqsat.web.listeners import serve as serve_listeners
from ruqsat.web.logs import configure_logs
from ruqsat.wiring import Process, open_process

DEMO_ISSUER, DEMO_AUDIENCE = "https://demo.ruqsat.example", "ruqsat-demo"
DEMO_HOURS = 8
DEMO_RECORD_KEY = "cnVxc2F0IGRlbW86IG5vYm9keSBpbiBpdCBleGlzdHM="
"""Known to everybody, so that a demo's records outlive its process; nobody in them exists."""

SWITCH_SECONDS = 1e-3
"""A thread that computes, as one that ships the journal, keeps the interpreter no longer than this from who decides."""


def serve(
    *,
    demo: Annotated[
        bool,
        typer.Option("--demo", help="Synthetic world, tokens that work, exact reasons shown. Never with real data."),
    ] = False,
    pack: Annotated[Path | None, typer.Option(help="Folder with model.conf and policies/.")] = None,
    database_url: Annotated[str | None, typer.Option(help="`sqlite:///file` or `postgresql://…`.")] = None,
    journal_dir: Annotated[Path | None, typer.Option(help="Folder of the journal's segments.")] = None,
    journal_name: Annotated[str | None, typer.Option(help="The journal's name in its checkpoints.")] = None,
    json_listen: Annotated[str | None, typer.Option(help="AuthZEN JSON: `host:port`, `unix:/path` or `off`.")] = None,
    auth_listen: Annotated[str | None, typer.Option(help="Forward-auth listener.")] = None,
    control_listen: Annotated[str | None, typer.Option(help="Control listener.")] = None,
    test_fixtures: Annotated[
        bool,
        typer.Option(
            "--test-fixtures",
            help="Whoever reaches the JSON listener sets facts, time and switches. For tests; never with real data.",
        ),
    ] = False,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="With --test-fixtures: stock pycasbin decides (slow, the same answers).")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes that decide; more than one need PostgreSQL.")] = None,
    worker: Annotated[
        str | None, typer.Option("--worker", hidden=True, help="What the keeper of workers gives.")
    ] = None,
) -> None:
    """Serve decisions until SIGTERM; every other setting comes from RUQSAT_… or the file RUQSAT_CONFIG names."""
    given: dict[str, Any] = {
        "pack": pack, "database_url": database_url, "journal_dir": journal_dir, "journal_name": journal_name,
        "json_listen": json_listen, "auth_listen": auth_listen, "control_listen": control_listen, "workers": workers,
    }  # fmt: skip
    if oracle and not test_fixtures:
        raise SettingsError("--oracle is for tests: give --test-fixtures too")
    secret = None
    if demo or test_fixtures:
        given |= {"json_explain": True, "json_capabilities": BLOCKING_DUTIES}
        if not _are_tokens_set(given):
            secret = secrets.token_urlsafe(48)
            given |= {
                "token_issuer": DEMO_ISSUER, "token_audience": DEMO_AUDIENCE, "token_algorithm": "HS256",
                "token_key": secret,
            }  # fmt: skip
        plain = load_settings(**given)
        if plain.record_key is None and plain.record_key_file is None:
            given |= {"record_key": DEMO_RECORD_KEY}
    settings = load_settings(**given)
    configure_logs(settings.log_level)
    if settings.workers > 1 and worker is None:
        if demo or test_fixtures:
            raise SettingsError("RUQSAT_WORKERS: demo and tests are served by one process")
        raise typer.Exit(supervise(settings, [sys.executable, "-m", "ruqsat", *sys.argv[1:]]))
    share = None if worker is None else read_share(worker)
    sys.setswitchinterval(SWITCH_SECONDS)
    with_room(lambda: uvloop.run(_run(settings, demo, secret, Rehearsal(oracle) if test_fixtures else None, share)))


def _are_tokens_set(given: dict[str, Any]) -> bool:
    """Tell whether the operator has set tokens: their issuer then also serves demo and tests; no secret is made up."""
    return load_settings(**given | {"auth_listen": "off", "grpc_listen": "off"}).token_issuer is not None


async def _run(
    settings: Settings, demo: bool, demo_secret: str | None, rehearsal: Rehearsal | None, share: Share | None
) -> None:
    stop = asyncio.Event()
    if share is not None:
        end_with_keeper(share, stop)
    async with open_process(settings, demo=demo, rehearsal=rehearsal) as process:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, process.look_again)

        def ready(addresses: dict[str, str]) -> None:
            _announce(process, settings, addresses, rehearsal, share)
            if demo:
                _print_demo(addresses, demo_secret)

        await serve_listeners(
            process.listeners,
            companions=process.companions,
            drain_seconds=settings.drain_seconds,
            on_ready=ready,
            on_stop=process.begin_drain,
            stop=stop,
            inherited=None if share is None else share.sockets,
        )


def _announce(
    process: Process, settings: Settings, addresses: dict[str, str], rehearsal: Rehearsal | None, share: Share | None
) -> None:
    out = Console(highlight=False, markup=False, soft_wrap=True)
    if rehearsal is not None:
        out.print(f"TEST FIXTURES ARE ON ({TEST_FIXTURES}): whoever reaches the JSON listener decides what is true")
    in_force = process.administration.in_force
    policy_set = in_force.pack.policy_set
    who = "Ruqsat" if share is None else f"Worker {share.number} of {settings.workers}"
    out.print(f"{who} serves policy set {policy_set.digest[:16]} ({len(policy_set.rules)} rules)")
    if process.administration.refused:
        out.print("  NOT the pack that its source holds, which is refused; this one was admitted before:")
        for line in process.administration.refused[:5]:
            out.print(f"    {line}")
    purposes = {
        "json": "AuthZEN JSON", "auth": "forward-auth for Envoy, nginx, Caddy, Traefik and HAProxy",
        "control": "control API", "grpc": "Envoy's ext_authz over gRPC",
    }  # fmt: skip
    for name, address in addresses.items():
        out.print(f"  {name:<8} {address:<28} {purposes[name]}")
    out.print(f"  journal  {settings.journal_dir} ({settings.journal})")


def _print_demo(addresses: dict[str, str], secret: str | None) -> None:
    """Print what to try: one allowed, one denied; and tokens for the people of the demo world."""
    out = Console(highlight=False, markup=False, soft_wrap=True)
    out.print("\nThis is the demo world: nobody in it exists. Try, allowed and denied:\n")
    for subject in ("dr_aida", "dr_erlan"):
        out.print(_curl(addresses.get("json", ""), subject), "", sep="\n")
    if secret is None:
        out.print("Tokens for the forward-auth and control listeners come from the issuer in your settings.")
    else:
        out.print(f"Tokens for the forward-auth and control listeners ({DEMO_HOURS} hours):\n")
        for subject, claims in _demo_people().items():
            out.print(f"export {subject.upper()}={_token(secret, subject, claims)}")
    out.print("\nWhat you change stays: remove the database and the journal to begin anew.  Stop with Ctrl-C.")


def _curl(address: str, subject: str) -> str:
    body = (
        f'{{"subject":{{"type":"user","id":"{subject}"}},"action":{{"name":"read"}},'
        '"resource":{"type":"Record","id":"o1","properties":{"patient":"p-dana","class":"labs"}},'
        '"context":{"purpose":"TREAT"}}'
    )
    unix = address.startswith("unix:")
    where = f"--unix-socket {address.removeprefix('unix:')} http://ruqsat" if unix else f"http://{address}"
    return f"curl -s {where}/access/v1/evaluation -H 'Content-Type: application/json' -d '{body}'"


def _demo_people() -> dict[str, dict[str, Any]]:
    return {
        "dr_aida": {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
        "dr_erlan": {"roles": ["physician"], "org": "h2", "purpose_of_use": "TREAT"},
        "dana": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
    }


def _token(secret: str, subject: str, claims: dict[str, Any]) -> str:

    issued = int(time())
    whole = {"iss": DEMO_ISSUER, "aud": DEMO_AUDIENCE, "sub": subject, "iat": issued, "exp": issued + DEMO_HOURS * 3600}
    return jwt.encode(whole | claims, secret, algorithm="HS256")
