"""
One server for one measurement: ``no-op``, ``lossy`` or ``durable``, pinned to a core.

All three are the same uvicorn with the same protocol and the same limits.  The no-op
reads the same body and answers bytes of the same length; the others are the product's
own AuthZEN listener over the demo world, facts in memory.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import uvloop

from ruqsat.settings import BLOCKING_DUTIES, load_settings
from ruqsat.web.listeners import Listener, parse_listen, serve
from ruqsat.wiring import open_process

ANSWER_BYTES = 360


async def no_op(scope, receive, send) -> None:
    """Read the body and answer a fixed text: what the server itself costs."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % ANSWER_BYTES)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * ANSWER_BYTES})


async def main(kind: str, listen: str) -> None:
    """Serve one kind until stopped."""

    def ready(addresses: dict[str, str]) -> None:
        print(addresses["bench"], flush=True)

    where = parse_listen(listen)
    assert where is not None
    if kind == "no-op":
        await serve([Listener("bench", where, no_op)], on_ready=ready)
        return
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        settings = load_settings(
            database_url=f"sqlite:///{folder}/bench.db", journal_dir=Path(folder, "journal"), journal=kind,
            auth_listen="off", control_listen="off", policy_dir=Path(folder, "policy"),
            json_capabilities=BLOCKING_DUTIES,
        )  # fmt: skip
        async with open_process(settings, demo=True) as process:
            app = next(listener.app for listener in process.listeners if listener.name == "json")
            await serve([Listener("bench", where, app)], on_ready=ready)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("kind", choices=("no-op", "lossy", "durable"))
    arguments.add_argument("--listen", default="127.0.0.1:0")
    arguments.add_argument("--core", type=int)
    given = arguments.parse_args()
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    sys.setswitchinterval(0.005)
    uvloop.run(main(given.kind, given.listen))
