"""The forward-auth application: 200 only after an allow, whatever a proxy or a client sends."""

import asyncio
import time
from typing import Any

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ruqsat.core.decision import Decision, deny
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable, parse_routes
from ruqsat.errors import RequestError
from ruqsat.service.answer import Answer
from ruqsat.service.origin import Origin
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import TokenVerifier
from ruqsat.web.protocol import TARGET
from ruqsat.web.token_keys import OneKey

SECRET = "a-secret-of-more-than-thirty-two-bytes!"
ALLOW = Decision(True, "allow.consent", "consent", "consent-01", ("R3",))
RECORD = "/patients/p1/labs/o1"


class Scripted:
    """A decision point that answers what it is told, and remembers what it was asked."""

    def __init__(self, outcome: Decision | BaseException) -> None:
        self.outcome = outcome
        self.asked: list[EvaluationRequest] = []
        self.origins: list[Origin] = []
        self.refusals: list[str] = []
        self.taken_back: list[str] = []

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: object = None) -> Answer:
        """Answer the scripted outcome."""
        self.asked.append(request)
        self.origins.append(origin)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        coarse = "permitted" if self.outcome.allowed else "consent_required"
        return Answer("d-1", self.outcome, coarse, (), "digest", "token")

    def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
        """Everything holds, unless a test says otherwise."""
        return True

    async def take_back(self, request: EvaluationRequest, origin: Origin, unsent: Answer) -> Answer:
        """Remember what was taken back."""
        self.taken_back.append(request.action.name)
        return Answer("d-2", deny("deny.stale"), "consent_required", (), "digest", "token")

    async def record_refusal(self, reason: str, origin: Origin, subject: str | None = None) -> str:
        """Remember the refusal."""
        self.refusals.append(reason)
        return "d-0"


@pytest.fixture(scope="module")
def routes(pack_texts: dict[str, bytes], policy_set: PolicySet) -> RouteTable:
    """The routes of the pack."""
    table, findings = parse_routes(pack_texts["policies/routes.toml"].decode(), "routes.toml", policy_set.vocabulary)
    assert table is not None, findings
    return table


VERIFIER = TokenVerifier("i", "a", OneKey("HS256", SECRET.encode()))


def token(**claims: Any) -> bytes:
    """A sound token for a physician."""
    whole = {"iss": "i", "aud": "a", "sub": "dr", "exp": int(time.time()) + 86_400, "roles": ["physician"], "org": "h1",
             "purpose_of_use": "TREAT"} | claims  # fmt: skip
    return b"Bearer " + jwt.encode(whole, SECRET, algorithm="HS256").encode()


TOKEN = token()


def call(
    app: ForwardAuth, target: str | bytes, headers: list[tuple[bytes, bytes]] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str]]:
    """Send one request to the application."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body of a proxy's call is never read")

    raw = target.encode() if isinstance(target, str) else target
    scope = {"type": "http", "method": method, TARGET: raw,
             "headers": [(b"host", b"records"), *(headers if headers is not None else [(b"authorization", TOKEN)])]}  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[1]["body"] == b""
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


def truth(dialect: str, method: str = "GET", target: str = RECORD, host: str = "records") -> list[tuple[bytes, bytes]]:
    """The headers by which a proxy of this dialect tells the original request."""
    kind = "x-original" if dialect in ("nginx", "haproxy") else "x-forwarded"
    names = (f"{kind}-method", f"{kind}-uri", f"{kind}-host")
    return [(n.encode(), v.encode()) for n, v in zip(names, (method, target, host), strict=True)]


def ask(
    app: ForwardAuth, dialect: str, extra: list[tuple[bytes, bytes]] | None = None, **original: str
) -> tuple[int, dict[str, str]]:
    """Ask in a dialect, with a sound token and perhaps more headers."""
    headers = [(b"authorization", TOKEN), *(extra or [])]
    if dialect == "envoy":
        return call(app, "/authz/envoy" + original.get("target", RECORD), headers, original.get("method", "GET"))
    return call(app, f"/authz/{dialect}", [*headers, *truth(dialect, **original)])


DIALECTS = ("envoy", "nginx", "caddy", "traefik", "haproxy")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_allow_is_200_and_names_the_subject(dialect: str, routes: RouteTable) -> None:
    """An allowed request is 200; decision, reason and subject travel in headers; nothing is asserted but the token."""
    point = Scripted(ALLOW)

    status, headers = ask(ForwardAuth(point, VERIFIER, routes), dialect)

    assert (status, headers["x-ruqsat-decision"], headers["x-ruqsat-subject"]) == (200, "d-1", "dr")
    asked = point.asked[0]
    assert (asked.subject.id, asked.action.name, asked.resource.id) == ("dr", "read", "o1")
    assert asked.resource.properties is not None
    assert (asked.resource.properties.patient, asked.resource.properties.data_class) == ("p1", "labs")
    assert asked.resource.properties.labels is None
    (origin,) = point.origins
    assert origin == Origin(dialect, good_until=VERIFIER.verify([TOKEN]).good_until)


def test_what_the_token_narrows_and_who_acts_reaches_the_decision(routes: RouteTable) -> None:
    """SMART scopes, the patient of the launch, and the chain of actors."""
    point = Scripted(ALLOW)
    said = token(scope="patient/*.rs openid", patient="p7", act={"sub": "portal", "act": {"sub": "bot"}})

    call(ForwardAuth(point, VERIFIER, routes), "/authz/nginx", [(b"authorization", said), *truth("nginx")])

    context = point.asked[0].context
    assert context is not None
    assert (context.smart_scopes, context.launch_patient) == (("patient/*.rs", "openid"), "p7")
    assert point.origins[0].actors == ("portal", "bot")


def test_the_tokens_own_id_reaches_the_journal(routes: RouteTable) -> None:
    """A token that has one is named by it; one whose id is no text of a line is none."""
    point = Scripted(ALLOW)
    app = ForwardAuth(point, VERIFIER, routes)

    for said, jti in ((token(jti="t-1"), "t-1"), (token(), None)):
        call(app, "/authz/nginx", [(b"authorization", said), *truth("nginx")])
        assert point.origins[-1].jti == jti
    for odd in (7, "", "a\nb", "x" * 257, ["t"]):
        assert call(app, "/authz/nginx", [(b"authorization", token(jti=odd)), *truth("nginx")])[0] == 401


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_denial_is_403_and_names_nobody(dialect: str, routes: RouteTable) -> None:
    """A denied request is 403 with a coarse reason; every header that a proxy copies is there, empty."""
    status, headers = ask(ForwardAuth(Scripted(deny("deny.consent.none")), VERIFIER, routes), dialect)

    assert status == 403
    assert headers["x-ruqsat-reason"] == "consent_required"
    assert headers["x-ruqsat-subject"] == ""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_token_is_401_with_a_challenge(dialect: str, routes: RouteTable) -> None:
    """Without identity the answer is 401 with WWW-Authenticate, and the decision point is not asked."""
    point = Scripted(ALLOW)
    app = ForwardAuth(point, VERIFIER, routes)
    extra = [] if dialect == "envoy" else truth(dialect)

    status, headers = call(app, "/authz/envoy" + RECORD if dialect == "envoy" else f"/authz/{dialect}", extra)

    assert status == 401
    assert headers["www-authenticate"].startswith('Bearer realm="ruqsat"')
    assert point.asked == []
    assert point.refusals == ["unauthenticated"]


FORGED = [
    (b"x-original-uri", b"/directory"), (b"x-original-method", b"GET"), (b"x-original-host", b"evil"),
    (b"x-forwarded-uri", b"/directory"), (b"x-forwarded-method", b"GET"), (b"x-forwarded-host", b"evil"),
    (b"x-original-url", b"/directory"), (b"x-rewrite-url", b"/directory"), (b"x-http-method-override", b"GET"),
    (b"forwarded", b"host=evil"), (b"x-auth-user", b"dana"), (b"x-ruqsat-subject", b"dana"), (b"x_original_uri", b"/directory"),
]  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_headers_of_other_families_change_nothing(dialect: str, routes: RouteTable) -> None:
    """A client's forged headers of every other family leave the question as it is."""
    own = {name for name, _ in truth(dialect)} if dialect != "envoy" else set()
    point = Scripted(ALLOW)

    ask(ForwardAuth(point, VERIFIER, routes), dialect)
    status, _ = ask(ForwardAuth(point, VERIFIER, routes), dialect, [pair for pair in FORGED if pair[0] not in own])

    assert status == 200
    assert point.asked[0] == point.asked[1]


@pytest.mark.parametrize("dialect", ["nginx", "caddy"])
def test_a_truth_that_is_missing_or_doubled_is_refused(dialect: str, routes: RouteTable) -> None:
    """Each of a dialect's own headers must be there exactly once, and not empty."""
    for place in range(3):
        for broken in (0, 2):
            headers = truth(dialect)
            name, value = headers[place]
            headers[place : place + 1] = [(name, value)] * broken
            point = Scripted(ALLOW)

            status, answer = call(
                ForwardAuth(point, VERIFIER, routes), f"/authz/{dialect}", [(b"authorization", TOKEN), *headers]
            )

            assert (status, point.asked, point.refusals) == (403, [], ["bad_pep_request"])
            assert answer["x-ruqsat-reason"] == "not_permitted"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "target", ["//patients/p1/labs/o1", "/patients/p1/../p2/labs/o1", "/patients/p1/labs%2fo1", "/patients/p1/labs/o1;x",
               "/patients/p1/labs/o1/", "/nowhere", "/patients/p1/nothing/o1", "/patients/p1/labs/o1?x=1", "/Patients/p1/labs/o1"],
)  # fmt: skip
def test_a_target_that_means_nothing_is_refused(dialect: str, target: str, routes: RouteTable) -> None:
    """Ambiguous or unknown targets never reach the decision point."""
    point = Scripted(ALLOW)

    status, _ = ask(ForwardAuth(point, VERIFIER, routes), dialect, target=target)

    assert (status, point.asked) == (403, [])


@pytest.mark.parametrize(
    "target", [b"http://records/authz/envoy/patients/p1/labs/o1", b"/authz/envoy/patients/p1/labs/o1#x", b"*",
               b"/authz/envoy", b"/authz/envoyx/patients/p1/labs/o1", b"/authz", b"/", b"/authz/unknown", b"/metrics",
               b"/docs", b"/access/v1/evaluation", b"//authz/nginx", b"/authz/nginx/", b"/authz/%6eginx"],
)  # fmt: skip
def test_nothing_else_is_served_here(target: bytes, routes: RouteTable) -> None:
    """Absolute forms, fragments and every other path are 403: never 404, 405, 2xx or 5xx."""
    status, _ = call(
        ForwardAuth(Scripted(ALLOW), VERIFIER, routes),
        target,
        [(b"authorization", TOKEN), *truth("nginx"), *truth("caddy")],
    )

    assert status == 403


def test_caddys_copied_query_means_nothing(routes: RouteTable) -> None:
    """Caddy appends the original query to the path it asks; only X-Forwarded-Uri counts."""
    point = Scripted(ALLOW)

    status, _ = call(ForwardAuth(point, VERIFIER, routes), "/authz/caddy?uri=/directory",
                     [(b"authorization", TOKEN), *truth("caddy")])  # fmt: skip

    assert status == 200
    assert point.asked[0].resource.id == "o1"


FAILURES: list[BaseException] = [
    Exception("x"), ValueError("x"), KeyError("x"), RecursionError(), MemoryError(), OSError(), TimeoutError(),
    UnicodeError(), AssertionError(), StopAsyncIteration(), RequestError("x"), ZeroDivisionError(), ExceptionGroup("x", [ValueError()]),
]  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_a_failure_of_any_kind_is_403(failure: BaseException, routes: RouteTable) -> None:
    """Whatever is raised while deciding, the answer is a denial without detail."""
    status, headers = ask(ForwardAuth(Scripted(failure), VERIFIER, routes), "envoy")

    assert status == 403
    assert headers["x-ruqsat-subject"] == ""
    assert headers["x-ruqsat-reason"] in ("try_later", "not_permitted")


@pytest.mark.parametrize("truthy", [1, "yes", object(), [0]])
def test_only_true_is_an_allow(truthy: object, routes: RouteTable) -> None:
    """A decision whose `allowed` is anything but True is a denial."""
    odd = Decision(truthy, "allow.consent", "consent", "consent-01", ("R3",))  # type: ignore[arg-type]

    assert ask(ForwardAuth(Scripted(odd), VERIFIER, routes), "envoy")[0] == 403


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "X Y", ""]),
    st.sampled_from(["/authz/envoy", "/authz/nginx", "/authz/caddy", ""]),
    st.lists(st.sampled_from(["/", "patients", "p1", "labs", "o1", "directory", "..", "%2f", "?", "a=1", "//"]), max_size=6).map("".join),
    st.booleans(),
)  # fmt: skip
def test_no_2xx_without_an_allow(routes: RouteTable, method: str, prefix: str, tail: str, allowed: bool) -> None:
    """Every method on every path: 200 if and only if the decision point was asked and allowed; else 401 or 403."""
    point = Scripted(ALLOW if allowed else deny("deny.default"))

    status, _ = call(ForwardAuth(point, VERIFIER, routes), prefix + tail,
                     [(b"authorization", TOKEN), *truth("nginx"), *truth("caddy")], method)  # fmt: skip

    assert status in (200, 401, 403)
    assert (status == 200) == (allowed and len(point.asked) == 1)


def test_the_purpose_of_the_token_wins_over_the_routes(policy_set: PolicySet) -> None:
    """A route's purpose serves only where the token states none."""
    text = """
[[route]]
id = "own"
methods = ["GET"]
path = "/own/{patient}/{class}/{id}"
action = "read"
type = "Record"
purpose = "PATRQT"
"""
    table, findings = parse_routes(text, "routes.toml", policy_set.vocabulary)
    assert table is not None, findings
    point = Scripted(ALLOW)
    app = ForwardAuth(point, VERIFIER, table)

    call(app, "/authz/envoy/own/p1/labs/o1", [(b"authorization", TOKEN)])
    call(app, "/authz/envoy/own/p1/labs/o1", [(b"authorization", token(purpose_of_use=None))])

    assert [asked.context and asked.context.purpose for asked in point.asked] == ["TREAT", "PATRQT"]


FHIR_ASKED = {
    "/fhir/Patient/p1": ("read", "Patient", "p1", "demographics", "p1"),
    "/fhir/Patient/p1/_history/2": ("read", "Patient", "p1", "demographics", "p1"),
    "/fhir/Practitioner?name=A": ("search", "Practitioner", "*", "directory", None),
    "/fhir/metadata": ("read", "CapabilityStatement", "*", "public", None),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", FHIR_ASKED)
def test_a_fhir_request_that_one_question_answers_is_asked(dialect: str, target: str, routes: RouteTable) -> None:
    """Nothing need be looked up, seen or filtered: the decision point is asked, and its answer is the proxy's."""
    point = Scripted(ALLOW)

    status, _ = ask(ForwardAuth(point, VERIFIER, routes), dialect, target=target)
    assert status == 200
    assert ask(ForwardAuth(Scripted(deny("deny.consent.none")), VERIFIER, routes), dialect, target=target)[0] == 403

    asked = point.asked[0]
    assert asked.resource.properties is not None
    found = (asked.action.name, asked.resource.type, asked.resource.id, asked.resource.properties.data_class)
    assert (*found, asked.resource.properties.patient) == FHIR_ASKED[target]


FHIR_REFUSED = {
    "/fhir/Observation/o1": "fhir.lookup", "/fhir/Observation?patient=p1": "fhir.answer_unfiltered",
    "/fhir/Patient?_id=p1": "fhir.answer_unfiltered", "/fhir/Patient?name=A": "fhir.many_patients", "/fhir/Patient/p1/$everything": "fhir.answer_unfiltered",
    "/fhir/Practitioner?_revinclude=PractitionerRole:practitioner": "fhir.answer_unfiltered", "/fhir/Patient/p1?_elements=name": "fhir.answer_unfiltered", "/fhir/$export": "fhir.refused_operation", "/fhir/Basic/1": "fhir.unmapped_type",
    "/fhir/patient/p1": "fhir.invalid", "/fhir/Patient/p1?_format=json&_format=xml": "fhir.parameter_twice", "/fhir//Patient/p1": "bad_target",
    "/fhir/Patient/p1?x=1": "fhir.unexpected_parameter", "/fhirx/Patient/p1": "unmapped.route", "/patients/p1/labs/o1?x=1&x=2": "unmapped.route",
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("target", FHIR_REFUSED)
def test_a_fhir_request_that_takes_more_is_refused(dialect: str, target: str, routes: RouteTable) -> None:
    """A look-up, a filtered answer, a rewritten request: no proxy can carry them out here; the journal has the reason."""
    point = Scripted(ALLOW)

    status, headers = ask(ForwardAuth(point, VERIFIER, routes), dialect, target=target)

    assert (status, point.asked, point.refusals) == (403, [], [FHIR_REFUSED[target]])
    assert headers["x-ruqsat-reason"] == "not_permitted"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_fhir_request_with_a_body_that_nobody_sees_is_refused(dialect: str, method: str, routes: RouteTable) -> None:
    """A proxy's call carries no body, so whose record is written is not known."""
    point = Scripted(ALLOW)

    for target in ("/fhir/Patient/p1", "/fhir/Observation", "/fhir/Observation/o1", "/fhir", "/fhir/Practitioner"):
        assert ask(ForwardAuth(point, VERIFIER, routes), dialect, target=target, method=method)[0] == 403
    assert point.asked == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "name", [b"x-http-method-override", b"x_http_method_override", b"x-method-override", b"x-http-method"]
)
def test_a_method_override_at_a_fhir_server_is_refused(dialect: str, name: bytes, routes: RouteTable) -> None:
    """A header that would make the server do something else than was decided."""
    point = Scripted(ALLOW)

    status, _ = ask(ForwardAuth(point, VERIFIER, routes), dialect, [(name, b"DELETE")], target="/fhir/Patient/p1")

    assert (status, point.asked, point.refusals) == (403, [], ["fhir.method_override"])
