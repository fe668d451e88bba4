"""
Traefik's forwardAuth before the real sidecar, by its source: no binary of Traefik runs here.

What is proved is that the shipped file, followed as the source follows it, and the sidecar fit together; see traefik.py
for what the stand-in is not.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from typing import Any

import pytest

from ruqsat.core.fhir.reading import OVERRIDES
from ruqsat.proxies.configuration import Address, render
from ruqsat.proxies.exchange import read_front
from ruqsat.proxies.matrix import Finding, Subject, run
from tests.proxies.front import free_port, running_records
from tests.proxies.raw import ask, bearer
from tests.proxies.stand_in import running_stand_in, says
from tests.proxies.sweep import DRAWN, SEED, cases, is_right_arrival, is_right_sender, send
from tests.proxies.test_planted_holes import instead, without
from tests.proxies.traefik import running_traefik
from tests.sidecar import Sidecar

O1, O2 = "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2"


@contextmanager
def site(asked: int, plant: Callable[[str], str] = str) -> Iterator[tuple[int, Any]]:
    """Run the shipped file before the port that is asked, and the records server behind; yield port and records."""
    with running_records() as records:
        here = Address("127.0.0.1", asked), Address("127.0.0.1", records.server_port)
        (text,) = render("traefik", Address("127.0.0.1", 8080), *here).values()
        with running_traefik(plant(text)) as port:
            yield port, records


def findings(sidecar: Sidecar, port: int) -> list[Finding]:
    """Return what the matrix finds."""
    return run(read_front(f"http://127.0.0.1:{port}"), Subject(sidecar.token("dr_aida"), O1, O2))


def test_every_check_is_good(sidecar: Sidecar) -> None:
    """Statuses, forged headers, confusing paths: as behind the proxies that run here."""
    with site(sidecar.ports["auth"]) as (port, _):
        assert [finding for finding in findings(sidecar, port) if not finding.good] == []


def test_only_what_the_table_allows_arrives(sidecar: Sidecar) -> None:
    """The sweep's fixed cases: people, methods, targets, forged subjects."""
    with site(sidecar.ports["auth"]) as (port, records):
        outcomes = send(port, records.seen, sidecar, [case for case in cases()[:-DRAWN] if case.target not in REFUSED])

    assert [each for each in outcomes if not is_right_arrival(each) or not is_right_sender(each)] == [], SEED


REFUSED = tuple(
    case.target for case in cases() if not isinstance(case.target, str) or not case.target.startswith("/")
)  # fmt: skip
"""Targets that only Go's own parser can say something about."""


def test_denial_is_relayed_with_its_words(sidecar: Sidecar) -> None:
    """The client sees the sidecar's status, challenge, decision and reason."""
    with site(sidecar.ports["auth"]) as (port, records):
        denied = ask(port, "GET", O2, bearer(sidecar.token("dr_aida")))
        unknown = ask(port, "GET", O1)

    assert (denied.status, denied.headers["x-ruqsat-reason"]) == (403, "consent_required")
    assert denied.headers["x-ruqsat-decision"]
    assert (unknown.status, unknown.headers["www-authenticate"][:6]) == (401, "Bearer")
    assert records.seen == []


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", b"HTTP/1.1 500 Oops\r\n\r\n"])
def test_nothing_passes_without_the_sidecar_s_word(answer: bytes) -> None:
    """Closed, redirected, failed, or nobody there."""
    with running_stand_in() as asked, site(asked.port) as (port, records):
        asked.behaviour = says(answer)
        assert ask(port, "GET", O1).status in (302, 500)
    with site(free_port()) as (nobody, others):
        assert ask(nobody, "GET", O1).status == 500
    assert records.seen == others.seen == []


REWRITING = (
    *OVERRIDES, "x-original-method", "x-original-uri", "x-original-url", "x-original-host", "x-rewrite-url", "x-forwarded-method",
    "x-forwarded-uri",
)  # fmt: skip


def test_no_spelling_of_another_method_or_target_arrives(sidecar: Sidecar) -> None:
    """Not with `_` for `-` either, nor half so: some backends read all of them alike, and would serve what was denied."""
    spelt = ["".join(each) for name in REWRITING for each in product(*["-_" if part == "-" else part for part in name])]
    with site(sidecar.ports["auth"]) as (port, records):
        reply = ask(port, "GET", O1, bearer(sidecar.token("dr_aida")), *[f"{name}: {O2}" for name in spelt])

    assert (reply.status, len(spelt)) == (200, 44)
    assert [name for name, value in records.seen[0]["headers"].items() if value == O2] == []


HOLES = {
    "a client says what is asked about": [
        instead("trustForwardHeader: false", "trustForwardHeader: true"),
        without("X-Forwarded-Uri: \"\"", "X-Forwarded-Method: \"\""),
    ],
    "a client names the subject": [
        without(" X-Ruqsat-Subject: \"\""), instead("[X-Ruqsat-Subject, X-Ruqsat-Decision]", "[X-Ruqsat-Decision]"),
    ],
    "underscores": [without("X_Ruqsat_Subject")],
    "half underscores": [without("X-Ruqsat_Subject: ")],
    "the subject vanishes": [without("Connection: \"\"")],
    "another method": [without(" X-HTTP-Method-Override")],
    "another target": [without(" X-Rewrite-URL")],
    "another target with underscores": [without("X_Rewrite_URL")],
    "another dialect": [instead("/authz/traefik", "/authz/nginx")],
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES)
def test_planted_hole_is_found(hole: str, sidecar: Sidecar) -> None:
    """Each line of the file that is there for safety: without it, the matrix finds what is open."""

    def plant(text: str) -> str:
        for change in HOLES[hole]:
            text = change(text)
        return text

    with site(sidecar.ports["auth"], plant) as (port, _):
        assert [finding for finding in findings(sidecar, port) if finding.good is False]
