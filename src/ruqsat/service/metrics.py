"""What operators watch: decisions by reason, time taken, journal syncs, cache, lease.  Labels are closed lists."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Read = Callable[[], float]

_LATENCY = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 1.0)
_SYNC = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1.0)


class Metrics:
    """The process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._decisions = Counter(
            "ruqsat_decisions", "Decisions by listener and exact reason", ["listener", "reason"], registry=self.registry
        )
        self._latency = Histogram(
            "ruqsat_decision_seconds", "From the decoded request to the answer, journal included", ["listener"],
            buckets=_LATENCY, registry=self.registry,
        )  # fmt: skip
        self.journal_sync = Histogram(
            "ruqsat_journal_sync_seconds", "One write and fdatasync of a group of entries", buckets=_SYNC,
            registry=self.registry,
        )  # fmt: skip
        self.unjournaled = Counter(
            "ruqsat_unjournaled_refusals", "Refusals whose entry could not be written", registry=self.registry
        )
        # Looking a child up by label costs more than counting; the hot path keeps the bound methods.
        self._count: dict[tuple[str, str], Callable[[], None]] = {}
        self._observe: dict[str, Callable[[float], None]] = {}

    def decided(self, listener: str, reason: str, seconds: float) -> None:
        """Count one decision."""
        key = (listener, reason)
        inc = self._count.get(key)
        if inc is None:
            inc = self._count[key] = self._decisions.labels(listener, reason).inc
            self._observe[listener] = self._latency.labels(listener).observe
        inc()
        self._observe[listener](seconds)

    def gauge(self, name: str, text: str, read: Read) -> None:
        """Show what *read* returns at each scrape."""
        self.registry.register(_Watched(GaugeMetricFamily, name, text, read))

    def counter(self, name: str, text: str, read: Read) -> None:
        """Show a count that is kept elsewhere; *read* is asked at each scrape."""
        self.registry.register(_Watched(CounterMetricFamily, name, text, read))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _Watched(Collector):
    """One value read at each scrape."""

    def __init__(
        self, family: type[GaugeMetricFamily] | type[CounterMetricFamily], name: str, text: str, read: Read
    ) -> None:
        self._family, self._name, self._text, self._read = family, name, text, read

    def collect(self) -> Iterable[Metric]:
        """Yield the value of this moment."""
        yield self._family(self._name, self._text, value=float(self._read()))
