"""
``make bench-nginx``: what forward-auth costs a request through nginx, against the same nginx with an auth route
that does nothing.

One nginx, one run, four routes to the same records, each over a keep-alive upstream and with the shipped
configuration: judged by a durable and by a lossy sidecar, by a no-op (the sidecar's own HTTP server, which answers 200
to everything), and by nobody.  Rounds of the four alternate, so that a machine that slows down slows all of them; one
caller at a time, then sixteen.  Every line is judged by itself: the median over the rounds of sidecar against no-op,
by their p50.  Ends with 1 if one is above what is owed, with 2 if nginx or wrk is not here.
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.process.starter import serving
from tests.proxies.front import EXAMPLES, free_port, moved
from tests.wire.ways import RECORD

OWED = 2.0
MODES = ("durable", "lossy")
ROUTES = (*MODES, "no-op", "nobody")
CONNECTIONS = (1, 16)
RECORDS = (
    "    server { listen 127.0.0.1:%d; keepalive_requests 1000000; "
    "location / { default_type text/plain; return 200 record; } }\n"
)
SCRIPT = """function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
Times = tuple[float, float]


def configuration(ports: dict[str, int], upstreams: dict[str, str]) -> str:
    """Return the shipped configuration once for each route, on a port each; nobody's asks nothing."""
    shipped = (EXAMPLES / "nginx" / "nginx.conf").read_text()
    begin, server = shipped.index("  upstream ruqsat"), shipped.index("  server {")
    block, blocks = shipped[server : shipped.rindex("}")], []
    for name in ROUTES:
        one = block.replace("http://ruqsat/", f"http://{name}/")
        one = re.sub(r"\n *auth_request .*", "", one) if name == "nobody" else one
        blocks.append(moved(one, {8080: ports[name]}))
    asked = "".join(f"  upstream {name} {{ server {where}; keepalive 16; }}\n" for name, where in upstreams.items())
    records = re.search(r"  upstream records .*\n", shipped)
    assert records is not None
    kept = moved(records[0], {9000: ports["records"]})
    return shipped[:begin] + asked + kept + "".join(blocks) + RECORDS % ports["records"] + "}\n"


@contextmanager
def no_op_server() -> Iterator[str]:
    """Run the no-op of the other benches; yield its address."""
    server = Path(__file__).with_name("server.py")
    process = subprocess.Popen([sys.executable, str(server), "no-op"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def nginx(folder: Path, upstreams: dict[str, str]) -> Iterator[dict[str, int]]:
    """Run nginx in front of everything; yield the routes' ports."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program is not None
    ports, config = {name: free_port() for name in (*ROUTES, "records")}, folder / "nginx.conf"
    config.write_text(configuration(ports, upstreams))
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        for name in ROUTES:
            wait_for(ports[name])
        yield ports
    finally:
        process.terminate()
        process.wait(20)


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


def load(port: int, token: str, connections: int, script: Path, seconds: int) -> Times:
    """Return p50 and p99 in microseconds; a request that is not answered 2xx ends the run."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Authorization: {token}", "-s", str(script),
        f"http://127.0.0.1:{port}{RECORD}",
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, errors, p50, p99 = (float(w) for w in next(x for x in out.splitlines() if "RESULT" in x).split()[1:])
    if errors or requests < 10:
        raise SystemExit(f"VOID: {errors:g} of {requests:g} requests at port {port} were not answered 2xx")
    return p50, p99


def measure(folder: Path, rounds: int, seconds: int) -> dict[int, dict[str, list[Times]]]:
    """Start everything, and take the rounds."""
    found: dict[int, dict[str, list[Times]]] = {each: {name: [] for name in ROUTES} for each in CONNECTIONS}
    with ExitStack() as stack:
        sidecars = {mode: stack.enter_context(serving(folder / mode, journal=mode)) for mode in MODES}
        no_op = stack.enter_context(no_op_server())
        judges = {mode: each.addresses["auth"] for mode, each in sidecars.items()} | {"no-op": no_op, "nobody": no_op}
        ports = stack.enter_context(nginx(folder, judges))
        tokens = {mode: each.bearer("dr_aida")["authorization"] for mode, each in sidecars.items()}
        script = folder / "told.lua"
        script.write_text(SCRIPT)
        for name in ROUTES:
            load(ports[name], tokens.get(name, "none"), max(CONNECTIONS), script, 1)
        for connections, told in found.items():
            for _ in range(rounds):
                for name in ROUTES:
                    told[name].append(load(ports[name], tokens.get(name, "none"), connections, script, seconds))
    return found


def judged(connections: int, told: dict[str, list[Times]]) -> bool:
    """Print the medians of one number of callers and a verdict for each kind of sidecar; say whether all are kept."""
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in told.items()}
    for name, (p50, p99) in medians.items():
        print(f"{connections:>3} at once  {name:<8} p50 {p50:7.0f} µs, p99 {p99:7.0f} µs")
    ratios = {
        mode: statistics.median(one[0] / other[0] for one, other in zip(told[mode], told["no-op"], strict=True))
        for mode in MODES
    }
    for mode, ratio in ratios.items():
        of_p99 = medians[mode][1] / medians["no-op"][1]
        verdict = "kept" if ratio <= OWED else "MISSED"
        line = f"{ratio:.2f} × the no-op (owed {OWED:g}): {verdict}"
        print(f"{connections:>3} at once  {mode:<8} {line}; p99 {of_p99:.2f} ×")
    return all(ratio <= OWED for ratio in ratios.values())


def main() -> int:
    """Measure, print, and judge."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--rounds", type=int, default=5)
    given.add_argument("--seconds", type=int, default=2)
    asked = given.parse_args()
    if shutil.which("wrk") is None or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        print(
            "NOT MEASURED: bench-nginx needs nginx and wrk (Debian: apt-get install nginx-light wrk)", file=sys.stderr
        )
        return 2
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {asked.rounds} rounds of {asked.seconds} s")
    with tempfile.TemporaryDirectory(prefix="ruqsat-nginx-", dir=os.environ.get("BENCH_DIR")) as name:
        Path(name).chmod(0o755)
        found = measure(Path(name), asked.rounds, asked.seconds)
    kept = [judged(connections, told) for connections, told in found.items()]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
