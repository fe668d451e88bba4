"""What a sidecar answers, what its readiness says and what its journal keeps while PostgreSQL is away, and after."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from ruqsat import wiring
from ruqsat.core.facts import Episode, PatientFacts
from ruqsat.core.instant import SECOND
from ruqsat.settings import load_settings
from ruqsat.stores.sql import SqlStore
from tests.ground import GroundMissingError, PostgresServer, free_port, missing, running_postgres
from tests.process.checker import entries_in
from tests.process.starter import NotStartedError, Sidecar, question, serving
from tests.process.test_on_postgres import children

SOON = 30
LEASE, MAX_STALE = 2.0, 9.0
BRIEF = {
    "lease_seconds": str(LEASE), "probe_seconds": "0.5", "max_stale_seconds": str(MAX_STALE), "auth_listen": "off",
    "json_explain": "true",
}  # fmt: skip

PLANNED = question()
OWN = question("dana", purpose="PATRQT")
EMERGENCY = question("ed_bolat", record="x", class_="allergies", purpose="ERTREAT")
EMERGENCY["resource"]["properties"]["labels"] = []
BLOCKED = question("dana", record="d1", class_="documents", purpose="PATRQT")
FORMER = question("dr_former")
DELEGATE = question("arman", purpose="FAMRQT")
STRANGER = question("dr_aida", record="v1", patient="p-child", class_="immunizations")

WELL = {
    "planned": (PLANNED, "allow.consent"), "own": (OWN, "allow.self"), "delegate": (DELEGATE, "allow.delegation"),
    "emergency": (EMERGENCY, "allow.emergency.default"), "blocked": (BLOCKED, "deny.resource.blocked"),
    "inactive": (FORMER, "deny.subject.inactive"),
}  # fmt: skip
DEGRADED = {
    "planned": "deny.store.unavailable", "own": "allow.self", "delegate": "deny.store.unavailable",
    "emergency": "allow.emergency.default", "blocked": "deny.resource.blocked", "inactive": "deny.subject.inactive",
}  # fmt: skip


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """The server stands still, with its connections open."""
    processes = (server.pid, *children(server.pid))
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def gone(server: PostgresServer) -> Iterator[None]:
    """The server has ended, and is started again in the end."""
    server.server.stop()
    with ExitStack() as stack:
        yield
        stack.enter_context(running_postgres(server.data.parent, port=server.port))
        AFTER.append(stack.pop_all())


AFTER: list[ExitStack] = []
"""What servers that were started again leave to close."""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    with TemporaryDirectory(prefix="ruqsat-postgres-") as name:
        Path(name).chmod(0o755)
        try:
            with running_postgres(Path(name, "server"), durable=True) as server:
                yield server
                while AFTER:
                    AFTER.pop().close()
        except GroundMissingError as error:
            missing("PostgreSQL", error)


def open_episode(url: str) -> None:
    """Bring Dana in by ambulance."""

    def brought_in(facts: PatientFacts) -> PatientFacts:
        return msgspec.structs.replace(facts, episodes=(Episode("e-now", "h1", "emergency", 0),))

    async def change() -> None:
        store = await SqlStore.open(url)
        await store.change_patient("p-dana", brought_in)
        await store.aclose()

    asyncio.run(change())


def reason(sidecar: Sidecar, asked: dict[str, Any]) -> str:
    """The exact reason of an answer."""
    return str(sidecar.evaluate(asked).json()["context"]["explain"]["reason"])


def readiness(sidecar: Sidecar) -> tuple[int, dict[str, Any]]:
    """Status and body of readiness."""
    answer = sidecar.call("control", "GET", "/health/ready")
    return answer.status_code, answer.json()


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def answers(sidecar: Sidecar) -> dict[str, str]:
    """The reasons of every question."""
    return {name: reason(sidecar, asked) for name, (asked, _) in WELL.items()}


@pytest.fixture
def warm(server: PostgresServer, tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that has answered every question once."""
    url = server.new_truth()
    with serving(tmp_path / "sidecar", demo=True, database_url=url, **BRIEF) as sidecar:
        open_episode(url)
        wait_until(lambda: reason(sidecar, EMERGENCY) == "allow.emergency.default")
        assert answers(sidecar) == {name: wanted for name, (_, wanted) in WELL.items()}
        yield sidecar


@pytest.mark.slow
@pytest.mark.parametrize("away", [stopped, gone])
def test_an_outage_in_flight_and_the_recovery(
    warm: Sidecar, server: PostgresServer, away: Callable[[PostgresServer], Any]
) -> None:
    """Within the lease, beyond it, beyond the bound, and well again: answers, readiness and what the journal says."""
    assert readiness(warm)[0] == 200
    everything = readiness(warm)[1]["serves"]
    with away(server):
        planned, stranger = reason(warm, PLANNED), reason(warm, STRANGER)
        assert stranger == "deny.store.unavailable"
        if readiness(warm)[1]["status"] == "ready":  # the lease held until after that answer
            assert planned == "allow.consent"

        wait_until(lambda: readiness(warm)[1]["status"] == "degraded")
        assert answers(warm) == DEGRADED
        assert reason(warm, STRANGER) == "deny.store.unavailable"
        code, said = readiness(warm)
        assert (code, said["status"]) == (200, "degraded")
        assert {"self", "emergency_default", "public"} < set(said["serves"]) < set(everything)
        assert not {"consent", "delegation", "legal_rep", "emergency_override"} & set(said["serves"])
        assert warm.call("control", "GET", "/status").json()["degraded"]["now"] is True
        assert "ruqsat_degraded 1.0" in warm.call("control", "GET", "/metrics").text

        wait_until(lambda: readiness(warm)[0] == 503)
        assert set(answers(warm).values()) == {"deny.store.unavailable"}

    wait_until(lambda: readiness(warm)[1].get("serves") == everything)
    assert readiness(warm)[0] == 200
    assert answers(warm) == {name: wanted for name, (_, wanted) in WELL.items()}
    assert warm.stop() == 0
    told = [entry for entry in entries_in(warm.journal) if entry["kind"] == "decision" and entry.get("degraded")]
    assert {entry["reason"] for entry in told} == set(DEGRADED.values())
    allowed = [entry for entry in told if entry["allowed"]]
    assert allowed
    assert all("review_sampled" in entry["duties"] and entry["as_of"] for entry in allowed)
    assert not [entry for entry in told if entry["allowed"] and entry["basis"] not in {"self", "emergency_default"}]


@pytest.mark.slow
def test_with_the_mode_off_everything_is_denied_and_nothing_is_ready(server: PostgresServer, tmp_path: Path) -> None:
    """An operator may decide that nothing is answered by last known facts."""
    url = server.new_truth()
    with serving(tmp_path / "sidecar", demo=True, database_url=url, **BRIEF | {"degraded": "deny"}) as sidecar:
        assert reason(sidecar, OWN) == "allow.self"
        with stopped(server):
            wait_until(lambda: readiness(sidecar)[0] == 503)
            assert reason(sidecar, OWN) == "deny.store.unavailable"
        wait_until(lambda: readiness(sidecar)[0] == 200)
        assert reason(sidecar, OWN) == "allow.self"


def test_with_the_mode_off_last_known_facts_are_used_for_no_time_at_all() -> None:
    """Whatever bound is set beside it; with the mode on it is that bound, in microseconds."""
    for mode, longest in (("deny", 0), ("last-known", 900 * SECOND)):
        settings = load_settings(auth_listen="off", degraded=mode, max_stale_seconds=900)
        assert wiring._max_stale(settings) == longest


@pytest.mark.slow
def test_without_the_store_no_process_starts(server: PostgresServer, tmp_path: Path) -> None:
    """A cold start knows nothing, so there is nothing that it could go on with: it ends, and says why."""
    url = server.new_truth().replace(f":{server.port}/", f":{free_port()}/")
    with pytest.raises(NotStartedError) as refused, serving(tmp_path / "sidecar", database_url=url, **BRIEF):
        pass
    assert refused.value.code != 0


@pytest.mark.slow
def test_a_start_without_redis_serves_as_ever(server: PostgresServer, tmp_path: Path) -> None:
    """Redis is in no readiness: a cold start beside a dead one answers everything."""
    redis = f"redis://127.0.0.1:{free_port()}"
    with serving(tmp_path / "s", demo=True, database_url=server.new_truth(), redis_url=redis, **BRIEF) as sidecar:
        assert readiness(sidecar)[1]["status"] == "ready"
        assert reason(sidecar, PLANNED) == "allow.consent"


@pytest.mark.slow
def test_a_primary_that_cannot_reach_its_standbys_renews_no_lease(server: PostgresServer, tmp_path: Path) -> None:
    """Under synchronous replication a probe is a commit: one that is cut off is as good as away, though it can be read."""
    url = server.new_truth()
    with serving(tmp_path / "sidecar", demo=True, database_url=url, **BRIEF) as sidecar:
        assert reason(sidecar, PLANNED) == "allow.consent"
        server.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
        server.execute("SELECT pg_reload_conf()")
        wait_until(lambda: readiness(sidecar)[1]["status"] != "ready")
        assert server.execute("SELECT count(*) FROM feed_head", url.rpartition("/")[2]) == [(1,)]
        assert reason(sidecar, PLANNED) == "deny.store.unavailable"

        server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        server.execute("SELECT pg_reload_conf()")
        wait_until(lambda: reason(sidecar, PLANNED) == "allow.consent")
