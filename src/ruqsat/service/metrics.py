"""What operators watch: decisions by reason, time taken, journal syncs, cache, lease.  Labels are closed lists."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        self._count: dict[tuple[str, str], object] = {}
        self._observe: dict[str, object] = {}

    def decided(self, listener: str, reason: str, seconds: float) -> None:
        """Count one decision."""
        key = (listener, reason)
        inc = self._count.get(key)
        if inc is None:
            inc = self._count[key] = self._decisions.labels(listener, reason).inc
            self._observe[listener] = self._latency.labels(listener).observe
        inc()  # type: ignore[operator]
        self._observe[listener](seconds)  # type: ignore[operator]

    def gauge(self, name: str, text: str, read: object) -> None:
        """Show what *read* returns at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(read)  # type: ignore[arg-type]

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
