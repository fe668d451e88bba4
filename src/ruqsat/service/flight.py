"""
Tasks: work that several callers wait for and none can stop by leaving, and work that goes on until the process ends.

A caller that is cancelled takes nothing with it: the work goes on for the
others, and its failure is never left unread.
"""

import asyncio
from collections.abc import Collection, Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from ruqsat.errors import StoreUnavailableError

T = TypeVar("T")


def launch(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start *work* at once, in a task of its own."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_read_failure)
    return task


def _read_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def outcome(task: asyncio.Task[T]) -> T:
    """
    Wait for *task* and return its result.

    Raises:
        StoreUnavailableError: the task was stopped because the process is closing.
        BaseException: whatever the task raised; each waiter gets a StoreUnavailableError of its own, of the same kind.
    """
    await asyncio.wait((task,))
    if task.cancelled():
        raise StoreUnavailableError("the process is closing")
    error = task.exception()
    if isinstance(error, StoreUnavailableError):
        raise type(error)(*error.args) from error
    return task.result()


async def land(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Wait until all *tasks* are done, whatever their outcome."""
    if tasks:
        await asyncio.wait(tasks)


def keep_running(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run *work* beside everything else, on the running loop; leaving *stack* cancels it and waits for its end."""
    stack.push_async_callback(_end, asyncio.get_running_loop().create_task(work))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
