"""What tests of released policy stand on: packs that differ, a desk that releases them, a sidecar in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from ruqsat.core.admission import Changes
from ruqsat.core.facts import Position
from ruqsat.core.pack import digest_of
from ruqsat.core.policy_release import Kind, Standing, Step, address_of, encode_texts
from ruqsat.core.verdict import Verdict
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.administration_point import AdministrationPoint
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import LEASE, Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics
from ruqsat.service.policy_follower import PolicyFollower
from ruqsat.service.policy_packs import PackCopies, PackLoader, ReleasedSource
from ruqsat.stores.policy_sources import LastGood
from ruqsat.stores.policy_store import PolicyStore
from ruqsat.stores.sql import SqlStore
from tests.clocks import FixedClock
from tests.service.test_decision_point import Paper

RULE, NARROWER = b"care_staff, read search,", b"care_staff, search,"
PATIENCE = 60.0


def narrower(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The pack in which care staff may search by consent, and not read."""
    changed = texts["policies/consent.csv"].replace(RULE, NARROWER, 1)
    assert changed != texts["policies/consent.csv"]
    return {**texts, "policies/consent.csv": changed}


def spoilt(texts: Mapping[str, bytes]) -> dict[str, bytes]:
    """The pack with a misspelt effect."""
    return {**texts, "policies/consent.csv": texts["policies/consent.csv"].replace(b" allow,", b" Allow,")}


class Examiner:
    """An examination that is quick, counts, and refuses what holds a misspelt effect."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, texts: Mapping[str, bytes]) -> Verdict:
        """Judge a pack."""
        self.asked.append(digest_of(texts))
        if b" Allow," in texts["policies/consent.csv"]:
            return Verdict(failure="policies/consent.csv: a misspelt effect")
        return Verdict(digest_of(texts), compared=1)


def steps_of(
    past: int, texts: Mapping[str, bytes], *kinds: Kind, must_apply: bool = False, **other: Any
) -> tuple[Step, ...]:
    """Return steps of these kinds to a pack, after so many others."""
    usual = {"author": "aida", "reason": "because", "approval": None, "at": 1, "changes": Changes()}
    address = address_of(encode_texts(texts))
    return tuple(
        Step(
            generation=past + number, kind=kind, address=address, digest=digest_of(texts), must_apply=must_apply,
            **usual | other,
        )
        for number, kind in enumerate(kinds, 1)
    )  # fmt: skip


async def release(policies: PolicyStore, texts: dict[str, bytes], *kinds: Kind, **terms: Any) -> Position:
    """Take steps of these kinds to a pack."""
    return await policies.add(steps_of(len(await policies.steps()), texts, *kinds, **terms), texts)


class Fallible:
    """The releases of a database that can be away."""

    def __init__(self, policies: PolicyStore) -> None:
        self.away = self.packs_away = False
        self.looks = 0
        self._policies = policies

    async def fetch_standing(self, mine: str) -> tuple[Standing, Position]:
        """Ask, or fail."""
        self.looks += 1
        if self.away:
            raise StoreUnavailableError("away")
        return await self._policies.fetch_standing(mine)

    async def fetch_pack(self, address: str) -> bytes | None:
        """Ask, or fail."""
        if self.away or self.packs_away:
            raise StoreUnavailableError("away")
        return await self._policies.fetch_pack(address)

    async def report(self, sidecar: str, at: int, report: Any) -> None:
        """Report, or fail."""
        if self.away:
            raise StoreUnavailableError("away")
        await self._policies.report(sidecar, at, report)

    async def leave(self, sidecar: str) -> None:
        """Go."""
        await self._policies.leave(sidecar)


class Sidecar:
    """The parts of a sidecar that have to do with policy, put together as ``wiring`` does."""

    def __init__(self, store: SqlStore, folder: Path, copies: PackCopies | None = None) -> None:
        self.store, self.policies = store, PolicyStore(store)
        self.releases, self.examiner, self.clock, self.paper = (
            Fallible(self.policies),
            Examiner(),
            FixedClock(),
            Paper(),
        )
        self.loader = PackLoader(self.releases, copies)
        self.freshness = Freshness(store.token_key, lease_for=LEASE, follows_policy=True)
        source = ReleasedSource(self.releases, self.loader)
        self.administration = AdministrationPoint(source, LastGood(folder), self.examiner)
        self.information = InformationPoint(store, self.freshness, self.clock)

    async def open(self) -> "Sidecar":
        """Begin."""
        found = await self.administration.open()
        await self.information.probe_once()
        self.point = DecisionPoint(
            found.pack.policy_set, self.information, self.freshness, self.paper, self.clock, Metrics()
        )
        self.point.begin(found.release)
        self.administration.adopt = lambda found, changes: self.point.put_in_force(
            found.pack.policy_set, changes, must_apply=found.must_apply, release=found.release
        )
        self.follower = PolicyFollower(
            self.releases, self.loader, self.administration, self.freshness, "one", lambda: self.clock.now().hi
        )
        self.information.on_probe = self.follower.wake_if_behind
        if not self.releases.away:
            await self.follower.look()
        return self

    @property
    def digest(self) -> str:
        """What decides."""
        return self.point.policy_set.digest

    async def probe(self) -> None:
        """Probe, look if that is called for, and again once what was to be examined is."""
        await self.information.probe_once()
        if not self.freshness.reflects_policy():
            await self.look()

    async def look(self) -> None:
        """Look, and again once what was to be examined is."""
        await self.follower.look()
        if self.follower.report().result == "preparing":
            await until(lambda: self.follower.report().result != "preparing")
            await self.follower.look()

    def may_answer(self) -> bool:
        """Whether there is a lease at this moment."""
        return self.information.has_lease()

    async def aclose(self) -> None:
        """End."""
        if hasattr(self, "follower"):
            await self.follower.aclose()
        await self.information.aclose()


@asynccontextmanager
async def opened(url: str, folder: Path, *kinds: Any, texts: dict[str, bytes], **how: Any) -> AsyncIterator[Sidecar]:
    """A sidecar on a database in which *texts* are in force; all closed afterwards."""
    store = await SqlStore.open(url)
    sidecar = Sidecar(store, folder, **how)
    try:
        await release(sidecar.policies, texts, *(kinds or ("stage", "activate")))
        yield await sidecar.open()
    finally:
        await sidecar.aclose()
        await store.aclose()


async def until(holds: Callable[[], bool], what: str = "the condition") -> None:
    """Wait until something holds; fail after a long time."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about in {PATIENCE:g} s") from None
