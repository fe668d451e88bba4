"""
``make bench-population``: a large population in one file, its import, and what a decision costs beside it.

A seeded, synthetic population is streamed into a file, imported into a PostgreSQL of our own (a temporary folder,
commits synced) and asked about.  Each size is imported by a process of its own, whose peak of memory is the kernel's
figure.  Then one process opens the smallest and the largest database and decides in turns on a warm working set of the
same size in each: the ratio is what the size of the population costs.  Ends with 1 if the ratio is above 1.2, or if a
fact was not in memory.

Run: ``PYTHONPATH=.:src python bench/population.py --sizes 1000,100000,1000000``
"""

import argparse
import asyncio
import gc
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

import msgspec
from bench.machine import machine
from tests.ground import PostgresServer, running_postgres

from ruqsat.core.facts import (
    Consent,
    Episode,
    Grantee,
    Organisation,
    PatientFacts,
    Provision,
    RecordStatus,
    Relationship,
    SubjectFacts,
)
from ruqsat.core.facts_lines import render_header, render_line
from ruqsat.core.instant import HOUR, SECOND, parse_instant
from ruqsat.core.pack import load_pack
from ruqsat.core.request import EvaluationRequest
from ruqsat.service.clock import SystemClock
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint, Limits
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.stores.policy_folder import load_texts
from ruqsat.stores.sql import SqlStore
from ruqsat.stores.sql_database import upgrade_database

ROOT = Path(__file__).resolve().parents[1]
HOSPITALS, DOCTORS_EACH = 50, 20
WORKING_SET = 1_000
ROUNDS = 30
OWED = 1.2
AGAIN = 50_000
EPOCH, NEVER = parse_instant("2026-01-05T04:00:00Z"), parse_instant("2099-01-01T00:00:00Z")
CLASSES = ("labs", "imaging", "medications", "allergies", "conditions", "procedures")


def people(patients: int, seed: int = 1) -> Iterator[SubjectFacts | PatientFacts]:
    """Yield hospitals, doctors, and *patients* patients with three documents each; the same for the same seed."""
    chance = Random(seed)
    kind = Organisation("provider_medical", True)
    for hospital in range(HOSPITALS):
        yield SubjectFacts(f"h{hospital}", roles=(), organisation=kind)
        for number in range(DOCTORS_EACH):
            who = f"dr-{hospital}-{number}"
            yield SubjectFacts(who, roles=("physician",), org=f"h{hospital}", organisation=kind)
    for number in range(patients):
        yield patient(number, chance)


def patient(number: int, chance: Random) -> PatientFacts:
    """Return one patient: a permit to the own hospital, one to another, a refusal to a third."""
    name = f"p{number:08d}"
    own, other, third = (f"h{(number + step) % HOSPITALS}" for step in (0, *chance.sample(range(1, HOSPITALS), 2)))
    given = EPOCH + chance.randrange(2_000) * HOUR

    def document(which: int, effect: str, org: str, labels: tuple[str, ...] = ()) -> Consent:
        root = Provision(
            "permit" if effect == "permit" else "deny",
            (Grantee(org=org),), ("TREAT",), ("read", "search"), ("clinical",), labels,
            given if effect == "permit" else None, NEVER if effect == "permit" else None,
        )  # fmt: skip
        kind = "processing" if effect == "permit" else "dissent"
        return Consent(f"c{which}-{name}", f"{name}|{org}|{kind}", "active", given, root, kind, giver=name)

    labels = tuple(chance.sample(("PSY", "SUD", "HIV"), chance.randrange(2)))
    return PatientFacts(
        name,
        birth_date=date(1930 + chance.randrange(69), chance.randrange(1, 13), 15),
        egov=chance.random() < 0.5,
        consents=(
            document(1, "permit", own, labels), document(2, "permit", other), document(3, "deny", third),
        ),
        episodes=(Episode(f"e-{name}", own, "planned", given),),
        relationships=(Relationship("encounter", org=own),),
        records=tuple(RecordStatus(f"r{i}-{name}", chance.choice(CLASSES), (), type="Record") for i in range(2)),
    )  # fmt: skip


def write_file(path: Path, patients: int, seed: int = 1) -> None:
    """Stream a population into a file; another seed makes other facts of the same people."""
    with path.open("wb") as file:
        file.write(render_header(HOSPITALS * (DOCTORS_EACH + 1), patients))
        file.writelines(render_line(each) for each in people(patients, seed))


class Run(NamedTuple):
    """What an import took: seconds, the peak of its memory in MB, and what it printed."""

    seconds: float
    peak_mb: float
    said: str


def run_import(url: str, path: Path) -> Run:
    """Import a file in a process of its own, as an operator does."""
    began = time.monotonic()
    words = [sys.executable, "-m", "ruqsat", "facts", "import", str(path), "--database-url", url]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return Run(time.monotonic() - began, usage.ru_maxrss / 1024, said)


class NoJournal:
    """Accepts every entry and keeps none: the memory is measured, not the disk."""

    def append(self, *_: object, **__: object) -> "asyncio.Future[None]":
        """Keep nothing of an entry."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def aclose(self) -> None:
        """Close nothing."""


class Side(NamedTuple):
    """A decision point over one database, and the questions that it is asked."""

    point: DecisionPoint
    information: InformationPoint
    questions: list[EvaluationRequest]


async def open_side(stack: AsyncExitStack, url: str, questions: list[EvaluationRequest]) -> Side:
    """Build a decision point over *url*, and put those whom the questions name into its memory."""
    policy_set, _ = load_pack(load_texts(ROOT))
    assert policy_set is not None
    # A busy machine is late with readings and probes; what is measured needs neither.
    store = await SqlStore.open(url, read_timeout_seconds=10)
    stack.push_async_callback(store.aclose)
    rule, clock = Freshness(store.token_key, lease_for=600 * SECOND), SystemClock()
    information = InformationPoint(store, rule, clock, limits=Limits(patients=1_000_000, patient_bytes=2**40))
    stack.push_async_callback(information.aclose)
    await information.probe_once()
    probing = asyncio.create_task(information.probe_forever())
    stack.callback(probing.cancel)
    point = DecisionPoint(policy_set, information, rule, NoJournal(), clock, Metrics())
    allowed = 0
    for first in range(0, len(questions), 50):
        asked_now = questions[first : first + 50]
        answers = await asyncio.gather(*(point.decide(each, Origin("json")) for each in asked_now))
        assert all(answer.decision.reason != "deny.store.unavailable" for answer in answers), "a fact was not read"
        allowed += sum(answer.decision.allowed for answer in answers)
    assert 0.2 < allowed / len(questions) < 0.9, f"{allowed} of {len(questions)} allowed: these measure nothing"
    return Side(point, information, questions)


def questions_about(patients: int, asked: int) -> list[EvaluationRequest]:
    """Return a question about each of *asked* random patients, or about all, of so many; the same ones each time."""
    chance = Random(2)
    return [question(number, chance) for number in chance.sample(range(patients), min(asked, patients))]


def question(number: int, chance: Random) -> EvaluationRequest:
    """Ask whether a doctor may read a patient's results: every second time one of the patient's own hospital."""
    hospital = chance.choice((number % HOSPITALS, chance.randrange(HOSPITALS)))
    doctor = f"dr-{hospital}-{chance.randrange(DOCTORS_EACH)}"
    return msgspec.convert(
        {
            "subject": {"type": "user", "id": doctor},
            "action": {"name": "read"},
            "resource": {
                "type": "Record", "id": f"x-p{number:08d}",
                "properties": {"patient": f"p{number:08d}", "class": "labs", "labels": []},
            },
            "context": {"purpose": ["TREAT"]},
        },
        EvaluationRequest,
    )  # fmt: skip


async def ask_all(side: Side, questions: list[EvaluationRequest]) -> float:
    """Return the median of microseconds for a decision from memory."""
    origin, took = Origin("json"), []
    for number, each in enumerate(questions):
        if not number % 100:
            await asyncio.sleep(0)  # the probe renews the lease meanwhile
        began = time.perf_counter_ns()
        await side.point.decide(each, origin)
        took.append(time.perf_counter_ns() - began)
    return statistics.median(took) / 1000


def resident_mb() -> float:
    """Return the memory of this process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def compare(small: tuple[str, int], large: tuple[str, int]) -> tuple[bool, dict[str, float]]:
    """Decide in turns over both databases; print the ratio, and return whether it is within what is owed, and all."""
    async with AsyncExitStack() as stack:
        sides = [await open_side(stack, url, questions_about(size, WORKING_SET)) for url, size in (small, large)]
        misses = [side.information.misses for side in sides]
        gc.collect()
        gc.freeze()
        rounds = [[await ask_all(side, side.questions) for side in sides] for _ in range(ROUNDS)]
        one, other = (statistics.median(column) for column in zip(*rounds, strict=True))
        missed = sum(side.information.misses for side in sides) - sum(misses)
        print(
            f"decision from memory, working set {WORKING_SET}: {one:.1f} µs of {small[1]:,} patients, "
            f"{other:.1f} µs of {large[1]:,}: ratio {other / one:.2f} (owed {OWED}), {missed} not in memory",
            flush=True,
        )
        found = {"small": small[1], "large": large[1], "small_us": one, "large_us": other, "missed": missed}
        found |= await full_memory(stack, large, one)
        return other / one <= OWED and missed == 0, found


async def full_memory(stack: AsyncExitStack, large: tuple[str, int], base: float) -> dict[str, float]:
    """Put 50,000 patients into memory: what each takes, and what a decision costs when the processor's cache misses."""
    url, size = large
    questions = questions_about(size, 50_000)
    many = len(questions)
    gc.collect()
    before = resident_mb()
    side = await open_side(stack, url, questions)
    gc.collect()
    each = (resident_mb() - before) * 1024 / many
    gc.freeze()
    took = statistics.median([await ask_all(side, side.questions[:20_000]) for _ in range(3)])
    print(f"{many:,} patients in memory: {each:.1f} kB each, {took:.1f} µs a decision, "
          f"{took / base:.2f} of the small working set's", flush=True)  # fmt: skip
    return {"in_memory": many, "kb_each": each, "in_memory_us": took}


def measure(server: PostgresServer, folder: Path, sizes: list[int]) -> tuple[bool, list[dict[str, float]]]:
    """Import every size into a database of its own, print, and compare the first with the last: the last record."""
    urls, records = [], []
    for size in sizes:
        path = folder / f"{size}.jsonl"
        began = time.monotonic()
        write_file(path, size)
        wrote = time.monotonic() - began
        url = server.new_database()
        asyncio.run(upgrade_database(url))
        run = run_import(url, path)
        name = url.rpartition("/")[2]
        on_disk = server.execute(f"SELECT pg_database_size('{name}')")[0][0] / 2**20
        kept = server.execute(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relname IN"
            " ('patient_facts', 'subject_facts', 'document')", name
        )[0][0] / 2**20  # fmt: skip
        rows = server.execute("SELECT (SELECT count(*) FROM patient_facts), (SELECT count(*) FROM document), "
                              "(SELECT count(*) FROM feed)", name)[0]  # fmt: skip
        print(f"{size:>9,} patients: file {path.stat().st_size / 2**20:,.0f} MB written in {wrote:.0f} s; import "
              f"{run.seconds:.1f} s ({size / run.seconds:,.0f}/s), peak {run.peak_mb:.0f} MB; "
              f"database {on_disk:,.0f} MB, facts {kept:,.0f} MB; rows {rows}")  # fmt: skip
        print("          " + run.said.strip().replace("\n", "\n          "), flush=True)
        records.append({
            "patients": size, "import_s": run.seconds, "import_mb": run.peak_mb, "database_mb": on_disk,
            "facts_mb": kept,
        })  # fmt: skip
        if AGAIN <= size < sizes[-1]:
            write_file(path, size, seed=2)
            run = run_import(url, path)
            print(f"          other facts of the same people: {run.seconds:.1f} s, peak {run.peak_mb:.0f} MB")
            print("          " + run.said.strip().replace("\n", "\n          "), flush=True)
        path.unlink()
        urls.append((url, size))
    is_kept, found = asyncio.run(compare(urls[0], urls[-1]))
    return is_kept, [*records, found]


def main() -> int:
    """Measure in a temporary folder and remove it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--sizes", default="1000,100000,1000000")
    words.add_argument("--results", type=Path, help="file for the figures, JSON")
    asked, of = words.parse_args(), machine()
    sizes = [int(word) for word in asked.sizes.split(",")]
    with TemporaryDirectory(prefix="ruqsat-bench-") as name:
        Path(name).chmod(0o755)
        settings = ("shared_buffers=256MB", "max_wal_size=4GB", "autovacuum_naptime=60")
        with running_postgres(Path(name, "pg"), durable=True, settings=settings) as server:
            is_kept, records = measure(server, Path(name), sizes)
    if asked.results:
        asked.results.write_text(json.dumps({"machine": of, "records": records}, indent=1))
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
