"""Every adversarial vector on every listener of a real sidecar: no permit, no failure, no echo, connections closed."""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jwt
import pytest

from tests.ground import PostgresServer
from tests.process.starter import Sidecar, serving
from tests.wire import vectors
from tests.wire.ways import (
    DIALECTS,
    EVALUATION,
    RECORD,
    Told,
    asked,
    check,
    checked,
    lets_through,
    posted,
    proxied,
    question,
    request,
    told,
)

DENIED = asked(subject='{"type":"user","id":"dr_erlan"}')
ENDPOINTS = (
    EVALUATION,
    "/access/v1/evaluations",
    *(f"/access/v1/search/{each}" for each in ("subject", "resource", "action")),
)
PUBLIC = ("/health/live", "/health/ready", "/metrics", "/status")
AT_ONCE = 32
SECRETS = (b"dr_aida", b"dr_erlan", b"p-dana", b"Traceback", b"sqlalchemy", b"psycopg", b"site-packages")


@pytest.fixture(scope="module", params=["tcp-postgresql", "unix-sqlite"])
def sidecar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process with all its listeners, over TCP with PostgreSQL behind it, or over Unix sockets with SQLite."""
    folder = tmp_path_factory.mktemp("wire")
    if request.param.startswith("tcp"):
        postgres: PostgresServer = request.getfixturevalue("postgres")
        where = {"grpc_listen": "127.0.0.1:0", "database_url": postgres.new_truth()}
    else:
        where = {f"{name}_listen": f"unix:{folder}/{name}.sock" for name in ("json", "auth", "control", "grpc")}
    with serving(folder, json_search="true", public_url="https://pdp.example", **where) as process:
        yield process
        noticed = [line for line in process.stderr.splitlines() if '"level": "ERROR"' in line or "Traceback" in line]
        assert noticed == []
        shown = process.stderr + process.call("control", "GET", "/metrics").text
        assert [word for word in SECRETS if word.decode() in shown] == []


async def all_of(sidecar: Sidecar, listener: str, sent: Iterable[bytes], *, to_the_end: bool = False) -> list[Told]:
    """Send each on a connection of its own, many at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(each: bytes) -> Told:
        async with gate:
            return await told(sidecar.addresses[listener], each, to_the_end=to_the_end)

    return await asyncio.gather(*map(one, sent))


def run(
    sidecar: Sidecar, listener: str, sent: Iterable[bytes], *, to_the_end: bool = False
) -> list[tuple[bytes, Told]]:
    """Return what was sent and what came back, after looking at what holds for every answer."""
    listed = list(sent)
    pairs = list(zip(listed, asyncio.run(all_of(sidecar, listener, listed, to_the_end=to_the_end)), strict=True))
    for each, answer in pairs:
        assert [status for status in answer.statuses if status >= 500] == [], (each[:300], answer)
    return pairs


def refused(pairs: Iterable[tuple[bytes, Told]], *statuses: int) -> None:
    """Each answer is one of these, or the parser's 400 with the connection closed, or no answer and a closed connection."""
    for sent, answer in pairs:
        by_parser = answer.status in (0, 400) and answer.closed
        assert answer.status in statuses or by_parser, (sent[:300], answer)
        quiet(sent, answer)


def quiet(sent: bytes, answer: Told) -> None:
    """An answer that is no permit repeats nothing of the request, and tells nothing of what is inside."""
    assert [word for word in SECRETS if word in answer.raw] == [], (sent[:300], answer)
    for word in re.findall(rb"[^\r\n:{}\", ]{12,}", sent):
        assert word not in answer.raw or word in KNOWN, (word, answer)


KNOWN = frozenset({
    b"application/json", b"Content-Length", b"/access/v1/evaluation", b"/access/v1/search/", b"Authorization", b"Content-Type",
    *(each.encode() for each in ENDPOINTS), b"not_permitted", b"deidentified", b"consistency_token", b"resourceType",
})  # fmt: skip


def bearer(sidecar: Sidecar, person: str) -> str:
    """Return the value of the header by which a person says who they are."""
    return sidecar.bearer(person)["authorization"]


def who(sidecar: Sidecar, person: str = "dr_aida") -> str:
    """Return that header's line."""
    return f"Authorization: {bearer(sidecar, person)}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_the_vectors_are_made_of_is_allowed(sidecar: Sidecar, dialect: str) -> None:
    """The plain request is let through, however its letters are escaped; so a denial below is the vector's doing."""
    plain = [RECORD.encode(), *vectors.targets(RECORD, "same")]
    for _, answer in run(sidecar, "auth", (proxied(dialect, each, who(sidecar)) for each in plain)):
        assert answer.status == 200, answer
    answers = asyncio.run(check(sidecar.addresses["grpc"], [_message(sidecar, each) for each in plain]))
    assert all(map(lets_through, answers))
    assert sidecar.evaluate().json()["decision"] is True


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_odd_target_is_let_through(sidecar: Sidecar, dialect: str) -> None:
    """Each target that may be read in two ways, or as none, is 403 in every dialect, or the parser's 400."""
    sent = [proxied(dialect, each, who(sidecar)) for each in vectors.targets(RECORD)]

    refused(run(sidecar, "auth", sent), 403)


def _message(sidecar: Sidecar, target: bytes, **http: str) -> bytes:
    message: bytes = checked(target, [bearer(sidecar, "dr_aida").encode()], **http).SerializeToString()
    return message


def test_no_odd_target_is_let_through_over_grpc(sidecar: Sidecar) -> None:
    """The same, of Envoy's attributes; with a body or without."""
    odd = [*vectors.targets(RECORD), *vectors.targets(RECORD, "told_exactly")]
    sent = [_message(sidecar, each) for each in odd]
    sent += [
        _message(sidecar, vectors.targets(RECORD)[0], body=each.decode("latin-1")[:1000])
        for each in vectors.bodies(question())
    ]

    answers = asyncio.run(check(sidecar.addresses["grpc"], sent))

    assert [each for each in zip(sent, answers, strict=True) if lets_through(each[1])] == []


def test_no_odd_message_is_let_through(sidecar: Sidecar) -> None:
    """A message that is cut short, spoilt or none at all is a denial or the end of its call, never a permit."""
    whole = _message(sidecar, RECORD.encode())
    spoilt = [whole[:place] + bytes((whole[place] ^ 0x80,)) + whole[place + 1 :] for place in range(0, len(whole), 3)]
    sent = [whole[:place] for place in range(len(whole))] + spoilt
    sent += [b"\x00" * 64, b"\xff" * 64, b"x" * 70_000, b"\x0a\xff\xff\xff\xff\x0f", json.dumps(question()).encode()]

    answers = asyncio.run(check(sidecar.addresses["grpc"], sent))

    assert [each for each in zip(sent, answers, strict=True) if lets_through(each[1])] == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_odd_header_is_let_through(sidecar: Sidecar, dialect: str) -> None:
    """A truth or a token said twice, a head that is read in two ways or is too large: a denial or the parser's 400."""
    sent = []
    for lines in vectors.headers(RECORD, bearer(sidecar, "dr_aida")):
        others = DIALECTS[dialect][0] if DIALECTS[dialect] else ""
        if len(lines) > 1 and (not others or dialect in ("nginx", "haproxy", "traefik", "caddy")):
            # Of two families, only the dialect's own is its truth: there it stands twice now.
            lines = [line for line in lines if not line.startswith(b"X-") or f"X-{others}-".encode() in line]  # noqa: PLW2901
        if lines and (others or not all(line.startswith((b"X-Original", b"X-Forwarded")) for line in lines)):
            sent.append(proxied(dialect, RECORD, who(sidecar), *lines))

    refused(run(sidecar, "auth", sent), 401, 403)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_is_nobodys_truth_changes_nothing(sidecar: Sidecar, dialect: str) -> None:
    """Names that look like a truth: the allowed stays allowed and is dr_aida's, the denied stays denied."""
    lines = vectors.headers(RECORD, bearer(sidecar, "dr_aida"), "ignored")
    for _, answer in run(sidecar, "auth", (proxied(dialect, RECORD, who(sidecar), *each) for each in lines)):
        assert answer.status == 200 and b"x-ruqsat-subject: dr_aida\r\n" in answer.raw, answer
    refused(run(sidecar, "auth", (proxied(dialect, RECORD, who(sidecar, "dr_erlan"), *each) for each in lines)), 403)


def test_no_odd_token_is_anybody(sidecar: Sidecar) -> None:
    """In the place of a good token: 401 at forward-auth and at the control API, a denial over gRPC."""
    good = bearer(sidecar, "dr_aida")
    none = jwt.encode(jwt.decode(good[7:], options={"verify_signature": False}), None, algorithm="none")
    odd = vectors.tokens(good, none)

    refused(run(sidecar, "auth", (proxied("nginx", RECORD, b"Authorization: " + each) for each in odd)), 401)
    refused(
        run(sidecar, "control", (request("GET", "/v1/consents/c-dana-h1", b"Authorization: " + each) for each in odd)),
        401,
    )
    answers = asyncio.run(
        check(sidecar.addresses["grpc"], [checked(RECORD, [each]).SerializeToString() for each in odd])
    )
    assert not any(map(lets_through, answers))


def test_no_odd_body_is_a_permit(sidecar: Sidecar) -> None:
    """Whatever is no question that is read in one way only: 400, or the answer false; alone, in a batch, in a search."""
    found = vectors.bodies(question())
    for endpoint in ENDPOINTS:
        for sent, answer in run(sidecar, "json", (posted(endpoint, each) for each in found)):
            # A search ignores the id of what it searches, however odd; its results are no answer about anybody named.
            assert not answer.allows or b'"results":' in answer.raw, (sent[:300], answer)
            assert answer.status in (200, 400) or (answer.closed and answer.status in (0, 400)), (sent[:300], answer)
            if b'"results":[' not in answer.raw:
                quiet(sent, answer)
    items = [b'{"evaluations":[' + each + b"]}" for each in found if len(each) < 500]
    for sent, answer in run(sidecar, "json", (posted(ENDPOINTS[1], each) for each in items)):
        assert not answer.allows, (sent, answer)
        quiet(sent, answer)


def test_what_only_looks_odd_is_answered_as_it_is(sidecar: Sidecar) -> None:
    """Members that nobody knows, large numbers in them, blanks: refused, or the answer to the question that is there."""
    for body in vectors.bodies(question(), "same_bodies"):
        ((_, answer),) = run(sidecar, "json", [posted(EVALUATION, body)])
        assert answer.status == 400 or answer.allows, answer
    for body in vectors.bodies(question(subject='{"type":"user","id":"dr_erlan"}'), "same_bodies"):
        ((_, answer),) = run(sidecar, "json", [posted(EVALUATION, body)])
        assert not answer.allows, answer


def test_only_json_is_read(sidecar: Sidecar) -> None:
    """Another content type, none, or the method GET: 400 or 405, whatever the body says."""
    sent = [posted(EVALUATION, asked(), kind=kind) for kind in vectors.FILE["content_types"]]
    sent += [
        request("POST", EVALUATION, body=asked()),
        request("GET", EVALUATION, "Content-Type: application/json", body=asked()),
    ]

    refused(run(sidecar, "json", sent), 400, 405)


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "subject": lambda value: {"subject": {"type": "user", "id": value}},
    "type": lambda value: {"subject": {"type": value, "id": "dr_aida"}, "resource": {"type": value, "id": value}},
    "action": lambda value: {"action": {"name": value}},
    "patient": lambda value: {"resource": {"type": "Record", "id": "o1", "properties": {"patient": value, "class": "labs"}}},
    "class": lambda value: {"resource": {"type": "Record", "id": "o1", "properties": {"patient": "p-dana", "class": value}}},
    "purpose": lambda value: {"context": {"purpose": value}},
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_no_value_is_code(sidecar: Sidecar, place: str) -> None:
    """A value that looks like an expression, a pattern, a rule or somebody else is a name that nobody has."""
    plain = json.loads(asked())
    sent = [posted(EVALUATION, json.dumps(plain | PLACES[place](value)).encode()) for value in vectors.FILE["values"]]

    for each, answer in run(sidecar, "json", sent):
        assert not answer.allows and answer.status in (200, 400), (each, answer)
        quiet(each, answer)


@pytest.mark.slow
@pytest.mark.parametrize("listener", ["json", "auth", "control"])
def test_nothing_hidden_in_a_request_is_answered_by_a_permit(sidecar: Sidecar, listener: str) -> None:
    """Framed in two ways or in none: at most denials come back, and the connection is closed in time."""
    token = who(sidecar)
    method, path, good = {
        "json": ("POST", EVALUATION, posted(EVALUATION, asked())),
        "auth": ("GET", "/authz/nginx", proxied("nginx", RECORD, token)),
        "control": ("GET", "/v1/consents/c-nobody", request("GET", "/v1/consents/c-dana-h1", who(sidecar, "dana"))),
    }[listener]
    sent = vectors.framing(method, path, good, "Host: records.example\r\nConnection: close\r\n")

    for each, answer in run(sidecar, listener, sent, to_the_end=True):
        assert answer.closed and not any(200 <= status < 300 for status in answer.statuses), (each[:300], answer)
        quiet(b"", answer)


@pytest.mark.parametrize("base", ENDPOINTS[:2])
def test_no_odd_target_makes_a_denial_a_permit_at_the_json_listener(sidecar: Sidecar, base: str) -> None:
    """The question stands in the body, so that a target at most finds no endpoint; header lines change nothing."""
    lines = vectors.headers(RECORD, bearer(sidecar, "dr_aida")) + vectors.headers(
        RECORD, bearer(sidecar, "dr_aida"), "ignored"
    )
    sent = [request("POST", each, "Content-Type: application/json", body=DENIED) for each in vectors.targets(base)]
    sent += [request("POST", base, "Content-Type: application/json", *each, body=DENIED) for each in lines]

    for each, answer in run(sidecar, "json", sent):
        assert not answer.allows, (each[:300], answer)
        assert not any(word in answer.raw for word in SECRETS), answer


@pytest.mark.slow
def test_no_odd_target_opens_the_control_api(sidecar: Sidecar) -> None:
    """With a token of somebody who may read nothing there: no 2xx but for what is everybody's, and no failure."""
    sent = [
        request("GET", each, who(sidecar, "dr_erlan"))
        for base in ("/v1/consents/c-dana-h1", "/v1/patients/p-dana")
        for each in vectors.targets(base)
    ]
    lines = vectors.headers(RECORD, bearer(sidecar, "dr_aida")) + vectors.headers(
        RECORD, bearer(sidecar, "dr_aida"), "ignored"
    )
    sent += [request("GET", "/v1/consents/c-dana-h1", who(sidecar, "dr_erlan"), *each) for each in lines]
    sent += [
        request("GET", f"/v1/consents/{value}".encode().replace(b"\n", b"%0a").replace(b" ", b"%20"), who(sidecar))
        for value in vectors.FILE["values"]
    ]

    queries = (
        "patient=x%00",
        "patient=%ff",
        "kind=%00",
        "limit=%00",
        "cursor=%00&patient=p-dana",
        "wait=%00",
        "patient=p-dana&patient=x",
    )
    gets = sidecar.call("control", "GET", "/openapi.json").json()["paths"]
    gets = [
        re.sub(r"\{\w+\}", "x", path) for path, methods in gets.items() if "get" in methods and path.startswith("/v1/")
    ]
    sent += [request("GET", f"{path}?{query}", who(sidecar)) for path in gets for query in queries]
    sent += [request("GET", path.replace("/x", "/x%00"), who(sidecar)) for path in gets]

    for each, answer in run(sidecar, "control", sent):
        assert 400 <= answer.status < 500 or (answer.closed and answer.status == 0), (each[:300], answer)
        assert not any(word in answer.raw for word in SECRETS), answer


@pytest.mark.slow
def test_odd_requests_for_what_watches_the_process_are_answered_in_peace(sidecar: Sidecar) -> None:
    """Health, metrics and status say what they say to everybody, or that there is no such thing."""
    good = bearer(sidecar, "dr_aida")
    lines = vectors.headers(RECORD, good) + vectors.headers(RECORD, good, "ignored")
    sent = [request("GET", each) for base in PUBLIC for each in vectors.targets(base)]
    sent += [request("GET", base, *each) for base in PUBLIC for each in lines]
    sent += [posted(base, each) for base in PUBLIC for each in vectors.bodies(question()) if len(each) < 1_000]

    for each, answer in run(sidecar, "control", sent):
        assert answer.status in (200, 404, 405) or (answer.closed and answer.status in (0, 400)), (each[:300], answer)
        assert not any(word in answer.raw for word in SECRETS), (each[:300], answer)


def routes(sidecar: Sidecar) -> list[tuple[str, str]]:
    """Return every operation of the control API that takes a body."""
    described = sidecar.call("control", "GET", "/openapi.json").json()["paths"]
    found = [
        (method.upper(), path)
        for path, methods in described.items()
        for method, what in methods.items()
        if "requestBody" in what
    ]
    assert len(found) > 10
    return found


@pytest.mark.slow
def test_no_odd_body_is_written(sidecar: Sidecar) -> None:
    """Every operation that takes a body refuses each of these, before or after it knows who asks; nothing is a failure."""
    odd = [each for each in vectors.bodies(question()) if len(each) < 300_000]
    named = ["x\u0000y", "' or 1=1", "\ud800"]
    shaped = [json.dumps(dict.fromkeys(("id", "patient", "resourceType", "status"), value)).encode() for value in named]
    sent = []
    for method, path in routes(sidecar):
        concrete = re.sub(r"\{\w+\}", "c-dana-h1", path)
        for person in ("dr_aida", "dana"):
            for each in (*odd[:: 1 if person == "dr_aida" else 5], *shaped):
                line = ("Content-Type: application/json", who(sidecar, person), 'If-Match: "1"')
                sent.append(request(method, concrete, *line, body=each))

    for each, answer in run(sidecar, "control", sent):
        assert 400 <= answer.status < 500, (each[:300], answer)
        quiet(each, answer)


def test_the_sidecar_is_as_it_was(sidecar: Sidecar) -> None:
    """After all of that it is ready, allows what it allowed and denies what it denied."""
    assert sidecar.call("control", "GET", "/health/ready").status_code == 200
    assert sidecar.evaluate().json()["decision"] is True
    assert sidecar.evaluate(DENIED).json()["decision"] is False


def test_the_look_at_answers_can_fail() -> None:
    """A permit, an echo and an answer that is none are seen."""
    allow = Told(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{"decision": true}', False
    )
    assert allow.allows and Told(b"HTTP/1.1 204 No Content\r\n\r\n", False).allows
    with pytest.raises(AssertionError):
        refused([(b"", allow)], 403)
    with pytest.raises(AssertionError):
        quiet(
            b"GET /patients/somebody-else HTTP/1.1",
            Told(b"HTTP/1.1 403 Forbidden\r\n\r\n/patients/somebody-else", False),
        )
    with pytest.raises(AssertionError):
        refused([(b"", Told(b"HTTP/1.1 500 Internal Server Error\r\n\r\n", False))], 403)
