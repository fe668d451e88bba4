"""
One server over the world, pinned to a core: ``no-op``, ``lossy``, ``durable``, ``pycasbin`` or ``cedar``.

It prints its address once it serves.  All are one process of uvicorn with httptools and uvloop; pycasbin's is the
stock one, the others use the product's own protocol.
"""

import argparse
import os
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
import uvloop
from bench.peers.common.ours import own_world
from bench.peers.common.plan import Plan
from bench.peers.common.rules import reaching, read_rules
from bench.server import no_op

from ruqsat.core.projection import project_world
from ruqsat.settings import BLOCKING_DUTIES, load_settings
from ruqsat.web.listeners import Listener, parse_listen, serve
from ruqsat.wiring import open_process

KINDS = ("no-op", "lossy", "durable", "pycasbin", "cedar")


async def main(kind: str, plan: Plan) -> None:
    """Serve one kind until stopped."""
    if kind in ("lossy", "durable"):
        await _ours(kind, plan)
    elif kind == "pycasbin":
        await _stock(plan)
    else:
        await _raw(_cedar(plan) if kind == "cedar" else no_op)


async def _raw(app: object) -> None:
    where = parse_listen("127.0.0.1:0")
    assert where is not None
    await serve([Listener("bench", where, app)], on_ready=lambda found: print(found["bench"], flush=True))  # type: ignore[arg-type]


async def _ours(journal: str, plan: Plan) -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        settings = load_settings(
            database_url=f"sqlite:///{folder}/bench.db", journal_dir=Path(folder, "journal"), journal=journal,
            auth_listen="off", control_listen="off", policy_dir=Path(folder, "policy"),
            json_capabilities=BLOCKING_DUTIES,
        )  # fmt: skip
        async with open_process(settings) as process:
            switches = process.administration.in_force.pack.policy_set.vocabulary.switches
            await process.information.record(*project_world(own_world(plan.world()), switches))
            await _raw(next(listener.app for listener in process.listeners if listener.name == "json"))


def _cedar(plan: Plan) -> object:
    from bench.peers.cedar.server import build_app  # noqa: PLC0415 - needs the extra `peers`

    rules = read_rules()
    return build_app(reaching(plan.peers_world(), rules), rules)


async def _stock(plan: Plan) -> None:
    from bench.peers.pycasbin.server import build_app  # noqa: PLC0415 - the others do without FastAPI

    rules = read_rules()
    app = build_app(reaching(plan.peers_world(), rules), rules)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, loop="uvloop", http="httptools", log_level="warning", access_log=False)
        await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("kind", choices=KINDS)
    arguments.add_argument("plan", help="what Plan.text wrote")
    arguments.add_argument("--core", type=int)
    given = arguments.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    sys.setswitchinterval(0.005)
    uvloop.run(main(given.kind, Plan.read(given.plan)))
