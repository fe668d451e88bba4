"""The same ground on PostgreSQL and behind nginx: local processes, from the tests' wheels and the system's packages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.demo_day.ground import Sidecar, serving
from examples.records_server import RecordsServer
from tests.ground import GroundMissingError, running_postgres
from tests.proxies.front import KINDS, running_front


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL and yield the URL of an empty database."""
    try:
        with running_postgres(folder / "postgres", durable=True) as server:
            server.execute("CREATE DATABASE ruqsat")
            yield server.url("ruqsat")
    except GroundMissingError as error:
        raise SystemExit(f"cannot run here: {error}") from None


@contextmanager
def records_behind_nginx(sidecar: Sidecar) -> Iterator[tuple[RecordsServer, str]]:
    """Run the records server behind nginx with the shipped configuration; yield it, and nginx's URL."""
    if KINDS["nginx"].find() is None:
        raise SystemExit(f"cannot run here: nginx is not installed: {KINDS['nginx'].comes_with}")
    port = int(sidecar.addresses["auth"].rpartition(":")[2])
    with (
        serving(RecordsServer(("127.0.0.1", 0))) as records,
        running_front("nginx", sidecar.folder / "nginx", port, records.server_port) as front,
    ):
        yield records, f"http://127.0.0.1:{front.port}"
