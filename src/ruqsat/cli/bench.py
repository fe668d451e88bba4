"""
``ruqsat bench``: load on an installation of yours, in named shapes; every answer whose right one is known is compared.

Its client is small, of one process and one core: it tells latencies at a rate that it can keep, not the most that a
machine can do.  ``bench/`` of the project holds what measures that, and worlds to measure in.
"""

import asyncio
import os
import ssl
import statistics
import time
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from ruqsat.cli.bench_questions import (
    FAILED,
    RIGHT,
    UNKNOWN,
    WRONG,
    Server,
    demo_questions,
    read_questions,
    requests_of,
)
from ruqsat.cli.load_client import LATE, Run, at_rate, in_turns, quantile
from ruqsat.cli.output import AsJson, console, print_json
from ruqsat.errors import SettingsError, StoreUnavailableError

WARM_SECONDS = 1.0
BURST_OF, BURST_EVERY = 5.0, 15.0
MOST_NOTES = 5
QUANTILES = {"p50_us": 0.5, "p95_us": 0.95, "p99_us": 0.99, "p999_us": 0.999, "max_us": 1.0}


class Shape(StrEnum):
    """The shapes; those of ``bench/`` that change nothing on record."""

    STEADY_READS = "steady_reads"
    BREAK_GLASS_BURST = "break_glass_burst"
    BATCH = "batch"
    SEARCH = "search"
    FORWARD_AUTH = "forward_auth"


def bench(
    *,
    against: Annotated[str, typer.Option(help="URL of the listener, or `unix:/path`.")],
    shape: Annotated[Shape, typer.Option(help="What is asked, and how.")] = Shape.STEADY_READS,
    questions: Annotated[
        Path | None, typer.Option(help="JSON Lines, each with `request` and `expect`; without: the demo world's.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, max=3600)] = 10.0,
    connections: Annotated[int, typer.Option(min=1, max=1024, help="Closed loop: callers, each at once again.")] = 16,
    rate: Annotated[
        float | None, typer.Option(min=1, max=100_000, help="Open loop: so many a second, answered or not.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="The median run is told, with the spread.")] = 3,
    header: Annotated[list[str] | None, typer.Option(help="`Name: value`, in every request; again for more.")] = None,
    ca: Annotated[Path | None, typer.Option(help="HTTPS: authorities to trust, PEM.")] = None,
    seed: Annotated[int, typer.Option(help="Of the mix of questions.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Load a running sidecar and compare its answers; exit 1 if one is wrong or missing, 2 if it cannot be measured."""
    address, server, tls = read_target(against, header or [], ca)
    if shape is Shape.BREAK_GLASS_BURST and rate is None:
        raise SettingsError("`break_glass_burst` needs --rate: a tenth of it is asked between the bursts")
    lines = read_questions(questions) if questions is not None else demo_questions()
    notes: Counter[str] = Counter()
    asked = requests_of(shape.value, lines, server, seed, notes)

    async def once(length: float) -> Run:
        if rate is None:
            return await in_turns(address, asked, connections, length, tls=tls)
        if shape is Shape.BREAK_GLASS_BURST:
            return await _bursts(address, asked, rate, length, tls)
        return await at_rate(address, asked, rate, length, tls=tls)

    async def everything() -> list[tuple[Run, float]]:
        await once(WARM_SECONDS)
        notes.clear()
        found = []
        for _ in range(runs):
            before, began = time.process_time(), time.perf_counter()
            run = await once(seconds)
            found.append((run, (time.process_time() - before) / (time.perf_counter() - began)))
        return found

    met = figures(asyncio.run(everything()), seconds)
    met |= {"notes": dict(notes.most_common(MOST_NOTES))}
    met |= {"scenario": shape.value, "connections": None if rate is not None else connections, "rate": rate}
    print_json(met) if as_json else _print(met, demo=questions is None)
    raise typer.Exit(exit_code(met))


def read_target(against: str, headers: list[str], ca: Path | None) -> tuple[str, Server, ssl.SSLContext | None]:
    """
    Return where to connect, what stands in each request, and the TLS of it.

    Raises:
        SettingsError: it is no address that can be asked, or a header is none.
    """
    own = []
    for each in headers:
        name, colon, value = each.partition(":")
        if not colon or not name.strip() or not each.isascii() or not each.isprintable():
            raise SettingsError("expected `--header` as `Name: value`, in ASCII")
        own.append((name.strip(), value.strip()))
    if against.startswith("unix:"):
        return against, Server("ruqsat", "", tuple(own)), None
    try:
        url = urlsplit(against if "://" in against else f"http://{against}")
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.username:
        raise SettingsError("expected `--against` as `http://host:port`, `https://host:port` or `unix:/path`")
    tls = None
    if url.scheme == "https":
        try:
            tls = ssl.create_default_context(cafile=ca)
        except OSError as error:
            raise SettingsError(f"`--ca` cannot be used: {error.strerror or 'no certificates in it'}") from None
    address = f"{url.hostname}:{port or (443 if tls else 80)}"
    return address, Server(url.netloc, url.path.rstrip("/"), tuple(own)), tls


async def _bursts(address: str, asked: Any, rate: float, seconds: float, tls: ssl.SSLContext | None) -> Run:
    """Ask in bursts: of every fifteen seconds the first ten at a tenth of the rate, the last five at all of it."""
    whole, left = Run(), seconds
    while left > 0:
        quiet = min(left, BURST_EVERY - BURST_OF)
        parts = [(rate / 10, quiet), (rate, min(left - quiet, BURST_OF))]
        for speed, length in ((speed, length) for speed, length in parts if length > 0):
            run = await at_rate(address, asked, speed, length, tls=tls)
            whole.answers += run.answers
            whole.due, whole.unanswered = whole.due + run.due, whole.unanswered + run.unanswered
            whole.unopened, whole.lag = whole.unopened + run.unopened, max(whole.lag, run.lag)
            whole.refusal = run.refusal or whole.refusal
            left -= length
    return whole


def figures(met: list[tuple[Run, float]], seconds: float) -> dict[str, Any]:
    """
    Return the figures to print: medians over the runs, answers added up by kind, and each run by itself.

    Raises:
        StoreUnavailableError: nobody answered.
    """
    if not any(run.answers for run, _ in met):
        why = next((run.refusal for run, _ in met if run.refusal), "connections were opened, and nothing came on them")
        raise StoreUnavailableError(f"no answer, is anybody listening there? {why}")
    runs = [_of_run(run, busy, seconds) for run, busy in met]
    middle = {name: statistics.median(each[name] for each in runs) for name in ("rps", *QUANTILES, "client_cpu")}
    rates = [each["rps"] for each in runs]
    counts = {name: sum(each[name] for each in runs) for name in ("wrong", "failed", "unknown", "unanswered")}
    return {
        "name": "ruqsat", **middle, **counts, "spread": (max(rates) - min(rates)) / max(middle["rps"], 1e-9),
        "client_late_ms": max(each["client_late_ms"] for each in runs), "runs": runs,
    }  # fmt: skip


def _of_run(run: Run, busy: float, seconds: float) -> dict[str, Any]:
    took = sorted(end - due for due, end, _ in run.answers)
    lasted = max((end for _, end, _ in run.answers), default=0.0) - min((due for due, _, _ in run.answers), default=0.0)
    kinds = run.kinds
    return {
        "rps": len(took) / max(seconds, lasted),
        **{name: quantile(took, share) * 1e6 if took else 0.0 for name, share in QUANTILES.items()},
        "right": kinds[RIGHT], "wrong": kinds[WRONG], "unknown": kinds[UNKNOWN], "failed": kinds[FAILED],
        "unanswered": run.unanswered + run.unopened, "client_cpu": busy, "client_late_ms": run.lag * 1e3,
    }  # fmt: skip


def exit_code(met: dict[str, Any]) -> int:
    """Return 1 where an answer was wrong or missing, 2 where the client was later than its own times, else 0."""
    if met["wrong"] or met["failed"] or met["unanswered"]:
        return 1
    return 2 if met["client_late_ms"] > LATE * 1e3 else 0


def _print(met: dict[str, Any], *, demo: bool) -> None:
    out, loop = console(), f"{met['rate']:g}/s, open loop" if met["rate"] else f"{met['connections']} connections"
    out.print(f"{met['scenario']}, {loop}; the median of {len(met['runs'])} runs")
    out.print(f"  {met['rps']:,.0f} answers/s, spread {met['spread']:.0%}; {os.cpu_count()} cores here, "
              f"this client took {met['client_cpu']:.0%} of one")  # fmt: skip
    out.print("  " + ", ".join(f"{name.removesuffix('_us')} {met[name] / 1e3:.2f} ms" for name in QUANTILES))
    right = sum(each["right"] for each in met["runs"])
    out.print(f"  {right:,} right, {met['wrong']} wrong, {met['failed']} failed, {met['unanswered']} unanswered, "
              f"{met['unknown']:,} of which nobody said what is right")  # fmt: skip
    for note, times in met["notes"].items():
        out.print(f"  {note}, {times} times")
    if met["wrong"] and demo:
        out.print(
            "  The demo world's questions were asked: does this sidecar serve it (`ruqsat serve --demo`), unchanged?"
        )
    if met["failed"] and met["scenario"] == Shape.SEARCH.value:
        out.print(
            "  A search is refused beyond RUQSAT_SEARCH_CANDIDATES_PER_MINUTE (and where RUQSAT_JSON_SEARCH is off)"
        )
    if met["client_late_ms"] > LATE * 1e3:
        out.print(f"  VOID: the client was {met['client_late_ms']:.0f} ms behind its own times: ask for less")
