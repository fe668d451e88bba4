"""While the store is away: last known facts decide, and open nothing that depends on what may have changed."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest

from ruqsat.core.cases import PolicyCase, situation
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts
from ruqsat.core.instant import SECOND, Instant
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.routes import parse_routes
from ruqsat.core.world import World
from ruqsat.service import decision_point, degraded, information_point
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import Decide, DecisionPoint
from ruqsat.service.degraded import YOUNG
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.web.forward_auth import ForwardAuth
from tests.clocks import FixedClock
from tests.mutants import plant
from tests.service.test_decision_point import Paper
from tests.service.test_information_point import LEASE, Memory
from tests.web.test_forward_auth import VERIFIER, Scripted, call, token, truth

MAX_STALE = 15 * 60 * SECOND
EPISODE = datetime.fromisoformat("2026-11-20T12:00:00+05:00")
EVERYTHING = frozenset({"require_eds"})

OWN = PolicyCase("own", "dana read o1 PATRQT", "")
EMERGENCY = PolicyCase(
    "emergency", "ed_bolat read x ERTREAT", "", at=EPISODE,
    resource={"patient": "p-dana", "class": "allergies", "labels": []},
)  # fmt: skip
DIRECTORY = PolicyCase("directory", "dr_aida search staff TREAT", "", resource={"class": "directory"})
STATUTORY = PolicyCase("statutory", "epi_aliya read i1 PUBHLTH", "")
PLANNED = PolicyCase("planned", "dr_aida read o1 TREAT", "")
DELEGATE = PolicyCase("delegate", "arman read o1 FAMRQT", "")
REPRESENTATIVE = PolicyCase("representative", "saule read v1 PWATRNY", "")
BLOCKED = PolicyCase("blocked", "dana read d1 PATRQT", "")
NEWCOMER = PolicyCase("newcomer", "newcomer search staff TREAT", "", resource={"class": "directory"})
FORMER = PolicyCase("former", "dr_former search staff TREAT", "", resource={"class": "directory"})


class Modules(NamedTuple):
    """What decides; some of it with a bug in it."""

    information: ModuleType = information_point
    decisions: ModuleType = decision_point


USUAL = Modules()
Trouble = Callable[[Memory, InformationPoint, Freshness], None]


class Told(NamedTuple):
    """What was answered, and what the journal keeps of it."""

    answer: Answer
    entry: dict[str, Any]

    @property
    def reason(self) -> str:
        """The exact reason."""
        return self.answer.decision.reason


@pytest.fixture
def outage(policy_set: PolicySet, world: World) -> Callable[..., Told]:
    """Ask while the store is away: since *away*, its facts read before (or not), and *trouble* made before it went."""

    def ask(
        case: PolicyCase, *, away: Instant = LEASE + 1, warm: bool = True, modules: Modules = USUAL,
        change: Callable[[Facts], Facts] = lambda facts: facts, trouble: Trouble = lambda *_: None,
        issued: Instant | None = None, max_stale: Instant = MAX_STALE, context: dict[str, Any] | None = None,
        decides: Decide = evaluate, types: dict[str, str] | None = None,
    ) -> Told:  # fmt: skip
        request, facts, now = situation(policy_set, world, case)
        facts = change(facts)
        request = msgspec.convert(
            msgspec.to_builtins(request) | ({"context": context} if context else {}), type(request)
        )

        async def story() -> Told:
            store, clock, freshness = Memory(), FixedClock(now.hi), Freshness(bytes(32), lease_for=LEASE)
            store.subjects = {} if facts.subject is None else {facts.subject.id: facts.subject}
            store.patients = {} if facts.patient is None else {facts.patient.id: facts.patient}
            known = modules.information.InformationPoint(store, freshness, clock, max_stale=max_stale)
            await known.probe_once()
            properties = request.resource.properties
            if warm:
                await known.fetch(request.subject.id, None if properties is None else properties.patient)
            trouble(store, known, freshness)
            store.is_down = True
            clock.boot += away
            paper = Paper()
            words = msgspec.structs.replace(policy_set.vocabulary, types=types or {})
            decider = msgspec.structs.replace(policy_set, vocabulary=words)
            point = modules.decisions.DecisionPoint(decider, known, freshness, paper, clock, Metrics(), decides)
            origin = Origin("json", True, EVERYTHING, issued_at=None if issued is None else now.hi - issued)
            answer = await point.decide(request, origin)
            assert paper.entries[-1]["id"] == answer.id
            return Told(answer, paper.entries[-1])

        return asyncio.run(story())

    return ask


@pytest.mark.parametrize(
    ("case", "reason"),
    [(OWN, "allow.self"), (EMERGENCY, "allow.emergency.default"), (DIRECTORY, "allow.directory"),
     (STATUTORY, "allow.statutory")],
    ids=lambda each: each.name if isinstance(each, PolicyCase) else "",
)  # fmt: skip
def test_what_needs_no_consent_goes_on_and_is_flagged(
    outage: Callable[..., Told], case: PolicyCase, reason: str
) -> None:
    """Own access, a known emergency, what concerns nobody, a statutory ground: permitted, journaled so, reviewed."""
    told = outage(case)

    assert told.reason == reason
    assert (told.answer.degraded, told.entry["degraded"]) == (True, True)
    assert "review_sampled" in told.entry["duties"]


@pytest.mark.parametrize("case", [PLANNED, DELEGATE, REPRESENTATIVE], ids=lambda case: case.name)
def test_what_may_have_been_withdrawn_waits_for_the_store(outage: Callable[..., Told], case: PolicyCase) -> None:
    """Planned care, a delegate and a representative are denied, whatever was known to be permitted."""
    assert outage(case, away=1).answer.decision.allowed
    assert outage(case).reason == "deny.store.unavailable"


def test_a_last_known_permit_of_planned_care_reused_is_noticed(outage: Callable[..., Told]) -> None:
    """Planted: the rules are told that consents are known, and no basis is too much.  Either alone is not enough."""

    def trusting(policy_set: PolicySet, request: Any, facts: Facts, now: Any, capabilities: frozenset[str]) -> Decision:
        return evaluate(policy_set, request, msgspec.structs.replace(facts, consents_known=True), now, capabilities)

    lax = Modules(decisions=plant(decision_point, "decision = narrowed(decision, policy_set.vocabulary)", "pass"))
    assert outage(PLANNED, modules=lax, decides=trusting).answer.decision.allowed
    assert not outage(PLANNED, decides=trusting).answer.decision.allowed
    assert not outage(PLANNED, modules=lax).answer.decision.allowed
    assert outage(REPRESENTATIVE, modules=lax).answer.decision.allowed


def test_a_last_known_block_still_denies(outage: Callable[..., Told]) -> None:
    """What was blocked stays closed to the patient too; planted: a block that is forgotten is noticed."""
    told = outage(BLOCKED)
    assert (told.reason, told.entry["degraded"]) == ("deny.resource.blocked", True)

    forgetful = plant(
        information_point,
        "None if other is None else other.value, as_of, consents_known=False)",
        "__import__('msgspec').structs.replace(other.value, records=()), as_of, consents_known=False)",
    )
    assert outage(BLOCKED, modules=Modules(information=forgetful)).answer.decision.allowed


def test_a_last_known_refusal_still_denies_the_emergency_default(outage: Callable[..., Told]) -> None:
    """A patient who refused is not opened by the store's absence; nor one whose episode has ended since."""

    def refused(facts: Facts) -> Facts:
        assert facts.patient is not None
        consents = [
            msgspec.structs.replace(each, root=msgspec.structs.replace(each.root, effect="deny", grantees=(), purposes=(), actions=(), categories=()))
            for each in facts.patient.consents
        ]  # fmt: skip
        return msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient, consents=tuple(consents)))

    assert not outage(EMERGENCY, change=refused).answer.decision.allowed
    late = msgspec.structs.replace(EMERGENCY, at=datetime.fromisoformat("2026-11-21T08:00:00+05:00"))
    assert outage(late).reason == "deny.store.unavailable"


def test_an_inactive_subject_is_not_let_in(outage: Callable[..., Told]) -> None:
    """Whoever had left before stays out, by a token however young; planted: a subject taken for active is noticed."""
    assert outage(FORMER, issued=SECOND).reason == "deny.subject.inactive"

    right = 'known = SubjectFacts(subject or "") if one is None else one.value'
    kind = plant(information_point, right, 'known = SubjectFacts(subject or "")')
    assert outage(FORMER, issued=SECOND, modules=Modules(information=kind)).answer.decision.allowed


@pytest.mark.parametrize(
    ("issued", "is_let_in"), [(0, True), (YOUNG - 1, True), (YOUNG, False), (2 * YOUNG, False), (None, False)]
)
def test_a_subject_of_whom_nothing_is_known_needs_a_young_token(
    outage: Callable[..., Told], issued: Instant | None, is_let_in: bool
) -> None:
    """Five minutes, to the microsecond; without a token's instant nobody is presumed to be active."""
    told = outage(NEWCOMER, warm=False, issued=issued)
    assert told.reason == ("allow.directory" if is_let_in else "deny.store.unavailable")


def test_an_old_token_accepted_is_noticed(outage: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: a token of any age stands for its subject."""
    ageless = plant(degraded, "now.hi - YOUNG < issued_at < ", "issued_at < ")
    monkeypatch.setattr(decision_point, "is_young", ageless.is_young)
    assert outage(NEWCOMER, warm=False, issued=2 * YOUNG).answer.decision.allowed


def test_a_presumed_subject_of_whom_a_change_is_known_is_not_let_in(outage: Callable[..., Told]) -> None:
    """Whoever was changed lately, or is said to have been, nobody knows how, may have been dismissed."""
    for news in (
        lambda _store, _known, freshness: freshness.learn(1, "subject:newcomer"),
        lambda _store, _known, freshness: freshness.hint(1, "subject:newcomer", 1_000 * SECOND),
    ):
        assert not outage(NEWCOMER, warm=False, issued=0, trouble=news).answer.decision.allowed


def test_a_patient_of_whom_nothing_is_known_is_not_opened(outage: Callable[..., Told]) -> None:
    """Nobody knows what is blocked or held there; nor what has changed since it was read, or is said to have."""
    assert outage(OWN, warm=False, issued=0).reason == "deny.store.unavailable"
    for news in (
        lambda _store, _known, freshness: freshness.learn(1, "patient:p-dana"),
        lambda _store, _known, freshness: freshness.hint(1, "patient:p-dana", 1_000 * SECOND),
        lambda _store, _known, freshness: freshness.learn(1, "ALL"),
        lambda _store, known, _freshness: known.forget(),
    ):
        assert outage(OWN, trouble=news).reason == "deny.store.unavailable"


def test_nothing_older_than_the_bound_is_used(outage: Callable[..., Told]) -> None:
    """Up to it, and not a microsecond longer; with the mode off, not at all.  Planted: without the bound it goes on."""
    assert outage(OWN, away=MAX_STALE).answer.decision.allowed
    assert outage(OWN, away=MAX_STALE + 1).reason == "deny.store.unavailable"
    assert outage(OWN, max_stale=0).reason == "deny.store.unavailable"

    boundless = plant(information_point, "age <= self._max_stale and not self.has_lease()", "not self.has_lease()")
    boundless.InformationPoint.is_last_known = lambda *_: True
    assert outage(OWN, away=100 * MAX_STALE, modules=Modules(information=boundless)).answer.decision.allowed


def test_within_the_lease_nothing_is_degraded(outage: Callable[..., Told]) -> None:
    """Cached people are answered as ever, others are denied; the flag is of the outage alone."""
    told = outage(OWN, away=LEASE - 1)
    assert told.answer.decision.allowed
    assert "degraded" not in told.entry
    assert outage(OWN, away=LEASE - 1, warm=False, issued=0).reason == "deny.store.unavailable"


def test_a_token_of_consistency_is_not_satisfied_by_what_was_known(outage: Callable[..., Told]) -> None:
    """Who asks for a certain freshness is told that it cannot be had."""
    token = Freshness(bytes(32)).issue_token(information_point.Position("e", 0))
    told = outage(OWN, context={"purpose": "PATRQT", "consistency_token": token})
    assert told.reason == "deny.not_fresh"


def test_in_degraded_mode_nobody_waits_for_the_store(policy_set: PolicySet, world: World) -> None:
    """Once a probe has failed, decisions ask for nothing until the next one tells that the store is back; then they do."""
    request, facts, now = situation(policy_set, world, OWN)
    assert facts.subject is not None
    assert facts.patient is not None

    class Counting(Memory):
        asked = 0

        async def fetch_changes(self, since: Any) -> Any:
            self.asked += 1
            return await super().fetch_changes(since)

    async def story() -> list[tuple[str, bool, int]]:
        store, clock, freshness = Counting(), FixedClock(now.hi), Freshness(bytes(32), lease_for=LEASE)
        store.subjects, store.patients = {"dana": facts.subject}, {"p-dana": facts.patient}
        known = InformationPoint(store, freshness, clock, max_stale=MAX_STALE)
        await known.fetch("dana", "p-dana")
        point = DecisionPoint(policy_set, known, freshness, Paper(), clock, Metrics())
        told = []
        store.is_down = True
        clock.boot += LEASE + 1
        for is_down in (True, True, False):
            store.is_down = is_down
            if not is_down:
                await known.probe_once()
            answer = await point.decide(request, Origin("json", True, EVERYTHING))
            weighed = await point.weigh(request, Origin("json", True, EVERYTHING), policy_set)
            assert weighed.decision.allowed is not is_down, "a page of a search would be nobody's to review"
            told.append((answer.decision.reason, answer.degraded, store.asked))
        return told

    assert asyncio.run(story()) == [("allow.self", True, 2), ("allow.self", True, 2), ("allow.self", False, 3)]


@pytest.mark.parametrize("dialect", ["nginx", "caddy"])
def test_a_proxy_passes_on_when_the_token_was_issued(
    policy_set: PolicySet, pack_texts: dict[str, bytes], dialect: str
) -> None:
    """The decision point learns it from the token, and from nothing else."""
    table, _ = parse_routes(pack_texts["policies/routes.toml"].decode(), "routes.toml", policy_set.vocabulary)
    assert table is not None
    scripted = Scripted(Decision(True, "allow.self", "self"))
    app = ForwardAuth(scripted, VERIFIER, table, policy_set)
    for issued in ({"iat": 1_700_000_000}, {}):
        header = (b"authorization", token(**issued))
        call(app, f"/authz/{dialect}", [header, *truth(dialect)])
    assert [origin.issued_at for origin in scripted.origins] == [1_700_000_000 * SECOND, None]


def test_a_lease_that_the_policy_withholds_is_not_degraded_mode(outage: Callable[..., Told]) -> None:
    """A set that must apply and is not in force denies everything, though the store be away as well."""

    def released(_: Memory, __: InformationPoint, freshness: Freshness) -> None:
        freshness.follows_policy = True
        freshness.reflect_policy(freshness.position)
        if news:
            freshness.learn(freshness.applied + 1, "policy")

    for news in ((), ("policy",)):
        told = outage(OWN, trouble=released)
        assert told.answer.decision.allowed is not bool(news)
    assert told.reason == "deny.store.unavailable"


@pytest.mark.parametrize("key", ["policy", "ALL", "patient:p-dana", "subject:dana", None])
def test_what_is_said_to_change_while_the_entry_is_written_is_not_sent(
    outage: Callable[..., Told], key: str | None
) -> None:
    """Of the policy, the patient or the subject, though the store be away; where nothing is said the permit is sent."""
    rules: list[Freshness] = []

    def follow(_: Memory, __: InformationPoint, freshness: Freshness) -> None:
        freshness.follows_policy = True
        freshness.reflect_policy(freshness.position)
        rules.append(freshness)

    def decide(*asked: Any) -> Decision:
        for each in [key] if key else []:
            rules[-1].hint(1, each, 1_000 * SECOND)
        return evaluate(*asked)

    told = outage(OWN, trouble=follow, decides=decide)
    assert told.reason == ("allow.self" if key is None else "deny.store.unavailable")


def test_a_thing_of_the_directory_is_not_opened_without_its_entry(outage: Callable[..., Told]) -> None:
    """What the directory holds of it would narrow what is stated, and cannot be read now."""
    assert outage(DIRECTORY).answer.decision.allowed
    assert outage(DIRECTORY, types={"Record": "directory"}).reason == "deny.store.unavailable"
