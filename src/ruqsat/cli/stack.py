"""
Room on the interpreter's stack for everything that a decision calls.

CPython keeps the frames of Python functions in chunks of 16 KB.  Where a call is the first that does not fit, a
chunk is taken from the kernel, and given back when that call returns: a decision that makes such a call in a loop
costs two to sixteen times as much, at one depth of the stack in ten, whatever the reason why it is as deep.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ROOM = 16_000
"""
Words of eight bytes.  A chunk is a power of two of them, with a thousand to spare: here 32,768, half of which are left
for six hundred frames.  What nobody uses of them is never touched.
"""


def with_room(work: Callable[[], T]) -> T:
    """Return what *work* returns, from a frame so large that it is given a chunk in which whatever follows has room."""
    return work()


with_room.__code__ = with_room.__code__.replace(co_stacksize=ROOM)
