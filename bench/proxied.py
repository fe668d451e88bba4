"""
What forward-auth costs a request behind nginx that asks Ruqsat (durable, lossy), a no-op server, or itself: one run.

The no-op server is the same uvicorn with the same protocol; it answers 200 to everything.  The records are answered by
nginx itself, so that nothing but the question differs.  Rounds alternate, on one machine for all of them: only
the ratio travels.  Needs nginx and wrk.

Run: ``PYTHONPATH=. python bench/proxied.py``
"""

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.ground import free_port
from tests.process.starter import serving

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "3"))
OWED = 2.0
"""How many times the latency behind a no-op a proxied request may take."""

CONNECTIONS = (1, 16)
TARGET = "/patients/p-dana/labs/o1"
SCRIPT = """function done(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""
NGINX = """daemon off; pid nginx.pid; error_log stderr error; worker_processes 1;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  upstream durable {{ server {durable}; keepalive 16; }}
  upstream lossy {{ server {lossy}; keepalive 16; }}
  upstream no_op  {{ server {no_op}; keepalive 16; }}
  server {{ listen 127.0.0.1:{records}; location / {{ return 200 "record"; }} }}
  upstream records {{ server 127.0.0.1:{records}; keepalive 16; }}
  {fronts}
}}
"""
FRONT = """server {{
    listen 127.0.0.1:{port};
    location / {{
      auth_request /_ask;
      proxy_pass http://records; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
    location = /_ask {{ internal; {answer} }}
  }}
"""
ASK = """proxy_pass http://{upstream}/authz/nginx; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass_request_body off; proxy_set_header Content-Length "";
      proxy_set_header X-Original-Method $request_method; proxy_set_header X-Original-URI $request_uri;
      proxy_set_header X-Original-Host $host;"""
KINDS = {
    "durable": ASK.format(upstream="durable"),
    "lossy": ASK.format(upstream="lossy"),
    "no-op": ASK.format(upstream="no_op"),
    "none": "return 204;",
}


@contextmanager
def no_op_server() -> Iterator[str]:
    """Run the no-op of the other benches; yield its address."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py")), "no-op"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def nginx(folder: Path, **upstreams: str) -> Iterator[dict[str, int]]:
    """Run nginx with a front for each kind of question; yield their ports."""
    ports = {kind: free_port() for kind in KINDS}
    fronts = "".join(FRONT.format(port=ports[kind], answer=answer) for kind, answer in KINDS.items())
    folder.mkdir()
    (folder / "nginx.conf").write_text(NGINX.format(records=free_port(), fronts=fronts, **upstreams))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        time.sleep(1)
        yield ports
    finally:
        process.terminate()
        process.wait(20)


def load(port: int, token: str, connections: int, script: Path) -> tuple[float, float]:
    """Load a front with wrk; return p50 and p99 in µs.  A request that is not answered 2xx ends the run."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{SECONDS:g}s", "-H", f"Authorization: Bearer {token}", "-s", str(script),
        f"http://127.0.0.1:{port}{TARGET}",
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    requests, errors, p50, p99 = (float(w) for w in next(x for x in out.splitlines() if "RESULT" in x).split()[1:])
    if errors or not requests:
        raise SystemExit(f"VOID: {errors:g} of {requests:g} requests at port {port} were not answered 2xx")
    return p50, p99


def main() -> int:
    """Measure, print, and return 1 if more is taken than is owed."""
    missed = False
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        sidecars = {mode: stack.enter_context(serving(folder / mode, journal=mode)) for mode in ("durable", "lossy")}
        no_op = stack.enter_context(no_op_server())
        ports = stack.enter_context(
            nginx(folder / "nginx", no_op=no_op, **{m: s.addresses["auth"] for m, s in sidecars.items()})
        )
        script, tokens = folder / "told.lua", {mode: each.tokens["dr_aida"] for mode, each in sidecars.items()}
        script.write_text(SCRIPT)
        print(f"{os.cpu_count()} cores for everybody, load {os.getloadavg()[0]:.1f}, "
              f"{ROUNDS} rounds of {SECONDS:g} s\n")  # fmt: skip
        for connections in CONNECTIONS:
            told: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for _ in range(ROUNDS):
                for kind in KINDS:
                    told[kind].append(load(ports[kind], tokens.get(kind, ""), connections, script))
            median = {
                kind: [statistics.median(each) for each in zip(*rows, strict=True)] for kind, rows in told.items()
            }
            for kind, (p50, p99) in median.items():
                print(f"{connections:>3} connections  {kind:<8} p50 {p50:>7.0f} µs   p99 {p99:>7.0f} µs")
            missed = missed or median["durable"][0] > OWED * median["no-op"][0]
            for kind in sidecars:
                over, bare = (median[kind][0] / median[other][0] for other in ("no-op", "none"))
                print(f"{connections:>3} connections  {kind:<8} {over:.2f} × a no-op server, {bare:.2f} × nginx alone")
            print(f"    owed, durable: {OWED:g} × a no-op server: {'MISSED' if missed else 'kept'}\n")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
