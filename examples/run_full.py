"""
Two sidecars on one PostgreSQL, with Valkey beside them: all of it local processes, the demo world in it.

Run it with ``make run-full``; Ctrl-C stops everything.  Nobody in the demo world exists.
"""

import argparse
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from tests.ground import GroundMissingError, running_postgres, running_valkey

ROOT = Path(__file__).resolve().parent.parent
ISSUER, AUDIENCE, HOURS = "https://demo.ruqsat.example", "ruqsat-demo", 8
LISTENERS = ("json", "auth", "control")
START_SECONDS = 60
LAST_LINE = "Stop with Ctrl-C."

PEOPLE: dict[str, dict[str, Any]] = {
    "dr_aida": {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
    "dana": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
}
QUESTION = (
    '{"subject":{"type":"user","id":"dr_aida"},"action":{"name":"read"},"resource":{"type":"Record","id":"o1",'
    '"properties":{"patient":"p-dana","class":"labs"}},"context":{"purpose":"TREAT"}}'
)


class Sidecar(NamedTuple):
    """A running sidecar, and where its listeners are."""

    process: "subprocess.Popen[bytes]"
    addresses: dict[str, str]


def environment(folder: Path, name: str, first_port: int, shared: dict[str, str]) -> dict[str, str]:
    """Return the environment of the sidecar *name*; a *first_port* of 0 lets the system choose all three."""
    inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("RUQSAT_")}
    ports = [first_port + number if first_port else 0 for number in range(len(LISTENERS))]
    ours = shared | {
        "journal_dir": str(folder / name / "journal"), "policy_dir": str(folder / "policy"),
        **{f"{listener}_listen": f"127.0.0.1:{port}" for listener, port in zip(LISTENERS, ports, strict=True)},
    }  # fmt: skip
    return inherited | {f"RUQSAT_{key.upper()}": value for key, value in ours.items()}


@contextmanager
def running_sidecar(folder: Path, name: str, variables: dict[str, str]) -> Iterator[Sidecar]:
    """Run one sidecar; it is gone when the block is left."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    output = folder / name / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "ruqsat", "serve", "--demo"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            env=variables, start_new_session=True,
        )  # fmt: skip
    try:
        give_up = time.monotonic() + START_SECONDS
        while LAST_LINE not in output.read_text():
            if process.poll() is not None or time.monotonic() > give_up:
                raise SystemExit(f"sidecar {name} did not start:\n{output.read_text()}")
            time.sleep(0.05)
        found = re.findall(r"^  (json|auth|control) +(\S+) ", output.read_text(), re.MULTILINE)
        yield Sidecar(process, dict(found))
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def token(secret: str, person: str) -> str:
    """Return a token of one of the demo world's people, good for some hours."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": person, "iat": now, "exp": now + HOURS * 3600}
    return jwt.encode(usual | PEOPLE[person], secret, algorithm="HS256")


def explain(one: Sidecar, two: Sidecar, secret: str) -> None:
    """Print what to try."""
    ask = f"curl -s http://%s/access/v1/evaluation -H 'Content-Type: application/json' -d '{QUESTION}'"
    withdraw = (
        f"curl -s -X POST http://{one.addresses['control']}/v1/consents/c-dana-h1/withdraw"
        f" -H 'Authorization: Bearer {token(secret, 'dana')}'"
    )
    for name, sidecar in (("one", one), ("two", two)):
        print(f"sidecar {name}: " + "  ".join(f"{key} {value}" for key, value in sidecar.addresses.items()))
    print(f"\nBoth allow:\n\n{ask % one.addresses['json']}\n\n{ask % two.addresses['json']}\n")
    print(f"Dana withdraws her consent at sidecar one:\n\n{withdraw}\n")
    print("From then on one denies at once, and two as soon as a hint through Valkey reaches it (milliseconds; without")
    print("Valkey its next probe tells it, within a second): ask again.  The world is kept; remove var/full to begin")
    print("anew.")
    print(f"\n{LAST_LINE}", flush=True)


def main() -> None:
    """Start everything, say what to try, and wait for Ctrl-C or for something to end by itself."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--folder", type=Path, default=ROOT / "var" / "full")
    words.add_argument("--first-port", type=int, default=8181, help="0: free ports")
    given = words.parse_args()
    folder, first_port = given.folder.resolve(), given.first_port
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        try:
            postgres = stack.enter_context(running_postgres(folder / "postgres", durable=True))
            valkey = stack.enter_context(running_valkey(folder / "valkey"))
        except GroundMissingError as error:
            raise SystemExit(f"cannot run here: {error}") from None
        if not postgres.execute("SELECT 1 FROM pg_database WHERE datname = 'ruqsat'"):
            postgres.execute("CREATE DATABASE ruqsat")
        secret = secrets.token_urlsafe(48)
        shared = {
            "database_url": postgres.url("ruqsat"), "redis_url": f"redis://127.0.0.1:{valkey.port}",
            "token_issuer": ISSUER, "token_audience": AUDIENCE, "token_algorithm": "HS256", "token_key": secret,
        }  # fmt: skip
        print(f"PostgreSQL on {postgres.url('ruqsat')}, Valkey on 127.0.0.1:{valkey.port}", flush=True)
        variables = environment(folder, "one", first_port, shared)
        subprocess.run([sys.executable, "-m", "ruqsat", "db", "upgrade"], check=True, env=variables)
        one = stack.enter_context(running_sidecar(folder, "one", variables))
        variables = environment(folder, "two", first_port and first_port + 10, shared)
        two = stack.enter_context(running_sidecar(folder, "two", variables))
        explain(one, two, secret)
        processes = (postgres.server.process, valkey.process, one.process, two.process)
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        raise SystemExit("one of the processes has ended by itself")


if __name__ == "__main__":
    main()
