"""
Killed at any moment: every acknowledged entry is in the journal exactly once.

`RUQSAT_TEST_LONGER` makes it 200 kills.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from journal_helpers import on_loop, signing_key

import ruqsat
from ruqsat.stores.journal_claims import Trust
from ruqsat.stores.journal_folder import list_segments
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
KILLS = min(200, 40 * LONGER)
KILLS_IN_ONE_FOLDER = 20
HASTY_KILLS = 20
LONGEST_LIFE = 0.03
"""In seconds: of one child from when it begins to open the journal, of the next from when it is at work."""
AT_WORK = 3
"""So many entries a child has acknowledged by then."""

KEY = signing_key()
TRUST = Trust((KEY.verifier,), stopped=True)

CHILD = Path(__file__).with_name("child.py")
SOURCES = Path(ruqsat.__file__).parents[1]


def start_child(kind: str, folder: Path, run: int) -> subprocess.Popen[bytes]:
    """Start a child that waits at the door of *folder*."""
    return subprocess.Popen(
        [sys.executable, str(CHILD), kind, str(folder), str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )


@contextmanager
def children(kind: str, folders: list[Path]) -> Iterator[Iterator[subprocess.Popen[bytes]]]:
    """Give one child after the other, the next one starting while the last is judged; leave none behind."""
    alive: list[subprocess.Popen[bytes]] = []

    def one_ahead() -> Iterator[subprocess.Popen[bytes]]:
        for run, folder in enumerate(folders):
            alive.append(start_child(kind, folder, run))
            if run:
                yield alive.pop(0)
        yield alive.pop(0)

    try:
        yield one_ahead()
    finally:
        for child in alive:
            child.kill()
            child.communicate()


def kill_after(child: subprocess.Popen[bytes], seconds: float, *, at_work: bool) -> list[str]:
    """Let *child* in, kill it *seconds* after it began to open or is *at_work*; return what it had acknowledged."""
    assert child.stdin is not None
    assert child.stdout is not None
    first = b""
    with child:
        try:
            child.stdin.write(b"!")
            child.stdin.flush()
            assert child.stdout.readline() == b"opening\n"
            if at_work:
                first = b"".join(child.stdout.readline() for _ in range(AT_WORK))
            time.sleep(seconds)
        finally:
            child.kill()
        reported = first + child.stdout.read()
    assert child.returncode == -signal.SIGKILL
    return reported.decode().splitlines()


def read_back(folder: Path) -> Counter[str]:
    """Reopen the journal as the next process would, verify it, and count every entry in it."""
    on_loop(DurableJournal.open(folder, key=KEY).aclose)
    report = verify_folder(folder, TRUST)
    assert report.findings == (), report.findings
    lines = (line for segment in list_segments(folder) for line in segment.path.read_bytes().splitlines())
    return Counter(entry["id"] for entry in map(json.loads, lines) if entry["kind"] == "decision")


def kill_many(kind: str, parent: Path, kills: int, seed: int) -> tuple[int, int]:
    """
    Kill *kills* children; return how many entries they acknowledged, and how many of those are lost.

    Every other one is at work by then, however slow the machine is.
    """
    print(f"seed {seed}")
    chance = random.Random(seed)
    folders = [parent / str(run // KILLS_IN_ONE_FOLDER) for run in range(kills)]
    acknowledged: dict[Path, list[str]] = {folder: [] for folder in folders}
    lost: set[str] = set()
    with children(kind, folders) as waiting:
        for run, (folder, child) in enumerate(zip(folders, waiting, strict=True)):
            acknowledged[folder] += kill_after(child, chance.uniform(0, LONGEST_LIFE), at_work=run % 2 == 1)
            found = read_back(folder)
            assert all(count == 1 for count in found.values())
            lost.update(entry for entry in acknowledged[folder] if entry not in found)
    return sum(map(len, acknowledged.values())), len(lost)


@pytest.mark.slow
def test_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    """After each kill the reopened journal verifies and holds every acknowledged entry once."""
    acknowledged, lost = kill_many("durable", tmp_path, KILLS, seed=random.randrange(2**32))

    print(f"{acknowledged} entries acknowledged")
    assert lost == 0
    assert acknowledged > KILLS


@pytest.mark.slow
def test_journal_that_answers_before_it_writes_is_found_out(tmp_path: Path) -> None:
    """The same check fails for a journal with that bug, so passing it means something."""
    acknowledged, lost = kill_many("hasty", tmp_path, HASTY_KILLS, seed=random.randrange(2**32))

    print(f"{lost} of {acknowledged} lost")
    assert lost > 0
