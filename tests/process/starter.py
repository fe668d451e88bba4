"""Starts the real sidecar, as a process of its own on free loopback ports, and ends it by its pid."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import httpx

import ruqsat
from tests import warm
from tests.sidecar import ADMITTED, COMPARED
from tests.warm import MODULE

SOURCES = Path(ruqsat.__file__).parents[1]
LISTENERS = ("json", "auth", "control")
START_SECONDS = 30
STOP_SECONDS = 20
EVALUATION = "/access/v1/evaluation"

_ADDRESS = re.compile(r"^  (json|auth|control|grpc) +(\S+) ", re.MULTILINE)
_TOKEN = re.compile(r"^export (\w+)=(eyJ\S+)$", re.MULTILINE)


class NotStartedError(Exception):
    """The process ended before it served."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        super().__init__(f"exit {code}\n{stdout}{stderr}")
        self.code, self.stdout, self.stderr = code, stdout, stderr


class Sidecar:
    """A running process: where it listens, and what its demo people may show as tokens."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], stdout: Path, stderr: Path) -> None:
        self.folder, self.process = folder, process
        self.journal = folder / "journal"
        self._stdout, self._stderr = stdout, stderr
        self.addresses: dict[str, str] = {}
        self.tokens: dict[str, str] = {}

    def wait_until_serving(self, last_line: str) -> None:
        """Read what the process prints until it has printed everything; raise NotStartedError if it ends first."""
        give_up = time.monotonic() + START_SECONDS
        while last_line not in self.stdout:
            code = self.process.poll()
            if code is not None:
                raise NotStartedError(code, self.stdout, self.stderr)
            assert time.monotonic() < give_up, f"not serving after {START_SECONDS} s\n{self.stdout}{self.stderr}"
            time.sleep(0.01)
        self.addresses = dict(_ADDRESS.findall(self.stdout))
        self.tokens = {name.lower(): token for name, token in _TOKEN.findall(self.stdout)}

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    @property
    def stdout(self) -> str:
        """What it printed so far."""
        return self._stdout.read_text()

    @property
    def stderr(self) -> str:
        """What it logged so far."""
        return self._stderr.read_text()

    def client(self, listener: str = "json") -> httpx.Client:
        """Return a client of one listener; close it."""
        address = self.addresses[listener]
        unix = address.removeprefix("unix:") if address.startswith("unix:") else None
        return httpx.Client(
            base_url="http://ruqsat" if unix else f"http://{address}",
            transport=httpx.HTTPTransport(uds=unix),
            trust_env=False,
            timeout=10,
        )

    def call(self, listener: str, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request on a connection of its own; a sidecar that is not there says how it ended."""
        try:
            with self.client(listener) as client:
                return client.request(method, path, **options)
        except httpx.ConnectError as error:
            code, where = self.process.poll(), self.addresses[listener]
            state = "runs, and does not listen" if code is None else f"ended with {code} (negative: by that signal)"
            error.add_note(f"the sidecar {state} at {where}\n{self.stderr[-2000:]}")
            raise

    def evaluate(self, body: Any = None, **headers: str) -> httpx.Response:
        """Ask for one evaluation; by default whether dr_aida may read Dana's laboratory results."""
        content = body if isinstance(body, bytes) else json.dumps(question() if body is None else body).encode()
        return self.call(
            "json", "POST", EVALUATION, content=content, headers={"content-type": "application/json"} | headers
        )

    def bearer(self, person: str) -> dict[str, str]:
        """Return the header that says who asks."""
        return {"authorization": f"Bearer {self.tokens[person]}"}

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop."""
        os.kill(self.pid, number)

    def wait(self, within: float = STOP_SECONDS) -> int:
        """Wait for its end and return the exit code."""
        return self.process.wait(within)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop and return its exit code."""
        self.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)


def question(
    subject: str = "dr_aida", action: str = "read", record: str = "o1", patient: str = "p-dana", class_: str = "labs",
    **context: Any,
) -> dict[str, Any]:  # fmt: skip
    """Return an evaluation request; dr_aida of h1 may read p-dana's labs for treatment, dr_erlan of h2 may not."""
    return {
        "subject": {"type": "user", "id": subject},
        "action": {"name": action},
        "resource": {"type": "Record", "id": record, "properties": {"patient": patient, "class": class_}},
        "context": {"purpose": "TREAT"} | context,
    }


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a process that keeps everything in *folder* and listens on free ports."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("RUQSAT_")}
    ours = {
        "database_url": f"sqlite:///{folder}/ruqsat.db",
        "journal_dir": f"{folder}/journal",
        "policy_dir": ADMITTED.name,
        "policy_compare_seconds": COMPARED,
        **{f"{name}_listen": "127.0.0.1:0" for name in LISTENERS},
    }
    return (
        inherited
        | {"PYTHONPATH": str(SOURCES)}
        | {"RUQSAT_" + name.upper(): value for name, value in (ours | settings).items()}
    )


@contextmanager
def serving(
    folder: Path, *, demo: bool = True, program: Sequence[str] = MODULE, arguments: Sequence[str] = (), **settings: str
) -> Iterator[Sidecar]:
    """
    Start a sidecar and wait until it serves; it is gone when the block is left, however it is left.

    Args:
        folder: Holds its database, journal and output; a second start finds them there.
        demo: With the demo world and tokens for its people.
        program: What to run instead of ``-m ruqsat``, for planted bugs.
        arguments: More words of the command line.
        settings: By their names in lower case, given through the environment.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = len(list(folder.glob("stdout-*.txt")))
    stdout, stderr = folder / f"stdout-{run}.txt", folder / f"stderr-{run}.txt"
    words = ["serve", *(["--demo"] if demo else []), *arguments]
    with stdout.open("wb") as out, stderr.open("wb") as err:
        how: Any = {"stdout": out, "stderr": err, "env": environment(folder, **settings), "cwd": folder}
        usual = program == MODULE
        process = warm.start(words, **how) if usual else subprocess.Popen([sys.executable, *program, *words], **how)
    sidecar = Sidecar(folder, process, stdout, stderr)
    try:
        sidecar.wait_until_serving("Stop with Ctrl-C." if demo else "  journal  ")
        yield sidecar
    finally:
        sidecar.kill()


def run_cli(folder: Path, *words: str, timeout: float = 20, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end, as an operator would."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = warm.start(words, stdout=out, stderr=err, env=environment(folder, **settings), cwd=folder)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        said = [file.seek(0) or file.read() for file in (out, err)]
    return subprocess.CompletedProcess(process.args, code, *said)
