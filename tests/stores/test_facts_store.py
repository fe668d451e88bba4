"""What every store of facts promises, whatever it is built on."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import date
from pathlib import Path

import msgspec
import pytest
from tests.ground import position_of

from ruqsat.core.facts import (
    Consent,
    Delegation,
    EmergencyGrant,
    Grantee,
    PatientFacts,
    Position,
    Provision,
    SubjectFacts,
)
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.stores import sql_facts, sql_records
from ruqsat.stores.sql import SqlStore

Opener = Callable[[], AbstractAsyncContextManager[SqlStore]]


@asynccontextmanager
async def opened_at(url: str) -> AsyncIterator[SqlStore]:
    """Open the store at *url* and close it."""
    store = await SqlStore.open(url, read_timeout_seconds=2)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Each kind of store in turn; opened twice, it is the same data."""
    url = f"sqlite:///{tmp_path}/truth.db" if request.param == "sqlite" else request.getfixturevalue("truth")
    return lambda: opened_at(url)


def with_store(opened: Opener, scenario: Callable[[SqlStore], Awaitable[None]]) -> None:
    """Run *scenario* against a store and close it."""

    async def run() -> None:
        async with opened() as store:
            await scenario(store)

    asyncio.run(run())


DOCTOR = SubjectFacts(id="doctor-1", roles=("doctor",), org="clinic-7", btg_today=2)
CONSENT = Consent(
    id="consent-1",
    thread="thread-1",
    status="active",
    granted_at=1_700_000_000_000_000,
    root=Provision(
        effect="permit",
        grantees=(Grantee(org="clinic-7"),),
        purposes=("TREAT",),
        data_from=date(2020, 1, 31),
        exceptions=(Provision(effect="deny", labels=("PSY",)),),
    ),
)
DELEGATION = Delegation(
    id="delegation-1", consent="consent-1", delegate="aunt", end=5, categories=("lab",), purposes=("SELF",)
)
GRANT = EmergencyGrant(id="grant-1", subject="doctor-1", start=1, end=9, reason_code="unconscious", reason_length=40)
PATIENT = PatientFacts(
    id="patient-1",
    birth_date=date(1980, 2, 29),
    consents=(CONSENT,),
    delegations=(DELEGATION,),
    grants=(GRANT,),
)


def test_recorded_facts_are_read_back_whole(opened: Opener) -> None:
    """What is recorded of a subject and a patient is read back equal, with the position of its commit."""

    async def scenario(store: SqlStore) -> None:
        position, keys = await store.record_facts((DOCTOR,), (PATIENT,))

        assert await store.fetch_facts("doctor-1", "patient-1") == (DOCTOR, PATIENT, position)
        assert keys == ("subject:doctor-1", "patient:patient-1")

    with_store(opened, scenario)


def test_facts_outlive_the_process(opened: Opener) -> None:
    """Facts, position and token key are the same when the database is opened again."""
    before: list[object] = []

    async def write(store: SqlStore) -> None:
        await store.record_facts((DOCTOR,), (PATIENT,))
        before.extend([await store.fetch_facts("doctor-1", "patient-1"), store.token_key])

    async def read(store: SqlStore) -> None:
        assert [await store.fetch_facts("doctor-1", "patient-1"), store.token_key] == before

    with_store(opened, write)
    with_store(opened, read)


def test_unknown_ids_are_nobody(opened: Opener) -> None:
    """An id that nobody has, and one that was not asked for, both read as None."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((DOCTOR,), (PATIENT,))

        assert (await store.fetch_facts("doctor-2", "patient-2"))[:2] == (None, None)
        assert (await store.fetch_facts(None, "patient-1"))[:2] == (None, PATIENT)
        assert (await store.fetch_facts("doctor-1", None))[:2] == (DOCTOR, None)

    with_store(opened, scenario)


@pytest.mark.parametrize("other", ["PATIENT-1", "patient-1 ", "patient-1\x01", "patient-１", "Patient-1", "pаtient-1"])
def test_ids_are_compared_exactly(opened: Opener, other: str) -> None:
    """An id that differs in case, width or a trailing character is another person's."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PATIENT,))
        await store.record_facts((), (PatientFacts(id=other, egov=True),))

        assert (await store.fetch_facts(None, "patient-1"))[1] == PATIENT
        assert (await store.fetch_facts(None, other))[1] == PatientFacts(id=other, egov=True)

    with_store(opened, scenario)


def test_a_null_character_never_makes_two_people_one(opened: Opener) -> None:
    """An id that ends in a null character is another person's, or cannot be kept at all; the first is not touched."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PATIENT,))
        try:
            await store.record_facts((), (PatientFacts(id="patient-1\x00", egov=True),))
        except StoreUnavailableError:
            with pytest.raises(StoreUnavailableError):
                await store.fetch_facts(None, "patient-1\x00")
        else:
            assert (await store.fetch_facts(None, "patient-1\x00"))[1] == PatientFacts(id="patient-1\x00", egov=True)

        assert (await store.fetch_facts(None, "patient-1"))[1] == PATIENT

    with_store(opened, scenario)


def test_an_id_that_is_no_text_is_refused(opened: Opener) -> None:
    """Half a surrogate pair cannot be looked up: the answer is an error, not "nobody"."""

    async def scenario(store: SqlStore) -> None:
        with pytest.raises(StoreUnavailableError):
            await store.fetch_facts("doctor-\ud800", None)

    with_store(opened, scenario)


def test_positions_are_dense_and_in_commit_order(opened: Opener) -> None:
    """Each touched key takes the next number, also when many write at once, and none is left out."""

    async def scenario(store: SqlStore) -> None:
        start = await position_of(store)
        writes = [store.record_facts((DOCTOR,), (PatientFacts(id=f"patient-{i}"),)) for i in range(20)]
        positions = [position for position, _ in await asyncio.gather(*writes)]

        head, changes = await store.fetch_changes(start)

        assert sorted(position.seq for position in positions) == [start.seq + 2 * i for i in range(1, 21)]
        assert [seq for seq, _ in changes] == list(range(start.seq + 1, head.seq + 1))
        assert {key for _, key in changes} == {"subject:doctor-1"} | {f"patient:patient-{i}" for i in range(20)}

    with_store(opened, scenario)


def test_changes_are_listed_after_a_position_only(opened: Opener) -> None:
    """Only what came after a position is listed, and nothing for an epoch that is not this database's."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((DOCTOR,), ())
        since = await position_of(store)
        assert await store.fetch_changes(since) == (since, ())

        after, _ = await store.record_facts((), (PATIENT,))

        assert await store.fetch_changes(since) == (after, ((after.seq, "patient:patient-1"),))
        assert await store.fetch_changes(Position("another", 0)) == (after, ())

    with_store(opened, scenario)


def test_a_bulk_import_takes_one_entry(opened: Opener) -> None:
    """More than a thousand keys at once are told as one change of everything."""

    async def scenario(store: SqlStore) -> None:
        start = await position_of(store)
        crowd = tuple(PatientFacts(id=f"patient-{i}") for i in range(1_001))

        position, keys = await store.record_facts((), crowd)

        assert keys == ("ALL",)
        assert await store.fetch_changes(start) == (position, ((start.seq + 1, "ALL"),))
        assert (await store.fetch_facts(None, "patient-1000"))[1] == crowd[1_000]

    with_store(opened, scenario)


def test_changes_too_many_to_list_leave_a_visible_gap(opened: Opener) -> None:
    """When more has changed than is listed, the listed numbers do not reach the position."""

    async def scenario(store: SqlStore) -> None:
        start = await position_of(store)
        for part in range(2):
            crowd = tuple(PatientFacts(id=f"patient-{part}-{i}") for i in range(600))
            await store.record_facts((), crowd)

        head, changes = await store.fetch_changes(start)

        assert head.seq == start.seq + 1_200
        assert len(changes) == 1_000

    with_store(opened, scenario)


def test_change_patient_rewrites_what_is_there(opened: Opener) -> None:
    """A change sees the newest facts, even when many change the same patient at once."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PatientFacts(id="patient-1", deceased_at=0),))

        def count(facts: PatientFacts) -> PatientFacts:
            return msgspec.structs.replace(facts, deceased_at=(facts.deceased_at or 0) + 1)

        positions = await asyncio.gather(*(store.change_patient("patient-1", count) for _ in range(25)))

        _, patient, position = await store.fetch_facts(None, "patient-1")
        assert patient == PatientFacts(id="patient-1", deceased_at=25)
        assert position == max(positions, key=lambda each: each.seq)

    with_store(opened, scenario)


def test_change_patient_cannot_change_a_stranger(opened: Opener) -> None:
    """A patient who is not on record cannot be changed, and the position does not move."""

    async def scenario(store: SqlStore) -> None:
        before = await position_of(store)

        with pytest.raises(RequestError) as caught:
            await store.change_patient("patient-1", lambda facts: facts)

        assert caught.value.code == "unknown-patient"
        assert await position_of(store) == before

    with_store(opened, scenario)


def test_a_change_that_fails_changes_nothing(opened: Opener) -> None:
    """What a change raises reaches the caller, and neither facts nor position have moved."""

    async def scenario(store: SqlStore) -> None:
        before, _ = await store.record_facts((), (PATIENT,))

        def stumble(_: PatientFacts) -> PatientFacts:
            raise LookupError("no such consent")

        with pytest.raises(LookupError, match="no such consent"):
            await store.change_patient("patient-1", stumble)
        with pytest.raises(ValueError, match="id of a patient"):
            await store.change_patient("patient-1", lambda _: PatientFacts(id="patient-2"))

        assert await store.fetch_facts(None, "patient-2") == (None, None, before)
        assert await store.fetch_facts(None, "patient-1") == (None, PATIENT, before)

    with_store(opened, scenario)


def test_documents_are_found_by_their_ids(opened: Opener) -> None:
    """A consent, a delegation and a grant each lead to their patient, as long as the patient has them."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PATIENT,))
        assert await store.find_consent("consent-1") == "patient-1"
        assert await store.find_document("delegation", "delegation-1") == "patient-1"
        assert await store.find_document("grant", "grant-1") == "patient-1"

        await store.change_patient("patient-1", lambda facts: msgspec.structs.replace(facts, consents=()))

        assert await store.find_consent("consent-1") is None
        assert await store.find_document("grant", "grant-1") == "patient-1"

    with_store(opened, scenario)


def test_a_document_is_not_found_under_another_name(opened: Opener) -> None:
    """Neither another case nor another kind of document leads to the patient."""

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), (PATIENT,))

        assert await store.find_consent("Consent-1") is None
        assert await store.find_document("delegation", "consent-1") is None

    with_store(opened, scenario)


def test_a_consent_cannot_belong_to_two_patients(opened: Opener) -> None:
    """A consent id in use is refused for another patient, and twice in one; nothing is changed."""

    async def scenario(store: SqlStore) -> None:
        before, _ = await store.record_facts((), (PATIENT,))

        for refused in (
            PatientFacts(id="patient-2", consents=(CONSENT,)),
            PatientFacts(id="patient-1", consents=(CONSENT, CONSENT)),
        ):
            with pytest.raises(RequestError, match="already taken"):
                await store.record_facts((), (refused,))

        assert await store.fetch_facts(None, "patient-2") == (None, None, before)
        assert await store.fetch_facts(None, "patient-1") == (None, PATIENT, before)

    with_store(opened, scenario)


def test_an_abandoned_question_is_answered_to_nobody_else(opened: Opener) -> None:
    """Callers leave at random moments: the others get the person they asked for, and no seat is lost in the end."""
    seed = random.randrange(1 << 31)
    print("seed", seed)
    chance = random.Random(seed)

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((), tuple(PatientFacts(id=f"patient-{n}") for n in range(20)))

        async def ask() -> bool:
            wanted = f"patient-{chance.randrange(20)}"
            asked = asyncio.create_task(store.fetch_facts(None, wanted))
            done, _ = await asyncio.wait((asked,), timeout=chance.choice((10, chance.uniform(0, 0.01))))
            if not done:
                asked.cancel()
                await asyncio.wait((asked,))
                return False
            assert asked.result()[1] == PatientFacts(id=wanted)
            return True

        async def keep_asking() -> int:
            return sum([await ask() for _ in range(60)])

        answered = await asyncio.gather(*(keep_asking() for _ in range(8)))
        assert 0 < sum(answered) < 8 * 60

        last = await asyncio.gather(*(store.fetch_facts(None, f"patient-{n}") for n in range(20)))
        assert [patient for _, patient, _ in last] == [PatientFacts(id=f"patient-{n}") for n in range(20)]
        async with asyncio.timeout(30):
            while store._readers._free._value != 4:  # noqa: ASYNC110 - a question that was left may still be on its way
                await asyncio.sleep(0.01)

    with_store(opened, scenario)


def test_whoever_looks_up_records_holds_up_no_decision(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many look, and however long it takes: the facts that decide are read beside them."""
    go_on = threading.Event()
    monkeypatch.setattr(sql_records, "read_record", lambda *_: go_on.wait(20) and None)
    monkeypatch.setattr(sql_facts, "find_document", lambda *_: go_on.wait(20) and None)

    async def scenario(store: SqlStore) -> None:
        await store.record_facts((DOCTOR,), ())
        looks = [asyncio.create_task(store.find_record("x")) for _ in range(6)]
        looks += [asyncio.create_task(store.find_consent("x")) for _ in range(6)]
        await asyncio.sleep(0.1)
        try:
            subject, _, _ = await store.fetch_facts(DOCTOR.id, None)
            assert subject == DOCTOR
            assert not any(each.done() for each in looks)
        finally:
            go_on.set()
        assert await asyncio.gather(*looks) == [None] * 12

    with_store(opened, scenario)


def test_empty_until_somebody_is_recorded(opened: Opener) -> None:
    """A new store is empty, and one subject is enough to make it not so."""

    async def scenario(store: SqlStore) -> None:
        assert await store.is_empty()
        await store.record_facts((DOCTOR,), ())
        assert not await store.is_empty()

    with_store(opened, scenario)


def test_recording_nothing_moves_nothing(opened: Opener) -> None:
    """A change of nobody leaves the position where it is."""

    async def scenario(store: SqlStore) -> None:
        before = await position_of(store)

        assert await store.record_facts((), ()) == (before, ())
        assert await position_of(store) == before

    with_store(opened, scenario)


def test_the_last_of_one_id_wins(opened: Opener) -> None:
    """A subject recorded twice in one change is kept as last said, under one number."""

    async def scenario(store: SqlStore) -> None:
        _, keys = await store.record_facts((DOCTOR, SubjectFacts(id="doctor-1", active=False)), ())

        assert keys == ("subject:doctor-1",)
        assert (await store.fetch_facts("doctor-1", None))[0] == SubjectFacts(id="doctor-1", active=False)

    with_store(opened, scenario)


def test_a_closed_store_answers_nothing(opened: Opener) -> None:
    """After closing, each question is refused at once; closing again does no harm."""

    async def scenario(store: SqlStore) -> None:
        await store.aclose()

        for question in (store.fetch_facts("doctor-1", None), store.record_facts((DOCTOR,), ())):
            with pytest.raises(StoreUnavailableError, match="closed"):
                await question

    with_store(opened, scenario)
