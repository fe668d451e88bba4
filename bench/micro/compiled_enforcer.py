"""
How much faster is ``ruqsat.CompiledEnforcer`` than stock pycasbin, does it stay flat, what does compiling cost?

Role-based access with a hierarchy of two levels.  The same questions, half of them
allowed, go to both enforcers in turns; the answers are compared before the time is.
Owed: 100 times pycasbin at 1,000 rows, at most 1.3 times the cost at 100,000 rows as
at 100, 5 s to compile 100,000 rows, 1 KB kept a row on top of pycasbin's own rows.
"""

import gc
import logging
import platform
import random
import statistics
import sys
import time
import tracemalloc
from typing import Any

from casbin.persist.adapter import Adapter

import casbin
from ruqsat import CompiledEnforcer

MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && (p.act == "*" || r.act == p.act) && keyMatch(r.obj, p.obj)
"""
QUESTIONS, ROUNDS = 40, 5
TIMES_OWED, FLAT_OWED, SECONDS_OWED, BYTES_OWED = 100, 1.3, 5.0, 1024


class World(Adapter):
    """*rows* rows over rows / 10 roles, as many users with two roles each; filled in without pycasbin's look-ups."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def load_policy(self, model: Any) -> None:
        """Fill the model."""
        roles = max(self.rows // 10, 1)
        model["p"]["p"].policy = [
            [f"role{n % roles}", f"/records/{n}/*", ("read", "write", "*")[n % 3], "deny" if n % 50 == 7 else "allow"]
            for n in range(self.rows)
        ]
        model["g"]["g"].policy = [[f"user{n}", f"role{(n * k) % roles}"] for n in range(roles) for k in (1, 7)]


def enforcer_of(kind: Any, rows: int) -> Any:
    """Return an enforcer of the kind over so many rows."""
    return kind(casbin.Enforcer.new_model(text=MODEL), World(rows))


def questions(rows: int) -> list[tuple[str, str, str]]:
    """Return questions about rows from all over the policy."""
    dice = random.Random(rows)
    roles = max(rows // 10, 1)
    asked = []
    for _ in range(QUESTIONS):
        user, row = dice.randrange(roles), dice.randrange(rows)
        row = row - row % roles + user if dice.random() < 0.5 else row
        asked.append((f"user{user}", f"/records/{row}/labs", dice.choice(["read", "write"])))
    return asked


def microseconds(enforcer: Any, asked: list[tuple[str, str, str]], times: int) -> float:
    """Return what one question costs."""
    began = time.perf_counter()
    for _ in range(times):
        for each in asked:
            enforcer.enforce(*each)
    return (time.perf_counter() - began) / times / len(asked) * 1e6


def main() -> int:
    """Measure, print, and return 1 if a figure is missed."""
    logging.disable(logging.CRITICAL)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, pycasbin 2.8; median of {ROUNDS} rounds, in turns"
    )
    asked = questions(1000)
    ours, stock = enforcer_of(CompiledEnforcer, 1000), enforcer_of(casbin.Enforcer, 1000)
    answers = [ours.enforce_ex(*each) for each in asked]
    assert answers == [stock.enforce_ex(*each) for each in asked]
    assert 5 < sum(allowed for allowed, _ in answers) < QUESTIONS - 5
    rounds = [(microseconds(ours, asked, 50), microseconds(stock, asked, 1)) for _ in range(ROUNDS)]
    times = statistics.median(theirs / mine for mine, theirs in rounds)
    mine, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"1,000 rows: {mine:.1f} µs, pycasbin {theirs:.0f} µs: {times:.0f} ×, owed {TIMES_OWED} ×")

    small, large = enforcer_of(CompiledEnforcer, 100), enforcer_of(CompiledEnforcer, 100_000)
    gc.collect()
    began = time.perf_counter()
    large.compilation_report()
    seconds = time.perf_counter() - began
    pairs = [(small, questions(100)), (large, questions(100_000))]
    for each, asked_of_it in pairs:
        microseconds(each, asked_of_it, 3)
    flat_rounds = [[microseconds(each, asked_of_it, 50) for each, asked_of_it in pairs] for _ in range(ROUNDS)]
    flat = statistics.median(after / before for before, after in flat_rounds)
    print(f"100 → 100,000 rows: {flat:.2f} ×, owed at most {FLAT_OWED} ×")

    large.invalidate()
    gc.collect()
    tracemalloc.start()
    large.compilation_report()
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0] / 100_000
    tracemalloc.stop()
    print(f"100,000 rows: compiled in {seconds:.2f} s, owed {SECONDS_OWED:g}")
    print(f"100,000 rows: {kept:.0f} bytes kept a row, owed {BYTES_OWED}")
    missed = times < TIMES_OWED or flat > FLAT_OWED or seconds > SECONDS_OWED or kept > BYTES_OWED
    print("MISSED" if missed else "kept")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
