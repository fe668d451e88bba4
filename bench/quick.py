"""
``make bench-quick``: the AuthZEN hot path as a share of a no-op, all in one run on one core.

Rounds of no-op, lossy and durable alternate, so that a machine that slows down slows all
of them.  A round is void unless the server's core was at least 90 % busy, or waiting for
the server's own disk: otherwise the client, not the server, was measured.  Needs wrk;
prints ratios, for only they travel.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER_CORE, CLIENT_CORE = 0, 1
CONNECTIONS = 16
SECONDS = float(os.environ.get("BENCH_SECONDS", "4"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
BUSY_ENOUGH = 0.90
FLOORS = {"lossy": 0.45, "durable": 0.25}
KINDS = ("no-op", "lossy", "durable")

BODY = json.dumps({
    "subject": {"type": "user", "id": "dr_aida"},
    "action": {"name": "read"},
    "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": "labs"}},
    "context": {"purpose": "TREAT"},
}, separators=(",", ":"))  # fmt: skip
SCRIPT = f"""wrk.method = "POST"
wrk.body = [[{BODY}]]
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def measure(kind: str, script: Path) -> dict[str, float]:
    """Run one server and load it; return requests a second, shares of its core's time, latencies in µs."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py")), kind, "--core", str(SERVER_CORE)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = f"http://{server.stdout.readline().strip()}/access/v1/evaluation"
        load(url, script, 1.0)
        before = core_times(SERVER_CORE)
        requests, duration, errors, p50, p99 = load(url, script, SECONDS)
        spent = [after - earlier for after, earlier in zip(core_times(SERVER_CORE), before, strict=True)]
        idle, disk = spent[3] / sum(spent), spent[4] / sum(spent)
    finally:
        server.terminate()
        server.wait(20)
    return {"rps": requests / duration, "busy": 1 - idle - disk, "disk": disk, "errors": errors, "p50": p50, "p99": p99}


def load(url: str, script: Path, seconds: float) -> tuple[float, float, float, float, float]:
    """Load with wrk from the other core; return requests, seconds, errors, p50 and p99 in µs."""
    command = [
        "taskset",
        "-c",
        str(CLIENT_CORE),
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds:g}s",
        "-s",
        str(script),
        url,
    ]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in out.splitlines() if line.startswith("RESULT"))
    requests, micros, errors, p50, p99 = (float(word) for word in line.split()[1:])
    return requests, micros / 1e6, errors, p50, p99


def core_times(core: int) -> list[int]:
    """Return how long a core was in each state: user, nice, system, idle, waiting for the disk, interrupts, …"""
    lines = Path("/proc/stat").read_text().splitlines()
    fields = next(line.split() for line in lines if line.startswith(f"cpu{core} "))
    return [int(field) for field in fields[1:9]]


def main() -> int:
    """Measure, print, and return 1 if a floor is missed, 2 if the run is void."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if shutil.which("wrk") is None or (os.cpu_count() or 1) < 2:
        print("bench-quick needs wrk (Debian: apt-get install wrk) and two cores", file=sys.stderr)
        return 2
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, Linux {platform.release()}"
    )
    print(f"one uvicorn process on core {SERVER_CORE}, wrk on core {CLIENT_CORE}, {CONNECTIONS} connections, "
          f"{ROUNDS} rounds of {SECONDS:g} s, body {len(BODY)} bytes\n")  # fmt: skip
    print(f"{'round':<6}{'kind':<9}{'req/s':>9}{'share':>8}{'busy':>7}{'disk':>7}{'p50 µs':>9}{'p99 µs':>9}")
    shares: dict[str, list[float]] = {kind: [] for kind in FLOORS}
    void = False
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "evaluate.lua")
        script.write_text(SCRIPT)
        for number in range(1, ROUNDS + 1):
            results = {kind: measure(kind, script) for kind in KINDS}
            for kind, result in results.items():
                share = result["rps"] / results["no-op"]["rps"]
                sound = result["busy"] + result["disk"] >= BUSY_ENOUGH and result["errors"] == 0
                void = void or not sound
                print(f"{number:<6}{kind:<9}{result['rps']:>9.0f}{share:>8.2f}{result['busy']:>7.0%}{result['disk']:>7.0%}"
                      f"{result['p50']:>9.0f}{result['p99']:>9.0f}{'' if sound else '   void'}")  # fmt: skip
                if kind in shares:
                    shares[kind].append(share)
    return judge(shares, void)


def judge(shares: dict[str, list[float]], void: bool) -> int:
    """Print the medians against what is owed."""
    missed = False
    print()
    for kind, floor in FLOORS.items():
        median = statistics.median(shares[kind])
        missed = missed or median < floor
        print(f"{kind:<9}{median:.2f} × no-op, owed {floor:.2f} ×: {'kept' if median >= floor else 'MISSED'}")
    if void:
        print("VOID: in some round the server's core was not busy enough, or a request failed", file=sys.stderr)
        return 2
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
