"""Every route of the forward-auth listener, by every method and every person: 2xx exactly where the oracle allows."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest

from ruqsat.web import authzen, forward_auth
from ruqsat.web.forward_auth import envoy
from ruqsat.web.search import SEARCHES
from tests.conftest import ROOT
from tests.process.load import GoneError, Reply, connected
from tests.process.starter import Sidecar, serving
from tests.proxies.may import MAY_READ, READS, may
from tests.wire.ways import DIALECTS, check, checked, lets_through, proxied, request

METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "PURGE", "LINK", "COPY", "LOCK",
    "MKCOL", "REPORT", "SEARCH", "MERGE", "SUBSCRIBE", "ACL",
)  # fmt: skip
PEOPLE = ("dr_aida", "dr_erlan", "dana", None)
GENEROUS = (str(Path(__file__).with_name("generous.py")),)
AT_ONCE = 12
FHIR = (
    "/fhir/metadata", "/fhir/Patient/p-dana", "/fhir/Patient/p-dana/_history/1", "/fhir/Patient?name=Dana", "/fhir/Observation/o1",
    "/fhir/Observation?patient=p-dana", "/fhir/Patient/p-dana/$everything", "/fhir/Practitioner?name=A", "/fhir/$export", "/fhir",
)  # fmt: skip
FOR_STAFF = ("/fhir/metadata", "/fhir/Practitioner?name=A")
"""What the server says of itself, and the directory: no patient's, and read by whoever is in the directory."""

FHIR_MAY = {
    "dr_aida": FOR_STAFF, "dr_erlan": FOR_STAFF,
    # Order §28; of dr_aida's hospital the consent names laboratory results, not demographics.
    "dana": (*FOR_STAFF, "/fhir/Patient/p-dana", "/fhir/Patient/p-dana/_history/1"),
}  # fmt: skip


def allows(person: str | None, method: str, target: str) -> bool:
    """The oracle: tables written by hand, which share no code with the product."""
    if person is None:
        return False
    return may(person, method, target) or (method in READS and target in FHIR_MAY[person])


class Case(NamedTuple):
    """One request, and whether the oracle allows it."""

    dialect: str
    person: str | None
    method: str
    target: str
    sent: bytes
    allowed: bool


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A real process with the demo world."""
    with serving(tmp_path_factory.mktemp("routes"), grpc_listen="127.0.0.1:0") as process:
        yield process


def known_targets() -> list[str]:
    """Return a target for each route of the pack, and whatever the oracle lets anybody read."""
    text = (ROOT / "policies" / "routes.toml").read_text()
    patterns = re.findall(r'^path += "([^"]+)"', text, re.MULTILINE)
    assert len(patterns) >= 6
    names = {"patient": "p-dana", "class": "labs", "id": "o1"}
    filled = [re.sub(r"\{(\w+)[^}]*\}", lambda found: names.get(found[1], "x"), each) for each in patterns]
    return sorted({*filled, *FHIR, *(each for allowed in MAY_READ.values() for each in allowed)})


def paths_of_others(sidecar: Sidecar) -> list[str]:
    """Return every path that the other listeners serve, and what frameworks and proxies are fond of."""
    control = sidecar.call("control", "GET", "/openapi.json").json()["paths"]
    return [
        *control, authzen.EVALUATION, authzen.EVALUATIONS, authzen.METADATA, *SEARCHES, "/", "/docs", "/openapi.json", "/redoc",
        "/health", "/healthz", "/ping", "/ready", "/favicon.ico", "/robots.txt", "/authz", "/authz/", "/authz/unknown", "/test/fixtures",
        "/metrics", "*",
    ]  # fmt: skip


def cases(sidecar: Sidecar) -> list[Case]:
    """Return the sweep."""
    dialects = {path.decode().rpartition("/")[2] for path in forward_auth._DIALECTS} | {envoy.PREFIX.decode()[7:]}
    assert dialects == set(DIALECTS), "a dialect came or went: let the sweep know how it is asked"
    found = []
    for dialect, person, method, target in product(DIALECTS, PEOPLE, METHODS, known_targets()):
        who = [] if person is None else [f"Authorization: {sidecar.bearer(person)['authorization']}"]
        allowed = allows(person, method, target)
        found.append(Case(dialect, person, method, target, proxied(dialect, target, *who, method=method), allowed))
    truth = ("X-Original-Method: GET", "X-Original-URI: /directory", "X-Original-Host: h",
             "X-Forwarded-Method: GET", "X-Forwarded-Uri: /directory", "X-Forwarded-Host: h")  # fmt: skip
    who = f"Authorization: {sidecar.bearer('dr_aida')['authorization']}"
    for method, path in product(METHODS, paths_of_others(sidecar)):
        found.append(Case("none", "dr_aida", method, path, request(method, path, who, *truth), False))
    return found


def ask_all(address: str, sweep: Sequence[Case]) -> list[Reply]:
    """Ask over several connections, each kept open as long as the server does."""
    replies: dict[int, Reply] = {}

    async def some(numbers: list[int]) -> None:
        while numbers:
            async with connected(address) as connection:
                while numbers:
                    try:
                        replies[numbers[-1]] = await connection.ask(sweep[numbers[-1]].sent)
                    except GoneError:
                        raise AssertionError(f"no answer: {sweep[numbers[-1]]}") from None
                    if replies[numbers.pop()].closes:
                        break

    async def all_of_them() -> None:
        async with asyncio.TaskGroup() as group:
            for first in range(AT_ONCE):
                group.create_task(some(list(range(first, len(sweep), AT_ONCE))))

    asyncio.run(all_of_them())
    return [replies[number] for number in range(len(sweep))]


def wrong(sweep: Sequence[Case], replies: Sequence[Reply]) -> list[tuple[str, str | None, str, str, int]]:
    """Return where a proxy would let through what the oracle does not, or the other way round, or fail."""
    return [
        (*case[:4], reply.status)
        for case, reply in zip(sweep, replies, strict=True)
        if reply.status not in ((200,) if case.allowed else (401, 403)) and not _by_parser(reply)
    ]


def _by_parser(reply: Reply) -> bool:
    """Tell whether the parser refused the request: 400, and the connection closed."""
    return reply.status == 400 and reply.closes


@pytest.mark.slow
def test_every_route_answers_2xx_exactly_where_the_oracle_allows(sidecar: Sidecar) -> None:
    """Dialects, methods, people and the pack's routes multiplied; every path of every other listener is 403 here."""
    sweep = cases(sidecar)

    replies = ask_all(sidecar.addresses["auth"], sweep)

    assert wrong(sweep, replies) == []
    assert sum(case.allowed for case in sweep) > 50
    print(f"{len(sweep)} requests, {sum(reply.status == 200 for reply in replies)} let through")


@pytest.mark.slow
def test_every_route_over_grpc_is_let_through_exactly_where_the_oracle_allows(sidecar: Sidecar) -> None:
    """The same multiplication as Envoy asks it over gRPC."""
    sweep = list(product(PEOPLE, METHODS, known_targets()))
    who = {each: [] if each is None else [sidecar.bearer(each)["authorization"].encode()] for each in PEOPLE}
    sent = [checked(target, who[person], method).SerializeToString() for person, method, target in sweep]

    answers = asyncio.run(check(sidecar.addresses["grpc"], sent))

    allowed = [allows(*each) for each in sweep]
    assert [lets_through(each) for each in answers] == allowed


@pytest.mark.slow
def test_a_route_that_nobody_judges_is_found(tmp_path: Path) -> None:
    """A sidecar with a health route of its own there, and one method let through, does not pass the sweep."""
    with serving(tmp_path, program=GENEROUS) as holed:
        sweep = [case for case in cases(holed) if case.method in ("GET", "OPTIONS")]
        found = wrong(sweep, ask_all(holed.addresses["auth"], sweep))

    assert {each[3] for each in found if each[4] == 204} == {"/health/live"}
    assert {each[2] for each in found if each[4] == 200} == {"OPTIONS"}
