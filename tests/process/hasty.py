"""The planted bug: a sidecar whose journal answers before anything is written, let alone synced."""

import asyncio
from typing import Any

from ruqsat.cli.main import run
from ruqsat.stores.journal_segment import DurableJournal

_append = DurableJournal.append


def _append_hastily(journal: DurableJournal, *entry: Any, **more: Any) -> asyncio.Future[None]:
    _append(journal, *entry, **more)
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answer.set_result(None)
    return answer


if __name__ == "__main__":
    DurableJournal.append = _append_hastily  # type: ignore[method-assign]
    run()
