"""
Early hints of changes, through a stream in Redis: one entry for each commit, sealed.

A hint makes a change known in milliseconds that a probe would bring within its
period.  Nothing rests on it: one that is lost, late, doubled, out of order or
made up costs time, and only a probe renews the lease.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import SystemRandom
from typing import Any

import msgspec
from redis.asyncio.connection import ConnectionPool

from ruqsat.core.facts import Position
from ruqsat.stores.copy_seal import CopySeal
from ruqsat.stores.redis_lane import BusyLaneError, RedisFailure, RedisLane

SEND_SECONDS = 0.05
BLOCK_MILLISECONDS = 500
READ_SECONDS = 1.0

_KEPT = 100_000
_PAGE = 100
_WAITING = 1_000
_REST_SECONDS = 1.0

_log = logging.getLogger(__name__)
_dice = SystemRandom()
_encode = msgspec.json.Encoder().encode
_read_keys = msgspec.json.Decoder(tuple[str, ...]).decode

OnHint = Callable[[Position, Sequence[str]], None]


class RedisHints:
    """
    Sends our commits and hears everybody's.

    Counters: ``sent``, ``send_failed``, ``read`` (hints that were sealed by one of
    us), ``refused`` (entries that were not), ``interruptions`` (the reader had to
    connect again), ``restarts`` (it went to the newest entry because it had missed some).
    """

    counters = ("sent", "send_failed", "read", "refused", "interruptions", "restarts")

    def __init__(
        self, server: ConnectionPool, namespace: str, seal: CopySeal, *, send_seconds: float = SEND_SECONDS
    ) -> None:
        """Connect nothing yet; ``work`` sends, ``read_forever`` hears. *send_seconds* bound the sending of a hint."""
        self.sent = self.send_failed = self.read = self.refused = self.interruptions = self.restarts = 0
        self._seal = seal
        self._stream = f"ruqsat:{namespace}:feed"
        self._sending, self._reading = RedisLane(server, send_seconds), RedisLane(server, READ_SECONDS)
        self._send_seconds = send_seconds
        self._waiting: asyncio.Queue[tuple[Position, tuple[str, ...]]] = asyncio.Queue(_WAITING)
        self._cursor: bytes | None = None

    @property
    def is_heard(self) -> bool:
        """Tell whether the reader is connected and its last question was answered."""
        return self._cursor is not None and self._reading.is_open

    def send(self, position: Position, keys: tuple[str, ...]) -> None:
        """Tell everybody, soon, that a commit at *position* touched *keys* (a number each, the last at it)."""
        try:
            self._waiting.put_nowait((position, keys))
        except asyncio.QueueFull:
            self.send_failed += 1

    async def work(self) -> None:
        """Send what is waiting, in order, until cancelled; what Redis does not take in 50 ms is dropped."""
        while True:
            position, keys = await self._waiting.get()
            try:
                await self._send(position, keys)
            except (RedisFailure, BusyLaneError, ValueError):
                self.send_failed += 1
            else:
                self.sent += 1
            finally:
                self._waiting.task_done()

    async def _send(self, position: Position, keys: tuple[str, ...]) -> None:
        value = self._seal.seal(self._stream.encode(), position, _encode(keys))
        await self._sending.ask("XADD", self._stream, "MAXLEN", "~", _KEPT, "*", "h", value)

    async def read_forever(self, on_hint: OnHint) -> None:
        """Hear hints, and give each to *on_hint*, until cancelled; failures are counted and survived."""
        failing = False
        while True:
            try:
                await self._read(on_hint)
                if failing:
                    _log.warning("hints_recovered")
                failing = False
            except Exception as error:  # noqa: BLE001 - whatever a server says, the reader goes on
                self._cursor = None
                self.interruptions += 1
                if not failing:
                    _log.warning("hints_interrupted reason=%s", error or type(error).__name__)
                failing = True
                await asyncio.sleep(_REST_SECONDS * _dice.uniform(0.75, 1.25))

    async def _read(self, on_hint: OnHint) -> None:
        if self._cursor is None:
            # `$` would name another entry in each question, and lose what comes between two.
            newest = await self._reading.ask("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
            self._cursor = newest[0][0] if newest else b"0-0"
        asked = self._cursor
        reply = await self._reading.ask(
            "XREAD", "COUNT", _PAGE, "BLOCK", BLOCK_MILLISECONDS, "STREAMS", self._stream, asked
        )
        for _, entries in reply or ():
            for id_, fields in entries:
                asked = id_
                self._take(fields, on_hint)
        if self._cursor is not None:  # a restart meanwhile stays one
            self._cursor = asked

    def _take(self, fields: Any, on_hint: OnHint) -> None:
        shape = isinstance(fields, list) and len(fields) == 2 and fields[0] == b"h" and isinstance(fields[1], bytes)
        opened = self._seal.open(self._stream.encode(), fields[1]) if shape else None
        try:
            keys = () if opened is None else _read_keys(opened[1])
        except (msgspec.MsgspecError, UnicodeError):
            keys = ()
        if opened is None or not keys:
            self.refused += 1
            return
        self.read += 1
        on_hint(opened[0], keys)

    def restart(self) -> None:
        """Go on from the newest entry: the stream was found silent about a change (it may have begun anew)."""
        self._cursor = None
        self.restarts += 1

    def status(self) -> dict[str, Any]:
        """Return what `/status` shows of the hints."""
        return {"heard": self.is_heard} | {name: getattr(self, name) for name in self.counters}

    async def flush(self) -> None:
        """Wait until what is waiting was sent, for as long at most as one hint may take (50 ms)."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._send_seconds):
                await self._waiting.join()

    async def aclose(self) -> None:
        """Close the connections."""
        for lane in (self._sending, self._reading):
            with suppress(Exception):
                await lane.aclose()
