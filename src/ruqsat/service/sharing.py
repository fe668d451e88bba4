"""
What an information point shares with others of its kind: early hints of changes, and a copy of facts.

Both are conveniences.  This module says what they must be like, and keeps watch
over them: a probe that learns what no hint has told shows that the stream is
silent, and a copy from beyond the end of the truth shows that the database was
taken back.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from ruqsat.core.facts import Facts, PatientFacts, Position, SubjectFacts
from ruqsat.service.freshness import Freshness, ProbeNews
from ruqsat.service.ports import Clock
from ruqsat.service.probe import Changes

_HEARD = 10_000

SHARED_COUNTERS = {
    "spared": "Readings of the store that the shared copy spared",
    "unusable": "Copies that were genuine, and too old or not of our history",
    "foreign": "Hints of another epoch",
    "lost": "Changes that became known by a probe alone",
}

Readings = tuple[tuple[SubjectFacts | None, Position] | None, tuple[PatientFacts | None, Position] | None]
"""Of a subject and of a patient: the facts (None is nobody) and the position they were read at, or nothing."""

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

    async def look(self, subject: str | None, patient: str | None) -> Readings:
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
        """Begin with nothing heard, and nothing missing."""
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
        """Begin by trusting copies, until something is wrong."""
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


class Sharing:
    """
    What one information point hears from the others, tells them and takes from their copies.

    Counters: ``spared`` (readings of the store), ``unusable`` (copies that were
    genuine, and too old or not of our history), ``foreign`` (hints of another epoch).
    """

    def __init__(self, freshness: Freshness, clock: Clock, hints: Hints, copies: Copies) -> None:
        """Begin to share by *hints* and *copies*; the rule of use is *freshness*'s."""
        self.spared = self.unusable = self.foreign = 0
        self._freshness, self._boottime = freshness, clock.boottime
        self._hints, self._copies = hints, copies
        self._hearing, self._horizon = Hearing(), Horizon()

    @property
    def lost(self) -> int:
        """How many changes became known by a probe alone."""
        return self._hearing.lost

    @property
    def distrusts_copies(self) -> bool:
        """Tell whether copies are left alone, since the database was taken back within its epoch."""
        return self._horizon.distrusted is not None

    def send(self, position: Position, keys: tuple[str, ...]) -> None:
        """Tell the others of a commit of ours."""
        if keys:
            self._hints.send(position, keys)

    def hear(self, position: Position, keys: Sequence[str]) -> None:
        """
        Take in a hint: a commit at *position* is said to have touched *keys*, a number each, the last at it.

        What was read of them before is not used until the truth of it is known.
        """
        if position.epoch != self._freshness.epoch:
            self.foreign += 1
            return
        now = self._boottime()
        for seq, key in enumerate(keys, position.seq - len(keys) + 1):
            self._freshness.hint(seq, key, now)
            self._hearing.heard(seq)

    def probed(self, news: ProbeNews, changes: Changes) -> None:
        """Take in what a probe has told, once the rule knows it."""
        known = self._freshness.position
        self._horizon.probed(news, known.epoch, known.seq)
        if self._hearing.told(changes if news == "learned" else ()):
            self._hints.restart()

    async def look(self, subject: str | None, patient: str | None) -> Readings:
        """Return what is copied of both and usable at this moment, each by itself."""
        if self.distrusts_copies or (subject is None and patient is None):
            return None, None
        one, other = await self._copies.look(subject, patient)
        return (
            one if one is not None and self._may_use(one[1], f"subject:{subject}") else None,
            other if other is not None and self._may_use(other[1], f"patient:{patient}") else None,
        )

    def _may_use(self, as_of: Position, key: str) -> bool:
        known = self._freshness.position
        if as_of.epoch == known.epoch:
            self._horizon.saw(as_of, known.seq)
        # What is beyond all that we know is not of our history for sure; the store can tell.
        if as_of.seq <= known.seq and self._freshness.usable(as_of, (key,), self._boottime()):
            return True
        self.unusable += 1
        return False

    def offer(self, subject: str | None, patient: str | None, facts: Facts) -> None:
        """Let the others have facts that were just read from the store."""
        if not self.distrusts_copies:
            self._copies.offer(subject, patient, facts)
