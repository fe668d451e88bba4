"""What the matchers know of a function that they may call."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct


class Function(Struct, frozen=True):
    """
    One registered function.

    ``reach`` serves the index: given the function's first argument, the words of
    which a cell must hold one, or ``*``, for the function to be true at all.
    ``takes`` names the entities that it is handed whole, if it is.  ``idle`` says
    that it holds of every case where the row leaves its columns empty, the effect's
    aside: then it need not be called.
    """

    call: Callable[..., bool]
    arity: int
    miss: str = ""
    gate: bool = False
    reach: Callable[[Any], Iterable[str]] | None = None
    takes: tuple[str, ...] = ()
    idle: bool = False
