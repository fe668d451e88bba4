"""A line that is decoded at once says what it says member by member, whole or damaged; so do facts that are half read."""

import asyncio
import random
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import fields

from ruqsat.core import journaled
from ruqsat.core.addressee import Addressee
from ruqsat.core.facts import PatientFacts
from ruqsat.core.journaled import ERASED, Journaled, read_line
from ruqsat.core.line import blanked
from ruqsat.core.personal import lifted, spliced
from ruqsat.stores.journal_folder import read_lines
from ruqsat.stores.journal_segment import DurableJournal

PARTS = (
    b'{"subject":"dr_aida","patient":"p1","resource":"o1","applied":["c1"],"asked":"{\\"a\\":[{\\"salt\\":1},{}]}"}',
    b'{"patients_beside":["p2"],"records":["r1","r2"],"content":"00"}',
    b'{"digest":"00","body":"{\\"id\\":\\"p1\\"}],\\"personal\\":[{","patient":"p1","subject":"\xd3\x99\xd0\xbb"}',
)
ENTRY = (
    b'{"kind":"decision","id":"d-1","at":"2026-11-24T10:00:00.000000Z","allowed":true,"purpose":["TREAT"],'
    b'"law":["R3"],"duties":["notify_subject"],"as_of":["1",17],"subject":"whoever"}'
)


def member_by_member(line: bytes) -> Journaled | None:
    """Read a line as it is read where nothing of it can be cut."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = msgspec.convert(lifted(line) | {"erased": ERASED in line}, Journaled)
        return found if found.moment >= 0 else None
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def some_lines(folder: Path) -> list[bytes]:
    """Return lines of all kinds: without parts, with one, with several, with one that is erased."""

    async def write() -> None:
        journal = DurableJournal.open(folder)
        for parts in ((), PARTS[:1], PARTS[1:2], PARTS[2:], PARTS):
            await journal.append(ENTRY, parts)
        await journal.aclose()

    asyncio.run(write())
    lines = list(read_lines(folder))
    return [*lines, *[blanked(line, lambda parts: [0])[0] for line in lines]]


def damaged(line: bytes, chance: random.Random) -> bytes:
    """Return a line with a byte changed, some taken out, or some of its own put in."""
    at, other, some = chance.randrange(len(line)), chance.randrange(len(line)), chance.randrange(1, 40)
    return chance.choice([
        line[:at] + bytes([chance.randrange(256)]) + line[at + 1 :],
        line[:at] + line[at + some :],
        line[:at] + line[other : other + some] + line[at:],
    ])  # fmt: skip


def agree(lines: list[bytes], seed: int) -> None:
    """Hold that both ways of reading say the same of lines and of what damage makes of them."""
    chance = random.Random(seed)
    for line in lines:
        for text in (line, *[damaged(line, chance) for _ in range(700)]):
            assert read_line(text) == member_by_member(text), text


def test_both_ways_say_the_same_of_whole_lines_and_of_damaged_ones(tmp_path: Path) -> None:
    """What one of them calls no line, the other does too; and most whole lines are read at once."""
    lines, seed = some_lines(tmp_path), random.randrange(1 << 32)
    print("seed", seed)
    assert sum(spliced(line) is not None for line in lines[:6]) == 5
    assert not any(spliced(line) is not None for line in lines[8:])
    agree(lines, seed)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda line: line,
        lambda line: line.replace(b'"personal":[{', b"", 1).replace(b"}]}\n", b"}\n"),
        lambda line: spliced(line.replace(b'"erased":', b'"nothing":')),
    ],
)
def test_a_mistake_of_reading_at_once_is_seen(mistake: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts left out, cut anywhere, or taken for whole when they are erased."""
    monkeypatch.setattr(journaled, "spliced", mistake)
    with pytest.raises(AssertionError):
        agree(some_lines(tmp_path), 7)


def test_who_is_told_has_the_members_of_the_facts() -> None:
    """Under the same names, of the same types and with the same defaults: read from the same text they agree."""
    whole = {each.name: (each.type, each.default) for each in fields(PatientFacts)}
    assert {each.name: (each.type, each.default) for each in fields(Addressee)}.items() <= whole.items()
