"""
Locust for the gate: one user that asks in bursts, so that what a call costs the server's processor can be told finely.

In turns the sidecar gets a burst, and the no-op four: the server is stopped, 32 calls are laid into its sockets, and
it goes on.  So it always finds the same work, however busy the machine is and whoever else wants its cores; what the
kernel's scheduler then counts for it, until it is stopped behind the last answer, is the burst's processor time.
Every answer is compared with the right one.
"""

import json
import os
import signal
import socket
import statistics
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from bench.asking import Asking, Call, is_later
from bench.ground import cpu_seconds
from bench.worlds import ClinicWorld
from locust import User, constant, events, task

BURST = 32
DIFFERENT = 6400
"""No two calls are alike, and each is forgotten when its turn comes again: a call costs what all its steps cost."""
WARM = 40
"""Bursts of each that are not counted: every patient of the calls is in memory then."""

_bursts: list[dict[str, float]] = []
_wrong: list[str] = []
_later: list[int] = []


@events.init_command_line_parser.add_listener
def options(parser: Any, **_: Any) -> None:
    """Say which servers, and which world."""
    parser.add_argument("--sidecar", required=True, help="host:port of its JSON listener")
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--no-op", required=True, help="host:port")
    parser.add_argument("--no-op-pid", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hospitals", type=int, default=3)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--moment", type=int, required=True)
    parser.add_argument("--results", required=True, help="file for the figures, JSON")


class Lines:
    """Kept connections to one server, and what its process has cost."""

    def __init__(self, address: str, pid: int) -> None:
        host, _, port = address.rpartition(":")
        self.pid, self._threads = pid, Path(f"/proc/{pid}/task")
        self._sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in range(BURST)]

    def burst(self, calls: list[bytes]) -> tuple[float, list[tuple[int, bytes]], float]:
        """Return microseconds of processor time a call, the answers, and seconds by the clock."""
        before = self._stopped()
        try:
            for line, call in zip(self._sockets, calls, strict=True):
                line.sendall(call)
            began = time.perf_counter()
        finally:
            os.kill(self.pid, signal.SIGCONT)
        answers = [_answer(line) for line in self._sockets]
        took = time.perf_counter() - began
        spent = self._stopped() - before
        os.kill(self.pid, signal.SIGCONT)
        return spent / len(calls) * 1e6, answers, took

    def _stopped(self) -> float:
        """Stop the server, and return its processor time: the kernel adds it up when a thread leaves its core."""
        os.kill(self.pid, signal.SIGSTOP)
        while any(_state_of(thread) not in "Tt" for thread in self._threads.iterdir()):
            time.sleep(0)
        return cpu_seconds(self.pid)


def _state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(") ")[2][0]


def _answer(line: socket.socket) -> tuple[int, bytes]:
    received = b""
    while True:
        head, end, body = received.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return int(head[9:12]), body
        part = line.recv(65536)
        if not part:
            raise ConnectionError("the server hung up")
        received += part


class Bursts(User):
    """Asks both in turns."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Prepare the calls, and connect."""
        asked = self.environment.parsed_options
        world = ClinicWorld(asked.seed, asked.hospitals, asked.patients, asked.moment)
        calls = Asking(world).different("steady_reads", DIFFERENT, "gate")
        self._calls = cycle([calls[first : first + BURST] for first in range(0, DIFFERENT, BURST)])
        self._sidecar = Lines(asked.sidecar, asked.pid)
        self._no_op = Lines(asked.no_op, asked.no_op_pid)

    @task
    def both(self) -> None:
        """A burst to the sidecar, between two of two to the no-op, which costs so much less."""
        calls = next(self._calls)
        raw = [call.raw() for call in calls]
        no_op = [self._no_op.burst(raw)[0] for _ in range(2)]
        sidecar, answers, took = self._sidecar.burst(raw)
        no_op += [self._no_op.burst(raw)[0] for _ in range(2)]
        _bursts.append({"sidecar_us": sidecar, "no_op_us": statistics.median(no_op), "burst_ms": took * 1e3})
        for call, (status, body) in zip(calls, answers, strict=True):
            self._compare(call, status, body, took)

    def _compare(self, call: Call, status: int, body: bytes, took: float) -> None:
        said, wrong = call.read(status, {}, body), None
        if said != call.right and is_later(said, call.right):
            _later.append(len(_bursts))
        elif said != call.right:
            wrong = AssertionError(f"{said} in the place of {call.right}")
            _wrong.append(str(wrong))
        events.request.fire(
            request_type="POST", name=call.name, response_time=took * 1e3, response_length=len(body), exception=wrong,
            context={},
        )  # fmt: skip


@events.quitting.add_listener
def end(environment: Any, **_: Any) -> None:
    """Let both go on, wherever the last burst was cut short, and write the figures."""
    for pid in (environment.parsed_options.pid, environment.parsed_options.no_op_pid):
        os.kill(pid, signal.SIGCONT)
    counted = _bursts[WARM:]
    stats = environment.stats
    met: dict[str, Any] = {"bursts": len(counted), "calls": stats.total.num_requests, "wrong": len(_wrong)}
    met |= {"failed": _wrong[:5], "later": len(_later), "later_in_bursts": sorted(set(_later))}
    if len(counted) > 1:
        ratios = [each["sidecar_us"] / each["no_op_us"] for each in counted]
        met |= {
            "quartiles": statistics.quantiles(ratios, n=4),
            "sidecar_us": statistics.median(each["sidecar_us"] for each in counted),
            "no_op_us": statistics.median(each["no_op_us"] for each in counted),
        }  # fmt: skip
    Path(environment.parsed_options.results).write_text(json.dumps(met | {"each": counted}))
