"""Whatever comes instead of an answer is a denial, and nothing that was not asked about is released."""

import json
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from ruqsat.pep import AsyncClient, Client, Decision, Duty, Middleware
from ruqsat.pep.answers import NOT_BLOCKING, read_decision, read_decisions
from ruqsat.pep.bundles import CannotRedact, carry_out
from tests.process.starter import question
from tests.proxies.stand_in import LATE_SECONDS, StandIn, falls_silent, running_stand_in, says, says_late, trickles

ABLE = frozenset({"redact", "suppress_total"})
GOOD = {"decision": True, "context": {"id": "a-1", "reason": "permitted", "policy": "p", "token": "t"}}


def http(body: bytes, status: str = "200 OK", kind: str = "application/json", length: int | None = None) -> bytes:
    """Return an answer's bytes."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body) if length is None else length}\r\n"
    return head.encode() + b"connection: close\r\n\r\n" + body


def with_duties(*duties: Any, **context: Any) -> bytes:
    """Return a permit with obligations."""
    return json.dumps({"decision": True, "context": {**GOOD["context"], "obligations": duties, **context}}).encode()


BODY = json.dumps(GOOD).encode()
ODD_BODIES = {
    "nothing": b"", "no JSON": b"yes", "true": b"true", "a list": b"[true]", "null": b"null",
    "no context": b'{"decision":true}', "decision is 1": BODY.replace(b"true", b"1"),
    "decision is a string": BODY.replace(b"true", b'"true"'), "cut short": BODY[:-1], "more after it": BODY + b"{}",
    "decision twice": b'{"decision":false,' + BODY[1:], "not UTF-8": BODY.replace(b"permitted", b"\xff"),
    "UTF-16": BODY.decode().encode("utf-16"), "obligations are no list": with_duties(obligations={}),
    "a duty without a type": with_duties({"id": "1", "properties": {}}), "a duty is a word": with_duties("redact"),
    "NaN": BODY.replace(b'"t"', b"NaN"), "too deep": b'{"decision":true,"x":' + b"[" * 200_000,
}  # fmt: skip


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """Something that answers in the sidecar's place."""
    with running_stand_in() as running:
        yield running


def both(stand_in: StandIn) -> list[Decision]:
    """Ask from a thread and from a task."""
    address = f"127.0.0.1:{stand_in.port}"
    with Client(address, timeout=1) as client:
        from_thread = [client.evaluate(question()), *client.evaluations([question()])]

    async def ask() -> list[Decision]:
        async with AsyncClient(address, timeout=1) as client:
            return [await client.evaluate(question()), *await client.evaluations([question()])]

    return [*from_thread, *anyio.run(ask)]


def test_good_answer_is_taken(stand_in: StandIn) -> None:
    """The stand-in can be believed, so the denials below are no accident."""
    stand_in.behaviour = says(http(BODY))

    assert [each.allowed for each in both(stand_in)] == [True, False, True, False]


@pytest.mark.parametrize(
    "answer",
    [
        http(BODY, "201 Created"), http(BODY, "204 No Content"), http(BODY, "302 Found"), http(BODY, "400 Bad Request"),
        http(BODY, "401 Unauthorized"), http(BODY, "500 Oops"), http(BODY, kind="text/html"), http(BODY, kind=""),
        http(BODY, length=len(BODY) + 1), http(BODY[:20]), http(b" " * (2 * 1024 * 1024) + BODY), b"", BODY,
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        http(BODY, kind="application/json\r\ncontent-type: application/json"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_denied(stand_in: StandIn, answer: bytes) -> None:
    """Another status or kind, a cut or endless body, a closed connection."""
    stand_in.behaviour = says(answer)

    assert [each.allowed for each in both(stand_in)] == [False] * 4
    assert stand_in.asked == 4


@pytest.mark.slow
@pytest.mark.parametrize("behave", [says_late(http(BODY)), falls_silent(http(BODY)[:-10]), trickles(http(BODY))])
def test_late_answer_is_denied(stand_in: StandIn, behave: Any) -> None:
    """Late altogether, silent in the middle, or byte by byte."""
    stand_in.behaviour = behave

    assert [each.reason for each in both(stand_in)] == ["unavailable"] * 4


def in_pieces(answer: bytes, after: int) -> Any:
    """Return a behaviour that sends the rest of an answer piece by piece: whole in the end, but late."""

    def behave(connection: socket.socket) -> None:
        connection.sendall(answer[:after])
        for begin in range(after, len(answer), 1 + (len(answer) - after) // 8):
            time.sleep(LATE_SECONDS / 8)
            connection.sendall(answer[begin : begin + 1 + (len(answer) - after) // 8])

    return behave


@pytest.mark.slow
def test_answer_that_is_whole_too_late_is_denied(stand_in: StandIn) -> None:
    """Each piece comes in time, and the last after the client's patience; a task gives up on a slow head as well."""
    whole = http(BODY)
    stand_in.behaviour = in_pieces(whole, whole.index(b"\r\n\r\n") + 4)
    assert [each.reason for each in both(stand_in)] == ["unavailable"] * 4
    stand_in.behaviour = in_pieces(whole, 5)
    assert [each.reason for each in both(stand_in)[2:]] == ["unavailable"] * 2


@pytest.mark.parametrize("name", ODD_BODIES)
def test_odd_body_is_denied(name: str) -> None:
    """What is not exactly an answer permits nothing."""
    assert not read_decision(ODD_BODIES[name], ABLE)


def test_batch_that_does_not_fit_is_denied_whole() -> None:
    """Fewer or more answers than questions cannot be told apart, so none counts; an odd one denies itself alone."""

    def allowed(*answers: Any) -> list[bool]:
        return [bool(each) for each in read_decisions(json.dumps({"evaluations": answers}).encode(), 2, ABLE)]

    assert allowed(GOOD, GOOD) == [True, True]
    assert allowed(GOOD) == allowed(GOOD, GOOD, GOOD) == [False, False]
    assert allowed({"decision": True}, GOOD) == [False, True]
    assert not any(read_decisions(BODY, 2, ABLE))


@pytest.mark.parametrize(
    ("duty", "allowed"),
    [
        ({"type": "notify_subject"}, True), ({"type": "review", "properties": {"within_hours": 72}}, True),
        ({"type": "suppress_total"}, True), ({"type": "redact", "properties": {"parts": ["o2"]}}, True),
        ({"type": "redact"}, False), ({"type": "redact", "properties": {"parts": []}}, False),
        ({"type": "redact", "properties": {"parts": "o2"}}, False),
        ({"type": "redact", "properties": {"parts": [7]}}, False), ({"type": "require_eds"}, False),
        ({"type": "a duty of tomorrow"}, False),
    ],
)  # fmt: skip
def test_blocking_duty_that_cannot_be_carried_out_denies(duty: Any, allowed: bool) -> None:
    """A duty that is not known is taken to block, and one that does not say what to cut out cannot be done."""
    assert bool(read_decision(with_duties(duty), ABLE)) is allowed


def test_duties_that_do_not_block_are_the_vocabulary_s() -> None:
    """The kit's list is the shipped vocabulary's: a duty that becomes blocking there blocks here."""
    duties = tomllib.loads(Path("policies/vocabulary.toml").read_text())["duties"]

    assert {name for name, duty in duties.items() if not duty.get("blocking")} == NOT_BLOCKING


def test_importing_the_kit_imports_nothing_of_the_server() -> None:
    """Importing the kit loads nothing of the server, nor what only the server needs."""
    code = "import sys, ruqsat.pep; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {name for name in loaded if name.startswith("ruqsat.")} == {
        f"ruqsat.pep{each}" for each in ("", ".answers", ".bundles", ".client", ".middleware")
    }
    assert not {"fastapi", "starlette", "sqlalchemy", "casbin", "uvicorn"} & set(loaded)


CUT = Decision(True, "permitted", duties=(Duty("redact", {"parts": ["o2"]}), Duty("suppress_total")))
ASKED = {"o1": "Observation/o1", "o2": "Observation/o2"}


def bundle(*entries: Any, **more: Any) -> bytes:
    """Return a Bundle."""
    return json.dumps({"resourceType": "Bundle", "entry": entries, **more}).encode()


def observation(name: str, **more: Any) -> dict[str, Any]:
    """Return an entry."""
    return {"resource": {"resourceType": "Observation", "id": name, **more}}


@pytest.mark.parametrize(
    "entry",
    [
        observation("o2"), observation("o3"), {"resource": {"resourceType": "Condition", "id": "o1"}}, {}, None, "o1",
        {"resource": {"resourceType": "Observation"}}, {"response": {"status": "200"}}, {"resource": None},
        {"resource": {"resourceType": "Bundle", "id": "o1", "entry": [observation("o2")]}},
        observation("o1", contained=[{"resourceType": "Observation", "id": "o2"}]),
        {"resource": {"resourceType": "OperationOutcome", "id": "o1"}},
    ],
)  # fmt: skip
def test_entry_that_was_not_permitted_is_not_released(entry: Any) -> None:
    """Cut out, not asked about, of another type, unnamed, or holding something else."""
    assert json.loads(carry_out(bundle(entry), CUT, ASKED)) == {"resourceType": "Bundle"}


def test_record_that_is_there_twice_is_not_released() -> None:
    """Two versions of one record: only one of them can have been asked about."""
    told = json.loads(carry_out(bundle(observation("o1"), observation("o1", status="old")), CUT, ASKED))

    assert "entry" not in told


def test_what_is_released_keeps_its_digits() -> None:
    """A measured value is not rounded on its way."""
    value = '{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Observation","id":"o1","value":1.10}}]}'

    assert carry_out(value.encode(), CUT, ASKED).decode() == value


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"resourceType":"Observation"}', b'{"resourceType":"Bundle","entry":{}}',
        b'{"resourceType":"Bundle","link":[1]}', b'{"resourceType":"Bundle","entry":[],"entry":[]}',
        b'{"resourceType":"Bundle","id":"\\ud800"}', b'{"resourceType":"Bundle","x":' + b"[" * 200_000,
    ],
)  # fmt: skip
def test_what_is_no_bundle_is_not_released(body: bytes) -> None:
    """Nor one that two readers could read differently."""
    with pytest.raises(CannotRedact):
        carry_out(body, CUT, ASKED)


class Told:
    """A client that always says the same."""

    duties = ABLE

    def __init__(self, decision: Decision) -> None:
        self._decision = decision

    async def evaluate(self, _question: Any) -> Decision:
        """Answer."""
        return self._decision


def answered(app: Any, decision: Decision = CUT, **scope: Any) -> list[Any]:
    """Return what the middleware sends for one request."""
    sent: list[Any] = []
    asking = {"resource": {"type": "Observation", "properties": {"parts": [{"id": "o1"}, {"id": "o2"}]}}}

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def run() -> None:
        client: Any = Told(decision)
        await Middleware(app, client=client, question=lambda scope: scope.get("asks", asking))(
            {"type": "http", "method": "GET", "path": "/", "headers": [], **scope}, receive, send
        )

    anyio.run(run)
    return sent


def app(*messages: Any) -> Any:
    """Return an application that sends these."""

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return answer


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return the head of an answer."""
    return {"type": "http.response.start", "status": status, "headers": headers or [JSON]}


JSON = (b"content-type", b"application/fhir+json; charset=utf-8")
WHOLE = {"type": "http.response.body", "body": bundle(observation("o1"), observation("o2"))}


def test_middleware_releases_a_bundle() -> None:
    """The answer below would be released, if it were not for what is odd about it."""
    head, body = answered(app(start(), WHOLE))

    assert head["status"] == 200
    assert b"o1" in body["body"]
    assert b"o2" not in body["body"]


@pytest.mark.parametrize(
    ("messages", "scope"),
    [
        ((start(206), WHOLE), {}), ((start(404), WHOLE), {}), ((start(200, (b"content-type", b"text/html")), WHOLE), {}),
        ((start(200, JSON, (b"content-encoding", b"gzip")), WHOLE), {}), ((start(200, JSON, JSON), WHOLE), {}),
        ((start(), WHOLE | {"more_body": True}), {}), ((WHOLE,), {}), ((start(), start(), WHOLE), {}), ((), {}),
        ((start(), {"type": "http.response.pathsend", "path": "/etc/hostname"}), {}),
        ((start(), WHOLE | {"body": WHOLE["body"] + b" " * (16 * 1024 * 1024)}), {}),
        ((start(), WHOLE), {"method": "PUT"}), ((start(), WHOLE), {"method": "HEAD"}),
        ((start(), WHOLE), {"asks": None}), ((start(), WHOLE), {"asks": {"resource": {"properties": {"parts": [7]}}}}),
    ],
)  # fmt: skip
def test_middleware_releases_nothing_else_of_a_part(messages: Any, scope: Any) -> None:
    """Not whole, not JSON, not 200, not read one way, not a reading: 403 and no byte of it."""
    head, body = answered(app(*messages), **scope)

    assert (head["status"], body["body"]) == (403, b"")


@pytest.mark.parametrize(
    ("method", "action", "status"),
    [("POST", "search", 200), ("POST", "read", 200), ("POST", "disclose", 403), ("POST", "export", 403),
     ("POST", None, 403), ("GET", "export", 200), ("PATCH", "search", 403)],
)  # fmt: skip
def test_middleware_lets_nothing_be_done_with_parts_that_are_cut_out(
    method: str, action: str | None, status: int
) -> None:
    """Data that are handed on are gone before the answer is cut: of a part, the application is not reached for that."""
    reached: list[Any] = []

    async def hand_on(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)
        await app(start(), WHOLE)(scope, receive, send)

    asks: dict[str, Any] = {"resource": {"type": "Observation", "properties": {"parts": [{"id": "o1"}, {"id": "o2"}]}}}
    if action is not None:
        asks["action"] = {"name": action}
    head, _ = answered(hand_on, method=method, asks=asks)

    assert (head["status"], len(reached)) == (status, status == 200)


def test_middleware_does_not_hand_short_cuts_to_the_application() -> None:
    """Of a part, the application is asked for all, readable, without ways around the middleware."""
    seen: list[Any] = []

    async def look(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope)

    headers = [(b"range", b"bytes=0-9"), (b"If-None-Match", b"x"), (b"accept-encoding", b"br"), (b"accept", b"*/*")]
    answered(look, headers=headers, extensions={"http.response.pathsend": {}})

    assert seen[0]["headers"] == [(b"accept", b"*/*"), (b"accept-encoding", b"identity")]
    assert seen[0]["extensions"] == {}
    assert seen[0]["ruqsat.decision"] is CUT


def test_websockets_are_refused() -> None:
    """Nobody asks about what is said on them."""
    assert answered(app(), type="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_client_that_promises_more_is_not_taken() -> None:
    """The middleware signs nothing, so a client that says it does would be a lie."""
    with pytest.raises(ValueError, match="redact, suppress_total"):
        Middleware(app(), client=AsyncClient("127.0.0.1:1", duties=("require_eds",)), question=lambda _: None)
