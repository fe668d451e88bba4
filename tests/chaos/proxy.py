"""A TCP proxy that does to a connection what networks do: holds it, cuts it, refuses it, spoils it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

_CHUNK = 1 << 16


class ChaosProxy:
    """
    Passes on what comes to ``port``, to *target* on loopback, until told otherwise.

    ``is_refusing``: whoever connects is thrown out at once.
    ``spoil``: what becomes of the bytes that the server sends; None leaves them alone.
    """

    def __init__(self, target: int) -> None:
        self.target, self.port = target, 0
        self.is_refusing = False
        self.spoil: Callable[[bytes], bytes] | None = None
        self.delay_seconds = 0.0
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold(self) -> None:
        """Take everything and pass on nothing; connections stay open and new ones are accepted."""
        self._flows.clear()

    def release(self) -> None:
        """Pass on what was held, late as it is, and everything after it."""
        self._flows.set()

    def cut(self) -> None:
        """End every connection; what was held is lost."""
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """Be an ordinary proxy again."""
        self.is_refusing, self.spoil, self.delay_seconds = False, None, 0.0
        self.release()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_refusing:
            return
        back, forth = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(forth)
        pumps = [
            asyncio.ensure_future(self._pump(reader, forth)),
            asyncio.ensure_future(self._pump(back, writer, from_server=True)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            forth.transport.abort()
            self._writers.discard(forth)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, from_server: bool = False
    ) -> None:
        with suppress(OSError):
            while part := await source.read(_CHUNK):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                await self._flows.wait()
                sink.write(self.spoil(part) if from_server and self.spoil is not None else part)
                await sink.drain()
            await self._flows.wait()

    async def aclose(self) -> None:
        """End every connection and every task."""
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def flip_a_bit(chance: Random, of_parts: float) -> Callable[[bytes], bytes]:
    """Return what spoils one bit in a share *of_parts*."""

    def spoil(part: bytes) -> bytes:
        if chance.random() >= of_parts:
            return part
        spoiled = bytearray(part)
        spoiled[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
        return bytes(spoiled)

    return spoil


@asynccontextmanager
async def proxy_to(target: int) -> AsyncIterator[ChaosProxy]:
    """Run a proxy to a port of loopback on a free port of its own."""
    proxy = ChaosProxy(target)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
