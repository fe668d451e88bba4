"""Facts and position are one snapshot; and the checker that says so is shown to notice when they are not."""

import asyncio
import os
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event

from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.stores.sql import SqlStore

READS = 4_000 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 1_500
COMMITS = 100


class TornRead(AssertionError):
    """A reading in which two things of one commit, or the position, disagree."""


async def check_no_read_is_torn(store: SqlStore, reads: int) -> None:
    """Let one writer bump a subject and a patient together, often, while four readers compare what they see."""
    done = False

    async def write() -> None:
        number = 1
        while not done:
            number += 1
            await store.record_facts(
                (SubjectFacts(id="doctor", btg_today=number),), (PatientFacts(id="patient", deceased_at=number),)
            )

    async def read() -> None:
        done_reading, position = 0, None
        while done_reading < reads // 4 or position is None or position.seq <= COMMITS:
            subject, patient, position = await store.fetch_facts("doctor", "patient")
            done_reading += 1
            assert subject is not None
            assert patient is not None
            if not subject.btg_today == patient.deceased_at == position.seq // 2:
                raise TornRead(f"{subject.btg_today}, {patient.deceased_at} at {position.seq}")

    await store.record_facts((SubjectFacts(id="doctor", btg_today=1),), (PatientFacts(id="patient", deceased_at=1),))
    writer = asyncio.create_task(write())
    readers = [asyncio.create_task(read()) for _ in range(4)]
    try:
        await asyncio.gather(*readers)
    finally:
        done = True
        for reader in readers:
            reader.cancel()
        await asyncio.gather(writer, *readers, return_exceptions=True)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, on each kind of database in turn."""
    return f"sqlite:///{tmp_path}/truth.db" if request.param == "sqlite" else request.getfixturevalue("truth")


@pytest.mark.slow
def test_no_read_is_torn(url: str) -> None:
    """In thousands of readings beside a busy writer, facts and position are always of one commit."""

    async def scenario() -> None:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        try:
            await check_no_read_is_torn(store, READS)
        finally:
            await store.aclose()

    asyncio.run(scenario())


def test_reads_without_a_transaction_are_torn(url: str) -> None:
    """With the BEGIN of the readers taken away, the same check finds a torn reading."""
    find_torn_reading(url, None)


def test_reads_of_committed_rows_are_torn(truth: str) -> None:
    """With the isolation that PostgreSQL gives to whoever does not ask, the same check finds a torn reading."""
    find_torn_reading(truth, "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")


def find_torn_reading(url: str, begin: str | None) -> None:
    """Plant another BEGIN, or none, in the readers, and expect the check to notice."""

    async def scenario() -> None:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        store._readers.engine.dispatch.begin.clear()
        if begin is not None:
            event.listen(store._readers.engine, "begin", lambda connection: connection.exec_driver_sql(begin))
        try:
            with pytest.raises(TornRead):
                await check_no_read_is_torn(store, 10 * READS)
        finally:
            await store.aclose()

    asyncio.run(scenario())


def test_a_change_is_never_half_seen(url: str) -> None:
    """Many changes of one patient at once are all counted: reading and rewriting are one transaction."""

    async def scenario() -> None:
        store = await SqlStore.open(url)
        try:
            await store.record_facts((), (PatientFacts(id="patient", deceased_at=0),))

            def count(facts: PatientFacts) -> PatientFacts:
                return msgspec.structs.replace(facts, deceased_at=(facts.deceased_at or 0) + 1)

            await asyncio.gather(*(store.change_patient("patient", count) for _ in range(200)))
            assert (await store.fetch_facts(None, "patient"))[1] == PatientFacts(id="patient", deceased_at=200)
        finally:
            await store.aclose()

    asyncio.run(scenario())
