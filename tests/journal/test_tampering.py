"""
Histories that were altered, by the thousand: none is accepted, and every unaltered one is.

The attacker may write to the folder and knows the format, so chains are computed anew;
what the attacker lacks is the key, and the checkpoint that a witness kept.
`RUQSAT_TEST_LONGER` multiplies the number of histories, up to 20,000.
"""

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_helpers import about_patient, files_in, on_loop, signing_key
from simulated_disk import UnsyncedDisk, lay_out

from ruqsat.core.checkpoint import read_checkpoint
from ruqsat.core.line import build_line, hash_of
from ruqsat.core.signed_note import open_note
from ruqsat.stores import journal_claims
from ruqsat.stores.journal_claims import Trust
from ruqsat.stores.journal_segment import DurableJournal
from ruqsat.stores.journal_verification import verify_folder

LONGER = int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
HISTORIES = min(20_000, 1_000 * LONGER)
KEY, THIEF = signing_key(), signing_key(seed=9)
SHAPES = ((3, 2, 4), (1, 1), (5,), (2, 3, 1, 2))
"""How many entries each opening of a journal appends."""

Files = dict[str, bytes]
Lines = list[tuple[str, bytes]]


class Original(NamedTuple):
    """A journal as it was written: its files now and after each opening, and one put back and gone on with."""

    files: Files
    earlier: tuple[Files, ...]
    forked: tuple[Files, ...]
    trust: Trust


def write(folder: Path, entries: int, start: int) -> None:
    """Open the journal in *folder*, append, and close it."""

    async def main() -> None:
        journal = DurableJournal.open(folder, key=KEY, disk=UnsyncedDisk())
        for number in range(start, start + entries):
            await journal.append(*about_patient(number, *["p-dana", "p-bota", "p-marat"][: 1 + number % 3]))
        await journal.aclose()

    on_loop(main)


def original(folder: Path, shape: tuple[int, ...]) -> Original:
    """Write a journal of this shape."""
    earlier: list[Files] = []
    forked: list[Files] = []
    for count, entries in enumerate(shape):
        write(folder, entries, 10 * count)
        files = files_in(folder)
        if count + 1 < len(shape):
            earlier.append(files)
            write(lay_out(files, folder.with_name(f"{folder.name}-fork")), entries, 500)
            forked.append(files_in(folder.with_name(f"{folder.name}-fork")))
    newest = [data for name, data in files.items() if name.endswith(".checkpoint")][-1]
    kept = read_checkpoint(open_note(newest.decode(), [KEY.verifier]))
    trust = Trust((KEY.verifier,), (("kept", kept),), stopped=True)
    return Original(files, tuple(earlier), tuple(forked), trust)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[Original]:
    """Journals of several shapes."""
    folder = tmp_path_factory.mktemp("originals")
    return [original(folder / str(number), shape) for number, shape in enumerate(SHAPES)]


def lines_of(files: Files) -> Lines:
    """Return every line with its file."""
    texts = [(name, text) for name, text in files.items() if name.endswith(".jsonl")]
    return [(name, line) for name, text in texts for line in text.splitlines(keepends=True)]


def with_lines(files: Files, lines: Lines) -> Files:
    """Return *files* with these lines in the segments."""
    changed = {name: b"" if name.endswith(".jsonl") else text for name, text in files.items()}
    for name, line in lines:
        changed[name] = changed.get(name, b"") + line
    return changed


def flip(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Turn bits of one byte of any file, signatures included."""
    name = chance.choice([name for name, text in journal.files.items() if text])
    text = bytearray(journal.files[name])
    text[chance.randrange(len(text))] ^= chance.randrange(1, 256)
    return journal.files | {name: bytes(text)}


def delete(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Take lines out."""
    lines = lines_of(journal.files)
    at = chance.randrange(len(lines))
    del lines[at : at + chance.randrange(1, 3)]
    return with_lines(journal.files, lines)


def insert(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Put a line in: one of its own, one of another journal, or one that is made up and linked."""
    lines = lines_of(journal.files)
    at = chance.randrange(len(lines) + 1)
    name, before = lines[max(0, at - 1)]
    made_up, _ = build_line(hash_of(before), chance.randrange(4), *about_patient(99, "p-dana"))
    foreign = chance.choice(lines_of(chance.choice(others).files))[1]
    lines.insert(at, (name, chance.choice([chance.choice(lines)[1], foreign, made_up])))
    return with_lines(journal.files, lines)


def swap(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Exchange two lines, or the personal parts of two lines."""
    lines = lines_of(journal.files)
    one, other = chance.sample(range(len(lines)), 2)
    (first, a), (second, b) = lines[one], lines[other]
    cut = b'"],"personal":['
    if cut in a and cut in b and chance.random() < 0.5:
        (a_head, _, a_tail), (b_head, _, b_tail) = a.partition(cut), b.partition(cut)
        a, b = b_head + cut + a_tail, a_head + cut + b_tail
    lines[one], lines[other] = (first, b), (second, a)
    return with_lines(journal.files, lines)


def truncate(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Cut the end off, at any byte or at a line, of the last file or of all after one; checkpoints may go with it."""
    files, lines = dict(journal.files), lines_of(journal.files)
    if chance.random() < 0.5:
        files = with_lines(files, lines[: chance.randrange(len(lines))])
        files = {name: text for name, text in files.items() if text or not name.endswith(".jsonl")}
    else:
        name = chance.choice([name for name in files if name.endswith(".jsonl")])
        files[name] = files[name][: chance.randrange(len(files[name]))]
    return without_checkpoints(files, chance)


def splice(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Go on with another journal of the same key from some line, or from some segment with its checkpoint."""
    other = chance.choice(others)
    if chance.random() < 0.5:
        mine, theirs = lines_of(journal.files), lines_of(other.files)
        at = chance.randrange(1, max(2, min(len(mine), len(theirs))))
        return without_checkpoints(with_lines(journal.files | other.files, mine[:at] + theirs[at:]), chance)
    number = f"segment-{chance.randrange(1, 4):08d}"
    return {name: text for name, text in journal.files.items() if name < number} | {
        name: text for name, text in other.files.items() if name >= number
    }


def roll_back(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Put back the whole folder as it once was, signatures and all."""
    return chance.choice(journal.earlier) if journal.earlier else truncate(journal, others, chance)


def fork(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Write history anew from some line on, linked and whole; or put a backup back and let the journal go on from it."""
    if journal.forked and chance.random() < 0.3:
        return chance.choice(journal.forked)
    lines = lines_of(journal.files)
    at = chance.randrange(len(lines))
    prev = hash_of(lines[at - 1][1]) if at else b"0" * 64
    rewritten: Lines = []
    for place, (name, line) in enumerate(lines[at:]):
        _, _, entry = line.partition(b',"n":')
        number, _, rest = entry.partition(b",")
        said, cut, tail = rest.removesuffix(b"}\n").partition(b',"personal":')
        said = said.replace(b'"allowed":true', b'"allowed":false') if place == 0 else said
        said = said.replace(b'"kind":"segment"', b'"kind":"segment","x":1') if place == 0 else said
        made, prev = build_line(prev, int(number), b"{" + said + b"}")
        rewritten.append((name, made.removesuffix(b"}\n") + cut + tail + b"}\n"))
    return without_checkpoints(with_lines(journal.files, lines[:at] + rewritten), chance)


def erase(journal: Original, others: list[Original], chance: random.Random) -> Files:
    """Blank a personal part as an erasure would, with no act; or take the parts of a line out."""
    lines = [(at, line) for at, (_, line) in enumerate(lines_of(journal.files)) if b',"personal":[' in line]
    at, line = chance.choice(lines)
    head, _, tail = line.removesuffix(b"]}\n").partition(b',"personal":[')
    first, _, _ = tail.partition(b"},")
    first = first if first.endswith(b"}") else first + b"}"
    blanked = line.replace(first, b'{"erased":"%b"}' % (b"-" * (len(first) - 13)))
    every = lines_of(journal.files)
    every[at] = every[at][0], chance.choice([blanked, head + b"}\n", head + b',"personal":[]}\n'])
    return with_lines(journal.files, every)


def without_checkpoints(files: Files, chance: random.Random) -> Files:
    """Leave the checkpoints, take all or those of one segment away, or sign them with a key of one's own."""
    names = [name for name in files if name.endswith(".checkpoint")]
    choice = chance.randrange(4)
    if choice == 1:
        return {name: text for name, text in files.items() if name not in names}
    if choice == 2 and names:
        gone = chance.choice(names)
        return {name: text for name, text in files.items() if name != gone}
    if choice == 3:
        resigned = {name: THIEF.sign(files[name].decode().partition("\n\n")[0] + "\n").encode() for name in names}
        return files | resigned
    return files


ATTACKS = (flip, delete, insert, swap, truncate, splice, roll_back, fork, erase)


def is_altered(files: Files, journal: Original) -> bool:
    """Tell whether a line, or a signature that is left, is not as it was."""
    return any(journal.files.get(name) != text for name, text in files.items() if text) or lines_of(files) != lines_of(
        journal.files
    )


def test_unaltered_histories_are_accepted(originals: list[Original], tmp_path: Path) -> None:
    """Each journal, and each as it was earlier held against what was signed by then, is intact."""
    for journal in originals:
        assert verify_folder(lay_out(journal.files, tmp_path / "folder"), journal.trust).findings == ()
        for earlier in (*journal.earlier, *journal.forked):
            assert verify_folder(lay_out(earlier, tmp_path / "folder"), Trust((KEY.verifier,))).findings == ()


@pytest.mark.slow
def test_no_altered_history_is_accepted(
    originals: list[Original], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flip, delete, insert, swap, truncate, splice, roll back, fork, erase: each is reported, and what is the same is not."""
    monkeypatch.setattr(journal_claims, "_PATIENCE", 0.0)
    tried: Counter[str] = Counter()

    @settings(max_examples=HISTORIES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(
        chance=st.randoms(use_true_random=False),
        attack=st.sampled_from(ATTACKS),
        number=st.integers(0, len(SHAPES) - 1),
    )
    def alter(chance: random.Random, attack: "object", number: int) -> None:
        journal = originals[number]
        others = [each for each in originals if each is not journal]
        files = attack(journal, others, chance)  # type: ignore[operator]
        report = verify_folder(lay_out(files, tmp_path / "folder"), journal.trust)
        altered = is_altered(files, journal)
        tried[f"{getattr(attack, '__name__', '')}, {'altered' if altered else 'the same'}"] += 1
        assert report.intact is not altered, (attack, report.findings)

    alter()

    print(dict(tried))
    assert sum(count for name, count in tried.items() if name.endswith("altered")) > HISTORIES // 2


def test_line_that_is_added_at_the_very_end_of_a_stopped_journal_is_reported(
    originals: list[Original], tmp_path: Path
) -> None:
    """What is linked behind the newest checkpoint may be the journal's own, unless nothing writes there any more."""
    files, trust = originals[1].files, originals[1].trust
    lines = lines_of(files)
    name, before = lines[-1]
    added, _ = build_line(hash_of(before), 2, *about_patient(99, "p-dana"))
    folder = lay_out(with_lines(files, [*lines, (name, added)]), tmp_path / "folder")

    assert [finding.code for finding in verify_folder(folder, trust).findings] == [journal_claims.UNSIGNED_SEGMENT]
    assert verify_folder(folder, trust._replace(stopped=False)).intact


def test_without_a_kept_checkpoint_a_whole_journal_that_was_put_back_is_accepted(
    originals: list[Original], tmp_path: Path
) -> None:
    """The honest limit, and the proof that the test above can fail: only a witness sees this."""
    journal = originals[0]

    for files in (*journal.earlier, *journal.forked):
        folder = lay_out(files, tmp_path / "folder")
        assert verify_folder(folder, Trust((KEY.verifier,))).intact
        assert not verify_folder(folder, journal.trust).intact
        shutil.rmtree(folder)
