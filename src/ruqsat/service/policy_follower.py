"""
How a sidecar follows the policy in the database: made ready when it is staged, in force when it is activated.

The pointer is knowledge like facts are.  It is read with its position, and a change
of it comes as an entry of the feed; while one is known that the policy here does not
reflect, the lease is not renewed.  So an activation is in force everywhere within
the lease, or the sidecar that is behind allows nothing.

A set that cannot be put in force here leaves the one before in force, with an alarm;
unless it must apply: then the lease ends.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from msgspec.structs import replace

from ruqsat.core.facts import Position
from ruqsat.core.instant import Instant
from ruqsat.core.policy_release import Report, Standing, address_of, encode_texts
from ruqsat.errors import PolicyError, StoreUnavailableError
from ruqsat.service.administration_point import AdministrationPoint, InForce, reasons_of
from ruqsat.service.flight import land, launch
from ruqsat.service.freshness import Freshness
from ruqsat.service.policy_packs import PackLoader, PackStore

LOOK_SECONDS = 30.0
"""How often the pointer is read, and a report renewed, though nothing has happened; and a refused set tried again."""

BETWEEN_SECONDS = 0.1
"""How long the pointer is not read after a look, however often something is heard: a hint may come again and again."""

_NOWHERE = Position("", -1)
_READY = 4
_TRY_STORE_AGAIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ReleaseStore(PackStore, Protocol):
    """The releases, and the place where sidecars report."""

    async def report(self, sidecar: str, at: Instant, report: Report) -> None:
        """Replace a sidecar's report; raises StoreUnavailableError."""
        ...

    async def leave(self, sidecar: str) -> None:
        """Forget a sidecar that stops; raises StoreUnavailableError."""
        ...


class PolicyFollower:
    """
    Follows the pointer; ``forever`` must run.

    Attributes:
        standing: What the database said last.
        denies: A set that must apply is not in force here: nothing is allowed once the lease has ended.
    """

    def __init__(
        self, store: ReleaseStore, loader: PackLoader, administration: AdministrationPoint, freshness: Freshness,
        sidecar: str, now: Callable[[], Instant],
    ) -> None:  # fmt: skip
        """Follow from what *administration* has in force; *freshness* must be one that follows the policy."""
        self.standing = Standing()
        self.denies = False
        self._store, self._loader, self._administration = store, loader, administration
        self._freshness, self._sidecar, self._now = freshness, sidecar, now
        self._address = address_of(encode_texts(administration.in_force.texts))
        self._ready: OrderedDict[str, InForce] = OrderedDict({self._address: administration.in_force})
        self._refused: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._newest = Position("", 0)
        self._reached = 0
        self._woken = asyncio.Event()
        self._chores: asyncio.Task[None] | None = None
        self._reported: tuple[Report, float] | None = None
        self._kept = self._address

    @property
    def poisoned(self) -> int:
        """How many copies were sealed by one of ours and are not the pack of their address."""
        return self._loader.poisoned

    @property
    def is_behind(self) -> bool:
        """Tell whether another pack decides than the one that the database says is in force."""
        return self.standing.active != self._address

    def wake(self) -> None:
        """Look soon: something was heard of the policy."""
        self._woken.set()

    def wake_if_behind(self) -> None:
        """Look soon if the policy in force does not reflect what is known; asked after each probe."""
        if not self._freshness.reflects_policy():
            self._woken.set()

    def look_again(self) -> None:
        """Look soon, and try again what was refused."""
        self._refused.clear()
        self._woken.set()

    async def forever(self) -> None:
        """Look when woken, but not at once after a look, and now and then, until cancelled; failures are survived."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            try:
                await self.look()
            except StoreUnavailableError as error:
                _log.warning("policy_not_looked_up %s", error)
            except Exception:  # noqa: BLE001 - the set in force stays, and without a look the lease ends
                _log.exception("policy_not_followed")
            await asyncio.sleep(BETWEEN_SECONDS)

    async def look(self) -> None:
        """
        Read the pointer, and put in force what it names if that is ready; begin to make it ready if not.

        Raises:
            StoreUnavailableError: no answer; nothing was changed.
        """
        standing, as_of = await self._store.fetch_standing(self._address)
        self.standing = standing
        self._refused = {each: why for each, why in self._refused.items() if each in (standing.active, standing.staged)}
        for address, digest in ((standing.active, standing.digest), (standing.staged, standing.staged_digest)):
            self._make_ready(address, digest)
        self._reached = self._follow(standing, as_of)
        self.denies = not standing.active or standing.must_reach > self._reached
        self._freshness.reflect_policy(_NOWHERE if self.denies else as_of)
        if self._chores is None or self._chores.done():
            self._chores = launch(self._do_chores())

    def _follow(self, standing: Standing, as_of: Position) -> int:
        """
        Put in force what the database names, if it is ready; return the generation that the set in force amounts to.

        It is -1 where the pointer went back, and 0 where it names no policy any more: nothing is allowed then.
        """
        if as_of.epoch == self._newest.epoch and standing.generation < self._newest.seq:
            self._refuse(
                f"the generation went back from {self._newest.seq} to {standing.generation}: see `db restored`"
            )
            return -1
        self._newest = Position(as_of.epoch, standing.generation)
        if not standing.active:
            self._refuse("the database holds no policy in force any more")
            return 0
        if standing.active != self._address:
            found = self._ready.get(standing.active)
            if found is None:
                if standing.active in self._refused:
                    self._administration.refuse(self._refused[standing.active][1], once=True)
                return standing.reached
            must_apply = standing.must_reach > standing.reached
            self._administration.put_in_force(replace(found, must_apply=must_apply, release=standing.release))
            self._address = standing.active
        self._administration.refused = ()
        return standing.generation

    def _refuse(self, reason: str) -> None:
        self._administration.refuse((reason,), once=True)

    def _make_ready(self, address: str, digest: str) -> None:
        if address in self._ready:
            self._ready.move_to_end(address)
        again_at, _ = self._refused.get(address, (0.0, ()))
        waits = asyncio.get_running_loop().time() < again_at
        if address and address not in self._ready and address not in self._under_way and not waits:
            self._under_way[address] = launch(self._examine(address, digest))

    async def _examine(self, address: str, digest: str) -> None:
        """Make a release ready, or note why it is not; whoever waits for that looks again."""
        try:
            texts, origin = await self._loader.load(address, digest)
            found = await self._administration.admit(texts, origin)
            self._refused.pop(address, None)
            self._ready[address] = found
            self._forget_old()
        except Exception as error:  # noqa: BLE001 - whatever it was, the release is not ready
            reasons = reasons_of(error)
            pause = _TRY_STORE_AGAIN_SECONDS if isinstance(error, StoreUnavailableError) else LOOK_SECONDS
            self._refused[address] = (asyncio.get_running_loop().time() + pause, reasons)
            _log.error("policy_not_ready address=%s %s", address[:16], " | ".join(reasons[:5]))
        finally:
            del self._under_way[address]
            self._woken.set()

    def _forget_old(self) -> None:
        needed = {self._address, self.standing.active, self.standing.staged}
        for address in [each for each in self._ready if each not in needed][: max(0, len(self._ready) - _READY)]:
            del self._ready[address]

    def report(self) -> Report:
        """Return what this sidecar says of itself."""
        standing = self.standing
        address, digest = standing.active, standing.digest
        if standing.staged and address == self._address:
            address, digest = standing.staged, standing.staged_digest
        reasons = self._refused.get(address, (0.0, ()))[1]
        result: Any = "ready" if address in self._ready else "refused" if reasons else "preparing" if address else ""
        in_force = self._administration.in_force.pack.policy_set.digest
        return Report(in_force, self._reached, digest, result, reasons[:5], self.denies)

    def has_reported(self) -> bool:
        """Tell whether the last report still says what is so, and is not due to be renewed."""
        said, renew_at = self._reported or (None, 0.0)
        return said == self.report() and asyncio.get_running_loop().time() < renew_at

    async def _do_chores(self) -> None:
        """Report, and keep what is in force as the last good pack; neither holds up anything else."""
        try:
            while not self.has_reported():
                report, renew_at = self.report(), asyncio.get_running_loop().time() + LOOK_SECONDS / 2
                await self._store.report(self._sidecar, self._now(), report)
                self._reported = report, renew_at
            while (address := self._address) != self._kept:
                await self._administration.keep_in_force()
                self._kept = address
        except StoreUnavailableError as error:
            _log.warning("policy_not_reported %s", error)
        except PolicyError as error:
            _log.error("last_good_not_kept %s", error)

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of the releases."""
        report = self.report()
        return {
            "sidecar": self._sidecar, "generation": self.standing.generation, "reached": report.reached,
            "active": self.standing.digest, "wanted": report.wanted, "result": report.result,
            "reasons": list(report.reasons), "denies": self.denies, "poisoned_copies": self.poisoned,
        }  # fmt: skip

    async def aclose(self) -> None:
        """Stop what is under way, and take the report away; call it before the store is closed."""
        tasks = [*self._under_way.values(), *([self._chores] if self._chores is not None else [])]
        for task in tasks:
            task.cancel()
        await land(tasks)
        with suppress(StoreUnavailableError):
            await self._store.leave(self._sidecar)
