"""A header that only another proxy may set changes nothing, in either direction, behind each real proxy."""

import json

import pytest

from tests.proxies.conftest import Site
from tests.proxies.raw import ask, bearer

O1, O2 = "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2"

TARGETS = (
    "X-Original-URI", "X-Original-Url", "X-Original-Path", "X-Rewrite-URL", "X-Rewrite-Uri", "X-Forwarded-Uri",
    "X-Forwarded-Path", "X-Envoy-Original-Path", "X-Replaced-Path", "X-Forwarded-Prefix", "X-Accel-Redirect", "Path",
    "X_Original_URI", "X_Forwarded_Uri", "X_Original_Url", "x-original-uri",
)  # fmt: skip
METHODS = (
    "X-Original-Method", "X-Forwarded-Method", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
    "X_HTTP_METHOD_OVERRIDE", "X_Original_Method", "Method",
)  # fmt: skip
HOSTS = (
    "X-Original-Host",
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Host",
    "X-Envoy-Original-Host",
    "X_Forwarded_Host",
)
LARGEST_EVERYWHERE = 5_000
"""Every shipped configuration lets headers of this size through."""

PSEUDO = ("path", "method", "authority", "scheme")

READ_BY_BACKENDS = {
    # What frameworks take for the method, target or host of a request: none of it may reach them from a client.
    name.lower().replace("_", "-")
    for name in (
        *METHODS[:-1], "X-Original-URI", "X-Original-Url", "X-Rewrite-URL", "X-Forwarded-Uri", "X-Original-Host",
        "Forwarded",
    )
}  # fmt: skip


def forgeries(target: str, method: str) -> list[tuple[str, ...]]:
    """Return sets of header lines, each claiming that the request is another one."""
    alone = [f"{name}: {target}" for name in TARGETS] + [f"{name}: {method}" for name in METHODS]
    alone += [f"{name}: elsewhere.example" for name in HOSTS]
    alone += [
        f"Forwarded: for=127.0.0.1;host=elsewhere.example;proto=https;path={target}",
        "X-Forwarded-For: 127.0.0.1",
    ]
    nginx = (f"X-Original-URI: {target}", f"X-Original-Method: {method}", "X-Original-Host: records.example")
    caddy = (f"X-Forwarded-Uri: {target}", f"X-Forwarded-Method: {method}", "X-Forwarded-Host: records.example")
    together = [nginx, caddy, (*nginx, *caddy), tuple(alone)]
    return [
        *((line,) for line in alone),
        *((line, line) for line in alone),
        *together,
        *(half * 2 for half in (nginx, caddy)),
    ]


def test_forged_truth_cannot_open_what_is_denied(site: Site) -> None:
    """A denied request stays denied whatever headers claim that it is an allowed one, once or twice."""
    who = bearer(site.sidecar.token("dr_aida"))

    for forged in forgeries(O1, "GET"):
        assert ask(site.front.port, "GET", O2, who, *forged).status == 403, forged
        assert ask(site.front.port, "DELETE", O1, who, *forged).status == 403, forged
        assert ask(site.front.port, "GET", O1, *forged).status == 401, forged
    assert site.seen == []


def test_forged_truth_cannot_disturb_what_is_allowed(site: Site) -> None:
    """An allowed request arrives as it was sent, and nothing that a backend could take for another request with it."""
    who = bearer(site.sidecar.token("dr_aida"))

    for forged in forgeries(O2, "DELETE"):
        site.seen.clear()
        assert ask(site.front.port, "GET", O1, who, *forged).status == 200, forged
        (entry,) = site.seen
        assert (entry["method"], entry["target"]) == ("GET", O1)
        assert entry["headers"]["x-ruqsat-subject"] == "dr_aida"
        arrived = {name.replace("_", "-") for name in entry["headers"]}
        assert not arrived & READ_BY_BACKENDS, forged
        assert "elsewhere.example" not in entry["headers"].get("x-forwarded-host", ""), forged


@pytest.mark.parametrize(
    "dropped",
    ["X-Ruqsat-Subject, X-Ruqsat-Decision", "X-Original-URI, X-Original-Method, X-Original-Host", "Authorization",
     "X-Forwarded-Uri", "X-Forwarded-Method, X-Forwarded-Host", "close, X-Ruqsat-Subject", "Content-Length, Cookie",
     "Host"],
)  # fmt: skip
def test_headers_named_in_connection_cannot_be_made_to_vanish(site: Site, dropped: str) -> None:
    """A client that names headers in `Connection` takes them from nobody who needs them, here or behind the next proxy."""
    who, line = bearer(site.sidecar.token("dr_aida")), f"Connection: {dropped}"
    named = {*dropped.lower().split(", ")} - {"close"}

    assert ask(site.front.port, "GET", O2, who, line, f"X-Original-URI: {O1}", f"X-Forwarded-Uri: {O1}").status in (
        400,
        401,
        403,
    )
    assert site.seen == []
    if ask(site.front.port, "GET", O1, who, line, "X-Ruqsat-Subject: dana").status == 200:
        (entry,) = site.seen
        assert entry["target"] == O1
        assert entry["headers"]["x-ruqsat-subject"] == "dr_aida"
        assert entry["headers"]["x-ruqsat-decision"]
        assert not named & {each.strip() for each in entry["headers"].get("connection", "").lower().split(",")}


@pytest.mark.parametrize("name", PSEUDO)
def test_pseudo_header_cannot_open_what_is_denied(site: Site, name: str) -> None:
    """A header named like HTTP/2's `:path` never makes a denied request pass; the proxy may refuse it altogether."""
    value = {"path": O1, "method": "GET", "authority": "records.example", "scheme": "http"}[name]
    who = bearer(site.sidecar.token("dr_aida"))

    for line in (f":{name}: {value}", f": {name}: {value}", f":{name} : {value}"):
        assert 400 <= ask(site.front.port, "GET", O2, who, line).status < 500
        ask(site.front.port, "GET", O1, who, line)
    assert all(entry["target"] == O1 for entry in site.seen)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8080", "records.example:443", "LOCALHOST.", "[::1]", "192.0.2.1"]
)
def test_host_changes_nothing(site: Site, host: str) -> None:
    """Whatever host a client names, what is denied stays denied, what is allowed passes, and nobody else answers."""
    who, line = bearer(site.sidecar.token("dr_aida")), f"Host: {host}"

    assert ask(site.front.port, "GET", O2, who, line).status == 403
    assert ask(site.front.port, "GET", O1, line).status == 401
    assert site.seen == []
    assert json.loads(ask(site.front.port, "GET", O1, who, line).body)["target"] == O1


@pytest.mark.parametrize(
    "hosts", [("Host:",), ("Host: a b",), ("Host: a", "Host: b"), ("Host: a,b",), ("Host: a/b",), ("Host: x@y",)]
)
def test_malformed_host_cannot_open_what_is_denied(site: Site, hosts: tuple[str, ...]) -> None:
    """A request whose host is empty, doubled or malformed is refused, or arrives only if it is allowed anyway."""
    who = bearer(site.sidecar.token("dr_aida"))

    for target in (O2, O1):
        assert ask(site.front.port, "GET", target, who, *hosts).status in (200, 400, 403)
    assert all(entry["target"] == O1 for entry in site.seen)


@pytest.mark.parametrize("size", [4_000, 8_192, 9_000, 17_000, 70_000])
def test_large_header_cannot_open_what_is_denied(site: Site, size: int) -> None:
    """However large a header, alone or before a forged one: what is denied never arrives, nor does a request cut short."""
    who, large = bearer(site.sidecar.token("dr_aida")), f"X-Large: {'a' * size}"
    forged = (f"X-Original-URI: {O1}", f"X-Forwarded-Uri: {O1}", "X-Forwarded-Method: GET")

    for lines in ((who, large), (large, who), (large, who, *forged), (*forged, large, who), (f"{who}{'a' * size}",)):
        assert 400 <= ask(site.front.port, "GET", O2, *lines).status < 500
    assert 400 <= ask(site.front.port, "GET", O1, f"{who}{'a' * size}").status < 500, "a token with more behind it"
    assert site.seen == []

    told = ask(site.front.port, "GET", O1, large, who, *forged).status
    assert told in ((200,) if size < LARGEST_EVERYWHERE else (200, 400, 403, 413, 414, 431))
    assert [entry["target"] for entry in site.seen] == ([O1] if told == 200 else [])
