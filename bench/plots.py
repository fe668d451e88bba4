"""The plots of the report, as SVG; the same results give the same bytes."""

from pathlib import Path
from typing import Any

Record = dict[str, Any]
QUANTILES = {"p50_us": 0.5, "p95_us": 0.05, "p99_us": 0.01, "p999_us": 0.001, "max_us": 0.0001}
"""Each quantile, as the share of answers that took longer; the last stands for the slowest."""

BESIDE = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
"""Where a legend covers no line."""


def draw(parts: dict[str, list[Record]], others: list[Record], folder: Path) -> list[Path]:
    """
    Draw what there are results for; return the files.

    Raises:
        SystemExit: matplotlib is not there.
    """
    try:
        import matplotlib  # noqa: PLC0415 - of the extra `bench`
    except ImportError:
        raise SystemExit("the plots need matplotlib: pip install 'ruqsat[bench]'") from None
    matplotlib.use("svg")
    matplotlib.rcParams.update({
        "svg.hashsalt": "ruqsat", "svg.fonttype": "none", "figure.figsize": (7, 3.6), "axes.grid": True,
        "grid.alpha": 0.3, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    })  # fmt: skip
    drawn = []
    for name, needs, function in (
        ("throughput", "closed", _throughput), ("latency", "closed", _latency), ("cost", "rules", _cost),
        ("memory", "patients", _memory), ("revocation", "revocation", _revocation),
    ):  # fmt: skip
        if needs in parts:
            path = folder / f"{name}.svg"
            figure = _figure(2 if function in (_cost, _memory) else 1)
            function(figure, parts, others)
            figure.tight_layout()
            figure.savefig(path, metadata={"Date": None})
            drawn.append(path)
    return drawn


def _figure(columns: int) -> Any:
    from matplotlib import pyplot as plt  # noqa: PLC0415 - of the extra `bench`

    figure, _ = plt.subplots(1, columns)
    return figure


def _who(record: Record) -> str:
    journal, name = record.get("journal"), record["name"]
    if journal == name:
        return f"ruqsat, {journal}, beside others"
    return f"{name}, {journal}" if journal not in (None, "none") else str(name)


def _throughput(figure: Any, parts: dict[str, list[Record]], _: list[Record]) -> None:
    axes = figure.axes[0]
    records = parts["closed"]  # the rates of others are of another run, and only ratios travel
    for name in dict.fromkeys((_who(each), each["scenario"]) for each in records):
        points = sorted((r["connections"], r["rps"]) for r in records if (_who(r), r["scenario"]) == name)
        own = name[1] == "steady_reads"
        axes.plot(*zip(*points, strict=True), marker="o", label=name[0] if own else " ".join(name))
    axes.set(
        xscale="log", yscale="log", xlabel="connections", ylabel="answers a second", title="Throughput, closed loop"
    )
    axes.legend(**BESIDE)


def _latency(figure: Any, parts: dict[str, list[Record]], _: list[Record]) -> None:
    axes = figure.axes[0]
    for each in parts["closed"]:
        if each["connections"] == 16:
            axes.plot(QUANTILES.values(), [each[name] / 1e3 for name in QUANTILES], marker="o",
                      label=f"{_who(each)}, {each['scenario']}, closed, 16")  # fmt: skip
    for each in parts.get("open", ()):
        if each["name"] != "no-op" and each["scenario"] == "steady_reads":
            axes.plot(QUANTILES.values(), [each[name] / 1e3 for name in QUANTILES], marker="s", linestyle="--",
                      label=f"{_who(each)}, open, {each['rps']:,.0f}/s")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="answers that took longer", ylabel="ms", title="Latency")
    axes.set_xticks(list(QUANTILES.values()), ["50 %", "5 %", "1 %", "0.1 %", "none"])
    axes.invert_xaxis()
    axes.legend(**BESIDE)


def _cost(figure: Any, parts: dict[str, list[Record]], _: list[Record]) -> None:
    left, right = figure.axes
    for world in dict.fromkeys(each["world"] for each in parts["rules"]):
        points = [(r["rules"], r["evaluate_us"]) for r in parts["rules"] if r["world"] == world]
        left.plot(*zip(*points, strict=True), marker="o", label=world)
    left.set(xscale="log", xlabel="rules", ylabel="µs an evaluation", ylim=(0, None), title="By rules")
    left.legend()
    points = [(each["patients"], each["cpu_us"]) for each in parts.get("patients", ())]
    if points:
        right.plot(*zip(*points, strict=True), marker="o")
    right.set(xscale="log", xlabel="patients", ylabel="µs of CPU a request", ylim=(0, None), title="By patients")


def _memory(figure: Any, parts: dict[str, list[Record]], others: list[Record]) -> None:
    left, right = figure.axes
    records = parts["patients"]
    for name, label in (("rss_empty_mb", "started"), ("rss_warm_mb", "warm"), ("rss_mb", "after a wide mix")):
        left.plot([each["patients"] for each in records], [each[name] for each in records], marker="o", label=label)
    left.set(xscale="log", xlabel="patients", ylabel="MB", ylim=(0, None), title="Memory by patients")
    left.legend()
    found: dict[str, float] = {}
    for each in (*parts.get("closed", ()), *others):
        if each.get("rss_mb"):
            found[_who(each)] = max(found.get(_who(each), 0.0), each["rss_mb"])
    right.barh(list(found), list(found.values()))
    right.set(xlabel="MB", title="Memory under load")


def _revocation(figure: Any, parts: dict[str, list[Record]], _: list[Record]) -> None:
    axes = figure.axes[0]
    for each in parts["revocation"]:
        if each["scenario"] != "withdrawn, to deny":
            continue
        times = sorted(max(0.01, value) for value in each["times_ms"])
        axes.step(times, [(n + 1) / len(times) for n in range(len(times))], where="post", label=each["hints"])
    axes.set(
        xscale="log", xlabel="ms from the acknowledgement", ylabel="share denied by then", title="Revocation to denial"
    )
    axes.legend()
