"""Three sidecars on one PostgreSQL: a withdrawal that waits is answered when nobody allows any more."""

import asyncio
import re
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ruqsat import wiring
from ruqsat.core.facts import Position
from ruqsat.service.barrier import Barrier
from ruqsat.settings import load_settings
from ruqsat.stores.sql import SqlStore
from tests.ground import PostgresServer
from tests.process.starter import Sidecar, question, serving
from tests.sidecar import ADMITTED

BRIEF = {"lease_seconds": "4", "probe_seconds": "0.5", "auth_listen": "off"}
WITHDRAW = "/v1/consents/c-dana-h1/withdraw"
SOON = 30


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    """A database of the test's own."""
    url = postgres.new_truth()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def three(url: str, tmp_path: Path) -> Iterator[tuple[Sidecar, ...]]:
    """Three sidecars, each of which has answered once from memory."""
    with ExitStack() as stack:
        started = tuple(
            stack.enter_context(serving(tmp_path / name, demo=True, database_url=url, **BRIEF))
            for name in ("one", "two", "three")
        )
        assert [allows(each) for each in started] == [True] * 3
        yield started


def allows(sidecar: Sidecar) -> bool:
    """Whether dr_aida may read Dana's results."""
    return bool(sidecar.evaluate().json()["decision"])


def withdraw(sidecar: Sidecar, query: str = "?wait=visible") -> httpx.Response:
    """Let Dana withdraw her consent."""
    with sidecar.client("control") as client:
        return client.post(WITHDRAW + query, headers=sidecar.bearer("dana"), timeout=SOON)


def word(answer: httpx.Response) -> tuple[str, float]:
    """By whose word the change is visible, and after how many seconds."""
    assert answer.status_code == 200, answer.text
    found = re.fullmatch(r"by=(acknowledged|lease), seconds=(\d+\.\d{3})", answer.headers["Ruqsat-Visible"])
    assert found is not None
    return found[1], float(found[2])


def rows(postgres: PostgresServer, url: str) -> int:
    """How many processes stand in the table."""
    return int(postgres.execute("SELECT count(*) FROM sidecar", url.rpartition("/")[2])[0][0])


def wait_until_believed(sidecar: Sidecar) -> None:
    """Wait until the sidecar has known its history for longer than a lease, so that it believes the table."""
    give_up = time.monotonic() + SOON
    while "ruqsat_barrier_believes 1.0" not in sidecar.call("control", "GET", "/metrics").text:
        assert time.monotonic() < give_up
        time.sleep(0.1)


@pytest.mark.slow
def test_a_withdrawal_that_everyone_acknowledged_is_denied_everywhere(three: tuple[Sidecar, ...]) -> None:
    """The very first question after the answer is denied, at each of them; and it took less than a lease."""
    wait_until_believed(three[0])
    by, seconds = word(withdraw(three[0]))

    assert not any(allows(each) for each in three)
    assert by == "acknowledged"
    assert seconds < float(BRIEF["lease_seconds"])


@pytest.mark.slow
def test_a_sidecar_that_stands_still_is_waited_for_by_the_lease(three: tuple[Sidecar, ...]) -> None:
    """What lay in its socket meanwhile is denied when it goes on; the next change need not wait for one that is gone."""
    wait_until_believed(three[0])
    still = three[2]
    still.send_signal(signal.SIGSTOP)
    try:
        by, seconds = word(withdraw(three[0]))
        assert (by, seconds > float(BRIEF["lease_seconds"])) == ("lease", True)
        assert not any(allows(each) for each in three[:2])
    finally:
        still.send_signal(signal.SIGCONT)
    assert not allows(still)


@pytest.mark.slow
def test_a_sidecar_leaves_the_table_when_it_stops_and_not_when_it_is_killed(
    three: tuple[Sidecar, ...], postgres: PostgresServer, url: str
) -> None:
    """Who stops says so; who is killed holds one barrier up for a lease, and is then struck off."""
    assert rows(postgres, url) == 3
    assert three[1].stop() == 0
    assert rows(postgres, url) == 2

    three[2].kill()
    assert rows(postgres, url) == 2
    wait_until_believed(three[0])
    assert word(withdraw(three[0]))[0] == "lease"
    assert rows(postgres, url) == 1
    assert word(withdraw(three[0]))[0] == "acknowledged"


@pytest.mark.slow
def test_a_wait_that_is_misspelt_changes_nothing(three: tuple[Sidecar, ...]) -> None:
    """Whoever asks for a wait that there is not is told so before anything is changed; and nobody waits unasked."""
    for query in ("?wait=Visible", "?wait=", "?wait=visible&wait=visible"):
        assert withdraw(three[0], query).status_code == 422
    assert allows(three[0])

    answer = withdraw(three[0], "")
    assert answer.status_code == 200
    assert "Ruqsat-Visible" not in answer.headers


def test_a_token_of_a_change_covers_it_whatever_others_have_changed_before(url: str, tmp_path: Path) -> None:
    """One sidecar has not heard of a change of somebody else; its own, after that, is still seen by whoever shows its token."""
    seldom = {"lease_seconds": "60", "probe_seconds": "30", "auth_listen": "off"}

    async def change_beside() -> None:
        store = await SqlStore.open(url)
        await store.change_patient("p-marat", lambda facts: msgspec.structs.replace(facts, egov=False))
        await store.aclose()

    with (
        serving(tmp_path / "one", demo=True, database_url=url, **seldom) as one,
        serving(tmp_path / "two", demo=True, database_url=url, **seldom) as two,
    ):
        assert (allows(one), allows(two)) == (True, True)
        asyncio.run(change_beside())
        token = withdraw(one, "").json()["token"]

        assert two.evaluate(question(consistency_token=token)).json()["decision"] is False


def test_a_process_waits_for_the_newest_change_that_it_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own may be known while one before it is not: what others must have is its own."""
    built: list[Barrier] = []

    class Noted(Barrier):
        def __init__(self, *parts: Any, **how: Any) -> None:
            super().__init__(*parts, **how)
            built.append(self)

    monkeypatch.setattr(wiring, "Barrier", Noted)
    settings = load_settings(
        database_url=f"sqlite:///{tmp_path}/ruqsat.db", journal_dir=tmp_path / "journal", policy_dir=Path(ADMITTED.name),
        policy_compare_seconds=0.5, policy_poll_seconds=0, auth_listen="off", lease_seconds=60, probe_seconds=30,
    )  # fmt: skip

    async def story() -> None:
        async with wiring.open_process(settings) as process:
            known = process.information.position
            own = Position(known.epoch, known.seq + 2)
            process.information._freshness.learn_commit(own, ("patient:p",))
            assert process.information.position == known
            assert (await built[0].pass_through()).by == "acknowledged"
            assert built[0]._position() == own
            assert built[0]._known_since() == process.information.known_since

    asyncio.run(story())
