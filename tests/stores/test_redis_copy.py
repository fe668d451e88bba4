"""The shared copy of facts: found as it was offered, and nothing that anybody did to it is ever used."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import msgspec
import pytest
from tests.ground import GroundMissingError, Server, missing, running_valkey
from tests.mutants import plant
from tests.stores.redis_ground import (
    TOKEN_KEY,
    MemoryCopies,
    every_byte,
    new_namespace,
    plain,
    started,
    until,
)

import ruqsat.stores.copy_seal as seal_module
from ruqsat.core.facts import Consent, Facts, PatientFacts, Position, Provision, RecordStatus, SubjectFacts
from ruqsat.errors import SettingsError
from ruqsat.stores.redis import RedisSharing
from ruqsat.stores.redis_copy import LONGEST_VALUE, Breaker, RedisCopy
from ruqsat.stores.redis_lane import open_server

DOCTOR = SubjectFacts("canary-doctor", roles=("canary-role",), org="canary-clinic")
CONSENT = Consent(
    "canary-consent", "canary-thread", "active", 1_700_000_000_000_000, Provision("permit", labels=("canary-label",))
)
PATIENT = PatientFacts("canary-patient", consents=(CONSENT,), records=(RecordStatus("canary-record", "canary-class"),))
OTHER = PatientFacts("other-patient", egov=True)
AT = Position("5eed", 42)

Copies = Any
Opened = Callable[[], AbstractAsyncContextManager[Copies]]


def own_valkey() -> Iterator[Server]:
    """A Valkey of the test's own, to be stopped and killed."""
    with TemporaryDirectory(prefix="ruqsat-valkey-") as name:
        Path(name).chmod(0o755)
        try:
            with running_valkey(Path(name, "server")) as server:
                yield server
        except GroundMissingError as error:
            missing("Valkey", error)


@pytest.fixture
def mortal() -> Iterator[Server]:
    """The same as a fixture."""
    yield from own_valkey()


@pytest.fixture(params=["memory", "redis", "redis in clear"])
def opened(request: pytest.FixtureRequest) -> Opened:
    """Each kind of shared copy in turn; opened twice, it is the same copy."""
    if request.param == "memory":
        held: dict[tuple[str, str], Any] = {}

        @asynccontextmanager
        async def in_memory() -> AsyncIterator[Copies]:
            yield MemoryCopies(held)

        return in_memory
    server, namespace = request.getfixturevalue("valkey"), new_namespace()

    @asynccontextmanager
    async def in_redis() -> AsyncIterator[Copies]:
        async with started(server, namespace, encrypt=request.param == "redis") as side:
            yield side.copy

    return in_redis


async def offer(copies: Copies, subject: str | None, patient: str | None, facts: Facts) -> None:
    """Offer, and wait until it is there."""
    count = (subject is not None) + (patient is not None) + getattr(copies, "put", 0) + getattr(copies, "put_lost", 0)
    copies.offer(subject, patient, facts)
    if not isinstance(copies, MemoryCopies):
        await until(lambda: copies.put + copies.put_lost >= count)
        assert copies.put_lost == 0


def test_what_one_offers_another_finds_with_its_position(opened: Opened) -> None:
    """Facts come back as they were, and nobody by an id is found as nobody."""

    async def story() -> None:
        async with opened() as one, opened() as other:
            await offer(one, DOCTOR.id, PATIENT.id, Facts(DOCTOR, PATIENT, AT))
            await offer(one, "nobody", None, Facts(None, None, AT))

            assert await other.look(DOCTOR.id, PATIENT.id) == ((DOCTOR, AT), (PATIENT, AT))
            assert await other.look(None, PATIENT.id) == (None, (PATIENT, AT))
            assert await other.look("nobody", None) == ((None, AT), None)

    asyncio.run(story())


def test_what_nobody_offered_is_not_found(opened: Opened) -> None:
    """A patient is not a subject of the same id, and ids are compared to the letter."""

    async def story() -> None:
        async with opened() as copies:
            await offer(copies, None, "Foo", Facts(None, PatientFacts("Foo"), AT))

            assert await copies.look("Foo", "foo") == (None, None)

    asyncio.run(story())


@pytest.mark.parametrize("facts", [OTHER, None], ids=["somebody", "nobody"])
def test_what_is_copied_of_another_is_not_found_though_the_names_be_the_same(facts: PatientFacts | None) -> None:
    """A name is a hash: the id that a copy is of is compared in full, and so is that of its facts."""
    seal = seal_module.CopySeal(TOKEN_KEY)
    copies = RedisCopy(open_server("redis://127.0.0.1:1"), "same", seal)
    name = copies._name(copies._patients, PATIENT.id)

    async def found(whose: str, facts: PatientFacts | None) -> Any:
        async def ask_all(_: object) -> list[bytes]:
            return [seal.seal(name.encode(), AT, msgspec.json.encode((whose, facts)))]

        copies._reading.ask_all = ask_all  # type: ignore[method-assign]
        return (await copies.look(None, PATIENT.id))[1]

    assert asyncio.run(found(PATIENT.id, PATIENT)) == (PATIENT, AT)
    assert asyncio.run(found(OTHER.id, facts)) is None
    assert asyncio.run(found(PATIENT.id, OTHER)) is None
    assert (copies.found, copies.refused) == (1, 2)


def test_the_newer_reading_wins_whenever_it_comes(opened: Opened) -> None:
    """An older reading that arrives late does not replace a newer one; another epoch does."""

    async def story() -> None:
        async with opened() as copies:
            for seq, egov in ((9, True), (10, False), (9, True), (10, True)):
                await offer(copies, None, "p", Facts(None, PatientFacts("p", egov=egov), Position("e", seq)))
            assert await copies.look(None, "p") == (None, (PatientFacts("p"), Position("e", 10)))

            await offer(copies, None, "p", Facts(None, PatientFacts("p", egov=True), Position("f", 1)))
            assert await copies.look(None, "p") == (None, (PatientFacts("p", egov=True), Position("f", 1)))

    asyncio.run(story())


async def with_copies_of_both(
    valkey: Server, story: Callable[[RedisSharing, Any, dict[str, str]], Awaitable[None]]
) -> None:
    """Tell a story of a copy of two patients, an ordinary client, and the names they stand under."""
    namespace = new_namespace()
    async with started(valkey, namespace) as side, plain(valkey) as client:
        names: dict[str, str] = {}
        for patient in (PATIENT, OTHER):
            before = {name async for name in client.scan_iter(f"ruqsat:{namespace}:facts:*")}
            await offer(side.copy, None, patient.id, Facts(None, patient, AT))
            after = {name async for name in client.scan_iter(f"ruqsat:{namespace}:facts:*")}
            (names[patient.id],) = after - before
        await story(side, client, names)


def test_a_flip_of_any_bit_makes_it_no_copy(valkey: Server) -> None:
    """Each bit of a value, flipped alone, is refused and counted; afterwards the true value is found again."""

    async def story(side: RedisSharing, client: Any, names: dict[str, str]) -> None:
        name = names[OTHER.id]
        value = await client.get(name)
        for place in range(len(value) * 8):
            flipped = bytearray(value)
            flipped[place // 8] ^= 1 << place % 8
            await client.set(name, bytes(flipped))
            assert await side.copy.look(None, OTHER.id) == (None, None), place
        assert side.copy.refused == len(value) * 8

        await offer(side.copy, None, OTHER.id, Facts(None, OTHER, AT))
        assert await side.copy.look(None, OTHER.id) == (None, (OTHER, AT))

    asyncio.run(with_copies_of_both(valkey, story))


def _mangled(value: bytes, other: bytes) -> dict[str, bytes]:
    return {
        "of another patient": other,
        "cut": value[:-1],
        "cut to its tag": value[-16:],
        "head only": value[: value.rindex(b"|") + 1],
        "one letter": b"v",
        "longer": value + b"x",
        "doubled": value + value,
        "giant": value + bytes(LONGEST_VALUE),
        "not ours at all": os.urandom(len(value)),
        "another epoch in its head": value.replace(b"5eed", b"5eee", 1),
        "a later position in its head": value.replace(b"42|", b"43|", 1),
        "said to be in clear": value.replace(b"|e|", b"|p|", 1),
    }


def test_no_mangled_value_is_used(valkey: Server) -> None:
    """Swapped between patients, cut, enlarged, made up, dressed up: refused and counted each time."""

    async def story(side: RedisSharing, client: Any, names: dict[str, str]) -> None:
        value, other = await client.get(names[PATIENT.id]), await client.get(names[OTHER.id])
        for count, (how, mangled) in enumerate(_mangled(value, other).items(), 1):
            await client.set(names[PATIENT.id], mangled)
            assert await side.copy.look(None, PATIENT.id) == (None, None), how
            assert side.copy.refused == count, how

    asyncio.run(with_copies_of_both(valkey, story))


def test_a_value_of_another_type_is_refused_and_replaced(valkey: Server) -> None:
    """A list where a value should stand neither opens the breaker nor stays."""

    async def story(side: RedisSharing, client: Any, names: dict[str, str]) -> None:
        await client.delete(names[OTHER.id])
        await client.rpush(names[OTHER.id], "x")
        for _ in range(10):
            assert await side.copy.look(None, OTHER.id) == (None, None)
        assert side.copy.refused == 10 and not side.copy.breaker.is_open

        await offer(side.copy, None, OTHER.id, Facts(None, OTHER, AT))
        assert await side.copy.look(None, OTHER.id) == (None, (OTHER, AT))

    asyncio.run(with_copies_of_both(valkey, story))


def test_a_forged_head_from_the_future_does_not_keep_the_truth_out(valkey: Server) -> None:
    """A value that claims to be newer than all is refused once, and replaced by the next true one."""

    async def story(side: RedisSharing, client: Any, names: dict[str, str]) -> None:
        value = await client.get(names[OTHER.id])
        await client.set(names[OTHER.id], value.replace(b"00000000000000000042", b"99999999999999999999"))
        assert await side.copy.look(None, OTHER.id) == (None, None)

        await offer(side.copy, None, OTHER.id, Facts(None, OTHER, AT))
        assert await side.copy.look(None, OTHER.id) == (None, (OTHER, AT))

    asyncio.run(with_copies_of_both(valkey, story))


def test_another_key_opens_nothing(valkey: Server) -> None:
    """A sidecar of another database, in the same namespace by mistake, finds nothing and is not found."""

    async def story() -> None:
        namespace = new_namespace()
        async with started(valkey, namespace) as ours, started(valkey, namespace, token_key=bytes(32)) as theirs:
            await offer(theirs.copy, None, "p", Facts(None, PatientFacts("p", egov=True), AT))

            assert await ours.copy.look(None, "p") == (None, None)

    asyncio.run(story())


def test_no_canary_reaches_redis(valkey: Server) -> None:
    """No id, role, organisation, label or class stands anywhere in Redis, in a name or in a value."""

    async def story() -> None:
        namespace = new_namespace()
        async with started(valkey, namespace) as side, plain(valkey) as client:
            await offer(side.copy, DOCTOR.id, PATIENT.id, Facts(DOCTOR, PATIENT, AT))
            side.hints.send(AT, ("subject:canary-doctor", "patient:canary-patient"))
            await until(lambda: side.hints.sent == 1)
            await side.copy.look("canary-looked-for", "canary-looked-for")
            held = await every_byte(client, namespace)

        assert held.count(b"ruqsat:") == 3
        assert b"canary" not in held and b"patient" not in held

    asyncio.run(story())


def test_the_search_for_canaries_can_find_one(valkey: Server) -> None:
    """With encryption off the same search finds what the facts hold."""

    async def story() -> None:
        namespace = new_namespace()
        async with started(valkey, namespace, encrypt=False) as side, plain(valkey) as client:
            await offer(side.copy, None, PATIENT.id, Facts(None, PATIENT, AT))
            held = await every_byte(client, namespace)

        assert b"canary-label" in held
        assert not any(b"canary" in line for line in held.split(b"\n") if line.startswith(b"ruqsat:"))

    asyncio.run(story())


def test_copies_expire(valkey: Server) -> None:
    """A copy lives about an hour, and not all of them end at once."""

    async def story(_side: RedisSharing, client: Any, names: dict[str, str]) -> None:
        lives = [await client.pttl(name) for name in names.values()]

        assert all(3_200_000 < life <= 3_960_000 for life in lives)
        assert len(set(lives)) == 2

    asyncio.run(with_copies_of_both(valkey, story))


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_when_redis_is_gone_nothing_is_found_and_the_breaker_opens(mortal: Server, how: str) -> None:
    """Questions go on without an answer or an error; once Redis is back, copies are found again."""

    async def story() -> None:
        async with started(mortal, "gone", copy_seconds=0.1) as side:
            await offer(side.copy, None, "p", Facts(None, PatientFacts("p"), AT))
            os.kill(mortal.process.pid, signal.SIGSTOP if how == "stopped" else signal.SIGKILL)
            for _ in range(20):
                assert await side.copy.look(None, "p") == (None, None)
            assert side.copy.breaker.is_open and side.copy.failed >= 5 and side.copy.skipped > 0
            side.copy.offer(None, "q", Facts(None, None, AT))
            if how == "killed":
                return
            os.kill(mortal.process.pid, signal.SIGCONT)
            found: list[Any] = [None, None]

            async def ask() -> None:
                while found[1] is None:
                    found[:] = await side.copy.look(None, "p")
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(ask(), 30)
            assert not side.copy.breaker.is_open

    asyncio.run(story())


def test_the_breaker_tries_again_about_once_a_second() -> None:
    """It opens after five failures in a row, lets one through a second, and closes at the first success."""
    now = [100.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(4):
        breaker.failed()
    breaker.succeeded()
    for _ in range(5):
        assert breaker.lets_through()
        breaker.failed()
    assert breaker.is_open and breaker.opened == 1

    tries = 0
    for _ in range(1000):
        now[0] += 0.01
        if breaker.lets_through():
            tries += 1
            breaker.failed()
    assert 8 <= tries <= 13

    now[0] += 2
    assert breaker.lets_through()
    breaker.succeeded()
    assert not breaker.is_open and breaker.lets_through()


def test_a_cancelled_question_never_gives_its_reply_to_the_next(valkey: Server) -> None:
    """Whatever moment a question is abandoned at, the next one gets its own answer or none."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    people = [PatientFacts(f"p{n}", episodes=(), egov=n % 2 == 0) for n in range(20)]

    async def story() -> None:
        async with started(valkey, new_namespace()) as side:
            for person in people:
                await offer(side.copy, None, person.id, Facts(None, person, AT))
            cancelled = right = 0
            for _ in range(3000):
                person = dice.choice(people)
                question = asyncio.create_task(side.copy.look(None, person.id))
                for _ in range(dice.randrange(8)):
                    await asyncio.sleep(0)
                if dice.random() < 0.2:
                    await asyncio.sleep(dice.random() / 2000)
                question.cancel()
                try:
                    found = (await question)[1]
                except asyncio.CancelledError:
                    cancelled += 1
                    continue
                # Not even refused: the seal would catch a reply of somebody else, the lane must not give it.
                assert found in (None, (person, AT)), (seed, person.id)
                right += found is not None
            print(f"{cancelled} cancelled, {right} answered")
            assert cancelled > 300 and side.copy.refused == 0, seed
            final = None
            while final is None:
                final = (await side.copy.look(None, "p3"))[1]
            assert final == (people[3], AT)

    asyncio.run(story())


PLANTS = {
    "the tag is not checked": (
        "if not hmac.compare_digest(self._tag(name, body), tag):", "if len(tag) > TAG:",
    ),
    "the name is not bound": (
        "blake2b(len(name).to_bytes(8) + name + body, key=", "blake2b(body, key=",
    ),
}  # fmt: skip


def mangled_values_used(module: ModuleType) -> list[str]:
    """Which mangled values a seal opens, in clear."""
    seal = module.CopySeal(TOKEN_KEY, encrypt=False)
    value = seal.seal(b"here", AT, b"payload of one")
    other = seal.seal(b"there", AT, b"payload of another")
    flips = {
        f"bit {n}": bytes(b ^ (1 << n % 8 if at == n // 8 else 0) for at, b in enumerate(value))
        for n in range(len(value) * 8)
    }
    return [
        how
        for how, mangled in (_mangled(value, other) | flips).items()
        if mangled != value and seal.open(b"here", mangled)
    ]


def test_the_seal_refuses_in_clear_too() -> None:
    """Without encryption the tag alone refuses the same values."""
    assert mangled_values_used(seal_module) == []


@pytest.mark.parametrize(("right", "wrong"), PLANTS.values(), ids=PLANTS)
def test_planted_mistakes_of_the_seal_are_noticed(right: str, wrong: str) -> None:
    """A seal whose tag is not checked, or not bound to the name, opens what it must not."""
    assert mangled_values_used(plant(seal_module, right, wrong))


def test_a_bad_namespace_or_url_is_no_start() -> None:
    """What cannot be read is refused with a sentence that does not repeat it."""
    for url in (
        "http://x",
        "redis://",
        "redis://host/zero",
        "redis://:hunter2@h?socket_timeout=99",
        "redis+sentinel://h",
    ):
        with pytest.raises(SettingsError) as refused:
            RedisSharing(url, "main", TOKEN_KEY)
        assert "hunter2" not in str(refused.value)


def test_sharing_of_a_server_that_is_not_there_does_not_stop_the_start(tmp_path: Path) -> None:
    """A process starts, asks and stops without any Redis behind its URL."""

    async def story() -> None:
        side = RedisSharing(f"unix://{tmp_path}/nobody", "main", TOKEN_KEY).start(lambda _position, _keys: None)
        side.hints.send(AT, ("patient:p",))
        assert await side.copy.look("s", "p") == (None, None)
        await until(lambda: side.hints.send_failed == 1 and side.hints.interruptions > 0)
        await side.aclose()

    asyncio.run(story())
