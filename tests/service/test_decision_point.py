"""The decision point: no allow before its entry is durable, none on facts that changed, none after a failure."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest

from ruqsat.core.admission import Changes
from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position, RecordStatus
from ruqsat.core.instant import HOUR, SECOND, Instant, Now
from ruqsat.core.personal import lifted
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest, SubjectProperties
from ruqsat.core.sampling import NOON
from ruqsat.core.world import World
from ruqsat.errors import JournalError, RequestError, StoreUnavailableError
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import PRESENT_LASTS, Begun, DecisionPoint
from ruqsat.service.entries import ChangeEntry, Named, SignedBy
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.service.recall import Recall
from tests.clocks import FixedClock

ALLOWED = PolicyCase("read", "dr_aida read o1 TREAT", "allow.consent", "consent-01")
ORIGIN = Origin("json", True, frozenset({"require_eds"}))
FAILURES: list[BaseException] = [
    Exception("x"), RecursionError(), MemoryError(), KeyError("x"), asyncio.CancelledError(), StopAsyncIteration(), OSError(),
]  # fmt: skip


class Known:
    """An information point that knows one situation; ``unusable`` says how often the last test fails."""

    def __init__(self, facts: Facts, unusable: int = 0, failure: BaseException | None = None) -> None:
        self.facts, self.unusable, self.failure = facts, unusable, failure
        self.tested = 0
        self.position = Position("e", 1)

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return the facts."""
        if self.failure is not None:
            raise self.failure
        return self.facts

    async def fetch(self, subject: str | None, patient: str | None, token: Position | None = None) -> Facts:
        """Return the facts."""
        return self.facts

    def usable(self, facts: Facts, subject: str | None, patient: str | None, token: Position | None = None) -> bool:
        """Fail as often as told."""
        self.tested += 1
        return self.tested > self.unusable

    def last_known(self, subject: str | None, patient: str | None, *, presumed: bool = False) -> Facts | None:
        """Know of no degraded mode."""
        return None

    def is_last_known(self, facts: Facts, subject: str | None, patient: str | None) -> bool:
        """Know of none."""
        return False


class Paper:
    """A journal in memory, whose entries become durable when the test says so."""

    def __init__(self, failure: BaseException | None = None, held: bool = False) -> None:
        self.entries: list[dict[str, Any]] = []
        self.emergencies: list[bool] = []
        self.failure, self.held = failure, held
        self.waiting: list[asyncio.Future[None]] = []

    def append(
        self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False
    ) -> asyncio.Future[None]:
        """Take an entry, and read it with its personal parts."""
        self.emergencies.append(emergency)
        self.entries.append(lifted(b'{"personal":[%b],%b' % (b",".join(personal), entry[1:])))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.failure is not None:
            future.set_exception(self.failure)
        elif self.held:
            self.waiting.append(future)
        else:
            future.set_result(None)
        return future

    async def aclose(self) -> None:
        """Nothing to close."""


@pytest.fixture
def asked(policy_set: PolicySet, world: World) -> tuple[EvaluationRequest, Facts]:
    """A request that the rules allow, and its facts."""
    request, facts, _ = situation(policy_set, world, ALLOWED)
    return request, facts


def point(policy_set: PolicySet, known: Known, journal: Any) -> DecisionPoint:
    """A decision point over these parts, at the time of the policy cases."""
    clock = FixedClock(1_795_496_400_000_000)
    return DecisionPoint(policy_set, known, Freshness(bytes(32)), journal, clock, Metrics())


async def turns() -> None:
    """Let the loop turn so often that whatever waits for nothing is done."""
    for _ in range(100):
        await asyncio.sleep(0)


def decide(decision_point: DecisionPoint, request: EvaluationRequest) -> Answer:
    """Decide once."""
    return asyncio.run(decision_point.decide(request, ORIGIN))


def test_the_entry_tells_by_which_signature_a_record_was_entered(policy_set: PolicySet, asked: Any) -> None:
    """Which one, under which certificate, when; an entry of a decision without one says nothing of it."""
    journal, signed = Paper(), SignedBy("ab" * 32, "7", "2026-11-26T00:00:00Z")
    decides = point(policy_set, Known(asked[1]), journal)

    asyncio.run(decides.decide(asked[0], msgspec.structs.replace(ORIGIN, signature=signed)))
    decide(decides, asked[0])

    assert journal.entries[0]["signature"] == {"sha256": "ab" * 32, "serial": "7", "at": "2026-11-26T00:00:00Z"}
    assert "signature" not in journal.entries[1]


@pytest.mark.parametrize(
    ("org", "roles", "stated"),
    [
        (None, None, {}),
        ("h1", ("physician",), {}),
        ("h2", None, {"stated_org": "h2"}),
        (None, ("nurse", "physician"), {"stated_roles": ["nurse", "physician"]}),
    ],
)
def test_the_entry_names_whom_the_register_knows_and_what_else_was_stated(
    policy_set: PolicySet, asked: Any, org: str | None, roles: tuple[str, ...] | None, stated: dict[str, Any]
) -> None:
    """A patient never reads of an organisation, or a role, that somebody only claimed; what was claimed is not lost."""
    journal, request = Paper(), asked[0]
    said = msgspec.structs.replace(request.subject.properties or SubjectProperties(), org=org, roles=roles)
    subject = msgspec.structs.replace(request.subject, properties=said)

    decide(point(policy_set, Known(asked[1]), journal), msgspec.structs.replace(request, subject=subject))

    (entry,) = journal.entries
    assert (asked[1].subject.org, asked[1].subject.roles) == ("h1", ("physician",))
    assert (entry.get("org"), entry["roles"]) == (None if org == "h2" else "h1", ["physician"])
    assert {name: value for name, value in entry.items() if name.startswith("stated_")} == stated


def test_while_no_register_can_be_read_the_entry_tells_what_was_stated(policy_set: PolicySet, asked: Any) -> None:
    """A denial for want of the store: nothing contradicts it, and the office of that organisation still sees it."""
    journal, known, request = Paper(), Known(asked[1]), asked[0]
    known.facts_now = lambda *_: None  # type: ignore[method-assign]
    known.fetch = _out_of_reach  # type: ignore[method-assign]
    subject = msgspec.structs.replace(request.subject, properties=SubjectProperties(org="h2"))

    decide(point(policy_set, known, journal), msgspec.structs.replace(request, subject=subject))

    assert (journal.entries[0]["allowed"], journal.entries[0]["org"]) == (False, "h2")
    assert "stated_org" not in journal.entries[0]


async def _out_of_reach(*_: Any) -> Facts:
    raise StoreUnavailableError("away")


def test_an_allow_carries_reason_duties_and_entry(policy_set: PolicySet, asked: Any) -> None:
    """The answer and its journal entry say the same."""
    journal = Paper()

    answer = decide(point(policy_set, Known(asked[1]), journal), asked[0])

    assert (answer.decision.allowed, answer.reason) == (True, "permitted")
    assert [duty.type for duty in answer.obligations] == ["notify_subject"]
    (entry,) = journal.entries
    assert (entry["kind"], entry["id"], entry["allowed"], entry["rule"]) == ("decision", answer.id, True, "consent-01")
    assert (entry["subject"], entry["patient"], entry["basis"], entry["applied"]) == (
        "dr_aida",
        "p-dana",
        "consent",
        ["c-dana-h1"],
    )


@pytest.mark.parametrize("early", [False, True], ids=["product", "planted: answers early"])
def test_no_allow_is_returned_before_its_entry_is_durable(policy_set: PolicySet, asked: Any, early: bool) -> None:
    """The answer waits for the journal; a journal that answers early would be noticed here."""

    class Hasty(Paper):
        def append(self, entry: bytes, *rest: Any, **more: Any) -> asyncio.Future[None]:
            future = super().append(entry, *rest, **more)
            future.set_result(None)
            return future

    async def story() -> bool:
        journal = Hasty(held=True) if early else Paper(held=True)
        work = asyncio.create_task(point(policy_set, Known(asked[1]), journal).decide(asked[0], ORIGIN))
        await turns()
        answered_early = work.done()
        for future in journal.waiting:
            if not future.done():
                future.set_result(None)
        assert (await work).decision.allowed
        return answered_early

    assert asyncio.run(story()) is early


class Partly(Known):
    """An information point that has only some patients in memory, and must read the store for the others."""

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return the facts, unless somebody else than dr_aida asks; ``broken`` breaks."""
        if subject == "broken":
            raise OSError("x")
        return self.facts if subject == "dr_aida" else None


@pytest.mark.parametrize("early", [False, True], ids=["product", "planted: answers early"])
def test_several_are_decided_as_each_alone_and_none_before_its_entry(
    policy_set: PolicySet, asked: Any, early: bool
) -> None:
    """From memory and from the store, in their order; what goes wrong with one stands in its place."""
    request, facts = asked
    token = msgspec.structs.replace(request.context, consistency_token="no-token")
    subjects = [msgspec.structs.replace(request.subject, id=name) for name in ("dr_aida", "other", "broken")]
    questions = [
        *(msgspec.structs.replace(request, subject=subject) for subject in subjects),
        msgspec.structs.replace(request, context=token), request,
    ]  # fmt: skip

    async def story() -> tuple[bool, list[Answer | BaseException]]:
        journal = Paper(held=not early)
        work = asyncio.create_task(point(policy_set, Partly(facts), journal).decide_all(questions, ORIGIN, policy_set))
        await turns()
        answered = work.done()
        for future in journal.waiting:
            future.set_result(None)
        found = await work
        assert len(journal.entries) == 3
        return answered, found

    answered, found = asyncio.run(story())

    assert answered is early
    assert [type(each) for each in found] == [Answer, Answer, OSError, RequestError, Answer]
    told = [each.decision.reason for each in found if isinstance(each, Answer)]
    assert told == ["allow.consent", "allow.consent", "allow.consent"]


class Picky(Paper):
    """A journal that does not take entries about one subject."""

    def append(self, entry: bytes, *rest: Any, **more: Any) -> asyncio.Future[None]:
        """Take an entry, or do not."""
        if any(b'"unwritten"' in part for parts in rest for part in parts):
            raise ValueError("no")
        return super().append(entry, *rest, **more)


def _undecided(policy_set: PolicySet, request: EvaluationRequest, *rest: Any) -> Decision:
    if request.subject.id == "undecided":
        raise OSError("x")
    return evaluate(policy_set, request, *rest)


def _begun(decides: DecisionPoint, request: EvaluationRequest, names: Sequence[str]) -> list[Any]:
    async def story() -> list[Any]:
        subjects = [msgspec.structs.replace(request.subject, id=name) for name in names]
        asked = [msgspec.structs.replace(request, subject=subject) for subject in subjects]
        ready = [decides.ready(each, ORIGIN, None) for each in asked]
        return decides.begin_all([each for each in ready if each is not None])

    return asyncio.run(story())


@pytest.mark.parametrize(
    "names", [("dr_aida", "undecided", "unwritten", "dr_aida"), ("undecided",), ("unwritten",), ("dr_aida",) * 40, ()]
)
def test_what_is_begun_together_is_begun_as_each_alone(
    policy_set: PolicySet, asked: Any, names: tuple[str, ...]
) -> None:
    """In its order and with its entry; what goes wrong with one, at whatever step, stands in its place."""
    wrong = {"undecided": OSError, "unwritten": ValueError}
    clock, journal = FixedClock(1_795_496_400_000_000), Picky()
    decides = DecisionPoint(
        policy_set, Known(asked[1]), Freshness(bytes(32)), journal, clock, Metrics(), decide=_undecided
    )

    found = _begun(decides, asked[0], names)

    assert [type(each) for each in found] == [wrong.get(name, Begun) for name in names]
    answers = [each.answer for each in found if isinstance(each, Begun)]
    assert [answer.decision.allowed for answer in answers] == [True] * names.count("dr_aida")
    assert [entry["id"] for entry in journal.entries] == [answer.id for answer in answers]


def test_several_are_denied_where_the_journal_fails_or_facts_change_meanwhile(
    policy_set: PolicySet, asked: Any
) -> None:
    """As each alone would be; all others with it, for they rest on the same."""
    failing, changed = Paper(JournalError("full")), Known(asked[1], unusable=1_000)
    for known, journal, reason in ((Known(asked[1]), failing, "deny.audit_unavailable"), (changed, Paper(), None)):
        found = asyncio.run(point(policy_set, known, journal).decide_all([asked[0]] * 3, ORIGIN, policy_set))
        for each in found:
            assert isinstance(each, Answer) and not each.decision.allowed
            assert reason is None or each.decision.reason == reason


def test_a_journal_that_fails_turns_an_allow_into_a_denial(policy_set: PolicySet, asked: Any) -> None:
    """Without a durable entry there is no permit, and the caller is told to try later."""
    answer = decide(point(policy_set, Known(asked[1]), Paper(JournalError("full"))), asked[0])

    assert (answer.decision.allowed, answer.decision.reason, answer.reason) == (
        False,
        "deny.audit_unavailable",
        "try_later",
    )


def test_a_store_that_fails_is_a_denial(policy_set: PolicySet, asked: Any) -> None:
    """Facts that cannot be had help nobody; the denial is journaled."""
    known, journal = Known(asked[1]), Paper()
    known.facts_now = lambda *_: None  # type: ignore[method-assign]

    async def fetch(*_: object) -> Facts:
        raise StoreUnavailableError("down")

    known.fetch = fetch  # type: ignore[method-assign]
    answer = decide(point(policy_set, known, journal), asked[0])

    assert (answer.decision.reason, answer.reason) == ("deny.store.unavailable", "try_later")
    assert journal.entries[0]["allowed"] is False


def test_facts_from_before_a_token_decide_nothing(policy_set: PolicySet, asked: Any) -> None:
    """Whoever carries one is answered by what the store says now, or not at all, whatever memory holds."""
    tokens, asked_for, known = Freshness(bytes(32)), list[Position | None](), Known(asked[1])
    replace = msgspec.structs.replace
    context = replace(asked[0].context, consistency_token=tokens.issue_token(Position("e", 9)))
    request, now_closed = replace(asked[0], context=context), replace(asked[1], patient=None)

    def usable(_: Facts, __: Any, ___: Any, token: Position | None = None) -> bool:
        return token is None

    async def fetch(_: Any, __: Any, token: Position | None = None) -> Facts:
        asked_for.append(token)
        if len(asked_for) == 1:
            raise StoreUnavailableError("the store has not reached it")
        return now_closed

    known.usable, known.fetch = usable, fetch  # type: ignore[method-assign]
    decides = point(policy_set, known, Paper())

    assert decide(decides, request).decision.reason == "deny.not_fresh"
    assert not decide(decides, request).decision.allowed
    assert asked_for[0] == asked_for[1] == Position("e", 9)
    assert decide(decides, asked[0]).decision.allowed, "without a token memory is good enough"


def test_facts_that_change_while_the_entry_is_written_are_read_again(policy_set: PolicySet, asked: Any) -> None:
    """The first entry is marked as not sent; the second decision is the one that is answered."""
    journal = Paper()

    answer = decide(point(policy_set, Known(asked[1], unusable=1), journal), asked[0])

    assert answer.decision.allowed
    assert [(entry["kind"], entry["allowed"]) for entry in journal.entries] == [
        ("decision", True), ("not_sent", True), ("decision", True),
    ]  # fmt: skip
    assert journal.entries[0]["id"] == journal.entries[1]["id"] != answer.id == journal.entries[2]["id"]


def test_facts_that_change_twice_are_a_denial(policy_set: PolicySet, asked: Any) -> None:
    """Nobody is let through on facts that will not stand still; both permits are marked as not sent."""
    journal = Paper()

    answer = decide(point(policy_set, Known(asked[1], unusable=2), journal), asked[0])

    assert (answer.decision.allowed, answer.decision.reason) == (False, "deny.stale")
    sent = {e["id"] for e in journal.entries if e["kind"] == "decision"} - {
        e["id"] for e in journal.entries if e["kind"] == "not_sent"
    }
    assert sent == {answer.id}


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_no_failure_is_an_allow(policy_set: PolicySet, asked: Any, failure: BaseException) -> None:
    """Whatever a part of the house raises, nobody gets a permit out of it."""
    for decision_point in (
        point(policy_set, Known(asked[1], failure=failure), Paper()),
        point(
            policy_set, Known(asked[1]), Paper(failure if not isinstance(failure, StopAsyncIteration) else OSError())
        ),
    ):
        with pytest.raises(BaseException):  # noqa: B017 - each kind is raised to the edge, which denies
            decide(decision_point, asked[0])


def test_a_request_may_narrow_capabilities_but_never_widen_them(policy_set: PolicySet, world: World) -> None:
    """What the enforcement point is not registered for, it cannot claim in a request."""
    write = PolicyCase(
        "write", "dr_aida create new TREAT", "", resource={"patient": "p-dana", "class": "labs", "labels": []}
    )
    for said, registered, allowed in (
        (None, {"require_eds"}, True), (["require_eds"], {"require_eds"}, True), ([], {"require_eds"}, False),
        (["require_eds"], set(), False), (None, set(), False),
    ):  # fmt: skip
        context = {} if said is None else {"pep_capabilities": said}
        request, facts, _ = situation(
            policy_set, world, PolicyCase(write.name, write.ask, "", resource=write.resource, context=context)
        )
        decision_point = point(policy_set, Known(facts), Paper())

        answer = asyncio.run(decision_point.decide(request, Origin("json", False, frozenset(registered))))

        assert answer.decision.allowed is allowed, (said, registered)
        if said is not None and request.context is not None:
            # By the word of the obligations profile as well; of both, the narrower counts.
            for both in (None, ("require_eds",)):
                told = msgspec.structs.replace(
                    request.context, pep_capabilities=both, supported_obligations=tuple(said)
                )
                other = msgspec.structs.replace(request, context=told)
                again = asyncio.run(decision_point.decide(other, Origin("json", False, frozenset(registered))))
                assert again.decision.allowed is allowed, (said, registered, both)
        assert allowed or answer.decision.reason == "deny.obligation.unsupported"


class Several(Known):
    """An information point that knows several people; ``changed`` names those whose facts are out of date once."""

    def __init__(self, everybody: dict[str | None, Facts], changed: frozenset[str] = frozenset()) -> None:
        super().__init__(next(iter(everybody.values())))
        self.everybody, self.changed = everybody, set(changed)
        self.read: list[str | None] = []

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return what is known of either."""
        self.read.append(patient or subject)
        return self.everybody[patient or subject]

    def usable(self, facts: Facts, subject: str | None, patient: str | None, token: Position | None = None) -> bool:
        """Tell that facts of those named changed, the first time that somebody asks."""
        if patient in self.changed:
            self.changed.discard(patient)  # type: ignore[arg-type]
            return False
        return True


@pytest.fixture
def batch(policy_set: PolicySet, world: World) -> tuple[EvaluationRequest, dict[str | None, Facts]]:
    """A search for records of three people: two of them let the hospital in."""
    parts = [
        {"id": "o1"}, {"id": "k1", "patient": "p-bota", "class": "medications", "labels": []},
        {"id": "x1", "patient": "p-marat"},
    ]  # fmt: skip
    case = PolicyCase(
        "b",
        "dr_aida search all TREAT",
        "",
        resource={"patient": "p-dana", "class": "labs", "labels": [], "parts": parts},
    )
    request, facts, _ = situation(policy_set, world, case)
    others = {patient.id: patient for patient in facts.others}
    alone = Facts(facts.subject, facts.patient, facts.position)
    return request, {"p-dana": alone} | {
        name: Facts(None, others[name], facts.position) for name in ("p-bota", "p-marat")
    }


CUTTING = Origin("json", True, frozenset({"redact", "suppress_total"}))


def test_parts_about_other_patients_are_decided_by_their_own_facts(policy_set: PolicySet, batch: Any) -> None:
    """Who let the hospital in is given, who did not is cut out; the journal names everybody."""
    request, everybody = batch
    journal, known = Paper(), Several(everybody)

    answer = asyncio.run(point(policy_set, known, journal).decide(request, CUTTING))

    assert (answer.decision.allowed, answer.decision.reason) == (True, "allow.partial")
    assert set(answer.decision.duties) == {"notify_subject", "redact:x1", "suppress_total"}
    assert answer.decision.applied == ("c-bota-care", "c-dana-h1")
    assert known.read == ["p-dana", "p-dana", "p-bota", "p-marat"]
    assert journal.entries[0]["patients_beside"] == ["p-bota", "p-marat"]


@pytest.mark.parametrize("labels", [5, True, [["PSY"]]])
def test_parts_that_cannot_be_read_are_denied_and_journaled(policy_set: PolicySet, asked: Any, labels: Any) -> None:
    """Whatever stands where their labels should: the attempt is in the journal."""
    request, facts = asked
    parts = ({"id": "o1", "labels": labels},)
    properties = msgspec.structs.replace(request.resource.properties, parts=parts)
    request = msgspec.structs.replace(
        request, resource=msgspec.structs.replace(request.resource, properties=properties)
    )
    journal = Paper()
    answer = decide(point(policy_set, Known(facts), journal), request)

    assert answer.decision.reason == "deny.unmapped.parts"
    assert [entry["reason"] for entry in journal.entries] == ["deny.unmapped.parts"]


def test_facts_of_another_patient_that_change_while_the_entry_is_written_are_read_again(
    policy_set: PolicySet, batch: Any
) -> None:
    """The last test before a permit is sent is of everybody whom it is about."""
    request, everybody = batch
    journal = Paper()

    answer = asyncio.run(point(policy_set, Several(everybody, frozenset({"p-bota"})), journal).decide(request, CUTTING))

    assert answer.decision.allowed
    assert [entry["kind"] for entry in journal.entries] == ["decision", "not_sent", "decision"]


def test_the_recipient_of_a_disclosure_is_looked_up_in_the_directory(policy_set: PolicySet, world: World) -> None:
    """One that undertook to comply gets the record, one that the directory does not list does not."""
    case = PolicyCase("d", "dr_aida disclose k1 TREAT", "", context={"recipient": "h2"})
    request, facts, _ = situation(policy_set, world, case)
    alone = Facts(facts.subject, facts.patient, facts.position)
    for listed, reason in ((facts.recipient, "allow.consent"), (None, "deny.recipient.no_undertaking")):
        known = Several({"p-bota": alone, "h2": Facts(listed, None, facts.position)})

        answer = asyncio.run(point(policy_set, known, Paper()).decide(request, ORIGIN))

        assert answer.decision.reason == reason


def test_the_journal_tells_the_positions_of_the_switches(
    policy_set: PolicySet, variant: Callable[[Mapping[str, Any]], PolicySet], asked: Any
) -> None:
    """As the process begins, and at each exchange, before the first decision under them."""
    journal, other = Paper(), variant({"btg": {"max_hours": 2}})

    async def story() -> None:
        decides = point(policy_set, Known(asked[1]), journal)
        decides.begin()
        await decides.decide(asked[0], ORIGIN)
        decides.put_in_force(other, Changes(besides=("switches.btg.max_hours",)))
        await decides.decide(asked[0], ORIGIN)

    asyncio.run(story())

    assert [entry["kind"] for entry in journal.entries] == ["policy", "decision", "policy", "decision"]
    first, _, second, _ = journal.entries
    assert (first["before"], first["policy"], second["before"]) == ("", policy_set.digest, policy_set.digest)
    assert first["switches"] == json.loads(msgspec.json.encode(policy_set.vocabulary.switches))
    assert (first["switches"]["btg"]["max_hours"], second["switches"]["btg"]["max_hours"]) == (4, 2)
    assert (first.get("besides"), second["besides"]) == (None, ["switches.btg.max_hours"])


@pytest.mark.parametrize("is_search", [False, True])
def test_a_policy_that_the_journal_could_not_keep_is_told_before_the_next_decision(
    policy_set: PolicySet, asked: Any, is_search: bool
) -> None:
    """The journal fails as the process begins and recovers: nothing stands in it under a policy it never told."""
    journal = Paper(JournalError("full"))

    async def story() -> None:
        decides = point(policy_set, Known(asked[1]), journal)
        decides.begin()
        await asyncio.sleep(0)
        assert not (await decides.decide(asked[0], ORIGIN)).decision.allowed
        journal.failure, journal.entries = None, []
        if is_search:
            await decides.record(ChangeEntry("search", "", "", "json", policy_set.digest, "find"), Named())
        for _ in range(2):
            assert (await decides.decide(asked[0], ORIGIN)).decision.allowed

    asyncio.run(story())

    kinds = ["policy", *["search"] * is_search, "decision", "decision"]
    assert [entry["kind"] for entry in journal.entries] == kinds


def test_a_permit_that_was_held_back_is_tested_again_and_taken_back(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts]
) -> None:
    """It was true when it was decided; a denial takes its place, and the journal says that it was never sent."""
    request, facts = asked

    async def story() -> tuple[Any, Any, list[dict[str, Any]]]:
        known, paper = Known(facts), Paper()
        point = DecisionPoint(policy_set, known, Freshness(bytes(32)), paper, FixedClock(NOON), Metrics())
        permit = await point.decide(request, ORIGIN)
        assert permit.decision.allowed and point.may_send(request, permit)
        known.unusable = 1 << 30
        assert not point.may_send(request, permit)
        denial = await point.take_back(request, ORIGIN, permit)
        assert point.may_send(request, denial)
        return permit, denial, paper.entries

    permit, denial, entries = asyncio.run(story())

    assert (denial.decision.allowed, denial.decision.reason) == (False, "deny.stale")
    assert [(entry["kind"], entry["id"]) for entry in entries] == [
        ("decision", permit.id), ("not_sent", permit.id), ("decision", denial.id),
    ]  # fmt: skip


def test_what_was_withheld_in_parts_is_named_in_the_entry(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts]
) -> None:
    """And nothing is where nothing is withheld, or no parts are asked for."""
    request, facts = asked
    replace = msgspec.structs.replace
    assert facts.patient is not None and request.resource.properties is not None
    held = replace(facts.patient, records=(RecordStatus("o7", "labs", ("TBOO",)),))
    parts = ({"id": "o7", "class": "labs"}, {"id": "o8", "class": "labs"})
    bundle = replace(request.resource.properties, parts=parts)
    journal = Paper()
    for known in (facts, replace(facts, patient=held)):
        for properties in (request.resource.properties, bundle):
            one = replace(request, resource=replace(request.resource, properties=properties))
            decide(point(policy_set, Known(known), journal), one)

    assert [entry.get("held_parts") for entry in journal.entries] == [None, None, None, ["o7"]]
    assert [entry.get("held") for entry in journal.entries] == [None, None, None, True]


@pytest.mark.parametrize("is_on", [True, False])
def test_where_nothing_is_known_of_a_patient_representatives_learn_of_nothing(
    variant: Callable[[dict[str, Any]], PolicySet], asked: tuple[EvaluationRequest, Facts], is_on: bool
) -> None:
    """What is on file may bear a label that is kept from them: where that switch is on, it is taken to (Code 78(2))."""
    rules, journal = variant({"adolescent_shield": {"enabled": is_on}}), Paper()
    request = msgspec.structs.replace(
        asked[0],
        resource=msgspec.structs.replace(
            asked[0].resource, properties=msgspec.structs.replace(asked[0].resource.properties, labels=())
        ),
    )

    async def story() -> None:
        permit = await point(rules, Known(asked[1]), journal).decide(request, ORIGIN)
        assert permit.decision.allowed
        await point(rules, Known(asked[1]), journal).take_back(request, ORIGIN, permit)
        away = Known(asked[1])
        away.facts_now, away.fetch = lambda *_: None, _out_of_reach  # type: ignore[method-assign]
        await point(rules, away, journal).decide(request, ORIGIN)

    asyncio.run(story())

    assert [entry.get("shielded", False) for entry in journal.entries] == [False, is_on, is_on, is_on]


def test_a_refusal_names_the_point_and_who_acts(policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts]) -> None:
    """Whoever probes through a registered proxy, or for a person, can be traced."""

    async def story() -> list[dict[str, Any]]:
        paper = Paper()
        point = DecisionPoint(policy_set, Known(asked[1]), Freshness(bytes(32)), paper, FixedClock(NOON), Metrics())
        origin = Origin("nginx", actors=("portal-app",), point="front", jti="t-1")
        await point.record_refusal("unmapped.route", origin, "dr_aida")
        await point.decide(asked[0], origin)
        return paper.entries

    for entry in asyncio.run(story()):
        assert (entry["point"], entry["actors"], entry["jti"]) == ("front", ["portal-app"], "t-1")


def ending(facts: Facts, end: Instant) -> Facts:
    """The same facts, with documents that end at a moment."""
    assert facts.patient is not None
    replace = msgspec.structs.replace
    consents = tuple(replace(each, root=replace(each.root, end=end)) for each in facts.patient.consents)
    return replace(facts, patient=replace(facts.patient, consents=consents))


@pytest.mark.parametrize("early", [True, False])
def test_no_permit_is_sent_from_the_moment_on_at_which_its_document_ends(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts], early: bool
) -> None:
    """However long the disk takes: a microsecond before the end it is sent, from the end on it is decided anew."""
    request, facts = asked
    paper, clock = Paper(held=True), FixedClock(NOON)
    known = Known(ending(facts, NOON + SECOND))

    async def story() -> Answer:
        decides = DecisionPoint(policy_set, known, Freshness(bytes(32)), paper, clock, Metrics(), Recall())
        work = asyncio.ensure_future(decides.decide(request, ORIGIN))
        await asyncio.sleep(0)
        clock.advance(SECOND - early)
        paper.held = False
        paper.waiting[0].set_result(None)
        return await work

    answer = asyncio.run(story())

    if early:
        assert (answer.decision.allowed, [entry["kind"] for entry in paper.entries]) == (True, ["decision"])
    else:
        assert (answer.decision.allowed, answer.decision.reason) == (False, "deny.consent.expired")
        assert [entry["kind"] for entry in paper.entries] == ["decision", "not_sent", "decision"]


@pytest.mark.parametrize("early", [True, False])
def test_no_permit_is_sent_at_a_moment_that_may_be_past_its_documents_end(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts], early: bool
) -> None:
    """The present is known as an interval: the end counts from its later bound on, and a beginning from its earlier."""
    request, facts = asked

    class Wide(FixedClock):
        def now(self) -> Now:
            return Now(self.moment - HOUR, self.moment)

    clock = Wide(NOON + HOUR)
    known = Known(ending(facts, NOON + HOUR + SECOND))
    decides = DecisionPoint(policy_set, known, Freshness(bytes(32)), Paper(), clock, Metrics())
    permit = decide(decides, request)
    assert permit.decision.allowed

    clock.advance(SECOND - early)
    assert decides.may_send(request, permit) is early


def test_what_is_held_back_ends_with_the_documents_that_it_rests_on(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts]
) -> None:
    """Of a plain question, of a batch, of a page of a search, of other patients; of rules that read the present soon."""
    request, facts = asked
    clock, term = FixedClock(NOON), ending(facts, NOON + 3 * SECOND)

    async def story() -> tuple[Callable[[], bool], ...]:
        decides = DecisionPoint(policy_set, Known(term), Freshness(bytes(32)), Paper(), clock, Metrics())
        ready = decides.ready(request, ORIGIN, policy_set)
        assert ready is not None
        (begun,) = decides.begin_all([ready])
        assert isinstance(begun, Begun)
        permit = await decides.decide(request, ORIGIN)
        beside = msgspec.structs.replace(permit, rests_on=(policy_set, facts, ((None, "other", term),), NOON))
        hasty = msgspec.structs.replace(policy_set, reads_present=True)
        present = msgspec.structs.replace(permit, rests_on=(hasty, facts, (), NOON + 3 * SECOND - PRESENT_LASTS))
        weighed = await decides.weigh(request, ORIGIN, policy_set)
        return (
            lambda: decides.end(request, ORIGIN, begun) is not None,
            *[partial(decides.may_send, request, each) for each in (permit, beside, present)],
            weighed.is_usable,
        )

    holds = asyncio.run(story())
    clock.advance(3 * SECOND - 1)
    assert [each() for each in holds] == [True] * 5
    clock.advance(1)
    assert [each() for each in holds] == [False] * 5


@pytest.mark.parametrize("left", [60.0, 0.0])
def test_no_permit_is_sent_once_the_token_has_ended_while_its_entry_was_written(
    policy_set: PolicySet, asked: Any, left: float
) -> None:
    """Nor is it decided anew into one; both permits are marked as not sent, and a token that is still good has its own."""
    paper, ends = Paper(held=True), time.time() + left
    origin = msgspec.structs.replace(ORIGIN, good_until=ends)

    async def story() -> Answer:
        work = asyncio.ensure_future(point(policy_set, Known(asked[1]), paper).decide(asked[0], origin))
        await asyncio.sleep(0)
        paper.held = False
        paper.waiting[0].set_result(None)
        return await work

    answer = asyncio.run(story())

    assert answer.decision.reason == ("allow.consent" if left else "deny.stale")
    kinds = ["decision"] if left else ["decision", "not_sent", "decision", "not_sent", "decision"]
    assert [entry["kind"] for entry in paper.entries] == kinds


def test_a_denial_stands_however_long_ago_the_token_ended(policy_set: PolicySet, world: World) -> None:
    """It is journaled once, and not decided anew."""
    paper = Paper()
    request, facts, _ = situation(policy_set, world, PolicyCase("no", "dr_erlan read o1 TREAT", "deny.consent", ""))
    origin = msgspec.structs.replace(ORIGIN, good_until=0.0)

    answer = asyncio.run(point(policy_set, Known(facts), paper).decide(request, origin))

    assert not answer.decision.allowed
    assert len(paper.entries) == 1


def test_a_denial_never_bears_the_id_under_which_a_permit_lasts(
    policy_set: PolicySet, asked: tuple[EvaluationRequest, Facts]
) -> None:
    """The permit's entry lasts, something changed, and the journal fails: what is then told has another id."""
    request, facts = asked
    paper, known = Paper(held=True), Known(facts, unusable=1)

    async def story() -> Answer:
        work = asyncio.ensure_future(point(policy_set, known, paper).decide(request, ORIGIN))
        await asyncio.sleep(0)
        paper.failure = JournalError("full")
        paper.waiting[0].set_result(None)
        return await work

    answer = asyncio.run(story())

    assert (answer.decision.allowed, answer.decision.reason) == (False, "deny.audit_unavailable")
    assert paper.entries[0]["allowed"] and answer.id != paper.entries[0]["id"]
