"""
The HTTP protocol of every listener: uvicorn's, with the raw request target, limits and deadlines.

ASGI's ``raw_path`` has lost a fragment and an absolute form by the time an
application sees it; the raw target is put into the scope before any parsing.
Framing that the parser rejects, and heads over the limits, are answered with
400 and the connection is closed.
"""

import asyncio
import socket
import struct
from typing import Any, NamedTuple, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ruqsat.core.instant import SECOND
from ruqsat.service.lately import LASTS, Lately
from ruqsat.web.at_once import AnswersAtOnce, Exchange, Told
from ruqsat.web.enforcement_points import NOBODY, PEER, Peer

TARGET = "ruqsat.target"
"""Key of the scope that holds the request target as it arrived, in bytes."""

KEPT = "ruqsat.kept"
"""Key of the scope, where its head is known byte for byte: a place for what the application has read in that head."""

FLOW = "ruqsat.flow"
"""Key of the scope that holds whether the connection can be written to, and what waits until it can."""

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
KNOWN_BYTES, KNOWN_HEADS = 2048, 1024
"""Heads of up to so many bytes are known when they come again: the last so many that came to a listener."""

MAX_AHEAD = 16
"""How many requests may be sent ahead of their answers on one connection; more would be kept in memory."""

READ_SECONDS = 5.0
"""How long a request may take to arrive, from its first byte to its last."""

WRITE_SECONDS = 5.0
"""How long a peer may leave unread what fills its buffers and ours; then its connection is cut."""


_BLANK_LINE = b"\r\n\r\n"
_LAST = b"connection: close\r\n\r\n"
_UNREADABLE = b"Invalid HTTP request received."


def read_peer(transport: Any) -> Peer:
    """Return what a connection proves: the names of its verified certificate, the user behind a Unix socket."""
    certificate = transport.get_extra_info("peercert")
    if certificate:
        kinds = {"DNS": "dns", "URI": "uri", "IP Address": "ip"}
        named = certificate.get("subjectAltName", ())
        return Peer(tuple(f"{kinds[kind]}:{value}" for kind, value in named if kind in kinds))
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family != socket.AF_UNIX:
        return NOBODY
    with socket.fromfd(connected.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as unix:
        _, uid, _ = struct.unpack("3i", unix.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return Peer(uid=uid)


async def once_writable(scope: Any) -> None:
    """
    Wait until earlier answers on this connection have left, so that the next one can be sent at once.

    To be called before anything is decided.  A permit is tested a last time just before it is sent; on a connection
    whose peer does not read it would pass that test and then lie here for seconds.
    """
    flow = scope.get(FLOW)
    if flow is not None and flow.write_paused:
        await flow.drain()


class HeadTooLargeError(ValueError):
    """The head is over the limits; the parser turns it into 400."""


class TooFarAheadError(ValueError):
    """More requests than the limit wait on this connection; the parser turns it into 400."""


class KnownHead(NamedTuple):
    """
    What was read in the head of a question that was answered at once: how long its body is, target and headers.

    Heads hold tokens, so none is kept for long: from ``until`` on, a time of the loop, it is read anew.  ``kept`` is
    what the application has made of the head, and of nothing else; it goes with it.
    """

    until: float
    body_bytes: int
    target: bytes
    headers: list[tuple[bytes, bytes]]
    kept: dict[str, Any]


class State(ServerState):
    """
    What the connections of one listener share; once ``draining``, each answer is its connection's last.

    Beyond ``max_connections`` a connection is closed as it comes, and counted (``refused``).
    """

    draining = False
    max_connections = 2048
    refused = 0

    def __init__(self) -> None:
        super().__init__()
        self.known = Lately[bytes, KnownHead](KNOWN_HEADS)


class _Corked:
    """
    A transport that sends when the loop turns, in one piece.

    ASGI hands over the head and the body of an answer one after the other; sent
    so, each costs a system call and wakes the peer.  And requests that are ready
    together are decided one after the other before any answer is sent: code that
    runs without a system call in between runs far faster.
    """

    __slots__ = ("_call_later", "_call_soon", "_held", "_inner")

    def __init__(self, inner: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._call_soon, self._call_later = loop.call_soon, loop.call_later
        self._held: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send *data* with whatever else this turn of the loop brings."""
        if not self._held:
            self._call_soon(self._send_held)
        self._held.append(data)

    def close(self) -> None:
        """Send what is held, then close; a peer that does not read the rest is not waited for."""
        self._send_held()
        self._inner.close()
        if self._inner.get_write_buffer_size():
            self._call_later(WRITE_SECONDS, self._inner.abort)

    def is_closing(self) -> bool:
        """Tell whether the connection is being closed."""
        return self._inner.is_closing()

    def _send_held(self) -> None:
        held = self._held
        if held:
            self._held = []
            self._inner.write(b"".join(held))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _Deaf:
    """A parser that ignores what it is fed; it takes the real one's place when nothing more is to be read."""

    def feed_data(self, data: bytes) -> None:
        """Read nothing."""


async def _say_unreadable(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer 400 to what the parser has rejected, after the answers to what came before it."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(_UNREADABLE))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": _UNREADABLE})


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.draining = False
        self._arriving = False
        self._before: Any = None
        self._reading_head = False
        self._reading_trailers = False
        self._is_shared = False
        self._head_bytes = 0
        self._header_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._peer = NOBODY
        app = self.config.app
        self._at_once: AnswersAtOnce | None = app if isinstance(app, AnswersAtOnce) else None
        self._exchange: Exchange | None = None
        self._gathered: bytearray | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._answered_at = 0.0
        self._heads = cast("State", self.server_state).known
        self._asked_bytes: int | None = None
        self._is_declined = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a peer that sends no request at all is closed at the deadline."""
        super().connection_made(_Corked(transport, self.loop))  # type: ignore[arg-type]
        self._peer = read_peer(transport)
        self.draining = getattr(self.server_state, "draining", False)
        if len(self.connections) > getattr(self.server_state, "max_connections", State.max_connections):
            self.server_state.refused = getattr(self.server_state, "refused", 0) + 1  # type: ignore[attr-defined]
            self._read_no_more()  # over TLS a request may have come with the last of the handshake
            transport.close()
            return
        self._deadline = self.loop.call_later(READ_SECONDS, self._close_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._cancel_deadline()
        self._cancel_unread()
        if self._resting is not None:
            self._resting.cancel()
        super().connection_lost(exc)
        if not self.connections:
            self._heads.forget()

    def pause_writing(self) -> None:
        """Write no more: the peer does not read.  It has a deadline, too: closing would wait for it to read on."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Write on."""
        super().resume_writing()
        self._cancel_unread()

    def data_received(self, data: bytes) -> None:
        """Take bytes: answer at once what is known byte for byte, else feed the parser, within limits and deadlines."""
        if self.transport.is_closing():
            return
        known = self._recall(data)
        if known is not None:
            if self._is_answered_once_more(known, data):
                return
            self._is_declined = True
        was_between, self._asked_bytes = not self._arriving, None
        in_trailers, self._is_shared = self._reading_trailers, False
        super().data_received(data)
        self._is_declined = False
        if self.transport.is_closing():
            return
        if was_between and self._asked_bytes is not None:
            self._learn(data, self._asked_bytes)
        if self._reading_head or (in_trailers and self._reading_trailers):
            # What holds the end of a request, too, is not counted: its length is not that of a head.
            self._head_bytes += 0 if self._is_shared else len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("Request head too large.")
                return
        if self._gathered is not None:
            self._wait_for_body()
        if self._arriving:
            if self._deadline is None:
                self._deadline = self.loop.call_later(READ_SECONDS, self._close_late)
        elif self._is_idle() and self.timeout_keep_alive_task is None and self._resting is None:
            # Bytes between requests, or a body that came after its answer, have stopped the idle timer.
            until = self._answered_at + self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_at(until, self.timeout_keep_alive_handler)

    def _recall(self, data: bytes) -> KnownHead | None:
        """
        Return what is in the head of a question, if it is known byte for byte, and the question whole and alone.

        A parser that stands between two requests reads the same bytes the same way, on whichever connection: it need
        not read them again.  Who asks is the connection's to say.
        """
        if self._arriving or not self._is_ready():
            return None
        end = data.find(_BLANK_LINE, 0, KNOWN_BYTES) + len(_BLANK_LINE)
        known = self._heads[data[:end]]
        is_whole = known is not None and known.body_bytes == len(data) - end and self.loop.time() < known.until
        return known if is_whole else None

    def _is_answered_once_more(self, known: KnownHead, data: bytes) -> bool:
        self._unset_keepalive_if_required()
        self._cancel_deadline()
        self.scope = cast("Any", {"headers": known.headers, TARGET: known.target, PEER: self._peer, KEPT: known.kept})
        return self._is_answered_at_once(data[len(data) - known.body_bytes :])

    def _learn(self, data: bytes, body_bytes: int) -> None:
        """Keep the head of a question that came whole and alone: all that follows it is its body, as it was read."""
        size = len(data) - body_bytes
        if size <= KNOWN_BYTES and data.find(_BLANK_LINE) + len(_BLANK_LINE) == size:
            now = self.loop.time()
            known = KnownHead(now + LASTS / SECOND, body_bytes, self.url, self.headers, {})
            self._heads.keep(data[:size], known, int(now * SECOND))

    def on_message_begin(self) -> None:
        """Begin a request; from here it has its own deadline."""
        if len(self.pipeline) >= MAX_AHEAD:
            raise TooFarAheadError
        super().on_message_begin()
        self._cancel_deadline()
        self._before = self.cycle
        self._arriving = self._reading_head = True
        self._head_bytes = self._header_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._reading_trailers = False
        gathered = self._gathered
        if gathered is not None and self._at_once is not None:
            if len(gathered) + len(body) <= self._at_once.most_bytes:
                gathered += body
                return
            self._call_application()
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Begin a chunk, or with the last one, which holds nothing, what stands behind the body."""
        self._reading_trailers = True

    def on_message_complete(self) -> None:
        """Take note that the request has arrived, whether or not it is answered already."""
        self._is_shared, self._reading_trailers = True, False
        if self._gathered is None or not self._is_answered_at_once(bytes(self._gathered)):
            self._call_application()
            super().on_message_complete()
        if not self.parser.should_keep_alive():
            self._end_with_answer()  # as its head says, or what stands behind its body: the parser reads no more
        self._gathered = None
        self._cancel_deadline()
        self._arriving = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, within the limits; what stands behind a body is none (RFC 9110, section 6.5.1)."""
        self._header_bytes += len(name) + len(value)
        if len(self.headers) >= MAX_HEADERS or self._header_bytes > MAX_HEAD_BYTES:
            raise HeadTooLargeError
        if self._reading_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Put the raw target into the scope, then let uvicorn start the application."""
        self._reading_head = False
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        self.scope[PEER] = self._peer  # type: ignore[literal-required]
        self.scope[FLOW] = self.flow  # type: ignore[literal-required]
        if self._may_be_answered_at_once():
            self._gathered = bytearray()
        else:
            self._start()

    def _start(self) -> None:
        super().on_headers_complete()
        if self.draining or self.parser.should_upgrade():
            # The parser takes the body of a request for another protocol for the next request: there is none.
            self.cycle.keep_alive = False

    def _end_with_answer(self) -> None:
        if self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _wait_for_body(self) -> None:
        """Start the application now where only a question without a body is answered at once, since one is to come."""
        if self._at_once is None or self._at_once.most_bytes:
            return
        try:
            self._call_application()
        except Exception:  # noqa: BLE001 - a target that is none; within the parser this would be its 400
            self.send_400_response(_UNREADABLE.decode())

    def _read_no_more(self) -> None:
        self.parser = _Deaf()  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, after the answers to what came before it, and close the connection."""
        cycle, is_begun = self.cycle, self._arriving and self.cycle is not self._before
        is_queued = is_begun and bool(self.pipeline) and self.pipeline[0][0] is cycle
        if cycle is None or cycle.response_complete or (is_begun and not is_queued):
            if is_begun and self._is_idle():
                self.transport.close()  # its answer did not wait for the body, and there is only one
            else:
                super().send_400_response(msg)
            return
        if is_queued:
            self.pipeline[0] = (cycle, _say_unreadable)
        cycle.keep_alive = False
        self._arriving = self._reading_head = False
        self._cancel_deadline()
        self._read_no_more()

    def _may_be_answered_at_once(self) -> bool:
        """Tell whether this may be a plain question, on a connection where nothing else is under way."""
        app, parser = self._at_once, self.parser
        return (
            app is not None
            and app.is_plain(self.url)
            and self._is_ready()
            and not (self.expect_100_continue or self._is_declined)
            and parser.get_method() == app.method
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
        )

    def _is_ready(self) -> bool:
        """Tell whether nothing else is under way on this connection, nor does it end."""
        is_free = self.cycle is None or self.cycle.response_complete
        return is_free and not (self.draining or self.pipeline or self.flow.write_paused)

    def _is_answered_at_once(self, body: bytes) -> bool:
        app, before = self._at_once, self.cycle
        if app is None:
            return False
        exchange = self._exchange = Exchange(self, app.refusal)
        self.cycle = exchange  # type: ignore[assignment]
        self.scope["method"] = app.method.decode()
        if app.answer_at_once(cast("dict[str, Any]", self.scope), body, exchange):
            self._asked_bytes = len(body)
            return True
        self.cycle, self._exchange = before, None
        return False

    def _call_application(self) -> None:
        """Let the application answer by ASGI what it has not answered at once."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            self._start()
            super().on_body(bytes(gathered))

    def answer(self, exchange: Exchange, told: Told) -> None:
        """Send the answer of an exchange, as a whole; never raises."""
        try:
            ends = self.draining or not exchange.keep_alive or self.transport.is_closing()
            if not self.transport.is_closing():
                self.transport.write(told.head + (_LAST if ends else b"\r\n") + told.body)
                if ends:
                    self.transport.close()
            if ends or self.pipeline:
                self.on_response_complete()
            else:
                self._rest()
        except Exception:  # whether it was sent is not known, so nothing may follow it
            self.logger.exception("answer_not_sent")
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Note when it was answered, and go on with what was sent ahead."""
        self._answered_at = self.loop.time()
        super().on_response_complete()

    def _rest(self) -> None:
        """Begin to be idle; one timer does for many answers, where uvicorn would make a new one for each."""
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self._resting is None:
            self._resting = self.loop.call_later(self.timeout_keep_alive, self._end_rest)

    def _end_rest(self) -> None:
        """Close the connection if it was idle all the time; one that is busy begins to be idle after its answer."""
        self._resting = None
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if not self._is_idle() or self._arriving or self.timeout_keep_alive_task is not None:
            return
        if left > 0:
            self._resting = self.loop.call_later(left, self._end_rest)
        else:
            self.timeout_keep_alive_handler()

    def cut_short(self) -> None:
        """Refuse the question in hand, for the process stops and waits no longer."""
        if self._exchange is not None:
            self._exchange.refuse()

    def drain(self) -> None:
        """Answer what is in flight and what arrives in a moment, each with `Connection: close`."""
        self.draining = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close an idle connection; a request that has begun to arrive is read, within its deadline, and answered."""
        if not self._reading_head and self._gathered is None:
            super().shutdown()

    def _is_idle(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _close_late(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()

    def _cancel_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
