"""Callers who never stop asking, each on a connection that it keeps, and who note when each byte came."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any

from tests.chaos.verdict import Check
from tests.process.load import evaluation
from tests.process.starter import question

LONGEST_REST = 0.02


def boottime() -> float:
    """Return seconds since boot; they go on while the machine is suspended."""
    return clock_gettime(CLOCK_BOOTTIME)


class Line(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self) -> None:
        self.received = 0.0
        self._heard = b""
        self._answer: asyncio.Future[bytes | None] | None = None
        self._transport: asyncio.Transport | None = None
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Note when the first byte of an answer came, and hand over the body once it is whole."""
        if not self._heard:
            self.received = boottime()
        self._heard += data
        head, blank, body = self._heard.partition(b"\r\n\r\n")
        if not blank:
            return
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if len(body) >= int(lengths[0].partition(b":")[2]):
            self._settle(body)

    def connection_lost(self, exc: Exception | None) -> None:
        """There will be no answer."""
        self._is_lost = True
        self._settle(None)

    def _settle(self, body: bytes | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(body)

    async def ask(self, request: bytes) -> bytes | None:
        """Send a request and return the body of its answer, however long it takes; None if the connection ends."""
        self._heard, self._answer = b"", asyncio.get_running_loop().create_future()
        if self._is_lost or self._transport is None:
            return None
        self._transport.write(request)
        return await self._answer


def may_read(patient: str, token: str | None = None) -> bytes:
    """Return the question whether dr_aida may read the patient's laboratory results."""
    asked = question(patient=patient, **({} if token is None else {"consistency_token": token}))
    asked["resource"]["properties"]["labels"] = []
    return evaluation(asked)


async def check_forever(
    sidecar: str, address: str, patients: Sequence[str], seed: int, record: Callable[[Check], None]
) -> None:
    """Ask about *patients* at random until cancelled; whenever the connection ends, make another."""
    chance, loop = Random(seed), asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    questions = {patient: may_read(patient) for patient in patients}
    while True:
        try:
            transport, line = await loop.create_connection(Line, host, int(port))
        except OSError:
            await asyncio.sleep(0.05)
            continue
        try:
            while True:
                patient = chance.choice(patients)
                sent = boottime()
                body = await line.ask(questions[patient])
                if body is None:
                    break
                said = json.loads(body)
                reason = said.get("context", {}).get("reason", "")
                record(Check(sidecar, patient, sent, line.received, said.get("decision") is True, reason))
                await asyncio.sleep(chance.uniform(0, LONGEST_REST))
        finally:
            transport.abort()


async def at_once(work: Sequence[Coroutine[Any, Any, None]], seconds: float) -> None:
    """Let work that never ends go on for *seconds*, then end it; raise what any of it raised."""
    tasks = {asyncio.ensure_future(each) for each in work}
    _, pending = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    while pending:
        # A library that is just giving up by itself may swallow a cancellation: it is asked again.
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
