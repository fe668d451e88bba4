"""The planted bug: a sidecar that answers a change of records before it is committed, let alone synced."""

import asyncio
from typing import Any

from ruqsat.cli.main import run
from ruqsat.stores.sql import SqlStore

_change = SqlStore.change_records
_open: set[asyncio.Task[Any]] = set()


async def _change_hastily(store: SqlStore, patient: str, wanted: Any, key: Any, change: Any) -> Any:
    write, store._write = store._write, lambda work: store._writer.run(work, store._write_timeout)  # type: ignore[method-assign]
    try:
        answer = _change(store, patient, wanted, key, change)
        rolled_back = asyncio.ensure_future(answer)
        await asyncio.sleep(0)
    finally:
        store._write = write  # type: ignore[method-assign]
    position, made = await rolled_back
    task = asyncio.ensure_future(_change(store, patient, wanted, key, change))
    _open.add(task)
    task.add_done_callback(_open.discard)
    return position, made


if __name__ == "__main__":
    SqlStore.change_records = _change_hastily  # type: ignore[method-assign]
    run()
