"""The Python kit against a real sidecar: its own process, its own enforcement points."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from ruqsat.pep import AsyncClient, Client, Decision, Middleware
from tests.process.starter import question
from tests.sidecar import Sidecar, running_sidecar

SECRET, OTHER = "the portal's own", "somebody else's"
DUTIES = ("redact", "suppress_total")
POINTS = f"""
[portal]
listeners = ["json"]
secret_sha256 = "{sha256(SECRET.encode()).hexdigest()}"
capabilities = ["redact", "suppress_total"]
"""


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar with one registered enforcement point."""
    folder = tmp_path_factory.mktemp("pep")
    points = folder / "points.toml"
    points.write_text(POINTS)
    with running_sidecar(folder / "sidecar", enforcement_points=str(points)) as running:
        yield running


def address(sidecar: Sidecar) -> str:
    """Return where the JSON listener is."""
    return f"127.0.0.1:{sidecar.ports['json']}"


def parts(subject: str = "dr_aida") -> dict[str, Any]:
    """Return a question about two results of Dana's: o2 says HIV, which her consent does not name."""
    asked = question(subject, "search")
    if subject == "dana":
        asked["subject"]["type"], asked["context"]["purpose"] = "patient", "PATRQT"
    asked["resource"]["properties"]["parts"] = [
        {"id": "Observation/o1", "labels": []}, {"id": "Observation/o2", "labels": ["HIV"]},
    ]  # fmt: skip
    return asked


def test_who_may_is_permitted_and_who_may_not_is_denied(sidecar: Sidecar) -> None:
    """One question or several, from a thread or a task: the sidecar's answers, in their order."""
    asked = [question("dr_aida"), question("dr_erlan"), question("dr_aida")]
    with Client(address(sidecar), secret=SECRET, timeout=10) as client:
        assert [bool(client.evaluate(each)) for each in asked] == [True, False, True]
        assert [bool(each) for each in client.evaluations(asked)] == [True, False, True]
        first = client.evaluate(asked[0])
        assert (first.reason, client.evaluate(asked[1]).reason) == ("permitted", "consent_required")
        assert first.id
        assert [duty.type for duty in first.duties] == ["notify_subject"]

    async def ask() -> tuple[list[Decision], Decision]:
        async with AsyncClient(address(sidecar), secret=SECRET, timeout=10) as client:
            return await client.evaluations(asked), await client.evaluate(asked[1])

    several, one = anyio.run(ask)
    assert ([bool(each) for each in several], bool(one)) == ([True, False, True], False)


@pytest.mark.parametrize("secret", [None, OTHER, ""])
def test_nobody_is_permitted_without_the_secret(sidecar: Sidecar, secret: str | None) -> None:
    """A client that cannot prove itself is given denials, not errors."""
    with Client(address(sidecar), secret=secret) as client:
        assert client.evaluate(question()).reason == "unavailable"
        assert [each.allowed for each in client.evaluations([question(), question()])] == [False, False]


def test_a_malformed_question_is_denied_among_good_ones(sidecar: Sidecar) -> None:
    """It takes no other answer's place, and no exception leaves the client."""
    bad: list[Any] = [{"subject": {"type": "user"}}, {"context": 7}, {"subject": object()}]
    with Client(address(sidecar), secret=SECRET, timeout=10) as client:
        assert not any(client.evaluate(each) for each in bad)
        answers = client.evaluations([question(), {"subject": {"type": "user"}}, question()])
        assert [bool(each) for each in answers] == [True, False, True]
        assert client.evaluations([]) == []
        assert not any(client.evaluations([question()] * 1001))


def test_the_consistency_token_goes_with_the_question(sidecar: Sidecar) -> None:
    """A token that the sidecar gave is taken; one that is made up denies, so it did arrive."""
    with Client(address(sidecar), secret=SECRET, timeout=10) as client:
        token = client.evaluate(question()).token
        assert token
        assert client.evaluate(question(), token=token)
        assert all(client.evaluations([question()] * 2, token=token))
        forged = token.replace(".", ".9", 1)
        assert not client.evaluate(question(), token=forged)
        assert not any(client.evaluations([question()] * 2, token=forged))


def test_a_part_is_permitted_only_to_who_cuts_out_the_rest(sidecar: Sidecar) -> None:
    """The sidecar hears what this client can do, and not what its entry could."""
    with Client(address(sidecar), secret=SECRET, duties=DUTIES, timeout=10) as able:
        decision = able.evaluate(parts())
        assert decision
        told = {duty.type: duty.properties for duty in decision.duties}
        assert told["redact"] == {"parts": ["Observation/o2"]}
        assert "suppress_total" in told
    for duties in ((), ("redact",), ("suppress_total",)):
        with Client(address(sidecar), secret=SECRET, duties=duties, timeout=10) as unable:
            denied = unable.evaluate(parts())
            # The sidecar's own denial, in its journal: not a permit that the client refused afterwards.
            assert (denied.allowed, denied.reason) == (False, "not_permitted")


def test_a_sidecar_that_is_gone_denies(tmp_path: Path) -> None:
    """Paused or ended, it permits nothing, and what is asked afterwards is denied too."""
    with running_sidecar(tmp_path / "own") as own, Client(address(own), timeout=1) as client:
        assert client.evaluate(question())
        own.pause()
        assert client.evaluate(question()).reason == "unavailable"
        own.go_on()
        own.kill()
        assert client.evaluate(question()).reason == "unavailable"
        client.close()
        assert client.evaluate(question()).reason == "unavailable"


def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    """With the address that `serve` prints."""
    socket = tmp_path / "json.sock"
    with running_sidecar(tmp_path / "own", json_listen=f"unix:{socket}"), Client(f"unix:{socket}") as client:
        assert client.evaluate(question())
        assert not client.evaluate(question("dr_erlan"))


BUNDLE = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 2,
    "link": [{"relation": "self", "url": "x"}, {"relation": "last", "url": "x?page=2"}],
    "entry": [{"resource": {"resourceType": "Observation", "id": name}} for name in ("o1", "o2")],
}


class Records:
    """An application that answers with both results, and counts how often it was reached."""

    def __init__(self) -> None:
        self.reached = 0

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        """Answer."""
        self.reached += 1
        body = json.dumps(BUNDLE).encode()
        headers = [(b"content-type", b"application/fhir+json"), (b"x-total-count", b"2"), (b"etag", b'W/"2"')]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body[:40], "more_body": True})
        await send({"type": "http.response.body", "body": body[40:]})


def through(sidecar: Sidecar, records: Records, *people: str, duties: tuple[str, ...] = DUTIES) -> list[httpx.Response]:
    """Ask the application, through the middleware, for both results as each of *people*."""

    def asked(scope: Any) -> dict[str, Any] | None:
        who = scope["path"].strip("/")
        return parts(who) if who else None

    async def send() -> list[httpx.Response]:
        async with AsyncClient(address(sidecar), secret=SECRET, duties=duties, timeout=10) as client:
            transport = httpx.ASGITransport(Middleware(records, client=client, question=asked))
            async with httpx.AsyncClient(transport=transport, base_url="http://records") as browser:
                return [await browser.get(f"/{who}") for who in people]

    return anyio.run(send)


def test_middleware_cuts_out_what_is_not_permitted(sidecar: Sidecar) -> None:
    """The doctor gets the result that the consent names, no count, and no header that tells of one."""
    records = Records()
    (answer,) = through(sidecar, records, "dr_aida")

    assert answer.status_code == 200
    assert [each["resource"]["id"] for each in answer.json()["entry"]] == ["o1"]
    assert "total" not in answer.json()
    assert [link["relation"] for link in answer.json()["link"]] == ["self"]
    assert set(answer.headers) == {"content-type", "content-length", "cache-control"}


def test_middleware_leaves_a_whole_permit_as_it_is(sidecar: Sidecar) -> None:
    """The patient gets everything, to the last header."""
    (answer,) = through(sidecar, Records(), "dana")

    assert answer.status_code == 200
    assert answer.json() == BUNDLE
    assert answer.headers["x-total-count"] == "2"


def test_middleware_lets_nothing_reach_the_application_that_is_denied(sidecar: Sidecar) -> None:
    """Nobody's consent, nobody's question, or a client that cannot cut out: 403 before the application is asked."""
    records = Records()
    answers = [*through(sidecar, records, "dr_erlan", ""), *through(sidecar, records, "dr_aida", duties=())]

    assert [each.status_code for each in answers] == [403, 403, 403]
    assert [each.headers["x-ruqsat-reason"] for each in answers[:2]] == ["consent_required", "unmapped"]
    assert not any(each.content for each in answers)
    assert records.reached == 0
