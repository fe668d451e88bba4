"""
What does a line of the journal cost on its way into the database, and a notice until its end is on record?

CPU of the whole process, in its parts: reading the lines from the folder, taking them in (and how much of that is
the notices), delivering what no channel is there for.  The journal is written as a signed sidecar writes it: decisions
about many patients, each with the parts that name people, the question and the facts.  SQLite, and PostgreSQL if
``tests/ground.py`` finds one.  Beside it, how long the interpreter was held from whoever decides: the longest wait of a
thread that wants it for a moment.
"""

import argparse
import asyncio
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from bench.micro.journal_entry import _ASKED, _ENTRY, _SUBJECT, QuietDisk, a_patient
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.ground import GroundMissingError, running_postgres

from ruqsat.core.facts import Facts, PatientFacts, Position
from ruqsat.core.instant import parse_instant, render_instant
from ruqsat.core.journaled import BEGINNING, Place
from ruqsat.core.kept_facts import known_in
from ruqsat.core.notice import notices_of
from ruqsat.core.signed_note import SigningKey
from ruqsat.core.vocabulary import Switches
from ruqsat.service.delivery import Delivery, Ways
from ruqsat.service.entries import Named, personal_parts
from ruqsat.service.notice_bodies import NoticeBodies
from ruqsat.service.record_seal import RecordSeal
from ruqsat.stores.journal_reader import JournalReader
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import upgrade_database
from ruqsat.stores.sql_duties import SqlDuties

EVERYTHING = Place(1 << 40, 0)
NOW = parse_instant("2026-11-26T04:00:00Z")
_encode = msgspec.json.Encoder().encode


async def write(folder: Path, entries: int, patients: list[PatientFacts]) -> None:
    """Write a journal of so many decisions about these patients in turn."""
    key = SigningKey("bench.example/journal", Ed25519PrivateKey.generate())
    journal = DurableJournal.open(folder, key=key, disk=QuietDisk())
    began = parse_instant(_ENTRY.at)
    for first in range(0, entries, 16):
        numbers = range(first, min(first + 16, entries))
        await asyncio.gather(*[append(journal, number, began, patients[number % len(patients)]) for number in numbers])
    await journal.aclose()


def append(journal: DurableJournal, number: int, began: int, patient: PatientFacts) -> "asyncio.Future[None]":
    """Append one decision, with what is known of whom it is about."""
    known = known_in(Facts(_SUBJECT, patient, Position("1", 17)))
    entry = msgspec.structs.replace(_ENTRY, id=f"5f0a1b2c3d4e-{number:x}", at=render_instant(began + number * 250))
    named = Named(
        "dr-aliya", patient=patient.id, resource=f"lab-result-{number}", applied=(patient.consents[0].id,),
        asked=_encode(_ASKED).decode(), knew=tuple(["" if each is None else each.digest for each in known]),
    )  # fmt: skip
    return journal.append(_encode(entry), personal_parts(_encode, named), facts=known)


class Held:
    """Another thread, which wants the interpreter for a moment every millisecond."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._want)

    def __enter__(self) -> "Held":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _want(self) -> None:
        while not self._ended.is_set():
            began = time.perf_counter()
            time.sleep(0.001)
            self.waits.append(time.perf_counter() - began - 0.001)


async def ship(journal: Path, url: str, patients: list[PatientFacts], *, told: bool) -> dict[str, float]:
    """Ship a journal into an empty database; return the microseconds of CPU in all, by parts."""
    store = await SqlStore.open(url, read_timeout_seconds=60)
    await store.record_facts((), patients)
    duties, bodies, switches = SqlDuties(store.background()), NoticeBodies(RecordSeal(bytes(32))), Switches()
    reader, spent = JournalReader(journal), dict.fromkeys(("reading", "taking in", "delivery"), 0.0)
    lines = notices = 0

    @contextlib.contextmanager
    def timed(part: str) -> Iterator[None]:
        began = time.process_time()
        yield
        spent[part] += (time.process_time() - began) * 1e6

    def make(entry: Any, known: Any) -> Any:
        return notices_of(entry, known, switches) if told else ()

    reader.resume(dict.fromkeys(reader.writers(), BEGINNING))
    with Held() as held:
        while True:
            with timed("reading"):
                found = reader.read_on(EVERYTHING)
            if found is None:
                break
            with timed("taking in"):
                shipped = await duties.ship(found, make, bodies.close, NOW)
            reader.accept(found)
            lines, notices = lines + shipped.lines, notices + shipped.notices
        with timed("delivery"):
            delivery = Delivery(duties, bodies, Ways({}, "egov", "log"), lambda: NOW + 10**9)
            while await delivery.deliver_some():
                pass
    await store.aclose()
    return spent | {"lines": lines, "notices": notices, "held": max(held.waits) * 1e6}


async def report(name: str, journal: Path, urls: tuple[str, str], patients: list[PatientFacts]) -> None:
    """Ship with and without notices into two databases, and print what a line costs."""
    for each in urls:
        await upgrade_database(each)
    alone = await ship(journal, urls[0], patients, told=False)
    whole = await ship(journal, urls[1], patients, told=True)
    lines, notices = whole["lines"], whole["notices"]
    parts = {
        "reading": whole["reading"], "taking in": alone["taking in"],
        "notices": whole["taking in"] - alone["taking in"], "delivery": whole["delivery"],
    }  # fmt: skip
    said = ", ".join(f"{part} {value / lines:.1f}" for part, value in parts.items())
    print(
        f"{name}: {sum(parts.values()) / lines:.1f} µs of CPU a line ({said}); "
        f"{lines:.0f} lines, {notices:.0f} notices; held at most {whole['held'] / 1000:.1f} ms"
    )


def main() -> None:
    """Measure on each database that is here."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--entries", type=int, default=6_000)
    arguments.add_argument("--patients", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--sqlite-only", action="store_true")
    given = arguments.parse_args()
    patients = [a_patient(number) for number in range(given.patients)]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        asyncio.run(write(folder / "journal", given.entries, patients))
        for number in range(given.rounds):
            both = (f"sqlite:///{folder}/a{number}.db", f"sqlite:///{folder}/b{number}.db")
            asyncio.run(report("SQLite", folder / "journal", both, patients))
        if given.sqlite_only:
            return
        folder.chmod(0o755)
        try:
            server = stack.enter_context(running_postgres(folder / "pg", durable=False))
        except GroundMissingError as why:
            print(f"PostgreSQL: not here: {why}")
            return
        for number in range(given.rounds):
            for each in "ab":
                server.execute(f"CREATE DATABASE {each}{number}")
            asyncio.run(
                report("PostgreSQL", folder / "journal", (server.url(f"a{number}"), server.url(f"b{number}")), patients)
            )


if __name__ == "__main__":
    main()
