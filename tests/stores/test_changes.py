"""Several subjects and patients changed together: all or nothing, one after the other, each once in the feed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.ground import position_of

from ruqsat.core.fact_changes import Found, Made, Wanted
from ruqsat.core.facts import Episode, Organisation, PatientFacts, SubjectFacts
from ruqsat.errors import RequestError
from ruqsat.stores.sql import SqlStore


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    """Open a store and close it again."""
    store = await SqlStore.open(url, read_timeout_seconds=5)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind in turn."""
    return f"sqlite:///{tmp_path / 'r.db'}" if request.param == "sqlite" else request.getfixturevalue("truth")


def with_one_more(patient: str, id_: str) -> Callable[[Found], Made]:
    """Return a change that adds an episode to a patient."""

    def change(found: Found) -> Made:
        before = found.patients[patient]
        return (), [replace(before, episodes=(*before.episodes, Episode(id_, "h1", "urgent", 1)))]

    return change


def test_two_processes_that_change_one_patient_at_once_lose_nothing(truth: str) -> None:
    """Sixty changes by two stores on one PostgreSQL, the first of which creates the patient."""

    async def scenario() -> None:
        wanted = Wanted(patients=("p1",), create="p1")
        async with opened(truth) as one, opened(truth) as other:
            await asyncio.gather(
                *(store.change_facts(wanted, with_one_more("p1", f"{n}{store is one}"))
                  for n in range(30) for store in (one, other))
            )  # fmt: skip
            _, patient, position = await one.fetch_facts(None, "p1")
        assert patient is not None and len({each.id for each in patient.episodes}) == 60
        assert position.seq == 60

    asyncio.run(scenario())


@pytest.mark.slow
def test_staff_who_come_while_another_process_changes_the_employer_take_what_it_is(truth: str) -> None:
    """Whatever the turn, each entry says of the employer what the employer's own entry says."""

    async def scenario() -> None:
        def hired(found: Found) -> Made:
            (new,) = [each for each in found.subjects.values() if each.id != "h1"]
            return [replace(new, org="h1", organisation=found.subjects["h1"].organisation)], ()

        def turned(category: str) -> Callable[[Found], Made]:
            def change(found: Found) -> Made:
                new = Organisation(category)
                return [replace(each, organisation=new) for each in found.subjects.values()], ()

            return change

        async with opened(truth) as one, opened(truth) as other:
            await one.record_facts((SubjectFacts("h1", organisation=Organisation("c0")),), ())
            for n in range(60):
                await asyncio.gather(
                    one.change_facts(Wanted(subjects=("h1", f"s{n}"), create=f"s{n}"), hired),
                    other.change_facts(Wanted(subjects=("h1",), staff_of="h1"), turned(f"c{n}")),
                )
            found = [(await one.fetch_facts(id_, None))[0] for id_ in ("h1", *(f"s{n}" for n in range(60)))]
        assert {each and each.organisation for each in found} == {Organisation("c59")}

    asyncio.run(scenario())


def test_a_change_is_whole_or_nothing_and_one_entry_each(url: str) -> None:
    """Refused: nobody is created, nothing is told; made: each once; nothing different: no entry."""

    async def scenario() -> None:
        async with opened(url) as store:

            def refused(_: Found) -> Made:
                raise RequestError("no")

            before = await position_of(store)
            with pytest.raises(RequestError):
                await store.change_facts(Wanted(patients=("p1",), create="p1"), refused)
            with pytest.raises(ValueError, match="creates"):
                await store.change_facts(Wanted(patients=("p1",), create="p1"), lambda _: ((), ()))
            assert await position_of(store) == before
            assert (await store.fetch_facts(None, "p1"))[1] is None

            seen: list[bool] = []

            def made(found: Found) -> Made:
                seen.append(found.created)
                return list(found.subjects.values()), list(found.patients.values())

            await store.record_facts((), (PatientFacts("p2"),))
            position, keys = await store.change_facts(
                Wanted(subjects=("s1", "s9"), patients=("p2", "p9"), create="s1"), made
            )
            assert keys == ("subject:s1", "patient:p2") and position.seq == before.seq + 3
            assert await store.change_facts(Wanted(patients=("p2",)), lambda _: ((), ())) == (position, ())
            assert seen == [True]

    asyncio.run(scenario())
