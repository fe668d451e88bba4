"""The tests can fail: a hole planted in a shipped configuration is noticed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.proxies.front import KINDS, running_front, running_records
from tests.proxies.raw import ask
from tests.proxies.stand_in import falls_silent, running_stand_in
from tests.proxies.sweep import DRAWN, cases, is_right_arrival, is_right_sender, send
from tests.sidecar import Sidecar


def without(*lines: str) -> Callable[[str], str]:
    """Return a change that leaves out the lines which hold one of these."""

    def change(shipped: str) -> str:
        assert all(line in shipped for line in lines)
        return "\n".join(kept for kept in shipped.splitlines() if not any(line in kept for line in lines)) + "\n"

    return change


def instead(old: str, new: str) -> Callable[[str], str]:
    """Return a change that writes *new* for *old*."""

    def change(shipped: str) -> str:
        assert old in shipped
        return shipped.replace(old, new)

    return change


HOLES = {
    "nginx asks about a tidied target": ("nginx", instead("$request_uri", "$uri")),
    "nginx asks about GET only": ("nginx", instead("X-Original-Method $request_method", "X-Original-Method GET")),
    "nginx forwards a tidied target": ("nginx", instead("http://records;", "http://records/;")),
    "nginx does not ask": ("nginx", without("auth_request      /_ruqsat")),
    "nginx lets the client name the subject": ("nginx", without("X-Ruqsat-Subject  $ruqsat_subject")),
    "nginx lets underscores through": ("nginx", instead("underscores_in_headers off", "underscores_in_headers on")),
    "HAProxy lets the client name the subject": ("haproxy", without("set-header X-Ruqsat-Subject")),
    "HAProxy lets underscores through": ("haproxy", without("option http-restrict-req-hdr-names")),
    "HAProxy forwards what is denied": ("haproxy", without("http-request return status 403")),
    "HAProxy asks about another target": (
        "haproxy", instead("http-request lua.ruqsat", "http-request set-uri /directory\n  http-request lua.ruqsat"),
    ),
    "Envoy lets the client name the subject": ("envoy", without("exact: x-ruqsat-subject")),
    "Envoy lets underscores through": ("envoy", instead("DROP_HEADER", "ALLOW")),
    "Caddy drops what Connection names": ("caddy", without("header_up X-Ruqsat-Subject")),
    "Caddy copies no subject": ("caddy", instead("copy_headers X-Ruqsat-Subject", "copy_headers")),
    "Caddy runs in an order of its own": ("caddy", instead("\troute {", "\thandle {")),
    "Caddy asks about a fixed target": (
        "caddy", instead("uri /authz/caddy", "uri /authz/caddy\n\t\t\theader_up X-Forwarded-Uri /directory"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES)
def test_sweep_notices_a_hole(hole: str, sidecar: Sidecar, tmp_path: Path) -> None:
    """A proxy that asks about something else than it forwards, or lets a client name the subject, is found out."""
    kind, plant = HOLES[hole]
    with (
        running_records() as records,
        running_front(kind, tmp_path, sidecar.ports[KINDS[kind].asks], records.server_port, plant) as front,
    ):
        outcomes = send(front.port, records.seen, sidecar, cases()[:-DRAWN])

    assert not all(map(is_right_arrival, outcomes)) or not all(map(is_right_sender, outcomes))


def test_open_failure_mode_is_noticed(tmp_path: Path) -> None:
    """Envoy told to fail open does: the closed files are closed by what they say, not by luck."""
    plant = instead("failure_mode_allow: false", "failure_mode_allow: true")
    with (
        running_records() as records,
        running_stand_in() as stand_in,
        running_front("envoy", tmp_path, stand_in.port, records.server_port, plant) as front,
    ):
        stand_in.behaviour = falls_silent(b"")
        ask(front.port, "GET", "/patients/p-dana/labs/o1")

        assert len(records.seen) == 1
