"""Every quantity of the freshness protocol, as operators see it; `docs/operations.md` has a line on each."""

from collections.abc import Callable
from functools import partial

from ruqsat.service.barrier import Barrier
from ruqsat.service.freshness import Freshness, ProbeNews
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics

PROBES: dict[ProbeNews, str] = {
    "learned": "Probes that told all there was to know",
    "forgot": "Probes after which everything was forgotten: another epoch, or too many changes at once",
    "went-back": "Probes that found changes lost which were known here: an alarm",
    "outdated": "Probes whose answer came too late to be taken in",
}
_BARRIERS = {
    "acknowledged": "Changes that every process said it has",
    "by_lease": "Changes that were in force everywhere because a lease had passed",
    "history_changed": "Changes whose history was lost while they waited",
}


def watch_freshness(metrics: Metrics, freshness: Freshness, information: InformationPoint, barrier: Barrier) -> None:
    """Let *metrics* read the protocol's state at each scrape."""
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "window_position": ("What was read before this change is unusable", lambda: freshness.win),
        "newest_position": ("Newest change known, gaps before it or not", lambda: freshness.newest.seq),
        "recent_keys": ("Keys whose last change is remembered", lambda: len(freshness.recent)),
        "early_changes": ("Changes known ahead of a gap", lambda: freshness.early),
        "hinted_keys": ("Keys that a hint names and no probe has settled", lambda: len(freshness.hinted)),
        "era": ("Times that everything known was forgotten", lambda: freshness.era),
    }
    for name, (text, read) in gauges.items():
        metrics.gauge(f"ruqsat_freshness_{name}", text, read)
    for news, text in PROBES.items():
        metrics.counter(f"ruqsat_probes_{news.replace('-', '_')}", text, partial(information.probes.__getitem__, news))
    metrics.gauge("ruqsat_barrier_waiting", "Changes that wait to be in force everywhere", lambda: barrier.waiting)
    metrics.gauge("ruqsat_barrier_others", "Other processes, at the last look", lambda: barrier.others)
    metrics.gauge("ruqsat_barrier_believes", "0 for a lease after a failover or a start", lambda: barrier.believes)
    for name, text in _BARRIERS.items():
        metrics.counter(f"ruqsat_barrier_{name}", text, partial(getattr, barrier, name))
    metrics.histogram("ruqsat_barrier_seconds", "From a commit to its being in force everywhere", barrier.waited)
