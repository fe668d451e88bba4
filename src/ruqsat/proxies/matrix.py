"""
A test of a proxy that runs: what it lets through, seen from a client's side.

Three kinds of checks: statuses, headers that a client forges, and paths that two
readers may read differently.  Only reading methods are sent, for behind a proxy with
a hole stands somebody's real system.  What reached that system is seen where it
tells it, as `examples/records_server.py` does.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from msgspec import Struct

from ruqsat.proxies.exchange import Front, Reply, ask

Sender = Callable[[str, str, tuple[str, ...]], Reply]
Group = Literal["status", "forgery", "path"]

NO_METHOD = "PROPFIND"
"""A method without effect (RFC 4918 §9.1, "safe") that no route names."""

_SUBJECTS = ("X-Ruqsat-Subject", "X_Ruqsat_Subject", "X-Ruqsat_Subject", "X_Ruqsat-Subject")
_METHODS = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-Method", "X-Forwarded-Method")
_READ_BEHIND = ("X-Original-URI", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Uri")
_TARGETS = (*_READ_BEHIND, "X-Envoy-Original-Path")
FORGED = "ruqsat-proxy-test"


class Subject(Struct, frozen=True):
    """
    What a proxy is tested with.

    Attributes:
        token: A token that the sidecar accepts.
        allowed: A path that its bearer may read, without a query.
        denied: One that its bearer may not read.
    """

    token: str
    allowed: str
    denied: str


class Finding(Struct, frozen=True):
    """One check: what was expected and what was seen; ``good`` is None where it could not be seen."""

    group: Group
    name: str
    expected: str
    seen: str
    good: bool | None


def run(front: Front, subject: Subject) -> list[Finding]:
    """
    Send the matrix and return what was found, in order.

    Raises:
        OSError: nobody accepts there.
    """

    def send(method: str, target: str, lines: tuple[str, ...]) -> Reply:
        return ask(front, method, target, lines)

    return [*_statuses(send, subject), *_forgeries(send, subject), *_paths(send, subject)]


def _statuses(send: Sender, subject: Subject) -> Iterator[Finding]:
    who = bearer(subject)
    yield _is("status", "what is permitted passes", send("GET", subject.allowed, who), 200)
    yield _is("status", "what is denied does not", send("GET", subject.denied, who), 403, asked=True)
    yield _is("status", "no token", send("GET", subject.allowed, ()), 401)
    yield _is("status", "a token that is none", send("GET", subject.allowed, ("Authorization: Bearer x.y.z",)), 401)
    yield _is("status", "a token twice", send("GET", subject.allowed, who * 2), 401, 400, 403)
    yield _is("status", "a method that nobody permits", send(NO_METHOD, subject.allowed, who), 403, 405)
    yield _is("status", "a path that means nothing", send("GET", "/ruqsat-proxy-test/nothing", who), 403)


def _forgeries(send: Sender, subject: Subject) -> Iterator[Finding]:
    who = bearer(subject)
    for name in _TARGETS:
        yield _refused(
            "forgery", f"{name} claims another path", send("GET", subject.denied, (*who, f"{name}: {subject.allowed}"))
        )
    for name in _METHODS:
        yield _refused(
            "forgery", f"{name} claims another method", send(NO_METHOD, subject.allowed, (*who, f"{name}: GET"))
        )
    together = tuple(f"{name}: {subject.allowed}" for name in _TARGETS) + tuple(f"{name}: GET" for name in _METHODS)
    yield _refused("forgery", "all of them at once, twice", send("GET", subject.denied, (*who, *together, *together)))
    yield _is(
        "forgery", "a subject instead of a token", send("GET", subject.allowed, (f"{_SUBJECTS[0]}: {FORGED}",)), 401
    )
    yield from _arrivals(send, subject)


def _arrivals(send: Sender, subject: Subject) -> Iterator[Finding]:
    """Look at what reaches the system behind, where it tells."""
    who = bearer(subject)
    for name in (*_SUBJECTS, "X-Ruqsat-Decision", "X-Ruqsat-Reason", *_METHODS, *_READ_BEHIND, "X_Rewrite_URL"):
        reply = send("GET", subject.allowed, (*who, f"{name}: {FORGED}"))
        told = _told(reply)
        good = None if told is None else FORGED not in json.dumps(told["headers"])
        yield Finding("forgery", f"{name} does not arrive", "removed or overwritten", _seen(reply, told), good)
    reply = send("GET", subject.allowed, (*who, f"Connection: close, {_SUBJECTS[0]}", f"{_SUBJECTS[0]}: {FORGED}"))
    told = _told(reply)
    named = None if told is None else told["headers"].get("x-ruqsat-subject")
    good = None if told is None else bool(named) and named != FORGED
    yield Finding("forgery", "the subject cannot be made to vanish", "the token's", _seen(reply, told), good)
    # Of what is said in another protocol, on the same connection, the sidecar would be asked nothing.
    reply = send("GET", subject.allowed, (*who, "Connection: Upgrade", f"Upgrade: {FORGED}"))
    told = _told(reply)
    kept = None if told is None else "upgrade" not in told["headers"]
    good = kept if reply.status == 200 else reply.status == 0 or reply.status >= 400
    yield Finding("forgery", "Upgrade does not arrive", "removed or refused", _seen(reply, told), good)


def _paths(send: Sender, subject: Subject) -> Iterator[Finding]:
    who = bearer(subject)
    for name, target in confusing(subject.allowed, subject.denied).items():
        yield _refused("path", name, send("GET", target, who))
    spelled = f"{subject.allowed[:-1]}%{ord(subject.allowed[-1]):02X}"
    reply = send("GET", spelled, who)
    told = _told(reply)
    good = True if reply.status != 200 else None if told is None else told["target"] == spelled
    yield Finding("path", "forwarded as it was judged", "the same bytes, or refused", _seen(reply, told), good)


def confusing(allowed: str, denied: str) -> dict[str, str]:
    """
    Return targets that one reader takes for *allowed* and another for something else: each must be refused.

    Examples:
        >>> confusing("/a/1", "/a/2")["dot segments"]
        '/a/2/../1'
    """
    folder, _, last = allowed.rpartition("/")
    return {
        "dot segments": f"{denied}/../{last}" if denied.rpartition("/")[0] == folder else f"/x/..{allowed}",
        "a dot segment": f"{folder}/./{last}",
        "escaped dot segments": f"{folder}/x/%2e%2e/{last}",
        "half escaped dot segments": f"{folder}/x/.%2E/{last}",
        "dot segments escaped twice": f"{folder}/x/%252e%252e/{last}",
        "an empty segment": f"{folder}//{last}",
        "two slashes first": f"/{allowed}",
        "a slash at the end": f"{allowed}/",
        "an escaped slash": f"{folder}%2f{last}",
        "an escaped backslash": f"{folder}%5c{last}",
        "a backslash": f"{folder}\\{last}",
        "a matrix parameter": f"{allowed};x=1",
        "dot segments behind a semicolon": f"{folder}/x/..;/{last}",
        "an escaped NUL": f"{allowed}%00",
        "an escaped line break": f"{allowed}%0d%0aX-A:%20b",
        "an escaped question mark": f"{allowed}%3Fx=1",
        "a fragment": f"{allowed}#/x",
        "a broken escape": f"{allowed}%zz",
        "an overlong form": f"{folder}/x/%c0%ae%c0%ae/{last}",
        "a query that no route lists": f"{allowed}?ruqsat_proxy_test=1",
        "a query that names a path": f"{denied}?uri={allowed}",
        "a method in the query": f"{denied}?_method=GET",
    }


def bearer(subject: Subject) -> tuple[str, ...]:
    """Return the header line of the token."""
    return (f"Authorization: Bearer {subject.token}",)


def _is(group: Group, name: str, reply: Reply, *expected: int, asked: bool = False) -> Finding:
    """Return whether a status is one of those expected; *asked*: and the sidecar's decision is named."""
    decided = not asked or bool(reply.headers.get("x-ruqsat-decision"))
    words = " or ".join(map(str, expected)) + (", with the sidecar's decision" if asked else "")
    seen = str(reply.status) + ("" if decided else ", without a decision")
    return Finding(group, name, words, seen, reply.status in expected and decided)


def _refused(group: Group, name: str, reply: Reply) -> Finding:
    """Return whether nothing passed; a redirection would send the client somewhere that nobody judged."""
    good = reply.status == 0 or reply.status >= 400
    return Finding(group, name, "refused", str(reply.status or "closed"), good)


def _told(reply: Reply) -> Mapping[str, Any] | None:
    """Return the request as it arrived behind the proxy, if what stands there tells it."""
    if reply.status != 200:
        return None
    try:
        told = json.loads(reply.body)
    except ValueError:
        return None
    is_echo = isinstance(told, dict) and isinstance(told.get("headers"), dict) and isinstance(told.get("target"), str)
    return told if is_echo else None


def _seen(reply: Reply, told: Mapping[str, Any] | None) -> str:
    if told is None:
        return f"{reply.status}; what arrived is not told"
    return f"subject {told['headers'].get('x-ruqsat-subject', 'none')}, target {told['target']}"
