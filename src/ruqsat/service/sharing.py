"""
What an information point shares with others of its kind: early hints of changes, and a copy of facts.

Both are conveniences.  This module says what they must be like, and keeps watch
over them: a probe that learns what no hint has told shows that the stream is
silent, and a copy from beyond the end of the truth shows that the database was
taken back.
"""

import logging
from typing import Protocol

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.service.freshness import ProbeNews
from ruqsat.service.probe import Changes

_HEARD = 10_000

_log = logging.getLogger(__name__)


class Hints(Protocol):
    """The way by which processes tell each other of their commits."""

    def send(self, position: Position, keys: tuple[str, ...]) -> None:
        """Tell everybody, soon, that a commit at *position* touched *keys*; never waits, never raises."""
        ...

    def restart(self) -> None:
        """Listen anew: something was missed."""
        ...


class Copies(Protocol):
    """A copy of facts that several processes share."""

    async def look(
        self, subject: str | None, patient: str | None
    ) -> tuple[tuple[SubjectFacts | None, Position] | None, tuple[PatientFacts | None, Position] | None]:
        """
        Return what is copied of both, with the position each was read at; None where there is nothing to go by.

        A reading is one that was once offered for this very id; it may be as old as it likes.  Never raises.
        """
        ...

    def offer(self, subject: str | None, patient: str | None, facts: Facts) -> None:
        """Copy these facts, read just now from the store, when there is time; never waits, never raises."""
        ...


class Hearing:
    """Tells which changes no hint has brought; ``lost`` counts them."""

    def __init__(self) -> None:
        """Nothing was heard, nothing is missing."""
        self.lost = 0
        self._heard: dict[int, None] = {}
        self._unheard: set[int] = set()

    def heard(self, seq: int) -> None:
        """Take in that a hint told of change *seq*."""
        self._unheard.discard(seq)
        self._heard[seq] = None
        if len(self._heard) > _HEARD:
            del self._heard[next(iter(self._heard))]

    def told(self, changes: Changes) -> int:
        """
        Take in what a probe has told; return how many changes of the probe before are still unheard.

        A hint may be on its way while a probe overtakes it, but not from one probe to the next.
        """
        late = len(self._unheard)
        self.lost += late
        self._unheard = {seq for seq, _ in changes[:_HEARD] if seq not in self._heard}
        return late


class Horizon:
    """
    Tells whether copies may be used: not once the database has lost a part of the history that they came from.

    Positions of one epoch can be compared only while nothing of it is lost.  A
    database that was restored without a new epoch gives the same numbers out
    again, and copies from its lost future would look fresh one day.
    """

    def __init__(self) -> None:
        """Trust, until something is wrong."""
        self.distrusted: str | None = None
        self._beyond = 0
        self._probes = 0

    def saw(self, position: Position, applied: int) -> None:
        """Take in that there is a copy of *position*, while we know the truth up to *applied*."""
        if position.seq > max(applied, self._beyond):
            self._beyond, self._probes = position.seq, 0

    def probed(self, news: ProbeNews, epoch: str, applied: int) -> None:
        """Take in that a probe came back, and where the truth ends now."""
        if self.distrusted is not None and self.distrusted != epoch:
            self.distrusted = None
        if news == "forgot":
            self._beyond = 0
        self._probes += 1
        # The probe under way when the copy was seen may be older than it; the one after that is not.
        beyond = self._beyond > applied and self._probes >= 2
        if self.distrusted is None and (news == "went-back" or beyond):
            _log.error("copies_distrusted epoch=%s known=%d copied=%d", epoch, applied, self._beyond)
            self.distrusted = epoch
        if self._beyond <= applied or beyond:
            self._beyond = 0
