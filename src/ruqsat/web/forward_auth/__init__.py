"""
The forward-auth listener: proxies ask, 200 lets through, 401 and 403 do not.

The answer is built in one place whose default is a denial.  The application
never answers anything but 200, 401 and 403: a proxy reads any other 2xx as
permission, and 5xx as a reason to use its failure mode.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from itertools import product
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from msgspec.structs import replace

from ruqsat.core.admission import Pack
from ruqsat.core.fhir.reading import READ_HEADERS
from ruqsat.core.fhir.records import lookups_of, with_records
from ruqsat.core.policy_set import PolicySet
from ruqsat.core.record_signature import DUTY, WRITES
from ruqsat.core.request import SHORT_BYTES, EvaluationRequest
from ruqsat.core.routes import Mapped, RouteTable, mapped_of
from ruqsat.errors import RequestError, StoreUnavailableError
from ruqsat.service.answer import Answer
from ruqsat.service.lately import Lately
from ruqsat.service.origin import Origin
from ruqsat.service.record_lookup import RecordLookup
from ruqsat.web.at_once import Asked, AtOnce, Exchange
from ruqsat.web.at_once import Decides as DecidesAtOnce
from ruqsat.web.claims import Identity
from ruqsat.web.enforcement_points import Door, EnforcementPoint
from ruqsat.web.forward_auth import caddy, envoy, haproxy, nginx, traefik
from ruqsat.web.forward_auth.question import SESSION, OfRecord, meaning_of, question_of, session_in, traceparent_in
from ruqsat.web.forward_auth.shared import BadPepRequest, Dialect, Headers, Original, Receive, Refused, Scope
from ruqsat.web.forward_auth.signed import (
    MARKS,
    METHODS,
    ReadBody,
    Signatures,
    Signed,
    read_arriving,
    read_shown,
    read_signed,
)
from ruqsat.web.forward_auth.verdict import Verdict, head_of, told_of, verdict_of, written
from ruqsat.web.identity import TokenVerifier, Unauthenticated
from ruqsat.web.load import Load
from ruqsat.web.protocol import KEPT, TARGET, once_writable

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PLAIN = "plain"

READINGS_KEPT = 1024
"""How many plain requests a generation holds as they were read (``Lately``)."""

_log = logging.getLogger("ruqsat.auth")


class Decides(DecidesAtOnce, Protocol):
    """The decision point, as this listener needs it."""

    async def decide(self, request: EvaluationRequest, origin: Origin, policy_set: PolicySet | None = None) -> Answer:
        """Decide one request."""
        ...

    def may_send(self, request: EvaluationRequest, answer: Answer) -> bool:
        """Tell whether an answer still holds."""
        ...

    async def take_back(self, request: EvaluationRequest, origin: Origin, unsent: Answer) -> Answer:
        """Journal that a permit was never sent; return the denial in its place."""
        ...

    async def record_refusal(self, reason: str, origin: Origin, subject: str | None = None) -> str:
        """Journal a refusal that was settled before any evaluation; return its id."""
        ...


class Aids(NamedTuple):
    """
    What Ruqsat does itself for a request, since no proxy can.

    Attributes:
        signatures: Verifies the signatures of records; without a verifier none is good.
        lookups: By FHIR base, asks whose a record is; a base without one is never asked.
    """

    signatures: Signatures = Signatures(None, lambda: 0)
    lookups: Mapping[str, RecordLookup] = MappingProxyType({})


_NO_AIDS = Aids()


class _Reading(NamedTuple):
    """What a plain request was found to ask, by whom and under which routes and rules."""

    asked: Asked
    who: Identity
    in_force: tuple[RouteTable, PolicySet | None]


class _OfHead(NamedTuple):
    """What a head that is known byte for byte asks if *point* sends it; its token is tried again each time."""

    point: EnforcementPoint
    authorization: list[bytes]
    reading: _Reading


class ForwardAuth:
    """
    What every dialect asks, and the ASGI application of the forward-auth listener.

    A caller through a proxy asserts nothing but its token, method, path and
    query, and which break-glass session it means (it counts if it is its own); a
    proxy can carry out no duty.  The one that a signature carries out is Ruqsat's
    own: it verifies the signature of a record (order §29).
    """

    def __init__(
        self, decision_point: Decides, verifier: TokenVerifier, routes: RouteTable,
        policy_set: PolicySet | None = None, door: Door | None = None, load: Load | None = None,
        aids: Aids = _NO_AIDS,
    ) -> None:  # fmt: skip
        self._decision_point = decision_point
        self._verifier = verifier
        self._door = door or Door.opened()
        self._load = load or Load()
        self._signatures, self._lookups = aids
        self._at_once = AtOnce(decision_point, self._load)
        self.refusal = written(Verdict())
        self._in_force = (routes, policy_set)
        self._readings = Lately[tuple[Any, ...], _Reading](READINGS_KEPT)

    def put_in_force(self, pack: Pack) -> None:
        """Read requests by the routes of *pack* from now on, and have them decided by its rules."""
        self._in_force = (pack.routes, pack.policy_set)

    method, most_bytes = b"GET", 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a proxy."""
        try:
            if scope["type"] != "http":
                return
            await once_writable(scope)
            dialect, read_original = _dialect_of(scope[TARGET])
            read = partial(read_original, scope) if read_original is not None else _of_no_dialect
            headers, mark = scope["headers"], MARKS.get(dialect)
            body = None if mark is None else partial(read_arriving, receive, headers, mark)
            head = head_of(await self.judge(dialect, read, headers, lambda: self._door.enter(scope), body))
        except Exception:  # noqa: BLE001 - 500 would be a proxy's reason to use its failure mode
            _log.exception("forward_auth_failed")
            head = _REFUSAL
        except asyncio.CancelledError:
            head = _REFUSAL
        await send(head)
        await send({"type": "http.response.body", "body": b""})

    def is_plain(self, target: bytes) -> bool:
        """Tell whether a proxy asks."""
        return target.startswith(_PREFIX)

    def answer_at_once(self, scope: Scope, body: bytes, exchange: Exchange) -> bool:
        """Answer for a request without a body that means one action, if its facts are in memory."""
        try:
            point = self._door.enter(scope)
            if point is None:
                return False
            if self._load.is_full:
                return self._turned_away(point, exchange)
            asked = self._read_plain(scope, point)
        except (Refused, BadPepRequest, Unauthenticated, RequestError):
            return False
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            _log.exception("forward_auth_failed")
            exchange.refuse()
            return True
        return asked is not None and self._at_once.decide(asked, exchange)

    def _turned_away(self, point: EnforcementPoint, exchange: Exchange) -> bool:
        """Say that too much is under way, at the least cost; False lets the question wait for a place."""
        if not self._load.turns_away(point.name):
            return False
        exchange.answer(_OVERLOADED)
        return True

    def _read_plain(self, scope: Scope, point: EnforcementPoint) -> Asked | None:
        """
        Return what a plain request asks; None, or what is raised, leaves it to ``judge``, which can refuse.

        Under a head that is known, nothing is read anew but whether its token is still good.
        """
        kept: dict[str, _OfHead] = scope.get(KEPT, {})
        known = kept.get(_PLAIN)
        if known is not None and known.point is point:
            reading = known.reading
            if reading.in_force is self._in_force and self._verifier.verify(known.authorization) is reading.who:
                return reading.asked
        authorization = [value for name, value in scope["headers"] if name == b"authorization"]
        found = self._read_lately(scope, point, self._verifier.verify(authorization))
        if found is None:
            return None
        kept[_PLAIN] = _OfHead(point, authorization, found)
        return found.asked

    def _read_lately(self, scope: Scope, point: EnforcementPoint, who: Identity) -> _Reading | None:
        """
        Return what was read of a plain request when it came last, or read it, and its trace.

        What one asked is the same whenever it comes again: it is read from nothing but what it is kept by, the routes
        and rules in force, and the caller.
        """
        headers = scope["headers"]
        read = [each for each in headers if each[0] in _READ]
        key = (id(who), point.name, scope["method"], scope[TARGET], *read)
        reading = self._readings[key]
        # The caller is compared, too: an id may have become somebody else's.
        if reading is None or reading.who is not who or reading.in_force is not self._in_force:
            reading = self._read_anew({"method": scope["method"], TARGET: scope[TARGET], "headers": read}, point, who)
            if reading is None:
                return None
            if len(scope[TARGET]) + sum(len(value) for _, value in read) <= SHORT_BYTES:
                self._readings.keep(key, reading, 0)
        traceparent = traceparent_in(headers)
        if traceparent is not None:
            asked = reading.asked
            origin = replace(asked.origin, traceparent=traceparent, recurs=False)
            reading = reading._replace(asked=replace(asked, origin=origin))
        return reading

    def _read_anew(self, scope: Scope, point: EnforcementPoint, who: Identity) -> _Reading | None:
        """Read a plain request; *scope* holds all that there is to read in it."""
        in_force = routes, policy_set = self._in_force
        dialect, read_original = _dialect_of(scope[TARGET])
        if read_original is None or policy_set is None:
            return None
        asked, headers = read_original(scope), scope["headers"]
        if asked.method in METHODS:
            return None
        meant = meaning_of(asked, routes, headers, None, None)
        if not isinstance(meant, Mapped) or meant.also:
            return None
        origin = Origin(
            dialect, point=point.name, actors=who.actors, issued_at=who.issued_at, jti=who.jti,
            good_until=who.good_until, recurs=True,
        )  # fmt: skip
        question = question_of(who, meant, meant.action, session_in(headers))
        return _Reading(Asked(question, origin, policy_set, partial(told_of, who.subject.id)), who, in_force)

    async def judge(
        self, dialect: str, read_original: Callable[[], Original], headers: Headers,
        enter: Callable[[], EnforcementPoint | None], read_body: ReadBody | None = None,
    ) -> Verdict:  # fmt: skip
        """
        Decide; the only way to 200 is an allowed decision, and whatever goes wrong stays 403.

        Args:
            read_original: Returns the request that a client sent to the proxy; raises BadPepRequest.
            headers: Its headers, names in lower case; the token, the trace, a signature and what a FHIR server would
                read are read.
            enter: Returns who asks; None for nobody that is registered here.
            read_body: Returns its body, where the proxy shows it.
        """
        origin, who = Origin(dialect), None
        try:
            point = enter()
            name = "" if point is None else point.name
            if self._load.turns_away(name):
                return Verdict(reason="overloaded")
            origin = Origin(dialect, traceparent=traceparent_in(headers), point=name)
            if point is None:
                raise Refused("bad_pep_request")
            asked, who = await self._read(read_original, headers)
            origin = replace(origin, actors=who.actors, issued_at=who.issued_at, jti=who.jti, good_until=who.good_until)
            signed = await read_signed(asked.method, headers, read_body)
            body = await read_shown(asked.method, headers, read_body) if signed is None else signed.body
            return await self._decided(who, asked, headers, origin, signed, body)
        except Refused as refusal:
            decision = await self._recorded(refusal, origin, None if who is None else who.subject.id)
            return Verdict(refusal.status, decision, "not_permitted", challenge=refusal.challenge)
        except RequestError:
            return Verdict(reason="not_permitted")
        except asyncio.CancelledError:
            # The process stops and waits no longer: what is undecided is refused, like anything else.
            _log.warning("forward_auth_cut_short")
        except Exception:  # noqa: BLE001 - the edge of the hot path: no permit, no detail
            _log.exception("forward_auth_failed")
        return Verdict()

    async def _decided(
        self, who: Identity, asked: Original, headers: Headers, origin: Origin, signed: Signed | None,
        body: bytes | None,
    ) -> Verdict:  # fmt: skip
        # Under way from here on: whoever waits for a key of the issuer's takes nobody's place.
        if not (self._load.enter() or await self._load.wait(origin.point)):
            return Verdict(reason="overloaded")
        try:
            # Read now and not on arrival: whoever has waited for a place is answered as if it came when it got one.
            routes, policy_set = self._in_force
            meant, session, with_duty = meaning_of(asked, routes, headers, signed, body), session_in(headers), origin
            if signed is not None and meant.action in WRITES:
                found = await self._signatures.verify(signed, who)
                with_duty = replace(origin, capabilities=frozenset({DUTY}), signature=found)
            mapped = meant if isinstance(meant, Mapped) else await self._looked_up(meant, routes)
            questions = [
                (question_of(who, mapped, action, session), with_duty if action in WRITES else origin)
                for action in (*mapped.also, mapped.action)
            ]
            answer = await self._decide_all(questions, policy_set)
        finally:
            self._load.leave()
        if isinstance(meant, Mapped):
            return verdict_of(who.subject.id, answer)
        return self._of_record(who, meant, mapped, answer)

    def _of_record(self, who: Identity, meant: OfRecord, mapped: Mapped, answer: Answer) -> Verdict:
        if answer.decision.allowed is True:
            if mapped.action not in ("read", "search"):
                self._lookups[meant.base].forget(mapped.resource_type, mapped.resource_id)
            return verdict_of(who.subject.id, answer)
        # Whoever names a record and no patient must not learn from a refusal whether it is there, and of whom.
        return Verdict(403, answer.id, "not_permitted")

    async def _decide_all(
        self, questions: list[tuple[EvaluationRequest, Origin]], policy_set: PolicySet | None
    ) -> Answer:
        """Return the answer to all of them: what was permitted before a denial was never used, and is taken back."""
        permits: list[tuple[EvaluationRequest, Origin, Answer]] = []
        for asked, origin in questions:
            answer = await self._decision_point.decide(asked, origin, policy_set)
            if answer.decision.allowed is not True:
                break
            permits.append((asked, origin, answer))
        holds = len(permits) == len(questions)
        if holds and all(self._decision_point.may_send(asked, permit) for asked, _, permit in permits[:-1]):
            return answer
        for each in permits:
            denial = await self._decision_point.take_back(*each)
        return denial if holds else answer

    async def _looked_up(self, meant: OfRecord, routes: RouteTable) -> Mapped:
        """Return what a request for a record means, once its server was asked whose it is; raises Refused."""
        lookup = self._lookups.get(meant.base)
        if lookup is None or routes.fhir is None:
            raise Refused("fhir.lookup")
        try:
            fresh = meant.action not in ("read", "search")
            found = await lookup.find(lookups_of(meant.meaning), routes.fhir, fresh=fresh)
            meaning = with_records(meant.meaning, found)
        except StoreUnavailableError:
            raise Refused("fhir.lookup_failed") from None
        mapped = mapped_of(meaning)
        if mapped is None:
            raise Refused(f"fhir.{meaning.reason or 'answer_unfiltered'}")
        return mapped

    async def _read(self, read_original: Callable[[], Original], headers: Headers) -> tuple[Original, Identity]:
        """Return the request that a client sent to the proxy, and who asks; raises Refused."""
        try:
            asked = read_original()
            return asked, await self._verifier.identify([value for name, value in headers if name == b"authorization"])
        except BadPepRequest:
            raise Refused("bad_pep_request") from None
        except Unauthenticated as error:
            raise Refused("unauthenticated", 401, error.code) from None

    async def _recorded(self, refusal: Refused, origin: Origin, subject: str | None) -> str:
        try:
            return await self._decision_point.record_refusal(refusal.reason, origin, subject)
        except asyncio.CancelledError:
            # The process stops and waits no longer: the refusal stands.
            return ""
        except Exception:  # noqa: BLE001 - the refusal stands whether or not it could be recorded
            _log.exception("refusal_not_recorded")
            return ""


_READ = frozenset(
    "".join(spelt).encode()
    for name in (
        "host", "x-original-method", "x-original-uri", "x-original-host", "x-forwarded-method", "x-forwarded-uri",
        "x-forwarded-host", SESSION.decode(), *READ_HEADERS,
    )
    for spelt in product(*["-_" if each == "-" else each for each in name])
)  # fmt: skip
"""Headers, however they are spelt, of which a plain request is read; its token and its trace are read beside them."""

_PREFIX = b"/authz/"
_DIALECTS: dict[bytes, tuple[str, Dialect]] = {
    b"/authz/nginx": ("nginx", nginx.read_original),
    b"/authz/caddy": ("caddy", caddy.read_original),
    b"/authz/traefik": ("traefik", traefik.read_original),
    b"/authz/haproxy": ("haproxy", haproxy.read_original),
}

_REFUSAL = head_of(Verdict())
"""Made beforehand: what is sent where not even an answer could be made."""

_OVERLOADED = written(Verdict(reason="overloaded"))


def _dialect_of(target: bytes) -> tuple[str, Dialect | None]:
    """Return the dialect of a path.  Caddy appends the original query to it, which means nothing here."""
    if target.startswith(envoy.PREFIX + b"/"):
        return "envoy", envoy.read_original
    return _DIALECTS.get(target.partition(b"?")[0], ("unknown", None))


def _of_no_dialect() -> Original:
    raise BadPepRequest
