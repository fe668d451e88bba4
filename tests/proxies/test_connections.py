"""How requests share a connection: none rides through on the back of another, behind each real proxy."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.proxies.conftest import Site
from tests.proxies.front import KINDS, running_front
from tests.proxies.h2 import exchange
from tests.proxies.raw import Connection, ask, bearer, request
from tests.proxies.stand_in import running_stand_in, says

O1, O2 = "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2"


def targets(site: Site) -> list[str]:
    """Return the targets that reached the records server, in order; what it could not read as it was."""
    return [entry.get("target", entry.get("unreadable")) for entry in site.seen]


def test_each_request_on_a_connection_is_judged_by_itself(site: Site) -> None:
    """On one connection an allowed request opens nothing for the next, nor a denied one shuts it."""
    aida, erlan = (bearer(site.sidecar.token(person)) for person in ("dr_aida", "dr_erlan"))

    with Connection(site.front.port) as connection:
        asked = [(O1, aida), (O2, aida), (O1, erlan), (O1, aida), ("/directory", erlan)]
        told = [connection.ask("GET", target, who).status for target, who in asked]

    assert told == [200, 403, 403, 200, 200]
    assert targets(site) == [O1, O1, "/directory"]


def test_pipelined_requests_are_judged_one_by_one(site: Site) -> None:
    """Requests sent in one piece are judged one by one."""
    who = bearer(site.sidecar.token("dr_aida"))

    with Connection(site.front.port) as connection:
        connection.send(b"".join(request("GET", target, who) for target in (O1, O2, O1)))
        first = connection.read()

    assert first.status == 200
    assert O2 not in targets(site)


@pytest.mark.parametrize(
    "framing",
    [
        ("Content-Length: {whole}",),
        ("Transfer-Encoding: chunked",),
        ("Content-Length: {whole}", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 0", "Content-Length: {whole}"),
        ("Content-Length: {whole}, 0",),
        ("Content-Length: +0",),
        ("Content-Length: 0x0",),
        ("Content-Length : 0",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding:\tchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding: identity, chunked",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer_Encoding: chunked",),
        ("X-A: b\r\n Transfer-Encoding: chunked",),
        ("X-A: b\nTransfer-Encoding: chunked",),
    ],
    ids=str,
)
def test_request_hidden_in_a_body_never_arrives(site: Site, framing: tuple[str, ...]) -> None:
    """However a body is framed, a request inside it is never taken for a request of its own that nobody judged."""
    who = bearer(site.sidecar.token("dr_aida"))
    hidden = request("GET", O2, who)
    chunk = b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(hidden), b"a" * 20, hidden)
    for body in (hidden, chunk, b"0\r\n\r\n" + hidden):
        lines = [line.replace("{whole}", str(len(body))) for line in framing]

        ask(site.front.port, "GET", O1, who, *lines, body=body)

    assert set(targets(site)) <= {O1}


def test_body_of_an_allowed_request_arrives_whole(site: Site) -> None:
    """The body is the records server's business: the sidecar gets none of it, and none is lost."""
    who = bearer(site.sidecar.token("dr_aida"))
    body = b"x" * 5_000

    assert ask(site.front.port, "GET", O1, who, f"Content-Length: {len(body)}", body=body).status == 200
    assert (
        ask(
            site.front.port, "GET", O1, who, "Transfer-Encoding: chunked", body=b"1388\r\n%s\r\n0\r\n\r\n" % body
        ).status
        == 200
    )

    assert [entry["body"] for entry in site.seen] == [body.decode()] * 2


@pytest.mark.parametrize("kind", [kind for kind, entry in KINDS.items() if entry.asks == "auth"])
def test_slow_body_cannot_keep_a_permit_for_later(kind: str, tmp_path: Path) -> None:
    """A request goes on once it is permitted, or is asked about once it is whole: between the two its consent could end."""
    allows = says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    with (
        running_stand_in() as sidecar,
        running_stand_in() as records,
        running_front(kind, tmp_path, sidecar.port, records.port) as front,
        Connection(front.port) as client,
    ):
        sidecar.behaviour = records.behaviour = allows
        client.send(request("GET", O1, "Authorization: Bearer x", "Content-Length: 9", body=b"a"))
        began = time.monotonic()
        while time.monotonic() < began + 1 or (sidecar.asked > records.asked and time.monotonic() < began + 10):
            time.sleep(0.02)

        assert records.asked == sidecar.asked


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "TLS/1.3", "HTTP/2.0"])
def test_upgrade_cannot_open_what_is_denied(site: Site, upgrade: str) -> None:
    """A request for another protocol is judged like any other."""
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    who = bearer(site.sidecar.token("dr_aida"))

    assert 400 <= ask(site.front.port, "GET", O2, who, *lines, *key).status < 500
    assert site.seen == []


@pytest.mark.parametrize("upgrade", ["websocket", "h2c", "x"])
def test_upgrade_cannot_leave_the_protocol_in_which_each_request_is_judged(site: Site, upgrade: str) -> None:
    """Nothing behind the proxy is asked to switch: what came after, on the same connection, nobody would judge."""
    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
    who = bearer(site.sidecar.token("dr_aida"))

    assert ask(site.front.port, "GET", O1, who, *lines, *key).status in (200, 403)
    assert [entry for entry in site.seen if "upgrade" in entry["headers"]] == []


def test_old_protocol_cannot_open_what_is_denied(site: Site) -> None:
    """HTTP/1.0 and HTTP/0.9 requests, with and without a host, get what the others get, or nothing."""
    token = bearer(site.sidecar.token("dr_aida"))
    for target in (O1, O2):
        for head in (f"{token}\r\nHost: h\r\n", f"{token}\r\n", ""):
            with Connection(site.front.port) as connection:
                connection.send(f"GET {target} HTTP/1.0\r\n{head}\r\n".encode())
                connection.read()
        with Connection(site.front.port) as connection:
            connection.send(f"GET {target}\r\n\r\n".encode())
            connection.read()

    assert set(targets(site)) <= {O1}


def test_http_2_is_judged_by_its_own_path(site: Site) -> None:
    """Over HTTP/2 in the clear, which not every proxy speaks, what is denied stays denied, second `:path` or not."""
    token = f"Bearer {site.sidecar.token('dr_aida')}"
    get, http, host = (":method", "GET"), (":scheme", "http"), (":authority", "records.example")
    allowed, denied, who = (":path", O1), (":path", O2), ("authorization", token)

    exchange(site.front.port, [get, http, host, allowed, who])
    assert targets(site) == ([] if site.front.kind == "nginx" else [O1])

    site.seen.clear()
    refused = (
        [get, http, host, denied, who],
        [get, http, host, allowed, denied, who],
        [get, http, host, denied, allowed, who],
        [get, http, host, denied, who, allowed],
        [get, http, host, denied, who, ("x-original-uri", O1), ("x-forwarded-uri", O1), ("path", O1)],
        [get, http, host, allowed],
        [get, get, http, host, denied, who],
        [(":method", "DELETE"), http, host, allowed, who, ("x-http-method-override", "GET")],
        [get, http, host, (":path", f"{O1}\r\nx: {O2}"), who],
        [get, http, host, (":path", f"{O1}/../o2"), who],
        [get, http, host, (":path", "patients/p-dana/labs/o2"), who],
    )
    with ThreadPoolExecutor(len(refused)) as pool:
        list(pool.map(lambda fields: exchange(site.front.port, fields), refused))
    assert site.seen == []
