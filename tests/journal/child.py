"""
A process that appends to a journal until it is killed.

Called as ``child.py durable|hasty FOLDER RUN``.  It waits for a byte on its standard
input, says ``opening``, and from then on names each acknowledged entry on a line of
its standard output, the moment it is acknowledged.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from journal_helpers import signing_key

from ruqsat.stores.journal_segment import DurableJournal

TASKS = 16
KEY = signing_key()
SEGMENT_BYTES = 30_000


class HastyJournal(DurableJournal):
    """The planted bug: it answers before the entry is written, let alone synced."""

    def append(self, entry: bytes, *rest: Any, **more: Any) -> asyncio.Future[None]:
        """Append *entry* and claim at once that it is kept."""
        super().append(entry, *rest, **more)
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer


async def decide_for_ever(journal: DurableJournal, name: str) -> None:
    """Append one entry after the other, and report each once it is acknowledged."""
    number = 0
    while True:
        entry_id = f"{name}-{number}"
        await journal.append(b'{"kind":"decision","id":"%b"}' % entry_id.encode(), (b'{"patient":"p-dana"}',))
        os.write(1, f"{entry_id}\n".encode())
        await asyncio.sleep(0)
        number += 1


async def main(kind: str, folder: str, run: str) -> None:
    """Open the journal and append from many tasks."""
    journal = {"durable": DurableJournal, "hasty": HastyJournal}[kind].open(
        Path(folder), segment_bytes=SEGMENT_BYTES, key=KEY, checkpoint_seconds=0.002, reserve_bytes=1 << 16
    )
    await asyncio.gather(*(decide_for_ever(journal, f"{run}-{task}") for task in range(TASKS)))


if __name__ == "__main__":
    os.read(0, 1)
    os.write(1, b"opening\n")
    asyncio.run(main(*sys.argv[1:]))
