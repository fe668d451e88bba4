"""What stands on a connection: which bytes are a request, which of it are headers, and in which turn it is answered."""

import asyncio
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from ruqsat.core.admission import load_routes
from ruqsat.core.policy_set import PolicySet
from ruqsat.web.authzen import EVALUATION, AuthZen
from ruqsat.web.enforcement_points import Door
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.listeners import Listener, _config, parse_listen
from ruqsat.web.load import Load
from ruqsat.web.protocol import Protocol, State
from tests.process.load import http
from tests.service.test_decision_point import Known, asked, point
from tests.web.test_at_once import posted, through_nginx
from tests.web.test_both_ways import Elsewhere, Lasting, Wire, by_asgi, turn
from tests.web.test_forward_auth import VERIFIER

__all__ = ["asked"]

BY_BOTH = pytest.mark.parametrize("way", [lambda app: app, by_asgi], ids=["at once", "by ASGI"])
UPGRADE = b"connection: upgrade\r\nupgrade: h2c\r\nhost:"
INSIDE = http("GET", "/inside")


class Echo:
    """Reads the body, if it is to, and keeps what it was given."""

    def __init__(self, reads: bool = True) -> None:
        self.reads, self.seen = reads, list[tuple[str, list[bytes], bytes]]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 200 with nothing."""
        body, more = b"", self.reads
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.seen.append((scope["path"], [name for name, _ in scope["headers"]], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def chunked(request: bytes, behind: bytes = b"") -> bytes:
    """Return a request with its body as one chunk, and what stands behind it."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"content-length")]
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return b"\r\n".join([*lines, b"transfer-encoding: chunked", b"", chunk + b"0", behind])


def opened(app: Any, journal: Lasting | None = None, **state: int) -> Wire:
    """Open a connection to *app*."""
    listen = parse_listen("127.0.0.1:0")
    assert listen is not None
    wire, shared = Wire(journal or Lasting("at once")), State()
    for name, value in state.items():
        setattr(shared, name, value)
    wire.protocol = Protocol(_config(Listener("test", listen, app), 1), shared, {})
    wire.protocol.connection_made(wire)
    return wire


async def arrives(wire: Wire, *parts: bytes) -> bytes:
    """Let parts arrive, each in a moment of its own, as long as they are read; return what was sent."""
    for part in parts:
        if not wire.closing:
            wire.protocol.data_received(part)
        await turn()
    return bytes(wire.sent)


def play(story: Callable[..., Coroutine[Any, Any, Any]], *given: Any) -> Any:
    """Run a story."""
    return asyncio.run(story(*given))


@pytest.mark.parametrize("parts", ["two", "one", "three"])
def test_what_follows_a_request_for_another_protocol_is_no_request(parts: str) -> None:
    """Its body would be read as one: the bytes of one caller as another's question, answered in another's turn."""
    head = http("POST", "/outside").replace(b"host:", UPGRADE).replace(b"-length: 0", b"-length: %d" % len(INSIDE))
    cut = {"two": [head, INSIDE], "one": [head + INSIDE], "three": [head[:40], head[40:] + INSIDE[:9], INSIDE[9:]]}

    async def story() -> tuple[list[str], int, bool]:
        app = Echo()
        wire = opened(app)
        sent = await arrives(wire, *cut[parts])
        return [path for path, *_ in app.seen], sent.count(b"HTTP/1.1"), wire.closing and b"connection: close" in sent

    assert play(story) == (["/outside"], 1, True)


def test_what_stands_behind_a_body_is_no_header(policy_set: PolicySet, asked: Any) -> None:
    """Neither for ASGI, nor for what is answered at once: no type, no token, no trace."""
    behind = b"Traceparent: 00-x\r\nX-Request-Id: r\r\nContent-Type: text/plain\r\n\r\n"
    request = chunked(posted(asked[0]), behind)

    async def story(way: Any, known: Any = Known) -> tuple[bool, bool, Any]:
        journal = Lasting("at once")
        wire = opened(way(AuthZen(point(policy_set, known(asked[1]), journal), Door.opened())), journal)
        sent = await arrives(wire, request)
        return b'"decision":true' in sent, wire.closing, journal.entries[0].get("traceparent")

    async def plain() -> list[list[bytes]]:
        app = Echo()
        await arrives(opened(app), *[request[at : at + 40] for at in range(0, len(request), 40)])
        return [names for _, names, _ in app.seen]

    for ways in ((lambda app: app,), (by_asgi,), (lambda app: app, Elsewhere)):
        assert play(story, *ways) == (True, False, None)
    assert play(plain) == [[b"host", b"content-type", b"transfer-encoding"]]


@BY_BOTH
@pytest.mark.parametrize("journal", ["at once", "held"])
def test_a_connection_that_is_said_to_end_behind_a_body_ends_with_the_answer(
    policy_set: PolicySet, asked: Any, way: Any, journal: str
) -> None:
    """The parser reads nothing more of it: a question that came next would never be answered."""
    last = chunked(posted(asked[0]), b"Connection: close\r\n\r\n")

    async def story() -> tuple[int, bool]:
        keeper = Lasting(journal)
        wire = opened(way(AuthZen(point(policy_set, Known(asked[1]), keeper), Door.opened())), keeper)
        await arrives(wire, posted(asked[0]))
        while keeper.keep():
            await turn()
        await arrives(wire, last, posted(asked[0]))
        while keeper.keep():
            await turn()
        return bytes(wire.sent).count(b'"decision":true'), wire.closing

    assert play(story) == (2, True)


def test_what_stands_behind_a_body_is_as_long_as_a_head_at_most() -> None:
    """Nobody fills the memory with it."""

    async def story(count: int) -> tuple[bytes, bytes]:
        wire = opened(Echo())
        early = await arrives(wire, chunked(http("POST", "/", b"x"), b"X: "), *[b"y" * 1000] * count)
        return early[:12], (await arrives(wire, b"\r\n\r\n"))[:12]

    assert play(story, 5) == (b"", b"HTTP/1.1 200")
    assert play(story, 30) == (b"HTTP/1.1 400", b"HTTP/1.1 400")


@BY_BOTH
@pytest.mark.parametrize("behind", ["no request", "a head that is too long", "a body that is none", "too many"])
def test_what_cannot_be_read_is_refused_in_its_turn(policy_set: PolicySet, asked: Any, way: Any, behind: str) -> None:
    """Nobody takes that refusal for the answer to what came before, which is sent first; then comes the end."""
    bad = {
        "no request": b"\x00\x00",
        "a head that is too long": b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000,
        "a body that is none": chunked(posted(asked[0])).replace(b"\r\n0\r\n", b"\r\nzz\r\n"),
        "too many": posted(asked[0]) * 40,
    }[behind]

    async def story() -> tuple[bytes, list[bytes], bool]:
        journal = Lasting("held")
        wire = opened(way(AuthZen(point(policy_set, Known(asked[1]), journal), Door.opened())), journal)
        early = await arrives(wire, posted(asked[0]), bad, b"more")
        while journal.keep():
            await turn()
        return early, bytes(wire.sent).split(b"HTTP/1.1 ")[1:], wire.closing

    early, answers, closed = play(story)

    assert (early, closed) == (b"", True)
    assert answers[0].startswith(b"200") and b'"decision":true' in answers[0]
    assert b"connection: close" in answers[-1]
    statuses = [answer[:3] for answer in answers]
    more = {"a body that is none": [b"400"], "too many": [b"200"] * 16}
    assert statuses == [b"200", *more.get(behind, [])]


def test_what_is_answered_already_is_not_refused_as_well() -> None:
    """A body that turns out to be none when nobody waits for it any more: the connection ends without another word."""

    async def story() -> tuple[int, bool]:
        wire = opened(Echo(reads=False))
        sent = await arrives(wire, chunked(http("POST", "/")).replace(b"\r\n0\r\n", b"\r\n"), b"zz\r\n")
        return sent.count(b"HTTP/1.1"), wire.closing

    assert play(story) == (1, True)


def test_a_head_that_begins_behind_a_long_body_is_not_too_long() -> None:
    """What arrives with it is not counted."""
    first, second = http("POST", "/a", b"x" * 30_000), http("GET", "/b")

    async def story() -> tuple[int, int, bool]:
        app = Echo()
        wire = opened(app)
        sent = await arrives(wire, first + second[:9], second[9:])
        return len(app.seen), sent.count(b"HTTP/1.1 200"), wire.closing

    assert play(story) == (2, 2, False)


@pytest.mark.parametrize("ahead", [False, True], ids=["alone", "more ahead"])
@pytest.mark.parametrize("known", [Known, Elsewhere], ids=["at once", "by ASGI after all"])
def test_what_is_in_hand_at_the_end_of_a_stop_is_refused_once(
    policy_set: PolicySet, asked: Any, known: Any, ahead: bool
) -> None:
    """Also where more was sent ahead; and what has gone by ASGI after all is not refused beside it."""

    async def story() -> tuple[bool, list[bytes]]:
        journal = Lasting("held")
        app = AuthZen(point(policy_set, known(asked[1]), journal), Door.opened())
        wire = opened(app, journal)
        await arrives(wire, posted(asked[0]) * (1 + ahead))
        wire.protocol.drain()
        wire.protocol.cut_short()
        await turn()
        is_refused = app.refusal.body in wire.sent
        while journal.keep():
            await turn()
        return is_refused, [answer[:3] for answer in bytes(wire.sent).split(b"HTTP/1.1 ")[1:]]

    is_refused, statuses = play(story)

    assert is_refused is (known is Known)
    assert statuses == ([b"500"] if known is Known else [b"200"] * (1 + ahead))


def test_a_body_that_is_only_announced_is_not_waited_for(
    pack_texts: dict[str, bytes], policy_set: PolicySet, asked: Any
) -> None:
    """Some proxies tell its length and send none: they are answered all the same, and what is no target is no permit."""
    routes, _ = load_routes(pack_texts, policy_set)
    assert routes is not None

    async def story(request: bytes) -> bytes:
        journal = Lasting("at once")
        app = ForwardAuth(point(policy_set, Known(asked[1]), journal), VERIFIER, routes, policy_set)
        return (await arrives(opened(app, journal), request))[:12]

    announced = through_nginx().replace(b"content-length: 0", b"content-length: 9")
    assert play(story, announced) == play(story, through_nginx()) != b""
    for request in (announced, through_nginx()):
        assert play(story, request.replace(b"/authz/nginx ", b"/authz/nginx\xc3\xa9 ")) == b"HTTP/1.1 400"


def test_a_target_that_is_none_is_refused_on_any_connection() -> None:
    """As the first request, and after an answer."""

    async def story(before: int) -> list[bytes]:
        wire = opened(Echo())
        await arrives(wire, *[http("GET", "/")] * before, http("CONNECT", "?a=%00"))
        return [answer[:3] for answer in bytes(wire.sent).split(b"HTTP/1.1 ")[1:]]

    assert play(story, 0) == [b"400"]
    assert play(story, 1) == [b"200", b"400"]


class Breaks(AuthZen):
    """Fails once a question was handed over."""

    def answer_at_once(self, *given: Any) -> bool:
        """Hand it over, and fail."""
        super().answer_at_once(*given)
        raise MemoryError


def test_a_failure_after_a_question_was_handed_over_is_no_permit(policy_set: PolicySet, asked: Any) -> None:
    """Its connection ends with a refusal, though its entry will last; and it has given its place back."""

    async def story() -> tuple[bytes, bytes, int]:
        journal, load = Lasting("held"), Load(1)
        wire = opened(Breaks(point(policy_set, Known(asked[1]), journal), Door.opened(), load=load), journal)
        early = await arrives(wire, posted(asked[0]))
        assert journal.keep()
        await turn()
        return early[:12], bytes(wire.sent)[len(early) :], load.now

    assert play(story) == (b"HTTP/1.1 400", b"", 0)


class Moves:
    """A loop's clock that the test moves; its timers are called as it passes them."""

    def __init__(self, wire: Wire) -> None:
        self.now = 0.0
        self._wire, self._timers = wire, list[tuple[float, Callable[[], None], list[bool]]]()
        wire.protocol.loop = self  # type: ignore[assignment]

    def time(self) -> float:
        """Tell the time."""
        return self.now

    def call_at(self, when: float, then: Callable[[], None]) -> Any:
        """Set a timer."""
        cancelled: list[bool] = []
        self._timers.append((when, then, cancelled))
        return SimpleNamespace(cancel=lambda: cancelled.append(True))

    def call_later(self, delay: float, then: Callable[[], None]) -> Any:
        """Set a timer."""
        return self.call_at(self.now + delay, then)

    def create_task(self, work: Any) -> Any:
        """Begin a task of the real loop."""
        return asyncio.get_running_loop().create_task(work)

    async def on(self, seconds: float) -> bool:
        """Let time pass; tell whether the connection is still open."""
        until = self.now + seconds
        while due := sorted(each for each in self._timers if each[0] <= until and not each[2]):
            self._timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = until
        await turn()
        return not self._wire.closing


@pytest.mark.parametrize("stray", [b"", b"\r\n"], ids=["silent", "stray bytes"])
@pytest.mark.parametrize("ways", ["a", "b", "ab", "ba", "aab", "aba", "bab"])
def test_a_connection_is_idle_for_so_long_after_its_last_answer(
    policy_set: PolicySet, asked: Any, ways: str, stray: bytes
) -> None:
    """At once (a) or by ASGI (b), and whatever comes that is no request: not longer, and not shorter."""
    requests = {"a": posted(asked[0]), "b": posted(asked[0], x_request_id="r")}

    async def story() -> tuple[list[bool], bool, bool]:
        journal = Lasting("at once")
        wire = opened(AuthZen(point(policy_set, Known(asked[1]), journal), Door.opened()), journal)
        clock, opens = Moves(wire), []
        wire.protocol.timeout_keep_alive = 10  # type: ignore[assignment]
        for way in ways:
            await arrives(wire, requests[way])
            opens.append(await clock.on(7))
        if stray:
            await arrives(wire, stray)
            await clock.on(1)
            await arrives(wire, stray)
        early = await clock.on(2.5 - bool(stray))
        return opens, early, await clock.on(1)

    assert play(story) == ([True] * len(ways), True, False)


def test_a_connection_beyond_the_limit_is_not_heard() -> None:
    """Over TLS a request may come with the last of the handshake: nobody decides it."""

    async def story() -> tuple[int, bytes]:
        app = Echo()
        wire = opened(app, max_connections=0)
        wire.protocol.data_received(http("POST", EVALUATION))
        await turn()
        return len(app.seen), bytes(wire.sent)

    assert play(story) == (0, b"")
