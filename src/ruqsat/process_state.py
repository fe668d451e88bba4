"""What `/status`, readiness and the metrics show of a process."""

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from ruqsat import __version__
from ruqsat.core.instant import SECOND
from ruqsat.rehearsal import TEST_FIXTURES, Rehearsal
from ruqsat.service.administration_point import AdministrationPoint
from ruqsat.service.clock import SystemClock
from ruqsat.service.degraded import served
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics
from ruqsat.service.policy_follower import PolicyFollower
from ruqsat.service.sharing import SHARED_COUNTERS, Sharing
from ruqsat.settings import Settings
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.web.load import Load
from ruqsat.web.token_keys import PublishedKeys

if TYPE_CHECKING:
    from ruqsat.duties import Duties
    from ruqsat.stores.redis import RedisSharing


class ProcessState:
    """Reads the parts of a process whenever somebody looks."""

    def __init__(
        self, settings: Settings, administration: AdministrationPoint, information: InformationPoint,
        journal: DurableJournal | LossyJournal, clock: SystemClock, rehearsal: Rehearsal | None,
    ) -> None:  # fmt: skip
        self._settings, self._administration, self._information = settings, administration, information
        self._journal, self._clock, self._rehearsal = journal, clock, rehearsal
        self.redis: RedisSharing | None = None
        self.sharing: Sharing | None = None
        self.follower: PolicyFollower | None = None
        self.duties: Duties | None = None
        self.load = Load()
        self.keys: PublishedKeys | None = None
        self._draining = False

    def begin_drain(self) -> None:
        """Turn readiness off, since the process is about to stop."""
        self._draining = True

    def not_ready_because(self) -> list[str]:
        """Return why the process should get no traffic; empty if it should."""
        reasons = []
        if not (self._information.has_lease() or self._information.is_degraded):
            reasons.append("no lease: the store has not answered lately")
        if self.follower is not None and self.follower.denies:
            reasons.append("the policy set that must apply is not in force here")
        if not self._journal.healthy:
            reasons.append(f"the journal cannot be written: {self._journal.trouble}")
        elif self._journal.is_hanging:
            reasons.append("the journal waits for its disk, which does not answer")
        if self.keys is not None and not self.keys.are_known:
            reasons.append("no keys of the token issuer: no bearer token can be verified")
        if self._draining:
            reasons.append("draining")
        return reasons

    def readiness(self) -> dict[str, Any]:
        """Return what readiness says; with ``reasons`` it is not ready."""
        reasons = self.not_ready_because()
        ready = "ready" if self._rehearsal is None else "ready for tests only"
        if self._information.is_degraded:
            ready = "degraded"
        said: dict[str, Any] = {"status": "not ready", "reasons": reasons}
        if not reasons:
            said = {"status": ready, "serves": list(self._served())}
        return said if self._rehearsal is None else said | {"test_fixtures": True, "warning": TEST_FIXTURES}

    def _served(self) -> tuple[str, ...]:
        """Return the legal bases on which there are permits at this moment."""
        vocabulary = self._administration.in_force.pack.policy_set.vocabulary
        return served(vocabulary) if self._information.is_degraded else tuple(vocabulary.bases)

    def status(self) -> dict[str, Any]:
        """Return what is in force and how fresh it is."""
        position = self._information.position
        return {
            "version": __version__,
            **self._administration.status(),
            "policy_release": self.follower.status() if self.follower is not None else None,
            "epoch": position.epoch,
            "applied": position.seq,
            "lease_age_seconds": age if math.isfinite(age := self._lease_age()) else None,
            "journal": {"mode": self._settings.journal, **self._journal.status()},
            "cache": {"hits": self._information.hits, "misses": self._information.misses,
                      "fills": self._information.fills, "forgotten": self._information.forgotten},
            "redis": self._shared(),
            "duties": self.duties.status() if self.duties is not None else None,
            "degraded": {"mode": self._settings.degraded, "now": self._information.is_degraded,
                         "max_stale_seconds": self._settings.max_stale_seconds},
            "not_ready_because": self.not_ready_because(),
            "test_fixtures": self._rehearsal is not None,
            "decides": "stock pycasbin" if self._rehearsal and self._rehearsal.oracle else "compiled rules",
        }  # fmt: skip

    def _shared(self) -> dict[str, Any] | None:
        redis, sharing = self.redis, self.sharing
        if redis is None or sharing is None:
            return None
        return redis.status() | {name: getattr(sharing, name) for name in (*SHARED_COUNTERS, "distrusts_copies")}

    def _watch_shared(self, metrics: Metrics) -> None:
        redis, sharing = self.redis, self.sharing
        if redis is None or sharing is None:
            return
        copy, hints = redis.copy, redis.hints
        metrics.gauge("ruqsat_redis_hints_heard", "1 while hints can be heard", lambda: hints.is_heard)
        metrics.gauge("ruqsat_redis_breaker_open", "1 while copies are left alone", lambda: copy.breaker.is_open)
        metrics.counter("ruqsat_redis_breaker_opened", "Times the breaker opened", lambda: copy.breaker.opened)
        metrics.gauge("ruqsat_copies_distrusted", "1 if the database went back", lambda: sharing.distrusts_copies)
        for name in hints.counters:
            metrics.counter(f"ruqsat_redis_hints_{name}", f"Hints: {name}", partial(getattr, hints, name))
        for name in copy.counters:
            metrics.counter(f"ruqsat_redis_copies_{name}", f"Copies: {name}", partial(getattr, copy, name))
        for name in redis.packs.counters:
            metrics.counter(f"ruqsat_redis_packs_{name}", f"Policy packs: {name}", partial(getattr, redis.packs, name))
        for name, text in SHARED_COUNTERS.items():
            metrics.counter(f"ruqsat_shared_{name}", text, partial(getattr, sharing, name))

    def _watch_releases(self, metrics: Metrics) -> None:
        follower = self.follower
        if follower is None:
            return
        metrics.gauge("ruqsat_policy_generation", "Newest activation known", lambda: follower.standing.generation)
        metrics.gauge("ruqsat_policy_behind", "1 while the active release is not in force", lambda: follower.is_behind)
        metrics.counter("ruqsat_policy_copies_poisoned", "Sealed copies that were no pack", lambda: follower.poisoned)
        metrics.gauge("ruqsat_policy_denies", "1 while a set that must apply is not in force", lambda: follower.denies)

    def watch(self, metrics: Metrics) -> None:
        """Let the metrics read the process at each scrape."""
        self._watch_releases(metrics)
        self._watch_shared(metrics)
        if self.duties is not None:
            self.duties.watch(metrics)
        information, journal = self._information, self._journal
        metrics.gauge("ruqsat_lease_age_seconds", "Since the last successful probe was sent", self._lease_age)
        metrics.gauge("ruqsat_ready", "1 if the process should get traffic", lambda: not self.not_ready_because())
        metrics.gauge("ruqsat_degraded", "1 while last known facts decide", lambda: information.is_degraded)
        metrics.gauge("ruqsat_applied_position", "Newest change known", lambda: information.position.seq)
        for name in ("hits", "misses", "fills", "forgotten"):
            metrics.counter(f"ruqsat_cache_{name}", f"Fact cache: {name}", partial(getattr, information, name))
        metrics.gauge("ruqsat_test_fixtures", "1 if test fixtures are on", lambda: self._rehearsal is not None)
        policy = self._administration
        metrics.gauge("ruqsat_policy_refused", "1 while the pack at hand is refused", lambda: bool(policy.refused))
        metrics.counter("ruqsat_policy_reloads", "Packs put in force since the start", lambda: policy.reloads)
        metrics.counter("ruqsat_journal_entries", "Entries appended", lambda: journal.entries)
        metrics.counter("ruqsat_journal_groups", "Groups written and synced", lambda: journal.groups)
        metrics.counter("ruqsat_journal_in_reserve", "Emergencies kept in the reserve", lambda: journal.in_reserve)
        metrics.gauge("ruqsat_journal_reserve_ready", "1 if the reserve is whole", lambda: journal.has_reserve)
        metrics.gauge("ruqsat_journal_hanging", "1 while its disk does not answer", lambda: journal.is_hanging)
        metrics.gauge("ruqsat_requests_under_way", "Requests being decided", lambda: self.load.now)
        metrics.gauge("ruqsat_requests_waiting", "Requests that wait for a place", lambda: self.load.waiting)
        metrics.counter("ruqsat_requests_shed", "Requests turned away: too many at once", lambda: self.load.shed)
        metrics.counter("ruqsat_probes_failed", "Probes without an answer", lambda: information.failed_probes)

    def _lease_age(self) -> float:
        age = self._information.lease_age(self._clock.boottime())
        return float("inf") if age is None else age / SECOND
