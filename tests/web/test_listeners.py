"""Three listeners in one process: what each of them serves, how it is bound, and what no listener ever does."""

import asyncio
import gc
import random
import socket
import stat
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from pytest import MonkeyPatch

from ruqsat.core.admission import load_routes
from ruqsat.core.policy_set import PolicySet
from ruqsat.errors import SettingsError
from ruqsat.web import protocol
from ruqsat.web.authzen import AuthZen
from ruqsat.web.enforcement_points import Door
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.listeners import GRACE_SECONDS, IN_A_TURN, LAST_SECONDS, Listener, parse_listen, serve
from ruqsat.web.token_keys import OneKey
from tests.process.checker import entries_in
from tests.process.load import ALLOWED, Connection, GoneError, Reply, connected, http
from tests.process.starter import LISTENERS, NotStartedError, Sidecar, question, serving

CONTROL_ONLY = (
    "/docs",
    "/openapi.json",
    "/metrics",
    "/health/live",
    "/health/ready",
    "/status",
    "/v1/consents/c/withdraw",
)
METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "PURGE", "LINK", "get", "BREW",
)  # fmt: skip
REQUESTS = 3000


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process with the demo world."""
    with serving(tmp_path_factory.mktemp("listeners")) as process:
        yield process


async def answer_empty(scope: Any, _receive: Any, send: Any) -> None:
    """Answer 200 without a body, not reading the request's."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def listening(app: Any, *addresses: str, drain_seconds: float = 15) -> AsyncIterator[list[str]]:
    """Serve *app* at *addresses* in this process, and stop at the end."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    listeners = []
    for number, address in enumerate(addresses or ("127.0.0.1:0",)):
        listen = parse_listen(address)
        assert listen is not None
        listeners.append(Listener(f"test{number}", listen, app))
    work = asyncio.create_task(serve(listeners, drain_seconds=drain_seconds, on_ready=ready.set_result, stop=stop))
    await asyncio.wait([work, ready], return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        await work
    try:
        yield list((await ready).values())
    finally:
        stop.set()
        await work


@pytest.mark.slow
def test_control_paths_are_on_the_control_listener_only(sidecar: Sidecar) -> None:
    """Documentation, schema, metrics, health, status and writes are unknown to the two listeners of callers."""
    for path in CONTROL_ONLY[:-1]:
        assert sidecar.call("control", "GET", path).status_code == 200, path
    for path in CONTROL_ONLY:
        for method in ("GET", "POST"):
            assert sidecar.call("json", method, path).status_code == 404, path
            assert sidecar.call("auth", method, path).status_code == 403, path


def test_decisions_are_not_on_the_control_listener(sidecar: Sidecar) -> None:
    """Administration has no business on the data path, nor data on the administration's."""
    assert sidecar.call("control", "POST", "/access/v1/evaluation", json=question()).status_code == 404
    assert sidecar.call("control", "GET", "/authz/nginx", headers=sidecar.bearer("dr_aida")).status_code == 404


@pytest.mark.slow
def test_each_listener_can_be_off(tmp_path: Path) -> None:
    """A listener that is `off` has no address, and the others serve without it."""
    for off in LISTENERS:
        with serving(tmp_path / off, **{f"{off}_listen": "off"}) as process:
            assert set(process.addresses) == set(LISTENERS) - {off}
            if off != "json":
                assert process.evaluate().json()["decision"] is True
            if off != "control":
                assert process.call("control", "GET", "/health/ready").status_code == 200


def random_target(chance: random.Random) -> str:
    """Return a target: of a dialect or of nothing, plain or odd; now and then one that may be let through."""
    if chance.random() < 0.2:
        return "/authz/envoy/patients/p-dana/labs/o1"
    start = chance.choice(
        ["/authz/envoy", "/authz/nginx", "/authz/caddy", "", "/authz", "/access/v1/evaluation", "//authz/envoy"]
    )
    rest = chance.choice(
        [
            "", "/", "/patients/p-dana/labs/o1", "/patients/p-dana/labs", "/patients/p-marat/allergies/a1", "/directory",
            "/patients/p-dana/labs/o1?x=1", "/patients/p-dana/labs/o1#f", "/patients//p-dana/labs/o1", "/../../status",
            "/patients/p-dana/labs/%6f1", "/patients/p-dana/labs/..%2fo1", "/docs", "/health/ready", "/metrics", "?a=%00",
            "/%ff%fe", "/" + "".join(chance.choices("abc/%.;?#&=0", k=chance.randrange(1, 30))), "*", "http://x/y",
        ]
    )  # fmt: skip
    return (start + rest) or "/"


def random_request(chance: random.Random, tokens: list[str]) -> bytes:
    """Return a request with any method, target, token and truth headers."""
    headers = {}
    if chance.random() < 0.8:
        headers["authorization"] = chance.choice([*(f"Bearer {token}" for token in tokens), "Bearer x", "Basic eDp4"])
    original = random_target(chance).removeprefix(chance.choice(["/authz/envoy", ""]))
    if chance.random() < 0.5:
        headers |= {"x-original-method": "GET", "x-original-uri": original, "x-original-host": "emr"}
    if chance.random() < 0.5:
        headers |= {
            "x-forwarded-method": chance.choice(METHODS),
            "x-forwarded-uri": original,
            "x-forwarded-host": "emr",
        }
    return http(chance.choice((*METHODS, *("GET",) * 4)), random_target(chance), **headers)


async def ask_at_random(address: str, tokens: list[str], seed: int) -> list[tuple[int, dict[str, str]]]:
    """Send many random requests, over a new connection wherever the server ended the last one."""
    chance = random.Random(seed)
    replies = []
    while len(replies) < REQUESTS:
        async with connected(address) as connection:
            try:
                while len(replies) < REQUESTS:
                    request = random_request(chance, tokens)
                    if request.startswith(b"HEAD "):
                        request = request.replace(b"content-length: 0\r\n", b"")
                    reply = await ask_bodiless(connection, request)
                    replies.append(reply)
                    if reply[1].get("connection") == "close":
                        break
            except GoneError:
                raise AssertionError(f"no answer to {request!r}") from None
    return replies


async def ask_bodiless(connection: Connection, request: bytes) -> tuple[int, dict[str, str]]:
    """Ask and return status and headers."""
    reply = await connection.ask(request)
    return reply.status, reply.headers


@pytest.mark.slow
def test_forward_auth_listener_lets_nobody_through_without_an_allow(sidecar: Sidecar) -> None:
    """Any method on any path: 200 only with an allowed entry in the journal, else 401 or 403, or the parser's 400."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    before = len(entries_in(sidecar.journal))

    replies = asyncio.run(ask_at_random(sidecar.addresses["auth"], list(sidecar.tokens.values()), seed))

    allowed = Counter(entry["id"] for entry in entries_in(sidecar.journal)[before:] if entry.get("allowed"))
    let_through = [headers["x-ruqsat-decision"] for status, headers in replies if status == 200]
    assert Counter(let_through) == allowed
    assert let_through
    from_application = Counter(status for status, headers in replies if "x-ruqsat-decision" in headers)
    assert set(from_application) == {200, 401, 403}
    by_parser = [(status, headers["connection"]) for status, headers in replies if "x-ruqsat-decision" not in headers]
    assert set(by_parser) == {(400, "close")}
    assert "Traceback" not in sidecar.stderr


def test_unix_sockets_are_for_owner_and_group_and_vanish_at_the_end(tmp_path: Path) -> None:
    """All three listeners serve on Unix sockets with mode 0660, over stale ones, and remove them on exit."""
    paths = {name: tmp_path / f"{name}.sock" for name in LISTENERS}
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(paths["json"]))

    with serving(tmp_path, **{f"{name}_listen": f"unix:{path}" for name, path in paths.items()}) as process:
        assert process.addresses == {name: f"unix:{path}" for name, path in paths.items()}
        for path in paths.values():
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert process.evaluate().json()["decision"] is True
        assert process.call("control", "GET", "/health/ready").status_code == 200
        assert process.call("auth", "GET", "/docs").status_code == 403
        assert process.stop() == 0

    assert not any(path.exists() for path in paths.values())


def refused(folder: Path, **settings: str) -> str:
    """Return the one line with which a start is refused, exit code 2."""
    with pytest.raises(NotStartedError) as refusal, serving(folder, **settings):
        pass
    assert refusal.value.code == 2
    assert refusal.value.stdout == ""
    lines = [line for line in refusal.value.stderr.splitlines() if not line.startswith('{"level": "WARNING"')]
    assert len(lines) == 1, lines
    return lines[0]


def test_address_that_is_taken_is_refused_in_one_line(tmp_path: Path) -> None:
    """A socket that somebody serves, a port in use, a file that is no socket: exit 2, and each is left alone."""
    with socket.socket(socket.AF_UNIX) as live, socket.create_server(("127.0.0.1", 0)) as server:
        live.bind(str(tmp_path / "live.sock"))
        live.listen()
        line = refused(tmp_path, json_listen=f"unix:{tmp_path}/live.sock")
        assert line == (
            f"error[setting-refused]: the json listener cannot be bound to `unix:{tmp_path}/live.sock`: "
            "it is being served already"
        )
        port = server.getsockname()[1]
        assert f"the control listener cannot be bound to `127.0.0.1:{port}`" in refused(
            tmp_path, control_listen=f"127.0.0.1:{port}"
        )
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "live.sock"))

    (tmp_path / "letter.txt").write_text("keep me")
    assert "something that is no socket stands there" in refused(tmp_path, auth_listen=f"unix:{tmp_path}/letter.txt")
    assert (tmp_path / "letter.txt").read_text() == "keep me"


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_two_listeners_cannot_share_an_address(tmp_path: Path, kind: str) -> None:
    """The second one of the same process is refused like any other, and takes nothing from the first."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"127.0.0.1:{port}" if kind == "tcp" else f"unix:{tmp_path}/one.sock"

    async def both() -> None:
        async with listening(answer_empty, address, address):
            pass

    with pytest.raises(SettingsError, match="the test1 listener cannot be bound"):
        asyncio.run(both())


def test_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    """On exit a socket is removed only if it is still ours: whoever has replaced it meanwhile keeps theirs."""
    path = tmp_path / "ours.sock"

    async def replaced() -> None:
        async with listening(answer_empty, f"unix:{path}"):
            path.rename(tmp_path / "away.sock")
            with socket.socket(socket.AF_UNIX) as successor:
                successor.bind(str(path))

    asyncio.run(replaced())
    assert path.exists()


@pytest.mark.parametrize("address", ["unix:relative", "unix:/a\x00b", "127.0.0.1", "127.0.0.1:65536", ":80", "", "OFF"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address is `host:port`, `unix:/path` or `off`, and nothing is guessed."""
    with pytest.raises(SettingsError, match="is no address"):
        parse_listen(address)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\r\n\r\n",
        b"GET / HT",
        http("POST", "/")[:-4],
        http("POST", "/").replace(b": 0", b": 99") + b"half",
    ],
    ids=["nothing", "blank lines", "half a line", "half a head", "half a body, answered already"],
)
def test_peer_that_does_not_finish_is_closed(monkeypatch: MonkeyPatch, sent: bytes) -> None:
    """Nobody holds a connection by sending nothing, half a request, or a body that nobody waits for."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.2)

    async def dawdle() -> bytes:
        async with listening(answer_empty) as (address,), connected(address) as connection:
            await connection.send(sent)
            return await asyncio.wait_for(connection.read_to_end(), 3)

    answer = asyncio.run(dawdle())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 200")


def test_slow_request_has_its_own_deadline(monkeypatch: MonkeyPatch) -> None:
    """A request is not cut short because its connection was opened long before its first byte."""
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.6)

    async def begin_late() -> int:
        async with listening(answer_empty) as (address,), connected(address) as connection:
            await asyncio.sleep(0.4)
            await connection.send(ALLOWED[:20])
            await asyncio.sleep(0.4)
            return (await connection.ask(ALLOWED[20:])).status

    assert asyncio.run(begin_late()) == 200


def test_long_head_is_judged_alike_in_one_piece_or_two() -> None:
    """A head within 16 KiB is read, however it is cut; one beyond is 400 and the connection is closed."""
    within = http("GET", "/", x_long="x" * 12_000)
    beyond = http("GET", "/", x_long="x" * 17_000)

    async def ask(request: bytes, cut: int) -> int:
        async with listening(answer_empty) as (address,), connected(address) as connection:
            await connection.send(request[:cut])
            await asyncio.sleep(0.05)
            return (await connection.ask(request[cut:])).status

    for cut in (1, 60, 6000, 11_000):
        assert asyncio.run(ask(within, cut)) == 200, cut
    assert asyncio.run(ask(beyond, 1)) == 400


class Stuck:
    """A decision point that never answers."""

    def __init__(self, policy_set: PolicySet) -> None:
        self.policy_set = policy_set

    async def decide(self, request: object, origin: object, policy_set: object = None) -> Any:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def record_refusal(self, reason: str, origin: object, subject: str | None = None) -> str:
        """Wait for ever."""
        await asyncio.Event().wait()
        return ""


def test_undecided_requests_are_refused_at_the_end_of_the_drain(
    pack_texts: dict[str, bytes], policy_set: PolicySet
) -> None:
    """A stop waits for requests in flight only so long; then they are refused, never left without an answer."""
    routes, _ = load_routes(pack_texts, policy_set)
    assert routes is not None
    verifier = TokenVerifier("issuer", "audience", OneKey("HS256", b"s" * 32))
    auth, authzen = ForwardAuth(Stuck(policy_set), verifier, routes), AuthZen(Stuck(policy_set), Door.opened())

    async def answer_at_stop(app: Any, request: bytes) -> Reply:
        async with connected_while(app) as (connection, stop):
            asked = asyncio.create_task(connection.ask(request))
            await asyncio.sleep(0.2)
            stop.set()
            return await asked

    refused_by_auth = asyncio.run(answer_at_stop(auth, http("GET", "/authz/nginx")))
    assert refused_by_auth.status == 403
    assert asyncio.run(answer_at_stop(authzen, ALLOWED)).status == 500


@asynccontextmanager
async def serving_until(app: Any) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The address of *app*, and the event that stops its server, which waits one second for what is in flight."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    listen = parse_listen("127.0.0.1:0")
    assert listen is not None
    work = asyncio.create_task(
        serve([Listener("test", listen, app)], drain_seconds=1, on_ready=ready.set_result, stop=stop)
    )
    yield next(iter((await ready).values())), stop
    await work


@asynccontextmanager
async def connected_while(app: Any) -> AsyncIterator[tuple[Connection, asyncio.Event]]:
    """A connection to such an *app*, and the event that stops its server."""
    async with serving_until(app) as (address, stop), connected(address) as connection:
        yield connection, stop


@asynccontextmanager
async def asked_at_once(address: str, callers: int) -> AsyncIterator[list[socket.socket]]:
    """So many connections with a request on each, opened while the loop stands still."""
    host, _, port = address.rpartition(":")
    opened = [socket.create_connection((host, int(port))) for _ in range(callers)]
    for each in opened:
        each.sendall(http("GET", "/"))
        each.setblocking(False)
    yield opened
    for each in opened:
        each.close()


def is_answered(asking: socket.socket) -> bool:
    """Tell whether an answer has come."""
    try:
        return asking.recv(4096).startswith(b"HTTP/1.1 200")
    except (BlockingIOError, ConnectionResetError):
        return False


def test_many_who_come_together_are_let_in_together() -> None:
    """Connections that wait are let in by the sixteen as the loop turns: a turn may be long, and others have theirs."""
    callers = 10 * IN_A_TURN

    async def answered_soon() -> int:
        async with listening(answer_empty) as (address,), asked_at_once(address, callers) as asking:
            for _ in range(callers // IN_A_TURN + 10):
                await asyncio.sleep(0)
            return sum(is_answered(each) for each in asking)

    assert uvloop.run(answered_soon()) == callers


def test_who_waits_to_be_let_in_when_a_stopping_process_wakes_late_is_answered() -> None:
    """A machine that is busy may wake us long after the grace; whoever has connected within it is not hung up on."""
    callers = 300

    async def answered_after_all() -> int:
        async with serving_until(answer_empty) as (address, stop):
            stop.set()
            await asyncio.sleep(GRACE_SECONDS * 0.75)  # uvicorn looks for the stop every tenth of a second
            async with asked_at_once(address, callers) as asking:
                time.sleep(GRACE_SECONDS + LAST_SECONDS)  # noqa: ASYNC251 - nothing turns meanwhile
                await asyncio.sleep(1)
                return sum(is_answered(each) for each in asking)

    assert uvloop.run(answered_after_all()) == callers


def test_nobody_is_kept_waiting_by_a_process_that_lets_nobody_in_any_more() -> None:
    """While a stop waits for its last answers, who connects is refused at once, and may go to another sidecar."""

    async def wait_for_ever(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.Event().wait()

    async def connect_late() -> None:
        async with serving_until(wait_for_ever) as (address, stop), connected(address) as connection:
            await connection.send(http("GET", "/"))
            await asyncio.sleep(0.1)
            stop.set()
            await asyncio.sleep(GRACE_SECONDS + LAST_SECONDS + 0.4)
            async with connected(address):
                pass

    with pytest.raises(ConnectionRefusedError):
        uvloop.run(connect_late())


def read_whole(reading: socket.socket) -> bytes:
    """Return what comes until the end."""
    reading.settimeout(10)
    return b"".join(iter(lambda: reading.recv(1 << 20), b""))


def test_nothing_is_decided_while_its_answer_could_not_be_sent() -> None:
    """
    Whoever does not read is answered, once it reads, by what holds then.

    A permit that had passed its last test before would be sent seconds after it was withdrawn.
    """
    holds = [b"old"]

    async def answer_at_length(scope: Any, _receive: Any, send: Any) -> None:
        await protocol.once_writable(scope)
        body = holds[0] * (1 << 23)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def read_late() -> bytes:
        async with serving_until(answer_at_length) as (address, stop):
            host, _, port = address.rpartition(":")
            with socket.create_connection((host, int(port))) as asking:
                asking.sendall(http("GET", "/") + http("GET", "/", connection="close"))
                await asyncio.sleep(0.3)
                holds[0] = b"new"
                read = await asyncio.to_thread(read_whole, asking)
            stop.set()
            return read

    first, _, second = uvloop.run(read_late()).partition(b"\r\n\r\n")[2].partition(b"HTTP/1.1 ")
    assert set(first) == set(b"old")
    assert b"old" not in second
    assert second.startswith(b"200") and second.endswith(b"new")


def test_both_listeners_wait_for_the_peer_before_they_ask(pack_texts: dict[str, bytes], policy_set: PolicySet) -> None:
    """Neither the one of applications nor that of proxies decides, or journals a refusal, while nothing can be sent."""
    routes, _ = load_routes(pack_texts, policy_set)
    assert routes is not None

    class Asked(Stuck):
        """Tells that it was asked."""

        asked = False

        async def decide(self, request: object, origin: object, policy_set: object = None) -> Any:
            """Take note."""
            self.asked = True
            return await super().decide(request, origin, policy_set)

        async def record_refusal(self, reason: str, origin: object, subject: str | None = None) -> str:
            """Take note."""
            self.asked = True
            return await super().record_refusal(reason, origin, subject)

    class Unread:
        """A connection whose peer does not read yet."""

        def __init__(self) -> None:
            self.write_paused, self.is_read = True, asyncio.Event()

        async def drain(self) -> None:
            """Wait until it does."""
            await self.is_read.wait()

    async def asked_when(app: Any, point: Asked, **scope: Any) -> list[bool]:
        flow, body = Unread(), ALLOWED.partition(b"\r\n\r\n")[2]
        head = [(b"content-type", b"application/json")]
        scope |= {"type": "http", "headers": head, protocol.FLOW: flow, "method": "POST"}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(_: Any) -> None:
            pass

        work = asyncio.create_task(app(scope, receive, send))
        found = []
        for _ in range(2):
            await asyncio.sleep(0.05)
            found.append(point.asked)
            flow.is_read.set()
        work.cancel()
        await asyncio.wait([work])
        return found

    verifier = TokenVerifier("issuer", "audience", OneKey("HS256", b"s" * 32))
    for_applications, for_proxies = Asked(policy_set), Asked(policy_set)
    authzen, auth = AuthZen(for_applications, Door.opened()), ForwardAuth(for_proxies, verifier, routes)
    evaluation = "/access/v1/evaluation"

    assert asyncio.run(asked_when(authzen, for_applications, path=evaluation)) == [False, True]
    assert asyncio.run(asked_when(auth, for_proxies, **{protocol.TARGET: b"/authz/nginx"})) == [False, True]


def test_a_connection_that_has_ended_leaves_nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """None holds itself: the collector seldom comes by, and thousands a second may come and go."""
    begun = list[weakref.ref[protocol.Protocol]]()
    begin = protocol.Protocol.__init__

    def noted(self: protocol.Protocol, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        begun.append(weakref.ref(self))

    async def come_and_go() -> list[bool]:
        async with listening(answer_empty) as (address,):
            for _ in range(5):
                async with connected(address) as connection:
                    await connection.ask(http("GET", "/"))
            await asyncio.sleep(0.2)
            return [each() is None for each in begun]

    monkeypatch.setattr(protocol.Protocol, "__init__", noted)
    gc.disable()
    try:
        assert uvloop.run(come_and_go()) == [True] * 5
    finally:
        gc.enable()
