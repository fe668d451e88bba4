"""The ground holds: servers run unprivileged on loopback, and are gone afterwards."""

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.ground import PostgresServer, Server, running_postgres


def test_postgres_runs_unprivileged_and_on_loopback_only(postgres: PostgresServer) -> None:
    """The server is not root's, listens on one address, and syncs commits before it answers."""
    assert os.stat(f"/proc/{postgres.pid}").st_uid != 0
    assert postgres.execute("SHOW listen_addresses") == [("127.0.0.1",)]
    assert postgres.execute("SHOW server_encoding") == [("UTF8",)]
    assert postgres.execute("SHOW synchronous_commit") == [("on",)]


def test_each_database_is_its_own(postgres: PostgresServer) -> None:
    """What is made in one database is not seen in the next, and a dropped one is gone."""
    one, other = postgres.new_database(), postgres.new_database()
    postgres.execute("CREATE TABLE here (n int)", one.rpartition("/")[2])

    assert postgres.execute("SELECT to_regclass('here')", other.rpartition("/")[2]) == [(None,)]
    postgres.drop_database(one)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(one)


def test_a_server_of_its_own_is_durable_and_gone_afterwards() -> None:
    """A durable server syncs; even while it is stopped by a signal, leaving the block ends it."""
    with TemporaryDirectory(prefix="ruqsat-postgres-") as name:
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "server"), durable=True) as server:
            assert server.execute("SHOW fsync") == [("on",)]
            os.kill(server.pid, signal.SIGSTOP)
        assert server.server.process.poll() is not None
        assert not (server.data / "postmaster.pid").exists()


def test_valkey_answers_and_runs_unprivileged(valkey: Server) -> None:
    """The server is there and not root's."""
    assert os.stat(f"/proc/{valkey.process.pid}").st_uid != 0
