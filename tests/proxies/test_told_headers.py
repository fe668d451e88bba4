"""What changes the meaning of a FHIR request is told to the sidecar by every dialect, or reaches nobody."""

import re
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from ruqsat.core.fhir.reading import OVERRIDES, READ_HEADERS, REFUSED_HEADERS
from ruqsat.proxies.configuration import KINDS
from ruqsat.web.forward_auth.signed import SIGNATURE
from tests.proxies.conftest import Site
from tests.proxies.front import EXAMPLES
from tests.proxies.raw import ask, bearer
from tests.proxies.test_traefik import site as traefik_site
from tests.sidecar import Sidecar

PATIENT = "/fhir/Patient/p-dana"
ALL = frozenset(READ_HEADERS)
CHANGING = ("Prefer: respond-async", *(f"{name}: DELETE" for name in sorted(OVERRIDES | REFUSED_HEADERS)))


def _found(value: Any, key: str) -> Any:
    """Return what stands under a key, wherever it is."""
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and key in value:
        return value[key]
    return next((found for each in below if (found := _found(each, key)) is not None), None)


def _of_envoy(text: str) -> set[str]:
    return {pattern["exact"] for pattern in _found(yaml.safe_load(text), "allowed_headers")["patterns"]}


def _of_haproxy(_: str) -> set[str]:
    listed = re.search(r"ipairs\(\{(.*?)\}\)", (EXAMPLES / "haproxy/ruqsat.lua").read_text(), re.DOTALL)
    assert listed is not None
    return set(re.findall(r'"([a-z-]+)"', listed[1]))


def _of_traefik(text: str) -> set[str]:
    read = yaml.safe_load(text)
    removed = {name.lower() for name, value in _found(read, "customRequestHeaders").items() if value == ""}
    return removed | {name.lower() for name in _found(read, "authRequestHeaders")}


def _of_nginx(text: str) -> set[str]:
    # nginx tells every header of the client, but those that the location of the question sets to nothing.
    place = text[text.index("location = /_ruqsat") :]
    assert "proxy_pass_request_headers" not in place
    return set(ALL) - {name.lower() for name in re.findall(r'proxy_set_header\s+([\w-]+)\s+"";', place)}


def _of_caddy(text: str) -> set[str]:
    # Caddy tells every header but those that are removed, which reach nobody.
    before, asked = text.split("forward_auth", 1)
    assert "header_up" not in asked[: asked.index("reverse_proxy")]
    removed = {name.lower() for name in re.findall(r"request_header -(\S+)", before)}
    gone = {name for name in ALL if any(fnmatch(name, pattern) for pattern in removed)}
    assert gone <= OVERRIDES | REFUSED_HEADERS
    return set(ALL)


TOLD: dict[str, Callable[[str], set[str]]] = {
    "envoy": _of_envoy, "envoy-grpc": _of_envoy, "haproxy": _of_haproxy, "traefik": _of_traefik, "nginx": _of_nginx,
    "caddy": _of_caddy,
}  # fmt: skip


def missing(kind: str, text: str | None = None) -> set[str]:
    """Return the headers that the core reads and that a dialect's file neither tells nor removes."""
    entry = KINDS[kind]
    return set(ALL) - TOLD[kind]((EXAMPLES / entry.folder / entry.file).read_text() if text is None else text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_header_that_the_core_reads_is_told(kind: str) -> None:
    """Of every shipped configuration; a dialect that this test cannot read fails it."""
    assert missing(kind) == set()


@pytest.mark.parametrize("kind", ["envoy", "envoy-grpc", "haproxy", "traefik"])
def test_a_signature_is_told(kind: str) -> None:
    """Of the files that list what they tell: one that is not told would reach the system behind as if it were verified."""
    entry = KINDS[kind]

    assert SIGNATURE.decode() in TOLD[kind]((EXAMPLES / entry.folder / entry.file).read_text())


@pytest.mark.parametrize("kind", ["envoy", "envoy-grpc", "traefik", "nginx"])
def test_a_file_that_does_not_tell_one_is_noticed(kind: str) -> None:
    """A configuration that leaves out one of these headers is found: the test above can fail."""
    text = (EXAMPLES / KINDS[kind].folder / KINDS[kind].file).read_text()
    spoilt = re.sub(r" *- exact: prefer\n|Prefer, ", "", text)
    if kind == "nginx":
        spoilt = text.replace(
            "proxy_pass_request_body off;", 'proxy_pass_request_body off;\n proxy_set_header Prefer "";'
        )

    assert spoilt != text
    assert missing(kind, spoilt) == {"prefer"}


def test_the_list_is_the_one_that_the_pages_tell() -> None:
    """docs/routes.md names every one of them."""
    page = (Path(EXAMPLES).parent / "docs" / "routes.md").read_text().lower()

    assert [name for name in sorted(ALL) if f"`{name}" not in page] == []


@pytest.mark.parametrize("line", CHANGING)
def test_what_changes_a_request_is_refused_or_reaches_nobody(site: Site, line: str) -> None:
    """Behind each proxy: a reading that is permitted is not, once a header makes something else of it."""
    who = bearer(site.sidecar.token("dana"))
    assert ask(site.front.port, "GET", PATIENT, who).status == 200
    site.seen.clear()

    reply = ask(site.front.port, "GET", PATIENT, who, line)

    name = line.partition(":")[0].lower()
    assert reply.status == 403 or (name != "prefer" and name not in site.seen[0]["headers"]), (reply.status, site.seen)


@pytest.mark.parametrize("line", CHANGING)
def test_what_changes_a_request_is_refused_or_reaches_nobody_behind_traefik(sidecar: Sidecar, line: str) -> None:
    """As its source handles the shipped file."""
    with traefik_site(sidecar.ports["auth"]) as (port, records):
        reply = ask(port, "GET", PATIENT, bearer(sidecar.token("dana")), line)

        name = line.partition(":")[0].lower()
        assert reply.status == 403 or (name != "prefer" and name not in records.seen[0]["headers"])


def test_a_harmless_preference_passes(site: Site) -> None:
    """What asks for nothing else than was decided is not refused, and arrives."""
    reply = ask(site.front.port, "GET", PATIENT, bearer(site.sidecar.token("dana")), "Prefer: handling=strict")

    assert (reply.status, site.seen[0]["headers"]["prefer"]) == (200, "handling=strict")


def test_the_session_that_a_clinician_means_is_told(site: Site) -> None:
    """By every dialect: one that is no session of the caller's opens nothing more, one that can be none is refused."""
    who, session = bearer(site.sidecar.token("dana")), "X-Ruqsat-Session: s-1"

    assert ask(site.front.port, "GET", PATIENT, who, session).status == 200
    assert ask(site.front.port, "GET", PATIENT, who, session + "1" * 256).status == 403
