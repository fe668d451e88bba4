"""
``make bench``: precise figures of this machine into ``bench/results/*.json``, which ``bench/report.py`` tells.

Closed loop by wrk, open loop (constant arrival, a latency counts from when a request was due) by the client of
``ruqsat bench``.  The server on core 0, the client on core 1, where there are two.  Every figure: a warm-up, several
runs, the median with all runs beside it; the no-op takes part in the same turns, the others halted, for only ratios
travel.  What the client itself took of its core stands beside: near 1 the client was measured.  wrk compares no
answer, so before and after each of its runs the same calls are asked and compared by the other client; ``wrong`` is
what these found, with every answer of wrk's that was not a 200.

Run one part by name: ``PYTHONPATH=. .venv/bin/python bench/driver.py closed open``.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle, product
from pathlib import Path
from typing import Any

import httpx
from bench.asking import EVALUATION, EVALUATIONS, SHAPES, UNPROXIED, Asking, Call, in_batches
from bench.clients import (
    QUANTILES,
    alone,
    capacity,
    compared,
    compared_once,
    of_open_loop,
    of_runs,
    on_their_cores,
    write_script,
    write_whole_script,
    wrk,
)
from bench.gate import anything, asked_of
from bench.ground import Server, cpu_seconds, no_op_server, resident_mb, world_server
from bench.load import locust
from bench.machine import machine
from bench.micro.by_itself import cost_by_itself
from bench.micro.copies import copies
from bench.micro.cost_by_rules import cost_by_rules
from bench.open_loop import at_rate, quantile
from bench.worlds import ClinicWorld
from tests.ground import running_postgres, running_valkey

from bench import revocation

RESULTS = Path(__file__).with_name("results")
HOSPITALS, PATIENTS = 3, 1_000
CONNECTIONS = (1, 8, 16, 64)
JUDGED = (16, 64)
"""What is owed is owed at these: there are twice as many runs."""
ANEW = 12_800
"""So many different questions in turn are always asked anew: each is forgotten when its turn comes."""
SHARES = (0.2, 0.5, 0.8)
POPULATIONS = (1_000, 10_000, 50_000)


def a_world(patients: int = PATIENTS) -> ClinicWorld:
    """Return the world that is measured in, as of now."""
    return ClinicWorld(1, HOSPITALS, patients, int(time.time() * 1e6))


def closed(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Throughput and latency by connections: no-op, lossy and durable, in turns; also where every question is new."""
    found: dict[tuple[str, bool, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        folder, world = Path(name), a_world()
        again = Asking(world).calls("steady_reads", 640, "driver")
        anew = Asking(world).different("steady_reads", ANEW, "anew")
        asked = {
            False: (again, write_script(folder / "again.lua", again)),
            True: (anew, write_script(folder / "anew.lua", anew)),
        }
        with (
            world_server(world, folder / "durable") as durable,
            world_server(world, folder / "lossy", journal="lossy") as lossy,
            no_op_server() as no_op,
            on_their_cores(durable, lossy, no_op),
        ):
            servers = {"no-op": no_op, "lossy": lossy, "durable": durable}
            for connections in CONNECTIONS:
                for _ in range(2 * rounds if connections in JUDGED else rounds):
                    for kind, is_new in (("no-op", False), *product(("lossy", "durable"), asked)):
                        with alone(servers[kind], servers.values()):
                            met = _one_closed(kind, servers[kind], *asked[is_new], connections, seconds)
                        found.setdefault((kind, is_new, connections), []).append(met)
    return [
        of_runs("no-op" if kind == "no-op" else "ruqsat", "asked anew" if is_new else "steady_reads", runs,
                connections=connections, journal=None if kind == "no-op" else kind, client="wrk", loop="closed")
        for (kind, is_new, connections), runs in found.items()
    ]  # fmt: skip


def _one_closed(
    kind: str, server: Server, calls: list[Call], script: Path, connections: int, seconds: float
) -> dict[str, float]:  # fmt: skip
    url = f"http://{server.addresses['json']}{EVALUATION}"
    wrong = 0 if kind == "no-op" else compared(server, calls)
    wrk(url, script, connections, 1)
    before, began = cpu_seconds(server.pid), time.perf_counter()
    met = wrk(url, script, connections, seconds)
    busy = (cpu_seconds(server.pid) - before) / (time.perf_counter() - began)
    wrong += 0 if kind == "no-op" else compared(server, calls)
    return met | {"wrong": met["wrong"] + wrong, "server_cpu": busy, "rss_mb": resident_mb(server.pid)}


def open_loops(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Latency at a constant arrival rate: a share of what the durable sidecar can do, in turns with the no-op."""
    found: dict[tuple[str, str, float], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        world = a_world()
        with world_server(world, Path(name)) as sidecar, no_op_server() as no_op, on_their_cores(sidecar, no_op):
            asking = Asking(world, sidecar.token)
            for shape in ("steady_reads", "forward_auth"):
                calls = asking.calls(shape, 640, "driver")
                most = capacity(sidecar, calls)
                for _ in range(rounds):
                    for share in SHARES:
                        for kind, server, asked in (
                            ("ruqsat", sidecar, asked_of(calls)),
                            ("no-op", no_op, cycle([anything(call) for call in calls])),
                        ):
                            address = server.addresses[calls[0].listener if kind == "ruqsat" else "json"]
                            with alone(server, (sidecar, no_op)):
                                wrong = compared(sidecar, calls) if server is sidecar else 0
                                before = time.process_time()
                                run = asyncio.run(at_rate(address, asked, share * most, seconds))
                            met = of_open_loop(run, seconds, (time.process_time() - before) / seconds)
                            met |= {"wrong": met["wrong"] + wrong, "rss_mb": resident_mb(server.pid)}
                            found.setdefault((kind, shape, share), []).append(met)
    return [
        of_runs(kind, shape, runs, connections=None, journal="durable" if kind == "ruqsat" else None,
                client="ruqsat bench", loop="open", share=share)
        for (kind, shape, share), runs in found.items()
    ]  # fmt: skip


def by_listener(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """
    The same questions by forward-auth and by AuthZEN at one durable sidecar, in turns.

    What is owed is that they cost the same, and what a run costs here may be half as much again as the one before it:
    so there are three times as many, and shorter ones.
    """
    found: dict[tuple[str, bool, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        folder, world = Path(name), a_world()
        with world_server(world, folder / "sidecar") as sidecar, on_their_cores(sidecar):
            asking, asked = Asking(world, sidecar.token), {}
            for shape, is_new in product((UNPROXIED, "forward_auth"), (False, True)):
                calls = asking.different(shape, ANEW, "anew") if is_new else asking.calls(shape, 640, "driver")
                asked[shape, is_new] = calls, write_whole_script(folder / f"{shape}{is_new}.lua", calls)
            for connections, number in product((16, 64), range(3 * rounds)):
                # What a run leaves to be shipped is the next one's cost: none always comes after the same.
                for shape, is_new in reversed(asked) if number % 2 else asked:
                    met = _one_whole(sidecar, *asked[shape, is_new], connections, seconds / 2)
                    found.setdefault((shape, is_new, connections), []).append(met)
    return [
        of_runs("ruqsat", shape, runs, connections=connections, journal="durable", client="wrk", loop="closed",
                asked="anew" if is_new else "again")
        for (shape, is_new, connections), runs in found.items()
    ]  # fmt: skip


def _one_whole(
    server: Server, calls: list[Call], script: Path, connections: int, seconds: float
) -> dict[str, float]:  # fmt: skip
    url, wrong = f"http://{server.addresses[calls[0].listener]}/", compared(server, calls)
    wrk(url, script, connections, 1)
    before = cpu_seconds(server.pid)
    met = wrk(url, script, connections, seconds)
    spent = (cpu_seconds(server.pid) - before) / (met["rps"] * max(1, round(seconds))) * 1e6
    return met | {"wrong": met["wrong"] + wrong + compared(server, calls), "cpu_us": spent}


def by_patients(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """What a population costs: throughput on a warm working set of the same size, and memory with everybody read."""
    found = []
    for patients in POPULATIONS:
        with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
            folder, world = Path(name), a_world(patients)
            began = time.perf_counter()
            with world_server(world, folder) as sidecar, on_their_cores(sidecar):
                started, empty = time.perf_counter() - began, resident_mb(sidecar.pid)
                calls = Asking(world).calls("steady_reads", 640, "driver")
                script = write_script(folder / "ask.lua", calls)
                url = f"http://{sidecar.addresses['json']}{EVALUATION}"
                wrong, runs = compared(sidecar, calls), []
                wrk(url, script, 16, 1)
                for _ in range(rounds):
                    before, count = cpu_seconds(sidecar.pid), 0.0
                    met = wrk(url, script, 16, seconds)
                    count = met["rps"] * max(1, round(seconds))
                    met["cpu_us"] = (cpu_seconds(sidecar.pid) - before) / count * 1e6
                    runs.append(met)
                warm = resident_mb(sidecar.pid)
                reach = min(patients, 10_000)
                wrong += compared_once(sidecar, Asking(world).calls("steady_reads", reach, "wide"))
                full = resident_mb(sidecar.pid)
            record = of_runs("ruqsat", "by_patients", runs, connections=16, journal="durable", patients=patients)
            found.append(record | {"wrong": record["wrong"] + wrong, "started_s": started, "rss_mb": full,
                                   "rss_empty_mb": empty, "rss_warm_mb": warm, "asked_wide": reach})  # fmt: skip
    return found


def shapes(_: int, seconds: float) -> list[dict[str, Any]]:
    """Every shape by Locust, which compares each answer, and withdraws consents in one of them."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        folder, world = Path(name), a_world()
        with world_server(world, folder / "sidecar") as sidecar, no_op_server() as no_op:
            for shape in sorted(SHAPES, key="consent_churn".__eq__):  # last: it changes what is right
                results = folder / f"{shape}.json"
                words = ("--headless", "--only-summary", "--loglevel", "ERROR", f"--logfile={folder / 'log'}")
                length = 18 if shape == "break_glass_burst" else max(6, int(3 * seconds))
                locust(world, sidecar, no_op, shape, length, f"--results={results}", "--withdrawals=2", words=words)
                met = json.loads(results.read_text())
                found.append(met | {"journal": "durable", "loop": "closed", "rps": met["calls"] / length, "runs": []})
    return found


def batches(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """The same questions asked one by one, and a hundred a call, in turns: by one caller, and by sixteen."""
    found: dict[tuple[int, bool, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        folder, world = Path(name), a_world()
        again = Asking(world).calls("steady_reads", 640, "driver")
        anew = Asking(world).different("steady_reads", ANEW, "anew")
        asked = {
            (is_new, size): (EVALUATION if size == 1 else EVALUATIONS, calls if size == 1 else in_batches(calls, size))
            for is_new, calls in ((False, again), (True, anew))
            for size in (1, 100)
        }
        with world_server(world, folder / "sidecar") as sidecar, on_their_cores(sidecar):
            for connections in (1, 16):
                for _ in range(rounds):
                    for (is_new, size), (path, calls) in asked.items():
                        url = f"http://{sidecar.addresses['json']}{path}"
                        script = write_script(folder / f"{size}", calls)
                        wrong = compared(sidecar, calls)
                        wrk(url, script, connections, 1)
                        met = wrk(url, script, connections, seconds)
                        met |= {"wrong": met["wrong"] + wrong, "evaluations": met["rps"] * size}
                        found.setdefault((connections, is_new, size), []).append(met)
    return [
        of_runs("ruqsat", "batch, anew" if is_new else "batch", runs, connections=connections, journal="durable",
                client="wrk", loop="closed", size=size)
        for (connections, is_new, size), runs in found.items()
    ]  # fmt: skip


def later(rounds: int, seconds: float) -> list[dict[str, Any]]:
    """What a decision costs while it is asked for, and what is done for it afterwards: its line is shipped."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        folder, world = Path(name), a_world()
        calls = Asking(world).calls("steady_reads", 640, "driver")
        script = write_script(folder / "again.lua", calls)
        with world_server(world, folder / "sidecar") as sidecar, on_their_cores(sidecar):
            url = f"http://{sidecar.addresses['json']}{EVALUATION}"
            wrong = compared(sidecar, calls)
            _wait_until_shipped(sidecar)
            began, ended = cpu_seconds(sidecar.pid), time.perf_counter()
            time.sleep(2)
            idle = (cpu_seconds(sidecar.pid) - began) / (time.perf_counter() - ended)
            for _ in range(rounds):
                began = cpu_seconds(sidecar.pid)
                met = wrk(url, script, 16, seconds)
                between, ended = cpu_seconds(sidecar.pid), time.perf_counter()
                _wait_until_shipped(sidecar)
                took = time.perf_counter() - ended
                after = cpu_seconds(sidecar.pid) - between - idle * took
                answers = met["rps"] * max(1, round(seconds))
                cost = {"cpu_us": (between - began) / answers * 1e6, "later_us": after / answers * 1e6}
                found.append(met | cost | {"later_s": took, "wrong": met["wrong"] + wrong})
                wrong = 0
    return [of_runs("ruqsat", "steady_reads", found, connections=16, journal="durable", client="wrk", loop="closed")]


def _wait_until_shipped(server: Server) -> None:
    url = f"http://{server.addresses['control']}/metrics"
    time.sleep(1)  # for the first of what has just been written to be seen
    while not re.search(r"^ruqsat_journal_behind_seconds 0(\.0)?$", httpx.get(url).text, re.MULTILINE):
        time.sleep(1)


def withdrawals(rounds: int, _: float) -> list[dict[str, Any]]:
    """From an acknowledged change at one sidecar to the first answer of another by it: with hints, and without."""
    found = []
    with tempfile.TemporaryDirectory(prefix="ruqsat-driver-") as name:
        Path(name).chmod(0o755)
        with running_postgres(Path(name, "pg"), durable=True) as server, running_valkey(Path(name, "vk")) as valkey:
            url = server.new_database()
            asyncio.run(revocation.upgrade_database(url))
            for what, redis in (("with hints", f"redis://127.0.0.1:{valkey.port}"), ("without hints", None)):
                for change, times in asyncio.run(revocation.measure(url, redis, 32 * rounds)).items():
                    marks = {name: quantile(times, share) * 1e3 for name, share in QUANTILES.items()}
                    found.append({"name": "ruqsat", "scenario": change, "hints": what, "times_ms": times,
                                  "connections": None, "journal": None, "wrong": 0, "runs": [], **marks})  # fmt: skip
    return found


def rules(rounds: int, _: float) -> list[dict[str, Any]]:
    """What one evaluation costs by the number of rules, without HTTP."""
    return cost_by_rules(3 * rounds)


def by_itself(rounds: int, _: float) -> list[dict[str, Any]]:
    """What one evaluation costs on the shipped pack, beside what stock pycasbin costs."""
    return cost_by_itself(5 * rounds)


PARTS: dict[str, Callable[[int, float], list[dict[str, Any]]]] = {
    "closed": closed, "later": later, "listeners": by_listener, "open": open_loops, "batch": batches,
    "alone": by_itself, "rules": rules, "patients": by_patients,
    "copies": copies, "shapes": shapes, "revocation": withdrawals,
}  # fmt: skip


def about(rounds: int, seconds: float) -> dict[str, Any]:
    """Return what the figures are of."""
    tool = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    names = ("ruqsat", "uvicorn", "uvloop", "httptools", "msgspec", "pycasbin", "locust", "sqlalchemy")
    return machine() | {
        "versions": {name: version(name) for name in names}, "wrk": tool.partition("Copyright")[0].strip(),
        "rounds": rounds, "seconds": seconds, "pinned": (os.cpu_count() or 1) > 1,
        "hospitals": HOSPITALS, "patients": PATIENTS,
    }  # fmt: skip


def main() -> int:
    """Measure the parts, and write one file each."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all, if none is named")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=3.0)
    words.add_argument("--results", type=Path, default=RESULTS)
    asked = words.parse_args()
    if shutil.which("wrk") is None:
        print("NOT MEASURED: the driver needs wrk (Debian: apt-get install wrk)", file=sys.stderr)
        return 2
    asked.results.mkdir(parents=True, exist_ok=True)
    measured = about(asked.rounds, asked.seconds)
    wrong = 0
    for part in asked.parts or PARTS:
        began = time.monotonic()
        records = PARTS[part](asked.rounds, asked.seconds)
        measured |= {"load_after": round(os.getloadavg()[0], 2)}
        (asked.results / f"{part}.json").write_text(json.dumps({"machine": measured, "records": records}, indent=1))
        bad = int(sum(each.get("wrong", 0) for each in records))
        wrong += bad
        print(f"{part}: {len(records)} records in {time.monotonic() - began:.0f} s, {bad} wrong answers", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
