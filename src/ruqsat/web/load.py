"""
How much is under way, how much waits for a place, and when more is turned away at once.

A sidecar that takes in more than it can decide answers everybody late, and a late
answer is a denial that cost as much as a decision.  What is turned away costs
next to nothing, so that what was taken in is answered in time.

A place that comes free stands empty until the next request happens to arrive; a few
that wait for it keep it filled.  Their line is short, in order, and has an end in
time as well: nobody waits for a decision that does not end.

One enforcement point that asks far too much would have the whole line, always; so the
last of who has most of it gives way to one that has less.
"""

import asyncio
from collections import Counter, deque

PATIENCE_SECONDS = 0.02
"""How long a request waits for a place; then it is turned away like any that found the line full."""

_Waiter = tuple[str, "asyncio.Future[bool]"]


class Load:
    """
    The requests under way at the listeners that decide, and those that wait to be.

    A listener takes one in with ``enter() or await wait(who)``; if either is true, ``leave`` follows, and else
    nothing does: it is turned away.  *who* is the name of the enforcement point that asks.

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
        self._line: deque[_Waiter] = deque()

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

    async def wait(self, who: str = "") -> bool:
        """
        Take one more in when its turn comes.

        False turns it away: too many wait, it has waited too long, or it gave way to another enforcement point.
        """
        if self.enter():
            return True
        if len(self._line) >= self.most_waiting and not self._make_room(who):
            self.shed += 1
            return False
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        waiter = (who, turn)
        self._line.append(waiter)
        too_late = loop.call_later(self._patience, self._turn_away, waiter)
        try:
            return await turn
        except BaseException:
            self._gone(waiter)
            raise
        finally:
            too_late.cancel()

    def turns_away(self, who: str = "") -> bool:
        """Tell whether one more would be turned away, before anything is spent on it; then it is counted as such."""
        if not self.is_full or len(self._line) < self.most_waiting or self._last_of_the_greediest(who) is not None:
            return False
        self.shed += 1
        return True

    def leave(self) -> None:
        """Take note that one is answered; its place goes to whoever has waited longest."""
        while self._line:
            _, turn = self._line.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self.now -= 1

    def _make_room(self, who: str) -> bool:
        greedy = self._last_of_the_greediest(who)
        if greedy is not None:
            self._turn_away(greedy)
        return greedy is not None

    def _last_of_the_greediest(self, who: str) -> _Waiter | None:
        """Return who would give way: the last of whoever has most of the line, if it then has no less than *who*."""
        others = Counter([name for name, _ in self._line if name != who])
        if not others:
            return None  # as a rule: nobody else is there
        name, many = others.most_common(1)[0]
        if many <= len(self._line) - others.total() + 1:
            return None
        return next(each for each in reversed(self._line) if each[0] == name)

    def _turn_away(self, waiter: _Waiter) -> None:
        """Take one out of the line; who was cancelled in this very moment counts nowhere."""
        if waiter in self._line:
            self._line.remove(waiter)
            if not waiter[1].done():
                self.shed += 1
                waiter[1].set_result(False)

    def _gone(self, waiter: _Waiter) -> None:
        """Let the others have the place of one that was cancelled: in the line, or the one that it was just given."""
        turn = waiter[1]
        if waiter in self._line:
            self._line.remove(waiter)
        elif turn.done() and not turn.cancelled() and turn.result():
            self.leave()
