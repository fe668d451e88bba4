"""What is told of a decision that was recalled is what would be told of it anew, under its own id and moment."""

import asyncio
from collections.abc import Callable
from sys import getrefcount
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ruqsat.core.admission import Changes
from ruqsat.core.cases import situation
from ruqsat.core.decision import Decision
from ruqsat.core.evaluate import evaluate
from ruqsat.core.facts import Facts, Position
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.world import World
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.entries import Draft, Entry, draft_of
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.service.recall import Recall
from tests.clocks import FixedClock
from tests.service.test_decision_point import ALLOWED, Known

encode = msgspec.json.Encoder().encode
texts = st.text(max_size=6) | st.sampled_from(('"can":[', ',"can":["x"]}', "\\", '"', "ә"))
words = st.lists(texts, max_size=3).map(tuple)
entries = st.builds(
    Entry, st.just(""), st.just(""), st.just(""), texts, st.booleans(), texts, texts, st.none() | words,
    st.none() | texts, st.none() | texts, st.none() | texts | words, st.none() | texts, st.none() | texts,
    st.none() | texts, st.none() | texts, words, words, st.none() | st.builds(Position, texts, st.integers(0, 9)),
    texts, st.booleans(), words, st.booleans(), st.booleans(), st.none() | words, st.none() | texts, st.just(0), words,
)  # fmt: skip
T = 1_795_496_400_000_000


class Lines:
    """A journal that keeps entries as they come, with their parts and what was known."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, tuple[bytes, ...], bool, Any]] = []

    def append(
        self, entry: bytes, personal: tuple[bytes, ...] = (), *, emergency: bool = False, facts: Any = ()
    ) -> "asyncio.Future[None]":  # fmt: skip
        """Take an entry; it lasts at once."""
        self.taken.append((entry, personal, emergency, facts))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def aclose(self) -> None:
        """Nothing to close."""


@given(entries, st.sampled_from(("decision", "not_sent")), st.integers(0, 3))
def test_a_draft_is_filled_in_to_what_would_be_encoded(entry: Entry, kind: str, within: int) -> None:
    """Byte for byte, whatever words stand in it."""
    draft = draft_of(encode, entry, (), (), is_emergency=False)
    at = "2026-11-24T05:00:00.000001Z"

    whole = msgspec.structs.replace(entry, kind=kind, id="5f0a-1", at=at, within=within)

    assert draft.entry(kind, "5f0a-1", at, within) == encode(whole)


@pytest.fixture
def asked(policy_set: PolicySet, world: World) -> tuple[EvaluationRequest, Facts]:
    """A request that the rules allow, and its facts, as memory knows them."""
    request, facts, _ = situation(policy_set, world, ALLOWED)
    return request, msgspec.structs.replace(facts, others=())


ORIGIN = Origin("json", True, frozenset({"require_eds"}), point="his", recurs=True)


REFUSED = Decision(False, "deny.default")


def refuse(*_: Any) -> Decision:
    """Decide otherwise, always by the same object."""
    return REFUSED


def ask(point: DecisionPoint, request: EvaluationRequest, origin: Origin = ORIGIN) -> None:
    """Ask once."""
    asyncio.run(point.decide(request, origin))


def a_point(policy_set: PolicySet, known: Known, journal: Lines, decide: Any) -> DecisionPoint:
    """A decision point that keeps what it needs to decide again."""
    return DecisionPoint(
        policy_set, known, Freshness(bytes(32)), journal, FixedClock(T), Metrics(), decide, replayable=True
    )


def without_id(entry: bytes) -> dict[str, Any]:
    """Return an entry but for its id, which is new each time."""
    said: dict[str, Any] = msgspec.json.decode(entry)
    return {name: value for name, value in said.items() if name != "id"}


async def exchange(point: DecisionPoint, policy_set: PolicySet) -> None:
    """Put another set in force; the journal is told, too."""
    point.put_in_force(policy_set, Changes())


def differ(one: tuple[bytes, tuple[bytes, ...], bool, Any], other: tuple[bytes, tuple[bytes, ...], bool, Any]) -> bool:
    """Tell whether two entries say different things."""
    return (without_id(one[0]), *one[1:]) != (without_id(other[0]), *other[1:])


def test_a_question_asked_again_is_told_alike_and_made_once(
    policy_set: PolicySet, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the id differs; nothing of it is put together again."""
    made: list[Draft] = []

    def counted(*given: Any, **named: Any) -> Draft:
        made.append(draft_of(*given, **named))
        return made[-1]

    monkeypatch.setattr("ruqsat.service.drafts.draft_of", counted)
    journal = Lines()
    point = a_point(policy_set, Known(asked[1]), journal, Recall())

    ask(point, asked[0])
    ask(point, asked[0])

    first, second = journal.taken
    assert len(made) == 1
    assert not differ(first, second)
    assert first[0] != second[0]
    assert msgspec.json.decode(first[0])["kind"] == "decision"


def test_of_a_long_question_nothing_is_kept(policy_set: PolicySet, asked: Any) -> None:
    """Of two thousand of 64 KiB it would be much."""
    request, facts = asked
    properties = msgspec.structs.replace(request.resource.properties, author="x" * 2000)
    long = msgspec.structs.replace(request, resource=msgspec.structs.replace(request.resource, properties=properties))
    point = a_point(policy_set, Known(facts), Lines(), Recall())
    before = getrefcount(long)

    ask(point, long)

    assert getrefcount(long) == before


def test_of_a_policy_that_was_replaced_nothing_is_kept(policy_set: PolicySet, asked: Any) -> None:
    """Neither by whoever recalls nor by whoever tells: a set is large, and there may be many in a day."""
    old, new = msgspec.structs.replace(policy_set), msgspec.structs.replace(policy_set)
    before = getrefcount(old)
    point = a_point(old, Known(asked[1]), Lines(), Recall())

    ask(point, asked[0])
    assert getrefcount(old) > before
    asyncio.run(exchange(point, new))
    ask(point, msgspec.structs.replace(asked[0], resource=msgspec.structs.replace(asked[0].resource, id="o2")))

    assert getrefcount(old) == before


def test_a_question_in_hand_is_told_under_the_policy_that_decided_it(policy_set: PolicySet, asked: Any) -> None:
    """Though another is in force already, and says the same."""
    old, new = (msgspec.structs.replace(policy_set, digest=each * 64) for each in "01")
    journal = Lines()
    point = a_point(new, Known(asked[1]), journal, refuse)

    ask(point, asked[0])
    asyncio.run(point.decide(asked[0], ORIGIN, old))

    assert [msgspec.json.decode(entry)["policy"][0] for entry, *_ in journal.taken] == ["1", "0"]


@pytest.mark.parametrize("other", ["roles", "org", "patient", "degraded"])
def test_what_was_known_is_told_anew_also_where_the_decision_is_the_same(
    policy_set: PolicySet, asked: Any, other: str
) -> None:
    """The entry says by which facts it was decided."""
    request, facts = asked
    known, journal, fresh = Known(facts), Lines(), Lines()
    point = a_point(policy_set, known, journal, refuse)
    ask(point, request)
    match other:
        case "roles":
            known.facts = msgspec.structs.replace(facts, subject=msgspec.structs.replace(facts.subject, roles=("x",)))
        case "org":
            known.facts = msgspec.structs.replace(facts, subject=msgspec.structs.replace(facts.subject, org="h9"))
        case "patient":
            other_patient = msgspec.structs.replace(facts.patient, egov=not facts.patient.egov)
            known.facts = msgspec.structs.replace(facts, patient=other_patient)
        case "degraded":
            known.facts = msgspec.structs.replace(facts, consents_known=False)

    ask(point, request)
    ask(a_point(policy_set, known, fresh, refuse), request)

    assert differ(journal.taken[0], journal.taken[1])
    assert not differ(journal.taken[1], fresh.taken[0])


@pytest.mark.parametrize(
    "other", ["point", "trace", "token", "position", "roles", "org", "purpose", "capabilities", "decision", "policy"]
)
def test_what_is_told_is_that_of_this_very_decision(policy_set: PolicySet, asked: Any, other: str) -> None:
    """Whatever differs from the time before stands in the entry, as it does where nothing was kept."""
    request, facts = asked
    origin, known = ORIGIN, Known(facts)
    decide: Callable[..., Decision] = Recall()
    journal, fresh = Lines(), Lines()
    point = a_point(policy_set, known, journal, decide)
    ask(point, request)
    match other:
        case "point":
            origin = msgspec.structs.replace(origin, point="lab")
        case "trace":
            origin = msgspec.structs.replace(origin, traceparent="00-ab-cd-01")
        case "token":
            origin = msgspec.structs.replace(origin, jti="t-1", actors=("agent",))
        case "position":
            known.facts = msgspec.structs.replace(facts, position=Position("e", 99))
        case "roles" | "org":
            who = msgspec.structs.replace(
                facts.subject, **({"roles": ("nurse",)} if other == "roles" else {"org": "h9"})
            )
            known.facts = msgspec.structs.replace(facts, subject=who)
        case "purpose":
            request = msgspec.structs.replace(request, context=msgspec.structs.replace(request.context, purpose="COC"))
        case "capabilities":
            origin = msgspec.structs.replace(origin, capabilities=frozenset({"redact"}))
        case "decision":
            decide = point._decide = refuse
        case "policy":
            policy_set = msgspec.structs.replace(policy_set, digest="0" * 64)
            asyncio.run(exchange(point, policy_set))
            journal.taken.pop()

    ask(point, request, origin)
    ask(a_point(policy_set, known, fresh, evaluate if other != "decision" else decide), request, origin)

    assert differ(journal.taken[0], journal.taken[1])
    assert not differ(journal.taken[1], fresh.taken[0])
