"""What is owed beside what was measured; each line is judged from the run's own records, none by hand."""

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

from bench.micro.copies import round_trips

Record = dict[str, Any]
Parts = dict[str, list[Record]]


AS = 0.95
"""What is owed as something else is kept from here on: two runs of the same differ by more."""


class Line(NamedTuple):
    """
    One thing that is owed.

    Attributes:
        owed: The bound, ``aimed`` what is aimed at beyond it, if anything.
        unit: What stands behind the figures.
        is_least: The bound is the least that will do; else it is the most.
    """

    what: str
    measured: float
    owed: float
    aimed: float | None = None
    unit: str = " ×"
    is_least: bool = False

    @property
    def is_kept(self) -> bool:
        """Tell whether the bound is kept."""
        return self.measured >= self.owed if self.is_least else self.measured <= self.owed

    def cells(self) -> tuple[str, ...]:
        """Write the line."""
        word = "at least" if self.is_least else "at most"
        aimed = "" if self.aimed is None else f"{self.aimed:g}{self.unit}"
        verdict = "kept" if self.is_kept else "**missed**"
        return (self.what, f"{word} {self.owed:g}{self.unit}", aimed, f"{self.measured:.2f}{self.unit}", verdict)


def middle_ratio(runs: list[Any], base: list[Any], what: str | None = None) -> float | None:
    """Return the median of the ratios of runs that were made in the same turns, None for none."""
    pairs = [(one, other) if what is None else (one[what], other[what]) for one, other in zip(runs, base, strict=False)]
    ratios = [one / other for one, other in pairs if other]
    return statistics.median(ratios) if ratios and len(runs) == len(base) else None


def lines(parts: Parts, others: list[Record]) -> list[Line]:
    """Return what is owed, as far as it was measured."""
    return [
        *_shares(parts.get("closed", [])), *_peers(others), *_listeners(parts.get("listeners", [])),
        *_costs(parts), *_batches(parts.get("batch", [])), *_population(parts.get("population", [])),
        *_changes(parts.get("revocation", [])),
    ]  # fmt: skip


def _shares(records: list[Record]) -> Iterator[Line]:
    for journal, connections, owed, aimed in (
        ("lossy", 16, 0.45, 0.65), ("durable", 16, 0.25, 0.37), ("durable", 64, 0.35, 0.6),
    ):  # fmt: skip
        own = [r for r in records if r["connections"] == connections]
        base = next((r for r in own if r.get("journal") is None), None)
        for asked in (r for r in own if r.get("journal") == journal):
            found = middle_ratio(asked["runs"], base["runs"], "rps") if base else None
            if found is not None:
                anew = ", anew" if asked["scenario"] == "asked anew" else ""
                what = f"{journal}, {connections} connections{anew}, of the no-op's rate"
                yield Line(what, found, owed, aimed, is_least=True)


def _peers(records: list[Record]) -> Iterator[Line]:
    void = {each.get("connections") for each in records
            if each["name"] in ("durable", "cerbos") and each["scenario"] == "closed" and each.get("void")}  # fmt: skip
    for each in records:
        if each["name"] == "durable" and each["scenario"] == "closed" and each.get("connections") in (16, 64):
            key, word = ("of_cerbos_by_cpu", ", by CPU") if each["connections"] in void else ("of_cerbos", "")
            what = f"durable, {each['connections']} connections, of Cerbos's rate{word}"
            if key in each:  # else Cerbos could not be had
                yield Line(what, each[key][0], 3, 6, is_least=True)


def _listeners(records: list[Record]) -> Iterator[Line]:
    for each in records:
        if each["scenario"] == "forward_auth":
            base = next(r for r in records if r["scenario"] != "forward_auth"
                        and all(r[key] == each[key] for key in ("asked", "connections")))  # fmt: skip
            found = middle_ratio(each["runs"], base["runs"], "rps")
            if found is not None:
                anew = ", anew" if each["asked"] == "anew" else ""
                what = f"forward-auth, durable, {each['connections']} connections{anew}, of AuthZEN's rate"
                yield Line(what, found, AS, is_least=True)


def _costs(parts: Parts) -> Iterator[Line]:
    for found in parts.get("alone", []):
        yield Line("an evaluation by itself, the common one, as owed", found["common_as_owed_us"], 6, 3, " µs")
        yield Line("an evaluation by itself, the dearest, as owed", found["dearest_as_owed_us"], 15, None, " µs")
    records = parts.get("rules", [])
    for world in dict.fromkeys(each["world"] for each in records):
        own = [each for each in records if each["world"] == world]
        first, last = own[0], max(own, key=lambda each: each["rules"])
        found = middle_ratio(last["runs"], first["runs"])
        if found is not None:
            yield Line(f"an evaluation, {world}, {last['rules']:,} rules, of {first['rules']:,}'s", found, 1.3)
    copies = parts.get("copies", [])
    for kind in dict.fromkeys(each["kind"] for each in copies if each["kind"].startswith("shared copy")):
        yield Line(f"facts from the {kind}, over memory", round_trips(copies, kind), 2, None, " round trips")


def _batches(records: list[Record]) -> Iterator[Line]:
    single = {(r["connections"], r["scenario"]): r["evaluations"] for r in records if r["size"] == 1}
    for each in records:
        if each["size"] == 100:
            what = f"100 a call, {each['connections']} callers, {'anew' if 'anew' in each['scenario'] else 'again'}"
            base = single[each["connections"], each["scenario"]]
            yield Line(f"{what}, of single ones' rate", each["evaluations"] / base, 5, is_least=True)


def _population(records: list[Record]) -> Iterator[Line]:
    if records:
        found = records[-1]
        what = f"a decision from memory, {found['large']:,} patients, of {found['small']:,}'s"
        yield Line(what, found["large_us"] / found["small_us"], 1.3)
        yield Line("memory of a cached patient", found["kb_each"], 2, None, " kB")


def _changes(records: list[Record]) -> Iterator[Line]:
    for each in records:
        most = 50 if each["hints"] == "with hints" else 1_250
        yield Line(f"{each['scenario']}, {each['hints']}, p99", each["p99_us"] / 1e3, most, None, " ms")
