"""
``make bench-peers``: stock pycasbin, Cerbos and Cedar beside Ruqsat on the same decisions.

First every server answers the same random questions, over HTTP; one answer that differs from ours ends the run with
the question (exit 1).  Then rounds in which all of them take turns on one core, the client on the other: closed
loops of 1, 16 and 64 connections, and an open loop at half of what Cerbos can take.  Only ratios within a run count.
"""

import argparse
import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.clients import alone
from bench.peers.cerbos.binary import NoCerbosError, find_cerbos
from bench.peers.cerbos.server import serving as serving_cerbos
from bench.peers.cerbos.translate import allowed as allowed_by_cerbos
from bench.peers.cerbos.translate import request_of
from bench.peers.common.compare import DisagreementError, compare
from bench.peers.common.load import CLIENT_CORE, SERVER_CORE, Target, closed, has_wrk, opened, resident_mb
from bench.peers.common.ours import body_of, reference
from bench.peers.common.plan import Plan
from bench.peers.common.report import Runs, machine, print_open, print_round, print_summary, rows
from bench.peers.common.rules import reaching, read_rules

EVALUATION = "/access/v1/evaluation"
NATIVE = "/api/check/resources"
CONNECTIONS = (1, 16, 64)
WARM_SECONDS = 1
OURS = ("lossy", "durable")
OUT = Path(__file__).resolve().parents[1] / "results" / "peers.json"


def main() -> int:
    """Run; return 0, 1 if an answer differs, 2 if nothing can be measured here."""
    given = _arguments()
    if not has_wrk() or (os.cpu_count() or 1) < 2:
        print("bench-peers needs wrk (Debian: apt-get install wrk) and two cores", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {CLIENT_CORE})
    plan = Plan(given.seed, int(time.time()), given.patients, given.questions, given.plant)
    print(f"seed {plan.seed}: {plan.patients} patients, {plan.questions} questions")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, targets = Path(name), list[Target]()
        for kind in given.only:
            targets += stack.enter_context(_starting(kind, plan, folder))
        try:
            _compare(plan, targets)
            found = asyncio.run(_measure(targets, given.rounds, given.seconds, folder))
            _compare(plan, targets)
        except DisagreementError as difference:
            print(difference, file=sys.stderr)
            return 1
        memory = {target.name: resident_mb(target.pid) for target in targets}
    print_summary(found, memory)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    written = machine(plan, given.rounds, given.seconds) | {"rows": rows(found, memory)}
    given.out.write_text(json.dumps(written, indent=1) + "\n")
    print(f"written to {given.out}")
    return 0


def _arguments() -> argparse.Namespace:
    kinds = ("no-op", *OURS, "pycasbin", "cedar", "cerbos")
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=int, default=4)
    arguments.add_argument("--questions", type=int, default=2500)
    arguments.add_argument("--patients", type=int, default=400)
    arguments.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    arguments.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    arguments.add_argument("--plant", action="store_true", help="let the peers forget refusals: the run must stop")
    arguments.add_argument("--out", type=Path, default=OUT)
    return arguments.parse_args()


@contextmanager
def _starting(kind: str, plan: Plan, folder: Path) -> Iterator[list[Target]]:
    """Start a server; none, and a loud word, where it cannot be had."""
    bodies = [body_of(each) for each in plan.asked()]
    if kind == "cerbos":
        rules = read_rules()
        world = reaching(plan.peers_world(), rules)
        try:
            program = find_cerbos()
        except NoCerbosError as problem:
            print(f"SKIPPED cerbos: {problem}", file=sys.stderr)
            yield []
            return
        with serving_cerbos(program, folder / kind, rules, SERVER_CORE) as (address, process):
            asked = [request_of(each, world) for each in plan.asked()]
            yield [Target(kind, "none", address, NATIVE, process.pid, asked)]
        return
    words = [sys.executable, "-m", "bench.peers.common.serve", kind, plan.text, "--core", str(SERVER_CORE)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            print(f"SKIPPED {kind}: it does not start (Cedar needs the extra `peers`)", file=sys.stderr)
            yield []
            return
        yield [Target(kind, kind if kind in OURS else "none", address, EVALUATION, process.pid, bodies)]
    finally:
        process.terminate()
        process.wait(20)


def _compare(plan: Plan, targets: list[Target]) -> None:
    """Hold every server's answers against those of our own decider."""
    world, questions = plan.world(), plan.asked()
    ours = reference(world).answers(questions)
    print(f"{sum(ours)} of {len(ours)} questions are allowed")
    for target in targets:
        if target.name == "no-op":
            continue
        read = allowed_by_cerbos if target.name == "cerbos" else _allowed
        compare(target.name, world, questions, ours, list(_answers(target, read)))
        print(f"{target.name} answers all of them as we do")


def _allowed(answer: bytes) -> bool:
    return bool(json.loads(answer)["decision"])


def _answers(target: Target, read: Callable[[bytes], bool]) -> Iterator[bool]:
    connection = http.client.HTTPConnection(target.address, timeout=20)
    try:
        for body in target.bodies:
            connection.request("POST", target.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise DisagreementError(f"{target.name} answers {response.status} to {body!r}: {answer!r}")
            yield read(answer)
    finally:
        connection.close()


async def _measure(targets: list[Target], rounds: int, seconds: int, folder: Path) -> Runs:
    """Let all take turns, the others halted; then once more in an open loop at half of what Cerbos can take."""
    found: Runs = {}
    for number in range(1, rounds + 1):
        for connections in CONNECTIONS:
            for target in targets:
                with alone(target, targets):
                    closed(target, connections, WARM_SECONDS, folder)
                    run = closed(target, connections, seconds, folder)
                found.setdefault((target.name, target.journal, "closed", connections), []).append(run)
                print_round(number, target.name, connections, run)
    peaks = [max(run["rps"] for run in runs) for (name, *_), runs in found.items() if name == "cerbos"]
    if not peaks:
        print("SKIPPED the open loop: its rate is half of what Cerbos can take, and there is none", file=sys.stderr)
        return found
    rate = max(peaks) / 2
    for number in range(1, rounds + 1):
        for target in targets:
            if max(run["rps"] for run in found[target.name, target.journal, "closed", 16]) > rate:
                with alone(target, targets):
                    closed(target, 16, WARM_SECONDS, folder)
                    run = await opened(target, rate, seconds)
                found.setdefault((target.name, target.journal, "open", 0), []).append(run)
                print_open(number, target.name, rate, run)
    return found


if __name__ == "__main__":
    sys.exit(main())
