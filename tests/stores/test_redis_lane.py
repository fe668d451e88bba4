"""The lane to Redis: what one caller abandoned is never another's answer, and URLs say what they mean."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from tests.ground import Server, running_sentinel
from tests.mutants import plant
from tests.stores.redis_ground import TOKEN_KEY, until, url_of

import ruqsat.stores.redis_lane as product
from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.errors import SettingsError
from ruqsat.stores.redis import RedisSharing
from ruqsat.stores.redis_lane import open_server

GUARDS = (
    "            self._connection = None\n            await _discard(connection)\n            raise\n",
    "await connection.read_response()",
)


async def wrong_replies(module: ModuleType, url: str, seed: int, questions: int) -> tuple[int, int, int]:
    """Ask echoes and abandon them at random moments; return how many were abandoned, right and wrong."""
    dice = random.Random(seed)
    lane = module.RedisLane(open_server(url), 5)
    abandoned = right = wrong = 0
    try:
        for number in range(questions):
            asked = asyncio.create_task(lane.ask_all([("ECHO", f"{number}a"), ("ECHO", f"{number}b")]))
            for _ in range(dice.randrange(10)):
                await asyncio.sleep(0)
            if dice.random() < 0.3:
                await asyncio.sleep(dice.random() / 2000)
            if dice.random() < 0.7:
                asked.cancel()
            try:
                is_right = await asked == [b"%da" % number, b"%db" % number]
                right, wrong = right + is_right, wrong + (not is_right)
            except asyncio.CancelledError:
                abandoned += 1
            except Exception:  # noqa: BLE001 - whatever it was, it is no right answer
                wrong += 1
    finally:
        await lane.aclose()
    return abandoned, right, wrong


@pytest.mark.slow
def test_a_reply_never_goes_to_the_next_caller(valkey: Server) -> None:
    """Thousands of questions, most of them abandoned at a random moment: every answer is the asker's own."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")

    abandoned, right, wrong = asyncio.run(wrong_replies(product, url_of(valkey), seed, 4000))

    print(f"{abandoned} abandoned, {right} right, {wrong} wrong")
    assert wrong == 0, seed
    assert abandoned > 300 and right > 300


def test_a_lane_that_keeps_its_connection_would_be_noticed(valkey: Server) -> None:
    """Plant: the connection of an abandoned question is used again."""
    kept = plant(product, GUARDS[0], "            raise\n")
    kept.__dict__["_reply"] = _reply_that_stays_connected

    _, _, wrong = asyncio.run(wrong_replies(kept, url_of(valkey), 1, 4000))

    assert wrong > 0


async def _reply_that_stays_connected(connection: product.AbstractConnection) -> object:
    return await connection.read_response(disconnect_on_error=False)


def test_no_cancellation_is_swallowed(valkey: Server) -> None:
    """A question that was cancelled before its answer came ends so, whatever it was doing: nobody waits in vain."""

    async def story() -> int:
        lane = product.RedisLane(open_server(url_of(valkey)), 5)
        await lane.ask("PING")
        swallowed = 0
        for number in range(2000):
            asked = asyncio.create_task(lane.ask("ECHO", str(number)))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            cancelled = asked.cancel()
            try:
                await asked
                swallowed += cancelled
            except asyncio.CancelledError:
                pass
        await lane.aclose()
        return swallowed

    assert asyncio.run(story()) == 0


def test_a_server_that_never_answers_costs_the_bound_and_no_more(valkey: Server) -> None:
    """A blocking question on a lane with a small bound fails; the next one, on a new connection, is answered."""

    async def story() -> None:
        lane = product.RedisLane(open_server(url_of(valkey)), 0.2)
        began = time.monotonic()
        with pytest.raises(product.RedisFailure):
            await lane.ask("BLPOP", "nothing-there", 60)
        took = time.monotonic() - began
        print(f"took {took:.3f} s")
        assert not lane.is_open
        # The library's own retries and timeouts would make it a multiple of ten seconds.
        assert took < 30
        lane_again = product.RedisLane(open_server(url_of(valkey)), 5)
        assert await lane_again.ask("ECHO", "x") == b"x"
        await lane.aclose()
        await lane_again.aclose()

    asyncio.run(story())


def test_who_waits_for_the_lane_in_vain_says_nothing_about_redis(valkey: Server) -> None:
    """A caller who did not get his turn is told so, not that Redis failed."""

    async def story() -> None:
        lane = product.RedisLane(open_server(url_of(valkey)), 0.2)
        first = asyncio.create_task(lane.ask("BLPOP", "nothing-there", 60))
        await asyncio.sleep(0)
        lane._seconds = 0.01  # the second has less patience
        with pytest.raises(product.BusyLaneError):
            await lane.ask("PING")
        with pytest.raises(product.RedisFailure):
            await first
        await lane.aclose()

    asyncio.run(story())


@pytest.mark.parametrize(
    "url",
    [
        "http://host", "redis://", "redis://host/zero", "redis://host?socket_timeout=60", "redis://host?retry=5",
        "redis://host:port", "redis+sentinel://", "redis+sentinel://host", "redis+sentinel://host/service/zero",
        "redis+sentinel://:1/service", "redis://host?sentinel_password=x", "",
    ],
)  # fmt: skip
def test_a_url_that_is_not_understood_is_refused(url: str) -> None:
    """No parameter may stretch a bound, and nothing is guessed."""
    with pytest.raises(SettingsError, match="expected `redis://"):
        open_server(url)


def test_urls_mean_what_they_say() -> None:
    """Host, port, database, account and TLS are taken from the URL; timeouts and retries are ours."""

    async def story() -> None:
        found = open_server("rediss://ann:p%40ss@example.test:7000/3?ssl_ca_certs=/ca.pem").make_connection()
        assert (found.host, found.port, found.db, found.username, found.password) == (
            "example.test", 7000, 3, "ann", "p@ss",
        )  # fmt: skip
        assert type(found).__name__ == "SSLConnection" and found.retry.get_retries() == 0
        assert found.socket_timeout is None  # the lane bounds each command itself

        server = open_server("redis+sentinel://ann:pw@one:1,two/main/2?sentinel_password=s")
        behind = server.make_connection()
        assert (server.service_name, behind.db, behind.username, behind.password) == ("main", 2, "ann", "pw")
        sentinels = [s.connection_pool.connection_kwargs for s in server.sentinel_manager.sentinels]
        assert [(s["host"], s["port"], s["password"]) for s in sentinels] == [("one", 1, "s"), ("two", 26379, "s")]
        await product.close_server(server)

    asyncio.run(story())


def test_the_master_is_found_through_a_sentinel(valkey: Server) -> None:
    """A real sentinel process names the server, and the lane asks it."""

    async def story(port: int) -> None:
        server = open_server(f"redis+sentinel://127.0.0.1:{port}/main")
        lane = product.RedisLane(server, 5)
        assert await lane.ask("ECHO", "through") == b"through"
        await lane.aclose()
        nobody = open_server(f"redis+sentinel://127.0.0.1:{port}/another")
        lost = product.RedisLane(nobody, 5)
        with pytest.raises(product.RedisFailure):
            await lost.ask("PING")
        await lost.aclose()
        for each in (server, nobody):
            await product.close_server(each)

    with TemporaryDirectory(prefix="ruqsat-sentinel-") as name:
        Path(name).chmod(0o755)
        with running_sentinel(Path(name, "sentinel"), "main", valkey.port) as sentinel:
            asyncio.run(story(sentinel.port))


STRANGE = {
    "a slot that moved nowhere": b"-MOVED x\r\n", "no slot at all": b"-ASK\r\n", "a port that is none": b"-ASK 1 host:x\r\n",
    "no protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n", "a number that is none": b":x\r\n",
    "arrays without end": b"*1\r\n" * 100_000,
}  # fmt: skip


@asynccontextmanager
async def strange_server(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that gives every question this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.CancelledError):
            while await reader.read(1 << 16):
                writer.write(answer * 2)
                await writer.drain()
        writer.close()

    serving: set[Any] = set()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for each in serving:
            each.cancel()
        await asyncio.gather(*serving)


@pytest.mark.parametrize("what", STRANGE)
def test_whatever_a_server_answers_is_a_failure_of_redis_and_nothing_else(what: str) -> None:
    """The library's own mistakes too: its words for some answers are plain ValueErrors.  Nobody else reads on there."""

    async def story() -> None:
        async with strange_server(STRANGE[what]) as url:
            lane = product.RedisLane(open_server(url), 0.5)
            for question in (("PING",), ("GET", "x")):
                with pytest.raises(product.RedisFailure):
                    await lane.ask(*question)
            await lane.aclose()

    asyncio.run(story())


@pytest.mark.parametrize("what", STRANGE)
def test_a_server_that_answers_strangely_is_done_without(what: str) -> None:
    """Facts, packs and hints: nothing is found, nothing is raised, nobody who works ends, and the breaker opens."""

    async def story() -> None:
        async with strange_server(STRANGE[what]) as url:
            side = RedisSharing(url, "strange", TOKEN_KEY, copy_seconds=0.5).start(lambda _position, _keys: None)
            at = Position("5eed", 1)
            for _ in range(5):
                assert await side.copy.look("s", "p") == (None, None)
            assert side.copy.breaker.is_open
            assert await side.packs.look("a") is None
            await side.packs.keep("a", b"x")
            side.hints.send(at, ("patient:p",))
            side.copy.offer("s", "p", Facts(SubjectFacts("s"), PatientFacts("p"), at))
            await until(lambda: side.hints.send_failed == 1 and side.copy.put_lost == 2)
            assert not any(task.done() for task in side._tasks)
            await side.aclose()

    asyncio.run(story())
