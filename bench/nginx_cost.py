"""
``make bench-nginx``: what forward-auth costs a request through nginx, against the same nginx with an auth route
that does nothing.

One nginx, one run, three routes to the same records, each over a keep-alive upstream: judged by the sidecar (the
shipped configuration), by a no-op (the sidecar's own HTTP server, which answers 200 to everything), and by nobody.
Rounds of the three alternate, so that a machine that slows down slows all of them. Latency is that of one caller at
a time, from wrk. Ends with 1 if the sidecar's median is more than twice the no-op's, with 2 if nginx or wrk is not
here.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.process.starter import serving
from tests.proxies.front import EXAMPLES, free_port, moved
from tests.wire.ways import RECORD

OWED = 2.0
ROUTES = ("sidecar", "no-op", "nobody")
RECORDS = (
    "    server { listen 127.0.0.1:%d; keepalive_requests 1000000; "
    "location / { default_type text/plain; return 200 record; } }\n"
)


def configuration(ports: dict[str, int]) -> str:
    """Return the shipped configuration three times over, on a port each: its own, with the no-op, without any."""
    shipped = (EXAMPLES / "nginx" / "nginx.conf").read_text()
    begin, server = shipped.index("  upstream ruqsat"), shipped.index("  server {")
    upstreams, block = shipped[begin:server], shipped[server : shipped.rindex("}")]
    blocks = []
    for name in ROUTES:
        one = block.replace("http://ruqsat/", f"http://{name}/")
        one = re.sub(r"\n *auth_request .*", "", one) if name == "nobody" else one
        blocks.append(moved(one, {8080: ports[name]}))
    server_of = {"sidecar": ports["auth"], "no-op": ports["no-op-server"], "nobody": ports["no-op-server"]}
    asked = "".join(
        f"  upstream {name} {{ server 127.0.0.1:{port}; keepalive 16; }}\n" for name, port in server_of.items()
    )
    records = re.search(r"  upstream records .*\n", upstreams)
    assert records is not None
    kept = moved(records[0], {9000: ports["records"]})
    return shipped[:begin] + asked + kept + "".join(blocks) + RECORDS % ports["records"] + "}\n"


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"nobody listens at {port}")


SCRIPT = """wrk.headers["Authorization"] = "%s"
function done(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


def latency(port: int, script: Path, seconds: int) -> tuple[float, float]:
    """Return p50 and p99 in microseconds of one caller at a time; every answer must be a 200."""
    command = ["wrk", "-t1", "-c1", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}{RECORD}"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, errors, p50, p99 = (
        float(word) for word in next(x for x in out.splitlines() if x.startswith("RESULT")).split()[1:]
    )
    assert requests > 10 and errors == 0, out
    return p50, p99


def measure(folder: Path, rounds: int, seconds: int) -> dict[str, list[tuple[float, float]]]:
    """Start everything, and take the rounds."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert nginx is not None
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ROUTES}
    server = Path(__file__).with_name("server.py")
    no_op = subprocess.Popen([sys.executable, str(server), "no-op"], stdout=subprocess.PIPE, text=True)
    processes = [no_op]
    try:
        assert no_op.stdout is not None
        ports = {name: free_port() for name in (*ROUTES, "records")}
        ports["no-op-server"] = int(no_op.stdout.readline().rpartition(":")[2])
        with serving(folder / "sidecar") as sidecar:
            ports["auth"] = int(sidecar.addresses["auth"].rpartition(":")[2])
            script, config = folder / "ask.lua", folder / "nginx.conf"
            script.write_text(SCRIPT % sidecar.bearer("dr_aida")["authorization"])
            config.write_text(configuration(ports))
            processes.append(subprocess.Popen([nginx, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL))
            for name in ROUTES:
                wait_for(ports[name])
                latency(ports[name], script, 1)
            for _ in range(rounds):
                for name in ROUTES:
                    found[name].append(latency(ports[name], script, seconds))
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)
    return found


def main() -> int:
    """Measure, print the medians, and judge their ratio."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rounds", type=int, default=7)
    given.add_argument("--seconds", type=int, default=2)
    asked = given.parse_args()
    if shutil.which("wrk") is None or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        print(
            "NOT MEASURED: bench-nginx needs nginx and wrk (Debian: apt-get install nginx-light wrk)", file=sys.stderr
        )
        return 2
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {asked.rounds} rounds of {asked.seconds} s, one caller"
    )
    with tempfile.TemporaryDirectory(prefix="ruqsat-nginx-", dir=os.environ.get("BENCH_DIR")) as name:
        Path(name).chmod(0o755)
        found = measure(Path(name), asked.rounds, asked.seconds)
    medians = {route: [statistics.median(column) for column in zip(*found[route], strict=True)] for route in ROUTES}
    for route, (p50, p99) in medians.items():
        print(f"{route:<8} p50 {p50:7.0f} µs, p99 {p99:7.0f} µs")
    ratio = statistics.median(one[0] / other[0] for one, other in zip(found["sidecar"], found["no-op"], strict=True))
    of_p99 = medians["sidecar"][1] / medians["no-op"][1]
    print(f"sidecar / no-op, median of rounds: {ratio:.2f} (owed {OWED:g}); of their p99: {of_p99:.2f}")
    print("kept" if ratio <= OWED else "MISSED")
    return 0 if ratio <= OWED else 1


if __name__ == "__main__":
    sys.exit(main())
