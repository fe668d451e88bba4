"""The planted bug: a sidecar that answers a change of records before it is committed."""

import asyncio
from contextvars import ContextVar
from typing import Any

from ruqsat.cli.main import run
from ruqsat.stores.sql import SqlStore

_change, _write = SqlStore.change_records, SqlStore._write
_is_rehearsed: ContextVar[bool] = ContextVar("_is_rehearsed", default=False)
_under_way: set[asyncio.Task[Any]] = set()


async def _write_or_rehearse(store: SqlStore, change: Any) -> Any:
    if _is_rehearsed.get():
        return await store._writer.run(change, store._write_timeout)
    return await _write(store, change)


async def _change_hastily(store: SqlStore, *asked: Any) -> Any:
    token = _is_rehearsed.set(True)
    try:
        answer = await _change(store, *asked)
    finally:
        _is_rehearsed.reset(token)
    task = asyncio.ensure_future(_change(store, *asked))
    _under_way.add(task)
    task.add_done_callback(_under_way.discard)
    return answer


if __name__ == "__main__":
    SqlStore.change_records = _change_hastily  # type: ignore[method-assign]
    SqlStore._write = _write_or_rehearse  # type: ignore[method-assign]
    run()
