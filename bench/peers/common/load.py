"""Load from the other core: wrk over a file of bodies in a closed loop, our own client in an open one."""

import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from bench.open_loop import at_rate, quantile
from bench.quick import core_times

SERVER_CORE, CLIENT_CORE = 0, 1
TICKS = os.sysconf("SC_CLK_TCK")
_LUA = """
local bodies, asked = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    bodies[#bodies + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
  end
end
function request()
  asked = asked % #bodies + 1
  return bodies[asked]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d %d %d\\n", summary.requests, summary.duration,
    e.status + e.read + e.write + e.timeout + e.connect,
    latency:percentile(50), latency:percentile(95), latency:percentile(99), latency:percentile(99.9), latency.max))
end
"""


class Target(NamedTuple):
    """A server under test: its name, how it keeps a journal, where it is, whose process, and what it is asked."""

    name: str
    journal: str
    address: str
    path: str
    pid: int
    bodies: Sequence[bytes]

    @property
    def requests(self) -> list[bytes]:
        """Whole requests, for a client that writes bytes."""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.address}\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        ).encode()
        return [head % len(body) + body for body in self.bodies]


def has_wrk() -> bool:
    """Tell whether wrk is installed."""
    return shutil.which("wrk") is not None


def closed(target: Target, connections: int, seconds: int, folder: Path) -> dict[str, Any]:
    """Load with wrk; return what it met, with the share of its core that each side used."""
    script, bodies = folder / "bodies.lua", folder / f"{target.name}.bodies"
    script.write_text(_LUA)
    if not bodies.is_file():
        bodies.write_bytes(b"\n".join(target.bodies) + b"\n")
    url = f"http://{target.address}{target.path}"
    words = [
        "taskset",
        "-c",
        str(CLIENT_CORE),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "-s",
        str(script),
        url,
    ]
    clock, server, client = time.perf_counter(), _cpu_of(target.pid), _cpu_of_children()
    core = core_times(SERVER_CORE)
    done = subprocess.run([*words, "--", str(bodies)], capture_output=True, text=True, check=True)
    took = time.perf_counter() - clock
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    requests, micros, errors, *latencies = (int(word) for word in line.split()[1:])
    used = _cpu_of(target.pid) - server
    spent = [after - before for after, before in zip(core_times(SERVER_CORE), core, strict=True)]
    busy = 1 - (spent[3] + spent[4]) / max(sum(spent), 1)
    return {
        "rps": requests / (micros / 1e6), **_latencies(*latencies), "errors": errors,
        "cpu_us": used / max(requests, 1) * 1e6,
        "server_cpu": used / took, "client_cpu": (_cpu_of_children() - client) / took,
        "others_cpu": max(0.0, busy - used / took),
    }  # fmt: skip


async def opened(target: Target, rate: float, seconds: int) -> dict[str, Any]:
    """Ask at a fixed rate, answered or not; latencies count from when a request was due."""
    clock, server, client = time.perf_counter(), _cpu_of(target.pid), time.process_time()
    run = await at_rate(target.address, cycle([(each, _kind_of) for each in target.requests]), rate, seconds)
    took, found = time.perf_counter() - clock, run.of("200")
    at = [round(quantile(found, share) * 1e6) for share in (0.5, 0.95, 0.99, 0.999, 1.0)] if found else [0] * 5
    used = _cpu_of(target.pid) - server
    return {
        "rps": len(found) / seconds, **_latencies(*at), "errors": run.due - len(found),
        "client_late_us": round(run.lag * 1e6), "cpu_us": used / max(len(found), 1) * 1e6,
        "server_cpu": used / took, "client_cpu": (time.process_time() - client) / took,
    }  # fmt: skip


def resident_mb(pid: int) -> float:
    """Return the memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _latencies(p50: int, p95: int, p99: int, p999: int, most: int) -> dict[str, int]:
    return {"p50_us": p50, "p95_us": p95, "p99_us": p99, "p999_us": p999, "max_us": most}


def _kind_of(head: bytes, _body: bytes) -> str:
    return head[9:12].decode()


def _cpu_of(pid: int) -> float:
    """Return the seconds of processor that a process used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
