"""
What is fuzzed: functions that read bytes of strangers, each with what must hold whatever the bytes are.

A target takes bytes and returns; whatever it raises is a finding.  ``SEEDS`` are what a run begins with.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
from tests.wire import vectors
from tests.wire.ways import RECORD, asked, question

from ruqsat.core.facts import Position
from ruqsat.core.instant import parse_instant
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.target import TargetRejected, parse_target
from ruqsat.errors import RequestError
from ruqsat.service.freshness import Freshness
from ruqsat.web import encounter, forward_auth
from ruqsat.web.batch import Batch, read_batch
from ruqsat.web.forward_auth.shared import BadPepRequest
from ruqsat.web.identity import TokenVerifier, Unauthenticated
from ruqsat.web.problems import Refusal
from ruqsat.web.protocol import TARGET
from ruqsat.web.search import SEARCHES, read_search
from ruqsat.web.token_keys import OneKey
from ruqsat.web.wire import decode_evaluation

Target = Callable[[bytes], None]
SECRET = b"a-secret-of-more-than-thirty-two-bytes!"
NOW = parse_instant("2026-11-24T10:00:00+05:00")


def canonicaliser(data: bytes) -> None:
    """A target is refused, or has one spelling, which is read as the same target; nothing in it has two readings."""
    try:
        found = parse_target(data, None)
    except TargetRejected:
        return
    assert parse_target(vectors.spelled(found), None) == found
    assert all(part and not part.endswith(".") and "/" not in part for part in found.segments)
    assert found.path.isascii() and not set(found.path) & set('\\;%?# "<>') and found.path.isprintable()
    assert all(value.isprintable() and not set(value) & set("%&=#;\\") for _, value in found.query)


def header_adapter(data: bytes) -> None:
    """A dialect takes the one header of each of its own names, or refuses; no other line says anything."""
    first, *lines = data.split(b"\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b":") for line in lines)]
    for path, (_, read) in forward_auth._DIALECTS.items():
        _one_dialect(path, read, headers)
    scope = {TARGET: first, "method": "GET", "headers": headers}
    try:
        found = forward_auth.envoy.read_original(scope)
    except BadPepRequest:
        return
    assert first == b"/authz/envoy" + found.target and [value for name, value in headers if name == b"host"] == [
        found.host.encode()
    ]


def _one_dialect(path: bytes, read: Any, headers: list[tuple[bytes, bytes]]) -> None:
    kind = b"x-original-" if path.endswith((b"nginx", b"haproxy")) else b"x-forwarded-"
    try:
        found = read({TARGET: path, "method": "GET", "headers": headers})
    except BadPepRequest:
        return
    told = (found.method.encode(), found.target, found.host.encode())
    for name, value in zip((b"method", b"uri", b"host"), told, strict=True):
        assert [each for key, each in headers if key == kind + name] == [value]
    assert found.method.isupper() and found.method.isalpha() and found.method.isascii()


def body_check(data: bytes) -> None:
    """A body is refused in a sentence without its values, or is JSON that every reader reads alike."""
    for read in (decode_evaluation, read_batch, *(_searching(each) for each in SEARCHES.values())):
        try:
            found = read(data)
        except RequestError as error:
            assert str(error).isascii() and len(str(error)) < 300
            continue
        whole = json.loads(data, object_pairs_hook=_members, parse_constant=_no_constant)
        if isinstance(found, EvaluationRequest):
            assert (found.subject.id, found.resource.id) == (whole["subject"]["id"], whole["resource"]["id"])
            assert msgspec.convert(msgspec.to_builtins(found), type(found)) == found
        elif isinstance(found, Batch):
            assert len(found.questions) == len(whole["evaluations"])


def _searching(target: Any) -> Callable[[bytes], Any]:
    return lambda data: read_search(target, data, EvaluationRequest)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs), "a member stands there twice"
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


_VERIFIER = TokenVerifier("i", "a", OneKey("HS256", SECRET))
_CLAIMS = {"iss": "i", "aud": "a", "sub": "dr", "exp": int(time.time()) + 86_400, "roles": ["physician"], "org": "h1"}
_MINTED = jwt.encode(_CLAIMS, SECRET, algorithm="HS256").encode()
_FRESHNESS = Freshness(b"k" * 32)
_POSITION = Position("5eed", 7)
_ISSUED = _FRESHNESS.issue_token(_POSITION).encode()


def token(data: bytes) -> None:
    """Nobody is anybody by a bearer token that was not minted, nor is a consistency token taken that was not issued."""
    try:
        who = _VERIFIER.verify([data])
    except Unauthenticated:
        pass
    else:
        assert data[:7].lower() == b"bearer " and who.subject.id == "dr"
        assert jwt.decode(data[7:].strip(), SECRET, ["HS256"], audience="a") == _CLAIMS
    try:
        found = _FRESHNESS.read_token(data.decode("latin-1"))
    except RequestError:
        assert data != _ISSUED
        return
    assert (data, found) == (_ISSUED, _POSITION), "a consistency token that was not issued"


def claims(data: bytes) -> None:
    """Claims under a good signature make an identity or nobody: no failure, whatever the issuer wrote."""
    try:
        said = json.loads(data)
        signed = jwt.encode(_CLAIMS | {str(name): value for name, value in said.items()}, SECRET, algorithm="HS256")
    except (ValueError, TypeError, AttributeError, RecursionError, jwt.PyJWTError):
        return
    try:
        who = TokenVerifier("i", "a", OneKey("HS256", SECRET)).verify([b"Bearer " + signed.encode()])
    except Unauthenticated:
        return
    assert who.subject.id.isprintable() and who.subject.id.strip() == who.subject.id


def read_encounter(data: bytes) -> None:
    """A reported Encounter is an episode, or a refusal."""
    try:
        found = encounter.read_encounter(data, NOW)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500
        return
    assert found["form_of_care"] in ("emergency", "planned")


TARGETS: dict[str, Target] = {
    each.__name__: each for each in (canonicaliser, header_adapter, body_check, token, claims, read_encounter)
}
SEEDS: dict[str, list[bytes]] = {
    "canonicaliser": [RECORD.encode() + b"?class=labs&a=b%20c", *vectors.targets(RECORD)],
    "header_adapter": [
        b"/authz/envoy" + RECORD.encode() + b"\nhost:h\nx-original-method:GET\nx-original-uri:/a\nx-original-host:h"
        b"\nx-forwarded-method:GET\nx-forwarded-uri:/b\nx-forwarded-host:h"
    ],
    "body_check": [
        each for each in (
            asked(), b'{"evaluations":[' + asked() + b"]}", *vectors.bodies(question()), *vectors.bodies(question(), "same_bodies"),
        ) if len(each) < 4_000
    ],
    "token": [b"Bearer " + _MINTED, _MINTED, _ISSUED],
    "claims": [
        b'{"roles":["physician"],"purpose_of_use":"TREAT","act":{"sub":"a","act":{"sub":"b"}},"scope":"patient/*.rs","iat":1}',
        b'{"extensions":{"ihe_iua":{"subject_role":[{"code":"doctor"}],"purpose_of_use":{"code":"TREAT"}}},"exp":1e999}',
    ],
    "read_encounter": [
        b'{"resourceType":"Encounter","id":"e1","status":"in-progress","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode",'
        b'"code":"IMP"},"subject":{"reference":"Patient/p1"},"serviceProvider":{"reference":"Organization/h1"},'
        b'"period":{"start":"2026-01-01T00:00:00Z"}}'
    ],
}  # fmt: skip
