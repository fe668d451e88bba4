"""The only module that knows every concrete class: it builds the process."""

import asyncio
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ruqsat.core.admission import WORLD, Changes
from ruqsat.core.cases import read_world
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import SECOND
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.registered import KINDS
from ruqsat.core.stated import check_stored
from ruqsat.core.verdict import Verdict
from ruqsat.core.world import project_world
from ruqsat.errors import PolicyError, SettingsError
from ruqsat.process_state import ProcessState
from ruqsat.rehearsal import TEST_FIXTURES, Rehearsal, build_json_for_tests, build_stage
from ruqsat.service.administration_point import AdministrationPoint, InForce
from ruqsat.service.clock import ServerClock, SystemClock
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint, Limits
from ruqsat.service.metrics import Metrics
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.service.record_seal import RecordSeal, read_record_key
from ruqsat.service.search import Search
from ruqsat.service.sharing import Sharing
from ruqsat.settings import BLOCKING_DUTIES, Settings
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.policy_examiner import examine_in_child
from ruqsat.stores.policy_releases import Releases
from ruqsat.stores.policy_sources import FolderSource, LastGood, ReleaseSource
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import is_postgres
from ruqsat.web.authzen import AuthZen, build_metadata
from ruqsat.web.control import build_control
from ruqsat.web.enforcement_points import Door, EnforcementPoints, Guarded, read_points
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.listeners import Companion, Listen, Listener, Tls, is_local, parse_listen
from ruqsat.web.token_keys import OneKey, PublishedKeys, fetch_document

if TYPE_CHECKING:
    from ruqsat.stores.redis import RedisSharing

_log = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)
"""A decision makes a few dozen short-lived objects and no cycles."""


class Process(Struct, frozen=True):
    """A built process: its listeners, and what others may want to look at."""

    listeners: tuple[Listener, ...]
    administration: AdministrationPoint
    information: InformationPoint
    begin_drain: Callable[[], None]
    companions: tuple[Companion, ...] = ()


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
    points, tls, seal = _enforcement_points(settings, rehearsal), _tls(settings), _seal(settings)
    url = settings.database_url.get_secret_value()
    metrics, clock = Metrics(), ServerClock() if is_postgres(url) else SystemClock()
    administration = AdministrationPoint(
        policy_source(settings), LastGood(settings.policy_dir), partial(examine, settings)
    )
    in_force = await administration.open()
    policy_set, routes = in_force.pack.policy_set, in_force.pack.routes
    async with AsyncExitStack() as stack:
        verifier = _verifier(settings, stack)
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
        stage = build_stage(clock) if rehearsal is not None else None
        decides, present = (evaluate, clock) if stage is None else (stage.decide, stage)
        decision_point = DecisionPoint(policy_set, information, freshness, journal, present, metrics, decides)
        decision_point.begin()
        auth = (
            ForwardAuth(decision_point, verifier, routes, policy_set, points.door("auth"))
            if verifier is not None
            else None
        )
        administration.adopt = partial(_put_in_force, decision_point, auth)
        if settings.policy_poll_seconds:
            watching = administration.watch_forever(settings.policy_poll_seconds)
            stack.push_async_callback(_cancelled, _started(watching))
        state = ProcessState(settings, administration, information, journal, clock, rehearsal)
        state.redis, state.sharing = redis, sharing
        state.watch(metrics)
        about: dict[str, Any] = {
            "vocabulary": lambda: decision_point.policy_set.vocabulary,
            "token": lambda: freshness.issue_token(information.position),
            "now": clock.stamp if stage is None else lambda: stage.now().lo,
        }
        registry = ConsentRegistry(store, information, seal, **about)
        apps = {
            "json": _json_app(
                settings, points, decision_point,
                Search(
                    decision_point, store, information, clock,
                    token_key=store.token_key, per_minute=settings.search_candidates_per_minute,
                ),
            )
            if stage is None or rehearsal is None
            else build_json_for_tests(decision_point, stage, information, freshness, administration, rehearsal),
            "auth": auth,
            "control": Guarded(
                build_control(
                    decision_point, registry, verifier, metrics, state.status, state.readiness,
                    [RecordRegistry(kind, store, information, seal, **about) for kind in KINDS.values()],
                ),
                points.door("control"),
            ),
        }  # fmt: skip
        # What was built lives as long as the process: the collector need not look at it again, nor often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        yield Process(
            tuple(
                Listener(name, listen, app, tls)
                for name, app in apps.items()
                if app is not None and (listen := parse_listen(getattr(settings, f"{name}_listen"))) is not None
            ),
            administration,
            information,
            state.begin_drain,
            _companions(settings, auth, points, tls),
        )


def _json_app(settings: Settings, points: EnforcementPoints, decision_point: DecisionPoint, search: Search) -> AuthZen:
    opened = Door.opened(
        explain=settings.json_explain, capabilities=settings.json_capabilities, search=settings.json_search
    )
    door = points.door("json", opened)
    public = settings.public_url
    metadata = None if public is None else build_metadata(public, search=door.lets_search)
    return AuthZen(decision_point, door, metadata, search)


def _companions(
    settings: Settings, auth: ForwardAuth | None, points: EnforcementPoints, tls: Tls | None
) -> tuple[Companion, ...]:
    listen = parse_listen(settings.grpc_listen)
    if listen is None or auth is None:
        return ()
    try:
        from ruqsat.web.ext_authz import GrpcListener  # noqa: PLC0415 - an extra of the package
    except ImportError as error:
        raise SettingsError("RUQSAT_GRPC_LISTEN: needs `pip install 'ruqsat[grpc]'`, or `off`") from error
    return (GrpcListener(listen, auth, points.door("grpc"), tls),)


def _put_in_force(point: DecisionPoint, auth: ForwardAuth | None, found: InForce, changes: Changes) -> None:
    point.put_in_force(found.pack.policy_set, changes)
    if auth is not None:
        auth.put_in_force(found.pack)


def _demo_world(
    texts: dict[str, bytes], policy_set: PolicySet
) -> tuple[tuple[SubjectFacts, ...], tuple[PatientFacts, ...]]:
    try:
        world = read_world(texts, WORLD)
        check_stored(world, policy_set.vocabulary)
        return project_world(world, policy_set.vocabulary.switches)
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


def _verifier(settings: Settings, stack: AsyncExitStack) -> TokenVerifier | None:
    """Return what verifies tokens; published keys are kept fresh until *stack* is left."""
    if settings.token_issuer is None or settings.token_audience is None:
        return None
    if settings.token_jwks_url is not None:
        published = PublishedKeys(partial(fetch_document, settings.token_jwks_url), settings.token_algorithms)
        stack.push_async_callback(_cancelled, _started(published.refresh_forever()))
        return TokenVerifier(settings.token_issuer, settings.token_audience, published)
    key = settings.token_key_bytes()
    with _naming("RUQSAT_TOKEN_KEY" if settings.token_key is not None else "RUQSAT_TOKEN_KEY_FILE"):
        return TokenVerifier(settings.token_issuer, settings.token_audience, OneKey(settings.token_algorithm, key))


def _seal(settings: Settings) -> RecordSeal | None:
    key = settings.record_key_bytes()
    if key is None:
        return None
    with _naming("RUQSAT_RECORD_KEY" if settings.record_key is not None else "RUQSAT_RECORD_KEY_FILE"):
        return RecordSeal(read_record_key(key))


def _enforcement_points(settings: Settings, rehearsal: Rehearsal | None) -> EnforcementPoints:
    """
    Return who may ask where.

    Raises:
        SettingsError: an entry cannot be used, or a listener would answer strangers beyond this machine.
    """
    with _naming("RUQSAT_ENFORCEMENT_POINTS"):
        points = read_points(settings.enforcement_points, BLOCKING_DUTIES)
        if rehearsal is not None and points.is_guarded("json"):
            raise SettingsError("with test fixtures the JSON listener answers whoever reaches it: register none there")
    for name in ("json", "auth", "control", "grpc"):
        with _naming(f"RUQSAT_{name.upper()}_LISTEN"):
            _refuse_strangers(name, parse_listen(getattr(settings, f"{name}_listen")), points, settings.tls_client_ca)
    return points


def _refuse_strangers(name: str, listen: Listen | None, points: EnforcementPoints, client_ca: Path | None) -> None:
    if listen is None:
        return
    if not is_local(listen) and not points.is_guarded(name):
        raise SettingsError(
            f"expected a loopback address or `unix:/path`: no enforcement point is registered for the {name} listener "
            "(RUQSAT_ENFORCEMENT_POINTS), so that whoever reached it would be answered"
        )
    if points.needs_certificates(name) and (client_ca is None or listen.path):
        raise SettingsError("points that prove themselves by certificates need TCP and RUQSAT_TLS_CLIENT_CA")


def _tls(settings: Settings) -> Tls | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        file = getattr(settings, name)
        if file is not None and not file.is_file():
            raise SettingsError(f"RUQSAT_{name.upper()}: there is no such file")
    return Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)


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
