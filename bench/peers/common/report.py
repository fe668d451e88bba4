"""Rows for machines and a table for people, from what the runs met."""

import platform
import statistics
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.machine import machine as this_machine
from bench.peers.cerbos.binary import VERSION
from bench.peers.common.plan import Plan

Runs = dict[tuple[str, str, str, int], list[dict[str, Any]]]
"""By name, journal, scenario and connections (0 in an open loop, which opens what it needs)."""

COUNTED = ("rps", "p50_us", "p95_us", "p99_us", "p999_us", "max_us", "cpu_us")
CROWDED = 0.15
"""Above this share of the server's core in other hands, what the clock says is void."""

DISTRIBUTIONS = ("ruqsat", "pycasbin", "fastapi", "pydantic", "uvicorn", "uvloop", "httptools", "msgspec", "cedarpy")


def print_round(number: int, name: str, connections: int, run: dict[str, Any]) -> None:
    """Print one run as it ends."""
    met = f"{run['rps']:>8.0f}/s  p50 {run['p50_us']:>6}  p99 {run['p99_us']:>7} µs"
    cores = f"server {run['server_cpu']:>4.0%} ({run['cpu_us']:.0f} µs each)  client {run['client_cpu']:>4.0%}"
    print(f"{number:>3} {name:<10}{connections:>4} {met}  {cores}  errors {run['errors']}", flush=True)


def print_open(number: int, name: str, rate: float, run: dict[str, Any]) -> None:
    """Print one run of the open loop."""
    print_round(number, name, 0, run)
    if run["client_late_us"] > 50_000:
        print(f"    void: the client was {run['client_late_us']} µs late at {rate:.0f}/s", flush=True)


def rows(found: Runs, memory: dict[str, float]) -> list[dict[str, Any]]:
    """Return one row a server, scenario and number of connections: medians of the rounds, and the rounds."""
    return [
        {
            "name": name, "scenario": scenario, "connections": connections, "journal": journal,
            **{each: round(statistics.median(run[each] for run in runs)) for each in COUNTED},
            "rss_mb": round(memory[name], 1), "wrong": 0, "errors": sum(run["errors"] for run in runs),
            "client_cpu": round(statistics.median(run["client_cpu"] for run in runs), 2),
            "server_cpu": round(statistics.median(run["server_cpu"] for run in runs), 2),
            "void": any(run.get("others_cpu", 0) > CROWDED for run in runs),
            **_against(found, (name, journal, scenario, connections)),
            "runs": runs,
        }
        for (name, journal, scenario, connections), runs in found.items()
    ]  # fmt: skip


def _against(found: Runs, key: tuple[str, str, str, int]) -> dict[str, Any]:
    """
    Return the throughput as a multiple of the no-op's and of Cerbos's of the same round: median, least, most.

    ``_by_cpu`` are the same by processor time a request, which others on the same core disturb less.
    """
    shares = {}
    for word, name in (("of_no_op", "no-op"), ("of_cerbos", "cerbos")):
        other = found.get((name, "none", *key[2:]))
        if other is not None and key[2] == "closed":
            pairs = list(zip(found[key], other, strict=True))
            for end, ratios in (
                ("", [run["rps"] / beside["rps"] for run, beside in pairs]),
                ("_by_cpu", [beside["cpu_us"] / run["cpu_us"] for run, beside in pairs if run["cpu_us"]]),
            ):
                shares[word + end] = [round(each, 3) for each in (statistics.median(ratios), min(ratios), max(ratios))]
    return shares


def print_summary(found: Runs, memory: dict[str, float]) -> None:
    """Print the table."""
    ratios = "".join(f"{word:>22}" for word in ("× no-op", "× Cerbos", "× Cerbos by CPU"))
    print(f"\n{'req/s':>24}{ratios}{'CPU µs':>8}{'p50 µs':>8}{'p99 µs':>8}{'RSS MB':>8}")
    for row in rows(found, memory):
        label = str(row["connections"] or "open")
        shares = "".join(
            f"{'' if each is None else f'{each[0]:.2f} ({each[1]:.2f}–{each[2]:.2f})':>22}"
            for each in (row.get("of_no_op"), row.get("of_cerbos"), row.get("of_cerbos_by_cpu"))
        )
        print(
            f"{row['name']:<10}{label:>6}{row['rps']:>8}{shares}{row['cpu_us']:>8}{row['p50_us']:>8}{row['p99_us']:>8}{row['rss_mb']:>8}"
        )
    if any(row["void"] for row in rows(found, memory)):
        print("VOID by the clock: others used the server's core, too; what processor time says still counts")
    _print_promise(found)


def _print_promise(found: Runs) -> None:
    """Print what the open loop is for: our p99 beside Cerbos's p50 of the same round, at equal load."""
    theirs = found.get(("cerbos", "none", "open", 0))
    for kind in ("lossy", "durable"):
        own = found.get((kind, kind, "open", 0))
        if theirs and own:
            pairs = [(run["p99_us"], beside["p50_us"]) for run, beside in zip(own, theirs, strict=True)]
            below = sum(mine < other for mine, other in pairs)
            print(f"open loop, {kind}: our p99 below Cerbos's p50 in {below} of {len(pairs)} rounds: "
                  + ", ".join(f"{mine}/{other} µs" for mine, other in pairs))  # fmt: skip


def machine(plan: Plan, rounds: int, seconds: int) -> dict[str, Any]:
    """Return where, with what and how this was measured."""
    return {
        "machine": this_machine(),
        "versions": {"python": platform.python_version(), "cerbos": VERSION}
        | {each: _version(each) for each in DISTRIBUTIONS},
        "flags": {"rounds": rounds, "seconds": seconds, **plan._asdict(), "GOMAXPROCS": 1, "arguments": sys.argv[1:]},
    }  # fmt: skip


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
