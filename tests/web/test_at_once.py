"""Plain questions are answered without a task; nothing is allowed that way that ASGI's would not allow."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest

from ruqsat.core.facts import Facts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.errors import JournalError
from ruqsat.service.answer import Answer
from ruqsat.service.decision_point import DecisionPoint
from ruqsat.service.freshness import Freshness
from ruqsat.service.metrics import Metrics
from ruqsat.web import listeners
from ruqsat.web.at_once import TOGETHER, Asked, AtOnce, Exchange, Told
from ruqsat.web.authzen import AuthZen
from ruqsat.web.enforcement_points import Door
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.forward_auth.verdict import Verdict, written
from ruqsat.web.load import Load
from tests.clocks import FixedClock
from tests.process.load import Connection, Reply, connected, http
from tests.service.test_decision_point import FAILURES, ORIGIN, Known, Paper, _undecided, asked, point
from tests.web.test_forward_auth import RECORD, VERIFIER, routes, token
from tests.web.test_listeners import connected_while, listening

__all__ = ["asked", "routes"]

EVALUATION = "/access/v1/evaluation"
JSON = "application/json"


class ByWay(AuthZen):
    """The JSON listener, which counts what comes by ASGI."""

    calls = longest = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Count."""
        self.calls += 1
        await super().__call__(scope, receive, send)

    def answer_at_once(self, scope: Any, body: bytes, exchange: Exchange) -> bool:
        """Note how long a body was kept for this."""
        self.longest = max(self.longest, len(body))
        return super().answer_at_once(scope, body, exchange)


class Elsewhere(Known):
    """Facts that are in the store only."""

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Know nothing."""
        return None


def by_way(decision_point: DecisionPoint, load: Load | None = None) -> ByWay:
    """The listener over a decision point."""
    return ByWay(decision_point, Door.opened(explain=True), load=load)


def posted(question: EvaluationRequest, **headers: str) -> bytes:
    """Return the bytes of a question."""
    return http("POST", EVALUATION, msgspec.json.encode(question), **{"content_type": JSON} | headers)


async def told(app: Any, *requests: bytes) -> list[Reply]:
    """Ask one after the other on one connection."""
    async with listening(app) as (address,), connected(address) as connection:
        return [await connection.ask(request) for request in requests]


def timeless(reply: Reply) -> Any:
    """Return an answer without what is new in each."""
    said = reply.json()
    del said["context"]["id"], said["context"]["token"]
    for duty in said["context"].get("obligations", []):
        del duty["id"]
    return reply.status, {**reply.headers, "content-length": ""}, said


def test_a_plain_question_is_answered_as_by_asgi_and_its_connection_goes_on(policy_set: PolicySet, asked: Any) -> None:
    """The same status, headers and words; and nothing of it came by ASGI but what was asked that way."""
    journal, load = Paper(), Load()
    app = by_way(point(policy_set, Known(asked[1]), journal), load)

    plain, again, by_asgi = asyncio.run(
        told(app, posted(asked[0]), posted(asked[0]), posted(asked[0], x_request_id="r1"))
    )

    assert plain.json()["decision"] is True
    assert by_asgi.headers.pop("x-request-id") == "r1"
    assert timeless(plain) == timeless(again) == timeless(by_asgi)
    assert (app.calls, len(journal.entries), load.now) == (1, 3, 0)
    assert [each["id"] for each in journal.entries[:2]] == [
        plain.json()["context"]["id"],
        again.json()["context"]["id"],
    ]


@pytest.mark.parametrize("case", ["id", "no json", "too large", "bad", "1.0", "1.0 kept", "close", "get", "elsewhere"])
def test_what_is_not_plain_goes_by_asgi(policy_set: PolicySet, asked: Any, case: str) -> None:
    """Whatever must be explained, read from the store or refused; and it is decided and journaled once."""
    question, facts = asked
    request, status = posted(question), 200
    if case == "id":
        request = posted(question, x_request_id="r1")
    elif case == "no json":
        request, status = posted(question, content_type="text/plain"), 400
    elif case == "too large":
        request, status = http("POST", EVALUATION, b" " * 70_000, content_type=JSON), 400
    elif case == "bad":
        request, status = http("POST", EVALUATION, b"{", content_type=JSON), 400
    elif case == "1.0":
        request = request.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    elif case == "1.0 kept":
        request = posted(question, connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    elif case == "close":
        request = posted(question, connection="close")
    elif case == "get":
        request, status = http("GET", EVALUATION), 405
    journal, load = Paper(), Load()
    known = Elsewhere(facts) if case == "elsewhere" else Known(facts)
    app = by_way(point(policy_set, known, journal), load)

    (reply,) = asyncio.run(told(app, request))

    assert reply.status == status
    assert (app.calls, len(journal.entries), load.now) == (1, int(status == 200), 0)
    assert reply.closes is (case in ("1.0", "1.0 kept", "close"))
    assert app.longest <= app.most_bytes


async def entries(journal: Paper, count: int = 1) -> None:
    """Wait until so many wait for the disk."""
    while len(journal.waiting) < count:  # noqa: ASYNC110 - the journal knows of no event
        await asyncio.sleep(0.001)


@asynccontextmanager
async def waiting(app: Any, journal: Paper, *requests: bytes) -> AsyncIterator[Connection]:
    """A connection to *app* on which everything is sent, once the first entry waits for the disk."""
    async with listening(app) as (address,), connected(address) as connection:
        await connection.send(b"".join(requests))
        await entries(journal)
        yield connection


async def keep(journal: Paper, connection: Connection) -> Reply:
    """Let everything that waits last, and read an answer."""
    for each in journal.waiting:
        if not each.done():
            each.set_result(None)
    return await connection.read()


def test_an_answer_waits_for_its_entry_and_what_comes_after_it_waits_for_the_answer(
    policy_set: PolicySet, asked: Any
) -> None:
    """Nothing is sent before the entry lasts; requests sent ahead are answered in their order, by whichever way."""

    async def story() -> tuple[bool, list[Reply], int]:
        journal, load = Paper(held=True), Load()
        app = by_way(point(policy_set, Known(asked[1]), journal), load)
        ahead = (posted(asked[0]), posted(asked[0]), http("GET", "/nowhere"), posted(asked[0], x_request_id="r3"))
        async with waiting(app, journal, *ahead) as connection:
            early = asyncio.create_task(connection.read())
            await asyncio.sleep(0.05)
            was_early = early.done() or len(journal.waiting) > 1
            journal.waiting[0].set_result(None)
            replies = [await early]
            await entries(journal, 2)
            replies += [await keep(journal, connection), await connection.read()]
            await entries(journal, 3)
            return was_early, [*replies, await keep(journal, connection)], load.now

    was_early, replies, now = asyncio.run(story())

    assert (was_early, [reply.status for reply in replies], now) == (False, [200, 200, 404, 200], 0)
    assert replies[3].headers["x-request-id"] == "r3"


@pytest.mark.parametrize("how", ["fails", "is dropped"])
def test_an_entry_that_never_lasts_is_a_denial(policy_set: PolicySet, asked: Any, how: str) -> None:
    """A permit whose entry cannot be kept is answered as a denial, whatever the rules said."""

    async def story() -> tuple[Reply, int]:
        journal, load = Paper(held=True), Load()
        app = by_way(point(policy_set, Known(asked[1]), journal), load)
        async with waiting(app, journal, posted(asked[0])) as connection:
            if how == "fails":
                journal.waiting[0].set_exception(JournalError("full"))
            else:
                journal.waiting[0].cancel()
            return await connection.read(), load.now

    reply, now = asyncio.run(story())

    assert (reply.status, now) == (200, 0)
    assert reply.json()["decision"] is False
    assert reply.json()["context"]["explain"]["reason"] == "deny.audit_unavailable"


def test_what_changes_while_the_entry_is_written_is_decided_anew(policy_set: PolicySet, asked: Any) -> None:
    """Once more, by new facts; what changes again is denied; and the journal tells what was never sent."""
    for unusable, allowed, kinds in (
        (1, True, ["decision", "not_sent", "decision"]),
        (9, False, ["decision", "not_sent", "decision", "not_sent", "decision"]),
    ):
        journal, load = Paper(), Load()
        app = by_way(point(policy_set, Known(asked[1], unusable=unusable), journal), load)

        (reply,) = asyncio.run(told(app, posted(asked[0])))

        assert (reply.json()["decision"], app.calls, load.now) == (allowed, 0, 0)
        assert [each["kind"] for each in journal.entries] == kinds


class Breaking(Known):
    """Facts of which something breaks: before the decision, or after it."""

    late = False

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Break, or not yet."""
        return self.facts if self.late else super().facts_now(subject, patient)

    def usable(self, *args: Any) -> bool:
        """Break at last."""
        assert self.failure is not None
        raise self.failure


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("failure", FAILURES, ids=repr)
def test_whatever_breaks_allows_nothing_and_takes_nobodys_place(
    policy_set: PolicySet, asked: Any, failure: BaseException, late: bool
) -> None:
    """An error without a detail; and the next one is answered on the same connection."""
    known, load = Breaking(asked[1], failure=failure), Load()
    known.late = late
    app = by_way(point(policy_set, known, Paper()), load)

    replies = asyncio.run(told(app, posted(asked[0]), posted(asked[0])))

    assert [(reply.status, reply.body) for reply in replies] == [(500, app.refusal.body)] * 2
    assert (app.calls, load.now) == (0, 0)


def test_who_sends_no_more_has_gone_and_is_told_nothing(policy_set: PolicySet, asked: Any) -> None:
    """A connection closed on the sending side alone is closed; the entry is kept, and the place given back."""

    async def story() -> tuple[bytes, int, list[bool]]:
        journal, load = Paper(held=True), Load()
        app = by_way(point(policy_set, Known(asked[1]), journal), load)
        async with waiting(app, journal, posted(asked[0])) as connection:
            connection.send_no_more()
            told = await connection.read_to_end()
            journal.waiting[0].set_result(None)
            await asyncio.sleep(0.01)
            return told, load.now, [each["allowed"] for each in journal.entries]

    assert asyncio.run(story()) == (b"", 0, [True])


def test_who_goes_away_takes_nobodys_place(policy_set: PolicySet, asked: Any) -> None:
    """A caller that goes away gives its place back, and its entry is kept all the same."""

    async def story() -> tuple[int, int]:
        journal, load = Paper(held=True), Load()
        app = by_way(point(policy_set, Known(asked[1]), journal), load)
        async with listening(app) as (address,):
            async with connected(address) as connection:
                await connection.send(posted(asked[0]))
                await entries(journal)
            before = load.now
            await asyncio.sleep(0.05)
            journal.waiting[0].set_result(None)
            await asyncio.sleep(0.01)
            return before, load.now

    assert asyncio.run(story()) == (1, 0)


@pytest.mark.parametrize("lasts", [True, False])
def test_a_stop_waits_for_what_is_in_hand_and_then_refuses_it(policy_set: PolicySet, asked: Any, lasts: bool) -> None:
    """The answer is its connection's last; without one in time nothing was allowed."""

    async def story() -> Reply:
        journal = Paper(held=True)
        app = by_way(point(policy_set, Known(asked[1]), journal))
        async with connected_while(app) as (connection, stop):
            await connection.send(posted(asked[0]))
            await entries(journal)
            stop.set()
            await asyncio.sleep(0.4)
            if lasts:
                journal.waiting[0].set_result(None)
            return await connection.read()

    reply = asyncio.run(story())

    assert reply.closes
    assert reply.status == (200 if lasts else 500)
    assert lasts is (reply.body != AuthZen.refusal.body)


def test_a_stop_waits_for_the_rest_of_a_question(policy_set: PolicySet, asked: Any) -> None:
    """What has begun to arrive is read and answered, as the last on its connection."""

    async def story() -> Reply:
        request = posted(asked[0])
        async with connected_while(by_way(point(policy_set, Known(asked[1]), Paper()))) as (connection, stop):
            await connection.send(request[:-9])
            await asyncio.sleep(0.05)
            stop.set()
            await asyncio.sleep(0.6)
            return await connection.ask(request[-9:])

    reply = asyncio.run(story())

    assert (reply.status, reply.closes, reply.json()["decision"]) == (200, True, True)


class ByWayOfProxy(ForwardAuth):
    """The forward-auth listener, which counts what comes by ASGI."""

    calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Count."""
        self.calls += 1
        await super().__call__(scope, receive, send)


def through_nginx(target: str = RECORD, body: bytes = b"", **headers: str) -> bytes:
    """Return what nginx asks."""
    said = {
        "x_original_method": "GET",
        "x_original_uri": target,
        "x_original_host": "h",
        "authorization": token().decode(),
    }
    return http("GET", "/authz/nginx", body, **said | headers)


def test_a_proxy_is_answered_at_once_as_by_asgi(policy_set: PolicySet, routes: RouteTable, asked: Any) -> None:
    """Status and headers; a body, a write, an unknown token, an odd path go by ASGI, and pass no sooner."""
    journal, load = Paper(), Load()
    app = ByWayOfProxy(point(policy_set, Known(asked[1]), journal), VERIFIER, routes, policy_set, load=load)
    requests = (
        through_nginx(), through_nginx(body=b"{}"),
        through_nginx(x_original_method="PUT"), through_nginx(authorization="Bearer x"), through_nginx("/no/route"),
    )  # fmt: skip

    plain, by_asgi, *others = asyncio.run(told(app, *requests))

    assert {**plain.headers, "x-ruqsat-decision": ""} == {**by_asgi.headers, "x-ruqsat-decision": ""}
    assert (plain.status, plain.headers["x-ruqsat-decision"]) == (by_asgi.status, journal.entries[0]["id"])
    assert [other.status for other in others] == [403, 401, 403]
    assert (app.calls, load.now, len(journal.entries)) == (4, 0, 5)


@pytest.mark.parametrize("by_asgi", [False, True])
@pytest.mark.parametrize(("later", "status"), [(0, 200), (60, 403)])
def test_a_proxy_is_let_through_only_while_the_token_is_good(
    policy_set: PolicySet, routes: RouteTable, asked: Any, monkeypatch: pytest.MonkeyPatch, by_asgi: bool, later: int,
    status: int,
) -> None:  # fmt: skip
    """Tested again when the answer leaves, by either way: the disk may have taken longer than the token lasted."""

    async def story() -> tuple[Reply, int, int]:
        journal, load, now = Paper(held=True), Load(), time.time()
        app = ByWayOfProxy(point(policy_set, Known(asked[1]), journal), VERIFIER, routes, policy_set, load=load)
        bearer = token(sub="dr_aida", exp=int(now) + 30).decode()
        request = through_nginx("/patients/p-dana/labs/o1", b"{}" if by_asgi else b"", authorization=bearer)
        async with waiting(app, journal, request) as connection:
            monkeypatch.setattr(time, "time", lambda: now + later)
            journal.held = False
            journal.waiting[0].set_result(None)
            return await connection.read(), app.calls, len(journal.entries)

    reply, calls, entries_kept = asyncio.run(story())

    assert (reply.status, calls, entries_kept) == (status, int(by_asgi), 5 if later else 1)


def test_no_answer_to_a_proxy_ends_its_header_early() -> None:
    """A subject that would bring a header of its own is no answer; any other stands there as it is."""
    assert b"x-ruqsat-subject: \xc3\xa9 b\r\n" in written(Verdict(200, "d", "permitted", "é b")).head
    for subject in ("a\r\nx-forged: 1", "a\n", "a\x00"):
        with pytest.raises(ValueError, match="end early"):
            written(Verdict(200, "d", "permitted", subject))


def test_who_is_turned_away_is_told_the_same_either_way(policy_set: PolicySet, routes: RouteTable, asked: Any) -> None:
    """At once, without a decision or an entry; while there is room in the line, it waits by ASGI instead."""
    for waiting, at_once in ((0, True), (1, False)):
        journal, load = Paper(), Load(0, waiting)
        decides = point(policy_set, Known(asked[1]), journal)
        json_app, auth_app = by_way(decides, load), ByWayOfProxy(decides, VERIFIER, routes, policy_set, load=load)

        plain, other = asyncio.run(told(json_app, posted(asked[0]), posted(asked[0], x_request_id="r1")))
        to_proxy, other_proxy = asyncio.run(told(auth_app, through_nginx(), through_nginx(body=b"{}")))

        del other.headers["x-request-id"]
        assert plain == other and (plain.status, plain.headers["retry-after"]) == (503, "1")
        assert to_proxy == other_proxy and (to_proxy.status, to_proxy.headers["x-ruqsat-reason"]) == (403, "overloaded")
        assert (json_app.calls, auth_app.calls) == ((1, 1) if at_once else (2, 2))
        assert (journal.entries, load.now, load.shed) == ([], 0, 4)


class Slow(Paper):
    """A journal whose entries last a moment later."""

    def append(self, *entry: Any, **more: Any) -> asyncio.Future[None]:
        """Take an entry."""
        self.held = True
        future = super().append(*entry, **more)
        asyncio.get_running_loop().call_later(0.01, future.set_result, None)
        return future


@pytest.mark.parametrize(
    ("way", "stray"),
    [("at once", b""), ("at once, thrice", b""), ("at once", b"\r\n"), ("by ASGI", b""), ("both", b"")],
)
def test_an_idle_connection_is_closed_after_its_last_answer_and_not_sooner(
    policy_set: PolicySet, asked: Any, monkeypatch: pytest.MonkeyPatch, way: str, stray: bytes
) -> None:
    """Whichever way it was answered; stray bytes keep nobody."""
    monkeypatch.setattr(listeners, "KEEP_ALIVE_SECONDS", 0.5)
    plain, other = posted(asked[0]), posted(asked[0], x_request_id="r1")
    first, *others = {
        "at once": [plain] * 2,
        "at once, thrice": [plain] * 3,
        "by ASGI": [other] * 2,
        "both": [plain, other, plain],
    }[way]

    async def story() -> tuple[set[int], bytes]:
        app = by_way(point(policy_set, Known(asked[1]), Slow()))
        async with listening(app) as (address,), connected(address) as connection:
            replies = [await connection.ask(first)]
            for request in others:
                await asyncio.sleep(0.3)
                replies.append(await connection.ask(request))
            await connection.send(stray)
            return {reply.status for reply in replies}, await asyncio.wait_for(connection.read_to_end(), 5)

    assert asyncio.run(story()) == ({200}, b"")


class Sent:
    """A connection that keeps what is sent."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    def answer(self, exchange: Exchange, told: Told) -> None:
        """Keep it."""
        self.told.append(told)


def test_an_exchange_has_one_answer() -> None:
    """The first; whatever comes after it is dropped."""
    for first in (Told(b"a"), None):
        sent = Sent()
        exchange = Exchange(sent, Told(b"no"))
        if first is not None:
            exchange.answer(first)
        exchange.refuse()
        exchange.answer(Told(b"b"))

        assert sent.told == [first or Told(b"no")]


class OfEach:
    """Connections of which each is told once."""

    def __init__(self) -> None:
        self.told: dict[int, Told] = {}

    def answer(self, exchange: Exchange, told: Told) -> None:
        """Note it."""
        assert id(exchange) not in self.told
        self.told[id(exchange)] = told


_REFUSED = Told(b"refused")


async def _together(decision_point: DecisionPoint, load: Load, questions: Sequence[EvaluationRequest]) -> list[bytes]:
    """Ask all in one turn of the loop; return what each was told."""
    at_once, connections = AtOnce(decision_point, load), OfEach()
    exchanges = [Exchange(connections, _REFUSED) for _ in questions]
    for question, exchange in zip(questions, exchanges, strict=True):
        write = partial(_said, question.subject.id)
        asked = Asked(question, ORIGIN, decision_point.policy_set, write)
        assert at_once.decide(asked, exchange)
    assert (connections.told, load.now) == ({}, len(questions))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [connections.told[id(each)].head for each in exchanges]


def _said(subject: str, answer: Answer) -> Told:
    if subject == "unsaid":
        raise OSError("x")
    return Told(f"{subject}: {answer.decision.allowed}".encode())


@pytest.mark.parametrize("failing", ["", "decided", "decided at all", "said"])
@pytest.mark.parametrize("count", [1, TOGETHER, 2 * TOGETHER + 1])
def test_what_comes_in_one_turn_is_answered_each_for_itself(
    policy_set: PolicySet, asked: Any, count: int, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own answer and no other's; what fails with one refuses that one, and every place is given back."""
    names = ["dr_aida", "nobody", "un" + failing.partition(" ")[0]] if failing else ["dr_aida", "nobody"]
    questions = [
        msgspec.structs.replace(asked[0], subject=msgspec.structs.replace(asked[0].subject, id=names[n % len(names)]))
        for n in range(count)
    ]
    known, load = OfThese(asked[1]), Load()
    decides = DecisionPoint(
        policy_set,
        known,
        Freshness(bytes(32)),
        Paper(),
        FixedClock(1_795_496_400_000_000),
        Metrics(),
        decide=_undecided,
    )
    if failing == "decided at all":
        monkeypatch.setattr(decides, "begin_all", lambda questions: [])

    found = asyncio.run(_together(decides, load, questions))

    right = {"dr_aida": b"dr_aida: True", "nobody": b"nobody: False"}
    fails = failing == "decided at all"
    assert found == [b"refused" if fails else right.get(each.subject.id, b"refused") for each in questions]
    assert load.now == 0


class OfThese(Known):
    """Facts of one who may, and of others who are nobody."""

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Return them."""
        found = self.facts.subject if subject == "dr_aida" else None
        return msgspec.structs.replace(self.facts, subject=found)
