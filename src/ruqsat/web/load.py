"""
How much is under way, and when more is turned away at once.

A sidecar that takes in more than it can decide answers everybody late, and a late
answer is a denial that cost as much as a decision.  What is turned away costs
next to nothing, so that what was taken in is answered in time.
"""


class Load:
    """
    The requests under way at the listeners that decide.

    ``shed`` counts those that were turned away.
    """

    __slots__ = ("most", "now", "shed")

    def __init__(self, most: int = 512) -> None:
        self.most = most
        self.now = self.shed = 0

    @property
    def is_full(self) -> bool:
        """Whether one more would not be taken in at once."""
        return self.now >= self.most

    def enter(self) -> bool:
        """Take one more in, to be followed by ``leave``; False turns it away, and nothing follows."""
        if self.now >= self.most:
            self.shed += 1
            return False
        self.now += 1
        return True

    def turns_away(self) -> bool:
        """Tell whether one more would be turned away, before anything is spent on it; then it is counted as such."""
        if self.now < self.most:
            return False
        self.shed += 1
        return True

    def leave(self) -> None:
        """Take note that one is answered."""
        self.now -= 1
