"""Two sidecars on one PostgreSQL with Valkey beside them: hints arrive, and nothing depends on it."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.ground import PostgresServer, Server
from tests.process.starter import Sidecar, serving
from tests.stores.redis_ground import every_byte, plain, url_of
from tests.stores.test_redis_copy import mortal

__all__ = ["mortal"]

SOON = 25
"""Seconds within which something must happen at all; less than the period of the probe below."""
SELDOM = {"lease_seconds": "60", "probe_seconds": "30", "auth_listen": "off"}


@pytest.fixture
def pair(postgres: PostgresServer, mortal: Server, tmp_path: Path) -> Iterator[tuple[Sidecar, Sidecar]]:
    """Two sidecars that probe so seldom that only hints can be quick."""
    shared = SELDOM | {"database_url": postgres.new_truth(), "redis_url": url_of(mortal), "redis_namespace": "pair"}
    with ExitStack() as stack:
        one = stack.enter_context(serving(tmp_path / "one", demo=True, **shared))
        two = stack.enter_context(serving(tmp_path / "two", demo=True, **shared))
        yield one, two


def allows(sidecar: Sidecar) -> bool:
    """Whether dr_aida may read Dana's results."""
    return bool(sidecar.evaluate().json()["decision"])


def status(sidecar: Sidecar) -> dict[str, Any]:
    """What the sidecar says of itself."""
    said: dict[str, Any] = sidecar.call("control", "GET", "/status").json()
    return said


def wait_until(holds: Any) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def withdraw(sidecar: Sidecar) -> None:
    """Let Dana withdraw her consent."""
    answer = sidecar.call("control", "POST", "/v1/consents/c-dana-h1/withdraw", headers=sidecar.bearer("dana"))
    assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_a_withdrawal_at_one_sidecar_is_denied_by_the_other_without_a_probe(
    pair: tuple[Sidecar, Sidecar], mortal: Server
) -> None:
    """A hint does it: the other denies while the newest position that it knows is still the old one."""
    one, two = pair
    wait_until(lambda: status(two)["redis"]["hints"]["heard"])
    assert (allows(one), allows(two)) == (True, True)
    before = status(two)["applied"]

    withdraw(one)
    assert not allows(one)
    wait_until(lambda: not allows(two))

    told = status(two)
    assert told["applied"] == before and told["redis"]["hints"]["read"] > 0
    held = asyncio.run(everything(mortal))
    assert held.count(b"ruqsat:pair:") >= 2
    assert not [word for word in (b"dana", b"dr_aida", b"labs", b"physician") if word in held]


async def everything(server: Server) -> bytes:
    """Every byte that Redis holds of the pair."""
    async with plain(server) as client:
        return await every_byte(client, "pair")


@pytest.mark.slow
def test_without_redis_both_answer_and_are_ready(pair: tuple[Sidecar, Sidecar], mortal: Server) -> None:
    """Stopped, then killed: answers and readiness stay, and status and metrics tell what is wrong."""
    one, two = pair
    wait_until(lambda: status(one)["redis"]["hints"]["heard"])
    os.kill(mortal.process.pid, signal.SIGSTOP)
    wait_until(lambda: not status(one)["redis"]["hints"]["heard"])
    assert (allows(one), allows(two)) == (True, True)
    os.kill(mortal.process.pid, signal.SIGKILL)
    mortal.process.wait()

    withdraw(one)
    assert not allows(one)
    wait_until(lambda: status(one)["redis"]["hints"]["send_failed"] > 0)
    for sidecar in pair:
        assert sidecar.call("control", "GET", "/health/ready").status_code == 200
        metrics = sidecar.call("control", "GET", "/metrics").text
        assert "ruqsat_redis_hints_heard 0.0" in metrics
        assert sidecar.stop() == 0
