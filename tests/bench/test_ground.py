"""A real sidecar over a world answers every shape as the benches say is right."""

import asyncio
import subprocess
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.asking import SHAPES, Asking, Churn
from bench.ground import cpu_seconds, world_server
from bench.peers import run as peers
from bench.peers.common.load import Target
from bench.worlds import ClinicWorld


@pytest.mark.slow
def test_a_sidecar_over_a_world_answers_every_shape_rightly(tmp_path: Path) -> None:
    """Also after consents were withdrawn; and its processor time is told."""
    world = ClinicWorld(20210623, hospitals=2, patients=100, moment=time.time_ns() // 1000)
    with world_server(world, tmp_path) as sidecar, httpx.Client(trust_env=False) as client:
        asking, churn, met = Asking(world, sidecar.token), Churn(), Counter[tuple[str, bool]]()
        withdrawals = tuple(world.withdrawals(1, 60))[:3]
        before = cpu_seconds(sidecar.pid)

        def ask(shape: str, count: int, stream: str) -> None:
            for call in asking.calls(shape, count, stream, withdrawals):
                began = time.perf_counter()
                url = f"http://{sidecar.addresses[call.listener]}{call.path}"
                told = client.request(call.method, url, content=call.body, headers=call.headers)
                said = call.read(told.status_code, told.headers, told.content)
                assert churn.is_right(call, said, began, time.perf_counter()), (call, told.text)
                met[shape, said == call.right] += 1

        for shape in SHAPES:
            ask(shape, 25, "first")
        for each in withdrawals:
            token = sidecar.token(f"own-{each.patient}", ("patient",), None, "PATRQT")
            churn.sent[each.patient] = time.perf_counter()
            told = client.post(
                f"http://{sidecar.addresses['control']}/v1/consents/{each.consent}/withdraw?wait=visible",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert told.status_code == 200, told.text
            churn.acknowledged[each.patient] = time.perf_counter()
        ask("consent_churn", 60, "second")

        assert all(met[shape, True] for shape in SHAPES)
        assert met["consent_churn", False] > 0, "no answer turned: nothing was tested"
        assert not churn.late and set(churn.first_denials) <= {each.patient for each in withdrawals}
        assert cpu_seconds(sidecar.pid) > before


def test_every_shape_asks_for_permits_and_for_denials() -> None:
    """A bench that is only ever denied, or only ever allowed, would measure half of the product."""
    world = ClinicWorld(20210623, hospitals=2, patients=100, moment=time.time_ns() // 1000)
    asking = Asking(world, lambda *_: "a token")

    for shape in ("steady_reads", "consent_churn", "break_glass_burst", "forward_auth"):
        outcomes = Counter(call.name.rpartition(": ")[2] for call in asking.calls(shape, 200))
        assert min(outcomes["allow"], outcomes["deny"]) > 20, (shape, outcomes)


def test_nobody_computes_beside_the_peer_that_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our sidecars ship later what they were asked: on the core that a peer is given it would be the peer's cost."""
    with ExitStack() as stack:
        idle = [stack.enter_context(subprocess.Popen(["sleep", "60"])) for _ in range(3)]
        for each in idle:
            stack.callback(each.kill)
        names = ("lossy", "durable", "cerbos")
        targets = [Target(name, "none", "", "", each.pid, []) for name, each in zip(names, idle, strict=True)]
        states: list[tuple[str, tuple[str, ...]]] = []

        def met(target: Target, *_: Any) -> dict[str, float]:
            time.sleep(0.02)
            told = tuple(Path(f"/proc/{each.pid}/stat").read_text().rpartition(") ")[2][0] for each in idle)
            states.append((target.name, told))
            return {"rps": 1.0}

        async def met_open(target: Target, *_: Any) -> dict[str, float]:
            return met(target)

        monkeypatch.setattr(peers, "closed", met)
        monkeypatch.setattr(peers, "opened", met_open)
        for shown in ("print_round", "print_open"):
            monkeypatch.setattr(peers, shown, lambda *_: None)
        asyncio.run(peers._measure(targets, 1, 1, tmp_path))

    assert dict(states) == {"lossy": ("S", "T", "T"), "durable": ("T", "S", "T"), "cerbos": ("T", "T", "S")}
    assert len(set(states)) == len(names)
