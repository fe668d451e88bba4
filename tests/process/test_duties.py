"""Whole processes and what they owe: who was answered is told of once, whatever is killed, stopped or hangs meanwhile."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from ruqsat.stores.journal_folder import read_entries
from tests.duties.receiver import Misbehave, Receiver, receiving
from tests.ground import PostgresServer
from tests.process.checker import entries_in
from tests.process.starter import Sidecar, question, serving

SECRET = bytes(range(32))
SOON = 60
"""Seconds within which something must happen at all; nothing is promised of how soon."""


@contextmanager
def told(misbehave: Misbehave = lambda number: None) -> Iterator[Receiver]:
    """Run a receiver on a thread of its own."""
    ready: list[Receiver] = []
    begun, over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with receiving(SECRET, misbehave) as receiver:
            ready.append(receiver)
            begun.set()
            await over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    begun.wait(SOON)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(SOON)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def webhook(receiver: Receiver) -> dict[str, str]:
    """Return the settings that have patients told there."""
    secret = "whsec_" + base64.b64encode(SECRET).decode()
    return {"notice_webhook_url": receiver.url, "notice_webhook_secret": secret, "notice_channel": "webhook"}


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    give_up = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def ask(sidecar: Sidecar, times: int) -> None:
    """Have dr_aida read Dana's results so often, and be told that she may."""
    for _ in range(times):
        assert sidecar.evaluate().json()["decision"] is True


def owed(*journals: Path) -> set[str]:
    """Return the decisions whose patients are to be told of them."""
    entries = [entry for journal in journals for entry in entries_in(journal)]
    unsent = {entry["id"] for entry in entries if entry["kind"] == "not_sent"}
    return {
        entry["id"] for entry in entries
        if entry["kind"] == "decision" and entry["allowed"] and "notify_subject" in entry["duties"] and entry["id"] not in unsent
    }  # fmt: skip


@pytest.mark.slow
def test_everybody_is_told_once_and_every_line_is_in_the_database_though_a_process_is_killed(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """Two sidecars on one database; one is killed and started again; one notice for each use, each line once."""
    url = postgres.new_truth()
    with told() as receiver:
        common = webhook(receiver) | {"database_url": url, "auth_listen": "off"}
        one, two = tmp_path / "one", tmp_path / "two"
        with serving(one, **common) as first, serving(two, **common) as second:
            ask(first, 15)
            ask(second, 15)
            assert second.evaluate(question("dr_erlan")).json()["decision"] is False
            first.kill()
            with serving(one, **common) as again:
                ask(again, 5)
                journals = (again.journal, second.journal)
                wait_until(lambda: len(receiver.told) >= len(owed(*journals)) == 35)
                assert again.stop() == second.stop() == 0
            # What was written as they stopped is shipped by the next start.
        with serving(one, **common) as last, serving(two, **common) as other:
            mine, theirs = (list(read_entries(each.journal)) for each in (last, other))

            def there() -> list[bytes]:
                with psycopg.connect(url) as connection:
                    return [bytes(line) for (line,) in connection.execute("SELECT line FROM journal_entry")]

            wait_until(lambda: len(there()) == len(mine) + len(theirs))
            assert sorted(there()) == sorted(mine + theirs)

        assert receiver.forged == 0
        assert {(each["kind"], each["patient"], each["facts"]["by"]) for each in receiver.told.values()} == {
            ("use", "p-dana", "dr_aida")
        }
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT entry, state FROM outbox").fetchall()
    assert sorted(found) == sorted((entry, "delivered") for entry in owed(one / "journal", two / "journal"))


@pytest.mark.slow
def test_a_receiver_that_hangs_or_is_away_holds_up_no_decision_and_no_stop(tmp_path: Path) -> None:
    """Nobody is told, everybody is answered, what waits is shown, and the process stops at once; later all are told."""
    hangs = threading.Event()

    def slow(number: int) -> bytes | None:
        return b"" if not hangs.is_set() else None

    with told(slow) as receiver:
        settings = webhook(receiver) | {"auth_listen": "off"}
        with serving(tmp_path, **settings) as sidecar:
            ask(sidecar, 10)
            wait_until(lambda: len(receiver.requests) >= 3)
            ask(sidecar, 10)
            status = sidecar.call("control", "GET", "/status").json()["duties"]
            assert status["journal"]["lines"] > 0 and status["notices"]["retry"] > 0
            assert "ruqsat_journal_behind_seconds" in sidecar.call("control", "GET", "/metrics").text
            assert sidecar.stop() == 0
        assert receiver.told == {}
        hangs.set()
        with serving(tmp_path, **settings) as sidecar:
            wait_until(lambda: len(receiver.told) == 20)
            assert sidecar.stop() == 0
    assert {json.dumps(each["patient"]) for each in receiver.told.values()} == {'"p-dana"'}


def test_without_a_cabinet_adapter_the_start_says_so(tmp_path: Path) -> None:
    """It serves all the same: what is skipped is on record and can be tried again."""
    with serving(tmp_path, auth_listen="off") as sidecar:
        ask(sidecar, 1)
        assert sidecar.stop() == 0
    assert "no_egov_adapter" in sidecar.stderr and "Traceback" not in sidecar.stderr
