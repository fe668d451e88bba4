"""Who may say what: the list holds, and whoever else says an attribute changes nothing."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from envoy.service.auth.v3.attribute_context_pb2 import AttributeContext
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from ruqsat.core.attributes import ATTRIBUTES, Knower, Sayer, render_tables
from ruqsat.core.fhir.meaning import Authors
from ruqsat.core.fhir.records import Seen
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import (
    Action,
    EvaluationRequest,
    RequestContext,
    Resource,
    ResourceProperties,
    Subject,
    SubjectProperties,
)
from ruqsat.core.routes import RouteTable
from ruqsat.web.authzen import EVALUATION, EVALUATIONS, AuthZen
from ruqsat.web.enforcement_points import Door, EnforcementPoint
from ruqsat.web.ext_authz import ExtAuthz
from ruqsat.web.forward_auth import Aids, ForwardAuth
from ruqsat.web.wire import decode_evaluation
from tests.web.test_forward_auth import (  # noqa: F401 - a fixture
    ALLOW,
    DIALECTS,
    TOKEN,
    VERIFIER,
    Scripted,
    ask,
    call,
    routes,
    token,
    truth,
)  # fmt: skip
from tests.web.test_forward_auth_lookups import Looks

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
EVERY = [(entity, name) for entity, known in ATTRIBUTES.items() for name in known]
WIRE: dict[str, tuple[Any, ...]] = {
    "sub": (Subject, SubjectProperties), "act": (Action,), "res": (Resource, ResourceProperties), "ctx": (RequestContext,),
}  # fmt: skip
VALUES = ("true", "p-dana", "physician", "[]", '{"ref":"1"}', "TREAT", "h1", "0")
O1 = "/patients/p1/labs/o1"


def on_the_wire(entity: str) -> set[str]:
    """Return the attributes for which a request has a field."""
    return {name for kind in WIRE[entity] for name in kind.__struct_fields__} - {"properties"}


def stated(asked: EvaluationRequest) -> set[tuple[str, str]]:
    """Return the attributes that a request says anything of."""
    parts = {"sub": [asked.subject, asked.subject.properties], "act": [asked.action],
             "res": [asked.resource, asked.resource.properties], "ctx": [asked.context]}  # fmt: skip
    usual = {None, False}
    return {
        (entity, name) for entity, structs in parts.items() for part in structs if part is not None
        for name in part.__struct_fields__ if name != "properties"
        for value in [getattr(part, name)] if isinstance(value, tuple) or value not in usual
    }  # fmt: skip


def test_every_attribute_is_in_the_list_and_nothing_else(policy_set: PolicySet) -> None:
    """Whatever rules can ask about and whatever a request can carry: new ones must be decided upon here."""
    for entity, listed in ATTRIBUTES.items():
        words = policy_set.vocabulary.attributes[entity]  # type: ignore[index]
        own = {name for name, word in words.items() if not word.stated}
        assert set(listed) == own | on_the_wire(entity), entity


@pytest.mark.parametrize(("entity", "name"), EVERY)
def test_what_an_application_may_say_is_what_has_a_field(entity: str, name: str) -> None:
    """And what nobody may say has none."""
    attribute = ATTRIBUTES[entity][name]

    assert ("application" in attribute.said) == (name in on_the_wire(entity))
    assert set(attribute.said) <= set(get_args(Sayer)) and set(attribute.known) <= set(get_args(Knower))
    assert attribute.said or attribute.known
    assert bool(attribute.together) or len(attribute.said) + len(attribute.known) < 3 or not attribute.known


def test_what_a_token_and_a_request_may_say_is_what_reaches_the_decision(routes: RouteTable) -> None:  # noqa: F811
    """A token with every claim that is read, behind a proxy: exactly the attributes that the list names."""
    point = Scripted(ALLOW)
    said = token(scope="patient/*.rs", patient="p1", act={"sub": "portal"}, jti="t-1", amr=["mfa"], auth_time=1)
    call(ForwardAuth(point, VERIFIER, routes), "/authz/nginx", [(b"authorization", said), *truth("nginx")])

    listed = {(e, n) for e, n in EVERY if {"token", "request"} & set(ATTRIBUTES[e][n].said)}
    assert stated(point.asked[0]) == listed


def test_what_a_server_may_say_is_what_a_look_up_adds(routes: RouteTable) -> None:  # noqa: F811
    """A record with labels, levels, several classes, and who wrote it."""
    seen = Seen("Observation", "o1", "p1", ("labs", "vitals"), ("HIV",), "R", Authors("dr", "h1"))
    point, looks = Scripted(ALLOW), Looks(seen)
    looks_up: Any = {"/fhir": looks}
    ask(ForwardAuth(point, VERIFIER, routes, aids=Aids(lookups=looks_up)), "nginx", target="/fhir/Observation/o1")

    by_token_and_request = {(e, n) for e, n in EVERY if {"token", "request"} & set(ATTRIBUTES[e][n].said)}
    added = {name for entity, name in stated(point.asked[0]) - by_token_and_request if entity == "res"}
    assert added | {"patient", "data_class", "labels"} == {
        n for n, each in ATTRIBUTES["res"].items() if "server" in each.said
    }


def test_the_page_shows_the_list() -> None:
    """docs/attributes.md: the tables between its two marks."""
    page = (DOCS / "attributes.md").read_text()

    assert page.split("<!-- tables -->\n")[1].split("<!-- end of tables -->")[0] == render_tables()


def headers_of(name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield headers by which a client could claim an attribute."""
    spelled = name.replace("_", "-")
    for front, value in itertools.product(
        ("", "x-", "x-ruqsat-", "x-auth-", "x-forwarded-", "x-original-", "x-user-"), VALUES
    ):
        if front + spelled not in ("x-original-method", "x-original-host"):
            yield (front + spelled).encode(), value.encode()
            yield (front + name).encode(), value.encode()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("entity", "name"), EVERY)
def test_forging_an_attribute_behind_a_proxy_changes_nothing(
    entity: str,
    name: str,
    dialect: str,
    routes: RouteTable,  # noqa: F811
) -> None:
    """As a header in any spelling, or as JSON in one: the question stays the same."""
    point = Scripted(ALLOW)
    app = ForwardAuth(point, VERIFIER, routes)
    whole = json.dumps({entity: {name: True}, name: True}).encode()
    ask(app, dialect)
    for header in (*headers_of(name), (b"x-ruqsat-context", whole), (b"cookie", name.encode() + b"=true")):
        ask(app, dialect, [header])
    ask(app, dialect, [*headers_of(name)])

    assert len(point.asked) > 50 and all(asked == point.asked[0] for asked in point.asked)
    assert all(origin == point.origins[0] for origin in point.origins)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_forging_an_attribute_in_the_address_opens_nothing(dialect: str, routes: RouteTable) -> None:  # noqa: F811
    """A parameter that a route does not list makes the request mean nothing."""
    point = Scripted(ALLOW)

    for (_, name), value in itertools.product(EVERY, ("true", "p-dana")):
        assert ask(ForwardAuth(point, VERIFIER, routes), dialect, target=f"{O1}?{name}={value}")[0] == 403
    assert point.asked == []


class _Call:
    """A gRPC call whose metadata claims whatever it is told."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def auth_context(self) -> dict[str, Any]:
        """Prove nothing."""
        return {}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Claim."""
        return self._metadata


def test_forging_an_attribute_over_grpc_changes_nothing(routes: RouteTable) -> None:  # noqa: F811
    """As a header, as an extension of the route's, as metadata of the call: the question stays the same."""
    point = Scripted(ALLOW)
    service = ExtAuthz(ForwardAuth(point, VERIFIER, routes), Door.opened())

    def checked(headers: dict[str, str], extensions: dict[str, str], *metadata: tuple[str, str]) -> None:
        asked = CheckRequest()
        plain = {"method": "GET", "path": O1, "host": "h", "headers": {"authorization": TOKEN.decode(), **headers}}
        asked.attributes.request.http.CopyFrom(AttributeContext.HttpRequest(**plain))
        asked.attributes.context_extensions.update(extensions)
        asked.attributes.source.principal = "spiffe://forged"
        asyncio.run(service.Check(asked, _Call(*metadata)))

    checked({}, {})
    for _, name in EVERY:
        forged = {header.decode(): value.decode() for header, value in headers_of(name)}
        checked(forged, {name: "true"}, (name, "true"), ("x-ruqsat-" + name, "true"))

    assert len(point.asked) == len(EVERY) + 1 and all(asked == point.asked[0] for asked in point.asked)


@pytest.mark.parametrize(
    ("entity", "name"), [each for each in EVERY if "token" not in ATTRIBUTES[each[0]][each[1]].said]
)
def test_a_claim_that_a_token_may_not_make_changes_nothing(entity: str, name: str, routes: RouteTable) -> None:  # noqa: F811
    """Not even of an issuer whose tokens are good; `patient` is the launch's, which only narrows."""
    point = Scripted(ALLOW)
    app = ForwardAuth(point, VERIFIER, routes)
    ask(app, "nginx")
    claims = {name: True, "properties": {name: True}, PLACES[entity]: {name: True}, "context": {name: True}}
    if (entity, name) == ("res", "patient"):
        claims = {"properties": {name: "p-dana"}, "resource": {name: "p-dana"}}
    elif name in ("type", "id"):
        claims.pop(name)
    for value in VALUES:
        said = token(**{key: value if each is True else {name: value} for key, each in claims.items()})
        call(app, "/authz/nginx", [(b"authorization", said), *truth("nginx")])

    assert len(point.asked) == len(VALUES) + 1 and all(asked == point.asked[0] for asked in point.asked)


BODY: dict[str, Any] = {
    "subject": {"type": "user", "id": "dr", "properties": {"roles": ["physician"], "org": "h1"}}, "action": {"name": "read"},
    "resource": {"type": "Record", "id": "o1", "properties": {"patient": "p1", "class": "labs"}}, "context": {"purpose": "TREAT"},
}  # fmt: skip
PLACES = {"sub": "subject", "act": "action", "res": "resource", "ctx": "context"}


def forged_bodies(entity: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield bodies that claim an attribute, wherever one could look for it."""
    for value in (True, False, [], ["x"], "x", 0, {"ref": "1"}):
        for place in ({name: value}, {"properties": {name: value}}, {"_": {name: value}}):
            body = msgspec.json.decode(msgspec.json.encode(BODY))
            part = body[PLACES[entity]]
            for key, each in place.items():
                part[key] = part[key] | each if isinstance(part.get(key), dict) and isinstance(each, dict) else each
            yield body | {name: value}


NOBODYS = [(entity, name) for entity, name in EVERY if not ATTRIBUTES[entity][name].said]


@pytest.mark.parametrize(("entity", "name"), NOBODYS)
def test_what_nobody_may_say_changes_nothing_whoever_says_it(entity: str, name: str) -> None:
    """Not even a registered application: under such a name there is nothing to read."""
    plain = decode_evaluation(json.dumps(BODY).encode())

    for body in forged_bodies(entity, name):
        assert decode_evaluation(json.dumps(body).encode()) == plain


@pytest.mark.parametrize("path", [EVALUATION, EVALUATIONS])
@pytest.mark.parametrize(("entity", "name"), EVERY)
def test_an_unregistered_caller_of_the_json_listener_says_nothing(entity: str, name: str, path: str) -> None:
    """Whatever it states, and whatever headers it sends, it is not answered, and nothing is decided."""
    point = Scripted(ALLOW)
    app = AuthZen(point, Door((EnforcementPoint(("json",), uid=(12345,), name="app"),)))  # type: ignore[arg-type]
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    for body in (BODY, *forged_bodies(entity, name)):
        content = json.dumps(body if path == EVALUATION else body | {"evaluations": [{}, {}]}).encode()

        async def receive(content: bytes = content) -> dict[str, Any]:
            return {"type": "http.request", "body": content}

        headers = [(b"content-type", b"application/json"), *headers_of(name), (b"x-ruqsat-secret", b"guessed")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        sent.clear()
        asyncio.run(app(scope, receive, send))
        assert sent[0]["status"] == 401
    assert point.asked == []
