"""
``make bench-gate``: a minute in which a sidecar that became slower, or wrong, is found out.

1. **Processor time of a call over the no-op's** (Locust, ``bench/gatefile.py``): bursts in turns, the lower quartile
   of their ratios, for whoever else is on the machine can only make a burst cost more.  Both servers are stopped while
   their work is laid before them, and the kernel counts what they use.
2. **p99 at a fixed arrival rate** (open loop, in turns with the no-op): of so many windows the median ratio.  Queues
   and stalls show here that cost no processor time.  What stays under ``p99_floor_ms`` is never too slow.
3. **Wrong decisions**: none, in the bursts, in the open loop, and under churn (Locust, ``consent_churn``).

What is owed stands in ``bench/thresholds.toml``.  Exit codes: 0 kept, 1 missed, 2 void (too little was measured).
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.asking import Asking, Call, is_later
from bench.ground import Server, no_op_server, world_server
from bench.load import locust
from bench.open_loop import Asked, Run, at_rate, quantile
from bench.worlds import ClinicWorld
from tests.process.starter import MODULE

HERE = Path(__file__).parent
HOSPITALS, PATIENTS = 3, 200
WINDOW = 1.0


def bursts(world: ClinicWorld, sidecar: Server, no_op: Server, seconds: float) -> dict[str, Any]:
    """Run Locust in bursts and return its figures."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words = {
            "sidecar": sidecar.addresses["json"], "pid": sidecar.pid, "no-op": no_op.addresses["json"],
            "no-op-pid": no_op.pid, "seed": world.seed, "hospitals": world.hospitals, "patients": world.patients,
            "moment": world.moment, "results": file.name,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "locust", "-f", str(HERE / "gatefile.py"), "--headless", "-u", "1", "-t",
            f"{seconds:g}s", "--only-summary", "--loglevel", "ERROR",
            *(f"--{key}={word}" for key, word in words.items()),
        ]  # fmt: skip
        path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
        )
        for server in (sidecar, no_op):
            os.kill(server.pid, signal.SIGCONT)  # whatever became of Locust
        text = Path(file.name).read_text()
    assert text, done.stdout[-2000:] + done.stderr[-2000:]
    met: dict[str, Any] = json.loads(text)
    return met


def asked_of(calls: Sequence[Call]) -> Iterator[Asked]:
    """Yield calls for ever, each with its judge."""

    def judged(call: Call) -> Asked:
        def kind_of(head: bytes, body: bytes) -> str:
            lines = (line.partition(": ") for line in head.decode("latin-1").lower().split("\r\n")[1:])
            said = call.read(int(head[9:12]), {name: value for name, _, value in lines}, body)
            return "right" if said == call.right else "later" if is_later(said, call.right) else "wrong"

        return call.raw(), kind_of

    return cycle([judged(call) for call in calls])


def anything(call: Call) -> Asked:
    """Ask the no-op, whose answer says nothing."""
    return call.raw(), lambda _head, _body: "right"


async def open_loop(
    calls: list[Call], sidecar: Server, no_op: Server, rate: float, windows: int
) -> list[tuple[Run, Run]]:
    """Ask both at a fixed rate, in turns; the first pair warms up."""
    requests, nothing = asked_of(calls), cycle([anything(call) for call in calls])
    found = []
    for _ in range(windows + 1):
        base = await at_rate(no_op.addresses["json"], nothing, rate, WINDOW)
        found.append((await at_rate(sidecar.addresses["json"], requests, rate, WINDOW), base))
    return found[1:]


def measure(program: Sequence[str], seconds: float, owed: dict[str, float], folder: Path) -> dict[str, Any]:
    """Serve, measure all three, and return the figures."""
    world = ClinicWorld(1, HOSPITALS, PATIENTS, int(time.time() * 1e6))
    with world_server(world, folder / "sidecar", program=program) as sidecar, no_op_server() as no_op:
        cpu = bursts(world, sidecar, no_op, seconds * 0.5)
        calls = Asking(world).calls("steady_reads", 640, "gate")
        pairs = asyncio.run(open_loop(calls, sidecar, no_op, owed["rate"], max(3, int(seconds * 0.1))))
        results = folder / "churn.json"
        quiet = ("--headless", "--only-summary", "--loglevel", "ERROR", f"--logfile={folder / 'locust.log'}")
        locust(world, sidecar, no_op, "consent_churn", max(4, int(seconds * 0.2)), f"--results={results}",
               "--calls=1000", "--withdrawals=2", words=quiet)  # fmt: skip
        churn = json.loads(results.read_text())
    p99 = [(quantile(run.of("right"), 0.99), quantile(base.of("right"), 0.99)) for run, base in pairs]
    return {
        "bursts": cpu["bursts"], "calls": cpu["calls"], "failed": cpu["failed"],
        "ratio": cpu["quartiles"][0] if "quartiles" in cpu else None, "quartiles": cpu.get("quartiles"),
        "sidecar_us": cpu.get("sidecar_us"), "no_op_us": cpu.get("no_op_us"),
        "p99_ms": statistics.median(one for one, _ in p99) * 1e3,
        "p99_over_no_op": statistics.median(one / base for one, base in p99),
        "client_late_ms": max(run.lag for pair in pairs for run in pair) * 1e3,
        "unanswered": sum(run.unanswered for pair in pairs for run in pair),
        "wrong": {
            "bursts": cpu["wrong"], "open loop": sum(run.kinds["wrong"] for run, _ in pairs), "churn": churn["wrong"],
        },
        "later": cpu["later"] + sum(run.kinds["later"] for run, _ in pairs) + churn["later"],
        "withdrawn": churn["withdrawn"], "scheduled": churn["scheduled"], "churn_calls": churn["calls"],
    }  # fmt: skip


def judge(met: dict[str, Any], owed: dict[str, float]) -> tuple[list[str], list[str]]:
    """Return what was missed, and what makes the run void."""
    missed = [f"{count} wrong decisions ({where})" for where, count in met["wrong"].items() if count]
    void = []
    if met["bursts"] < owed["bursts"]:
        void.append(f"{met['bursts']} bursts are too few to judge by, {owed['bursts']:g} are needed")
    elif met["ratio"] > owed["cpu_over_no_op"]:
        missed.append(
            f"a call costs {met['ratio']:.2f} × the no-op's processor time, owed {owed['cpu_over_no_op']:g} ×"
        )
    if met["p99_over_no_op"] > owed["p99_over_no_op"] and met["p99_ms"] > owed["p99_floor_ms"]:
        missed.append(f"p99 {met['p99_ms']:.1f} ms at {owed['rate']:g}/s, {met['p99_over_no_op']:.1f} × the no-op's")
    if met["later"] > owed["later"] * met["calls"]:
        missed.append(f"{met['later']} answers were put off (try_later)")
    if met["unanswered"]:
        missed.append(f"{met['unanswered']} requests were not answered")
    if met["withdrawn"] <= met["scheduled"] / 2 or not met["churn_calls"]:
        void.append(f"{met['withdrawn']} of {met['scheduled']} consents were withdrawn while it was asked")
    return missed, void


def show(met: dict[str, Any], owed: dict[str, float]) -> None:
    """Print the figures."""
    if met["ratio"] is not None:
        _, middle, high = met["quartiles"]
        print(f"processor time of a call: {met['sidecar_us']:.0f} µs, no-op {met['no_op_us']:.0f} µs; ratio "
              f"{met['ratio']:.2f}, owed {owed['cpu_over_no_op']:g} (median {middle:.2f}, upper quartile {high:.2f}, "
              f"{met['bursts']} bursts)")  # fmt: skip
    print(f"p99 at {owed['rate']:g}/s: {met['p99_ms']:.2f} ms, {met['p99_over_no_op']:.2f} × the no-op's")
    print(f"  owed {owed['p99_over_no_op']:g} ×, or {owed['p99_floor_ms']:g} ms; client late by "
          f"{met['client_late_ms']:.1f} ms")  # fmt: skip
    print(f"wrong decisions: {met['wrong']}; {met['later']} put off; {met['withdrawn']} consents withdrawn meanwhile")
    for line in met["failed"]:
        print("  " + line)


def run(program: Sequence[str] = MODULE, seconds: float = 40.0) -> tuple[int, dict[str, Any]]:
    """Run the gate once; return its exit code and the figures."""
    owed = tomllib.loads((HERE / "thresholds.toml").read_text())["gate"]
    with tempfile.TemporaryDirectory(prefix="ruqsat-gate-", dir=os.environ.get("BENCH_DIR")) as folder:
        met = measure(program, seconds, owed, Path(folder))
    show(met, owed)
    missed, void = judge(met, owed)
    for each in missed:
        print(f"MISSED: {each}")
    for each in void:
        print(f"VOID: {each}")
    print("" if missed or void else "kept")
    return (1 if missed else 2 if void else 0), met


def main() -> int:
    """Run it, and write the figures where that was asked for."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--seconds", type=float, default=40.0, help="of measuring; starting comes on top")
    words.add_argument("--results", type=Path, help="file for the figures, JSON")
    asked = words.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    code, met = run(seconds=asked.seconds)
    if asked.results:
        asked.results.write_text(json.dumps(met | {"name": "ruqsat", "scenario": "gate"}, indent=1))
    return code


if __name__ == "__main__":
    sys.exit(main())
