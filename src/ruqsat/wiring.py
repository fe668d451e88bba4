"""The only module that knows every concrete class: it builds the process."""

import asyncio
import gc
import logging
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ruqsat import __version__
from ruqsat.core.admission import WORLD, Changes
from ruqsat.core.cases import read_world
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import SECOND
from ruqsat.core.pack import read_parts, variants_of
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.verdict import Verdict
from ruqsat.core.world import project_world
from ruqsat.errors import PolicyError, SettingsError
from ruqsat.service.administration_point import AdministrationPoint, InForce
from ruqsat.service.clock import ServerClock, SystemClock
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.decision_point import Decide, DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint, Limits
from ruqsat.service.metrics import Metrics
from ruqsat.service.record_seal import RecordSeal, read_record_key
from ruqsat.service.sharing import SHARED_COUNTERS, Sharing
from ruqsat.settings import Settings
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.policy_examiner import examine_in_child
from ruqsat.stores.policy_releases import Releases
from ruqsat.stores.policy_sources import FolderSource, LastGood, ReleaseSource
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import is_postgres
from ruqsat.web.authzen import AuthZen
from ruqsat.web.control import build_control
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.listeners import Listener, is_local, parse_listen

if TYPE_CHECKING:
    from ruqsat.stores.redis import RedisSharing
    from ruqsat.web.fixtures import Decider, FixtureLoader, Stage

_log = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)
"""A decision makes a few dozen short-lived objects and no cycles."""

TEST_FIXTURES = "test fixtures: answers are not about real people"


class Rehearsal(Struct, frozen=True):
    """
    The process is a test's: whoever reaches the JSON listener sets facts, time and switches.

    ``oracle``: stock pycasbin decides (slow, the same answers).
    """

    oracle: bool = False


class Process(Struct, frozen=True):
    """A built process: its listeners, and what others may want to look at."""

    listeners: tuple[Listener, ...]
    administration: AdministrationPoint
    information: InformationPoint
    begin_drain: Callable[[], None]


def find_pack(folder: Path | None) -> Path:
    """Return the folder of the pack in use: the one given, else the checkout's root, else the copy in the wheel."""
    if folder is not None:
        return folder
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    return checkout if (checkout / "model.conf").is_file() else package / "pack"


def policy_source(settings: Settings) -> FolderSource | ReleaseSource:
    """Return where the policy in force comes from."""
    if settings.policy_source == "store":
        return ReleaseSource(releases_of(settings))
    return FolderSource(find_pack(settings.pack))


def releases_of(settings: Settings) -> Releases:
    """Return the releases that these settings name."""
    return Releases(settings.policy_dir / "releases")


async def examine(settings: Settings, texts: Mapping[str, bytes]) -> Verdict:
    """Examine a pack in a process of its own, on a sample that nobody knows beforehand."""
    return await examine_in_child(texts, settings.policy_compare_seconds, secrets.randbelow(1 << 31))


@asynccontextmanager
async def open_process(
    settings: Settings, *, demo: bool = False, rehearsal: Rehearsal | None = None
) -> AsyncIterator[Process]:
    """
    Build the process on the running loop; leaving closes everything in the right order.

    Args:
        demo: Fill an empty database with the pack's synthetic world.
        rehearsal: Let callers of the JSON listener load test fixtures.

    Raises:
        RuqsatError: it cannot be started, and why.
    """
    _refuse_open_listeners(settings)
    verifier, seal = _verifier(settings), _seal(settings)
    url = settings.database_url.get_secret_value()
    metrics, clock = Metrics(), ServerClock() if is_postgres(url) else SystemClock()
    administration = AdministrationPoint(
        policy_source(settings), LastGood(settings.policy_dir), partial(examine, settings)
    )
    in_force = await administration.open()
    policy_set, routes = in_force.pack.policy_set, in_force.pack.routes
    async with AsyncExitStack() as stack:
        with _naming("RUQSAT_DATABASE_URL"):
            store = await SqlStore.open(url)
        stack.push_async_callback(store.aclose)
        if isinstance(clock, ServerClock):
            store.observe_clock = clock.observe
        journal = await asyncio.to_thread(_open_journal, settings)
        stack.push_async_callback(journal.aclose)
        journal.sync_seconds_observer = metrics.journal_sync.observe
        freshness = Freshness(store.token_key, lease_for=int(settings.lease_seconds * SECOND))
        limits = Limits(subjects=settings.cache_entries, patients=settings.cache_entries)
        sharing, redis = None, _redis(settings, store.token_key)
        if redis is not None:
            sharing = Sharing(freshness, clock, redis.hints, redis.copy)
            stack.push_async_callback(redis.start(sharing.hear).aclose)
        information = InformationPoint(store, freshness, clock, limits=limits, sharing=sharing)
        stack.push_async_callback(information.aclose)
        await information.probe_once()
        if rehearsal is not None:
            _log.warning("test_fixtures_are_on people_on_record=%s %s", not await store.is_empty(), TEST_FIXTURES)
        if demo and await store.is_empty():
            await information.record(*_demo_world(in_force.texts, policy_set))
        stack.push_async_callback(_cancelled, _started(information.probe_forever(int(settings.probe_seconds * SECOND))))
        stage = _stage(clock) if rehearsal is not None else None
        decides, present = (evaluate, clock) if stage is None else (stage.decide, stage)
        decision_point = DecisionPoint(policy_set, information, freshness, journal, present, metrics, decides)
        decision_point.begin()
        auth = ForwardAuth(decision_point, verifier, routes, policy_set) if verifier is not None else None
        administration.adopt = partial(_put_in_force, decision_point, auth)
        if settings.policy_poll_seconds:
            watching = administration.watch_forever(settings.policy_poll_seconds)
            stack.push_async_callback(_cancelled, _started(watching))
        state = _State(settings, administration, information, journal, clock, rehearsal)
        state.redis, state.sharing = redis, sharing
        state.watch(metrics)
        registry = ConsentRegistry(
            store, information, seal,
            vocabulary=lambda: decision_point.policy_set.vocabulary,
            token=lambda: freshness.issue_token(information.position),
            now=clock.stamp if stage is None else lambda: stage.now().lo,
        )  # fmt: skip
        apps = {
            "json": AuthZen(decision_point, settings.json_explain, frozenset(settings.json_capabilities))
            if stage is None or rehearsal is None
            else _json_for_tests(decision_point, stage, information, freshness, administration, rehearsal),
            "auth": auth,
            "control": build_control(
                decision_point, registry, verifier, metrics, state.status, state.readiness
            ),
        }  # fmt: skip
        # What was built lives as long as the process: the collector need not look at it again, nor often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        yield Process(
            tuple(
                Listener(name, listen, app)
                for name, app in apps.items()
                if app is not None and (listen := parse_listen(getattr(settings, f"{name}_listen"))) is not None
            ),
            administration,
            information,
            state.begin_drain,
        )


class _State:
    """What `/status`, readiness and the metrics show of the process."""

    def __init__(
        self, settings: Settings, administration: AdministrationPoint, information: InformationPoint,
        journal: DurableJournal | LossyJournal, clock: SystemClock, rehearsal: Rehearsal | None,
    ) -> None:  # fmt: skip
        self._settings, self._administration, self._information = settings, administration, information
        self._journal, self._clock, self._rehearsal = journal, clock, rehearsal
        self.redis: RedisSharing | None = None
        self.sharing: Sharing | None = None
        self._started = time.time()
        self._draining = False

    def begin_drain(self) -> None:
        """Readiness turns off: the process is about to stop."""
        self._draining = True

    def not_ready_because(self) -> list[str]:
        """Return why the process should get no traffic; empty if it should."""
        reasons = []
        if not self._information.has_lease():
            reasons.append("no lease: the store has not answered lately")
        if not self._journal.healthy:
            reasons.append("the journal cannot be written")
        if self._draining:
            reasons.append("draining")
        return reasons

    def readiness(self) -> dict[str, Any]:
        """Return what readiness says; with ``reasons`` it is not ready."""
        reasons = self.not_ready_because()
        ready = "ready" if self._rehearsal is None else "ready for tests only"
        said: dict[str, Any] = {"status": "not ready", "reasons": reasons} if reasons else {"status": ready}
        return said if self._rehearsal is None else said | {"test_fixtures": True, "warning": TEST_FIXTURES}

    def status(self) -> dict[str, Any]:
        """Return what is in force and how fresh it is."""
        position = self._information.position
        return {
            "version": __version__,
            **self._administration.status(),
            "epoch": position.epoch,
            "applied": position.seq,
            "lease_age_seconds": age if math.isfinite(age := self._lease_age()) else None,
            "journal": {"mode": self._settings.journal, "healthy": self._journal.healthy,
                        "entries": self._journal.entries, "groups": self._journal.groups},
            "cache": {"hits": self._information.hits, "misses": self._information.misses,
                      "fills": self._information.fills, "forgotten": self._information.forgotten},
            "redis": self._shared(),
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
        for name, text in SHARED_COUNTERS.items():
            metrics.counter(f"ruqsat_shared_{name}", text, partial(getattr, sharing, name))

    def watch(self, metrics: Metrics) -> None:
        """Let the metrics read the process at each scrape."""
        self._watch_shared(metrics)
        information, journal = self._information, self._journal
        metrics.gauge("ruqsat_lease_age_seconds", "Since the last successful probe was sent", self._lease_age)
        metrics.gauge("ruqsat_ready", "1 if the process should get traffic", lambda: not self.not_ready_because())
        metrics.gauge("ruqsat_applied_position", "Newest change known", lambda: information.position.seq)
        for name in ("hits", "misses", "fills", "forgotten"):
            metrics.counter(f"ruqsat_cache_{name}", f"Fact cache: {name}", partial(getattr, information, name))
        metrics.gauge("ruqsat_test_fixtures", "1 if test fixtures are on", lambda: self._rehearsal is not None)
        policy = self._administration
        metrics.gauge("ruqsat_policy_refused", "1 while the pack at hand is refused", lambda: bool(policy.refused))
        metrics.counter("ruqsat_policy_reloads", "Packs put in force since the start", lambda: policy.reloads)
        metrics.counter("ruqsat_journal_entries", "Entries appended", lambda: journal.entries)
        metrics.counter("ruqsat_journal_groups", "Groups written and synced", lambda: journal.groups)
        metrics.counter("ruqsat_probes_failed", "Probes without an answer", lambda: information.failed_probes)

    def _lease_age(self) -> float:
        age = self._information.lease_age(self._clock.boottime())
        return float("inf") if age is None else age / SECOND


def _stage(clock: SystemClock) -> "Stage":
    from ruqsat.web.fixtures import Stage  # noqa: PLC0415 - not in a process that serves real people

    return Stage(clock, evaluate)


def _json_for_tests(
    decision_point: DecisionPoint, stage: "Stage", information: InformationPoint, freshness: Freshness,
    administration: AdministrationPoint, rehearsal: Rehearsal,
) -> "FixtureLoader":  # fmt: skip
    from ruqsat.web.fixtures import FixtureLoader  # noqa: PLC0415

    duties = decision_point.policy_set.vocabulary.duties
    everything = frozenset(name for name, duty in duties.items() if duty.blocking)
    decider = _deciders(administration, rehearsal)
    stage.set(decider({}).decide, None, store_down=False)
    authzen = AuthZen(decision_point, True, everything)
    return FixtureLoader(authzen, stage, information, decider, freshness.issue_token)


def _deciders(administration: AdministrationPoint, rehearsal: Rehearsal) -> Callable[[Mapping[str, Any]], "Decider"]:
    """Return a function that makes what decides under given switches, by the rules in force."""
    from ruqsat.web.fixtures import Decider  # noqa: PLC0415

    known: dict[tuple[str, str], Decider] = {}

    def decider(switches: Mapping[str, Any]) -> Decider:
        in_force = administration.in_force
        digest = in_force.pack.policy_set.digest
        if (digest, repr(switches)) not in known:
            policy_set = _variant(in_force, switches)
            decide = _oracle(in_force, switches) if rehearsal.oracle else _compiled(policy_set if switches else None)
            known[digest, repr(switches)] = Decider(digest, policy_set.vocabulary.switches, decide)
        return known[digest, repr(switches)]

    return decider


def _variant(in_force: InForce, switches: Mapping[str, Any]) -> PolicySet:
    if not switches:
        return in_force.pack.policy_set
    parts, _ = read_parts(in_force.texts)
    if parts is None:
        raise PolicyError("the pack in force cannot be read again")
    return variants_of(parts)(switches)


def _compiled(variant: PolicySet | None) -> Decide:
    """Return what decides by *variant*, or by the set in force at that time."""
    return evaluate if variant is None else lambda _, *asked: evaluate(variant, *asked)


def _oracle(in_force: InForce, switches: Mapping[str, Any]) -> Decide:
    """Return stock pycasbin as what decides."""
    from ruqsat.casbin.decider import OracleDecider  # noqa: PLC0415

    oracle = OracleDecider(in_force.texts, switches)
    return lambda _, *asked: oracle.decide(*asked)


def _put_in_force(point: DecisionPoint, auth: ForwardAuth | None, found: InForce, changes: Changes) -> None:
    point.put_in_force(found.pack.policy_set, changes)
    if auth is not None:
        auth.put_in_force(found.pack)


def _demo_world(
    texts: dict[str, bytes], policy_set: PolicySet
) -> tuple[tuple[SubjectFacts, ...], tuple[PatientFacts, ...]]:
    try:
        return project_world(read_world(texts, WORLD), policy_set.vocabulary.switches)
    except (ValueError, msgspec.ValidationError) as error:
        raise PolicyError(f"`{WORLD}` cannot be used: {error}") from error


def _redis(settings: Settings, token_key: bytes) -> "RedisSharing | None":
    if settings.redis_url is None:
        return None
    from ruqsat.stores.redis import RedisSharing  # noqa: PLC0415 - not in a process that has no Redis

    url = settings.redis_url.get_secret_value()
    with _naming("RUQSAT_REDIS_URL"):
        return RedisSharing(url, settings.redis_namespace, token_key, encrypt=settings.redis_encrypt)


def _open_journal(settings: Settings) -> DurableJournal | LossyJournal:
    if settings.journal == "lossy":
        return LossyJournal.open(settings.journal_dir)
    return DurableJournal.open(settings.journal_dir)


def _verifier(settings: Settings) -> TokenVerifier | None:
    if settings.token_issuer is None or settings.token_audience is None:
        return None
    key = settings.token_key_bytes()
    with _naming("RUQSAT_TOKEN_KEY" if settings.token_key is not None else "RUQSAT_TOKEN_KEY_FILE"):
        return TokenVerifier(settings.token_issuer, settings.token_audience, settings.token_algorithm, key)


def _seal(settings: Settings) -> RecordSeal | None:
    key = settings.record_key_bytes()
    if key is None:
        return None
    with _naming("RUQSAT_RECORD_KEY" if settings.record_key is not None else "RUQSAT_RECORD_KEY_FILE"):
        return RecordSeal(read_record_key(key))


def _refuse_open_listeners(settings: Settings) -> None:
    for name in ("json", "auth", "control"):
        with _naming(f"RUQSAT_{name.upper()}_LISTEN"):
            listen = parse_listen(getattr(settings, f"{name}_listen"))
        if listen and not is_local(listen):
            raise SettingsError(
                f"RUQSAT_{name.upper()}_LISTEN: expected a loopback address or `unix:/path`; callers of the {name} "
                "listener are not authenticated by this version"
            )


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Say which setting it was, where a deeper layer refuses what it was given."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{setting}: {error}") from error


def _started(work: Any) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(work)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
