"""
Decisions of the journal, made again: the same policy set, question, facts and moment must give the same answer.

Everything comes from the lines themselves, but for the policy sets.  What cannot be made
again is said so, with the reason, and never counted as agreement.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from ruqsat import __version__
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.instant import Instant, Now, parse_instant
from ruqsat.core.journaled import DECISION, SEGMENT
from ruqsat.core.kept_facts import Kept, Known, facts_of, read_facts_line, read_known
from ruqsat.core.line import read_line
from ruqsat.core.personal import is_erased
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.service.decision_point import Decide
from ruqsat.service.degraded import narrowed

SAME, DIFFERENT = "same", "different"
ERASED, NOT_KEPT, NO_RULES = "erased", "not-kept", "no-rules"
POLICY_MISSING, FACTS_MISSING, OTHER_VERSION, UNREADABLE = (
    "policy-missing", "facts-missing", "other-version", "unreadable",
)  # fmt: skip

MEANINGS = {
    SAME: "the same answer",
    DIFFERENT: "another answer",
    ERASED: "what is needed was erased (order §24)",
    NOT_KEPT: "the question was not kept: an older version, or RUQSAT_JOURNAL_REPLAYABLE is off",
    NO_RULES: "denied without asking a rule: the facts could not be had, or changed before the answer left",
    POLICY_MISSING: "the policy set is not at hand",
    FACTS_MISSING: "the facts are not in the journal, or are not what their digest says",
    OTHER_VERSION: "another version of the product decided it (--any-version tries all the same)",
    UNREADABLE: "the entry, the question or the facts cannot be read by this version",
}

WITHOUT_RULES = frozenset(
    {"deny.store.unavailable", "deny.not_fresh", "deny.stale", "deny.audit_unavailable", "deny.refused"},
)
"""Reasons of denials that come from the circumstances and from no rule."""

_DECISION = b'"kind":"%b"' % DECISION.encode()

SEGMENTS_BACK = 4
"""Facts of so many segments are at hand; each segment holds its own, but for what went into the reserve."""

FindPolicy = Callable[[str], PolicySet | None]
"""Returns the policy set whose digest begins so."""


class Replayed(Struct, frozen=True, omit_defaults=True):
    """
    What became of one entry.

    Attributes:
        place: Segment and number of its line; the segment alone of an entry that cannot be read, which has no id.
        result: ``same``, ``different``, or why it was not made again (``MEANINGS``).
        told: What the journal says was decided; only where that differs.
        again: What is decided now.
        because: In words, where the answers themselves do not show it.
    """

    id: str
    at: str
    place: str
    result: str
    told: Decision | None = None
    again: Decision | None = None
    because: str = ""


class _Entry(Struct, frozen=True):
    kind: str
    number: int = msgspec.field(name="n")
    id: str = ""
    at: str = ""
    allowed: bool = False
    reason: str = ""
    policy: str = ""
    basis: str | None = None
    rule: str | None = None
    law: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    as_of: Position | None = None
    degraded: bool = False
    within: int = 0
    can: tuple[str, ...] = ()
    action: str | None = None
    purpose: str | tuple[str, ...] | None = None
    resource_type: str | None = None
    data_class: str | None = None
    segment: int = 0
    product: str = ""


class _Part(Struct, frozen=True):
    asked: str | None = None
    knew: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    subject: str | None = None
    patient: str | None = None
    resource: str | None = None


class _CannotError(Exception):
    """It cannot be made again; its argument is why."""


class Replayer:
    """
    Makes decisions again, as their lines are handed in, in the order in which they were written.

    Args:
        find_policy: Where policy sets are found.
        decide: What decides; anything but ``evaluate`` is a second opinion, or for tests.
        any_version: What another version of the product wrote is tried as well.
        since, until: Only decisions of this time.

    Attributes:
        counts: How many entries had which result.
    """

    def __init__(
        self, find_policy: FindPolicy, *, decide: Decide = evaluate, any_version: bool = False,
        since: Instant = 0, until: Instant | None = None,
    ) -> None:  # fmt: skip
        self.counts: dict[str, int] = {}
        self._find_policy, self._decide, self._any_version = find_policy, decide, any_version
        self._since, self._until = since, until
        self._segment, self._version = 0, ""
        self._facts: deque[dict[str, Kept | Known]] = deque([{}], maxlen=SEGMENTS_BACK)

    def take(self, line: bytes) -> Replayed | None:
        """Take the next line; return what became of it if it is a decision."""
        kept = read_facts_line(line)
        if kept is not None:
            if kept.digest is not None:
                self._facts[-1][kept.digest] = kept
            return None
        try:
            entry = msgspec.json.decode(line, type=_Entry)
            if entry.kind == SEGMENT:
                self._segment, self._version = entry.segment, entry.product
                self._facts.append({})
            if entry.kind != DECISION or not self._is_asked_for(entry):
                return None
        except (msgspec.MsgspecError, ValueError, RecursionError):
            if _DECISION not in line:
                return None  # what is no line of a journal, its verification tells
            replayed = Replayed("", "", str(self._segment), UNREADABLE)
        else:
            replayed = self._replay(entry, line)
        self.counts[replayed.result] = self.counts.get(replayed.result, 0) + 1
        return replayed

    def _is_asked_for(self, entry: _Entry) -> bool:
        at = parse_instant(entry.at)
        return self._since <= at and (self._until is None or at < self._until)

    def _replay(self, entry: _Entry, line: bytes) -> Replayed:
        place = f"{self._segment}:{entry.number}"
        try:
            told, again = self._both(entry, _parts_of(line))
        except _CannotError as why:
            return Replayed(entry.id, entry.at, place, str(why))
        if told == again:
            return Replayed(entry.id, entry.at, place, SAME)
        because = "the question is not the one that the entry tells of" if again is None else ""
        return Replayed(entry.id, entry.at, place, DIFFERENT, told, again, because)

    def _both(self, entry: _Entry, parts: tuple[_Part | None, ...]) -> tuple[Decision, Decision | None]:
        """Return what was decided and what is decided now, None if the entry contradicts itself."""
        asked = [part for part in parts if part is not None and part.asked is not None]
        if len(asked) != 1:
            raise _CannotError(_why_not_kept(entry, parts))
        if self._version != __version__ and not self._any_version:
            raise _CannotError(OTHER_VERSION)
        policy_set = self._find_policy(entry.policy)
        if policy_set is None:
            raise _CannotError(POLICY_MISSING)
        applied = tuple([name for part in parts if part is not None for name in part.applied])
        told = Decision(
            entry.allowed, entry.reason, entry.basis, entry.rule, entry.law, entry.duties, applied, entry.untold
        )
        request, facts = _request_of(asked[0], policy_set), self._facts_of(asked[0], entry)
        if not _tells_of(entry, parts, request):
            return told, None
        hi = parse_instant(entry.at)
        again = self._decide(policy_set, request, facts, Now(hi - entry.within, hi), frozenset(entry.can))
        return told, narrowed(again, policy_set.vocabulary) if entry.degraded else again

    def _facts_of(self, asked: _Part, entry: _Entry) -> Facts:
        known = tuple([self._known(digest) if digest else None for digest in asked.knew])
        position = entry.as_of or Position("", 0)
        try:
            return facts_of(known, position, consents_known=not entry.degraded)
        except ValueError:
            raise _CannotError(UNREADABLE) from None

    def _known(self, digest: str) -> Known:
        for segment in reversed(self._facts):
            found = segment.get(digest)
            if isinstance(found, Kept):
                try:
                    found = segment[digest] = read_known(found)
                except ValueError:
                    raise _CannotError(UNREADABLE) from None
            if found is not None:
                return found
        raise _CannotError(FACTS_MISSING)


def _parts_of(line: bytes) -> tuple[_Part | None, ...]:
    """Return the personal parts of a line; None stands for each that is erased."""
    found = read_line(line)
    if found is None:
        raise _CannotError(UNREADABLE)
    try:
        return tuple([None if is_erased(part) else msgspec.json.decode(part, type=_Part) for part in found.parts])
    except msgspec.MsgspecError:
        raise _CannotError(UNREADABLE) from None


def _why_not_kept(entry: _Entry, parts: tuple[_Part | None, ...]) -> str:
    if any(part is None for part in parts):
        return ERASED
    return NO_RULES if not entry.allowed and entry.reason in WITHOUT_RULES else NOT_KEPT


def _request_of(asked: _Part, policy_set: PolicySet) -> EvaluationRequest:
    try:
        return msgspec.json.decode(asked.asked or "", type=policy_set.request_type)
    except (msgspec.MsgspecError, RecursionError):
        raise _CannotError(UNREADABLE) from None


def _tells_of(entry: _Entry, parts: tuple[_Part | None, ...], request: EvaluationRequest) -> bool:
    """Tell whether the entry says in the clear what its question asks; erased parts say nothing."""
    resource, context = request.resource.properties, request.context
    said: list[tuple[Any, Any]] = [
        (entry.action, request.action.name), (entry.resource_type, request.resource.type),
        (entry.data_class, resource.data_class if resource is not None else None),
        (entry.purpose, context.purpose if context is not None else None),
    ]  # fmt: skip
    patient = resource.patient if resource is not None else None
    for part in parts:
        if part is not None:
            named = ((part.subject, request.subject.id), (part.patient, patient), (part.resource, request.resource.id))
            said += [pair for pair in named if pair[0] is not None]
    return all(one == other for one, other in said)
