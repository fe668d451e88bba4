"""
The policy administration point: what may become the policy in force, and when.

A pack is read whole, examined in another process (checked, compiled, its own cases,
stock pycasbin as the oracle), compiled here, and put in force by one assignment.
Whatever goes wrong, the set in force stays, and the reason is told.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ruqsat import __version__
from ruqsat.core.admission import Changes, Kept, Pack, build_pack, changes_of
from ruqsat.core.diagnostics import render
from ruqsat.core.policy_release import Released
from ruqsat.core.verdict import Verdict
from ruqsat.errors import PolicyError, RuqsatError

AGAIN_SECONDS = 30.0
"""After which a pack is examined again that something passing kept from being in force: an examination is dear."""

_log = logging.getLogger(__name__)

Examine = Callable[[Mapping[str, bytes]], Awaitable[Verdict]]


class PolicySource(Protocol):
    """Where the pack comes from; ``release`` is that of the files read last, None where there are no releases."""

    name: str
    release: Released | None

    async def state(self) -> object:
        """Return what changes whenever the pack does; raises PolicyError if it cannot be told now."""
        ...

    async def read(self) -> dict[str, bytes]:
        """Return the pack's files, all of one state; raises PolicyError."""
        ...


class LastGood(Protocol):
    """The pack that was admitted last, on disk."""

    async def keep(self, texts: dict[str, bytes]) -> None:
        """Keep *texts* instead of what was kept; raises PolicyError."""
        ...

    async def read(self) -> Kept | None:
        """Return what was kept, verified, or None; raises PolicyError."""
        ...


class InForce(Struct, frozen=True):
    """
    The policy in force, and how it came there.

    ``origin`` is ``folder``, ``store``, ``redis``, ``database`` or ``last-good``;
    ``compared`` is 0 where the very same bytes had been admitted before.  Under
    ``must_apply`` nothing that was decided by the set before may be sent any more.
    """

    pack: Pack
    texts: dict[str, bytes]
    origin: str
    compared: int
    must_apply: bool = False
    release: Released | None = None


class RefusedError(PolicyError):
    """A pack was examined and refused; ``reasons`` says why, a line each, ``is_final`` whether it would be again."""

    def __init__(self, verdict: Verdict) -> None:
        lines = [render(finding) for finding in verdict.findings_against()] or verdict.reasons()
        super().__init__("the policy set is refused:\n" + "\n".join(lines))
        self.reasons = tuple(verdict.reasons())
        self.is_final = verdict.is_final


class AdministrationPoint:
    """
    Admits packs.

    Args:
        examine: Judges a pack, somewhere else.

    Attributes:
        adopt: Puts an admitted pack in force, in one step; set it before ``reload``.
        refused: Why the source's pack is not in force; empty if it is.
    """

    def __init__(
        self, source: PolicySource, last_good: LastGood, examine: Examine,
    ) -> None:  # fmt: skip
        self._source, self._last_good, self._examine = source, last_good, examine
        self.adopt: Callable[[InForce, Changes], None] = lambda _found, _changes: None
        self._in_force: InForce | None = None
        self._seen: object = None
        self._again_at = math.inf
        self._busy = asyncio.Lock()
        self.refused: tuple[str, ...] = ()
        self.reloads = 0

    @property
    def in_force(self) -> InForce:
        """The policy in force; there is one from ``open`` on."""
        if self._in_force is None:
            raise PolicyError("no policy is in force yet")
        return self._in_force

    async def open(self) -> InForce:
        """
        Return the policy to begin with: the source's, or the last good one if the source's cannot be used.

        Raises:
            PolicyError: neither can be used; the message is about the source's.
        """
        try:
            state = await self._source.state()
            texts = await self._source.read()
            self._seen = state
            kept = await self._kept_quietly()
            found = replace(await self.admit(texts, self._source.name, kept), release=self._source.release)
            if found.compared:
                await self._last_good.keep(texts)
        except PolicyError as error:
            kept = await self._kept_quietly()
            if kept is None:
                raise
            self._take_in(error)
            found = await self.admit(kept.texts, "last-good")
        self._in_force = found
        return found

    async def reload(self) -> bool:
        """
        Look at the source once; put what it holds in force if it is another pack and passes.

        Returns:
            Whether another pack is in force now.  Never raises: what is wrong stands in ``refused``.
        """
        async with self._busy:
            try:
                return await self._reload()
            except Exception as error:  # noqa: BLE001 - whatever it was, the policy in force stays
                if not isinstance(error, RuqsatError):
                    _log.exception("policy_reload_failed")
                self._take_in(error)
            return False

    async def watch_forever(self, seconds: float) -> None:
        """
        Look every *seconds*; a source that has changed is read once it has kept still between two looks.

        A source that has not changed is read again after a while, if its pack is not in force for another reason than
        that it was examined and refused.
        """
        before, loop = self._seen, asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds)
            try:
                state = await self._source.state()
            except Exception as error:  # noqa: BLE001 - a look that fails must not be the last one
                self._take_in(error, once=True)
                continue
            if state == before and (state != self._seen or loop.time() >= self._again_at):
                await self.reload()
            before = state

    async def _reload(self) -> bool:
        state = await self._source.state()
        texts = await self._source.read()
        self._seen, self._again_at = state, math.inf
        if texts == self.in_force.texts:
            self.refused = ()
            return False
        found = replace(await self.admit(texts, self._source.name), release=self._source.release)
        await self._last_good.keep(texts)
        self.put_in_force(found)
        return True

    def put_in_force(self, found: InForce) -> None:
        """Let an admitted pack decide from now on, in one step."""
        before = self.in_force
        changes = changes_of((before.texts, before.pack.policy_set), (found.texts, found.pack.policy_set))
        self.adopt(found, changes)
        self._in_force, self.refused = found, ()
        self.reloads += 1
        _log.warning(
            "policy_in_force digest=%s added=%d removed=%d changed=%d besides=%d compared=%d",
            found.pack.policy_set.digest[:16], len(changes.added), len(changes.removed), len(changes.changed),
            len(changes.besides), found.compared,
        )  # fmt: skip

    async def keep_in_force(self) -> None:
        """
        Keep the pack in force as the last good one.

        Raises:
            PolicyError: it cannot be written.
        """
        await self._last_good.keep(self.in_force.texts)

    async def admit(self, texts: dict[str, bytes], origin: str, kept: Kept | None = None) -> InForce:
        """
        Examine a pack and compile it; nothing is in force by that.

        Args:
            kept: What was admitted before; the very same bytes need no examination by the same version.

        Raises:
            PolicyError: it is refused.
        """
        verdict = None
        if kept is None or kept.version != __version__ or kept.texts != texts:
            verdict = await self._examine(texts)
            if not verdict.admitted:
                raise RefusedError(verdict)
        pack, findings = await asyncio.to_thread(build_pack, texts)
        if pack is None or (verdict is not None and pack.policy_set.digest != verdict.digest):
            raise PolicyError("the policy set is refused:\n" + "\n".join(map(render, findings)))
        return InForce(pack, texts, origin, verdict.compared if verdict is not None else 0)

    async def _kept_quietly(self) -> Kept | None:
        try:
            return await self._last_good.read()
        except PolicyError as error:
            _log.error("last_good_unusable %s", error)
            return None

    def _take_in(self, error: Exception, *, once: bool = False) -> None:
        """Tell why the source's pack is not in force; unless it was judged, it is read again after a while."""
        self.refuse(reasons_of(error), once=once)
        if not (isinstance(error, RefusedError) and error.is_final):
            self._again_at = asyncio.get_running_loop().time() + AGAIN_SECONDS

    def refuse(self, reasons: tuple[str, ...], *, once: bool = False) -> None:
        """Take in that the source's pack is not in force, and why; with *once*, the same reasons are logged once."""
        if once and reasons == self.refused:
            return
        self.refused = reasons
        _log.error("policy_refused %s", " | ".join(self.refused[:5]))

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of the policy."""
        held, policy_set = self.in_force, self.in_force.pack.policy_set
        return {
            "policy": policy_set.digest, "rules": len(policy_set.rules), "policy_origin": held.origin,
            "policy_compared": held.compared, "policy_refused": list(self.refused),
            "switches": msgspec.to_builtins(policy_set.vocabulary.switches),
        }  # fmt: skip


def reasons_of(error: Exception) -> tuple[str, ...]:
    """Return why something was refused, a line each."""
    if isinstance(error, RefusedError):
        return error.reasons
    return tuple(str(error).splitlines()) if isinstance(error, RuqsatError) else (f"failed: {type(error).__name__}",)
