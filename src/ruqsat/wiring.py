"""The only module that knows every concrete class: it builds the process."""

import asyncio
import gc
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat import __version__
from ruqsat.core.cases import read_world
from ruqsat.core.diagnostics import Diagnostic, Span, has_errors, render
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.instant import SECOND
from ruqsat.core.pack import load_pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.routes import RouteTable, parse_routes
from ruqsat.core.world import project_world
from ruqsat.errors import PolicyError, SettingsError
from ruqsat.service.clock import SystemClock
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint, Limits
from ruqsat.service.metrics import Metrics
from ruqsat.settings import Settings
from ruqsat.stores.journal_segment import DurableJournal, LossyJournal
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.sql import SqlStore
from ruqsat.web.authzen import AuthZen
from ruqsat.web.control import build_control
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.listeners import Listener, is_local, parse_listen

WORLD = "policies/fixtures/world.toml"
ROUTES = "policies/routes.toml"
GC_THRESHOLDS = (20_000, 20, 50)
"""A decision makes a few dozen short-lived objects and no cycles."""


class Process(Struct, frozen=True):
    """A built process: its listeners, and what others may want to look at."""

    listeners: tuple[Listener, ...]
    policy_set: PolicySet
    information: InformationPoint
    begin_drain: Callable[[], None]


def find_pack(folder: Path | None) -> Path:
    """Return the folder of the pack in use: the one given, else the checkout's root, else the copy in the wheel."""
    if folder is not None:
        return folder
    package = Path(__file__).resolve().parent
    checkout = package.parent.parent
    return checkout if (checkout / "model.conf").is_file() else package / "pack"


def load_policy(folder: Path | None) -> tuple[PolicySet, RouteTable, dict[str, bytes]]:
    """
    Load, check and compile the pack and its routes.

    Raises:
        PolicyError: with every finding, rendered.
    """
    texts = load_texts(find_pack(folder))
    policy_set, findings = load_pack(texts)
    if policy_set is None or has_errors(findings):
        raise PolicyError("the policy set is refused:\n" + "\n".join(map(render, findings)))
    routes, findings = load_routes(texts, policy_set)
    if routes is None:
        raise PolicyError("the routes are refused:\n" + "\n".join(map(render, findings)))
    return policy_set, routes, texts


def load_routes(texts: dict[str, bytes], policy_set: PolicySet) -> tuple[RouteTable | None, list[Diagnostic]]:
    """Read the routes of a pack; None with findings if there are none to use."""
    try:
        return parse_routes(texts[ROUTES].decode(), ROUTES, policy_set.vocabulary)
    except KeyError:
        finding = Diagnostic(Span(ROUTES), "missing-file", "the file is missing", "forward-auth callers need it")
    except UnicodeDecodeError:
        finding = Diagnostic(Span(ROUTES), "not-utf-8", "the file is not UTF-8", "save it as UTF-8")
    return None, [finding]


@asynccontextmanager
async def open_process(settings: Settings, *, demo: bool = False) -> AsyncIterator[Process]:
    """
    Build the process on the running loop; leaving closes everything in the right order.

    Args:
        demo: Fill an empty database with the pack's synthetic world.

    Raises:
        RuqsatError: it cannot be started, and why.
    """
    policy_set, routes, texts = load_policy(settings.pack)
    _refuse_open_listeners(settings)
    verifier = _verifier(settings)
    metrics, clock = Metrics(), SystemClock()
    async with AsyncExitStack() as stack:
        with _naming("RUQSAT_DATABASE_URL"):
            store = await SqlStore.open(settings.database_url)
        stack.push_async_callback(store.aclose)
        journal = await asyncio.to_thread(_open_journal, settings)
        stack.push_async_callback(journal.aclose)
        journal.sync_seconds_observer = metrics.journal_sync.observe
        freshness = Freshness(store.token_key, lease_for=int(settings.lease_seconds * SECOND))
        limits = Limits(subjects=settings.cache_entries, patients=settings.cache_entries)
        information = InformationPoint(store, freshness, clock, limits=limits)
        stack.push_async_callback(information.aclose)
        await information.probe_once()
        if demo and await store.is_empty():
            await information.record(*_demo_world(texts, policy_set))
        stack.push_async_callback(_cancelled, _started(information.probe_forever(int(settings.probe_seconds * SECOND))))
        decision_point = DecisionPoint(policy_set, information, freshness, journal, clock, metrics)
        state = _State(settings, policy_set, information, journal, clock)
        state.watch(metrics)
        apps = {
            "json": AuthZen(decision_point, settings.json_explain, frozenset(settings.json_capabilities)),
            "auth": ForwardAuth(decision_point, verifier, routes) if verifier is not None else None,
            "control": build_control(
                decision_point, _Registry(store, information, freshness), verifier, metrics, state.status,
                state.not_ready_because, lambda: clock.now().hi,
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
            policy_set,
            information,
            state.begin_drain,
        )


class _Registry:
    """The store as the control API needs it: every change passes the information point."""

    def __init__(self, store: SqlStore, information: InformationPoint, freshness: Freshness) -> None:
        self.find_patient_of = store.find_consent
        self.change_patient = information.change_patient
        self._information, self._freshness = information, freshness

    def token(self) -> str:
        """Return the consistency token of what is known now."""
        return self._freshness.issue_token(self._information.position)


class _State:
    """What `/status`, readiness and the metrics show of the process."""

    def __init__(
        self, settings: Settings, policy_set: PolicySet, information: InformationPoint,
        journal: DurableJournal | LossyJournal, clock: SystemClock,
    ) -> None:  # fmt: skip
        self._settings, self._policy_set, self._information = settings, policy_set, information
        self._journal, self._clock = journal, clock
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

    def status(self) -> dict[str, Any]:
        """Return what is in force and how fresh it is."""
        position = self._information.position
        return {
            "version": __version__,
            "policy": self._policy_set.digest,
            "rules": len(self._policy_set.rules),
            "switches": msgspec.to_builtins(self._policy_set.vocabulary.switches),
            "epoch": position.epoch,
            "applied": position.seq,
            "lease_age_seconds": age if math.isfinite(age := self._lease_age()) else None,
            "journal": {"mode": self._settings.journal, "healthy": self._journal.healthy,
                        "entries": self._journal.entries, "groups": self._journal.groups},
            "cache": {"hits": self._information.hits, "misses": self._information.misses,
                      "fills": self._information.fills, "forgotten": self._information.forgotten},
            "not_ready_because": self.not_ready_because(),
        }  # fmt: skip

    def watch(self, metrics: Metrics) -> None:
        """Let the metrics read the process at each scrape."""
        information, journal = self._information, self._journal
        metrics.gauge("ruqsat_lease_age_seconds", "Since the last successful probe was sent", self._lease_age)
        metrics.gauge("ruqsat_ready", "1 if the process should get traffic", lambda: not self.not_ready_because())
        metrics.gauge("ruqsat_applied_position", "Newest change known", lambda: information.position.seq)
        for name in ("hits", "misses", "fills", "forgotten"):
            metrics.counter(f"ruqsat_cache_{name}", f"Fact cache: {name}", partial(getattr, information, name))
        metrics.counter("ruqsat_journal_entries", "Entries appended", lambda: journal.entries)
        metrics.counter("ruqsat_journal_groups", "Groups written and synced", lambda: journal.groups)
        metrics.counter("ruqsat_probes_failed", "Probes without an answer", lambda: information.failed_probes)

    def _lease_age(self) -> float:
        age = self._information.lease_age(self._clock.boottime())
        return float("inf") if age is None else age / SECOND


def _demo_world(
    texts: dict[str, bytes], policy_set: PolicySet
) -> tuple[tuple[SubjectFacts, ...], tuple[PatientFacts, ...]]:
    try:
        return project_world(read_world(texts, WORLD), policy_set.vocabulary.switches)
    except (ValueError, msgspec.ValidationError) as error:
        raise PolicyError(f"`{WORLD}` cannot be used: {error}") from error


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
