"""
Search: who may do this, what may be done to, what may this subject do.

Each candidate is decided by the decision point itself, so that what is found is what
an evaluation would allow.  A page looks at a bounded number of candidates, and a
point at so many a minute: whoever may search learns who has access to whom.
"""

import base64
import binascii
import os
from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from ruqsat.core.facts import Facts, SubjectFacts, entry_id
from ruqsat.core.instant import SECOND, Instant, render_instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import RequestError, RuqsatError, StoreUnavailableError
from ruqsat.service.answer import DIGEST_SHOWN
from ruqsat.service.decision_point import DecisionPoint, Weighed
from ruqsat.service.entries import Named
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.origin import Origin
from ruqsat.service.ports import Clock

Target = Literal["subject", "resource", "action"]

LOOKED_AT = 100
"""How many candidates are looked at for one page, which may therefore be short, or empty and not the last."""

MINUTE = 60 * SECOND
TOKEN_LIFE = 10 * MINUTE
SUBJECT_TYPES = ("user", "patient", "service")
"""Types of subjects; the directory does not tell one from the other, and each searches all of it."""

Found = tuple[EvaluationRequest, str, Weighed]

_LOOKS_AGAIN = 3
_FAILED = frozenset({"deny.store.unavailable", "deny.not_fresh", "deny.stale"})
_NONCE = 12
_PADDED = 1280
"""Page tokens are filled up to as many bytes as the longest id takes: their length tells nothing of it."""

Candidates = Sequence[tuple[str, str | None]]
"""Of each: where it stands in the order of the search, and its id or name; None for an entry that is none."""


class SearchRefusedError(RuqsatError):
    """The point may not search, or not now."""

    code = "search-refused"


class Question(Struct, frozen=True):
    """
    A search as it was read.

    Attributes:
        request: What is asked of each candidate, which takes the place of the searched entity's id.
        binding: A digest of all entities; a token is good for no others.
    """

    target: Target
    request: EvaluationRequest
    binding: bytes
    limit: int | None = None
    token: str | None = None


class Page(Struct, frozen=True):
    """Ids or names that were found, and the token of the next page; empty at the end."""

    results: tuple[str, ...]
    next_token: str


class SearchEntry(Struct, frozen=True, omit_defaults=True):
    """A line of the journal: who searched for what, among how many candidates, and how many were found."""

    kind: str
    at: str
    listener: str
    target: str
    policy: str
    looked_at: int
    found: int
    action: str | None = None
    purpose: str | tuple[str, ...] | None = None
    resource_type: str | None = None
    data_class: str | None = None
    point: str = ""


class Directory(Protocol):
    """The store, as a search needs it."""

    async def list_directory(self, after: str, before: str | None, limit: int) -> list[SubjectFacts]:
        """Return entries whose ids come after *after* and before *before*, in order."""
        ...


class Budget:
    """How many candidates each enforcement point may still look at; what is used comes back over a minute."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._left: dict[str, tuple[float, Instant]] = {}

    def take(self, point: str, wanted: int) -> int:
        """
        Return how many of *wanted* candidates may be looked at now.

        Raises:
            SearchRefusedError: none.
        """
        now = self._clock.boottime()
        left, since = self._left.get(point, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / MINUTE)
        granted = min(wanted, int(left))
        self._left[point] = (left - granted, now)
        if granted < 1:
            raise SearchRefusedError("search_budget: this enforcement point has looked at too many, try later")
        return granted

    def give_back(self, point: str, unused: int) -> None:
        """Return what was taken and not used."""
        left, since = self._left[point]
        self._left[point] = (left + unused, since)


class Search:
    """
    Finds what the decision point allows.

    Args:
        token_key: The store's; page tokens are encrypted with a key derived from it.
        per_minute: How many candidates a point may look at in a minute.
    """

    def __init__(
        self, decision_point: DecisionPoint, directory: Directory, information: InformationPoint, clock: Clock,
        *, token_key: bytes, per_minute: int,
    ) -> None:  # fmt: skip
        self._decision_point, self._directory, self._information = decision_point, directory, information
        self._clock = clock
        self._cipher = AESGCM(blake2b(b"ruqsat search page", key=token_key, digest_size=32).digest())
        self.budget = Budget(per_minute, clock)

    @property
    def policy_set(self) -> PolicySet:
        """The set in force: a search is read and answered under one."""
        return self._decision_point.policy_set

    async def find(self, question: Question, origin: Origin, policy_set: PolicySet) -> Page:
        """
        Return one page.

        Raises:
            RequestError: the token is not of this search, or has expired.
            SearchRefusedError: the point's budget is used up.
            StoreUnavailableError: somebody's facts could not be read: what was found is not all.
            JournalError: the entry could not be written; nothing is told.
        """
        after, limit = self._resume(question, origin.point)
        granted = self.budget.take(origin.point, LOOKED_AT)
        looked_at, last = 0, after
        found: list[Found] = []
        try:
            candidates = await self._candidates(question, policy_set, after, granted + 1)
            for last, name in candidates[:granted]:  # noqa: B007 - where the page ends
                looked_at += 1
                if name is not None:
                    request = _asking(question, name)
                    weighed = await self._weigh(request, origin, policy_set)
                    found += [(request, name, weighed)] if weighed.decision.allowed else []
                if len(found) == limit:
                    break
        finally:
            self.budget.give_back(origin.point, granted - looked_at)
        entry = self._entry(question, origin, policy_set, looked_at, len(found))
        await self._decision_point.record(entry, _named(question, origin))
        results = await self._still_found(found, origin, policy_set)
        ended = looked_at == len(candidates)
        return Page(tuple(results), "" if ended else self._token(question, origin.point, last, limit))

    async def _weigh(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet) -> Weighed:
        weighed = await self._decision_point.weigh(request, origin, policy_set)
        if weighed.decision.reason in _FAILED:
            raise StoreUnavailableError("facts of a candidate cannot be read, try later")
        return weighed

    async def _still_found(self, found: list[Found], origin: Origin, policy_set: PolicySet) -> list[str]:
        """Return the names that are still found now: writing the entry took time, so what changed is decided anew."""
        for _ in range(_LOOKS_AGAIN):
            kept: list[Found] = []
            gone: list[Found] = []
            for each in found:
                (kept if each[2].is_usable() else gone).append(each)
            if not gone:
                return sorted(name for _, name, _ in kept)
            again = [(request, name, await self._weigh(request, origin, policy_set)) for request, name, _ in gone]
            found = kept + [each for each in again if each[2].decision.allowed]
        raise StoreUnavailableError("what was found changes faster than it can be read, try later")

    async def _candidates(self, question: Question, policy_set: PolicySet, after: str, limit: int) -> Candidates:
        request, types = question.request, policy_set.vocabulary.types
        properties = request.resource.properties
        patient = properties.patient if properties is not None else None
        if request.subject.type not in SUBJECT_TYPES:
            return []
        if question.target == "action":
            return [(name, name) for name in sorted(policy_set.vocabulary.actions) if name > after][:limit]
        if question.target == "subject":
            entries = await self._directory.list_directory(after, None, limit)
            return [(entry.id, entry.id if entry.is_somebody else None) for entry in entries]
        if patient is not None:
            facts = await self._facts_of(patient)
            records = facts.patient.records if facts.patient is not None else ()
            names = {record.id for record in records if record.type in (None, request.resource.type)}
            return [(name, name) for name in sorted(names) if name > after][:limit]
        if request.resource.type not in types:
            return []
        first = entry_id(request.resource.type, "")
        entries = await self._directory.list_directory(after or first, first[:-1] + " ", limit)
        return [(entry.id, entry.id.removeprefix(first)) for entry in entries]

    async def _facts_of(self, patient: str) -> Facts:
        return self._information.facts_now(None, patient) or await self._information.fetch(None, patient)

    def _entry(
        self, question: Question, origin: Origin, policy_set: PolicySet, looked_at: int, found: int
    ) -> SearchEntry:
        request, target = question.request, question.target
        properties, context = request.resource.properties, request.context
        return SearchEntry(
            "search", render_instant(self._clock.now().hi), origin.listener, target,
            policy_set.digest[:DIGEST_SHOWN], looked_at, found,
            None if target == "action" else request.action.name,
            context.purpose if context is not None else None,
            request.resource.type,
            properties.data_class if properties is not None else None,
            origin.point,
        )  # fmt: skip

    def _token(self, question: Question, point: str, last: str, limit: int) -> str:
        """Seal where the page ended, for this very search; the id in it may be one that nobody may be told."""
        said = msgspec.json.encode((last, limit, self._clock.now().hi + TOKEN_LIFE, self._information.position.epoch))
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, said.ljust(_PADDED), _bound_to(question, point))
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def _resume(self, question: Question, point: str) -> tuple[str, int]:
        """Return after which candidate a page begins, and how many results it holds at most."""
        asked = None if question.limit is None else min(question.limit, LOOKED_AT)
        if not question.token:
            return "", asked or LOOKED_AT
        try:
            sealed = base64.urlsafe_b64decode(question.token + "=" * (-len(question.token) % 4))
            said = self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound_to(question, point))
        except (InvalidTag, ValueError, binascii.Error):
            raise RequestError("the page token is not one of this search") from None
        last, limit, until, epoch = msgspec.json.decode(said, type=tuple[str, int, int, str])
        if epoch != self._information.position.epoch or until <= self._clock.now().hi:
            raise RequestError("the page token has expired: begin the search again")
        if asked not in (None, limit):
            raise RequestError("the limit is not that of the page before")
        return last, limit


def _asking(question: Question, name: str) -> EvaluationRequest:
    """Return what is asked of one candidate."""
    request, replace = question.request, msgspec.structs.replace
    if question.target == "subject":
        return replace(request, subject=replace(request.subject, id=name))
    if question.target == "resource":
        return replace(request, resource=replace(request.resource, id=name))
    return replace(request, action=replace(request.action, name=name))


def _named(question: Question, origin: Origin) -> Named:
    """Return what the entry of a search names: the entities that are given, and not the one that is searched."""
    request, properties = question.request, question.request.resource.properties
    return Named(
        subject=None if question.target == "subject" else request.subject.id,
        traceparent=origin.traceparent,
        patient=properties.patient if properties is not None else None,
        resource=None if question.target == "resource" else request.resource.id,
    )


def _bound_to(question: Question, point: str) -> bytes:
    return question.binding + point.encode()
