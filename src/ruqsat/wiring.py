"""The only module that knows every concrete class: it builds the process."""

import asyncio
import gc
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from ruqsat.core.admission import WORLD, Changes
from ruqsat.core.cases import read_world
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.projection import project_world
from ruqsat.core.registered import KINDS
from ruqsat.core.stated import check_stored
from ruqsat.core.verdict import Verdict
from ruqsat.core.working_days import WorkingDays, read_overrides
from ruqsat.duties import begin_duties
from ruqsat.errors import PolicyError, SettingsError, StoreUnavailableError
from ruqsat.fhir_lookups import open_lookups
from ruqsat.listening import find_doors, naming
from ruqsat.policy_following import PolicyFromDatabase
from ruqsat.process_state import ProcessState
from ruqsat.rehearsal import TEST_FIXTURES, Rehearsal, build_json_for_tests, build_stage
from ruqsat.service.administration_point import AdministrationPoint, InForce, PolicySource
from ruqsat.service.barrier import Barrier
from ruqsat.service.block_registry import BlockRegistry
from ruqsat.service.break_glass import BreakGlass
from ruqsat.service.care_registry import CareRegistry
from ruqsat.service.clock import ServerClock
from ruqsat.service.consent_registry import ConsentRegistry
from ruqsat.service.consent_signatures import SECONDS as CONSENT_SECONDS
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.flight import keep_running
from ruqsat.service.freshness import Freshness
from ruqsat.service.freshness_metrics import watch_freshness
from ruqsat.service.information_point import InformationPoint, Limits
from ruqsat.service.journal_views import JournalViews
from ruqsat.service.metrics import Metrics
from ruqsat.service.outcomes import Outcomes
from ruqsat.service.proceeding_clock import ProceedingClock
from ruqsat.service.proceeding_registry import ProceedingRegistry
from ruqsat.service.recall import Recall
from ruqsat.service.record_registry import RecordRegistry
from ruqsat.service.record_seal import RecordSeal, read_record_key
from ruqsat.service.search import Search
from ruqsat.service.sharing import Sharing
from ruqsat.service.signatures import SignatureVerifier
from ruqsat.service.verifications import Verifications
from ruqsat.settings import Settings
from ruqsat.signatures.cms_verifier import CmsVerifier
from ruqsat.signatures.plug_in import load_plug_in
from ruqsat.signatures.trust import RevocationLists, Trust, load_trust
from ruqsat.stores.journal_folder import refuse_lost_changes
from ruqsat.stores.journal_key import load_signing_key
from ruqsat.stores.journal_receipts import JournalReceipts
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.policy_examiner import examine_in_child
from ruqsat.stores.policy_folder import find_pack
from ruqsat.stores.policy_releases import Releases
from ruqsat.stores.policy_sources import FolderSource, LastGood, ReleaseSource
from ruqsat.stores.proceeding_store import BATCH, ProceedingStore
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import is_postgres
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_views import SqlJournalViews
from ruqsat.web.control import Registries, build_control
from ruqsat.web.follow_ups import FollowUps
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.listeners import Companion, Listener, Tls

if TYPE_CHECKING:
    from ruqsat.stores.redis import RedisSharing

_log = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)
"""A decision makes a few dozen short-lived objects and no cycles."""


STARTING_PROBES = 5
"""How often the store is asked at the start, before the start is given up."""


class Process(Struct, frozen=True):
    """A built process: its listeners, and what others may want to look at."""

    listeners: tuple[Listener, ...]
    administration: AdministrationPoint
    information: InformationPoint
    begin_drain: Callable[[], None]
    look_again: Callable[[], object]
    companions: tuple[Companion, ...] = ()


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
    doors, seal, signatures = find_doors(settings, rehearsal), record_seal(settings), _signatures(settings)
    url = settings.database_url.get_secret_value()
    metrics, clock = Metrics(), ServerClock()
    own = None if settings.policy_source == "database" else await _open_policy(settings, policy_source(settings))
    async with AsyncExitStack() as stack:
        doors.keep_keys_fresh(stack)
        with naming("RUQSAT_DATABASE_URL"):
            store = await SqlStore.open(url)
        stack.push_async_callback(store.aclose)
        lease = _share(store, clock, settings, is_alone=not is_postgres(url))
        journal = await _start_journal(settings, metrics, stack)
        freshness = Freshness(
            store.token_key, lease_for=lease,
            follows_policy=settings.policy_source == "database",
        )  # fmt: skip
        limits = Limits(subjects=settings.cache_entries, patients=settings.cache_entries)
        sharing, redis = None, _redis(settings, store.token_key)
        released = PolicyFromDatabase(store, redis, freshness, clock) if freshness.follows_policy else None
        if redis is not None:
            sharing = Sharing(freshness, clock, redis.hints, redis.copy)
            hear = sharing.hear if released is None else partial(released.hear, sharing.hear)
            stack.push_async_callback(redis.start(hear).aclose)
        administration = own or await _open_policy(settings, released.source if released else policy_source(settings))
        in_force = administration.in_force
        policy_set, routes = in_force.pack.policy_set, in_force.pack.routes
        information = InformationPoint(
            store, freshness, clock, limits=limits, sharing=sharing, max_stale=_max_stale(settings)
        )
        stack.push_async_callback(information.aclose)
        await _begin_lease(information, settings)
        if rehearsal is not None:
            _log.warning("test_fixtures_are_on people_on_record=%s %s", not await store.is_empty(), TEST_FIXTURES)
        if demo and await store.is_empty():
            await information.record(*_demo_world(in_force.texts, policy_set))
        keep_running(stack, information.probe_forever(int(settings.probe_seconds * SECOND)))
        stage = build_stage(clock) if rehearsal is not None else None
        decides, present = (Recall(), clock) if stage is None else (stage.decide, stage)
        decision_point = DecisionPoint(
            policy_set, information, freshness, journal, present, metrics, decides,
            replayable=settings.journal_replayable and stage is None,
        )  # fmt: skip
        decision_point.begin(in_force.release)
        auth = doors.forward_auth(
            decision_point, routes, policy_set, signatures, present, open_lookups(settings, routes, metrics, stack)
        )
        administration.adopt = partial(_put_in_force, decision_point, auth)
        look_at_policy = await _watch_policy(stack, settings, administration, information, released)
        barrier = Barrier(
            store, is_alone=not is_postgres(url), lease=lease, boottime=clock.boottime,
            position=lambda: information.newest, known_since=lambda: information.known_since,
        )  # fmt: skip
        state = ProcessState(settings, administration, information, journal, clock, rehearsal)
        state.redis, state.sharing, state.load, state.keys = redis, sharing, doors.load, doors.awaited_keys
        state.follower, state.duties = (
            released.follower if released else None,
            begin_duties(
                stack,
                settings,
                store,
                journal,
                seal,
                lambda: decision_point.policy_set.vocabulary.switches,
                clock.stamp,
            ),
        )
        state.watch(metrics)
        watch_freshness(metrics, freshness, information, barrier)
        about: dict[str, Any] = {
            "vocabulary": lambda: decision_point.policy_set.vocabulary,
            "token": lambda: freshness.issue_token(information.newest),
            "now": clock.stamp if stage is None else lambda: stage.now().lo,
        }
        registries = _registries(
            store, information, seal, about, _bounded(signatures),
            (
                _looking(stack, BreakGlass(store, information, seal, **about, tell=decision_point.record)),
                keep_proceedings(stack, store, information, seal, working_days(settings), about),
                JournalViews(
                    SqlJournalViews(store), information, store.token_key,
                    lambda: decision_point.policy_set, about["now"], JournalReceipts(settings.journal_dir),
                ),
            ), barrier,
        )  # fmt: skip
        search = Search(
            decision_point, store, information, clock, token_key=store.token_key,
            per_minute=settings.search_candidates_per_minute,
        )  # fmt: skip
        apps = {
            "json": doors.authzen(decision_point, search, _follow_ups(decision_point, store, settings, about["now"]))
            if stage is None or rehearsal is None
            else build_json_for_tests(decision_point, stage, information, freshness, administration, rehearsal),
            "auth": auth,
            "control": doors.guarded(
                build_control(decision_point, registries, doors.verifier, metrics, state.status, state.readiness)
            ),
        }
        _settle_garbage()
        yield Process(
            doors.listeners(apps),
            administration,
            information,
            state.begin_drain,
            partial(_look_again, doors.tls, look_at_policy),
            doors.companions(auth),
        )


async def _begin_lease(information: InformationPoint, settings: Settings) -> None:
    """
    Hear from the store before anybody asks; a machine that is busy with starting may take more than one attempt.

    Raises:
        SettingsError: the store lacks changes that the journal knew of.
        StoreUnavailableError: the store did not answer.
    """
    for left in reversed(range(STARTING_PROBES)):
        try:
            await information.probe_once()
        except StoreUnavailableError:
            if not left:
                raise
        else:
            break
    with naming("RUQSAT_DATABASE_URL"):
        await asyncio.to_thread(refuse_lost_changes, settings.journal_dir, information.position)


def _looking(stack: AsyncExitStack, sessions: BreakGlass) -> BreakGlass:
    """Begin to look for overdue reviews, until *stack* is left; return *sessions*."""
    keep_running(stack, sessions.look_forever())
    return sessions


def _follow_ups(
    decision_point: DecisionPoint, store: SqlStore, settings: Settings, now: Callable[[], Instant]
) -> FollowUps:
    """Begin to remember whose permits were given, and return what takes their outcomes."""
    outcomes = Outcomes(decision_point, SqlJournalViews(store), now)
    decision_point.on_permit = outcomes.remember
    return FollowUps(outcomes, JournalReceipts(settings.journal_dir), decision_point.record, now)


def _settle_garbage() -> None:
    """Keep what was built from the garbage collector, as it lives as long as the process, and have it run seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _open_policy(settings: Settings, source: PolicySource) -> AdministrationPoint:
    """Admit the policy to begin with: before anything else is touched, unless it comes from the database."""
    administration = AdministrationPoint(source, LastGood(settings.policy_dir), partial(examine, settings))
    await administration.open()
    return administration


def _look_again(tls: Tls | None, look_at_policy: Callable[[], object]) -> None:
    if tls is not None:
        tls.renew()
    look_at_policy()


async def _watch_policy(
    stack: AsyncExitStack, settings: Settings, administration: AdministrationPoint, information: InformationPoint,
    released: PolicyFromDatabase | None,
) -> Callable[[], object]:  # fmt: skip
    """Begin to watch where the policy comes from; return what looks there at once."""
    if released is not None:
        follower = released.follow(administration, information)
        stack.push_async_callback(follower.aclose)
        with suppress(StoreUnavailableError):
            await follower.look()  # a start without an answer has no lease; the next probe makes it look again
        keep_running(stack, follower.forever())
        return follower.look_again
    if settings.policy_poll_seconds:
        keep_running(stack, administration.watch_forever(settings.policy_poll_seconds))
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        task = asyncio.get_running_loop().create_task(administration.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    return reload


def _registries(
    store: SqlStore, information: InformationPoint, seal: RecordSeal | None, about: dict[str, Any],
    signatures: Verifications | None, followed: tuple[BreakGlass, ProceedingRegistry, JournalViews], barrier: Barrier,
) -> Registries:  # fmt: skip
    sessions, proceedings, views = followed
    return Registries(
        ConsentRegistry(store, information, seal, **about, signatures=signatures),
        tuple(RecordRegistry(kind, store, information, seal, **about) for kind in KINDS.values()),
        sessions,
        BlockRegistry(store, information, CareRegistry(information, **about), proceedings),
        proceedings,
        barrier,
        views,
        SqlDuties(store.background()),
    )


def _share(store: SqlStore, clock: ServerClock, settings: Settings, *, is_alone: bool) -> Instant:
    """Take the database's clock for ours, and tell other processes of us where there are any; return the lease."""
    lease = int(settings.lease_seconds * SECOND)
    store.observe_clock = clock.observe
    if not is_alone:
        store.join(lease)
    return lease


def _max_stale(settings: Settings) -> Instant:
    return int(settings.max_stale_seconds * SECOND) if settings.degraded == "last-known" else 0


def _put_in_force(point: DecisionPoint, auth: ForwardAuth | None, found: InForce, changes: Changes) -> None:
    point.put_in_force(found.pack.policy_set, changes, must_apply=found.must_apply, release=found.release)
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
    with naming("RUQSAT_REDIS_URL"):
        return RedisSharing(url, settings.redis_namespace, token_key, encrypt=settings.redis_encrypt)


async def _start_journal(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> DurableJournal | LossyJournal:
    journal = await asyncio.to_thread(_open_journal, settings)
    stack.push_async_callback(journal.aclose)
    journal.sync_seconds_observer = metrics.journal_sync.observe
    return journal


def _open_journal(settings: Settings) -> DurableJournal | LossyJournal:
    if settings.journal == "lossy":
        return LossyJournal.open(settings.journal_dir)
    key = None
    if settings.journal_key_file is not None and settings.journal_name is not None:
        with naming("RUQSAT_JOURNAL_KEY_FILE"):
            key = load_signing_key(settings.journal_key_file, settings.journal_name)
    return DurableJournal.open(
        settings.journal_dir, key=key, checkpoint_seconds=settings.journal_checkpoint_seconds,
        reserve_bytes=settings.journal_reserve_bytes,
    )  # fmt: skip


def record_seal(settings: Settings) -> RecordSeal | None:
    """
    Return the seal of the records, which opens under the key before too; None where no key is set.

    Raises:
        SettingsError: a key is none.
    """
    key, before = settings.record_key_bytes(), settings.record_key_previous_bytes()
    if key is None:
        return None
    with naming("RUQSAT_RECORD_KEY" if settings.record_key is not None else "RUQSAT_RECORD_KEY_FILE"):
        newest = read_record_key(key)
    with naming("RUQSAT_RECORD_KEY_PREVIOUS"):
        return RecordSeal(newest) if before is None else RecordSeal(newest, read_record_key(before))


def _bounded(verifier: SignatureVerifier | None) -> Verifications | None:
    return None if verifier is None else Verifications(verifier, CONSENT_SECONDS)


def working_days(settings: Settings) -> WorkingDays:
    """
    Return the calendar that terms are counted by.

    Raises:
        SettingsError: the file of reviewed days cannot be read.
    """
    if settings.working_days is None:
        return WorkingDays()
    try:
        return read_overrides(settings.working_days.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"RUQSAT_WORKING_DAYS cannot be used: {error}") from error


def keep_proceedings(
    stack: AsyncExitStack, store: SqlStore, information: InformationPoint, seal: RecordSeal | None,
    calendar: WorkingDays, about: Mapping[str, Any],
) -> ProceedingRegistry:  # fmt: skip
    """Begin the clock of the proceedings, and return their registry."""
    kept = ProceedingStore(store)
    registry = ProceedingRegistry(kept, store, information, seal, calendar, **about)
    clock = ProceedingClock(kept, registry.hour, enough=BATCH)
    keep_running(stack, clock.forever())
    return registry


def _signatures(settings: Settings) -> SignatureVerifier | None:
    if settings.signature_trust is None and settings.signature_plugin is None:
        return None
    trust, revoked, plug_in = Trust(), None, None
    if settings.signature_trust is not None:
        with naming("RUQSAT_SIGNATURE_TRUST"):
            trust = load_trust(settings.signature_trust)
    if settings.signature_crls is not None:
        with naming("RUQSAT_SIGNATURE_CRLS"):
            revoked = RevocationLists(settings.signature_crls)
    if settings.signature_plugin is not None:
        with naming("RUQSAT_SIGNATURE_PLUGIN"):
            plug_in = load_plug_in(settings.signature_plugin)
    return CmsVerifier(trust, revoked, plug_in)
