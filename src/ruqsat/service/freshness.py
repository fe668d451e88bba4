"""
What this process knows about change, and the one rule by which a copy may be used.

A cached entry is never deleted to be correct.  It carries the position it was
read at, and is tested when it is used: against every change known since, and
under a lease that says how long ago that knowledge was complete.  A late, lost
or doubled message can then cost time, never truth.

Hints are kept apart from knowledge.  A hint makes what was read before it
unusable until a probe that was sent after it has told what is true of it: so
even a hint that was made up can neither hide a change nor bar anybody for long.

Which policy is in force is knowledge like any other.  Where it comes from the same
database, the lease is renewed only as far as the policy here reflects it: a process
that cannot tell, or may not go on, falls silent when the lease ends, as without a probe.

Nothing here waits, reads a clock or does I/O.  Times are since boot, in
microseconds, and come from the caller.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from ruqsat.core.facts import Position
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.policy_release import POLICY
from ruqsat.service.consistency_token import TokenSeal

ALL = "ALL"
LEASE: Instant = 5 * SECOND

_NEVER: Instant = -(1 << 62)
_NOWHERE = Position("", -1)

ProbeNews = Literal["learned", "forgot", "went-back", "outdated"]


class Question(NamedTuple):
    """What a probe asks: the changes after *since*; and in which era it was asked."""

    since: Position
    era: int


class Freshness:
    """
    The state of one process: how far it knows the feed, and since when.

    ``epoch``, ``applied``: every change up to here is known.
    ``recent``: the highest number known to have touched a key; bounded.
    ``hinted``: the highest number said to have touched a key, and when that was heard; bounded.
    ``win``: what was read before this is unusable, whatever its keys.
    ``lease``: when the last probe that succeeded was sent.
    ``era``: how many times everything was forgotten.
    """

    __slots__ = (
        "_early",
        "_lease_for",
        "_newest",
        "_policy",
        "_position",
        "_recent_limit",
        "_seal",
        "_withheld",
        "applied",
        "epoch",
        "era",
        "follows_policy",
        "hinted",
        "lease",
        "recent",
        "win",
    )

    def __init__(
        self, token_key: bytes, *, lease_for: Instant = LEASE, recent_limit: int = 50_000, follows_policy: bool = False
    ) -> None:
        """
        Know nothing: until a first probe no entry is usable.

        With *follows_policy* no lease is given, or renewed, while the policy in force does not reflect what is known.
        """
        self.epoch = ""
        self.applied = 0
        self.recent: OrderedDict[str, int] = OrderedDict()
        self.hinted: OrderedDict[str, tuple[int, Instant]] = OrderedDict()
        self.win = 0
        self.lease = _NEVER
        self.era = 0
        self._early: set[int] = set()
        self._newest = 0
        self._lease_for = lease_for
        self._recent_limit = recent_limit
        self._position = Position("", 0)
        self._seal = TokenSeal(token_key)
        self.follows_policy = follows_policy
        self._policy = _NOWHERE
        self._withheld = _NEVER

    def reflects_policy(self) -> bool:
        """Tell whether the policy in force reflects every change of policy that is known."""
        held, recent = self._policy, self.recent
        return not self.follows_policy or (
            held.epoch == self.epoch
            and held.seq >= self.win
            and recent.get(POLICY, 0) <= held.seq
            and recent.get(ALL, 0) <= held.seq
        )

    def may_outlast_lease(self) -> bool:
        """Tell whether nothing is known, or said, of a policy that the one here does not reflect."""
        return self.reflects_policy() and not (self.follows_policy and (POLICY in self.hinted or ALL in self.hinted))

    def reflect_policy(self, as_of: Position) -> None:
        """Take in that the policy in force is what the truth said at *as_of*, or need not be."""
        self._policy = as_of
        if self.reflects_policy():
            self.lease = max(self.lease, self._withheld)

    def usable(
        self, as_of: Position, keys: Iterable[str], now_boottime: Instant, token: Position | None = None
    ) -> bool:
        """
        Tell whether what was read of *keys* at *as_of* may still be used, at this moment.

        True only if no known change has touched it since, the answer would
        reflect *token*, and the lease has not run out.
        """
        seq = as_of.seq
        if as_of.epoch != self.epoch or seq < self.win:
            return False
        recent = self.recent
        for key in keys:
            if recent.get(key, 0) > seq:
                return False
        if recent.get(ALL, 0) > seq or (token is not None and not self._covers(token, seq)):
            return False
        if self.hinted and self._is_hinted(keys, seq):
            return False
        # The lease comes last: time passes while the rest is tested.
        return now_boottime - self.lease < self._lease_for

    def _covers(self, token: Position, seq: int) -> bool:
        return token.epoch == self.epoch and max(self.applied, seq) >= token.seq

    def _is_hinted(self, keys: Iterable[str], seq: int) -> bool:
        hinted = self.hinted
        return any(hinted.get(key, (0, 0))[0] > seq for key in (*keys, ALL))

    def has_lease(self, now_boottime: Instant) -> bool:
        """Tell whether a probe sent less than a lease ago has succeeded."""
        return now_boottime - self.lease < self._lease_for

    def lease_age(self, now_boottime: Instant) -> Instant | None:
        """Return how long ago the last successful probe was sent; None before the first."""
        return None if self.lease == _NEVER else now_boottime - self.lease

    @property
    def position(self) -> Position:
        """How far this process knows the truth; every usable answer reflects at least this."""
        if self._position.seq != self.applied or self._position.epoch != self.epoch:
            self._position = Position(self.epoch, self.applied)
        return self._position

    @property
    def newest(self) -> Position:
        """
        The newest change that is known here, be others before it still unknown.

        A change of our own, or what was read, is never after it, though it may be after ``position``.
        """
        return Position(self.epoch, max(self.applied, self._newest))

    def has_news_of(self, key: str) -> bool:
        """Tell whether a change of *key* is remembered, or said to be."""
        return key in self.recent or key in self.hinted

    @property
    def early(self) -> int:
        """How many changes are known ahead of one that is not."""
        return len(self._early)

    def learn(self, seq: int, key: str) -> None:
        """Take in that change *seq* of this epoch touched *key*; order and repetition do not matter."""
        recent = self.recent
        recent[key] = max(recent.get(key, 0), seq)
        recent.move_to_end(key)
        if len(recent) > self._recent_limit:
            _, dropped = recent.popitem(last=False)
            self.win = max(self.win, dropped)
        self._newest = max(self._newest, seq)
        if seq > self.applied:
            self._early.add(seq)
            self._advance()

    def hint(self, seq: int, key: str, now_boottime: Instant) -> None:
        """
        Take in that change *seq* of this epoch is said to have touched *key*.

        Nothing becomes known by it: neither how far the truth is nor the lease moves.
        """
        if seq <= self.applied:
            return
        hinted = self.hinted
        hinted[key] = (max(seq, hinted.get(key, (0, 0))[0]), now_boottime)
        hinted.move_to_end(key)
        if len(hinted) > self._recent_limit:
            hinted.popitem(last=False)  # as if it had been lost on its way

    def saw(self, position: Position) -> None:
        """Take in that an answer may be given by what was read at *position*: tokens are of no earlier one."""
        if position.epoch == self.epoch:
            self._newest = max(self._newest, position.seq)

    def learn_reading(self, position: Position, key: str, now_boottime: Instant) -> None:
        """
        Take in that *key* was read at *position* by a call that answers from what it found there.

        Which changes led there is not known here.  As with a hint, what was read of it before
        is not used until a probe tells.
        """
        self.saw(position)
        if position.epoch == self.epoch:
            self.hint(position.seq, key, now_boottime)

    def _settle_hints(self, sent_at: Instant) -> None:
        """Drop hints that a probe has answered: what they told, if it is true, was committed before it was sent."""
        hinted = self.hinted
        while hinted and next(iter(hinted.values()))[1] < sent_at:
            hinted.popitem(last=False)

    def _advance(self) -> None:
        early = self._early
        while self.applied + 1 in early:
            self.applied += 1
            early.remove(self.applied)
        if len(early) > self._recent_limit:
            early.clear()  # the next probe brings them again

    def learn_commit(self, position: Position, keys: Sequence[str]) -> None:
        """
        Take in a change of our own, committed at *position*: one number for each key, the last at it.

        Another epoch than ours means that the database was exchanged: everything is forgotten.
        """
        if position.epoch != self.epoch:
            self._forget(position)
            self.lease = _NEVER
            return
        for seq, key in enumerate(keys, position.seq - len(keys) + 1):
            self.learn(seq, key)

    def ask(self) -> Question:
        """Return what a probe that is sent now has to ask."""
        return Question(self.position, self.era)

    def observe_probe(
        self, head: Position, changes: Sequence[tuple[int, str]], sent_at: Instant, asked: Question
    ) -> ProbeNews:
        """
        Take in the answer to a probe, and renew the lease from when it was SENT.

        Args:
            head: The newest position that the database told.
            changes: Its changes since, oldest first; a gap before *head* means some are lost.
            sent_at: Boot time, read before the probe went out.
            asked: What we had to ``ask`` at that time.

        Returns:
            ``learned``: all is known up to *head*.
            ``forgot``: another epoch, or changes were lost; everything older is unusable.
            ``went-back``: the same epoch has lost changes that we had seen; raise an
            alarm.  Everything is forgotten and it takes another probe to be fresh.
            ``outdated``: we have forgotten everything meanwhile; nothing was taken in.
        """
        # The epoch alone would not tell: the late reply to a change of ours may have led us away and back.
        if asked.era != self.era:
            return "outdated"
        since = asked.since.seq
        if head.epoch == self.epoch and head.seq < since:
            self._forget(head)
            self.lease = _NEVER
            return "went-back"
        news: ProbeNews = "learned"
        if head.epoch != self.epoch or not _is_whole(changes, since, head.seq):
            # Our own changes may have come in while the probe was on its way; they stay known through `win`.
            overtaken = self._newest if head.epoch == self.epoch else 0
            self._forget(head)
            self.win = self._newest = max(self.win, overtaken)
            news = "forgot"
        for seq, key in changes if news == "learned" else ():
            self.learn(seq, key)
        if self.reflects_policy():
            self.lease = max(self.lease, sent_at)
        else:
            self._withheld = sent_at
        self._settle_hints(sent_at)
        return news

    def _forget(self, head: Position) -> None:
        self.epoch = head.epoch
        self.applied = self.win = self._newest = head.seq
        self.recent.clear()
        self.hinted.clear()
        self._early.clear()
        self._withheld = _NEVER
        self._policy = _NOWHERE
        self.era += 1

    def issue_token(self, position: Position) -> str:
        """
        Return the consistency token of *position*, to be shown with a later check.

        It is never of before a change of our own, or a reading that an answer came from: they
        may be known here while a change before them is not, so that ``position`` has not reached it.
        """
        if position.epoch == self.epoch and position.seq < self._newest:
            position = Position(position.epoch, self._newest)
        return self._seal.issue(position)

    def read_token(self, text: str) -> Position:
        """
        Return the position that a token stands for.

        Raises:
            RequestError: the token is not one of ours.
        """
        return self._seal.read(text)


def _is_whole(changes: Sequence[tuple[int, str]], since: int, head: int) -> bool:
    return len(changes) == head - since and all(seq == wanted for wanted, (seq, _) in enumerate(changes, since + 1))
