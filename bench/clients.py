"""The driver's clients: wrk from a closed loop, ours from an open one, and what is made of their runs."""

import asyncio
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from bench.asking import Call
from bench.gate import asked_of
from bench.ground import Server, pin
from bench.open_loop import LATE, Run, at_rate, in_turns, quantile

QUANTILES = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
SERVER_CORE, CLIENT_CORE = 0, 1
PUT_OFF = 0.01
"""A greater share of answers that put off is a fault: who decides nothing is fast."""
WRK = """local bodies = {%s}
local at = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request() at = at %% #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
"""
WRK_WHOLE = """local calls = {%s}
local at = 0
function request() at = at %% #calls + 1; return calls[at] end
"""
WRK_DONE = """function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %%d %%d %%d %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    %s + e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(95),
    latency:percentile(99), latency:percentile(99.9), latency.max))
end
"""


def write_script(path: Path, calls: list[Call]) -> Path:
    """Write what wrk asks: the calls, one after the other."""
    asked = ",".join(f"[==[{call.body.decode()}]==]" for call in calls)
    path.write_text(WRK % asked + WRK_DONE % "e.status")
    return path


def write_whole_script(path: Path, calls: list[Call]) -> Path:
    """Write what wrk asks: the calls as they are, with head and method; at these no status is an error."""
    asked = ",".join(msgspec.json.encode(call.raw().decode("ascii")).decode() for call in calls)
    path.write_text(WRK_WHOLE % asked + WRK_DONE % "0")
    return path


@contextmanager
def on_their_cores(*servers: Server) -> Iterator[None]:
    """Put the servers on one core and this process on the other."""
    before = os.sched_getaffinity(0)
    for server in servers:
        pin(server.pid, SERVER_CORE)
    if len(before) > 1:
        os.sched_setaffinity(0, {CLIENT_CORE})
    yield
    os.sched_setaffinity(0, before)


@contextmanager
def alone(server: Any, among: Iterable[Any]) -> Iterator[None]:
    """Halt the others: what one has put off during its own run, as shipping, is no other's cost."""
    others = [other.pid for other in among if other.pid != server.pid]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def wrk(url: str, script: Path, connections: int, seconds: float) -> dict[str, float]:
    """Load with wrk, and return its figures and what it took of its core."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    line = next(line for line in said.splitlines() if line.startswith("RESULT"))
    requests, micros, errors, *quantiles = (float(word) for word in line.split()[1:])
    busy = (usage.ru_utime + usage.ru_stime) / (time.perf_counter() - began)
    return {"rps": requests / micros * 1e6, "wrong": errors, "client_cpu": busy} | dict(
        zip(QUANTILES, quantiles, strict=True)
    )


def faults(run: Run) -> int:
    """Return how many answers were wrong or missing; if more than one of a hundred was put off, these as well."""
    later = run.kinds["later"]
    return run.kinds["wrong"] + run.unanswered + (later if later > PUT_OFF * len(run.answers) else 0)


def compared(server: Server, calls: list[Call], seconds: float = 0.5) -> int:
    """Ask the calls, and return how many answers were wrong."""
    run = asyncio.run(in_turns(server.addresses[calls[0].listener], asked_of(calls), 8, seconds))
    return faults(run)


def of_runs(name: str, scenario: str, runs: list[dict[str, float]], **more: Any) -> dict[str, Any]:
    """Return a record: of each figure the median, of what was wrong the sum."""
    middle = {key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "wrong"}
    spread = (max(run["rps"] for run in runs) - min(run["rps"] for run in runs)) / middle["rps"]
    wrong = sum(run["wrong"] for run in runs)
    return {"name": name, "scenario": scenario, **more, **middle, "wrong": wrong, "spread": spread, "runs": runs}


def capacity(server: Server, calls: list[Call]) -> float:
    """Return how many answers a second this client can have in a closed loop."""
    run = Run()
    for length in (1.0, 2.0):
        run = asyncio.run(in_turns(server.addresses[calls[0].listener], asked_of(calls), 16, length))
    return len(run.answers) / 2.0


def of_open_loop(run: Run, seconds: float, busy: float) -> dict[str, float]:
    """Return the figures of a run; a client that was late measured itself."""
    took = sorted(end - due for due, end, _ in run.answers)
    quantiles = {name: quantile(took, share) * 1e6 for name, share in QUANTILES.items()}
    return {"rps": len(took) / seconds, **quantiles, "wrong": faults(run), "later": run.kinds["later"],
            "client_cpu": busy, "client_late": float(run.lag > LATE)}  # fmt: skip


def compared_once(server: Server, calls: list[Call]) -> int:
    """Ask each call once, and return how many answers were wrong."""
    rate = 500.0
    run = asyncio.run(at_rate(server.addresses["json"], asked_of(calls), rate, len(calls) / rate, patience=60))
    return faults(run)
