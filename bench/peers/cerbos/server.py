"""Cerbos as a server: its own program over our policies; no audit log, no telemetry, nothing watched."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.cerbos.translate import policies
from bench.peers.common.rules import Rules

START_SECONDS = 30


@contextmanager
def serving(program: Path, folder: Path, rules: Rules, core: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start it pinned to a core, with one processor for Go; yield its HTTP address and its process."""
    (folder / "policies").mkdir(parents=True)
    for name, text in policies(rules).items():
        (folder / "policies" / name).write_text(text)
    http, grpc = _free_port(), _free_port()
    config = folder / "cerbos.json"
    config.write_text(json.dumps({
        "server": {"httpListenAddr": f"127.0.0.1:{http}", "grpcListenAddr": f"127.0.0.1:{grpc}"},
        "storage": {"driver": "disk", "disk": {"directory": str(folder / "policies"), "watchForChanges": False}},
        "telemetry": {"disabled": True}, "audit": {"enabled": False},
    }))  # fmt: skip
    words = ["taskset", "-c", str(core), str(program), "server", "--config", str(config), "--log-level", "error"]
    log = (folder / "cerbos.log").open("wb")
    process = subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | {"GOMAXPROCS": "1"})
    try:
        _wait(http, process, folder / "cerbos.log")
        yield f"127.0.0.1:{http}", process
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"Cerbos does not serve: {log.read_text()[-2000:]}")
