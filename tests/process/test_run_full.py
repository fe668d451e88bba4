"""`make run-full`: two sidecars on one PostgreSQL; what is withdrawn at one is denied at the other."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from ruqsat.settings import Settings
from tests.conftest import ROOT
from tests.ground import missing
from tests.process.starter import environment, question
from tests.sidecar import ADMITTED

LEASE = float(Settings.model_fields["lease_seconds"].default)


@pytest.fixture
def full() -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The command on free ports, and everything that it printed up to its last line."""
    with TemporaryDirectory(prefix="ruqsat-full-") as name:
        Path(name).chmod(0o755)
        (Path(name) / "policy").symlink_to(ADMITTED.name)
        variables = environment(Path(name)) | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "run_full.py"), "--folder", name, "--first-port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        printed = ""
        while "Stop with Ctrl-C." not in printed:
            line = process.stdout.readline()
            if line.startswith("cannot run here"):
                process.wait(60)
                missing("`make run-full`", line)
            assert line, f"it ended too soon:\n{printed}"
            printed += line
        try:
            yield process, printed
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=90)


def evaluate(address: str) -> bool:
    """Ask one sidecar whether dr_aida may read Dana's laboratory results."""
    url = f"http://{address}/access/v1/evaluation"
    return bool(httpx.post(url, json=question(), trust_env=False).json()["decision"])


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_a_consent_withdrawn_at_one_sidecar_is_denied_by_the_other(full: tuple["subprocess.Popen[str]", str]) -> None:
    """At once where it was withdrawn, within the lease at the other; Ctrl-C then leaves no process behind."""
    process, printed = full
    one, two = re.findall(r"^sidecar \w+: json (\S+)", printed, re.MULTILINE)
    assert (evaluate(one), evaluate(two)) == (True, True)

    (address, token) = re.findall(r"-X POST http://(\S+/withdraw) -H 'Authorization: Bearer (\S+)'", printed)[0]
    sent = time.monotonic()
    answer = httpx.post(f"http://{address}", headers={"authorization": f"Bearer {token}"}, trust_env=False)
    assert answer.status_code == 200, answer.text
    assert evaluate(one) is False
    while evaluate(two):
        assert time.monotonic() - sent < LEASE, "the other sidecar still allows after the lease"
        time.sleep(0.02)

    started = children(process.pid)
    assert len(started) == 4
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 0
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
