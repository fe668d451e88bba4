"""A real sidecar process for tests, on free ports, with the demo world and a token key of the test's own."""

import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jwt

import ruqsat
from tests import warm

ISSUER, AUDIENCE = "https://issuer.test", "ruqsat-test"
PEOPLE: dict[str, dict[str, Any]] = {
    "dr_aida": {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
    "dr_erlan": {"roles": ["physician"], "org": "h2", "purpose_of_use": "TREAT"},
    "dr_former": {"roles": ["physician"], "org": "h1", "purpose_of_use": "TREAT"},
    "dana": {"roles": ["patient"], "purpose_of_use": "PATRQT", "subject_type": "patient"},
}
START_SECONDS = 30
STOP_SECONDS = 10

_ADDRESS = re.compile(r"^  (json|auth|control|grpc) +127\.0\.0\.1:(\d+) ", re.MULTILINE)
_LAST_LINE = "Stop with Ctrl-C."


class Sidecar(NamedTuple):
    """A running sidecar: its process, its ports by listener, and the key that its tokens are signed with."""

    process: "subprocess.Popen[bytes]"
    ports: dict[str, int]
    key: str

    def token(self, subject: str, **claims: Any) -> str:
        """Return a token that the sidecar accepts; *claims* replace the usual ones."""
        now = int(time.time())
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}
        return jwt.encode(usual | PEOPLE.get(subject, {}) | claims, self.key, algorithm="HS256")

    def pause(self) -> None:
        """Stop it where it stands; its sockets stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it without a word, and wait until it is gone."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)


@contextmanager
def running_sidecar(folder: Path, **settings: str) -> Iterator[Sidecar]:
    """
    Start a sidecar in *folder* and yield it once it serves; it is gone when the block is left.

    Args:
        folder: Where its database, journal and output go.
        settings: More settings, without their prefix and in lower case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = secrets.token_urlsafe(48)
    output = folder / "output"
    with output.open("wb") as sink:
        process = warm.start(
            ["serve", "--demo"], stdout=sink, stderr=sink, cwd=folder, env=_environment(folder, key, settings)
        )
    try:
        yield Sidecar(process, _wait_for_ports(process, output), key)
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process that we started to end, and end it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_SECONDS)


ADMITTED = TemporaryDirectory(prefix="ruqsat-admitted-")
"""Where the tests' sidecars keep the pack that the first of them admitted, so that the others start at once."""

COMPARED = "0.5"
"""Seconds of comparison with pycasbin at an admission in tests of other promises; ``tests/casbin`` compares in earnest."""


def _environment(folder: Path, key: str, settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("RUQSAT_")}
    ours = {
        "database_url": f"sqlite:///{folder / 'ruqsat.db'}", "journal_dir": str(folder / "journal"),
        "policy_dir": ADMITTED.name, "policy_compare_seconds": COMPARED,
        "json_listen": "127.0.0.1:0", "auth_listen": "127.0.0.1:0", "control_listen": "127.0.0.1:0",
        "token_issuer": ISSUER, "token_audience": AUDIENCE, "token_algorithm": "HS256", "token_key": key,
    } | settings  # fmt: skip
    sources = str(Path(ruqsat.__file__).resolve().parent.parent)
    return inherited | {"PYTHONPATH": sources} | {f"RUQSAT_{name.upper()}": value for name, value in ours.items()}


def _wait_for_ports(process: "subprocess.Popen[bytes]", output: Path) -> dict[str, int]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        text = output.read_text()
        if _LAST_LINE in text:
            return {name: int(port) for name, port in _ADDRESS.findall(text)}
        time.sleep(0.02)
    raise AssertionError(f"the sidecar did not start:\n{output.read_text()}")
