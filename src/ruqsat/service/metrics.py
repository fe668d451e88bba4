"""What operators watch: decisions by reason, time taken, journal syncs, cache, lease.  Labels are closed lists."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

Read = Callable[[], float]

_LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 1.0)
_SYNC = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


class Timings:
    """
    A histogram that costs a bisection and two additions.

    The library's own takes locks that a single event loop does not need; it renders ours.
    """

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one time."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound, as Prometheus wants them."""
        names = [*map(str, self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))

    @property
    def total(self) -> float:
        """All seconds together."""
        return self._sum


class Metrics(Collector):
    """The process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.journal_sync = Timings(_SYNC)
        self.unjournaled = 0
        self.degraded = {True: 0, False: 0}
        self._decisions: dict[tuple[str, str], int] = {}
        self._latency: dict[str, Timings] = {}
        self._histograms: list[tuple[str, str, Timings]] = []
        self._watched: list[tuple[type[GaugeMetricFamily] | type[CounterMetricFamily], str, str, Read]] = []
        self.counter(
            "ruqsat_unjournaled_refusals", "Refusals whose entry could not be written", lambda: self.unjournaled
        )
        self.counter("ruqsat_degraded_permits", "Permits by last known facts", lambda: self.degraded[True])
        self.counter("ruqsat_degraded_denials", "Denials by last known facts", lambda: self.degraded[False])
        self.registry.register(self)

    def decided(self, listener: str, reason: str, seconds: float) -> None:
        """Count one decision; *seconds* from the decoded request to the answer, journal included."""
        key = (listener, reason)
        self._decisions[key] = self._decisions.get(key, 0) + 1
        timings = self._latency.get(listener)
        if timings is None:
            timings = self._latency[listener] = Timings(_LATENCY)
        timings.observe(seconds)

    def gauge(self, name: str, text: str, read: Read) -> None:
        """Show what *read* returns at each scrape."""
        self._watched.append((GaugeMetricFamily, name, text, read))

    def counter(self, name: str, text: str, read: Read) -> None:
        """Show a count that is kept elsewhere; *read* is asked at each scrape."""
        self._watched.append((CounterMetricFamily, name, text, read))

    def histogram(self, name: str, text: str, timings: Timings) -> None:
        """Show times that are kept elsewhere."""
        self._histograms.append((name, text, timings))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def collect(self) -> Iterable[Metric]:
        """Yield every metric as it is at this moment."""
        decisions = CounterMetricFamily(
            "ruqsat_decisions", "Decisions by listener and exact reason", labels=["listener", "reason"]
        )
        for labels, count in self._decisions.items():
            decisions.add_metric(labels, count)
        yield decisions
        latency = HistogramMetricFamily(
            "ruqsat_decision_seconds", "Time to decide, journal included", labels=["listener"]
        )
        for listener, timings in self._latency.items():
            latency.add_metric([listener], timings.buckets(), timings.total)
        yield latency
        sync = self.journal_sync
        yield HistogramMetricFamily(
            "ruqsat_journal_sync_seconds", "One write and fdatasync of a group of entries", sync.buckets(), sync.total
        )
        for name, text, timings in self._histograms:
            yield HistogramMetricFamily(name, text, timings.buckets(), timings.total)
        for family, name, text, read in self._watched:
            yield family(name, text, value=float(read()))
