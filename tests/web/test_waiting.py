"""Whoever finds all places taken waits its turn: in order, within bounds, and decided as if it came when its turn came."""

import asyncio
import contextlib
import json
import random
import selectors
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bench.open_loop import quantile
from hypothesis import given
from hypothesis import strategies as st

from ruqsat.core.admission import Pack
from ruqsat.core.decision import Decision, deny
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.service.answer import Answer
from ruqsat.service.search import Page
from ruqsat.settings import Settings
from ruqsat.web.at_once import Told
from ruqsat.web.authzen import EVALUATION, EVALUATIONS, AuthZen
from ruqsat.web.enforcement_points import Door, EnforcementPoint
from ruqsat.web.follow_ups import OUTCOMES
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.load import Load
from ruqsat.web.protocol import TARGET
from ruqsat.web.search import SEARCH
from tests.process.starter import question
from tests.web.test_forward_auth import TOKEN, VERIFIER, routes, truth
from tests.web.test_load import ALLOW, Slow, posted, proxied
from tests.web.test_search import searching

__all__ = ["routes"]

PATIENT = 60.0
"""Seconds: in these tests nobody loses its patience, except where the test is about that."""


async def turn_round() -> None:
    """Let everybody go as far as they can."""
    for _ in range(100):
        await asyncio.sleep(0)


def full(most: int, most_waiting: int, patience: float = PATIENT) -> Load:
    """Return a load whose places are all taken."""
    load = Load(most, most_waiting, patience)
    for _ in range(most):
        assert load.enter()
    return load


def at_once(work: Any) -> Any:
    """Return what comes out without any waiting."""
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    return ended.value.value


def test_who_waits_is_let_in_in_order() -> None:
    """First come, first served; nobody who comes later takes the place that was just given to another."""

    async def play() -> None:
        load, order = full(2, 3), list[str]()

        async def ask(name: str) -> None:
            assert not load.enter()
            assert await load.wait()
            order.append(name)

        asked = [asyncio.create_task(ask(name)) for name in "abc"]
        await turn_round()
        assert (load.now, load.waiting, load.shed, order) == (2, 3, 0, [])
        for left, name in ((2, "a"), (1, "b"), (0, "c")):
            load.leave()
            assert not load.enter()  # its turn has come, though it has not gone on yet
            assert (load.now, load.waiting) == (2, left)
            await turn_round()
            assert order[-1] == name
        await asyncio.gather(*asked)
        load.leave()
        load.leave()
        assert (load.now, load.waiting, load.shed) == (0, 0, 0)

    asyncio.run(play())


def test_beyond_the_bound_one_is_turned_away_at_once() -> None:
    """It waits for nothing and counts as shed once; a first try that is followed by waiting does not count."""

    async def play() -> None:
        load = full(1, 1)
        assert not load.turns_away()
        waits = asyncio.create_task(load.wait())
        await turn_round()
        assert load.turns_away()
        assert load.shed == 1
        assert not load.enter()
        assert at_once(load.wait()) is False
        assert (load.now, load.waiting, load.shed) == (1, 1, 2)
        load.leave()
        assert await waits
        load.leave()
        assert at_once(load.wait()) is True
        assert (load.now, load.shed) == (1, 2)

    asyncio.run(play())
    assert at_once(full(1, 0).wait()) is False


def test_who_asks_far_too_much_leaves_others_a_turn() -> None:
    """The last of who has most of a full line gives way to one that has less; who came before it keeps its turn."""

    async def play() -> None:
        load, order = full(1, 3), list[str]()

        async def ask(who: str, name: str) -> None:
            order.append(name if await load.wait(who) else f"not {name}")

        flood = [asyncio.create_task(ask("portal", f"p{number}")) for number in range(3)]
        await turn_round()
        assert load.turns_away("portal")
        assert not load.turns_away("clinic")
        asked = asyncio.create_task(ask("clinic", "c0"))
        await turn_round()
        assert (load.now, load.waiting, load.shed, order) == (1, 3, 2, ["not p2"])
        for _ in range(4):
            load.leave()
            await turn_round()
        assert order == ["not p2", "p0", "p1", "c0"]
        assert (load.now, load.waiting, load.shed) == (0, 0, 2)
        await asyncio.gather(asked, *flood)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("line", "who"), [("a", "b"), ("ab", "a"), ("ab", "b"), ("ab", "c"), ("aa", "a"), ("", "b"), ("aab", "b")]
)
def test_nobody_gives_way_where_that_makes_nothing_more_even(line: str, who: str) -> None:
    """Two that put each other out of a line would wait for ever: the newcomer is turned away, and nobody else."""

    async def play() -> None:
        load = full(1, len(line))
        asked = [asyncio.create_task(load.wait(name)) for name in line]
        await turn_round()
        assert at_once(load.wait(who)) is False
        assert load.turns_away(who)
        assert (load.waiting, load.shed) == (len(line), 2)
        for each in asked:
            load.leave()
            assert await each is True

    asyncio.run(play())


@pytest.mark.parametrize("line", ["abb", "bab", "bba"])
def test_of_several_the_one_that_has_most_gives_way(line: str) -> None:
    """Whoever came first: never the one that has as little as the newcomer would."""

    async def play() -> None:
        load = full(1, 3)
        asked = [asyncio.create_task(load.wait(name)) for name in line]
        await turn_round()
        newcomer = asyncio.create_task(load.wait("c"))
        await turn_round()
        assert [number for number, each in enumerate(asked) if each.done()] == [line.rindex("b")]
        for _ in range(3):
            load.leave()
        assert await newcomer is True
        await asyncio.gather(*asked)

    asyncio.run(play())


def test_who_gives_way_and_is_cancelled_costs_nobody_a_place() -> None:
    """In the same turn, in either order: one place under way, and each of the others has its turn."""

    async def play(is_first: bool) -> None:
        load = full(1, 2)
        first, second = [asyncio.create_task(load.wait("a")) for _ in range(2)]
        await turn_round()
        other = asyncio.create_task(load.wait("b"))
        if is_first:
            second.cancel()
        await asyncio.sleep(0)
        second.cancel()
        await turn_round()
        assert second.cancelled()
        assert (load.now, load.waiting, load.shed) == (1, 2, 0 if is_first else 1)
        for each in (first, other):
            load.leave()
            assert await each is True
        load.leave()
        assert (load.now, load.waiting) == (0, 0)

    for is_first in (True, False):
        asyncio.run(play(is_first))


def test_nobody_waits_for_a_place_that_does_not_come() -> None:
    """After a while it is turned away and out of the line; a turn that came in time stays, however late it is noticed."""

    async def play() -> None:
        load = full(1, 1, patience=0.0)
        assert await load.wait() is False
        assert (load.now, load.waiting, load.shed) == (1, 0, 1)
        waits = asyncio.create_task(load.wait())
        await asyncio.sleep(0)
        load.leave()
        assert await waits is True
        assert (load.now, load.shed) == (1, 1)
        load.leave()
        assert (load.now, load.waiting) == (0, 0)

    asyncio.run(play())


def test_a_cancelled_waiter_costs_nobody_a_place() -> None:
    """Gone from the line, or cancelled in the very turn in which a place comes free: the next one has it."""

    async def play(is_seen: bool) -> None:
        load = full(1, 2)
        first, second = asyncio.create_task(load.wait()), asyncio.create_task(load.wait())
        await turn_round()
        first.cancel()
        if is_seen:
            await turn_round()
            assert load.waiting == 1
        load.leave()
        assert await second is True
        assert first.cancelled()
        assert (load.now, load.waiting, load.shed) == (1, 0, 0)
        load.leave()
        assert load.now == 0

    for is_seen in (True, False):
        asyncio.run(play(is_seen))


def test_a_place_that_was_given_to_a_cancelled_waiter_is_passed_on_once() -> None:
    """Its turn had come and it had not gone on yet: the next one has the place, and it alone; or it is free."""

    async def play(others: int) -> None:
        load = full(1, 1 + others)
        first, *rest = [asyncio.create_task(load.wait()) for _ in range(1 + others)]
        await turn_round()
        load.leave()
        first.cancel()
        await turn_round()
        assert first.cancelled()
        assert (load.now, load.waiting) == (min(1, others), max(0, others - 1))
        assert [each.done() for each in rest] == [number == 0 for number in range(others)]
        for each in rest:
            assert await each is True
            load.leave()
        assert (load.now, load.waiting) == (0, 0)

    for others in (0, 1, 2):
        asyncio.run(play(others))


def test_a_waiter_that_lost_its_patience_and_is_cancelled_has_no_place_to_give() -> None:
    """Both in one turn: the place under way stays one."""

    async def play() -> None:
        load = full(1, 1, patience=0.0)
        waits = asyncio.create_task(load.wait())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0, waits.cancel)
        await asyncio.wait([waits])
        assert (load.now, load.waiting) == (1, 0)

    asyncio.run(play())


STEPS = st.lists(
    st.one_of(st.just("ask"), st.just("leave"), st.just("turn"), st.integers(0, 30)), min_size=1, max_size=60
)  # fmt: skip


@given(STEPS, st.integers(1, 3), st.integers(0, 3), st.sampled_from([0.0, PATIENT]))
def test_whatever_happens_places_are_neither_lost_nor_doubled(
    steps: list[str | int], most: int, most_waiting: int, patience: float
) -> None:
    """Coming, leaving, cancelling and losing patience in any order: never too many, and all is free at the end."""

    async def play() -> None:
        load, inside, asked = Load(most, most_waiting, patience), list[int](), list[asyncio.Task[None]]()

        async def ask(number: int) -> None:
            if load.enter() or await load.wait("aaab"[number % 4]):
                inside.append(number)

        for step in steps:
            if step == "ask":
                asked.append(asyncio.create_task(ask(len(asked))))
            elif step == "leave" and inside:
                inside.pop()
                load.leave()
            elif isinstance(step, int) and step < len(asked):
                asked[step].cancel()
            else:
                await asyncio.sleep(0)
            assert len(inside) <= load.now <= most
            assert load.waiting <= most_waiting
            assert not load.waiting or load.now == most
        while inside or load.waiting or not all(each.done() for each in asked):
            if inside:
                inside.pop()
                load.leave()
            await asyncio.sleep(0)
        assert (load.now, load.waiting) == (0, 0)

    asyncio.run(play())


class Withdrawable(Slow):
    """A decision point that looks at the consent when it is asked, and counts who asked by which policy set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_given = True
        self.sets: Counter[object] = Counter()
        self.policy_set = SimpleNamespace(request_type=EvaluationRequest, name="old")

    async def decide(self, *asked: Any) -> Answer:
        """Look, then wait, then say what was seen."""
        self.sets[asked[2].name if len(asked) > 2 else None] += 1
        decision: Decision = ALLOW if self.is_given else deny("deny.consent.none")
        answer = await super().decide(*asked)
        return Answer(answer.id, decision, "permitted" if self.is_given else "consent_required", (), "p", "t")

    async def decide_all(self, requests: Any, *asked: Any) -> list[Answer | BaseException]:
        """Decide all."""
        return await asyncio.gather(*[self.decide(each, *asked) for each in requests], return_exceptions=True)

    async def find(self, _question: object, _origin: object, policy_set: Any) -> Page:
        """Search, alike."""
        answer = await self.decide(None, None, policy_set)
        return Page(("p1",) if answer.decision.allowed else (), "")

    async def report(self, *_: Any) -> tuple[int, bytes]:
        """Take an outcome, which asks for no decision."""
        return 201, b"{}"


Ask = Callable[[], Awaitable[Any]]


def callers(
    point: Withdrawable, load: Load, table: RouteTable, name: str = ""
) -> tuple[ForwardAuth, dict[str, Ask]]:  # fmt: skip
    """Return what asks each way of each listener, as the enforcement point of that name."""
    some: Any = point
    door = Door((), EnforcementPoint((), search=True, name=name))
    auth = ForwardAuth(some, VERIFIER, table, some.policy_set, load=load, door=door)
    authzen = AuthZen(some, door, load=load, search=some, follow_ups=some)
    batch = {"evaluations": [question(), question()]}
    return auth, {
        "auth": lambda: proxied(auth),
        "one": lambda: posted(authzen, EVALUATION, question()),
        "many": lambda: posted(authzen, EVALUATIONS, batch),
        "search": lambda: posted(authzen, SEARCH + "subject", searching("subject")),
        "outcome": lambda: posted(authzen, OUTCOMES, {}),
    }


def test_nothing_is_decided_before_its_turn(routes: RouteTable) -> None:
    """Consent withdrawn and policy set replaced while they wait: denials under the new one; before, permits."""

    async def play(is_withdrawn: bool) -> list[Any]:
        point, load = Withdrawable(), full(1, 10)
        auth, ways = callers(point, load, routes)
        asked = [asyncio.create_task(cast(Any, ask())) for ask in ways.values()]
        await turn_round()
        assert (load.waiting, load.shed, point.sets.total()) == (len(ways), 0, 0)
        if is_withdrawn:
            point.is_given = False
            point.policy_set = SimpleNamespace(request_type=EvaluationRequest, name="new")
            auth.put_in_force(Pack(cast(Any, point.policy_set), routes))
        point.go_on.set()
        load.leave()
        answered = await asyncio.gather(*asked)
        assert dict(point.sets) == {"new" if is_withdrawn else "old": 5}
        assert (load.now, load.waiting) == (0, 0)
        return answered

    auth, one, many, search, outcome = asyncio.run(play(is_withdrawn=False))
    assert (auth[0], auth[1][b"x-ruqsat-subject"]) == (200, b"dr")
    assert [each[2].count(b"true") for each in (one, many)] == [1, 2]
    assert (search[2].count(b"p1"), outcome[0]) == (1, 201)

    auth, one, many, search, outcome = asyncio.run(play(is_withdrawn=True))
    assert (auth[0], auth[1][b"x-ruqsat-subject"]) == (403, b"")
    assert [each[2].count(b"true") for each in (one, many)] == [0, 0]
    assert (search[2].count(b"p1"), outcome[0]) == (0, 201)


def test_an_enforcement_point_has_its_turn_whatever_another_asks(routes: RouteTable) -> None:
    """By each way in; and the one that asks so much is told that it is too much, and allowed nothing by that."""

    async def play() -> None:
        point, load = Withdrawable(), full(1, 2)
        (_, greedy), (_, modest) = (callers(point, load, routes, name) for name in ("portal", "clinic"))
        point.go_on.set()
        for name, ask in modest.items():
            before = load.shed
            flood = [asyncio.create_task(cast(Any, more())) for more in list(greedy.values())[:4]]
            await turn_round()
            asked = asyncio.create_task(cast(Any, ask()))
            await turn_round()
            load.leave()
            await turn_round()
            status, *_ = await asked
            assert (name, status) == (name, 201 if name == "outcome" else 200)
            codes = [each[0] for each in await asyncio.gather(*flood)]
            assert (codes.count(200), load.shed - before, load.waiting) == (1, 3, 0)
            assert load.enter()

    asyncio.run(play())


def test_an_enforcement_point_is_one_by_whichever_way_it_asks(routes: RouteTable) -> None:
    """It puts nobody of its own out of the line, and is turned away before anything is read or decided."""

    async def play(first: str) -> None:
        point, load = Withdrawable(), full(1, 2)
        auth, ways = callers(point, load, routes, "portal")
        auth._read = None  # type: ignore[method-assign, assignment]
        waiting = [asyncio.create_task(cast(Any, ways[first]())) for _ in range(2 if first != "auth" else 0)]
        waiting += [asyncio.create_task(cast(Any, load.wait("portal"))) for _ in range(2 - len(waiting))]
        await turn_round()
        for name, ask in ways.items():
            assert (await ask())[0] == (403 if name == "auth" else 503)
        assert (load.waiting, load.shed, any(each.done() for each in waiting)) == (2, len(ways), False)
        point.go_on.set()
        for _ in range(3):
            load.leave()
            await turn_round()
        await asyncio.gather(*waiting)

    for first in ("auth", "one", "many", "search", "outcome"):
        asyncio.run(play(first))


@pytest.mark.parametrize("way", ["auth", "one"])
def test_of_what_is_answered_at_once_the_same_holds(way: str, routes: RouteTable) -> None:
    """Who asks too much is told so at the least cost; another's question goes on to wait for its place."""

    async def play() -> None:
        load = full(1, 2)
        line = [asyncio.create_task(load.wait("portal")) for _ in range(2)]
        await turn_round()
        for name, is_turned_away in (("portal", True), ("clinic", False)):
            point: Any = Withdrawable()
            door = Door((), EnforcementPoint((), name=name))
            app: ForwardAuth | AuthZen = AuthZen(point, door, load=load)
            if way == "auth":
                app = ForwardAuth(point, VERIFIER, routes, point.policy_set, load=load, door=door)
            told = list[Told]()
            exchange: Any = SimpleNamespace(answer=told.append)
            headers = [(b"content-type", b"application/json"), (b"authorization", TOKEN), *truth("nginx")]
            scope = {"type": "http", "headers": headers, TARGET: b"/authz/nginx"}
            assert app.answer_at_once(scope, json.dumps(question()).encode(), exchange) is is_turned_away
            assert [each.head[9:12] for each in told] == ([b"403" if way == "auth" else b"503"] if told else [])
            assert bool(told) is is_turned_away
        assert (load.waiting, load.shed) == (2, 1)
        for each in line:
            each.cancel()

    asyncio.run(play())


def test_what_is_read_by_routes_is_read_when_its_turn_comes(routes: RouteTable) -> None:
    """A route that is gone by then opens nothing."""

    async def play() -> None:
        point, load = Withdrawable(), full(1, 1)
        point.go_on.set()
        point.record_refusal = lambda *_: asyncio.sleep(0, "d-0")  # type: ignore[method-assign]
        auth, ways = callers(point, load, routes)
        asked = asyncio.create_task(cast(Any, ways["auth"]()))
        await turn_round()
        auth.put_in_force(Pack(cast(Any, point.policy_set), RouteTable((), frozenset())))
        load.leave()
        status, headers = await asked
        assert (status, headers[b"x-ruqsat-reason"], point.sets.total()) == (403, b"not_permitted", 0)
        assert load.now == 0

    asyncio.run(play())


@pytest.mark.parametrize("fails", [False, True])
def test_an_overloaded_answer_never_allows_and_a_failure_keeps_no_place(
    fails: bool,
    routes: RouteTable,
) -> None:
    """With the line full every way is turned away without a word of permission, and all who wait are answered."""

    async def play() -> None:
        point, load = Withdrawable(), full(1, 5)
        point.fails = fails
        _, ways = callers(point, load, routes)
        waiting = [asyncio.create_task(cast(Any, ask())) for ask in ways.values()]
        await turn_round()
        for name, ask in ways.items():
            status, headers, *body = await ask()
            assert (status, headers.get(b"x-ruqsat-subject", b"")) == (403 if name == "auth" else 503, b"")
            assert b"true" not in b"".join(body) and b"p1" not in b"".join(body)
        assert (load.shed, load.waiting, point.sets.total()) == (5, 5, 0)
        point.go_on.set()
        load.leave()
        codes = [each[0] for each in await asyncio.gather(*waiting)]
        assert codes == ([403, 500, 200, 500, 201] if fails else [200, 200, 200, 200, 201])
        assert (load.now, load.waiting) == (0, 0)

    asyncio.run(play())


def test_who_has_waited_too_long_is_turned_away_everywhere_and_nothing_was_decided(routes: RouteTable) -> None:
    """There was room in the line, and no place in time: 403 `overloaded` or 503, as for those who found no room."""

    async def play() -> None:
        point, load = Withdrawable(), full(1, 1, patience=0.0)
        point.go_on.set()
        _, ways = callers(point, load, routes)
        for name, ask in ways.items():
            status, headers, *_ = await ask()
            told = headers.get(b"x-ruqsat-reason", headers.get(b"retry-after"))
            assert (status, told) == ((403, b"overloaded") if name == "auth" else (503, b"1"))
        assert (load.now, load.waiting, load.shed, point.sets.total()) == (1, 0, 5, 0)

    asyncio.run(play())


def test_who_waits_when_the_process_stops_is_refused_and_its_place_is_anothers(routes: RouteTable) -> None:
    """Cut short in the line, or in the turn in which its place came: everybody is answered, and nothing is allowed."""

    async def play(has_turn: bool) -> None:
        point, load = Withdrawable(), full(1, 6)
        point.go_on.set()
        _, ways = callers(point, load, routes)
        for name, ask in ways.items():
            cut, last = asyncio.create_task(cast(Any, ask())), asyncio.create_task(cast(Any, ways["one"]()))
            await turn_round()
            if has_turn:
                load.leave()
            cut.cancel()
            status, _, *body = await cut
            assert (status, b"true" in b"".join(body)) == (403 if name == "auth" else 500, False)
            if not has_turn:
                assert (load.now, load.waiting) == (1, 1)
                load.leave()
            assert (await last)[0] == 200
            assert (load.now, load.waiting) == (0, 0)
            load.enter()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as a coroutine that nobody awaited
        for has_turn in (False, True):
            asyncio.run(play(has_turn))


class Skipping(asyncio.SelectorEventLoop):
    """A loop whose time is what is waited for: nothing takes any, but for sleeping."""

    def __init__(self) -> None:
        self._now = 0.0
        loop = self

        class Selector(selectors.SelectSelector):
            """Waits for nothing."""

            def select(self, timeout: float | None = None) -> Any:
                """Let the time go by."""
                loop._now += timeout or 0.0
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        """Return what has gone by."""
        return self._now


DECISION, LUMP, SOME = 0.5, 0.6, 4_000
"""A decision's mean length; how often a client sends what is due by then; so many requests come. In ms of no clock."""


def served(most_waiting: int, share: float, lump: float) -> tuple[float, float]:
    """Return how busy one place is, and the p99 of who is let in, when *share* of what it can do is asked for."""
    loop, chance, load = Skipping(), random.Random(1), Load(1, most_waiting, patience=40 * DECISION)
    lengths, took = list[float](), list[float]()

    async def ask() -> None:
        began = loop.time()
        if load.enter() or await load.wait():
            lengths.append(chance.expovariate(1 / DECISION))
            await asyncio.sleep(lengths[-1])
            load.leave()
            took.append(loop.time() - began)

    async def play() -> None:
        due, asked = 0.0, list[asyncio.Task[None]]()
        for _ in range(SOME):
            due += chance.expovariate(share / DECISION)
            await asyncio.sleep(max(0.0, (due // lump + 1) * lump - loop.time()))
            asked.append(asyncio.create_task(ask()))
        await asyncio.gather(*asked)

    with contextlib.closing(loop):
        loop.run_until_complete(play())
        return sum(lengths) / loop.time(), quantile(sorted(took), 0.99)


@pytest.mark.slow
def test_the_line_keeps_a_place_busy_and_nobody_long() -> None:
    """Three times too much for one place: 80 % and more of it with the line as it is set, and not without one."""
    usual = Settings.model_fields["max_waiting"].default
    for lump in (LUMP / 100, LUMP, 2 * LUMP):
        (busy, slow), (_, normal) = served(usual, 3.0, lump), served(usual, 0.7, lump)
        print(f"every {lump} ms: {busy:.0%} busy, p99 {slow / normal:.2f} times the normal one")
        assert busy >= 0.8
        assert slow <= 2 * normal
        assert served(0, 3.0, lump)[0] < 0.8
