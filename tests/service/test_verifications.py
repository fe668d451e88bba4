"""A verifier that hangs, fails or is slow holds up nobody for long, and never lets anything through."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ruqsat.core.signature_finding import Finding, SignedContent
from ruqsat.service.verifications import AT_ONCE, WAITING, Verifications

GOOD = Finding(iin="880808100203", serial="7")
LATE = Finding("verifier_failed")
CONTENT = SignedContent(b"record")


class Scripted:
    """Finds what it is told to, on whichever thread it is asked."""

    def __init__(self, found: Callable[[], Any]) -> None:
        self.found, self.asked = found, 0

    def verify(self, _signature: bytes, _content: SignedContent, _at: int) -> Any:
        """Return it."""
        self.asked += 1
        return self.found()


@pytest.fixture
def door() -> Iterator[threading.Event]:
    """What a hanging verifier waits for; opened when the test is over, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def hanging(door: threading.Event) -> Scripted:
    """Return a verifier that comes to no finding until the door is opened."""
    return Scripted(lambda: GOOD if door.wait(30) else LATE)


def test_a_finding_is_passed_on_and_the_loop_goes_on_meanwhile(door: threading.Event) -> None:
    """The verifier runs on another thread: the loop itself can open the door that it waits for."""

    async def scenario() -> Finding:
        asyncio.get_running_loop().call_soon(door.set)
        return await Verifications(hanging(door), 20).find(b"", CONTENT, 0)

    assert asyncio.run(scenario()) == GOOD


def test_what_a_verifier_raises_is_a_negative_finding() -> None:
    """A verifier that raises gives a negative finding, and takes no place for ever."""

    def fail() -> Finding:
        raise MemoryError

    async def scenario() -> list[Finding]:
        verifications = Verifications(Scripted(fail), 20)
        return [await verifications.find(b"", CONTENT, 0) for _ in range(3 * AT_ONCE)]

    assert asyncio.run(scenario()) == [LATE] * 3 * AT_ONCE


def test_a_verifier_that_hangs_is_left_and_the_threads_that_it_keeps_are_few(door: threading.Event) -> None:
    """Everybody gets an answer; once it lets go, findings are positive again."""
    verifier = hanging(door)

    async def scenario() -> tuple[list[Finding], int, Finding]:
        verifications = Verifications(verifier, 0.05)
        told = [await verifications.find(b"", CONTENT, 0) for _ in range(2 * AT_ONCE)]
        begun = verifier.asked
        door.set()
        tries = [await verifications.find(b"", CONTENT, 0) for _ in range(50)]
        return told, begun, tries[-1]

    told, begun, again = asyncio.run(scenario())
    assert (told, begun, again) == ([LATE] * 2 * AT_ONCE, AT_ONCE, GOOD)


def test_a_crowd_is_turned_away_at_once(door: threading.Event) -> None:
    """No more wait than may; those beyond hear it before anybody is answered."""
    verifier = hanging(door)

    async def scenario() -> tuple[int, int]:
        verifications = Verifications(verifier, 20)
        crowd = [asyncio.ensure_future(verifications.find(b"", CONTENT, 0)) for _ in range(WAITING + 7)]
        await asyncio.sleep(0)
        turned_away = sum(each.done() and each.result() == LATE for each in crowd)
        door.set()
        return turned_away, sum(found == GOOD for found in await asyncio.gather(*crowd))

    assert asyncio.run(scenario()) == (7, WAITING)


def test_whoever_leaves_gives_the_place_back(door: threading.Event) -> None:
    """A caller that is cancelled, as when the process stops."""

    async def scenario() -> Finding:
        verifications = Verifications(hanging(door), 20)
        crowd = [asyncio.ensure_future(verifications.find(b"", CONTENT, 0)) for _ in range(WAITING)]
        await asyncio.sleep(0)
        for each in crowd:
            each.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        door.set()
        return await verifications.find(b"", CONTENT, 0)

    assert asyncio.run(scenario()) == GOOD


def test_a_hanging_thread_holds_up_no_stop(door: threading.Event) -> None:
    """It is a daemon: the interpreter ends without it."""

    async def scenario() -> None:
        await Verifications(hanging(door), 0.05).find(b"", CONTENT, 0)

    asyncio.run(scenario())
    left = [thread for thread in threading.enumerate() if thread.name == "ruqsat-signature"]
    assert left
    assert all(thread.daemon for thread in left)
