"""Search finds what an evaluation would allow, all of it and nothing else; in bounded steps, and on the record."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ruqsat.core.decision import Decision
from ruqsat.core.facts import Facts, PatientFacts, RecordStatus, SubjectFacts
from ruqsat.core.instant import SECOND
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.sampling import situations
from ruqsat.errors import JournalError, RequestError, StoreUnavailableError
from ruqsat.service import search as search_module
from ruqsat.service.decision_point import DecisionPoint, Weighed
from ruqsat.service.freshness import Freshness
from ruqsat.service.information_point import InformationPoint
from ruqsat.service.metrics import Metrics
from ruqsat.service.origin import Origin
from ruqsat.service.search import MINUTE, TOKEN_LIFE, Page, Question, Search, SearchRefusedError
from ruqsat.stores.sql import SqlStore
from tests.clocks import FixedClock
from tests.service.test_decision_point import Paper

ORIGIN = Origin(
    "json", capabilities=frozenset({"redact", "suppress_total", "require_eds", "deidentify"}), point="portal"
)
MOMENT = 1_795_500_000_000_000


class Place:
    """A store, a decision point and a search over one world."""

    def __init__(self, policy_set: PolicySet, store: SqlStore, moment: int = MOMENT, per_minute: int = 100_000) -> None:
        self.policy_set, self.store, self.journal, self.clock = policy_set, store, Paper(), FixedClock(moment)
        self.information = InformationPoint(store, Freshness(store.token_key), self.clock)
        self.point = DecisionPoint(
            policy_set, self.information, Freshness(store.token_key), self.journal, self.clock, Metrics()
        )
        self.search = Search(
            self.point, store, self.information, self.clock, token_key=store.token_key, per_minute=per_minute
        )

    async def find(self, question: Question, origin: Origin = ORIGIN) -> Page:
        """Return one page."""
        return await self.search.find(question, origin, self.policy_set)

    async def find_all(self, question: Question) -> tuple[list[str], int]:
        """Return what is found over all pages, and how many there were."""
        page, pages = await self.find(question), 1
        found = list(page.results)
        while page.next_token:
            page, pages = await self.find(msgspec.structs.replace(question, token=page.next_token)), pages + 1
            found += page.results
        return found, pages

    async def allows(self, question: Question, name: str) -> bool:
        """Ask an evaluation the same of one candidate."""
        return (await self.point.decide(search_module._asking(question, name), ORIGIN)).decision.allowed


def in_place(folder: Path, policy_set: PolicySet, act: Callable[[Place], Awaitable[Any]], **more: Any) -> Any:
    """Open a fresh store, act, and close it."""

    async def whole() -> Any:
        store = await SqlStore.open(f"sqlite:///{folder}/{random.getrandbits(40):x}.db", read_timeout_seconds=10)
        place = Place(policy_set, store, **more)
        try:
            await place.information.probe_once(10 * SECOND)  # a busy machine takes its time
            return await act(place)
        finally:
            await place.information.aclose()
            await store.aclose()

    return asyncio.run(whole())


def world_of(policy_set: PolicySet, seed: int) -> tuple[EvaluationRequest, Facts, int, list[SubjectFacts]]:
    """A made-up request about one patient's records, its facts and moment, and more people with other roles."""
    made = [each for each in islice(situations(policy_set, seed), 30) if each[1].patient is not None]
    chance = random.Random(seed)
    request, facts, now = chance.choice(made)
    assert facts.patient is not None
    classes = sorted(policy_set.vocabulary.classes)
    stated = request.resource.properties
    records = tuple(
        RecordStatus(
            f"o{number}", chance.choice((stated.data_class if stated else "labs", chance.choice(classes))) or "labs",
            chance.choice((None, (), ())), blocked=chance.random() < 0.1,
        )
        for number in range(1, 12)
    )  # fmt: skip
    facts = msgspec.structs.replace(facts, patient=msgspec.structs.replace(facts.patient, records=records))
    others = [
        msgspec.structs.replace(known.subject, id=f"x{number}", active=chance.random() < 0.9)
        for number, (_, known, _) in enumerate(made)
        if known.subject is not None
    ]
    return request, facts, now.lo, others


def questions(request: EvaluationRequest, chance: random.Random) -> list[Question]:
    """The three searches about one request."""
    limits = [None, 1, 2, 5]
    return [
        Question(target, request, target.encode(), chance.choice(limits))
        for target in ("subject", "resource", "action")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(4))
def test_search_finds_exactly_what_an_evaluation_allows(
    tmp_path: Path, policy_set: PolicySet, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all pages: every result evaluates to allow, and every candidate that evaluates to allow is there, once."""
    first = random.randrange(1 << 30)
    print(f"seed {first}, batch {batch}")
    monkeypatch.setattr(search_module, "LOOKED_AT", 4)
    allowed = dict.fromkeys(("subject", "resource", "action"), 0)
    pages = short = 0

    async def compare(place: Place) -> None:
        nonlocal pages, short
        subjects, patient = [*others, *(one for one in (facts.subject, facts.recipient) if one)], facts.patient
        await place.information.record(tuple(subjects), (patient,) if patient else ())
        for question in questions(request, random.Random(seed)):
            named = {
                "subject": sorted(one.id for one in subjects if one.is_somebody),
                "resource": sorted(record.id for record in patient.records) if patient and request.resource.properties
                and request.resource.properties.patient == patient.id else [],
                "action": sorted(policy_set.vocabulary.actions),
            }[question.target]  # fmt: skip
            found, needed = await place.find_all(question)
            expected = [name for name in named if await place.allows(question, name)]
            assert found == expected, (seed, question)
            allowed[question.target] += len(expected)
            pages, short = pages + needed, short + (needed > len(expected) + 1)

    for seed in range(first, first + 300):
        request, facts, moment, others = world_of(policy_set, seed)
        in_place(tmp_path, policy_set, compare, moment=moment)
        if seed >= first + 29 and short and all(allowed.values()):
            break
    print(allowed, pages, short)
    assert all(allowed.values()), "nothing was allowed: the comparison was empty"
    assert short, "no page was short"


def a_question(policy_set: PolicySet, target: Any = "action", **more: Any) -> Question:
    """Some search."""
    request, *_ = next(situations(policy_set, 1))
    return Question(target, request, b"b" * 32, **more)


def test_a_token_is_good_for_its_search_alone(tmp_path: Path, policy_set: PolicySet) -> None:
    """Other entities, another target, point, epoch or limit, a changed letter, ten minutes later: no token."""
    question = a_question(policy_set, limit=1)
    changed = msgspec.structs.replace

    async def story(place: Place) -> None:
        place.search.budget = search_module.Budget(3, place.clock)
        token = (await place.find(question)).next_token
        assert token
        place.search.budget = search_module.Budget(1000, place.clock)
        again = changed(question, token=token)
        await place.find(again)
        await place.find(changed(again, limit=None))
        other = Origin("json", point="other")
        for wrong, origin in (
            (changed(again, binding=b"c" * 32), ORIGIN), (changed(again, limit=2), ORIGIN), (again, other),
            (changed(again, token=token[:-2] + "AA"), ORIGIN), (changed(again, token="x"), ORIGIN),
            (changed(again, token="ы"), ORIGIN), (changed(again, token="A" * 400), ORIGIN),
        ):  # fmt: skip
            with pytest.raises(RequestError):
                await place.find(wrong, origin)
        place.clock.moment += TOKEN_LIFE
        with pytest.raises(RequestError, match="expired"):
            await place.find(again)

    in_place(tmp_path, policy_set, story)


def test_the_length_of_a_token_tells_nothing_of_the_id_in_it(tmp_path: Path, policy_set: PolicySet) -> None:
    """Where a page ended at somebody who was not found, nobody learns how long that id is; the next page begins there."""
    question = a_question(policy_set)

    async def story(place: Place) -> None:
        ids = ("x", "x" * 256, "ы" * 256)
        tokens = [place.search._token(question, "finder", each, 100) for each in ids]
        assert len({len(token) for token in tokens}) == 1
        for each, token in zip(ids, tokens, strict=True):
            assert len(token) <= 4096
            assert place.search._resume(msgspec.structs.replace(question, token=token), "finder") == (each, 100)

    in_place(tmp_path, policy_set, story)


def test_a_token_of_another_epoch_has_expired(tmp_path: Path, policy_set: PolicySet) -> None:
    """After a restore nothing from before is gone on with."""
    question = a_question(policy_set, limit=1)

    async def story(place: Place) -> None:
        place.search.budget = search_module.Budget(3, place.clock)
        token = (await place.find(question)).next_token
        place.search._information = type("Other", (), {"position": msgspec.structs.replace(  # type: ignore[assignment]
            place.information.position, epoch="another")})()  # fmt: skip
        with pytest.raises(RequestError, match="expired"):
            await place.find(msgspec.structs.replace(question, token=token))

    in_place(tmp_path, policy_set, story)


def test_the_budget_ends_and_comes_back(tmp_path: Path, policy_set: PolicySet) -> None:
    """So many candidates a minute for each point; another point has its own; a minute later there is more."""
    question, actions = a_question(policy_set), len(policy_set.vocabulary.actions)

    async def story(place: Place) -> None:
        page = await place.find(question)
        assert page.next_token == ""
        short = await place.find(question)  # what is left is less than a page
        assert short.next_token != ""
        with pytest.raises(SearchRefusedError, match="search_budget"):
            await place.find(question)
        await place.find(question, msgspec.structs.replace(ORIGIN, point="other"))
        place.clock.boot += MINUTE
        await place.find(question)
        assert [entry["looked_at"] for entry in place.journal.entries] == [actions, 2, actions, actions]

    in_place(tmp_path, policy_set, story, per_minute=actions + 2)


def test_each_search_is_one_entry(tmp_path: Path, policy_set: PolicySet) -> None:
    """The journal says who searched for what and how much was found; no decision stands there for each candidate."""
    request, facts, moment, others = world_of(policy_set, 5)

    async def story(place: Place) -> None:
        await place.information.record(tuple(others), (facts.patient,) if facts.patient else ())
        page = await place.find(Question("subject", request, b""))
        (entry,) = place.journal.entries
        assert (entry["kind"], entry["target"], entry["point"]) == ("search", "subject", "portal")
        assert (entry["action"], entry["resource"]) == (request.action.name, request.resource.id)
        assert "subject" not in entry
        assert (entry["looked_at"], entry["found"]) == (len(others), len(page.results))

    in_place(tmp_path, policy_set, story, moment=moment)


def test_nothing_is_told_without_the_entry_or_on_facts_that_cannot_be_read(
    tmp_path: Path, policy_set: PolicySet
) -> None:
    """A journal that fails, a store that is away: an error, never a list that looks whole."""
    question = a_question(policy_set)

    async def story(place: Place) -> None:
        place.journal.failure = JournalError("full")
        with pytest.raises(JournalError):
            await place.find(question)
        place.journal.failure = None

        async def away(*_: Any) -> Facts:
            raise StoreUnavailableError("away")

        place.information.fetch = away  # type: ignore[method-assign]
        place.information.forget()
        with pytest.raises(StoreUnavailableError):
            await place.find(question)

    in_place(tmp_path, policy_set, story)


def test_what_changes_while_the_entry_is_written_is_not_told(tmp_path: Path, policy_set: PolicySet) -> None:
    """Access that is withdrawn between the decision and the answer is not among the results."""

    def world(seed: int) -> tuple[Question, int, tuple[SubjectFacts, ...], tuple[PatientFacts, ...]]:
        request, facts, moment, others = world_of(policy_set, seed)
        return Question("subject", request, b""), moment, tuple(others), (facts.patient,) if facts.patient else ()

    async def look(place: Place) -> tuple[str, ...]:
        await place.information.record(people, patients)
        return (await place.find(question)).results

    for seed in range(1, 100):
        question, moment, people, patients = world(seed)
        if in_place(tmp_path, policy_set, look, moment=moment):
            break
    else:
        pytest.fail("nobody was found in any world")

    async def story(place: Place) -> None:
        await place.information.record(people, patients)
        place.journal.held = True
        work = asyncio.create_task(place.find(question))
        for _ in range(2_000):
            await asyncio.sleep(0.001 if not place.journal.waiting else 0)
        gone = tuple(msgspec.structs.replace(one, active=False) for one in people)
        await place.information.record(gone)
        place.journal.waiting[0].set_result(None)
        assert (await work).results == ()

    in_place(tmp_path, policy_set, story, moment=moment)


def test_what_is_taken_away_while_another_result_is_looked_at_again_is_not_told(
    tmp_path: Path, policy_set: PolicySet
) -> None:
    """The last look at all of the page is at one moment: what was tested first is tested again."""
    request, _, _, _ = world_of(policy_set, 1)

    async def story(place: Place) -> None:
        gone: set[str] = set()
        looks: list[str] = []

        def weighed(name: str, fresh: bool) -> Weighed:
            return Weighed(Decision(name not in gone, "x", None), lambda: name not in gone and (fresh or name != "b"))

        async def weigh(asked: EvaluationRequest, *_: Any) -> Weighed:
            looks.append(asked.subject.id)
            if looks.count("b") == 2:
                gone.add("a")  # while b is looked at again, a loses its access
            return weighed(asked.subject.id, fresh=looks.count(asked.subject.id) > 1)

        place.point.weigh = weigh  # type: ignore[method-assign]
        await place.information.record(tuple(SubjectFacts(name) for name in ("a", "b", "c")))
        assert (await place.find(Question("subject", request, b""))).results == ("b", "c")

    in_place(tmp_path, policy_set, story)
