"""What a full disk could keep in the reserve alone leaves for the database as everything else does."""

import asyncio
from pathlib import Path

from journal_helpers import on_loop
from simulated_disk import FullDisk

from ruqsat.core.journaled import Place
from ruqsat.errors import JournalError
from ruqsat.stores.journal_folder import read_lines
from ruqsat.stores.journal_reader import JournalReader
from ruqsat.stores.journal_segment import DurableJournal


def test_entries_of_the_reserve_are_read_on_in_their_order(tmp_path: Path) -> None:
    """While the disk is full and after it; each line once, and none that was refused."""
    disk, reader, found = FullDisk(), JournalReader(tmp_path), []

    def take(journal: DurableJournal) -> None:
        while (lines := reader.read_on(Place(*journal.lasting))) is not None:
            found.extend(line for _, _, line in lines.lines)
            reader.accept(lines)

    async def main() -> None:
        journal = DurableJournal.open(tmp_path, disk=disk, reserve_bytes=8192)
        for number in range(12):
            disk.is_full = 3 <= number < 8
            told = await asyncio.gather(
                *(
                    journal.append(b'{"kind":"decision","id":"d-%d"}' % (number * 10 + each), emergency=each == 1)
                    for each in range(3)
                ),
                return_exceptions=True,
            )
            assert [isinstance(each, JournalError) for each in told] == [disk.is_full, False, disk.is_full]
            take(journal)
            assert found == list(read_lines(tmp_path))
        await journal.aclose()

    on_loop(main)
    assert reader.unreadable == 0 and sum(b'"decision"' in line for line in found) == 7 * 3 + 5
