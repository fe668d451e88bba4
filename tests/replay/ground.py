"""What the tests of the replay share: a decision point that is told the facts, and journals what it decides."""

from collections.abc import Iterable
from pathlib import Path

from ruqsat.core.facts import Facts, Position, entry_id
from ruqsat.core.instant import Now
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.errors import StoreUnavailableError
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.stores.journal_disk import Disk
from ruqsat.stores.journal_segment import DurableJournal
from tests.conformance.questions import Asked


class QuietDisk(Disk):
    """A disk that syncs nothing: what is proved here is not durability."""

    def datasync(self, descriptor: int) -> None:
        """Do nothing."""


class Told:
    """An information point that knows one situation; one whose consents are unknown is a store that is away."""

    def __init__(self) -> None:
        """Know nothing."""
        self.position = Position("sample", 1)
        self.request: EvaluationRequest
        self.facts: Facts

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return the facts of the subject and the patient, or of somebody beside."""
        facts, resource = self.facts, self.request.resource
        if not facts.consents_known:
            return None
        if subject == self.request.subject.id:
            return Facts(facts.subject, facts.patient, self.position)
        if subject is None:
            return Facts(None, next((each for each in facts.others if each.id == patient), None), self.position)
        is_thing = subject == entry_id(resource.type, resource.id)
        return Facts(facts.resource if is_thing else facts.recipient, None, self.position)

    async def fetch(self, subject: str | None, patient: str | None, token: Position | None = None) -> Facts:
        """Return the same."""
        facts = self.facts_now(subject, patient)
        if facts is None:
            raise StoreUnavailableError("the store is away")
        return facts

    def usable(self, facts: Facts, subject: str | None, patient: str | None, token: Position | None = None) -> bool:
        """Nothing changes."""
        return True

    def last_known(self, subject: str | None, patient: str | None, *, presumed: bool = False) -> Facts | None:
        """Return what was known before the store was away."""
        return Facts(self.facts.subject, self.facts.patient, self.position, consents_known=False)

    def is_last_known(self, facts: Facts, subject: str | None, patient: str | None) -> bool:
        """It still is."""
        return True


class ToldClock:
    """A clock that says what it is told."""

    def __init__(self) -> None:
        """Say nothing sensible yet."""
        self.present = Now(0, 0)

    def now(self) -> Now:
        """Return the present moment, as uncertain as it is."""
        return self.present

    def boottime(self) -> int:
        """Stand still."""
        return 0


async def journal_all(
    folder: Path, policy_set: PolicySet, questions: Iterable[Asked], *, segment_bytes: int = 8 << 20,
    replayable: bool = True,
) -> list[Answer]:  # fmt: skip
    """Decide every question at its own moment, and journal it in *folder*."""
    known, clock = Told(), ToldClock()
    journal = DurableJournal.open(folder, segment_bytes=segment_bytes, disk=QuietDisk())
    point = DecisionPoint(
        policy_set, known, Freshness(bytes(32)), journal, clock, Metrics(), replayable=replayable
    )  # fmt: skip
    answers = []
    try:
        for asked in questions:
            known.request, known.facts, clock.present = asked.request, asked.facts, asked.now
            answers.append(await point.decide(asked.request, Origin("json", False, asked.capabilities, point="mis")))
    finally:
        await journal.aclose()
    return answers
