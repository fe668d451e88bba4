"""
``make bench-overload``: three times as much as the sidecar may take in, from an open loop, at the forward-auth
listener.

The capacity is capped by a setting (``RUQSAT_MAX_IN_FLIGHT``), so that the client is not the limit.  One place without
a line (``--waiting 0``) stands empty from each answer until the next request comes: a quarter of the time, where three
times too many come at random (Erlang's formula), and longer where a client sends in lumps, as this one does every half
a millisecond or later, which is about the length of a decision.  With one that waits the place is busy for 92 % of the
time at random, 84 % in lumps 0.6 ms apart and 67 % in lumps 1.2 ms apart; with two for 97, 95 and 84 %
(``tests/web/test_waiting.py`` has the model).  Two are the fewest that keep it busy in all of these.

In one run:
what can be had at most, what a permit takes at 70 % of that (normal), then three times as much, then 70 % again.
Ends with 1 unless

- goodput under overload is at least 80 % of the most,
- the p99 of what is taken in is at most twice the normal one,
- within five seconds afterwards everything is as before,
- every request had an answer, and a permit or a shed was the only one.

Ends with 2 where the client could not keep its own times: then the client was measured.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import uvloop
from bench.open_loop import LATE, Run, at_rate, in_turns, quantile
from tests.process.starter import Sidecar, serving
from tests.wire.ways import RECORD, proxied

GOODPUT, SLOWER, NORMAL, OVERLOAD = 0.80, 2.0, 0.7, 3.0
RECOVERY = 5.0


def kind_of(head: bytes, _body: bytes) -> str:
    """Tell a permit, a shed and anything else apart."""
    if head.startswith(b"HTTP/1.1 200 "):
        return "permit"
    if (
        head.startswith(b"HTTP/1.1 403 ")
        and b"\r\nx-ruqsat-reason: overloaded" in head
        and b"x-ruqsat-subject: \r\n" in head + b"\r\n"
    ):
        return "shed"
    return head.split(b"\r\n")[0].decode("latin-1")


def request_of(sidecar: Sidecar) -> bytes:
    """Return what nginx asks for a record that may be read."""
    return proxied("nginx", RECORD, f"Authorization: {sidecar.bearer('dr_aida')['authorization']}")


def pinned(pid: int, core: int) -> None:
    """Keep a process, with its threads, on one core."""
    if (os.cpu_count() or 1) > 1:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def _shown(run: Run, kind: str) -> str:
    p50, p99 = (quantile(run.of(kind), share) * 1e3 for share in (0.5, 0.99))
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


class Figures:
    """The runs, and what of them is owed."""

    def __init__(self, peak: float, normal: Run, over: Run, after: Run, seconds: float) -> None:
        self.peak, self.normal, self.over, self.after = peak, normal, over, after
        self.goodput = len(over.of("permit")) / seconds
        self.p99 = [quantile(run.of("permit"), 0.99) for run in (normal, over)]
        tail = after.of("permit", RECOVERY)
        due = sum(1 for moment, _, _ in after.answers if moment - after.began >= RECOVERY)
        self.recovered = (len(tail) / due if due else 0.0, quantile(tail, 0.99))
        usual = len(normal.of("permit")) / normal.due
        self.usual = usual

    def show(self) -> None:
        """Print them."""
        runs, over = (self.normal, self.over, self.after), self.over
        print(f"most, callers in turns: {self.peak:,.0f} permits/s")
        print(f"normal, {NORMAL:.0%} of it: {self.usual:.1%} taken in, {_shown(self.normal, 'permit')}")
        print(f"overload, {OVERLOAD:g} × ({over.due:,} requests): goodput {self.goodput:,.0f}/s, "
              f"{self.goodput / self.peak:.0%} of the most (owed {GOODPUT:.0%})")  # fmt: skip
        print(f"  taken in: {_shown(over, 'permit')}, {self.p99[1] / self.p99[0]:.2f} × normal (owed {SLOWER:g})")
        print(f"  shed: {over.kinds['shed']:,}, {_shown(over, 'shed')}")
        print(f"after {RECOVERY:g} s: {self.recovered[0]:.1%} taken in, p99 {self.recovered[1] * 1e3:.2f} ms")
        print(f"unanswered: {[run.unanswered for run in runs]}; other answers: {self.others}; "
              f"client late by at most {max(run.lag for run in runs) * 1e3:.1f} ms")  # fmt: skip

    @property
    def others(self) -> dict[str, int]:
        """Answers that are neither a permit nor a shed."""
        every = sum((run.kinds for run in (self.normal, self.over, self.after)), start=self.normal.kinds.__class__())
        return {what: count for what, count in every.items() if what not in ("permit", "shed")}

    @property
    def code(self) -> int:
        """The exit code."""
        runs = (self.normal, self.over, self.after)
        safe = not self.others and not any(run.unanswered for run in runs)
        fast = self.goodput >= GOODPUT * self.peak and self.p99[1] <= SLOWER * self.p99[0]
        well = self.recovered[0] >= 0.95 * self.usual and self.recovered[1] <= SLOWER * self.p99[0]
        if safe and max(run.lag for run in runs) > LATE:
            return 2
        return 0 if safe and fast and well else 1


async def measure(address: str, request: bytes, cap: int, seconds: float) -> Figures:
    """Run all four."""
    await in_turns(address, request, cap, 1.0, kind_of)
    peak = len((await in_turns(address, request, cap, seconds, kind_of)).of("permit")) / seconds
    normal = await at_rate(address, request, NORMAL * peak, seconds, kind_of)
    over = await at_rate(address, request, OVERLOAD * peak, seconds, kind_of)
    after = await at_rate(address, request, NORMAL * peak, RECOVERY + seconds, kind_of)
    return Figures(peak, normal, over, after, seconds)


def main() -> int:
    """Measure and print."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--cap", type=int, default=1, help="RUQSAT_MAX_IN_FLIGHT")
    given.add_argument("--waiting", type=int, default=2, help="RUQSAT_MAX_WAITING")
    given.add_argument("--seconds", type=float, default=8)
    asked = given.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; sidecar on core 0, client on core 1; "
          f"at most {asked.cap} under way and {asked.waiting} waiting")  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="ruqsat-overload-", dir=os.environ.get("BENCH_DIR")) as folder,
        serving(Path(folder), max_in_flight=str(asked.cap), max_waiting=str(asked.waiting)) as sidecar,
    ):
        pinned(sidecar.pid, 0)
        pinned(os.getpid(), 1)
        figures = uvloop.run(measure(sidecar.addresses["auth"], request_of(sidecar), asked.cap, asked.seconds))
    figures.show()
    print({0: "kept", 1: "MISSED", 2: "VOID: the client was late"}[figures.code])
    return figures.code


if __name__ == "__main__":
    sys.exit(main())
