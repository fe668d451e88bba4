"""What the tables of a database say, and whether they agree with one another and with what callers were told."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, create_engine, select

from ruqsat.core.consent_record import ConsentRow, RecordBody, project
from ruqsat.core.facts import PatientFacts
from ruqsat.core.vocabulary import Switches
from ruqsat.stores.sql_schema import consent_record, document, feed, feed_head, idempotency, patient_facts
from tests.chaos.tellers import Memory


class Kept(NamedTuple):
    """Everything about records in one snapshot."""

    rows: Mapping[str, ConsentRow]
    facts: Mapping[str, tuple[int, PatientFacts]]
    listed: frozenset[tuple[str, str]]
    head: int
    feed: tuple[tuple[int, str], ...]
    receipts: tuple[dict[str, Any], ...]


def read_sqlite(folder: Path) -> Kept:
    """Read a copy of a file and its log as a dead process left them; the originals are not touched."""
    with TemporaryDirectory(prefix="ruqsat-copy-") as name:
        for path in folder.glob("ruqsat.db*"):
            shutil.copy(path, name)
        return _read(f"sqlite:///{name}/ruqsat.db")


def read_postgres(url: str) -> Kept:
    """Read a database in one snapshot."""
    return _read(url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="REPEATABLE READ")


def _read(url: str, **options: Any) -> Kept:
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            return _kept(connection)
    finally:
        engine.dispose()


def _kept(connection: Connection) -> Kept:
    rows = [dict(row) for row in connection.execute(select(consent_record)).mappings()]
    facts = connection.execute(select(patient_facts)).mappings().all()
    return Kept(
        {row["id"]: ConsentRow(**row | {"body": msgspec.json.decode(row["body"], type=RecordBody)}) for row in rows},
        {row["id"]: (row["version"], msgspec.json.decode(row["body"], type=PatientFacts)) for row in facts},
        frozenset(
            (row["patient"], row["id"])
            for row in connection.execute(select(document).where(document.c.kind == "consent")).mappings()
        ),
        connection.execute(select(feed_head.c.seq)).scalar_one(),
        tuple((seq, key) for seq, key in connection.execute(select(feed.c.seq, feed.c.key).order_by(feed.c.seq))),
        tuple(msgspec.json.decode(answer) for (answer,) in connection.execute(select(idempotency.c.answer))),
    )


def half_written(kept: Kept, patients: Iterable[str], switches: Switches) -> list[str]:
    """
    Return where the parts of a change do not agree.

    Each change of these *patients* was: some records, the facts that decisions see,
    the list of documents, one entry of the feed; and a receipt where a record was made.
    """
    found = []
    if [seq for seq, _ in kept.feed] != list(range(1, kept.head + 1)):
        found.append(f"the feed has gaps or does not end at its head {kept.head}")
    told = Counter(key for _, key in kept.feed)
    for patient in patients:
        version, facts = kept.facts[patient]
        rows = [row for row in kept.rows.values() if row.patient == patient]
        if {each.id: each for each in facts.consents} != {row.id: project(row, switches) for row in rows}:
            found.append(f"{patient}: decisions see something else than the records say")
        if {id_ for owner, id_ in kept.listed if owner == patient} != {each.id for each in facts.consents}:
            found.append(f"{patient}: the list of documents is another")
        # The facts were recorded once; each change since moved them, one record, or two where one replaced another.
        changes = 1 + sum(row.version for row in rows) - sum(row.status == "superseded" for row in rows)
        if not version == told[f"patient:{patient}"] == changes:
            found.append(f"{patient}: {version} versions, {told[f'patient:{patient}']} entries, {changes} changes")
        found += [f"{row.id}: its history is not whole" for row in rows if len(row.body.steps) < row.version]
    made = Counter(answer["consent"] for answer in kept.receipts)
    if made != Counter(kept.rows.keys()):
        found.append(f"receipts and records are not the same: {(made - Counter(kept.rows.keys())) or 'some missing'}")
    return found


def lost(kept: Kept, memory: Memory) -> list[str]:
    """Return what callers were told that is not there as they were told it."""
    newest = {told.consent: told for told in sorted(memory.told, key=lambda each: each.version)}
    found = []
    for told in newest.values():
        row = kept.rows.get(told.consent)
        if row is None:
            found.append(f"{told.consent}: acknowledged and gone")
        elif (row.version, row.status) != (told.version, told.status) and not (
            row.version == told.version + 1 and told.consent in memory.unanswered
        ):
            found.append(f"{told.consent}: {row.version} {row.status}, told {told.version} {told.status}")
    return found
