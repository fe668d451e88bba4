"""
The sweep: people × methods × targets × forged headers, drawn with a seed; the same cases for every proxy.

``SWEEP_SEED`` repeats a run.
"""

import os
import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jwt

from tests.proxies.may import MAY_READ, REACHES_AS, READ_BY_SOME_AS, READS, may
from tests.proxies.raw import Reply, ask, bearer
from tests.sidecar import ISSUER, Sidecar

SEED = int(os.environ.get("SWEEP_SEED") or secrets.randbelow(2**32))
DRAWN = 2_500
"""Cases drawn at random, besides those that every run holds."""

PATIENCE = 2
"""Further tries where the sidecar did not answer within its second on a busy machine: never for what it did answer."""

KNOWN = (*MAY_READ,)
UNKNOWN = (
    "no token", "empty token", "basic", "wrong audience", "wrong issuer", "expired", "bad signature", "other key",
    "alg none", "two tokens", "cut short",
)  # fmt: skip
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
ODD_METHODS = ("TRACE", "PROPFIND", "FOO", "get", "CONNECT", "GET_")

PLAIN = (
    "/patients/p-dana/labs/o1", "/patients/p-dana/labs/o2", "/patients/p-dana/labs", "/patients/p-dana/journal",
    "/patients/p-dana/documents/d1", "/patients/p-dana/consent/c-dana-h1", "/patients/p-dana/vitals/o1",
    "/patients/p-marat/medications/m1", "/patients/p-marat/allergies/a1", "/patients/p-marat/labs/o1",
    "/patients/p-child/immunizations/v1", "/patients/p-zhanna/labs/z1", "/patients/p-nobody/labs/o1", "/directory",
    "/directory/x", "/", "/patients", "/patients/p-dana", "/patients/p-dana/labs/o1/history",
    "/patients/p-dana/nonsense/o1", "/PATIENTS/p-dana/labs/o1", "/patients/P-DANA/labs/o1",
    "/patients/p-dana/LABS/o1",
    # A patient's records are never "public" or a "directory" because the path says so.
    "/patients/p-dana/public/o2", "/patients/p-dana/public/o3", "/patients/p-marat/public",
    "/patients/p-dana/directory", "/patients/p-marat/directory/m1", "/authz/nginx", "/authz/caddy",
    "/authz/envoy/patients/p-dana/labs/o1", "/health/live", "/metrics", "/status", "/docs", "/openapi.json",
    "/access/v1/evaluation", "/patients/p-dana/labs/o1?x=1", "/patients/p-dana/labs/o1?class=public",
    "/patients/p-dana/labs/o1?_method=DELETE", "/patients/p-dana/labs/o1?patient=p-dana&patient=p-marat",
    "/directory?uri=/directory", "/directory?x=%2e%2e", "/patients/p-dana/labs/o2?uri=/patients/p-dana/labs/o1",
)  # fmt: skip
"""Targets that every proxy passes on to the sidecar as they are: the client must see the sidecar's answer."""

CONFUSING: tuple[str | bytes, ...] = (
    # Dot segments, empty segments, and everything that some reader takes for them.
    "//patients/p-dana/labs/o1", "/patients//p-dana/labs/o1", "/patients/p-dana/labs//o1",
    "/patients/p-dana/labs/o1/", "/./patients/p-dana/labs/o1", "/patients/./p-dana/labs/o1",
    "/patients/p-dana/labs/o1/.", "/../directory", "/patients/p-dana/labs/o1/..", "/patients/p-dana/labs/o2/../o1",
    "/patients/p-dana/labs/o1/../o2", "/directory/../patients", "/directory/..;/patients/p-dana/labs/o2",
    "/patients/p-dana/labs/%2e/o1", "/patients/p-dana/labs/o2/%2e%2e/o1", "/patients/p-dana/labs/o2/%2E%2E/o1",
    "/patients/p-dana/labs/o2/.%2e/o1", "/patients/p-dana/labs/o2/%2e./o1", "/patients/p-dana/labs/o1.",
    "/patients/p-dana/labs/o1..", "/patients/p-dana/labs/o1%2e", "/patients/p-dana/labs/...",
    # Separators in disguise.
    "/patients/p-dana/labs%2fo1", "/patients/p-dana/labs%2Fo2", "/patients%2fp-dana%2flabs%2fo1", "/%2fdirectory",
    "/patients/p-dana/labs/o2%2f..%2fo1", "/patients/p-dana/labs%5co1", "/patients/p-dana/labs\\o1", "\\directory",
    "/directory%5c..%5cpatients", "/directory\\..\\patients", "/patients/p-dana/labs/o1;x=1",
    "/patients/p-dana/labs;/o1", "/patients;x/p-dana/labs/o1", "/patients/p-dana/labs/o1%3bx", "/directory;.css",
    "/directory%3Fx=1", "/directory%23",
    # Controls.
    "/patients/p-dana/labs/o1%00", "/patients/p-dana/labs/o1%00.html", "/patients/p-dana/labs/o1%0a",
    "/directory%0d%0aX-A:%20b", "/patients/p-dana/labs/o1%09", "/patients/p-dana/labs/o1%20", "/%20directory",
    "/directory%7f", b"/directory\x00", b"/directory\x01", b"/directory\t", b"/directory\x7f", b"/directory x",
    b"/directory\x0b", b"/directory\r/x",
    # Escapes of escapes, broken escapes, overlong forms.
    "/patients/p-dana/labs/o2/%252e%252e/o1", "/patients/p-dana/labs/o2/%25%32%65%25%32%65/o1",
    "/patients/p-dana/labs%252fo1", "/patients/p-dana/labs/o%2531", "/%c0%ae%c0%ae/directory", "/%c0%afdirectory",
    "/%e0%80%af", "/directory%u002e", "/directory%", "/directory%4", "/directory%zz", "/directory%C0",
    "/%uff0e%uff0e/directory",
    # Letters that look or fold alike.
    "/patients/p-dana/labs/\u00f81", "/d\u0131rectory", "/d%C4%B1rectory", "/\uff44irectory",
    "/\uff0e\uff0e\uff0fdirectory", "/%EF%BC%8E%EF%BC%8E%EF%BC%8Fdirectory", "/directory\u200b",
    "/directory%E2%80%8B", "/directory%E2%80%AE", "/re\u0301sume\u0301", "/r\u00e9sum\u00e9", b"/directory\xe9",
    b"/directory\xff\xfe", b"/\xc0\xaf/directory",
    # Queries and fragments.
    "/patients/p-dana/labs/o1?", "/patients/p-dana/labs/o1??", "/directory?x", "/directory?=", "/directory?x=1;y=2",
    "/directory?&", "/directory?x=%00", "/directory?x=%zz", "/patients/p-dana/labs/o1#",
    "/patients/p-dana/labs/o1#/../o2", "/directory#x", "/patients/p-dana/labs/o2#?/patients/p-dana/labs/o1",
    "/directory?#", b"/directory?\xff",
    # Other forms of a target.
    "*", "directory", "patients/p-dana/labs/o1", "?", "#", "//records.example/directory", "http:/directory",
    "http:///directory", "http://records.example/patients/p-dana/labs/o2/../o1", "http://records.example//directory",
    "http://records.example", "http://x@records.example/../directory",
    "ftp://records.example/patients/p-dana/labs/o1", "ftp://records.example/patients/p-dana/labs/o2",
    "records.example:443", "javascript:/directory", "http://records.example?/directory",
    "/http://records.example/directory",
    # What the proxies keep for themselves.
    "/_ruqsat", "/_ruqsat/", "/_ruqsat?x=1", "/_ruqsat/../patients/p-dana/labs/o1", "/%5fruqsat", "//_ruqsat",
    # Too much of it.
    "/directory/" + "a" * 2_040, "/patients/p-dana/labs/" + "o" * 7_000, "/a" * 200, "/directory?x=" + "1" * 3_000,
    "/directory/" + "../" * 50 + "directory", "/patients/p-dana/labs/" + "%2e%2e%2f" * 40,
)  # fmt: skip
"""Targets that two readers may read differently: a refusal is all that the client may see, whoever speaks it."""

FORGED: tuple[tuple[str, ...], ...] = (
    (),
    ("X-Ruqsat-Subject: dana",),
    ("X-Ruqsat-Subject: dana", "X-Ruqsat-Subject: dr_aida"),
    ("x-ruqsat-subject: dana", "X_Ruqsat_Subject: dana", "X-Ruqsat_Subject: dana", "X_RUQSAT_SUBJECT: dana"),
    ("Connection: keep-alive, X-Ruqsat-Subject, X-Ruqsat-Decision", "X-Ruqsat-Subject: dana"),
    ("Connection: X-Ruqsat-Subject", "X-Ruqsat-Decision: forged", "X-Ruqsat-Reason: permitted"),
    ("X-Ruqsat-Subject:", "X-Ruqsat-Decision: forged"),
)


SPELLED = tuple(dict.fromkeys(target for targets in MAY_READ.values() for target in targets if target not in PLAIN))
"""What somebody may read, beyond the plain targets."""


class Case(NamedTuple):
    """One request of the sweep."""

    number: int
    person: str
    method: str
    target: str | bytes
    forged: tuple[str, ...]

    def __repr__(self) -> str:
        return f"{self.number}: {self.person} {self.method} {self.target!r:.120} {self.forged}"

    @property
    def arrives_as(self) -> str | None:
        """The target that must reach the records server; None if the request must not reach it."""
        if not isinstance(self.target, str) or not may(self.person, self.method, self.target):
            return None
        return REACHES_AS.get(self.target, self.target)

    @property
    def may_arrive_as(self) -> str | None:
        """The target that may reach it through a proxy that reads the request's own in a way of its own."""
        target = READ_BY_SOME_AS.get(self.target)
        return target if target is not None and may(self.person, self.method, target) else None

    @property
    def is_plain(self) -> bool:
        """Tell whether every proxy passes the request on to the sidecar as it is."""
        known = self.target in PLAIN or self.target in REACHES_AS or self.target in SPELLED
        return known and self.method in METHODS


def cases() -> list[Case]:
    """Return the sweep: what every run holds, then what the seed draws."""
    draw = random.Random(SEED)
    targets = (*PLAIN, *SPELLED, *REACHES_AS, *CONFUSING)
    people, methods = (*KNOWN, *UNKNOWN), (*METHODS, *ODD_METHODS)
    held = [(person, "GET", target) for person in ("dr_aida", "dana") for target in targets]
    held += [(person, method, target) for person, allowed in MAY_READ.items() for target in allowed for method in READS]
    held += [(person, "GET", target) for person in people for target in ("/directory", "/patients/p-dana/labs/o1")]
    held += [(person, method, PLAIN[0]) for person in ("dr_aida", "dana") for method in methods]
    drawn = [(draw.choice(people), draw.choice(methods), draw.choice(targets)) for _ in range(DRAWN)]
    return [Case(number, *case, draw.choice(FORGED)) for number, case in enumerate([*held, *drawn])]


def authorization(sidecar: Sidecar, person: str) -> tuple[str, ...]:
    """Return the header lines by which a person says who they are."""
    now = int(time.time())
    good = sidecar.token("dr_aida")
    head, body, signature = good.split(".")
    of_aida = jwt.decode(good, options={"verify_signature": False})
    lines = {
        "no token": (),
        "empty token": ("Authorization: Bearer ",),
        "basic": ("Authorization: Basic ZHJfYWlkYTpwYXNz",),
        "wrong audience": (bearer(sidecar.token("dr_aida", aud="somebody-else")),),
        "wrong issuer": (bearer(sidecar.token("dr_aida", iss=f"{ISSUER}.evil")),),
        "expired": (bearer(sidecar.token("dr_aida", iat=now - 7200, exp=now - 60)),),
        "bad signature": (bearer(f"{head}.{body}.{signature[::-1]}"),),
        "other key": (bearer(jwt.encode(of_aida, secrets.token_urlsafe(48), algorithm="HS256")),),
        "alg none": (bearer(jwt.encode(of_aida, None, algorithm="none")),),
        "two tokens": (bearer(good), bearer(sidecar.token("dana"))),
        "cut short": (bearer(good[:-5]),),
    }
    return lines[person] if person in lines else (bearer(sidecar.token(person)),)


class Outcome(NamedTuple):
    """What became of one request: what the client was told, and what reached the records server."""

    case: Case
    reply: Reply
    arrived: list[dict[str, Any]]


def send(port: int, seen: list[dict[str, Any]], sidecar: Sidecar, sweep: list[Case]) -> list[Outcome]:
    """Send the sweep to a proxy, several requests at a time; *seen* is what reaches the records server behind it."""
    credentials = {person: authorization(sidecar, person) for person in (*KNOWN, *UNKNOWN)}

    def told(case: Case) -> Reply:
        lines = (*credentials[case.person], f"X-Case: {case.number}", *case.forged)
        reply = ask(port, case.method, case.target, *lines)
        for _ in range(PATIENCE):
            if reply.status == 200 or "x-ruqsat-decision" in reply.headers or not case.is_plain:
                break
            reply = ask(port, case.method, case.target, *lines)
        return reply

    seen.clear()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(told, sweep))
    arrived: dict[str, list[dict[str, Any]]] = {str(case.number): [] for case in sweep}
    for entry in seen:
        # Invariant: what arrives carries its number; anything else is a request that nobody sent.
        arrived[entry["headers"]["x-case"]].append(entry)
    return [Outcome(case, reply, arrived[str(case.number)]) for case, reply in zip(sweep, replies, strict=True)]


def is_right_arrival(outcome: Outcome) -> bool:
    """Tell whether just what the table says reached the records server: the right request, once, or nothing."""
    case = outcome.case
    came = [(entry["method"], entry["target"]) for entry in outcome.arrived]
    if case.arrives_as is not None:
        return came == [(case.method, case.arrives_as)]
    return came in ([], [(case.method, case.may_arrive_as)])


def is_right_sender(outcome: Outcome) -> bool:
    """Tell whether what arrived names its token's subject and its decision, each once, and nothing that was forged."""
    return all(
        said(entry, "x-ruqsat-subject") == [outcome.case.person]
        and len(said(entry, "x-ruqsat-decision")) == 1
        and "forged" not in said(entry, "x-ruqsat-decision")[0]
        and not said(entry, "x-ruqsat-reason")
        for entry in outcome.arrived
    )


def said(entry: dict[str, Any], name: str) -> list[str]:
    """Return every value that a backend could read under that name: many read `_` and `-` alike."""
    return [value for key, value in entry["headers"].items() if key.replace("_", "-") == name]
