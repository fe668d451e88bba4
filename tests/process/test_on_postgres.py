"""A sidecar on PostgreSQL: what it does while the server is away, and what it never tells."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.ground import GroundMissingError, PostgresServer, missing, running_postgres
from tests.process.starter import Sidecar, serving

PASSWORD = "canary-hunter2"
SOON = 30
"""Seconds within which something must happen at all; nothing is promised of how soon."""
BRIEF = {"lease_seconds": "2", "probe_seconds": "0.5", "auth_listen": "off", "degraded": "deny"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a server of the test's own may enter."""
    with TemporaryDirectory(prefix="ruqsat-postgres-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def decision(sidecar: Sidecar) -> tuple[bool, str]:
    """Return whether dr_aida may read Dana's results, and the reason."""
    body = sidecar.evaluate().json()
    return body["decision"], body["context"]["reason"]


def wait_for(sidecar: Sidecar, wanted: tuple[bool, str]) -> None:
    """Ask until the answer is the one wanted."""
    give_up = time.monotonic() + SOON
    while (found := decision(sidecar)) != wanted:
        assert time.monotonic() < give_up, found
        time.sleep(0.05)


@pytest.fixture
def server(folder: Path) -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    try:
        with running_postgres(folder / "server", durable=True) as server:
            yield server
    except GroundMissingError as error:
        missing("PostgreSQL", error)


@pytest.mark.slow
def test_nothing_is_allowed_while_the_server_stands_still(server: PostgresServer, folder: Path) -> None:
    """A server that answers nothing, with its connections open: denied once the lease is over; well again after."""
    with serving(folder / "sidecar", demo=True, database_url=server.new_truth(), **BRIEF) as sidecar:
        wait_for(sidecar, (True, "permitted"))
        processes = (server.pid, *children(server.pid))
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(sidecar, (False, "try_later"))
            assert sidecar.call("control", "GET", "/health/ready").status_code == 503
        finally:
            for pid in processes:
                os.kill(pid, signal.SIGCONT)
        wait_for(sidecar, (True, "permitted"))


@pytest.mark.slow
def test_a_sidecar_outlives_a_restart_of_the_server(server: PostgresServer, folder: Path) -> None:
    """A server that is gone: denied once the lease is over, not ready; allowed again, and ready, when it is back."""
    with serving(folder / "sidecar", demo=True, database_url=server.new_truth(), **BRIEF) as sidecar:
        wait_for(sidecar, (True, "permitted"))
        server.server.stop()
        wait_for(sidecar, (False, "try_later"))
        assert sidecar.call("control", "GET", "/health/ready").status_code == 503

        with running_postgres(folder / "server", port=server.port):
            wait_for(sidecar, (True, "permitted"))
            assert sidecar.call("control", "GET", "/health/ready").status_code == 200
            assert sidecar.stop() == 0


def children(pid: int) -> list[int]:
    """Return the ids of a process's children."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
def test_the_password_of_the_database_is_told_to_nobody(truth: str, tmp_path: Path) -> None:
    """Neither what a sidecar prints, nor its log, its status, its metrics or a refused start holds it."""
    url = truth.replace("@", f":{PASSWORD}@")
    with serving(tmp_path, demo=True, database_url=url, log_level="debug", **BRIEF) as sidecar:
        assert decision(sidecar) == (True, "permitted")
        told = [sidecar.call("control", "GET", path).text for path in ("/status", "/metrics", "/health/ready")]
        assert sidecar.stop() == 0
        told += [sidecar.stdout, sidecar.stderr]

    assert all(told[:4])
    assert not [text for text in told if PASSWORD in text]
