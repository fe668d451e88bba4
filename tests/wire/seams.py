"""
Every seam of the way of a request, found by walking it, and a failure put into each in turn.

A seam is the call of one of the product's functions, or one of its lines, that is reached before the answer
is written.  The interpreter's tracing finds them, and raises there: no list is kept by hand.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import ruqsat
from ruqsat.core import policy_set
from ruqsat.web.protocol import _Corked

PRODUCT = str(Path(ruqsat.__file__).parent)
_ANSWER = _Corked.write.__code__


class Seam(NamedTuple):
    """The call of a function (``line`` is 0) or one of its lines."""

    file: str
    function: str
    line: int

    def __repr__(self) -> str:
        return f"{self.file.removeprefix(PRODUCT + '/')}:{self.function}:{self.line or 'call'}"


class Walk:
    """Looks at each seam as it is reached; raises *error* at the first time that *wanted* is."""

    def __init__(self, wanted: Seam | None = None, error: BaseException | None = None) -> None:
        self._wanted, self._error = wanted, error
        self.seams: dict[Seam, bool] = {}
        self.raised = self.is_answered = self.in_task = self.is_retried = self.is_in_denial = False
        self.times = 0

    def on_call(self, frame: FrameType, event: str, _: Any) -> Any:
        """Trace a new frame, if it is the product's and nothing is answered yet."""
        code = frame.f_code
        if code is _ANSWER or (code.co_name == "_handled" and self.raised):
            self.is_answered = True
        if self.is_answered or not code.co_filename.startswith(PRODUCT):
            return None
        self._look(Seam(code.co_filename, code.co_qualname, 0))
        return self._on_line

    def _on_line(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and not self.is_answered:
            self._look(Seam(frame.f_code.co_filename, frame.f_code.co_qualname, frame.f_lineno))
        return self._on_line

    def _look(self, seam: Seam) -> None:
        if seam not in self.seams:
            self.seams[seam] = asyncio.current_task() is not None
        if seam == self._wanted and self._error is not None and not self.raised:
            self.times += 1
            self.raised, self.in_task = True, asyncio.current_task() is not None
            raise self._error

    def again(self) -> None:
        """
        Let the seam fail once more.

        Tracing ends when a tracer raises.  The evaluator tests each rule alone once all of them together have
        failed, and what fails, fails then, too.
        """
        self.raised, self.is_retried = False, True
        sys.settrace(self.on_call)

    @property
    def may_allow(self) -> bool:
        """Tell whether all was decided again, every rule alone, and no denial failed: a failed permit is absent."""
        return self.is_retried and not self.is_in_denial


@contextmanager
def walking(wanted: Seam | None = None, error: BaseException | None = None) -> Iterator[Walk]:
    """Trace this thread while the block runs."""
    walk, before, matches = Walk(wanted, error), sys.gettrace(), policy_set.matches

    def matches_again(rule: Any, test: Any, case: Any) -> bool:
        if walk.raised:
            walk.again()
        times = walk.times
        matched = matches(rule, test, case)
        walk.is_in_denial |= walk.times > times and not rule.allows
        return matched

    policy_set.matches = matches_again
    sys.settrace(walk.on_call)
    try:
        yield walk
    finally:
        sys.settrace(before)
        policy_set.matches = matches
