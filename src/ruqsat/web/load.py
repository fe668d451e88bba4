"""
How much is under way, how much waits for a place, and when more is turned away at once.

A sidecar that takes in more than it can decide answers everybody late, and a late
answer is a denial that cost as much as a decision.  What is turned away costs
next to nothing, so that what was taken in is answered in time.

A place that comes free stands empty until the next request happens to arrive; a few
that wait for it keep it filled.  Their line is short, in order, and has an end in
time as well: nobody waits for a decision that does not end.
"""

import asyncio
from collections import deque

PATIENCE_SECONDS = 0.02
"""So long one waits for a place; then it is turned away like any that found the line full."""


class Load:
    """
    The requests under way at the listeners that decide, and those that wait to be.

    A listener takes one in with ``enter() or await wait()``; if either is true, ``leave`` follows, and else
    nothing does: it is turned away.

    Args:
        most: How many places there are.
        most_waiting: How many may wait for one.
        patience: For how many seconds.

    Attributes:
        now: How many are under way, those included whose turn has come in this very moment.
        shed: How many were turned away.
    """

    __slots__ = ("_line", "_patience", "most", "most_waiting", "now", "shed")

    def __init__(self, most: int = 512, most_waiting: int = 0, patience: float = PATIENCE_SECONDS) -> None:
        self.most, self.most_waiting, self._patience = most, most_waiting, patience
        self.now = self.shed = 0
        self._line: deque[asyncio.Future[bool]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._line)

    @property
    def is_full(self) -> bool:
        """Whether one more would not be taken in at once."""
        return self.now >= self.most

    def enter(self) -> bool:
        """
        Take one more in at once if there is a place; False decides nothing yet: it may ``wait``.

        Nobody is overtaken: while somebody waits, every place is taken.
        """
        if self.now >= self.most:
            return False
        self.now += 1
        return True

    async def wait(self) -> bool:
        """Take one more in when its turn comes; False turns it away: too many wait, or it has waited too long."""
        if self.enter():
            return True
        if len(self._line) >= self.most_waiting:
            self.shed += 1
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._line.append(turn)
        too_late = loop.call_later(self._patience, self._give_up, turn)
        try:
            return await turn
        except BaseException:
            self._gone(turn)
            raise
        finally:
            too_late.cancel()

    def turns_away(self) -> bool:
        """Tell whether one more would be turned away, before anything is spent on it; then it is counted as such."""
        if not self.is_full or len(self._line) < self.most_waiting:
            return False
        self.shed += 1
        return True

    def leave(self) -> None:
        """Take note that one is answered; its place goes to whoever has waited longest."""
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self.now -= 1

    def _give_up(self, turn: "asyncio.Future[bool]") -> None:
        """Turn away who has waited too long, unless its turn has come."""
        if not turn.done():
            self._line.remove(turn)
            self.shed += 1
            turn.set_result(False)

    def _gone(self, turn: "asyncio.Future[bool]") -> None:
        """Let the others have the place of one that was cancelled: in the line, or the one that it was just given."""
        if turn in self._line:
            self._line.remove(turn)
        elif turn.done() and not turn.cancelled() and turn.result():
            self.leave()
