"""What the day stands on: a sidecar, a records server behind a gate, and a receiver of notices, all on loopback."""

import base64
import hmac
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from examples.records_server import RecordsServer

import ruqsat

ISSUER, AUDIENCE = "https://portal.h7.example", "ruqsat-h7"
START_SECONDS = 60
JOURNAL_NAME = "h7.example/sidecar-1"
ROOT = Path(__file__).resolve().parent.parent.parent
_ADDRESS = re.compile(r"^  (json|auth|control) +(\S+) ", re.MULTILINE)


class Sidecar(NamedTuple):
    """A running sidecar: where it listens, what its tokens are signed with, and where its things lie."""

    process: "subprocess.Popen[bytes]"
    addresses: dict[str, str]
    token_key: str
    folder: Path
    journal_key: str
    variables: dict[str, str]

    @property
    def journal(self) -> Path:
        """The folder of its journal."""
        return self.folder / "journal"

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line as its operator would."""
        return run_cli(self.variables, *words)


def run_cli(variables: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    """Run ``ruqsat`` to its end."""
    command = [sys.executable, "-m", "ruqsat", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)


@contextmanager
def running_sidecar(
    folder: Path, facts: Path, receiver: "Receiver", program: tuple[str, ...] = ("-m", "ruqsat"), **settings: str
) -> Iterator[Sidecar]:
    """
    Prepare a database with everybody of *facts* in it and run a sidecar on it; it is gone when the block is left.

    Args:
        program: What to run instead of ``-m ruqsat``.
        settings: More settings, without their prefix and in lower case.
    """
    key = secrets.token_urlsafe(48)
    ours = {
        "database_url": f"sqlite:///{folder / 'ruqsat.db'}", "journal_dir": str(folder / "journal"),
        "policy_dir": str(folder / "policy"), "pack": str(ROOT),
        **{f"{name}_listen": "127.0.0.1:0" for name in ("json", "auth", "control")},
        "token_issuer": ISSUER, "token_audience": AUDIENCE, "token_algorithm": "HS256", "token_key": key,
        "record_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "json_explain": "true", "json_capabilities": '["require_eds"]', "journal_checkpoint_seconds": "1",
        "notice_channel": "webhook", "notice_office_channel": "webhook", "notice_webhook_url": receiver.url,
        "notice_webhook_secret": "whsec_" + base64.b64encode(receiver.secret).decode(), "log_level": "warning",
        "journal_key_file": str(folder / "journal.pem"), "journal_name": JOURNAL_NAME,
    } | settings  # fmt: skip
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("RUQSAT_")}
    sources = str(Path(ruqsat.__file__).resolve().parent.parent)
    variables = inherited | {"PYTHONPATH": sources} | {f"RUQSAT_{name.upper()}": value for name, value in ours.items()}
    verifier = _prepare(variables, folder, facts)
    output = folder / "sidecar.txt"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, *program, "serve"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=variables,
            cwd=folder,
        )  # fmt: skip
    try:
        yield Sidecar(process, _addresses(process, output), key, folder, verifier, variables)
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def _prepare(variables: dict[str, str], folder: Path, facts: Path) -> str:
    """Make the journal's key, the tables, and everybody in them; return the key that verifies the journal."""
    words = (("journal", "key", str(folder / "journal.pem"), "--name", JOURNAL_NAME), ("db", "upgrade"))
    with ThreadPoolExecutor() as pool:
        key, tables = pool.map(lambda each: run_cli(variables, *each), words)
    for step in (key, tables, run_cli(variables, "facts", "import", str(facts))):
        if step.returncode != 0:
            raise SystemExit(f"cannot begin the day: {' '.join(step.args)}\n{step.stdout}{step.stderr}")
    return key.stdout.strip()


def _addresses(process: "subprocess.Popen[bytes]", output: Path) -> dict[str, str]:
    give_up = time.monotonic() + START_SECONDS
    while "  journal  " not in output.read_text():
        if process.poll() is not None or time.monotonic() > give_up:
            raise SystemExit(f"the sidecar did not start:\n{output.read_text()}")
        time.sleep(0.02)
    return dict(_ADDRESS.findall(output.read_text()))


class Receiver(ThreadingHTTPServer):
    """Where patients and the privacy office are told of things; keeps what is well signed, each notice once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Told)
        self.secret = secrets.token_bytes(32)
        self.told: dict[str, dict[str, Any]] = {}
        self.forged = 0

    @property
    def url(self) -> str:
        """The address for the settings."""
        return f"http://127.0.0.1:{self.server_port}/notices"


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        """Answer at once."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Told(_Quiet):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.digest(self.server.secret, signed, "sha256")).decode()
        if self.headers["webhook-signature"] == f"v1,{mac}":
            self.server.told.setdefault(self.headers["idempotency-key"], json.loads(body))
        else:
            self.server.forged += 1
        self.answer(204, {})


class Gate(ThreadingHTTPServer):
    """A proxy in small: it asks the sidecar's forward-auth listener as nginx does, and forwards what is let through."""

    daemon_threads = True

    def __init__(self, auth: str, records: int) -> None:
        super().__init__(("127.0.0.1", 0), _Gated)
        self.auth = httpx.Client(base_url=f"http://{auth}", trust_env=False)
        self.records = httpx.Client(base_url=f"http://127.0.0.1:{records}", trust_env=False)

    def server_close(self) -> None:
        """Close what it asks with, too."""
        super().server_close()
        self.auth.close()
        self.records.close()


class _Gated(_Quiet):
    server: Gate

    def do_GET(self) -> None:
        passed = ("authorization", "x-ruqsat-session")
        said = {name: self.headers[name] for name in passed if name in self.headers}
        original = {"x-original-method": "GET", "x-original-uri": self.path, "x-original-host": "mis.h7.example"}
        asked = self.server.auth.get("/authz/nginx", headers=said | original)
        told = {name: value for name, value in asked.headers.items() if name.startswith("x-ruqsat-")}
        if asked.status_code != 200:
            self.answer(asked.status_code, told)
            return
        found = self.server.records.get(self.path, headers={"x-ruqsat-subject": told["x-ruqsat-subject"]})
        self.answer(found.status_code, told, found.content)


@contextmanager
def serving(server: Any) -> Iterator[Any]:
    """Run a server on a thread of its own; it is gone when the block is left."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def records_behind(sidecar: Sidecar) -> Iterator[tuple[RecordsServer, str]]:
    """Run the records server and the gate before it; yield the server, whose ``seen`` lists all, and the gate's URL."""
    with (
        serving(RecordsServer(("127.0.0.1", 0))) as records,
        serving(Gate(sidecar.addresses["auth"], records.server_port)) as gate,
    ):
        yield records, f"http://127.0.0.1:{gate.server_port}"


def fresh(folder: Path) -> Path:
    """Return the folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
