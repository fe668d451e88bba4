"""
A world, a sidecar that serves it, a no-op beside it, and Locust on both: headless, or with its page.

    PYTHONPATH=. .venv/bin/python bench/load.py --shape consent_churn --seconds 30
    PYTHONPATH=. .venv/bin/python bench/load.py --shape batch --web          # then open http://127.0.0.1:8089

Exit codes are Locust's: 1 if an answer was wrong or a threshold of ``bench/thresholds.toml`` was passed.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bench.asking import SHAPES
from bench.ground import Server, no_op_server, world_server
from bench.worlds import ClinicWorld

HERE = Path(__file__).parent


def locust(
    world: ClinicWorld, sidecar: Server, no_op: Server, shape: str, seconds: int, *more: str,
    words: Sequence[str] = ("--headless", "--only-summary"),
) -> int:  # fmt: skip
    """Run Locust and return its exit code; *more* are words of ``bench/locustfile.py``."""
    given = {
        "shape": shape, "seconds": seconds, "seed": world.seed, "hospitals": world.hospitals,
        "patients": world.patients, "moment": world.moment, "auth": f"http://{sidecar.addresses['auth']}",
        "control": f"http://{sidecar.addresses['control']}", "no-op": f"http://{no_op.addresses['json']}",
        "pid": sidecar.pid, "no-op-pid": no_op.pid,
    }  # fmt: skip
    command = [
        sys.executable, "-m", "locust", "-f", str(HERE / "locustfile.py"), "--host",
        f"http://{sidecar.addresses['json']}", *words, *(f"--{name}={value}" for name, value in given.items()), *more,
    ]  # fmt: skip
    path = os.pathsep.join(filter(None, (str(HERE.parent), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"BENCH_TOKEN_KEY": sidecar.key, "PYTHONPATH": path}
    return subprocess.run(command, env=environment, check=False).returncode


def exports(world: ClinicWorld, sidecar: Server, no_op: Server) -> dict[str, object]:
    """Return the environment of a Locust elsewhere that asks this world."""
    return {
        "BENCH_SEED": world.seed, "BENCH_HOSPITALS": world.hospitals, "BENCH_PATIENTS": world.patients,
        "BENCH_MOMENT": world.moment, "BENCH_AUTH": f"http://{sidecar.addresses['auth']}",
        "BENCH_CONTROL": f"http://{sidecar.addresses['control']}", "BENCH_TOKEN_KEY": sidecar.key,
        "BENCH_NO_OP": f"http://{no_op.addresses['json']}",
    }  # fmt: skip


def main() -> int:
    """Serve, load, and return Locust's exit code."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--shape", choices=SHAPES, default="steady_reads")
    words.add_argument("--seconds", type=int, default=30)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--hospitals", type=int, default=3)
    words.add_argument("--patients", type=int, default=1000)
    words.add_argument("--journal", choices=("durable", "lossy"), default="durable")
    words.add_argument("--web", action="store_true", help="with Locust's page, until Ctrl-C")
    words.add_argument("--serve", action="store_true", help="no Locust: print what a distributed one needs, and serve")
    asked, more = words.parse_known_args()
    world = ClinicWorld(asked.seed, asked.hospitals, asked.patients, int(time.time() * 1e6))
    with (
        tempfile.TemporaryDirectory(prefix="ruqsat-load-", dir=os.environ.get("BENCH_DIR")) as folder,
        world_server(world, Path(folder), journal=asked.journal) as sidecar,
        no_op_server() as no_op,
    ):
        if asked.serve:
            print("\n".join(f"export {name}='{value}'" for name, value in exports(world, sidecar, no_op).items()))
            print(f"# --host http://{sidecar.addresses['json']}; Ctrl-C ends it", flush=True)
            with suppress(KeyboardInterrupt):
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.default_int_handler)
                signal.pause()
            return 0
        shown = ("--web-host", "127.0.0.1") if asked.web else ("--headless", "--only-summary")
        return locust(world, sidecar, no_op, asked.shape, asked.seconds, *more, words=shown)


if __name__ == "__main__":
    sys.exit(main())
