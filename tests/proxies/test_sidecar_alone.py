"""The sidecar, asked as a proxy would ask it: what it says, whatever it is asked."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proxies.raw import Connection, Reply, ask, bearer
from tests.proxies.sweep import KNOWN, SEED, UNKNOWN, Case, authorization, cases
from tests.sidecar import Sidecar

O1 = "/patients/p-dana/labs/o1"
ORIGINAL = ("X-Original-Method", "X-Original-URI", "X-Original-Host")
FORWARDED = ("X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host")


def asked(port: int, dialect: str, case: Case, *headers: str) -> Reply:
    """Ask as that proxy asks."""
    target = case.target if isinstance(case.target, bytes) else case.target.encode()
    if dialect == "envoy":
        return ask(port, case.method, b"/authz/envoy" + target, *headers)
    method, uri, host = {
        "nginx": ORIGINAL, "haproxy": ORIGINAL, "caddy": FORWARDED, "traefik": FORWARDED,
    }[dialect]  # fmt: skip
    truth = (f"{method}: {case.method}", f"{uri}: {target.decode('latin-1')}", f"{host}: records.example")
    return ask(port, "GET", f"/authz/{dialect}", *truth, *headers)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["envoy", "caddy", "nginx", "haproxy", "traefik"])
def test_sidecar_says_200_iff_the_table_allows_and_never_another_success(sidecar: Sidecar, dialect: str) -> None:
    """200 where the table allows; else 401, 403, or the parser's 400: no other 2xx, no redirect, no 5xx, ever."""
    credentials = {person: authorization(sidecar, person) for person in (*KNOWN, *UNKNOWN)}

    def answer(case: Case) -> tuple[Case, Reply]:
        return case, asked(sidecar.ports["auth"], dialect, case, *credentials[case.person])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, cases()))

    wrong = [
        (case, reply)
        for case, reply in answers
        if reply.status not in (200, 400, 401, 403) or (reply.status == 200) is not is_allowed(case)
    ]
    assert not wrong, f"SWEEP_SEED={SEED}: {wrong[:3]}"


def is_allowed(case: Case) -> bool:
    """Tell what the table says of the target itself; without a proxy there is nobody to read it otherwise."""
    return isinstance(case.target, str) and case.target.startswith("/") and case.arrives_as is not None


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("nginx", ORIGINAL),
        ("haproxy", ORIGINAL),
        ("caddy", FORWARDED),
        ("traefik", FORWARDED),
    ],
)
def test_doubled_or_missing_truth_is_denied(sidecar: Sidecar, dialect: str, names: tuple[str, str, str]) -> None:
    """A proxy that says nothing of the original request, or says it twice, even alike, gets a denial."""
    truth = [f"{name}: {value}" for name, value in zip(names, ("GET", O1, "records.example"), strict=True)]
    who, port, path = bearer(sidecar.token("dr_aida")), sidecar.ports["auth"], f"/authz/{dialect}"

    assert ask(port, "GET", path, *truth, who).status == 200
    for line in truth:
        assert ask(port, "GET", path, *truth, who, line).status == 403
        assert ask(port, "GET", path, *[other for other in truth if other != line], who).status == 403
        assert ask(port, "GET", path, *[other.replace("-", "_") for other in truth], who).status == 403


@pytest.mark.parametrize(
    "path", ["/", "/authz", "/authz/", "/authz/envoy", "/authz/nginx/", "/authz/nginx/x", "/authz/traefikx"]
)
def test_other_paths_are_denied(sidecar: Sidecar, path: str) -> None:
    """A path of no dialect is denied, whatever truth the headers tell."""
    truth = [
        f"X-{family}-{name}"
        for family in ("Original", "Forwarded")
        for name in ("Method: GET", f"Uri: {O1}", "Host: h")
    ]

    assert ask(sidecar.ports["auth"], "GET", path, *truth, bearer(sidecar.token("dr_aida"))).status == 403


@pytest.mark.parametrize(("person", "status"), [("dr_aida", 200), ("dr_erlan", 403)])
def test_old_protocol_is_answered_and_closed(sidecar: Sidecar, person: str, status: int) -> None:
    """nginx asks in HTTP/1.0 unless told otherwise: it gets the same answer, and the end of the connection."""
    lines = ("X-Original-Method: GET", f"X-Original-URI: {O1}", "X-Original-Host: h", bearer(sidecar.token(person)))
    with Connection(sidecar.ports["auth"]) as connection:
        connection.send("\r\n".join(("GET /authz/nginx HTTP/1.0", *lines, "Connection: close", "", "")).encode())

        assert connection.read().status == status
        assert connection.read().status == 0
