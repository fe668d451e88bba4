"""Whatever becomes of the sidecar, nothing passes without its word, behind each real proxy."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.proxies.conftest import Site
from tests.proxies.front import KINDS, Front, free_port, running_front, running_records
from tests.proxies.raw import Reply, ask, bearer
from tests.proxies.stand_in import (
    LATE_SECONDS,
    Behaviour,
    StandIn,
    falls_silent,
    running_stand_in,
    says,
    says_late,
    trickles,
)

O1 = "/patients/p-dana/labs/o1"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Ruqsat-Subject: dr_aida\r\nX-Ruqsat-Decision: d-1\r\n\r\n"


def status(line: str, *headers: str) -> bytes:
    """Return an answer without a body."""
    return "\r\n".join((f"HTTP/1.1 {line}", "Content-Length: 0", *headers, "", "")).encode()


BAD: dict[str, Behaviour] = {
    "closes at once": says(b""),
    "closes in the status line": says(b"HTTP/1.1 20"),
    "closes in the head": says(YES[:-2]),
    "says 302": says(status("302 Found", "Location: http://records.example/patients/p-dana/labs/o1")),
    "says 304": says(status("304 Not Modified")),
    "says 400": says(status("400 Bad Request")),
    "says 404": says(status("404 Not Found")),
    "says 429": says(status("429 Too Many Requests")),
    "says 500": says(status("500 Internal Server Error", "X-Ruqsat-Subject: dr_aida")),
    "says 503": says(status("503 Service Unavailable")),
    "says 403 with a yes in its body": says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n" % len(YES) + YES),
    "says 101": says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
    "says 999": says(status("999 What")),
    "says 000": says(status("000 OK")),
    "says 2000": says(status("2000 OK")),
    "says -200": says(status("-200 OK")),
    "says words": says(b"HTTP/1.1 OK fine\r\n\r\n"),
    "says only a body": says(b"200 OK"),
    "says garbage": says(bytes(range(256)) * 8),
    "says zeros": says(b"\x00" * 2048),
    "says a TLS alert": says(b"\x15\x03\x01\x00\x02\x02\x28"),
    "speaks SMTP": says(b"220 mail.example ESMTP\r\n"),
    "speaks HTTP/2": says(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "says 100 and no more": falls_silent(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "says nothing": falls_silent(b""),
    "says half a yes": falls_silent(YES[:-2]),
    "says yes too late": says_late(YES),
    "trickles": trickles(YES),
}


class Broken(NamedTuple):
    """A proxy whose sidecar is a stand-in."""

    front: Front
    stand_in: StandIn
    records: Any


@pytest.fixture(scope="session", params=[name for name, each in KINDS.items() if each.asks == "auth"])
def broken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """A proxy that asks a stand-in, as the shipped file says; one that asks over gRPC has tests of its own."""
    kind = str(request.param)
    with running_records() as records, running_stand_in() as stand_in:
        folder = tmp_path_factory.mktemp(f"broken-{kind}")
        with running_front(kind, folder, stand_in.port, records.server_port) as front:
            yield Broken(front, stand_in, records)


def is_refusal(reply: Reply) -> bool:
    """Tell whether a client was refused: an error of either side, or a closed connection."""
    return reply.status == 0 or 400 <= reply.status < 600


def test_stand_in_can_let_a_request_through(broken: Broken) -> None:
    """The stand-in is asked and believed, so that the refusals below are about what it says."""
    broken.records.seen.clear()
    broken.stand_in.behaviour = says(YES)

    assert ask(broken.front.port, "GET", O1).status == 200
    assert [entry["headers"]["x-ruqsat-subject"] for entry in broken.records.seen] == ["dr_aida"]


@pytest.mark.slow
@pytest.mark.parametrize("manner", BAD)
def test_bad_answer_lets_nothing_through(broken: Broken, manner: str) -> None:
    """A sidecar that is slow, mute, mad or half gone lets nothing through, neither now nor when its answer comes."""
    broken.records.seen.clear()
    broken.stand_in.behaviour, asked = BAD[manner], broken.stand_in.asked

    with ThreadPoolExecutor(4) as pool:
        methods = ("GET", "POST", "HEAD", "DELETE")
        replies = list(pool.map(lambda method: ask(broken.front.port, method, O1, "Content-Length: 0"), methods))

    assert not any(b"x-ruqsat-subject" in reply.body for reply in replies), replies
    assert broken.stand_in.asked > asked
    if "late" in manner:
        time.sleep(LATE_SECONDS)
    assert broken.records.seen == []


def test_204_is_permission_for_some_proxies(broken: Broken) -> None:
    """204 is a denial for Envoy and our Lua, but nginx and Caddy take any 2xx for permission: so it is never said."""
    broken.records.seen.clear()
    broken.stand_in.behaviour = says(b"HTTP/1.1 204 No Content\r\n\r\n")

    ask(broken.front.port, "GET", O1)

    assert bool(broken.records.seen) is (broken.front.kind not in ("envoy", "haproxy"))


@pytest.mark.slow
def test_absent_sidecar_lets_nothing_through(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With nobody at the sidecar's address every request is refused."""
    folder = tmp_path_factory.mktemp(f"absent-{kind}")
    with running_records() as records, running_front(kind, folder, free_port(), records.server_port) as front:
        assert all(is_refusal(ask(front.port, method, O1)) for method in ("GET", "HEAD", "POST", "OPTIONS"))
        assert records.seen == []


@pytest.mark.slow
def test_sidecar_that_accepts_nobody_lets_nothing_through(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A port that is open while nobody ever accepts is as good as a closed one."""
    folder = tmp_path_factory.mktemp(f"deaf-{kind}")
    with (
        socket.create_server(("127.0.0.1", 0), backlog=1) as deaf,
        running_records() as records,
        running_front(kind, folder, deaf.getsockname()[1], records.server_port) as front,
        ThreadPoolExecutor(4) as pool,
    ):
        assert all(map(is_refusal, pool.map(lambda _: ask(front.port, "GET", O1), range(4))))
        assert records.seen == []


@pytest.mark.slow
def test_paused_sidecar_lets_nothing_through_until_it_goes_on(own_site: Site) -> None:
    """While the sidecar stands still nothing passes, nor does what it was asked then; what comes afterwards does."""
    who, port = bearer(own_site.sidecar.token("dr_aida")), own_site.front.port
    assert ask(port, "GET", O1, who).status == 200
    own_site.seen.clear()

    own_site.sidecar.pause()
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: ask(port, "GET", O1, who), range(6)))
    assert all(map(is_refusal, replies)), replies

    own_site.sidecar.go_on()
    time.sleep(0.5)
    assert own_site.seen == []
    assert passes_again(port, who)


def passes_again(port: int, who: str) -> bool:
    """Tell whether requests pass, given a moment to open connections anew."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if ask(port, "GET", O1, who).status == 200:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
def test_killed_sidecar_lets_nothing_through(own_site: Site) -> None:
    """From the kill on nothing passes, not even on connections that passed a moment ago, nor what was being asked."""
    who, port = bearer(own_site.sidecar.token("dr_aida")), own_site.front.port
    assert ask(port, "GET", O1, who).status == 200
    own_site.seen.clear()

    own_site.sidecar.pause()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, port, "GET", O1, who) for _ in range(4)]
        time.sleep(0.3)
        own_site.sidecar.kill()
        replies = [future.result() for future in asked]

    assert all(map(is_refusal, replies)), replies
    assert all(is_refusal(ask(port, method, O1, who)) for method in ("GET", "HEAD", "POST") for _ in range(3))
    assert own_site.seen == []
