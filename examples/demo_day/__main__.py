"""Live the day, and print what everybody sees."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from examples.demo_day import emergencies, morning, office, views
from examples.demo_day.day import Day
from examples.demo_day.ground import ROOT, Receiver, fresh, records_behind, running_sidecar, serving
from examples.demo_day.hospital import CLINICIANS, PATIENTS, build_hospital

Scene = Callable[[Day], None]
SCENES: tuple[tuple[str, Scene], ...] = (
    ("08:00  The registration desk: consents", morning.record_consents),
    ("09:00  Ward rounds", morning.ward_rounds),
    ("10:00  A newcomer gives a consent, on paper", morning.consent_given),
    ("11:00  A patient withdraws a consent", morning.consent_withdrawn),
    ("11:30  The guardian of an incapacitated patient", office.guardian_reads),
    ("12:00  The first emergency: by default", emergencies.by_default),
    ("12:30  The second emergency: over a refusal", emergencies.over_a_refusal),
    ("13:00  An emergency that was none", emergencies.that_was_none),
    ("13:30  A court asks", office.court),
    ("14:00  Three patients ask what is on record of them", office.information_requests),
    ("14:30  A correction, and an objection to what a machine decided", office.correction_and_objection),
    ("15:00  The privacy officer's queue", views.officers_queue),
    ("15:30  The privacy officer judges", office.reviews),
    ("16:00  The letter is answered, late", office.answer_the_letter),
    ("16:30  The answer on what is on record", views.information_answer),
    ("17:00  Who looked: everybody reads the own log", views.access_logs),
    ("17:30  What people were told", views.delivered),
    ("18:00  The journal", views.journal),
)
"""The hours are the story's: the sidecar's clock is the machine's, and all of it takes some seconds."""


@contextmanager
def opened_hospital(folder: Path, seed: int, *, full: bool = False, **settings: Any) -> Iterator[Day]:
    """
    Start everything in an empty *folder*, with the hospital that *seed* makes; it is gone when the block is left.

    Args:
        full: On PostgreSQL and behind nginx, where both are installed, instead of SQLite and a small gate.
        settings: More settings of the sidecar.
    """
    hospital = build_hospital(seed)
    facts = folder / "hospital.jsonl"
    hospital.write(facts, datetime.now(UTC))
    with ExitStack() as stack:
        receiver = stack.enter_context(serving(Receiver()))
        behind = records_behind
        if full:
            from examples.demo_day.full import postgres, records_behind_nginx  # noqa: PLC0415 - needs the tests' wheels

            settings["database_url"], behind = stack.enter_context(postgres(folder)), records_behind_nginx
        sidecar = stack.enter_context(running_sidecar(folder, facts, receiver, **settings))
        records, gate = stack.enter_context(behind(sidecar))
        addresses = {name: f"http://{address}" for name, address in sidecar.addresses.items()} | {"gate": gate}
        clients = {
            name: stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=30))
            for name, url in addresses.items()
        }
        yield Day(sidecar, hospital, records, receiver, gate, clients)


def live(day: Day, paper: Path) -> None:
    """Play every scene; what can be printed goes into the folder *paper*."""
    for title, scene in SCENES:
        day.say("", title)
        scene(day)
    day.say("", "19:00  On paper")
    paper.mkdir(parents=True, exist_ok=True)
    views.on_paper(day, paper)


def main() -> None:
    """Live the day."""
    words = argparse.ArgumentParser(prog="demo_day", description=__doc__)
    words.add_argument("--folder", type=Path, default=ROOT / "var" / "demo-day", help="emptied first")
    words.add_argument("--seed", type=int, default=7, help="of the hospital's people")
    words.add_argument("--full", action="store_true", help="on PostgreSQL, behind nginx (needs the tests' packages)")
    given = words.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder, began = given.folder.resolve(), time.monotonic()
    policy = folder.parent / "demo-day-policy"  # admitted once: the next day begins sooner
    print(
        f"A hospital from the seed {given.seed}: {len(CLINICIANS)} clinicians, {PATIENTS} patients, and nobody exists."
    )
    with opened_hospital(fresh(folder), given.seed, full=given.full, policy_dir=str(policy)) as day:
        live(day, folder / "paper")
        calls = len(day.asked)
    print(f"\nDecided {calls} questions about patients in {time.monotonic() - began:.0f} s. Everything is in {folder}.")


if __name__ == "__main__":
    main()
