"""
What the benches measure: a real sidecar over a world, and a no-op on the same server beside it.

Processes of our own on free loopback ports, gone when the block is left; what they cost is read from the kernel.
"""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jwt
from bench.world import CAPABLE, Written
from tests.process.starter import MODULE, run_cli, serving

ISSUER, AUDIENCE = "https://issuer.bench", "ruqsat-bench"
NO_OP_SERVER = Path(__file__).with_name("server.py")
_CLOCK_OF_PROCESS = 2


class Server(NamedTuple):
    """A process that answers, where, and the key of the tokens that it takes."""

    pid: int
    addresses: dict[str, str]
    key: str = ""

    def token(self, subject: str, roles: Sequence[str], org: str | None, purpose: str) -> str:
        """Return a token for somebody."""
        return tokens(self.key)(subject, tuple(roles), org, purpose)


def tokens(key: str) -> Callable[[str, tuple[str, ...], str | None, str], str]:
    """Return what makes tokens that a sidecar with that key takes, for eight hours."""

    def token(subject: str, roles: tuple[str, ...], org: str | None, purpose: str) -> str:
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 8 * 3600, "roles": list(roles),
            "purpose_of_use": purpose,
        } | ({"org": org} if org else {}) | ({"subject_type": "patient"} if "patient" in roles else {})  # fmt: skip
        return jwt.encode(claims, key, algorithm="HS256")

    return token


@contextlib.contextmanager
def world_server(world: Written, folder: Path, *, program: Sequence[str] = MODULE, **settings: str) -> Iterator[Server]:
    """
    Serve a world with everybody in it, all listeners on.

    Args:
        program: What to run instead of ``-m ruqsat``.
        settings: More settings of the sidecar, by their names in lower case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pack, key = folder / "pack", secrets.token_urlsafe(48)
    fixed = {"pack": str(pack), "policy_dir": str(folder / "policy")}
    if not pack.exists():
        world.write_pack(pack)
        world.write_facts(folder / "facts.jsonl")
        for words in (("db", "upgrade"), ("facts", "import", "facts.jsonl")):
            done = run_cli(folder, *words, timeout=900, **fixed)
            assert done.returncode == 0, done.stdout + done.stderr
    settings = fixed | {
        "token_issuer": ISSUER, "token_audience": AUDIENCE, "token_algorithm": "HS256", "token_key": key,
        "json_capabilities": json.dumps(sorted(CAPABLE)), "json_search": "true", "policy_compare_seconds": "0.5",
        "policy_poll_seconds": "0", "search_candidates_per_minute": "10000000", "cache_entries": "1000000",
    } | settings  # fmt: skip
    with serving(folder, demo=False, program=program, **settings) as sidecar:
        yield Server(sidecar.pid, sidecar.addresses, key)


@contextlib.contextmanager
def no_op_server() -> Iterator[Server]:
    """Serve nothing: the same uvicorn with the same protocol reads the same body and answers as many bytes."""
    words = [sys.executable, str(NO_OP_SERVER), "no-op"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(process.pid, {"json": process.stdout.readline().strip()})
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(20)


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process with all its threads, as the kernel's scheduler counts it."""
    return time.clock_gettime(~pid << 3 | _CLOCK_OF_PROCESS)


def resident_mb(pid: int) -> float:
    """Return how much memory a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin(pid: int, core: int) -> bool:
    """Keep a process with its threads on one core; tell whether there is more than one to choose from."""
    if (os.cpu_count() or 1) < 2:
        return False
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), {core})
    return True
