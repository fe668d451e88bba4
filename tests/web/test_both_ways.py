"""
The same bytes by both ways: at once where they are plain, and always by ASGI.

A connection is played without a socket: bytes arrive cut anywhere, entries come to last one by one, in any order of
events; the caller may go away, and the process may stop, between any two of them.  Whatever is sent, what comes back
must be the same, and so must the journal; no permit leaves before its entry lasts, nor for another request.
`RUQSAT_TEST_LONGER` multiplies the number of connections, `RUQSAT_TEST_SEED` repeats a run.
"""

import asyncio
import logging
import os
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
import pytest

from ruqsat.core.facts import Facts
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable
from ruqsat.errors import JournalError
from ruqsat.web.at_once import AtOnce, Exchange
from ruqsat.web.authzen import AuthZen
from ruqsat.web.enforcement_points import Door, EnforcementPoint
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.listeners import Listener, _config, parse_listen
from ruqsat.web.load import Load
from ruqsat.web.protocol import KnownHead, Protocol, State
from tests.service.test_decision_point import Known, Paper, asked, point
from tests.web.test_forward_auth import RECORD, VERIFIER, routes, token

__all__ = ["asked", "routes"]

CONNECTIONS = 500 * int(os.environ.get("RUQSAT_TEST_LONGER", "1"))
SEED = int(os.environ.get("RUQSAT_TEST_SEED", str(random.randrange(2**31))))
TURNS = 12
"""So many turns of the loop, and whatever can go on without a further event has gone on."""

_NEW = re.compile(rb'[0-9a-f]{12}-[0-9a-f]+|"token":"[^"]*"|content-length: [1-9]\d*')
_UNREADABLE = re.compile(
    rb"HTTP/1.1 400 Bad Request\r\ncontent-type: [^\r]+\r\ncontent-length: \d+\r\nconnection: close\r\n\r\n"
    rb"(Invalid HTTP request received|Request head too large)\.$"
)
_ANSWER = re.compile(rb"HTTP/1\.1 [2-5]\d\d ")
_NAMED = re.compile(rb'"context":\{"id":"([^"]+)"|x-ruqsat-decision: ([^\r]+)')
_NUMBER = re.compile(r"00-0{16}([0-9a-f]{16})-\1-01|o-([0-9a-f]{8})\2")
"""Said twice: of a request with a changed bit nobody knows which it was."""

_ALLOWED = re.compile(
    rb'"decision":true,"context":\{"id":"([^"]+)"|200 OK\r\ncontent-length: 0\r\nx-ruqsat-decision: ([^\r]+)'
)


class Request:
    """The parts of a request, to be changed."""

    def __init__(self, method: str, target: bytes, headers: list[bytes], body: bytes = b"") -> None:
        self.method, self.target, self.version, self.headers = method, target, "HTTP/1.1", headers
        self.body, self.framing, self.trailers, self.end = body, "length", list[bytes](), b"\r\n"

    def written(self) -> bytes:
        """Return its bytes."""
        lines, body = (
            [b"%b %b %b" % (self.method.encode(), self.target, self.version.encode()), *self.headers],
            self.body,
        )
        if self.framing == "length" and (body or self.method != "GET"):
            lines.append(b"Content-Length: %d" % len(body))
        elif self.framing == "chunked":
            middle = len(body) // 2
            parts = [part for part in (body[:middle], body[middle:]) if part]
            body = b"".join([b"%x\r\n%b\r\n" % (len(part), part) for part in parts])
            body += b"\r\n".join([b"0", *self.trailers, b"", b""])
            lines.append(b"Transfer-Encoding: chunked")
        return self.end.join([*lines, b"", b""]) + body


Change = Callable[[Request, random.Random], None]


def _with(*lines: bytes) -> Change:
    return lambda request, _: request.headers.extend(lines)


def _set(**parts: Any) -> Change:
    def change(request: Request, _: random.Random) -> None:
        for name, value in parts.items():
            setattr(request, name, value)

    return change


def _twice(request: Request, chance: random.Random) -> None:
    request.headers.append(chance.choice(request.headers))


def _without(request: Request, chance: random.Random) -> None:
    request.headers.remove(chance.choice(request.headers))


def _in_other_case(request: Request, chance: random.Random) -> None:
    request.headers = [
        name.upper() + mark + value if chance.random() < 0.5 else name.lower() + mark + value
        for name, mark, value in (line.partition(b":") for line in request.headers)
    ]


def _mixed(request: Request, chance: random.Random) -> None:
    chance.shuffle(request.headers)


def _spoilt(request: Request, chance: random.Random) -> None:
    whole = bytearray(request.body or b"{}")
    whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    request.body = bytes(whole)


def _longer(request: Request, chance: random.Random) -> None:
    request.body += b" " * chance.choice((1, 60_000, 65_536, 70_000))


def _odd_target(request: Request, chance: random.Random) -> None:
    request.target = chance.choice((
        request.target + b"?", request.target + b"?x=y", request.target + b"#f", request.target + b"?\x80", request.target + b"?a#b##c",
        b"http://h" + request.target, b"//" + request.target, request.target + b"/", request.target + b"%20", request.target.upper(),
        request.target.replace(b"a", b"%61"), b"/nowhere", b"*", request.target + b"\xc3\xa9", b"/access/v1/evaluations",
    ))  # fmt: skip


TRAILERS = (
    b"Content-Type: text/plain", b"X-Request-Id: r", b"Traceparent: 00-t", b"Authorization: Bearer x", b"Expect: 100-continue",
    b"X-Ruqsat-Secret: y", b"X-Original-URI: /patients/p1/labs/o2", b"X-Original-Method: GET", b"X-Request-Id: ", b"Connection: close", b"X: y",
)  # fmt: skip


def _with_trailers(request: Request, chance: random.Random) -> None:
    request.framing = "chunked"
    request.trailers += chance.sample(TRAILERS, chance.randrange(1, 3))


CHANGES: list[Change] = [
    _twice, _without, _in_other_case, _mixed, _spoilt, _longer, _odd_target,
    _with(b"Connection: close"), _with(b"Connection: keep-alive"), _with(b"Connection: Close, x"), _with(b"Connection: x"),
    _with(b"Connection: Upgrade", b"Upgrade: h2c"), _with(b"Upgrade: websocket"), _with(b"Connection: upgrade"),
    _with(b"Expect: 100-continue"), _with(b"Expect: 100-Continue"), _with(b"Expect: x"),
    _with(b"X-Request-Id: r1"), _with(b"X-Request-Id:"), _with(b"Content-Type: application/json"),
    _with(b"Content-Type: text/plain"), _with(b"Content-Length: 0"), _with(b"Content-Length: 3"), _with(b"Content-Length: +3"),
    _with(b"Transfer-Encoding: chunked"), _with(b"Transfer-Encoding: identity"), _with(b"Transfer-Encoding: gzip, chunked"),
    _with(b"X: " + b"x" * 9000), _with(b"X: " + b"x" * 17_000), _with(*[b"X-%d: y" % n for n in range(60)]), _with(b"X:\x00y"), _with(b"X : y"),
    _with(b"X-Original-Method: PUT"), _with(b"X-Ruqsat-Session: s"), _with(b"Proxy-Connection: close"),
    _set(version="HTTP/1.0"), _set(version="HTTP/1.2"), _set(version="HTTP/2.0"), _set(version="http/1.1"),
    _set(method="GET"), _set(method="POST"), _set(method="HEAD"), _set(method="post"), _set(method="CONNECT"), _set(method="BREW"),
    _set(framing="none"), _set(framing="chunked"), _set(framing="chunked"), _set(end=b"\n"), _set(body=b""), _set(body=b"null"),
    _with_trailers, _with_trailers,
]  # fmt: skip
BETWEEN = (b"", b"", b"", b"\r\n", b"\r\n\r\n", b"x", b"\x00", b"0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")


class Step(NamedTuple):
    """Bytes that arrive, or else an entry that comes to last, or else an end, or else nothing for a moment."""

    data: bytes = b""
    keep: bool = False
    end: str = ""


ENDS = ("gone", "reset", "drain", "shutdown", "cut short")


class Play(NamedTuple):
    """What happens on one connection; ``requests`` is how many are sent, ``full`` that every place is taken."""

    steps: list[Step]
    requests: int
    known: Callable[[Facts], Known]
    journal: str
    full: bool

    @property
    def ends(self) -> bool:
        """Whether the caller goes away, or the process stops."""
        return any(step.end for step in self.steps)


class Elsewhere(Known):
    """Facts that are in the store only."""

    def facts_now(self, subject: str | None, patient: str | None) -> Facts | None:
        """Know nothing."""
        return None


KNOWN: tuple[Callable[[Facts], Known], ...] = (
    Known, Known, Known, Elsewhere, lambda facts: Known(facts, unusable=1), lambda facts: Known(facts, unusable=9),
    lambda facts: Known(facts, failure=KeyError("x")),
)  # fmt: skip


class Lasting(Paper):
    """A journal whose entries last when the play says so, and which knows which do."""

    def __init__(self, how: str) -> None:
        super().__init__(JournalError("full") if how == "fails" else None, held=how == "held")
        self.lasts, self.names = set[str](), list[str]()
        self.how = how

    def append(self, *entry: Any, **more: Any) -> asyncio.Future[None]:
        """Take an entry."""
        if self.how == "refuses":
            raise JournalError("full")
        future = super().append(*entry, **more)
        identifier = self.entries[-1].get("id", "")
        if self.how == "at once":
            self.lasts.add(identifier)
        if self.how == "held":
            self.names.append(identifier)
        return future

    def keep(self) -> bool:
        """Let the oldest entry last; tell whether one waited."""
        for each, name in zip(self.waiting, self.names, strict=True):
            if not each.done():
                self.lasts.add(name)
                each.set_result(None)
                return True
        return False


class Wire(asyncio.Transport):
    """A transport whose peer reads everything, and which keeps it."""

    def __init__(self, journal: Lasting) -> None:
        super().__init__()
        self.sent, self.closing, self.paused = bytearray(), False, False
        self.early: list[str] = []
        self._journal = journal
        self.protocol: Protocol

    def write(self, data: Any) -> None:
        """Keep it, and note a permit that comes before its entry."""
        if not self.closing:
            self.sent += data
            for found in _ALLOWED.findall(bytes(data)):
                identifier = (found[0] or found[1]).decode()
                if identifier not in self._journal.lasts:
                    self.early.append(identifier)

    def close(self) -> None:
        """End it."""
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        """Tell it."""
        return self.closing

    def pause_reading(self) -> None:
        """Read no more."""
        self.paused = True

    def resume_reading(self) -> None:
        """Read on."""
        self.paused = False

    def get_write_buffer_size(self) -> int:
        """Nothing is held."""
        return 0


class Came(NamedTuple):
    """
    What came of it.

    Attributes:
        early: Permits that were sent before their entries.
        places: How many are still taken.
        is_timed: What is still open is read, and will be closed if nothing more comes.
    """

    sent: bytes
    closed: bool
    entries: list[Any]
    early: list[str]
    places: int
    is_timed: bool

    @property
    def is_in_order(self) -> bool:
        """Tell whether each answer that names its entry is that of a later request than the one before."""
        told = {
            each["id"]: each.get("traceparent") or str(each.get("resource")) for each in self.entries if "id" in each
        }
        named = [(found[0] or found[1]).decode() for found in _NAMED.findall(self.sent)]
        numbers = [int(found[1] or found[2], 16) for each in named if (found := _NUMBER.fullmatch(told.get(each, "")))]
        return numbers == sorted(set(numbers))


async def turn() -> None:
    """Let everything go on as far as it can."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def played(play: Play, app: Any, journal: Lasting, load: Load, state: State) -> Came:
    """Play it on a connection of a listener, and let it come to its end."""
    listen = parse_listen("127.0.0.1:0")
    assert listen is not None
    wire = Wire(journal)
    wire.protocol = protocol = Protocol(_config(Listener("test", listen, app), 1), state, {})
    protocol.connection_made(wire)
    waits: list[bytes] = []

    async def arrive() -> None:
        while waits and not wire.paused and not wire.closing:
            protocol.data_received(waits.pop(0))
            if wire.paused:
                await turn()

    for step in play.steps:
        if step.data:
            waits.append(step.data)
            await arrive()
            continue
        if step.keep:
            journal.keep()
        elif step.end:
            end(step.end, protocol, wire)
        await turn()
        await arrive()
    await turn()
    while journal.keep() or (waits and not wire.paused and not wire.closing):
        await turn()
        await arrive()
        await turn()
    closed, is_timed = wire.closing, wire.closing or (is_timed_now(protocol) and not wire.paused)
    wire.close()
    await turn()
    return Came(bytes(wire.sent), closed, journal.entries, wire.early, load.now, is_timed)


def is_timed_now(protocol: Protocol) -> bool:
    """Tell whether a timer runs that ends the connection: that of a request that arrives, or that of an idle one."""
    timers = (
        (protocol._deadline,)
        if protocol._arriving or protocol.cycle is None
        else (protocol._resting, protocol.timeout_keep_alive_task)
    )
    return any(timer is not None and not timer.cancelled() for timer in timers)


def end(how: str, protocol: Protocol, wire: Wire) -> None:
    """Let the caller go away, or the process stop."""
    if how in ("gone", "reset") and not wire.closing:
        wire.closing = True
        protocol.connection_lost(None if how == "gone" else ConnectionResetError())
    elif how in ("drain", "shutdown", "cut short") and not wire.closing:
        {"drain": protocol.drain, "shutdown": protocol.shutdown, "cut short": protocol.cut_short}[how]()


def cut(raw: bytes, chance: random.Random) -> list[bytes]:
    """Cut it anywhere."""
    count = chance.choice((0, 0, 1, 1, 2, 5))
    places = sorted(chance.randrange(len(raw) + 1) for _ in range(count))
    if len(raw) < 600 and chance.random() < 0.1:
        places = list(range(len(raw)))
    return [part for part in (raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)) if part]


def drawn(chance: random.Random, base: list[Callable[[int], Request]]) -> Play:
    """Draw a play."""
    if chance.random() < 0.4:
        return repeated(chance, base)
    raw, count = b"", 0
    for number in range(chance.choice((1, 1, 2, 3, 20 if chance.random() < 0.1 else 2))):
        request = chance.choice(base)(number)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
            if request.headers:
                chance.choice(CHANGES)(request, chance)
        count += 1
        raw += request.written() + (chance.choice(BETWEEN) if chance.random() < 0.2 else b"")
    steps = []
    for part in cut(raw, chance):
        steps.append(Step(part))
        steps += [Step(keep=chance.random() < 0.5) for _ in range(chance.randrange(3))]
    return _as_drawn(chance, steps, count)


def repeated(chance: random.Random, base: list[Callable[[int], Request]]) -> Play:
    """Draw a play of one caller that asks the same again and again, mostly after its answer."""
    makes, steps, count = chance.choice(base), list[Step](), chance.randrange(2, 8)
    between = chance.choice((b"", b"", b"", *BETWEEN))
    for number in range(count):
        request = makes(number)
        if chance.random() < 0.1:
            chance.choice(CHANGES)(request, chance)
        raw = request.written()
        if chance.random() < 0.1:
            raw += between
        if chance.random() < 0.1 and steps and steps[-1].data:
            steps[-1] = Step(steps[-1].data + raw)  # sent ahead
            continue
        steps += [Step(part) for part in (cut(raw, chance) if chance.random() < 0.2 else [raw])]
        steps += [Step(keep=True)] * chance.choice((0, 1, 2, 2))
    return _as_drawn(chance, steps, count)


def _as_drawn(chance: random.Random, steps: list[Step], count: int) -> Play:
    if chance.random() < 0.25:
        steps.insert(chance.randrange(len(steps) + 1), Step(end=chance.choice(ENDS)))
    journal = chance.choice(("at once", "held", "held", "held", "fails", "refuses"))
    return Play(steps, count, chance.choice(KNOWN), journal, chance.random() < 0.05)


def normal(came: Came) -> Any:
    """
    Leave out what is new in each, and what may differ by the moment at which bytes that are no request come.

    Those end the connection: with an answer of their own, or with the last answer before them, if it is still to come.
    """
    new = ("id", "at", "of")
    entries = [{name: value for name, value in each.items() if name not in new} for each in came.entries]
    sent = _NEW.sub(b"*", came.sent[:1] + _UNREADABLE.sub(b"", came.sent[1:])).replace(b"connection: close\r\n", b"")
    return sent, came.closed, entries


def fault(play: Play, one: Came, other: Came) -> str:
    """Return what is wrong with how it was answered at once, or both ways; nothing, if nothing is."""
    for came in (one, other):
        if came.early:
            return "a permit was sent before its entry"
        if not came.is_timed:
            return "a connection stays open for ever"
        if came.places != play.full:
            return "a place was given back twice, or never"
        if not came.is_in_order:
            return "an answer was that of another request"
        if len(_ANSWER.findall(_UNREADABLE.sub(b"", came.sent))) > play.requests:
            return "a request was answered twice"
    if play.ends:
        return ""
    if any(came.closed and not came.sent for came in (one, other)):
        return "a request was never answered"
    at_once, by_asgi = normal(one), normal(other)
    if _UNREADABLE.search(other.sent) or _UNREADABLE.search(one.sent):
        # By ASGI an answer may have begun before the rest of its request turned out to be none.
        at_once, by_asgi = at_once[:2], by_asgi[:2]
    return "" if at_once == by_asgi else "the two ways differ"


class Side(NamedTuple):
    """A listener: what asks it, the application over a decision point, and what its connections share."""

    base: list[Callable[[int], Request]]
    made: Callable[[Any, Load], Any]
    state: State


SECRET = b"x" * 40
GUARDED = Door((EnforcementPoint(("json",), sha256(SECRET).hexdigest(), name="his"),))


def at_json(question: EvaluationRequest, door: Door, *, traced: bool = True) -> Side:
    """The JSON listener, asked for what is allowed and for what is denied; untraced, by heads that are the same."""

    def request(body: bytes) -> Callable[[int], Request]:
        lines = [b"Host: h", b"Content-Type: application/json", b"X-Ruqsat-Secret: " + SECRET]
        return lambda number: Request(
            "POST", b"/access/v1/evaluation",
            [*lines, b"Traceparent: 00-%032x-%016x-01" % (number, number)] if traced else lines[:],
            body if traced else body.replace(b'"id":"o1"', b'"id":"o-%08x%08x"' % (number, number)),
        )  # fmt: skip

    allowed = msgspec.json.encode(question)
    denied = allowed.replace(b'"TREAT"', b'"HMARKT"')
    assert allowed != denied
    return Side(
        [request(allowed), request(allowed), request(denied)],
        lambda decides, load: AuthZen(decides, door, load=load),
        State(),
    )


def at_auth(policy_set: PolicySet, routes: RouteTable, *, traced: bool = True) -> Side:
    """The forward-auth listener, asked in three dialects; untraced, nobody can tell which answer is whose."""
    bearer = token()

    def request(
        target: bytes, kind: bytes, path: str, token_: bytes = bearer, method: bytes = b"GET"
    ) -> Callable[[int], Request]:  # fmt: skip
        told = [
            b"X-%b-Method: %b" % (kind, method), b"X-%b-Uri: %b" % (kind, path.encode()), b"X-%b-Host: h" % kind,
        ] if kind else []  # fmt: skip
        lines = [b"Host: h", *told, b"Authorization: " + token_]
        return lambda number: Request(
            "GET", target,
            [*lines, b"Traceparent: 00-%032x-%016x-01" % (number, number)] if traced else lines[:],
        )  # fmt: skip

    return Side(
        [
            request(b"/authz/nginx", b"Original", RECORD), request(b"/authz/caddy", b"Forwarded", RECORD),
            request(b"/authz/envoy" + RECORD.encode(), b"", ""), request(b"/authz/nginx", b"Original", "/no/route"),
            request(b"/authz/nginx", b"Original", RECORD, b"Bearer x"),
            request(b"/authz/traefik", b"Forwarded", RECORD, method=b"PUT"),
        ],
        lambda decides, load: ForwardAuth(decides, VERIFIER, routes, policy_set, load=load),
        State(),
    )  # fmt: skip


def by_asgi(app: Any) -> Any:
    """Return *app* as one that cannot answer at once."""

    async def call(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return call


async def both(play: Play, side: Side, policy_set: PolicySet, facts: Facts) -> tuple[Came, Came]:
    """Play it both ways."""
    came = []
    for way in (lambda app: app, by_asgi):
        journal, load = Lasting(play.journal), Load(1)
        if play.full:
            assert load.enter()
        app = way(side.made(point(policy_set, play.known(facts), journal), load))
        came.append(await played(play, app, journal, load, side.state))
    return came[0], came[1]


class Found(NamedTuple):
    """What many plays came to: what is wrong with one of them, and how many permits and other answers there were."""

    fault: str
    play: Play | None
    came: tuple[Came, Came] | None
    permits: int
    answers: int


async def many(count: int, seed: int, sides: list[Side], policy_set: PolicySet, facts: Facts) -> Found:
    """Play many, until one has a fault."""
    chance, permits, answers = random.Random(seed), 0, 0
    for _ in range(count):
        side = chance.choice(sides)
        play = drawn(chance, side.base)
        came = await both(play, side, policy_set, facts)
        if wrong := fault(play, *came):
            return Found(wrong, play, came, permits, answers)
        permits += len(_ALLOWED.findall(came[0].sent))
        answers += len(_ANSWER.findall(came[0].sent))
    return Found("", None, None, permits, answers)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log nothing: what fails here is meant to."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def sides(policy_set: PolicySet, routes: RouteTable, asked: Any) -> list[Side]:
    """Both listeners that answer at once, one of them open and guarded, traced and untraced."""
    doors = (Door.opened(explain=True), GUARDED)
    by_traced = [
        (at_json(asked[0], doors[0], traced=traced), at_json(asked[0], doors[1], traced=traced),
         at_auth(policy_set, routes, traced=traced))
        for traced in (True, False)
    ]  # fmt: skip
    return [side for sides in by_traced for side in sides]


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_what_is_answered_at_once_is_what_asgi_answers(sides: list[Side], policy_set: PolicySet, asked: Any) -> None:
    """Whatever bytes come, however cut, whatever happens meanwhile: the same answers, entries and end."""
    print(f"RUQSAT_TEST_SEED={SEED}")

    found = asyncio.run(many(CONNECTIONS, SEED, sides, policy_set, asked[1]))

    assert found.fault == "", "\n".join(map(str, (*found.play.steps, *found.came))) if found.play and found.came else ""
    assert found.permits > CONNECTIONS // 30 and found.answers > CONNECTIONS // 2


def _decides_early(self: AtOnce, asked: Any, exchange: Exchange) -> bool:
    """Answer before the entry lasts."""
    ready = self._decision_point.ready(asked.question, asked.origin, asked.policy_set)
    if ready is None or not self._load.enter():
        return False
    (begun,) = self._decision_point.begin_all([ready])
    assert not isinstance(begun, BaseException), begun
    asyncio.ensure_future(begun.written).add_done_callback(lambda written: written.cancelled() or written.exception())
    self._answer(asked, begun.answer, exchange)
    return True


def _fails_twice(self: AtOnce, exchange: Exchange) -> None:
    """Give a place back twice."""
    self._load.leave()
    self._load.leave()
    exchange.refuse()


_may = Protocol._may_be_answered_at_once


def _overtakes(self: Protocol) -> bool:
    """Take a question for plain while another is under way."""
    before, self.cycle = self.cycle, None  # type: ignore[assignment]
    waiting, self.pipeline = self.pipeline, deque()
    try:
        return _may(self)
    finally:
        self.cycle, self.pipeline = before, waiting


def _knows_half(self: Protocol, data: bytes) -> KnownHead | None:
    """Know a head in the middle of a request, and while another is under way."""
    end = data.find(b"\r\n\r\n") + 4
    known = self._heads[data[:end]]
    return known if known is not None and known.body_bytes == len(data) - end else None


def _knows_longer(self: Protocol, data: bytes) -> KnownHead | None:
    """Know a head whatever follows it."""
    return self._heads[data[: data.find(b"\r\n\r\n") + 4]] if not self._arriving and self._is_ready() else None


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("where", "what", "planted"),
    [
        (AtOnce, "decide", _decides_early),
        (AtOnce, "_fail", _fails_twice),
        (Protocol, "_may_be_answered_at_once", _overtakes),
        (Protocol, "_wait_for_body", lambda self: None),
        (Protocol, "_rest", lambda self: None),
        (Protocol, "_recall", _knows_half),
        (Protocol, "_recall", _knows_longer),
    ],
)
def test_a_planted_difference_is_found(
    sides: list[Side], policy_set: PolicySet, asked: Any, monkeypatch: pytest.MonkeyPatch, where: Any, what: str,
    planted: Any,
) -> None:  # fmt: skip
    """Each is seen within so many plays."""
    monkeypatch.setattr(where, what, planted)

    found = asyncio.run(many(3000, SEED, sides, policy_set, asked[1]))

    print(SEED, what, found.fault, found.answers)
    assert found.fault
