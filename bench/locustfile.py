"""
Load on a running sidecar in named shapes; every answer is compared with the right one.

    PYTHONPATH=. .venv/bin/python bench/load.py --shape steady_reads       # a world, a no-op and this, headless
    .venv/bin/locust -f bench/locustfile.py --shape …                      # on a sidecar that serves the same world

The shapes are those of ``bench.asking``.  After each call a user asks the no-op, where there is one, so that
``bench/thresholds.toml`` can speak of ratios.  Ends with 1 if an answer was wrong or a threshold is passed.  A sidecar
that is watched by its process id also tells what a call costs its processor, in rounds of two seconds.
"""

import json
import os
import platform
import time
import tomllib
from collections import Counter
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from bench.asking import EVALUATION, JSON, SHAPES, Asking, Call, Churn, is_later
from bench.ground import cpu_seconds, resident_mb, tokens
from bench.worlds import ClinicWorld
from locust import LoadTestShape, constant, events, task
from locust.contrib.fasthttp import FastHttpSession, FastHttpUser
from locust.runners import MasterRunner, WorkerRunner

THRESHOLDS = Path(__file__).with_name("thresholds.toml")
ROUND = 2.0
NO_OP = "no-op"
_state: "State"


@events.init_command_line_parser.add_listener
def options(parser: Any, **_: Any) -> None:
    """Say what is asked, and of which world; Locust's page offers what may change once the calls are prepared."""
    parser.add_argument("--seconds", type=int, default=30, env_var="BENCH_SECONDS", help="how long")
    parser.add_argument("--callers", type=int, default=16, env_var="BENCH_CALLERS", help="users at once")
    add = partial(parser.add_argument, include_in_web_ui=False)
    add("--shape", choices=SHAPES, default="steady_reads", env_var="BENCH_SHAPE")
    add("--seed", type=int, default=1, env_var="BENCH_SEED", help="of the world")
    add("--hospitals", type=int, default=1, env_var="BENCH_HOSPITALS", help="of the world")
    add("--patients", type=int, default=1000, env_var="BENCH_PATIENTS", help="of the world")
    add("--moment", type=int, default=0, env_var="BENCH_MOMENT", help="of the world; microseconds")
    add("--calls", type=int, default=4000, env_var="BENCH_DIFFERENT", help="different ones, in turns")
    add("--auth", default="", env_var="BENCH_AUTH", help="URL of the forward-auth listener")
    add("--control", default="", env_var="BENCH_CONTROL", help="URL of the control API")
    add("--token-key", default="", env_var="BENCH_TOKEN_KEY", is_secret=True, help="HS256 secret")
    add("--no-op", default="", env_var="BENCH_NO_OP", help="URL of a no-op; none: no ratios")
    add("--withdrawals", type=float, default=0.5, env_var="BENCH_WITHDRAWALS", help="a second")
    lag = "seconds that an old answer may lag; 0: withdrawals wait until they are visible"
    add("--lag", type=float, default=0.0, env_var="BENCH_LAG", help=lag)
    add("--workers", type=int, default=1, env_var="BENCH_WORKERS", help="of a distributed run")
    add("--number", type=int, default=0, env_var="BENCH_NUMBER", help="of this worker, from 0")
    add("--pid", type=int, default=0, env_var="BENCH_PID", help="of the sidecar, if here")
    add("--no-op-pid", type=int, default=0, env_var="BENCH_NO_OP_PID", help="of the no-op")
    add("--results", default="", env_var="BENCH_RESULTS", help="file for the figures, JSON")


class State:
    """What a process of this run knows: its calls, what was answered, and what that cost."""

    def __init__(self, asked: Any) -> None:
        self.asked, worker = asked, asked.number
        self.world = ClinicWorld(asked.seed, asked.hospitals, asked.patients, asked.moment or int(time.time() * 1e6))
        self.token_of = tokens(asked.token_key) if asked.token_key else None
        every = list(self.world.withdrawals(asked.withdrawals * asked.workers, asked.seconds))
        self.scheduled = every if asked.shape == "consent_churn" else []
        self.withdrawals = tuple(self.scheduled[worker :: asked.workers])
        apart = frozenset(each.patient for each in self.scheduled)
        self.calls = Asking(self.world, self.token_of).calls(
            asked.shape, asked.calls, str(worker), self.withdrawals, apart
        )
        self.churn = Churn(asked.lag)
        self.numbers = count(worker)
        self.done: Counter[str] = Counter()
        self.took: dict[str, Counter[int]] = {"sidecar": Counter(), NO_OP: Counter()}
        self.rounds: list[dict[str, float]] = []
        self.later = self.withdrawn = 0

    def next_call(self) -> Call:
        """Return the call whose turn it is."""
        return self.calls[next(self.numbers) % len(self.calls)]

    def note(self, who: str, seconds: float) -> None:
        """Count an answer; times are kept to a twentieth."""
        self.done[who] += 1
        micros = max(1, int(seconds * 1e6))
        unit = max(1, 10 ** (len(str(micros)) - 1) // 20)
        self.took[who][micros // unit * unit] += 1

    def watch(self) -> None:
        """Take rounds: the processor time of a call, of each of the two, from the same two seconds."""
        pids = {"sidecar": self.asked.pid, NO_OP: self.asked.no_op_pid}
        before = self._spent(pids)
        while True:
            gevent.sleep(ROUND)
            after = self._spent(pids)
            each = {who: (after[who][0] - before[who][0]) / max(1, after[who][1] - before[who][1]) for who in pids}
            calls = {f"{who} calls": float(after[who][1] - before[who][1]) for who in pids}
            self.rounds.append({who: value * 1e6 for who, value in each.items()} | calls)
            before = after

    def _spent(self, pids: dict[str, int]) -> dict[str, tuple[float, int]]:
        return {who: (cpu_seconds(pid), self.done[who]) for who, pid in pids.items()}

    def withdraw(self) -> None:
        """Withdraw consents at their times, each by its patient, over the control API."""
        assert self.token_of is not None, "withdrawals need the control API and the key of the tokens"
        session = FastHttpSession(self.asked.control, _environment.events.request, None)
        began = time.perf_counter()
        for each in self.withdrawals:
            gevent.sleep(max(0.0, began + each.after - time.perf_counter()))
            token = self.token_of(f"own-{each.patient}", ("patient",), None, "PATRQT")
            wait = "" if self.asked.lag else "?wait=visible"
            self.churn.sent[each.patient] = time.perf_counter()
            path = f"/v1/consents/{each.consent}/withdraw{wait}"
            with session.post(path, headers={"Authorization": f"Bearer {token}"}, name="withdraw",
                              catch_response=True) as answer:  # fmt: skip
                if answer.status_code == 200:
                    self.churn.acknowledged[each.patient] = time.perf_counter()
                    self.withdrawn += 1
                else:
                    answer.failure(f"not withdrawn: {answer.status_code}")


class Shape(LoadTestShape):
    """Steady, but for the bursts: five seconds of every fifteen ten times as many."""

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are now, and how fast they come."""
        asked, now = self.runner.environment.parsed_options, self.get_run_time()
        if now >= asked.seconds:
            return None
        if asked.shape == "break_glass_burst" and now % 15 < 10:
            return max(1, asked.callers // 10), 200
        return asked.callers, 200


class Caller(FastHttpUser):
    """An enforcement point: a call, then the no-op, and again."""

    wait_time = constant(0)

    def on_start(self) -> None:
        """Know where each listener is; one session keeps connections to them all."""
        asked = _state.asked
        self.of = {"json": "", "auth": asked.auth}
        self.no_op = f"{asked.no_op}{EVALUATION}" if asked.no_op else ""

    @task
    def ask(self) -> None:
        """Ask, compare, and ask the no-op."""
        call, churn = _state.next_call(), _state.churn
        with self.client.request(
            call.method, self.of[call.listener] + call.path, data=call.body, headers=call.headers,
            name=f"{_state.asked.shape} {call.name}", catch_response=True,
        ) as answer:  # fmt: skip
            ended, took = time.perf_counter(), answer.request_meta["response_time"] / 1e3
            said = call.read(answer.status_code, answer.headers or {}, answer.content or b"")
            if churn.is_right(call, said, ended - took, ended):
                answer.success()
            elif is_later(said, call.right):
                answer.success()
                _state.later += 1
            else:
                answer.failure("wrong decision" if said is not None else f"no decision: status {answer.status_code}")
        _state.note("sidecar", took)
        if self.no_op:
            with self.client.post(self.no_op, data=call.body, headers=JSON, name=NO_OP, catch_response=True) as answer:
                took = answer.request_meta["response_time"] / 1e3
            _state.note(NO_OP, took)


_environment: Any = None


@events.init.add_listener
def begin(environment: Any, **_: Any) -> None:
    """Prepare the calls before anybody asks."""
    global _environment, _state  # noqa: PLW0603 - Locust's users are made by Locust
    _environment = environment
    _state = State(environment.parsed_options)


@events.test_start.add_listener
def start(environment: Any, **_: Any) -> None:
    """Begin to withdraw and to watch; of a distributed run the master does neither."""
    if isinstance(environment.runner, MasterRunner):
        return
    if _state.withdrawals:
        gevent.spawn(_state.withdraw)
    if _state.asked.pid and _state.asked.no_op_pid:
        gevent.spawn(_state.watch)


@events.report_to_master.add_listener
def tell(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """Send what a worker met."""
    data["took"] = {who: dict(times) for who, times in _state.took.items()}
    data["later"], _state.later = _state.later, 0
    data["withdrawn"], _state.withdrawn = _state.withdrawn, 0
    data["late"], data["denied"] = _state.churn.late, list(_state.churn.first_denials.values())
    for times in _state.took.values():
        times.clear()
    _state.churn.late = []
    _state.churn.first_denials = dict.fromkeys(_state.churn.first_denials, 0.0)


@events.worker_report.add_listener
def hear(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """Take what a worker met."""
    for who, times in data.get("took", {}).items():
        _state.took[who].update({int(micros): number for micros, number in times.items()})
    _state.later += data.get("later", 0)
    _state.withdrawn += data.get("withdrawn", 0)
    _state.churn.late += data.get("late", ())
    for number, value in enumerate(data.get("denied", ())):
        if value:
            _state.churn.first_denials[f"{client_id}/{len(_state.churn.first_denials)}/{number}"] = value


def quantile(times: Counter[int], share: float) -> int:
    """Return a quantile of counted values; 0 where there are none."""
    left = share * times.total()
    for value in sorted(times):
        left -= times[value]
        if left <= 0:
            return value
    return 0


def figures(environment: Any) -> dict[str, Any]:
    """Return what is written and judged."""
    asked, stats = _state.asked, environment.stats
    failures = [{"name": each.name, "error": str(each.error), "times": each.occurrences}
                for each in stats.errors.values()]  # fmt: skip
    wrong = sum(each["times"] for each in failures)
    quantiles = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}
    told = {who: {name: quantile(times, share) for name, share in quantiles.items()}
            for who, times in _state.took.items()}  # fmt: skip
    return {
        "name": "ruqsat", "scenario": asked.shape, "client": "locust", "connections": asked.callers, "wrong": wrong,
        "calls": _state.took["sidecar"].total(), **told["sidecar"], "no_op": told[NO_OP], "failures": failures,
        "later": _state.later,
        "late": sorted(_state.churn.late), "withdrawn": _state.withdrawn,
        "scheduled": len(_state.scheduled),
        "to_deny_ms": sorted(value * 1e3 for value in _state.churn.first_denials.values()), "rounds": _state.rounds,
        "rss_mb": resident_mb(asked.pid) if asked.pid else None, "python": platform.python_version(),
        "cores": os.cpu_count(),
    }  # fmt: skip


def judge(met: dict[str, Any], owed: dict[str, float]) -> list[str]:
    """Return what was not kept."""
    missed = [f"{met['wrong']} wrong or failed answers"] if met["wrong"] > owed.get("wrong", 0) else []
    if met["withdrawn"] < met["scheduled"] / 2:
        missed.append(f"{met['withdrawn']} of {met['scheduled']} consents were withdrawn")
    if met["calls"] < owed.get("calls", 1):
        missed.append(f"{met['calls']} answers are too few to judge by")
    if met["later"] > owed.get("later", 0.01) * met["calls"]:
        missed.append(f"{met['later']} answers were put off (try_later)")
    for name in ("p50", "p99"):
        most, base = owed.get(f"{name}_over_no_op"), met["no_op"][f"{name}_us"]
        if most is not None and base and met[f"{name}_us"] > most * base:
            missed.append(f"{name} {met[f'{name}_us']} µs, more than {most:g} × the no-op's {base} µs")
    return missed


@events.quitting.add_listener
def end(environment: Any, **_: Any) -> None:
    """Write the figures, and settle the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        return
    met = figures(environment)
    if _state.asked.results:
        Path(_state.asked.results).write_text(json.dumps(met, indent=1))
    owed = tomllib.loads(THRESHOLDS.read_text())["shapes"][_state.asked.shape]
    missed = judge(met, owed)
    ratios = {name: met[f"{name}_us"] / met["no_op"][f"{name}_us"] for name in ("p50", "p99") if met["no_op"]["p50_us"]}
    print(f"{_state.asked.shape}: {met['calls']} answers, {met['wrong']} wrong; over the no-op: "
          + ", ".join(f"{name} {ratio:.2f} ×" for name, ratio in ratios.items()))  # fmt: skip
    if met["withdrawn"]:
        print(f"{met['withdrawn']} withdrawals; answers after the acknowledgement that lagged: {len(met['late'])}")
    print("\n".join(f"MISSED: {each}" for each in missed) or "kept")
    environment.process_exit_code = 1 if missed else 0
