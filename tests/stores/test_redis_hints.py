"""Hints through Redis: heard by everybody at once, and whatever is done to the stream, only time is lost."""

import asyncio
import os
import signal
from typing import Any

import pytest
from tests.ground import Server
from tests.stores.redis_ground import new_namespace, plain, seal, started, until
from tests.stores.test_redis_copy import mortal

from ruqsat.core.facts import Position

__all__ = ["mortal"]

AT = Position("5eed", 42)
KEYS = ("subject:s", "patient:p")


class Heard(list[tuple[Position, tuple[str, ...]]]):
    """What a reader has heard."""

    def __call__(self, position: Position, keys: Any) -> None:
        """Hear one hint."""
        self.append((position, tuple(keys)))


def test_a_commit_is_heard_by_everybody(valkey: Server) -> None:
    """What one sends, others hear, and so does the sender; what was sent before they listened, they do not."""

    async def story() -> None:
        namespace, one, other = new_namespace(), Heard(), Heard()
        async with started(valkey, namespace, one) as sender:
            await until(lambda: sender.hints.is_heard)
            sender.hints.send(Position("5eed", 1), ("patient:before",))
            await until(lambda: len(one) == 1)
            async with started(valkey, namespace, other) as listener:
                await until(lambda: listener.hints.is_heard)
                sender.hints.send(AT, KEYS)
                await until(lambda: len(one) == 2 and len(other) == 1)

        assert other == [(AT, KEYS)]
        assert sender.hints.status() | {"sent": 2, "read": 2, "send_failed": 0, "refused": 0} == sender.hints.status()

    asyncio.run(story())


def test_what_was_not_sealed_here_is_no_hint(valkey: Server) -> None:
    """Entries that are forged, of another key, of another stream, or of a strange shape are counted and dropped."""

    async def story() -> None:
        namespace, heard = new_namespace(), Heard()
        stream = f"ruqsat:{namespace}:feed"
        async with started(valkey, namespace, heard) as side, plain(valkey) as client:
            await until(lambda: side.hints.is_heard)
            ours = seal().seal(stream.encode(), AT, b'["patient:p"]')
            for value in (
                b"", b"v1|5eed|42", os.urandom(100), ours[:-1], ours[:-1] + bytes([ours[-1] ^ 1]),
                seal(bytes(32)).seal(stream.encode(), AT, b'["ALL"]'),
                seal().seal(b"ruqsat:another:feed", AT, b'["ALL"]'),
                seal(encrypt=False).seal(stream.encode(), AT, b'["ALL"]'),
                seal().seal(stream.encode(), AT, b'{"not": "keys"}'),
                seal().seal(stream.encode(), AT, b"[]"),
            ):  # fmt: skip
                await client.xadd(stream, {"h": value})
            await client.xadd(stream, {"x": ours})
            await client.xadd(stream, {"h": ours, "more": "fields"})
            await client.xadd(stream, {"h": ours})
            await until(lambda: len(heard) == 1)

        assert heard == [(AT, ("patient:p",))]
        assert side.hints.refused == 12

    asyncio.run(story())


def test_a_stopped_server_is_noticed_and_heard_again(mortal: Server) -> None:
    """While the server stands still the reader knows that it hears nothing; afterwards it hears."""

    async def story() -> None:
        heard = Heard()
        async with started(mortal, "stopped", heard) as side:
            await until(lambda: side.hints.is_heard)
            loop = asyncio.get_running_loop()
            os.kill(mortal.process.pid, signal.SIGSTOP)
            began = loop.time()
            await until(lambda: not side.hints.is_heard)
            print(f"noticed after {loop.time() - began:.2f} s")
            side.hints.send(AT, KEYS)
            await until(lambda: side.hints.send_failed == 1)
            os.kill(mortal.process.pid, signal.SIGCONT)
            await until(lambda: side.hints.is_heard)
            side.hints.send(AT, KEYS)
            await until(lambda: (AT, KEYS) in heard)
            assert side.hints.interruptions > 0

    asyncio.run(story())


def test_a_flushed_stream_goes_on(valkey: Server) -> None:
    """After everything was deleted, new entries are heard without anybody's help."""

    async def story() -> None:
        namespace, heard = new_namespace(), Heard()
        async with started(valkey, namespace, heard) as side, plain(valkey) as client:
            await until(lambda: side.hints.is_heard)
            side.hints.send(AT, KEYS)
            await until(lambda: len(heard) == 1)
            await client.delete(f"ruqsat:{namespace}:feed")
            side.hints.send(AT, KEYS)
            await until(lambda: len(heard) == 2)

    asyncio.run(story())


def test_a_stream_that_began_anew_at_lower_numbers_is_heard_after_a_restart(valkey: Server) -> None:
    """Such a stream is silent without an error: it takes a restart, which the probe gives."""

    async def story() -> None:
        namespace, heard = new_namespace(), Heard()
        stream = f"ruqsat:{namespace}:feed"
        async with started(valkey, namespace, heard) as side, plain(valkey) as client:
            await until(lambda: side.hints.is_heard)
            side.hints.send(AT, KEYS)
            await until(lambda: len(heard) == 1)
            await client.delete(stream)
            value = seal().seal(stream.encode(), AT, b'["patient:late"]')
            await client.xadd(stream, {"h": value}, id="1-1")
            await asyncio.sleep(0.2)
            assert len(heard) == 1  # silent, as measured

            side.hints.restart()
            for n in range(2, 5000):
                if len(heard) > 1:
                    break
                await client.xadd(stream, {"h": value}, id=f"{n}-1")
                await asyncio.sleep(0.01)
            assert heard[1] == (AT, ("patient:late",)) and side.hints.restarts == 1

    asyncio.run(story())


@pytest.mark.slow
def test_the_stream_is_trimmed(valkey: Server) -> None:
    """Hints are cut off behind about 100,000, so that Redis does not fill up."""

    async def story() -> None:
        namespace = new_namespace()
        async with started(valkey, namespace) as side, plain(valkey) as client:
            stream = f"ruqsat:{namespace}:feed"
            for _ in range(110):
                async with client.pipeline(transaction=False) as many:
                    for _ in range(1000):
                        many.xadd(stream, {"h": b"x"})
                    await many.execute()
            before = side.hints.sent
            side.hints.send(AT, KEYS)
            await until(lambda: side.hints.sent + side.hints.send_failed > before)
            if side.hints.sent:
                assert await client.xlen(stream) <= 101_000

    asyncio.run(story())
