"""The feed keeps its newest entries while it runs, and whoever slept past the oldest of them forgets everything."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select
from tests.ground import position_of
from tests.sidecar import running_sidecar
from tests.stores.test_facts_bulk import may_read, rows, url  # noqa: F401 - a fixture

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.service.clock import SystemClock
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.stores import sql_facts
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_schema import feed

KEPT, STEP = 40, 10


@pytest.fixture(autouse=True)
def short_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep few entries, and look often."""
    monkeypatch.setattr(sql_facts, "FEED_KEPT", KEPT)
    monkeypatch.setattr(sql_facts, "TRIM_EVERY", STEP)


async def write_many(store: SqlStore, count: int) -> None:
    """Commit *count* changes of nobody who matters, by ones and threes."""
    for number in range(count // 4):
        await store.record_facts((), tuple(PatientFacts(f"other-{number}-{each}") for each in range(3)))
        await store.record_facts((SubjectFacts(f"other-{number}"),), ())


def test_the_feed_is_trimmed_while_it_runs(url: str) -> None:  # noqa: F811
    """It holds what is kept and at most one step more, without a gap up to the head, after any number of changes."""

    async def scenario() -> list[int]:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        await write_many(store, 200)
        head = (await position_of(store)).seq
        await store.aclose()
        return [head]

    (head,) = asyncio.run(scenario())
    ((row,),) = rows(url, select(func.count(), func.min(feed.c.seq), func.max(feed.c.seq)))

    count, oldest, newest = row
    assert newest == head
    assert KEPT <= count <= KEPT + STEP + 3
    assert count == newest - oldest + 1


def test_who_slept_past_the_oldest_entry_forgets_everything(url: str) -> None:  # noqa: F811
    """What it has in memory is not used, though the change of just this patient is told by no entry any more."""

    async def scenario() -> None:
        writer = await SqlStore.open(url, read_timeout_seconds=5)
        await writer.record_facts((SubjectFacts("s"),), (PatientFacts("p", egov=True),))
        sleeper = InformationPoint(writer, Freshness(writer.token_key), SystemClock())
        facts = await sleeper.fetch("s", "p")
        assert facts.patient is not None and facts.patient.egov
        forgotten = sleeper.forgotten

        await writer.record_facts((), (PatientFacts("p", egov=False),))
        await write_many(writer, 120)
        _, changes = await writer.fetch_changes(facts.position)
        assert "patient:p" not in {key for _, key in changes}

        await sleeper.probe_once()

        assert sleeper.forgotten == forgotten + 1
        assert sleeper.facts_now("s", "p") is None
        assert (await sleeper.fetch("s", "p")).patient == PatientFacts("p")
        await sleeper.aclose()
        await writer.aclose()

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_sidecar_paused_past_the_trim_answers_nothing_from_before(truth: str, tmp_path: Path) -> None:
    """A real process, stopped for longer than a lease while a consent is withdrawn and its entry trimmed away."""

    async def withdraw() -> None:
        store = await SqlStore.open(truth)
        since = await position_of(store)
        await store.change_patient(
            "p-dana",
            lambda facts: msgspec.structs.replace(
                facts,
                consents=tuple(msgspec.structs.replace(c, status="revoked", revoked_at=1) for c in facts.consents),
            ),
        )
        await write_many(store, 120)
        _, changes = await store.fetch_changes(since)
        await store.aclose()
        assert changes[0][0] > since.seq + 1  # the entry of the withdrawal is gone

    with running_sidecar(tmp_path, database_url=truth, lease_seconds="1", probe_seconds="0.3") as sidecar:
        assert may_read(sidecar)
        sidecar.pause()
        try:
            asyncio.run(withdraw())
            time.sleep(1.1)
        finally:
            sidecar.go_on()
        answers = [may_read(sidecar) for _ in range(20)]

    assert not any(answers)
    assert "everything_forgotten" in (tmp_path / "output").read_text()
