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


class Asking(Struct, frozen=True):
    """
    A function that asks another section of the model, which answers a case once for all rules.

    Attributes:
        kept: Under which name the section's answer stands in the context's ``worked_out``.
        part: What of the answer is the yes or no: ids of documents, of which none is a no, or a truth value.
        work_out: Works the answer out from the four entities and puts it there.
    """

    kept: str
    part: str
    work_out: Callable[[Any, Any, Any, Any], Any]

    def __call__(self, sub: Any, act: Any, res: Any, ctx: Any) -> bool:
        """Answer yes or no."""
        return bool(getattr(ctx.worked_out.get(self.kept) or self.work_out(sub, act, res, ctx), self.part))
