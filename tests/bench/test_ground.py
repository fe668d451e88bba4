"""A real sidecar over a world answers every shape as the benches say is right."""

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from bench.asking import SHAPES, Asking, Churn
from bench.ground import cpu_seconds, world_server
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
