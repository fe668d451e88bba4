"""
Is the gate any good?  Clean runs that must pass, and five runs with a planted delay that must not.

The delay is 30 % of a call's processor time, as the first clean run measured it, put into decode, facts, evaluate,
journal and encode in turn by a starter of its own (``bench/planted_delay.py``).  Prints each run's ratio and what the
threshold leaves on both sides; ends with 1 if the gate flaked, or missed a plant.

    PYTHONPATH=. .venv/bin/python bench/gate_trial.py --clean 10
"""

import argparse
import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

from bench.gate import HERE, run
from bench.machine import machine
from bench.planted_delay import PLACES

SHARE = 0.30


def main() -> int:
    """Run them all, in turns, so that no hour of the day favours one kind."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--clean", type=int, default=10)
    words.add_argument("--planted", type=int, default=1, help="runs of each place")
    words.add_argument("--seconds", type=float, default=40.0)
    words.add_argument("--results", type=Path, help="file for every run, JSON")
    asked = words.parse_args()
    runs: list[dict[str, Any]] = []
    of = machine()

    def once(place: str | None, micros: float = 0.0) -> dict[str, Any]:
        print(f"\n== {place or 'clean'}" + (f", {micros:.1f} µs planted" if place else "")
              + f" (load {os.getloadavg()[0]:.1f})", flush=True)  # fmt: skip
        program = [str(HERE / "planted_delay.py"), place, str(micros)] if place else ("-m", "ruqsat")
        code, met = run(program, asked.seconds)
        runs.append({"place": place, "planted_us": micros, "code": code} | met)
        if asked.results:
            asked.results.write_text(json.dumps({"machine": of, "records": runs}, indent=1))
        return met

    met = once(None)
    for _ in range(asked.planted):
        for place in PLACES:
            once(place, SHARE * met["sidecar_us"])
    for _ in range(asked.clean - 1):
        once(None)
    return judge(runs)


def judge(runs: list[dict[str, Any]]) -> int:
    """Print what the threshold leaves on both sides."""
    most = tomllib.loads((HERE / "thresholds.toml").read_text())["gate"]["cpu_over_no_op"]
    clean = [each for each in runs if each["place"] is None]
    planted = [each for each in runs if each["place"] is not None]
    print("\n" + " ".join(f"{each['place'] or 'clean'} {each['ratio']:.2f}:{each['code']}" for each in runs))
    for name, kind, better in (("clean", clean, max), ("planted", planted, min)):
        if kind:
            worst = better(each["ratio"] for each in kind)
            print(f"{name}: {len(kind)} runs, nearest to the threshold {worst:.2f}, which is {worst / most:.0%} of it")
    flaked = [each for each in clean if each["code"] != 0]
    passed = [each["place"] for each in planted if each["code"] != 1]
    print(f"clean runs that did not pass: {len(flaked)}; planted delays that passed: {passed}")
    return 1 if flaked or passed else 0


if __name__ == "__main__":
    sys.exit(main())
