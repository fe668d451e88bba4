"""A head that comes again at its listener, with a body as long, is not parsed again; whatever differs is."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ruqsat.core.instant import SECOND
from ruqsat.service.lately import LASTS
from ruqsat.web.at_once import Exchange, Told
from ruqsat.web.enforcement_points import PEER, Peer
from ruqsat.web.protocol import KEPT, KNOWN_BYTES, TARGET, Protocol, State
from tests.web.test_both_ways import Lasting, Wire, turn
from tests.web.test_framing import chunked, opened

HEAD = b"POST /q HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n"
LONG = HEAD.replace(b"host: h", b"host: h\r\nx: " + b"y" * KNOWN_BYTES)


class Parrot:
    """Answers every question at once, or holds it until the test lets it go."""

    method, most_bytes, refusal = b"POST", 100, Told(b"HTTP/1.1 500 \r\ncontent-length: 0\r\n")

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, tuple[bytes, ...]]] = []
        self.by: list[tuple[Peer, bytes, str]] = []
        self.kept: list[dict[str, int] | None] = []
        self.holds, self.declines = False, False
        self.held: list[Exchange] = []

    def is_plain(self, target: bytes) -> bool:
        """Everything but this is."""
        return target != b"/asgi"

    def answer_at_once(self, scope: Any, body: bytes, exchange: Exchange) -> bool:
        """Note what was asked."""
        if self.declines:
            return False
        self.asked.append((body, tuple(name for name, _ in scope["headers"])))
        self.by.append((scope[PEER], scope[TARGET], scope["method"]))
        self.kept.append(scope.get(KEPT))
        if self.holds:
            self.held.append(exchange)
        else:
            exchange.answer(Told(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"))
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what was declined."""
        message = await receive()
        self.asked.append((message["body"], (b"by", b"asgi")))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


class Parser:
    """Counts the pieces that are parsed."""

    def __init__(self, wire: Wire) -> None:
        self.pieces, self._inner = 0, wire.protocol.parser
        wire.protocol.parser = self  # type: ignore[assignment]

    def feed_data(self, data: bytes) -> None:
        """Count one."""
        self.pieces += 1
        self._inner.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def play(story: Callable[[Wire, Parrot, Parser], Coroutine[Any, Any, None]]) -> tuple[list[bytes], int, bytes]:
    """Run a story; return the bodies, how many pieces were parsed, and what was sent."""
    app = Parrot()

    async def run() -> tuple[int, bytes]:
        wire = opened(app)
        parser = Parser(wire)
        await story(wire, app, parser)
        await turn()
        return parser.pieces, bytes(wire.sent)

    pieces, sent = asyncio.run(run())
    return [body for body, _ in app.asked], pieces, sent


async def arrive(wire: Wire, *pieces: bytes) -> None:
    """Let pieces arrive one after the other."""
    for piece in pieces:
        wire.protocol.data_received(piece)
        await turn()


@pytest.mark.parametrize("head", [HEAD, b"\r\n" + HEAD], ids=["as it is", "behind a blank"])
def test_a_head_that_comes_again_is_not_parsed_again(head: bytes) -> None:
    """The body is another one; each is answered."""
    bodies, pieces, sent = play(lambda wire, *_: arrive(wire, head + b"abc", head + b"def", head + b"\r\n\r"))

    assert (bodies, pieces) == ([b"abc", b"def", b"\r\n\r"], 1)
    assert sent.count(b"HTTP/1.1 200") == 3


def test_what_is_kept_of_a_head_is_of_that_head_alone() -> None:
    """The application finds it whenever the head comes again, and under no other."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        other = HEAD.replace(b"host: h", b"host: i")
        await arrive(wire, HEAD + b"abc", other + b"abc", HEAD + b"abd", other + b"abd", HEAD + b"abe")
        unknown, too, first, second, again = app.kept
        assert unknown is too is None
        assert first is not None and again is first and second == {} and second is not first

    play(story)


@pytest.mark.parametrize(
    ("first", "then", "bodies"),
    [
        (HEAD + b"abc", [HEAD.replace(b"h:", b"H:") + b"abc"], [b"abc"] * 2),
        (HEAD + b"abc", [HEAD.replace(b"/q", b"/p") + b"abc"], [b"abc"] * 2),
        (HEAD + b"abc", [HEAD.replace(b"3", b"4") + b"abcd"], [b"abc", b"abcd"]),
        (HEAD + b"abc", [HEAD + b"ab", b"c"], [b"abc"] * 2),
        (HEAD + b"abc", [HEAD + b"abc" + HEAD + b"def"], [b"abc", b"abc", b"def"]),
        (HEAD + b"abc" + HEAD + b"def", [HEAD + b"abc"], [b"abc", b"def", b"abc"]),
        (HEAD + b"abc" + HEAD + b"def", [HEAD + b"abc" + HEAD + b"def"], [b"abc", b"def"] * 2),
        (HEAD + b"ab", [b"c" + HEAD + b"def", b"c" + HEAD + b"def"], [b"abc", b"def"]),
        (HEAD + b"abc", [HEAD[:9], HEAD + b"abc"], [b"abc"]),
        (LONG + b"abc", [LONG + b"abc"], [b"abc"] * 2),
        (chunked(HEAD + b"abc", b"\r\n"), [chunked(HEAD + b"abc", b"\r\n")], [b"abc"] * 2),
        (chunked(HEAD + b"abc", b"\r\n"), [chunked(HEAD + b"de\n", b"\r\n")], [b"abc", b"de\n"]),
        (HEAD + b"abc\r\n", [HEAD + b"abc\r\n", HEAD + b"abd\r\n"], [b"abc", b"abc", b"abd"]),
    ],
    ids=["other header", "other target", "longer", "cut", "two at a time", "two before", "two again", "the end of one before", "begun before", "too long",
         "in chunks", "in other chunks", "blank behind"],
)  # fmt: skip
def test_whatever_is_not_that_head_alone_is_parsed(first: bytes, then: list[bytes], bodies: list[bytes]) -> None:
    """Bytes that are not exactly a known head are parsed, and read as what they are."""
    found, pieces, _ = play(lambda wire, *_: arrive(wire, first, *then))

    assert found == bodies
    assert pieces == 1 + len(then)


def test_what_is_sent_ahead_waits_for_its_turn() -> None:
    """The same head, while the one before is in hand."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        app.holds = True
        await arrive(wire, HEAD + b"abc")
        app.held.pop().answer(Told(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"))
        await arrive(wire, HEAD + b"def", HEAD + b"ghi")
        assert [body for body, _ in app.asked] == [b"abc", b"def"]
        app.held.pop().answer(Told(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"))

    bodies, pieces, sent = play(story)

    assert (bodies, pieces) == ([b"abc", b"def", b"ghi"], 2)
    assert sent.count(b"HTTP/1.1 200") == 3


def test_after_what_cannot_be_read_no_head_is_known() -> None:
    """Not at once, nor when the answers before it have been sent: over TLS more may come from a connection that ends."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        app.holds = True
        await arrive(wire, HEAD + b"def", b"\x00", HEAD + b"ghi")
        app.held.pop().answer(Told(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n"))
        wire.protocol.data_received(HEAD + b"jkl")

    bodies, _, sent = play(story)

    assert bodies == [b"abc", b"def"]
    assert sent.count(b"HTTP/1.1 200") == 2


def test_the_last_answer_of_a_stop_says_so() -> None:
    """A head that is known is read by who ends the connection."""

    async def story(wire: Wire, *_: Any) -> None:
        await arrive(wire, HEAD + b"abc")
        wire.protocol.drain()
        await arrive(wire, HEAD + b"def")

    bodies, _, sent = play(story)

    assert bodies == [b"abc", b"def"]
    assert sent.lower().count(b"connection: close") == 1


def test_what_is_declined_goes_by_asgi_and_is_asked_once() -> None:
    """Whoever could not answer a known head at once is not asked the same again."""
    declined: list[bytes] = []

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        app.declines, answer = True, app.answer_at_once
        app.answer_at_once = lambda scope, body, exchange: (  # type: ignore[method-assign]
            declined.append(body) or answer(scope, body, exchange)  # type: ignore[func-returns-value]
        )
        await arrive(wire, HEAD + b"def")
        app.declines = False
        await arrive(wire, HEAD.replace(b"/q", b"/p") + b"ghi")

    bodies, _, sent = play(story)

    assert bodies == [b"abc", b"def", b"ghi"]
    assert declined == [b"def", b"ghi"]
    assert sent.count(b"HTTP/1.1 200") == 3


def test_what_is_not_plain_is_never_known() -> None:
    """Whatever was answered at once before it, with a body as long."""
    other = HEAD.replace(b"/q", b"/asgi")

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc", other + b"abc", other + b"abc")
        assert [names for _, names in app.asked[1:]] == [(b"by", b"asgi")] * 2

    assert play(story)[1] == 3


@pytest.mark.parametrize("asked", [LONG + b"abc", chunked(HEAD + b"abc", b"\r\n"), HEAD + b"abc\r\n"])
def test_nothing_is_kept_of_what_cannot_come_again(asked: bytes) -> None:
    """Neither a long head, nor one with the beginning of a body."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, asked)
        assert app.asked and not wire.protocol.server_state.known  # type: ignore[attr-defined]

    play(story)


def test_a_known_head_is_read_as_it_was() -> None:
    """Whatever other head came in between."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        other = chunked(HEAD.replace(b"host: h", b"host: h\r\nother: 1") + b"abc", b"\r\n")
        await arrive(wire, HEAD + b"abc", other, HEAD + b"def")
        names = [names for _, names in app.asked]
        assert names[0] == names[2] == (b"host", b"content-length")
        assert b"other" in names[1]

    assert play(story)[1] == 2


class Certified(Wire):
    """A connection of somebody with a certificate."""

    def __init__(self, name: str) -> None:
        super().__init__(Lasting("at once"))
        self._name = name

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Tell the certificate."""
        return {"subjectAltName": (("DNS", self._name),)} if name == "peercert" else default


def beside(wire: Wire, name: str, state: State | None = None) -> tuple[Wire, Parser]:
    """Open another connection of the same application; of the same listener, if no *state* is given."""
    other, first = Certified(name), wire.protocol
    other.protocol = Protocol(first.config, first.server_state if state is None else state, {})
    other.protocol.connection_made(other)
    return other, Parser(other)


def test_what_one_connection_has_read_another_need_not_and_each_asks_for_itself() -> None:
    """The first request of a connection, too; who asks, by which method and where, is as it was read."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        (one, by_one), (other, by_other) = beside(wire, "one"), beside(wire, "other")
        await arrive(one, HEAD + b"def")
        await arrive(other, HEAD + b"ghi")
        await arrive(wire, HEAD + b"jkl")
        assert by_one.pieces == by_other.pieces == 0
        assert bytes(one.sent).count(b"HTTP/1.1 200") == bytes(other.sent).count(b"HTTP/1.1 200") == 1
        names = [(), ("dns:one",), ("dns:other",), ()]
        assert app.by == [(Peer(each), b"/q", "POST") for each in names]

    assert play(story)[:2] == ([b"abc", b"def", b"ghi", b"jkl"], 1)


def test_a_connection_that_began_with_a_known_head_is_not_closed_as_one_that_asks_nothing() -> None:
    """Its first request has come; it rests like any other."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        other, _by = beside(wire, "other")
        assert other.protocol._deadline is not None
        await arrive(other, HEAD + b"def")
        assert other.protocol._deadline is None and other.protocol._resting is not None

    play(story)


def test_another_listener_reads_for_itself() -> None:
    """What is plain there, and who may ask, is another matter."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        other, by_other = beside(wire, "other", State())
        await arrive(other, HEAD + b"def")
        assert by_other.pieces == 1

    play(story)


@pytest.mark.parametrize("is_refused", [True, False], ids=["one too many", "closing"])
def test_a_connection_that_ends_asks_nothing_more(is_refused: bool) -> None:
    """Over TLS a question may come from one that is being closed: nobody would hear the answer."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        if is_refused:
            wire.protocol.server_state.max_connections = 1  # type: ignore[attr-defined]
        other, _by = beside(wire, "other")
        other.close()
        other.protocol.data_received(HEAD + b"def")
        assert [body for body, _ in app.asked] == [b"abc"]

    play(story)


def test_heads_go_though_all_that_come_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold tokens: what nobody asks by any more is gone two turns later."""
    gone = HEAD.replace(b"host: h", b"host: h\r\nauthorization: Bearer x")

    async def story(wire: Wire, app: Parrot, parser: Parser) -> None:
        heads, loop = wire.protocol.server_state.known, wire.protocol.loop  # type: ignore[attr-defined]
        await arrive(wire, gone + b"abc", *[HEAD + b"def"] * 3)
        assert heads[gone] is not None and parser.pieces == 2
        began = loop.time()
        for turn_ in (1, 2):
            monkeypatch.setattr(loop, "time", lambda until=began + turn_ * LASTS / SECOND: until)
            wire.protocol.data_received(HEAD + b"ghi")
            wire.protocol.data_received(HEAD + b"jkl")
            assert parser.pieces == 2 + turn_
        monkeypatch.undo()
        assert heads[gone] is None and heads[HEAD] is not None

    play(story)


def test_nothing_is_kept_of_a_listener_that_nobody_is_connected_to() -> None:
    """While one connection is left, it is."""

    async def story(wire: Wire, app: Parrot, _: Parser) -> None:
        await arrive(wire, HEAD + b"abc")
        other, _by = beside(wire, "other")
        heads = wire.protocol.server_state.known  # type: ignore[attr-defined]
        wire.close()
        await turn()
        assert heads[HEAD] is not None
        other.close()
        await turn()
        assert heads[HEAD] is None

    play(story)
