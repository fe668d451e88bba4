"""
``bench/README.md`` and its plots from the files that a run left: ``bench/results/*.json``, ``bench/peers/*/*.json``.

No figure is written by hand, and none without the machine, the versions and the method above it.  A file is
``{"machine": …, "records": […]}`` (peers: ``rows`` will do, or a bare list); a record has ``name``, ``scenario``,
``connections``, ``journal``, ``rps``, ``p50_us`` … ``max_us``, ``rss_mb``, ``wrong`` and ``runs``, and may have more.

Run: ``PYTHONPATH=. .venv/bin/python bench/report.py``
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.micro.by_itself import CALIBRATION_US, RULES
from bench.micro.copies import round_trips

from bench import owed, plots
from ruqsat.service.recall import MOST

HERE = Path(__file__).parent
Record = dict[str, Any]
CLIENT_BOUND = 0.95
ANEW = "asked anew"
METHOD = """\
Closed loop: wrk, one thread, keep-alive; each caller asks at once after its answer. Open loop: requests come at
their times, answered or not, and a latency counts from when its request was due (no coordinated omission). Server
on core 0, client on core 1, where there are two. A warm-up, then the runs named below; figures are medians,
*spread* is (most - least) / median of the runs' rates, in the open loop of their p99.
The *no-op* is a route of the same server that reads the same body
and answers as many bytes, in the same turns; who is not asked is halted meanwhile, so that what it has put off is no
other's cost: **only ratios travel between machines**. *Client* is how much of its core the client took; from 0.95 on
the client was measured, and the row is marked `*`. *Wrong* counts answers that differ from what `core.evaluate` says
in the bench's own process, before and after each of wrk's runs, and of every answer in the open loop and under
Locust; what was put off (`try_later`, `overloaded`) too, where it was more than one of a hundred. In a rush a sidecar
ships its journal into the database later (`service/shipping`): what that costs stands in a section of its own."""


def read(folder: Path, peers: Path) -> tuple[dict[str, list[Record]], list[Record], dict[str, Any]]:
    """Return the records by part, those of peers, and the machine; with what is run apart, its own comes first."""
    parts: dict[str, list[Record]] = {}
    machine: dict[str, Any] = {}
    others: list[Record] = []
    of_peers: dict[str, Any] = {}
    commits: dict[str, list[str]] = {}
    for path in (*sorted(folder.glob("*.json")), *sorted(peers.glob("*/*.json"))):
        said = json.loads(path.read_text())
        if path.stem in APART and path.parent == folder:
            parts[path.stem] = [said["machine"], *said["records"]]
        elif path.stem in PARTS and path.parent == folder:
            parts[path.stem] = said["records"]
            most = [key for key in ("at", "load_before", "load_after") if key in said["machine"]]
            machine = said["machine"] | {key: max(said["machine"][key], machine.get(key, said["machine"][key]))
                                         for key in most}  # fmt: skip
            commits.setdefault(said["machine"]["commit"], []).append(path.stem)
        else:
            others += _of_peers(said)
            of_peers = said if path.parent == folder else of_peers
    if len(commits) > 1:  # a part may be run alone
        machine["commit"] = "; ".join(f"{commit} ({', '.join(stems)})" for commit, stems in commits.items())
    return parts, others, machine | ({"peers": of_peers} if "flags" in of_peers else {})


def _of_peers(said: Any) -> list[Record]:
    """Return the records of a file that another bench left: under `records` or `rows`, a bare list, or one alone."""
    found = said.get("records", said.get("rows", [said])) if isinstance(said, dict) else said
    return [each for each in found if isinstance(each, dict) and "scenario" in each]


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Write a table; figures to the right."""
    heads = list(heads)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *[[str(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def count(value: float | None) -> str:
    """Write a number of things."""
    return "" if value is None else f"{value:,.0f}"


def time_of(micros: float | None) -> str:
    """Write a time."""
    if micros is None:
        return ""
    return f"{micros:.0f} µs" if micros < 1_000 else f"{micros / 1e3:.2f} ms"


def who(record: Record) -> str:
    """Return whose row it is."""
    journal, anew = record.get("journal"), ", anew" if record.get("scenario") == ANEW else ""
    if journal == record["name"]:
        return f"ruqsat, {journal}"
    return f"{record['name']}, {journal}{anew}" if journal not in (None, "none") else str(record["name"])


def over_no_op(record: Record, records: list[Record], what: str, *same: str) -> str:
    """Return a figure over the no-op's of the same turns: the median of the runs' own ratios."""
    base = next((r for r in records if r["name"] == "no-op" and all(r.get(k) == record.get(k) for k in same)), None)
    found = None if base is None else owed.middle_ratio(record.get("runs", []), base.get("runs", []), what)
    return "" if found is None else f"{found:.2f}"


def loads(records: list[Record], first: str, key: Callable[[Record], object], what: str, *same: str) -> str:
    """Write a table of runs under load; *what* is told over the no-op's, of runs that are the *same*."""
    over = {"rps": "of the no-op's", "p99_us": "p99 over the no-op's"}[what]
    heads = (first, "who", "answers/s", over, "spread", "p50", "p95", "p99", "p99.9", "max", "memory",
             "client", "wrong", *(("put off",) if what == "p99_us" else ()))  # fmt: skip
    rows = []
    for each in records:
        put_off = [count(sum(run.get("later", 0) for run in each.get("runs", [])))] if what == "p99_us" else []
        busy = each.get("client_cpu")
        mark = " *" if busy is not None and (busy >= CLIENT_BOUND or each.get("client_late")) else ""
        rows.append((
            key(each), who(each) + mark, count(each.get("rps")), over_no_op(each, records, what, *same),
            _spread(each.get("runs", []), what),
            *[time_of(each.get(name)) for name in ("p50_us", "p95_us", "p99_us", "p999_us", "max_us")],
            f"{each['rss_mb']:.0f} MB" if each.get("rss_mb") else "", f"{busy:.2f}" if busy is not None else "",
            count(each.get("wrong", 0)), *put_off,
        ))  # fmt: skip
    return table(heads, rows)


def _spread(runs: list[Record], what: str) -> str:
    found = [run[what] for run in runs if what in run]
    return f"{(max(found) - min(found)) / statistics.median(found):.0%}" if found else ""


OWED = """\
640 different questions in turn: asked again within ten seconds, by the same facts and while nothing turns, a
decision is recalled, and journaled as any. *Anew*: 12,800 different questions in turn, so that each is forgotten when
its turn comes, and all of it is read, decided and written anew. Owed, facts in memory: lossy at 16 connections 0.45 of
the no-op's, durable at 16 0.25 and at 64 0.35; at these there are twice as many runs."""


def summary(parts: dict[str, list[Record]], others: list[Record]) -> str:
    """Write what is owed beside what was measured."""
    rows = [each.cells() for each in owed.lines(parts, others)]
    heads = ("", "owed", "aimed at", "measured", "")
    return (
        "## Owed, and measured\n\nEach from the sections below, which say how. Asked again where nothing else is said; "
        f"*as* AuthZEN is from {owed.AS:g} on, for two runs of the same differ by more.\n\n" + table(heads, rows)
    )


def closed(records: list[Record], _: list[Record]) -> str:
    """Write the closed loop."""
    rows = loads(records, "connections", lambda r: r["connections"], "rps", "connections")
    pictures = "\n![Throughput by connections](results/throughput.svg)\n\n![Latency](results/latency.svg)\n"
    return f"## Closed loop, by connections\n\n{OWED}\n\n" + rows + pictures


def opened(records: list[Record], _: list[Record]) -> str:
    """Write the open loop."""
    return "## Open loop, at a share of what the client can have from the durable sidecar\n\n" + loads(
        records, "shape, share", lambda r: f"{r['scenario']}, {r['share']:.0%}", "p99_us", "scenario", "share"
    )


def by_itself(records: list[Record], _: list[Record]) -> str:
    """Write what an evaluation costs by itself."""
    (found,) = records
    rows = [
        (what, f"{found[name + '_us']:.1f} µs", f"{found[name + '_as_owed_us']:.1f} µs", owed)
        for what, name, owed in (
            ("the common question: a physician, a consent that covers", "common", "6 µs"),
            (f"of the pack's {found['cases']} cases the dearest: {found['dearest']}", "dearest", "15 µs"),
        )
    ]
    rows.append((f"stock pycasbin, an access list of {RULES} rules", f"{found['pycasbin_us']:.1f} µs", "", ""))
    return (
        "## An evaluation by itself\n\nIn process, no HTTP, the shipped pack. What is owed was stated where stock "
        f"pycasbin goes through an access list of {RULES} rules in {CALIBRATION_US} µs; it does so here in the same "
        "rounds, and *as owed* is the median of the rounds' ratios at that rate.\n\n"
        + table(("", "here", "as owed", "owed at most"), rows)
    )


def rules(records: list[Record], _: list[Record]) -> str:
    """Write what an evaluation costs by rules."""
    base = {each["world"]: each["runs"] for each in records if each["scale"] == 1}
    rows = [(each["world"], count(each["scale"]), count(each["rules"]), f"{each['evaluate_us']:.1f} µs",
             f"{owed.middle_ratio(each['runs'], base[each['world']]) or 0:.2f} ×") for each in records]  # fmt: skip
    return (
        "## An evaluation, by the number of rules\n\nIn process, no HTTP: `clinic` is the shipped pack and 33 n + 5 "
        "rules of hospitals, `shared` the like without patients. *Of one hospital's* is the median of the rounds' "
        "ratios. Owed: flat, at most 1.3 ×.\n\n"
        + table(("world", "hospitals", "rules", "median", "of one hospital's"), rows)
        + "\n![Cost by rules and patients](results/cost.svg)\n"
    )  # fmt: skip


def patients(records: list[Record], _: list[Record]) -> str:
    """Write what a population costs."""
    rows = [(count(r["patients"]), count(r["rps"]), f"{r['cpu_us']:.0f} µs", time_of(r["p99_us"]),
             *[f"{r[name]:.0f} MB" for name in ("rss_empty_mb", "rss_warm_mb", "rss_mb")], count(r["asked_wide"]),
             f"{r['started_s']:.0f} s", count(r["wrong"])) for r in records]  # fmt: skip
    heads = ("patients", "answers/s", "CPU each", "p99", "memory, started", "warm", "after a wide mix",
             "of so many calls", "import and start", "wrong")  # fmt: skip
    return (
        "## By the number of patients\n\nSQLite, durable, 16 connections, the same number of different calls.\n\n"
        + (table(heads, rows) + "\n![Memory](results/memory.svg)\n")
    )


def shapes(records: list[Record], _: list[Record]) -> str:
    """Write what Locust met."""
    rows = [(r["scenario"], count(r["calls"]), count(r["wrong"]), count(r["later"]),
             *[f"{r[name] / r['no_op'][name]:.1f} ×" if r["no_op"][name] else "" for name in ("p50_us", "p99_us")],
             count(r["withdrawn"]) if r["withdrawn"] else "", len(r["late"]) if r["withdrawn"] else "",
             f"{max(r['to_deny_ms']):.1f} ms" if r["to_deny_ms"] else "") for r in records]  # fmt: skip
    heads = ("shape", "answers", "wrong", "put off", "p50 of the no-op's", "p99 of the no-op's", "withdrawn",
             "answers that lagged", "longest to the first denial seen")  # fmt: skip
    return (
        "## The shapes, by Locust\n\nEvery answer is compared. Locust is the bottleneck: its rates say nothing.\n\n"
        + (table(heads, rows))
    )


def batches(records: list[Record], _: list[Record]) -> str:
    """Write what a hundred questions a call cost against a hundred calls."""
    single = {(r["connections"], r["scenario"]): r["evaluations"] for r in records if r["size"] == 1}
    rows = [(r["connections"], "anew" if "anew" in r["scenario"] else "again", r["size"], count(r["rps"]),
             count(r["evaluations"]), f"{r['evaluations'] / single[r['connections'], r['scenario']]:.1f} ×",
             time_of(r["p50_us"]), time_of(r["p99_us"]), f"{r['client_cpu']:.2f}", count(r["wrong"]))
            for r in records]  # fmt: skip
    heads = ("connections", "asked", "questions a call", "calls/s", "evaluations/s", "of single ones", "p50", "p99",
             "client", "wrong")  # fmt: skip
    return (
        "## Batches\n\nDurable, in turns, the same questions singly and together: *again*, 640 of them, or *anew*, "
        "12,800. Owed: 5 × for 100 a call.\n\n" + table(heads, rows)
    )


def later(records: list[Record], _: list[Record]) -> str:
    """Write what is left to do after a rush."""
    [of] = records
    whole = of["cpu_us"] + of["later_us"]
    return (
        "## What a rush leaves to be done\n\nOne durable sidecar by itself, 16 connections, *again*. Every line is on "
        "disk before its answer; into the database, where\nthe patient's log reads it, it is shipped when there is "
        "room, in a rush with a fortieth of the time.\n\n"
        + table(
            ("answers/s", "CPU each", "later, CPU each", "until all is shipped", "spread", "wrong"),
            [(count(of["rps"]), time_of(of["cpu_us"]), time_of(of["later_us"]), f"{of['later_s']:.0f} s",
              f"{of['spread']:.0%}", count(of["wrong"]))],
        )
        + f"\nA rush that never ends could therefore have {count(1e6 / whole)} answers/s of one core "
        f"({of['cpu_us'] / whole:.0%} of the rate above), were\nnothing put off.\n"
    )  # fmt: skip


def listeners(records: list[Record], _: list[Record]) -> str:
    """Write what proxies ask beside what applications ask."""
    heads = ("connections", "asked", "who asks", "answers/s", "rate, of an application's", "CPU each",
             "CPU, of an application's", "spread", "p50", "p99", "client", "wrong")  # fmt: skip
    rows = []
    for each in records:
        base = next(r for r in records if r["scenario"] != "forward_auth"
                    and all(r[key] == each[key] for key in ("asked", "connections")))  # fmt: skip
        rate, cost = [owed.middle_ratio(each["runs"], base["runs"], key) or 0 for key in ("rps", "cpu_us")]
        name = "an application (AuthZEN)" if each is base else "a proxy (forward-auth)"
        rows.append((
            each["connections"], each["asked"], name, count(each["rps"]), f"{rate:.2f} ×", time_of(each["cpu_us"]),
            f"{cost:.2f} ×", f"{each['spread']:.0%}", time_of(each["p50_us"]), time_of(each["p99_us"]),
            f"{each['client_cpu']:.2f}", count(each["wrong"]),
        ))  # fmt: skip
    return (
        "## Proxies and applications\n\nOne durable sidecar, asked the same in turns: staff read records, *again*, 640 "
        f"questions, or *anew*, 12,800; {len(records[0]['runs'])} short runs each.\n"
        "An application says who and what in AuthZEN, a proxy hands on a token and what "
        "its client asked.\nOwed: as an application, or better.\n\n" + table(heads, rows)
    )


def shared(records: list[Record], _: list[Record]) -> str:
    """Write what facts from the shared copy cost."""
    rows = [(r["kind"], r["readings"], time_of(r["p50_us"]), time_of(r["p99_us"])) for r in records]
    return (
        "## Facts, by where they come from\n\nTwo information points on one PostgreSQL and one Valkey; a round trip is "
        "a PING on a connection like theirs.\nThe shared copy over memory, in round trips: "
        f"{round_trips(records):.2f} for a patient, {round_trips(records, 'shared copy, both'):.2f} for *both*, a\n"
        "patient and a clinician who is not in memory either. Owed: 2.\n\n"
        + table(("from", "readings", "p50", "p99"), rows)
    )


def revocation(records: list[Record], _: list[Record]) -> str:
    """Write how long a changed consent was not yet seen elsewhere."""
    rows = [(f"{r['scenario']}, {r['hints']}", len(r["times_ms"]),
             *[time_of(r[name]) for name in ("p50_us", "p95_us", "p99_us", "max_us")]) for r in records]  # fmt: skip
    return (
        "## From a withdrawal or a grant to the answer by it at another sidecar\n\nTwo information points on one "
        "PostgreSQL; "
        "counted from the acknowledgement at one to the first answer of the other that reflects it.\n\n"
        + table(("", "tries", "p50", "p95", "p99", "max"), rows)
        + "\n![Revocation to denial](results/revocation.svg)\n"
    )  # fmt: skip


def population(records: list[Record], _: list[Record]) -> str:
    """Write what a large population costs."""
    of, *imports, found = records
    rows = [(count(r["patients"]), f"{r['import_s']:.0f} s", *[f"{r[name]:,.0f} MB" for name in
             ("import_mb", "database_mb", "facts_mb")]) for r in imports]  # fmt: skip
    return (
        f"## A large population\n\n{_apart('make bench-population', of)} PostgreSQL; decisions in process, in turns, "
        f"by facts in memory, of {count(found['small'])} patients {found['small_us']:.1f} µs, of "
        f"{count(found['large'])} {found['large_us']:.1f} µs: {found['large_us'] / found['small_us']:.2f} × "
        "(owed at most 1.3 ×).\n"
        f"{count(found['in_memory'])} patients in memory take {found['kb_each']:.1f} kB each (owed at most 2 kB).\n\n"
        + table(("patients", "import", "its memory", "database", "of it facts"), rows)
    )


def gate_trial(records: list[Record], _: list[Record]) -> str:
    """Write what the gate made of clean runs, and of delays put into each place."""
    of, *runs = records
    rows = [(r["place"] or "clean", f"{r['planted_us']:.0f} µs" if r["place"] else "", f"{r['ratio']:.2f}",
             {0: "passes", 1: "fails"}.get(r["code"], "too little measured"), count(sum(r["wrong"].values())))
            for r in sorted(runs, key=lambda r: r["place"] or "")]  # fmt: skip
    return (
        f"## The gate, tried\n\n{_apart('make bench-gate-trial', of)} Clean runs must pass; those with 30 % of a "
        "call's processor time planted must fail.\n\n"
        + table(("planted into", "a call", "CPU over the no-op's", "the gate", "wrong"), rows)
    )


def _apart(words: str, of: Record) -> str:
    return f"`{words}`, commit `{of['commit']}`, {of['at']}."


def peers(records: list[Record], of: dict[str, Any] | None) -> str:
    """Write what others do on the same questions."""
    if not records:
        return ""
    heads = ("scenario, connections", "who", "answers/s", "of the no-op's", "of Cerbos's (least to most)", "by CPU",
             "p50", "p99", "memory", "client", "wrong", "errors")  # fmt: skip
    rows = [(_asked(r), who(r) + (" *" if (r.get("client_cpu") or 0) >= CLIENT_BOUND else "")
             + (" †" if r.get("void") else ""), count(r.get("rps")),
             _times(r.get("of_no_op"), spread=False), _times(r.get("of_cerbos"), spread=True),
             _times(r.get("of_cerbos_by_cpu"), spread=False), time_of(r.get("p50_us")), time_of(r.get("p99_us")),
             f"{r['rss_mb']:.0f} MB" if r.get("rss_mb") else "", r.get("client_cpu", ""), count(r.get("wrong", 0)),
             count(r.get("errors", 0))) for r in records]  # fmt: skip
    return (
        "## Beside others, on this machine\n\nThe same decisions, answers compared first ([how](peers/README.md)). "
        f"{_conditions(of)}Ratios are of the same round. †: others had more than 15 % of the server's core, so that "
        "the rate says little, and *by CPU*, by processor time an answer, is what counts. *Errors*: no 200, or no "
        "answer. "
        "Owed: durable, 3 × Cerbos.\n\n" + table(heads, rows) + _at_equal_load(records)
    )


def _conditions(of: dict[str, Any] | None) -> str:
    """Say how the peers were measured, as far as their file tells."""
    if of is None:
        return ""
    flags, machine = of["flags"], of["machine"]
    is_anew = flags["questions"] > 2 * MOST
    versions = ", ".join(f"{name} {number}" for name, number in of["versions"].items())
    commit = f"commit `{machine['commit']}`, {machine['at']}; " if "commit" in machine else ""
    return (
        f"{versions}; {commit}{flags['rounds']} rounds of {flags['seconds']} s, {flags['patients']:,} patients, "
        f"{flags['questions']:,} questions in turn, which Ruqsat {'decides anew' if is_anew else 'may recall'}. "
    )


def _times(found: list[float] | None, *, spread: bool) -> str:
    if not found:
        return ""
    middle, least, most = found
    return f"{middle:.2f} ({least:.2f} to {most:.2f})" if spread else f"{middle:.2f}"


def _at_equal_load(records: list[Record]) -> str:
    """Write our p99 beside Cerbos's p50 at half of what Cerbos can take."""
    opened = {r["name"]: r for r in records if r["scenario"] == "open"}
    if not {"durable", "cerbos"} <= opened.keys():
        return ""
    own, theirs = opened["durable"], opened["cerbos"]
    return (
        f"\nOpen loop at half of Cerbos's most: our p99 {time_of(own['p99_us'])}, its p50 {time_of(theirs['p50_us'])}, "
        f"its p99 {time_of(theirs['p99_us'])}.\n"
    )


def _asked(record: Record) -> str:
    return f"{record['scenario']}, {record.get('connections') or '-'}"


PARTS = {
    "closed": closed,
    "later": later,
    "listeners": listeners,
    "open": opened,
    "batch": batches,
    "alone": by_itself,
    "rules": rules,
    "patients": patients,
    "copies": shared,
    "shapes": shapes,
    "revocation": revocation,
}


APART = {"population": population, "gate_trial": gate_trial}
"""Run by commands of their own."""


def render(parts: dict[str, list[Record]], others: list[Record], machine: dict[str, Any]) -> str:
    """Write the whole page."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    about = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB; Linux {machine['kernel']}, Python "
        f"{machine['python']}; {versions}; {machine['wrk']}. Commit `{machine['commit']}`, {machine['at']}; "
        f"load before at most {machine['load_before']}, after at most {machine['load_after']}. {machine['rounds']} "
        f"runs of {machine['seconds']:g} s each; {'pinned to cores' if machine['pinned'] else 'not pinned'}; a world "
        f"of {machine['hospitals']} hospitals and {machine['patients']:,} patients where nothing else is said."
    )
    sections = [write(parts[name], others) for name, write in (PARTS | APART).items() if name in parts]
    disk = f" Journals on {machine['file_system']}." if "file_system" in machine else ""
    return (
        "# Speed: what was measured\n\nWritten by `make bench` from `bench/results/*.json`; do not edit. "
        "[How it is measured](howto.md), and the benches that are not in here.\n\n"
        f"{about}{disk}\n\n{METHOD}\n\n"
        + "\n".join([summary(parts, others), *sections, peers(others, machine.get("peers"))])
    ).rstrip() + "\n"


def main() -> int:
    """Read, plot, write."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--results", type=Path, default=HERE / "results")
    words.add_argument("--peers", type=Path, default=HERE / "peers")
    words.add_argument("--into", type=Path, default=HERE / "README.md")
    asked = words.parse_args()
    parts, others, machine = read(asked.results, asked.peers)
    if not parts.keys() & PARTS.keys():
        print(f"no results in {asked.results}: run bench/driver.py first")
        return 2
    drawn = plots.draw(parts, others, asked.results)
    asked.into.write_text(render(parts, others, machine))
    print(f"wrote {asked.into} and {len(drawn)} plots")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
