"""A plain request that comes again is not read again; whatever is otherwise in it, it is read as if it came alone."""

import time
from typing import Any

import pytest

from ruqsat.core.admission import Pack
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.request import EvaluationRequest
from ruqsat.core.routes import RouteTable, parse_routes
from ruqsat.service.origin import Origin
from ruqsat.web import forward_auth
from ruqsat.web.at_once import Exchange, Told
from ruqsat.web.enforcement_points import EnforcementPoint
from ruqsat.web.forward_auth import ForwardAuth
from ruqsat.web.identity import KEPT_SECONDS, TokenVerifier, Unauthenticated
from ruqsat.web.protocol import KEPT, TARGET
from ruqsat.web.token_keys import OneKey, UnknownKeyError
from tests.web.test_forward_auth import DIALECTS, RECORD, SECRET, VERIFIER, token, truth

TOKENS = (token(), token(sub="anna", roles=["nurse"], jti="t-2"), token(act={"sub": "portal"}), b"Bearer nonsense")
TARGETS = (
    RECORD,
    "/patients/p2/labs/o1",
    "/fhir/Patient/p1",
    "/fhir/Patient/p2",
    "/nowhere",
    "/a/../b",
)
MORE = (
    (b"x-ruqsat-session", b"s-1"), (b"x-ruqsat-session", b"s-2"), (b"prefer", b"handling=strict"), (b"prefer", b"x"),
    (b"x_http-method_override", b"DELETE"), (b"x-http-method-override", b"DELETE"), (b"content_type", b"a/b"),
    (b"x-original-uri", b"/patients/p9/labs/o9"), (b"x_original_uri", b"/patients/p9/labs/o9"), (b"host", b"other"),
    (b"x-forwarded-host", b"b"), (b"traceparent", b"00-1"), (b"traceparent", b"00-2"), (b"x-request-id", b"7"),
    (b"authorization", TOKENS[1]),
)  # fmt: skip
POINTS = tuple(EnforcementPoint((), name=name) for name in ("front", "back"))


class Asks:
    """A decision point that has nothing in memory, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[EvaluationRequest, Origin, PolicySet | None]] = []

    def ready(self, request: EvaluationRequest, origin: Origin, asked: PolicySet | None) -> None:
        """Decide nothing."""
        self.asked.append((request, origin, asked))


class Doors:
    """A door through which comes whoever the request says."""

    def enter(self, scope: dict[str, Any]) -> EnforcementPoint:
        """Return who asks."""
        return scope["point"]  # type: ignore[no-any-return]


class Withdrawn(OneKey):
    """A key that can be withdrawn."""

    def withdraw(self) -> None:
        """Know of no key any more."""
        self._key, self.generation = None, 1

    def find(self, key_id: str | None, algorithm: str) -> Any:
        """Return the key, while it is known."""
        if self._key is None:
            raise UnknownKeyError
        return super().find(key_id, algorithm)


class Nobody:
    """A connection that is told nothing."""

    def answer(self, exchange: Exchange, told: Told) -> None:
        """Nothing here is decided."""
        raise AssertionError(told)


@pytest.fixture(scope="module")
def tables(pack_texts: dict[str, bytes], policy_set: PolicySet) -> list[RouteTable]:
    """The routes of the pack, and others under which the same request is another action."""
    text = pack_texts["policies/routes.toml"].decode()
    read = [
        parse_routes(each, "routes.toml", policy_set.vocabulary)[0]
        for each in (text, text.replace('= "read"', '= "search"'))
    ]
    assert all(read)
    return [each for each in read if each is not None]


def sent(
    dialect: str, method: str, target: str, authorization: bytes, more: Any, point: EnforcementPoint
) -> dict[str, Any]:
    """What a proxy of this dialect sends."""
    own = [] if dialect == "envoy" else truth(dialect, method, target)
    return {
        "type": "http", "method": method if dialect == "envoy" else "GET", "point": point,
        TARGET: f"/authz/{dialect}{target if dialect == 'envoy' else ''}".encode(),
        "headers": [(b"host", b"records"), (b"authorization", authorization), *own, *more],
    }  # fmt: skip


class Heads:
    """Knows each head byte for byte, as a listener does, or none of them."""

    def __init__(self, *, known: bool) -> None:
        self._kept: dict[tuple[Any, ...], dict[str, Any]] | None = {} if known else None

    def known(self, scope: dict[str, Any]) -> dict[str, Any]:
        """Return *scope* with what was kept of its head; who asks is none of it."""
        if self._kept is None:
            return scope
        head = (scope["method"], scope[TARGET], *scope["headers"])
        return scope | {KEPT: self._kept.setdefault(head, {})}


def read(app: ForwardAuth, point: Asks, scope: dict[str, Any]) -> Any:
    """Return what a request was found to ask; None where it is not plain."""
    point.asked.clear()
    assert app.answer_at_once(scope, b"", Exchange(Nobody(), Told(b""))) is False
    return point.asked[0] if point.asked else None


def application(point: Asks, table: RouteTable, policy_set: PolicySet) -> ForwardAuth:
    """The listener, where nothing was read yet."""
    return ForwardAuth(point, VERIFIER, table, policy_set, Doors())  # type: ignore[arg-type]


CHOICES: tuple[tuple[Any, ...], ...] = (
    ("GET", "HEAD", "DELETE", "POST"), TARGETS, TOKENS, ((), *((each,) for each in MORE)), POINTS,
)  # fmt: skip


@pytest.mark.parametrize("known", [False, True], ids=["any head", "known heads"])
@pytest.mark.parametrize("target", [RECORD, "/fhir/Patient/p1"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_request_is_read_as_if_it_came_alone(
    dialect: str, target: str, known: bool, tables: list[RouteTable], policy_set: PolicySet
) -> None:
    """Whatever came just before or after it, with one thing otherwise: method, target, token, a header, who asks."""
    heads = Heads(known=known)
    first = ("GET", target, TOKENS[0], (), POINTS[0])
    others = [
        (*first[:place], choice, *first[place + 1 :]) for place, choices in enumerate(CHOICES) for choice in choices
    ]
    kept, alone = Asks(), Asks()
    app = application(kept, tables[0], policy_set)
    for each in [again for other in others for again in (first, other, first)]:
        scope = sent(dialect, *each)
        found = read(app, kept, heads.known(scope))
        assert found == read(application(alone, tables[0], policy_set), alone, scope), each


@pytest.mark.parametrize("known", [False, True], ids=["any head", "known heads"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_comes_again_under_other_routes_is_read_by_these(
    dialect: str, known: bool, tables: list[RouteTable], policy_set: PolicySet
) -> None:
    """From the moment that they are in force."""
    point = Asks()
    app = application(point, tables[0], policy_set)
    scope = Heads(known=known).known(sent(dialect, "GET", RECORD, TOKENS[0], (), POINTS[0]))

    before = read(app, point, scope)
    app.put_in_force(Pack(policy_set, tables[1]))
    after = read(app, point, scope)

    assert (before[0].action.name, after[0].action.name) == ("read", "search")


@pytest.mark.parametrize("name", ["x-http-method-override", "x_http-method_override", "x_provenance", "x-cascade"])
def test_a_header_that_may_change_a_fhir_request_is_seen_however_it_is_spelt(
    name: str, tables: list[RouteTable], policy_set: PolicySet
) -> None:
    """A server may take underscores for hyphens: such a request is not answered at once, also after one without it."""
    point = Asks()
    app = application(point, tables[0], policy_set)

    plain = read(app, point, sent("nginx", "GET", "/fhir/Patient/p1", TOKENS[0], (), POINTS[0]))
    changed = read(app, point, sent("nginx", "GET", "/fhir/Patient/p1", TOKENS[0], [(name.encode(), b"x")], POINTS[0]))

    assert plain is not None and changed is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_comes_again_is_the_same_question_from_the_same_origin(
    dialect: str, tables: list[RouteTable], policy_set: PolicySet
) -> None:
    """As objects, so that what was decided and told of it is found; a trace of its own makes an origin of its own."""
    point = Asks()
    app = application(point, tables[0], policy_set)
    plain = sent(dialect, "GET", RECORD, TOKENS[0], (), POINTS[0])
    traced = sent(dialect, "GET", RECORD, TOKENS[0], [(b"traceparent", b"00-1"), (b"x-request-id", b"1")], POINTS[0])

    first, again, followed = [read(app, point, scope) for scope in (plain, plain, traced)]

    assert (first[0] is again[0], first[1] is again[1], first[1].recurs) == (True, True, True)
    assert (followed[0] is first[0], followed[1].traceparent, followed[1].recurs) == (True, "00-1", False)


def test_a_long_request_is_not_kept(tables: list[RouteTable], policy_set: PolicySet) -> None:
    """What strangers send fills no memory."""
    point = Asks()
    app = application(point, tables[0], policy_set)
    scope = sent("nginx", "GET", RECORD, TOKENS[0], [(b"prefer", b"a" * 1024)], POINTS[0])

    first, again = read(app, point, scope), read(app, point, scope)

    assert first == again and first[0] is not again[0]


def test_a_header_that_it_is_not_kept_by_is_not_read(
    tables: list[RouteTable], policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: one left out by mistake changes nothing that is asked, neither the first time nor for whoever follows."""
    monkeypatch.setattr(forward_auth, "_READ", forward_auth._READ - {forward_auth.SESSION})
    point = Asks()
    app = application(point, tables[0], policy_set)

    for session in (b"s-1", b"s-2"):
        asked = read(app, point, sent("nginx", "GET", RECORD, TOKENS[0], [(forward_auth.SESSION, session)], POINTS[0]))
        assert asked[0].context.btg_session is None


@pytest.mark.parametrize("known", [False, True], ids=["any head", "known heads"])
def test_what_comes_again_with_a_token_that_is_over_is_not_answered_at_once(
    known: bool, tables: list[RouteTable], policy_set: PolicySet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However well its head is known: whoever asks with it is refused with an explanation."""

    def refuse(_: TokenVerifier, token: str) -> Any:
        raise Unauthenticated(token)

    moment = [time.time()]
    point, scope = Asks(), Heads(known=known).known(sent("nginx", "GET", RECORD, TOKENS[0], (), POINTS[0]))
    verifier = TokenVerifier("i", "a", OneKey("HS256", SECRET.encode()), clock=lambda: moment[0])
    app = ForwardAuth(point, verifier, tables[0], policy_set, Doors())  # type: ignore[arg-type]

    assert read(app, point, scope) is not None and read(app, point, scope) is not None
    monkeypatch.setattr(TokenVerifier, "_decode", refuse)
    assert read(app, point, scope) is not None
    moment[0] += KEPT_SECONDS
    assert read(app, point, scope) is None


@pytest.mark.parametrize("known", [False, True], ids=["any head", "known heads"])
def test_what_comes_again_once_its_key_is_withdrawn_is_not_answered_at_once(
    known: bool, tables: list[RouteTable], policy_set: PolicySet
) -> None:
    """After its key is withdrawn a token is not accepted from memory, however well its head is known."""
    keys = Withdrawn("HS256", SECRET.encode())
    point, scope = Asks(), Heads(known=known).known(sent("nginx", "GET", RECORD, TOKENS[0], (), POINTS[0]))
    app = ForwardAuth(point, TokenVerifier("i", "a", keys), tables[0], policy_set, Doors())  # type: ignore[arg-type]

    assert read(app, point, scope) is not None and read(app, point, scope) is not None
    keys.withdraw()
    assert read(app, point, scope) is None


def test_under_a_known_head_nothing_is_read_again(tables: list[RouteTable], policy_set: PolicySet) -> None:
    """But whether its token is still good; the answer is that to the first."""
    point, scope = Asks(), Heads(known=True).known(sent("nginx", "GET", RECORD, TOKENS[0], (), POINTS[0]))
    app = application(point, tables[0], policy_set)

    first = read(app, point, scope)
    assert read(app, point, scope) is not None
    app._read_lately = None  # type: ignore[assignment, method-assign]
    assert read(app, point, scope)[0] is first[0]
