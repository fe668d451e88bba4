"""A patient who is erased is gone from the copies, too: the archive, the database, the notices; and does not come back."""

import asyncio
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, delete, select, update

from ruqsat.cli.journal_database import with_copies
from ruqsat.core.facts import PatientFacts, SubjectFacts
from ruqsat.core.journaled import read_line
from ruqsat.core.line import build_line
from ruqsat.core.line import read_line as read_parts
from ruqsat.core.outgoing import ERASED, PENDING, SKIPPED
from ruqsat.core.personal import commitment, salted
from ruqsat.core.request import EvaluationRequest
from ruqsat.service.entries import Named, names_others, personal_parts
from ruqsat.settings import load_settings
from ruqsat.stores import journal_erasure, sql_duties, sql_journal, sql_journal_erasure
from ruqsat.stores.journal_erasure import Elsewhere, Erased, erase_patients
from ruqsat.stores.journal_folder import list_segments, read_lines
from ruqsat.stores.journal_prune import prune_journal
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.sql_duties import SqlDuties
from ruqsat.stores.sql_journal_erasure import ErasedRows
from ruqsat.stores.sql_schema import journal_beside, journal_cursor, journal_entry, journal_erased, outbox
from tests.duties.ground import AT, MOMENT, opened, run
from tests.duties.test_shipping import lines_there, ship_all, shipper
from tests.mutants import plant

WHEN = "2026-11-26T03:00:00+00:00"
TABLES = (journal_entry, journal_beside, journal_erased, outbox)


def reading(number: int, *patients: str) -> tuple[bytes, tuple[bytes, ...]]:
    """Return an allowed reading of these patients' data, with its parts."""
    entry = {
        "kind": "decision", "id": f"d-{number}", "at": AT, "allowed": True, "action": "read", "org": "h1",
        "basis": "consent", "rule": "consent-01", "law": ["R3"], "duties": ["notify_subject"], "data_class": "labs",
    }  # fmt: skip
    who: dict[str, Any] = {"subject": f"dr-{number}"}
    whom: dict[str, Any] = {"patient": patients[0], "resource": f"{patients[0]}-r{number}", "applied": [f"c{number}"]}
    parts = [who | whom] if len(patients) == 1 else [who, whom, *({"patients_beside": [each]} for each in patients[1:])]
    return msgspec.json.encode(entry), tuple(map(msgspec.json.encode, parts))


async def write(folder: Path, first: int, rounds: int) -> None:
    """Write readings of Dana, of Bota, and of both in either order."""
    journal = DurableJournal.open(folder, segment_bytes=3000)
    for number in range(first, first + 4 * rounds, 4):
        await journal.append(*reading(number, "p-dana"))
        await journal.append(*reading(number + 1, "p-bota"))
        await journal.append(*reading(number + 2, "p-bota", "p-dana"))
        await journal.append(*reading(number + 3, "p-dana", "p-bota"))
    await journal.aclose()


def dumped(connection: Connection) -> bytes:
    """Return everything that the tables of journal and notices hold."""
    cells = [cell for table in TABLES for row in connection.execute(select(table)) for cell in row]
    return b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in cells)


def bytes_under(*folders: Path) -> bytes:
    """Return every byte of every file."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return b"".join(path.read_bytes() for path in files)


def salts_of(folder: Path, patient: bytes) -> list[bytes]:
    """Return the salts of the parts that name a patient."""
    parts = [part for line in read_lines(folder) if (found := read_parts(line)) for part in found.parts]
    return [msgspec.json.decode(part)["salt"].encode() for part in parts if patient in part]


def set_up(url: str, folder: Path, archive: Path) -> list[bytes]:
    """Write and ship a journal, put its first segment into the archive, write more; return the salts of Dana's parts."""
    asyncio.run(write(folder, 0, 6))
    run(url, lambda _, duties: ship_all(shipper(folder, duties)))
    asyncio.run(write(folder, 100, 2))
    salts = salts_of(folder, b"p-dana")
    archive.mkdir()
    shutil.move(list_segments(folder)[0].path, archive)
    return salts


def erase(url: str, folder: Path, archive: Path | None, module: ModuleType = journal_erasure) -> Erased:
    """Erase Dana as the command does."""
    settings = load_settings(auth_listen="off", database_url=url)

    async def work(copies: SqlDuties) -> Erased:
        elsewhere = Elsewhere(archive, copies)
        done: Erased = await module.erase_patients(folder, ["p-dana"], "act 12", WHEN, elsewhere=elsewhere)
        return done

    return asyncio.run(with_copies(settings, work))


def test_no_byte_of_an_erased_patient_is_left_anywhere(url: str, tmp_path: Path) -> None:
    """Not in the folder, the archive, the tables, the file of the database; others' entries and notices stay whole."""
    folder, archive = tmp_path / "j", tmp_path / "archive"
    salts = set_up(url, folder, archive)
    assert run(url, lambda store, _: store.run_reading(dumped, 5)).count(b"p-dana") > 30

    done = erase(url, folder, archive)

    assert (done.parts, done.lines) == (24, 24)
    rows = done.copies
    assert isinstance(rows, ErasedRows)
    assert (rows.lines, rows.notices > 0, rows.unerasable) == (18, True, 0)
    on_disk = bytes_under(folder, archive, *([tmp_path] if url.startswith("sqlite") else []))
    in_tables = run(url, lambda store, _: store.run_reading(dumped, 5))
    for trace in (b"p-dana", *salts, b'"dr-0"', b'"c100"'):
        assert trace not in on_disk, trace
        assert trace not in in_tables, trace

    kept = [read_line(line) for line in run(url, lambda store, _: lines_there(store))]
    bota = [each for each in kept if each is not None and "p-bota" in each.patients]
    assert len(bota) == 18 and all(each.subject for each in bota)
    assert run(url, lambda store, _: store.run_reading(notices, 5)) == {
        (None, SKIPPED, ERASED): 18, ("p-bota", PENDING, None): 18,
    }  # fmt: skip


def notices(connection: Connection) -> dict[tuple[Any, ...], int]:
    """Count the notices by whom they are about, and how they are."""
    found: dict[tuple[Any, ...], int] = {}
    for row in connection.execute(select(outbox.c.patient, outbox.c.state, outbox.c.reason)):
        found[tuple(row)] = found.get(tuple(row), 0) + 1
    return found


def test_what_is_shipped_later_or_again_stays_erased(url: str, tmp_path: Path) -> None:
    """Lines that had not arrived, and a folder put back from before; a database without the marks brings Dana back."""
    folder, archive, before = tmp_path / "j", tmp_path / "archive", tmp_path / "before"
    set_up(url, folder, archive)
    shutil.copytree(folder, before)
    erase(url, folder, archive)

    async def again(module: ModuleType = sql_journal) -> bytes:
        async with opened(url) as (store, duties):
            await store.run_writing(forget)
            await ship_all(shipper(before, Planted(duties, module)))
            return await store.run_reading(dumped, 5)

    def forget(connection: Connection) -> None:
        for table in (journal_entry, journal_beside, journal_cursor):
            connection.execute(delete(table))

    async def late() -> bytes:
        async with opened(url) as (store, duties):
            await ship_all(shipper(folder, duties))
            assert len(await lines_there(store)) > 30
            return await store.run_reading(dumped, 5)

    assert b"p-dana" not in asyncio.run(late())
    told = asyncio.run(again())
    assert b"p-dana" not in told and told.count(b"p-bota") > 20
    planted = plant(sql_journal, "    lines = still_erased(connection, lines)\n", "")
    assert b"p-dana" in asyncio.run(again(planted))


class Planted:
    """Shipments by another module's ``ship_lines``."""

    def __init__(self, duties: SqlDuties, module: ModuleType) -> None:
        self._duties, self._module = duties, module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._duties, name)

    async def ship(self, *said: Any) -> Any:
        """Take in lines."""
        return await self._duties._lane.run(
            lambda connection: self._module.ship_lines(connection, *said), 5, commit=True
        )


def test_marks_tell_nothing_and_an_erasure_that_broke_off_is_gone_on_with(url: str, tmp_path: Path) -> None:
    """A hash of a part with its salt, and the act; the database comes first, and the next try finds what is left."""
    folder, archive = tmp_path / "j", tmp_path / "archive"
    set_up(url, folder, archive)
    parts = [part for line in read_lines(folder) if (found := read_parts(line)) for part in found.parts]
    broken = plant(journal_erasure, "disk.overwrite(path,", "raise OSError(5, 'Input/output error')  # ")
    with pytest.raises(Exception, match="Input/output"):
        erase(url, folder, archive, broken)
    assert b"p-dana" in bytes_under(folder) and b"p-dana" in bytes_under(archive)
    assert b"p-dana" not in run(url, lambda store, _: store.run_reading(dumped, 5))
    done = erase(url, folder, archive)
    assert done.parts == 24 and done.copies == ErasedRows()
    assert b"p-dana" not in bytes_under(folder, archive)

    def marks(connection: Connection) -> list[Any]:
        return [tuple(row) for row in connection.execute(select(journal_erased.c.part, journal_erased.c.act))]

    kept = run(url, lambda store, _: store.run_reading(marks, 5))
    assert len(kept) == 24 and {act for _, act in kept} == {"act 12"}
    assert {commitment(part).decode() for part in parts if b"p-dana" in part} <= {mark for mark, _ in kept}


def test_a_database_that_is_not_there_stops_the_erasure(tmp_path: Path) -> None:
    """Nothing is said to be gone while nobody looked where else it is; nothing is made, nothing written over."""
    asyncio.run(write(tmp_path / "j", 0, 1))
    with pytest.raises(Exception, match="there is no database"):
        erase(f"sqlite:///{tmp_path}/none.db", tmp_path / "j", None)
    assert not (tmp_path / "none.db").exists() and b"p-dana" in bytes_under(tmp_path / "j")
    with pytest.raises(Exception, match="unknown"):
        asyncio.run(erase_patients(tmp_path / "j", ["p-dana"], "act 12", WHEN, elsewhere=Elsewhere(None, Away())))
    assert b"p-dana" in bytes_under(tmp_path / "j")


class Away:
    """A database that does not answer."""

    async def erase(self, *_: object) -> object:
        """Fail."""
        raise RuntimeError("unknown")


def test_what_was_known_of_who_asked_goes_with_the_last_who_was_asked_about(url: str, tmp_path: Path) -> None:
    """Facts of a clinician whose only entry is erased leave the shipped copy, too; those still in use stay."""

    async def write_known() -> None:
        journal = DurableJournal.open(tmp_path / "j")
        for number, patient in ((0, "p-dana"), (1, "p-bota")):
            known = (SubjectFacts(f"dr-{number}"), PatientFacts(patient))
            entry, (part,) = reading(number, patient)
            knew = [each.digest for each in known]
            await journal.append(entry, (msgspec.json.encode(msgspec.json.decode(part) | {"knew": knew}),), facts=known)
        await journal.aclose()

    asyncio.run(write_known())
    run(url, lambda _, duties: ship_all(shipper(tmp_path / "j", duties)))
    assert run(url, lambda store, _: store.run_reading(dumped, 5)).count(b"dr-0") > 1

    done = erase(url, tmp_path / "j", None)

    assert done.parts == 3 and isinstance(done.copies, ErasedRows) and done.copies.lines == 3
    left = run(url, lambda store, _: store.run_reading(dumped, 5))
    assert b"dr-0" not in left and b"p-dana" not in left
    assert left.count(b'\\"id\\":\\"dr-1\\"') == 1 and b"p-bota" in left


BESIDE: dict[str, dict[str, Any]] = {
    "launch": {"launch_patient": "p-dana"},
    "request": {"legal_request": {"ref": "r", "authority": "a", "patient": "p-dana"}},
    "inspection": {"inspection": {"act_no": "7", "patients": ["p-arman", "p-dana"]}},
}


def asking(number: int, context: dict[str, Any], patient: str = "p-bota") -> tuple[bytes, tuple[bytes, ...]]:
    """Return a reading of a patient's data, with its question as the decision keeps it."""
    whole = {
        "subject": {"type": "user", "id": f"dr-{number}"}, "action": {"name": "read"},
        "resource": {"type": "Observation", "id": f"o{number}", "properties": {"patient": patient}},
        "context": {"purpose": "TREAT", **context},
    }  # fmt: skip
    question = msgspec.convert(whole, EvaluationRequest)
    asked = msgspec.json.encode(question).decode()
    named = Named(f"dr-{number}", patient=patient, resource=f"o{number}", asked=asked, knew=("a" * 32,))
    entry = {"kind": "decision", "id": f"d-{number}", "at": AT, "allowed": False}
    return msgspec.json.encode(entry), personal_parts(msgspec.json.encode, named, apart=names_others(question))


async def pruned(url: str, folder: Path, *asked: tuple[bytes, tuple[bytes, ...]]) -> None:
    """Write and ship these readings, and delete them here."""
    for entries in (asked, [asking(99, {})]):
        journal = DurableJournal.open(folder)
        for each in entries:
            await journal.append(*each)
        await journal.aclose()
    async with opened(url) as (_, duties):
        await ship_all(shipper(folder, duties))
        assert (await prune_journal(folder, duties, MOMENT + 1)).segments == 1
    assert b"p-dana" not in bytes_under(folder)


@pytest.mark.parametrize("where", BESIDE)
def test_whom_a_question_alone_names_is_erased_though_its_segment_is_pruned(
    where: str, url: str, tmp_path: Path
) -> None:
    """By no column, and by no file that is left: only in the question; it goes, and the other patient's entry stays."""
    asyncio.run(pruned(url, tmp_path / "j", asking(1, BESIDE[where]), asking(2, {})))

    done = erase(url, tmp_path / "j", None)

    assert (done.parts, done.copies.lines) == (0, 1)  # type: ignore[attr-defined]
    left = run(url, lambda store, _: store.run_reading(dumped, 5))
    assert b"p-dana" not in left and b"p-arman" not in left
    kept = {said.id: said for line in run(url, lambda store, _: lines_there(store)) if (said := read_line(line))}
    assert (kept["d-1"].patient, kept["d-1"].subject, kept["d-1"].erased) == ("p-bota", "dr-1", True)
    assert (kept["d-2"].patient, kept["d-2"].erased) == ("p-bota", False)
    assert erase(url, tmp_path / "j", None).copies == ErasedRows()


def test_every_line_in_the_database_is_looked_at(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at a time, of every writer; one that was damaged keeps no other; a look at the first of them would miss most."""
    monkeypatch.setattr(sql_journal_erasure, "READ_AT_ONCE", 3)
    where = {"launch_patient": "p-dana"}
    for name in ("a", "b"):
        asyncio.run(pruned(url, tmp_path / name, *(asking(n, where if n % 2 else {}) for n in range(10))))
    (damaged, parts), spoiled = asking(50, where), update(journal_entry)
    spoiled = spoiled.where(journal_entry.c.segment == 1, journal_entry.c.number == 1)

    async def spoil(store: Any, _: Any) -> None:
        line, _hash = build_line(b"0" * 64, 1, damaged, [salted(b"0" * 32, parts[0]), b"[7]", b'{"patient":"\xff"}'])
        await store.run_writing(lambda connection: connection.execute(spoiled.values(line=line)))

    run(url, spoil)
    assert erase(url, tmp_path / "a", None).copies.lines == 10  # type: ignore[attr-defined]
    assert b"p-dana" not in run(url, lambda store, _: store.run_reading(dumped, 5))


def test_a_planted_erasure_that_asks_columns_alone_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it is done, and the question still names the patient."""
    url = f"sqlite:///{tmp_path}/truth.db"
    asyncio.run(pruned(url, tmp_path / "j", asking(1, BESIDE["launch"])))
    planted = plant(sql_journal_erasure, "if _names(bytes(row.line), patients)", "if False")
    monkeypatch.setattr(sql_duties, "erase_named", planted.erase_named)
    assert erase(url, tmp_path / "j", None).copies == ErasedRows()
    assert b"p-dana" in run(url, lambda store, _: store.run_reading(dumped, 5))
