"""A whole file into a database, and a whole database into a file, on both kinds."""

import asyncio
import gzip
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from bench.population import people, run_import, write_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.core.strategies import Maker
from tests.ground import position_of
from tests.process.starter import environment
from tests.sidecar import Sidecar, running_sidecar

from ruqsat.cli.facts import _words
from ruqsat.core.consent_record import Change, ConsentRow, RecordBody, with_rows
from ruqsat.core.facts import (
    Consent,
    Delegation,
    Episode,
    Grantee,
    Organisation,
    PatientFacts,
    Position,
    Provision,
    Relationship,
    Representation,
    StatutoryRequest,
    SubjectFacts,
    entry_id,
)
from ruqsat.core.facts_lines import Words, render_header, render_line
from ruqsat.core.registered import Body, RecordRow
from ruqsat.core.vocabulary import Switches
from ruqsat.core.world import ConsentRecord, Giver, Signature
from ruqsat.errors import RequestError, SettingsError, StoreLockedError
from ruqsat.settings import load_settings
from ruqsat.stores import facts_bulk, sql_import
from ruqsat.stores.facts_bulk import Imported, opened_bulk
from ruqsat.stores.facts_file import FactsFile, written
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import upgrade_database
from ruqsat.stores.sql_facts import DOCUMENTS
from ruqsat.stores.sql_schema import document, facts_import, facts_import_run, feed, patient_facts

PERMIT = Consent("c1", "t1", "active", 10, Provision("permit", start=1, end=99))
REFUSAL = Consent("c2", "t2", "active", 10, Provision("deny"))


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database with its tables, on each kind in turn."""
    return new_url(request, tmp_path, request.param)


def new_url(request: pytest.FixtureRequest, folder: Path, kind: str) -> str:
    """Make a database."""
    if kind == "postgres":
        return str(request.getfixturevalue("truth"))
    made = f"sqlite:///{folder}/truth.db"
    asyncio.run(upgrade_database(made))
    return made


@pytest.fixture(scope="session")
def words() -> Words:
    """The words of the pack."""
    return _words(load_settings(auth_listen="off"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of these facts (or raw lines), and return its path."""

    def write(*facts: Any, name: str = "facts.jsonl", header: bytes = render_header(0, 0)) -> Path:
        counted = [isinstance(each, SubjectFacts) for each in facts if not isinstance(each, bytes)]
        first = render_header(sum(counted), len(counted) - sum(counted)) if header == render_header(0, 0) else header
        lines = [each if isinstance(each, bytes) else render_line(each) for each in facts]
        path = tmp_path / name
        path.write_bytes(b"".join((first, *lines)))
        return path

    return write


def take(url: str, path: Path, words: Words, *, trial: bool = False) -> Imported:
    """Import a file."""
    file = FactsFile(path)
    try:
        with opened_bulk(url) as bulk:
            bulk.be_the_only_import()
            return bulk.import_file(file, words, trial=trial, watch=lambda *_: None)
    finally:
        file.close()


def export(url: str, path: Path, patient: str | None = None) -> bytes:
    """Export everybody and return the bytes."""
    with opened_bulk(url) as bulk, written(path) as out:
        bulk.export(out, patient, lambda *_: None)
    return path.read_bytes()


def asked(url: str, what: Callable[[SqlStore], Any]) -> Any:
    """Ask a store and close it."""

    async def ask() -> Any:
        store = await SqlStore.open(url, read_timeout_seconds=5)
        try:
            return await what(store)
        finally:
            await store.aclose()

    return asyncio.run(ask())


def rows(url: str, *questions: Any) -> list[Any]:
    """Run questions and return their rows."""
    with opened_bulk(url) as bulk, bulk.transaction() as connection:
        return [connection.execute(question).fetchall() for question in questions]


def position(url: str) -> Position:
    """Return the position of a database."""
    found: Position = asked(url, position_of)
    return found


@pytest.mark.slow
def test_a_population_comes_out_as_it_went_in(url: str, tmp_path: Path, words: Words) -> None:
    """Byte for byte; all rows are there; and the whole took one entry in the feed."""
    path = tmp_path / "facts.jsonl"
    write_file(path, 3_000)
    before = position(url)

    report = take(url, path, words)

    assert report.taken is not None and (report.taken.new, report.patients) == (4_050, 3_000)
    entries, documents, staged = rows(url, select(feed.c.seq, feed.c.key), select(document), select(facts_import))
    assert [tuple(each) for each in entries] == [(before.seq + 1, "ALL")]
    assert (len(documents), len(staged)) == (9_000, 0)
    out = export(url, tmp_path / "out.jsonl")
    assert sorted(out.splitlines()) == sorted(path.read_bytes().splitlines())

    again = take(url, tmp_path / "out.jsonl", words)

    assert again.taken is not None and (again.taken.unchanged, again.taken.position) == (4_050, None)
    assert export(url, tmp_path / "out2.jsonl") == out
    assert position(url).seq == before.seq + 1


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(situations=st.lists(st.integers(0, 2**48), min_size=1, max_size=4))
def test_whatever_is_exported_is_imported_again(situations: list[int], truths: Callable[[], str], words: Words) -> None:
    """Into an empty database, from which the same lines come out: people, organisations, things, and every document."""
    with TemporaryDirectory() as name:
        first, second, folder = truths(), truths(), Path(name)
        subjects, patients = everything(situations)
        asked(first, lambda store: store.record_facts(subjects, patients))
        out = export(first, folder / "out.jsonl")

        report = take(second, folder / "out.jsonl", with_properties(words))

        assert (report.findings, report.taken and report.taken.new) == ((), len(subjects) + len(patients))
        assert export(second, folder / "again.jsonl") == out


@pytest.fixture(params=["sqlite", "postgres"])
def truths(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """A maker of empty databases, of each kind in turn."""
    numbers = itertools.count()

    def make() -> str:
        if request.param == "postgres":
            url = request.getfixturevalue("postgres").new_database()
        else:
            url = f"sqlite:///{tmp_path}/{next(numbers)}.db"
        asyncio.run(upgrade_database(url))
        return str(url)

    return make


def with_properties(words: Words) -> Words:
    """Return the words of a pack that declares some, and a type of things."""
    return msgspec.structs.replace(
        words, types=frozenset({"Dashboard"}), of_subjects={"in_training": "yes-no"}, of_resources={"level": "number"}
    )


def everything(seeds: list[int]) -> tuple[list[SubjectFacts], list[PatientFacts]]:
    """Return random people, one patient a seed, with what the strategies do not make; employers say what people have."""
    employer = Organisation("provider_medical", undertaking=True)
    subjects = [
        SubjectFacts("h1", roles=(), organisation=employer),
        SubjectFacts("h2", active=False, roles=(), organisation=employer),
        SubjectFacts(
            entry_id("Dashboard", '7 \\ "'), active=False, resource_type="Dashboard", properties={"level": 2.5}
        ),
    ]
    patients = []
    for number, seed in enumerate(seeds):
        _, facts, _ = Maker(seed).situation()
        assert facts.subject is not None and facts.patient is not None
        told = {"h1": employer}.get(facts.subject.org or "")
        subjects.append(
            msgspec.structs.replace(
                facts.subject, id=f"s{number}", organisation=told, properties={"in_training": not seed % 2}
            )
        )
        patients.append(renamed(facts.patient, number))
    return subjects, patients


def renamed(who: PatientFacts, number: int) -> PatientFacts:
    """Return a patient whose documents have ids of their own; two organisations' episodes and ties may share one."""
    ids = {
        field: tuple(msgspec.structs.replace(each, id=f"{each.id}-{number}") for each in getattr(who, field))
        for field in DOCUMENTS.values()
    }
    ids["requests"] = (StatutoryRequest(f"q-{number}", "court", ("labs",), 99, revoked_at=number),)
    return msgspec.structs.replace(
        who, id=f"p{number}", **ids,
        episodes=tuple(Episode("e1", org, "planned", number, number + 5) for org in ("h1", "h2")),
        relationships=(
            *who.relationships, *(Relationship("order", None, org, id="t1") for org in ("h1", "h2", None)),
        ),
    )  # fmt: skip


def test_packed_files_hold_the_same(url: str, tmp_path: Path, words: Words) -> None:
    """In and out; one that is cut off is refused whole."""
    path = tmp_path / "facts.jsonl.gz"
    write_file(tmp_path / "plain", 300)
    path.write_bytes(gzip.compress((tmp_path / "plain").read_bytes()))
    (tmp_path / "cut.jsonl.gz").write_bytes(path.read_bytes()[:-2_000])

    assert "gzip" in take(url, tmp_path / "cut.jsonl.gz", words).findings[-1].found
    assert asked(url, lambda store: store.is_empty())

    assert take(url, path, words).patients == 300
    assert gzip.decompress(export(url, tmp_path / "out.jsonl.gz")) == export(url, tmp_path / "out.jsonl")
    assert export(url, tmp_path / "again.jsonl.gz") == (tmp_path / "out.jsonl.gz").read_bytes()


def test_a_file_with_an_error_changes_nobody(
    url: str, words: Words, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every error is told with its line, also of later batches; what was prepared before it is dropped."""
    monkeypatch.setattr(facts_bulk, "BATCH_LINES", 2)
    good = [PatientFacts(f"p{number}") for number in range(6)]
    bad = [b'{"patient":{"id":"x","egov":"y"}}\n', b"{\n"]

    report = take(url, write(*good[:3], bad[0], *good[3:], bad[1], header=render_header(0, 6)), words)

    assert [each.line for each in report.findings] == [5, 9]
    assert asked(url, lambda store: store.is_empty())
    assert rows(url, select(facts_import), select(facts_import_run), select(feed)) == [[], [], []]


@pytest.mark.parametrize("said", [b"", b'{"patient":{"id":"p"}}\n', render_header(0, 4)])
def test_a_file_that_is_not_whole_changes_nobody(
    url: str, words: Words, write: Callable[..., Path], said: bytes
) -> None:
    """No first line, or fewer people than it says: cut off, perhaps before a refusal."""
    report = take(url, write(PatientFacts("p1"), header=said), words)

    assert len(report.findings) == 1
    assert report.findings[0].line == 1
    assert asked(url, lambda store: store.is_empty())


def test_a_trial_changes_nobody_and_the_next_run_only_takes_over(
    url: str, words: Words, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its check is the whole one, that of documents of others too."""
    path = write(SubjectFacts("s1"), PatientFacts("p1", consents=(PERMIT,)))

    assert take(url, path, words, trial=True).findings == ()
    assert asked(url, lambda store: store.is_empty())
    monkeypatch.setattr(facts_bulk, "parse_line", None)  # nothing is left to read

    report = take(url, path, words)

    assert report.resumed_at == 3
    assert asked(url, lambda store: store.fetch_facts("s1", "p1"))[1] == PatientFacts("p1", consents=(PERMIT,))


def test_somebody_elses_document_is_refused_with_its_line(url: str, words: Words, write: Callable[..., Path]) -> None:
    """On record, or in the file itself; and nobody stands twice in a file.  Nothing of it is half written."""
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1", consents=(PERMIT,)),)))
    fine, thief = PatientFacts("p0"), PatientFacts("p2", consents=(PERMIT,))

    on_record = take(url, write(fine, thief), words)
    in_file = take(
        url, write(fine, PatientFacts("p3", consents=(REFUSAL,)), PatientFacts("p4", consents=(REFUSAL,))), words
    )
    twice = take(url, write(fine, SubjectFacts("p0"), PatientFacts("p0", egov=True)), words)

    assert [(each.line, each.found) for each in on_record.findings] == [
        (3, "the id of a document is taken by another patient on record")
    ]
    assert [(each.line, each.found) for each in in_file.findings] == [(4, "the document of line 3 again")]
    assert [(each.line, each.found) for each in twice.findings] == [(4, "the person of line 2 again")]
    assert rows(url, select(patient_facts.c.id), select(facts_import)) == [[("p1",)], []]


def test_a_withdrawn_consent_is_not_brought_back(url: str, words: Words, write: Callable[..., Path]) -> None:
    """Nor is a refusal that the file does not name; what the file says otherwise is taken."""
    before = PatientFacts("p1", consents=(PERMIT, REFUSAL))
    path = write(PatientFacts("p1", egov=True, consents=(PERMIT,)))
    asked(url, lambda store: store.record_facts((), (before,)))
    withdrawn = msgspec.structs.replace(PERMIT, status="revoked", revoked_at=20)
    asked(url, lambda store: store.record_facts((), (msgspec.structs.replace(before, consents=(withdrawn, REFUSAL)),)))

    report = take(url, path, words)

    assert report.taken is not None
    assert (report.taken.merged, report.taken.set_aside, report.taken.lines) == (1, 1, (2,))
    found = asked(url, lambda store: store.fetch_facts(None, "p1"))[1]
    assert found == PatientFacts("p1", egov=True, consents=(withdrawn, REFUSAL))


def test_a_withdrawal_between_preparing_and_taking_over_stands(
    url: str, words: Words, write: Callable[..., Path]
) -> None:
    """The merge is made on what is on record at the last moment, under a lock; also for who came meanwhile."""
    new = PatientFacts("p2", consents=(REFUSAL,))
    path = write(
        PatientFacts("p1", egov=True, consents=(PERMIT,)), msgspec.structs.replace(new, egov=True, consents=())
    )
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1", consents=(PERMIT,)),)))
    take(url, path, words, trial=True)
    withdrawn = msgspec.structs.replace(PERMIT, status="revoked", revoked_at=20)
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1", consents=(withdrawn,)), new)))

    report = take(url, path, words)

    assert report.resumed_at > 0
    found = [asked(url, lambda store, who=who: store.fetch_facts(None, who))[1] for who in ("p1", "p2")]
    assert found == [
        PatientFacts("p1", egov=True, consents=(withdrawn,)),
        PatientFacts("p2", egov=True, consents=(REFUSAL,)),
    ]


def record(status: Any) -> ConsentRow:
    """Return a full record in some status, whose personal part is a canary."""
    version = 1 if status == "active" else 2
    said = ConsentRecord(
        "permit", (Grantee(org="h1"),), patient="p1", status=status, granted_at="2026-01-01T00:00:00Z",
        start="2026-01-01T00:00:00Z", end="2027-01-01T00:00:00Z", form="e_document", thread="t9",
        signature=Signature("patient_eds", True), given_by=Giver("patient", "p1"),
        revoked_at=None if status == "active" else "2026-02-01T00:00:00Z",
    )  # fmt: skip
    return ConsentRow(
        "c9", "p1", version, status, "permit", "t9", "h1", None, 5, 5, RecordBody(said), b"CANARY-sealed", version
    )


def test_a_document_of_the_registry_stands_as_it_is_there(
    url: str, tmp_path: Path, words: Words, write: Callable[..., Path]
) -> None:
    """An older export brings no withdrawn record back, nor does a file that knows nothing of it drop it."""

    async def change(store: SqlStore, status: Any) -> PatientFacts:
        def made(facts: PatientFacts, *_: Any) -> Change:
            return Change(b"", (record(status),), with_rows(facts, (record(status),), Switches()))

        await store.change_records("p1", (), None, made)
        return (await store.fetch_facts(None, "p1"))[1]  # type: ignore[return-value]

    asked(url, lambda store: store.record_facts((), (PatientFacts("p1"),)))
    asked(url, lambda store: change(store, "active"))
    old = export(url, tmp_path / "old.jsonl")
    withdrawn = asked(url, lambda store: change(store, "revoked"))
    assert withdrawn.consents[0].status == "revoked"

    report = take(url, tmp_path / "old.jsonl", words)
    take(url, write(PatientFacts("p1", egov=True)), words)

    assert report.taken is not None and (report.taken.set_aside, report.taken.position) == (1, None)
    found = asked(url, lambda store: store.fetch_facts(None, "p1"))[1]
    assert found == msgspec.structs.replace(withdrawn, egov=True)
    assert b"CANARY" not in old + export(url, tmp_path / "new.jsonl")


def draft(store: SqlStore, row: ConsentRow | RecordRow, kind: str = "consent") -> Any:
    """Write a record down that is in force nowhere."""
    return store.change_records(row.patient, (), None, lambda *_: Change(b"", (row,)), kind)


DRAFT = msgspec.structs.replace(record("active"), status="draft")
REJECTED = RecordRow("representation", "w9", "p1", 1, "rejected", "h1", 5, 5, Body({}), b"CANARY-sealed", 1)
STATED = {
    "consents": (msgspec.structs.replace(PERMIT, id="c9"),),
    "representations": (Representation("w9", "saule", "guardian", verified=True),),
}


def test_a_record_that_is_not_in_force_is_not_put_in_force(url: str, words: Words, write: Callable[..., Path]) -> None:
    """A draft and a rejected one, stated as if they were; the same ids of other kinds are others."""
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1"),)))
    asked(url, lambda store: draft(store, DRAFT))
    asked(url, lambda store: draft(store, REJECTED, "representation"))
    other = Delegation("w9", "c9", "aunt", 99, ("labs",), ("FAMRQT",))

    report = take(url, write(PatientFacts("p1", delegations=(other,), **STATED)), words)

    assert report.taken is not None and (report.taken.merged, report.taken.set_aside) == (1, 2)
    assert asked(url, lambda store: store.fetch_facts(None, "p1"))[1] == PatientFacts("p1", delegations=(other,))


@pytest.mark.parametrize("field", STATED)
def test_a_record_of_somebody_else_that_is_not_in_force_is_refused(
    url: str, words: Words, write: Callable[..., Path], field: str
) -> None:
    """Its id is taken, though no decision sees it."""
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1"),)))
    asked(url, lambda store: draft(store, DRAFT))
    asked(url, lambda store: draft(store, REJECTED, "representation"))

    report = take(url, write(PatientFacts("p2", **{field: STATED[field]})), words)

    assert [each.found for each in report.findings] == ["the id of a document is taken by another patient on record"]


def test_powers_and_requests_are_found_by_their_ids(url: str, words: Words, write: Callable[..., Path]) -> None:
    """Imported new or into what is on record, so that they can be ended; and gone when they are."""
    power = STATED["representations"]
    request = StatutoryRequest("q9", "court", ("labs",), 99)
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1"),)))

    take(url, write(PatientFacts("p1", representations=power), PatientFacts("p2", requests=(request,))), words)

    assert asked(url, lambda store: store.find_document("representation", "w9")) == "p1"
    assert asked(url, lambda store: store.find_document("request", "q9")) == "p2"
    taken = take(url, write(PatientFacts("p3", requests=(request,))), words)
    assert [each.line for each in taken.findings] == [2]
    take(url, write(PatientFacts("p1")), words)
    assert asked(url, lambda store: store.find_document("representation", "w9")) is None


def test_two_powers_of_one_id_hold_up_nobody(url: str) -> None:
    """They may be there from before they were listed: both patients can still be changed, and the first is found."""
    for patient in ("p1", "p2", "p1"):
        facts = PatientFacts(patient, **STATED | {"consents": ()})
        asked(url, lambda store, facts=facts: store.record_facts((), (facts,)))

    assert asked(url, lambda store: store.find_document("representation", "w9")) == "p1"


CLINIC = Organisation("provider_medical", undertaking=True)


def test_who_was_deactivated_is_not_brought_back(url: str, words: Words, write: Callable[..., Path]) -> None:
    """Told with the line; what else the file says of the person is taken."""
    asked(url, lambda store: store.record_facts((SubjectFacts("dr", active=False),), ()))

    report = take(url, write(SubjectFacts("dr", roles=("nurse",))), words)

    assert report.taken is not None and (report.taken.set_aside, report.taken.lines) == (1, (2,))
    found = asked(url, lambda store: store.fetch_facts("dr", None))[0]
    assert found == SubjectFacts("dr", active=False, roles=("nurse",))


def test_people_have_what_their_employers_entry_says(url: str, words: Words, write: Callable[..., Path]) -> None:
    """An employer that the file changes, one that was deactivated here, one that has no entry; and once is enough."""
    old = Organisation("provider_medical")
    asked(
        url,
        lambda store: store.record_facts(
            (
                SubjectFacts("h1", organisation=old), SubjectFacts("a-h1", org="h1", organisation=old),
                SubjectFacts("h2", active=False, organisation=CLINIC), SubjectFacts("z-h2", org="h2"),
            ),
            (),
        ),
    )  # fmt: skip
    path = write(
        SubjectFacts("h1", organisation=CLINIC), SubjectFacts("new-h1", org="h1", organisation=old),
        SubjectFacts("new-h2", org="h2", organisation=CLINIC), SubjectFacts("z-h2", org="h2", organisation=CLINIC),
        SubjectFacts("new-h3", org="h3", organisation=CLINIC),
    )  # fmt: skip
    since = position(url)

    take(url, path, words)

    found = {
        who: asked(url, lambda store, who=who: store.fetch_facts(who, None))[0].organisation
        for who in ("a-h1", "new-h1", "new-h2", "z-h2", "new-h3")
    }
    assert found == {"a-h1": CLINIC, "new-h1": CLINIC, "new-h2": None, "z-h2": None, "new-h3": CLINIC}
    _, changes = asked(url, lambda store: store.fetch_changes(since))
    assert sorted(key for _, key in changes) == [
        f"subject:{who}" for who in ("a-h1", "h1", "new-h1", "new-h2", "new-h3")
    ]
    again = take(url, path, words)
    assert again.taken is not None and (again.taken.unchanged, again.taken.position) == (5, None)


def test_an_organisation_that_becomes_a_person_employs_nobody(
    url: str, words: Words, write: Callable[..., Path]
) -> None:
    """Its people take nothing from it any more, as from any entry that is no organisation's."""
    people = (SubjectFacts("h1", organisation=CLINIC), SubjectFacts("dr", org="h1", organisation=CLINIC))
    asked(url, lambda store: store.record_facts(people, ()))

    take(url, write(SubjectFacts("h1", roles=("nurse",))), words)

    assert asked(url, lambda store: store.fetch_facts("dr", None))[0] == SubjectFacts("dr", org="h1")


def test_what_was_nothing_new_in_a_trial_is_merged_if_it_was_changed_since(
    url: str, words: Words, write: Callable[..., Path]
) -> None:
    """The file is held against what is on record when it is taken over, and so is what it has to set aside."""
    before = PatientFacts("p1", egov=True, consents=(PERMIT,))
    asked(url, lambda store: store.record_facts((), (before, PatientFacts("p2", deceased_at=5))))
    path = write(before, PatientFacts("p2"))
    take(url, path, words, trial=True)
    withdrawn = msgspec.structs.replace(PERMIT, status="revoked", revoked_at=20)
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1", consents=(withdrawn,)),)))

    report = take(url, path, words)

    assert report.taken is not None and report.resumed_at == 3
    assert (report.taken.merged, report.taken.unchanged) == (1, 1)
    assert (report.taken.set_aside, report.taken.lines) == (2, (2, 3))
    found = asked(url, lambda store: store.fetch_facts(None, "p1"))[1]
    assert found == PatientFacts("p1", egov=True, consents=(withdrawn,))


def test_what_was_prepared_under_other_words_is_not_taken_over(
    url: str, words: Words, write: Callable[..., Path]
) -> None:
    """A role that the pack has dropped since then is an error of the second run; the same words go on."""
    path = write(SubjectFacts("s1", roles=("nurse",)))
    take(url, path, words, trial=True)

    fewer = take(url, path, msgspec.structs.replace(words, roles=words.roles - {"nurse"}))

    assert [each.line for each in fewer.findings] == [2]
    take(url, path, words, trial=True)
    assert take(url, path, words).resumed_at == 2


def test_few_changes_are_told_by_name(url: str, words: Words, write: Callable[..., Path]) -> None:
    """So that a nightly file that changes two people costs nobody's memory but theirs."""
    first = [PatientFacts(f"p{number}") for number in range(1_200)]
    take(url, write(*first), words)
    since = position(url)

    take(url, write(*first[:-1], PatientFacts("p1199", egov=True), SubjectFacts("s1")), words)

    _, changes = asked(url, lambda store: store.fetch_changes(since))
    assert [key for _, key in changes] == ["subject:s1", "patient:p1199"]


def test_one_patient_is_exported_alone(url: str, tmp_path: Path) -> None:
    """And a stranger is an error that leaves no file."""
    asked(url, lambda store: store.record_facts((SubjectFacts("s1"),), (PatientFacts("p1"), PatientFacts("p2"))))

    assert export(url, tmp_path / "one", "p2") == render_header(0, 1) + render_line(PatientFacts("p2"))
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RequestError):
        export(url, tmp_path / "none", "p3")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("none")] == []


def test_an_export_follows_no_link_and_leaves_what_others_put_there(url: str, tmp_path: Path) -> None:
    """Whatever stands where a part could be written: what it points at keeps its text, and only our user reads the file."""
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / "out.part").symlink_to(victim)
    asked(url, lambda store: store.record_facts((), (PatientFacts("p1"),)))
    with opened_bulk(url) as bulk, written(tmp_path / "out") as out:
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob("out.*.part")}
        bulk.export(out, None, lambda *_: None)

    assert list(modes.values()) == [0o600]
    assert (victim.read_text(), (tmp_path / "out").stat().st_mode & 0o777) == ("kept", 0o600)
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out", "out.part"]


def test_two_imports_at_once_are_refused(
    truth: str, words: Words, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL, where the database is not one process's."""
    monkeypatch.setattr(facts_bulk, "LOCK_TRIES", 1)
    with opened_bulk(truth) as bulk:
        bulk.be_the_only_import()
        with pytest.raises(StoreLockedError, match="another import"):
            take(truth, write(), words)
    assert take(truth, write(), words).findings == ()


def test_another_revision_is_refused(tmp_path: Path) -> None:
    """Bulk work on tables of another revision is refused, with what to run."""
    with pytest.raises(SettingsError, match="ruqsat db upgrade"), opened_bulk(f"sqlite:///{tmp_path}/new.db"):
        pass


@pytest.mark.slow
def test_a_file_that_a_sidecar_has_is_refused(tmp_path: Path, write: Callable[..., Path]) -> None:
    """One line that says who has it, and exit code 2."""
    with running_sidecar(tmp_path / "sidecar") as sidecar:
        done = command(f"sqlite:///{tmp_path}/sidecar/ruqsat.db", str(write()))

    assert done.returncode == 2
    assert f"in use by process {sidecar.process.pid}" in done.stderr


def command(url: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `ruqsat facts import`."""
    line = [sys.executable, "-m", "ruqsat", "facts", "import", *words, "--database-url", url]
    return subprocess.run(line, env=environment(Path(".")), capture_output=True, text=True, check=False)


def test_the_command_says_where_and_what_and_no_value(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Exit code 1, the line, the path, what to do; plain lines of progress where there is no terminal."""
    asyncio.run(upgrade_database(f"sqlite:///{tmp_path}/truth.db"))
    path = write(b'{"patient":{"id":"p1","deceased_at":"880101300123"}}\n', header=render_header(0, 1))

    done = command(f"sqlite:///{tmp_path}/truth.db", str(path), "--dry-run")

    assert done.returncode == 1
    assert f"{path}:2: error[bad-facts]: patient.deceased_at: expected an instant" in done.stdout
    assert "hint: write an RFC 3339 instant" in done.stdout
    assert "880101300123" not in done.stdout + done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.slow
def test_a_running_sidecar_forgets_what_it_read_before(truth: str, tmp_path: Path, words: Words) -> None:
    """A consent that a file says is withdrawn opens nothing any more, once a lease is over."""
    with running_sidecar(tmp_path, database_url=truth, lease_seconds="1", probe_seconds="0.3") as sidecar:
        assert may_read(sidecar)
        facts = asked(truth, lambda store: store.fetch_facts(None, "p-dana"))[1]
        closed = tuple(msgspec.structs.replace(each, status="revoked", revoked_at=1) for each in facts.consents)
        others = list(people(1_500))
        path = tmp_path / "facts.jsonl"
        patients = [each for each in others if isinstance(each, PatientFacts)]
        closing = msgspec.structs.replace(facts, consents=closed)
        path.write_bytes(b"".join((render_header(0, 1_501), *map(render_line, (*patients, closing)))))

        report = take(truth, path, words)
        time.sleep(1.0)

        assert not may_read(sidecar)
        assert report.taken is not None and report.taken.position is not None
        assert rows(truth, select(feed.c.key).where(feed.c.seq == report.taken.position.seq)) == [[("ALL",)]]


def may_read(sidecar: Sidecar) -> bool:
    """Ask whether dr_aida may read a laboratory result of p-dana."""
    import httpx  # noqa: PLC0415

    question = {
        "subject": {"type": "user", "id": "dr_aida"}, "action": {"name": "read"},
        "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": "labs"}},
        "context": {"purpose": "TREAT"},
    }  # fmt: skip
    answer = httpx.post(
        f"http://127.0.0.1:{sidecar.ports['json']}/access/v1/evaluation", json=question, trust_env=False
    )
    return bool(answer.json()["decision"])


KILLS = 6 if os.environ.get("RUQSAT_TEST_LONGER", "1") != "1" else 4


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_where_it_was(url: str, tmp_path: Path) -> None:
    """Killed at random moments and run again: nobody sees half of it, and the result is the file, in one entry."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "facts.jsonl"
    write_file(path, 16_000)
    words = [sys.executable, "-m", "ruqsat", "facts", "import", str(path), "--database-url", url]
    seen, met = [], 0
    for _ in range(KILLS):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(Path(".")))
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), True)
        while process.stderr.readline().startswith(b"sqlite_is_old"):
            pass
        time.sleep(chance.uniform(0, 1.2))
        process.kill()
        met += process.wait() == -signal.SIGKILL
        process.stderr.close()
        (people_there,) = rows(url, select(patient_facts.c.id))
        seen.append(len(people_there))
    assert set(seen) <= {0, 16_000}
    assert met, "every import had ended before its kill: nothing was proved"

    done = command(url, str(path))

    assert (done.returncode, done.stderr.count("error")) == (0, 0), done.stderr
    assert seen[-1] or "went on after line" in done.stdout
    entries, staged = rows(url, select(feed.c.key), select(facts_import_run))
    assert (entries, staged) == ([("ALL",)], [])
    out = export(url, tmp_path / "out.jsonl")
    assert sorted(out.splitlines()) == sorted(path.read_bytes().splitlines())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(truth: str, tmp_path: Path) -> None:
    """Ten thousand patients take about the memory of three thousand, in a process of their own; all of them arrive."""
    peaks = []
    for patients in (3_000, 10_000):
        path = tmp_path / f"{patients}.jsonl"
        write_file(path, patients)
        peaks.append(run_import(truth, path).peak_mb)

    people_there, documents = rows(truth, select(patient_facts.c.id), select(document.c.id))
    assert (len(people_there), len(documents)) == (10_000, 30_000)
    assert peaks[1] / peaks[0] < 1.1, peaks


def test_the_names_of_the_tables_are_what_the_import_fills() -> None:
    """The columns of what is copied in are those of the rows that are made."""
    names = ["subject", "id", "line", "state", "set_aside", "version", "body"]
    assert [column.name for column in facts_import.columns] == names
    assert sql_import.Line._fields == ("number", "facts")
