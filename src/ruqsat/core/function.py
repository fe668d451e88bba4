"""What the matchers know of a function that they may call."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct


class Function(Struct, frozen=True):
    """
    One registered function.

    Attributes:
        arity: How many arguments it takes.
        miss: In a covering test, the word by which a denial tells that this criterion failed.
        gate: In a covering test, its failure shuts the exceptions beneath the row, too.
        reach: For the index: given the function's first argument, the words of which a cell
            must hold one, or ``*``, for the function to be true at all.
        takes: The entities that it is handed whole.
        idle: It is true of every case where the row leaves the columns that it reads empty,
            that of the effect aside, so that it need not be called.
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
    A rule's question to another section of the model, such as ``granted(…)``; a section answers once a case.

    Attributes:
        kept: The name under which the section's answer stands in the context's ``worked_out``.
        part: The attribute of the answer that is the yes or no: a truth value, or ids of documents (none: no).
        work_out: Works the answer out from the four entities and puts it there.
    """

    kept: str
    part: str
    work_out: Callable[[Any, Any, Any, Any], Any]

    def __call__(self, sub: Any, act: Any, res: Any, ctx: Any) -> bool:
        """Answer yes or no."""
        return bool(getattr(ctx.worked_out.get(self.kept) or self.work_out(sub, act, res, ctx), self.part))
