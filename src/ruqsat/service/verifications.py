"""Verifies signatures off the event loop: each in time, few at once, whatever a verifier does."""

import asyncio
import logging
from contextlib import suppress
from threading import Thread

from ruqsat.core.instant import Instant
from ruqsat.core.signature_finding import Finding, SignedContent
from ruqsat.service.signatures import SignatureVerifier

SECONDS = 0.8
"""How long a write waits for a finding; ours takes milliseconds, and proxies wait a second for the whole answer."""

AT_ONCE, WAITING = 4, 32

_log = logging.getLogger(__name__)
_LATE = Finding("verifier_failed")


class Verifications:
    """
    A verifier that may hang, made one that does not.

    A verification that came to no end keeps its thread, of which there are few; once all are lost, every further
    finding is negative.  The threads hold up no stop of the process.
    """

    def __init__(self, verifier: SignatureVerifier, seconds: float = SECONDS) -> None:
        self._verifier, self._seconds = verifier, seconds
        self._free, self._waiting = asyncio.Semaphore(AT_ONCE), 0

    async def find(self, signature: bytes, content: SignedContent, at: Instant) -> Finding:
        """Return what is found, as ``SignatureVerifier`` does; ``verifier_failed`` if that takes too long."""
        if self._waiting >= WAITING:
            return _LATE
        self._waiting += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._free.acquire()
                return await self._started(signature, content, at)
        except TimeoutError:
            _log.warning("signature_verifier_failed error=no finding in time")
            return _LATE
        finally:
            self._waiting -= 1

    def _started(self, signature: bytes, content: SignedContent, at: Instant) -> "asyncio.Future[Finding]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Finding] = loop.create_future()

        def settle(found: Finding) -> None:
            # The place is free when the thread is, which may be long after the caller has left.
            self._free.release()
            if not answer.done():
                answer.set_result(found)

        def verify() -> None:
            found = _LATE
            try:
                found = self._verifier.verify(signature, content, at)
            except Exception as error:  # noqa: BLE001 - the failure of a verifier helps no signature
                _log.warning("signature_verifier_failed error=%s", type(error).__name__)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                loop.call_soon_threadsafe(settle, found)

        try:
            Thread(target=verify, name="ruqsat-signature", daemon=True).start()
        except RuntimeError:  # no thread can be had
            settle(_LATE)
        return answer
